"""`Run`: what a training script holds. `log()` costs microseconds and never raises.

A scalar row goes from `Run.log` to `Journal.append` to the disk. Everything else here happens rarely.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from types import TracebackType
from typing import Any

from lossbook.compat.wandb.run_methods import AlertPause, Familiar, state_of
from lossbook.journal.line import encode_number
from lossbook.journal.writer import Journal, NotPlain
from lossbook.paths import RunFolder, read_json
from lossbook.redaction import mask_config
from lossbook.run import exit_hooks
from lossbook.run.allocator import AllocatorWatch, has_gpu_build
from lossbook.run.config import plain, plain_config
from lossbook.run.console import Console
from lossbook.run.create import Started, start_child
from lossbook.run.deferred import DeferredRows
from lossbook.run.messages import say
from lossbook.run.values import Media, Split, describe, shown, split, text_of

STATES = ("finished", "failed", "interrupted", "killed")
GOALS = ("minimize", "maximize")
LEVELS = ("info", "warning", "error")


class _Recorded(MutableMapping[str, Any]):
    """A dictionary whose changes are written to the journal."""

    def __init__(self, initial: Mapping[str, Any], record: Callable[[dict[str, Any]], None]) -> None:
        self._values = dict(initial)
        self._record = record

    def __getitem__(self, key: str) -> Any:
        return self._values[key]

    def __setitem__(self, key: str, value: Any) -> None:
        self.update({key: value})

    def __delitem__(self, key: str) -> None:
        del self._values[key]
        self._record({key: None})

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return repr(self._values)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        try:
            return self._values[name]
        except KeyError:
            raise AttributeError(f"there is no {name!r} here; it has {', '.join(self._values) or 'nothing'}") from None

    def __setattr__(self, name: str, value: Any) -> None:
        if name.startswith("_"):
            object.__setattr__(self, name, value)
        else:
            self[name] = value

    def __reduce__(self) -> tuple[Any, ...]:
        # A copy records nothing: it is a plain dictionary.
        return dict, (self._values,)

    def update(self, *others: Any, allow_val_change: bool | None = None, **named: Any) -> None:
        """Change several keys with one row; takes all that `init(config=…)` takes. Any value may change."""
        changes: dict[str, Any] = {}
        for other in others:
            changes.update(other if isinstance(other, Mapping) else plain_config(other))
        changes.update(named)
        changes = {str(key): value for key, value in changes.items()}
        self._values.update(changes)
        self._record(changes)

    def setdefaults(self, defaults: Any) -> None:
        """Set the keys that are not set yet."""
        found = defaults if isinstance(defaults, Mapping) else plain_config(defaults)
        self.update({key: value for key, value in found.items() if str(key) not in self._values})

    def as_dict(self) -> dict[str, Any]:
        """A plain dictionary of what is set."""
        return dict(self._values)


class Run(Familiar):
    """A run that is being written. Made by `lossbook.init()`.

    Attributes:
        id: the run's folder name, unique in its project.
        name, project, path: as recorded; `path` is the run's folder.
        attempt: 0 for the first process that wrote this run, 1 for the first that resumed it, and so on.
        resumed: whether there was something to resume.
    """

    def __init__(self, started: Started, *, mode: str = "online", console: bool = True) -> None:
        identity = started.identity
        self.id: str = identity["id"]
        self._name = identity["name"]
        self._identity = identity
        self._kept = {}
        self._copying = []
        self._alerts = AlertPause()
        self.project: str = identity["project"]
        self.path: str = started.folder.path
        self.attempt: int = started.attempt
        self.resumed: bool = started.resumed
        self.mode = mode
        self._folder = started.folder
        self._journal: Journal = started.journal
        self._rank = started.journal.rank
        self._finished = False
        self._warned: set[str] = set()
        self._deferred: DeferredRows | None = None
        self._allocator: AllocatorWatch | None = None
        # Re-entrant: SIGTERM may come while the run is being ended, and its handler ends the run.
        self._lock = threading.RLock()
        self._is_child = False
        # Rank 0's scalars are the run's; the other ranks write what is asked of every rank.
        self._append = self._journal.append if self._rank <= 0 else _nothing
        self.config: _Recorded = _Recorded(identity.get("config") or {}, self._record_config)
        self.summary = _Recorded({}, self._record_summary)
        self._console: Console | None = None
        if console:
            self._console = Console(self._keep_console)
            self._console.start()
        exit_hooks.watch(self)

    # -- logging ------------------------------------------------------------------------------------------------

    def log(
        self,
        metrics: Mapping[str, Any] | None = None,
        step: int | None = None,
        commit: bool | None = None,
        ranks: str | None = None,
        data: Mapping[str, Any] | None = None,
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
        except (TypeError, NotPlain, OverflowError, AttributeError, ValueError, RecursionError):
            self._log_carefully(metrics if data is None else data, step)
        except OSError as error:
            self._journal.count_lost(error)
        except Exception as error:
            self._warn("", f"a row could not be recorded ({describe(error)})")

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
            self._warn("ranks", f"ranks={shown(ranks)} is not known: use ranks='all', or leave it out for rank 0 only")
            self._append(metrics, step)

    def _log_carefully(self, metrics: Any, step: Any) -> None:
        """Take what is not all plain numbers, value by value."""
        try:
            if self._finished:
                self._warn("finished", f"log() after finish() of the run {self.name} is not recorded")
                return
            self._open_child()
            if step is not None:
                step = self._whole_step(step)
            parts = split(metrics)
            self._write_parts(parts, step)
        except Exception as error:
            self._warn("log", f"a row could not be recorded ({describe(error)})")

    def _write_parts(self, parts: Split, step: int | None) -> None:
        journal = self._journal
        if parts.deferred:
            if step is None:
                step = journal.step + 1
            journal.step = step
            if self._deferred is None:
                self._deferred = DeferredRows(self._write_deferred, lambda sentence: self._warn("device", sentence))
            self._deferred.add(parts.deferred, parts.scalars, step)
        elif parts.scalars or not (parts.events or parts.warnings):
            journal.append_scalars(parts.scalars, step)
            step = journal.step
        elif step is None:
            step = journal.step = journal.step + 1
        for event in parts.events:
            for file in (event.file, *event.more_files):
                if file is not None:
                    journal.put_file(os.path.join(self.path, file.path), file.contents)
            journal.append_event(event.kind, event.value, key=event.key, step=step)
        for key, sentence in parts.warnings:
            self._warn(key, sentence, step=step)

    def _write_deferred(self, scalars: dict[str, float], step: int, time_us: int) -> None:
        if not self._finished:
            self._journal.append_scalars(scalars, step, time_us=time_us)

    def watch_allocator(self) -> None:
        """Record what torch's allocator holds on GPUs, where torch can use any; `init()` asks for it."""
        if self._rank == 0 and has_gpu_build():
            self._allocator = AllocatorWatch(lambda row, time_us: self._write_deferred(row, max(self.step, 0), time_us))
            self._allocator.start()

    def _whole_step(self, step: Any) -> int | None:
        try:
            whole = int(step)
            if whole != step:
                self._warn("step", f"step={shown(step)} is not whole; it is recorded as {whole}")
        except Exception:
            self._warn("step", f"step={shown(step)} is no number; the row gets the next step")
            return None
        if not -(1 << 63) <= whole < 1 << 63:
            self._warn("step", f"step={whole} does not fit 64 bits; the row gets the next step")
            return None
        return whole

    def _warn(self, key: str, sentence: str, *, step: int | None = None) -> None:
        """Record a warning row; print it the first time for each key."""
        try:
            if not self._finished:
                self._open_child()
                self._journal.append_event("warning", {"message": sentence}, key=key or None, step=step)
            if key not in self._warned and len(self._warned) < 100:
                self._warned.add(key)
                say(sentence)
        except Exception:
            pass

    @property
    def step(self) -> int:
        """The step of the last row; -1 before the first."""
        return self._journal.step

    # -- what is not a row of scalars -----------------------------------------------------------------------------

    def define_metric(
        self,
        name: str,
        step_metric: str | None = None,
        step_sync: bool | None = None,
        hidden: bool | None = None,
        summary: str | None = None,
        *,
        x: str | None = None,
        goal: str | None = None,
        unit: str | None = None,
        overwrite: bool | None = None,
    ) -> None:
        """Say how a metric is to be read.

        Args:
            name: a key, or a pattern such as "val/*".
            x: the metric or axis to draw it against.
            goal: "minimize" or "maximize": which of two runs is better.
            unit: what to write behind its numbers.
            step_metric: W&B's name of `x`.
            summary, hidden: for the W&B mirror: which of "min", "max", "mean", "last" its pages show; of our own
                every metric has all of them.
            step_sync, overwrite: taken as W&B takes them, without a meaning here.
        """
        if goal is not None and goal not in GOALS:
            self._warn("goal", f"goal={shown(goal)} is not known: use one of {', '.join(GOALS)}")
            goal = None
        x = x if x is not None or step_metric is None else text_of(step_metric)
        value = {"pattern": text_of(name), "x": x, "goal": goal, "unit": unit, "summary": summary, "hidden": hidden}
        self._event("define", {key: part for key, part in value.items() if part is not None})

    def alert(self, title: str, text: str = "", level: str | None = "warning", wait_duration: Any = None) -> None:
        """Record an alert; followers carry it to where alerts go.

        Args:
            level: "info", "warning" or "error".
            wait_duration: seconds or a `timedelta` in which no second alert of that title is recorded.
        """
        if self._alerts.holds(text_of(title), wait_duration):
            return
        level = text_of(level or "warning").lower().replace("warn", "warning").replace("warninging", "warning")
        if level not in LEVELS:
            self._warn("level", f"level={shown(level)} is not known: use one of {', '.join(LEVELS)}")
            level = "warning"
        self._event("alert", {"title": text_of(title), "text": text_of(text), "level": level}, step=self._last_step())

    def checkpoint(self, path: Any, *, step: int | None = None, is_best: bool = False) -> None:
        """Mark on the curves that a checkpoint was written at `step` (None: the last one)."""
        where = os.path.abspath(os.fspath(path)) if isinstance(path, (str, os.PathLike)) else text_of(path)
        self._event("checkpoint", {"path": where, "is_best": bool(is_best)}, step=self._last_step(step))

    def stage(self, name: str, *, step: int | None = None) -> None:
        """Mark on the curves that another stage of training begins at `step` (None: the last one)."""
        self._event("stage", {"name": text_of(name)}, step=self._last_step(step))

    def note(self, text: str) -> None:
        """Record a note at the current step."""
        self._event("note", {"text": text_of(text)}, step=self._last_step())

    def _last_step(self, step: int | None = None) -> int | None:
        if step is not None:
            return self._whole_step(step)
        return self._journal.step if self._journal.step >= 0 else None

    def _event(self, kind: str, value: dict[str, Any], *, step: int | None = None) -> None:
        try:
            if self._finished:
                self._warn("finished", f"{kind} after finish() of the run {self.name} is not recorded")
            else:
                self._open_child()
                self._journal.append_event(kind, plain(value), step=step)
        except Exception as error:
            self._warn(kind, f"a {kind} could not be recorded ({describe(error)})")

    def _record_config(self, changes: dict[str, Any]) -> None:
        if self._rank == 0:
            self._event("config", mask_config(plain(changes)))

    def _record_summary(self, changes: dict[str, Any]) -> None:
        recorded: dict[str, Any] = {}
        for key, value in changes.items():
            if isinstance(value, Media) or value is None or isinstance(value, (str, list, tuple)):
                recorded[key] = plain(value)
                continue
            parts = split({key: value})
            recorded.update({name: encode_number(number) for name, number in parts.scalars.items()})
            for name, tensor in parts.deferred.items():
                # A summary is written once, at the end as a rule: here waiting for the device is right.
                recorded[name] = encode_number(float(tensor.item()))
            if parts.warnings:
                recorded[key] = plain(value)
        if self._rank == 0:
            self._event("summary", recorded)

    def _keep_console(self, text: bytes) -> None:
        if not self._finished:
            self._journal.append_text(os.path.join(self._folder.console, f"r{self._rank}.log"), text)

    # -- the end ------------------------------------------------------------------------------------------------

    def sync(self) -> bool:
        """Make everything logged so far survive power loss; False when the disk did not do it in time."""
        try:
            return self._journal.sync()
        except Exception as error:
            self._warn("sync", f"the run could not be flushed to disk ({describe(error)})")
            return False

    def finish(
        self, state: str | int | None = None, *, exit_code: int | None = None, quiet: bool | None = None
    ) -> None:
        """End the run; touches no network and never raises. A second call does nothing.

        Args:
            state: "finished" unless told otherwise: "failed", "interrupted" or "killed"; or an exit code.
            exit_code: 0 for "finished", anything else for "failed", as W&B has it.
            quiet: taken as W&B takes it; nothing is printed either way.
        """
        if exit_code is not None or isinstance(state, int):
            state = state_of(state if exit_code is None else exit_code)
        if state is not None and state not in STATES:
            self._warn("state", f"state={shown(state)} is not known: use one of {', '.join(STATES)}")
            state = None
        self.end(state or "finished", None)

    def end(self, state: str, error: str | None) -> None:
        """End the run as `state`, with what went wrong; what `finish()` and the exit hooks call."""
        with self._lock:
            if self._finished:
                return
            if self._allocator is not None:
                self._allocator.stop()
            if self._deferred is not None:
                self._deferred.close()
            if self._is_child:
                self._finished = True
                self._journal.close()
                exit_hooks.forget(self)
                return
            try:
                if self._console is not None:
                    self._console.stop()
                self._finish_files()
                if not self._finished and (self._rank <= 0 or self._journal.segment):
                    self._journal.append_event("finish", {"state": state, "error": error})
                self._finished = True
                self._append = self._after_finish
                # A file system that has just been waited for is not waited for again.
                self._journal.close(timeout_seconds=5.0 if self.sync() else 0.5)
            except Exception as problem:
                say(f"the end of the run {self.name} could not be recorded ({describe(problem)})")
            self._finished = True
            exit_hooks.forget(self)

    def _after_finish(self, metrics: Any, step: int | None) -> None:
        raise NotPlain

    def __enter__(self) -> Run:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None or (isinstance(error, SystemExit) and error.code in (None, 0)):
            self.end("finished", None)
        elif isinstance(error, KeyboardInterrupt):
            self.end("interrupted", "KeyboardInterrupt")
        else:
            self.end("failed", exit_hooks.last_lines(error))

    def __repr__(self) -> str:
        return f"<lossbook run {self.name} ({self.id}) in {self.path}>"

    # -- child processes ------------------------------------------------------------------------------------------

    @property
    def _journal_attempt(self) -> Any:
        return self._journal._attempt

    def enter_child(self) -> None:
        """In a forked child: leave the parent's journal alone; the first row begins one of the child's own."""
        step = self._journal.step
        attempt = self._journal_attempt
        self._journal.forget()
        self._become_child(attempt, step)

    def _open_child(self) -> None:
        """Begin a child process's own journal with the first thing that it records."""
        if not self._is_child or self._journal.segment:
            return
        with self._lock:
            if self._journal.segment == 0:
                self._journal = start_child(self._folder, self._journal_attempt, self._journal.step, say)
                self._append = self._journal.append

    def _become_child(self, attempt: Any, step: int) -> None:
        self._lock = threading.RLock()
        self._is_child = True
        self._deferred = None
        self._allocator = None
        if self._console is not None:
            self._console.stop()
        self._rank = -1
        self._journal = Journal(self._folder, -1, attempt, step=step, warn=say)
        # It has no file yet, so the first append takes the careful path, which opens one.
        self._append = self._journal.append

    def __copy__(self) -> Run:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Run:
        # Trainers copy their callbacks; the run that they hold is still the same one.
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return attach_child, (self.path, self.name, self.attempt, dict(self._journal_attempt), self._journal.step)


def attach_child(path: str, name: str, number: int, attempt: dict[str, Any], step: int) -> Run:
    """What a `Run` becomes in a process it was sent to (`spawn`): it logs to the same run, in its own journal."""
    from lossbook.journal.writer import Attempt

    folder = RunFolder(path)
    identity = read_json(folder.run_json) or {}
    identity.setdefault("id", os.path.basename(path))
    identity.setdefault("project", os.path.basename(os.path.dirname(path)))
    identity["name"] = name
    journal = Journal(folder, -1, Attempt(attempt), step=step, warn=say)
    run = Run(Started(folder, identity, number, journal, False), console=False)
    run._become_child(Attempt(attempt), step)
    return run


def _nothing(metrics: Any, step: int | None) -> None:
    """What a rank other than 0 does with rows that only rank 0 writes."""


class DisabledRun(Run):
    """`mode="disabled"`: takes every call, does nothing, writes nothing."""

    def __init__(self, name: str | None = None, project: str = "", config: dict[str, Any] | None = None) -> None:
        self.id = "disabled"
        self._name = name or "disabled"
        self._identity = {}
        self._kept = {}
        self._copying = []
        self.project = project
        self.path = ""
        self.attempt = 0
        self.resumed = False
        self.mode = "disabled"
        self._finished = False
        self._step = -1
        self.config = _Recorded(config or {}, lambda changes: None)
        self.summary = _Recorded({}, lambda changes: None)

    def log(self, *arguments: Any, **named: Any) -> None:
        pass

    def define_metric(self, *arguments: Any, **named: Any) -> None:
        pass

    def alert(self, *arguments: Any, **named: Any) -> None:
        pass

    def checkpoint(self, path: Any, *, step: int | None = None, is_best: bool = False) -> None:
        pass

    def stage(self, name: str, *, step: int | None = None) -> None:
        pass

    def note(self, text: str) -> None:
        pass

    def sync(self) -> bool:
        return True

    def end(self, state: str, error: str | None) -> None:
        self._finished = True

    def finish(self, *arguments: Any, **named: Any) -> None:
        self._finished = True

    def _warn(self, key: str, sentence: str, *, step: int | None = None) -> None:
        pass

    def enter_child(self) -> None:
        pass

    def __reduce__(self) -> tuple[Any, ...]:
        return DisabledRun, (self.name, self.project, dict(self.config))

    @property
    def step(self) -> int:
        return self._step
