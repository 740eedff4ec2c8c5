"""Begins a run or another attempt of one: its id, its folder, its `run.json`, its first journal segment."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

from lossbook.errors import LossbookError, StoreError, UnknownRun
from lossbook.journal.attempt_row import AttemptRow
from lossbook.journal.durability import choose_durability
from lossbook.journal.line import merge_config
from lossbook.journal.null_journal import NullJournal
from lossbook.journal.writer import Journal
from lossbook.json_shapes import JsonObject
from lossbook.paths import RunFolder, cache_folder, folder_lock, new_run_id, run_folder, safe_name
from lossbook.processes import boot_id, host_name, process_start
from lossbook.run.claim import Wanted, claim_run
from lossbook.run.distributed import Launch, shared_run_id
from lossbook.run.request import InitRequest, command_line
from lossbook.run.resume import find_parent, is_written_elsewhere, run_to_resume
from lossbook.run.text import text_of
from lossbook.run_info import Attempt, Parent, RunInfo, load_run_info, write_run_info

#: How long `init()` waits for a network file system before it goes on without it, in seconds.
OPEN_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Started:
    """A run that can be written to.

    Attributes:
        info: its `run.json`, this attempt included.
        attempt: this attempt.
        resumed: whether there was something to resume.
    """

    folder: RunFolder
    info: RunInfo
    attempt: Attempt
    journal: Journal
    resumed: bool = False


class _Entered(NamedTuple):
    """A run whose `run.json` names this attempt, and what it said before; None for a new run."""

    folder: RunFolder
    info: RunInfo
    attempt: Attempt
    previous: RunInfo | None


def begin(request: InitRequest, launch: Launch, *, count: int, warn: Callable[[str], None]) -> Started:
    """Begin the run on disk.

    Args:
        count: how many runs this process has begun before.
        warn: takes one sentence about what went differently than asked.

    Raises:
        UnknownRun: `resume="must"` and there is no such run, or a parent to fork from that does not exist.
        StoreError: neither the store nor the place kept for such a case can be written.
    """
    run_id, resume = _choose_id(request, launch, count, warn)
    request = replace(request, id=run_id, resume=resume)
    if (request.durability or choose_durability(request.store)[0]) == "async":
        return _begin_async(request, launch, warn)
    try:
        return _open_journal(request, launch, _enter_run(request, launch, warn), warn)
    except LossbookError:
        raise
    except OSError as error:
        refused = error.strerror or error
    rescued = replace(request, store=os.path.join(cache_folder(), "rescued"))
    warn(
        f"the store {request.store} cannot be written ({refused}); this run is kept in {rescued.store} instead: mend "
        f"the store, then `lossbook --store {rescued.store} mv RUN --to {request.store}`"
    )
    try:
        return _open_journal(rescued, launch, _enter_run(rescued, launch, warn), warn)
    except OSError as error:
        raise StoreError(
            f"neither {request.store} nor {rescued.store} can be written ({error.strerror or error}); nothing of "
            "this run is recorded"
        ) from error


def begin_disabled(info: RunInfo) -> Started:
    """A run that takes every call and records nothing."""
    nothing = replace(info, id="disabled", name=info.name or "disabled", mode="disabled")
    return Started(RunFolder(""), nothing, Attempt(), NullJournal())


def begin_child(folder: RunFolder, attempt: AttemptRow, step: int, warn: Callable[[str], None]) -> Journal:
    """A journal for a child process that logs through its parent's run; opened with its first row."""
    from lossbook.journal.segment_numbers import next_child_rank

    pid = os.getpid()
    rank = next_child_rank(folder)
    mine = replace(attempt.attempt, pid=pid, process_start=process_start(pid), world_size=1)
    journal = Journal(folder, rank, AttemptRow(mine, rank), step=step, warn=warn)
    journal.begin_segment()
    if journal.segment != 1:
        # Another child took the number between the look and the file: begin_segment went on to segment 2.
        journal.close()
        os.unlink(journal.path)
        return begin_child(folder, attempt, step, warn)
    return journal


def _choose_id(request: InitRequest, launch: Launch, count: int, warn: Callable[[str], None]) -> tuple[str | None, str]:
    """The id of the run to begin or to go on with (None for a new one), and "never", "allow" or "must"."""
    run_id, resume = request.id, request.resume
    if resume == "auto":
        resume = "allow"
        if run_id is None and launch.token:
            warn("resume='auto' cannot choose for several processes: pass id= or set LOSSBOOK_RUN_ID")
        elif run_id is None:
            run_id = run_to_resume(request.store, request.info.project)
    if run_id is not None and safe_name(run_id) != run_id:
        warn(f"the run id {run_id!r} cannot be a folder name; the run is called {safe_name(run_id)} instead")
        run_id = safe_name(run_id)
    if run_id is None and launch.token:
        run_id = shared_run_id(launch, count)
        if launch.restart and resume == "never":
            resume = "allow"
    return run_id, resume


def _next_row(folder: RunFolder, rank: int) -> int:
    from lossbook.storage.resume_point import next_row  # what reads a store is not loaded by `import lossbook`

    return next_row(folder, rank)


def _open_journal(request: InitRequest, launch: Launch, entered: _Entered, warn: Callable[[str], None]) -> Started:
    row, step = _next_row(entered.folder, launch.rank), _first_step(request, entered)
    journal = Journal(
        entered.folder, launch.rank, AttemptRow(entered.attempt, launch.rank), row=row, step=step, warn=warn
    )
    if launch.rank == 0 and not journal.begin_segment():
        raise OSError(28, "no room for the first segment")
    return Started(entered.folder, entered.info, entered.attempt, journal, entered.previous is not None)


def _begin_async(request: InitRequest, launch: Launch, warn: Callable[[str], None]) -> Started:
    """Begin on a file system that may hang: everything that touches it happens on the journal's own thread."""
    from lossbook.journal.async_writer import AsyncJournal

    run_id = request.id or new_run_id()
    request = replace(request, id=run_id)
    folder = run_folder(request.store, request.info.project, run_id)
    attempt = _this_attempt(launch, 0, request.resume_step)
    # Where the parent of a fork lies is looked up by the journal's thread; its project is this one as a rule.
    parent = Parent(request.info.project, *request.fork_from) if request.fork_from is not None else None
    fresh = replace(_named(request.info, run_id), parent=parent, attempts=(attempt,))
    result: list[Started] = []
    refused: list[UnknownRun] = []

    def prepare(journal: AsyncJournal) -> tuple[RunFolder, int, AttemptRow]:
        try:
            entered = _enter_run(request, launch, warn, exact=True)
        except UnknownRun as error:
            refused.append(error)
            raise
        row = _next_row(entered.folder, launch.rank)
        journal.step = max(journal.step, _first_step(request, entered))
        resumed = entered.previous is not None
        result.append(Started(entered.folder, entered.info, entered.attempt, journal, resumed))
        return entered.folder, row, AttemptRow(entered.attempt, launch.rank)

    journal = AsyncJournal(
        folder,
        launch.rank,
        AttemptRow(attempt, launch.rank),
        warn=warn,
        prepare=prepare,
        run_json=fresh.to_json() if launch.rank == 0 else None,
        next_row=_next_row,
    )
    if journal.wait_until_open(OPEN_SECONDS) and result:
        return result[0]
    if refused:
        raise refused[0]
    return Started(folder, fresh, attempt, journal)


def _first_step(request: InitRequest, entered: _Entered) -> int:
    """The step that `log()` without a step counts on from."""
    if request.resume_step is not None:
        return request.resume_step
    if entered.previous is None:
        return request.fork_from[1] if request.fork_from else -1
    from lossbook.storage.resume_point import last_step  # as in _next_row

    last = last_step(entered.folder)
    if last is None and entered.previous.parent is not None:
        last = entered.previous.parent.step
    return -1 if last is None else last


def _enter_run(request: InitRequest, launch: Launch, warn: Callable[[str], None], *, exact: bool = False) -> _Entered:
    """Claim the run's folder and name this attempt in its `run.json` (rank 0 writes it)."""
    wanted = Wanted(request.store, request.info.project, request.id, request.resume)
    while True:
        folder, run_id, previous = claim_run(wanted, launch, warn, exact=exact)
        number = len(previous.attempts) if previous is not None else 0
        if launch.rank != 0:
            same = [one.number for one in previous.attempts if one.launch == _mark(launch)] if previous else []
            attempt = _this_attempt(launch, same[-1] if same else number, request.resume_step)
            info = _gone_on_with(previous, request.info) if previous else _named(request.info, run_id)
            return _Entered(folder, replace(info, attempts=(*info.attempts, attempt)), attempt, previous)
        with folder_lock(folder, "run"):
            current = load_run_info(folder)
            known = current.attempts if current is not None else ()
            if len(known) != number or (known and is_written_elsewhere(folder, known[-1])):
                continue  # another process was faster
            attempt = _this_attempt(launch, number, request.resume_step)
            if current is not None:
                info = _gone_on_with(current, request.info)
            else:
                info = _named(request.info, run_id)
                if request.fork_from is not None:
                    info = replace(info, parent=find_parent(request.store, info.project, *request.fork_from))
            info = replace(info, attempts=(*known, attempt))
            write_run_info(folder, info, durable=False)
        return _Entered(folder, info, attempt, previous)


def _named(info: RunInfo, run_id: str) -> RunInfo:
    return replace(info, id=run_id, name=info.name or systematic_name(info.config, run_id))


def _gone_on_with(current: RunInfo, asked: RunInfo) -> RunInfo:
    """What `run.json` says of a run that is resumed with these arguments."""
    return replace(
        current,
        config=merge_config(current.config, asked.config),
        tags=tuple(dict.fromkeys((*current.tags, *asked.tags))),
        name=asked.name or current.name,
        group=asked.group or current.group,
        notes=asked.notes or current.notes,
        mirrors=asked.mirrors or current.mirrors,
    )


def _mark(launch: Launch) -> str:
    """What all ranks of one launch, and of one restart of it, have in common."""
    return text_of(f"{launch.token}:{launch.restart}") if launch.token else ""


def _this_attempt(launch: Launch, number: int, resume_step: int | None) -> Attempt:
    pid = os.getpid()
    return Attempt(
        number=number,
        world_size=launch.world_size,
        resume_step=resume_step,
        host=text_of(host_name()),
        pid=pid,
        process_start=process_start(pid),
        boot=boot_id(),
        launch=_mark(launch),
        started=time.time_ns() // 1000,
        argv=command_line(),
    )


def systematic_name(config: JsonObject, run_id: str) -> str:
    """`{model}_{optimizer}_{variant}_{method}_{sparsity}` from what the configuration has, and a short id."""

    def first(*names: str) -> str:
        for name in names:
            value = config.get(name)
            if isinstance(value, (str, int)) and not isinstance(value, bool) and str(value).lower() not in ("", "none"):
                return re.sub(r"[^A-Za-z0-9.\-]+", "-", str(value)).strip("-")[:40]
        return ""

    parts = [
        first("model", "model_name", "model_size", "model_type", "arch", "architecture"),
        first("optimizer", "optimizer_name", "optim"),
        first("variant"),
        first("method", "pruning", "pruning_method"),
    ]
    sparsity = config.get("sparsity", config.get("target_sparsity"))
    if isinstance(sparsity, (int, float)) and not isinstance(sparsity, bool) and 0 < sparsity <= 100:
        parts.append(f"{sparsity * 100 if sparsity <= 1 else sparsity:g}")
    known = [part for part in parts if part]
    if not known:
        script = os.path.splitext(os.path.basename(sys.argv[0] if sys.argv else ""))[0]
        known = [script.strip("-_") or "run"]
    return "_".join([*known, run_id[:4]])
