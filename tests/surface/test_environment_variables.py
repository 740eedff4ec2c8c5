"""Every variable that the code reads is documented, and every documented one is read."""

from __future__ import annotations

import re
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
VARIABLE = re.compile(r"_?LOSSBOOK_[A-Z][A-Z_]*[A-Z]")


def variables_in(*paths: Path) -> set[str]:
    return {name for path in paths for name in VARIABLE.findall(path.read_text(encoding="utf-8"))}


def test_the_page_on_configuration_and_the_code_name_the_same_variables() -> None:
    code = variables_in(*(REPOSITORY / "lossbook").rglob("*.py"))
    page = variables_in(REPOSITORY / "docs" / "configuration.md")
    assert len(code) > 10
    assert code - page == set(), "not documented in docs/configuration.md"
    assert page - code == set(), "documented, but nothing reads them"


def test_other_pages_name_no_variable_that_does_not_exist() -> None:
    pages = [*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").glob("*.md")]
    assert variables_in(*pages) <= variables_in(*(REPOSITORY / "lossbook").rglob("*.py"))
