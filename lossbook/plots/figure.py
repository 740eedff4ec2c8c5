"""Curves as pictures: PNG, SVG or PDF of metrics of one or more runs, spikes, gaps and marks included.

Drawn with matplotlib's objects alone: no pyplot, no window, nothing global, so it works beside a trainer and in
threads. A drawing costs what its points cost, however long the runs are.
"""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lossbook.errors import BadArgument, MissingLibrary, UnknownKey
from lossbook.metrics import find_key, quantity_of, unit_of, usual_keys
from lossbook.paths import replace_file
from lossbook.plots.marks import draw_marks
from lossbook.plots.style import (
    FEW_POINTS,
    Axis,
    Drawn,
    LineStyle,
    Picture,
    draw_legends,
    draw_line,
    finish_axes,
    one_line,
    prepare,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from lossbook.curves import Smoothing
    from lossbook.reading import RecordedRun

ENDINGS = ("png", "svg", "pdf")
#: Okabe and Ito's colours (2008), which people who see fewer colours tell apart too.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7B3F9E", "#555555")
_STYLES: tuple[LineStyle, ...] = ("solid", (0, (5, 2)), (0, (1, 1.5)), (0, (5, 1.5, 1, 1.5)))
_AXIS_LABELS = {"step": "step", "gradient_step": "gradient step", "tokens": "tokens", "flops": "FLOPs"}
_MOST_PANELS = 8
_DOTS_PER_INCH = 150


def plot(
    runs: RecordedRun | Sequence[RecordedRun],
    keys: str | Sequence[str] | None = None,
    *,
    path: str | os.PathLike[str] | None = None,
    x: str = "step",
    smoothing: str | float | Smoothing | None = None,
    band: str | None = None,
    log_x: bool = False,
    log_y: bool = False,
    marks: bool = True,
    raw: bool = True,
    title: str | None = None,
    width: float = 8.0,
    height: float = 5.0,
    start: float | None = None,
    end: float | None = None,
) -> Figure:
    """Draw metrics of one or more runs over one another.

    Behind each line of means stands, light, the range from the lowest to the highest row, so that a spike of one row
    is seen in a run of any length. Rows that are no numbers are crosses at the bottom. Metrics of one kind (training
    and validation loss) share a panel; those of another kind have their own below it.

    Args:
        runs: one run or several; those without a metric are left out of it.
        keys: metrics, aliases will do; None for training and validation loss by whatever names the runs have.
        path: a file to write, .png, .svg or .pdf; it is replaced in one step.
        x: as for `RecordedRun.curve`: "step", "gradient_step", "tokens", "flops", "wallclock", "elapsed", "time" or a
            metric. Clocks are labelled in seconds, minutes or hours, whichever suits their length.
        smoothing: "ema:0.99" (or 0.99), "mean:50", "median:50", "gaussian:20"; over all rows, before decimation. Lines
            of 40 rows or fewer, as a validation loss often is, stay as they were logged.
        band: "group", or a name such as "config.lr" (as in `where`): runs that agree in it are drawn as one line, the
            mean over runs, with their range behind it.
        log_x, log_y: logarithmic axes; what is not above zero is left out.
        marks: draw checkpoints (the best ones filled), changes of stage and alerts; a band has none.
        raw: with smoothing, draw what was logged behind the smoothed line.
        title: None for the name of a single run; an empty text for none.
        width, height: inches, at 150 dots an inch.
        start, end: only rows between these, in units of `curve`'s x (seconds for clocks).

    Returns:
        The matplotlib figure, for changes of one's own.

    Raises:
        UnknownKey: none of the runs logged one of the keys, or anything at all.
        BadArgument: the file's ending, a size, the smoothing or the range cannot be meant.
        MissingLibrary: matplotlib is not installed.
    """
    figure_type = _figure_type()
    several: list[RecordedRun] = list(runs) if isinstance(runs, Sequence) else [runs]
    if not several:
        raise BadArgument("there is no run to draw: give one or more")
    ending = _check_path(path) if path is not None else ""
    if not (0.5 <= width <= 100 and 0.5 <= height <= 100):
        raise BadArgument(f"width={width!r}, height={height!r}: a picture is 0.5 to 100 inches wide and high")
    wanted = loss_keys(several) if keys is None else list(dict.fromkeys([keys] if isinstance(keys, str) else keys))
    if not wanted:
        raise BadArgument("there is no metric to draw: give one or more, or None for the losses")
    reading = {"x": x, "points": max(50, round(width * 100)), "start": start, "end": end}
    if band is None:
        drawn = _lines(several, wanted, smoothing, raw, reading)
    else:
        drawn = _bands(several, wanted, smoothing, band, reading)
    figure = figure_type(figsize=(width, height), layout="constrained")
    figure.set_facecolor("white")
    groups = _panels(drawn)
    panels = figure.subplots(len(groups), 1, sharex=True, squeeze=False)[:, 0]
    picture = Picture(_axis(x, drawn, log_x), list(zip(panels, groups.values(), strict=True)), log_y)
    for panel, lines in picture.panels:
        prepare(panel, lines, picture)
        for one in lines:
            draw_line(panel, one, picture)
    if marks and band is None:
        draw_marks(picture, start, end)
    finish_axes(picture)
    draw_legends(figure, picture)
    shown = title if title is not None else several[0].name if len(several) == 1 else ""
    if shown:
        picture.panels[0][0].set_title(one_line(shown), fontsize=11).set_parse_math(False)
    if path is not None:
        _save(figure, os.fspath(path), ending)
    return figure


# -- what is drawn ------------------------------------------------------------------------------------------------


def _figure_type() -> type[Figure]:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingLibrary("drawing a picture needs matplotlib: pip install 'lossbook[plot]'") from None
    found: type[Figure] = Figure
    return found


def _check_path(path: str | os.PathLike[str]) -> str:
    name = os.fspath(path)
    ending = os.path.splitext(name)[1].lower().removeprefix(".")
    if ending not in ENDINGS:
        raise BadArgument(f"{name}: a picture is written as .png, .svg or .pdf; give the file one of these endings")
    if os.path.exists(name) and not os.path.isfile(name):
        # It is renamed into place, which would do away with a device.
        raise BadArgument(f"{name} is no ordinary file: give another name")
    folder = os.path.dirname(os.path.abspath(name))
    if not os.path.isdir(folder):
        raise BadArgument(f"{name} cannot be written: there is no folder {folder}; make it first")
    return ending


def loss_keys(runs: Sequence[RecordedRun]) -> list[str]:
    """What is drawn of runs when no metric is named: training and validation loss, by the names they have for them.

    Raises:
        UnknownKey: none of them has logged anything yet.
    """
    found: list[str] = []
    for run in runs:
        found += [key for key in usual_keys(run.metrics, fallback=False) if find_key(key, found) is None]
    if not found:
        found = next((usual_keys(run.metrics) for run in runs if run.metrics), [])
    if not found:
        named = f"the run {runs[0].name} has" if len(runs) == 1 else f"none of the {len(runs)} runs has"
        raise UnknownKey(f"{named} logged a metric yet")
    return found


def _lines(
    runs: Sequence[RecordedRun],
    keys: Sequence[str],
    smoothing: str | float | Smoothing | None,
    raw: bool,
    reading: dict[str, Any],
) -> list[Drawn]:
    from lossbook.curves import parse_smoothing

    filtering = parse_smoothing(smoothing)
    same_name = len({run.name for run in runs}) < len(runs)
    drawn: list[Drawn] = []
    for key_number, key in enumerate(keys):
        missing: UnknownKey | None = None
        before = len(drawn)
        for number, run in enumerate(runs):
            try:
                curve = run.curve(key, **reading) if raw or filtering is None else None
                smoothed = run.curve(key, smoothing=filtering, **reading) if filtering is not None else None
                if smoothed is not None and smoothed.count.sum() <= FEW_POINTS:
                    curve, smoothed = run.curve(key, **reading), None
            except UnknownKey as error:
                missing = error
                continue
            name = f"{run.name} {run.id}" if same_name else run.name or run.id
            label = key if len(runs) == 1 else name if len(keys) == 1 else f"{name} · {key}"
            color, style = (key_number, 0) if len(runs) == 1 else (number, key_number + number // len(COLORS))
            drawn.append(
                Drawn(key, label, COLORS[color % len(COLORS)], _STYLES[style % len(_STYLES)], run, curve, smoothed)
            )
        if missing is not None and len(drawn) == before:
            raise missing
    return drawn


def _bands(
    runs: Sequence[RecordedRun],
    keys: Sequence[str],
    smoothing: str | float | Smoothing | None,
    by: str,
    reading: dict[str, Any],
) -> list[Drawn]:
    from lossbook.analysis import seed_band
    from lossbook.reading import compile_value

    value_of = compile_value(by)
    values = {run.path: value_of(run.record) for run in runs}
    if all(value is None for value in values.values()):
        raise BadArgument(f"none of the runs has a {by!r} to draw bands by: give `group`, or a name as in `where`")
    groups: dict[str, list[RecordedRun]] = {}
    for run in sorted(runs, key=lambda run: _place_in_legend(values[run.path])):
        value = values[run.path]
        name = f"no {by}" if value is None else str(value) if by == "group" else f"{by} = {value}"
        groups.setdefault(name, []).append(run)
    drawn: list[Drawn] = []
    for key_number, key in enumerate(keys):
        missing: UnknownKey | None = None
        before = len(drawn)
        for number, (name, members) in enumerate(groups.items()):
            try:
                one = seed_band(members, key, smoothing=smoothing, confidence=None, **reading)
            except UnknownKey as error:
                missing = error
                continue
            size = f"{len(members)} run" if len(members) == 1 else f"{len(members)} runs"
            label = f"{name} ({size})" if len(keys) == 1 else f"{name} · {key} ({size})"
            color, style = (key_number, 0) if len(groups) == 1 else (number, key_number + number // len(COLORS))
            drawn.append(Drawn(key, label, COLORS[color % len(COLORS)], _STYLES[style % len(_STYLES)], band=one))
        if missing is not None and len(drawn) == before:
            raise missing
    return drawn


def _place_in_legend(value: object) -> tuple[int, float, str]:
    """Numbers by size, then texts, then runs that have no value."""
    if isinstance(value, (int, float)):
        return 0, float(value), ""
    return (2, 0.0, "") if value is None else (1, 0.0, str(value))


def _panels(drawn: Sequence[Drawn]) -> dict[str, list[Drawn]]:
    groups: dict[str, list[Drawn]] = {}
    for one in drawn:
        groups.setdefault(quantity_of(one.key), []).append(one)
    if len(groups) > _MOST_PANELS:
        raise BadArgument(
            f"these metrics are of {len(groups)} kinds ({', '.join(groups)}): a picture has {_MOST_PANELS} panels at "
            "the most, draw several"
        )
    return groups


def _axis(x: str, drawn: Sequence[Drawn], log_x: bool) -> Axis:
    if x == "time":
        from datetime import datetime

        return Axis(x, f"time ({datetime.now().astimezone().tzname()})", is_date=True)
    if x in ("wallclock", "elapsed"):
        longest = max((float(one.line[0][-1]) for one in drawn if len(one.line[0])), default=0.0)
        for name, seconds in (("hours", 3600.0), ("minutes", 60.0), ("seconds", 1.0)):
            if longest >= 2 * seconds or seconds == 1:
                return Axis(x, f"{x} ({name})", seconds, is_logarithmic=log_x)
    if x in _AXIS_LABELS:
        return Axis(x, _AXIS_LABELS[x], is_logarithmic=log_x)
    unit = unit_of(x)
    return Axis(x, f"{x} ({unit})" if unit and unit != x else x, is_logarithmic=log_x)


def _save(figure: Figure, path: str, ending: str) -> None:
    # Without a date, the same runs give the same file.
    dateless = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(ending)
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # A name in a script that the font lacks is drawn as boxes: no reason to disturb whoever trains.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure.savefig(buffer, format=ending, dpi=_DOTS_PER_INCH, metadata=dateless)
    replace_file(path, buffer.getvalue(), durable=False)
