"""`init()`: from what the user asks to a `Run` with a follower beside it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import Any, Unpack

from lossbook.compat.wandb.init_arguments import WandbArguments, translate
from lossbook.errors import LossbookError, StoreError, UnknownRun
from lossbook.paths import project_folder, safe_name
from lossbook.run import exit_hooks
from lossbook.run.create import Request, check, start
from lossbook.run.distributed import Launch, detect
from lossbook.run.messages import say, say_once
from lossbook.run.mirror_request import passing
from lossbook.run.run import DisabledRun, Run

current: Run | None = None
_begun = 0
_followers: list[int] = []


def init(
    project: str | None = None,
    name: str | None = None,
    config: Any = None,
    tags: Iterable[str] = (),
    group: str | None = None,
    notes: str | None = None,
    id: str | None = None,
    store: Any = None,
    mirrors: Any = None,
    mode: str | None = None,
    resume: str | bool | None = None,
    resume_step: int | None = None,
    fork_from: Any = None,
    system_metrics: bool = True,
    durability: str | None = None,
    console: bool = True,
    keep: bool = True,
    **wandb: Unpack[WandbArguments],
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
        console: keep what is printed.
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
    global current, _begun
    own = {
        "project": project,
        "name": name,
        "config": config,
        "tags": tags,
        "group": group,
        "notes": notes,
        "id": id,
        "store": store,
        "mirrors": mirrors,
        "mode": mode,
        "resume": resume,
        "resume_step": resume_step,
        "fork_from": fork_from,
        "durability": durability,
        "system_metrics": system_metrics,
        "console": console,
    }
    own, labels, before = translate(own, wandb)
    if not keep:
        own.update(passing(own))
    if current is not None and before == "return_previous":
        return current
    if before == "finish_previous":
        finish()
    console = own.pop("console")
    request = check(**own, labels=labels)
    if request.mode == "disabled":
        current = DisabledRun(request.name, request.project, request.config)
        return current
    launch = detect()
    _collect_followers()
    _end_before_resuming(request)
    try:
        started = start(request, launch, count=_begun, warn=say)
    except UnknownRun:
        raise
    except StoreError as error:
        if request.resume == "must":
            raise
        return _record_nothing(str(error), request)
    except LossbookError:
        raise
    except Exception as error:
        return _record_nothing(f"nothing of this run is recorded ({type(error).__name__}: {error})", request)
    _begun += 1
    run = Run(started, mode=request.mode, console=console)
    if request.system_metrics:
        run.watch_allocator()
    if launch.local_rank == 0 and os.environ.get("LOSSBOOK_FOLLOWER", "on") not in ("off", "0", "none"):
        _start_follower(run, launch)
    if before != "create_new" or current is None:
        current = run
    return run


def _record_nothing(sentence: str, request: Request) -> Run:
    global current
    say(sentence)
    current = DisabledRun(request.name, request.project, request.config)
    return current


def _end_before_resuming(request: Request) -> None:
    """End a run that this process writes already and is about to resume: a notebook's cell that is run again."""
    if request.id is None or request.resume == "never":
        return
    path = os.path.join(project_folder(request.store, request.project), safe_name(request.id))
    for run in exit_hooks.live_runs():
        if getattr(run, "path", None) == path:
            run.end("finished", None)


def _collect_followers() -> None:
    """Ask for the exit status of followers that have ended: they are this process's children, and zombies until then."""
    for pid in list(_followers):
        try:
            ended = os.waitpid(pid, os.WNOHANG)[0] == pid
        except OSError:  # somebody else has asked, or this is a forked child
            ended = True
        if ended:
            _followers.remove(pid)


def log(
    metrics: Any = None,
    step: int | None = None,
    commit: bool | None = None,
    *,
    ranks: str | None = None,
    data: Any = None,
) -> None:
    """`Run.log` of the current run."""
    if current is None:
        say_once("log() before init() records nothing: call lossbook.init() first")
    else:
        current.log(metrics, step, commit, ranks=ranks, data=data)


def finish(state: str | int | None = None, *, exit_code: int | None = None, quiet: bool | None = None) -> None:
    """`Run.finish` of the current run, if there is one."""
    global current
    if current is not None:
        current.finish(state, exit_code=exit_code)
        current = None


def _start_follower(run: Run, launch: Launch) -> None:
    """Start `python -m lossbook.follower` in a session of its own.

    `posix_spawn` rather than `fork`: a training process may hold a hundred gigabytes, and its page tables with them.
    """
    if not sys.executable:
        say("no follower was started, because Python does not know its own path; `lossbook seal` does its work later")
        return
    folder = run.path
    environment = dict(os.environ)
    package = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (package, environment.get("PYTHONPATH"))))
    arguments = [
        sys.executable,
        "-P",
        "-m",
        "lossbook.follower",
        folder,
        "--pid",
        str(os.getpid()),
        "--attempt",
        str(run.attempt),
        "--rank",
        str(launch.rank),
    ]
    try:
        log = os.path.join(folder, "followers", "follow.log")
        actions: list[tuple[Any, ...]] = [(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)]
        try:
            os.makedirs(os.path.dirname(log), exist_ok=True)
            actions.append((os.POSIX_SPAWN_OPEN, 1, log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644))
        except OSError:
            actions.append((os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0))
        actions.append((os.POSIX_SPAWN_DUP2, 1, 2))
        _followers.append(
            os.posix_spawn(sys.executable, arguments, environment, file_actions=actions, setsid=True, setsigmask=())
        )
    except (OSError, NotImplementedError, ValueError) as error:
        # ValueError: a variable of the environment that no process can be given.
        say(f"no follower could be started ({error}); `lossbook seal` does its work later")
