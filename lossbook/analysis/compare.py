"""Compares runs: the settings in which they differ, how good they became, and how soon.

What is compared comes from the index (a run's configuration and the statistics of its metrics), so a thousand runs
take a fraction of a second. Rows are read for one question alone: when a loss was first reached.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from lossbook.analysis.best import best_value, checked_goal, direction, number_of
from lossbook.analysis.comparison import Column, Comparison
from lossbook.analysis.gpus import read_gpus
from lossbook.errors import BadArgument, UnknownRun
from lossbook.json_shapes import Json, JsonMapping, JsonObject
from lossbook.metrics import find_key, key_metrics, nearest, percent_factor
from lossbook.reading import FIELDS, all_names, compile_value, nested, sorted_places
from lossbook.storage import MetricStatistics, MetricTable

if TYPE_CHECKING:
    from lossbook.reading import RecordedRun

LOSSES = ("val/loss", "train/loss")


def compare_runs(
    runs: Sequence[RecordedRun],
    *,
    metric: str | None = None,
    losses: Iterable[float] = (),
    columns: Sequence[str] = (),
    baseline: RecordedRun | str | None = None,
    sort: str | None = None,
    goal: str | None = None,
) -> Comparison:
    """Hold runs side by side, the best first.

    Args:
        metric: what decides which is best; aliases are found in each run. Default: the validation loss, where no run
            has one the training loss.
        losses: for each, when the metric first reached it: seconds of wallclock, tokens seen, step.
        columns: these in place of the usual ones: names of columns, or names as `where` has them (`config.lr`,
            `val/loss.max`, `host`). The name comes first in any case.
        baseline: a run, its id or its name: it comes first, and the others have their change from it.
        sort: a column, or a name as `where` has it; descending with `-` before it. Default: by the metric, best first.
        goal: "minimize" or "maximize", where the run did not say (`define_metric`) and the name does not.

    Raises:
        BadArgument: which way the metric is better is not known, or an argument cannot be meant.
        UnknownKey: no run logged the metric.
        UnknownRun: the baseline is none of the runs.
    """
    held = _baseline_among(runs, baseline)
    chosen = list({run.path: run for run in ([held] if held else []) + list(runs)}.values())
    targets = [_finite(loss) for loss in losses]
    if metric is None:
        metric = next((one for one in LOSSES if any(find_key(one, run.record.metrics) for run in chosen)), None)
    decided = direction(chosen, metric, goal) if metric is not None and chosen else checked_goal(goal)
    differing = differing_settings([run.config for run in chosen])
    rows = [_measure(run, differing, metric, decided) for run in chosen]
    if targets and metric is not None and decided is not None:
        for run, row in zip(chosen, rows, strict=True):
            row.update(_reached(run, metric, decided, targets))
    known = {column.name: column for column in _usual_columns(differing, metric, targets, rows)}
    if columns:
        wanted = _wanted_columns(list(columns), known, chosen, rows)
        known |= {column.name: column for column in wanted}
        later = [known[name] for target in targets for name in _target_names(target) if name in known]
        shown = tuple({column.name: column for column in [known["name"], *wanted, *later]}.values())
    else:
        shown = tuple(known.values())
    order = _order(chosen, rows, known, sort, decided)
    if held is not None:
        order = [0] + [one for one in order if one != 0]
    changes = [_change(rows[one], rows[0], shown) if held is not None and one else {} for one in order]
    return Comparison(
        columns=shown,
        rows=tuple(rows[one] for one in order),
        changes=tuple(changes),
        metric=metric,
        goal=decided,
        baseline=held.id if held is not None else None,
    )


def _finite(loss: float) -> float:
    if isinstance(loss, bool) or not isinstance(loss, (int, float)) or not math.isfinite(loss):
        raise BadArgument(f"losses={loss!r}: a loss to be reached is a finite number")
    return float(loss)


def _baseline_among(runs: Sequence[RecordedRun], baseline: RecordedRun | str | None) -> RecordedRun | None:
    if baseline is None or not isinstance(baseline, str):
        return baseline
    for named in (
        [run for run in runs if run.id == baseline],
        [run for run in runs if run.name == baseline],
    ):
        if len(named) == 1:
            return named[0]
        if named:
            raise UnknownRun(f"{len(named)} of the runs are called {baseline!r}; name the baseline by its id")
    raise UnknownRun(f"the baseline {baseline!r} is none of the {len(runs)} runs that are compared")


# -- what is compared ---------------------------------------------------------------------------------------------


def flatten_settings(values: JsonMapping, before: str = "") -> Iterator[tuple[str, Json]]:
    """A nested configuration as pairs of a dotted name and a value."""
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from flatten_settings(value, f"{before}{key}.")
        else:
            yield f"{before}{key}", value


def differing_settings(configs: Sequence[JsonMapping]) -> list[str]:
    """The dotted names of the settings that are not the same in all of several configurations, in their order.

    One that a configuration lacks differs from every value; 1 and 1.0 are the same, 1 and true are not.
    """
    flat = [dict(flatten_settings(config)) for config in configs]
    first: JsonObject = {}
    differing: dict[str, None] = {}
    counts: dict[str, int] = {}
    for settings in flat:
        for name, value in settings.items():
            counts[name] = counts.get(name, 0) + 1
            if name not in first:
                first[name] = value
            elif name not in differing and not _same(first[name], value):
                differing[name] = None
    return [name for name in first if name in differing or counts[name] < len(flat)]


def _same(one: Json, other: Json) -> bool:
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)


def _measure(run: RecordedRun, differing: Sequence[str], metric: str | None, goal: str | None) -> JsonObject:
    """The row of one run, but for the losses that it reached."""
    record = run.record
    metrics = record.metrics
    settings = dict(flatten_settings(record.config))
    row: JsonObject = {
        "name": record.name,
        "id": record.id,
        "path": run.path,
        "project": record.project,
        "state": record.state,
        "group": record.group,
    }
    row.update({f"config.{name}": settings.get(name) for name in differing})
    if metric is not None and goal is not None:
        found = best_value(run, metric, goal)
        row["best"], row["best_step"] = found if found is not None else (None, None)
        row["final"], row["final_step"] = _last(metrics, metric)
        if row["final"] is None:
            row["final"] = number_of(nested(record.summary, metric))
    for name, loss in (("val", "val/loss"), ("train", "train/loss")):
        found = best_value(run, loss, "minimize") if find_key(loss, metrics) is not None else None
        row[f"best_{name}_loss"], row[f"best_{name}_loss_step"] = found if found is not None else (None, None)
        row[f"final_{name}_loss"], row[f"final_{name}_loss_step"] = _last(metrics, loss)
    speed = _statistics(metrics, "throughput/tokens_per_second")
    row["tokens_per_second"] = speed.mean
    row["mfu"] = _utilisation_percent(metrics, record.define)
    gpus = read_gpus(metrics)
    row["gpu_utilisation"], row["gpu_memory_utilisation"] = (
        gpus.mean_utilisation_percent,
        gpus.mean_memory_activity_percent,
    )
    row["gpu_memory_gib"] = None if gpus.most_memory_bytes is None else gpus.most_memory_bytes / 2**30
    row["wallclock_seconds"] = run.duration
    row["gradient_steps"] = _whole(_statistics(metrics, "time/gradient_steps").last)
    row["tokens_seen"] = _whole(_statistics(metrics, "time/tokens_seen").last)
    row["last_step"] = record.last_step
    return row


def _statistics(metrics: MetricTable, name: str) -> MetricStatistics:
    """Those of a metric by any of its names; nothing is known of one that was not logged."""
    key = find_key(name, metrics)
    return MetricStatistics() if key is None else metrics[key]


def _utilisation_percent(metrics: MetricTable, defined: Sequence[JsonMapping]) -> float | None:
    key = key_metrics(metrics).get("utilisation")
    if key is None:
        return None
    one = metrics[key]
    return None if one.mean is None else one.mean * percent_factor(key, one.max, defined)


def _last(metrics: MetricTable, name: str) -> tuple[float | None, int | None]:
    one = _statistics(metrics, name)
    return one.last, one.last_step


def _whole(value: float | None) -> float | int | None:
    return int(value) if value is not None and math.isfinite(value) and value == int(value) else value


def _target_names(target: float) -> tuple[str, str, str]:
    return f"seconds_to_{target:g}", f"tokens_to_{target:g}", f"step_of_{target:g}"


def _reached(run: RecordedRun, metric: str, goal: str, targets: Sequence[float]) -> JsonObject:
    from lossbook.analysis.time_to_target import first_reached

    key = find_key(metric, run.record.metrics)
    found: JsonObject = {}
    for target in targets:
        reached = first_reached(run, key, target, goal) if key is not None else None
        seconds, tokens, step = _target_names(target)
        found[seconds] = reached.wallclock_seconds if reached else None
        found[tokens] = _whole(reached.tokens) if reached else None
        found[step] = reached.step if reached else None
    return found


# -- columns ------------------------------------------------------------------------------------------------------


def _usual_columns(
    differing: Sequence[str], metric: str | None, targets: Sequence[float], rows: Sequence[JsonMapping]
) -> Iterator[Column]:
    """The columns of any comparison; one without any value is left out, unless it was asked for."""
    yield Column("name", "run", "text", 9)
    yield Column("id", "id", "text", 4)
    if len({row["project"] for row in rows}) > 1:
        yield Column("project", "project", "text", 4)
    yield Column("state", "state", "text", 3)
    if any(row["group"] is not None for row in rows):
        yield Column("group", "group", "text", 3)
    for name in differing:
        yield Column(f"config.{name}", name, "setting", 6)
    own = [
        Column("best", f"best {metric}", "value", 8, at="best_step"),
        Column("best_step", f"step of best {metric}", "step", shown=False),
        Column("final", f"final {metric}", "value", 7),
        Column("final_step", f"step of final {metric}", "step", shown=False),
    ]
    for name, keep in (("val", 8), ("train", 5)):
        own += [
            Column(f"best_{name}_loss", f"best {name} loss", "value", keep, at=f"best_{name}_loss_step"),
            Column(f"best_{name}_loss_step", f"step of best {name} loss", "step", shown=False),
            Column(f"final_{name}_loss", f"final {name} loss", "value", keep - 3),
            Column(f"final_{name}_loss_step", f"step of final {name} loss", "step", shown=False),
        ]
    own += [
        Column("tokens_per_second", "tokens/s", "rate", 6),
        Column("mfu", "MFU", "percent", 4),
        Column("gpu_utilisation", "GPU busy", "percent", 3),
        Column("gpu_memory_utilisation", "GPU memory busy", "percent", 2),
        Column("gpu_memory_gib", "GPU memory (GiB)", "gibibytes", 3),
        Column("wallclock_seconds", "wallclock", "seconds", 7),
        Column("gradient_steps", "gradient steps", "count", 2),
        Column("tokens_seen", "tokens", "count", 4),
        Column("last_step", "last step", "step", 1),
    ]
    # A loss has columns of its own already.
    loss = any(metric is not None and find_key(metric, (name,)) is not None for name in LOSSES)
    for column in own:
        if loss and column.name in ("best", "best_step", "final", "final_step"):
            continue
        if any(row.get(column.name) is not None for row in rows):
            yield column
    for target in targets:
        seconds, tokens, step = _target_names(target)
        yield Column(seconds, f"time to {target:g}", "seconds", 7)
        yield Column(tokens, f"tokens to {target:g}", "count", 6)
        yield Column(step, f"step of {target:g}", "step", 6)


_KINDS = {"created": "moment", "ended": "moment", "duration": "seconds", "attempts": "step", "rows": "count"}


def _wanted_columns(
    names: Sequence[str], known: Mapping[str, Column], runs: Sequence[RecordedRun], rows: list[JsonObject]
) -> list[Column]:
    """The columns that were asked for by name; what a row does not have yet is looked up for it."""
    wanted = []
    for name in names:
        column = known.get(name) or known.get(f"config.{name}")
        if column is None:
            values = [row.get(name) for row in rows]
            if all(value is None for value in values):
                value_of = compile_value(name)
                values = [value_of(run.record) for run in runs]
            if all(value is None for value in values) and name not in FIELDS and runs:
                raise BadArgument(f"none of the runs has {name!r} for a column; {_meant(name, known, runs)}")
            for row, value in zip(rows, values, strict=True):
                row[name] = value
            numeric = all(value is None or number_of(value) is not None for value in values)
            kind = "value" if numeric and not name.startswith("config.") else "setting"
            column = Column(name, name.removeprefix("config."), _KINDS.get(name, kind), 8)
        wanted.append(column)
    return wanted


def _meant(name: str, known: Mapping[str, Column], runs: Sequence[RecordedRun]) -> str:
    close = nearest(name, {*known, *all_names(run.record for run in runs)}, 3)
    near = f"the nearest are {', '.join(close)}; " if close else ""
    return f"{near}there are {', '.join(known)}, and every name that --where knows"


def _order(
    runs: Sequence[RecordedRun],
    rows: list[JsonObject],
    known: Mapping[str, Column],
    sort: str | None,
    goal: str | None,
) -> list[int]:
    """The places of the rows in their order; a row without a value, or with NaN, comes last."""
    if sort is None:
        values = [row.get("best") for row in rows]
        return sorted_places(values, descending=goal == "maximize")
    descending, name = sort.strip().startswith("-"), sort.strip().lstrip("+-")
    column = known.get(name) or known.get(f"config.{name}")
    if column is not None or any(row.get(name) is not None for row in rows):
        values = [row.get(column.name if column is not None else name) for row in rows]
    else:
        value_of = compile_value(name)
        values = [value_of(run.record) for run in runs]
        if runs and all(value is None for value in values):
            raise BadArgument(f"none of the runs has {name!r} to sort by; {_meant(name, known, runs)}")
    return sorted_places(values, descending=descending)


_CHANGING = ("value", "seconds", "rate", "count", "percent", "gibibytes")


def _change(row: JsonMapping, baseline: JsonMapping, columns: Sequence[Column]) -> dict[str, float]:
    change = {}
    for column in columns:
        one, other = number_of(row[column.name]), number_of(baseline[column.name])
        if column.kind in _CHANGING and one is not None and other is not None and math.isfinite(one - other):
            change[column.name] = one - other
    return change
