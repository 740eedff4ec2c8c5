"""What a follower does for one run: capture once, then seal, summarise, diagnose and mirror until the training has ended.

What only some runs need, or a run only at its end, is imported where it is used: a start costs the machine little.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING

from lossbook.errors import LossbookError
from lossbook.follower.beginning import Beginning
from lossbook.follower.followed import forget_followed, note_followed
from lossbook.follower.nodes import Nodes, note_ranks
from lossbook.follower.post_mortem import MemoryKills, ProcessEnd, how_it_ended
from lossbook.follower.system import SystemMetrics
from lossbook.journal import (
    RENEW_SECONDS,
    DigestKeeper,
    drop_lease,
    journal_segments,
    live_writers,
    next_segment,
    renew_lease,
)
from lossbook.json_shapes import JsonObject
from lossbook.paths import RunFolder, folder_lock, is_monitor, parse_segment_name, passing_store
from lossbook.processes import process_start, this_place
from lossbook.run_info import load_run_info

if TYPE_CHECKING:
    from lossbook.follower.alerts import Alerts
    from lossbook.follower.capture import Process
    from lossbook.follower.mirror_process import Mirrors
    from lossbook.storage import LiveSummary

POLL_SECONDS = 0.5
#: Who writes the run is looked at when training has logged something, and so often without that.
LOOK_SECONDS = 4.0
#: `summary.json` is written at the most every so often, and never for more than a fiftieth of the time; while training
#: logs nothing, seldom: only the machine's series go on then.
SUMMARY_SECONDS, IDLE_SUMMARY_SECONDS = 2.0, 30.0
_MEMORY_LOOK_SECONDS = 5.0
#: A run on which every round of work has failed so often is left to `lossbook seal`.
MOST_FAILURES = 10

Sizes = dict[str, int]  # of journal files, by name


def follow(
    folder: RunFolder,
    pid: int,
    *,
    attempt: int,
    rank: int,
    environment: Mapping[str, str] | None = None,
) -> None:
    """Follow one node's part of a run until every process that writes it here has ended, and its mirrors have it.

    Args:
        pid: the training process.
        attempt: the attempt it writes.
        rank: its rank; the follower of rank 0 also keeps `summary.json` and says when the run has crashed.
        environment: the training's; that of this process unless told otherwise.
    """
    run = FollowedRun(folder, pid, attempt=attempt, rank=rank, environment=environment)
    if run.hold():
        while run.tick():
            time.sleep(POLL_SECONDS)
    run.close()


class FollowedRun:
    """One node's part of a run, from its first row to the last that its mirrors have.

    `tick()` does what is due and does not wait. What fails is noted in the run's `followers/follow.log`, and does not keep
    the rest from being done.

    Args:
        pid, attempt, rank, environment: as `follow`.
        start: when the process began, if that was recorded: one that has ended may have left its id to another.
        cwd: the training's working directory.

    Attributes:
        is_over: whether nobody writes it any more: what is left to do can be done at any time.
        is_busy: whether some of that is due at once.
    """

    def __init__(
        self,
        folder: RunFolder,
        pid: int,
        *,
        attempt: int,
        rank: int,
        start: float | None = None,
        cwd: str | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        environment = os.environ if environment is None else environment
        self.folder = folder
        self.rank = rank
        self.is_over = False
        self._pid = pid
        self._attempt = attempt
        self._is_main = rank == 0
        self._start = process_start(pid) if start is None else start
        self._place = this_place()
        self._process_end = ProcessEnd(pid, self._start)
        self._memory_kills = MemoryKills()
        self._nodes = Nodes(folder, self._place)
        self._next_lease = self._next_look = self._next_memory_look = 0.0
        self._sizes: Sizes = {}
        self._is_new = False  # whether training has logged something since the last round
        self._sealed_at = 0
        self._quietly(lambda: note_followed(folder))
        self._digests = DigestKeeper(folder)
        self._failures = 0
        self._is_ended = self._is_sealed = False
        self._steps = iter((self._end, self._seal))
        self._lock = ExitStack()
        self._beginning = Beginning(folder)
        self._summary: LiveSummary | None = None
        self._is_unsummed = True
        self._next_summary = self._next_idle_summary = 0.0
        self._mirrors = self._make_mirrors(environment, cwd) if self._is_main else None
        if self._mirrors is not None and self._is_written():
            # First of all: a follower that is killed is missed by its mirrors.
            self._quietly(self._mirrors.tend)
        process = (pid, self._start)
        self._capturing = threading.Thread(
            target=self._quietly,
            args=(lambda: _capture(folder, process, attempt, environment),),
            name="lossbook-capture",
            daemon=True,
        )
        if self._is_main:
            self._capturing.start()
        self._system = SystemMetrics(folder, pid, rank, environment=environment, note=self.note)
        self._environment, self._cwd = environment, cwd
        self._alerts: Alerts | None = None

    def hold(self) -> bool:
        """Keep other followers from the same work; False where one is at it."""
        self.note(f"follower {os.getpid()} of process {self._pid}")
        name = f"follow-{self.rank}-{self._attempt}"
        if self._lock.enter_context(folder_lock(self.folder, name, seconds=0.5)):
            return True
        self._lock.close()
        if not os.path.isdir(self.folder.followers):
            return True  # there is no folder to lock, yet or any more
        self.note("another follower is at it already")
        return False

    def tick(self) -> bool:
        """Do what is due; False when there is nothing left to do."""
        if not self.is_over:
            is_written = self._is_written()
            if not os.path.isdir(self.folder.path):
                return False
            if is_written:
                self._accompany()
                return True
            self.is_over = True
        if self._capturing.is_alive():
            return True
        step = next(self._steps, None)
        if step is not None:
            step()
            return True
        if not os.path.isdir(self.folder.path):
            return False
        is_sent = self._alerts is None or self._alerts.is_sent()
        return (self._mirrors is not None and self._mirrors.tend(is_over=True)) or not is_sent

    def close(self) -> None:
        """Let go of the run; one that was to be kept only until its mirrors have it is removed."""
        self._system.close()
        self._process_end.close()
        if self.is_over and self._mirrors is not None and self._mirrors.all_delivered() and _only_passes(self.folder):
            import shutil

            shutil.rmtree(self.folder.path, ignore_errors=True)
        self._lock.close()

    def miss_rank(self, rank: int, pid: int, status: int | None) -> None:
        """Say that another rank's process of this node has gone without a word, unless the run has ended before, or with it.

        Args:
            status: what it ended with, where the system tells (`ProcessEnd`).
        """
        from lossbook.follower.ending import is_missed

        if self._is_ended or not is_missed(self.folder, is_alive=self._is_rank_0_alive()):
            return
        how = how_it_ended(status, out_of_memory=self._memory_kills.is_recent())
        sentence = (
            f"rank {rank} (process {pid} on {self._place.host}) {how or 'was killed, or crashed outside of Python'}"
        )
        self._quietly(lambda: self._system.rows.append_event("warning", {"message": sentence, "missed_rank": rank}))

    @property
    def is_busy(self) -> bool:
        return self.is_over and (self._capturing.is_alive() or not self._is_sealed)

    def note(self, sentence: str) -> None:
        """Put a sentence into the run's `followers/follow.log`."""
        try:
            with open(os.path.join(self.folder.followers, "follow.log"), "a", errors="replace") as log:
                log.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {sentence}\n")
        except OSError:
            pass

    def failed(self) -> bool:
        """Note an exception that came out of `tick`; True when the run is better left alone."""
        self.note(last_traceback())
        self._failures += 1
        return self._failures >= MOST_FAILURES

    # -- while training goes on ---------------------------------------------------------------------------------

    def _is_written(self) -> bool:
        """Whether a process of this node may still write the run."""
        is_alive = self._is_process_alive()
        sizes = _sizes(self.folder.journal)
        before, self._sizes = self._sizes, sizes
        # Rows of the machine say nothing about the training.
        changed = {name for name in sizes.keys() | before.keys() if sizes.get(name) != before.get(name)}
        is_changed = any(map(_is_of_training, changed))
        self._is_new |= is_changed
        # Now and then they are all looked at: others of this node may write the run too, and end without a word.
        is_due = bool(sizes) and time.monotonic() >= self._next_look
        if is_alive and not is_changed and not is_due:
            return True
        self._next_look = time.monotonic() + LOOK_SECONDS
        # The training process may have ended its run and live on (a notebook, a sweep): its journal says so.
        if live_writers(self.folder.journal, place=self._place):
            return True
        self._sizes = {}
        # Other ranks than 0 write nothing until they have something.
        return is_alive and not self._is_main and next_segment(self.folder, self.rank) <= 1

    def _is_process_alive(self) -> bool:
        now = process_start(self._pid)
        return now is not None and (self._start is None or abs(now - self._start) < 1.0)

    def _is_rank_0_alive(self) -> bool:
        """Whether the run's rank 0 lives, which may be on another node."""
        if self._is_main:
            return self._is_process_alive()
        from lossbook.journal import life_of, place_of, seems_alive
        from lossbook.processes import Life

        info = load_run_info(self.folder)
        if info is None or not info.attempts:
            return False
        life = life_of(info.last_attempt)
        return life is Life.ALIVE or (life is Life.UNKNOWN and seems_alive(self.folder, place_of(info.last_attempt)))

    def _accompany(self) -> None:
        """What is done while training goes on."""
        if time.monotonic() >= self._next_lease:
            self._quietly(self._renew_lease)
            self._next_lease = time.monotonic() + RENEW_SECONDS
        is_new, self._is_new = self._is_new, False
        self._quietly(self._system.tick)
        self._quietly(self._digests.extend)
        if is_new:
            rotated = _rotated_segments(self.folder)
            if rotated and rotated != self._sealed_at:
                self._quietly(lambda: _seal(self.folder, finished=False))
                self._sealed_at = _rotated_segments(self.folder)
        now = time.monotonic()
        if now >= self._next_memory_look:
            self._next_memory_look = now + _MEMORY_LOOK_SECONDS
            self._quietly(self._look_at_memory)
        self._is_unsummed |= is_new
        if self._is_main and self._beginning.is_over(self._sizes):
            if now >= (self._next_summary if self._is_unsummed else self._next_idle_summary):
                self._quietly(self._write_summary)
                self._is_unsummed = False
                self._next_summary = now + max(SUMMARY_SECONDS, 50 * (time.monotonic() - now))
                self._next_idle_summary = now + IDLE_SUMMARY_SECONDS
            self._quietly(lambda: self._diagnosed().tick(is_idle=not is_new))
        if self._mirrors is not None:
            self._quietly(self._mirrors.tend)

    def _renew_lease(self) -> None:
        if not self._next_lease:
            beside = self._environment.get("LOCAL_WORLD_SIZE", "")
            note_ranks(self.folder, self._place, self.rank, int(beside) if beside.isdecimal() else 1)
        renew_lease(self.folder, self._place)
        for news in self._nodes.look() if self._is_main else ():
            value: JsonObject = {"message": news.sentence, "missed_node": True}
            if news.rank is not None:
                value["missed_rank"] = news.rank
            if news.is_back:
                value["is_back"] = True
            self._system.rows.append_event("warning", value)

    def _write_summary(self) -> None:
        if self._summary is None:
            from lossbook.storage import LiveSummary

            self._summary = LiveSummary(self.folder)
        self._summary.write()

    def _diagnosed(self) -> Alerts:
        if self._alerts is None:
            from lossbook.follower.alerts import Alerts

            self._alerts = Alerts(
                self.folder,
                self._pid,
                self._attempt,
                self._system.rows,
                environment=self._environment,
                cwd=self._cwd,
                note=self.note,
            )
        return self._alerts

    def _look_at_memory(self) -> None:
        """Say it when the kernel has ended a process beside the training, such as a loader of data."""
        if (killed := self._memory_kills.new()) and self._is_process_alive():
            count = "a process" if killed == 1 else f"{killed} processes"
            message = (
                f"the kernel's out-of-memory killer has ended {count} of this run's control group on {self._place.host}"
            )
            self._system.rows.append_event("warning", {"message": message, "oom_kills": killed})

    # -- when it has ended ----------------------------------------------------------------------------------------

    def _end(self) -> None:
        """Say how it ended: what a reader wants to know first."""
        from lossbook.follower.ending import has_finished, say_that_it_crashed

        self._is_ended = True
        if self._is_main:
            self._quietly(lambda: self._diagnosed().close())
        if self._is_main:
            self._quietly(self._note_preemption)
        self._quietly(self._system.close)
        self._quietly(lambda: self._digests.extend(to_end=True))
        if self._is_main and not has_finished(self.folder):
            how = how_it_ended(self._process_end.status(), out_of_memory=self._memory_kills.is_recent())
            error = how and f"the training process {how}"
            self._quietly(lambda: say_that_it_crashed(self.folder, self._attempt, error=error))
        if self._is_main:
            self._quietly(self._write_summary)
            self._quietly(self._diagnosed().tell_end)

    def _note_preemption(self) -> None:
        """Ask Slurm why a run of its was cut short."""
        if "SLURM_JOB_ID" not in self._environment:
            return
        from lossbook.follower.ending import was_cut_short
        from lossbook.follower.slurm import preempted_job

        if was_cut_short(self.folder) and (job := preempted_job(self._environment)) is not None:
            value: JsonObject = {"message": f"Slurm preempts its job {job}", "preempting": True}
            self._system.rows.append_event("warning", value)

    def _seal(self) -> None:
        self._is_sealed = True
        self._quietly(self._bring_home)
        self._quietly(lambda: _seal(self.folder, finished=True))
        if not live_writers(self.folder.journal, place=self._place):
            drop_lease(self.folder, self._place)
            forget_followed(self.folder)
        if self._is_main:
            self._quietly(self._write_summary)

    def _bring_home(self) -> None:
        from lossbook.journal import bring_home
        from lossbook.storage import next_row

        for sentence in bring_home(self.folder, next_row=next_row):
            self.note(sentence)

    def _make_mirrors(self, environment: Mapping[str, str], cwd: str | None) -> Mirrors | None:
        """The mirrors that the run asked for; None when it asked for none."""
        info = load_run_info(self.folder)
        if info is None or not info.mirrors:
            return None
        from lossbook.follower.mirror_process import Mirrors

        return Mirrors(
            self.folder,
            list(info.mirrors),
            mode=info.mode or "online",
            pid=self._pid,
            attempt=self._attempt,
            environment=environment,
            cwd=cwd,
            note=self.note,
        )

    def _quietly(self, work: Callable[[], object]) -> None:
        """Do one piece of work; when it fails, note it and go on with the others."""
        try:
            work()
        except (LossbookError, OSError) as error:
            self.note(str(error))
        except Exception:
            self.note(last_traceback())


def last_traceback() -> str:
    """The exception that is being handled, in words."""
    import traceback

    return traceback.format_exc()


def _capture(folder: RunFolder, process: Process, attempt: int, variables: Mapping[str, str]) -> None:
    from lossbook.follower.capture import capture

    capture(folder, process, attempt=attempt, main=True, variables=variables)


def _seal(folder: RunFolder, *, finished: bool) -> None:
    from lossbook.storage import seal_run

    seal_run(folder, finished=finished, node_only=True)


def _is_of_training(filename: str) -> bool:
    name = parse_segment_name(filename)
    return name is not None and not is_monitor(name.rank)


def _sizes(journal: str) -> Sizes:
    """How long the files of a run's journal are."""
    try:
        with os.scandir(journal) as entries:
            return {entry.name: entry.stat().st_size for entry in entries}
    except OSError:
        return {}


def _only_passes(folder: RunFolder) -> bool:
    """Whether the run was to be kept only until its mirrors have it."""
    return os.path.dirname(os.path.dirname(os.path.abspath(folder.path))) == os.path.abspath(passing_store())


def _rotated_segments(folder: RunFolder) -> int:
    """How many journal segments have been left behind by their writers."""
    segments = journal_segments(folder.journal)
    return len(segments) - len({segment.name.rank for segment in segments})
