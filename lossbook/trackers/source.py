"""What a source promises: its runs, and each run's rows in an order that never changes.

A source only reads. `lossbook.trackers.ingest` writes what it reads into a run folder, exactly once.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

from lossbook.errors import StoreError
from lossbook.json_shapes import Json


class Rewritten(StoreError):
    """The source no longer has the rows that were imported of a run: they were written anew, and cannot be read on."""


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
    body: Mapping[str, object]
    rank: int = 0
    place: Json = None


@dataclass(frozen=True)
class ForeignRun:
    """What is known of a run before its rows are read. Times in Unix seconds.

    Attributes:
        id: what the source calls it, unique in `project`.
        version: changes whenever there is more to read; equal versions mean equal rows.
        state: running, finished, failed, interrupted, killed, preempted or crashed.
        summary: what the training put there, and the last value of each metric where the source says it.
        origin: what else the source says and people look for (url, entity, job type, git commit, host, program).
        place: whatever the source needs to find the rows again; never written down.
        after: the `place` of the last row that was imported already; None where nothing was, or none was given.
    """

    id: str
    name: str
    project: str
    created: float
    version: str
    state: str = "finished"
    ended: float | None = None
    error: str | None = None
    config: Mapping[str, object] = field(default_factory=dict)
    summary: Mapping[str, object] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    group: str | None = None
    notes: str | None = None
    url: str | None = None
    origin: Mapping[str, object] = field(default_factory=dict)
    place: object = None
    after: Json = None


class Source(ABC):
    """One place that another tracker records to.

    Args:
        location: as the user named it.

    Raises:
        StoreError: it is not there.
        MissingLibrary: the tracker's library is needed and not installed.
    """

    #: Its name in the registry, and the scheme of its addresses where it has any.
    kind: ClassVar[str]
    #: What it reads, as the tracker's users call it.
    title: ClassVar[str]
    #: What of a run this tracker keeps that Lossbook cannot read, a sentence each.
    lacks: ClassVar[tuple[str, ...]] = ()
    #: Whether a run's `summary` has the last values of its metrics; where not, they are known with the rows alone.
    tells_last_values: ClassVar[bool] = True
    #: Whether it reads files of any origin: another source that matches something in the same folder is preferred.
    is_general: ClassVar[bool] = False
    #: What to turn on where it trains so that the next run has GPU metrics; empty where nothing is known.
    gpu_advice: ClassVar[str] = ""

    def __init__(self, location: str) -> None:
        self.location = location

    @classmethod
    def matches(cls, location: str) -> bool:
        """Whether this source reads a location, by its scheme, its name, or its first bytes; by default the scheme.

        Args:
            location: an address (`scheme://...`), or the path of a folder or a file that is there. A folder that is
                no store is asked for itself first, then for each file in it.
        """
        return scheme_of(location) == cls.kind

    @classmethod
    def is_meant_beside(cls, location: str) -> bool:
        """Whether a general source has something of its own in a folder where another tracker has runs; by default yes."""
        return True

    @classmethod
    def place_of(cls, location: str, path: str) -> str:
        """What to make the source with that reads `path`, which lies in the folder `location`; by default the folder."""
        return location

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

    def runs_by_source(self) -> Iterator[tuple[Source, ForeignRun]]:
        """As `runs`, each with the source that reads its rows; by default this one."""
        return ((self, run) for run in self.runs())

    @abstractmethod
    def rows(self, run: ForeignRun, start: int = 0) -> Iterator[ForeignRow]:
        """The rows of a run from the `start`-th on, all of them (never a sample), in an order that never changes.

        Config and summary are not repeated as rows unless they changed in between; system metrics are rows of scalars
        under `system.` names; console text is kind "console" with body {"text": ...}; files kept with the run are kind
        "file" with body {"name", "contents"}.

        Raises:
            StoreError: it cannot be read further; what was read stays and the next call goes on.
        """

    def remarks(self, run: ForeignRun | None = None) -> Sequence[str]:
        """What a person has to know of the last reading, a sentence each: what was passed over, and what was assumed.

        Args:
            run: what the last `rows` of this run found; None for what the last `runs` found.
        """
        return ()

    def row_count(self, run: ForeignRun) -> int | None:
        """How many rows there are, for a progress bar; None where that is not known beforehand."""
        return None


def scheme_of(location: str) -> str:
    """`trackio` of `trackio://project`; empty for a path."""
    scheme, separator, _ = location.partition("://")
    return scheme if separator else ""


def is_trackers_own(files: Iterable[str], folders: Iterable[str]) -> bool:
    """Whether everything in a folder with these names in it is one tracker's: no log in it is a run of its own."""
    if any(name.endswith((".wandb", ".swanlab")) or name == "meta.yaml" for name in files):
        return True
    return "plots" in folders and ("metrics.json" in files or "params.yaml" in files)  # DVCLive


def is_run_folder(files: Iterable[str], folders: Iterable[str]) -> bool:
    """Whether a folder with these names in it is one of Lossbook's own runs."""
    return "run.json" in files and "journal" in folders
