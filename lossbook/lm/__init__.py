"""The vocabulary of language-model training: what a trainer calls its configuration, its counts and its figures.

    from lossbook.lm import ExperimentConfig, ExperimentTracker

    tracker = ExperimentTracker(ExperimentConfig(model_size="17M", dataset="tinystories", learning_rate=3e-4), model)
    tracker.log_train_step(loss=loss, learning_rate=rate, tokens=batch_size * context, iteration=step)
    tracker.log_validation(val_loss=val_loss)
    tracker.finish(save_summary=True)

What it logs is a Lossbook run. The analyzer reads such runs, and the JSON logs that course projects keep.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lossbook.analysis import write_report
    from lossbook.curves import exponential_moving_average, gaussian, moving_average, moving_median
    from lossbook.lm.analyzer import ExperimentAnalyzer, LossTrajectories, Trajectory, print_experiment_summary
    from lossbook.lm.config import ExperimentConfig
    from lossbook.lm.devices import peak_flops
    from lossbook.lm.log import ExperimentLog, load_experiment_log
    from lossbook.lm.memory import Timer, gpu_memory, model_parameters, system_memory
    from lossbook.lm.shapes import estimate_parameters
    from lossbook.lm.snapshots import MetricsSnapshot
    from lossbook.lm.throughput import flops_per_token, model_flops_utilisation, perplexity, tokens_per_second
    from lossbook.lm.tracker import ExperimentTracker
    from lossbook.plots import plot

__all__ = [
    "ExperimentAnalyzer",
    "ExperimentConfig",
    "ExperimentLog",
    "ExperimentTracker",
    "LossTrajectories",
    "MetricsSnapshot",
    "Timer",
    "Trajectory",
    "estimate_parameters",
    "exponential_moving_average",
    "flops_per_token",
    "gaussian",
    "gpu_memory",
    "load_experiment_log",
    "model_flops_utilisation",
    "model_parameters",
    "moving_average",
    "moving_median",
    "peak_flops",
    "perplexity",
    "plot",
    "print_experiment_summary",
    "system_memory",
    "tokens_per_second",
    "write_report",
]

#: A training script loads what it uses: the reading side brings NumPy with it.
_HOMES = {
    "ExperimentAnalyzer": "lossbook.lm.analyzer",
    "ExperimentConfig": "lossbook.lm.config",
    "ExperimentLog": "lossbook.lm.log",
    "ExperimentTracker": "lossbook.lm.tracker",
    "LossTrajectories": "lossbook.lm.analyzer",
    "MetricsSnapshot": "lossbook.lm.snapshots",
    "Timer": "lossbook.lm.memory",
    "Trajectory": "lossbook.lm.analyzer",
    "estimate_parameters": "lossbook.lm.shapes",
    "exponential_moving_average": "lossbook.curves.smoothing",
    "flops_per_token": "lossbook.lm.throughput",
    "gaussian": "lossbook.curves.smoothing",
    "gpu_memory": "lossbook.lm.memory",
    "load_experiment_log": "lossbook.lm.log",
    "model_flops_utilisation": "lossbook.lm.throughput",
    "model_parameters": "lossbook.lm.memory",
    "moving_average": "lossbook.curves.smoothing",
    "moving_median": "lossbook.curves.smoothing",
    "peak_flops": "lossbook.lm.devices",
    "perplexity": "lossbook.lm.throughput",
    "plot": "lossbook.plots.figure",
    "print_experiment_summary": "lossbook.lm.analyzer",
    "system_memory": "lossbook.lm.memory",
    "tokens_per_second": "lossbook.lm.throughput",
    "write_report": "lossbook.analysis.report",
}


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'lossbook.lm' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, *(name for name in globals() if name.startswith("__"))])
