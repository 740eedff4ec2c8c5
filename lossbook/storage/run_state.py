"""Tells how a run stands, from its events and from whether the process of its last attempt lives."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from lossbook.errors import LossbookError
from lossbook.journal import life_of, merge_config, place_of, seems_alive
from lossbook.json_shapes import JsonObject, text_or_none
from lossbook.paths import RunFolder
from lossbook.processes import Life, host_name, is_alive
from lossbook.run_info import Attempt, RunInfo
from lossbook.storage.derived_files import read_seal_notes, read_watch_notes
from lossbook.storage.statistics import Event
from lossbook.storage.summary_file import RunSummary

#: When one rank is killed, a launcher ends the others within that time, and the follower notices within that time.
ENDED_BY_SECONDS = 5.0
#: What makes a warning a problem of the run.
_PROBLEMS = ("lost", "unfollowed", "oom_kills", "missed_node")
#: Ends that a preemption explains.
_CUT_SHORT = ("failed", "killed", "crashed")
_UNEXPLAINED = "the training process ended without a word"


class RankFailure(NamedTuple):
    """How a rank other than 0 failed: when (µs), in a sentence, and whether that is its own or the follower's who misses it."""

    time_us: int
    rank: int
    sentence: str
    is_missed: bool = False


@dataclass
class RunStatements:
    """What a run's events say of it as a whole, folded in the order of their times.

    Attributes:
        config: changes to what `init()` was given.
        summary: what the training code set in `run.summary`.
        define: what it said of its metrics, the last of each pattern.
        warnings: of rows that were lost, and of a follower that did not do its work.
        finish: by attempt, when rank 0 ended and what it said then.
        failures: by attempt, the failures of other ranks, in the order of their times.
        preempted: attempts whose machine was said to be taken away.
    """

    config: JsonObject = field(default_factory=dict)
    summary: JsonObject = field(default_factory=dict)
    define: list[JsonObject] = field(default_factory=list)
    alerts: int = 0
    warnings: list[str] = field(default_factory=list)
    finish: dict[int, tuple[int, JsonObject]] = field(default_factory=dict)
    failures: dict[int, list[RankFailure]] = field(default_factory=dict)
    preempted: set[int] = field(default_factory=set)

    def add(self, event: Event) -> None:
        """Fold one more event in, not older than those before."""
        value = event.value
        if event.kind == "config":
            self.config = merge_config(self.config, value)
        elif event.kind == "summary":
            self.summary = merge_config(self.summary, value)
        elif event.kind == "define":
            self.define = [one for one in self.define if one.get("pattern") != value.get("pattern")] + [value]
        elif event.kind == "alert":
            self.alerts += 1
        elif event.kind == "warning" and isinstance(rank := value.get("missed_rank"), int):
            sentence = str(value.get("message"))
            self.warnings.append(sentence)
            if value.get("is_back"):
                failures = self.failures.get(event.attempt, [])
                failures[:] = [one for one in failures if one.rank != rank or not one.is_missed]
                return
            self._add_failure(event, RankFailure(event.time_us, rank, sentence, is_missed=True))
        elif event.kind == "warning" and any(map(value.get, _PROBLEMS)):
            self.warnings.append(str(value.get("message")))
        elif event.kind == "warning" and value.get("preempting"):
            self.preempted.add(event.attempt)
        elif event.kind == "finish" and event.rank == 0:
            self.finish[event.attempt] = (event.time_us, value)
        elif event.kind == "finish" and event.rank > 0 and value.get("state") == "failed":
            sentence = f"rank {event.rank} failed first: {text_or_none(value.get('error')) or _UNEXPLAINED}"
            self._add_failure(event, RankFailure(event.time_us, event.rank, sentence))

    def _add_failure(self, event: Event, failure: RankFailure) -> None:
        failures = self.failures.setdefault(event.attempt, [])
        if all(failure.rank != one.rank for one in failures):
            failures.append(failure)


class EventFold:
    """Events as they are found in several files; folded on, or anew when one comes that is older than the last.

    Args:
        before: a summary that has the events before these.
    """

    def __init__(self, before: RunSummary | None = None) -> None:
        self._before = before or RunSummary()
        self._found: list[Event] = []
        self._folded: RunStatements | None = None
        self._last = 0

    def add(self, event: Event) -> None:
        """Take one more event, whatever its time."""
        if event.time_us < self._last:
            self._folded = None
        self._last = max(self._last, event.time_us)
        self._found.append(event)
        if self._folded is not None:
            self._folded.add(event)

    def folded(self) -> RunStatements:
        """What all of them say."""
        if self._folded is None:
            before = self._before
            self._folded = RunStatements(
                dict(before.config), dict(before.summary), list(before.define), before.alerts, list(before.problems)
            )
            for event in sorted(self._found, key=lambda event: event.time_us):
                self._folded.add(event)
        return self._folded


def run_state(folder: RunFolder, info: RunInfo, stated: RunStatements) -> tuple[str, str | None, int | None]:
    """How the last attempt stands: (state, error, time of its end in µs).

    Of a run of several ranks that has ended, the first that failed is the run's failure: the others fail or are killed
    because of it. What fails or is killed while its machine is taken away was preempted.
    """
    number = info.last_attempt.number if info.attempts else max(stated.finish, default=0)
    state, error, ended = _state_of_ranks(folder, info, stated, number)
    return "preempted" if number in stated.preempted and state in _CUT_SHORT else state, error, ended


def _state_of_ranks(
    folder: RunFolder, info: RunInfo, stated: RunStatements, number: int
) -> tuple[str, str | None, int | None]:
    state, error, ended = _state_of_rank_0(folder, info, stated, number)
    failures = stated.failures.get(number, [])
    if state in ("running", "preempted") or not failures:
        return state, error, ended
    first = failures[0]
    if first.is_missed:
        if state == "killed" and (ended is None or first.time_us <= ended + 1e6 * ENDED_BY_SECONDS):
            return "crashed", first.sentence, ended
        if state in ("failed", "crashed") and (ended is None or first.time_us <= ended):
            return state, f"{first.sentence}; then rank 0: {error}", ended
        return state, error, ended
    if state != "finished" and ended is not None and first.time_us > ended:
        return state, error, ended
    return "failed", first.sentence, ended or first.time_us


def _state_of_rank_0(
    folder: RunFolder, info: RunInfo, stated: RunStatements, number: int
) -> tuple[str, str | None, int | None]:
    if number in stated.finish:
        when, value = stated.finish[number]
        return str(value.get("state") or "finished"), text_or_none(value.get("error")), when
    watched = read_watch_notes(folder)
    if watched.attempt == number and watched.state:
        unexplained = _UNEXPLAINED if watched.state == "crashed" else None
        return watched.state, watched.error or unexplained, watched.ended
    if is_running(folder, info.last_attempt):
        return "running", None, None
    return "crashed", _UNEXPLAINED, None


def is_running(folder: RunFolder, attempt: Attempt) -> bool:
    """Whether the process of an attempt lives, as far as can be known from here; where it cannot, its lease tells."""
    if attempt.pid_namespace is None and attempt.host == host_name() and attempt.pid:
        # Of an earlier version, or off Linux.
        return is_alive(attempt.pid, attempt.process_start, attempt.boot)
    life = life_of(attempt)
    return life is Life.ALIVE or (life is Life.UNKNOWN and seems_alive(folder, place_of(attempt)))


def sealed_problems(folder: RunFolder) -> list[str]:
    """What was found damaged when segments were sealed, a sentence each."""
    try:
        return list(read_seal_notes(folder).problems)
    except LossbookError as error:
        return [str(error)]
