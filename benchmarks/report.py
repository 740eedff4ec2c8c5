"""Figures, and the table that they make."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from benchmarks.trackers import PEERS


@dataclass(frozen=True)
class Target:
    """What a figure must reach: `at_most`, `at_least` or both."""

    at_most: float | None = None
    at_least: float | None = None

    def is_reached(self, value: float) -> bool:
        return (self.at_most is None or value <= self.at_most) and (self.at_least is None or value >= self.at_least)

    def words(self) -> str:
        if self.at_most == self.at_least:
            return number(self.at_most)
        if self.at_most is not None:
            return f"≤ {number(self.at_most)}"
        return f"≥ {number(self.at_least)}"


@dataclass(frozen=True)
class Figure:
    """One line of the table.

    Attributes:
        family: the name under which it is asked for.
        title: what was measured, with its unit.
        ours: None when it could not be measured; `note` says why.
        peers: peer to its figure; absent: not measured.
        note: what else a reader must know; printed below the table.
    """

    family: str
    title: str
    ours: float | None
    peers: dict[str, float] = field(default_factory=dict)
    target: Target | None = None
    note: str = ""

    @property
    def verdict(self) -> str:
        if self.target is None:
            return ""
        if self.ours is None:
            return "not measured"
        return "reached" if self.target.is_reached(self.ours) else "not reached"

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "verdict": self.verdict}


def number(value: float | None) -> str:
    """Three significant digits, thousands marked."""
    if value is None:
        return "–"
    if value == int(value) and abs(value) < 1000:
        return str(int(value))
    if abs(value) >= 1e6:
        return f"{value / 1e6:.3g}M"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    text = f"{value:.3g}"
    return f"{value:.5f}" if "e" in text else text


def table(figures: Iterable[Figure]) -> list[list[str]]:
    """Header and rows of `figure | ours | peers | target | reached`."""
    figures = list(figures)
    peers = [peer for peer in PEERS if any(peer in figure.peers for figure in figures)]
    rows = [["figure", "lossbook", *peers, "target", "reached"]]
    for figure in figures:
        target = figure.target.words() if figure.target else ""
        others = [number(figure.peers.get(peer)) for peer in peers]
        rows.append([figure.title, number(figure.ours), *others, target, figure.verdict])
    return rows


def as_text(figures: Iterable[Figure]) -> str:
    rows = table(figures)
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for place, row in enumerate(rows):
        cells = [
            cell.ljust(width) if column in (0, len(row) - 1) else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
        if place == 0:
            lines.append("  ".join("-" * width for width in widths))
    return "\n".join(lines)


def as_markdown(figures: list[Figure], machine: dict[str, str], command: str, skipped: list[str]) -> str:
    """The page that `--markdown` writes: table, notes, machine, versions, date, command."""
    header, *rows = table(figures)
    lines = [
        "# Benchmarks",
        "",
        "Lossbook and its peers on the same work, on one machine, in one run: written by the command below, not by",
        "hand. Each measurement is a fresh process without network, in a temporary folder; peers run at their default",
        "settings (wandb offline). Absolute figures belong to this machine and its load: measure on yours.",
        "",
        "```",
        command,
        "```",
        "",
        "| " + " | ".join(header) + " |",
        "| --- |" + " ---: |" * (len(header) - 2) + " --- |",
        *("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows),
        "",
        f"{sum(figure.verdict == 'reached' for figure in figures)} of "
        f"{sum(bool(figure.verdict) for figure in figures)} targets reached. `–`: not measured.",
        "",
        *(f"{sentence}  " for sentence in skipped),
        "",
        "## How each figure was measured",
        "",
        *(f"- **{figure.title}**: {figure.note}" for figure in figures if figure.note),
        "",
        "## Machine",
        "",
        "| | |",
        "| --- | --- |",
        *(f"| {name} | {value} |" for name, value in machine.items()),
        f"| measured | {time.strftime('%Y-%m-%d %H:%M UTC', time.gmtime())} |",
        "",
    ]
    return "\n".join(lines)
