"""The diagnosis beside a training: alert rows, the terminal, a webhook, a command; each finding said once."""

from __future__ import annotations

import http.server
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rows import learning

import lossbook
from lossbook.cli.followers import follower_of
from lossbook.diagnosis import Finding
from lossbook.follower import alert_command, alerts, webhook
from lossbook.follower.alerts import Alerts, is_diagnosed, raise_alert
from lossbook.follower.journal import OwnRows
from lossbook.follower.sinks import Alert, RunName, Sinks
from lossbook.paths import RunFolder
from lossbook.storage.compaction import seal_run
from lossbook.storage.summary import LiveSummary

WaitUntil = Callable[..., None]
REPOSITORY = Path(__file__).resolve().parents[2]
RUN = RunName("abcd2345", "small run", "lab", "/runs/lab/abcd2345")
FINDING = Finding("spike", "warning", "train/loss", 7, 8, 9.0, 3.0, "train/loss jumps from 2 to 9 at step 7")


class Receiver:
    """A webhook on this machine: what was posted, and what it answers next (200 when nothing is said)."""

    def __init__(self) -> None:
        self.posted: list[Any] = []
        self.answers: list[int] = []
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status = receiver.answers.pop(0) if receiver.answers else 200
                self.send_response(status)
                self.end_headers()
                if status == 200:
                    receiver.posted.append(json.loads(body))

            def log_message(self, *_: Any) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}/services/T000/B000/secret"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    made = Receiver()
    yield made
    made.server.shutdown()
    made.server.server_close()


def alert(text: str = "a sentence") -> Alert:
    return Alert("loss spike", text, "warning", 7)


# -- sinks --------------------------------------------------------------------------------------------------------


def test_the_webhook_gets_what_slack_understands(receiver: Receiver) -> None:
    sinks = Sinks(RUN, None, {"LOSSBOOK_WEBHOOK": receiver.address})
    sinks.send(alert(text="a <!channel> & more"))
    sinks.close()
    (posted,) = receiver.posted
    assert set(posted) == {"text"}
    assert posted["text"].endswith("*small run* loss spike\na &lt;!channel&gt; &amp; more")


def test_a_webhook_that_fails_for_a_while_is_tried_again(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook, "PAUSES_SECONDS", (0.01, 0.01))
    receiver.answers = [500, 429]
    sinks = Sinks(RUN, None, {"LOSSBOOK_WEBHOOK": receiver.address})
    sinks.send(alert())
    sinks.close()
    assert len(receiver.posted) == 1


def test_a_webhook_that_refuses_is_said_once_and_without_its_address(
    receiver: Receiver, capsys: pytest.CaptureFixture[str]
) -> None:
    receiver.answers = [404, 404, 404]
    sinks = Sinks(RUN, None, {"LOSSBOOK_WEBHOOK": receiver.address})
    for _ in range(3):
        sinks.send(alert())
    sinks.close()
    said = capsys.readouterr().out
    assert said == "the webhook did not take an alert (HTTP 404); it is in the run\n"


@pytest.mark.parametrize("address", ["file:///etc/passwd", "hooks.example.org/T0/B0", "http://"])
def test_a_webhook_that_is_none_is_said(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    sinks = Sinks(RUN, None, {"LOSSBOOK_WEBHOOK": address})
    sinks.send(alert())
    sinks.close()
    assert "alert" in capsys.readouterr().out


def test_the_command_gets_the_alert_as_json(tmp_path: Path) -> None:
    out = tmp_path / "alerts.jsonl"
    sinks = Sinks(RUN, None, {"LOSSBOOK_ALERT_COMMAND": f"cat >> '{out}'"})
    raise_alert(FINDING, None, sinks)
    sinks.send(alert())
    sinks.close()
    first, second = (json.loads(line) for line in out.read_text().splitlines())
    assert (first["run"], first["name"], first["project"], first["path"]) == (RUN.id, RUN.name, RUN.project, RUN.path)
    assert (first["title"], first["level"], first["step"]) == ("loss spike: train/loss", "warning", 7)
    assert first["finding"] == FINDING.plain()
    assert second["finding"] is None


def test_a_command_that_hangs_is_ended_with_all_that_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], wait_until: WaitUntil
) -> None:
    monkeypatch.setattr(alert_command, "COMMAND_SECONDS", 1.0)
    pid = tmp_path / "pid"
    sinks = Sinks(RUN, None, {"LOSSBOOK_ALERT_COMMAND": f"sleep 1000 & echo $! > '{pid}'; wait"})
    sinks.send(alert())
    sinks.close()
    assert "took longer" in capsys.readouterr().out
    wait_until(
        lambda: (
            not Path(f"/proc/{pid.read_text().strip()}/cmdline").exists()
            or not Path(f"/proc/{pid.read_text().strip()}/cmdline").read_bytes()
        )
    )


def test_a_command_that_fails_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    sinks = Sinks(RUN, None, {"LOSSBOOK_ALERT_COMMAND": "exit 3"})
    sinks.send(alert())
    sinks.send(alert())
    sinks.close()
    assert capsys.readouterr().out == "the command of LOSSBOOK_ALERT_COMMAND ended with status 3\n"


def test_a_row_that_cannot_be_written_keeps_nobody_from_being_told(tmp_path: Path) -> None:
    class Full:
        def append_event(self, *_: Any, **__: Any) -> bool:
            raise OSError(28, "No space left on device")

    out = tmp_path / "alerts.jsonl"
    sinks = Sinks(RUN, None, {"LOSSBOOK_ALERT_COMMAND": f"cat >> '{out}'"})
    with pytest.raises(OSError, match="No space left"):
        raise_alert(FINDING, Full(), sinks)
    sinks.close()
    assert json.loads(out.read_text())["title"] == "loss spike: train/loss"


# -- beside a training --------------------------------------------------------------------------------------------


class Kept(Sinks):
    """Sinks that keep what they are given."""

    def __init__(self) -> None:
        super().__init__(RUN, None, {"LOSSBOOK_ALERT_COMMAND": "true"})
        self.shown: list[str] = []
        self.sent: list[Alert] = []

    def show(self, sentence: str) -> None:
        self.shown.append(sentence)

    def send(self, alert: Alert) -> None:
        self.sent.append(alert)


def spiky(run: lossbook.Run, spikes: tuple[int, ...], *, start: int = 0, steps: int = 300) -> None:
    for step, loss in learning(steps, start=start):
        run.log({"train/loss": 12.0 if step in spikes else loss}, step=step)


def look(folder: RunFolder, number: int = 0) -> Kept:
    """What a follower that begins now says, until the training ends."""
    kept = Kept()
    rows = OwnRows(folder)
    beside = Alerts(folder, None, number, rows, sinks=kept)
    beside.close()
    rows.close()
    return kept


def test_a_finding_becomes_an_alert_row_at_its_step(store: Path) -> None:
    with lossbook.init(store=store, project="p", console=False) as run:
        spiky(run, (250,))
    (line,) = look(RunFolder(run.path)).shown
    assert line.startswith(f"run {RUN.name}: train/loss jumps from ")
    assert line.endswith(f"(lossbook check {RUN.id})")
    (event,) = lossbook.open(store).run().events("alert")
    assert (event["rank"], event["step"]) == (-1000, 250)
    assert (event["value"]["title"], event["value"]["level"]) == ("loss spike: train/loss", "warning")
    assert event["value"]["finding"]["first_step"] == 250
    assert event["value"]["text"] == event["value"]["finding"]["sentence"]


def test_a_follower_that_takes_over_does_not_say_it_again(store: Path) -> None:
    with lossbook.init(store=store, project="p", console=False) as run:
        spiky(run, (250,))
        run.alert("mine", "from the training")
        folder = RunFolder(run.path)
        first = look(folder)
        assert len(first.shown) == 1
        assert [one.title for one in first.sent] == ["mine", "loss spike: train/loss"]
        spiky(run, (520,), start=300)
        second = look(folder)
        assert ["step 520" in one.text for one in second.sent] == [True]
        assert second.shown == []  # the run has had its line


def test_what_an_earlier_attempt_came_to_is_not_said_by_the_next_one(store: Path) -> None:
    with lossbook.init(store=store, project="p", id="one", console=False) as run:
        spiky(run, (250,))
    with lossbook.init(store=store, project="p", id="one", resume="must", resume_step=299, console=False) as run:
        spiky(run, (520,), start=300)
    shown = look(RunFolder(run.path), number=1).shown
    assert ["step 520" in sentence for sentence in shown] == [True]


def test_rows_that_are_sealed_are_not_read_again(store: Path) -> None:
    with lossbook.init(store=store, project="p", console=False) as run:
        spiky(run, (250,))
    folder = RunFolder(run.path)
    seal_run(folder, finished=True)
    assert look(folder).shown == []


def test_a_key_that_is_found_again_and_again_is_said_a_few_times(store: Path) -> None:
    with lossbook.init(store=store, project="p", console=False) as run:
        spiky(run, tuple(range(300, 2000, 100)), steps=2000)
    kept = look(RunFolder(run.path))
    assert len(kept.sent) == 5
    assert len(kept.shown) == 1


@pytest.mark.parametrize(
    ("after_seconds", "lines"), [(0.0, ["train/loss jumps", "train/loss is NaN"]), (60.0, ["train/loss jumps"])]
)
def test_the_terminal_has_one_line_a_run_and_another_for_an_error_long_after_a_warning(
    store: Path, monkeypatch: pytest.MonkeyPatch, after_seconds: float, lines: list[str]
) -> None:
    monkeypatch.setattr(alerts, "SECOND_LINE_SECONDS", after_seconds)
    kept = Kept()
    with lossbook.init(store=store, project="p", console=False) as run:
        beside = Alerts(RunFolder(run.path), None, 0, None, sinks=kept)
        spiky(run, (250,))
        beside.tick()
        spiky(run, (520,), start=300)
        run.log({"train/loss": float("nan")}, step=600)
        beside.close()
    assert len(kept.sent) == 3
    shown = [line.removeprefix(f"run {RUN.name}: ") for line in kept.shown]
    assert len(shown) == len(lines)
    assert all(line.startswith(start) for line, start in zip(shown, lines, strict=True))


def test_off_is_off_but_alerts_of_the_training_are_carried(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOSSBOOK_DIAGNOSIS", "off")
    with lossbook.init(store=store, project="p", console=False) as run:
        spiky(run, (250,))
        run.alert("mine", "from the training", level="error")
    kept = look(RunFolder(run.path))
    assert kept.shown == []
    assert [(one.title, one.text, one.level) for one in kept.sent] == [("mine", "from the training", "error")]
    assert is_diagnosed(RunFolder(run.path), 0)


@pytest.mark.parametrize(
    ("state", "error", "said"),
    [
        ("failed", "Traceback\n  line 3\nRuntimeError: CUDA out of memory", ("run failed", "error")),
        ("preempted", None, ("run preempted", "warning")),
        ("killed", "ended by SIGTERM", ("run killed", "warning")),
        ("finished", None, None),
        ("interrupted", "KeyboardInterrupt", None),
    ],
)
def test_an_end_that_is_no_good_one_is_told_once(
    store: Path, state: str, error: str | None, said: tuple[str, str] | None
) -> None:
    run = lossbook.init(store=store, project="p", console=False)
    run.log({"train/loss": 2.0}, step=7)
    run.end(state, error)
    folder = RunFolder(run.path)
    LiveSummary(folder).write()
    sent = []
    for _ in range(2):  # the second follows a follower that was killed
        kept = Kept()
        beside = Alerts(folder, None, 1, None, sinks=kept)
        beside.close()
        beside.tell_end()
        sent += kept.sent
    assert [(one.title, one.level) for one in sent] == ([said] if said else [])
    if state == "failed":
        assert (sent[0].text, sent[0].step) == ("small run ended: failed (RuntimeError: CUDA out of memory)", 7)


TRAIN = """
import sys, time, lossbook
run = lossbook.init(store=sys.argv[1], project="p", id="one", console=False, mirrors=sys.argv[2] or None, system_metrics=False)
for step in range(100):
    run.log({"train/loss": 2.0 + 0.01 * (step % 7)}, step=step)
run.log({"train/loss": 50.0}, step=100)
if sys.argv[3]:
    sys.stdin.readline()
raise SystemExit("the loss is too high") if not sys.argv[3] else None
"""


@pytest.fixture
def train(store: Path, tmp_path: Path, follower: None) -> Callable[..., subprocess.Popen[bytes]]:
    """Starts a training whose last loss is a spike; it waits for a line, or ends at once with an error."""

    def start(mirror: str = "", *, waits: bool = False) -> subprocess.Popen[bytes]:
        script = tmp_path / "train.py"
        script.write_text(TRAIN)
        return subprocess.Popen(
            [sys.executable, str(script), str(store), mirror, "waits" if waits else ""],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        )

    return start


def alerts_of(store: Path) -> list[dict[str, Any]]:
    return lossbook.open(store).run("one").events("alert")


def test_the_terminal_of_the_training_shows_what_was_found(
    store: Path, train: Callable[..., subprocess.Popen[bytes]], wait_until: WaitUntil
) -> None:
    with train(waits=True) as process:
        wait_until(lambda: (store / "p" / "one").is_dir() and alerts_of(store), seconds=60)
        _, said = process.communicate(b"\n")
    assert said.count(b": train/loss jumps from 2.03 to 50 at step 100") == 1


def test_what_is_found_in_the_very_last_row_reaches_a_mirror(
    store: Path, tmp_path: Path, train: Callable[..., subprocess.Popen[bytes]], wait_until: WaitUntil
) -> None:
    with train("tensorboard") as process:
        process.communicate()
    path = store / "p" / "one"
    wait_until(
        lambda: (path / "followers" / "tensorboard.json").is_file() and follower_of(str(path)) is None, seconds=60
    )
    assert [event["step"] for event in alerts_of(store)] == [100]
    written = b"".join(file.read_bytes() for file in tmp_path.rglob("*tfevents*"))
    assert written.count(b"**warning: loss spike: train/loss**") == 1


@pytest.mark.slow
def test_a_follower_that_is_killed_and_replaced_says_nothing_twice(
    store: Path, train: Callable[..., subprocess.Popen[bytes]], wait_until: WaitUntil
) -> None:
    path = store / "p" / "one"
    with train("tensorboard", waits=True) as process:
        wait_until(lambda: path.is_dir() and alerts_of(store), seconds=60)
        found = follower_of(str(path))
        assert found is not None
        os.kill(found, signal.SIGKILL)
        # The mirror starts another one.
        wait_until(lambda: follower_of(str(path)) not in (None, found), seconds=60)
        log = path / "followers" / "follow.log"
        wait_until(lambda: log.read_text().count(" follower ") == 2, seconds=60)
        process.communicate(b"\n")
    wait_until(lambda: follower_of(str(path)) is None, seconds=60)
    assert len(alerts_of(store)) == 1
    assert log.read_text().count("jumps from") == 1
