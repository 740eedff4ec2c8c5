"""The experiments of a store, as if each had a log: its history is read from the run when it is asked for."""

from __future__ import annotations

import datetime
import os
from collections.abc import Mapping

from lossbook.errors import BadArgument
from lossbook.lm.config import FIELDS, ExperimentConfig
from lossbook.lm.config_fields import SAME, check
from lossbook.lm.log import ExperimentLog
from lossbook.lm.snapshots import MetricsSnapshot, snapshots_of
from lossbook.metrics import find_key


class StoredLog(ExperimentLog):
    """An experiment in a store: its history is read when it is asked for."""

    _read: list[MetricsSnapshot] | None = None

    def __getattribute__(self, name: str) -> object:
        if name != "metrics_history":
            return super().__getattribute__(name)
        if self._read is None:
            self._read = list(snapshots_of(self.path))
        return self._read


def logs_of_store(store: str | os.PathLike[str]) -> list[ExperimentLog]:
    """A log for each run of a store, from what the list of runs has."""
    from lossbook.book import Book

    found: list[ExperimentLog] = []
    for run in Book(store).runs():
        config = ExperimentConfig.from_dict({**_allowed(run.config), "experiment_name": run.name}, unknown="keep")
        train, val = (run.metrics.get(find_key(key, run.metrics) or "", {}) for key in ("train/loss", "val/loss"))
        hours = run.metrics.get("time/wallclock_hours", {}).get("last")
        log = StoredLog(
            config=config,
            start_time=datetime.datetime.fromtimestamp(run.created).isoformat(),
            end_time=datetime.datetime.fromtimestamp(run.ended).isoformat() if run.ended else None,
            duration_seconds=run.duration if hours is None else hours * 3600,
            best_train_loss=train.get("min"),
            best_val_loss=val.get("min"),
            final_train_loss=train.get("last"),
            final_val_loss=val.get("last"),
            notes=run.notes or "",
            run={"id": run.id, "project": run.project, "path": run.path},
            path=run.path,
        )
        found.append(log)
    return found


def _allowed(values: Mapping[str, object]) -> dict[str, object]:
    """A run's configuration without what the fields of `ExperimentConfig` would refuse."""
    kept: dict[str, object] = {}
    for name, value in values.items():
        if name in FIELDS:
            try:
                check(name, value)
            except BadArgument:
                kept[f"{name}_as_recorded"] = value
                continue
        kept[name] = value
    for name, other in SAME.items():
        if None not in (kept.get(name), kept.get(other)) and check(name, kept[name]) != check(other, kept[other]):
            kept[f"{other}_as_recorded"] = kept.pop(other)
    return kept
