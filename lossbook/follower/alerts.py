"""The diagnosis beside a training: what it finds becomes alert rows of the follower, and goes to the sinks.

Rows are read on from the journal every few seconds. A finding is said once, also when the follower was killed and
another one reads the same rows again. `run.alert()` goes to the webhook and the command as well.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Protocol

from lossbook.errors import LossbookError
from lossbook.follower.sinks import Alert, RunName, Sinks
from lossbook.follower.terminal_notice import Note, print_note
from lossbook.journal import first_row, read_segment
from lossbook.json_shapes import JsonMapping, JsonObject, object_or_empty, whole_or_none
from lossbook.paths import RunFolder, is_monitor, make_folder, read_json, write_json
from lossbook.run_info import read_run_info
from lossbook.storage import LoggedRow, Replay, next_row

if TYPE_CHECKING:
    from lossbook.diagnosis import Diagnosis, Finding
    from lossbook.storage import Segment

#: Rows are looked at every so often, and never for more than a twentieth of the time; while training logs nothing, seldom.
LOOK_SECONDS, IDLE_LOOK_SECONDS = 2.0, 10.0
_SHARE = 20
#: Findings of one kind on one key that become alerts while the run goes on; `lossbook check` has all of them.
_MOST_SAID = 5
#: Ends that the sinks are told of, and how bad each is.
_LEVELS = {"failed": "error", "crashed": "error", "killed": "warning", "preempted": "warning"}
#: The terminal shows one line a run, and another one where an error follows a warning after so many seconds.
SECOND_LINE_SECONDS = 60.0


class AlertRows(Protocol):
    """Takes rows that the follower writes; `OwnRows` is one."""

    def append_event(
        self, kind: str, value: JsonObject, *, key: str | None = None, step: int | None = None
    ) -> bool: ...


def raise_alert(finding: Finding, rows: AlertRows | None, sinks: Sinks) -> None:
    """Write a finding down as an alert row, at the step where it begins, and carry it to the sinks.

    A run whose folder takes no row any more (a full disk) is no reason not to tell anybody.
    """
    plain = finding.plain()
    alert = Alert(finding.title, finding.sentence, finding.severity, finding.first_step, plain)
    try:
        if rows is not None:
            value: JsonObject = {"title": alert.title, "text": alert.text, "level": alert.level, "finding": plain}
            rows.append_event("alert", value, step=alert.step)
    finally:
        sinks.send(alert)


class Alerts:
    """Diagnoses one run while it is written.

    Args:
        pid: the training process.
        attempt: the attempt that it writes; what earlier ones came to has been said.
        rows: where alert rows go; None for nowhere.
        environment: the training's variables; those of this process unless told otherwise.
        cwd: its working directory.
        note: takes for a log what is said.
    """

    def __init__(
        self,
        folder: RunFolder,
        pid: int | None,
        attempt: int,
        rows: AlertRows | None = None,
        *,
        sinks: Sinks | None = None,
        environment: Mapping[str, str] | None = None,
        cwd: str | None = None,
        note: Note = print_note,
    ) -> None:
        self._folder = folder
        self._attempt = attempt
        self._rows = rows
        self._environment = os.environ if environment is None else environment
        self._cwd = cwd
        self._note = note
        self._is_off = self._environment.get("LOSSBOOK_DIAGNOSIS", "").strip().lower() in ("off", "0", "false", "none")
        self._sinks = sinks
        self._pid = pid
        self._diagnosis: Diagnosis | None = None  # what finds is loaded when there is something to look at
        self._replay: Replay | None = None
        self._said: set[tuple[str, str, int]] = set()
        self._sent: dict[int, int] = {}  # by rank, the last alert of the training that was sent on
        self._line = _TerminalLine()
        self._next_look = self._next_idle_look = 0.0
        self._has_new = True
        self._has_told_end = False

    def tick(self, *, is_idle: bool = False) -> None:
        """Look at what was logged since, if it is time to.

        Args:
            is_idle: whether training has logged nothing since the last time.

        Raises:
            LossbookError, OSError: the run's folder cannot be read or written.
        """
        now = time.monotonic()
        self._has_new |= not is_idle
        if now < (self._next_look if self._has_new else self._next_idle_look):
            return
        self._has_new = False
        self._next_look, self._next_idle_look = now + LOOK_SECONDS, now + IDLE_LOOK_SECONDS
        self._tell(self._look().clock(time.time_ns() // 1000))
        self._next_look = time.monotonic() + max(LOOK_SECONDS, _SHARE * (time.monotonic() - now))

    def close(self) -> None:
        """Look at the last rows; after this, mirrors need not wait for alerts."""
        try:
            self._tell(self._look().close())
        finally:
            self._save(is_over=True)

    def tell_end(self) -> None:
        """Tell the sinks of a run that has come to no good end, once; the terminal knows."""
        from lossbook.storage import read_summary

        summary = read_summary(self._folder)
        level = _LEVELS.get(summary.state or "") if summary is not None else None
        if summary is None or level is None or self._sinks is None or not self._sinks.are_any or self._has_told_end:
            return
        self._has_told_end = True
        self._save(is_over=True)
        said = [line for line in (summary.error or "").splitlines() if line.strip()]
        text = f"{self._sinks.run.name} ended: {summary.state}" + (f" ({said[-1].strip()})" if said else "")
        self._sinks.send(Alert(f"run {summary.state}", text, level, summary.last_step))

    def is_sent(self) -> bool:
        """Whether the sinks have sent on all that they had, or had their time for it; no alert follows."""
        return self._sinks is None or self._sinks.is_sent()

    def _look(self) -> Diagnosis:
        if self._diagnosis is None:
            from lossbook.diagnosis import Diagnosis

            self._diagnosis = Diagnosis()
        if self._replay is None:
            self._begin()
        assert self._replay is not None
        assert self._sinks is not None
        if not self._is_off or self._sinks.are_any:
            self._tell(self._diagnosis.feed(self._passing(self._replay)))
        return self._diagnosis

    def _begin(self) -> None:
        if self._sinks is None:
            info = read_run_info(self._folder)[0]
            self._sinks = Sinks(
                RunName(info.id, info.name, info.project, self._folder.path, self._cwd, self._environment),
                self._pid,
                self._environment,
                self._note,
            )
        before = _read_state(self._folder)
        self._has_told_end = before.get("attempt") == self._attempt and bool(before.get("told_end"))
        sent = object_or_empty(before.get("sent"))
        self._sent = {int(rank): i for rank, i in sent.items() if isinstance(i, int)}
        if not self._is_off:
            self._said = _said_before(self._folder)
            self._line.was_shown(is_so=bool(self._said))
        self._replay = Replay(self._folder, _where_live_rows_begin(self._folder))
        if os.path.exists(_state_path(self._folder)):
            self._save(is_over=False)

    def _passing(self, replay: Replay) -> Iterator[LoggedRow]:
        """The rows for the diagnosis; on their way alerts of the training are sent on."""
        for row in replay.rows():
            if row.kind == "alert" and not is_monitor(row.rank):
                self._send_on(row)
            if self._is_off:
                continue
            if row.attempt < self._attempt and not is_monitor(row.rank):
                continue  # an attempt that is over, whose journal nobody has sealed
            yield row

    def _send_on(self, row: LoggedRow) -> None:
        if row.attempt < self._attempt or row.i <= self._sent.get(row.rank, -1) or self._sinks is None:
            return
        body = row.body
        self._sent[row.rank] = row.i
        self._sinks.send(
            Alert(str(body.get("title") or "alert"), str(body.get("text") or ""), str(body.get("level")), row.step)
        )
        self._save(is_over=False)

    def _tell(self, found: list[Finding]) -> None:
        fresh = [finding for finding in found if finding.identity not in self._said]
        if not fresh or self._sinks is None:
            return
        line = self._line.of(fresh, self._sinks.run)
        if line is not None:
            self._sinks.show(line)
        for finding in fresh:
            same = sum((kind, key) == (finding.kind, finding.key) for kind, key, _ in self._said)
            self._said.add(finding.identity)
            if same < _MOST_SAID:
                raise_alert(finding, self._rows, self._sinks)

    def _save(self, *, is_over: bool) -> None:
        told: JsonObject = {"told_end": True} if self._has_told_end else {}
        state = {
            **told,
            "attempt": self._attempt,
            "over": is_over,
            "sent": {str(rank): i for rank, i in self._sent.items()},
        }
        try:
            make_folder(self._folder.followers)
            write_json(_state_path(self._folder), state, durable=False)
        except (LossbookError, OSError):
            pass  # a full disk: an alert may be sent a second time, no more


class _TerminalLine:
    """What the terminal of a training is shown of all that is found: a sweep of sixty runs is no reason for two hundred lines."""

    def __init__(self) -> None:
        self._severity: str | None = None
        self._shown = 0.0

    def was_shown(self, *, is_so: bool) -> None:
        """A follower before this one has shown a line already."""
        if is_so:
            self._severity, self._shown = "warning", time.monotonic()

    def of(self, found: list[Finding], run: RunName) -> str | None:
        """The line to show for what was just found; None where the run has had its line."""
        from lossbook.diagnosis import group_findings

        first, *others = group_findings(found)[0]
        worst = next((one for one in others if one.severity == "error" != first.severity), None)
        severity = (worst or first).severity
        is_worse = severity == "error" != self._severity and time.monotonic() - self._shown > SECOND_LINE_SECONDS
        if self._severity is not None and not is_worse:
            return None
        self._severity, self._shown = severity, time.monotonic()
        then = f"; then {worst.sentence}" if worst is not None else ""
        return f"run {run.name}: {first.sentence}{then} (lossbook check {run.id})"


def is_diagnosed(folder: RunFolder, attempt: int) -> bool:
    """Whether the follower of an attempt has written its last alert row."""
    state = _read_state(folder)
    diagnosed = whole_or_none(state.get("attempt"))
    return bool(state.get("over")) and diagnosed is not None and diagnosed >= attempt


def _state_path(folder: RunFolder) -> str:
    return os.path.join(folder.followers, "alerts.json")


def _read_state(folder: RunFolder) -> JsonMapping:
    try:
        return read_json(_state_path(folder)) or {}
    except LossbookError:
        return {}


def _said_before(folder: RunFolder) -> set[tuple[str, str, int]]:
    """The identities of findings that a follower of this run has written down already."""
    from lossbook.storage import list_segments

    segments = [segment for segment in list_segments(folder) if is_monitor(segment.name.rank)]
    found = set()
    for value in _sealed_alerts(folder) if any(one.journal is None for one in segments) else _live_alerts(segments):
        one = value.get("finding")
        if isinstance(one, dict):
            found.add((str(one.get("kind")), str(one.get("key")), int(str(one.get("first_step") or 0))))
    return found


def _live_alerts(segments: list[Segment]) -> Iterator[JsonMapping]:
    """What followers' journals have of alerts; a new follower's own is no reason to load what reads sealed files."""
    for segment in segments:
        for row in read_segment(str(segment.journal)).rows:
            if row.kind == "alert":
                yield row.body


def _sealed_alerts(folder: RunFolder) -> Iterator[JsonMapping]:
    from lossbook.reading import read_events
    from lossbook.storage import RunRows, connect

    connection = connect()
    rows = RunRows(folder, connection.cursor())
    rows.refresh()
    for event in read_events(rows, connection, "alert"):
        if is_monitor(event["rank"]):
            yield event["value"]


def _where_live_rows_begin(folder: RunFolder) -> dict[int, int]:
    """By rank the last row that is sealed: a follower that begins late, or again, need not read a whole long run."""
    from lossbook.storage import list_segments

    sealed: set[int] = set()
    journals: dict[int, str] = {}
    for segment in list_segments(folder):
        if segment.journal is None:
            sealed.add(segment.name.rank)
        else:
            journals.setdefault(segment.name.rank, segment.journal)
    after: dict[int, int] = {}
    for rank in sealed:
        head = first_row(journals[rank]) if rank in journals else None
        after[rank] = (head.i if head is not None else next_row(folder, rank)) - 1
    return after
