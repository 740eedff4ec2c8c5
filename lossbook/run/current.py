"""`init()`, `log()` and `finish()`: the current run of this process, begun with a follower beside it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from lossbook.errors import LossbookError, StoreError, UnknownRun
from lossbook.handlers import is_of_handler
from lossbook.journal import choose_durability
from lossbook.paths import project_folder, safe_name
from lossbook.run import exit_hooks
from lossbook.run.compiler import leave_out_of_compilation
from lossbook.run.create import Started, begin, begin_async, begin_disabled, choose_id
from lossbook.run.distributed import detect
from lossbook.run.follower_process import collect_followers
from lossbook.run.messages import say, say_once
from lossbook.run.request import InitArguments, InitRequest
from lossbook.run.run import Run

if TYPE_CHECKING:
    from lossbook.run.notebook import Notebook

_current: Run | None = None
runs_begun = 0


def current_run() -> Run | None:
    """The run that `init()` began last and `finish()` has not ended; None when there is none."""
    return _current


def init(
    project: str | None = None,
    name: str | None = None,
    config: object = None,
    tags: Iterable[str] | None = (),
    group: str | None = None,
    notes: str | None = None,
    id: str | None = None,
    store: str | os.PathLike[str] | None = None,
    mirrors: str | Iterable[str] | None = None,
    mode: str | None = None,
    resume: str | bool | None = None,
    resume_step: int | None = None,
    fork_from: tuple[object, int] | str | None = None,
    system_metrics: bool = True,
    durability: str | None = None,
    console: bool | str = True,
    keep: bool = True,
    **wandb: object,
) -> Run:
    """Begin a run (or another attempt of one). Touches no network; takes about 10 ms.

    Args:
        project: default `LOSSBOOK_PROJECT`, else `{directory}-{checksum}`.
        name: default from the configuration, with a short id; names need not be unique.
        config: dictionary, namespace, dataclass, or a YAML file's path: what was run. Secrets in it are masked.
        tags, group, notes: to find it again.
        id: the run's folder name; default `LOSSBOOK_RUN_ID`, else a new one.
        store: folder; default `LOSSBOOK_STORE`, else `./lossbook-runs`.
        mirrors: "wandb,trackio,tensorboard"; default `LOSSBOOK_MIRRORS`.
        mode: "online", "offline" (mirrors wait) or "disabled" (nothing is recorded); default `LOSSBOOK_MODE`.
        resume: "never" (the default) begins a new run even if `id` exists, "allow" goes on with it, "must" raises if
            it is not there, "auto" or True without an `id` goes on with the project's latest run if that failed.
        resume_step: the checkpoint's step; later rows of earlier attempts are hidden, never deleted.
        fork_from: (run, step): begin with that run's history up to that step.
        system_metrics: record the machine's own series too.
        durability: "process" (a row survives SIGKILL) or "async" (training never waits for the file system);
            by default "async" on network file systems only.
        console: keep what is printed. True chooses how: "fd" (C libraries and child processes too) where nobody sits at a
            terminal, else "stream" (what Python prints); default `LOSSBOOK_CONSOLE`. False or "off" keeps nothing.
        keep: False leaves no run here: it waits in the cache until its mirrors have it. Without a mirror nothing is
            recorded at all.
        wandb: the other arguments of `wandb.init`; docs/wandb.md says what becomes of each.

    Returns:
        The run. When nothing can be recorded at all, one that takes every call and records nothing: training goes on.

    Raises:
        BadArgument: an argument that cannot be meant.
        TypeError: an argument that neither Lossbook nor W&B knows.
        UnknownRun: `resume="must"` or `fork_from` and there is no such run.
    """
    global _current, runs_begun
    request = InitRequest.from_arguments(
        InitArguments(
            project=project,
            name=name,
            config=config,
            tags=tags,
            group=group,
            notes=notes,
            id=id,
            store=store,
            mirrors=mirrors,
            mode=mode,
            resume=resume,
            resume_step=resume_step,
            fork_from=fork_from,
            system_metrics=system_metrics,
            durability=durability,
            console=console,
            keep=keep,
        ),
        wandb,
    )
    if _current is not None and request.previous == "return_previous":
        return _current
    notebook = _notebook()
    if request.previous == "finish_previous":
        finish()
    elif request.previous is None and notebook is not None and _current is not None:
        notebook.end_before(_current)
    if request.info.mode == "disabled":
        _current = Run(begin_disabled(request.info), console="off")
        return _current
    launch = detect(runs_begun)
    collect_followers()
    _end_before_resuming(request)
    try:
        if request.id is not None:
            launch = launch._replace(is_named=False)  # the run is named instead, whichever rank writes to it
        run_id, resume = choose_id(request, launch, runs_begun, say)
        request = request._replace(id=run_id, resume=resume)
        may_hang = (request.durability or choose_durability(request.store)[0]) == "async"
        if launch.rank and request.resume != "must" and (launch.is_named or (launch.must_agree and run_id is None)):
            from lossbook.run.late_launch import LateLaunch  # for a rank that has to look for its run

            started = LateLaunch(request, launch, may_hang=may_hang).begin()
        else:
            started = (begin_async if may_hang else begin)(request, launch, warn=say)
    except UnknownRun:
        raise
    except StoreError as error:
        if request.resume == "must":
            raise
        started = _nothing(str(error), request)
    except LossbookError:
        raise
    except Exception as error:
        if is_of_handler(error):
            raise
        started = _nothing(f"nothing of this run is recorded ({type(error).__name__}: {error})", request)
    if not started.folder.path:
        _current = Run(started, console="off")
        return _current
    runs_begun += 1
    leave_out_of_compilation()
    run = Run(started, mode=request.info.mode, console=request.console)
    if notebook is not None:
        notebook.watch(run)
    if request.info.system_metrics:
        run.watch_allocator()
    if started.late is not None:
        started.late.tell(run)
    if started.late is None or started.late.journal is None:
        run.be_followed(started.launch)
    if request.previous != "create_new" or _current is None:
        _current = run
    return run


def _notebook() -> Notebook | None:
    """The notebook that this process runs cells of; nobody has one who has not loaded IPython."""
    if "IPython" not in sys.modules:
        return None
    from lossbook.run.notebook import notebook

    return notebook()


def _nothing(sentence: str, request: InitRequest) -> Started:
    """What stands in for a run that cannot be recorded: training goes on."""
    say(sentence)
    return begin_disabled(request.info)


def _end_before_resuming(request: InitRequest) -> None:
    """End a run that this process writes already and is about to resume: a notebook's cell that is run again."""
    if request.id is None or request.resume == "never":
        return
    path = os.path.join(project_folder(request.store, request.info.project), safe_name(request.id))
    for run in exit_hooks.live_runs():
        if run.path == path:
            run.end("finished", None)


def log(
    metrics: Mapping[str, object] | None = None,
    step: int | None = None,
    commit: bool | None = None,
    *,
    ranks: str | None = None,
    data: Mapping[str, object] | None = None,
) -> None:
    """`Run.log` of the current run."""
    if _current is None:
        say_once("log() before init() records nothing: call lossbook.init() first")
    else:
        _current.log(metrics, step, commit, ranks=ranks, data=data)


def finish(state: str | int | None = None, *, exit_code: int | None = None, quiet: bool | None = None) -> None:
    """`Run.finish` of the current run, if there is one."""
    global _current
    if _current is not None:
        _current.finish(state, exit_code=exit_code)
        _current = None
