"""The engine of a mirror: rows from the journal to one tracker, with a cursor, exactly once.

Live mirroring and `lossbook sync` a year later are this code from different cursors.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice

from lossbook.errors import BadArgument, LossbookError, StoreError
from lossbook.follower.cursor import Cursor, load_cursor
from lossbook.follower.inherited import InheritedRows
from lossbook.journal import merge_config
from lossbook.json_shapes import JsonMapping, JsonObject, object_or_empty, texts_of
from lossbook.paths import RunFolder, folder_lock, make_folder, read_json
from lossbook.registry import BrokenPlugin
from lossbook.run_files import refuse_linked_folders
from lossbook.run_info import RunInfo, read_run_info
from lossbook.storage import LoggedRow, Replay
from lossbook.trackers import Ending, Mirror, MirrorSettings, MirrorUnavailable, Subject, has_offline, mirror_class

#: Rows between two cursors: what a killed mirror has to find out, or deliver again, is no more than that.
BATCH_ROWS = 1000
EXIT_CODES = {"finished": 0, "failed": 1, "crashed": 1, "interrupted": 130, "killed": 143, "preempted": 143}


class Busy(LossbookError):
    """Another process delivers this run to this mirror right now."""


class UnforeseenFailure(MirrorUnavailable):
    """A mirror could not take what this run holds: another run may well be taken."""


class Delivery:
    """One run on its way to one mirror. Use as `with Delivery(...) as delivery:`.

    Args:
        name: the tracker.
        mode: "online" or "offline"; each has a cursor of its own.
        live: whether this is the mirror beside a training that runs.
        pid: the training process on this machine, where there is one.
        beat: called often while work goes on: a supervisor that hears nothing takes the mirror for hung.
        options: settings of that tracker.
    """

    def __init__(
        self,
        folder: RunFolder,
        name: str,
        *,
        mode: str = "online",
        live: bool = False,
        pid: int | None = None,
        beat: Callable[[], None] | None = None,
        options: dict[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self.name = name
        self.mode = mode
        self.cursor: Cursor = load_cursor(folder, cursor_name(name, mode))
        self._live = live
        self._pid = pid
        self._beat = beat or (lambda: None)
        self._options = options or {}
        self._mirror: Mirror | None = None
        self._inherited: InheritedRows | None = None
        self._replay: Replay | None = None
        #: Rows of the runs that this one was forked from, those that went before its own just now.
        self.inherited_rows = 0

    @contextmanager
    def held(self) -> Iterator[Delivery]:
        """Keep other processes from delivering the same; the lock goes with this process.

        Raises:
            Busy: somebody else is at it.
            StoreError: the run's folder cannot be written, so no cursor can be kept.
        """
        refuse_linked_folders(self.folder)
        with folder_lock(self.folder, f"mirror-{self.cursor.name}", seconds=0.2) as held:
            if not held:
                _refuse_unwritable(self.folder, f"mirror-{self.cursor.name}")
                raise Busy(f"the run {os.path.basename(self.folder.path)} is being delivered to {self.name} already")
            # It may have been moved on between the look and the lock.
            self.cursor = load_cursor(self.folder, self.cursor.name)
            yield self

    def open(self) -> None:
        """Connect to the tracker and find out where to go on.

        Raises:
            MirrorUnavailable: it cannot be reached or is not installed.
        """
        self._beat()
        info = read_run_info(self.folder)[0]
        subject = _subject(self.folder, info)
        settings = MirrorSettings(
            mode=self.mode,
            live=self._live,
            pid=self._pid,
            options=self._options,
            beat=self._beat,
            # Beside a training its own words are taken; a run that lies there may be anybody's, and names no place here.
            cwd=info.cwd if self._live and info.cwd and os.path.isdir(info.cwd) else os.getcwd(),
        )
        try:
            mirror_type = mirror_class(self.name)
        except (BadArgument, BrokenPlugin) as error:
            # A package that is not installed here, or not any more.
            raise MirrorUnavailable(str(error), may_pass=False) from error
        try:
            mirror = mirror_type(subject, settings, self.cursor.remote)
            held = mirror.open(dict(self.cursor.delivered))
        except MirrorUnavailable:
            raise
        except Exception as error:
            raise UnforeseenFailure(_unexpected(self.name, error)) from error
        self._mirror = mirror
        self.cursor.delivered = held
        self.cursor.url = mirror.url
        self._inherited = InheritedRows(self.folder, info, held, self._beat)
        self._replay = Replay(self.folder, held)
        self._save(state="open")

    def remarks(self) -> list[str]:
        """What the mirror did otherwise than asked (a name that the tracker cannot have), damaged rows, and parents of a
        fork that are missing, a sentence each."""
        passed_over = [
            sentence
            for reading in (self._inherited, self._replay)
            if reading is not None
            for sentence in reading.problems
        ]
        return [*texts_of(self.cursor.remote.get("said")), *dict.fromkeys(passed_over)]

    def damage(self) -> list[str]:
        """The damaged lines and files of the run itself that were passed over, a sentence each."""
        return list(dict.fromkeys(self._replay.problems)) if self._replay is not None else []

    def catch_up(self, progress: Callable[[int], None] | None = None) -> int:
        """Deliver every row that is there, of a fork its parents' first; returns how many of its own.

        Raises:
            MirrorUnavailable: the tracker went away; what was not flushed is delivered again later.
        """
        assert self._inherited is not None, "open() comes first"
        assert self._replay is not None
        # What is known of the parents is written down before the first row of the fork: that row says that they are there.
        for batch in _batches(self._inherited.rows()):
            self.inherited_rows += self._hand_over(batch, None)
        count = 0
        for batch in _batches(self._replay.rows()):
            count += self._hand_over(batch, progress)
        self._beat()
        return count

    def _hand_over(self, batch: list[LoggedRow], progress: Callable[[int], None] | None) -> int:
        assert self._mirror is not None
        self._beat()
        try:
            self._mirror.deliver(batch)
            self._beat()
            self._mirror.flush()
        except MirrorUnavailable:
            raise
        except Exception as error:
            raise UnforeseenFailure(_unexpected(self.name, error)) from error
        for row in batch:
            self.cursor.delivered[row.rank] = row.i
        self._save()
        if progress is not None:
            progress(len(batch))
        return len(batch)

    def close(self, ending: Ending | None) -> None:
        """Leave the tracker; with `ending` it learns how the run ended.

        Raises:
            MirrorUnavailable: it could not be told.
        """
        mirror, self._mirror = self._mirror, None
        if mirror is None:
            return
        self._beat()
        try:
            mirror.close(ending)
        except MirrorUnavailable:
            raise
        except Exception as error:
            raise UnforeseenFailure(_unexpected(self.name, error)) from error
        self.cursor.remote = mirror.remote
        if ending is not None:
            self.cursor.attempts = len(read_run_info(self.folder)[0].attempts)
            self._save(state="closed")
        else:
            self._save()

    def stopped(self, sentence: str) -> None:
        """Write down why nothing more is delivered for now."""
        self.cursor.error = sentence
        self._mirror = None
        self._save(state="stopped", keep_error=True)

    def _save(self, state: str | None = None, keep_error: bool = False) -> None:
        if state is not None:
            self.cursor.state = state
        if not keep_error:
            self.cursor.error = None
        if self._mirror is not None:
            self.cursor.remote = self._mirror.remote
            self.cursor.url = self._mirror.url
        self.cursor.save(self.folder)


def _refuse_unwritable(folder: RunFolder, lock: str) -> None:
    """Tell a lock that another process has from one that nobody can have.

    Raises:
        StoreError: the folder cannot be written, or its file system has no locks.
    """
    path = os.path.join(folder.followers, f"{lock}.lock")
    try:
        make_folder(folder.followers)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        finally:
            os.close(descriptor)
    except BlockingIOError:
        return
    except OSError as error:
        unwritable = StoreError(
            f"{path} cannot be written or locked ({error.strerror or error}), and how far a delivery is must be noted "
            "there: check who owns it, or deliver from a copy of the run"
        )
        unwritable.errno = error.errno
        raise unwritable from None


def _batches(rows: Iterator[LoggedRow]) -> Iterator[list[LoggedRow]]:
    while batch := list(islice(rows, BATCH_ROWS)):
        yield batch


def cursor_name(name: str, mode: str) -> str:
    """What the cursor's file is called: what lies in an offline folder is not what the server has.

    A tracker that has local files alone has one cursor.
    """
    return f"{name}-offline" if mode == "offline" and has_offline(name) else name


def is_complete(folder: RunFolder, cursor: Cursor) -> bool:
    """Whether a mirror has all of a run that has ended."""
    attempts = len(read_run_info(folder)[0].attempts)
    return cursor.state == "closed" and cursor.attempts == attempts and undelivered_rows(folder, cursor) == 0


def undelivered_rows(folder: RunFolder, cursor: Cursor) -> int:
    """How many rows a mirror does not have yet."""
    from lossbook.storage import list_segments, next_row

    ranks = {segment.name.rank for segment in list_segments(folder)}
    return sum(max(0, next_row(folder, rank) - 1 - cursor.delivered.get(rank, -1)) for rank in ranks)


def ending_of(folder: RunFolder) -> Ending | None:
    """How a run ended and what it came to; None while it runs."""
    from lossbook.storage import compute_summary

    summary = compute_summary(folder)
    state = summary.state or "crashed"
    if state == "running":
        return None
    values: JsonObject = {key: one.last for key, one in summary.metrics.items()}
    values.update(summary.summary)
    ended = summary.ended or time.time_ns() // 1000
    return Ending(
        state=state,
        exit_code=EXIT_CODES.get(state, 1),
        error=summary.error,
        ended=ended / 1e6,
        summary=values,
    )


def _subject(folder: RunFolder, info: RunInfo) -> Subject:
    config = info.config
    try:
        summary: JsonMapping = read_json(folder.summary_json) or {}
        config = merge_config(config, object_or_empty(summary.get("config")))
    except LossbookError:
        pass
    return Subject(folder, info, config)


def _unexpected(name: str, error: Exception) -> str:
    first = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
    return f"{name} could not take the run ({type(error).__name__}: {first}); `lossbook sync --to {name}` goes on later"


# -- the mirror beside a training -------------------------------------------------------------------------------------

#: How often a live mirror looks for new rows.
POLL_SECONDS = 1.0
#: After a failure a live mirror waits that long, then twice as long, and so on.
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 2.0, 120.0
#: So many failures in a row turn an online mirror into an offline one.
MOST_FAILURES = 3


def mirror_live(
    folder: RunFolder,
    name: str,
    *,
    mode: str,
    is_over: Callable[[], bool],
    tell: Callable[[str], None],
    pid: int | None = None,
    options: dict[str, str] | None = None,
    poll_seconds: float = POLL_SECONDS,
) -> None:
    """Deliver a run to one tracker while it is written, until it is over and all of it is there.

    What cannot be delivered online is delivered offline where the tracker has such a mode, and said once.

    Args:
        is_over: whether nobody writes the run any more.
        tell: takes the sentence that the user should read.
    """
    beat = _heartbeat(folder, cursor_name(name, mode))
    failures = 0
    said: set[str] = set()
    while True:
        delivery = Delivery(folder, name, mode=mode, live=True, pid=pid, beat=beat, options=options)
        try:
            with delivery.held():
                _follow(delivery, is_over, poll_seconds, beat, tell)
                return
        except Busy:
            # `lossbook sync` is at it; it leaves the rest to this one.
            if is_over():
                return
            time.sleep(poll_seconds)
            continue
        except MirrorUnavailable as error:
            if delivery.cursor.rows:
                failures = 0 if delivery.cursor.error is None else failures
            failures += 1
            sentence = str(error)
            delivery.stopped(sentence)
            print(f"{time.strftime('%H:%M:%S')} {sentence}", flush=True)
            if mode == "online" and has_offline(name) and (not error.may_pass or failures >= MOST_FAILURES):
                mode = "offline"
                beat = _heartbeat(folder, cursor_name(name, mode))
                _begin_offline(delivery)
                failures = 0
                _tell_once(said, tell, f"{sentence} The mirror goes on offline meanwhile.")
                continue
            if not error.may_pass or (failures >= MOST_FAILURES and is_over()):
                _tell_once(said, tell, sentence)
                return
            if failures == 1:
                _tell_once(said, tell, sentence)
            _pause(min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2 ** (failures - 1)), beat, is_over)


def _follow(
    delivery: Delivery,
    is_over: Callable[[], bool],
    poll_seconds: float,
    beat: Callable[[], None],
    tell: Callable[[str], None],
) -> None:
    known = set(delivery.remarks())
    delivery.open()
    while True:
        over = is_over()
        _tell_new(delivery, known, tell)
        delivery.catch_up()
        _tell_new(delivery, known, tell)
        if over:
            delivery.close(ending_of(delivery.folder))
            return
        beat()
        time.sleep(poll_seconds)


def _tell_new(delivery: Delivery, known: set[str], tell: Callable[[str], None]) -> None:
    for sentence in delivery.remarks():
        if sentence not in known:
            known.add(sentence)
            tell(sentence)


def _begin_offline(delivery: Delivery) -> None:
    """Let the offline mirror go on where the server stands, as the same remote run."""
    offline = load_cursor(delivery.folder, cursor_name(delivery.name, "offline"))
    if not offline.delivered and delivery.cursor.delivered:
        offline.delivered = dict(delivery.cursor.delivered)
        offline.remote = dict(delivery.cursor.remote)
        offline.save(delivery.folder)


def _tell_once(said: set[str], tell: Callable[[str], None], sentence: str) -> None:
    if not said:
        said.add(sentence)
        tell(sentence)


def _pause(seconds: float, beat: Callable[[], None], is_over: Callable[[], bool]) -> None:
    """Wait, but no longer than two seconds once the run is over."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        beat()
        if is_over():
            time.sleep(min(left, 2.0))
            return
        time.sleep(min(left, 1.0))


def beat_path(folder: RunFolder, name: str) -> str:
    """The file whose time of change says when a mirror was last heard of."""
    return os.path.join(folder.followers, f"{name}.beat")


def _heartbeat(folder: RunFolder, name: str) -> Callable[[], None]:
    path = beat_path(folder, name)
    make_folder(folder.followers)

    def beat() -> None:
        try:
            with open(path, "a"):
                os.utime(path)
        except OSError:
            pass

    return beat
