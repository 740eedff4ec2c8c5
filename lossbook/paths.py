"""The run folder: what each file is called, where a store lies, and which names are safe.

One owner for every path: nothing outside this module joins a user's text into a path. `docs/format.md` is the
specification; `FORMAT` is the version that new runs carry in `run.json`.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import orjson

from lossbook.errors import BadArgument, DamagedFile, StoreError

FORMAT = 2
DEFAULT_STORE = "lossbook-runs"
TRASH = ".trash"
ARTIFACTS = ".artifacts"
#: In a store: a folder for each place whose followers have begun to follow runs there and are not done with them.
FOLLOWED = ".followed"
#: In a project, with the user's number behind it: a folder for each job, in which its launches announce their runs.
LAUNCHES = ".launches"
#: A cache that earlier versions kept in the store. Nothing reads or writes it any more; it tells a store by itself.
OLD_INDEX = ".index.json"
#: The follower that keeps company to rank r writes as rank `MONITOR_RANK - r`: the machine's series, and alerts.
MONITOR_RANK = -1000
LAST_MONITOR_RANK = -20000
_TICK_NS = 50_000_000
#: Spreads inodes over all bits of a mark, which JSON can hold.
_ODD, _LONGEST_INTEGER = 0x9E3779B97F4A7C15, (1 << 62) - 1

_SAFE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]{0,79}\Z")
_SEGMENT = re.compile(r"r(-?\d+)-(\d{6,})(?:-(\d{6,}))?\Z")
#: The last member of a small JSON file: the checksum of its text up to there.
_CHECKSUM = "checksum"
_EXAMPLE = b',\n  "checksum": "crc32:????????"\n}\n'
_CHECKSUM_LINE = re.compile(re.escape(_EXAMPLE).replace(rb"\?" * 8, rb"([0-9a-f]{8})") + rb"\Z")
#: An end of a file that differs from such a member in so many bytes at the most is one that was damaged.
_ALIKE = 4
_NOT_AS_WRITTEN = "is not as it was written (its checksum disagrees)"
_ID_ALPHABET = "abcdefghijkmnpqrstuvwxyz23456789"


# -- names ------------------------------------------------------------------------------------------------------


def safe_name(text: str) -> str:
    """Return `text` as one folder name that is safe on every file system.

    Letters, digits, `_`, `-` and `.` stay; everything else becomes `_`. A text that had to be changed gets the
    first 8 hex digits of its SHA-256 behind it, so two texts never share a folder.
    """
    if _SAFE.match(text):
        return text
    import hashlib

    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    kept = re.sub(r"[^A-Za-z0-9_.\-]+", "_", text).lstrip(".-")[:60]
    return f"{kept or 'x'}-{digest}"


def is_safe_name(text: object) -> bool:
    """Whether `safe_name` would leave a text as it is: one folder's name, that leads nowhere else."""
    return isinstance(text, str) and _SAFE.match(text) is not None


def new_run_id() -> str:
    """Return 8 random letters and digits (no 0, 1, l, o), the first a letter; 40 bits of choice."""
    raw = os.urandom(8)
    return _ID_ALPHABET[raw[0] % 24] + "".join(_ID_ALPHABET[byte & 31] for byte in raw[1:])


def default_store() -> str:
    """Return the store used when none is named: `LOSSBOOK_STORE`, else `lossbook-runs` in `WANDB_DIR` or here."""
    named = os.environ.get("LOSSBOOK_STORE")
    return named or os.path.join(os.environ.get("WANDB_DIR", ""), DEFAULT_STORE)


def artifacts_folder(store: str) -> str:
    """Where a store keeps artifacts; a name that begins with a dot, so it is taken for no project."""
    return os.path.join(store, ARTIFACTS)


def is_marked_store(folder: str) -> bool:
    """Whether a folder is known as a store although no run lies in it (any more)."""
    return any(os.path.exists(os.path.join(folder, name)) for name in (TRASH, ARTIFACTS, OLD_INDEX))


def cache_folder() -> str:
    """Return the folder for what can be deleted at any time: `LOSSBOOK_CACHE`, else the user's cache folder.

    A user of a container may have no home, or one that cannot be written: then it is below `TMPDIR` (else `/tmp`).
    """
    named = os.environ.get("LOSSBOOK_CACHE")
    if named:
        return named
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    folder = os.path.join(base, "lossbook")
    return folder if os.path.isabs(folder) and _can_be_made(folder) else _temporary_cache()


def _can_be_made(folder: str) -> bool:
    """Whether a folder, or the first one above it that is there, lets this user write."""
    while not os.path.lexists(folder) and folder != os.path.dirname(folder):
        folder = os.path.dirname(folder)
    return os.path.isdir(folder) and os.access(folder, os.W_OK | os.X_OK)


def _temporary_cache() -> str:
    """A folder of this user alone; where another user has taken its name, one of this process alone."""
    path = os.path.join(os.environ.get("TMPDIR") or "/tmp", f"lossbook-cache-{os.geteuid()}")
    try:
        os.mkdir(path, 0o700)
    except OSError:
        pass  # it is there, or whoever writes into it will say why it cannot be
    try:
        found = os.lstat(path)
    except OSError:
        return path
    is_own = stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o022
    return path if is_own else f"{path}-{os.getpid()}"


def passing_store() -> str:
    """Return the store of runs that are kept only until their mirrors have them."""
    return os.path.join(cache_folder(), "passing")


def working_directory() -> str:
    """Return the working directory; when it has been removed, where it was."""
    try:
        return os.getcwd()
    except OSError:
        pass
    try:
        # https://man7.org/linux/man-pages/man5/proc_pid_cwd.5.html: the name of a removed folder ends so.
        return os.readlink("/proc/self/cwd").removesuffix(" (deleted)")
    except OSError:
        return os.environ.get("PWD") or os.sep


def absolute_path(path: str) -> str:
    """Return `path` as `os.path.abspath` does, when the working directory has been removed too."""
    return os.path.normpath(os.path.join(working_directory(), path))


def default_project(directory: str | None = None) -> str:
    """Return `{directory}-{checksum}`, unique to each clone of a repository.

    The checksum is the first 8 hex digits of the SHA-256 of the absolute path of the git root around
    `directory`, or of `directory` itself where there is none.
    """
    import hashlib

    start = absolute_path(directory or "")
    root = start
    while not os.path.exists(os.path.join(root, ".git")):
        parent = os.path.dirname(root)
        if parent == root:
            root = start
            break
        root = parent
    checksum = hashlib.sha256(os.fsencode(root)).hexdigest()[:8]
    return f"{os.path.basename(root) or 'root'}-{checksum}"


# -- the folder -------------------------------------------------------------------------------------------------


class RunFolder(NamedTuple):
    """The paths inside one run's folder."""

    path: str

    @property
    def run_json(self) -> str:
        return os.path.join(self.path, "run.json")

    @property
    def summary_json(self) -> str:
        return os.path.join(self.path, "summary.json")

    @property
    def journal(self) -> str:
        return os.path.join(self.path, "journal")

    @property
    def metrics(self) -> str:
        return os.path.join(self.path, "metrics")

    @property
    def rollups(self) -> str:
        return os.path.join(self.path, "rollups")

    @property
    def events(self) -> str:
        return os.path.join(self.path, "events")

    @property
    def visible(self) -> str:
        return os.path.join(self.path, "visible")

    @property
    def media(self) -> str:
        return os.path.join(self.path, "media")

    @property
    def console(self) -> str:
        return os.path.join(self.path, "console")

    @property
    def code(self) -> str:
        return os.path.join(self.path, "code")

    @property
    def files(self) -> str:
        return os.path.join(self.path, "files")

    @property
    def followers(self) -> str:
        return os.path.join(self.path, "followers")

    @property
    def digests(self) -> str:
        return os.path.join(self.path, "digests")

    def exists(self) -> bool:
        """Whether a run lies here: its identity, or at least a journal of it."""
        return os.path.exists(self.run_json) or os.path.isdir(self.journal)


class SegmentName(NamedTuple):
    """Which journal segments of which writer a file holds: `r<rank>-<first>` or `r<rank>-<first>-<last>`.

    `rank` is the writer: 0 and up for the ranks of a distributed job, below 0 for child processes that log
    through their parent's run, and -1000 - r for what the follower beside rank r measures (`is_monitor`).
    """

    rank: int
    first: int
    last: int

    @property
    def stem(self) -> str:
        if self.first == self.last:
            return f"r{self.rank}-{self.first:06d}"
        return f"r{self.rank}-{self.first:06d}-{self.last:06d}"

    def covers(self, other: SegmentName) -> bool:
        return self.rank == other.rank and self.first <= other.first and other.last <= self.last


def is_monitor(rank: int) -> bool:
    """Whether a writer is no part of the training but the follower beside it."""
    return LAST_MONITOR_RANK <= rank <= MONITOR_RANK


def parse_segment_name(filename: str) -> SegmentName | None:
    """Read a segment's file name (with or without its ending); None when it is not one of ours."""
    matched = _SEGMENT.match(filename.split(".", 1)[0])
    if matched is None:
        return None
    first = int(matched[2])
    return SegmentName(int(matched[1]), first, int(matched[3]) if matched[3] else first)


def project_folder(store: str, project: str) -> str:
    return os.path.join(store, safe_name(project))


def launches_folder(store: str, project: str, job: str) -> str:
    """Where this user's launches of a job announce which run they write; in a shared store each user has such a folder."""
    import hashlib

    digest = hashlib.sha256(job.encode("utf-8", "surrogateescape")).hexdigest()[:16]
    return os.path.join(project_folder(store, project), f"{LAUNCHES}-{os.getuid()}", digest)


def run_folder(store: str, project: str, run_id: str) -> RunFolder:
    """The folder of one run.

    Raises:
        BadArgument: `run_id` is not one safe folder name.
    """
    if not _SAFE.match(run_id):
        raise BadArgument(f"the run id {run_id!r} cannot be a folder name: use letters, digits, '_', '-' and '.'")
    return RunFolder(os.path.join(project_folder(store, project), run_id))


def run_folders(store: str) -> Iterator[RunFolder]:
    """Walk every folder of a store that may be a run's; names that begin with a dot are passed over.

    Raises:
        StoreError: the disk or the file server did not answer; an empty list would look like a fact.
    """
    for _, entry in run_entries(store):
        yield RunFolder(entry.path)


def run_entries(store: str, note: Callable[[str, str], None] | None = None) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """As `run_folders`, as `project/run` and a directory entry, whose mtime changes with each atomic replace.

    Args:
        note: called with the path of each project that may not be listed, and why.
    """
    for project in _folders_in(store, note):
        for entry in _folders_in(project.path, note):
            yield f"{project.name}/{entry.name}", entry


#: Why a folder has nothing to list for us: it is gone, no folder, somebody else's, or a link to itself.
_NOT_FOR_US = frozenset((errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.EPERM, errno.ELOOP))


def _folders_in(path: str, note: Callable[[str, str], None] | None = None) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(path) as entries:
            return [entry for entry in entries if not entry.name.startswith(".") and _is_folder(entry)]
    except OSError as error:
        if error.errno in _NOT_FOR_US:
            if note is not None and error.errno in (errno.EACCES, errno.EPERM):
                note(path, error.strerror or str(error))
            return []
        raise StoreError(
            f"{path} cannot be listed ({error.strerror or error}); check the disk, and ask again"
        ) from error


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a symbolic link to itself, say
        return False


def file_names(path: str) -> list[str]:
    """The names of the plain files in a folder: no link, pipe or device; none where it cannot be read or is a link itself."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return []
    try:
        with os.scandir(descriptor) as entries:
            return [entry.name for entry in entries if _is_file(entry)]
    except OSError:
        return []
    finally:
        os.close(descriptor)


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file(follow_symlinks=False)
    except OSError:
        return False


def is_settled(mtime_ns: int, looked_ns: int) -> bool:
    """Whether a folder that was looked at then cannot have changed since without another mtime.

    A file system's clock ticks every few milliseconds: what changes twice within a tick shows once.
    """
    return looked_ns - mtime_ns > _TICK_NS


def folder_mark(status: os.stat_result) -> int:
    """A number that changes when a folder's names change, or when another folder stands in its place; never 0."""
    return (status.st_mtime_ns ^ (status.st_ino * _ODD)) & _LONGEST_INTEGER or 1


# -- small JSON files ---------------------------------------------------------------------------------------------


class JsonFile(NamedTuple):
    """What a small file holds, and how that compares with its checksum.

    Attributes:
        values: without the checksum.
        is_covered: whether there is one.
        doubt: one sentence when the file is not as it was written.
    """

    values: dict[str, Any]
    is_covered: bool
    doubt: str | None


def read_json(path: str) -> dict[str, Any] | None:
    """Read one JSON object; None when there is no such file.

    Raises:
        DamagedFile: the file holds something else than one JSON object, or is not as it was written.
        StoreError: the file is there and cannot be read.
    """
    found = read_json_file(path)
    if found is None:
        return None
    if found.doubt is not None:
        raise DamagedFile(found.doubt)
    return found.values


def read_json_file(path: str) -> JsonFile | None:
    """As `read_json`, of a file that a person may have changed: that it is not as it was written is no error.

    Raises:
        DamagedFile: the file holds something else than one JSON object.
        StoreError: the file is there and cannot be read.
    """
    try:
        with open(path, "rb", opener=open_plain) as file:
            text = file.read()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise StoreError(f"{path} is a link; links among a run's files are not followed") from None
        raise StoreError(f"{path} cannot be read ({error.strerror}); check who owns it") from error
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise DamagedFile(f"{path} is damaged at line {error.lineno}: {error.msg}") from None
    if not isinstance(value, dict):
        raise DamagedFile(f"{path} is damaged: it holds no JSON object")
    value.pop(_CHECKSUM, None)
    found = _CHECKSUM_LINE.search(text)
    if found is not None:
        doubt = None if int(found[1], 16) == zlib.crc32(text[: found.start()]) else f"{path} {_NOT_AS_WRITTEN}"
        return JsonFile(value, True, doubt)
    # Damage to the checksum itself is told from a file that never had one.
    end = (text if text.endswith(b"\n") else text + b"\n")[-len(_EXAMPLE) :]
    unlike = sum(one != other for one, other in zip(end, _EXAMPLE, strict=False) if other != ord("?"))
    if len(end) == len(_EXAMPLE) and unlike <= _ALIKE:
        return JsonFile(value, False, f"{path} {_NOT_AS_WRITTEN}")
    return JsonFile(value, False, None)


def open_plain(path: str, flags: int) -> int:
    """An opener for `open()` that takes plain files alone: a pipe would be waited for, a device never ends, and a link
    may lead anywhere.

    Raises:
        OSError: it cannot be opened, or is something else.
    """
    descriptor = os.open(path, flags | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is no plain file", path)
    return descriptor


def write_json(path: str, value: dict[str, Any], *, durable: bool = True) -> None:
    """Replace a JSON file in one step: readers see the old or the new one, never a part.

    Its last member is the CRC-32 of the text before it.

    Args:
        durable: also fsync the file before the rename (power loss leaves the old or the new).
    """
    if _CHECKSUM in value:
        value = {name: one for name, one in value.items() if name != _CHECKSUM}
    text = orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS)
    if value:
        body = text.removesuffix(b"\n}")
        text = body + _EXAMPLE.replace(b"????????", b"%08x" % zlib.crc32(body))
    replace_file(path, text, durable=durable)


def replace_file(path: str, contents: bytes, *, durable: bool = True) -> None:
    """Write `contents` beside `path` and rename it into place."""
    with replacing(path) as partial, open(partial, "wb") as file:
        file.write(contents)
        if durable:
            file.flush()
            os.fsync(file.fileno())


@contextmanager
def replacing(path: str) -> Iterator[str]:
    """A path beside `path` to write to: renamed into place at the end, removed where that fails.

    Readers see the old file or the new one, never a part. Readers of a run pass over names that end in `.tmp`.
    """
    partial = f"{path}.{os.getpid()}-{os.urandom(3).hex()}.tmp"
    try:
        yield partial
        os.replace(partial, path)
    except BaseException:
        try:
            os.unlink(partial)
        except OSError:
            pass
        raise


def make_folder(path: str) -> None:
    """Make one folder unless it is there; never those above it: a run that was moved away is not begun again."""
    try:
        os.mkdir(path)
    except FileExistsError:
        pass


def fsync_folder(path: str) -> None:
    """Make the names in a folder durable; silent where the file system does not know how."""
    try:
        fd = os.open(path, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
    except OSError:
        return
    try:
        os.fsync(fd)
    except OSError:
        pass
    finally:
        os.close(fd)


@contextmanager
def folder_lock(folder: RunFolder, name: str, *, seconds: float = 2.0) -> Iterator[bool]:
    """Hold an advisory lock on a run folder; yields False when it could not be had in time.

    The lock only keeps two processes from doing the same work at once. Every step that it guards is safe
    without it, because some network file systems have no locks.
    """
    import fcntl

    held = False
    fd = -1
    try:
        make_folder(folder.followers)
        fd = os.open(os.path.join(folder.followers, f"{name}.lock"), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        deadline = time.monotonic() + seconds
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                held = True
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    break
                time.sleep(0.005)
    except OSError:
        held = False
    try:
        yield held
    finally:
        if fd >= 0:
            os.close(fd)
