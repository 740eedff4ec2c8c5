"""W&B's local runs, offline or not: `.wandb` files, read without W&B's service and without its library.

A folder (`./wandb`, one run's folder, or one that holds several such) or one file. The folders of one run's id are one
run: each file after the first is another attempt of it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import time
import zlib
from collections.abc import Iterator, Sequence
from typing import ClassVar

from lossbook.errors import StoreError
from lossbook.journal import SILENT_SECONDS
from lossbook.json_shapes import JsonObject, text_or_none, whole_or_none
from lossbook.paths import cache_folder, replace_file
from lossbook.trackers.protobuf import BadMessage
from lossbook.trackers.record_files import RecordFile, RecordFiles, unreadable
from lossbook.trackers.source import ForeignRow, ForeignRun, Rewritten
from lossbook.trackers.wandb.records import Head, read_head, rows_of, split_record
from lossbook.trackers.wandb.transaction_log import read_records
from lossbook.trackers.wandb.values import GPU_ADVICE, LARGEST_FILE_BYTES, plain_config, plain_summary, state_of

#: What a file of that size says of its run is remembered in the cache: to find it out, the file is read to its end.
_REMEMBERED_BYTES = 1 << 20


_File = RecordFile[Head]


class WandbFiles(RecordFiles[Head]):
    """The runs in a folder of `.wandb` files, or in one of them."""

    kind: ClassVar[str] = "wandb-offline"
    title: ClassVar[str] = "W&B's local files"
    gpu_advice: ClassVar[str] = GPU_ADVICE
    lacks: ClassVar[tuple[str, ...]] = (
        "Artifacts stay where they are; of a logged table the file is read.",
        "A configuration that changed while the run went on is the last one.",
        "A picture in a cell of a table is what W&B wrote there, not the picture.",
        f"Files larger than {LARGEST_FILE_BYTES >> 20} MB stay where they are.",
    )
    passed_over: ClassVar[str] = "is empty, or damaged where it says whose it is: it was passed over"

    @classmethod
    def matches(cls, location: str) -> bool:
        return location.endswith(".wandb") and os.path.isfile(location)

    def __init__(self, location: str) -> None:
        paths = [location] if os.path.isfile(location) else sorted(_transaction_logs(location))
        if not paths:
            raise StoreError(
                f"there is no .wandb file in {location}: name the folder that holds W&B's offline-run-* folders"
            )
        super().__init__(location, paths)

    def open_file(self, path: str) -> _File | None:
        return _open_file(path)

    def make_run(self, files: Sequence[_File]) -> ForeignRun:
        return _make_run(files)

    def rows_behind(self, run: ForeignRun) -> Iterator[ForeignRow]:
        for number, file, after in self.files_left(run):
            time_us = round(file.head.started * 1e6)
            place: JsonObject = after or {"file": number, "name": file.name, "start": 0, "time_us": time_us}
            if number and not after:
                resumed = file.head.starting_step
                body = {"resume_step": resumed - 1 if resumed > 0 else None}
                yield ForeignRow(time_us, None, "attempt", None, body, place=place)
            yield from _rows_of_file(file, place)


def _rows_of_file(file: _File, place: JsonObject) -> Iterator[ForeignRow]:
    """The rows of a file behind a place in it.

    A place says where its record starts, the checksum of that record, and how many of its rows were read.
    """
    start, mark = whole_or_none(place["start"]) or 0, place.get("mark")
    known, time_us = whole_or_none(place.get("rows")) or 0, whole_or_none(place["time_us"]) or 0
    try:
        for end, record in read_records(file.path, start, past_damage=True):
            checksum = zlib.crc32(record)
            if mark is not None and checksum != mark:
                break
            made = _expand(file, record, time_us)
            for index in range(known, len(made)):
                where: JsonObject = {**place, "start": start, "mark": checksum, "rows": index + 1, "time_us": time_us}
                yield made[index]._replace(place=where)
            if made:
                time_us = max(time_us, made[-1].time_us)
            start, mark, known = end, None, 0
    except OSError as error:
        raise unreadable(file.path, error) from error
    if mark is not None:
        raise Rewritten(f"{file.path} was written anew since it was read")


def _expand(file: _File, record: bytes, time_us: int) -> list[ForeignRow]:
    if not record:
        return [file.damage(time_us)]
    try:
        kind, contents = split_record(record)
        return rows_of(kind, contents, time_us, lambda name: _read_file(file, name)) if kind else []
    except BadMessage as error:
        return [file.bad_record(error, time_us)]


def _read_file(file: _File, name: str) -> bytes | None:
    """A file of the run; W&B links those that the training saved, so a link may lead out of the folder."""
    return file.read_beside("files", name, LARGEST_FILE_BYTES)


def _transaction_logs(location: str) -> Iterator[str]:
    """All `.wandb` files below a folder; within a run's own folder nothing else is one."""
    for root, folders, files in os.walk(location):
        found = [name for name in files if name.endswith(".wandb")]
        yield from (os.path.join(root, name) for name in found)
        folders[:] = [] if found else sorted(folders)


def _open_file(path: str) -> _File | None:
    """A file and what it says; None for one that was torn before it said anything."""
    try:
        status = os.stat(path)
        known = _known_head(path, status) if status.st_size >= _REMEMBERED_BYTES else None
        head = known or read_head(read_records(path, past_damage=True))
    except OSError as error:
        raise unreadable(path, error) from error
    if not head.id:
        return None
    if known is None and status.st_size >= _REMEMBERED_BYTES:
        _remember_head(path, status, head)
    return _File(path, head, status.st_size)


def _known_head(path: str, status: os.stat_result) -> Head | None:
    """What the file said when it was read last, if it is as it was then."""
    try:
        with open(_memory_of(path), "rb") as file:
            kept = json.loads(file.read())
        if kept["file"] != [os.path.abspath(path), status.st_size, status.st_mtime_ns]:
            return None
        return Head(**{**kept["head"], "tags": tuple(kept["head"]["tags"])})
    except (OSError, ValueError, KeyError, TypeError):
        return None  # none, or one of another version


def _remember_head(path: str, status: os.stat_result, head: Head) -> None:
    kept = {"file": [os.path.abspath(path), status.st_size, status.st_mtime_ns], "head": dataclasses.asdict(head)}
    with contextlib.suppress(OSError, ValueError, TypeError):
        os.makedirs(os.path.dirname(_memory_of(path)), exist_ok=True)
        replace_file(_memory_of(path), json.dumps(kept).encode(), durable=False)


def _memory_of(path: str) -> str:
    digest = hashlib.sha256(os.fsencode(os.path.abspath(path))).hexdigest()[:16]
    return os.path.join(cache_folder(), "wandb-files", f"{digest}.json")


def _make_run(files: Sequence[_File]) -> ForeignRun:
    heads = [file.head for file in files]
    last = heads[-1]
    config: JsonObject = {}
    summary: JsonObject = {}
    for head in heads:
        config.update(head.config)
        summary.update(head.summary)
    if last.exit_code is not None:
        state = "finished" if last.exit_code == 0 else "failed"
    else:
        # By its last record: the file's own time is that of a copy, where it was copied.
        state = "running" if time.time() - last.last_seen < SILENT_SECONDS else "crashed"
    state = state_of(state, summary)
    program = last.origin.get("program")
    origin = {
        **last.origin,
        "entity": last.entity,
        "job_type": last.job_type,
        "sweep": last.sweep,
        "git": last.git,
        "argv": [program, *last.arguments] if program else [],
        "files": [file.path for file in files],
    }
    error = text_or_none(summary.get("lossbook/error"))
    if error is None and last.exit_code:
        error = f"it ended with exit code {last.exit_code}"
    return ForeignRun(
        id=last.id,
        name=last.name or last.id,
        project=last.project or "uncategorized",
        created=heads[0].started,
        version=" ".join(f"{file.name}:{file.size}" for file in files),
        state=state,
        ended=None if state == "running" else last.last_seen,
        error=error,
        config=plain_config(config),
        summary=plain_summary(summary),
        tags=tuple(dict.fromkeys(tag for head in heads for tag in head.tags)),
        group=last.group or None,
        notes=last.notes or None,
        origin={key: value for key, value in origin.items() if value},
        place=tuple(files),
    )
