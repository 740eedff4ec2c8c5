"""Keeps a folder of Parquet up to date with the runs of a store, file by file and in single steps.

    metrics/<project>/<run>.parquet   a line a value: the rows that count, live ones and those of a fork's parents included
    events/<project>/<run>.parquet    texts, alerts, checkpoints and all else, `value` as JSON
    runs.parquet                      a line a run

Which rows count is what `Book.sql` says: the files are made of its tables. A file is made anew when the run's folder, or
that of a run that it was forked from, has changed since; it is written elsewhere and renamed into place, so that a reader
finds the old one or the new one. `docs/engines.md` says how each engine reads them.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from lossbook.dataset.manifest import RUNS, TABLES, Manifest, lock_path, open_manifest
from lossbook.dataset.runs_table import write_lines
from lossbook.errors import LossbookError, StoreError
from lossbook.json_shapes import JsonMapping
from lossbook.paths import RunFolder, is_marked_store
from lossbook.reading import QueryResult, query_runs

if TYPE_CHECKING:
    from lossbook.book import Book
    from lossbook.reading import RecordedRun

_QUERIES = {
    "metrics": "SELECT project, run, name AS run_name, key, row, step, time, value, rank, attempt FROM metrics "
    "ORDER BY key, step, rank, attempt, row",
    "events": "SELECT project, run, name AS run_name, row, step, time, kind, key, rank, attempt, value::VARCHAR AS value "
    "FROM events ORDER BY rank, row",
}
Progress: TypeAlias = Callable[[int, int], None]
#: What is done is noted so often, in seconds: a process that is killed makes so much work again.
_NOTE_SECONDS = 5.0
#: A run that goes on is written again only after so many times what writing it took.
_REST = 10.0


@dataclass
class Exported:
    """What one turn did: runs written anew, left as they were and removed, and a sentence for each that could not be read."""

    written: int = 0
    unchanged: int = 0
    removed: int = 0
    problems: list[str] = field(default_factory=list)

    @property
    def changed(self) -> bool:
        """Whether any run's rows were."""
        return bool(self.written or self.removed)


class ParquetExport:
    """The data set in one folder, of one store.

    Args:
        project: only that project's runs; None for all.

    Raises:
        DamagedFile, StoreError: the folder cannot be written, or holds something else.
    """

    def __init__(self, book: Book, folder: str, *, project: str | None = None) -> None:
        self._book = book
        self._project = project
        self._folder = os.path.abspath(folder)
        self._rests: dict[str, float] = {}
        open_manifest(self._folder, book.store)

    def turn(self, *, patient: bool = False, progress: Progress | None = None) -> Exported:
        """Bring the folder up to date.

        Args:
            patient: leave a running run that takes long to write for a while, as one does who comes again.
            progress: is told before each run that is written how many are done, and of how many.

        Raises:
            DamagedFile, StoreError: as the class.
        """
        open_manifest(self._folder, self._book.store)
        with _locked(self._folder):
            manifest = open_manifest(self._folder, self._book.store)
            manifest.remove_partials()
            try:
                return self._turn(manifest, patient, progress or _say_nothing)
            except OSError as error:
                if isinstance(error, LossbookError):
                    raise
                raise StoreError(
                    f"{error.filename or self._folder} cannot be written ({error.strerror or error}); what is in place "
                    "is whole: mend that, and export again"
                ) from error

    def _turn(self, manifest: Manifest, patient: bool, progress: Progress) -> Exported:
        runs = self._book.runs(self._project)
        if not runs and manifest.made and not is_marked_store(self._book.store):
            raise StoreError(
                f"the store {self._book.store} holds no run any more, and no trash: {self._folder} is left as it is"
            )
        done = Exported()
        by_name = {"/".join(run.path.rsplit("/", 2)[-2:]): run for run in runs}
        parents: list[JsonMapping] = []
        fingerprints: dict[str, str] = {}
        for name, run in by_name.items():
            fingerprints[name], more = _look(run)
            parents.append(more)
        due = [
            name
            for name, fingerprint in fingerprints.items()
            if manifest.made.get(name) != fingerprint or not all(map(os.path.exists, _files(manifest, name)))
        ]
        if patient:
            now = time.monotonic()
            due = [name for name in due if by_name[name].state != "running" or now >= self._rests.get(name, 0.0)]
        gone = [name for name in manifest.made if name not in by_name]
        for table in TABLES:
            os.makedirs(os.path.join(self._folder, table), exist_ok=True)
        if due:
            manifest.made |= dict.fromkeys(due, "")
            manifest.save()
        self._write_all(manifest, due, by_name, fingerprints, done, progress)
        self._write_runs(manifest, [(run, more) for run, more in zip(runs, parents, strict=True)])
        for name in gone:
            _remove(manifest, name)
        done.removed = len(gone)
        done.unchanged = len(by_name) - done.written - len(done.problems)
        if due or gone:
            manifest.save()
        return done

    def _write_all(
        self,
        manifest: Manifest,
        due: Sequence[str],
        by_name: dict[str, RecordedRun],
        fingerprints: dict[str, str],
        done: Exported,
        progress: Progress,
    ) -> None:
        noted = time.monotonic()
        for number, name in enumerate(due):
            progress(number, len(due))
            begun = time.monotonic()
            run = by_name[name]
            try:
                self._write(manifest, name, run)
            except LossbookError as error:
                if os.path.isdir(run.path):
                    done.problems.append(f"{name}: {error}; what was exported of it before is left as it is")
                continue
            done.written += 1
            manifest.made[name] = fingerprints[name]
            now = time.monotonic()
            self._rests[name] = now + _REST * (now - begun)
            if now - noted > _NOTE_SECONDS:
                manifest.save()
                noted = now

    def _write(self, manifest: Manifest, name: str, run: RecordedRun) -> None:
        made = [(table, self._query(query, run)) for table, query in _QUERIES.items()]
        for table, result in made:
            result.write(_partial(manifest, table), "parquet")
        # Both are whole before either is put in place.
        for table, _ in made:
            path = manifest.path_of(table, name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            _put(_partial(manifest, table), path)

    def _query(self, query: str, run: RecordedRun) -> QueryResult:
        return query_runs(self._book.connection().cursor(), query, [run])

    def _write_runs(self, manifest: Manifest, runs: list[tuple[RecordedRun, JsonMapping]]) -> None:
        lines = os.path.join(manifest.own_folder, "runs.jsonl")
        query = write_lines(lines, [(run.record, more) for run, more in runs])
        with open(lines, "rb") as file:
            fingerprint = _digest(query.encode(), file.read())
        if fingerprint == manifest.runs and os.path.exists(os.path.join(self._folder, RUNS)):
            return
        QueryResult(self._book.connection().cursor(), query).write(_partial(manifest, "runs"), "parquet")
        _put(_partial(manifest, "runs"), os.path.join(self._folder, RUNS))
        os.unlink(lines)
        manifest.runs = fingerprint
        manifest.save()


def _say_nothing(done: int, runs: int) -> None:
    pass


def _look(run: RecordedRun) -> tuple[str, JsonMapping]:
    """What tells whether a run's rows may have changed, and which run it was forked from."""
    more: JsonMapping = {}
    folders = [run.folder]
    parent = run.known_info.parent
    if parent is not None:
        more = {"parent_project": parent.project, "parent_run": parent.run, "parent_step": parent.step}
        folders = [source.rows.folder for source in run.consistently(run.sources)]
    known = "\n".join((run.project, run.id, run.name, *(line for folder in folders for line in _files_of(folder))))
    return _digest(known.encode("utf-8", "surrogatepass")), more


def _digest(*texts: bytes) -> str:
    return hashlib.blake2b(b"\n".join(texts), digest_size=16).hexdigest()


def _files_of(folder: RunFolder) -> Iterator[str]:
    yield folder.path
    yield _stamp(folder.run_json)
    for directory in (folder.journal, folder.metrics, folder.events):
        try:
            with os.scandir(directory) as entries:
                names = sorted(entry.name for entry in entries if not entry.name.endswith(".tmp"))
        except OSError:
            continue
        for name in names:
            yield _stamp(os.path.join(directory, name))


def _stamp(path: str) -> str:
    try:
        status = os.stat(path)
    except OSError:
        return path
    return f"{path} {status.st_ino} {status.st_size} {status.st_mtime_ns}"


def _files(manifest: Manifest, name: str) -> list[str]:
    return [manifest.path_of(table, name) for table in TABLES]


def _partial(manifest: Manifest, table: str) -> str:
    return os.path.join(manifest.own_folder, f"{table}.parquet")


def _put(partial: str, path: str) -> None:
    descriptor = os.open(partial, os.O_RDONLY)
    try:
        # A file that power loss leaves empty would have the right name.
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.replace(partial, path)


def _remove(manifest: Manifest, name: str) -> None:
    for path in _files(manifest, name):
        try:
            os.unlink(path)
        except FileNotFoundError:
            pass
        try:
            os.rmdir(os.path.dirname(path))
        except OSError:
            pass
    del manifest.made[name]


@contextmanager
def _locked(folder: str) -> Iterator[None]:
    """Keep a second export out of a folder; the lock goes with the process.

    Raises:
        StoreError: another has it.
    """
    descriptor = os.open(lock_path(folder), os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise StoreError(f"another process exports to {folder}: let it end, or name another folder") from None
    finally:
        os.close(descriptor)
