"""The curves of the marked runs over one another, in one panel or several, with a legend that has the figures."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from lossbook.formatting import clip, number, pad, short_number
from lossbook.terminal.drawing import Line, Look, draw, has_dots, sign_of, to_line
from lossbook.terminal.model import Model
from lossbook.terminal.snapshot import Panel, PanelCurve
from lossbook.terminal.state import SMOOTHINGS
from lossbook.terminal.styled_text import Span, TextLine, beside, fit, plain_text, visible, width_of
from lossbook.terminal.table import significant
from lossbook.terminal.themes import THEMES

if TYPE_CHECKING:
    from lossbook.analysis import Band
    from lossbook.curves import Curve

#: Panels stand next to each other from so many columns on.
_WIDE = 90


def curves_view(model: Model, width: int, height: int) -> list[TextLine]:
    """The panels and their legend."""
    if model.focused is None and not model.slots:
        return [[], [Span("   No run to draw yet.", dim=True)]]
    panels = model.snapshot.panels
    names = {line.path: line.name for line in model.snapshot.lines or ()}
    shown_keys = model.shown_keys
    if not panels:
        return [_title(model, shown_keys[0] if shown_keys else ""), [Span("   reading ...", dim=True)]]
    # What was chosen a moment ago is still being read: until then the picture before stands, under its own name.
    fresh = tuple(panel for panel in panels if panel.x == model.x and (not shown_keys or panel.key in shown_keys))
    if fresh:
        panels = fresh
        _measure(model, panels)
    slots = model.drawn
    if len(panels) == 1 or model.panels == 1:
        panel = panels[0]
        legend = _legend(model, panel, names, slots, width, max(2, min(len(panel.curves), height // 4)))
        return [
            _title(model, panel.key, waiting=not fresh),
            *_panel(model, panel, names, slots, width, height - 1 - len(legend)),
            *legend,
        ]
    legend = _names(model, panels[0], names, slots, width)
    columns = 2 if width >= _WIDE else 1
    rows = math.ceil(len(panels) / columns)
    each_width = (width - 2 * (columns - 1)) // columns
    each_height = max(7, (height - 1 - len(legend)) // rows)
    lines: list[TextLine] = [_title(model, "", waiting=not fresh)]
    for row in range(rows):
        blocks = []
        for panel in panels[row * columns : (row + 1) * columns]:
            head: TextLine = [Span(" " + _key(model, panel.key, each_width - 2), bold=True)]
            blocks.append([head, *_panel(model, panel, names, slots, each_width, each_height - 1)])
        lines += beside(blocks[0], blocks[1], each_width) if len(blocks) > 1 else blocks[0]
    return [*lines[: height - len(legend)], *legend]


def _key(model: Model, key: str, room: int) -> str:
    return clip(visible(key, unicode=model.unicode), max(8, room), ellipsis="…" if model.unicode else "~")


def _title(model: Model, key: str, *, waiting: bool = False) -> TextLine:
    dot = " · " if model.unicode else " | "
    words = ["reading ..."] if waiting else [f"against {visible(model.x, unicode=model.unicode)}"]
    if model.log:
        words.append("log y")
    smoothing = SMOOTHINGS[model.smoothing]
    if smoothing:
        words.append(smoothing)
    if model.grouped:
        words.append("groups as mean and range")
    if model.zoom is not None:
        words.append(f"zoom {_place(model, model.zoom[0])} to {_place(model, model.zoom[1])}")
    if not model.slots and model.focused is not None:
        words.append(visible(model.focused.name, unicode=model.unicode))
    title: TextLine = [Span(" " + _key(model, key, model.width // 2), bold=True)] if key else []
    return [*title, Span((dot if title else " ") + dot.join(words), dim=True)]


def _place(model: Model, x: float) -> str:
    if model.x == "time":
        import time

        return time.strftime("%H:%M:%S", time.localtime(x))
    return short_number(float(f"{x:.6g}")) if abs(x) < 1e4 else short_number(round(x))


def _measure(model: Model, panels: Sequence[Panel]) -> None:
    """Keep the whole extent of x, for a zoom to begin with; while zoomed only the end moves on."""
    if model.zoom is not None and model.span is not None:
        return
    ends = [
        float(end)
        for panel in panels
        if panel.start is None
        for drawn in panel.curves
        if drawn.curve is not None and len(drawn.curve)
        for end in (drawn.curve.x[0], getattr(drawn.curve, "x_end", drawn.curve.x)[-1])
        if math.isfinite(end)
    ]
    model.span = (min(ends), max(ends)) if ends else None
    model.room = _with_room(model.span, model.room) if model.span is not None and _is_growing(model) else None


def _is_growing(model: Model) -> bool:
    drawn = model.drawn
    return any(run.is_running and run.path in drawn for run in model.snapshot.lines or ())


def _with_room(span: tuple[float, float], held: tuple[float, float] | None) -> tuple[float, float]:
    """The ends of an axis on which a curve can grow: as long as they stand, little but the new points is sent."""
    left, right = span
    if held is not None and held[0] == left and right <= held[1] <= left + 1.3 * (right - left):
        return held
    return left, right + 0.12 * (right - left)


def _panel(
    model: Model, panel: Panel, names: dict[str, str], slots: dict[str, int], width: int, height: int
) -> list[TextLine]:
    lines: list[Line] = []
    for drawn in panel.curves:
        lines += _lines(model, drawn, _label(drawn, names), slots, width)
    theme = THEMES[model.theme]
    look = Look(theme.color, model.unicode, theme.curves)
    if not lines:
        said = _missing(model, panel)
        return [[], [Span(f"   {said}", dim=True)], *([[]] * max(0, height - 2))]
    picture, left_out = draw(
        lines,
        look,
        width=width - 1,
        height=max(6, height - bool(model.log)),
        x=panel.x,
        log=model.log,
        across=(model.zoom or model.room) if panel.x == model.x else None,
    )
    if model.log and left_out:
        picture.append([Span(f"   {left_out} buckets reach zero or below, where a logarithmic axis ends", dim=True)])
    return picture + [[]] * max(0, height - len(picture))


def _missing(model: Model, panel: Panel) -> str:
    if not model.snapshot.keys:
        return "Nothing has been logged yet."
    key = visible(panel.key, unicode=model.unicode)
    x = visible(model.x, unicode=model.unicode)
    if panel.x != "step":
        return f"None of these runs has {key} against {x}: x takes another axis, n another metric, K lists them."
    return f"None of these runs has logged {key}: n takes another metric, K lists them."


def _label(drawn: PanelCurve, names: dict[str, str]) -> str:
    if drawn.group is not None and len(drawn.paths) > 1:
        return f"{drawn.group} ({len(drawn.paths)} runs)"
    return names.get(drawn.paths[0], "?")


def _lines(model: Model, drawn: PanelCurve, label: str, slots: dict[str, int], width: int) -> list[Line]:
    curve = drawn.curve
    color = slots.get(drawn.paths[0], 0)
    if curve is None or not len(curve):
        return []
    if hasattr(curve, "low"):
        band = cast("Band", curve)
        return [Line(label, band.x.tolist(), band.low.tolist(), band.high.tolist(), band.mean.tolist(), color=color)]
    between = model.zoom or model.room or model.span
    line = to_line(label, _binned(curve, between, width))
    if drawn.raw is None:
        return [_colored(line, color)]
    under = to_line(label, _binned(drawn.raw, between, width))
    return [_colored(under, color, band=True), _colored(line, color, marks=False)]


def _binned(curve: Curve, between: tuple[float, float] | None, width: int) -> Curve:
    """A curve in two buckets a column, which stand where they are while it grows: what is drawn stays as it is."""
    bins = 2 * width
    if between is None or between[1] <= between[0] or len(curve) <= bins:
        return curve
    import numpy

    left, right = between
    inside = numpy.isfinite(curve.x) & (curve.x >= left) & (curve.x <= right)
    x, low, high, mean = (values[inside] for values in (curve.x, curve.min, curve.max, curve.mean))
    if not len(x):
        return curve
    count, nonfinite = curve.count[inside], curve.nonfinite[inside]
    place = numpy.minimum(((x - left) * (bins / (right - left))).astype(numpy.int64), bins - 1)
    starts = numpy.concatenate(([0], numpy.flatnonzero(place[1:] != place[:-1]) + 1))
    finite = numpy.add.reduceat(count - nonfinite, starts)
    with numpy.errstate(invalid="ignore", divide="ignore", over="ignore"):
        total = numpy.add.reduceat(numpy.where(count > nonfinite, mean * (count - nonfinite), 0.0), starts)
        average = numpy.where(finite > 0, total / finite, numpy.nan)
    return replace(
        curve,
        x=left + (place[starts] + 0.5) * ((right - left) / bins),
        min=numpy.fmin.reduceat(low, starts),
        max=numpy.fmax.reduceat(high, starts),
        mean=average,
        nonfinite=numpy.add.reduceat(nonfinite, starts),
    )


def _colored(line: Line, color: int, *, band: bool = False, marks: bool = True) -> Line:
    shown = line.marks if marks else ()
    return Line(line.label, line.x, line.low, line.high, line.mean, shown, line.not_finite, color, band)


# -- the legend ---------------------------------------------------------------------------------------------------


def _sign(model: Model, drawn: PanelCurve, panel: Panel, slots: dict[str, int]) -> Span:
    theme = THEMES[model.theme]
    look = Look(theme.color, model.unicode, theme.curves)
    labels = [Line(str(at), [], [], [], []) for at, one in enumerate(panel.curves) if one.curve is not None]
    return sign_of(slots.get(drawn.paths[0], 0), has_dots(labels, look), look)


def _legend(
    model: Model, panel: Panel, names: dict[str, str], slots: dict[str, int], width: int, room: int
) -> list[TextLine]:
    base = next((one.curve for one in panel.curves if model.baseline in one.paths), None)
    rows: list[TextLine] = []
    ellipsis = "…" if model.unicode else "~"
    shown = panel.curves if len(panel.curves) <= room else panel.curves[: room - 1]
    labels = [
        clip(visible(_label(one, names), unicode=model.unicode), max(12, width - 62), ellipsis=ellipsis)
        for one in shown
    ]
    longest = max((len(label) for label in labels), default=0)
    for drawn, label in zip(shown, labels, strict=True):
        tail = _figures(model, drawn, base)
        rows.append(
            [
                Span(" "),
                _sign(model, drawn, panel, slots),
                Span(" " + pad(label, longest), bold=model.baseline in drawn.paths),
                *tail,
            ]
        )
    if len(shown) < len(panel.curves):
        rows.append([Span(f"    and {len(panel.curves) - len(shown)} more", dim=True)])
    return rows


def _figures(model: Model, drawn: PanelCurve, base: Curve | Band | None) -> TextLine:
    curve = drawn.curve
    if curve is None or not len(curve):
        return [Span("   has none", dim=True)]
    is_band = hasattr(curve, "low")
    ends = (curve.mean if is_band else curve.last).tolist()  # type: ignore[union-attr]
    places = (curve.x if is_band else curve.x_end).tolist()  # type: ignore[union-attr]
    last = next((at for at in range(len(ends) - 1, -1, -1) if math.isfinite(ends[at])), None)
    odd = 0 if is_band else int((drawn.raw if drawn.raw is not None else curve).nonfinite.sum())  # type: ignore[union-attr]
    if last is None:
        return [Span(f"   {odd} rows, none of them finite", "red")]
    lows = curve.low if is_band else (drawn.raw if drawn.raw is not None else curve).min  # type: ignore[union-attr]
    finite = [value for value in lows.tolist() if math.isfinite(value)]
    at = _place(model, places[last]) if model.x == "time" else short_number(round(places[last], 3))
    line: TextLine = [
        Span(f"   {significant(ends[last], 5):>8}", bold=True),
        Span(f" at {at}", dim=True),
    ]
    if finite:
        line.append(Span(f"  min {significant(min(finite), 5)}", dim=True))
    if base is not None and model.baseline not in drawn.paths:
        held = _value_at(base, places[last])
        if held is not None:
            line.append(Span(f"  {ends[last] - held:+.4g} to baseline"))
    if odd:
        line.append(Span(f"  {'×' if model.unicode else '!'} {number(odd)} not finite", "red"))
    return line


def _value_at(curve: Curve | Band, x: float) -> float | None:
    """The last finite mean at or before x; None beyond the curve's end."""
    places, means = curve.x.tolist(), curve.mean.tolist()
    if not places or x > float(getattr(curve, "x_end", curve.x)[-1]):
        return None
    at = bisect_right(places, x) - 1
    while at >= 0 and not math.isfinite(means[at]):
        at -= 1
    return means[at] if at >= 0 else None


def _names(model: Model, panel: Panel, names: dict[str, str], slots: dict[str, int], width: int) -> list[TextLine]:
    """Signs and names alone, as many as have room on two lines."""
    lines: list[TextLine] = [[Span(" ")]]
    for number_, drawn in enumerate(panel.curves):
        label = clip(visible(_label(drawn, names), unicode=model.unicode), 24, ellipsis="…" if model.unicode else "~")
        entry = [_sign(model, drawn, panel, slots), Span(f" {label}   ")]
        if width_of(lines[-1]) + len(plain_text(entry)) > width - 10:
            if len(lines) == 2:
                lines[-1].append(Span(f"and {len(panel.curves) - number_} more", dim=True))
                break
            lines.append([Span(" ")])
        lines[-1] += entry
    return [fit(line, width) for line in lines]
