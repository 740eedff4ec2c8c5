"""`Run`: what a training script holds. `log()` costs microseconds and never raises.

A scalar row goes from `Run.log` to `Journal.append` to the disk. Everything else here happens rarely; `events` has
what a training says besides. A name that is not here is looked up among W&B's words, in `lossbook.compat.wandb`,
which is loaded only then.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from types import TracebackType
from typing import Any

from lossbook.handlers import is_of_handler
from lossbook.journal import AttemptRow, Journal, NotPlain
from lossbook.json_shapes import JsonObject
from lossbook.lazy import shown_by
from lossbook.paths import RunFolder
from lossbook.redaction import mask_config, mask_text
from lossbook.run import exit_hooks
from lossbook.run.allocator import AllocatorWatch, has_gpu_build
from lossbook.run.console import Console
from lossbook.run.console_choice import start_console
from lossbook.run.create import Started, begin_child, begin_disabled
from lossbook.run.descriptor_console import DescriptorConsole
from lossbook.run.distributed import Launch
from lossbook.run.events import RunEvents
from lossbook.run.follower_process import RunFollower
from lossbook.run.mapping import RecordedMapping, plain_summary
from lossbook.run.messages import say
from lossbook.run.plain_values import plain, plain_object
from lossbook.run.row_writer import RowWriter
from lossbook.run.saved_files import FileWork, SavedFiles
from lossbook.run.text import describe, shown, text_of
from lossbook.run_info import RunInfo, edit_run_info, read_run_info

STATES = ("finished", "failed", "interrupted", "killed", "preempted")


class Run(RunEvents):
    """A run that is being written. Made by `lossbook.init()`.

    Attributes:
        id: the run's folder name, unique in its project.
        project: as recorded.
        mode: "online", "offline" or "disabled".
        config, summary: by key and by attribute; each change is recorded.
        attempt: 0 for the first process that wrote this run, 1 for the first that resumed it, and so on.
        resumed: whether there was something to resume.
    """

    def __init__(self, started: Started, *, mode: str | None = None, console: str = "auto") -> None:
        super().__init__()
        info = started.info
        self._info = info
        self.id: str = info.id
        self.project: str = info.project
        self.attempt: int = started.attempt.number
        self.resumed: bool = started.resumed
        self.mode: str = mode or info.mode or "online"
        self._journal: Journal = started.journal
        self._rank = started.journal.rank
        self._finished = False
        self._warned: set[str] = set()
        self._rows = RowWriter(self.warn, self._write_late)
        self._allocator: AllocatorWatch | None = None
        self._late = started.late
        self._waits = None if started.late is None else started.late.journal
        self._file_work = FileWork(
            in_thread=type(self._journal) is not Journal,
            ready=started.late.is_settled if started.late is not None else None,
        )
        self._saved = SavedFiles(
            lambda: self.folder,
            self._file_work,
            record=self._record_file,
            warn=lambda sentence: self.warn("save", sentence),
        )
        # Re-entrant: SIGTERM may come while the run is being ended, and its handler ends the run.
        self._lock = threading.RLock()
        self._is_child = False
        self._follower = RunFollower()
        # Rank 0's scalars are the run's; the other ranks write what is asked of every rank.
        self._append = self._append_of_rank()
        self.config = RecordedMapping(info.config, self._record_config)
        self._journal.home.set_identity(self._identity)
        if self._rank == 0:
            self._journal.note_file("run.json")
        self.summary = RecordedMapping({}, self._record_summary, kind="summary")
        self._console_file = f"console/r{self._rank}.log"
        # Where a store has not answered yet, it is not known which folder the run gets.
        is_placed = type(self._journal) is Journal or self._journal.segment > 0
        self._console = start_console(console, self.path if is_placed else "", self._console_file, self.record_console)
        if self.path:
            exit_hooks.watch(self)

    # -- who it is ----------------------------------------------------------------------------------------------

    @property
    def info(self) -> RunInfo:
        """What `run.json` says of the run."""
        return self._info

    @property
    def path(self) -> str:
        """The run's folder, where it was seen last; empty where nothing is recorded."""
        return self._journal.folder.path

    @property
    def folder(self) -> RunFolder:
        """Where each kind of the run's files lies."""
        return self._journal.folder

    @property
    def name(self) -> str:
        """What people call the run; may be set at any time."""
        return self._info.name

    @name.setter
    def name(self, name: str) -> None:
        self._describe(lambda info: info._replace(name=text_of(name)))

    @property
    def tags(self) -> tuple[str, ...]:
        """Words to find the run by; may be set at any time."""
        return self._info.tags

    @tags.setter
    def tags(self, tags: Iterable[str]) -> None:
        words = tuple(dict.fromkeys([text_of(tags)] if isinstance(tags, str) else map(text_of, tags)))
        self._describe(lambda info: info._replace(tags=words))

    @property
    def notes(self) -> str | None:
        """What was noted about the run as a whole; may be set at any time."""
        return self._info.notes

    @notes.setter
    def notes(self, notes: str | None) -> None:
        self._describe(lambda info: info._replace(notes=None if notes is None else text_of(notes)))

    @property
    def group(self) -> str | None:
        """What the run belongs to, where that was said."""
        return self._info.group

    @property
    def is_finished(self) -> bool:
        """Whether the run was ended: what is logged now is not recorded."""
        return self._finished

    def _describe(self, change: Callable[[RunInfo], RunInfo]) -> None:
        """Change what `run.json` says of the run."""
        self._info = change(self._info)
        if not self.path or self._rank != 0:
            return

        def write() -> None:
            try:
                self._journal.look()  # the run may have been moved
                edit_run_info(self.folder, change, durable=False)
                self._journal.note_file("run.json")
            except Exception as error:
                if is_of_handler(error):
                    raise
                self.warn("identity", f"{self.folder.run_json} could not be changed ({describe(error)})")

        self._file_work.do(write)

    def _identity(self) -> JsonObject:
        """What `run.json` says of the run as it is now, should somebody remove it."""
        return self._info._replace(config=mask_config(plain(self.config))).to_json()

    def __getattr__(self, name: str) -> Any:
        # Python asks for many a double underscore that an object may lack: copy, pickle, numpy, IPython.
        if name.startswith("__"):
            raise AttributeError(name)
        return import_module("lossbook.compat.wandb.run_methods").find_word(self, name)

    # -- logging ------------------------------------------------------------------------------------------------

    def log(
        self,
        metrics: Mapping[str, object] | None = None,
        step: int | None = None,
        commit: bool | None = None,
        ranks: str | None = None,
        data: Mapping[str, object] | None = None,
    ) -> None:
        """Record one row: in the page cache when this returns, so SIGKILL cannot take it. Never raises.

        Args:
            metrics: numbers (Python, numpy, torch on any device, jax), nested dictionaries of them, or
                `lossbook.Text`, `Histogram`, `Table`, `Image`. Anything else is recorded as a warning.
            step: any whole number, in any order; None for the last step + 1.
            commit: False keeps the counting at this step: the next row without a step belongs to it as well.
            ranks: "all" keeps the series of every rank of a distributed run; by default rank 0's counts.
            data: `metrics`, as W&B calls it.
        """
        # None of the arguments is keyword-only: each of those costs a call a look-up in a dictionary.
        try:
            # Both None, as a rule: one comparison is all that the hot path pays.
            if commit is ranks:  # type: ignore[comparison-overlap]
                self._append(metrics, step)  # type: ignore[arg-type]
            else:
                self._log_otherwise(metrics if data is None else data, step, commit, ranks)
        except (TypeError, NotPlain, OverflowError, AttributeError, ValueError, RecursionError) as error:
            if is_of_handler(error):
                raise
            self._log_carefully(metrics if data is None else data, step, ranks)
        except OSError as error:
            if is_of_handler(error):
                raise
            self._journal.append_refused(error, metrics, step)  # type: ignore[arg-type]
        except Exception as error:
            if is_of_handler(error):
                raise
            self.warn("", f"a row could not be recorded ({describe(error)})")

    def _log_otherwise(self, metrics: Any, step: int | None, commit: bool | None, ranks: str | None) -> None:
        if commit is False and step is None:
            # Written at once, so that SIGKILL cannot take it: only the counting waits.
            before = self._journal.step
            self.log(metrics, before + 1, ranks=ranks)
            self._journal.step = before
        elif ranks is None:
            self._append(metrics, step)
        elif ranks == "all":
            self._journal.append(metrics, step)
        else:
            self.warn("ranks", f"ranks={shown(ranks)} is not known: use ranks='all', or leave it out for rank 0 only")
            self._append(metrics, step)

    def _log_carefully(self, metrics: object, step: object, ranks: str | None) -> None:
        """Take what is not all plain numbers, value by value."""
        try:
            if self._finished:
                self.warn("finished", f"log() after finish() of the run {self.name} is not recorded")
                return
            self._open_child()
            if step is not None:
                step = self._rows.whole_step(step)
            whole, waits = step, self._waits
            if waits is None or ranks == "all":
                self._rows.write(metrics, whole, self._journal)
            else:
                waits.for_rank_0(lambda: self._rows.write(metrics, whole, waits))
        except Exception as error:
            if is_of_handler(error):
                raise
            self.warn("log", f"a row could not be recorded ({describe(error)})")

    def _write_late(self, scalars: dict[str, float], step: int, time_us: int) -> None:
        if not self._finished:
            self._journal.append_scalars(scalars, step, time_us=time_us)

    def watch_allocator(self) -> None:
        """Record what torch's allocator holds on GPUs, where torch can use any; `init()` asks for it."""
        if self._rank == 0 and has_gpu_build():
            self._allocator = AllocatorWatch(
                lambda row: self._write_late(row, max(self._journal.step, 0), self._journal.now_us())
            )
            self._allocator.start()

    def _append_of_rank(self) -> Callable[[dict[str, float], int | None], None]:
        """What takes a row of scalars that is not asked of every rank."""
        if self._waits is not None:
            return self._waits.append_for_rank_0
        # Rank 0's scalars are the run's; the other ranks write what is asked of every rank.
        return self._journal.append if self._rank <= 0 else _nothing

    def settle(self, started: Started) -> None:
        """Go on in the run that this process turned out to belong to, whose journal has its rows already."""
        said, self._info = self._info, started.info
        self._waits = None
        self._journal = started.journal
        self._rank = started.journal.rank
        self._console_file = f"console/r{self._rank}.log"
        self.id, self.attempt, self.resumed = started.info.id, started.attempt.number, started.resumed
        if self._finished:
            self._journal.close()
            return
        self._append = self._append_of_rank()
        self._journal.home.set_identity(self._identity)
        if self._rank == 0:
            self._journal.note_file("run.json")
            if (said.name, said.tags, said.notes) != (self._info.name, self._info.tags, self._info.notes):
                self._describe(lambda info: info._replace(name=said.name, tags=said.tags, notes=said.notes))
            if started.info.system_metrics:
                self.watch_allocator()
        self.be_followed(started.launch)

    def be_followed(self, launch: Launch) -> None:
        """Hand the run to this node's follower; `init()` asks for it.

        On a node's other ranks than the one that leads there, the follower only notices it when their process is killed.
        """
        self._follower.begin(self.path, attempt=self.attempt, launch=launch)

    def _look_after_follower(self) -> None:
        """Say it when the follower could not go on; the run's problems tell it too."""
        problem = self._follower.look_after(self.path, attempt=self.attempt)
        if problem is not None:
            say(problem)
            self.record_event("warning", {"message": problem, "unfollowed": True})

    def warn(self, key: str, sentence: str, *, step: int | None = None) -> None:
        """Record a warning row; print it the first time for each key."""
        if not self.path:
            return
        try:
            if not self._finished:
                self._open_child()
                self._journal.append_event("warning", {"message": sentence}, key=key or None, step=step)
            if key not in self._warned and len(self._warned) < 100:
                self._warned.add(key)
                say(sentence)
        except Exception as error:
            if is_of_handler(error):
                raise

    def log_aside(self, metrics: Mapping[str, object], step: int) -> None:
        """Record a row without moving the step that `log()` counts on from."""
        before = self._journal.step
        self.log(metrics, step=step)
        self._journal.step = before

    @property
    def step(self) -> int:
        """The step that the next `log()` without one gets: 0 before the first row."""
        return self._journal.step + 1

    # -- what is not a row of scalars -----------------------------------------------------------------------------

    @property
    def last_step(self) -> int | None:
        """The step of the last row; None before the first."""
        return self._journal.step if self._journal.step >= 0 else None

    def _step_or_last(self, step: int | None) -> int | None:
        return self.last_step if step is None else self._rows.whole_step(step)

    def record_event(self, kind: str, value: Mapping[str, object], *, step: int | None = None) -> None:
        """Record a row of another kind than scalars, at `step` where it has one; never raises."""
        try:
            if self._finished:
                self.warn("finished", f"{kind} after finish() of the run {self.name} is not recorded")
            else:
                self._open_child()
                self._journal.append_event(kind, plain_object(value), step=step)
        except Exception as error:
            if is_of_handler(error):
                raise
            self.warn(kind, f"a {kind} could not be recorded ({describe(error)})")

    def _record_config(self, changes: dict[str, object]) -> None:
        self._record_as_rank_0("config", lambda: mask_config(plain(changes)))

    def _record_summary(self, changes: dict[str, object]) -> None:
        self._record_as_rank_0("summary", lambda: mask_config(plain_summary(changes)))

    def _record_as_rank_0(self, kind: str, value: Callable[[], JsonObject]) -> None:
        if self._rank == 0:
            self.record_event(kind, value())
        elif self._waits is not None:
            self._waits.for_rank_0(lambda: self.record_event(kind, value()))

    def record_console(self, text: bytes) -> None:
        """Add to what the run printed."""
        if not self._finished:
            self._journal.append_text(self._console_file, text)

    @property
    def console(self) -> Console | DescriptorConsole | None:
        """What catches what is printed; None where that is not kept."""
        return self._console

    def record_code(self, name: str, text: bytes) -> None:
        """Add to a file of the code that this attempt ran."""
        if not self._finished and self._rank == 0:
            folder = "code" if self.attempt == 0 else f"code/attempt-{self.attempt}"
            self._journal.append_text(f"{folder}/{name}", text)

    def save(
        self, glob_str: object = None, base_path: object = None, policy: str = "live", glob: bool = True
    ) -> list[str]:
        """Copy files into the run, named by their content; never raises.

        Args:
            glob_str: a path or a pattern such as "checkpoints/*.pt".
            base_path: kept names are relative to it; default the working directory, and for an absolute path the
                folder that it names.
            policy: "now" copies once; "live" and "end" copy once more at the end if the file has changed by then.
            glob: whether `*`, `?` and `[` have their meaning.

        Returns:
            The files that were kept.
        """
        if glob_str is None or not self.path:  # `run.save()` once wrote a run's name
            return []
        return self._saved.save(glob_str, base_path, policy=policy, is_pattern=glob)

    def _record_file(self, row: JsonObject) -> None:
        self._journal.note_file(str(row["file"]))
        self.record_event("file", row, step=self.last_step)

    # -- the end ------------------------------------------------------------------------------------------------

    def sync(self) -> bool:
        """Make everything logged so far survive power loss; False when the disk did not do it in time."""
        if not self._finished:
            self._look_after_follower()
        try:
            return self._journal.sync()
        except Exception as error:
            if is_of_handler(error):
                raise
            self.warn("sync", f"the run could not be flushed to disk ({describe(error)})")
            return False

    def finish(
        self, state: str | int | None = None, *, exit_code: int | None = None, quiet: bool | None = None
    ) -> None:
        """End the run; touches no network and never raises. A second call does nothing.

        Args:
            state: "finished" unless told otherwise: "failed", "interrupted", "killed" or "preempted"; or an exit code.
            exit_code: 0 for "finished", anything else for "failed", as W&B has it.
            quiet: taken as W&B takes it; nothing is printed either way.
        """
        if exit_code is not None or isinstance(state, int):
            state = "failed" if (state if exit_code is None else exit_code) else "finished"
        if state is not None and state not in STATES:
            self.warn("state", f"state={shown(state)} is not known: use one of {', '.join(STATES)}")
            state = None
        self.end(state or "finished", None)

    def end(self, state: str, error: str | None) -> None:
        """End the run as `state`, with what went wrong; what `finish()` and the exit hooks call."""
        with self._lock:
            if self._finished:
                return
            if self._allocator is not None:
                self._allocator.stop()
            self._rows.close()
            if self._late is not None and self._waits is not None:
                self._late.end(in_peace=state == "finished")
            if self._is_child:
                if self._console is not None:
                    self._console.stop()
                self._finished = True
                self._journal.close()
                self._cover_journal()
                exit_hooks.forget(self)
                return
            try:
                if self._console is not None:
                    self._console.stop()
                self._saved.finish()
                if self._journal.was_removed():
                    self._finish_removed()
                    return
                self._look_after_follower()
                # Another rank that writes no rows says only what went wrong, which rank 0 does not know.
                if not self._finished and (self._rank <= 0 or self._journal.segment or state == "failed"):
                    self._journal.append_event("finish", {"state": state, "error": error and mask_text(error)})
                self._finished = True
                self._append = self._after_finish
                # A file system that has just been waited for is not waited for again.
                flushed = self.sync()
                self._journal.close(timeout_seconds=5.0 if flushed else 0.5)
                if flushed:
                    self._cover_journal()
            except Exception as problem:
                if is_of_handler(problem):
                    raise
                say(f"the end of the run {self.name} could not be recorded ({describe(problem)})")
            self._finished = True
            self._be_forgotten()

    def _cover_journal(self) -> None:
        """Have every byte of this process's journal covered by its digest; the follower has done most of it, where it lives."""
        if self.path and self._journal.segment:
            from lossbook.journal import extend_digests

            extend_digests(self.folder, self._journal.rank)

    def _finish_removed(self) -> None:
        """End a run whose folder was removed after its last row: it is not made again for the sake of its end."""
        self._finished = True
        self._append = self._after_finish
        self._journal.close(timeout_seconds=0.5)
        self._be_forgotten()

    def _be_forgotten(self) -> None:
        """The process may end now in any way: the run has ended."""
        exit_hooks.forget(self)
        self._follower.end()

    def _after_finish(self, metrics: dict[str, float], step: int | None) -> None:
        raise NotPlain

    def __enter__(self) -> Run:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end(*exit_hooks.how_it_ended(error))

    def live_chart(self, *keys: str, x: str = "step", every_seconds: float = 1.0) -> Any:
        """Show a chart below a notebook's cell that follows the training.

        Args:
            keys: what to draw; none for the losses, whatever they are called.
            x: the axis, as in `RecordedRun.curve`.
            every_seconds: between two pictures, at the least.

        Returns:
            The chart; it ends with the run, or by its `stop()`.
        """
        return import_module("lossbook.notebook").LiveChart(self, keys, x=x, every_seconds=every_seconds)

    _repr_html_ = shown_by("live_run_html")

    def __repr__(self) -> str:
        return f"<lossbook run {self.name} ({self.id}) in {self.path}>"

    # -- child processes ------------------------------------------------------------------------------------------

    def enter_child(self) -> None:
        """In a forked child: leave the parent's journal alone; the first row begins one of the child's own."""
        parent = self._journal
        parent.forget()
        if self._waits is not None:
            # Nobody can say here which run the child's rows would belong to.
            self._waits = None
            self._journal = begin_disabled(self._info).journal
            self._append = self._journal.append
        self.become_child(parent.attempt, parent.step)

    def _open_child(self) -> None:
        """Begin a child process's own journal with the first thing that it records."""
        if not self._is_child or self._journal.segment:
            return
        with self._lock:
            if self._journal.segment == 0:
                self._journal = begin_child(self._journal.home, self._journal.attempt, self._journal.step, say)
                self._append = self._journal.append

    def become_child(self, attempt: AttemptRow, step: int) -> None:
        """Log from now on as a child process of the one that began the run."""
        self._lock = threading.RLock()
        self._is_child = True
        self._follower.leave_to_parent()
        self._rows.forget()
        self._allocator = None
        if self._console is not None:
            # No child waits for a file system that its parent leaves to a thread.
            self._console.enter_child(keeps=type(self._journal) is Journal)
        self._rank = -1
        if not self.path:
            return
        self._journal = Journal(self._journal.home, -1, attempt, step=step, warn=say)
        # It has no file yet, so the first append takes the careful path, which opens one.
        self._append = self._journal.append

    def __copy__(self) -> Run:
        return self

    def __deepcopy__(self, memo: dict[int, object]) -> Run:
        # Trainers copy their callbacks; the run that they hold is still the same one.
        return self

    def __reduce__(self) -> tuple[object, ...]:
        # Where nothing is recorded, the configuration cannot be read back from the run's folder.
        info = self._info if self.path else self._info._replace(config=plain_object(self.config))
        return attach_child, (self.path if self._waits is None else "", info, self._journal.attempt, self._journal.step)


def attach_child(path: str, info: RunInfo, attempt: AttemptRow, step: int) -> Run:
    """What a `Run` becomes in a process it was sent to (`spawn`): it logs to the same run, in its own journal."""
    if not path:
        return Run(begin_disabled(info), console="off")
    folder = RunFolder(path)
    found = read_run_info(folder)[0]
    journal = Journal(folder, -1, attempt, step=step, warn=say)
    run = Run(Started(folder, found._replace(name=info.name), attempt.attempt, journal), console="off")
    run.become_child(attempt, step)
    return run


def _nothing(metrics: dict[str, float], step: int | None) -> None:
    """What a rank other than 0 does with rows that only rank 0 writes."""
