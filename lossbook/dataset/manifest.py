"""What a data set's folder holds, and of what state of the runs it was made: `.lossbook/manifest.json` in it.

A file is named here before it is put in place, and its fingerprint is noted after: a process that is killed between
leaves a file that the next export makes again, or removes when its run has gone. Files that are not named here are
nobody's business.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from lossbook.errors import StoreError
from lossbook.json_shapes import JsonObject, object_or_empty, text_or_none
from lossbook.paths import make_folder, read_json, write_json

#: Another number, and every file is made anew: the rows or columns of the same run differ from then on.
LAYOUT = 1
#: The tables that have a file for each run.
TABLES = ("metrics", "events")
RUNS = "runs.parquet"
_OWN = ".lossbook"


@dataclass
class Manifest:
    """Of each run, as `project folder/run folder`, the fingerprint that its files were made of; empty while they are made."""

    folder: str
    store: str
    made: dict[str, str] = field(default_factory=dict)
    runs: str = ""

    @property
    def own_folder(self) -> str:
        """Where this file lies, and files that are not whole yet: beside the tables, so that no engine reads them."""
        return os.path.join(self.folder, _OWN)

    def path_of(self, table: str, run: str) -> str:
        """The file of one run in a table."""
        return os.path.join(self.folder, table, f"{run}.parquet")

    def remove_partials(self) -> None:
        """Remove what a process that was killed did not put in place; for the one that has the lock."""
        for name in os.listdir(self.own_folder):
            if name.endswith((".parquet", ".jsonl", ".tmp")):
                os.unlink(os.path.join(self.own_folder, name))

    def save(self) -> None:
        """Replace the file in one step.

        Raises:
            OSError: it cannot be written.
        """
        written: JsonObject = {"layout": LAYOUT, "store": self.store, "runs": self.runs, "made": {**self.made}}
        write_json(_path(self.folder), written, durable=False)


def open_manifest(folder: str, store: str) -> Manifest:
    """What a folder holds; the folder is made where there is none.

    Raises:
        DamagedFile: what it says of itself is not as it was written.
        StoreError: it holds something else, or the runs of another store, or cannot be written.
    """
    if os.path.commonpath((os.path.realpath(folder), os.path.realpath(store))) == os.path.realpath(store):
        raise StoreError(f"{folder} lies in the store {store}, where it would look like a project: name another folder")
    try:
        os.makedirs(folder, exist_ok=True)
        found = read_json(_path(folder))
        if found is None and (there := [name for name in (*TABLES, RUNS) if os.path.lexists(f"{folder}/{name}")]):
            raise StoreError(f"{folder} holds {there[0]} that no export made: name an empty folder or a new one")
        make_folder(os.path.join(folder, _OWN))
    except OSError as error:
        raise StoreError(f"{folder} cannot be written ({error.strerror or error}): name another folder") from None
    values = found or {}
    known = text_or_none(values.get("store"))
    if known is not None and known != store:
        raise StoreError(f"{folder} holds the runs of the store {known}: name another folder, or delete that one")
    manifest = Manifest(folder, store)
    made = object_or_empty(values.get("made"))
    current = values.get("layout") == LAYOUT
    manifest.made = {run: text if current and isinstance(text, str) else "" for run, text in made.items()}
    manifest.runs = text_or_none(values.get("runs")) or "" if current else ""
    return manifest


def lock_path(folder: str) -> str:
    """What the one export that may write in a folder has locked."""
    return os.path.join(folder, _OWN, "lock")


def _path(folder: str) -> str:
    return os.path.join(folder, _OWN, "manifest.json")
