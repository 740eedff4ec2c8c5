"""What can go wrong with how fast a run goes: it stalls, it slows down, or one rank makes the others wait."""

from __future__ import annotations

from dataclasses import dataclass, field

from lossbook.diagnosis.detector import Detector
from lossbook.diagnosis.finding import Evidence, Finding, Report, Take
from lossbook.diagnosis.thresholds import Thresholds
from lossbook.diagnosis.windows import SortedWindow, median
from lossbook.formatting import duration, number
from lossbook.metrics import is_speed, is_step_time, may_be_step_time

_MOST_RANKS = 10_000
#: Keys that may be step times, of which a run is told.
_MOST_UNNAMED = 4
#: Rows between two times that a pace is taken from.
_ROWS_OF_A_PACE = 16


# -- stalled ------------------------------------------------------------------------------------------------------


class Stall(Detector):
    """The training has logged nothing for far longer than it usually takes."""

    kind = "stall"
    title = "stalled"

    def __init__(self, report: Report, limits: Thresholds) -> None:
        super().__init__(report, limits)
        self.begin()

    def begin(self) -> None:
        self._last: tuple[int, int, int] | None = None  # time (µs), step, rank
        self._rows = 0
        self._mean_us = 0.0
        self._longest_us = 0
        self._found: Finding | None = None

    def begin_stage(self) -> None:
        """Silence is silence in every stage."""

    def row(self, rank: int, step: int | None, time_us: int) -> None:
        last = self._last
        if last is None:
            self._last = (time_us, step or 0, rank)
            return
        gap_us = time_us - last[0]
        if gap_us > 0:
            if gap_us > 60_000_000 and gap_us > self._limit_us():
                self._say(time_us, step if step is not None else last[1], is_over=True)
            # A run that has gone on after a silence may be as silent again: it evaluates, say.
            self._longest_us = max(self._longest_us, gap_us)
            self._rows += 1
            self._mean_us += (gap_us - self._mean_us) / min(self._rows, 1000)
            self._found = None
        self._last = (max(time_us, last[0]), step if step is not None else last[1], rank)

    def clock(self, time_us: int) -> None:
        if self._last is not None and time_us - self._last[0] > self._limit_us() and self._found is None:
            self._say(time_us, self._last[1], is_over=False)

    def _limit_us(self) -> float:
        limits = self.limits
        least = limits.stall_seconds if self._rows >= limits.stall_first_rows else limits.stall_first_seconds
        usual = limits.stall_usual_gaps * self._mean_us
        return max(least * 1e6, usual, limits.stall_longest_gaps * self._longest_us)

    def _say(self, time_us: int, step: int, *, is_over: bool) -> None:
        assert self._last is not None
        before_us, before, rank = self._last
        seconds, limit = (time_us - before_us) / 1e6, self._limit_us() / 1e6
        while_ = "logged nothing" if is_over else "has logged nothing"
        self._found = Finding(
            self.kind,
            "error",
            "",
            before,
            step,
            seconds,
            limit,
            f"the training {while_} for {duration(seconds)} after step {before}",
            (Evidence("", before, 0.0, before_us, rank), Evidence("", step, seconds, time_us, rank)),
        )
        self.report(self._found)


# -- throughput ---------------------------------------------------------------------------------------------------


class _Speed:
    """One series of speeds: medians of blocks against the median of all blocks that were no slower."""

    def __init__(self, key: str, limits: Thresholds, report: Report, *, block_rows: int) -> None:
        self._key, self._limits, self._report, self._block_rows = key, limits, report, block_rows
        self.begin()

    def begin(self) -> None:
        self._skipped = 0
        self._block: list[Evidence] = []
        self._usual = SortedWindow(64)
        self._slow: list[Evidence] = []
        self._lowest = 0.0
        self._found: Finding | None = None

    def take(self, value: float, step: int, time_us: int) -> None:
        if self._skipped < self._limits.throughput_skipped_rows:
            self._skipped += 1
            return
        if value < 0 or value - value:
            return
        self._block.append(Evidence(self._key, step, value, time_us))
        if len(self._block) == self._block_rows:
            self._judge(self._block)
            self._block = []

    def _judge(self, block: list[Evidence]) -> None:
        limits = self._limits
        speed = median(sorted(one.value for one in block))
        usual = median(self._usual.values) if self._usual.values else 0.0
        if len(self._usual) < limits.throughput_blocks or speed >= limits.throughput_share * usual:
            self._usual.add(speed)
            self._slow, self._found = [], None
            return
        first = block[0]
        self._lowest = speed if not self._slow else min(self._lowest, speed)
        if len(self._slow) < limits.throughput_blocks:
            self._slow.append(first)
        start, last = self._slow[0], block[-1]
        if len(self._slow) < limits.throughput_blocks or last.time_us - start.time_us < 1e6 * limits.throughput_seconds:
            return
        name = self._key or "steps per second"
        self._found = Finding(
            "throughput",
            "warning",
            self._key,
            start.step,
            last.step,
            self._lowest,
            limits.throughput_share * usual,
            f"{name} has fallen from {number(usual, 4)} to {number(speed, 4)} since step {start.step} "
            f"({duration((last.time_us - start.time_us) / 1e6)})",
            (*self._slow, last),
        )
        self._report(self._found)


class Throughput(Detector):
    """The training goes much slower than before: by the speed that it logs, else by the times of its rows."""

    kind = "throughput"
    title = "throughput falling"

    def __init__(self, report: Report, limits: Thresholds) -> None:
        super().__init__(report, limits)
        self._logged: _Speed | None = None
        self._key = ""
        self._steps = _Speed("", limits, report, block_rows=2)
        self.begin()

    def begin(self) -> None:
        self._rows = 0
        self._from: tuple[int, int] | None = None
        self._steps.begin()
        if self._logged is not None:
            self._logged.begin()

    def watch(self, key: str, rank: int) -> Take | None:
        if rank != 0 or not is_speed(key, self.defined) or self._key not in ("", key):
            return None
        if self._logged is None:
            self._key, self._logged = (
                key,
                _Speed(key, self.limits, self.report, block_rows=self.limits.throughput_block_rows),
            )
        return self._logged.take

    def row(self, rank: int, step: int | None, time_us: int) -> None:
        if rank != 0 or step is None or self._logged is not None:
            return
        self._rows += 1
        if self._from is None or step < self._from[0]:
            self._from, self._rows = (step, time_us), 0
        # One row's time is as much the journal's as the training's.
        elif self._rows >= _ROWS_OF_A_PACE and step > self._from[0]:
            seconds = (time_us - self._from[1]) / 1e6
            if seconds > 0:
                self._steps.take((step - self._from[0]) / seconds, step, time_us)
            self._from, self._rows = (step, time_us), 0


# -- straggling rank ----------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Progress:
    step: int
    time_us: int
    rows: int = 0
    stride: float = 0.0
    found: Finding | None = None


@dataclass(slots=True)
class _Pair:
    """One rank's values of one key, and how often in a row it was the slow one."""

    window: SortedWindow = field(default_factory=lambda: SortedWindow(64))
    taken: int = 0
    median: float = 0.0
    slow: int = 0
    first: Evidence | None = None


class Straggler(Detector):
    """One rank takes longer for its steps than the others by what it logs, or its rows have stopped while theirs go on."""

    kind = "straggler"
    title = "straggling rank"

    def __init__(self, report: Report, limits: Thresholds) -> None:
        super().__init__(report, limits)
        self._unnamed: dict[str, set[int]] = {}
        self.begin()

    def begin(self) -> None:
        self._ranks: dict[int, _Progress] = {}
        self._ended: set[int] = set()
        self._newest: tuple[int, int] = (-1, 0)  # highest step, and when it was logged
        if not hasattr(self, "_times"):
            self._times: dict[str, dict[int, _Pair]] = {}
        for pairs in self._times.values():
            for rank in pairs:
                pairs[rank] = _Pair()
        self._until_look = 0

    def watch(self, key: str, rank: int) -> Take | None:
        if rank < 0:
            return None
        is_fast = is_speed(key, self.defined)
        if not is_fast and not is_step_time(key, self.defined):
            if may_be_step_time(key, self.defined) and len(self._unnamed) < _MOST_UNNAMED:
                self._unnamed.setdefault(key, set()).add(rank)
            return None
        pairs = self._times.setdefault(key, {})
        if rank not in pairs and len(pairs) >= _MOST_RANKS:
            return None
        pairs.setdefault(rank, _Pair())
        return lambda value, step, time_us: self._take(key, rank, value, step, time_us, is_fast=is_fast)

    def hints(self) -> list[str]:
        return [
            f"{key} is logged by several ranks and looks like a step time: run.define_metric({key!r}, role='step_time') "
            f"has ranks compared by it, and lossbook check --step-time '{key}' does so now"
            for key, ranks in self._unnamed.items()
            if len(ranks) > 1
        ]

    def _take(self, key: str, rank: int, value: float, step: int, time_us: int, *, is_fast: bool) -> None:
        pairs = self._times[key]
        pair = pairs[rank]
        if value < 0 or value - value:
            return
        pair.taken += 1
        if len(pairs) < 2 and pair.taken > 64 and rank == 0:
            return  # nobody to compare with
        pair.window.add(value)
        if pair.taken % 16:
            return
        pair.median = median(pair.window.values)
        others = sorted(
            other.median
            for number_, other in pairs.items()
            if number_ != rank and len(other.window) >= self.limits.straggler_rows
        )
        if not others or len(pair.window) < self.limits.straggler_rows:
            return
        usual = median(others)
        share = self.limits.straggler_share
        slow = pair.median * share < usual if is_fast else pair.median > share * usual
        pair.slow = pair.slow + 1 if slow and usual > 0 else 0
        if pair.slow == 1:
            pair.first = Evidence(key, step, pair.median, time_us, rank)
        if pair.slow < self.limits.straggler_checks or pair.first is None:
            return
        limit = usual / share if is_fast else usual * share
        self.report(
            Finding(
                self.kind,
                "warning",
                key,
                pair.first.step,
                step,
                pair.median,
                limit,
                f"rank {rank} is slower than the others: {key} is {number(pair.median, 4)} there, {number(usual, 4)} "
                f"elsewhere, since step {pair.first.step}",
                (pair.first, Evidence(key, step, pair.median, time_us, rank)),
            )
        )

    def row(self, rank: int, step: int | None, time_us: int) -> None:
        if step is None or rank < 0:
            return
        one = self._ranks.get(rank)
        if one is None:
            if len(self._ranks) < _MOST_RANKS:
                self._ranks[rank] = _Progress(step, time_us)
            return
        if step > one.step:
            one.rows += 1
            one.stride += (step - one.step - one.stride) / min(one.rows, 100)
            one.step, one.time_us = step, time_us
        if step > self._newest[0]:
            self._newest = step, time_us
        if len(self._ranks) > 1:
            self._until_look -= 1
            if self._until_look <= 0:
                self._until_look = 64 * len(self._ranks)
                self._look()

    def rank_ended(self, rank: int) -> None:
        self._ended.add(rank)

    def clock(self, time_us: int) -> None:
        if len(self._ranks) > 1:
            self._look()

    def _look(self) -> None:
        limits, (newest, now_us) = self.limits, self._newest
        for rank, one in self._ranks.items():
            if rank in self._ended or one.rows < limits.straggler_least_rows:
                continue
            behind, seconds = newest - one.step, (now_us - one.time_us) / 1e6
            if (
                behind > limits.straggler_behind_rows * max(one.stride, 1.0)
                and seconds > limits.straggler_behind_seconds
            ):
                first = one.step if one.found is None else one.found.first_step
                one.found = Finding(
                    self.kind,
                    "error",
                    "",
                    first,
                    newest,
                    float(behind),
                    limits.straggler_behind_rows * max(one.stride, 1.0),
                    f"rank {rank} has logged nothing since step {one.step}; others are at step {newest}, "
                    f"{duration(seconds)} later",
                    (Evidence("", one.step, 0.0, one.time_us, rank), Evidence("", newest, seconds, now_us)),
                )
                self.report(one.found)
            elif one.found is not None and behind <= one.stride:
                one.found = None
