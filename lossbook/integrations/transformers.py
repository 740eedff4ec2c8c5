"""A callback for the Trainer of Hugging Face transformers.

    trainer = Trainer(..., callbacks=[LossbookCallback()])

or `TrainingArguments(report_to="lossbook")`, with no line of Lossbook's where it is installed beside PyTorch 2.5 or newer
(`by_name`), else after `register()`. Series are named as with `report_to="wandb"`: `train/…`, `eval/…`, `test/…`, over
`global_step`.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import lossbook
from lossbook.errors import MissingLibrary
from lossbook.integrations.guard import harmless, is_over
from lossbook.run import Run

try:
    from transformers import TrainerCallback
    from transformers.trainer_callback import ExportableState
except ImportError as error:
    raise MissingLibrary("LossbookCallback needs transformers: pip install transformers") from error

if TYPE_CHECKING:
    from transformers import TrainingArguments
    from transformers.trainer_callback import TrainerControl, TrainerState

#: What the Trainer logs once, at the end: the run's summary, no series.
_ONCE = frozenset(("train_runtime", "train_samples_per_second", "train_steps_per_second", "train_loss", "total_flos"))
#: Runs that a callback began: another Trainer of the same process does not write into them.
_begun: weakref.WeakSet[Run] = weakref.WeakSet()
#: By run, the configuration that the program had recorded itself: it stays as it is.
_of_the_program: weakref.WeakKeyDictionary[Run, frozenset[str]] = weakref.WeakKeyDictionary()


class LossbookCallback(TrainerCallback, ExportableState):  # type: ignore[misc]
    """Records what a Trainer logs, its configuration and its checkpoints.

    A run that the program began itself is written to; otherwise one is begun when training begins, and stays open
    after it for evaluation, until another Trainer begins or the program ends. Checkpoints carry the run's id:
    `trainer.train(resume_from_checkpoint=…)` goes on with the same run, rows behind the checkpoint hidden. Only the
    process of rank 0 records.

    Args:
        run: the run to write to.
        arguments: those of `lossbook.init`, for the run that is begun: project, tags, mirrors and so on.
    """

    def __init__(self, run: Run | None = None, **arguments: Any) -> None:
        super().__init__()
        self.run = run
        self.resumable: dict[str, object] = {}
        self._arguments = arguments
        self._described: Run | None = None

    def state(self) -> Mapping[str, Mapping[str, object]]:
        """What a checkpoint keeps of this callback."""
        run = self.run
        known = {} if run is None else {"id": run.id, "project": run.project, "store": _store_of(run)}
        # A Trainer that restores callbacks makes a new one from these; whatever JSON cannot hold would stop its save.
        plain = {name: value for name, value in self._arguments.items() if isinstance(value, (str, bool, int, float))}
        return {"args": plain, "attributes": {"resumable": known}}

    @harmless
    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: object = None,
        **rest: object,
    ) -> None:
        # The Trainer's save looks it up, and a checkpoint that was written without this callback has no entry.
        state.stateful_callbacks.setdefault(type(self).__name__, {})
        if not state.is_world_process_zero:
            return
        if state.is_hyper_param_search and self.run is not None:
            self.run.finish()
            self.run = None
        self._begin(args, state, model)

    @harmless
    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **rest: object,
    ) -> None:
        if not state.is_world_process_zero or not logs:
            return
        run = self._begin(args, state, rest.get("model"))
        once = {name: value for name, value in logs.items() if name in _ONCE}
        if once:
            run.summary.update(once)
        series = {_renamed(name): value for name, value in logs.items() if name not in _ONCE}
        if series and set(logs) - _ONCE != {"epoch"}:
            run.log(series, step=state.global_step)

    @harmless
    def on_predict(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, float],
        **rest: object,
    ) -> None:
        if state.is_world_process_zero:
            series = {_renamed(name): value for name, value in metrics.items()}
            self._begin(args, state, rest.get("model")).log(series, step=state.global_step)

    @harmless
    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **rest: object) -> None:
        if state.is_world_process_zero:
            path = os.path.abspath(os.path.join(args.output_dir, f"checkpoint-{state.global_step}"))
            is_best = bool(state.best_model_checkpoint) and os.path.abspath(state.best_model_checkpoint) == path
            self._begin(args, state, rest.get("model")).checkpoint(path, step=state.global_step, is_best=is_best)

    def _begin(self, args: TrainingArguments, state: TrainerState, model: object) -> Run:
        """The run to write to, begun if there is none; its configuration is recorded once."""
        if self._described is not None and self._described is self.run and not is_over(self.run):
            return self._described
        current = lossbook.run
        if self.run is None or is_over(self.run):
            if current is not None and not is_over(current) and current not in _begun:
                self.run = current
            else:
                if current is not None:
                    current.finish()
                self.run = lossbook.init(**self._beginning(args, state))
                _begun.add(self.run)
        self._described = self.run
        kept = _of_the_program.setdefault(self.run, frozenset() if self.run in _begun else frozenset(self.run.config))
        found = _configuration(args, model)
        self.run.config.update({name: value for name, value in found.items() if name not in kept})
        return self.run

    def _beginning(self, args: TrainingArguments, state: TrainerState) -> dict[str, Any]:
        chosen: dict[str, object] = {}
        if state.trial_name is not None:
            chosen.update(name=state.trial_name, group=args.run_name or args.output_dir)
        elif args.run_name and args.run_name != args.output_dir:
            chosen["name"] = args.run_name
        resumable = _resumable(state)
        if resumable and state.global_step > 0:
            chosen.update(resumable, resume="allow", resume_step=state.global_step)
        return {**chosen, **self._arguments}


def register() -> None:
    """Make `TrainingArguments(report_to="lossbook")` known to transformers, for this process.

    Raises:
        MissingLibrary: the installed transformers keeps no table of its integrations.
    """
    try:
        from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK
    except ImportError as error:
        raise MissingLibrary(
            "this transformers has no table of integrations: pass callbacks=[LossbookCallback()] to the Trainer"
        ) from error
    INTEGRATION_TO_CALLBACK["lossbook"] = LossbookCallback


def _store_of(run: Run) -> str:
    return os.path.dirname(os.path.dirname(run.path)) if run.path else ""


def _resumable(state: TrainerState) -> dict[str, object]:
    """The run that wrote the checkpoint that this training goes on from."""
    kept = (getattr(state, "stateful_callbacks", None) or {}).get("LossbookCallback")
    kept = kept[0] if isinstance(kept, list) and kept else kept
    known = kept.get("attributes", {}).get("resumable", {}) if isinstance(kept, dict) else {}
    return {name: value for name, value in known.items() if value}


def _renamed(name: str) -> str:
    for prefix in ("eval", "test"):
        if name.startswith(f"{prefix}_"):
            return f"{prefix}/{name[len(prefix) + 1 :]}"
    return f"train/{name}"


def _configuration(args: TrainingArguments, model: object) -> dict[str, object]:
    """The arguments of the training over the model's own configuration, and the model's size."""
    config: dict[str, object] = {}
    described = getattr(model, "config", None)
    if described is not None:
        config.update(described if isinstance(described, dict) else described.to_dict())
    config.update(args.to_dict())
    if hasattr(model, "num_parameters"):
        config["num_parameters"] = model.num_parameters()
    return config
