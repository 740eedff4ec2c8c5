"""How far a run's file for W&B has come: what going on behind its last record needs, as the mirror notes it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from lossbook.json_shapes import JsonObject, counts_of, object_or_empty, texts_of, whole_or_none
from lossbook.trackers.wandb import mirror_records as records

if TYPE_CHECKING:
    from wandb.proto.wandb_internal_pb2 import Record


@dataclass
class PendingRow:
    """Rows of one step that have no record yet: the next row may belong to the same step.

    Attributes:
        values: JSON text by series.
        rows: by rank the last row in here.
        count: how many rows.
    """

    step: int | None
    time_us: int
    values: dict[str, str] = field(default_factory=dict)
    rows: dict[str, int] = field(default_factory=dict)
    count: int = 0


@dataclass
class MirrorState:
    """What the records so far came to.

    Attributes:
        number: of the last record.
        history_rows: rows of W&B's history so far.
        remote_step: W&B's own step of the last of them, which only rises.
        logged_step: the training's step of it.
        console_bytes: how much of the console is in the file.
        time_us: of the newest row.
        own: what the training itself set in the summary.
        held: by rank the last row that was taken.
        pending: rows without a record.
    """

    time_us: int
    number: int = 0
    history_rows: int = 0
    remote_step: int = -1
    logged_step: int = 0
    console_bytes: int = 0
    own: set[str] = field(default_factory=set)
    held: dict[int, int] = field(default_factory=dict)
    pending: PendingRow | None = None

    @property
    def pending_count(self) -> int:
        return self.pending.count if self.pending else 0

    def to_json(self) -> JsonObject:
        return {
            "number": self.number,
            "history_rows": self.history_rows,
            "remote_step": self.remote_step,
            "logged_step": self.logged_step,
            "console": self.console_bytes,
            "time_us": self.time_us,
            "own": [*sorted(self.own)],
            "held": {str(rank): i for rank, i in self.held.items()},
            "pending": asdict(self.pending) if self.pending else None,
        }

    @classmethod
    def parse(cls, noted: JsonObject) -> MirrorState:
        """What `to_json` gave."""

        def number(name: str) -> int:
            return whole_or_none(noted.get(name)) or 0

        pending = object_or_empty(noted.get("pending"))
        texts = object_or_empty(pending.get("values"))
        return cls(
            number("time_us"),
            number("number"),
            number("history_rows"),
            number("remote_step"),
            number("logged_step"),
            number("console"),
            set(texts_of(noted.get("own"))),
            {int(rank): i for rank, i in counts_of(noted.get("held")).items()},
            PendingRow(
                whole_or_none(pending.get("step")),
                whole_or_none(pending.get("time_us")) or 0,
                {name: value for name, value in texts.items() if isinstance(value, str)},
                counts_of(pending.get("rows")),
                whole_or_none(pending.get("count")) or 0,
            )
            if pending
            else None,
        )

    def follow(self, record: Record) -> dict[str, str]:
        """Take in a record that was written behind the last note; returns the values of a row of the history."""
        self.number = record.num
        values: dict[str, str] = {}
        if record.HasField("history"):
            values = {item.nested_key[0]: item.value_json for item in record.history.item if item.nested_key}
            self.remote_step, self.logged_step = record.history.step.num, int(values[records.STEP])
            self.history_rows += 1
            self.pending = None
        elif record.uuid and record.HasField("summary"):
            self.own.update(item.nested_key[0] for item in record.summary.update)
        for one in record.uuid.partition("|")[0].split(","):
            who, _, number = one.partition(":")
            if who == "console":
                self.console_bytes = int(number)
            elif number:
                self.held[int(who)] = max(self.held.get(int(who), -1), int(number))
        return values
