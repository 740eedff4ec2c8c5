"""Where alerts go beside the run's own rows: the training's terminal, a webhook, a command.

Each has a time limit and a thread that the follower does not wait for until its end. What cannot be delivered is said
once; the alert stays in the run.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from lossbook.follower.terminal_notice import tell

#: For one try of the webhook, for the command, and for all that still waits when the follower ends.
WEBHOOK_SECONDS, COMMAND_SECONDS, LAST_SECONDS = 10.0, 30.0, 45.0
#: Between the tries of a webhook that does not answer.
PAUSES_SECONDS = (1.0, 5.0)
_LONGEST_RETRY_AFTER_SECONDS = 15.0
_MOST_WAITING = 100


@dataclass(frozen=True, slots=True)
class Alert:
    """What sinks are told: `level` is "info", "warning" or "error", `finding` as `Finding.plain()` has it."""

    title: str
    text: str
    level: str
    step: int | None
    finding: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class RunName:
    """Which run an alert is about."""

    id: str
    name: str
    project: str
    path: str


class Sinks:
    """Carries alerts to `LOSSBOOK_WEBHOOK` and `LOSSBOOK_ALERT_COMMAND`, and to the terminal of a process.

    Args:
        pid: the training process, to whose standard error sentences go; None for none.
    """

    def __init__(self, run: RunName, pid: int | None, environment: Mapping[str, str] | None = None) -> None:
        environment = os.environ if environment is None else environment
        self._run = run
        self._pid = pid
        self._webhook = environment.get("LOSSBOOK_WEBHOOK", "").strip()
        self._command = environment.get("LOSSBOOK_ALERT_COMMAND", "").strip()
        self._queue: queue.Queue[Alert | None] = queue.Queue(_MOST_WAITING)
        self._thread: threading.Thread | None = None
        self._said: set[str] = set()
        self._closing = threading.Event()

    @property
    def are_any(self) -> bool:
        """Whether alerts go anywhere but to the terminal."""
        return bool(self._webhook or self._command)

    def show(self, sentence: str) -> None:
        """Put a sentence on the terminal of the training."""
        tell(self._pid, sentence)

    def send(self, alert: Alert) -> None:
        """Hand an alert to the webhook and to the command, where there are such; returns at once."""
        if not self.are_any:
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._deliver, name="lossbook-alerts", daemon=True)
            self._thread.start()
        try:
            self._queue.put_nowait(alert)
        except queue.Full:
            self._say_once("alerts come faster than they can be sent on; those left out are in the run")

    def close(self, seconds: float = LAST_SECONDS) -> None:
        """Wait until everything has gone out, but no longer than that."""
        if self._thread is None:
            return
        self._closing.set()
        try:
            self._queue.put(None, timeout=seconds)
        except queue.Full:
            return
        self._thread.join(seconds)
        self._thread = None

    # -- in the thread ---------------------------------------------------------------------------------------------

    def _deliver(self) -> None:
        while (alert := self._queue.get()) is not None:
            for is_wanted, work in ((self._webhook, self._post), (self._command, self._execute)):
                if is_wanted:
                    self._try(work, alert)

    def _try(self, work: Callable[[Alert], None], alert: Alert) -> None:
        try:
            work(alert)
        except Exception as error:  # a sink that fails takes no other with it, and never the follower
            self._say_once(f"an alert could not be sent on ({type(error).__name__}); it is in the run")

    def _post(self, alert: Alert) -> None:
        # The address is a credential: it is in no message.
        if not self._webhook.lower().startswith(("https://", "http://")):
            self._say_once("LOSSBOOK_WEBHOOK is no http address; alerts stay in the run")
            return
        sign = {"error": "\N{LARGE RED CIRCLE}", "warning": "\N{LARGE YELLOW CIRCLE}"}.get(alert.level, "")
        text = f"{sign} *{_plain(self._run.name)}* {_plain(alert.title)}\n{_plain(alert.text)}".strip()
        body = json.dumps({"text": text}).encode()
        why = ""
        for pause in (0.0, *PAUSES_SECONDS):
            self._closing.wait(pause) if not self._closing.is_set() else time.sleep(min(pause, 1.0))
            request = urllib.request.Request(
                self._webhook, data=body, headers={"Content-Type": "application/json", "User-Agent": "lossbook"}
            )
            try:
                with urllib.request.urlopen(request, timeout=WEBHOOK_SECONDS) as answer:
                    answer.read(1024)
                return
            except urllib.error.HTTPError as error:
                error.close()
                why = f"HTTP {error.code}"
                if error.code != 429 and error.code < 500:
                    break
                self._wait_as_told(error.headers.get("Retry-After"))
            except (OSError, ValueError) as error:
                reason = getattr(error, "reason", error)
                why = getattr(reason, "strerror", None) or type(reason).__name__
        self._say_once(f"the webhook did not take an alert ({why}); it is in the run")

    def _wait_as_told(self, retry_after: str | None) -> None:
        if retry_after is not None and retry_after.isdigit():
            self._closing.wait(min(float(retry_after), _LONGEST_RETRY_AFTER_SECONDS))

    def _execute(self, alert: Alert) -> None:
        """Run the command with the alert as JSON on its standard input, in a session of its own."""
        body = {
            "run": self._run.id,
            "name": self._run.name,
            "project": self._run.project,
            "path": self._run.path,
            "title": alert.title,
            "text": alert.text,
            "level": alert.level,
            "step": alert.step,
            "finding": alert.finding,
        }
        process = subprocess.Popen(
            ["/bin/sh", "-c", self._command],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            process.communicate(json.dumps(body).encode() + b"\n", timeout=COMMAND_SECONDS)
        except subprocess.TimeoutExpired:
            self._end(process)
            self._say_once(
                f"the command of LOSSBOOK_ALERT_COMMAND took longer than {COMMAND_SECONDS:.0f} s and was ended"
            )
            return
        if process.returncode != 0:
            self._say_once(f"the command of LOSSBOOK_ALERT_COMMAND ended with status {process.returncode}")

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except OSError:
            process.kill()
        process.wait()

    def _say_once(self, sentence: str) -> None:
        if sentence not in self._said:
            self._said.add(sentence)
            self.show(sentence)


def _plain(text: str) -> str:
    """Text that Slack does not take for markup, a link or a mention of everybody."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
