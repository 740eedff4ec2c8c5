"""The `attempt` row that begins each journal segment: which attempt of the run writes here, and as which rank."""

from __future__ import annotations

from typing import NamedTuple

from lossbook.journal.line import Row
from lossbook.json_shapes import JsonMapping, JsonObject, text_or_none, whole_or_none
from lossbook.paths import FORMAT
from lossbook.run_info import Attempt, parse_attempt

#: What the row says beside the attempt.
_OF_THE_ROW = frozenset(("rank", "format", "continues", "spill", "imported", "monitor"))


class AttemptRow(NamedTuple):
    """The contents of an `attempt` row.

    Attributes:
        attempt: as in `run.json`; its command line, its commit and the time that it began stand there alone.
        rank: the writer's.
        continues: whether an earlier segment of the same attempt and rank came before this one.
        spill: the name of the spill file that the segment's rows waited in.
        imported: whether the rows come from another tracker, all of them written already.
        monitor: whether a follower writes here, beside the training.
    """

    attempt: Attempt
    rank: int
    format: int = FORMAT
    continues: bool = False
    spill: str | None = None
    imported: bool = False
    monitor: bool = False

    def to_json(self) -> JsonObject:
        """As it stands in the journal."""
        attempt = self.attempt
        written: JsonObject = {
            "format": self.format,
            "number": attempt.number,
            "rank": self.rank,
            "world_size": attempt.world_size,
            "resume_step": attempt.resume_step,
        }
        if not self.imported:
            written.update(
                host=attempt.host,
                pid=attempt.pid,
                process_start=attempt.process_start,
                boot=attempt.boot,
                pid_namespace=attempt.pid_namespace,
                launch=attempt.launch,
            )
        for name in ("monitor", "imported", "continues", "spill"):
            if said := getattr(self, name):
                written[name] = said
        return written

    def continued(self, spill: str | None = None) -> AttemptRow:
        """The same attempt's row in its next segment, which holds the rows of a spill file where one is named."""
        return self._replace(continues=True, spill=spill or self.spill)


def parse_attempt_row(values: JsonMapping) -> AttemptRow:
    """What an `attempt` row says."""
    return AttemptRow(
        attempt=parse_attempt({name: value for name, value in values.items() if name not in _OF_THE_ROW}),
        rank=whole_or_none(values.get("rank")) or 0,
        format=whole_or_none(values.get("format")) or FORMAT,
        continues=bool(values.get("continues")),
        spill=text_or_none(values.get("spill")),
        imported=bool(values.get("imported")),
        monitor=bool(values.get("monitor")),
    )


def attempt_of(row: Row | None) -> AttemptRow | None:
    """What the first row of a segment says of who writes it; None where that is no `attempt` row."""
    return parse_attempt_row(row.body) if row is not None and row.kind == "attempt" else None
