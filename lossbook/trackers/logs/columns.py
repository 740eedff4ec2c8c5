"""Which columns of a log are the step and the time: chosen once from its first rows, and said where it is an assumption."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from lossbook.errors import BadArgument
from lossbook.json_shapes import Json, JsonMapping
from lossbook.trackers.log_options import LogOptions
from lossbook.trackers.logs.log import Columns, Entry
from lossbook.trackers.logs.values import moment_of, number_of, whole_of

#: Columns that a row's step may stand in, the first that is there; also behind a `/`, as `time/total_timesteps`.
STEPS = (
    *("step", "_step", "global_step", "train_step", "training_step", "current_step", "current_steps"),
    *("steps", "global_steps", "train_steps"),
    *("total_timesteps", "timesteps_total", "num_timesteps", "timesteps", "timestep"),
    *("env_steps", "total_env_steps", "num_env_steps"),
    *("iteration", "iterations", "iter", "training_iteration"),
    *("gradient_step", "gradient_steps", "optimizer_step"),
    *("num_updates", "nupdates", "n_updates", "updates", "update"),
    *("it", "batch", "epoch", "epochs", "round"),
)
#: Those that count passes over the data: worth an axis of their own, and a fraction of one is no step.
EPOCHS = ("epoch", "epochs")
#: Columns that say when a row was logged: Unix seconds (or ms), or a date.
TIMES = ("time", "timestamp", "_timestamp", "wall_time", "wall time", "date", "datetime", "created_at", "asctime", "ts")
#: Columns that say how many seconds after the beginning it was logged.
SECONDS = (
    "wallclock_time",
    "_runtime",
    "elapsed",
    "elapsed_seconds",
    "elapsed_time",
    "time_elapsed",
    "time_total_s",
    "runtime",
    "wallclock_seconds",
)
#: Columns whose values tell series apart that are logged under the same names.
APART = (
    *("rank", "local_rank", "phase", "split", "mode", "stage", "dataset"),
    *("run", "run_id", "run_name", "experiment"),
    *("seed", "trial", "fold", "worker", "task"),
)
#: Words that only a metric's name has.
METRIC_WORDS = re.compile(
    r"(?:\b|_)(?:loss|nll|ppl|perplexity|acc|accuracy|lr|learning[ _]rate|norm|grad|mfu|time|tps|wps|bpb|bpc|bleu|f1|reward|"
    r"tok(?:ens)?(?:/s\w*|_per_s\w*)?|it/s(?:ec)?|throughput|error|wer|cer|memory|mem|hella\w*|entropy|kl|auc|score|dt)\b",
    re.IGNORECASE,
)
#: Rows that are looked at.
SAMPLE_ROWS = 200
_ORDER = {name: place for place, name in enumerate(STEPS)}


def flat(values: JsonMapping, prefix: str = "") -> Iterator[tuple[str, Json]]:
    """The values of nested objects by their paths: `gpu/0/util`."""
    for key, value in values.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}/")
        elif key is not None:
            yield f"{prefix}{key}", value


def is_epoch(column: str) -> bool:
    return _tail(column) in EPOCHS


def step_of(values: Mapping[str, Json]) -> int | None:
    """The step of a row that lacks the log's own column: another of the usual ones, but no epoch."""
    named = sorted((place, key) for key in values if (place := _place(key)) is not None and not is_epoch(key))
    return next((step for _, key in named if (step := whole_of(values[key])) is not None), None)


def moment_in(values: Mapping[str, Json]) -> float | None:
    """When a row was logged (Unix seconds), if a column of the usual names says so."""
    return next((one for key in values if key.lower() in TIMES and (one := moment_of(values[key])) is not None), None)


def series_of(values: Mapping[str, Json]) -> str:
    """What tells the series of this row from those of others with the same names; empty where nothing does."""
    return "|".join(f"{key}={values[key]}" for key in values if key.lower() in APART)


def choose_columns(name: str, entries: Sequence[Entry], options: LogOptions) -> Columns | None:
    """The columns of a log, by its first entries; None where no row of them has a number beside its step.

    Args:
        name: of the log, for what is said.

    Raises:
        BadArgument: a column that was named is not there, or has no numbers.
    """
    rows = [dict(flat(entry.values)) for entry in entries if entry.problem is None]
    columns = Columns(
        _named(name, rows, options.step, number_of, "step"), _named(name, rows, options.time, moment_of, "time")
    )
    if options.step is None and not any(entry.step is not None for entry in entries):
        columns = _guessed(name, rows, columns)
    columns = columns._replace(rank=min((entry.rank for entry in entries), default=0))
    numbers = (
        number_of(value) is not None and key != columns.step and not is_epoch(key)
        for row in rows
        for key, value in row.items()
    )
    if not any(numbers) or (columns.counts_rows and len(rows) < 2):
        return None
    is_doubtful = columns.counts_rows and not any(METRIC_WORDS.search(key) for row in rows for key in row)
    return columns._replace(is_doubtful=is_doubtful)


def _guessed(name: str, rows: list[dict[str, Json]], columns: Columns) -> Columns:
    """The columns with the step that the rows' own names tell, or with a remark that their number counts."""
    candidates = {key: place for row in rows for key in row if (place := _place(key)) is not None}
    whole: list[str] = []
    for key in sorted(candidates, key=lambda one: (candidates[one], "/" in one, one)):
        found = [row[key] for row in rows if row.get(key) not in (None, "")]
        steps = [whole_of(value) for value in found]
        if found and None not in steps and not (is_epoch(key) and _repeats(rows, key)):
            whole.append(key)
            if len(found) < 3 or len(set(steps)) > 1:
                return columns._replace(step=key)
    if whole:
        return columns._replace(step=whole[0])
    why = "has no column such as step, iteration or epoch"
    if epoch := next((key for key in candidates if is_epoch(key)), None):
        why = f"has only fractions of an epoch in {epoch!r}, or several rows of one"
    elif candidates:
        why = f"has no whole numbers in {' or '.join(map(repr, candidates))}"
    remark = f"{name} {why}: the row's number is the step (`lossbook import --step COLUMN` names another)"
    return columns._replace(counts_rows=True, remarks=(remark,))


def _repeats(rows: Iterable[Mapping[str, Json]], key: str) -> bool:
    """Whether the same metric has several values at one epoch."""
    seen: set[tuple[str, object, str]] = set()
    for row in rows:
        series = series_of(row)
        for other, value in row.items():
            if _place(other) is None and other.lower() not in (*TIMES, *SECONDS) and number_of(value) is not None:
                one = (series, row.get(key), other)
                if row.get(key) is not None and one in seen:
                    return True
                seen.add(one)
    return False


def _named(name: str, rows: list[dict[str, Json]], column: str | None, read: object, what: str) -> str | None:
    """The column that was named, if the log has it."""
    if column is None:
        return None
    present = {key for row in rows for key in row}
    if column not in present:
        from lossbook.metrics import nearest

        close = ", ".join(nearest(column, present) or sorted(present)[:8]) or "none"
        raise BadArgument(f"{name} has no column {column!r} for the {what}; it has {close}")
    assert callable(read)
    if all(read(row[column]) is None for row in rows if column in row):
        raise BadArgument(f"the column {column!r} of {name} has nothing that is a {what}")
    return column


def _tail(key: str) -> str:
    return key.rpartition("/")[2].lower()


def _place(key: str) -> int | None:
    return _ORDER.get(_tail(key))
