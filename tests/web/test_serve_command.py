"""`lossbook serve`, as a process of its own: what it says, whom it lets in, and how it ends."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest
from serving import Served

import lossbook
from lossbook.cli import main, serving

#: So long may a server take to begin or to end on a busy machine.
PATIENCE_SECONDS = 60


@dataclass
class Command:
    """A running `lossbook serve`."""

    process: subprocess.Popen[str]

    def lines(self, last: str) -> list[str]:
        """What it prints, up to a line that begins with `last`."""
        assert self.process.stdout is not None
        found = []
        for line in self.process.stdout:
            found.append(line.rstrip("\n"))
            if line.startswith(last):
                break
        return found

    def told(self) -> dict[str, Any]:
        """The line that `--json` prints."""
        told: dict[str, Any] = orjson.loads(self.lines("{")[0])
        assert told["pid"] == self.process.pid
        return told

    def end(self, by: int = signal.SIGINT) -> tuple[int, str, str]:
        """End it; its exit status and what else it wrote."""
        self.process.send_signal(by)
        written, complained = self.process.communicate(timeout=PATIENCE_SECONDS)
        return self.process.returncode, written, complained


@pytest.fixture
def serve(store: Path, tmp_path: Path) -> Iterator[Callable[..., Command]]:
    """`serve(*arguments, **environment)`: the command on a store with one run."""
    lossbook.init(store=store, project="tiny", name="one", console=False).finish()
    begun: list[subprocess.Popen[str]] = []

    def start(*arguments: str, **environment: str) -> Command:
        root = str(Path(lossbook.__file__).parent.parent)
        process = subprocess.Popen(
            [sys.executable, "-m", "lossbook.cli", "--store", str(store), "serve", "--no-open", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": root} | environment,
        )
        begun.append(process)
        # A server that never says anything is ended, so that a test that waits for a line fails.
        timer = threading.Timer(PATIENCE_SECONDS, process.kill)
        timer.daemon = True
        timer.start()
        return Command(process)

    yield start
    for process in begun:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGTERM])
def test_it_tells_a_program_where_it_is_and_ends_quietly(serve: Callable[..., Command], store: Path, by: int) -> None:
    command = serve("--json", "--port", "0")
    told = command.told()
    assert (told["token"], told["store"]) == (None, str(store))
    port = int(told["url"].rsplit(":", 1)[1].strip("/"))
    assert Served("127.0.0.1", port).get("/api/store")["projects"][0]["name"] == "tiny"
    assert command.end(by) == (0, "", "")


def test_it_ends_with_a_page_open_and_a_question_on_its_way(serve: Callable[..., Command]) -> None:
    command = serve("--json", "--port", "0")
    port = int(command.told()["url"].rsplit(":", 1)[1].strip("/"))
    with socket.create_connection(("127.0.0.1", port)) as idle, socket.create_connection(("127.0.0.1", port)) as busy:
        idle.sendall(b"GET /api/store HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"200 OK" in idle.recv(1000)
        busy.sendall(
            b"POST /api/curves HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{"
        )
        assert command.end() == (0, "", "")


def test_it_tells_people_how_to_reach_and_to_end_it(serve: Callable[..., Command], store: Path) -> None:
    command = serve("--port", "0")
    said = "\n".join(command.lines("Ctrl-C"))
    assert str(store) in said
    assert "http://127.0.0.1:" in said
    assert "ssh -N -L" in said
    assert "token" not in said
    assert command.end()[0] == 0


def test_others_need_a_token_and_it_is_never_logged(serve: Callable[..., Command]) -> None:
    command = serve("--json", "--port", "0", "--host", "0.0.0.0")
    told = command.told()
    token, port = told["token"], int(told["url"].rsplit(":", 1)[1].strip("/"))
    assert len(token) >= 32
    server = Served("127.0.0.1", port)
    assert server.ask("/api/store").status == 401
    assert server.raw("GET", "/api/store", authorization=f"Bearer {token}").status == 200
    assert (
        server.raw("GET", "/api/store", authorization=f"Bearer {token}", host=f"{socket.gethostname()}:{port}").status
        == 200
    )
    assert server.raw("GET", f"/?token={token}").status == 303
    assert server.raw("GET", f"/nothing?token={token}").status == 401
    status, written, complained = command.end()
    assert (status, written, complained) == (0, "", "")


def test_a_token_can_be_named_in_the_environment(serve: Callable[..., Command]) -> None:
    command = serve("--json", "--port", "0", LOSSBOOK_TOKEN="a token of my own")
    told = command.told()
    assert told["token"] == "a token of my own"
    server = Served("127.0.0.1", int(told["url"].rsplit(":", 1)[1].strip("/")))
    assert server.ask("/api/store").status == 401
    assert server.raw("GET", "/?token=a+token+of+my+own").status == 303
    assert command.end()[0] == 0


def test_the_next_port_that_is_free_is_taken_and_said(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], store: Path
) -> None:
    store.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setattr(serving, "DEFAULT_PORT", port)
        with serving.listen("127.0.0.1", None) as found:
            assert found.getsockname()[1] > port
        greeting = serving.greeting("store", serving.Place("127.0.0.1", port + 1, None), True, False, port)
        assert f"Port {port} is taken, so it is {port + 1}." in greeting
        # One that was named is not exchanged for another.
        assert main(["--store", str(store), "serve", "--port", str(port)]) == 1
        assert f"port {port} of 127.0.0.1 (Address already in use)" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--store", "nowhere", "serve"], "there is no store at nowhere"),
        (["serve", "--token", "short"], "can be guessed"),
        (["serve", "--host", "256.1.1.1"], "there is no address '256.1.1.1'"),
        (["serve", "--host", "192.0.2.1", "--port", "0"], "Cannot assign requested address"),
    ],
)
def test_what_cannot_be_served_is_said_in_a_sentence(
    store: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    store.mkdir()
    monkeypatch.setenv("LOSSBOOK_STORE", str(store))
    assert main(arguments) == 1
    complained = capfd.readouterr().err
    assert said in complained
    assert complained.count("\n") == 1


def test_another_trackers_runs_are_not_opened_for_editing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    logs = tmp_path / "experiment_logs"
    logs.mkdir()
    (logs / "baseline.csv").write_text("step,train/loss\n0,4.0\n1,3.0\n")
    assert main(["--store", str(logs), "serve", "--edit"]) == 1
    assert "only read here" in capfd.readouterr().err
