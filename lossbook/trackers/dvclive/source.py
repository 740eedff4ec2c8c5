"""DVCLive's folders: a table for each metric, `params.yaml`, and the last values in `metrics.json`."""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Iterator
from typing import ClassVar

from lossbook.errors import StoreError
from lossbook.json_shapes import JsonObject, counts_of, object_or_empty
from lossbook.paths import safe_name
from lossbook.trackers.logs.log import Log
from lossbook.trackers.logs.table_format import Table
from lossbook.trackers.logs.values import moment_of, number_of, whole_of
from lossbook.trackers.series import Point, together
from lossbook.trackers.source import ForeignRow, ForeignRun, Rewritten, Source, scheme_of

_METRICS = os.path.join("plots", "metrics")


class DvcLiveFolders(Source):
    """A folder that DVCLive wrote, or one with several of them somewhere in it."""

    kind: ClassVar[str] = "dvclive"
    title: ClassVar[str] = "DVCLive"
    gpu_advice: ClassVar[str] = "where it trains, call Live(monitor_system=True)"
    tells_last_values: ClassVar[bool] = False
    lacks: ClassVar[tuple[str, ...]] = (
        "Images and plots stay where they are.",
        "DVCLive keeps times only with log_metric(timestamp=True), and does not say how a run ended: it counts as finished.",
    )

    @classmethod
    def matches(cls, location: str) -> bool:
        if scheme_of(location):
            return scheme_of(location) == cls.kind
        if os.path.isdir(location):
            return os.path.isdir(os.path.join(location, _METRICS))
        # Where DVCLive's folder lies somewhere in another, the files beside `plots` tell.
        beside = os.path.join(os.path.dirname(location), _METRICS)
        return os.path.basename(location) in ("metrics.json", "params.yaml") and os.path.isdir(beside)

    def __init__(self, location: str) -> None:
        super().__init__(location)
        self.path = os.path.abspath(location.removeprefix("dvclive://"))
        if os.path.isfile(self.path):
            self.path = os.path.dirname(self.path)
        if not os.path.isdir(self.path):
            raise StoreError(f"there is no folder {self.path}: name the one that DVCLive writes to")

    @property
    def address(self) -> str:
        return self.path

    def runs(self) -> Iterator[ForeignRun]:
        with_plots = [root for root, folders, _ in os.walk(self.path) if "plots" in folders]
        made = [run for root in with_plots if (run := self._make_run(root)) is not None]
        if not made:
            raise StoreError(f"there are no tables of metrics (plots/metrics/*.tsv) in {self.path}")
        yield from sorted(made, key=lambda run: run.created, reverse=True)

    def _make_run(self, folder: str) -> ForeignRun | None:
        files = sorted(_tables(os.path.join(folder, _METRICS)))
        if not files:
            return None
        status = [os.stat(path) for path in files]
        stamps = [stamp for path in files if (stamp := _first_time(path)) is not None]
        relative = os.path.relpath(folder, self.path)
        is_itself = relative == "."
        name = os.path.basename(self.path) if is_itself else relative.replace(os.sep, "/").removesuffix("/dvclive")
        project = os.path.basename(os.path.dirname(self.path) if is_itself else self.path)
        digest = hashlib.sha256(os.fsencode(os.path.abspath(folder))).hexdigest()[:8]
        sizes = [(path, one.st_size) for path, one in zip(files, status, strict=True)]
        return ForeignRun(
            id=f"{safe_name(name.replace('/', '-'))[:60]}-{digest}",
            name=name,
            project=project or "dvclive",
            created=min(stamps) if stamps else min(one.st_mtime for one in status),
            version=hashlib.sha256(repr(sizes).encode("utf-8", "replace")).hexdigest()[:16],
            config=_params(os.path.join(folder, "params.yaml")),
            origin={"folder": folder},
            place=tuple(files),
        )

    def rows(self, run: ForeignRun, start: int = 0) -> Iterator[ForeignRow]:
        found = self._rows(run)
        return itertools.islice(found, start, None) if run.after is None else found

    def _rows(self, run: ForeignRun) -> Iterator[ForeignRow]:
        assert isinstance(run.place, tuple)
        folder = os.path.join(str(run.origin["folder"]), _METRICS)
        offsets = counts_of(object_or_empty(run.after).get("files"))
        series: dict[str, Iterator[Point]] = {}
        for path in run.place:
            key = os.path.relpath(path, folder).replace(os.sep, "/").removesuffix(".tsv")
            if os.path.getsize(path) < offsets.get(key, 0):
                raise Rewritten(f"{path} is shorter than it was: it was written anew since the last import")
            series[key] = _points(path, run, offsets.get(key, 0))
        for row in together(series):
            offsets = {**offsets, **row.places}
            files: JsonObject = dict(offsets)
            yield ForeignRow(row.time_us, row.step, None, None, row.values, place={"files": files})


def _tables(folder: str) -> Iterator[str]:
    for root, _, names in os.walk(folder):
        yield from (os.path.join(root, name) for name in names if name.endswith(".tsv"))


def _points(path: str, run: ForeignRun, offset: int) -> Iterator[Point]:
    """The values of a table behind an offset: its columns are step, perhaps timestamp, and the metric's own."""
    for entry in Table().entries(Log(path, Table.kind), offset, []):
        named = [name for name in entry.values if name not in ("step", "timestamp")]
        step = whole_of(entry.values.get("step"))
        value = number_of(entry.values[named[0]]) if named else None
        if step is None or value is None:
            continue
        moment = moment_of(entry.values.get("timestamp"))
        yield Point(step, round((run.created if moment is None else moment) * 1e6), value, entry.end)


def _first_time(path: str) -> float | None:
    first = next(Table().entries(Log(path, Table.kind), 0, []), None)
    return moment_of(first.values.get("timestamp")) if first is not None else None


def _params(path: str) -> JsonObject:
    import yaml

    try:
        with open(path, encoding="utf-8") as file:
            return object_or_empty(yaml.safe_load(file))
    except (OSError, yaml.YAMLError, UnicodeDecodeError):
        return {}
