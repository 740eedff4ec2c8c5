"""What docs/seeds.md shows is what comes out."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from lossbook.cli import main

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "seeds.md").read_text(encoding="utf-8")


def test_the_page_shows_what_its_commands_print(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LOSSBOOK_STORE", raising=False)
    monkeypatch.setenv("COLUMNS", "120")
    (program,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    names: dict[str, object] = {}
    exec(compile(program, "seeds.md", "exec"), names)
    assert len(names["table"].groups) == 2  # type: ignore[attr-defined]
    (console,) = re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL)
    shown = re.findall(r"^\$ (lossbook .*)\n((?:(?!\$ ).*\n)+)", console, re.MULTILINE)
    assert len(shown) == 5
    for line, expected in shown:
        capfd.readouterr()
        assert main(shlex.split(line)[1:]) == 0
        assert (line, capfd.readouterr().out) == (line, expected)
