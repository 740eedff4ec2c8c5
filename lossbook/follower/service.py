"""One follower for all runs that processes of this node write into a store: it begins with the first, and ends soon after
the last.

What training hands over lies in a folder on the local disk (`lossbook.run.handover`). A run that fails or hangs in a thread
of its own does not hold up the others; a store that does not answer holds up all, because it is one for all.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping

from lossbook.follower.followed import noted_runs
from lossbook.follower.loop import POLL_SECONDS, FollowedRun, last_traceback
from lossbook.follower.post_mortem import ProcessEnd
from lossbook.paths import RunFolder
from lossbook.processes import process_start
from lossbook.run import Handover, HandoverFolder, Unshared

#: It stays so long after its last run: a sweep of short runs then needs one follower, not one each.
STAY_SECONDS = 3.0
#: Between two rounds while runs that have ended wait for their last work.
BUSY_SECONDS = 0.02
#: In one round no more time is spent on runs that have ended: those that go on come first.
_ENDED_SECONDS = 0.5
_BEAT_SECONDS = 5.0
#: A rank that has gone is missed in a run that is handed over within that time.
_HANDED_OVER_SECONDS = 60.0

RunKey = tuple[str, int, int]  # folder, rank, attempt


def serve(folder: HandoverFolder) -> None:
    """Follow every run that is handed over, until there is none any more."""
    if not folder.announce():
        _log("another follower is at it already")
        return
    served = _Served(folder)
    left = [_with_environment(one) for one in folder.followed()]  # by a follower that was killed
    quiet_since = time.monotonic()
    next_beat = 0.0
    while True:
        for name in folder.requests():
            handover = folder.take(name)
            if handover is not None:
                served.begin(handover)
        # What was handed over anew, with all it takes, counts; the rest comes from what a follower before this one noted.
        for handover in left:
            served.begin(handover)
        left = []
        served.see_to_left_behind()
        served.see_to_ranks()
        is_busy = served.round()
        now = time.monotonic()
        if now >= next_beat:
            folder.beat()
            next_beat = now + _BEAT_SECONDS
        if len(served):
            quiet_since = now
        elif now - quiet_since >= STAY_SECONDS and folder.leave():
            return
        time.sleep(BUSY_SECONDS if is_busy else POLL_SECONDS)


class _Served:
    """The runs that are followed now."""

    def __init__(self, folder: HandoverFolder) -> None:
        self._folder = folder
        self._runs: dict[RunKey, tuple[FollowedRun, str]] = {}
        self._ranks: dict[str, Handover] = {}
        self._rank_ends: dict[str, ProcessEnd] = {}
        self._seen_to: set[str] = set()

    def __len__(self) -> int:
        return len(self._runs)

    def begin(self, handover: Handover) -> None:
        """Follow a run, unless that is done already."""
        key = (os.path.realpath(handover.run), handover.rank, handover.attempt)
        if key in self._runs:
            self._folder.done(handover.name)
            return
        try:
            run = FollowedRun(
                RunFolder(handover.run),
                handover.pid,
                attempt=handover.attempt,
                rank=handover.rank,
                start=handover.start,
                cwd=handover.cwd,
                environment=handover.environment,
            )
            if run.hold():
                self._runs[key] = run, handover.name
                return
            run.close()
        except Exception:  # the run's folder may hold anything
            _log(f"{handover.run} cannot be followed; `lossbook seal` does its work\n{last_traceback()}")
        self._folder.done(handover.name)

    def see_to_left_behind(self) -> None:
        """Once for each store: seal what a follower of this place left there when it was killed."""
        followed = {path for path, _, _ in self._runs}
        for path in followed:
            store = os.path.dirname(os.path.dirname(path))
            if store in self._seen_to:
                continue
            self._seen_to.add(store)
            if all(os.path.realpath(folder.path) in followed for folder in noted_runs(store)):
                continue
            from lossbook.follower.ending import seal_left_behind

            try:
                for sentence in seal_left_behind(store):
                    _log(sentence)
            except Exception:  # another run's folder may hold anything
                _log(f"what was left in {store} is not sealed\n{last_traceback()}")

    def see_to_ranks(self) -> None:
        """Note which ranks of the runs that are followed have gone without saying how they ended."""
        self._ranks = self._folder.ranks(self._ranks)
        for name in self._rank_ends.keys() - self._ranks.keys():
            self._rank_ends.pop(name).close()
        for name, one in self._ranks.items():
            if name not in self._rank_ends:
                self._rank_ends[name] = ProcessEnd(one.pid, one.start)
        for name, one in self._ranks.items():
            if process_start(one.pid) == one.start or not self._folder.is_announced(name):
                continue
            path = os.path.realpath(one.run)
            runs = [
                run
                for (run_path, _, attempt), (run, _) in self._runs.items()
                if (run_path, attempt) == (path, one.attempt)
            ]
            for run in runs[:1]:
                run.miss_rank(one.rank, one.pid, self._rank_ends[name].status())
            if runs or time.time() - int(name.split("-")[0]) / 1e9 > _HANDED_OVER_SECONDS:
                self._folder.drop_rank(name)

    def round(self) -> bool:
        """Do what is due on each run; whether any that has ended waits for more."""
        for key, (run, _) in list(self._runs.items()):
            if not run.is_over:
                self._tick(key, run)
        until = time.monotonic() + _ENDED_SECONDS
        is_busy = False
        for key, (run, _) in list(self._runs.items()):
            if run.is_over:
                is_busy |= run.is_busy
                if time.monotonic() < until:
                    self._tick(key, run)
        return is_busy

    def _tick(self, key: RunKey, run: FollowedRun) -> None:
        if self._ranks:
            self.see_to_ranks()  # what has happened before the end that this round may find
        try:
            goes_on = run.tick()
        except Exception:
            goes_on = not run.failed()
        if not goes_on:
            _, name = self._runs.pop(key)
            try:
                run.close()
            except Exception:
                run.failed()
            self._folder.done(name)


def _with_environment(handover: Handover) -> Handover:
    """A run of which the environment is not known any more: what its process was started with, if that lives."""
    environment: Mapping[str, str] = {}
    if handover.start is not None and process_start(handover.pid) == handover.start:
        try:
            with open(f"/proc/{handover.pid}/environ", "rb") as file:
                pairs = (os.fsdecode(one).partition("=") for one in file.read().split(b"\0") if b"=" in one)
                environment = {key: value for key, _, value in pairs}
        except OSError:
            pass
    return handover._replace(environment=environment)


def _log(sentence: str) -> None:
    print(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {sentence}", flush=True)


def run_service(path: str) -> int:
    """Serve a folder of this user's, and say how that ended: 0, or 1 where it cannot be used."""
    folder = HandoverFolder(path)
    try:
        folder.make()
        serve(folder)
    except (Unshared, OSError) as error:
        _log(f"{error}; `lossbook seal` does the work of a follower")
        return 1
    return 0
