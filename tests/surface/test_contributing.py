"""What a contributor is told holds: the map names what is there, and each way to check runs the same tools."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
GUIDE = (ROOT / "CONTRIBUTING.md").read_text()


def mapped() -> set[str]:
    """The files and folders in the first column of the map, as they are written."""
    table = GUIDE.partition("## Where things are")[2].partition("\n## ")[0]
    return {
        name for row in re.findall(r"^\| (`[^|]+) \|", table, re.MULTILINE) for name in re.findall(r"`([^`]+)`", row)
    }


def lint_commands() -> list[str]:
    recipe = re.search(r"^lint:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert recipe is not None
    return [line.strip().replace("$(BIN)", ".venv/bin") for line in recipe[1].splitlines()]


def load(path: str) -> Any:
    return yaml.safe_load((ROOT / path).read_text())


def test_the_map_names_what_is_there() -> None:
    assert len(mapped()) > 30
    assert [name for name in mapped() if not (ROOT / name).exists()] == []
    assert [name for name in mapped() if (ROOT / name).is_dir() != name.endswith("/")] == []


def test_every_part_of_the_package_is_on_the_map() -> None:
    parts = {
        f"lossbook/{path.name}{'/' if path.is_dir() else ''}"
        for path in (ROOT / "lossbook").iterdir()
        if path.name not in ("__init__.py", "__pycache__", "py.typed")
    }
    assert parts - mapped() == set()


def test_every_page_that_the_guides_link_to_is_there() -> None:
    for guide in ("CONTRIBUTING.md", "SECURITY.md"):
        links = re.findall(r"\]\(([^)#:]+)\)", (ROOT / guide).read_text())
        assert [link for link in links if not (ROOT / link).exists()] == []


def test_every_command_of_the_inner_loop_is_a_target_of_make() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"`make ([a-z-]+)`", GUIDE)) <= targets


def test_a_commit_runs_what_make_lint_runs() -> None:
    hooks = [hook for one in load(".pre-commit-config.yaml")["repos"] for hook in one["hooks"]]
    assert [hook["entry"] for hook in hooks] == lint_commands()
    assert all(hook["language"] == "system" and hook["pass_filenames"] is False for hook in hooks)


def test_ci_runs_the_targets_of_make_on_every_python_that_is_supported() -> None:
    job = load(".github/workflows/ci.yml")["jobs"]["test"]
    assert job["strategy"]["matrix"]["python"] == ["3.11", "3.12", "3.13", "3.14"]
    commands = " ; ".join(step.get("run", "") for step in job["steps"])
    script = (ROOT / ".ci" / "run").read_text()
    for target in ("make lint", "make test"):
        assert target in commands
        assert target in script
    (packages,) = re.findall(r"install -y -qq (.*?)(?: >|$)", script, re.MULTILINE)
    assert set(packages.split()) - set(commands.split()) == {"chromium"}, "the runner has a browser of its own"


@pytest.mark.parametrize("word", ["run", "attempt", "rank", "step", "gradient step", "segment", "seal", "follower",
                                  "mirror", "source", "cursor", "rollup", "sweep", "seed band"])  # fmt: skip
def test_the_glossary_has_each_word_of_the_format_once(word: str) -> None:
    entries = re.findall(
        r"^\| ((?:\*\*[^*]+\*\*(?:, )?)+) \|", (ROOT / "docs" / "glossary.md").read_text(), re.MULTILINE
    )
    words = [one for entry in entries for one in re.findall(r"\*\*([^*]+)\*\*", entry)]
    assert words.count(word) == 1
