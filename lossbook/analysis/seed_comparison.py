"""Compares two groups of runs: paired by seed where both have the same seeds, and says so where nothing can be told."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy

from lossbook.analysis.best import direction
from lossbook.analysis.resampling import (
    PermutationTest,
    bootstrap_interval,
    check_confidence,
    difference_interval,
    sign_flip_test,
    two_sample_test,
)
from lossbook.analysis.seed_groups import seed_of
from lossbook.analysis.seed_statistics import VALUES, read_statistics, value_of
from lossbook.analysis.seed_summary import Excluded, Statistics, summarize
from lossbook.errors import BadArgument, UnknownKey, UnknownRun
from lossbook.formatting import number, plural, printable
from lossbook.json_shapes import JsonObject

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lossbook.reading import RecordedRun

#: With fewer runs a side, whatever they say, chance could say as well.
FEWEST_RUNS = 3


@dataclass(frozen=True)
class SeedComparison:
    """How two groups of runs differ in one metric.

    Attributes:
        metric, value, goal, confidence: as in `SeedTable`.
        names: what the two groups are called.
        first, second: the statistics of each, over the runs that count here.
        paired: whether runs with the same seed were held against one another.
        difference: mean of the first minus mean of the second.
        low, high: its bootstrap interval; None for less than two runs on a side.
        test: the permutation test; None for less than two runs on a side.
        distinguishable: whether the test tells them apart, at 1 - confidence.
        better: the name of the group that is better; None where they are not distinguishable or the goal is not known.
        verdict: all of it in a sentence.
        excluded: runs that do not count, and why.
    """

    metric: str
    value: str
    goal: str | None
    confidence: float
    names: tuple[str, str]
    first: Statistics
    second: Statistics
    paired: bool
    difference: float
    low: float | None
    high: float | None
    test: PermutationTest | None
    distinguishable: bool
    better: str | None
    verdict: str
    excluded: tuple[Excluded, ...] = ()

    def text(self) -> str:
        """A few lines for a terminal, the verdict last."""
        lines = [
            f"{printable(name)}: {number(one.mean, 6)} ± {number(one.std, 3)} ({plural(one.n, 'run')})"
            for name, one in zip(self.names, (self.first, self.second), strict=True)
        ]
        lines += [f"{printable(one.run)} does not count: {printable(one.why)}" for one in self.excluded]
        return "\n".join([*lines, printable(self.verdict)])

    def to_dict(self) -> JsonObject:
        """Everything as plain values."""
        test = self.test
        return {
            "metric": self.metric,
            "value": self.value,
            "goal": self.goal,
            "confidence": self.confidence,
            "groups": [
                {"name": name, **asdict(one)} for name, one in zip(self.names, (self.first, self.second), strict=True)
            ],
            "paired": self.paired,
            "difference": self.difference,
            "low": self.low,
            "high": self.high,
            "p_value": test.p_value if test is not None else None,
            "smallest_p_value": test.smallest_p_value if test is not None else None,
            "arrangements": test.arrangements if test is not None else None,
            "is_exact": test.is_exact if test is not None else None,
            "distinguishable": self.distinguishable,
            "better": self.better,
            "verdict": self.verdict,
            "excluded": [{**asdict(one)} for one in self.excluded],
        }


def compare_groups(
    first: Sequence[RecordedRun],
    second: Sequence[RecordedRun],
    metric: str = "val/loss",
    *,
    value: str = "last",
    goal: str | None = None,
    confidence: float = 0.95,
    names: tuple[str, str] = ("the first", "the second"),
) -> SeedComparison:
    """Compare the mean of a metric of two groups of runs.

    Where both have the same seeds, each seed once, the runs are paired, and the signs of the differences are flipped by lot;
    else the runs are dealt to the groups by lot. Both tests look at all arrangements where these are at most 100,000.

    Args:
        value, goal, confidence: as in `seed_table`.
        names: what the groups are called in the verdict.

    Raises:
        UnknownRun: a group has no run.
        UnknownKey: a group has no finite value of the metric.
        BadArgument: an argument cannot be meant.
    """
    wanted = check_confidence(confidence)
    if value not in VALUES:
        raise BadArgument(f"value={value!r}: of each run it is one of {', '.join(VALUES)}")
    for name, runs in zip(names, (first, second), strict=True):
        if not runs:
            raise UnknownRun(f"there is no run in {name}: two groups of one run or more are compared")
    both = {run.path for run in first} & {run.path for run in second}
    if both:
        raise BadArgument(
            f"{plural(len(both), 'run')} would be in both groups: choose groups that have no run in common"
        )
    read_statistics([*first, *second])
    try:
        way: str | None = direction([*first, *second], metric, goal)
    except BadArgument:
        if value == "best":
            raise
        way = None
    excluded: list[Excluded] = []
    left = _finite_values(first, metric, value, way, excluded)
    right = _finite_values(second, metric, value, way, excluded)
    for name, found in zip(names, (left, right), strict=True):
        if not found:
            raise UnknownKey(f"no run of {name} has a finite {value} {metric}")
    pairs = _pairs(left, right)
    one, other = (numpy.array([value for _, value in side], dtype=numpy.float64) for side in (left, right))
    low, high, test = _unpaired(one, other, wanted) if pairs is None else _paired(pairs, wanted)
    statistics = summarize(one.tolist(), wanted), summarize(other.tolist(), wanted)
    difference = float(one.mean() - other.mean())
    fewest = min(len(one), len(other))
    is_told = test is not None and fewest >= FEWEST_RUNS and test.p_value <= 1 - wanted + 1e-12
    better = None
    if is_told and way is not None:
        better = names[0] if (difference < 0) == (way == "minimize") else names[1]
    verdict = _verdict(
        names,
        value,
        metric,
        difference,
        (low, high),
        test,
        (len(one), len(other)),
        pairs is not None,
        wanted,
        is_told,
        better,
    )
    return SeedComparison(
        metric=metric,
        value=value,
        goal=way,
        confidence=wanted,
        names=names,
        first=statistics[0],
        second=statistics[1],
        paired=pairs is not None,
        difference=difference,
        low=low,
        high=high,
        test=test,
        distinguishable=is_told,
        better=better,
        verdict=verdict,
        excluded=tuple(excluded),
    )


_Values = list[tuple["RecordedRun", float]]


def _finite_values(
    runs: Sequence[RecordedRun], metric: str, value: str, goal: str | None, excluded: list[Excluded]
) -> _Values:
    found = []
    for run in runs:
        one = value_of(run, metric, value, goal)
        if isinstance(one, str):
            excluded.append(Excluded(run.name, one))
        else:
            found.append((run, one))
    return found


def _pairs(first: _Values, second: _Values) -> NDArray[numpy.float64] | None:
    """The differences, seed by seed; None where the runs cannot be paired."""
    left, right = ({seed_of(run): value for run, value in side} for side in (first, second))
    if () in left or () in right or left.keys() != right.keys():
        return None
    if len(left) < len(first) or len(right) < len(second):
        return None  # a seed was used twice
    return numpy.array([left[seed] - right[seed] for seed in sorted(left)], dtype=numpy.float64)


_Tested = tuple[float | None, float | None, PermutationTest | None]


def _paired(differences: NDArray[numpy.float64], confidence: float) -> _Tested:
    if len(differences) < 2:
        return None, None, None
    low, high = bootstrap_interval(differences[:, None], confidence)
    return float(low[0]), float(high[0]), sign_flip_test(differences)


def _unpaired(first: NDArray[numpy.float64], second: NDArray[numpy.float64], confidence: float) -> _Tested:
    if min(len(first), len(second)) < 2:
        return None, None, None
    low, high = difference_interval(first, second, confidence)
    return low, high, two_sample_test(first, second)


def _verdict(
    names: tuple[str, str],
    value: str,
    metric: str,
    difference: float,
    interval: tuple[float | None, float | None],
    test: PermutationTest | None,
    sizes: tuple[int, int],
    paired: bool,
    confidence: float,
    is_told: bool,
    better: str | None,
) -> str:
    how = "paired by seed" if paired else "unpaired"
    level = f"{1 - confidence:.3g}"
    low, high = interval
    between = f", {100 * confidence:g}% interval {number(low, 3)} to {number(high, 3)}" if low is not None else ""
    bare = f"difference {number(difference, 4)}, {how}"  # of so few runs the interval is too narrow to be shown
    seen = f"difference {number(difference, 4)}{between}, {how}"
    fewest = min(sizes)
    if fewest < FEWEST_RUNS:
        few = plural(fewest, "run")
        return f"not distinguishable: with {few} a side no test can tell them apart ({bare})"
    assert test is not None
    p_value = f"p = {number(test.p_value, 3)}"
    if is_told:
        what = f"{better} is better" if better is not None else "distinguishable"
        lower = names[0] if difference < 0 else names[1]
        told = "" if better is not None else f": {lower} has the lower {value} {metric}"
        return f"{what}{told} ({p_value}; {seen})"
    if test.smallest_p_value > 1 - confidence + 1e-12:
        needed = _needed(paired, confidence)
        return (
            f"not distinguishable: {fewest} runs a side allow no p below {number(test.smallest_p_value, 3)}, "
            f"{needed} a side could tell ({p_value}, above {level}; {bare})"
        )
    return f"not distinguishable ({p_value}, above {level}; {seen})"


def _needed(paired: bool, confidence: float) -> int:
    """So many runs a side are needed for a test that can tell at all."""
    count = FEWEST_RUNS
    while (2 / 2**count if paired else 2 / math.comb(2 * count, count)) > 1 - confidence + 1e-12:
        count += 1
    return count
