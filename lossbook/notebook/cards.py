"""Runs, tables of runs, stores, rows and curves as a notebook shows them."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from lossbook.book import Book
from lossbook.errors import LossbookError
from lossbook.formatting import age, clock, duration, flatten, number, plural
from lossbook.metrics import importance_of, key_metrics, role_of, usual_keys
from lossbook.notebook.chart import POINTS, chart, measured
from lossbook.notebook.markup import Cell, Html, escaped, facts, link, page, state, table
from lossbook.notebook.pages import page_of

if TYPE_CHECKING:
    from lossbook.curves import Curve
    from lossbook.reading import QueryResult, RecordedRun
    from lossbook.run import Run

#: A table shows so many rows; below it stands how many there are.
MOST_ROWS = 10
#: As many runs: each is one to choose from.
MOST_RUNS = 20
MOST_COLUMNS = 12
#: Of a run's card.
#: DuckDB's names of numbers.
_NUMBER_TYPES = ("DOUBLE", "FLOAT", "DECIMAL", "HUGEINT", "BIGINT", "INTEGER", "SMALLINT", "TINYINT", "U")
_MOST_CHARTS, _MOST_METRICS, _MOST_SETTINGS = 2, 8, 12


def curve_html(curve: Curve) -> str:
    """One curve as a picture."""
    rows = int(curve.count.sum())
    note = plural(rows, "row") if rows == len(curve) else f"{rows:,} rows in {len(curve):,} points"
    return page([chart([curve]), f'<div class="lb-note">{escaped(note)}</div>'])


def run_html(run: RecordedRun) -> str:
    """One run: who it is, how it stands, its losses, its last values and its configuration."""
    return page([_card(run)])


def live_run_html(run: Run) -> str:
    """A run of this process, as its files tell it now."""
    if not run.path:
        return page([f'<div class="lb-card">{escaped(run.name)}: nothing of this run is recorded</div>'])
    try:
        return run_html(recorded(run))
    except LossbookError as error:
        return page([f'<div class="lb-card">{escaped(run.name)}: {escaped(error)}</div>'])


def recorded(run: Run) -> RecordedRun:
    """A run of this process as a reader sees it.

    Raises:
        LossbookError: its store cannot be read, or it is not there any more.
    """
    project = os.path.dirname(run.path)
    book = Book(os.path.dirname(project), memory_bytes=64 << 20)
    return book.kept_run(os.path.basename(project), os.path.basename(run.path))


def runs_html(runs: Sequence[RecordedRun]) -> str:
    """A table of runs: how they stand, the settings in which they differ, and what is measured of them."""
    if not runs:
        return page(['<div class="lb-note">no runs</div>'])
    return page([_table_of(runs)])


def book_html(book: Book) -> str:
    """A store: its projects, and its latest runs."""
    runs = book.runs()
    states = Counter(run.state for run in runs)
    counts = " · ".join(f"{count:,} {name}" for name, count in states.most_common())
    projects = Counter(run.project for run in runs)
    named = ", ".join(f"{name} ({count:,})" for name, count in projects.most_common(8))
    more = f" and {len(projects) - 8} more" if len(projects) > 8 else ""
    head = (
        f'<div class="lb-head"><span class="lb-title">{link(book.store, page_of(book.store))}</span>'
        f'<span class="lb-soft">{escaped(counts or "no runs")}</span></div>'
        f'<div class="lb-soft">{escaped(f"{named}{more}")}</div>'
    )
    return page([f'<div class="lb-card">{head}</div>', _table_of(runs, most=8) if runs else ""])


def table_html(result: QueryResult) -> str:
    """The first rows of a query, and how many there are."""
    columns, rows, count = result.columns, result.first(MOST_ROWS), len(result)
    numbers = [kind.startswith(_NUMBER_TYPES) for kind in result.types]
    shown = [Cell(name, right) for name, right in zip(columns, numbers, strict=True)][:MOST_COLUMNS]
    lines = [[Cell(_value(value), head.is_number) for value, head in zip(row, shown, strict=False)] for row in rows]
    note = f"{plural(count, 'row')}, {plural(len(columns), 'column')}"
    if count > len(lines):
        note = f"the first {len(lines)} of {note}"
    if len(columns) > MOST_COLUMNS:
        note += f"; the columns from {columns[MOST_COLUMNS]} on are not shown"
    return page([table(shown, lines, note)])


def _card(run: RecordedRun) -> Html:
    begun = f"begun {clock(run.created)} · {duration(run.duration)}"
    last = run.record.last_step
    head = (
        f'<div class="lb-head"><span class="lb-title">{link(run.name, page_of(run.store, run))}</span>'
        f"{state(run.state)}"
        f'<span class="lb-soft">{escaped(f"{run.project} / {run.id}")}</span></div>'
        f'<div class="lb-soft">{escaped(begun)}{f" · step {last:,}" if last is not None else ""}'
        f"{escaped(''.join(f' · {tag}' for tag in run.tags[:6]))}</div>"
    )
    error = f'<div class="lb-bad-text">{escaped(run.error.splitlines()[-1])}</div>' if run.error else ""
    metrics = run.metrics
    keys = sorted((key for key in metrics if role_of(key) != "machine"), key=lambda key: (importance_of(key), key))
    values = [(key, measured(metrics[key].get("last"))) for key in keys[:_MOST_METRICS]]
    settings = list(flatten(run.config))
    config = [(name, _value(value)) for name, value in settings[:_MOST_SETTINGS]]
    left = [
        f"{plural(len(names) - most, what)} more"
        for names, most, what in ((keys, _MOST_METRICS, "metric"), (settings, _MOST_SETTINGS, "setting"))
        if len(names) > most
    ]
    note = f'<div class="lb-note">{escaped(" and ".join(left))}</div>' if left else ""
    charts = f'<div class="lb-charts">{_charts(run, keys)}</div>' if keys else ""
    return Html(
        f'<div class="lb-card">{head}{error}{charts}{facts("Last values", values)}{facts("Configuration", config)}{note}</div>'
    )


def _charts(run: RecordedRun, keys: Sequence[str]) -> str:
    """The losses in one picture, and beside it the first metric that is none."""
    losses = usual_keys(keys)
    others = [key for key in key_metrics(keys).values() if key not in losses]
    pictures = []
    for group in (losses, others[:1])[:_MOST_CHARTS]:
        curves = []
        for key in group:
            try:
                curves.append(run.curve(key, points=POINTS))
            except LossbookError:  # it went away, or its file is damaged: the others are shown
                continue
        if curves:
            pictures.append(f"<div>{chart(curves, width=400, height=170)}</div>")
    return "".join(pictures)


def _table_of(runs: Sequence[RecordedRun], most: int = MOST_RUNS) -> Html:
    shown = runs[:most]
    settings = [dict(flatten(run.config)) for run in shown]
    differing = [name for name in _names(settings) if len({repr(one.get(name)) for one in settings}) > 1][:4]
    keys = list(key_metrics({key for run in shown for key in run.statistics}).values())[:4]
    projects = len({run.project for run in shown}) > 1
    configured = [Cell(name, _are_numbers(one.get(name) for one in settings)) for name in differing]
    head = [Cell("run"), *([Cell("project")] if projects else []), Cell("state"), Cell("begun"), Cell("took", True)]
    head += [*configured, *(Cell(key, True) for key in keys)]
    rows = []
    for run, config in zip(shown, settings, strict=True):
        row = [Cell(link(run.name, page_of(run.store, run)))]
        row += [Cell(run.project)] if projects else []
        row += [Cell(state(run.state)), Cell(age(run.created)), Cell(duration(run.duration), True)]
        row += [Cell(_value(config.get(str(one.content))), one.is_number) for one in configured]
        found = run.metrics
        row += [Cell(measured(found[key].get("last")) if key in found else "-", True) for key in keys]
        rows.append(row)
    note = plural(len(runs), "run") if len(runs) <= most else f"the first {most} of {len(runs):,} runs"
    return table(head, rows, note)


def _names(settings: Iterable[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(name for one in settings for name in one))


def _are_numbers(values: Iterable[object]) -> bool:
    known = [value for value in values if value is not None]
    return bool(known) and all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in known)


def _value(value: object) -> str:
    if isinstance(value, (list, dict)):
        return str(value)
    return number(value)
