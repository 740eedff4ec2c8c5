"""SwanLab's runs: the record file of each run's folder, read without SwanLab's library.

A record file (`run-ID.swanlab`) is a record log (`lossbook.trackers.record_log`); its records are protobuf messages
(swanlab/proto). Every mode of SwanLab writes one.
"""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from lossbook.errors import StoreError
from lossbook.journal import SILENT_SECONDS
from lossbook.json_shapes import JsonObject, object_or_empty, whole_or_none
from lossbook.trackers.protobuf import BadMessage, fields, signed, text
from lossbook.trackers.record_files import RecordFile, RecordFiles, RecordHead, unreadable
from lossbook.trackers.record_log import read_records
from lossbook.trackers.source import ForeignRow, ForeignRun, Rewritten, scheme_of

_HEADER = struct.pack("<4sHB", b":SWL", 0xE1D6, 2)
#: Kinds of records, by the number of their field in `Record`.
_START, _FINISH, _SCALAR, _MEDIA, _LOG = 10, 11, 13, 14, 16
_ROWS = (_SCALAR, _MEDIA, _LOG)
_STATES = {1: "finished", 2: "failed", 3: "interrupted"}
#: Kinds of media, by the number of `ColumnType`, and the folder that they lie in.
_IMAGE, _TEXT = 2, 4
_FOLDERS = {2: "image", 3: "audio", 4: "text", 5: "video", 6: "echarts", 7: "object3d", 8: "molecule", 9: "html"}
_LARGEST_FILE_BYTES = 32 << 20
#: How the names of the machine's own series begin.
_SYSTEM = "__swanlab__."


@dataclass
class _Head(RecordHead):
    """What one file says of its run; `state` is None while it goes on, or when it was killed."""

    state: str | None = None
    error: str | None = None


_File = RecordFile[_Head]


class SwanLabRuns(RecordFiles[_Head]):
    """The runs in a folder of SwanLab's (`swanlog`), or one record file."""

    kind: ClassVar[str] = "swanlab"
    title: ClassVar[str] = "SwanLab"
    gpu_advice: ClassVar[str] = "SwanLab measures the GPUs by itself where it trains: leave its hardware monitor on"
    tells_last_values: ClassVar[bool] = False
    lacks: ClassVar[tuple[str, ...]] = (
        "A configuration that changed while the run went on is the last one.",
        "Sounds, videos, charts and molecules are kept as files of the run.",
        "Runs of SwanLab before 0.7 are in another format, which is not read.",
    )
    passed_over: ClassVar[str] = "is no record file of a SwanLab that is known here, or empty: passed over"

    @classmethod
    def matches(cls, location: str) -> bool:
        return scheme_of(location) == cls.kind or (location.endswith(".swanlab") and os.path.isfile(location))

    def __init__(self, location: str) -> None:
        self.path = os.path.abspath(location.removeprefix("swanlab://") or "swanlog")
        paths = [self.path] if os.path.isfile(self.path) else sorted(_record_files(self.path))
        if not paths:
            raise StoreError(f"there is no run of SwanLab in {self.path}: name the folder that holds its run-* folders")
        super().__init__(location, paths)

    @property
    def address(self) -> str:
        return self.path

    def open_file(self, path: str) -> _File | None:
        return _open_file(path)

    def make_run(self, files: Sequence[_File]) -> ForeignRun:
        return _make_run(files)

    def rows_behind(self, run: ForeignRun) -> Iterator[ForeignRow]:
        for number, file, after in self.files_left(run):
            begin = whole_or_none(after.get("start")) or 0
            place: JsonObject = {"file": number, "name": file.name, "start": begin}
            if number and not begin:
                body = {"resume_step": None}
                yield ForeignRow(
                    round(file.head.started * 1e6), None, "attempt", None, body, place={**place, "start": 1}
                )
            if file.size < begin:
                raise Rewritten(f"{file.path} is shorter than it was: it was written anew since it was read")
            yield from _rows_of_file(file, place, whole_or_none(after.get("rows")) or 0)


def _record_files(folder: str) -> Iterator[str]:
    for root, _, files in os.walk(folder):
        yield from (os.path.join(root, name) for name in files if name.endswith(".swanlab"))


def _open_file(path: str) -> _File | None:
    """A file and what it says of its run; None for one that says nothing."""
    head = _Head()
    try:
        size = os.path.getsize(path)
        for _, record in read_records(path, _HEADER, past_damage=True):
            try:
                _take(head, dict(fields(record)))
            except BadMessage:
                continue
    except OSError as error:
        raise unreadable(path, error) from error
    return _File(path, head, size) if head.id else None


def _take(head: _Head, record: dict[int, Any]) -> None:
    head.last_seen = max(head.last_seen, _seconds(record.get(2)))
    if _START in record:
        for number, value in fields(_bytes(record[_START])):
            names = {1: "project", 4: "name", 5: "notes", 7: "group", 8: "job_type", 10: "id"}
            if number in names:
                setattr(head, names[number], text(value))
            elif number == 6:
                head.tags += (text(value),)
            elif number == 12:
                head.started = _seconds(value)
    elif _FINISH in record:
        found = _message(record, _FINISH)
        head.state = _STATES.get(found.get(1, 0))
        lines = text(found.get(2)).strip().splitlines()
        head.error = lines[-1] if lines else None
        head.last_seen = max(head.last_seen, _seconds(found.get(3)))
    elif any(kind in record for kind in _ROWS):
        head.rows += 1


def _make_run(files: Sequence[_File]) -> ForeignRun:
    last = files[-1].head
    state = last.state or ("running" if time.time() - last.last_seen < SILENT_SECONDS else "crashed")
    return ForeignRun(
        id=last.id,
        name=last.name or last.id,
        project=last.project or "swanlab",
        created=files[0].head.started or files[0].head.last_seen,
        version=" ".join(f"{file.name}:{file.size}" for file in files),
        state=state,
        ended=None if state == "running" else last.last_seen,
        error=last.error,
        config=_config(os.path.join(os.path.dirname(files[-1].path), "files", "config.yaml")),
        tags=last.tags,
        group=last.group or None,
        notes=last.notes or None,
        origin={"folder": os.path.dirname(files[-1].path), **({"job_type": last.job_type} if last.job_type else {})},
        place=tuple(files),
    )


def _config(path: str) -> JsonObject:
    """The configuration: by name a value, its place in the table, and what it means."""
    import yaml

    try:
        with open(path, encoding="utf-8") as file:
            read = yaml.safe_load(file)
    except (OSError, yaml.YAMLError, UnicodeDecodeError):
        return {}
    values = object_or_empty(read)
    return {name: one["value"] for name, one in values.items() if isinstance(one, dict) and "value" in one}


def _rows_of_file(file: _File, place: JsonObject, known: int) -> Iterator[ForeignRow]:
    """The rows of a file behind a place in it; scalars of one step that follow each other are one row.

    Args:
        known: how many rows of the first record there were read already.
    """
    start = whole_or_none(place["start"]) or 0
    scalars: dict[str, float] = {}
    step = time_us = 0
    here = place
    try:
        for end, record in read_records(file.path, _HEADER, start, past_damage=True):
            if not record:
                if scalars:
                    yield ForeignRow(time_us, step, None, None, scalars, place=here)
                    scalars = {}
                yield file.damage(time_us)._replace(place={**place, "start": end})
                continue
            try:
                found = dict(fields(record))
                scalar = _message(found, _SCALAR) if _SCALAR in found else None
                others = _others(file, found) if scalar is None else []
            except BadMessage as error:
                scalar = None
                others = [file.bad_record(error, time_us)]
            if scalar is not None:
                key, at = _key(text(scalar.get(1))), signed(scalar.get(2, 0))
                if scalars and (at != step or key in scalars):
                    yield ForeignRow(time_us, step, None, None, scalars, place=here)
                    scalars = {}
                scalars[key], step = _number(scalar.get(5)), at
                time_us = round(_seconds(scalar.get(4)) * 1e6)
                here = {**place, "start": end}
            for index, row in enumerate(others[known:], known + 1):
                if scalars:
                    yield ForeignRow(time_us, step, None, None, scalars, place=here)
                    scalars = {}
                whole = index == len(others)
                yield row._replace(place={**place, "start": end} if whole else {**place, "start": start, "rows": index})
            start, known = end, 0
        if scalars:
            yield ForeignRow(time_us, step, None, None, scalars, place=here)
    except OSError as error:
        raise unreadable(file.path, error) from error


def _others(file: _File, record: dict[int, Any]) -> list[ForeignRow]:
    """The rows of a record that is no scalar."""
    if _LOG in record:
        found = _message(record, _LOG)
        time_us = round(_seconds(found.get(3)) * 1e6)
        return [ForeignRow(time_us, None, "console", None, {"text": f"{text(found.get(1))}\n"})]
    if _MEDIA not in record:
        return []
    found = _message(record, _MEDIA)
    key, step, kind = _key(text(found.get(1))), signed(found.get(2, 0)), found.get(3, 0)
    time_us = round(_seconds(found.get(4)) * 1e6)
    rows = []
    for number, item in fields(_bytes(found.get(5))):
        if number == 1:
            parts = dict(fields(_bytes(item)))
            rows.append(_media(file, key, step, kind, time_us, text(parts.get(1)), text(parts.get(4))))
    return rows


def _media(file: _File, key: str, step: int, kind: int, time_us: int, name: str, caption: str) -> ForeignRow:
    contents = _read_file(file, os.path.join(_FOLDERS.get(kind, ""), name))
    if contents is None:
        message = f"SwanLab's file {name} of {key} is not there any more, or too large: it was left out"
        return ForeignRow(time_us, step, "warning", key, {"message": message})
    if kind == _TEXT:
        return ForeignRow(time_us, step, "text", key, {"text": contents.decode("utf-8", "replace")})
    if kind == _IMAGE:
        body: dict[str, object] = {"contents": contents, "ending": os.path.splitext(name)[1] or ".png"}
        return ForeignRow(time_us, step, "image", key, {**body, **({"caption": caption} if caption else {})})
    return ForeignRow(time_us, step, "file", key, {"name": name, "contents": contents})


def _read_file(file: _File, name: str) -> bytes | None:
    """A file of the run's media; none that a link leads to, and none from elsewhere."""
    if os.path.islink(os.path.join(os.path.dirname(file.path), "media", name)):
        return None
    return file.read_beside("media", name, _LARGEST_FILE_BYTES)


def _message(record: dict[int, Any], kind: int) -> dict[int, Any]:
    return dict(fields(_bytes(record[kind])))


def _bytes(value: object) -> bytes:
    return value if isinstance(value, bytes) else b""


def _key(name: str) -> str:
    return f"system.{name.removeprefix(_SYSTEM)}" if name.startswith(_SYSTEM) else name


def _number(value: object) -> float:
    """A scalar's number; 0 is not written at all."""
    packed = dict(fields(value)).get(1) if isinstance(value, bytes) else None
    return float(struct.unpack("<d", packed)[0]) if isinstance(packed, bytes) and len(packed) == 8 else 0.0


def _seconds(timestamp: object) -> float:
    found = dict(fields(timestamp)) if isinstance(timestamp, bytes) else {}
    return signed(found.get(1, 0)) + signed(found.get(2, 0)) / 1e9
