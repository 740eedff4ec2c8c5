"""What can go wrong with a training loss that is finite: spikes, divergence, a plateau."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace

from lossbook.diagnosis.detector import Detector
from lossbook.diagnosis.finding import Evidence, Finding, Report, Take
from lossbook.diagnosis.thresholds import Thresholds
from lossbook.diagnosis.windows import SortedWindow, median, sigma
from lossbook.formatting import number
from lossbook.metrics import find_key, is_training_loss

#: Rows between two looks at the window: the limit moves little meanwhile, and most rows cost one comparison.
_REFRESH_ROWS = 8
_EVIDENCE_BEFORE, _MOST_EVIDENCE = 3, 12


class _OnTrainingLoss(Detector, ABC):
    """A detector of the training loss of rank 0, under whichever of its names comes first."""

    def __init__(self, report: Report, limits: Thresholds) -> None:
        super().__init__(report, limits)
        self._key: str | None = None

    def watch(self, key: str, rank: int) -> Take | None:
        if rank != 0 or not is_training_loss(key, self.defined) or self._key not in (None, key):
            return None
        self._key = key
        return self.take

    @abstractmethod
    def take(self, value: float, step: int, time_us: int) -> None:
        """Look at one row of the loss."""


# -- spikes -------------------------------------------------------------------------------------------------------


class LossSpike(_OnTrainingLoss):
    """Rows far above the median of those before them, measured by their median absolute deviation.

    One row must stand out by far, several close together by less. Rows of a spike do not count as noise; when the
    loss does not come down again within a window, the new height is what later rows are measured by.
    """

    kind = "spike"
    title = "loss spike"
    is_of_curve = True

    def __init__(self, report: Report, limits: Thresholds) -> None:
        super().__init__(report, limits)
        self._window = SortedWindow(limits.spike_window_rows)
        self._fade = 0.5 ** (1 / limits.spike_tail_half_life_rows)
        self._tail = 0.0
        self._forget()

    def begin(self) -> None:
        self._window.clear()
        self._tail = 0.0
        self._forget()

    def _forget(self) -> None:
        self._until_refresh = 0
        self._median, self._several, self._single = 0.0, math.inf, math.inf
        self._rows: list[Evidence] = []  # of the spike under way
        self._count = 0
        self._calm = 0
        self._found: Finding | None = None

    def take(self, value: float, step: int, time_us: int) -> None:
        if value != value or value - value:  # NaN or infinite: another detector's
            return
        if value > self._several:
            self._over(value, step, time_us)
            return
        self._tail *= self._fade
        if value - self._median > self._tail and self._single < math.inf:
            self._tail = value - self._median
        self._window.add(value)
        if self._count:
            self._calm += 1
            if self._calm >= self.limits.spike_calm_rows:
                self._end_spike()
        self._until_refresh -= 1
        if self._until_refresh <= 0 and not self._count:
            self._refresh()

    def _refresh(self) -> None:
        self._until_refresh = _REFRESH_ROWS
        values, limits = self._window.values, self.limits
        if len(values) < limits.spike_least_rows:
            return
        self._median = centre = median(values)
        noise = sigma(values, centre)
        # At first a falling loss has its whole fall in the window; the tail is learned from rows around a median alone.
        usual = limits.spike_tail * self._tail
        self._several = centre + max(
            limits.spike_several_sigmas * noise, limits.spike_several_share * abs(centre), usual
        )
        self._single = centre + max(limits.spike_sigmas * noise, limits.spike_share * abs(centre), usual)

    def _over(self, value: float, step: int, time_us: int) -> None:
        one = Evidence(str(self._key), step, value, time_us)
        self._count += 1
        self._calm = 0
        if len(self._rows) < _MOST_EVIDENCE or value > max(row.value for row in self._rows):
            self._rows = [*self._rows[: _MOST_EVIDENCE - 1], one]
        if self._found is None:
            if value <= self._single and self._count < self.limits.spike_several_rows:
                return
            limit = self._single if value > self._single else self._several
        else:
            limit = self._found.threshold
        first, peak = self._rows[0], max(self._rows, key=lambda row: row.value)
        self._found = Finding(
            self.kind,
            "warning",
            str(self._key),
            first.step,
            step,
            peak.value,
            limit,
            f"{self._key} jumps from {number(self._median, 4)} to {number(peak.value, 4)} at step {peak.step} "
            f"({self._count} row{'s' if self._count > 1 else ''} from step {first.step})",
            tuple(self._rows),
        )
        self.report(self._found)
        if self._count >= self.limits.spike_window_rows:
            self.report(replace(self._found, sentence=f"{self._found.sentence}, and stays there"))
            self.begin()

    def _end_spike(self) -> None:
        self._rows, self._count, self._calm, self._found = [], 0, 0, None
        self._refresh()


# -- divergence ---------------------------------------------------------------------------------------------------


class Divergence(_OnTrainingLoss):
    """The loss has gone up for good: medians of blocks of rows lose again what had been learned.

    A loss that can be negative says nothing by its height, and is left alone.
    """

    kind = "divergence"
    title = "divergence"
    is_of_curve = True

    def __init__(self, report: Report, limits: Thresholds) -> None:
        super().__init__(report, limits)
        self.begin()

    def begin(self) -> None:
        self._block: list[Evidence] = []
        self._first: float | None = None
        self._best = math.inf
        self._best_step = 0
        self._recent = SortedWindow(self.limits.divergence_best_blocks)
        self._noise = 0.0  # a mean over blocks, of sigma of single rows
        self._blocks = 0
        self._risen: list[Evidence] = []  # the first row of each block too high, in a row
        self._found: Finding | None = None
        self._is_off = False

    def take(self, value: float, step: int, time_us: int) -> None:
        if self._is_off or value - value:  # NaN or infinite: another detector's
            return
        if value < 0:
            self._is_off = True
            return
        self._block.append(Evidence(str(self._key), step, value, time_us))
        if len(self._block) == self.limits.divergence_block_rows:
            self._judge(self._block)
            self._block = []

    def _judge(self, block: list[Evidence]) -> None:
        limits = self.limits
        values = sorted(one.value for one in block)
        height = median(values)
        if self._first is None:
            self._first = height
        gain = max(0.0, self._first - self._best) if self._blocks else 0.0
        rise = max(
            limits.divergence_share_of_gain * gain,
            limits.divergence_share * abs(self._best),
            limits.divergence_sigmas * self._noise,
        )
        if self._blocks > limits.divergence_blocks and height > self._best + rise:
            if len(self._risen) < limits.divergence_blocks:
                self._risen.append(block[0])
            if len(self._risen) == limits.divergence_blocks:
                self._say(block[-1], max(values[-1], height), height, rise)
            return
        self._risen, self._found = [], None
        self._blocks += 1
        spread = sigma(values, height)
        self._noise += (spread - self._noise) / min(self._blocks, 20) if math.isfinite(spread) else 0.0
        # The lowest of ten thousand blocks is low by chance; the lowest median of several is not.
        self._recent.add(height)
        settled = median(self._recent.values)
        if settled < self._best:
            self._best, self._best_step = settled, block[-1].step

    def _say(self, last: Evidence, worst: float, height: float, rise: float) -> None:
        first = self._risen[0].step if self._found is None else self._found.first_step
        worst = worst if self._found is None else max(worst, self._found.value)
        evidence = (*self._risen, last)
        self._found = Finding(
            self.kind,
            "error",
            str(self._key),
            first,
            last.step,
            worst,
            self._best + rise,
            f"{self._key} has diverged: {number(self._best, 4)} at its best (step {self._best_step}), above "
            f"{number(self._best + rise, 4)} from step {first} on, {number(height, 4)} at step {last.step}",
            evidence,
        )
        self.report(self._found)


# -- plateau ------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Block:
    first: Evidence
    last_step: int
    sum: float
    rows: int


_MOST_BLOCKS = 64
_FIRST_BLOCK_ROWS = 16


class Plateau(_OnTrainingLoss):
    """The loss has not fallen over the last half of the run, though the learning rate is up.

    The whole run is kept as 32 to 64 means of blocks, which double in length as it grows; a line is fitted through
    the last half of them. A rate that has been lowered on purpose, or still rises, is no matter of a plateau; nor is a
    loss that surely falls as a power law does: from one doubling of the steps to the next, falls shrink by half at most.
    """

    kind = "plateau"
    title = "plateau"
    is_of_curve = True

    def __init__(self, report: Report, limits: Thresholds) -> None:
        super().__init__(report, limits)
        self.begin()

    def begin(self) -> None:
        self._blocks: list[_Block] = []
        self._block_rows = _FIRST_BLOCK_ROWS
        self._block: _Block | None = None
        self._rows = 0
        self._rate = self._peak_rate = 0.0
        self._peak_step = -1
        self._found: Finding | None = None
        self._is_off = False

    def watch(self, key: str, rank: int) -> Take | None:
        if rank == 0 and find_key("learning_rate", (key,)) is not None:
            return self._take_rate
        return super().watch(key, rank)

    def _take_rate(self, value: float, step: int, time_us: int) -> None:
        self._rate = value
        if value > self._peak_rate:
            self._peak_rate, self._peak_step = value, step

    def take(self, value: float, step: int, time_us: int) -> None:
        if self._is_off or value - value:
            return
        if value < 0:
            self._is_off = True
            return
        self._rows += 1
        block = self._block
        if block is None:
            self._block = block = _Block(Evidence(str(self._key), step, value, time_us), step, 0.0, 0)
        block.last_step = step
        block.sum += value
        block.rows += 1
        if block.rows == self._block_rows:
            self._blocks.append(block)
            self._block = None
            if self._rows >= self.limits.plateau_least_rows:
                self._judge()
            if len(self._blocks) == _MOST_BLOCKS:
                self._halve()

    def _halve(self) -> None:
        pairs = zip(self._blocks[::2], self._blocks[1::2], strict=True)
        self._blocks = [
            _Block(one.first, other.last_step, one.sum + other.sum, one.rows + other.rows) for one, other in pairs
        ]
        self._block_rows *= 2

    def _judge(self) -> None:
        limits = self.limits
        half = self._blocks[len(self._blocks) // 2 :]
        start, end = half[0].first.step, half[-1].last_step
        if self._peak_rate > 0 and (
            self._rate < limits.plateau_least_rate * self._peak_rate or self._peak_step >= start
        ):
            self._found = None
            return
        means = _means(half)
        level = sum(means) / len(means)
        fall, error = _fall(means)
        most = limits.plateau_share * level
        if self._found is not None and fall - 2 * error > most:
            self._found = None
        if level <= 0 or self._goes_on(means, fall, error) or (self._found is None and fall + 2 * error >= most):
            return
        first = start if self._found is None else self._found.first_step
        shown = tuple(
            Evidence(one.first.key, one.first.step, mean, one.first.time_us)
            for one, mean in list(zip(half, means, strict=True))[:: max(1, len(half) // 6)]
        )
        share = 100 * fall / level if level else 0.0
        self._found = Finding(
            self.kind,
            "warning",
            str(self._key),
            first,
            end,
            level,
            limits.plateau_share,
            f"{self._key} has stayed at {number(level, 4)} since step {first} ({number(max(share, 0.0), 2)}% lower at "
            f"step {end}), though the learning rate has not come down",
            shown,
        )
        self.report(self._found)

    def _goes_on(self, means: list[float], fall: float, error: float) -> bool:
        """Whether the last half is no level at all: it falls, however slowly, as it did before, or goes down and up again."""
        limits, level = self.limits, sum(means) / len(means)
        third = len(means) // 3
        parts = (means[:third], means[third:-third], means[-third:])
        heights = [sum(part) / len(part) for part in parts]
        if max(heights) - min(heights) > limits.plateau_share * level:
            return True
        # Noise alone makes a line fall by two standard errors once in forty times; a tiny fall in a long run is as flat.
        if fall - 2 * error <= limits.plateau_least_share * level:
            return False
        count = len(self._blocks)
        before, _ = _fall(_means(self._blocks[count // 4 : count // 2]))
        return fall > limits.plateau_slowing * before


def _means(blocks: list[_Block]) -> list[float]:
    return [one.sum / one.rows for one in blocks]


def _fall(means: list[float]) -> tuple[float, float]:
    """How far a straight line through `means` falls from the first to the last, and the standard error of that."""
    count = len(means)
    centre, level = (count - 1) / 2, sum(means) / count
    spread = sum((at - centre) ** 2 for at in range(count))
    slope = sum((at - centre) * (value - level) for at, value in enumerate(means)) / spread
    rest = sum((value - level - slope * (at - centre)) ** 2 for at, value in enumerate(means))
    error = math.sqrt(rest / max(1, count - 2) / spread)
    return -slope * (count - 1), error * (count - 1)
