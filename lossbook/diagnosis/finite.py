"""NaN and infinity: which key was first, at which step, and which followed."""

from __future__ import annotations

import math
from collections.abc import Set
from dataclasses import dataclass, replace

from lossbook.diagnosis.detector import Detector
from lossbook.diagnosis.finding import Evidence, Finding, Report
from lossbook.diagnosis.thresholds import Thresholds
from lossbook.formatting import number
from lossbook.metrics import is_loss

#: Keys that are followed at once; a run in which more go bad has said enough.
_MOST_KEYS = 1000
_MOST_EVIDENCE = 12


@dataclass(slots=True)
class _Series:
    """A key whose last value was not finite."""

    rows: int
    first: Evidence
    last: Evidence


class NonFinite(Detector):
    """Finds values that are not finite. It is given only rows that have one.

    One finding tells of all keys that went bad together: it stands on the one that was first. A loss counts at once,
    every other key after some rows in a row (loss scaling overflows on purpose), and if it was finite before (a key
    that always is NaN marks something that was not measured).
    """

    kind = "nonfinite"
    title = "not finite"
    is_of_curve = True

    def __init__(self, report: Report, limits: Thresholds) -> None:
        super().__init__(report, limits)
        self._bad: dict[tuple[int, str], _Series] = {}
        self._open: Finding | None = None
        self._keys: list[str] = []

    @property
    def is_watching(self) -> bool:
        """Whether a key is not finite now, so that rows without such values matter as well."""
        return bool(self._bad)

    def take(self, rank: int, body: dict[str, float], step: int, time_us: int, *, was_finite: Set[str]) -> None:
        """Take one row of scalars.

        Args:
            was_finite: keys of that rank that have had a finite value before.
        """
        for key, value in body.items():
            if math.isfinite(value):
                if self._bad:
                    self._bad.pop((rank, key), None)
                continue
            if value > 0 and _is_perplexity(key):
                continue  # exp of a loss that is finite itself
            one = Evidence(key, step, value, time_us, rank)
            series = self._bad.get((rank, key))
            if series is None:
                if len(self._bad) >= _MOST_KEYS or not (key in was_finite or is_loss(key)):
                    continue
                series = self._bad[rank, key] = _Series(0, one, one)
            series.rows += 1
            series.last = one
            if is_loss(key) or series.rows >= self.limits.nonfinite_rows:
                self._confirm(key)
        if self._open is not None and not self._bad:
            self._open = None

    def begin(self) -> None:
        self._bad.clear()
        self._open = None

    def begin_stage(self) -> None:
        """What is not finite does not become so anew by another stage."""

    def _confirm(self, key: str) -> None:
        series = sorted(self._bad.values(), key=lambda one: one.first.time_us)
        first, last = series[0].first, max((one.last for one in series), key=lambda one: one.step)
        if self._open is None:
            self._keys = []
        elif key in self._keys and last.step == self._open.last_step:
            return
        self._keys = list(dict.fromkeys([*self._keys, *(one.first.key for one in series)]))[:_MOST_EVIDENCE]
        others = [one for one in self._keys if one != (self._open.key if self._open else first.key)]
        if self._open is None:
            self._open = Finding(
                "nonfinite",
                "error",
                first.key,
                first.step,
                last.step,
                first.value,
                math.inf,
                "",
                tuple(one.first for one in series[:_MOST_EVIDENCE]),
            )
        elif len(others) + 1 > len(self._open.evidence):
            known = {one.key for one in self._open.evidence}
            added = tuple(one.first for one in series if one.first.key not in known)
            self._open = replace(self._open, evidence=(*self._open.evidence, *added)[:_MOST_EVIDENCE])
        start = self._open.evidence[0]
        followed = f"; then {', '.join(others[:4])}{' and more' if len(others) > 4 else ''}" if others else ""
        self._open = replace(
            self._open,
            last_step=max(last.step, self._open.last_step),
            sentence=f"{start.key} is {number(start.value)} at step {start.step}{_of(start.rank)}, "
            f"the first that is not finite{followed}",
        )
        self.report(self._open)


def _of(rank: int) -> str:
    return f" on rank {rank}" if rank > 0 else ""


def _is_perplexity(key: str) -> bool:
    return "perplexity" in key or key.rsplit("/", 1)[-1].rsplit("_", 1)[-1] == "ppl"
