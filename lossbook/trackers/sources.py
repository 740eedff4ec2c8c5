"""Sources: what other trackers recorded, read with the same API as a store.

    lossbook.open("wandb://entity/project")     W&B's cloud
    lossbook.open("./wandb")                    offline runs, a folder or one `.wandb` file
    lossbook.open("trackio://project")          Trackio's local projects
    lossbook.open("./runs")                     TensorBoard logs
    lossbook.open("mlflow://experiment")        MLflow's local store, or a server's
    lossbook.open("experiment_logs")            JSON and CSV logs

A source's runs are brought into a store of the cache when they are asked for: their names at once, their rows with the
first question that needs them. `lossbook import` brings them into a store of one's own, by the same code.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING

from lossbook.errors import BadArgument

if TYPE_CHECKING:
    from lossbook.book import Book
    from lossbook.trackers.source import Source

#: Each kind of source and the class that reads it.
SOURCES = {
    "wandb": "lossbook.trackers.wandb.cloud:WandbCloud",
    "wandb-offline": "lossbook.trackers.wandb.offline_files:WandbFiles",
    "trackio": "lossbook.trackers.trackio.source:TrackioProject",
    "tensorboard": "lossbook.trackers.tensorboard.source:TensorBoardLogs",
    "mlflow": "lossbook.trackers.mlflow.source:MlflowStore",
    "logs": "lossbook.trackers.logs.source:LogFiles",
}


def open(location: str | os.PathLike[str] | None = None, *, memory_bytes: int | None = None) -> Book:
    """Open a store, or anything that a source reads, for reading.

    Args:
        location: a store's folder (default `LOSSBOOK_STORE`, else `./lossbook-runs`), or a source.
        memory_bytes: as `lossbook.book.Book`; None is generous.

    Raises:
        StoreError: there is no such folder, it cannot be read, or nothing in it is known.
        MissingLibrary: the tracker's own library is needed and not installed.
    """
    from lossbook.book import Book

    named = os.fspath(location) if location is not None else None
    source = find_source(named) if named is not None else None
    if source is None:
        return Book(named, memory_bytes=memory_bytes)
    from lossbook.trackers.source_book import SourceBook

    return SourceBook(source, memory_bytes=memory_bytes)


def find_source(location: str) -> Source | None:
    """The source that a location means; None for a store of Lossbook's own.

    Raises:
        BadArgument: a scheme that is not known.
    """
    from lossbook.trackers.source import kind_of

    kind = kind_of(location)
    return source_class(kind)(location) if kind is not None else None


def only_read(location: str) -> str:
    """Why the runs of a source are not changed, for whoever asks for it."""
    return (
        f"the runs at {location} are another tracker's and are only read here: "
        f"`lossbook import {location} --to STORE` brings them into a store of your own"
    )


def source_class(kind: str) -> type[Source]:
    """The class that reads a kind of source.

    Raises:
        BadArgument: no such kind is known.
    """
    if kind not in SOURCES:
        raise BadArgument(f"there is no source {kind!r}: use one of {', '.join(SOURCES)}")
    module, _, attribute = SOURCES[kind].partition(":")
    found: type[Source] = getattr(importlib.import_module(module), attribute)
    return found
