"""Which run a launch writes: rank 0 announces it in the store, and the other ranks join what is of their launch.

The environment names a launch with constants as a rule (an address, a port, the id of a job), so it cannot tell two
launches apart. In the project's `.launches-<user>/`, each launch of the same constants has an announcement: a small file of
rank 0, and one beside it for each rank that joined. A rank joins an announcement once, and only where something shows
that it belongs to it: the same launcher, or rank 0 began while this process was there already, or rank 0 lives. Times
are the file server's.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterable
from itertools import islice
from typing import NamedTuple

import orjson

from lossbook.errors import LossbookError
from lossbook.journal import place_of
from lossbook.json_shapes import JsonObject, number_or_none, text_or_none, whole_or_none
from lossbook.paths import (
    RunFolder,
    is_safe_name,
    launches_folder,
    new_run_id,
    project_folder,
    read_json,
    run_folder,
    working_directory,
    write_json,
)
from lossbook.processes import Life, Place, process_age_seconds, process_life, process_start, this_place
from lossbook.run.distributed import Launch, elastic_folder, is_loopback, master_address
from lossbook.run.request import command_line
from lossbook.run_info import load_run_info

#: How long `init()` of a rank other than 0 waits for rank 0's announcement, in seconds: where a launcher started it; on
#: the last rank, which is the only one that some trainers log on; where only `RANK` and `WORLD_SIZE` say that there are
#: others (they may be left over in a shell); and where rank 0 may first wait for a lease to end.
LAUNCHED_SECONDS = 10.0
LAST_RANK_SECONDS = 2.0
LEFT_OVER_SECONDS = 5.0
REQUEUED_SECONDS = 30.0
#: So long a program that comes to its end waits, since its `init()`: it may be shorter than rank 0 is late.
FINISH_SECONDS = 30.0
#: Between two looks, at the most, when training goes on meanwhile.
_LOOK_SECONDS = 5.0
#: Where it cannot be seen whether rank 0 lives, so long is waited for one that can.
_UNSEEN_SECONDS = 7.5
#: The ranks of a launch do not begin at the very same time.
_SKEW_SECONDS = 5.0
#: So long a rank waits for its own launcher's rank 0 before it joins one that another launcher on this machine, or an
#: unnamed one elsewhere, has started: that may as well be another job's.
_STRANGER_SECONDS = 2.0
#: A process that begins so long after rank 0 announced its run is none of that launch, whatever its environment says.
_LATE_SECONDS = 600.0
#: Announcements are kept so long for a job that is requeued.
_KEPT_SECONDS = 30 * 86400.0
#: So much of a journal shows whether a job is under way.
_HEAD_BYTES = 1 << 16
#: So many other jobs are looked at for such, each time.
_LOOKED_AT = 16


class Member(NamedTuple):
    """A process that belongs to an announcement, as its file says.

    Attributes:
        announcement: the launch's name, equal for all its ranks and for no other launch.
        run: the id of the run.
        launcher: what started it, as far as that tells launches on this machine apart; empty where it does not.
        arguments: a checksum of the command line and the working directory.
        began: Unix seconds by the file server's clock at which the process began.
        joined: the same, of when it joined.
    """

    announcement: str
    rank: int
    run: str
    place: Place
    pid: int | None
    start: float | None
    launcher: str
    world_size: int | None
    restart: int
    requeue: int
    address: str
    arguments: str
    began: float
    joined: float


class Joined(NamedTuple):
    """The run that this process is to write, and its place in it.

    Attributes:
        resume: as for `init()`.
        announcement: what the launch is called; empty where this process is a run of its own.
    """

    launch: Launch
    run_id: str
    resume: str
    announcement: str


class Patience(NamedTuple):
    """How a rank waits for its rank 0.

    Attributes:
        pause: waits for so many seconds.
        is_over: whether to give up, after so many seconds.
    """

    pause: Callable[[float], None]
    is_over: Callable[[float], bool]


def init_seconds(launch: Launch) -> float:
    """How long `init()` waits for the rank 0 of a launch."""
    if launch.is_named:
        return LAST_RANK_SECONDS  # its run is known; only whether rank 0 records it is not
    if launch.requeue or launch.restart:
        return REQUEUED_SECONDS
    if not launch.is_launched:
        return LEFT_OVER_SECONDS
    return LAST_RANK_SECONDS if launch.rank == launch.world_size - 1 > 1 else LAUNCHED_SECONDS


def find_run(
    store: str,
    project: str,
    launch: Launch,
    *,
    fresh: str,
    warn: Callable[[str], None],
    patience: Patience | None = None,
) -> Joined:
    """The run of this launch: for rank 0 a new one or that of the launch that it goes on with, for others rank 0's.

    Args:
        fresh: the id of a run that is new.
        warn: takes one sentence where no announcement is of this launch.
        patience: for how long a rank other than 0 looks for its rank 0; by default for as long as `init()` may.

    Raises:
        OSError: the store cannot be written.
    """
    folder = launches_folder(store, project, launch.job)
    os.makedirs(folder, exist_ok=True)
    me = _this_member(launch, folder)
    if launch.rank == 0:
        before = _gone_on_with(store, project, me, _members(folder), launch)
        name = new_run_id()
        if launch.restart and before is None:
            warn(
                f"this is restart {launch.restart} of a job, but no run of it was found to go on with, so {fresh} is a new "
                "one; set LOSSBOOK_RUN_ID and resume='allow' to choose one"
            )
        named = launch._replace(token=name) if launch.token else launch
        return Joined(named, before or fresh, "allow" if before else "never", name)
    if launch.parent_may_lead and (run_id := _run_of_parent(store, project)) is not None:
        return Joined(launch._replace(token=""), run_id, "allow", "")
    found = _wait_for_announcement(store, project, folder, me, launch, patience)
    if found is not None:
        # Nothing else of the launch need be the same on all machines: not how they call rank 0's, nor the restarts that they saw.
        place = launch._replace(token=found.announcement, restart=found.restart)
        return Joined(place, found.run, "allow", found.announcement)
    return Joined(alone(launch, fresh, warn), fresh, "never", "")


def alone(launch: Launch, run_id: str, warn: Callable[[str], None]) -> Launch:
    """The place of a rank whose rank 0 records no run: it is rank 0 of a run of its own."""
    warn(
        f"rank {launch.rank} of {launch.world_size} found no rank 0 of its launch, so it is a run of its own, {run_id}; "
        "set LOSSBOOK_RUN_ID to the same id for all ranks, or unset RANK and WORLD_SIZE where there is one process"
    )
    return Launch(0, 0, 1, "", 0)


def announce(store: str, project: str, launch: Launch, name: str, run_id: str) -> None:
    """Say which run rank 0 of a launch has begun, for its other ranks and for a later restart of it.

    Raises:
        OSError: the store cannot be written.
    """
    folder = launches_folder(store, project, launch.job)
    os.makedirs(folder, exist_ok=True)
    me = _this_member(launch, folder)._replace(announcement=name, run=run_id)
    write_json(os.path.join(folder, f"{name}.r0"), _written(me), durable=False)
    _remove_old(folder, me.joined)


# -- which announcement is of this launch -----------------------------------------------------------------------------


def _gone_on_with(store: str, project: str, me: Member, members: list[Member], launch: Launch) -> str | None:
    """The run that a restart by the same agent, or a requeue of the same job, goes on with; None for a new one."""
    same = [one for one in members if _is_same_launcher(one, me)]
    if not launch.is_elastic:
        same = [one for one in same if one.requeue == me.requeue and one.restart < me.restart]
    if same:
        return max(same, key=lambda one: one.joined).run  # an agent starts the processes of one launch, again and again
    if me.requeue == 0:
        return None
    from lossbook.run.resume import came_to_a_good_end  # for a run that goes on alone

    before = [one for one in members if one.rank == 0 and one.requeue < me.requeue and one.arguments == me.arguments]
    for one in sorted(before, key=lambda one: one.joined, reverse=True):
        if not came_to_a_good_end(run_folder(store, project, one.run)):
            return one.run
    return None


def _wait_for_announcement(
    store: str, project: str, folder: str, me: Member, launch: Launch, patience: Patience | None
) -> Member | None:
    pause, is_over = patience or Patience(time.sleep, lambda waited: waited >= init_seconds(launch))
    began = time.monotonic()
    delay = 0.01
    while True:
        waited = time.monotonic() - began
        members = _members(folder)
        for one in _candidates(store, project, me, members, launch, waited):
            if _join(folder, me, one):
                return one
        if is_over(waited):
            if launch.is_elastic and (same := [one for one in members if _is_same_launcher(one, me)]):
                return max(same, key=lambda one: one.joined)
            return None
        pause(delay)
        delay = min(1.0 if waited < FINISH_SECONDS else _LOOK_SECONDS, delay * 1.5)
        _server_seconds(folder)  # a network file system shows a folder anew that this machine has changed


def _candidates(
    store: str, project: str, me: Member, members: list[Member], launch: Launch, waited: float
) -> Iterable[Member]:
    """The announcements that this process may belong to, if it can be told which: the best one, or none.

    Args:
        waited: for how many seconds already: a launch may still be about to begin.
    """
    unseen_seconds = _UNSEEN_SECONDS if launch.is_launched else _STRANGER_SECONDS
    taken = {one.announcement for one in members if one.rank == me.rank}
    nearby = {one.announcement for one in members if _is_same_launcher(one, me)}
    found: list[tuple[int, Member]] = []
    for one in members:
        if one.rank != 0 or one.announcement in taken or not _may_be_one_job(one, me):
            continue
        is_near = one.announcement in nearby
        if waited < _STRANGER_SECONDS and _may_be_a_stranger(one, me) and not is_near:
            continue
        if not launch.is_launched and not (is_near or me.address):
            continue  # without an address there is nothing that processes of different launchers could meet at
        if waited > FINISH_SECONDS and abs(one.began - me.began) > _LATE_SECONDS:
            continue
        late = me.began - one.joined
        if late > _LATE_SECONDS:
            continue
        if late > 0:
            life = _life(store, project, one)
            if life is Life.DEAD or (life is Life.UNKNOWN and late > _SKEW_SECONDS and waited < unseen_seconds):
                continue
            if not launch.is_launched and _has_trained(store, project, one, before=me.began):
                continue
        closeness = 2 if late < _SKEW_SECONDS else 1
        found.append((closeness + (10 if is_near else 0), one))
    if not found:
        return []
    best = max(closeness for closeness, _ in found)
    nearest = [one for closeness, one in found if closeness == best]
    return nearest if len(nearest) == 1 else []


def _may_be_one_job(one: Member, me: Member) -> bool:
    """Whether nothing that both say of their job disagrees."""
    if one.world_size != me.world_size or one.requeue != me.requeue:
        return False
    if is_loopback(me.address):
        return is_loopback(one.address) and _is_same_host(one.place, me.place)
    if is_loopback(one.address):
        # Some launchers give rank 0 its own machine as "localhost", and the others its name.
        return me.address.partition(".")[0] == (one.place.host or "").partition(".")[0]
    return one.address == me.address


def _may_be_a_stranger(one: Member, me: Member) -> bool:
    """Whether the ranks of one job would be expected to share a launcher, and these do not."""
    if not me.address:
        return True
    return is_loopback(me.address) and one.place == me.place and "" not in (one.launcher, me.launcher)


def _is_same_host(one: Place, other: Place) -> bool:
    return (one.host, one.boot) == (other.host, other.boot)


def _is_same_launcher(one: Member, me: Member) -> bool:
    if me.launcher == "" or one.place != me.place:
        return False
    return one.launcher == me.launcher or _process_name(one.pid, one.start) == me.launcher


def _process_name(pid: int | None, start: float | None) -> str:
    return "" if start is None else f"process {pid} of {start:.0f}"


def _run_of_parent(store: str, project: str) -> str | None:
    """The run that the parent process writes, if it is one of the project's latest and says that it is no launcher's."""
    parent, began = os.getppid(), process_start(os.getppid())
    with os.scandir(project_folder(store, project)) as entries:
        folders = [entry for entry in entries if not entry.name.startswith(".") and entry.is_dir(follow_symlinks=False)]
    for entry in sorted(folders, key=lambda one: one.stat(follow_symlinks=False).st_mtime, reverse=True)[:_LOOKED_AT]:
        try:
            info = load_run_info(RunFolder(entry.path))
        except LossbookError:
            continue
        if info is None:
            continue
        last = info.last_attempt
        if (last.pid, last.process_start) == (parent, began) and not last.launch and place_of(last) == this_place():
            return info.id
    return None


def _life(store: str, project: str, rank_0: Member) -> Life:
    """Whether the process of a rank 0 lives and still writes its run, as far as can be seen from here."""
    from lossbook.journal import seems_alive

    if rank_0.place == this_place() and rank_0.pid is not None:
        return process_life(rank_0.pid, rank_0.start)
    from lossbook.run.resume import has_ended  # as above

    folder = run_folder(store, project, rank_0.run)
    if has_ended(folder) or not seems_alive(folder, rank_0.place):
        return Life.DEAD
    return Life.UNKNOWN


def _has_trained(store: str, project: str, rank_0: Member, *, before: float) -> bool:
    """Whether the job of a rank 0 was under way, with all ranks that it needs, before a time by the file server's clock."""
    from lossbook.journal import journal_segments, read_segment

    folder = run_folder(store, project, rank_0.run)
    steps: set[int | None] = set()
    for segment in journal_segments(folder.journal):
        if segment.name.rank == 0:
            rows = read_segment(segment.path, limit_bytes=_HEAD_BYTES).rows
            steps.update(row.step for row in rows if row.kind is None and rank_0.joined < row.t / 1e6 < before)
    return len(steps) > 1


# -- the files --------------------------------------------------------------------------------------------------------


def _this_member(launch: Launch, folder: str) -> Member:
    pid = os.getpid()
    now = _server_seconds(folder)
    words = "\0".join((*command_line(), working_directory()))
    return Member(
        announcement="",
        rank=launch.rank,
        run="",
        place=this_place(),
        pid=pid,
        start=process_start(pid),
        launcher=_launcher(),
        world_size=launch.world_size,
        restart=launch.restart,
        requeue=launch.requeue,
        address=master_address(),
        arguments=hashlib.sha256(words.encode("utf-8", "surrogateescape")).hexdigest()[:16],
        began=now - (process_age_seconds() or 0.0),
        joined=now,
    )


def _launcher() -> str:
    """torchrun's folder for this launch, else the parent process; the first process of a machine is none."""
    if folder := elastic_folder():
        return folder
    parent = os.getppid()
    return _process_name(parent, process_start(parent)) if parent > 1 else ""


def _join(folder: str, me: Member, announced: Member) -> bool:
    """Take this rank's place in an announcement; False where another process of the rank has it."""
    path = os.path.join(folder, f"{announced.announcement}.r{me.rank}")
    contents = orjson.dumps(_written(me._replace(announcement=announced.announcement, run=announced.run)))
    try:
        # The file that is made decides; nobody reads it before it is whole, as its place is taken by its name.
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    except FileExistsError:
        return False
    with open(descriptor, "wb") as file:
        file.write(contents)
    return True


def _written(member: Member) -> JsonObject:
    host, boot, namespace = member.place
    return {
        "run": member.run,
        "host": host,
        "boot": boot,
        "pid_namespace": namespace,
        "pid": member.pid,
        "process_start": member.start,
        "launcher": member.launcher,
        "world_size": member.world_size,
        "restart": member.restart,
        "requeue": member.requeue,
        "address": member.address,
        "arguments": member.arguments,
        "began": member.began,
    }


def _members(folder: str) -> list[Member]:
    """The members of all announcements in a folder; of a file that cannot be read, only whose place it takes."""
    found = []
    for name in os.listdir(folder):
        announcement, _, rank = name.partition(".r")
        if not is_safe_name(announcement) or not rank.isdigit():
            continue
        path = os.path.join(folder, name)
        try:
            joined = os.stat(path).st_mtime
        except OSError:
            continue
        try:
            values = read_json(path) or {}
        except LossbookError:
            values = {}
        run = text_or_none(values.get("run"))
        if rank == "0" and not is_safe_name(run):
            continue
        found.append(
            Member(
                announcement=announcement,
                rank=int(rank),
                run=run or "",
                place=Place(
                    text_or_none(values.get("host")),
                    text_or_none(values.get("boot")),
                    text_or_none(values.get("pid_namespace")),
                ),
                pid=whole_or_none(values.get("pid")),
                start=number_or_none(values.get("process_start")),
                launcher=text_or_none(values.get("launcher")) or "",
                world_size=whole_or_none(values.get("world_size")),
                restart=whole_or_none(values.get("restart")) or 0,
                requeue=whole_or_none(values.get("requeue")) or 0,
                address=text_or_none(values.get("address")) or "",
                arguments=text_or_none(values.get("arguments")) or "",
                began=number_or_none(values.get("began")) or joined,
                joined=joined,
            )
        )
    return found


def _server_seconds(folder: str) -> float:
    """What time it is by the file server's clock, in Unix seconds.

    Raises:
        OSError: the folder cannot be written.
    """
    path = os.path.join(folder, f"clock-{os.getpid()}-{os.urandom(3).hex()}.tmp")
    os.mkdir(path)
    try:
        return os.stat(path).st_mtime
    finally:
        os.rmdir(path)


def _remove_old(folder: str, now: float) -> None:
    """Remove announcements that no requeue will ask for any more, of this job and of a few others."""
    try:
        with os.scandir(os.path.dirname(folder)) as entries:
            others = [entry.path for entry in islice(entries, _LOOKED_AT)]
        for job in (folder, *others):
            if job != folder and now - os.stat(job).st_mtime <= _KEPT_SECONDS:
                continue
            for name in os.listdir(job):
                path = os.path.join(job, name)
                if ".r" in name and now - os.stat(path).st_mtime > _KEPT_SECONDS:
                    os.unlink(path)
            if job != folder:
                os.rmdir(job)
    except OSError:
        pass  # another launch removes them, or uses them
