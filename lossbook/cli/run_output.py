"""What several commands print about a run: the lines above an answer, its JSON, and the table of its metrics."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lossbook.cli.format import Column, Screen, clip, number, printable, table, to_json
from lossbook.errors import LossbookError
from lossbook.paths import read_json
from lossbook.registry import MIRRORS

if TYPE_CHECKING:
    from lossbook.reading import RecordedRun

RULE = "-" * 80
#: A key may be 10 kB long; a table is for reading, and `--json` has it whole.
_LONGEST_KEY = 100


def heading(run: RecordedRun) -> list[str]:
    """The lines above an answer: name and id, state, where the run can be looked at, and a rule."""
    return [
        f"Run: {printable(run.name or run.id)} ({run.id})",
        f"State: {run.state}",
        f"URL: {printable(run_url(run))}",
        RULE,
    ]


def plain_heading(run: RecordedRun) -> dict[str, object]:
    """The same as JSON holds it."""
    return {
        "id": run.id,
        "name": run.name,
        "project": run.project,
        "state": run.state,
        "url": run_url(run),
        "path": str(run.path),
    }


def run_url(run: RecordedRun) -> str:
    """Where a run can be looked at: its page at the tracker that it is of or was mirrored to, else its own folder."""
    source = run.known_info.source
    if source is not None and source.url:
        return source.url
    for name in MIRRORS.names():
        try:
            mirrored = (read_json(os.path.join(run.folder.followers, f"{name}.json")) or {}).get("url")
        except LossbookError:
            continue
        # TensorBoard's and MLflow's own folders are addresses too, but say less than this run's.
        if mirrored and str(mirrored).startswith(("http://", "https://")):
            return str(mirrored)
    if source is None:
        return Path(os.path.abspath(run.path)).as_uri()
    more = source.more
    place = more.get("folder") or more.get("database") or more.get("file") or source.location or run.path
    return str(place) if "://" in str(place) else Path(os.path.abspath(str(place))).as_uri()


def print_json(run: RecordedRun, answer: Mapping[str, object]) -> None:
    """An answer as JSON, behind what the run is."""
    click.echo(to_json({**plain_heading(run), **answer}))


def plain_run(run: RecordedRun, *, metrics: bool = False) -> dict[str, object]:
    """One run as JSON holds it; `metrics` gives every statistic rather than the last values."""
    return {
        "id": run.id,
        "name": run.name,
        "project": run.project,
        "state": run.state,
        "error": run.error,
        "created": run.created or None,
        "ended": run.ended,
        "duration_seconds": run.duration,
        "last_step": run.record.last_step,
        "tags": list(run.tags),
        "group": run.group,
        "notes": run.notes,
        "path": run.path,
        "config": run.config,
        "summary": run.summary,
        "metrics": run.metrics if metrics else {key: one.last for key, one in run.record.metrics.items()},
    }


def metrics_table(metrics: Mapping[str, Mapping[str, object]], view: Screen) -> list[str]:
    """Statistics of each key: last, extremes and their steps, mean, count."""
    at = "@" if view.width else " at step "
    columns = [
        Column("metric", shrink=True, keep=9),
        Column("last", right=True, keep=8),
        Column("min", right=True, keep=7),
        Column("max", right=True, keep=6),
        Column("mean", right=True, keep=4),
        Column("rows", right=True, keep=5),
    ]
    odd = any(one.get("nonfinite") for one in metrics.values())
    if odd:
        columns.append(Column("not finite", right=True, keep=7, paint=lambda text: None if text == "0" else "red"))
    rows = []
    for key, one in metrics.items():
        row = [clip(printable(key), _LONGEST_KEY, ellipsis="…" if view.unicode else "~"), number(one["last"])]
        for end in ("min", "max"):
            step = one.get(f"{end}_step")
            row.append(number(one[end]) + (f" {at}{step}" if step is not None and one[end] is not None else ""))
        row += [number(one["mean"]), number(one["count"])]
        rows.append([*row, number(one.get("nonfinite") or 0)] if odd else row)
    return table(columns, rows, view)
