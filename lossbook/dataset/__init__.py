"""A folder of Parquet that any engine reads: all runs of a store, the rows that count, live runs and forks included."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lossbook.lazy import lazy_exports

if TYPE_CHECKING:
    from lossbook.dataset.export import Exported as Exported, ParquetExport as ParquetExport
else:
    __getattr__, __dir__ = lazy_exports(__name__, {"export": "Exported ParquetExport"})
