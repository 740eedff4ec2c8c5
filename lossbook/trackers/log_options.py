"""What a person says of logs that nothing in them tells: the options of `lossbook import`."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class LogOptions:
    """What a person says of logs that nothing else tells.

    Attributes:
        step, time: the columns of a row's step and of its time.
        pattern: a regular expression with named groups, which every line that counts fits.
        rename: what columns are called, by what they are called in the log.
    """

    step: str | None = None
    time: str | None = None
    pattern: str | None = None
    rename: Mapping[str, str] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """Tells these options from others; empty where nothing was said."""
        said = (self.step, self.time, self.pattern, sorted(self.rename.items()))
        return hashlib.sha256(repr(said).encode()).hexdigest()[:8] if any(said) else ""
