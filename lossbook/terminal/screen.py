"""The whole screen as lines: tabs above, one view, and below what is being typed, said, or could be pressed."""

from __future__ import annotations

from dataclasses import dataclass, field

from lossbook.formatting import clip, plural
from lossbook.terminal.model import Model
from lossbook.terminal.plots import curves_view
from lossbook.terminal.prompt import Picker
from lossbook.terminal.state import VIEWS
from lossbook.terminal.styled_text import Span, TextLine, beside, fit, visible, width_of
from lossbook.terminal.table import Table, runs_table
from lossbook.terminal.views import console_view, gpus_view, overview_view

SMALLEST = (40, 10)
_TITLES = {"runs": "Runs", "curves": "Curves", "gpus": "GPUs", "console": "Console", "overview": "Overview"}
_HINTS = {
    "runs": "Enter curves  Space mark  / search  w where  s sort  g group  b baseline  ? help  q quit",
    "curves": "n p metric  K metrics  x axis  l log  [ ] smooth  + - zoom  m panels  ? help  q quit",
    "gpus": "< > other run  1-5 views  ? help  q quit",
    "console": "/ search  n N match  f follow  o other rank  < > other run  ? help  q quit",
    "overview": "j k scroll  < > other run  1-5 views  ? help  q quit",
}

HELP = (
    ("everywhere", (
        ("1 to 5, Tab", "runs, curves, GPUs, console, overview"),
        ("j k, arrows", "move; Page, Home and End too"),
        ("< >", "the run before, the next run"),
        ("Space", "mark the run: marked runs are drawn together"),
        ("u", "unmark all"),
        ("b", "pin the run as baseline, or let it go"),
        ("g", "runs of a group together; as mean and range in curves"),
        ("/", "search: runs, metrics, console"),
        ("w", 'only runs for which this holds: config.lr > 1e-4'),
        ("r", "read everything again"),
        ("t", "ink for dark paper, light paper, none"),
        ("Escape", "close, or take back a filter, a zoom, a search"),
        ("? q", "this help; quit"),
    )),
    ("runs", (
        ("Enter", "the run's curves"),
        ("s S", "sort by another column; the other way round"),
    )),
    ("curves", (
        ("n p K", "next metric, the one before, choose one"),
        ("x X", "next axis: step, gradient step, tokens, wallclock ..."),
        ("l", "logarithmic y axis"),
        ("[ ]", "less and more smoothing; extremes stay drawn"),
        ("+ - 0", "zoom in, out, all"),
        ("left right", "pan"),
        ("m", "one, two or four metrics at once"),
    )),
    ("console", (
        ("f", "follow the end, or stand still"),
        ("n N", "next match, the one before"),
        ("left right", "the rest of long lines"),
        ("o", "the console of the next rank"),
    )),
)  # fmt: skip


@dataclass
class Screen:
    """One screen.

    Attributes:
        lines: as many as the screen has, each of its width.
        table: what stands where in the table of runs; None in other views.
        tabs: (first column, column behind the last, view) of each tab.
        watched: folders of the runs that are listed on the screen.
    """

    lines: list[TextLine]
    table: Table | None = None
    tabs: list[tuple[int, int, str]] = field(default_factory=list)
    watched: tuple[str, ...] = ()


def make_screen(model: Model, store: str) -> Screen:
    """Write out the screen.

    Args:
        store: what is looked at, for the first line.
    """
    width, height = model.width, model.height
    if width < SMALLEST[0] or height < SMALLEST[1]:
        sentence = (
            f"This terminal has {width} x {height} characters: lossbook watch needs {SMALLEST[0]} x {SMALLEST[1]}."
        )
        rows = [sentence[at : at + width] for at in range(0, len(sentence), max(1, width))]
        return Screen([fit([Span(row)], width) for row in (rows + [""] * height)[:height]])
    tabs, first = _tabs(model, store)
    room = height - 2
    table = None
    if model.help:
        body = _help(model, width)[:room]
    elif model.picker is not None:
        body = _picker(model, model.picker, width, room)
    elif model.view == "runs":
        table = runs_table(model, width, room)
        body = table.lines
    elif model.view == "curves":
        body = curves_view(model, width, room)
    elif model.view == "gpus":
        body = gpus_view(model, width, room)
    elif model.view == "console":
        body = console_view(model, width, room)
    else:
        body = overview_view(model, width, room)
    lines = [first, *(body + [[]] * room)[:room], _last(model)]
    watched = tuple(model.lines[row].path for row in table.rows if row is not None) if table is not None else ()
    return Screen([fit(line, width) for line in lines], table, tabs, watched)


def _tabs(model: Model, store: str) -> tuple[list[tuple[int, int, str]], TextLine]:
    line: TextLine = []
    places = []
    short = model.width < 70
    for number, view in enumerate(VIEWS, 1):
        at = width_of(line)
        title = _TITLES[view][:4] if short else _TITLES[view]
        line.append(Span(f" {number} {title} ", bold=view == model.view, reverse=view == model.view))
        places.append((at, width_of(line), view))
    lines = model.snapshot.lines
    if lines is None:
        said = ""
    else:
        running = sum(1 for run in lines if run.is_running)
        shown = len(model.lines)
        said = plural(len(lines), "run") if shown == len(lines) else f"{shown} of {plural(len(lines), 'run')}"
        said += f", {running} running" if running else ""
    marked = f"{len(model.slots)} marked, " if model.slots else ""
    left = model.width - width_of(line) - 2
    text = f"{marked}{said}"
    place = visible(store, unicode=model.unicode)
    if left - len(text) - 3 > len(place):
        text = f"{place}   {text}"
    text = clip(text, max(0, left), ellipsis="")
    line.append(Span(" " * max(1, model.width - width_of(line) - len(text) - 1)))
    line.append(Span(text, dim=True))
    return places, line


def _last(model: Model) -> TextLine:
    if model.prompt is not None:
        prompt = model.prompt
        title = {"words": "search: ", "where": "where: ", "find": "find: "}[prompt.purpose]
        room = max(5, model.width - len(title) - 2)
        typed = visible(prompt.text, unicode=model.unicode)
        at = min(prompt.at, len(typed))
        shift = max(0, at - room + 1)
        before, after = typed[shift:at], typed[at:]
        line = [Span(title, bold=True), Span(before), Span(after[:1] or " ", reverse=True), Span(after[1:])]
        if model.message:
            line.append(Span(f"   {visible(model.message, unicode=model.unicode)}", "red"))
        return line
    if model.message:
        return [Span(" " + visible(model.message, unicode=model.unicode), bold=True)]
    troubles = model.snapshot.troubles
    if troubles:
        return [Span(" " + visible(next(iter(troubles.values())), unicode=model.unicode), "red")]
    filters = []
    if model.view == "runs" and model.words:
        filters.append(f"search: {model.words}")
    if model.view == "runs" and model.where:
        filters.append(f"where: {model.where}")
    hint = _HINTS[model.view]
    if filters:
        said = visible("  ".join(filters), unicode=model.unicode)
        return [Span(f" {said}  ", bold=True), Span("Escape takes it back  ? help", dim=True)]
    return [Span(" " + _fitting_hint(hint, model.width - 2), dim=True)]


def _fitting_hint(hint: str, width: int) -> str:
    """As many of the keys as have room; help and quit stay."""
    words = hint.split("  ")
    while len("  ".join(words)) > width and len(words) > 2:
        words.pop(-3)
    return "  ".join(words)


def _help(model: Model, width: int) -> list[TextLine]:
    blocks: list[list[TextLine]] = []
    for title, entries in HELP:
        block: list[TextLine] = [[Span(f" {title}", bold=True)]]
        block += [[Span(f"  {keys:<11}", "cyan"), Span(f" {what}")] for keys, what in entries]
        blocks.append(block)
    whole = [line for block in blocks for line in [*block, []]]
    if len(whole) <= model.height - 2:
        return whole
    right = [line for block in blocks[1:] for line in block]
    if width >= 120:
        return beside(blocks[0], right, width // 2)
    # Too small for all at once: the view's own keys first, then what holds everywhere.
    own = [block for (title, _), block in zip(HELP, blocks, strict=True) if title == model.view]
    return [line for block in [*own, blocks[0]] for line in block]


def _picker(model: Model, picker: Picker, width: int, height: int) -> list[TextLine]:
    fitting = picker.fitting
    typed = visible(picker.typed, unicode=model.unicode)
    lines: list[TextLine] = [
        [
            Span(f" {picker.title}: ", bold=True),
            Span(typed),
            Span(" ", reverse=True),
            Span(f"   {len(fitting)} of {len(picker.names)}; type a part, Enter takes, Escape closes", dim=True),
        ],
    ]
    room = height - 1
    row = min(picker.row, max(0, len(fitting) - 1))
    first = max(0, min(row - room // 2, len(fitting) - room))
    for place in range(first, min(len(fitting), first + room)):
        shown = visible(fitting[place], unicode=model.unicode)
        current = "*" if fitting[place] == picker.current else " "
        lines.append(fit([Span(f" {current} {shown}", reverse=place == row)], width))
    if not fitting:
        lines.append([Span("   nothing has that in its name", dim=True)])
    return lines
