"""Where alerts go beside the run's own rows: the training's terminal, and the sinks that the environment asks for.

A sink is turned on by its variable (`variable_of`). Each has a thread of its own that the follower does not wait for until
its end. What cannot be delivered is said once; the alert stays in the run.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from lossbook.errors import BadArgument
from lossbook.follower.terminal_notice import Note, print_note, tell
from lossbook.json_shapes import JsonObject
from lossbook.registry import ALERT_SINKS, BrokenPlugin

#: For all that still waits when the follower ends.
LAST_SECONDS = 45.0
_MOST_WAITING = 100


@dataclass(frozen=True, slots=True)
class Alert:
    """What sinks are told: `level` is "info", "warning" or "error", `finding` as `Finding.plain()` has it."""

    title: str
    text: str
    level: str
    step: int | None
    finding: JsonObject | None = None


@dataclass(frozen=True, slots=True)
class RunName:
    """Which run an alert is about.

    Attributes:
        cwd: the training's working directory; None where it is not known.
        environment: the training's variables. The process that sends alerts may serve other runs too, and its own are not
            to be relied on.
    """

    id: str
    name: str
    project: str
    path: str
    cwd: str | None = None
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ, repr=False, compare=False)


class AlertSink(ABC):
    """One place that alerts go to. Made and called in a thread of its own, in the follower's process.

    Args:
        setting: what its variable says, such as an address.
        run: the run whose alerts it gets.
        warn: takes a sentence for the user, which is said once; for what one more try would not mend.
        closing: set when the follower is about to end: pauses should be short then.
    """

    #: Its name in the registry; its variable is named by it.
    kind: ClassVar[str]
    #: What it is, in a few words.
    title: ClassVar[str]

    def __init__(self, setting: str, run: RunName, warn: Callable[[str], None], closing: threading.Event) -> None:
        self.setting = setting
        self.run = run
        self.warn = warn
        self.closing = closing

    @abstractmethod
    def send(self, alert: Alert) -> None:
        """Deliver one alert, within a time limit of the sink's own; what it raises is said, and the alert is passed over."""


def variable_of(kind: str) -> str:
    """The environment variable that turns a sink on, `LOSSBOOK_ALERT_FILE` for one named "file"; its value is the setting."""
    if kind == "webhook":
        return "LOSSBOOK_WEBHOOK"
    return f"LOSSBOOK_ALERT_{kind.upper().replace('-', '_')}"


class Sinks:
    """Carries alerts to every sink whose variable is set, and to the terminal of a process.

    Args:
        pid: the training process, to whose standard error sentences go; None for none.
        environment: its variables; those of this process unless told otherwise.
        note: takes those sentences for a log.
    """

    def __init__(
        self,
        run: RunName,
        pid: int | None,
        environment: Mapping[str, str] | None = None,
        note: Note = print_note,
    ) -> None:
        environment = os.environ if environment is None else environment
        self.run = run
        self._pid = pid
        self._note = note
        self._closes_at: float | None = None
        self._said: set[str] = set()
        # The sinks themselves are imported in their threads, when there is something to send.
        self._threads = [
            _SinkThread(kind, setting, run, self._say_once)
            for kind in ALERT_SINKS.names()
            if (setting := environment.get(variable_of(kind), "").strip())
        ]

    @property
    def are_any(self) -> bool:
        """Whether alerts go anywhere but to the terminal."""
        return bool(self._threads)

    def show(self, sentence: str) -> None:
        """Put a sentence on the terminal of the training."""
        tell(self._pid, sentence, self._note)

    def send(self, alert: Alert) -> None:
        """Hand an alert to every sink; returns at once."""
        for thread in self._threads:
            thread.send(alert)

    def close(self, seconds: float = LAST_SECONDS) -> None:
        """Wait until everything has gone out, but no longer than that."""
        end = time.monotonic() + seconds
        for thread in self._threads:
            thread.end(end)
        for thread in self._threads:
            thread.join(end)

    def is_sent(self, seconds: float = LAST_SECONDS) -> bool:
        """Say that no alert follows; whether everything has gone out, or has had that much time since this was asked first."""
        if self._closes_at is None:
            self._closes_at = time.monotonic() + seconds
            for thread in self._threads:
                thread.end(0.0)
        return time.monotonic() >= self._closes_at or not any(thread.is_alive() for thread in self._threads)

    def _say_once(self, sentence: str) -> None:
        if sentence not in self._said:
            self._said.add(sentence)
            self.show(sentence)


class _SinkThread:
    """One sink and the alerts that wait for it."""

    def __init__(self, kind: str, setting: str, run: RunName, warn: Callable[[str], None]) -> None:
        self._kind = kind
        self._setting = setting
        self._run = run
        self._warn = warn
        self._closing = threading.Event()
        self._queue: queue.Queue[Alert | None] = queue.Queue(_MOST_WAITING)
        self._thread: threading.Thread | None = None

    def send(self, alert: Alert) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._deliver, name=f"lossbook-{self._kind}", daemon=True)
            self._thread.start()
        try:
            self._queue.put_nowait(alert)
        except queue.Full:
            self._warn("alerts come faster than they can be sent on; those left out are in the run")

    def end(self, until: float) -> None:
        """Say that no alert follows."""
        if self._thread is None:
            return
        self._closing.set()
        try:
            self._queue.put(None, timeout=max(0.0, until - time.monotonic()))
        except queue.Full:
            self._thread = None

    def is_alive(self) -> bool:
        """Whether it still sends."""
        return self._thread is not None and self._thread.is_alive()

    def join(self, until: float) -> None:
        if self._thread is not None:
            self._thread.join(max(0.0, until - time.monotonic()))
            self._thread = None

    # -- in the thread ---------------------------------------------------------------------------------------------

    def _deliver(self) -> None:
        sink: AlertSink | None = None
        while (alert := self._queue.get()) is not None:
            try:
                sink = sink or sink_class(self._kind)(self._setting, self._run, self._warn, self._closing)
                sink.send(alert)
            except (BadArgument, BrokenPlugin) as error:
                self._warn(f"{error}; alerts stay in the run")
            except Exception as error:  # a sink that fails takes no other with it, and never the follower
                self._warn(f"an alert could not be sent on ({type(error).__name__}); it is in the run")


def sink_class(kind: str) -> type[AlertSink]:
    """The class of a sink.

    Raises:
        BadArgument: no such sink is known.
        BrokenPlugin: it is another package's, and cannot be used.
    """
    found = ALERT_SINKS.load(kind)
    assert isinstance(found, type)
    assert issubclass(found, AlertSink)
    return found
