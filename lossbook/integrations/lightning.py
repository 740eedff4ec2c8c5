"""A logger for Lightning's Trainer and Fabric.

    trainer = Trainer(logger=LossbookLogger(project="my-project"))

Works with `lightning` and, where only that is installed, with `pytorch_lightning`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import lossbook
from lossbook.errors import MissingLibrary
from lossbook.integrations.guard import harmless, is_over
from lossbook.run import Run, last_lines

try:
    try:
        from lightning.pytorch.loggers.logger import Logger, rank_zero_experiment
        from lightning.pytorch.utilities.rank_zero import rank_zero_only
    except ImportError:
        from pytorch_lightning.loggers.logger import Logger, rank_zero_experiment
        from pytorch_lightning.utilities.rank_zero import rank_zero_only
except ImportError as error:
    raise MissingLibrary("LossbookLogger needs Lightning: pip install lightning") from error


if TYPE_CHECKING:
    from lightning.pytorch.callbacks import ModelCheckpoint


class LossbookLogger(Logger):  # type: ignore[misc]
    """Records what a LightningModule logs, its hyperparameters and its checkpoints. Only rank 0 records.

    The run begins with the first thing logged and stays open after `fit`, for `test` and for another `fit`; it ends
    with `lossbook.finish()` or the program. A `fit` that fails ends it as failed; if another one follows, it is the
    next attempt of the same run.

    Args:
        project: the run's project; None for the default one.
        run: the run to write to.
        prefix: put before every key, with a "/".
        arguments: those of `lossbook.init`. With `id=…, resume="allow"` a program that continues from a checkpoint
            (`trainer.fit(ckpt_path=…)`) goes on with the same run.
    """

    def __init__(
        self, project: str | None = None, *, run: Run | None = None, prefix: str = "", **arguments: Any
    ) -> None:
        super().__init__()
        self._run = run
        self._prefix = f"{prefix}/" if prefix else ""
        self._arguments = {"project": project, **arguments}
        self._checkpoints: dict[str, int] = {}  # by path: when it was written, in ns

    @property
    @rank_zero_experiment  # type: ignore[untyped-decorator]
    def experiment(self) -> Run:
        """The run (`lossbook.Run`), begun when it is first asked for; other ranks get an object that does nothing."""
        if self._run is None:
            self._run = lossbook.init(**self._arguments)
        elif is_over(self._run) and self._run.path:
            again = {**self._arguments, "project": self._run.project, "id": self._run.id, "resume": "allow"}
            self._run = lossbook.init(**again)
        return self._run

    @property
    def name(self) -> str | None:
        """The project. Lightning puts checkpoints into a folder of that name."""
        project: str | None = self._arguments["project"] if rank_zero_only.rank > 0 else self.experiment.project
        return project

    @property
    def version(self) -> str | None:
        """The run's id; None in processes other than that of rank 0, which Lightning tells the name itself."""
        if rank_zero_only.rank > 0:
            return None
        identity: str = self.experiment.id
        return identity

    @rank_zero_only  # type: ignore[untyped-decorator]
    @harmless
    def log_metrics(self, metrics: Mapping[str, object], step: int | None = None) -> None:
        self.experiment.log({f"{self._prefix}{key}": value for key, value in metrics.items()}, step=step)

    @rank_zero_only  # type: ignore[untyped-decorator]
    @harmless
    def log_hyperparams(self, params: object, *arguments: object, **rest: object) -> None:
        self.experiment.config.update(params)

    @rank_zero_only  # type: ignore[untyped-decorator]
    @harmless
    def after_save_checkpoint(self, checkpoint_callback: ModelCheckpoint) -> None:
        """Mark the checkpoints that were written since the last call."""
        best = str(checkpoint_callback.best_model_path or "")
        paths = {str(checkpoint_callback.last_model_path or ""), best, *map(str, checkpoint_callback.best_k_models)}
        for path in sorted(paths - {""}):
            written = os.stat(path).st_mtime_ns if os.path.exists(path) else 0
            if self._checkpoints.get(path) != written:
                self._checkpoints[path] = written
                self.experiment.checkpoint(path, step=_step_of(checkpoint_callback), is_best=path == best)

    @rank_zero_only  # type: ignore[untyped-decorator]
    @harmless
    def save(self) -> None:
        if self._run is not None and not is_over(self._run):
            self._run.sync()

    @rank_zero_only  # type: ignore[untyped-decorator]
    @harmless
    def finalize(self, status: str) -> None:
        """A training that went well may be followed by a test, so only one that failed ends the run."""
        if self._run is None or is_over(self._run):
            return
        error = sys.exc_info()[1]  # Lightning calls this while it handles what was raised
        if isinstance(error, KeyboardInterrupt):
            self._run.end("interrupted", "KeyboardInterrupt")
        elif status == "failed":
            self._run.end("failed", last_lines(error) if error is not None else None)
        else:
            self.save()


def _step_of(checkpoint_callback: ModelCheckpoint) -> int | None:
    """The step of the checkpoint that was just written; None (the last one logged) where Lightning does not say."""
    step = getattr(checkpoint_callback, "_last_global_step_saved", None)
    return int(step) if step else None
