"""`watch()`: gradients and parameters of torch models, by the hooks of `lossbook.integrations.torch`."""

from __future__ import annotations

from lossbook.integrations import Watched, watch as watch_model
from lossbook.run import Run, say_once

WHAT = ("gradients", "parameters", "all")
#: By the run's project and id: each watched model and what takes its hooks off again.
_watched: dict[tuple[str, str], list[tuple[object, Watched]]] = {}


def watch(run: Run, models: object, *, log: str | None, log_freq: int, log_graph: bool) -> None:
    """Record norms and histograms per parameter, every so many gradient steps, of one model or several."""
    if log_graph:
        say_once("watch(log_graph=True) draws no graph; gradients and parameters are recorded as asked")
    if log is not None and log not in WHAT:
        say_once(f"watch(log={log!r}) is not known: use one of {', '.join(WHAT)}; gradients are recorded")
        log = "gradients"
    if log is None or not run.path:
        return
    found = _listed(models)
    for number, model in enumerate(found):
        watching = watch_model(
            model,
            run,
            log_every=max(1, int(log_freq)),
            histograms=True,
            gradients=log != "parameters",
            parameters=log != "gradients",
            prefix=f"model_{number}/" if len(found) > 1 else "",
            # As with W&B, what is watched belongs to the step that the next `log()` without a step gets.
            step=lambda: run.step,
        )
        _watched.setdefault((run.project, run.id), []).append((model, watching))


def unwatch(run: Run, models: object = None) -> None:
    """Stop recording these models, or all of the run's."""
    found = _listed(models)
    left = []
    for model, watching in _watched.pop((run.project, run.id), []):
        if models is None or any(model is one for one in found):
            watching.remove()
        else:
            left.append((model, watching))
    if left:
        _watched[run.project, run.id] = left


def _listed(models: object) -> list[object]:
    return list(models) if isinstance(models, (list, tuple, set)) else [models]
