"""How right the diagnosis is: precision and recall over runs of which it is known what is wrong with them.

`diagnosed_runs.jsonl` has losses and rates of runs of `gpt2/train.py`, well and ill (docs/diagnosis.md says how they were
made). Each is also looked at averaged over 5, 10 and 25 rows, as trainers log means. Into those that are well, faults are
planted in places drawn by chance: a row far above the others, three rows above them, NaN from some step on, a loss that
goes up for good.
"""

from __future__ import annotations

import json
import math
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.report import Figure
from benchmarks.session import Session

RUNS = Path(__file__).with_name("diagnosed_runs.jsonl")
MEANS_OF = (1, 5, 10, 25)
#: Rates are kept for every so many rows.
_RATES_EVERY = 25
#: A finding counts for a fault that begins at most so many steps away, or that share of the run.
_NEAR_STEPS, _NEAR_SHARE = 25, 0.1


class KnownRun(NamedTuple):
    """Losses of a run, its learning rates, and what is wrong: by kind the first and the last step where it may begin.

    `may_be` has kinds that are neither right nor wrong to find: what an average hides, or what a fault brings along.
    """

    name: str
    losses: list[float]
    rates: list[float]
    steps: list[int]
    expected: dict[str, tuple[float, float]]
    may_be: frozenset[str] = frozenset()


def known_runs(seed: int = 1) -> Iterator[KnownRun]:
    """All runs: as they were, averaged, and with faults planted."""
    chance = random.Random(seed)
    for one in map(json.loads, RUNS.read_text().splitlines()):
        for mean_of in MEANS_OF:
            yield _averaged(one, mean_of)
        if not one["expected"]:
            yield from _with_faults(one, chance)


def _averaged(one: dict[str, Any], mean_of: int) -> KnownRun:
    losses = [float(loss) for loss in one["losses"]]
    ends = range(mean_of, len(losses) + 1, mean_of)
    means = [math.fsum(losses[end - mean_of : end]) / mean_of for end in ends]
    rates = [one["rates"][(end - 1) // _RATES_EVERY] for end in ends]
    expected = {kind: (first - mean_of, last + mean_of) for kind, (first, last) in one["expected"].items()}
    hidden: set[str] = set()
    if mean_of > 1:
        # A mean of 25 rows has a 25th of a spike; a plateau wants a thousand rows, and few may be left to see a rise in.
        hidden = {"spike", *expected} - {"nonfinite"} if expected else set()
        expected = {kind: where for kind, where in expected.items() if kind == "nonfinite"}
    return KnownRun(f"{one['name']}/{mean_of}", means, rates, list(ends), expected, frozenset(hidden))


def _with_faults(one: dict[str, Any], chance: random.Random) -> Iterator[KnownRun]:
    losses = [float(loss) for loss in one["losses"]]
    count = len(losses)
    rates = [one["rates"][at // _RATES_EVERY] for at in range(count)]
    steps = list(range(1, count + 1))

    def planted(name: str, kind: str, at: int, changed: list[float], may_be: frozenset[str] = frozenset()) -> KnownRun:
        near = max(_NEAR_STEPS, _NEAR_SHARE * count)
        return KnownRun(f"{one['name']}+{name}", changed, rates, steps, {kind: (at - 1, at + near)}, may_be)

    for factor in (2.5, 4.0):
        at = chance.randrange(count // 3, count - 40)
        yield planted(
            f"row x{factor}", "spike", at + 1, [loss * (factor if row == at else 1) for row, loss in enumerate(losses)]
        )
    at = chance.randrange(count // 3, count - 40)
    rows = {at, at + 2, at + 5}
    yield planted(
        "three rows x2.2", "spike", at + 1, [loss * (2.2 if row in rows else 1) for row, loss in enumerate(losses)]
    )
    at = chance.randrange(count // 3, count - 40)
    yield planted("NaN", "nonfinite", at + 1, [math.nan if row >= at else loss for row, loss in enumerate(losses)])
    at = chance.randrange(count // 3, count // 2)
    rise = (losses[0] - min(losses)) / 100
    risen = [loss + rise * max(0, row - at) for row, loss in enumerate(losses)]
    yield planted("rise", "divergence", at + 1, risen, frozenset({"spike"}))


def judge(runs: Iterator[KnownRun]) -> dict[str, Counter[str]]:
    """By kind how many faults were found, missed, and found where there was none; `runs` and `quiet` of "all" count runs."""
    from lossbook.diagnosis import Diagnosis
    from lossbook.storage import LoggedRow

    counts: dict[str, Counter[str]] = {}
    for run in runs:
        diagnosis = Diagnosis()
        diagnosis.feed(
            LoggedRow(
                0,
                row,
                1_700_000_000_000_000 + 100_000 * step,
                step,
                None,
                None,
                {"train_loss": loss, "learning_rate": rate},
                0,
            )
            for row, (step, loss, rate) in enumerate(zip(run.steps, run.losses, run.rates, strict=True))
        )
        diagnosis.close()
        found = diagnosis.findings()
        for kind, (first, last) in run.expected.items():
            hit = any(one.kind == kind and first <= one.first_step <= last for one in found)
            counts.setdefault(kind, Counter())["found" if hit else "missed"] += 1
        for one in found:
            where = run.expected.get(one.kind)
            if one.kind not in run.may_be and (where is None or not where[0] <= one.first_step <= where[1]):
                counts.setdefault(one.kind, Counter())["wrong"] += 1
        counts.setdefault("all", Counter())["runs"] += 1
    return counts


def figures(session: Session) -> list[Figure]:
    counts = judge(known_runs())
    runs = counts.pop("all")["runs"]
    whole: Counter[str] = sum(counts.values(), Counter())
    faults = whole["found"] + whole["missed"]
    by_kind = ", ".join(
        f"{kind} {one['found']} of {one['found'] + one['missed']} found, {one['wrong']} wrong"
        for kind, one in sorted(counts.items())
    )
    return [
        Figure(
            "diagnosis",
            "precision of the findings about losses",
            whole["found"] / max(1, whole["found"] + whole["wrong"]),
            note=f"{runs} runs of known health with {faults} faults: {by_kind}.",
        ),
        Figure("diagnosis", "recall of the faults in losses", whole["found"] / max(1, faults)),
    ]
