"""Aim's repository, the folder `.aim`: RocksDB, which Aim's own library opens for reading alone, and an SQLite file of names.

Each run's own database is opened, not the index over all of them: Aim brings that up to date only while its page is open.
"""

from __future__ import annotations

import datetime
import itertools
import os
import sqlite3
import time
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from lossbook.errors import MissingLibrary, StoreError
from lossbook.json_shapes import JsonObject, counts_of, object_or_empty
from lossbook.trackers.series import Point, together
from lossbook.trackers.source import ForeignRow, ForeignRun, Source, scheme_of
from lossbook.trackers.sqlite import connect_read_only
from lossbook.trackers.staging import plain_object

#: How the names of the machine's own series begin.
_SYSTEM = "__system__"
#: A run whose rows end so long ago is over, whether it says so or not.
_SILENT_SECONDS = 600.0


class AimRepository(Source):
    """The runs of a repository: the folder that holds `.aim`, or `.aim` itself."""

    kind: ClassVar[str] = "aim"
    title: ClassVar[str] = "Aim"
    gpu_advice: ClassVar[str] = "Aim measures the GPUs by itself where it trains: leave system_tracking_interval on"
    tells_last_values: ClassVar[bool] = False
    lacks: ClassVar[tuple[str, ...]] = (
        "Images, sounds, figures and distributions stay where they are.",
        "Aim does not say how a run ended: one with an end counts as finished, one without as crashed once it is silent.",
    )

    @classmethod
    def matches(cls, location: str) -> bool:
        if scheme_of(location):
            return scheme_of(location) == cls.kind
        return any(
            os.path.isdir(os.path.join(one, "meta", "chunks")) for one in (location, os.path.join(location, ".aim"))
        )

    def __init__(self, location: str) -> None:
        super().__init__(location)
        path = os.path.abspath(location.removeprefix("aim://"))
        self.path = path if os.path.isdir(os.path.join(path, "meta", "chunks")) else os.path.join(path, ".aim")
        if not os.path.isdir(os.path.join(self.path, "meta", "chunks")):
            raise StoreError(f"there is no repository of Aim in {path}: name the folder that holds .aim")
        try:
            import aim  # type: ignore[import-not-found]  # noqa: F401 - only with the extra
        except ImportError as error:
            raise MissingLibrary(
                f"{self.path} is Aim's own database, which its library opens: pip install 'lossbook[aim]' (Python up to 3.12)"
            ) from error

    @property
    def address(self) -> str:
        return self.path

    def runs(self) -> Iterator[ForeignRun]:
        named = _named_runs(os.path.join(self.path, "run_metadata.sqlite"))
        made = [
            self._make_run(name, named.get(name, {}))
            for name in sorted(os.listdir(os.path.join(self.path, "meta", "chunks")))
        ]
        yield from sorted(made, key=lambda run: run.created, reverse=True)

    def _make_run(self, hash: str, named: Mapping[str, Any]) -> ForeignRun:
        about = _collect(self._tree("meta", hash), ("meta", "chunks", hash))
        attributes = plain_object(about.get("attrs"))
        system = attributes.pop("__system_params", None)
        ended = about.get("end_time")
        last = os.path.getmtime(os.path.join(self.path, "seqs", "chunks", hash))
        created = named.get("created") or last
        state = "finished" if ended else "running" if time.time() - last < _SILENT_SECONDS else "crashed"
        traces = [one for one in object_or_empty(plain_object(about.get("traces"))).values() if isinstance(one, dict)]
        lasts = [object_or_empty(trace).get("last_step") for one in traces for trace in one.values()]
        return ForeignRun(
            id=hash,
            name=named.get("name") or hash,
            project=named.get("experiment") or "default",
            created=created,
            version=f"{ended} {sorted(map(str, lasts))}",
            state=state,
            ended=float(ended) if ended else None if state == "running" else last,
            config=attributes,
            tags=tuple(named.get("tags", ())),
            notes=named.get("description"),
            origin={"folder": self.path, **({"system": system} if system else {})},
        )

    def rows(self, run: ForeignRun, start: int = 0) -> Iterator[ForeignRow]:
        found = self._rows(run)
        return itertools.islice(found, start, None) if run.after is None else found

    def _rows(self, run: ForeignRun) -> Iterator[ForeignRow]:
        after = object_or_empty(run.after)
        counts, texts = counts_of(after.get("series")), counts_of(after.get("texts"))
        contexts = _collect(self._tree("meta", run.id), ("meta", "chunks", run.id)).get("contexts") or {}
        tree = self._tree("seqs", run.id)
        numbers: dict[str, list[Point]] = {}
        said: list[tuple[str, list[tuple[int, int, str]]]] = []
        for base in (("seqs", "chunks", run.id), ("seqs", "v2", "chunks", run.id)):
            for context, name in _traces(tree, base):
                key = _key(name, contexts.get(context) or {})
                points, words = _values(tree.subtree((*base, context, name)), run)
                if points:
                    numbers[key] = points
                if words:
                    said.append((key, words))
        behind = {key: points[counts.get(key, 0) :] for key, points in numbers.items()}
        for row in together(behind):
            counts = {**counts, **row.places}
            yield ForeignRow(row.time_us, row.step, None, None, row.values, place=_place(counts, texts))
        for key, words in sorted(said):
            for step, time_us, text in words[texts.get(key, 0) :]:
                texts = {**texts, key: texts.get(key, 0) + 1}
                yield ForeignRow(time_us, step, "text", key, {"text": text}, place=_place(counts, texts))

    def _tree(self, kind: str, hash: str) -> Any:  # Aim's own type
        from aim.storage.rockscontainer import RocksContainer  # type: ignore[import-not-found]

        try:
            return RocksContainer(os.path.join(self.path, kind, "chunks", hash), read_only=True).tree()
        except Exception as error:  # RocksDB's own errors are of no common kind
            raise StoreError(f"Aim's database of run {hash} in {self.path} cannot be read ({error})") from error


def _place(series: dict[str, int], texts: dict[str, int]) -> JsonObject:
    return {"series": dict(series), "texts": dict(texts)}


def _collect(tree: Any, path: tuple[str, ...]) -> dict[str, Any]:
    """What stands at a path of one of Aim's trees; nothing where there is no such path."""
    try:
        found = tree.subtree(path).collect()
    except KeyError:
        return {}
    return found if isinstance(found, dict) else {}


def _traces(tree: Any, base: tuple[str, ...]) -> list[tuple[int, str]]:
    """The series below a path, each by its context's number and its name."""
    try:
        contexts = list(tree.subtree(base).keys())
        return [(context, name) for context in contexts for name in list(tree.subtree((*base, context)).keys())]
    except KeyError:
        return []


def _values(trace: Any, run: ForeignRun) -> tuple[list[Point], list[tuple[int, int, str]]]:
    """The numbers of a series by their steps, or its texts. In Aim's second layout the steps are an array of their own."""
    parts = set(trace.keys())
    times = dict(trace.array("time").items()) if "time" in parts else {}
    steps = dict(trace.array("step").items()) if "step" in parts else None
    numbers: list[tuple[int, int, float]] = []
    words: list[tuple[int, int, str]] = []
    for place, value in trace.array("val").items():
        step = int(place if steps is None else steps.get(place, 0))
        moment = times.get(place)
        time_us = round((run.created if moment is None else float(moment)) * 1e6)
        if isinstance(value, (int, float)):
            numbers.append((step, time_us, float(value)))
        elif isinstance(getattr(value, "data", None), str):
            words.append((step, time_us, value.data))
    numbers.sort(key=lambda one: one[:2])
    return [Point(*one, place=number) for number, one in enumerate(numbers, 1)], sorted(words)


def _key(name: str, context: Mapping[str, object]) -> str:
    """A series' name behind what its context says: `loss` of {"subset": "train"} is `train/loss`."""
    if name.startswith(_SYSTEM):
        return f"system.{name.removeprefix(_SYSTEM)}"
    return "/".join([*(str(value) for _, value in sorted(context.items())), name])


def _named_runs(path: str) -> dict[str, dict[str, Any]]:
    """What people called the runs, by hash."""
    query = (
        "SELECT run.hash, run.name, run.description, run.created_at, experiment.name FROM run "
        "LEFT JOIN experiment ON experiment.id = run.experiment_id"
    )
    tags = "SELECT run.hash, tag.name FROM run_tag JOIN run ON run.id = run_id JOIN tag ON tag.id = tag_id ORDER BY 2"
    try:
        database = connect_read_only(path)
        try:
            found: dict[str, dict[str, Any]] = {}
            for hash, name, notes, created, experiment in database.execute(query):
                moment = (
                    datetime.datetime.fromisoformat(created).replace(tzinfo=datetime.UTC).timestamp()
                    if created
                    else None
                )
                found[hash] = {
                    "name": name,
                    "description": notes,
                    "created": moment,
                    "experiment": experiment,
                    "tags": [],
                }
            for hash, tag in database.execute(tags):
                found[hash]["tags"].append(tag)
            return found
        finally:
            database.close()
    except sqlite3.Error:
        return {}
