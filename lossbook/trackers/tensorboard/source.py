"""TensorBoard's logs: every folder with event files is a run, read without TensorFlow and without TensorBoard.

A run's files are read one after another in the order of their names, as TensorBoard does; a place in a run is how far
each of them has been read. A torn last record is not there yet; a damaged one costs itself and one sentence.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from lossbook.errors import StoreError
from lossbook.json_shapes import JsonObject, counts_of, object_or_empty, whole_or_none
from lossbook.paths import safe_name
from lossbook.trackers.protobuf import BadMessage
from lossbook.trackers.source import ForeignRow, ForeignRun, Rewritten, Source, scheme_of
from lossbook.trackers.tensorboard.event_message import (
    HPARAMS_END,
    HPARAMS_START,
    Event,
    Picture,
    Value,
    decode_event,
    histogram_of,
    hyperparameters,
    picture_ending,
    session_end,
)
from lossbook.trackers.tensorboard.tfrecord import masked_crc, read_records

#: The beginning of a file is looked at for its time and its hyperparameters, and its end for how the run ended.
HEAD_RECORDS, HEAD_BYTES, TAIL_BYTES = 64, 1 << 20, 1 << 18
#: A record that begins with the marker of the end lies at most so far before it.
_REACH_BYTES = 4096
#: Where Lossbook's mirror keeps the machine's series, below the run.
_SYSTEM = "system/"
#: torch and tensorboardX put the hyperparameters of one call into a folder of its own, named by the time.
_HPARAMS_FOLDER = re.compile(r"\d{9,}(\.\d+)?\Z")


@dataclass(frozen=True)
class _Place:
    """A run's event files: their names below `folder`, in the order in which they are read."""

    folder: str
    files: tuple[str, ...]


class TensorBoardLogs(Source):
    """A folder of TensorBoard logs, or one event file."""

    kind: ClassVar[str] = "tensorboard"
    title: ClassVar[str] = "TensorBoard"
    gpu_advice: ClassVar[str] = (
        'TensorBoard measures no GPU by itself: record with lossbook.init(mirrors="tensorboard"), or log '
        "gpu/compute_util_avg and gpu/memory_used_total_gb"
    )
    tells_last_values: ClassVar[bool] = False
    lacks: ClassVar[tuple[str, ...]] = (
        "Values have 32 bits, as TensorBoard keeps them.",
        "Sound, graphs, meshes, precision-recall curves and profiles are passed over.",
        "TensorBoard seldom says how a run ended: it counts as finished.",
    )

    @classmethod
    def matches(cls, location: str) -> bool:
        return scheme_of(location) == cls.kind or (
            ".tfevents." in os.path.basename(location) and os.path.isfile(location)
        )

    def __init__(self, location: str) -> None:
        super().__init__(location)
        self.path = os.path.abspath(location.removeprefix("tensorboard://"))
        if not os.path.exists(self.path):
            raise StoreError(f"there are no TensorBoard logs at {self.path}: name the folder that has the event files")

    @property
    def address(self) -> str:
        return self.path

    def runs(self) -> Iterator[ForeignRun]:
        root = self.path if os.path.isdir(self.path) else os.path.dirname(self.path)
        found = list(self._folders())
        if not found:
            raise StoreError(f"there are no event files (*.tfevents.*) in {self.path}")
        by_folder = {place.folder: place for place in found}
        configs: dict[str, list[JsonObject]] = {}
        made = []
        for place in found:
            parent = os.path.dirname(place.folder)
            heads = [_head(os.path.join(place.folder, name)) for name in place.files]
            config = {key: value for head in heads for key, value in head.config.items()}
            if _HPARAMS_FOLDER.match(os.path.basename(place.folder)) and parent in by_folder:
                configs.setdefault(parent, []).append(config)
            made.append((place, heads[0].created, min(head.earliest for head in heads), config))
        runs = []
        for place, created, earliest, config in made:
            if not created:
                continue  # nothing is written to it yet, not even the first record
            inner = configs.get(place.folder, [])
            # One call of add_hparams speaks of the run; several are trials, which stay runs of their own.
            merged = {**config, **(inner[0] if len(inner) == 1 else {})}
            runs.append(dataclasses.replace(_make_run(root, place, created, merged), created=earliest))
        yield from sorted(runs, key=lambda run: run.created, reverse=True)

    def _folders(self) -> Iterator[_Place]:
        if not os.path.isdir(self.path):
            yield _Place(os.path.dirname(self.path), (os.path.basename(self.path),))
            return
        files = {root: _event_files(names) for root, _, names in sorted(os.walk(self.path, followlinks=True))}
        for folder, names in files.items():
            # Lossbook's mirror keeps the machine's series in a run of their own, under the same file name.
            if os.path.basename(folder) == "system" and _is_mirrored(names, files.get(os.path.dirname(folder), [])):
                continue
            system = files.get(os.path.join(folder, "system"), [])
            if names:
                added = [_SYSTEM + name for name in system] if _is_mirrored(system, names) else []
                yield _Place(folder, (*names, *added))

    def rows(self, run: ForeignRun, start: int = 0) -> Iterator[ForeignRow]:
        found = self._rows(run)
        return itertools.islice(found, start, None) if run.after is None else found

    def _rows(self, run: ForeignRun) -> Iterator[ForeignRow]:
        assert isinstance(run.place, _Place)
        after = object_or_empty(run.after)
        offsets = counts_of(after.get("files"))
        part, logged = whole_or_none(after.get("part")) or 0, bool(after.get("any"))
        of_part = after.get("of")
        for name in run.place.files:
            path = os.path.join(run.place.folder, name)
            offset = offsets.get(name, 0)
            try:
                with open(path, "rb") as file:
                    if os.fstat(file.fileno()).st_size < offset:
                        raise Rewritten(f"{path} is shorter than it was: it was written anew since the last import")
                    for record in read_records(file, offset):
                        # A restart in the machine's own file says nothing of the training.
                        countable = logged and not name.startswith(_SYSTEM)
                        made = list(_expand(record.message, path, record.start, run, countable))
                        first = part if of_part == name else 0
                        if of_part == name:
                            of_part = None
                        for index in range(first, len(made)):
                            row = made[index]
                            logged = logged or row.kind is None
                            whole = index + 1 == len(made)
                            at: JsonObject = {**offsets, name: record.end if whole else record.start}
                            here: JsonObject = {"files": at, "any": logged}
                            if not whole:
                                here.update(part=index + 1, of=name)
                            yield row._replace(place=here)
                        offsets[name] = record.end
            except OSError as error:
                if isinstance(error, StoreError):
                    raise
                raise StoreError(f"{path} cannot be read ({error.strerror}); check who owns it") from error


# -- runs -------------------------------------------------------------------------------------------------------------


def _event_files(names: list[str]) -> list[str]:
    return sorted(name for name in names if ".tfevents." in name and not name.endswith((".tmp", ".profile-empty")))


def _is_mirrored(system: list[str], main: list[str]) -> bool:
    return bool(system) and all(".lossbook." in name and name in main for name in system)


def _make_run(root: str, place: _Place, created: float, config: JsonObject) -> ForeignRun:
    relative = os.path.relpath(place.folder, root)
    project = os.path.basename(root) or "tensorboard"
    name = project if relative == "." else relative.replace(os.sep, "/")
    # An event file's name has time, host and process in it: the run is the same wherever its folder is moved.
    digest = hashlib.sha256(os.fsencode(f"{relative}\n{place.files[0]}\n{created!r}")).hexdigest()[:8]
    sizes, newest = [], 0
    for file in place.files:
        try:
            status = os.stat(os.path.join(place.folder, file))
        except OSError:
            continue
        sizes.append(f"{file}:{status.st_size}")
        newest = max(newest, status.st_mtime_ns)
    state, ended = _ending(os.path.join(place.folder, place.files[-1]))
    for file in place.files[:-1] if len(place.files) > 1 else ():
        if ended is None and ".lossbook." in file:
            state, ended = _ending(os.path.join(place.folder, file))
    return ForeignRun(
        id=f"{safe_name(name.replace('/', '-'))[:60]}-{digest}",
        name=name,
        project=project,
        created=created or newest / 1e9,
        version=hashlib.sha256(f"{sizes} {newest} {config}".encode()).hexdigest()[:16],
        state=state,
        ended=ended,
        config=config,
        origin={"folder": place.folder},
        place=place,
    )


class _Head(NamedTuple):
    """What the beginning of a file says: when it was begun, the earliest time in it, and the hyperparameters."""

    created: float  # Unix seconds
    earliest: float
    config: JsonObject


def _head(path: str) -> _Head:
    created, earliest, config = 0.0, math.inf, {}
    try:
        with open(path, "rb") as file:
            for record in itertools.islice(read_records(file), HEAD_RECORDS):
                if record.start > HEAD_BYTES or record.message is None:
                    break
                try:
                    event = decode_event(record.message)
                    created = created or event.time
                    # Values may be written with a time of their own, earlier than the file.
                    earliest = min(earliest, event.time or math.inf)
                    for value in event.values:
                        if value.tag == HPARAMS_START:
                            config.update(hyperparameters(value.contents))
                except BadMessage:
                    continue
    except OSError as error:
        raise StoreError(f"{path} cannot be read ({error.strerror}); check who owns it") from error
    return _Head(created, min(earliest, created or math.inf), config)


def _ending(path: str) -> tuple[str, float | None]:
    """How the run of a file ended, if its last records say so; else finished."""
    try:
        size = os.path.getsize(path)
        with open(path, "rb") as file:
            file.seek(max(0, size - TAIL_BYTES))
            tail = file.read()
    except OSError:
        return "finished", None
    marker = tail.rfind(HPARAMS_END.encode())
    for begin in range(marker - 12, max(-1, marker - _REACH_BYTES), -1):
        length = int.from_bytes(tail[begin : begin + 8], "little")
        if begin + 16 + length > len(tail) or begin + 12 + length < marker:
            continue
        if masked_crc(tail[begin : begin + 8]) != int.from_bytes(tail[begin + 8 : begin + 12], "little"):
            continue
        try:
            event = decode_event(tail[begin + 12 : begin + 12 + length])
        except BadMessage:
            continue
        for value in event.values:
            if value.tag == HPARAMS_END:
                return session_end(value.contents)
    return "finished", None


# -- rows -------------------------------------------------------------------------------------------------------------


def _expand(message: bytes | None, path: str, offset: int, run: ForeignRun, logged: bool) -> Iterator[ForeignRow]:
    """The rows that one record becomes: its scalars, then whatever else it holds."""
    try:
        event = decode_event(message) if message is not None else None
    except BadMessage:
        event = None
    if event is None:
        sentence = f"{path}: a record at byte {offset} is damaged and was passed over"
        yield ForeignRow(int(run.created * 1e6), None, "warning", None, {"message": sentence})
        return
    time_us = round(event.time * 1e6)
    if event.restart:
        # A file may begin with one, when there is nothing yet to take back.
        if logged:
            yield ForeignRow(time_us, event.step, "attempt", None, {"resume_step": event.step - 1})
        return
    scalars: dict[str, float] = {}
    others: list[ForeignRow] = []
    for value in event.values:
        number = _scalar(value)
        if number is None:
            others += _others(event, time_us, value, run)
        elif value.tag in scalars:
            others.append(ForeignRow(time_us, event.step, None, None, {value.tag: number}))
        else:
            scalars[value.tag] = number
    if scalars:
        yield ForeignRow(time_us, event.step, None, None, scalars)
    yield from others


def _scalar(value: Value) -> float | None:
    if value.scalar is not None:
        return value.scalar
    tensor = value.tensor
    # Metadata stands at a tag's first value alone: what a later one is, its shape tells.
    if tensor is not None and tensor.numbers is not None and len(tensor.numbers) == 1 and not sum(tensor.shape[1:]):
        return float(tensor.numbers[0]) if value.plugin in ("", "scalars") else None
    return None


def _others(event: Event, time_us: int, value: Value, run: ForeignRun) -> list[ForeignRow]:
    """The rows of a value that is no scalar."""

    def row(kind: str, body: Mapping[str, object], key: str | None = value.tag) -> ForeignRow:
        return ForeignRow(time_us, event.step, kind, key, body)

    if value.tag == HPARAMS_START:
        config = hyperparameters(value.contents)
        new = {key: one for key, one in config.items() if key not in run.config or run.config[key] != one}
        return [row("config", new, None)] if new else []
    if value.tag.startswith("_hparams_/") or value.plugin in ("custom_scalars", "audio", "mesh", "pr_curves"):
        return []
    if value.histogram is not None:
        return [row("histogram", value.histogram._asdict())]
    if value.image is not None:
        return [row("image", _picture(value.image))]
    tensor = value.tensor
    if tensor is None:
        return []
    if tensor.texts is not None:
        return _texts(value, tensor.texts, row)
    histogram = histogram_of(tensor)
    if histogram is not None and value.plugin in ("", "histograms"):
        return [row("histogram", histogram._asdict())]
    return []


def _texts(
    value: Value, texts: list[bytes], row: Callable[[str, Mapping[str, object], str | None], ForeignRow]
) -> list[ForeignRow]:
    """A text, or the pictures that a tensor of strings holds: width, height, then a file each."""
    if len(texts) > 2 and texts[0].isdigit() and texts[1].isdigit() and value.plugin in ("", "images"):
        width, height = int(texts[0]), int(texts[1])
        keys = [value.tag if index == 0 else f"{value.tag}/{index}" for index in range(len(texts) - 2)]
        return [
            row("image", _picture(Picture(one, width, height)), key) for one, key in zip(texts[2:], keys, strict=True)
        ]
    if value.plugin not in ("", "text"):
        return []
    return [row("text", {"text": "\n".join(text.decode("utf-8", "replace") for text in texts)}, value.tag)]


def _picture(picture: Picture) -> dict[str, object]:
    return {**picture._asdict(), "ending": picture_ending(picture.contents)}
