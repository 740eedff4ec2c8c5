"""What a training loop has done so far: gradient steps, tokens, seconds. Exact across accumulation and attempts."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import SupportsFloat, SupportsInt

from lossbook.json_shapes import JsonObject


@dataclass
class Progress:
    """Counts of a whole run, earlier attempts included.

    Attributes:
        iteration: of the last logged row; -1 before the first.
        gradient_steps: updates of the parameters.
        tokens_seen: over all ranks.
        wallclock_seconds: that the training processes ran until this one began; gaps between them left out.
        started: when the first attempt began, Unix seconds; 0 while that is not known.
        validations: how many were logged.
    """

    iteration: int = -1
    gradient_steps: int = 0
    tokens_seen: int = 0
    wallclock_seconds: float = 0.0
    started: float = 0.0
    validations: int = 0

    def plain(self) -> JsonObject:
        return asdict(self)

    @classmethod
    def read(cls, values: Mapping[str, object]) -> Progress:
        """From what `plain()` gave; what is missing keeps its default.

        Raises:
            TypeError, ValueError, OverflowError: one of them is no number.
        """
        return cls(
            iteration=whole_of(values.get("iteration"), -1),
            gradient_steps=whole_of(values.get("gradient_steps")),
            tokens_seen=whole_of(values.get("tokens_seen")),
            wallclock_seconds=number_of(values.get("wallclock_seconds")),
            started=number_of(values.get("started")),
            validations=whole_of(values.get("validations")),
        )


def number_of(value: object, default: float = 0.0) -> float:
    """A number that a checkpoint kept; the default for None.

    Raises:
        TypeError, ValueError, OverflowError: it is none.
    """
    if value is None:
        return default
    if not isinstance(value, (str, SupportsFloat)):
        raise TypeError(f"{value!r} is no number")
    return float(value)


def whole_of(value: object, default: int = 0) -> int:
    """A whole number that a checkpoint kept; the default for None.

    Raises:
        TypeError, ValueError, OverflowError: it is none.
    """
    if value is None:
        return default
    if not isinstance(value, (str, SupportsInt)):
        raise TypeError(f"{value!r} is no number")
    return int(value)


class GradientSteps:
    """Tells from the calls of a training loop when a gradient step was taken.

    A loop may call once per micro-batch (with its number within the step, from 0 or from 1) or once per gradient
    step (with or without such a number). A step is over with the last micro-batch of its cycle. A cycle that breaks
    off, as the last one of an epoch may, is a step too: it is counted when the next one begins. A loop that gives one
    and the same number again and again calls once per step.

    Args:
        accumulation: micro-batches of one gradient step, as configured.
    """

    def __init__(self, accumulation: int = 1) -> None:
        self.accumulation = accumulation
        self._previous: int | None = None
        self._base = 0
        self._open = False  # micro-batches were seen whose step has not been counted
        self._climbs = False  # a number was higher than the one before: these are micro-batches
        self._once_per_step = False

    def taken(self, accumulation_step: int | None) -> int:
        """How many gradient steps this call completes (0 or 1; 2 where an earlier one shows only now)."""
        if accumulation_step is None or self._once_per_step:
            return 1
        previous, self._previous = self._previous, accumulation_step
        if previous is None and accumulation_step == 1 and self.accumulation > 1:
            self._base = 1
        self._base = min(self._base, accumulation_step)
        begins = previous is None or accumulation_step <= previous
        if self.accumulation <= 1:
            # Not configured: the first micro-batch of each cycle stands for its step.
            return 1 if begins else 0
        count = 0
        if begins:
            if self._open and accumulation_step == previous and not self._climbs:
                self._once_per_step = True
                self._open = False
                return 2
            count = int(self._open)
            self._open = True
        else:
            self._climbs = True
        if self._open and accumulation_step - self._base >= self.accumulation - 1:
            self._open = False
            count += 1
        return count

    def plain(self) -> JsonObject:
        """What a checkpoint keeps."""
        return {"base": self._base, "climbs": self._climbs, "once_per_step": self._once_per_step}

    def restore(self, values: Mapping[str, object]) -> None:
        """Go on from what `plain()` gave, with a new cycle: the gradient of one that was cut off is gone."""
        self._previous, self._open = None, False
        self._base = whole_of(values.get("base"))
        self._climbs = bool(values.get("climbs", False))
        self._once_per_step = bool(values.get("once_per_step", False))


class TrainingClock:
    """Splits the time of a training loop into training and everything else (validation, checkpoints).

    Times are of a monotonic clock, in seconds. Where a loop says after the fact that it has validated, the time
    since it was last heard of counts as that.
    """

    def __init__(self) -> None:
        now = time.monotonic()
        self.begun = now
        self._heard = now
        self._training_since = now
        self._left_out = 0.0
        self._inside: list[float] = []  # when each of the nested stretches began
        self._said_inside = False
        self._last_inside: float | None = None

    def restart(self) -> None:
        """Begin to count now."""
        self.__init__()  # type: ignore[misc]

    @property
    def wallclock_seconds(self) -> float:
        """Since the beginning, all included."""
        return time.monotonic() - self.begun

    def trained(self) -> float:
        """A training step was logged; returns the seconds of training since the one before."""
        now = time.monotonic()
        seconds = max(0.0, now - self._training_since - self._left_out)
        self._training_since = self._heard = now
        self._left_out = 0.0
        self._last_inside = None
        return seconds

    def enter(self) -> None:
        """Something else than training begins."""
        self._inside.append(time.monotonic())
        self._said_inside = False

    def leave(self) -> None:
        """It has ended."""
        now = time.monotonic()
        begun = self._inside.pop()
        if not self._inside:
            self._left_out += now - max(begun, self._training_since)
        # What was said to have taken place inside has its seconds already.
        self._last_inside = None if self._said_inside else now - begun
        self._said_inside = False
        self._heard = now

    def interrupted(self) -> float:
        """Something else than training is said to have taken place; returns its seconds."""
        now = time.monotonic()
        if self._inside:
            self._said_inside = True
            return now - self._inside[-1]
        if self._last_inside is not None:
            seconds, self._last_inside = self._last_inside, None
            return seconds
        seconds = now - self._heard
        self._left_out += seconds
        self._heard = now
        return seconds


class ManualStepCount:
    """For loops that count their gradient steps themselves, and log a row for each iteration: which step is a row of?

    A loop may count before it logs or after. With a step for each iteration the iteration tells; with accumulation the
    first count does: it comes with the last row of a cycle behind it, or before it.

    Args:
        accumulation: iterations of one gradient step, as configured.
    """

    def __init__(self, accumulation: int = 1) -> None:
        self._accumulation = accumulation
        self.used = False
        self._rows = 0
        self._first_rows: int | None = None  # rows that stood before the first count
        self._before: bool | None = None
        self._counted_since_row = False

    def count(self) -> None:
        """A gradient step was counted."""
        if self._before is None:
            if not self.used:
                self._first_rows = self._rows
                if self._rows == 0:
                    self._before = True
                elif self._accumulation > 1:
                    self._before = self._rows % self._accumulation == self._accumulation - 1
            elif self._first_rows is not None:
                self._before = self._first_rows == self._rows - self._first_rows - 1
        self.used = self._counted_since_row = True

    def step_of(self, iteration: int, counted: int) -> int:
        """The gradient step, from 1, that the row of an iteration belongs to; call it once for each row.

        Args:
            counted: gradient steps so far.
        """
        fresh, self._counted_since_row = self._counted_since_row, False
        self._rows += 1
        if self._before:
            return counted if fresh else counted + 1
        return counted if counted == iteration + 1 and self._accumulation <= 1 else counted + 1

    def plain(self) -> JsonObject:
        """What a checkpoint keeps."""
        return {
            "used": self.used,
            "rows": self._rows,
            "first_rows": self._first_rows,
            "before": self._before,
            "counted_since_row": self._counted_since_row,
        }

    def restore(self, values: Mapping[str, object]) -> None:
        """Go on from what `plain()` gave."""
        self.used = bool(values.get("used", False))
        self._rows = whole_of(values.get("rows"))
        first, before = values.get("first_rows"), values.get("before")
        self._first_rows = whole_of(first) if first is not None else None
        self._before = bool(before) if before is not None else None
        self._counted_since_row = bool(values.get("counted_since_row", False))
