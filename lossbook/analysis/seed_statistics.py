"""Tables over seeds: of each group of runs that differ in their seed alone, mean, spread and interval of one metric.

The numbers come from the statistics of every row of a run that counts; nothing is sampled. A run without a finite value is
named in the table, never left out in silence.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from lossbook.analysis.best import best_value, checked_goal, direction, number_of
from lossbook.analysis.comparison import LONGEST_CELL
from lossbook.analysis.seed_groups import RunGroup, group_runs, setting_text
from lossbook.analysis.seed_summary import (
    Excluded,
    SeedGroup,
    csv_text,
    data_frame,
    setting_column,
    statistics_columns,
    summarize,
)
from lossbook.analysis.table_formats import Cells, latex, markdown, plain_text
from lossbook.errors import BadArgument
from lossbook.formatting import clip, number, plural, printable
from lossbook.json_shapes import Json, JsonObject
from lossbook.metrics import find_key, nearest
from lossbook.reading import nested

if TYPE_CHECKING:
    from lossbook.analysis.seed_pivot import SeedPivot
    from lossbook.reading import RecordedRun

#: What of a run is its value: its last, its best (which way that is, the metric says), an extreme, or the mean of its rows.
VALUES = ("last", "best", "min", "max", "mean")


@dataclass(frozen=True)
class SeedTable:
    """A metric over groups of runs that differ in their seed alone; the best group first where one can tell.

    Attributes:
        metric: as it was asked for.
        value: what of each run counts, one of `VALUES`.
        goal: "minimize" or "maximize"; None where it is not known.
        confidence: of the intervals.
        names: of the settings that tell the groups apart.
        groups: see `SeedGroup`.
        left_out: settings that differ and were not looked at: seeds, places, names, and what was to be ignored.
        remarks: what a reader of the table should know, a sentence each.
    """

    metric: str
    value: str
    goal: str | None
    confidence: float
    names: tuple[str, ...]
    groups: tuple[SeedGroup, ...]
    left_out: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    def dicts(self) -> list[JsonObject]:
        """A dictionary for each group: `project`, its settings, then `runs` (how many count) and the statistics.

        A setting that is called like one of these columns has `config.` before its name.
        """
        return [
            {"project": group.project}
            | {setting_column(name): value for name, value in group.settings.items()}
            | statistics_columns(group.statistics)
            for group in self.groups
        ]

    def df(self) -> Any:
        """As a pandas DataFrame.

        Raises:
            MissingLibrary: pandas is not installed.
        """
        return data_frame(self.dicts())

    def text(self, width: int = 0) -> str:
        """A table for a terminal of `width` columns (0: of any length), with the remarks below it."""
        left = [f"not looked at: {', '.join(self.left_out)}"] if self.left_out else []
        notes = [printable(note) for note in (*left, *self.remarks)]
        return "\n".join([plain_text(self._cells(), width), *notes])

    def markdown(self) -> str:
        """A table in Markdown."""
        return markdown(self._cells())

    def latex(self) -> str:
        """A `tabular` with the rules of booktabs; names are escaped."""
        return latex(self._cells())

    def csv(self) -> str:
        """Every value in full, a line for each group."""
        return csv_text(self.dicts())

    def to_dict(self) -> JsonObject:
        """Everything as plain dictionaries and lists, with each group's values and runs."""
        groups: list[Json] = [
            {
                "project": group.project,
                "settings": group.settings,
                **statistics_columns(group.statistics),
                "values": list(group.values),
                "run_ids": [run.id for run in group.runs],
                "excluded": [{**asdict(one)} for one in group.excluded],
            }
            for group in self.groups
        ]
        return {
            "metric": self.metric,
            "value": self.value,
            "goal": self.goal,
            "confidence": self.confidence,
            "names": list(self.names),
            "groups": groups,
            "left_out": list(self.left_out),
            "remarks": list(self.remarks),
        }

    def pivot(self, rows: str, columns: str) -> SeedPivot:
        """The same groups in a grid: a line for each value of one setting, a column for each value of another.

        Raises:
            BadArgument: no group has such a setting, or several groups, which differ in a third, meet in one cell.
        """
        from lossbook.analysis.seed_pivot import make_pivot

        return make_pivot(self.groups, self.names, rows, columns, f"{self.value} {self.metric}: mean ± std (runs)")

    def find(self, text: str) -> SeedGroup:
        """The one group that a text means: its label, or settings of it such as `optimizer=adamw`.

        Raises:
            BadArgument: none answers to it, or several do.
        """
        wanted = {part.strip().removeprefix("config.") for part in text.split(",") if part.strip()}
        found = [group for group in self.groups if group.label == text]
        if not found and wanted:
            found = [group for group in self.groups if wanted <= _parts(group)]
        if len(found) == 1:
            return found[0]
        labels = [group.label for group in found or self.groups]
        shown = "; ".join(labels[:8]) + (f"; and {len(labels) - 8} more" if len(labels) > 8 else "")
        if found:
            raise BadArgument(f"{len(found)} groups answer to {text!r}: {shown}; name one by all that tells it apart")
        close = nearest(text, labels, 2)
        near = f"the nearest are {'; '.join(close)}" if close else f"there are {shown}"
        raise BadArgument(f"there is no group {text!r}: {near}")

    def _cells(self) -> Cells:
        several = len({group.project for group in self.groups}) > 1
        percent = f"{100 * self.confidence:g}% interval"
        titles = [
            *(["project"] if several else []),
            *(name.removeprefix("config.") for name in self.names),
            "runs",
            f"{self.value} {self.metric}, mean",
            "median",
            "std",
            "standard error",
            percent,
        ]
        head = len(titles) - 6
        rows = []
        for group in self.groups:
            one = group.statistics
            interval = "-" if one.low is None or one.high is None else f"{number(one.low)} to {number(one.high)}"
            missing = len(group.runs) - one.n
            rows.append(
                (
                    *([printable(group.project)] if several else []),
                    *(clip(printable(setting_text(value)), LONGEST_CELL) for value in group.settings.values()),
                    f"{one.n} of {len(group.runs)}" if missing else str(one.n),
                    number(one.mean),
                    number(one.median),
                    number(one.std, 3),
                    number(one.standard_error, 3),
                    interval,
                )
            )
        right = (*(False for _ in range(head)), *(True for _ in range(6)))
        keep = (*(8 for _ in range(head)), 7, 9, 3, 6, 4, 5)
        return Cells(tuple(clip(printable(title), LONGEST_CELL) for title in titles), right, keep, tuple(rows))


def _parts(group: SeedGroup) -> set[str]:
    settings = group.settings.items()
    return {f"{name.removeprefix('config.')}={setting_text(value)}" for name, value in settings} | {
        f"{name.rpartition('.')[2]}={setting_text(value)}" for name, value in settings
    }


def seed_table(
    runs: Sequence[RecordedRun],
    metric: str = "val/loss",
    *,
    by: str | Sequence[str] | None = None,
    ignore: Iterable[str] = (),
    value: str = "last",
    goal: str | None = None,
    confidence: float = 0.95,
) -> SeedTable:
    """Summarize a metric over groups of runs that differ in their seed alone.

    Args:
        metric: any name of it; each run is asked for what it calls it.
        by, ignore: what makes a group, see `lossbook.analysis.seed_groups.group_runs`.
        value: "last", "best", "min", "max" or "mean" of each run, over all its rows. The best of a noisy curve is better
            than the run is, and the more so the more often it was evaluated: publish the last where you can.
        goal: "minimize" or "maximize", where neither the runs nor the name say it.
        confidence: of the bootstrap intervals.

    Raises:
        UnknownRun: there are no runs.
        UnknownKey: no run has the metric.
        BadArgument, BadQuery: something that was named is not there or cannot be meant.
    """
    from lossbook.analysis.resampling import check_confidence

    wanted = check_confidence(confidence)
    if value not in VALUES:
        raise BadArgument(f"value={value!r}: of each run it is one of {', '.join(VALUES)}")
    checked_goal(goal)
    read_statistics(runs)
    grouping = group_runs(runs, by, ignore)
    try:
        way: str | None = direction(runs, metric, goal)
    except BadArgument:
        if value == "best":
            raise
        way = None  # then the groups stand in their own order
    groups = [_summarize_group(group, metric, value, way, wanted) for group in grouping.groups]
    if way is not None:
        groups.sort(key=lambda group: _place(group.statistics.mean, way))
    remarks = [*grouping.remarks, *_exclusions(groups), *_unfinished(runs)]
    if value == "mean":
        remarks += _odd_rows(runs, metric)
    return SeedTable(metric, value, way, wanted, grouping.names, tuple(groups), grouping.left_out, tuple(remarks))


def _place(mean: float | None, goal: str) -> tuple[bool, float]:
    return mean is None, 0.0 if mean is None else mean if goal == "minimize" else -mean


def _summarize_group(group: RunGroup, metric: str, value: str, goal: str | None, confidence: float) -> SeedGroup:
    values, excluded = [], []
    for run in group.runs:
        found = value_of(run, metric, value, goal)
        if isinstance(found, str):
            excluded.append(Excluded(run.name, found))
        else:
            values.append(found)
    statistics = summarize(values, confidence)
    return SeedGroup(group.project, group.settings, group.runs, tuple(values), statistics, tuple(excluded))


def read_statistics(runs: Sequence[RecordedRun]) -> None:
    """Read what another tracker's runs say of their rows: until then there is at most their last values."""
    for run in runs:
        len(run.statistics)


def value_of(run: RecordedRun, metric: str, value: str, goal: str | None) -> float | str:
    """What of a run counts, a finite number; else why nothing does."""
    key = find_key(metric, run.record.metrics)
    if value == "best" and goal is not None:
        best = best_value(run, metric, goal)
        found = best[0] if best is not None else None
    elif key is not None:
        one = run.record.metrics[key]
        found = {"last": one.last, "min": one.min, "max": one.max, "mean": one.mean}[value]
    else:
        found = number_of(nested(run.record.summary, metric))
    if found is not None and math.isfinite(found):
        return found
    if key is None and (found is None and number_of(nested(run.record.summary, metric)) is None):
        return f"it has no {metric}"
    return f"its {value} {metric} is {number(found)}" if found is not None else f"no value of its {metric} is finite"


def _exclusions(groups: Sequence[SeedGroup]) -> list[str]:
    said = [f"{one.run} does not count: {one.why}" for group in groups for one in group.excluded]
    return [*said[:10], f"and {plural(len(said) - 10, 'more run')} do not count"] if len(said) > 11 else said


def _unfinished(runs: Sequence[RecordedRun]) -> list[str]:
    early = [f"{run.name} ({run.state})" for run in runs if run.state != "finished"]
    if not early:
        return []
    shown = ", ".join(early[:8]) + (f" and {len(early) - 8} more" if len(early) > 8 else "")
    return [f"not finished, so what they have so far counts: {shown}"]


def _odd_rows(runs: Sequence[RecordedRun], metric: str) -> list[str]:
    found = []
    for run in runs:
        key = find_key(metric, run.record.metrics)
        one = run.record.metrics[key] if key is not None else None
        if one is not None and one.nonfinite and one.mean is not None:
            found.append(
                f"{run.name}: {one.nonfinite} of {one.count} rows of {key} are not finite, the mean is of the others"
            )
    return [*found[:10], f"and {plural(len(found) - 10, 'more run')} have such rows"] if len(found) > 11 else found
