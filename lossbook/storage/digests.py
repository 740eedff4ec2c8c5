"""The SHA-256 of each sealed file: written before the file is put in place, and compared before its rows are used.

`digests/r0-000001.sha256` holds the lines of `sha256sum` for the three files of a segment, behind a comment with a checksum
of the lines themselves: damage to a digest is told from damage to what it covers, and costs no row. A file that no
digest covers (an older Lossbook sealed it) is read as it is.
"""

from __future__ import annotations

import hashlib
import os
import re
import threading
import zlib
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from lossbook.errors import DamagedFile
from lossbook.journal import note_left_out
from lossbook.paths import RunFolder, fsync_folder, make_folder, open_plain, replace_file

#: SHA-256 in hexadecimal, by path relative to the run's folder. Two sealers at once may leave two for one file.
Digests = dict[str, frozenset[str]]

_HEAD = re.compile(rb"# crc32 of the lines below: ([0-9a-f]{8})\n")
_LINE = re.compile(rb"([0-9a-f]{64})  ([^\n]+)\n")
#: That many files are remembered as compared, of all runs together.
_MOST_REMEMBERED = 100_000


class _Identity(NamedTuple):
    """What tells that a file has not changed since it was looked at."""

    inode: int
    size: int
    mtime_ns: int


_remembered: OrderedDict[str, tuple[_Identity, _Identity | None, str | None]] = OrderedDict()
_lock = threading.Lock()


def digests_path(folder: RunFolder, stem: str) -> str:
    """Where the digests of the files of a name (a segment's, say) stand."""
    return os.path.join(folder.digests, f"{stem}.sha256")


def sha256_of(path: str) -> str:
    """The SHA-256 of a file in hexadecimal.

    Raises:
        OSError: it cannot be read.
    """
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_digests(folder: RunFolder, stem: str, digests: Mapping[str, str], *, durable: bool = True) -> None:
    """Write down the digests of the files of a name, before they are put in place.

    What stands there already of files that are in place stays beside them: until all files are replaced, either is right.

    Args:
        durable: they survive power loss.

    Raises:
        OSError: they cannot be written.
    """
    path = digests_path(folder, stem)
    try:
        known = {
            file: digests for file, digests in read_digests(path).items() if os.path.exists(f"{folder.path}/{file}")
        }
    except (OSError, DamagedFile):
        known = {}
    make_folder(folder.digests)
    _write(path, {file: known.get(file, frozenset()) | {digest} for file, digest in digests.items()}, durable)
    if durable:
        fsync_folder(folder.digests)


def settle_digests(folder: RunFolder, stem: str, digests: Mapping[str, str], *, durable: bool = True) -> None:
    """Leave the digests of the files that are in place now, where others stood beside them.

    Raises:
        OSError: they cannot be written.
    """
    path = digests_path(folder, stem)
    wanted: Digests = {file: frozenset((digest,)) for file, digest in digests.items()}
    try:
        if read_digests(path) == wanted:
            return
    except (OSError, DamagedFile):
        pass
    _write(path, wanted, durable)


def _write(path: str, digests: Digests, durable: bool) -> None:
    lines = "".join(f"{digest}  {file}\n" for file, found in digests.items() for digest in sorted(found)).encode()
    replace_file(path, b"# crc32 of the lines below: %08x\n" % zlib.crc32(lines) + lines, durable=durable)


def read_digests(path: str) -> Digests:
    """What a file of digests says.

    Raises:
        OSError: it is not there, or cannot be read.
        DamagedFile: it is not as it was written.
    """
    with open(path, "rb", opener=open_plain) as file:
        text = file.read()
    head = _HEAD.match(text)
    if head is None or int(head[1], 16) != zlib.crc32(text[head.end() :]):
        raise DamagedFile(f"{path} is damaged; the files that it covers cannot be compared with it")
    found: Digests = {}
    for digest, name in _LINE.findall(text, head.end()):
        file_name = name.decode("utf-8", "replace")
        found[file_name] = found.get(file_name, frozenset()) | {digest.decode()}
    return found


def remove_digests(folder: RunFolder, stem: str) -> None:
    """Remove the digests of a segment whose files are gone."""
    try:
        os.unlink(digests_path(folder, stem))
    except OSError:
        pass


# -- comparing ------------------------------------------------------------------------------------------------------


def is_covered(path: str) -> bool:
    """Whether a digest tells what a sealed file was.

    Raises:
        DamagedFile: the file of digests is damaged.
    """
    try:
        return _name_of(path) in read_digests(_digest_path_of(path))
    except OSError:
        return False


def compare(path: str) -> str | None:
    """As `disagreement`; the file is read, whatever is remembered of it."""
    return _compare(path, _digest_path_of(path))


def disagreement(path: str) -> str | None:
    """One sentence when a sealed file is not what was written; None when it is, or when no digest covers it.

    A file is read once for each process, until it or its digest changes.

    Raises:
        FileNotFoundError: it is gone (merged into another, say).
    """
    identity = _identity(path)
    if identity is None:
        raise FileNotFoundError(path)
    digest_path = _digest_path_of(path)
    digest_identity = _identity(digest_path)
    with _lock:
        known = _remembered.get(path)
    if known is not None and known[:2] == (identity, digest_identity):
        if known[2] is not None:
            note_left_out(path, known[2])
        return known[2]
    sentence = _compare(path, digest_path) if digest_identity is not None else None
    _remember(path, identity, digest_identity, sentence)
    return sentence


def compare_ahead(paths: Iterable[str]) -> None:
    """Compare several files at once, on all processors, for `disagreement` to be told what is known then."""
    from concurrent.futures import ThreadPoolExecutor

    def look(path: str) -> None:
        try:
            disagreement(path)
        except OSError:
            pass  # gone, or not to be read: whoever asks next is told so

    with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:
        for _ in pool.map(look, paths):
            pass


def note_unreadable(path: str, reason: str) -> str | None:
    """Remember that a file cannot be decoded, as if its digest disagreed: it is left out from then on.

    Returns:
        The sentence; None when the file is gone, which is another matter.
    """
    identity = _identity(path)
    if identity is None:
        return None
    sentence = f"{path} cannot be read ({reason}); its rows are missing here"
    _remember(path, identity, _identity(_digest_path_of(path)), sentence)
    return sentence


def known_disagreements(paths: Iterable[str]) -> list[str]:
    """The sentences that `disagreement` has said of these files, without reading any."""
    found = []
    for path in paths:
        with _lock:
            known = _remembered.get(path)
        if known is not None and known[2] is not None and _identity(path) == known[0]:
            found.append(known[2])
    return found


def _compare(path: str, digest_path: str) -> str | None:
    try:
        covered = read_digests(digest_path)
    except (OSError, DamagedFile):
        return None  # `lossbook verify` says so
    wanted = covered.get(_name_of(path))
    if wanted is None or sha256_of(path) in wanted:
        return None
    return f"{path} is not what was written (its SHA-256 disagrees); its rows are left out: restore it from a copy"


def _name_of(path: str) -> str:
    """A sealed file as its digest names it."""
    return f"{os.path.basename(os.path.dirname(path))}/{os.path.basename(path)}"


def _digest_path_of(path: str) -> str:
    directory, filename = os.path.split(path)
    return os.path.join(os.path.dirname(directory), "digests", f"{filename.split('.', 1)[0]}.sha256")


def _remember(path: str, identity: _Identity, digest: _Identity | None, sentence: str | None) -> None:
    if sentence is not None:
        note_left_out(path, sentence)
    with _lock:
        _remembered[path] = identity, digest, sentence
        _remembered.move_to_end(path)
        while len(_remembered) > _MOST_REMEMBERED:
            _remembered.popitem(last=False)


def _identity(path: str) -> _Identity | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return _Identity(status.st_ino, status.st_size, status.st_mtime_ns)
