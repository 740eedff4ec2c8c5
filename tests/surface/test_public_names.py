"""What `import lossbook` offers is what it says it offers, and each name says what it is."""

from __future__ import annotations

import ast
import inspect
import os
import subprocess
import sys
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import lossbook
from lossbook.deprecation import warn_deprecated

USAGE = Path(__file__).with_name("usage.py")
REPOSITORY = Path(__file__).resolve().parents[2]


def documented(thing: Any) -> bool:
    """Whether it has a docstring, its own or that of what it overrides."""
    return bool((inspect.getdoc(thing) or "").strip())


def test_all_names_exist_and_are_all_there_is() -> None:
    assert lossbook.__all__ == sorted(lossbook.__all__)
    public = {name for name in dir(lossbook) if not name.startswith("_")}
    assert public == set(lossbook.__all__)
    for name in lossbook.__all__:
        getattr(lossbook, name)


def test_what_lossbook_is_fits_on_one_screen() -> None:
    assert len(lossbook.__all__) <= 17
    words = (
        "watch",
        "log_artifact",
        "use_artifact",
        "link_artifact",
        "restore",
        "mark_preempting",
        "sweep_id",
        "entity",
    )
    assert [name for name in words if name in dir(lossbook.Run)] == []


def test_every_word_of_wandbs_is_still_a_name_of_the_package() -> None:
    import lossbook.wandb as wandb

    assert [name for name in wandb.__all__ if not hasattr(lossbook, name)] == []


def test_a_star_import_takes_the_public_names() -> None:
    namespace: dict[str, Any] = {}
    exec("from lossbook import *", namespace)
    assert set(lossbook.__all__) <= set(namespace)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = lossbook.nothing  # type: ignore[attr-defined]


def test_the_current_run_is_found_although_a_package_has_its_name() -> None:
    from lossbook.run import values

    assert isinstance(values, ModuleType)
    assert lossbook.run is None


@pytest.mark.parametrize("name", [name for name in lossbook.__all__ if name != "run"])
def test_every_public_name_has_a_docstring(name: str) -> None:
    thing = getattr(lossbook, name)
    assert documented(thing)
    if inspect.isclass(thing):
        # `Curve` says of its fields in its own docstring.
        lacking = [
            f"{name}.{part}"
            for part, value in inspect.getmembers(thing)
            if not part.startswith("_") and (callable(value) or isinstance(value, property)) and not documented(value)
        ]
        assert lacking == []


def test_every_module_says_what_it_owns() -> None:
    lacking = [
        str(path.relative_to(REPOSITORY))
        for path in (REPOSITORY / "lossbook").rglob("*.py")
        if not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert lacking == []


def test_the_arguments_of_init_are_documented() -> None:
    page = (REPOSITORY / "docs" / "configuration.md").read_text(encoding="utf-8")
    for name in inspect.signature(lossbook.init).parameters:
        assert f"`{name}`" in page, f"docs/configuration.md does not say what {name} means"


def test_the_page_on_what_is_stable_names_every_public_name() -> None:
    page = (REPOSITORY / "docs" / "stability.md").read_text(encoding="utf-8")
    assert [name for name in lossbook.__all__ if f"`{name}`" not in page] == []


def test_a_deprecated_name_warns_once_at_the_line_that_uses_it() -> None:
    def old_name() -> None:
        warn_deprecated("test.old_name()", instead="test.new_name()", removed_in="9.9")

    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        old_name()
        old_name()
    (one,) = seen
    assert one.filename == __file__
    assert str(one.message) == (
        "test.old_name() is deprecated and will be removed in Lossbook 9.9: use test.new_name()"
    )


def test_typed_code_that_uses_the_package_is_accepted() -> None:
    pytest.importorskip("mypy", reason="mypy is not installed: `make lint` installs it")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", str(USAGE)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    assert (done.stdout + done.stderr, done.returncode) == ("", 0)


def test_that_code_works(store: Path, tmp_path: Path) -> None:
    code = f"import sys; sys.path.insert(0, {str(USAGE.parent)!r}); import usage; usage.main({str(store)!r})"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    assert (done.stderr, done.returncode) == ("", 0)
