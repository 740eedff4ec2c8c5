"""`ExperimentTracker`: what a training loop of a language model tells, as a Lossbook run.

Counts (gradient steps, tokens, seconds) are made here; everything else is read back from the run when it is needed,
so the memory of a run of any length is constant. Once training has begun nothing here raises into it.
"""

from __future__ import annotations

import functools
import math
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from lossbook.errors import BadArgument, LossbookError
from lossbook.lm.config import ExperimentConfig
from lossbook.lm.counting import GradientSteps, HandCount, Progress, Stretches
from lossbook.lm.logfile import LogFile
from lossbook.lm.losses import Losses
from lossbook.lm.machine import gpu_memory, system_memory
from lossbook.lm.model_cost import ModelCost
from lossbook.lm.readings import add_learning_rates, held
from lossbook.lm.resuming import counts_of_run, state_of_log, store_of
from lossbook.run import begin
from lossbook.run.launch import detect
from lossbook.run.run import Run
from lossbook.run.saying import say
from lossbook.run.start import check

Method = TypeVar("Method", bound=Callable[..., Any])

#: How often the memory of GPUs and host is logged, at the most.
MEMORY_SECONDS = 5.0


def _never_raises(method: Method) -> Method:
    """What goes wrong while logging is said once, in one sentence, and training goes on."""

    @functools.wraps(method)
    def guarded(self: ExperimentTracker, *arguments: Any, **named: Any) -> Any:
        try:
            return method(self, *arguments, **named)
        except Exception as error:
            self._say_once(f"{method.__name__}() could not record everything ({type(error).__name__}: {error})")
            return None

    return guarded  # type: ignore[return-value]


class ExperimentTracker:
    """Tracks one experiment. The run begins with `start()` or with the first thing that is logged.

    Args:
        config: what is run; a mapping will do.
        model: the model, to count its parameters; anything with `parameters()`.
        resume_from_step: the step of the checkpoint that training goes on from.
        log_dir: where `start()` and `save()` put the JSON log.
        project, store, group, notes, mirrors, mode: as `lossbook.init`.
        tags: added to those of the configuration.
        run_id: the run to go on with, or the id of a new one; `LOSSBOOK_RUN_ID` will do.
        world_size: processes that train together; default from the launcher or `torch.distributed`.
        summary_dir: where `finish(save_summary=True)` puts the summary.
        peak_flops: of one device, FLOP/s; default from the name of the GPU (see `lossbook.lm.devices`).

    Raises:
        BadArgument: a configuration that cannot be meant.
    """

    def __init__(
        self, config: ExperimentConfig | Mapping[str, Any], model: Any = None, resume_from_step: int = 0, *,
        log_dir: str | os.PathLike[str] = "experiment_logs", project: str | None = None, store: Any = None,
        group: str | None = None, tags: Iterable[str] = (), notes: str | None = None, run_id: str | None = None,
        mirrors: Any = None, mode: str | None = None, world_size: int | None = None,
        summary_dir: str | os.PathLike[str] = "experiments", peak_flops: float | None = None,
    ) -> None:  # fmt: skip
        if not isinstance(config, ExperimentConfig):
            if not isinstance(config, Mapping):
                raise BadArgument(f"config is an ExperimentConfig or a mapping, not {type(config).__name__}")
            config = ExperimentConfig.from_dict(config, unknown="keep")
        if isinstance(resume_from_step, bool) or not isinstance(resume_from_step, int) or resume_from_step < 0:
            raise BadArgument(f"resume_from_step is a step, 0 or more, not {resume_from_step!r}")
        self.config = config
        self.log_dir = Path(log_dir)
        self.summary_dir = Path(summary_dir)
        self._init = {
            "project": project, "store": store, "group": group, "notes": notes or config.notes, "mirrors": mirrors,
            "mode": mode, "tags": [*config.tags, *([tags] if isinstance(tags, str) else tags)],
        }  # fmt: skip
        check(
            name=config.name, config=None, id=run_id, resume="never", resume_step=None, fork_from=None, durability=None,
            system_metrics=True, **self._init,
        )  # fmt: skip
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
        self._stretches = Stretches()
        self._first_iteration: int | None = None
        self._step_seconds = 0.0
        self._losses = Losses()
        self._by_hand = HandCount(config.gradient_accumulation_steps)
        self._notes = ""
        self._memory_at = -math.inf
        self._log = LogFile(self.log_dir, config.name, self._say_once)
        self._cost = ModelCost(config, model, peak_flops, self._say_once)

    # -- the run ----------------------------------------------------------------------------------------------------

    @property
    def run(self) -> Run:
        """The Lossbook run; begun now if it has not been yet."""
        if self._run is None:
            self._begin(None)
        assert self._run is not None
        return self._run

    def start(self) -> ExperimentTracker:
        """Begin: the clock starts, and the log's file is there. A second call does nothing."""
        if self._started_explicitly:
            return self
        self._started_explicitly = True
        if self._run is None:
            self._stretches.restart()
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
        run = begin.init(
            name=self.config.name, config=self._recorded_config(), id=self._run_id,
            resume="allow" if resumes else "never", resume_step=resume_step, **self._init,
        )  # fmt: skip
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
                self._resume_from * self.config.tokens_per_iteration * self.config.gradient_accumulation_steps * self.world_size
            )  # fmt: skip
        self._tokens_base = (self._progress.iteration, self._progress.tokens_seen)
        if not self._progress.started:
            self._progress.started = time.time() - self._stretches.wallclock_seconds
        self._known = True
        self._write_file()

    def _recorded_config(self) -> dict[str, Any]:
        recorded = self.config.to_dict()
        if self.parameters is not None:
            recorded["parameters"] = self.parameters
        if self._cost.estimated is not None:
            recorded["estimated_parameters"] = self._cost.estimated
        recorded["world_size"] = self.world_size
        return recorded

    # -- counting ---------------------------------------------------------------------------------------------------

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
        now = self._stretches.wallclock_seconds if self._ended is None else self._ended
        return self._progress.wallclock_seconds + now

    @property
    def elapsed_seconds(self) -> float:
        """Seconds since the first attempt began, gaps included."""
        return time.time() - self._progress.started if self._progress.started else self._stretches.wallclock_seconds

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

    @_never_raises
    def increment_gradient_step(self, count: int = 1) -> None:
        """Count a gradient step, for loops that log with `log_metrics()`."""
        self._by_hand.count()
        self._progress.gradient_steps += count

    # -- logging ----------------------------------------------------------------------------------------------------

    @_never_raises
    def log_train_step(
        self, loss: Any, learning_rate: Any = None, grad_norm: Any = None, tokens: int = 0,
        iteration: int | None = None, accumulation_step: int | None = None, *, global_tokens: int | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:  # fmt: skip
        """Log one micro-batch, or one gradient step.

        Args:
            loss: of it, in nats a token, not divided by the accumulation; a number or a 0-d tensor on any device.
            learning_rate: a number, or one for each parameter group.
            grad_norm: of the whole gradient, before clipping.
            tokens: that this process took since its last call; every rank is taken to have taken as many.
            iteration: turn of the loop; default one more with each gradient step.
            accumulation_step: number of the micro-batch within its gradient step; leave it out where a call is
                made once for each gradient step.
            global_tokens: the tokens of all ranks, where they differ from rank to rank.
            extra: further metrics of the same row.
        """
        seconds = self._stretches.trained()
        loss, iteration = held(loss), _whole(iteration)
        if self._run is None:
            self._begin(iteration)
        progress = self._progress
        counted = self._steps.taken(accumulation_step)
        if not self._by_hand.used:
            progress.gradient_steps += counted
        if iteration is None:
            iteration = progress.iteration + (1 if counted or progress.iteration < 0 else 0)
        if self._first_iteration is None:
            self._first_iteration = iteration
        progress.iteration = iteration
        new_tokens = tokens * self.world_size if global_tokens is None else global_tokens
        progress.tokens_seen += int(new_tokens)

        row: dict[str, Any] = {}
        self._losses.add(row, "train", loss)
        add_learning_rates(row, learning_rate)
        if grad_norm is not None:
            row["train/grad_norm"] = grad_norm
        self._add_time(row)
        self._add_progress(row, iteration)
        self._add_throughput(row, new_tokens, seconds, counted)
        self._add_memory(row)
        if extra:
            row.update(extra)
        self.run.log(row, step=iteration)

    @_never_raises
    def log_validation(
        self, val_loss: Any, val_perplexity: Any = None, num_batches: int | None = None, *,
        extra: Mapping[str, Any] | None = None,
    ) -> None:  # fmt: skip
        """Log an evaluation, after it.

        Its time is that of `with tracker.validating():`, else the time since the last training step was logged; it is
        left out of the training throughput.

        Args:
            val_loss: mean over the evaluation, in nats a token.
            val_perplexity: default exp(val_loss).
            num_batches: that it was made of.
        """
        seconds = self._stretches.interrupted()
        run = self.run
        val_loss = held(val_loss)
        self._progress.validations += 1
        row: dict[str, Any] = {}
        self._losses.add(row, "val", val_loss)
        if val_perplexity is not None:
            row["val/perplexity"] = val_perplexity
        row |= {
            "val/eval_time_seconds": seconds,
            "val/runs_completed": self._progress.validations,
            "time/wallclock_hours_at_val": self.wallclock_seconds / 3600,
            "time/gradient_steps_at_val": self._progress.gradient_steps,
        }
        if num_batches is not None:
            row["val/num_batches"] = num_batches
        self._losses.add_gap(row, val_loss)
        if extra:
            row.update(extra)
        run.log(row, step=max(0, self._progress.iteration))

    @_never_raises
    def log_checkpoint(self, checkpoint_path: str | os.PathLike[str], is_best: bool = False) -> None:
        """Mark that a checkpoint was written; the time that it took is left out of the training throughput."""
        self._stretches.interrupted()
        step = max(0, self._progress.iteration)
        if self._is_first:
            self.run.checkpoint(checkpoint_path, step=step, is_best=is_best)
        self.run.log(
            {
                "checkpoint/saved": 1, "checkpoint/gradient_steps": self._progress.gradient_steps,
                "checkpoint/wallclock_hours": self.wallclock_seconds / 3600, "checkpoint/is_best": int(is_best),
            },
            step=step,
        )  # fmt: skip

    @_never_raises
    def log_custom_metric(self, name: str, value: Any, step: int | None = None) -> None:
        """Log one value as `custom/{name}` at the current iteration, or at `step`."""
        self.run.log({f"custom/{name}": value}, step=max(0, self._progress.iteration) if step is None else step)

    @_never_raises
    def log_metrics(
        self, iteration: int, train_loss: Any = None, val_loss: Any = None, learning_rate: Any = None,
        tokens_per_sec: float | None = None, iter_time_ms: float | None = None, *, tokens: int | None = None,
    ) -> None:  # fmt: skip
        """Log one iteration of a loop that counts its gradient steps with `increment_gradient_step()`.

        Args:
            iteration: from 0.
            tokens_per_sec, iter_time_ms: as the loop measured them.
            tokens: seen by this process so far; default one batch for each iteration.
        """
        self._stretches.trained()
        iteration = _whole(iteration) or 0
        if self._run is None:
            self._begin(iteration)
        progress = self._progress
        if self._first_iteration is None:
            self._first_iteration = iteration
        progress.iteration = iteration
        per_iteration = self.config.tokens_per_iteration
        if tokens is not None:
            progress.tokens_seen = int(tokens) * self.world_size
        elif per_iteration:
            # From where this attempt began: the one before may have had another batch size, or other ranks.
            first, before = self._tokens_base
            progress.tokens_seen = before + (iteration - first) * per_iteration * self.world_size
        row: dict[str, Any] = {}
        self._losses.add(row, "train", held(train_loss))
        self._losses.add(row, "val", held(val_loss))
        add_learning_rates(row, learning_rate)
        self._add_time(row, gradient_steps=self._by_hand.step_of(iteration, progress.gradient_steps))
        self._add_progress(row, iteration)
        if tokens_per_sec is not None:
            row["throughput/tokens_per_second"] = tokens_per_sec
            self._cost.add_utilisation(row, tokens_per_sec, self.world_size)
        if iter_time_ms is not None:
            row["time/iteration_ms"] = iter_time_ms
        self._add_memory(row)
        self.run.log(row, step=iteration)

    @_never_raises
    def log_eval(self, iteration: int, train_loss: Any = None, val_loss: Any = None) -> None:
        """Log an evaluation of a loop that logs with `log_metrics()`."""
        seconds = self._stretches.interrupted()
        iteration, train_loss, val_loss = _whole(iteration) or 0, held(train_loss), held(val_loss)
        if self._run is None:
            self._begin(iteration)
        self._progress.iteration = max(self._progress.iteration, iteration)
        self._progress.validations += 1
        row: dict[str, Any] = {"val/eval_time_seconds": seconds, "val/runs_completed": self._progress.validations}
        self._losses.add(row, "val", val_loss)
        if train_loss is not None:
            row["val/train_loss"] = train_loss
            self._losses.keep("train", train_loss)
            self._losses.add_gap(row, val_loss, train_loss)
        self._add_time(row, gradient_steps=max(1, self._progress.gradient_steps))
        self.run.log(row, step=iteration)

    @_never_raises
    def stage(self, name: str) -> None:
        """Mark on the curves that another stage of training begins."""
        if self._is_first:
            self.run.stage(name, step=max(0, self._progress.iteration))

    @contextmanager
    def validating(self) -> Iterator[None]:
        """`with tracker.validating():` around an evaluation: its time is known exactly then."""
        self._stretches.enter()
        try:
            yield
        finally:
            self._stretches.leave()

    #: The same around the writing of a checkpoint.
    checkpointing = validating

    # -- rows -------------------------------------------------------------------------------------------------------

    def _add_time(self, row: dict[str, Any], gradient_steps: int | None = None) -> None:
        row["time/wallclock_hours"] = self.wallclock_seconds / 3600
        row["time/elapsed_hours"] = self.elapsed_seconds / 3600
        row["time/gradient_steps"] = self._progress.gradient_steps if gradient_steps is None else gradient_steps
        row["time/tokens_seen"] = self._progress.tokens_seen
        if self._cost.flops_per_token is not None:
            row["throughput/flops_seen"] = self._cost.flops_per_token * self._progress.tokens_seen

    def _add_progress(self, row: dict[str, Any], iteration: int) -> None:
        total = self.config.num_iterations
        if total is None:
            return
        row["progress/completion_pct"] = min(100.0, 100.0 * (iteration + 1) / total)
        done = iteration + 1 - (self._first_iteration or 0)
        if done > 0:
            per_iteration = self._stretches.wallclock_seconds / done
            row["progress/estimated_hours_remaining"] = max(0, total - iteration - 1) * per_iteration / 3600

    def _add_throughput(self, row: dict[str, Any], tokens: float, seconds: float, counted: int) -> None:
        self._step_seconds += seconds
        if tokens and seconds > 0:
            row["throughput/tokens_per_second"] = tokens / seconds
            self._cost.add_utilisation(row, tokens / seconds, self.world_size)
        if counted:
            if self._step_seconds > 0:
                row["throughput/steps_per_hour"] = counted * 3600 / self._step_seconds
            self._step_seconds = 0.0

    def _add_memory(self, row: dict[str, Any]) -> None:
        if not self.config.track_memory:
            return
        now = time.monotonic()
        if now - self._memory_at >= MEMORY_SECONDS:
            self._memory_at = now
            row.update(gpu_memory())
            row.update(system_memory())

    # -- resuming ---------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps, in plain numbers and texts: load it, and the run goes on where it was."""
        run = self.run
        progress = self._progress.plain()
        progress["wallclock_seconds"] = self.wallclock_seconds
        return {
            "format": 1, "run_id": run.id, "project": run.project, "path": run.path, **progress,
            "steps": self._steps.plain(), "by_hand": self._by_hand.plain(), "best": self._losses.best(),
        }  # fmt: skip

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
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
        self._steps.restore(state.get("steps") or {})
        self._by_hand.restore(state.get("by_hand") or {})
        self._losses.restore(state.get("best") or {})
        self._first_iteration = None
        self._stretches.restart()
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

    # -- the end ----------------------------------------------------------------------------------------------------

    @_never_raises
    def finish(
        self, train_loss: Any = None, val_loss: Any = None, notes: str = "", *, save_summary: bool = False,
        state: str = "finished",
    ) -> None:  # fmt: skip
        """End the run. A second call does nothing.

        Args:
            train_loss, val_loss: the last ones, where they are not the last logged.
            notes: what there is to say of this experiment.
            save_summary: also write `{summary_dir}/{experiment_name}_summary.json`.
        """
        if self._ended is not None:
            return
        run = self.run
        try:
            for of, value in (("train", train_loss), ("val", val_loss)):
                self._losses.add({}, of, held(value))
            if notes:
                self._notes = str(notes)
                if self._is_first:
                    run.note(self._notes)
            self._close()
        finally:
            run.finish(state)
        if save_summary and self._is_first:
            self.save_summary()
        self._write_file()

    def _close(self) -> None:
        """Stop the clock, and record the finals and the bests."""
        self._ended = self._stretches.wallclock_seconds
        if self._is_first:
            self.run.summary.update(self._totals())

    def _totals(self) -> dict[str, Any]:
        """The finals and bests as they stand, and how much it took."""
        return {
            **self._losses.totals(),
            "final/gradient_steps": self._progress.gradient_steps,
            "final/tokens_seen": self._progress.tokens_seen,
            "final/wallclock_hours": self.wallclock_seconds / 3600,
            "final/training_seconds": self.wallclock_seconds,
        }

    def save(self) -> Path:
        """Write the JSON log from the run's own rows, whole or not at all; may be called at any time.

        Where it cannot be written, one sentence says so, and the log that was there stays. Of several ranks the first
        writes.

        Returns:
            Where it is. Memory does not grow with the run.
        """
        if not self.run.path:
            self._say_once("there is no run on disk, so the log has the configuration and the final losses alone")
        self._log.has_rows = True
        path = self.log_path
        self._log.write(self._heading(), self.run.path)
        return path

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

    def _heading(self) -> dict[str, Any]:
        run = self.run
        return {
            "config": self.config.to_dict(both_names=True),
            "started": self._progress.started, "ended": time.time() if self._ended is not None else None,
            "duration_seconds": self.wallclock_seconds,
            "best": {f"{of}/loss": value for of, value in self._losses.best().items()},
            "final": {f"{of}/loss": value for of, value in self._losses.last().items()},
            "notes": self._notes, "run": {"id": run.id, "project": run.project, "path": run.path} if run.path else {},
        }  # fmt: skip

    def save_summary(self) -> Path:
        """Write `{summary_dir}/{experiment_name}_summary.json`; one of another run is kept."""
        from lossbook.lm.log import write_summary

        run = self.run
        name = self.config.name
        value = {
            "experiment_name": name, "run_id": run.id, "project": run.project, "path": run.path,
            "start_time": self._progress.started, "duration_seconds": self.wallclock_seconds, "notes": self._notes,
            "metrics": self._totals(), "config": self._recorded_config(),
        }  # fmt: skip
        return write_summary(self.summary_dir, name, value, run.id)

    def print_summary(self) -> None:
        """Print what this experiment came to."""
        print("\n".join(self._summary_lines()), flush=True)

    def _summary_lines(self) -> list[str]:
        from lossbook.lm.log import format_seconds, summary_lines

        shown = self._totals()
        facts = [
            ("state", "finished" if self._ended is not None else "running"),
            ("wallclock", format_seconds(self.wallclock_seconds)),
            ("gradient steps", f"{self.gradient_steps:,}"),
            ("tokens", f"{self.tokens_seen:,}" if self.tokens_seen else ""),
            ("parameters", f"{self.parameters:,}" if self.parameters else ""),
            ("best training loss", shown.get("final/best_train_loss")),
            ("final training loss", shown.get("final/train_loss")),
            ("best validation loss", shown.get("final/best_val_loss")),
            ("final validation loss", shown.get("final/val_loss")),
            ("notes", self._notes),
            ("run", self.run.path),
        ]
        return summary_lines(self.config.name, facts)

    def plot(
        self, path: str | os.PathLike[str] = "loss.png", keys: Sequence[str] | None = None, **options: Any
    ) -> Path:
        """Draw training and validation loss (or `keys`) to a PNG or SVG file; options as `lossbook.lm.drawing.plot`.

        Raises:
            UnknownKey: nothing of that name was logged yet.
        """
        from lossbook.lm.drawing import plot
        from lossbook.store import Book

        run = self.run
        if not run.path:
            raise BadArgument("there is nothing to draw: the run is disabled")
        recorded = Book(os.path.dirname(os.path.dirname(run.path))).run(run.id)
        plot([recorded], keys, path=path, **options)
        return Path(path)

    def __enter__(self) -> ExperimentTracker:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        if error is None:
            self.finish()
        elif self._run is not None and self._ended is None:
            self._fail(kind, error, trace)

    @_never_raises
    def _fail(self, kind: type[BaseException] | None, error: BaseException, trace: Any) -> None:
        """End the run as failed, or interrupted, with all that is known of it."""
        try:
            self._close()
        finally:
            self.run.__exit__(kind, error, trace)
        self._write_file()

    def _say_once(self, sentence: str) -> None:
        if sentence not in self._said and len(self._said) < 100:
            self._said.add(sentence)
            say(sentence)

    def __repr__(self) -> str:
        where = self._run.path if self._run is not None else "not begun"
        return f"<experiment tracker of {self.config.name}, {where}>"


def _whole(iteration: Any) -> int | None:
    """An iteration as a plain number: a checkpoint may hold nothing else."""
    return None if iteration is None else int(iteration)


def _world_size() -> int:
    distributed = getattr(sys.modules.get("torch"), "distributed", None)
    try:
        if distributed is not None and distributed.is_available() and distributed.is_initialized():
            return int(distributed.get_world_size())
    except (RuntimeError, ValueError):
        pass
    return detect().world_size
