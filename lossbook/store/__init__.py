"""Sealed segments and the reading of runs, without a server.

`open` gives a `Book`; the rest is private to the package. Loaded piece by piece, because `lossbook ls` needs
neither DuckDB nor numpy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lossbook.store.query import Book, open
from lossbook.store.recorded import RecordedRun

if TYPE_CHECKING:
    from lossbook.store.curve import Curve
    from lossbook.store.table import Table

__all__ = ["Book", "Curve", "RecordedRun", "Table", "open"]


def __getattr__(name: str) -> Any:
    if name == "Curve":
        from lossbook.store.curve import Curve

        return Curve
    if name == "Table":
        from lossbook.store.table import Table

        return Table
    raise AttributeError(f"module 'lossbook.store' has no attribute {name!r}")
