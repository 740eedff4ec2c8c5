"""What the README shows works as it is written there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import lossbook
from lossbook.cli.app import cli

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_examples_run_one_after_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LOSSBOOK_STORE", raising=False)
    names: dict[str, object] = {}
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(blocks) == 3
    for block in blocks:
        exec(compile(block, "README.md", "exec"), names)
    tracked, run = lossbook.open(tmp_path / "lossbook-runs").runs()
    assert run.summary == {"params": 842_496}
    assert tracked.metrics["time/tokens_seen"]["last"] == 100 * 16 * 256
    assert len(list((tmp_path / "experiments").glob("17M_tinystories_baseline_*_summary.json"))) == 1
    assert [found.id for found in names["best"]] == [run.id]  # type: ignore[attr-defined]
    assert 100 < len(names["curve"]) <= 500  # type: ignore[arg-type]


def test_every_command_that_the_readme_names_exists() -> None:
    named = re.search(r"`lossbook ((?:\w+, )+\w+)`", README)
    assert named is not None
    listed = set(named[1].split(", "))
    context = cli.make_context("lossbook", [], resilient_parsing=True)
    assert listed == set(cli.list_commands(context)) - {"completion"}


@pytest.mark.parametrize("page", sorted(path.name for path in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]))
def test_links_between_pages_lead_somewhere(page: str) -> None:
    path = ROOT / page if page == "README.md" else ROOT / "docs" / page
    for link in re.findall(r"\]\(([^)#]+)", path.read_text(encoding="utf-8")):
        if "://" not in link:
            assert (path.parent / link).exists(), f"{page} links to {link}"
