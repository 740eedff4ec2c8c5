"""Finds the dashboard's page of a run, where a server on this machine shows its store."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from lossbook.served_pages import served_at

if TYPE_CHECKING:
    from lossbook.reading import RecordedRun


def page_of(store: str, run: RecordedRun | None = None) -> str | None:
    """The address of a store's page, or of one of its runs'; None where nobody serves it."""
    address = served_at(store)
    if address is None or run is None:
        return address
    return f"{address}#/p/{quote(run.project, safe='')}/r/{quote(run.id, safe='')}"
