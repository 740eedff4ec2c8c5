"""What was tried, as rows of a table: fault, where, points, what was lost, what was said."""

from __future__ import annotations

import platform
import random
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

Point = TypeVar("Point")


@dataclass
class Attempted:
    """One kind of fault in one place, at many points.

    Attributes:
        lost: what was lost at all points together, in words; "nothing".
        said: what was said about it, in words.
        failures: a line for each point at which a promise did not hold, with the command that repeats it.
    """

    fault: str
    where: str
    points: int = 0
    lost: str = "nothing"
    said: str = ""
    failures: list[str] = field(default_factory=list)

    @property
    def survived(self) -> bool:
        return not self.failures


@dataclass
class Tally:
    """Counts over the points of one row."""

    points: int = 0
    lost_rows: int = 0
    sentences: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    def row(self, fault: str, where: str) -> Attempted:
        lost = f"{self.lost_rows} rows" if self.lost_rows else "nothing"
        said = ", ".join(f"{word} at {number}" for word, number in self.sentences.most_common())
        return Attempted(fault, where, self.points, lost, said or "nothing to say", self.failures)


@dataclass(frozen=True)
class Session:
    """How hard to attack.

    Attributes:
        folder: scratch, on a disk or in memory.
        short: a few points of each kind, for `make test`.
        effort: multiplies the points of a long attack.
        seed: of every choice that is made.
    """

    folder: str
    short: bool
    effort: float
    seed: int
    only: str = ""

    def wants(self, point: str) -> bool:
        """Whether a point is to be tried."""
        return point.startswith(self.only)

    def choose(self, points: Iterable[Point], *, short: int, long: int | None = None) -> list[Point]:
        """That many of the points, in order; all of them where `long` is None and the attack is long."""
        everything = list(points)
        most = short if self.short else len(everything) if long is None else int(long * self.effort)
        if most >= len(everything):
            return everything
        chosen = random.Random(f"{self.seed}").sample(range(len(everything)), most)
        return [everything[number] for number in sorted(chosen)]

    def times(self, *, short: int, long: int) -> Iterator[tuple[int, random.Random]]:
        """Numbers to begin from, each with its own source of chance."""
        for number in range(short if self.short else int(long * self.effort)):
            yield self.seed + number, random.Random(self.seed + number)


HEADER = ("| fault | where it is injected | points | lost | said |", "| --- | --- | ---: | --- | --- |")


def as_line(row: Attempted) -> str:
    """A row as one line of the terminal."""
    word = "survived" if row.survived else f"FAILED at {len(row.failures)}"
    return f"{word:<12} {row.points:>6} points  {row.fault} · {row.where} · lost: {row.lost} · said: {row.said}"


def as_markdown(rows: Iterable[Attempted], *, minutes: float, command: str) -> str:
    """The table for docs/reliability.md."""
    rows = list(rows)
    lines = [
        f"{sum(row.points for row in rows):,} points in {minutes:.0f} minutes, {_survived(rows)} "
        f"(`{command}`, Python {platform.python_version()}, Linux {platform.release().split('-')[0]}).",
        "",
        *HEADER,
    ]
    for row in rows:
        lost = row.lost if row.survived else f"{row.lost}; **{len(row.failures)} points failed**"
        lines.append(f"| {row.fault} | {row.where} | {row.points:,} | {lost} | {row.said} |")
    return "\n".join(lines) + "\n"


def _survived(rows: list[Attempted]) -> str:
    failed = sum(len(row.failures) for row in rows)
    return f"{failed} of them failed" if failed else "all survived"


def put_table(page: str, table: str) -> str:
    """A page with its table replaced; it stands between two marks.

    Raises:
        ValueError: the page has no such marks.
    """
    begin, end = "<!-- attack -->\n", "<!-- /attack -->"
    before, mark, rest = page.partition(begin)
    _, closing, after = rest.partition(end)
    if not mark or not closing:
        raise ValueError(f"the page has no lines {begin.strip()} and {end}, between which the table stands")
    return before + begin + table + end + after
