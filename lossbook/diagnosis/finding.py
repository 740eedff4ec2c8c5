"""One thing that is wrong with a run: what, where on which curve, how far beyond which limit, and the rows that show it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from lossbook.journal import encode_number
from lossbook.json_shapes import JsonObject
from lossbook.registry import DETECTORS


class Evidence(NamedTuple):
    """One value that was logged: `time_us` Unix time in µs, `rank` who logged it."""

    key: str
    step: int
    value: float
    time_us: int
    rank: int = 0


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong.

    `kind` is its detector's; `severity` "info", "warning" or "error"; `key` the curve that it is on (empty where the
    absence of rows is the matter); `first_step` and `last_step` the stretch of that curve, both included; `value` the
    worst value and `threshold` what it should have stayed within, in the key's unit, or in seconds and steps where the
    sentence says so; `evidence` a few of the rows that it was found in.
    """

    kind: str
    severity: str
    key: str
    first_step: int
    last_step: int
    value: float
    threshold: float
    sentence: str
    evidence: tuple[Evidence, ...] = ()

    @property
    def title(self) -> str:
        """A few words: the kind, and the key where there is one."""
        # Found by name, because detectors are written with this class.
        title = str(getattr(DETECTORS.load(self.kind), "title", self.kind)) if self.kind in DETECTORS else self.kind
        return f"{title}: {self.key}" if self.key else title

    @property
    def identity(self) -> tuple[str, str, int]:
        """What tells two findings apart; the end of one may still move."""
        return self.kind, self.key, self.first_step

    def plain(self) -> JsonObject:
        """As JSON has it, NaN and infinities as strings."""
        return {
            "kind": self.kind,
            "severity": self.severity,
            "key": self.key,
            "first_step": self.first_step,
            "last_step": self.last_step,
            "value": encode_number(self.value),
            "threshold": encode_number(self.threshold),
            "sentence": self.sentence,
            "evidence": [{**one._asdict(), "value": encode_number(one.value)} for one in self.evidence],
        }


#: Takes a finding when it is made, and again when its end, its worst value or its sentence has changed.
Report = Callable[[Finding], None]
#: Takes one value of one key: value, step, time (µs).
Take = Callable[[float, int, int], None]
