"""Rows as a replay gives them, made up for tests of what looks at them."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from lossbook.diagnosis import Diagnosis, Finding, Thresholds
from lossbook.storage.scan import LoggedRow

BEGIN = 1_763_688_000_000_000  # µs
MONITOR = -1000


def row(
    step: int, metrics: dict[str, float], *, seconds: float | None = None, rank: int = 0, attempt: int = 0
) -> LoggedRow:
    """A row of scalars, logged so many seconds after the beginning (a second a step unless told)."""
    at = BEGIN + int(1e6 * (step if seconds is None else seconds))
    return LoggedRow(rank, step, at, step, None, None, metrics, attempt)


def event(
    kind: str, body: dict[str, Any], *, seconds: float = 0.0, rank: int = 0, attempt: int = 0, step: int | None = None
) -> LoggedRow:
    """A row of another kind."""
    return LoggedRow(rank, 0, BEGIN + int(1e6 * seconds), step, kind, None, body, attempt)


def attempt(number: int, resume_step: int | None = None, *, seconds: float = 0.0) -> LoggedRow:
    """The row with which an attempt begins."""
    return event("attempt", {"number": number, "resume_step": resume_step}, seconds=seconds, attempt=number)


def findings(rows: Iterable[LoggedRow], limits: Thresholds | None = None) -> list[Finding]:
    """What is found in rows, errors first."""
    diagnosis = Diagnosis(limits)
    diagnosis.feed(rows)
    diagnosis.close()
    return diagnosis.findings()


def kinds(found: Iterable[Finding]) -> list[str]:
    return sorted(one.kind for one in found)


def learning(steps: int, *, seed: int = 0, noise: float = 0.15, start: int = 0) -> Iterator[tuple[int, float]]:
    """Steps and losses of a run that learns: a power law with the noise of small batches."""
    chance = random.Random(seed)
    for step in range(start, start + steps):
        yield step, 1.5 + 4.0 * (1 + step / 20) ** -0.5 + chance.gauss(0, noise)


def curves() -> dict[str, dict[str, Any]]:
    """Losses of real runs of gpt2/train.py by name (every 25th learning rate), with what was done to them."""
    lines = (Path(__file__).parents[2] / "benchmarks" / "diagnosed_runs.jsonl").read_text().splitlines()
    return {one["name"]: one for one in map(json.loads, lines)}


def real_rows(curve: dict[str, Any], *, mean_of: int = 1) -> Iterator[LoggedRow]:
    """The rows of a real run, or means of so many of its losses, as trainers log that average."""
    losses = [float(one) for one in curve["losses"]]
    for end in range(mean_of, len(losses) + 1, mean_of):
        part = losses[end - mean_of : end]
        yield row(
            end,
            {"train_loss": math.fsum(part) / mean_of, "learning_rate": curve["rates"][(end - 1) // 25]},
            seconds=0.1 * end,
        )
