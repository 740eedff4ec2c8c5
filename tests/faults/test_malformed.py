"""A run's folder whose files hold anything at all: each command says what is damaged, shows the rest, and invents no date."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from waiting import ends_after

import lossbook
from lossbook.cli.app import main
from lossbook.errors import LossbookError
from lossbook.web.api import routes
from lossbook.web.routing import json_of
from lossbook.web.session import Session

DEEP = '{"a":' * 900 + "1" + "}" * 900
DEEP_LIST = "[" * 900 + "]" * 900
HUGE = "9" * 400
#: Values as JSON text, one of each type and the odd ones.
ODD = [
    "null", "true", "5", "-1", "1e308", "18446744073709551615", HUGE, '"text"', '""', '"\\ud800"', "[]", '[[1], {"a": 2}]',
    "{}", '{"r0": {"x": [1]}, "r-": 3, "loss": {"last": "x"}}', DEEP, DEEP_LIST, '"\\u001b]0;x\\u0007"',
]  # fmt: skip
#: Whole files.
CONTENTS = [
    b"",
    b"{",
    b"\xff\xfe\x00",
    b"null",
    b"[]",
    b"5",
    b'"x"',
    DEEP.encode(),
    DEEP_LIST.encode(),
    b'{"a": NaN}',
    b"\0" * 4096,
]
#: Files that commands read, and the fields that each has.
FILES: dict[str, list[str]] = {
    "run.json": [
        "format", "id", "name", "project", "created", "config", "tags", "group", "notes", "git", "host", "argv", "cwd",
        "script", "mode", "mirrors", "system_metrics", "parent", "attempts", "source", "entity", "job_type",
    ],
    "summary.json": [
        "state", "error", "started", "ended", "updated", "rows", "last_step", "last_time", "config", "summary", "define",
        "metrics", "alerts", "problems", "cursor", "version", "format",
    ],
    "followers/seal.json": ["next_row", "last_segment", "last_attempt", "last_step", "problems"],
    "followers/watch.json": ["attempt", "state", "error", "ended"],
    "followers/tensorboard.json": ["format", "state", "error", "url", "delivered", "attempts", "remote", "updated"],
}  # fmt: skip
COMMANDS = [
    ["show", "r"], ["ls"], ["verify", "--all"], ["keys", "r"], ["curve", "r", "loss", "--csv"], ["export", "r", "-o", "-"],
    ["check", "r"], ["compare"], ["best", "loss"], ["sql", "select * from runs"], ["ls", "--json"],
    ["show", "r", "--json"], ["doctor"], ["sql", "select * from events"], ["export", "r", "--wide", "-o", "-"], ["gpu", "r"],
    ["report"],
]  # fmt: skip
#: Rows that are JSON and yet none of ours, or odd ones of ours.
ROWS = [
    "5", "[]", "{}", '{"i": 9}', '{"i": "x", "t": 1, "s": 1, "m": {}}', '{"i": 9, "t": 1, "s": 1, "m": 5}',
    '{"i": 9, "t": 1, "s": 1, "m": {"loss": "high", "x": []}}', '{"i": 9, "t": -1, "s": 1, "m": {"loss": 1}}',
    f'{{"i": 9, "t": {HUGE}, "s": {HUGE}, "m": {{"loss": {HUGE}}}}}',
    *[
        f'{{"i": 9, "t": 1700000000000000, "s": 1, "k": "{kind}", "key": "k", "v": {value}}}'
        for kind in ("config", "summary", "define", "text", "histogram", "table", "image", "alert", "checkpoint", "stage",
                     "note", "file", "artifact", "warning", "finish", "attempt", "unknown")
        for value in ("{}", "5", DEEP, '{"file": 5, "columns": 3, "rows": {"a": 1}, "edges": "x", "counts": [[]]}',
                      '{"text": {"a": []}, "level": [], "pattern": 7, "state": {}, "number": "x", "name": [1]}')
    ],
]  # fmt: skip


@pytest.fixture(autouse=True)
def nothing_waits() -> Iterator[None]:
    """A pipe that is waited for ends the test instead of the whole suite."""
    with ends_after(300, "something waited for a pipe"):
        yield


@pytest.fixture
def good(store: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run with all kinds of rows that has ended, as a template."""
    monkeypatch.setenv("LOSSBOOK_FOLLOWER", "off")
    run = lossbook.init(
        store=store,
        project="p",
        id="r",
        name="r",
        config={"lr": 0.1},
        tags=["a"],
        notes="n",
        console=False,
        system_metrics=False,
    )
    for step in range(3):
        run.log({"loss": 1.0 / (step + 1), "text": lossbook.Text("x")}, step=step)
    run.log({"table": lossbook.Table(columns=["a"], data=[[1]])}, step=3)
    run.alert("spike")
    run.finish()
    main(["seal", "r", "--store", str(store)])
    main(["show", "r", "--store", str(store)])
    return store / "p" / "r"


class Trial:
    """Runs the commands on a changed run, and puts the run back."""

    def __init__(self, run: Path, capfd: pytest.CaptureFixture[str]) -> None:
        self._run, self._capfd = run, capfd
        self._kept = run.parent.parent.parent / "kept"
        shutil.copytree(run, self._kept)
        self._turn = itertools.cycle(COMMANDS)
        self.failures: list[str] = []

    def ask(self, what: str, change: Callable[[Path], None], commands: int) -> None:
        shutil.rmtree(self._run)
        shutil.copytree(self._kept, self._run)
        change(self._run)
        for words in [["show", "r"], *itertools.islice(self._turn, commands)]:
            status = main([*words, "--store", str(self._run.parent.parent)])
            said = "".join(self._capfd.readouterr())
            if status not in (0, 1) or "inside Lossbook" in said or "Traceback" in said:
                self.failures.append(f"{' '.join(words)} of {what[:100]}: {status} {said[-200:]}")
            # Rows have the times that they were written with.
            if words[0] not in ("export", "sql") and re.search(r"\b1970-|\b2\d,?\d\d\d days ago", said):
                self.failures.append(f"{' '.join(words)} of {what[:100]}: a date of 1970")


@pytest.fixture
def trial(good: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Trial:
    monkeypatch.chdir(good.parent.parent.parent)
    capfd.readouterr()
    return Trial(good, capfd)


def put(file: str, contents: bytes) -> Callable[[Path], None]:
    def change(run: Path) -> None:
        (run / file).parent.mkdir(exist_ok=True)
        (run / file).write_bytes(contents)

    return change


def some_odd(turn: int) -> list[str]:
    """A few of the odd values, others each turn."""
    return [ODD[(5 * turn + at) % len(ODD)] for at in range(5)]


def with_field(file: str, field: str, value: str) -> Callable[[Path], None]:
    def change(run: Path) -> None:
        path = run / file
        path.parent.mkdir(exist_ok=True)
        before: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
        before.pop(field, None)
        rest = json.dumps(before)[1:]
        path.write_text(f'{{"{field}": {value}{"," if before else ""}{rest}')

    return change


@pytest.mark.parametrize("file", FILES)
def test_any_field_may_hold_anything(trial: Trial, file: str) -> None:
    for turn, field in enumerate(FILES[file]):
        for value in some_odd(turn):
            trial.ask(f"{file} with {field} {value}", with_field(file, field, value), 1)
    assert "\n".join(trial.failures) == ""


def test_fields_of_an_attempt_may_hold_anything(trial: Trial) -> None:
    fields = [
        "number",
        "started",
        "resume_step",
        "host",
        "pid",
        "process_start",
        "boot",
        "launch",
        "world_size",
        "argv",
        "git",
    ]
    for turn, field in enumerate(fields):
        for value in some_odd(turn):
            trial.ask(
                f"an attempt with {field} {value}", with_field("run.json", "attempts", f'[{{"{field}": {value}}}]'), 1
            )
    assert "\n".join(trial.failures) == ""


@pytest.mark.parametrize("file", [*FILES, "labels/1-x.json", "metrics/r0-000001.parquet", "events/r0-000001.parquet"])
def test_any_file_may_hold_anything_or_be_something_else(trial: Trial, file: str) -> None:
    for contents in CONTENTS:
        trial.ask(f"{file} of {contents[:30]!r}", put(file, contents), 3)

    def folder(run: Path) -> None:
        shutil.rmtree(run / file, ignore_errors=True)
        (run / file).unlink(missing_ok=True)
        (run / file).mkdir(parents=True)

    def pipe(run: Path) -> None:
        (run / file).parent.mkdir(exist_ok=True)
        (run / file).unlink(missing_ok=True)
        os.mkfifo(run / file)

    def link_to_itself(run: Path) -> None:
        (run / file).parent.mkdir(exist_ok=True)
        (run / file).unlink(missing_ok=True)
        (run / file).symlink_to(run / file)

    for change in (folder, pipe, link_to_itself):
        trial.ask(f"{file} as a {change.__name__}", change, 6)
    assert "\n".join(trial.failures) == ""


def test_any_row_may_be_odd(trial: Trial) -> None:
    for row in ROWS:
        trial.ask(f"a row {row}", put("journal/r0-000002.jsonl", row.encode() + b"\n"), 3)
    trial.ask("many", put("journal/r0-000002.jsonl", "\n".join(ROWS).encode() + b"\n"), len(COMMANDS))
    assert "\n".join(trial.failures) == ""


def test_small_files_may_be_cut_anywhere(trial: Trial, good: Path) -> None:
    whole = (good / "run.json").read_bytes()
    for end in range(0, len(whole), max(1, len(whole) // 16)):
        trial.ask(f"run.json cut at {end}", put("run.json", whole[:end]), 1)
    assert "\n".join(trial.failures) == ""


#: What the page asks of a run, and of a store.
QUESTIONS: dict[str, Any] = {
    "project": "p",
    "run": "r",
    "where": "name = 'r'",
    "rank": 0,
    "row": 0,
    "text": "x",
    "path": "run.json",
}


def test_the_page_is_answered_about_a_run_of_any_contents(good: Path) -> None:
    changes = [
        *(with_field("run.json", field, value) for field in FILES["run.json"] for value in (DEEP, "5", "[]", '"text"')),
        *(
            with_field("summary.json", field, value)
            for field in FILES["summary.json"]
            for value in (DEEP, "5", '"text"')
        ),
        *(put("run.json", contents) for contents in CONTENTS),
        put("journal/r0-000002.jsonl", "\n".join(ROWS).encode() + b"\n"),
    ]
    kept = good.parent.parent.parent / "kept"
    shutil.copytree(good, kept)
    asked = 0
    for change in changes:
        shutil.rmtree(good)
        shutil.copytree(kept, good)
        change(good)
        session = Session(lossbook.open(good.parent.parent))
        for route in routes():
            if route.method != "GET" or route.edits:
                continue
            fields = route.question.__dataclass_fields__
            try:
                json_of(route.answer(session, route.question(**{n: v for n, v in QUESTIONS.items() if n in fields})))
                asked += 1
            except LossbookError:
                continue  # one sentence
        session.close()
    assert asked > len(changes)
