"""Classes from the inside of W&B's package that public code makes, or asks `isinstance` of."""

from __future__ import annotations

from typing import Any

from lossbook.compat.wandb.unsupported import Absent
from lossbook.run import RecordedMapping, Run


class _DisabledRuns(type):
    def __instancecheck__(cls, one: object) -> bool:
        return isinstance(one, Run) and not one.path


class RunDisabled(metaclass=_DisabledRuns):
    """A run that records nothing is one."""


class SummaryDisabled(dict[str, Any]):
    """The summary of such a run; Lossbook's keeps what is written to it."""


class _Configurations(type):
    def __instancecheck__(cls, one: object) -> bool:
        return isinstance(one, RecordedMapping) or type.__instancecheck__(cls, one)


class Config(dict[str, Any], metaclass=_Configurations):
    """A configuration by attribute and by key; `run.config` is one, and one that is made records nothing."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"config has no key {name!r}") from None

    def __setattr__(self, name: str, value: object) -> None:
        self[name] = value

    def update(self, *others: Any, allow_val_change: bool | None = None, **named: object) -> None:
        """Change several keys. Any value may change."""
        super().update(*others, **named)

    def setdefaults(self, defaults: dict[str, object]) -> dict[str, Any]:
        """Set those keys that are not there."""
        for key, value in defaults.items():
            self.setdefault(key, value)
        return self

    def as_dict(self) -> dict[str, Any]:
        """A plain dictionary."""
        return dict(self)


class Summary(Config):
    """A summary by attribute and by key; `run.summary` is one."""


class CustomChart(Absent):
    """A chart of `wandb.plot`: not drawn, and the table of one is logged in its place."""

    reason = "log a Table of its numbers"


class GitRepo:
    """The git repository of a folder, as far as training code asks for it; empty answers where there is none."""

    def __init__(self, root: str | None = None, remote: str = "origin", lazy: bool = True, **_: object) -> None:
        self._folder = root
        self.remote_name = remote

    def _ask(self, *words: str) -> str | None:
        import subprocess

        try:
            done = subprocess.run(["git", *words], cwd=self._folder, capture_output=True, text=True, timeout=10)
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout.strip() or None if done.returncode == 0 else None

    @property
    def root(self) -> str | None:
        """The top folder of the repository."""
        return self._ask("rev-parse", "--show-toplevel")

    root_dir = root

    @property
    def enabled(self) -> bool:
        """Whether there is a repository."""
        return self.root is not None

    @property
    def last_commit(self) -> str | None:
        """The commit that is checked out."""
        return self._ask("rev-parse", "HEAD")

    @property
    def branch(self) -> str | None:
        """The branch that is checked out."""
        return self._ask("rev-parse", "--abbrev-ref", "HEAD")

    @property
    def dirty(self) -> bool:
        """Whether tracked files were changed since."""
        return bool(self._ask("status", "--porcelain", "--untracked-files=no"))

    @property
    def remote_url(self) -> str | None:
        """Where the remote repository is."""
        return self._ask("remote", "get-url", self.remote_name)
