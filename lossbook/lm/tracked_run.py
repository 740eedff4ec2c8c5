"""The run of one experiment, and what was counted in it: begun, gone on with, and its rows' common part.

`ExperimentTracker` adds what a training loop says.
"""

from __future__ import annotations

import functools
import math
import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Self, TypeVar, cast

from lossbook.errors import BadArgument, LossbookError
from lossbook.json_shapes import JsonObject, number_or_none, object_or_empty
from lossbook.lm.config import ExperimentConfig
from lossbook.lm.counters import GradientSteps, ManualStepCount, Progress, TrainingClock
from lossbook.lm.log_file import LogFile
from lossbook.lm.losses import Losses
from lossbook.lm.memory import gpu_memory, system_memory
from lossbook.lm.model_cost import ModelCost
from lossbook.lm.resume import counts_of_run, state_of_log, store_of
from lossbook.run import InitArguments, InitRequest, Run, detect, init, say

if TYPE_CHECKING:
    from lossbook.lm.log_writer import LogHeading

Arguments = ParamSpec("Arguments")
Tracked = TypeVar("Tracked", bound="TrackedRun")

#: How often the memory of GPUs and host is logged, at the most.
MEMORY_SECONDS = 5.0


def never_raises(
    method: Callable[Concatenate[Tracked, Arguments], None],
) -> Callable[Concatenate[Tracked, Arguments], None]:
    """What goes wrong while logging is said once, in one sentence, and training goes on."""

    @functools.wraps(method)
    def guarded(self: Tracked, /, *arguments: Arguments.args, **named: Arguments.kwargs) -> None:
        try:
            method(self, *arguments, **named)
        except Exception as error:
            self._say_once(f"{method.__name__}() could not record everything ({type(error).__name__}: {error})")

    return guarded


class TrackedRun:
    """A run whose gradient steps, tokens and seconds are counted across attempts.

    Args: as `ExperimentTracker`.
    """

    def __init__(
        self,
        config: ExperimentConfig | Mapping[str, object],
        model: object = None,
        resume_from_step: int = 0,
        *,
        log_dir: str | os.PathLike[str] = "experiment_logs",
        project: str | None = None,
        store: str | os.PathLike[str] | None = None,
        group: str | None = None,
        tags: Iterable[str] = (),
        notes: str | None = None,
        run_id: str | None = None,
        mirrors: str | Iterable[str] | None = None,
        mode: str | None = None,
        world_size: int | None = None,
        summary_dir: str | os.PathLike[str] = "experiments",
        peak_flops: float | None = None,
    ) -> None:
        if not isinstance(config, ExperimentConfig):
            if not isinstance(config, Mapping):
                raise BadArgument(f"config is an ExperimentConfig or a mapping, not {type(config).__name__}")
            config = ExperimentConfig.from_dict(config, unknown="keep")
        if isinstance(resume_from_step, bool) or not isinstance(resume_from_step, int) or resume_from_step < 0:
            raise BadArgument(f"resume_from_step is a step, 0 or more, not {resume_from_step!r}")
        self.config = config
        self.log_dir = Path(log_dir)
        self.summary_dir = Path(summary_dir)
        self._init: dict[str, Any] = {
            "project": project,
            "store": store,
            "group": group,
            "notes": notes or config.notes,
            "mirrors": mirrors,
            "mode": mode,
            "tags": [*config.tags, *([tags] if isinstance(tags, str) else tags)],
        }
        # Said now, not when training begins.
        InitRequest.from_arguments(cast(InitArguments, {"name": config.name, "id": run_id, **self._init}))
        self._run_id = run_id or os.environ.get("LOSSBOOK_RUN_ID") or None
        self._resume_from = resume_from_step
        self._world_size = world_size
        self._run: Run | None = None
        self._started_explicitly = False
        self._ended: float | None = None
        self._said: set[str] = set()

        self._progress = Progress(iteration=resume_from_step - 1, gradient_steps=resume_from_step)
        self._tokens_base = (-1, 0)  # an iteration, and the tokens that had been seen after it
        self._known = False  # whether the counts are of this run: restored, or begun anew
        self._steps = GradientSteps(config.gradient_accumulation_steps)
        self._clock = TrainingClock()
        self._first_iteration: int | None = None
        self._step_seconds = 0.0
        self._losses = Losses()
        self._manual_steps = ManualStepCount(config.gradient_accumulation_steps)
        self._notes = ""
        self._memory_at = -math.inf
        self._log = LogFile(self.log_dir, config.name, self._say_once)
        self._cost = ModelCost(config, model, peak_flops, self._say_once)

    @property
    def run(self) -> Run:
        """The Lossbook run; begun now if it has not been yet."""
        if self._run is None:
            self._begin(None)
        assert self._run is not None
        return self._run

    def start(self) -> Self:
        """Begin: the clock starts, and the log's file is there. A second call does nothing."""
        if self._started_explicitly:
            return self
        self._started_explicitly = True
        if self._run is None:
            self._clock.restart()
            if not self._resumes:
                # A resumed run begins with its first row, which says where it goes on.
                self._begin(None)
        return self

    @property
    def _resumes(self) -> bool:
        return self._known or self._run_id is not None or detect().restart > 0

    def _begin(self, iteration: int | None) -> None:
        """Begin the run, or another attempt of it.

        Args:
            iteration: of the first row that this attempt logs, where that is what begins it.
        """
        resume_step = None
        resumes = self._resumes
        if resumes:
            if self._known:
                resume_step = self._progress.iteration if self._progress.iteration >= 0 else None
            elif iteration is not None:
                resume_step = iteration - 1
            elif self._resume_from:
                resume_step = self._resume_from
        run = init(
            name=self.config.name,
            config=self._recorded_config(),
            id=self._run_id,
            resume="allow" if resumes else "never",
            resume_step=resume_step,
            **self._init,
        )
        self._run = run
        self._run_id = run.id
        # A rank that comes later than the first finds a run as well, and may find rows in it: they are not its past.
        if resumes and run.resumed and not self._known:
            try:
                self._progress, best = counts_of_run(run.path, run.id, resume_step)
                self._losses.restore(best)
            except (LossbookError, OSError) as error:
                self._say_once(f"the counts of the run {run.id} could not be read back ({error}); they begin anew")
        elif not self._known and self._resume_from and self.config.tokens_per_iteration:
            self._progress.tokens_seen = (
                self._resume_from
                * self.config.tokens_per_iteration
                * self.config.gradient_accumulation_steps
                * self.world_size
            )
        self._tokens_base = (self._progress.iteration, self._progress.tokens_seen)
        if not self._progress.started:
            self._progress.started = time.time() - self._clock.wallclock_seconds
        self._known = True
        self._write_file()

    def _recorded_config(self) -> dict[str, object]:
        recorded = self.config.to_dict()
        if self.parameters is not None:
            recorded["parameters"] = self.parameters
        if self._cost.estimated is not None:
            recorded["estimated_parameters"] = self._cost.estimated
        recorded["world_size"] = self.world_size
        return recorded

    @property
    def parameters(self) -> int | None:
        """Of the model; None where none was given."""
        return self._cost.parameters

    @property
    def gradient_steps(self) -> int:
        """Updates of the parameters so far, earlier attempts included."""
        return self._progress.gradient_steps

    @property
    def tokens_seen(self) -> int:
        """Tokens so far, over all ranks, earlier attempts included."""
        return self._progress.tokens_seen

    @property
    def iteration(self) -> int:
        """The iteration of the last logged row; -1 before the first."""
        return self._progress.iteration

    @property
    def wallclock_seconds(self) -> float:
        """Seconds that the training ran, earlier attempts included and the gaps between them left out."""
        now = self._clock.wallclock_seconds if self._ended is None else self._ended
        return self._progress.wallclock_seconds + now

    @property
    def elapsed_seconds(self) -> float:
        """Seconds since the first attempt began, gaps included."""
        return time.time() - self._progress.started if self._progress.started else self._clock.wallclock_seconds

    @property
    def world_size(self) -> int:
        """Processes that train together."""
        if self._world_size is None:
            self._world_size = _world_size()
        return self._world_size

    @property
    def _is_first(self) -> bool:
        """Whether this is the rank that speaks for all of them."""
        return detect().rank == 0

    @never_raises
    def increment_gradient_step(self, count: int = 1) -> None:
        """Count a gradient step, for loops that log with `log_metrics()`."""
        self._manual_steps.count()
        self._progress.gradient_steps += count

    def _add_time(self, row: dict[str, object], gradient_steps: int | None = None) -> None:
        row["time/wallclock_hours"] = self.wallclock_seconds / 3600
        row["time/elapsed_hours"] = self.elapsed_seconds / 3600
        row["time/gradient_steps"] = self._progress.gradient_steps if gradient_steps is None else gradient_steps
        row["time/tokens_seen"] = self._progress.tokens_seen
        if self._cost.flops_per_token is not None:
            row["throughput/flops_seen"] = self._cost.flops_per_token * self._progress.tokens_seen

    def _add_progress(self, row: dict[str, object], iteration: int) -> None:
        total = self.config.num_iterations
        if total is None:
            return
        row["progress/completion_pct"] = min(100.0, 100.0 * (iteration + 1) / total)
        done = iteration + 1 - (self._first_iteration or 0)
        if done > 0:
            per_iteration = self._clock.wallclock_seconds / done
            row["progress/estimated_hours_remaining"] = max(0, total - iteration - 1) * per_iteration / 3600

    def _add_throughput(self, row: dict[str, object], tokens: float, seconds: float, counted: int) -> None:
        self._step_seconds += seconds
        if tokens and seconds > 0:
            row["throughput/tokens_per_second"] = tokens / seconds
            self._cost.add_utilisation(row, tokens / seconds, self.world_size)
        if counted:
            if self._step_seconds > 0:
                row["throughput/steps_per_hour"] = counted * 3600 / self._step_seconds
            self._step_seconds = 0.0

    def _add_memory(self, row: dict[str, object]) -> None:
        if not self.config.track_memory:
            return
        now = time.monotonic()
        if now - self._memory_at >= MEMORY_SECONDS:
            self._memory_at = now
            row.update(gpu_memory())
            row.update(system_memory())

    def state_dict(self) -> JsonObject:
        """What a checkpoint keeps, in plain numbers and texts: load it, and the run goes on where it was."""
        run = self.run
        progress = self._progress.plain()
        progress["wallclock_seconds"] = self.wallclock_seconds
        return {
            "format": 1,
            "run_id": run.id,
            "project": run.project,
            "path": run.path,
            **progress,
            "steps": self._steps.plain(),
            "by_hand": self._manual_steps.plain(),
            "best": {**self._losses.best()},
        }

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        """Go on with the run, and the counts, of a checkpoint; rows that were logged after it are hidden.

        Call it before anything is logged. A tracker whose run has begun already keeps that run and takes the counts.

        Raises:
            BadArgument: this is no state of a tracker.
        """
        if not isinstance(state, Mapping) or "gradient_steps" not in state or "tokens_seen" not in state:
            raise BadArgument("this is no state of an ExperimentTracker: pass what state_dict() returned")
        try:
            progress = Progress.read(state)
        except (TypeError, ValueError, OverflowError) as error:
            raise BadArgument(f"this state of an ExperimentTracker has been changed: {error}") from None
        self._progress = progress
        self._tokens_base = (progress.iteration, progress.tokens_seen)
        self._steps.restore(object_or_empty(state.get("steps")))
        self._manual_steps.restore(object_or_empty(state.get("by_hand")))
        best = object_or_empty(state.get("best"))
        self._losses.restore({of: number_or_none(value) for of, value in best.items()})
        self._first_iteration = None
        self._clock.restart()
        self._known = True
        run_id = state.get("run_id")
        if self._run is None:
            if run_id and run_id != "disabled":
                self._run_id = str(run_id)
                self._init["project"] = self._init["project"] or state.get("project")
                self._init["store"] = self._init["store"] or store_of(state.get("path"))
        elif run_id != self._run.id:
            self._say_once(
                f"load_state_dict() came after the run {self._run.id} had begun: it goes on with the counts of {run_id}; "
                "call it before start() to go on with that run"
            )

    def load_from_file(self, path: str | os.PathLike[str]) -> None:
        """Go on from a JSON log: with the run that it was written from where that is there, else with its counts.

        Raises:
            DamagedFile: the log cannot be read.
        """
        from lossbook.lm.log import load_experiment_log

        log = load_experiment_log(path)
        self.load_state_dict(state_of_log(log, self.config, self.world_size))
        if log.run_folder():
            # The same run goes on, and so does its log; one without a run is all that there is of its rows.
            self._log.adopt(Path(path))

    def _totals(self) -> dict[str, float]:
        """The finals and bests as they stand, and how much it took."""
        return {
            **self._losses.totals(),
            "final/gradient_steps": self._progress.gradient_steps,
            "final/tokens_seen": self._progress.tokens_seen,
            "final/wallclock_hours": self.wallclock_seconds / 3600,
            "final/training_seconds": self.wallclock_seconds,
        }

    @property
    def log_path(self) -> Path:
        """Where `save()` puts the log: `{log_dir}/experiment_{name}_{timestamp}.json`, never one that is there already."""
        return self._log.path(self._progress.started or time.time(), claim=self._is_first)

    def _write_file(self) -> None:
        """Bring the log of an experiment that was started, or saved before, up to date.

        Until `save()` is called it has no rows: it names the run, so that a killed experiment can be read from it too.
        """
        if self.run.path and (self._started_explicitly or self._log.has_rows):
            self._log.path(self._progress.started or time.time(), claim=self._is_first)
            self._log.write(self._heading(), self.run.path)

    def _heading(self) -> LogHeading:
        from lossbook.lm.log_writer import LogHeading

        run = self.run
        return LogHeading(
            config=self.config.to_dict(both_names=True),
            started=self._progress.started,
            ended=time.time() if self._ended is not None else None,
            duration_seconds=self.wallclock_seconds,
            best=self._losses.best(),
            final=self._losses.last(),
            notes=self._notes,
            run={"id": run.id, "project": run.project, "path": run.path} if run.path else {},
        )

    def _say_once(self, sentence: str) -> None:
        if sentence not in self._said and len(self._said) < 100:
            self._said.add(sentence)
            say(sentence)

    def __repr__(self) -> str:
        where = self._run.path if self._run is not None else "not begun"
        return f"<experiment tracker of {self.config.name}, {where}>"


def _world_size() -> int:
    distributed = getattr(sys.modules.get("torch"), "distributed", None)
    try:
        if distributed is not None and distributed.is_available() and distributed.is_initialized():
            return int(distributed.get_world_size())
    except (RuntimeError, ValueError):
        pass
    return detect().world_size
