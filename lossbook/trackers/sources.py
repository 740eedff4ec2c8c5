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

import itertools
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from lossbook.errors import BadArgument
from lossbook.paths import RunFolder, is_marked_store, run_folders
from lossbook.registry import SOURCES
from lossbook.run import say_once
from lossbook.trackers.source import Source, is_run_folder, is_trackers_own, scheme_of

if TYPE_CHECKING:
    from lossbook.book import Book
    from lossbook.trackers.log_options import LogOptions

__all__ = ["SOURCES", "find_logs", "find_source", "only_read", "open", "source_class", "source_of"]

#: Of a large folder so many subfolders are looked at, and so many runs of what may be a store.
_MOST_FOLDERS, _MOST_RUNS = 200, 50


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
    """The source that a location means; None for a store of Lossbook's own. A folder of several kinds is all of them.

    Raises:
        BadArgument: a scheme that is not known.
        BrokenPlugin: a scheme of another package's source that cannot be used.
        StoreError: it is a source, and is not there; or there are files of which none can be read.
    """
    scheme = scheme_of(location)
    if scheme == "file":
        return None
    if scheme:
        return _source_of_scheme(scheme, location)(location)
    found = _found_in(location)
    if len(found) > 1:
        from lossbook.trackers.mixed_folder import MixedFolder

        return MixedFolder(location, found)
    if not found and os.path.isfile(location):
        return source_class("logs")(location)  # whatever its name is; it says why where it is none
    return found[0][0](found[0][1]) if found else None


def find_logs(location: str, options: LogOptions) -> Source:
    """Logs that are read as a person says, whatever they are called.

    Raises:
        StoreError: there is nothing at the location.
    """
    from lossbook.trackers.logs.source import LogFiles

    return LogFiles(location, options)


def source_of(location: str) -> type[Source] | None:
    """The class that reads a location, the first of several; None for a store of Lossbook's own.

    Raises:
        BadArgument, BrokenPlugin: as `find_source`.
    """
    scheme = scheme_of(location)
    if scheme and scheme != "file":
        return _source_of_scheme(scheme, location)
    return next((one for one, _ in _found_in(location)), None) if not scheme else None


def _found_in(location: str) -> list[tuple[type[Source], str]]:
    """The sources that read something at a location and the place that each is to be given, the specific ones first."""
    found: dict[tuple[type[Source], str], None] = {}
    usable: list[type[Source]] = []
    for path, is_anothers in _places(location):
        usable = usable or _usable()
        for one in usable:
            if one.is_general and is_anothers:
                continue
            if any(kind is one and _is_below(path, place) for kind, place in found):
                continue
            if _matches(one, path):
                found[one, one.place_of(location, path)] = None
                if not one.is_general:
                    break
    specific = [pair for pair in found if not pair[0].is_general]
    # A store whose runs are all deleted may have a table beside them. (MLflow's folders have a .trash as well.)
    general = [] if is_marked_store(location) else [pair for pair in found if pair[0].is_general]
    return [*specific, *(pair for pair in general if not specific or pair[0].is_meant_beside(pair[1]))]


def _is_below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(os.path.join(folder, ""))


def _source_of_scheme(scheme: str, location: str) -> type[Source]:
    if scheme in SOURCES:
        source_class(scheme)  # raises where it is another package's and broken
    usable = _usable()
    found = next((one for one in usable if _matches(one, location)), None)
    if found is None:
        known = ", ".join(f"{one.kind}://" for one in usable if _matches(one, f"{one.kind}://"))
        raise BadArgument(f"{location!r} is no source: use a folder, or one of {known}")
    return found


def _places(location: str) -> Iterator[tuple[str, bool]]:
    """The location itself and, of a folder, the files in it; nothing of a store, of its projects and of its runs.

    With each: whether it lies in a folder in which everything is one tracker's.
    """
    if os.path.isfile(location):
        yield location, False
        return
    if not os.path.isdir(location):
        return
    runs = itertools.islice(run_folders(location), _MOST_RUNS)
    if any(RunFolder(one.path).exists() for one in runs):
        return
    is_first = True
    for root, folders, files in itertools.islice(os.walk(location), _MOST_FOLDERS):
        folders[:] = sorted(one for one in folders if not one.startswith("."))
        if is_run_folder(files, folders):
            if os.path.dirname(os.path.relpath(root, location)) == "":
                return
            folders[:] = []  # a store lies somewhere in it
            continue
        is_anothers = is_trackers_own(files, folders)
        if is_anothers:
            folders[:] = []  # its files here tell whose it is
        if is_first:
            is_first = False
            yield location, is_anothers
        yield from ((os.path.join(root, name), is_anothers) for name in sorted(files) if not name.startswith("."))


def _usable() -> list[type[Source]]:
    return [source_class(kind) for kind in SOURCES.usable(say_once)]


def _matches(source: type[Source], location: str) -> bool:
    if source.kind in SOURCES.own:
        return source.matches(location)
    try:
        return source.matches(location)
    except Exception as error:  # another package's code may raise anything
        package = SOURCES.added().get(source.kind)
        say_once(
            f"the source {source.kind!r} of the package {package} cannot tell whether it reads {location} "
            f"({type(error).__name__}: {error}); it is passed over"
        )
        return False


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
        BrokenPlugin: it is another package's, and cannot be used.
    """
    found = SOURCES.load(kind)
    assert isinstance(found, type)
    assert issubclass(found, Source)
    return found
