"""What a training says of its run besides rows of scalars: definitions of metrics, alerts, checkpoints, stages and notes.

Each call is one row of its kind. A word that is not known raises nothing: a warning says so, and the row is recorded
without it, or with the usual one.
"""

from __future__ import annotations

import os
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping

from lossbook.paths import absolute_path
from lossbook.run.text import shown, text_of

GOALS = ("minimize", "maximize")
LEVELS = ("info", "warning", "error")


class RunEvents(ABC):
    """What `Run` inherits from; how a row is recorded, and at which step, is `Run`'s."""

    def __init__(self) -> None:
        self._alerted: dict[str, float] = {}  # by title: when the last one was recorded, on the monotonic clock

    @abstractmethod
    def warn(self, key: str, sentence: str, *, step: int | None = None) -> None:
        """Say a sentence once for its key."""

    @abstractmethod
    def record_event(self, kind: str, value: Mapping[str, object], *, step: int | None = None) -> None:
        """Record a row of that kind."""

    @abstractmethod
    def _step_or_last(self, step: int | None) -> int | None:
        """A step as it is recorded; the last row's where it is None."""

    def define_metric(
        self,
        name: str,
        step_metric: str | None = None,
        step_sync: bool | None = None,
        hidden: bool | None = None,
        summary: str | None = None,
        *,
        x: str | None = None,
        goal: str | None = None,
        unit: str | None = None,
        role: str | None = None,
        overwrite: bool | None = None,
    ) -> None:
        """Say how a metric is to be read.

        Args:
            name: a key, or a pattern such as "val/*".
            x: the metric or axis to draw it against.
            goal: "minimize" or "maximize": which of two runs is better.
            unit: what to write behind its numbers.
            role: "step_time", "speed", "train_loss", "val_loss" or "test_loss", where its name does not tell: the
                diagnosis compares ranks by what is a step's time, and watches what is the training loss.
            step_metric: W&B's name of `x`.
            summary, hidden: for the W&B mirror: which of "min", "max", "mean", "last" its pages show; of our own
                every metric has all of them.
            step_sync, overwrite: taken as W&B takes them, without a meaning here.
        """
        if goal is not None and goal not in GOALS:
            self.warn("goal", f"goal={shown(goal)} is not known: use one of {', '.join(GOALS)}")
            goal = None
        if role is not None:
            from lossbook.metrics import DEFINABLE_ROLES

            if role not in DEFINABLE_ROLES:
                self.warn("role", f"role={shown(role)} is not known: use one of {', '.join(DEFINABLE_ROLES)}")
                role = None
        x = x if x is not None or step_metric is None else text_of(step_metric)
        said: dict[str, str | bool | None] = {
            "pattern": text_of(name),
            "x": x,
            "goal": goal,
            "unit": unit,
            "role": role,
        }
        said |= {"summary": summary, "hidden": hidden}
        self.record_event("define", {key: part for key, part in said.items() if part is not None})

    def alert(self, title: str, text: str = "", level: str | None = "warning", wait_duration: object = None) -> None:
        """Record an alert; followers carry it to where alerts go.

        Args:
            level: "info", "warning" or "error".
            wait_duration: seconds or a `timedelta` in which no second alert of that title is recorded.
        """
        if self._is_too_soon(text_of(title), wait_duration):
            return
        level = text_of(level or "warning").lower().replace("warn", "warning").replace("warninging", "warning")
        if level not in LEVELS:
            self.warn("level", f"level={shown(level)} is not known: use one of {', '.join(LEVELS)}")
            level = "warning"
        self.record_event(
            "alert", {"title": text_of(title), "text": text_of(text), "level": level}, step=self._step_or_last(None)
        )

    def _is_too_soon(self, title: str, wait_duration: object) -> bool:
        """Whether the last alert of that title is not so long ago: seconds, or a `timedelta`."""
        convert = getattr(wait_duration, "total_seconds", None)
        seconds = convert() if callable(convert) else wait_duration
        now = time.monotonic()
        last = self._alerted.get(title)
        if last is not None and isinstance(seconds, (int, float)) and now - last < seconds:
            return True
        self._alerted[title] = now
        return False

    def checkpoint(self, path: object, *, step: int | None = None, is_best: bool = False) -> None:
        """Mark on the curves that a checkpoint was written at `step` (None: the last one)."""
        where = absolute_path(os.fsdecode(path)) if isinstance(path, (str, os.PathLike)) else text_of(path)
        self.record_event("checkpoint", {"path": where, "is_best": bool(is_best)}, step=self._step_or_last(step))

    def stage(self, name: str, *, step: int | None = None) -> None:
        """Mark on the curves that another stage of training begins at `step` (None: the last one)."""
        self.record_event("stage", {"name": text_of(name)}, step=self._step_or_last(step))

    def note(self, text: str) -> None:
        """Record a note at the current step."""
        self.record_event("note", {"text": text_of(text)}, step=self._step_or_last(None))
