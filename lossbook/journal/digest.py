"""The running digest of a journal: it tells a flipped byte in a file that has no end yet.

Beside `journal/r0-000001.jsonl` lies `digests/r0-000001.journal.jsonl`, a line for each piece of whole journal lines:

    {"start":0,"end":4170,"crc32":1234567890,"lines":"8a3f…","check":2345678901}

`crc32` is that of the whole journal up to `end`, `lines` holds the CRC-32 of each line from `start` on (8 hex digits each,
least significant byte first), `check` is the CRC-32 of this line without it. Several processes may append: a piece that
is told twice changes nothing. The digest may lag behind the journal and is never ahead of it.
"""

from __future__ import annotations

import os
import sys
import threading
import zlib
from array import array
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from typing import NamedTuple

import orjson

from lossbook.journal.left_out import note_left_out
from lossbook.paths import RunFolder, SegmentName, make_folder, open_plain, parse_segment_name

#: A piece ends with the first line at or after so many bytes.
PIECE_BYTES = 4096
#: So much of a journal is read at once.
_CHUNK_BYTES = 1 << 20
#: So much of the end of a digest is read to go on with it.
_TAIL_BYTES = 1 << 14
_CHECK = b',"check":'
#: Behind a half line of a digest, so that the next one begins a line of its own.
_TORN = b" torn\n"
#: So much of what was read last tells that a digest is still the same file.
_MARK_BYTES = 64
#: So many digests are kept parsed.
_MOST_KEPT = 256


class DamagedPart(NamedTuple):
    """Whole lines of a journal that are not what was written: from the byte `start` up to `end`."""

    start: int
    end: int


class JournalCheck(NamedTuple):
    """How a journal compares with its digest.

    Attributes:
        has_digest: whether there is one.
        covered: up to that byte it tells.
        damaged: the lines that are not what was written.
        missing_bytes: how much of what it covers is no more there.
        damaged_lines: the numbers of the digest's own lines that are damaged.
        torn: whether the digest's last line is cut off.
    """

    has_digest: bool
    covered: int
    damaged: tuple[DamagedPart, ...] = ()
    missing_bytes: int = 0
    damaged_lines: tuple[int, ...] = ()
    torn: bool = False

    @property
    def is_whole(self) -> bool:
        """Whether every byte that is covered is what was written."""
        return not self.damaged and not self.missing_bytes


class _Piece(NamedTuple):
    """A line of a digest."""

    start: int
    end: int
    crc32: int
    lines: str


class _Digest:
    """A digest as far as it was read; thread-safe."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.ends = array("Q")
        self.crcs = array("Q")
        self._places = array("Q")  # of each piece's line in the digest
        self._inode = self._mtime_ns = -1
        self._read_to = 0
        self._mark = b""  # what was read last
        self._number = 0
        self.damaged_lines: list[int] = []
        self.torn = False
        self._lock = threading.Lock()

    def read_on(self) -> bool:
        """Read what was added; False when there is no digest."""
        with self._lock:
            try:
                with open(self.path, "rb", opener=open_plain) as file:
                    status = os.fstat(file.fileno())
                    is_same = status.st_size == self._read_to and status.st_mtime_ns == self._mtime_ns
                    if status.st_ino != self._inode or (status.st_size <= self._read_to and not is_same):
                        self._forget()
                        self._inode = status.st_ino
                    if is_same:
                        return True
                    self._mtime_ns = status.st_mtime_ns
                    file.seek(self._read_to - len(self._mark))
                    text = file.read()
                    if not text.startswith(self._mark):
                        # Another file of that name.
                        self._forget()
                        self._inode = status.st_ino
                        file.seek(0)
                        text = file.read()
                    text = text[len(self._mark) :]
            except FileNotFoundError:
                self._forget()
                return False
            except OSError:
                return False
            whole = text.rfind(b"\n") + 1
            self.torn = whole < len(text)
            at = self._read_to
            for line in text[:whole].split(b"\n")[:-1]:
                self._number += 1
                piece = _parse(line)
                if piece is not None:
                    self._add(piece.end, piece.crc32, at)
                elif not line.endswith(_TORN[:-1]):
                    self.damaged_lines.append(self._number)
                at += len(line) + 1
            self._read_to = at
            self._mark = text[:whole][-_MARK_BYTES:] or self._mark
            return True

    def _forget(self) -> None:
        del self.ends[:], self.crcs[:], self._places[:], self.damaged_lines[:]
        self._inode, self._read_to, self._number, self._mark, self.torn = -1, 0, 0, b"", False

    def _add(self, end: int, crc: int, place: int) -> None:
        position = bisect_left(self.ends, end)
        if position < len(self.ends) and self.ends[position] == end:
            return
        self.ends.insert(position, end)
        self.crcs.insert(position, crc)
        self._places.insert(position, place)

    def lines_of(self, position: int) -> tuple[int, array[int]]:
        """Where a piece begins, and the checksum of each of its lines."""
        with open(self.path, "rb", opener=open_plain) as file:
            file.seek(self._places[position])
            piece = _parse(file.readline().rstrip(b"\n"))
        if piece is None:
            return 0, array("I")
        return piece.start, _line_checksums(piece.lines)

    def reached(self) -> tuple[int, int]:
        """Up to which byte it tells, and the checksum there."""
        return (self.ends[-1], self.crcs[-1]) if self.ends else (0, 0)

    def before(self, position: int) -> tuple[int, int]:
        """Where a piece begins at the latest, and the checksum there."""
        return (self.ends[position - 1], self.crcs[position - 1]) if position else (0, 0)


_kept: OrderedDict[str, _Digest] = OrderedDict()
_kept_lock = threading.Lock()


def digest_path(folder: RunFolder, name: SegmentName) -> str:
    """Where the digest of a journal segment stands."""
    return os.path.join(folder.digests, f"{name.stem}.journal.jsonl")


# -- writing ----------------------------------------------------------------------------------------------------------


def extend_digest(folder: RunFolder, path: str, *, to_end: bool = False) -> int:
    """Cover what was added to a journal since it was covered last.

    Args:
        path: the journal's.
        to_end: cover its last whole line too, in a piece that may be short: nobody writes it any more.

    Returns:
        Up to which byte it is covered now.

    Raises:
        OSError: the journal is gone, or the digest cannot be written.
    """
    target = _digest_path_of(path)
    start, crc, is_torn = _last_piece(target)
    with open(path, "rb") as file:
        if os.fstat(file.fileno()).st_size <= start:
            return start
        file.seek(start)
        text = b""
        written: list[bytes] = []
        while chunk := file.read(_CHUNK_BYTES):
            text += chunk
            begin = 0
            while (end := text.find(b"\n", begin + PIECE_BYTES - 1) + 1) > 0:
                crc = zlib.crc32(text[begin:end], crc)
                written.append(_piece(text[begin:end], start + begin, crc))
                begin = end
            text, start = text[begin:], start + begin
        rest = text.rfind(b"\n") + 1
        if to_end and rest:
            crc = zlib.crc32(text[:rest], crc)
            written.append(_piece(text[:rest], start, crc))
            start += rest
    if written:
        _append(folder, target, b"".join(written), is_torn=is_torn)
    return start


def _last_piece(target: str) -> tuple[int, int, bool]:
    """Up to which byte a digest tells, the checksum there, and whether its last line is torn; the end of the file tells it."""
    try:
        with open(target, "rb", opener=open_plain) as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL_BYTES))
            lines = file.read().split(b"\n")
    except FileNotFoundError:
        return 0, 0, False
    for line in reversed(lines[:-1]):
        piece = _parse(line)
        if piece is not None:
            return piece.end, piece.crc32, bool(lines[-1])
    digest = _keep(target)
    digest.read_on()
    return *digest.reached(), digest.torn


def _piece(text: bytes, start: int, crc: int) -> bytes:
    lines = array("I", map(zlib.crc32, text.splitlines(keepends=True) if b"\r" not in text else _split(text)))
    if sys.byteorder == "big":
        lines.byteswap()
    head = b'{"start":%d,"end":%d,"crc32":%d,"lines":"%b"' % (
        start,
        start + len(text),
        crc,
        lines.tobytes().hex().encode(),
    )
    return b"%b%b%d}\n" % (head, _CHECK, zlib.crc32(head))


def _append(folder: RunFolder, path: str, text: bytes, *, is_torn: bool) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        fd = os.open(path, flags, 0o666)
    except FileNotFoundError:
        make_folder(folder.digests)
        fd = os.open(path, flags, 0o666)
    try:
        os.write(fd, _TORN + text if is_torn else text)
    finally:
        os.close(fd)


def extend_digests(folder: RunFolder, rank: int) -> None:
    """Cover the journals of one writer, which has ended, to their last line. Nothing is said when that fails."""
    try:
        names = os.listdir(folder.journal)
    except OSError:
        return
    for filename in names:
        name = parse_segment_name(filename)
        if name is None or name.rank != rank or filename != f"{name.stem}.jsonl":
            continue
        try:
            extend_digest(folder, os.path.join(folder.journal, filename), to_end=True)
        except OSError:
            continue  # sealed meanwhile, or no room: `lossbook verify` says what is not covered


# -- comparing ----------------------------------------------------------------------------------------------------------


def damaged_parts(path: str, start: int = 0, end: int | None = None) -> list[DamagedPart]:
    """The lines of a journal that are not what was written, in the order of the file; none where no digest tells.

    Args:
        start, end: only of the pieces that lie between these bytes, in whole or in part.
    """
    digest = _keep(_digest_path_of(path))
    if not digest.read_on() or not digest.ends or digest.ends[-1] <= start:
        return []
    first = bisect_right(digest.ends, start)
    last = len(digest.ends) - 1 if end is None else min(bisect_left(digest.ends, end), len(digest.ends) - 1)
    damaged = tuple(_compare(digest, path, first, last)[0])
    if damaged:
        said = describe_damage(JournalCheck(True, digest.ends[-1], damaged))
        note_left_out(path, f"{path}: {said}; the lines there are left out")
    return list(damaged)


def covered_bytes(path: str) -> int:
    """Up to which byte the digest of a journal tells: whole lines were there up to it."""
    digest = _keep(_digest_path_of(path))
    return digest.reached()[0] if digest.read_on() else 0


def check_journal(path: str) -> JournalCheck:
    """Compare a journal with its digest, from end to end.

    Raises:
        OSError: the journal cannot be read.
    """
    digest = _keep(_digest_path_of(path))
    if not digest.read_on():
        return JournalCheck(has_digest=False, covered=0)
    damaged, missing = _compare(digest, path, 0, len(digest.ends) - 1)
    return JournalCheck(
        True, digest.reached()[0], tuple(damaged), missing, tuple(digest.damaged_lines), torn=digest.torn
    )


def describe_damage(check: JournalCheck) -> str:
    """What is wrong with a journal, in words, as its digest has it."""
    said = []
    if check.damaged:
        places = ", ".join(f"{part.start} to {part.end}" for part in check.damaged[:5])
        more = f" and {len(check.damaged) - 5} more" if len(check.damaged) > 5 else ""
        said.append(f"its bytes {places}{more} are not what was written")
    if check.missing_bytes:
        said.append(f"its last {check.missing_bytes} bytes are missing")
    return "; ".join(said)


def _compare(digest: _Digest, path: str, first: int, last: int) -> tuple[list[DamagedPart], int]:
    """What is damaged in some pieces, and how many bytes of them are missing."""
    damaged: list[DamagedPart] = []
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        position = first
        while position <= last:
            begin, crc = digest.before(position)
            # Many pieces at once: as a rule all are whole, and one checksum tells.
            until = min(last, max(position, bisect_right(digest.ends, begin + _CHUNK_BYTES) - 1))
            file.seek(begin)
            text = file.read(digest.ends[until] - begin)
            if zlib.crc32(text, crc) != digest.crcs[until]:
                for one in range(position, until + 1):
                    damaged += _damage_in(digest, one, text, begin)
            position = until + 1
    missing = max(0, digest.reached()[0] - size)
    # A line that the file ends in is torn: it is not there, rather than damaged.
    return [part for part in damaged if part.end < size or not missing], missing


def _damage_in(digest: _Digest, position: int, text: bytes, begin: int) -> list[DamagedPart]:
    start, crc = digest.before(position)
    end = digest.ends[position]
    piece = text[start - begin : end - begin]
    if zlib.crc32(piece, crc) == digest.crcs[position]:
        return []
    told_from, checksums = digest.lines_of(position)
    lines = _split(piece)
    if told_from != start:
        return [DamagedPart(start, end)]
    found = [zlib.crc32(line) for line in lines]
    front = 0
    while front < min(len(found), len(checksums)) and found[front] == checksums[front]:
        front += 1
    back = 0
    while back < min(len(found), len(checksums)) - front and found[-1 - back] == checksums[-1 - back]:
        back += 1
    damaged = []
    at = start
    for number, line in enumerate(lines):
        # With as many lines as there were each stands for itself; otherwise a line's end is what was damaged.
        is_damaged = front <= number < len(lines) - back
        if is_damaged and len(lines) == len(checksums):
            is_damaged = found[number] != checksums[number]
        if is_damaged:
            damaged.append(DamagedPart(at, at + len(line)))
        at += len(line)
    # Of one that was cut short, the lines that are left are well.
    return damaged if damaged or at < end else [DamagedPart(start, end)]


def _split(text: bytes) -> list[bytes]:
    """Lines with their ends; only `\\n` ends one."""
    lines = [line + b"\n" for line in text.split(b"\n")]
    lines[-1] = lines[-1][:-1]
    return lines if lines[-1] else lines[:-1]


def _parse(line: bytes) -> _Piece | None:
    """A line of a digest; None when it is damaged."""
    head, mark, check = line.rpartition(_CHECK)
    if not mark or check != b"%d}" % zlib.crc32(head):
        return None
    try:
        return _Piece(**orjson.loads(head + b"}"))
    except (orjson.JSONDecodeError, TypeError):
        return None


def _line_checksums(text: str) -> array[int]:
    found = array("I", bytes.fromhex(text))
    if sys.byteorder == "big":
        found.byteswap()
    return found


def _digest_path_of(path: str) -> str:
    directory, filename = os.path.split(path)
    return os.path.join(os.path.dirname(directory), "digests", f"{filename.partition('.')[0]}.journal.jsonl")


def _keep(path: str) -> _Digest:
    with _kept_lock:
        found = _kept.get(path)
        if found is None:
            found = _kept[path] = _Digest(path)
        _kept.move_to_end(path)
        while len(_kept) > _MOST_KEPT:
            _kept.popitem(last=False)
    return found
