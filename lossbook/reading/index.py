"""Reads what is known of every run of a store: of 10,000 runs in a tenth of a second.

The index file keeps an `IndexRecord` of each: a first line, behind its checksum, that says of each run when its folder
last changed and how long its record is, then a record a line. Only what changed is read anew; a record is parsed when
somebody asks for it. The file is a cache of the reader's own, outside the store: damaged or deleted, it is made again.
Nothing is ever written into the store.
"""

from __future__ import annotations

import mmap
import os
import time
import zlib
from operator import attrgetter
from typing import NamedTuple

import orjson

from lossbook.access import check_store, why_unreadable
from lossbook.journal import note_left_out
from lossbook.paths import RunFolder, cache_folder, folder_mark, is_settled, replace_file, run_entries
from lossbook.reading.record import IndexRecord, journal_stamp, parse_record, read_record

VERSION = 7
#: The index is written anew when more than one run of so many has changed,
FEW = 50
#: or when what had to be read anew took longer than that.
SLOW_SECONDS = 0.1


class MappedText(NamedTuple):
    """A text in a mapped file."""

    file: mmap.mmap
    offset: int
    length: int
    checksum: int

    def read(self) -> bytes | None:
        """The text; None where it was damaged."""
        text = self.file[self.offset : self.offset + self.length]
        return text if zlib.crc32(text) == self.checksum else None


class IndexEntry:
    """One run of the index: when its folder changed, and its record, parsed once when it is asked for.

    Args:
        text: the record as JSON, or where it lies in the mapped index.
        stamp: of the journal that the record was made from, where no summary of it lies in the run; 0 where one does.
        parents: the folders of the runs that it was forked from.
        parents_stamp: of their files, when the record was made.
    """

    __slots__ = ("_record", "_text", "created", "mark", "parents", "parents_stamp", "path", "stamp", "state")

    def __init__(
        self,
        path: str,
        mark: int,
        created: int,
        state: str,
        text: bytes | MappedText,
        record: IndexRecord | None = None,
        stamp: int = 0,
        parents: tuple[str, ...] = (),
        parents_stamp: int = 0,
    ) -> None:
        self.path, self.mark, self.created, self.state, self._text = path, mark, created, state, text
        self.stamp, self.parents, self.parents_stamp = stamp, parents, parents_stamp
        self._record = record

    @property
    def folder(self) -> RunFolder:
        return RunFolder(self.path)

    @property
    def is_of_its_parents(self) -> bool:
        """Whether the record of a fork still says what its parents' files say; true of a run that is no fork."""
        if not self.parents:
            return True
        from lossbook.reading.forks import parents_stamp

        return parents_stamp(self.parents) == self.parents_stamp

    @property
    def text(self) -> bytes:
        """The record as JSON."""
        if isinstance(self._text, MappedText):
            # A cache that was damaged costs one reading, never a wrong answer.
            self._text = self._text.read() or read_record(self.folder).record.to_text()
        return self._text

    @property
    def mapped_text(self) -> MappedText | None:
        """Where its text lies in the mapped index; None when it was read anew."""
        return self._text if isinstance(self._text, MappedText) else None

    @property
    def record(self) -> IndexRecord:
        """What is known of the run."""
        if self._record is None:
            self._record = parse_record(self.text)
        return self._record


def read_index(store: str, unreadable: list[str] | None = None) -> list[IndexEntry]:
    """Every run of a store as it stands now, the newest first. Running runs are up to date.

    Args:
        unreadable: gets a sentence for each project and each run that may not be read. Commands say them by themselves.

    Raises:
        StoreError: the store is not there any more, or cannot be read.
    """
    check_store(store)

    def note(path: str, why: str) -> None:
        sentence = f"{path} cannot be read ({why}), so it is missing here; check who owns it"
        note_left_out(path, sentence)
        if unreadable is not None:
            unreadable.append(sentence)

    known = load_index(store)
    entries: list[IndexEntry] = []
    changed, spent_seconds = 0, 0.0
    for relative, folder in run_entries(store, note):
        try:
            status = folder.stat()
            mark, mtime_ns = folder_mark(status), status.st_mtime_ns
        except FileNotFoundError:
            continue
        except OSError:
            mark = mtime_ns = 0  # it is there, and is read anew as long as that cannot be asked
        entry = known.get(relative)
        if entry is None or not _is_current(entry, mark):
            begun = time.perf_counter()
            fresh = _read_entry(RunFolder(folder.path), mark, mtime_ns)
            if fresh is None:
                if (why := why_unreadable(RunFolder(folder.path))) is not None:
                    note(folder.path, why)
                continue
            spent_seconds += time.perf_counter() - begun
            changed += (
                entry is None
                or entry.mark != fresh.mark
                or entry.parents_stamp != fresh.parents_stamp
                or entry.text != fresh.text
            )
            entry = fresh
        entries.append(entry)
    # Writing the index of ten thousand runs takes longer than reading a few of them again.
    changed += abs(len(entries) - len(known))
    if changed * FEW > len(entries) or (changed and spent_seconds > SLOW_SECONDS):
        _save(store, entries)
    entries.sort(key=attrgetter("created"), reverse=True)
    return entries


def _is_current(entry: IndexEntry, mark: int) -> bool:
    """Whether a record of the index still says what the run's files say."""
    if entry.mark != mark or entry.state == "running" or not entry.is_of_its_parents:
        return False
    return entry.stamp == 0 or entry.stamp == journal_stamp(entry.folder)


def _read_entry(folder: RunFolder, mark: int, mtime_ns: int) -> IndexEntry | None:
    if not folder.exists():
        return None
    looked_ns = time.time_ns()
    record, stamp, parents, parents_stamp, is_whole = read_record(folder)
    return IndexEntry(
        folder.path,
        # A change within the same tick would go unseen for ever: read such a folder again next time.
        # What may be read one day does not change the folder then.
        mark if is_whole and is_settled(mtime_ns, looked_ns) else 0,
        record.created_us,
        record.state,
        record.to_text(),
        stamp=stamp,
        parents=parents,
        parents_stamp=parents_stamp,
    )


def index_path(store: str) -> str:
    """Where this reader keeps what it knows of a store: in its own cache, never in the store."""
    import hashlib

    digest = hashlib.sha256(os.fsencode(os.path.abspath(store))).hexdigest()[:16]
    return os.path.join(cache_folder(), "index", f"{digest}.json")


def load_index(store: str) -> dict[str, IndexEntry]:
    """What the index file says, by `project/run`; mapped, not read. Nothing where there is none."""
    try:
        with open(index_path(store), "rb") as file:
            checksum, _, line = file.readline().partition(b" ")
            if int(checksum, 16) != zlib.crc32(line):
                return {}
            header = orjson.loads(line)
            at = file.tell()
            if header["version"] != VERSION:
                return {}
            # Mapped, because most records are not looked at; a replaced index stays readable where it is mapped.
            body = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        entries = {}
        for relative, mark, created, state, length, checksum, stamp, parents, parents_stamp in header["runs"]:
            text = MappedText(body, at, length, checksum)
            entries[relative] = IndexEntry(
                f"{store}/{relative}",
                mark,
                created,
                state,
                text,
                stamp=stamp,
                parents=tuple(parents),
                parents_stamp=parents_stamp,
            )
            at += length
        return entries if at == len(body) else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _save(store: str, entries: list[IndexEntry]) -> None:
    runs = [
        [
            entry.path[len(store) :].lstrip("/"),
            entry.mark,
            entry.created,
            entry.state,
            len(entry.text),
            zlib.crc32(entry.text),
            entry.stamp,
            entry.parents,
            entry.parents_stamp,
        ]
        for entry in entries
    ]
    header = orjson.dumps({"version": VERSION, "runs": runs}) + b"\n"
    text = b"".join([b"%08x " % zlib.crc32(header), header, *[entry.text for entry in entries]])
    path = index_path(store)
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        replace_file(path, text, durable=False)
    except OSError:
        # Without a cache everything is read again the next time.
        pass
