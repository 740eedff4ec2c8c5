"""`lossbook watch` as a command: refusals, one snapshot, and a real terminal (tmux) at 80x24."""

from __future__ import annotations

import json
import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lossbook.cli import main

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
Record = Callable[..., Any]


def test_without_a_terminal_it_says_what_to_do(record: Record, capsys: pytest.CaptureFixture[str]) -> None:
    record("a-run")
    assert main(["watch"]) == 2
    said = capsys.readouterr()
    assert "needs a terminal" in said.err
    assert "--once" in said.err
    assert len(said.err.splitlines()) == 1
    assert not said.out


def test_once_prints_the_table_and_the_curve(record: Record, capsys: pytest.CaptureFixture[str]) -> None:
    record("narrow")
    record("wide")
    assert main(["watch", "--once"]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[0].split()[:2] == ["name", "state"]
    assert "narrow" in out
    assert "train/loss" in out or "step" in out
    assert main(["watch", "narrow", "--once"]) == 0
    assert "wide" not in capsys.readouterr().out


def test_json_is_one_snapshot_of_runs_and_curves(record: Record, capsys: pytest.CaptureFixture[str]) -> None:
    record("spiky", [{"train/loss": 1.0}, {"train/loss": float("nan")}])
    assert main(["watch", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["runs"][0]["name"] == "spiky"
    assert found["curves"][0]["key"] == "train/loss"
    assert found["curves"][0]["nonfinite"] == [0, 1]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["nobody"], "there is no run 'nobody'"),
        (["--where", "config.lr >"], "a value was expected"),
        (["--key", "no/such"], "never logged 'no/such'"),
        (["--project", "elsewhere"], "no project 'elsewhere'"),
        (["--frames", "0"], "0.1<=x<=30"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_a_sentence(
    words: list[str], sentence: str, record: Record, capsys: pytest.CaptureFixture[str]
) -> None:
    record("a-run")
    assert main(["watch", "--once", *words]) != 0
    said = capsys.readouterr().err
    assert sentence in said
    assert len(said.splitlines()) == 1


def test_a_missing_textual_is_named_with_its_extra(
    record: Record, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    record("a-run")

    class Terminal:
        def isatty(self) -> bool:
            return True

    for name in ("__stdin__", "__stdout__", "__stderr__"):
        monkeypatch.setattr(sys, name, Terminal())
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setitem(sys.modules, "textual", None)
    for name in [name for name in sys.modules if name == "lossbook.terminal.app" or name.startswith("textual.")]:
        monkeypatch.delitem(sys.modules, name)
    assert main(["watch"]) == 1
    assert "pip install 'lossbook[watch]'" in capsys.readouterr().err


# -- a real terminal ----------------------------------------------------------------------------------------------


class Terminal:
    """A terminal of its own, in tmux."""

    def __init__(self, folder: Path, command: str, **environment: str) -> None:
        self.server = ["tmux", "-L", f"lossbook-{uuid.uuid4().hex}", "-f", "/dev/null"]
        environment = {
            **os.environ,
            "TERM": "xterm-256color",
            "PYTHONPATH": str(ROOT),
            "LANG": "C.UTF-8",
            **environment,
        }
        subprocess.run(
            [*self.server, "new-session", "-d", "-x", "80", "-y", "24", f"{command}; echo status $?; exec cat"],
            cwd=folder,
            env=environment,
            check=True,
        )

    def screen(self) -> str:
        shown = subprocess.run([*self.server, "capture-pane", "-p"], capture_output=True, check=True).stdout
        return shown.decode("utf-8", "replace")

    def press(self, *keys: str) -> None:
        subprocess.run([*self.server, "send-keys", *keys], check=True)

    def close(self) -> None:
        subprocess.run([*self.server, "kill-server"], check=False, capture_output=True)


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Callable[..., Terminal]]:
    if shutil.which("tmux") is None:
        pytest.skip("there is no tmux here")
    pytest.importorskip("textual")
    opened: list[Terminal] = []

    def start(*words: str, **environment: str) -> Terminal:
        command = " ".join([sys.executable, "-m", "lossbook.cli", "watch", *words])
        opened.append(Terminal(tmp_path, command, **environment))
        return opened[-1]

    yield start
    for one in opened:
        one.close()


def test_a_new_point_appears_in_a_real_terminal_while_a_run_logs(
    terminal: Callable[..., Terminal], record: Record, wait_until: Callable[..., None]
) -> None:
    run = record("live", [{"train/loss": 7.0}, {"train/loss": 6.0}], printed="starting up", finish=False)
    page = terminal()

    def until_shown(text: str) -> None:
        wait_until(lambda: text in page.screen(), seconds=40)

    until_shown("running")
    assert len(page.screen().splitlines()) == 24
    page.press("2")
    until_shown("6 at 1")
    run.log({"train/loss": 4.25}, step=2)
    until_shown("4.25 at 2")
    page.press("4")
    until_shown("starting up")
    page.press("/")
    page.press("-l", "start")
    until_shown("find: start")
    page.press("Enter")
    until_shown("match 1 of 1")
    page.press("Tab")
    until_shown("metrics")
    run.finish()
    page.press("1")
    until_shown("finished")
    page.press("q")
    until_shown("status 0")


def test_a_page_that_is_ended_from_outside_leaves_the_terminal_as_it_was(record: Record) -> None:
    pytest.importorskip("textual")
    record("a-run")
    page, keyboard = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "PYTHONPATH": str(ROOT)}
    program = subprocess.Popen(
        [sys.executable, "-m", "lossbook.cli", "watch"],
        stdin=keyboard,
        stdout=keyboard,
        stderr=keyboard,
        env=environment,
    )
    os.close(keyboard)
    shown, ended, deadline = b"", False, time.monotonic() + 40
    while time.monotonic() < deadline:
        if select.select([page], [], [], 0.1)[0]:
            try:
                shown += os.read(page, 65536)
            except OSError:
                break
        if b"a-run" in shown and not ended:
            program.send_signal(signal.SIGTERM)
            ended = True
    assert program.wait(timeout=20) == 128 + signal.SIGTERM
    os.close(page)
    assert ended
    assert shown.rindex(b"\x1b[?1049l") > shown.rindex(b"\x1b[?1049h"), "the other screen is still shown"
    assert shown.rindex(b"\x1b[?25h") > shown.rindex(b"\x1b[?25l"), "the cursor is hidden"


def test_a_terminal_without_utf8_gets_ascii(
    terminal: Callable[..., Terminal], record: Record, wait_until: Callable[..., None]
) -> None:
    record("größe")
    page = terminal(LC_ALL="C", LANG="C", NO_COLOR="1", TERM="screen")
    wait_until(lambda: "gr??e" in page.screen(), seconds=40)
    page.press("2")
    wait_until(lambda: "** gr??e" in page.screen() or "-- gr??e" in page.screen(), seconds=40)
    assert page.screen().isascii()
    page.press("q")
    wait_until(lambda: "status 0" in page.screen(), seconds=40)
