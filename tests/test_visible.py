"""`visible/visible.parquet`: which sealed rows are a run's, as a view of other engines needs it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import pytest

import lossbook
from lossbook.cli import main

NEVER = (1 << 63) - 1


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LOSSBOOK_STORE", str(tmp_path / "store"))
    return tmp_path / "store"


def record(name: str, steps: range, **more: Any) -> None:
    with lossbook.init(project="p", id=name, console=False, **more) as run:
        for step in steps:
            run.log({"loss": 1.0}, step=step)


def seen(store: Path, run: str) -> list[tuple[Any, ...]]:
    """Whose rows of which attempt a run has, and up to which step."""
    path = store / "p" / run / "visible" / "visible.parquet"
    return duckdb.sql(f"SELECT of_run, attempt, last_step FROM '{path}' WHERE key = 'loss' ORDER BY ALL").fetchall()


def test_all_rows_of_a_run_of_one_attempt_count(store: Path) -> None:
    record("one", range(10))
    assert main(["seal", "one"]) == 0
    assert seen(store, "one") == [("one", 0, NEVER)]


def test_a_later_attempt_hides_what_it_replaced_once_it_is_sealed(store: Path) -> None:
    record("one", range(10))
    assert main(["seal", "one"]) == 0
    record("one", range(6, 9), resume="must", resume_step=5)
    assert seen(store, "one") == [("one", 0, NEVER)]
    assert main(["seal", "one"]) == 0
    assert seen(store, "one") == [("one", 0, 5), ("one", 1, NEVER)]


def test_an_attempt_that_does_not_say_its_step_hides_what_it_logs_again(store: Path) -> None:
    record("one", range(10))
    record("one", range(7, 9), resume="must")
    assert main(["seal", "one"]) == 0
    assert seen(store, "one") == [("one", 0, 6), ("one", 1, NEVER)]


def test_a_fork_has_its_parents_rows_and_none_of_a_stranger_under_the_same_id(store: Path) -> None:
    record("parent", range(10))
    record("fork", range(6, 8), fork_from=("parent", 5))
    assert main(["seal", "--all"]) == 0
    assert seen(store, "fork") == [("fork", 0, NEVER), ("parent", 0, 5)]
    assert main(["rm", "parent"]) == 0
    record("parent", range(3))
    assert main(["seal", "--all"]) == 0
    assert seen(store, "fork") == [("fork", 0, NEVER)]


def test_a_file_that_is_damaged_is_found_and_made_again(store: Path) -> None:
    record("one", range(10))
    assert main(["seal", "one"]) == 0
    path = store / "p" / "one" / "visible" / "visible.parquet"
    path.write_bytes(path.read_bytes()[:-1])
    assert main(["verify", "one"]) == 1
    path.unlink()
    assert main(["seal", "one"]) == 0
    assert main(["verify", "one"]) == 0
