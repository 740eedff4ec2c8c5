"""How the command ends: one sentence for every mistake, no traceback, and a quick start."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from pseudo_terminal import run_on_a_terminal
from recorded import Command

FindId = Callable[[str], str]
QUERY = "select range from range(200000)"
LOSSBOOK = [sys.executable, "-m", "lossbook.cli"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["show", "nope"], "there is no run 'nope'"),
        (["show", ""], "there is no run ''"),
        (["ls", "--where", "config.lr >"], "a value was expected"),
        (["ls", "--where", "; drop"], "cannot be understood"),
        (["ls", "--columns", ","], "names no column"),
        (["curve", "baseline", "nope"], "never logged 'nope'"),
        (["curve", "baseline", "train_loss", "--x", "nope"], "never logged 'nope'"),
        (["curve", "baseline", ","], "no key was named"),
        (["curve", "baseline", "train_loss", "--start", "9", "--end", "1"], "start=9"),
        (["curve", "baseline,nope", "train_loss"], "there is no run 'nope'"),
        (["keys", "--project", "nope"], "there is no project 'nope'"),
        (["export", "--project", "nope"], "has no runs"),
        (["sql", "selec 1"], "syntax error"),
        (["sql", "select * from nothing"], "nothing"),
        (["sql", "select value::int from (values ('x')) t(value)"], "Conversion"),
        (["sql", "select 1; select 2"], "one query at a time"),
        (["sql", "drop table metrics"], "only questions"),
        (["sql", " "], "the query is empty"),
        (["undo"], "nothing to bring back"),
        (["tag", "nope", "+x"], "there is no run 'nope'"),
        (["mv", "baseline", "--to", "s3://bucket"], "no folder"),
        (["verify", "nope"], "there is no run 'nope'"),
    ],
)
def test_a_mistake_gets_one_sentence(store: Path, command: Command, arguments: list[str], words: str) -> None:
    ended = command(*arguments)
    assert ended.status == 1
    assert ended.out == ""
    assert ended.err.startswith("lossbook: ")
    assert ended.err.count("\n") == 1
    assert words in ended.err
    assert "Traceback" not in ended.err
    assert "inside Lossbook" not in ended.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["lss"], "did you mean ls"),
        (["show", "--frob"], "--frob"),
        (["curve", "baseline"], "KEY"),
        (["curve", "baseline", "x", "--points", "0"], "--points"),
        (["rm"], "name the runs"),
        (["completion", "tcsh"], "tcsh"),
        (["seal", "baseline", "--all"], "not both"),
    ],
)
def test_wrong_usage_ends_with_2(store: Path, command: Command, arguments: list[str], words: str) -> None:
    ended = command(*arguments)
    assert ended.status == 2
    assert ended.err.startswith("lossbook: ")
    assert ended.err.count("\n") == 1
    assert words in ended.err


@pytest.mark.parametrize("name", ["show", "keys", "seal", "verify", "sql select", "rm x", "tag x", "undo"])
def test_a_store_that_is_not_there_is_named(tmp_path: Path, command: Command, name: str) -> None:
    ended = command(*name.split(), "--store", tmp_path / "none")
    assert ended.status == 1
    assert str(tmp_path / "none") in ended.err
    assert "Traceback" not in ended.err


def test_an_ambiguous_beginning_lists_the_runs(store: Path, command: Command) -> None:
    ended = command("show", "b")
    assert ended.status == 1
    assert "baseline" in ended.err
    assert "broken" in ended.err


def test_a_run_copied_half_way_is_shown_with_its_problems(store: Path, command: Command, run_id: FindId) -> None:
    folder = store / "gpt2" / run_id("wide")
    (folder / "run.json").write_text('{"id": "w')
    (folder / "summary.json").unlink()
    for path in folder.glob("rollups/*.parquet"):
        path.unlink()
    assert {one["id"] for one in command("ls", "--json").json} >= {folder.name}
    shown = command("show", folder.name)
    assert shown.status == 0
    assert "problems" in shown.out
    assert "run.json is damaged" in shown.out
    assert command("verify", folder.name).status == 1
    refused = command("tag", folder.name, "+x")
    assert refused.status == 1
    assert "run.json is damaged" in refused.err


def test_a_run_with_nothing_but_a_journal_is_a_run(store: Path, command: Command) -> None:
    folder = store / "gpt2" / "torn"
    (folder / "journal").mkdir(parents=True)
    (folder / "journal" / "r0-000001.jsonl").write_bytes(b'{"i":0,"t":1,"s":0,"m":{"loss":1.5}}\n{"i":1,"t"')
    assert command("keys", "torn", "--json").json["metrics"]["loss"]["last"] == 1.5
    assert "run.json" in command("note", "torn", "hello").err


def test_foreign_files_are_passed_over(store: Path, command: Command) -> None:
    (store / "README.txt").write_text("ours")
    (store / "gpt2" / "notes.md").write_text("ours")
    (store / "gpt2" / "empty").mkdir()
    (store / "photos" / "2024").mkdir(parents=True)
    assert len(command("ls", "--json").json) == 3
    assert command("verify", "--all").status == 0
    assert command("seal", "--all").status == 0
    assert "2 folders that are no runs" in command("doctor").out


def test_a_store_that_cannot_be_written_is_named(store: Path, command: Command, run_id: FindId) -> None:
    folder = store / "gpt2" / run_id("wide")
    folder.chmod(0o500)
    store.chmod(0o500)
    if os.access(folder, os.W_OK):
        store.chmod(0o700)
        pytest.skip("this user may write everywhere")
    try:
        for arguments in (["tag", "wide", "+x"], ["note", "wide", "x"], ["rename", "wide", "y"], ["rm", "wide"]):
            ended = command(*arguments)
            assert ended.status == 1
            assert ended.err.count("\n") == 1
        assert len(command("ls", "--json").json) == 3
        assert "cannot be written" in command("doctor").out
    finally:
        store.chmod(0o700)
        folder.chmod(0o700)


def test_a_read_only_file_system_is_one_sentence(
    store: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("lossbook.paths.os.replace", refuse)
    ended = command("tag", "wide", "+x")
    assert ended.status == 1
    assert "cannot be written (Read-only file system)" in ended.err
    monkeypatch.undo()
    monkeypatch.setenv("LOSSBOOK_STORE", str(store))
    monkeypatch.setattr("lossbook.cli.moving.os.rename", refuse)
    ended = command("rm", "wide")
    assert ended.status == 1
    assert "cannot be moved to" in ended.err
    assert len(command("ls", "--json").json) == 3


def test_a_bug_is_one_sentence_too(store: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def break_down(*_: object, **__: object) -> None:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr("lossbook.book.Book.runs", break_down)
    ended = command("ls")
    assert ended.status == 1
    assert "ZeroDivisionError: oops" in ended.err
    assert "Traceback" not in ended.err


def test_a_reader_that_goes_away_is_no_error(store: Path) -> None:
    # Unbuffered, Python itself passes over what the pipe no longer took.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    ran = subprocess.run(
        ["bash", "-c", '"$@" | head -n 1; echo "${PIPESTATUS[0]}"', "-", *LOSSBOOK, "sql", QUERY],
        capture_output=True,
        text=True,
        env=environment,
    )
    assert ran.stderr == ""
    assert ran.stdout.splitlines() == [" range", "141"]


def test_ctrl_c_ends_with_130_and_no_traceback(store: Path) -> None:
    watching = subprocess.Popen(
        [*LOSSBOOK, "ls", "--watch", "--every", "0.2"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert watching.stdout is not None
    watching.stdout.readline()
    watching.send_signal(signal.SIGINT)
    _, errors = watching.communicate(timeout=20)
    assert watching.returncode == 130
    assert errors == ""


def test_ls_loads_neither_duckdb_nor_numpy(store: Path) -> None:
    script = (
        "import json, sys; from lossbook.cli import main; main(['ls']); main(['ls']);"
        "print(json.dumps([name for name in ('duckdb', 'numpy', 'psutil') if name in sys.modules]))"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert json.loads(ran.stdout.splitlines()[-1]) == []


def on_a_terminal(arguments: list[str], columns: int = 80) -> str:
    """Run the command on a pseudo terminal and return what it wrote there."""
    environment = {**os.environ, "COLUMNS": str(columns), "LINES": "40", "TERM": "xterm"}
    environment.pop("NO_COLOR", None)
    _, written = run_on_a_terminal([*LOSSBOOK, *arguments], environment=environment)
    return written.decode().replace("\r\n", "\n")


def test_a_terminal_gets_colours_and_lines_that_fit(store: Path) -> None:
    from lossbook.cli.format import text_width

    shown = on_a_terminal(["ls"], columns=40)
    assert "\x1b[" in shown
    import re

    plain = re.sub(r"\x1b\[[0-9;]*m", "", shown)
    assert all(text_width(line) <= 40 for line in plain.splitlines())
    drawn = on_a_terminal(["curve", "baseline", "train_loss"], columns=60)
    assert any("\u2800" < character <= "\u28ff" for character in drawn)


def test_many_runs_on_a_terminal_are_cut_with_a_word(store: Path, run_id: FindId) -> None:
    source = store / "gpt2" / run_id("wide")
    identity = json.loads((source / "run.json").read_text())
    for number in range(60):
        folder = store / "gpt2" / f"copy{number}"
        folder.mkdir()
        (folder / "run.json").write_text(json.dumps({**identity, "id": folder.name}))
        shutil.copy(source / "summary.json", folder)
    shown = on_a_terminal(["ls"])
    assert "and 13 older runs" in shown
    assert len(on_a_terminal(["ls", "--all"]).splitlines()) == 64
