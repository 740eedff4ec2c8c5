"""Beginning a run or another attempt of one: its id, its folder, its `run.json`, its first journal segment."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from lossbook.compat.wandb.init_arguments import mode_from_environment, variable
from lossbook.errors import BadArgument, DamagedFile, LossbookError, StoreError, UnknownRun
from lossbook.journal.durability import choose_durability
from lossbook.journal.line import merge_config
from lossbook.journal.writer import Attempt, Journal, last_step, next_child_rank, next_row
from lossbook.paths import (
    FORMAT,
    RunFolder,
    cache_folder,
    default_project,
    default_store,
    folder_lock,
    new_run_id,
    read_json,
    run_folder,
    run_folders,
    safe_name,
    write_json,
)
from lossbook.processes import boot_id, host_name, process_start
from lossbook.redaction import mask_arguments
from lossbook.run.config import plain, plain_config
from lossbook.run.distributed import Launch, shared_run_id
from lossbook.run.mirror_request import mirror_specs
from lossbook.run.resume import is_written_elsewhere, run_to_resume
from lossbook.run.values import text_of

MODES = ("online", "offline", "disabled")
RESUMES = ("never", "allow", "must", "auto")
DURABILITIES = ("process", "async")
#: How long `init()` waits for a network file system before it goes on without it, in seconds.
OPEN_SECONDS = 5.0
#: How long a run's folder may be there without its `run.json`, in seconds, before that counts as lost.
IDENTITY_SECONDS = 1.0


class Request(NamedTuple):
    """What the user asked of `init()`, checked and made plain."""

    project: str
    name: str | None
    config: dict[str, Any]
    tags: list[str]
    group: str | None
    notes: str | None
    id: str | None
    store: str
    mirrors: list[str]
    mode: str
    resume: str
    resume_step: int | None
    fork_from: tuple[str, int] | None
    durability: str | None
    system_metrics: bool
    #: What only a mirror has a use for: `entity`, `job_type`.
    labels: Mapping[str, str] = MappingProxyType({})


class Started(NamedTuple):
    """A run that can be written to."""

    folder: RunFolder
    identity: dict[str, Any]
    attempt: int
    journal: Journal
    resumed: bool


def check(
    *,
    project: Any,
    name: Any,
    config: Any,
    tags: Any,
    group: Any,
    notes: Any,
    id: Any,
    store: Any,
    mirrors: Any,
    mode: Any,
    resume: Any,
    resume_step: Any,
    fork_from: Any,
    durability: Any,
    system_metrics: Any,
    labels: Mapping[str, str] = MappingProxyType({}),
) -> Request:
    """Make what the user passed plain.

    Raises:
        BadArgument: a word that is not among the allowed ones, or a wrong type; said before anything is written.
    """
    mode = mode or mode_from_environment() or "online"
    _one_of("mode", mode, MODES)
    resume = variable("WANDB_RESUME") if resume is None else resume
    resume = {"true": True, "false": False}.get(resume, resume) if isinstance(resume, str) else resume
    if resume is None or isinstance(resume, bool):
        resume = "auto" if resume else "never"
    _one_of("resume", resume, RESUMES)
    durability = durability or os.environ.get("LOSSBOOK_DURABILITY") or None
    if durability is not None:
        _one_of("durability", durability, DURABILITIES)
    tags = tags or variable("WANDB_TAGS") or ()
    if isinstance(tags, str):
        tags = tags.split(",")
    if not isinstance(tags, Iterable):
        raise BadArgument(f"tags is a list of words, not {tags!r}")
    if resume_step is not None:
        resume_step = _whole("resume_step", resume_step)
    if fork_from is not None:
        try:
            parent, step = fork_from
        except (TypeError, ValueError):
            raise BadArgument(f"fork_from is a pair (run, step), not {fork_from!r}") from None
        fork_from = (str(getattr(parent, "id", parent)), _whole("the step of fork_from", step))
    if not (store is None or isinstance(store, (str, os.PathLike))):
        raise BadArgument(f"store is the path of a folder, not {store!r}")
    location = os.fspath(store) if store is not None else default_store()
    if "://" in location and not location.startswith("file://"):
        raise BadArgument(
            f"the store {location!r} is no folder: train into a local store and copy it there, or name a folder"
        )
    return Request(
        project=text_of(project or variable("LOSSBOOK_PROJECT", "WANDB_PROJECT") or default_project()),
        name=text_of(name) if name else variable("LOSSBOOK_NAME", "WANDB_NAME"),
        config=plain_config(config),
        tags=list(dict.fromkeys(word for tag in tags if (word := text_of(tag).strip()))),
        group=text_of(group) if group else variable("LOSSBOOK_GROUP", "WANDB_RUN_GROUP"),
        notes=text_of(notes) if notes else variable("WANDB_NOTES"),
        id=str(id) if id else variable("LOSSBOOK_RUN_ID", "WANDB_RUN_ID"),
        store=os.path.abspath(location.removeprefix("file://")),
        mirrors=mirror_specs(mirrors),
        mode=mode,
        resume=resume,
        resume_step=resume_step,
        fork_from=fork_from,
        durability=durability,
        system_metrics=bool(system_metrics),
        labels=labels,
    )


def _one_of(name: str, value: Any, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise BadArgument(f"{name}={value!r} is not known: use one of {', '.join(allowed)}")


def _whole(name: str, value: Any) -> int:
    try:
        return int(value)
    except (TypeError, ValueError):
        raise BadArgument(f"{name} is a whole number, not {value!r}") from None


def systematic_name(config: dict[str, Any], run_id: str) -> str:
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


def start(request: Request, launch: Launch, *, count: int, warn: Callable[[str], None]) -> Started:
    """Begin the run on disk.

    Args:
        count: how many runs this process has begun before.
        warn: takes one sentence about what went differently than asked.

    Raises:
        UnknownRun: `resume="must"` and there is no such run, or a parent to fork from that does not exist.
        StoreError: neither the store nor the place kept for such a case can be written.
    """
    if request.resume == "auto":
        request = request._replace(resume="allow")
        if request.id is None and launch.token:
            warn("resume='auto' cannot choose for several processes: pass id= or set LOSSBOOK_RUN_ID")
        elif request.id is None:
            request = request._replace(id=run_to_resume(request.store, request.project))
    run_id = request.id
    if run_id is not None and safe_name(run_id) != run_id:
        warn(f"the run id {run_id!r} cannot be a folder name; the run is called {safe_name(run_id)} instead")
        run_id = safe_name(run_id)
    if run_id is None and launch.token:
        run_id = shared_run_id(launch, count)
        if launch.restart and request.resume == "never":
            request = request._replace(resume="allow")
    durability = request.durability or choose_durability(request.store)[0]
    if durability == "async":
        return _start_async(request, launch, run_id, warn)
    try:
        return _start_here(request, launch, run_id, warn)
    except LossbookError:
        raise
    except OSError as error:
        rescue = os.path.join(cache_folder(), "rescued")
        warn(
            f"the store {request.store} cannot be written ({error.strerror or error}); this run is kept in "
            f"{rescue} instead: mend the store, then `lossbook --store {rescue} mv RUN --to {request.store}`"
        )
        try:
            return _start_here(request._replace(store=rescue), launch, run_id, warn)
        except OSError as second:
            raise StoreError(
                f"neither {request.store} nor {rescue} can be written ({second.strerror or second}); nothing of "
                "this run is recorded"
            ) from second


def _start_here(request: Request, launch: Launch, run_id: str | None, warn: Callable[[str], None]) -> Started:
    folder, previous, identity, attempt = _settle(request, launch, run_id, warn)
    row, step = next_row(folder, launch.rank), _first_step(request, previous, folder)
    journal = Journal(folder, launch.rank, attempt, row=row, step=step, warn=warn)
    if launch.rank == 0 and not journal.begin_segment():
        raise OSError(28, "no room for the first segment")
    return Started(folder, identity, int(attempt["number"]), journal, previous is not None)


def _start_async(request: Request, launch: Launch, run_id: str | None, warn: Callable[[str], None]) -> Started:
    """Begin on a file system that may hang: everything that touches it happens on the journal's own thread."""
    from lossbook.journal.async_writer import AsyncJournal

    run_id = run_id or new_run_id()
    folder = run_folder(request.store, request.project, run_id)
    fresh, attempt = _new_identity(request, launch, run_id, {}, 0)
    result: list[Started] = []
    refused: list[UnknownRun] = []

    def prepare(journal: AsyncJournal) -> tuple[RunFolder, int, Attempt]:
        try:
            claimed, previous, identity, actual = _settle(request, launch, run_id, warn, exact=True)
        except UnknownRun as error:
            refused.append(error)
            raise
        row = next_row(claimed, launch.rank)
        journal.step = max(journal.step, _first_step(request, previous, claimed))
        result.append(Started(claimed, identity, int(actual["number"]), journal, previous is not None))
        return claimed, row, actual

    journal = AsyncJournal(
        folder, launch.rank, attempt, warn=warn, prepare=prepare, identity=fresh if launch.rank == 0 else None
    )
    if journal.wait_until_open(OPEN_SECONDS) and result:
        return result[0]
    if refused:
        raise refused[0]
    return Started(folder, fresh, int(attempt["number"]), journal, False)


def _first_step(request: Request, previous: dict[str, Any] | None, folder: RunFolder) -> int:
    """The step that `log()` without a step counts on from."""
    if request.resume_step is not None:
        return request.resume_step
    if previous is None:
        return request.fork_from[1] if request.fork_from else -1
    last = last_step(folder)
    if last is None and isinstance(previous.get("parent"), dict):
        last = previous["parent"].get("step")
    return -1 if last is None else last


def _claim(
    request: Request, launch: Launch, run_id: str | None, warn: Callable[[str], None], *, exact: bool = False
) -> tuple[RunFolder, str, dict[str, Any] | None]:
    """Make or find the run's folder; returns it with its id and, when it is resumed, its `run.json`."""
    if launch.rank != 0 and run_id is not None:
        folder = run_folder(request.store, request.project, run_id)
        os.makedirs(folder.journal, exist_ok=True)
        return folder, run_id, _identity_of_rank_0(folder)
    if run_id is None:
        if request.resume == "must":
            raise UnknownRun("resume='must' needs the run's id: pass id= or set LOSSBOOK_RUN_ID")
        while True:
            run_id = new_run_id()
            folder = run_folder(request.store, request.project, run_id)
            if _make(folder):
                return folder, run_id, None
    folder = run_folder(request.store, request.project, run_id)
    try:
        existing = read_json(folder.run_json)
        if existing is None:
            if request.resume == "must":
                raise UnknownRun(f"resume='must', but there is no run {run_id} in {os.path.dirname(folder.path)}")
            if _make(folder) or exact or launch.token:
                return folder, run_id, None
            existing = _wait_for_identity(folder)
    except DamagedFile as error:
        if request.resume == "must":
            raise
        return _claim_another(request, run_id, warn, f"cannot be resumed ({error})")
    if request.resume == "never" and not launch.token:
        return _claim_another(request, run_id, warn, "exists already; pass resume='allow' to go on with it")
    if existing is None:
        return folder, run_id, None
    last = (existing.get("attempts") or [{}])[-1]
    if is_written_elsewhere(folder, last):
        why = f"is being written by process {last['pid']} right now"
        if request.resume == "must":
            raise StoreError(f"the run {run_id} {why}; end that process first")
        return _claim_another(request, run_id, warn, why)
    return folder, run_id, existing


def _wait_for_identity(folder: RunFolder) -> dict[str, Any] | None:
    """The `run.json` of a folder that is there already: another process may be about to write it."""
    deadline = time.monotonic() + IDENTITY_SECONDS
    while (identity := read_json(folder.run_json)) is None and time.monotonic() < deadline:
        time.sleep(0.01)
    return identity


def _claim_another(
    request: Request, taken: str, warn: Callable[[str], None], why: str
) -> tuple[RunFolder, str, dict[str, Any] | None]:
    number = 2
    while True:
        run_id = f"{taken[:70]}-{number}"
        folder = run_folder(request.store, request.project, run_id)
        if _make(folder):
            warn(f"the run {taken} {why}; this one is {run_id}")
            return folder, run_id, None
        number += 1


def _make(folder: RunFolder) -> bool:
    """Create the folder, unless it is there: `mkdir` decides between processes that try at once."""
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


def _identity_of_rank_0(folder: RunFolder) -> dict[str, Any] | None:
    try:
        return read_json(folder.run_json)
    except LossbookError:
        return None


def _settle(
    request: Request, launch: Launch, run_id: str | None, warn: Callable[[str], None], *, exact: bool = False
) -> tuple[RunFolder, dict[str, Any] | None, dict[str, Any], Attempt]:
    """Claim the run and write its identity; returns its folder, its `run.json` before and now, and this attempt."""
    while True:
        folder, claimed, previous = _claim(request, launch, run_id, warn, exact=exact)
        identified = _identify(request, launch, folder, claimed, previous)
        if identified is not None:
            return folder, previous, *identified


def _identify(
    request: Request, launch: Launch, folder: RunFolder, run_id: str, previous: dict[str, Any] | None
) -> tuple[dict[str, Any], Attempt] | None:
    """Write `run.json` (rank 0 does), and say what this attempt is; None when another process was faster."""
    attempts = (previous or {}).get("attempts", [])
    if launch.rank != 0:
        mark = _launch_mark(launch)
        known = [one["number"] for one in attempts if one.get("launch") == mark]
        identity, attempt = _new_identity(request, launch, run_id, previous or {}, len(attempts))
        if known:
            attempt["number"] = known[-1]
        return identity, attempt
    with folder_lock(folder, "run"):
        current = read_json(folder.run_json) or {}
        now = current.get("attempts") or []
        if len(now) != len(attempts) or (now and is_written_elsewhere(folder, now[-1])):
            return None
        identity, attempt = _new_identity(request, launch, run_id, current, len(attempts))
        write_json(folder.run_json, identity, durable=False)
    return identity, attempt


def _launch_mark(launch: Launch) -> str:
    return f"{launch.token}:{launch.restart}" if launch.token else ""


def _new_identity(
    request: Request, launch: Launch, run_id: str, previous: dict[str, Any], number: int
) -> tuple[dict[str, Any], Attempt]:
    now = time.time_ns() // 1000
    argv = mask_arguments(list(getattr(sys, "orig_argv", sys.argv)))
    attempt = Attempt(
        format=FORMAT,
        number=number,
        rank=launch.rank,
        world_size=launch.world_size,
        resume_step=request.resume_step,
        host=host_name(),
        pid=os.getpid(),
        process_start=process_start(os.getpid()),
        boot=boot_id(),
        launch=_launch_mark(launch),
    )
    record = {key: value for key, value in attempt.items() if key not in ("format", "rank")}
    record = plain({**record, "started": now, "argv": argv})
    if previous:
        identity = dict(previous)
        config = merge_config(previous.get("config") or {}, request.config)
        identity.update(config=config, attempts=[*previous.get("attempts", []), record])
        if request.tags:
            identity["tags"] = list(dict.fromkeys([*previous.get("tags", []), *request.tags]))
        for field in ("name", "group", "notes"):
            if getattr(request, field):
                identity[field] = getattr(request, field)
        if request.mirrors:
            identity["mirrors"] = request.mirrors
        return identity, attempt
    parent = None
    if request.fork_from is not None:
        parent = _parent(request)
    identity = {
        "format": FORMAT,
        "id": run_id,
        "name": request.name or systematic_name(request.config, run_id),
        "project": request.project,
        "created": now,
        "config": request.config,
        "tags": request.tags,
        "group": request.group,
        "notes": request.notes,
        "git": None,
        "host": {
            "name": host_name(),
            "user": _user(),
            "os": " ".join(os.uname()[0:3:2]),
            "python": sys.version.split()[0],
            "cpus": os.cpu_count(),
        },
        "argv": argv,
        "cwd": os.getcwd(),
        "mode": request.mode,
        "mirrors": request.mirrors,
        "parent": parent,
        "system_metrics": request.system_metrics,
        "script": os.path.abspath(sys.argv[0]) if sys.argv and sys.argv[0] else None,
        **request.labels,
        "attempts": [record],
    }
    # A folder or an argument need not be UTF-8, and `run.json` has to be.
    return plain(identity), attempt


def _parent(request: Request) -> dict[str, Any]:
    """Where the run to fork from lies: by id in this project, by id elsewhere in the store, or by name."""
    assert request.fork_from is not None
    wanted, step = request.fork_from
    found = []
    for folder in run_folders(request.store):
        try:
            identity = read_json(folder.run_json) or {}
        except LossbookError:
            continue
        if wanted in (identity.get("id"), identity.get("name")):
            found.append((identity.get("project") == request.project, identity.get("created", 0), identity))
    if not found:
        raise UnknownRun(f"fork_from names the run {wanted!r}, which is not in the store {request.store}")
    identity = max(found, key=lambda one: one[:2])[2]
    return {"project": identity["project"], "run": identity["id"], "step": step}


def _user() -> str | None:
    import getpass

    try:
        return getpass.getuser()
    except Exception:  # no such user in this container
        return None


def start_child(folder: RunFolder, attempt: Attempt, step: int, warn: Callable[[str], None]) -> Journal:
    """A journal for a child process that logs through its parent's run; opened with its first row."""
    rank = next_child_rank(folder)
    mine = Attempt(attempt)
    mine.update(rank=rank, pid=os.getpid(), process_start=process_start(os.getpid()), world_size=1)
    journal = Journal(folder, rank, mine, step=step, warn=warn)
    journal.begin_segment()
    if journal.segment != 1:
        # Another child took the number between the look and the file: begin_segment went on to segment 2.
        journal.close()
        os.unlink(journal.path)
        return start_child(folder, attempt, step, warn)
    return journal


__all__ = ["Request", "Started", "check", "plain", "plain_config", "start", "start_child", "systematic_name"]
