"""`ExperimentTracker`: what a training loop of a language model tells, as a Lossbook run.

What was logged is read back from the run when it is needed, so the memory of a run of any length is constant. Once
training has begun nothing here raises into it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self, SupportsInt

from lossbook.errors import BadArgument
from lossbook.lm.device_scalars import add_learning_rates, as_scalar, detached
from lossbook.lm.tracked_run import TrackedRun, never_raises


class ExperimentTracker(TrackedRun):
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

    @never_raises
    def log_train_step(
        self,
        loss: object,
        learning_rate: object = None,
        grad_norm: object = None,
        tokens: int = 0,
        iteration: int | None = None,
        accumulation_step: int | None = None,
        *,
        global_tokens: int | None = None,
        extra: Mapping[str, object] | None = None,
    ) -> None:
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
        seconds = self._clock.trained()
        loss, iteration = detached(loss), _whole(iteration)
        if self._run is None:
            self._begin(iteration)
        progress = self._progress
        counted = self._steps.taken(accumulation_step)
        if not self._manual_steps.used:
            progress.gradient_steps += counted
        if iteration is None:
            iteration = progress.iteration + (1 if counted or progress.iteration < 0 else 0)
        if self._first_iteration is None:
            self._first_iteration = iteration
        progress.iteration = iteration
        new_tokens = tokens * self.world_size if global_tokens is None else global_tokens
        progress.tokens_seen += int(new_tokens)

        row: dict[str, object] = {}
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

    @never_raises
    def log_validation(
        self,
        val_loss: object,
        val_perplexity: object = None,
        num_batches: int | None = None,
        *,
        extra: Mapping[str, object] | None = None,
    ) -> None:
        """Log an evaluation, after it.

        Its time is that of `with tracker.validating():`, else the time since the last training step was logged; it is
        left out of the training throughput.

        Args:
            val_loss: mean over the evaluation, in nats a token.
            val_perplexity: default exp(val_loss).
            num_batches: that it was made of.
        """
        seconds = self._clock.interrupted()
        run = self.run
        val_loss = detached(val_loss)
        self._progress.validations += 1
        row: dict[str, object] = {}
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

    @never_raises
    def log_checkpoint(self, checkpoint_path: str | os.PathLike[str], is_best: bool = False) -> None:
        """Mark that a checkpoint was written; the time that it took is left out of the training throughput."""
        self._clock.interrupted()
        step = max(0, self._progress.iteration)
        if self._is_first:
            self.run.checkpoint(checkpoint_path, step=step, is_best=is_best)
        self.run.log(
            {
                "checkpoint/saved": 1,
                "checkpoint/gradient_steps": self._progress.gradient_steps,
                "checkpoint/wallclock_hours": self.wallclock_seconds / 3600,
                "checkpoint/is_best": int(is_best),
            },
            step=step,
        )

    @never_raises
    def log_custom_metric(self, name: str, value: object, step: int | None = None) -> None:
        """Log one value as `custom/{name}` at the current iteration, or at `step`."""
        self.run.log({f"custom/{name}": value}, step=max(0, self._progress.iteration) if step is None else step)

    @never_raises
    def log_metrics(
        self,
        iteration: int,
        train_loss: object = None,
        val_loss: object = None,
        learning_rate: object = None,
        tokens_per_sec: float | None = None,
        iter_time_ms: float | None = None,
        *,
        tokens: int | None = None,
    ) -> None:
        """Log one iteration of a loop that counts its gradient steps with `increment_gradient_step()`.

        Args:
            iteration: from 0.
            tokens_per_sec, iter_time_ms: as the loop measured them.
            tokens: seen by this process so far; default one batch for each iteration.
        """
        self._clock.trained()
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
        row: dict[str, object] = {}
        self._losses.add(row, "train", detached(train_loss))
        self._losses.add(row, "val", detached(val_loss))
        add_learning_rates(row, learning_rate)
        self._add_time(row, gradient_steps=self._manual_steps.step_of(iteration, progress.gradient_steps))
        self._add_progress(row, iteration)
        if tokens_per_sec is not None:
            row["throughput/tokens_per_second"] = tokens_per_sec
            self._cost.add_utilisation(row, tokens_per_sec, self.world_size)
        if iter_time_ms is not None:
            row["time/iteration_ms"] = iter_time_ms
        self._add_memory(row)
        self.run.log(row, step=iteration)

    @never_raises
    def log_eval(self, iteration: int, train_loss: object = None, val_loss: object = None) -> None:
        """Log an evaluation of a loop that logs with `log_metrics()`."""
        seconds = self._clock.interrupted()
        iteration, train_loss, val_loss = _whole(iteration) or 0, detached(train_loss), detached(val_loss)
        if self._run is None:
            self._begin(iteration)
        self._progress.iteration = max(self._progress.iteration, iteration)
        self._progress.validations += 1
        row: dict[str, object] = {"val/eval_time_seconds": seconds, "val/runs_completed": self._progress.validations}
        self._losses.add(row, "val", val_loss)
        if train_loss is not None:
            row["val/train_loss"] = train_loss
            train = as_scalar(train_loss)
            if train is not None:
                self._losses.keep("train", train)
            self._losses.add_gap(row, val_loss, train_loss)
        self._add_time(row, gradient_steps=max(1, self._progress.gradient_steps))
        self.run.log(row, step=iteration)

    @never_raises
    def stage(self, name: str) -> None:
        """Mark on the curves that another stage of training begins."""
        if self._is_first:
            self.run.stage(name, step=max(0, self._progress.iteration))

    @contextmanager
    def validating(self) -> Iterator[None]:
        """`with tracker.validating():` around an evaluation: its time is known exactly then."""
        self._clock.enter()
        try:
            yield
        finally:
            self._clock.leave()

    #: The same around the writing of a checkpoint.
    checkpointing = validating

    @never_raises
    def finish(
        self,
        train_loss: object = None,
        val_loss: object = None,
        notes: str = "",
        *,
        save_summary: bool = False,
        state: str = "finished",
    ) -> None:
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
                self._losses.add({}, of, detached(value))
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
        self._ended = self._clock.wallclock_seconds
        if self._is_first:
            self.run.summary.update(self._totals())

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

    def save_summary(self) -> Path:
        """Write `{summary_dir}/{experiment_name}_summary.json`; one of another run is kept."""
        from lossbook.lm.log_writer import write_summary

        run = self.run
        name = self.config.name
        value = {
            "experiment_name": name,
            "run_id": run.id,
            "project": run.project,
            "path": run.path,
            "start_time": self._progress.started,
            "duration_seconds": self.wallclock_seconds,
            "notes": self._notes,
            "metrics": self._totals(),
            "config": self._recorded_config(),
        }
        return write_summary(self.summary_dir, name, value, run.id)

    def print_summary(self) -> None:
        """Print what this experiment came to."""
        print("\n".join(self._summary_lines()), flush=True)

    def _summary_lines(self) -> list[str]:
        from lossbook.lm.summary import format_seconds, summary_lines

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
        """Draw training and validation loss (or `keys`) to a PNG or SVG file; options as `lossbook.plots.figure.plot`.

        Raises:
            UnknownKey: nothing of that name was logged yet.
        """
        from lossbook.book import Book
        from lossbook.plots import plot

        run = self.run
        if not run.path:
            raise BadArgument("there is nothing to draw: the run is disabled")
        recorded = Book(os.path.dirname(os.path.dirname(run.path))).run(run.id)
        plot([recorded], keys, path=path, **options)
        return Path(path)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.finish()
        elif self._run is not None and self._ended is None:
            self._fail(kind, error, trace)

    @never_raises
    def _fail(self, kind: type[BaseException] | None, error: BaseException, trace: TracebackType | None) -> None:
        """End the run as failed, or interrupted, with all that is known of it."""
        try:
            self._close()
        finally:
            self.run.__exit__(kind, error, trace)
        self._write_file()


def _whole(iteration: SupportsInt | None) -> int | None:
    """An iteration as a plain number: a checkpoint may hold nothing else."""
    return None if iteration is None else int(iteration)
