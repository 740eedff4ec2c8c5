"""What is known of every run of a store, read quickly: 10,000 runs in a tenth of a second.

A record is a run's `run.json` and `summary.json` in one dictionary. The index file keeps them: a first line that says
of each run when its folder last changed and how long its record is, then a record a line. Only what changed is read
anew; a record is parsed when somebody asks for it. The file is a cache of the reader's own, outside the store: damaged
or deleted, it is made again. Nothing is ever written into the store.
"""

from __future__ import annotations

import mmap
import os
import time
import zlib
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import orjson

from lossbook.errors import LossbookError
from lossbook.journal.line import merge_config
from lossbook.paths import RunFolder, cache_folder, file_names, is_settled, replace_file, run_entries
from lossbook.run_info import read_identity
from lossbook.storage.derived_files import read_summary

if TYPE_CHECKING:
    from lossbook.storage.summary import LiveSummary

VERSION = 4
#: The index is written anew when more than one run of so many has changed,
FEW = 50
#: or when what had to be read anew took longer than that.
SLOW_SECONDS = 0.1
_ENDED = ("finished", "failed", "interrupted", "killed")


class Record:
    """One run as the index knows it; `fields()` parses it, once, unless it is known."""

    __slots__ = ("_fields", "_text", "created", "mtime_ns", "path", "stamp", "state")

    def __init__(
        self,
        path: str,
        mtime_ns: int,
        created: int,
        state: str,
        text: bytes | tuple[mmap.mmap, int, int, int],
        fields: dict[str, Any] | None = None,
        stamp: int = 0,
    ) -> None:
        self.path, self.mtime_ns, self.created, self.state, self._text = path, mtime_ns, created, state, text
        #: Of the journal that the record was made from, where no summary of it lies in the run; 0 where one does.
        self.stamp = stamp
        self._fields = fields

    @property
    def folder(self) -> RunFolder:
        return RunFolder(self.path)

    @property
    def text(self) -> bytes:
        """The record as JSON."""
        if isinstance(self._text, tuple):
            body, start, length, checksum = self._text
            text = body[start : start + length]
            # A cache that was damaged costs one reading, never a wrong answer.
            self._text = text if zlib.crc32(text) == checksum else orjson.dumps(make_record(self.folder))
        return self._text

    def place(self) -> tuple[tuple[mmap.mmap, int], int, int] | None:
        """Where its text lies in the mapped index: ((file, checksum), offset, length); None when it was read anew."""
        if not isinstance(self._text, tuple):
            return None
        body, start, length, checksum = self._text
        return (body, checksum), start, length

    def fields(self) -> dict[str, Any]:
        """What is known of the run; see `make_record` for the keys."""
        if self._fields is None:
            parsed: dict[str, Any] = orjson.loads(self.text)
            self._fields = parsed
        return self._fields


def read_index(store: str) -> list[Record]:
    """Every run of a store as it stands now, the newest first. Running runs are up to date."""
    known = load_index(store)
    records: list[Record] = []
    changed, spent_seconds = 0, 0.0
    for relative, entry in run_entries(store):
        try:
            mtime_ns = entry.stat().st_mtime_ns
        except OSError:
            continue
        record = known.get(relative)
        if record is None or not _is_current(record, mtime_ns):
            begun = time.perf_counter()
            fresh = _read_record(RunFolder(entry.path), mtime_ns)
            if fresh is None:
                continue
            spent_seconds += time.perf_counter() - begun
            changed += record is None or record.mtime_ns != fresh.mtime_ns or record.text != fresh.text
            record = fresh
        records.append(record)
    # Writing the index of ten thousand runs takes longer than reading a few of them again.
    changed += abs(len(records) - len(known))
    if changed * FEW > len(records) or (changed and spent_seconds > SLOW_SECONDS):
        _save(store, records)
    records.sort(key=attrgetter("created"), reverse=True)
    return records


def _is_current(record: Record, mtime_ns: int) -> bool:
    """Whether a record of the index still says what the run's files say."""
    if record.mtime_ns != mtime_ns or record.state == "running":
        return False
    return record.stamp == 0 or record.stamp == _journal_stamp(record.folder)


def _journal_stamp(folder: RunFolder) -> int:
    """A number that changes with every file of the journal and its size; never 0."""
    found = []
    for name in file_names(folder.journal):
        try:
            status = os.stat(os.path.join(folder.journal, name))
        except OSError:
            continue
        found.append((name, status.st_size, status.st_mtime_ns))
    return zlib.crc32(repr(sorted(found)).encode()) + 1


def _read_record(folder: RunFolder, mtime_ns: int) -> Record | None:
    if not folder.exists():
        return None
    looked_ns = time.time_ns()
    # Before the rows are read: a row that comes meanwhile has the record made again.
    stamp = _journal_stamp(folder)
    fields, is_derived = _read_fields(folder, None)
    return Record(
        folder.path,
        # A change within the same tick would go unseen for ever: read such a folder again next time.
        mtime_ns if is_settled(mtime_ns, looked_ns) else 0,
        int(fields["created_us"]),
        str(fields["state"]),
        orjson.dumps(fields),
        stamp=stamp if is_derived else 0,
    )


def make_record(folder: RunFolder, live: LiveSummary | None = None) -> dict[str, Any]:
    """Read what is known of one run.

    Args:
        live: of this folder, where one is kept: of a running run only what was added to the journal is read then.

    Returns:
        `id, name, project, state, error, created` (Unix seconds), `created_us, started, ended, duration` (seconds),
        `group, notes, tags, host, user, attempts, last_step, rows, config, summary, metrics, define, alerts, problems`.
    """
    return _read_fields(folder, live)[0]


def _read_fields(folder: RunFolder, live: LiveSummary | None) -> tuple[dict[str, Any], bool]:
    """As `make_record`, and whether the summary was made from the rows because none that covers them lies in the run."""
    identity, problems = read_identity(folder)
    is_derived = False
    summary = _of_live(live) if live is not None and live.updates else {}
    if summary.get("state") != "running":
        try:
            summary = read_summary(folder)
        except LossbookError as error:
            summary = {}
            problems.append(f"{error}; it is made anew")
        if summary.get("state") not in _ENDED or not _covers(summary, identity):
            summary = _bring_up_to_date(summary, folder, problems, live)
            is_derived = True
    config = merge_config(identity.get("config") or {}, summary.get("config") or {})
    created = int(identity.get("created") or summary.get("started") or 0)
    started, ended = summary.get("started") or created, summary.get("ended")
    running = summary.get("state") == "running"
    last_moment = time.time_ns() // 1000 if running else ended or summary.get("last_time") or started
    host = identity.get("host") or {}
    if identity.get("format", 1) > 1:
        problems.append(f"{folder.run_json} has format {identity['format']}, which this version does not know")
    fields = {
        "id": identity.get("id") or os.path.basename(folder.path),
        "name": identity.get("name") or os.path.basename(folder.path),
        "project": identity.get("project") or os.path.basename(os.path.dirname(folder.path)),
        "state": summary.get("state", "crashed"),
        "error": summary.get("error"),
        "created": created / 1e6,
        "created_us": created,
        "started": started / 1e6,
        "ended": ended / 1e6 if ended else None,
        "duration": max(0.0, (last_moment - started) / 1e6),
        "group": identity.get("group"),
        "notes": identity.get("notes"),
        "tags": identity.get("tags") or [],
        "host": host.get("name"),
        "user": host.get("user"),
        "attempts": len(identity.get("attempts") or ()) or 1,
        "last_step": summary.get("last_step"),
        "rows": summary.get("rows", 0),
        "config": config,
        "summary": summary.get("summary") or {},
        "metrics": summary.get("metrics") or {},
        "define": summary.get("define") or [],
        "alerts": summary.get("alerts", 0),
        "problems": [*problems, *(summary.get("problems") or [])],
    }
    return fields, is_derived


def _of_live(live: LiveSummary) -> dict[str, Any]:
    try:
        return live.update()
    except (LossbookError, OSError):
        return {}


def _covers(summary: dict[str, Any], identity: dict[str, Any]) -> bool:
    """Whether the summary was written in the last attempt (a resumed run's first seconds have an older one)."""
    attempts = identity.get("attempts") or [{}]
    return bool((summary.get("started") or 0) >= (attempts[-1].get("started") or 0))


def _bring_up_to_date(
    summary: dict[str, Any], folder: RunFolder, problems: list[str], live: LiveSummary | None
) -> dict[str, Any]:
    from lossbook.storage.summary import LiveSummary, overlay

    try:
        live = live or LiveSummary(folder)
        summary = overlay(summary, folder, live) if summary else live.update()
    except (LossbookError, OSError) as error:
        problems.append(str(error))
        return summary
    return summary


def index_path(store: str) -> str:
    """Where this reader keeps what it knows of a store: in its own cache, never in the store."""
    import hashlib

    digest = hashlib.sha256(os.fsencode(os.path.abspath(store))).hexdigest()[:16]
    return os.path.join(cache_folder(), "index", f"{digest}.json")


def load_index(store: str) -> dict[str, Record]:
    """What the index file says, by `project/run`; mapped, not read. Nothing where there is none."""
    try:
        with open(index_path(store), "rb") as file:
            header = orjson.loads(file.readline())
            at = file.tell()
            if header["version"] != VERSION:
                return {}
            # Mapped, because most records are not looked at; a replaced index stays readable where it is mapped.
            body = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        records = {}
        for relative, mtime_ns, created, state, length, checksum, stamp in header["runs"]:
            text = (body, at, length, checksum)
            records[relative] = Record(f"{store}/{relative}", mtime_ns, created, state, text, stamp=stamp)
            at += length
        return records if at == len(body) else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _save(store: str, records: list[Record]) -> None:
    runs = [
        [
            record.path[len(store) :].lstrip("/"),
            record.mtime_ns,
            record.created,
            record.state,
            len(record.text),
            zlib.crc32(record.text),
            record.stamp,
        ]
        for record in records
    ]
    text = b"".join([orjson.dumps({"version": VERSION, "runs": runs}), b"\n", *[record.text for record in records]])
    path = index_path(store)
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        replace_file(path, text, durable=False)
    except OSError:
        # Without a cache everything is read again the next time.
        pass
