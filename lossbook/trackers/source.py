"""What a source promises: its runs, and each run's rows in an order that never changes.

A source only reads. `lossbook.trackers.ingest` writes what it reads into a run folder, exactly once.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

from lossbook.errors import BadArgument, StoreError

#: Kinds of source that are named by a scheme: `trackio://project`.
SCHEMES = ("wandb", "trackio", "tensorboard", "mlflow", "logs")


class Rewritten(StoreError):
    """The source no longer has the rows that were brought of a run: they were written anew, and cannot be read on."""


class ForeignRow(NamedTuple):
    """One row as another tracker has it.

    `kind` is None for scalars, and `body` is then `{key: float}`. Otherwise `body` is what `docs/format.md` says for the
    kind; a file that belongs to it (an image, say) is given as `{"contents": bytes, "ending": ".png", ...}` in its place.

    `place` is what the source needs to read on behind this row, in the types that JSON has; None where the number of
    rows before tells it. Whoever reads on gives it back as `ForeignRun.after`.
    """

    time_us: int
    step: int | None
    kind: str | None
    key: str | None
    body: dict[str, Any]
    rank: int = 0
    place: Any = None


@dataclass(frozen=True)
class ForeignRun:
    """What is known of a run before its rows are read. Times in Unix seconds.

    Attributes:
        id: what the source calls it, unique in `project`.
        version: changes whenever there is more to read; equal versions mean equal rows.
        state: running, finished, failed, interrupted, killed or crashed.
        summary: what the training put there, and the last value of each metric where the source says it.
        origin: what else the source says and people look for (url, entity, job type, git commit, host, program).
        place: whatever the source needs to find the rows again; never written down.
        after: the `place` of the last row that was brought already; None where nothing was, or none was given.
    """

    id: str
    name: str
    project: str
    created: float
    version: str
    state: str = "finished"
    ended: float | None = None
    error: str | None = None
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    group: str | None = None
    notes: str | None = None
    url: str | None = None
    origin: dict[str, Any] = field(default_factory=dict)
    place: Any = None
    after: Any = None


class Source(ABC):
    """One place that another tracker records to.

    Args:
        location: as the user named it.

    Raises:
        StoreError: it is not there.
        MissingLibrary: the tracker's library is needed and not installed.
    """

    #: What `SOURCES` calls it.
    kind: ClassVar[str]
    #: What of a run this tracker keeps that Lossbook cannot read, a sentence each.
    lacks: ClassVar[tuple[str, ...]] = ()
    #: Whether a run's `summary` has the last values of its metrics; where not, they are known with the rows alone.
    tells_last_values: ClassVar[bool] = True

    def __init__(self, location: str) -> None:
        self.location = location

    @property
    def address(self) -> str:
        """What tells this source from all others, from wherever it is named."""
        return self.location if "://" in self.location else os.path.abspath(self.location)

    @abstractmethod
    def runs(self) -> Iterator[ForeignRun]:
        """All runs, without their rows; the newest first where that costs nothing.

        Raises:
            StoreError: the source cannot be reached or read; the message says what to do.
        """

    @abstractmethod
    def rows(self, run: ForeignRun, start: int = 0) -> Iterator[ForeignRow]:
        """The rows of a run from the `start`-th on, all of them (never a sample), in an order that never changes.

        Config and summary are not repeated as rows unless they changed in between; system metrics are rows of scalars
        under `system.` names; console text is kind "console" with body {"text": ...}; files kept with the run are kind
        "file" with body {"name", "contents"}.

        Raises:
            StoreError: it cannot be read further; what was read stays and the next call goes on.
        """

    def row_count(self, run: ForeignRun) -> int | None:
        """How many rows there are, for a progress bar; None where that is not known beforehand."""
        return None


def kind_of(location: str) -> str | None:
    """Which source a location means; None for a store.

    Raises:
        BadArgument: a scheme that is not known.
    """
    scheme, separator, _ = location.partition("://")
    if separator:
        if scheme in SCHEMES:
            return scheme
        if scheme == "file":
            return None
        raise BadArgument(
            f"{location!r} is no source: use a folder, or one of {', '.join(f'{one}://' for one in SCHEMES)}"
        )
    if os.path.isdir(location):
        return _kind_of_folder(location)
    return kind_of_file(location) if os.path.isfile(location) else None


def kind_of_file(path: str) -> str | None:
    """Which source a file belongs to, by its name and, where that says too little, its first bytes."""
    name = os.path.basename(path)
    if name.endswith(".wandb"):
        return "wandb-offline"
    if ".tfevents." in name:
        return "tensorboard"
    if name.endswith((".db", ".sqlite", ".sqlite3")):
        tables = _tables(path)
        return "mlflow" if "experiments" in tables else "trackio" if "metrics" in tables else None
    if name == "meta.yaml":
        return "mlflow" if _says(path, b"experiment_id:") else None
    return "logs" if name.endswith((".json", ".jsonl", ".ndjson", ".csv")) else None


def _kind_of_folder(folder: str) -> str | None:
    """By what lies in it; a store of Lossbook's own wins, and one of its projects is no source either."""
    import itertools

    from lossbook.paths import RunFolder, is_marked_store, run_folders

    runs = itertools.islice(run_folders(folder), 50)
    if is_marked_store(folder) or any(RunFolder(one.path).exists() for one in runs):
        return None
    logs = False
    for root, folders, files in itertools.islice(os.walk(folder), 200):
        folders[:] = sorted(one for one in folders if not one.startswith("."))
        if is_run_folder(files, folders):
            if os.path.dirname(os.path.relpath(root, folder)) == "":
                return None
            folders[:] = []  # a store lies somewhere in it
            continue
        for name in sorted(files):
            kind = None if name.startswith(".") else kind_of_file(os.path.join(root, name))
            if kind == "logs":
                logs = True
            elif kind is not None:
                return kind
    return "logs" if logs else None


def is_run_folder(files: Iterable[str], folders: Iterable[str]) -> bool:
    """Whether a folder with these names in it is one of Lossbook's own runs."""
    return "run.json" in files and "journal" in folders


def _says(path: str, words: bytes) -> bool:
    try:
        with open(path, "rb") as file:
            return words in file.read(4096)
    except OSError:
        return False


def _tables(path: str) -> set[str]:
    """The tables of an SQLite file; none where it is something else."""
    import sqlite3

    try:
        connection = sqlite3.connect(f"file:{quote_path(path)}?mode=ro", uri=True)
        try:
            return {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        finally:
            connection.close()
    except sqlite3.Error:
        return set()


def quote_path(path: str) -> str:
    """A path as part of SQLite's `file:` address, where ? and # would end it."""
    from urllib.parse import quote

    return quote(os.path.abspath(path))
