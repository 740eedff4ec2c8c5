"""What a mirror promises: rows are taken in order, and after `flush()` what was delivered is there exactly once.

The engine (`lossbook.follower.deliver`) reads the journal, calls a mirror and keeps its cursor. A mirror knows its
tracker and nothing else; it may be killed between any two statements and is then opened again.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from lossbook.errors import LossbookError
from lossbook.json_shapes import JsonObject
from lossbook.paths import RunFolder
from lossbook.run_info import Git, RunInfo
from lossbook.storage import LoggedRow

__all__ = ["Ending", "LoggedRow", "Mirror", "MirrorSettings", "MirrorUnavailable", "Subject"]


class MirrorUnavailable(LossbookError):
    """A tracker cannot be reached, is not installed or refuses; the sentence says what to do.

    Attributes:
        may_pass: whether trying again later can help (a network that is down), or only a person can (no login).
    """

    def __init__(self, sentence: str, *, may_pass: bool = True) -> None:
        super().__init__(sentence)
        self.may_pass = may_pass


@dataclass(frozen=True)
class Subject:
    """What a mirror needs to know of a run before its first row.

    Attributes:
        info: what `run.json` says.
        config: the configuration with every later change.
    """

    folder: RunFolder
    info: RunInfo
    config: JsonObject

    @property
    def id(self) -> str:
        return self.info.id

    @property
    def name(self) -> str:
        return self.info.name

    @property
    def project(self) -> str:
        return self.info.project

    @property
    def created(self) -> float:
        """When the run began, in Unix seconds."""
        return self.info.created / 1e6

    @property
    def tags(self) -> tuple[str, ...]:
        return self.info.tags

    @property
    def group(self) -> str | None:
        return self.info.group

    @property
    def notes(self) -> str | None:
        return self.info.notes

    @property
    def git(self) -> Git:
        """The commit that was run; an empty one where none is known."""
        return self.info.git or Git()


@dataclass(frozen=True)
class MirrorSettings:
    """How to deliver.

    Attributes:
        mode: "online" or "offline"; a tracker that only has local files treats both alike.
        folder: where a tracker that writes local files puts them (None: where its own users would look, relative to `cwd`).
        live: whether this is the mirror beside the training (the run may be shown as running at the tracker). Only then are
            places that the run's files name believed: a run that merely lies there may be anybody's.
        cwd: the working directory: of the training where it is live, else of whoever delivers.
        pid: the training process on this machine, where there is one.
        options: further settings of one tracker, such as {"entity": "team"}.
        beat: to be called while something takes long but goes on: who is not heard of is taken for hung.
    """

    mode: str = "online"
    folder: str | None = None
    live: bool = False
    cwd: str = "."
    pid: int | None = None
    options: dict[str, str] = field(default_factory=dict)
    beat: Callable[[], None] = field(default=lambda: None, compare=False)


@dataclass(frozen=True)
class Ending:
    """How a run ended, and what it came to.

    Attributes:
        state: finished, failed, interrupted, killed, preempted or crashed.
        exit_code: 0 for finished.
        summary: what the training set in `run.summary`, merged over the last value of each metric.
    """

    state: str
    exit_code: int
    error: str | None
    ended: float
    summary: JsonObject


class Mirror(ABC):
    """A run at one tracker. Made anew by every process that delivers.

    Life: `open` → (`deliver`* → `flush`)* → `close`. A process may die anywhere in between.
    """

    #: Its name in `mirrors=`, `--to` and the registry.
    kind: ClassVar[str]
    #: The tracker's name, as its users write it.
    title: ClassVar[str]
    #: The library that must be installed, and how: shown when it is missing.
    library: ClassVar[str]
    #: The packages of which one must be installed, as pip calls them: `lossbook doctor` shows the version.
    packages: ClassVar[tuple[str, ...]] = ()
    #: What of a run this tracker cannot hold, a sentence each; `lossbook doctor` and docs/mirrors.md list them.
    lacks: ClassVar[tuple[str, ...]] = ()

    #: Whether it can keep a run in local files for a later upload when its server cannot be reached: Lossbook's own alone.
    has_offline: ClassVar[bool] = False

    def __init__(self, subject: Subject, settings: MirrorSettings, remote: JsonObject) -> None:
        """
        Args:
            remote: what this mirror wrote down the last time (remote id, paths, its own counters); empty at first.
                A list `said` in it has sentences for the user, each said once.
                The engine stores it with the cursor after `open` and after each `flush`. Only what JSON holds.
        """
        self.subject = subject
        self.settings = settings
        self.remote = remote

    @abstractmethod
    def open(self, delivered: dict[int, int]) -> dict[int, int]:
        """Connect, and go on with the same remote run when `remote` names one.

        What a killed predecessor delivered without the engine having noted it is found out here, by asking the
        target or by cutting the target back: the returned numbers are what it really holds.

        Args:
            delivered: by rank the number `i` of the last row that the engine knows to be delivered.

        Returns:
            By rank the last row that the target holds; delivery goes on behind it.

        Raises:
            MirrorUnavailable: not now, or not without a person's help.
        """

    @abstractmethod
    def deliver(self, rows: Sequence[LoggedRow]) -> None:
        """Hand rows over, in order; kinds that it does not know or that it lacks are passed over.

        Raises:
            MirrorUnavailable: the tracker went away; the rows since the last `flush` are delivered again later.
        """

    @abstractmethod
    def flush(self) -> None:
        """Make everything delivered so far survive this process, and write down in `remote` what `open` needs then.

        Raises:
            MirrorUnavailable: as `deliver`.
        """

    @abstractmethod
    def close(self, ending: Ending | None) -> None:
        """Leave the tracker.

        Args:
            ending: how the run ended; None when it goes on without this process (the remote run stays open).

        Raises:
            MirrorUnavailable: the tracker could not be told; it will be opened and closed again later.
        """

    @property
    def url(self) -> str | None:
        """Where a person looks at the remote run; None where there is no such place."""
        return None
