"""Begins a run or another attempt of one: its id, its folder, its `run.json`, its first journal segment."""

from __future__ import annotations

import errno
import os
import re
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, NamedTuple, Protocol

from lossbook.errors import LossbookError, StoreError, UnknownRun
from lossbook.handlers import is_of_handler
from lossbook.journal import AttemptRow, Journal, NullJournal, merge_config
from lossbook.json_shapes import JsonObject
from lossbook.paths import RunFolder, cache_folder, file_names, folder_lock, new_run_id, run_folder, safe_name
from lossbook.processes import Life, process_start, this_place
from lossbook.run.claim import Wanted, claim_run
from lossbook.run.distributed import Launch, shared_run_id
from lossbook.run.request import InitRequest, command_line
from lossbook.run.text import text_of
from lossbook.run_info import Attempt, Parent, RunInfo, load_run_info, write_run_info

if TYPE_CHECKING:
    from lossbook.journal import AsyncJournal, Home, WaitingJournal
    from lossbook.run.announcement import Patience

#: How long `init()` waits for a network file system before it goes on without it, in seconds.
OPEN_SECONDS = 5.0


class Late(Protocol):
    """What finds the run of a rank that has begun without it.

    Attributes:
        is_settled: set when the run is known, or when it cannot be.
        journal: what takes rows until then; None where the run was found in time.
    """

    is_settled: threading.Event
    journal: WaitingJournal | None

    def tell(self, run: Settles) -> None:
        """Say whose rows wait."""

    def end(self, *, in_peace: bool) -> None:
        """Come to a decision, because the run is ending."""


class Settles(Protocol):
    """A run that may turn out to be another one than was begun."""

    def warn(self, key: str, sentence: str) -> None: ...

    def settle(self, started: Started) -> None: ...


class Started(NamedTuple):
    """A run that can be written to.

    Attributes:
        info: its `run.json`, this attempt included.
        attempt: this attempt.
        resumed: whether there was something to resume.
        launch: this process's place; another than was asked where the rest of its job was not found.
        late: the search for the run, where that is not known yet.
    """

    folder: RunFolder
    info: RunInfo
    attempt: Attempt
    journal: Journal
    resumed: bool = False
    launch: Launch = Launch(0, 0, 1, "", 0)
    late: Late | None = None


def choose_id(request: InitRequest, launch: Launch, count: int, warn: Callable[[str], None]) -> tuple[str | None, str]:
    """The id of the run to begin or to go on with (None for a new one, or to be agreed), and "never", "allow" or "must".

    Args:
        count: how many runs this process has begun before.
    """
    run_id, resume = request.id, request.resume
    if resume == "auto":
        resume = "allow"
        if run_id is None and launch.world_size > 1:
            warn("resume='auto' cannot choose for several processes: pass id= or set LOSSBOOK_RUN_ID")
        elif run_id is None:
            from lossbook.run.resume import run_to_resume  # as in claim_run

            run_id = run_to_resume(request.store, request.info.project)
    if run_id is not None and safe_name(run_id) != run_id:
        warn(f"the run id {run_id!r} cannot be a folder name; the run is called {safe_name(run_id)} instead")
        run_id = safe_name(run_id)
    if run_id is None and launch.token and not launch.must_agree:
        run_id = shared_run_id(launch, count)
        if launch.restart and resume == "never":
            resume = "allow"
    return run_id, resume


def begin(
    request: InitRequest,
    launch: Launch,
    *,
    warn: Callable[[str], None],
    journal: AsyncJournal | None = None,
    patience: Patience | None = None,
    fresh: str | None = None,
) -> Started:
    """Claim the run's folder, name this attempt in its `run.json` (rank 0 writes it), and open its journal.

    Args:
        warn: takes one sentence about what went differently than asked.
        journal: the one that waits for the folder, where the store's file system may hang.
        patience: how this process waits for others: for its rank 0, and for one that may still be writing the run.
        fresh: the id of a new run; by default one is chosen.

    Raises:
        UnknownRun: `resume="must"` and there is no such run, or a parent to fork from that does not exist.
        StoreError: neither the store nor the place kept for such a case can be written.
        OSError: the same, where a journal waits.
    """
    asked, place, announcement = request, launch, ""
    try:
        if request.id is None and request.resume != "must" and launch.must_agree:
            from lossbook.run.announcement import find_run  # as in claim_run

            launch, run_id, resume, announcement = find_run(
                request.store, request.info.project, launch, fresh=fresh or new_run_id(), warn=warn, patience=patience
            )
            request = request._replace(id=run_id, resume=resume)
            if journal is not None:
                journal.rank = launch.rank
        elif launch.rank != 0 and launch.is_named and request.id is not None and request.resume != "must":
            launch = _with_rank_0(request, launch, request.id, warn, patience)
            if journal is not None:
                journal.rank = launch.rank
        elif launch.job and launch.rank == 0 and launch.is_named:
            announcement = new_run_id()  # for a requeue of the job
        wanted = Wanted(request.store, request.info.project, request.id or fresh, request.resume)
        pause = None if patience is None else patience.pause
        while True:
            folder, run_id, previous = claim_run(
                wanted, launch, warn, exact=journal is not None or fresh is not None, pause=pause
            )
            with folder_lock(folder, "run") if launch.rank == 0 else nullcontext():
                current = load_run_info(folder) if launch.rank == 0 else previous
                if launch.rank == 0 and _is_overtaken(folder, previous, current):
                    continue
                if current is not None:
                    if launch.rank == 0:
                        from lossbook.run.resume import take_over_left  # as in claim_run

                        take_over_left(folder)
                    info = _gone_on_with(current, request.info)
                else:
                    info = request.info._replace(id=run_id, name=_name(request.info, run_id))
                    if request.fork_from is not None and launch.rank == 0:
                        from lossbook.run.resume import find_parent

                        info = info._replace(parent=find_parent(request.store, info.project, *request.fork_from))
                attempt = _this_attempt(launch, info.attempts, request.resume_step)
                info = info._replace(attempts=(*info.attempts, attempt))
                if launch.rank == 0:
                    write_run_info(folder, info, durable=False)
            if announcement and launch.rank == 0 and launch.job:
                from lossbook.run.announcement import announce  # as in claim_run

                announce(request.store, info.project, launch, announcement, info.id)
            step = _first_step(request, folder, previous)
            if journal is None:
                opened = _open_journal(folder, launch.rank, attempt, step, warn)
                return Started(folder, info, attempt, opened, previous is not None, launch)
            journal.step = max(journal.step, step)
            return Started(folder, info, attempt, journal, previous is not None, launch)
    except LossbookError:
        raise
    except OSError as error:
        if is_of_handler(error):
            raise
        rescue = os.path.join(cache_folder(), "rescued")
        if journal is not None:
            raise
        if request.store == rescue:
            raise StoreError(f"{rescue} cannot be written ({error.strerror or error})") from error
        from lossbook.access import refusal  # no run that can be written needs it

        warn(
            f"the store {request.store} cannot be written ({refusal(error)}); this run is kept in {rescue} "
            f"instead: mend the store, then `lossbook --store {rescue} mv RUN --to {request.store}`"
        )
    try:
        return begin(asked._replace(store=rescue), place, warn=warn)
    except StoreError as error:
        raise StoreError(f"{request.store} cannot be written, and {error}; nothing of this run is recorded") from error


def begin_async(
    request: InitRequest,
    launch: Launch,
    *,
    warn: Callable[[str], None],
    patience: Patience | None = None,
    fresh: str | None = None,
) -> Started:
    """`begin` on a file system that may hang: everything that touches it happens on the journal's own thread."""
    from lossbook.journal import AsyncJournal
    from lossbook.run.announcement import Patience, init_seconds

    run_id = request.id or fresh or new_run_id()
    agrees = request.id is None and request.resume != "must" and launch.must_agree
    if not agrees:
        request = request._replace(id=run_id)
    folder = run_folder(request.store, request.info.project, run_id)
    attempt = _this_attempt(launch, (), request.resume_step)
    # Where the parent of a fork lies is looked up by the journal's thread; its project is this one as a rule.
    parent = Parent(request.info.project, *request.fork_from) if request.fork_from is not None else None
    name = _name(request.info, run_id)
    info = request.info._replace(id=run_id, name=name, parent=parent, attempts=(attempt,))
    result: list[Started] = []
    refused: list[LossbookError] = []
    heard = [time.monotonic()]

    def pause(seconds: float) -> None:
        heard[0] = time.monotonic()  # the file system answers: it is another process that is waited for
        (time.sleep if patience is None else patience.pause)(seconds)

    def is_over(waited: float) -> bool:
        return waited >= init_seconds(launch) if patience is None else patience.is_over(waited)

    def prepare(journal: AsyncJournal) -> tuple[RunFolder, int, AttemptRow]:
        try:
            started = begin(
                request, launch, warn=warn, journal=journal, patience=Patience(pause, is_over), fresh=run_id
            )
        except BaseException as error:
            if isinstance(error, UnknownRun) or (isinstance(error, StoreError) and request.resume == "must"):
                refused.append(error)
            heard[0] = -OPEN_SECONDS  # there is nothing to wait for any more
            raise
        rank = started.launch.rank
        row = _next_row(started.folder, rank)
        result.append(started)
        return started.folder, row, AttemptRow(started.attempt, rank)

    journal = AsyncJournal(
        folder,
        launch.rank,
        AttemptRow(attempt, launch.rank),
        warn=warn,
        prepare=prepare,
        run_json=info.to_json() if launch.rank == 0 else None,
        next_row=_next_row,
    )
    while (left := heard[0] + OPEN_SECONDS - time.monotonic()) > 0:
        if journal.wait_until_open(left) and result:
            return result[0]
    if refused:
        raise refused[0]
    return Started(folder, info, attempt, journal, launch=launch)


def fresh_run(request: InitRequest, launch: Launch) -> tuple[RunFolder, RunInfo]:
    """The run that a process begins if it stays by itself: its folder, which is not made yet, and its `run.json`."""
    run_id = request.id or new_run_id()
    attempt = _this_attempt(launch._replace(token="", world_size=1), (), request.resume_step)
    info = request.info._replace(id=run_id, name=_name(request.info, run_id), attempts=(attempt,))
    return run_folder(request.store, request.info.project, run_id), info


def begin_disabled(info: RunInfo) -> Started:
    """A run that takes every call and records nothing."""
    nothing = info._replace(id="disabled", name=info.name or "disabled", mode="disabled")
    return Started(RunFolder(""), nothing, Attempt(), NullJournal())


def begin_child(home: Home, attempt: AttemptRow, step: int, warn: Callable[[str], None]) -> Journal:
    """A journal for a child process that logs through its parent's run; opened with its first row."""
    from lossbook.journal import next_child_rank

    home.find()
    pid = os.getpid()
    rank = next_child_rank(home.folder)
    mine = attempt.attempt._replace(pid=pid, process_start=process_start(pid), world_size=1)
    journal = Journal(home, rank, AttemptRow(mine, rank), step=step, warn=warn)
    journal.begin_segment()
    if journal.segment != 1:
        # Another child took the number between the look and the file: begin_segment went on to segment 2.
        journal.close()
        os.unlink(journal.path)
        return begin_child(home, attempt, step, warn)
    return journal


def _next_row(folder: RunFolder, rank: int) -> int:
    sealed = (folder.metrics, os.path.join(folder.followers, "seal.json"))
    if not file_names(folder.journal) and not any(map(os.path.exists, sealed)):
        return 0  # a new run
    from lossbook.storage.resume_point import next_row  # what reads a store is loaded for a run that goes on

    return next_row(folder, rank)


def _open_journal(folder: RunFolder, rank: int, attempt: Attempt, step: int, warn: Callable[[str], None]) -> Journal:
    journal = Journal(folder, rank, AttemptRow(attempt, rank), row=_next_row(folder, rank), step=step, warn=warn)
    if rank == 0 and not journal.begin_segment():
        raise OSError(errno.ENOSPC, "no room for the first segment")
    return journal


def _first_step(request: InitRequest, folder: RunFolder, previous: RunInfo | None) -> int:
    """The step that `log()` without a step counts on from."""
    if request.resume_step is not None:
        return request.resume_step
    if previous is None:
        return request.fork_from[1] if request.fork_from else -1
    from lossbook.storage.resume_point import last_step  # as in _next_row

    last = last_step(folder)
    if last is None and previous.parent is not None:
        last = previous.parent.step
    return -1 if last is None else last


def _is_overtaken(folder: RunFolder, previous: RunInfo | None, current: RunInfo | None) -> bool:
    """Whether another process has begun an attempt since the folder was claimed."""
    before = previous.attempts if previous is not None else ()
    known = current.attempts if current is not None else ()
    if len(known) != len(before):
        return True
    if not known:
        return False
    from lossbook.run.resume import life_of_writer  # as in claim_run

    return life_of_writer(folder, known[-1]) is Life.ALIVE


def _gone_on_with(current: RunInfo, asked: RunInfo) -> RunInfo:
    """What `run.json` says of a run that is resumed with these arguments."""
    return current._replace(
        config=merge_config(current.config, asked.config),
        tags=tuple(dict.fromkeys((*current.tags, *asked.tags))),
        name=asked.name or current.name,
        group=asked.group or current.group,
        notes=asked.notes or current.notes,
        mirrors=asked.mirrors or current.mirrors,
    )


def _with_rank_0(
    request: InitRequest, launch: Launch, run_id: str, warn: Callable[[str], None], patience: Patience | None
) -> Launch:
    """Wait for rank 0 to record the run of a launch that names it; where it does not, this rank takes its place."""
    from lossbook.run.announcement import Patience, alone, init_seconds

    pause, is_over = patience or Patience(time.sleep, lambda waited: waited >= init_seconds(launch))
    folder = run_folder(request.store, request.info.project, run_id)
    began, delay = time.monotonic(), 0.005
    while True:
        try:
            info = load_run_info(folder)
        except LossbookError:
            return launch  # rank 0 says what is wrong with it
        if info is not None and any(one.launch == _mark(launch) for one in info.attempts):
            return launch
        if is_over(time.monotonic() - began):
            return alone(launch, run_id, warn)
        pause(delay)
        delay = min(1.0, delay * 1.5)


def _mark(launch: Launch) -> str:
    """What all ranks of one launch, and of one restart of it, have in common."""
    return text_of(f"{launch.token}:{launch.restart}") if launch.token else ""


def _this_attempt(launch: Launch, known: Sequence[Attempt], resume_step: int | None) -> Attempt:
    """This process's attempt: the next one, or that of the rank 0 of the same launch."""
    pid, mark, place = os.getpid(), _mark(launch), this_place()
    same = [one.number for one in known if launch.rank != 0 and one.launch == mark]
    return Attempt(
        number=same[-1] if same else len(known),
        world_size=launch.world_size,
        resume_step=resume_step,
        host=text_of(place.host),
        pid=pid,
        process_start=process_start(pid),
        boot=place.boot,
        pid_namespace=place.pid_namespace,
        launch=mark,
        started=time.time_ns() // 1000,
        argv=command_line(),
    )


def _name(info: RunInfo, run_id: str) -> str:
    return info.name or systematic_name(info.config, run_id, program=info.script or "")


def systematic_name(config: JsonObject, run_id: str, *, program: str = "") -> str:
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
        script = os.path.splitext(os.path.basename(program))[0]
        known = [script.strip("-_") or "run"]
    return "_".join([*known, run_id[:4]])
