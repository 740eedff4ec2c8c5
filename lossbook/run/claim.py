"""Claims the folder of a run: a new one, that of the run which is resumed, or another where that one is taken.

`mkdir` decides between processes that try at once.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import NamedTuple

from lossbook.errors import DamagedFile, LossbookError, StoreError, UnknownRun
from lossbook.paths import RunFolder, new_run_id, run_folder
from lossbook.run.distributed import Launch
from lossbook.run_files import refuse_linked_folders
from lossbook.run_info import RunInfo, load_run_info

#: How long a run's folder may be there without its `run.json`, in seconds, before that counts as lost.
IDENTITY_SECONDS = 1.0


class Claim(NamedTuple):
    """A run's folder, its id, and, when it is resumed, its `run.json`."""

    folder: RunFolder
    run_id: str
    previous: RunInfo | None


class Wanted(NamedTuple):
    """Which folder is wanted: `id` None for a new run; `resume` is "never", "allow" or "must"."""

    store: str
    project: str
    id: str | None
    resume: str

    def folder(self, run_id: str) -> RunFolder:
        """The folder of a run of that id."""
        return run_folder(self.store, self.project, run_id)


def claim_run(
    wanted: Wanted,
    launch: Launch,
    warn: Callable[[str], None],
    *,
    exact: bool = False,
    pause: Callable[[float], None] | None = None,
) -> Claim:
    """Make or find the run's folder.

    Args:
        warn: takes one sentence where it is another run than was asked for.
        exact: take the folder of that id even where its `run.json` is missing.
        pause: waits for so many seconds, while another process may still be writing the run.

    Raises:
        UnknownRun: `resume="must"` and there is no such run.
        StoreError: `resume="must"` and another process writes it, or may write it, or its `run.json` cannot be read.
        OSError: the store cannot be written.
    """
    run_id = wanted.id
    if run_id is None:
        return _claim_new(wanted)
    folder = wanted.folder(run_id)
    if launch.rank != 0:
        os.makedirs(folder.journal, exist_ok=True)
        return Claim(folder, run_id, _info_of_rank_0(folder))
    try:
        existing = load_run_info(folder)
        if existing is None:
            if wanted.resume == "must":
                raise UnknownRun(f"resume='must', but there is no run {run_id} in {os.path.dirname(folder.path)}")
            if _make(folder) or exact or launch.token:
                return Claim(folder, run_id, None)
            existing = _wait_for_info(folder)
    except DamagedFile as error:
        if wanted.resume == "must":
            raise
        return _claim_another(wanted, run_id, warn, f"cannot be resumed ({error})")
    if wanted.resume == "never" and not launch.token:
        return _claim_another(wanted, run_id, warn, "exists already; pass resume='allow' to go on with it")
    if existing is not None:
        from lossbook.run.resume import wait_for_writer  # for a run that goes on alone

        try:
            refuse_linked_folders(folder)
        except StoreError as error:
            if wanted.resume == "must":
                raise
            return _claim_another(wanted, run_id, warn, f"cannot be resumed ({error})")

        if (why := wait_for_writer(folder, existing.last_attempt, warn, pause)) is not None:
            if wanted.resume == "must":
                raise StoreError(f"the run {run_id} {why}")
            return _claim_another(wanted, run_id, warn, why.partition(";")[0])
    return Claim(folder, run_id, existing)


def _claim_new(wanted: Wanted) -> Claim:
    if wanted.resume == "must":
        raise UnknownRun("resume='must' needs the run's id: pass id= or set LOSSBOOK_RUN_ID")
    while True:
        run_id = new_run_id()
        folder = wanted.folder(run_id)
        if _make(folder):
            return Claim(folder, run_id, None)


def _claim_another(wanted: Wanted, taken: str, warn: Callable[[str], None], why: str) -> Claim:
    number = 2
    while True:
        run_id = f"{taken[:70]}-{number}"
        folder = wanted.folder(run_id)
        if _make(folder):
            warn(f"the run {taken} {why}; this one is {run_id}")
            return Claim(folder, run_id, None)
        number += 1


def _wait_for_info(folder: RunFolder) -> RunInfo | None:
    """The `run.json` of a folder that is there already: another process may be about to write it."""
    deadline = time.monotonic() + IDENTITY_SECONDS
    while (info := load_run_info(folder)) is None and time.monotonic() < deadline:
        time.sleep(0.01)
    return info


def _make(folder: RunFolder) -> bool:
    """Create the folder, unless it is there."""
    try:
        os.mkdir(folder.path)
    except FileExistsError:
        return False
    except FileNotFoundError:
        os.makedirs(os.path.dirname(folder.path), exist_ok=True)
        return _make(folder)
    # Another rank of the same launch may make it between the two calls.
    os.makedirs(folder.journal, exist_ok=True)
    return True


def _info_of_rank_0(folder: RunFolder) -> RunInfo | None:
    try:
        return load_run_info(folder)
    except LossbookError:
        return None
