"""The errors that Lossbook raises to people who read runs or start one.

    LossbookError
    ├── BadArgument       an argument that cannot be taken as it is
    ├── StoreError        a store or a run folder that cannot be read or written
    │   ├── UnknownRun    no run of that id or name (or several)
    │   └── DamagedFile   a file whose contents are not what its format says
    ├── UnknownKey        a metric that the run never logged
    ├── BadQuery          a `where` expression or SQL that cannot be run
    └── MissingLibrary    an optional library that is not installed

`Error`, `CommError`, `UsageError` and `AuthenticationError` are what code written for W&B catches.

Each message is one sentence or two: what happened, to which file or run, and what to do. `Run.log()` and all
that follows it in the training process raise none of them.
"""

from __future__ import annotations


class LossbookError(Exception):
    """Base of every error that Lossbook raises on purpose; its text is fit to show to a user."""


class BadArgument(LossbookError, ValueError):
    """An argument has a value that is not allowed; the message names the allowed ones."""


class StoreError(LossbookError, OSError):
    """A store or a run folder cannot be read or written."""


class UnknownRun(StoreError, LookupError):
    """No run answers to that id, name or prefix, or more than one does."""


class DamagedFile(StoreError):
    """A file of a run does not hold what its format promises."""


class UnknownKey(LossbookError, KeyError):
    """The run never logged that metric; the message lists the nearest names."""

    def __str__(self) -> str:
        # KeyError would print the sentence in quotes.
        return str(self.args[0]) if self.args else ""


class BadQuery(LossbookError, ValueError):
    """A `where` expression or an SQL query that cannot be understood or run."""


class MissingLibrary(LossbookError, ImportError):
    """An optional library is needed for what was asked and is not installed."""


Error = LossbookError
CommError = StoreError
UsageError = BadArgument


class AuthenticationError(StoreError):
    """Never raised: a store asks for no login. Code that catches it goes on as it is."""
