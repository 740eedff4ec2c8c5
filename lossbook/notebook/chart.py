"""Draws curves as one SVG picture, without a drawing library: lines with their envelopes, axes, marks of what is not finite."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy

from lossbook.formatting import number, short_number
from lossbook.notebook.markup import LIGHT, Html, escaped

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lossbook.curves import Curve

#: Points of one curve: as many as such a picture can show.
POINTS = 300
#: Curves of more points are thinned, so that a notebook's file stays small.
_MOST_POINTS = 1500
_MARGINS = (46, 10, 8, 24)  # left, right, top, bottom


class Frame(NamedTuple):
    """The area that is drawn into, in pixels, and the values that it spans."""

    width: int
    height: int
    x0: float
    x1: float
    y0: float
    y1: float

    def x(self, values: NDArray[numpy.float64] | float) -> NDArray[numpy.float64]:
        """Pixels from the left."""
        left, right = _MARGINS[0], self.width - _MARGINS[1]
        return numpy.asarray(left + (numpy.asarray(values) - self.x0) / (self.x1 - self.x0) * (right - left))

    def y(self, values: NDArray[numpy.float64] | float) -> NDArray[numpy.float64]:
        """Pixels from the top."""
        top, bottom = _MARGINS[2], self.height - _MARGINS[3]
        return numpy.asarray(bottom - (numpy.asarray(values) - self.y0) / (self.y1 - self.y0) * (bottom - top))


def chart(curves: Sequence[Curve], *, labels: Sequence[str] = (), width: int = 620, height: int = 220) -> Html:
    """One picture of curves that share their axis, with a legend that says where each one stands.

    Args:
        labels: what to call them; default their keys.
        width, height: in pixels; the picture takes the room that it is given, in this proportion.
    """
    curves = [_thinned(curve) for curve in curves]
    named = list(zip(labels or [curve.key for curve in curves], curves, strict=True))
    legend = "".join(_legend_entry(place, name, curve) for place, (name, curve) in enumerate(named))
    frame = _frame([curve for curve in curves if len(curve)], width, height)
    if frame is None:
        return Html(f'<div class="lb-legend">{legend}</div><div class="lb-note">{_why_nothing(curves)}</div>')
    axis = curves[0].x_name
    drawn = "".join(_line(place, curve, frame) for place, curve in enumerate(curves) if len(curve))
    said = escaped(f"{', '.join(name for name, _ in named)} by {axis}")
    return Html(
        f'<div class="lb-legend">{legend}</div>'
        f'<svg viewBox="0 0 {width} {height}" style="max-width:{width}px" role="img" aria-label="{said}">'
        f"{_axes(frame, axis)}{drawn}</svg>"
    )


def _thinned(curve: Curve) -> Curve:
    """The curve with neighbouring points made one, its extremes kept, where it has more than can be shown."""
    if len(curve) <= _MOST_POINTS:
        return curve
    starts = numpy.arange(0, len(curve), math.ceil(len(curve) / _MOST_POINTS))
    ends = numpy.append(starts[1:], len(curve)) - 1
    finite = numpy.where(numpy.isfinite(curve.mean), curve.count - curve.nonfinite, 0)
    sums = numpy.add.reduceat(numpy.where(finite > 0, curve.mean, 0.0) * finite, starts)
    rows = numpy.add.reduceat(finite, starts)
    return replace(
        curve,
        x=curve.x[starts],
        x_end=curve.x_end[ends],
        first=curve.first[starts],
        last=curve.last[ends],
        min=numpy.fmin.reduceat(curve.min, starts),
        max=numpy.fmax.reduceat(curve.max, starts),
        min_x=curve.min_x[starts],
        max_x=curve.max_x[starts],
        mean=numpy.where(rows > 0, sums / numpy.maximum(rows, 1), numpy.nan),
        count=numpy.add.reduceat(curve.count, starts),
        nonfinite=numpy.add.reduceat(curve.nonfinite, starts),
    )


def _legend_entry(place: int, name: str, curve: Curve) -> str:
    finite = curve.last[numpy.isfinite(curve.last)]
    last = measured(float(finite[-1])) if len(finite) else "-"
    lost = int(curve.nonfinite.sum()) if len(curve) else 0
    note = f' <span class="lb-bad">{lost} not finite</span>' if lost else ""
    return f'<span><i style="background:{_color(place)}"></i>{escaped(name, 60)} <b>{last}</b>{note}</span>'


def measured(value: object) -> str:
    """A measured value for reading: a rate of many thousands in short."""
    if isinstance(value, float) and 1e4 <= abs(value) < 1e15:
        return short_number(float(f"{value:.4g}"))
    return number(value)


def _color(place: int) -> str:
    # The value behind the name is for viewers that strip the style sheet.
    return f"var(--lb-{place % len(LIGHT)},{LIGHT[place % len(LIGHT)]})"


def _why_nothing(curves: Sequence[Curve]) -> str:
    return "the values are too large to be drawn" if any(len(curve) for curve in curves) else "no row yet"


def _frame(curves: Sequence[Curve], width: int, height: int) -> Frame | None:
    if not curves:
        return None
    places = numpy.concatenate([part for curve in curves for part in (curve.x, curve.x_end)])
    values = numpy.concatenate([part for curve in curves for part in (curve.min, curve.max)])
    places, values = places[numpy.isfinite(places)], values[numpy.isfinite(values)]
    if not len(places):
        return None
    x0, x1 = float(places.min()), float(places.max())
    y0, y1 = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
    if not x1 - x0 > abs(x0) * 1e-12 + 1e-300:
        x0, x1 = x0 - 0.5, x1 + 0.5
    if not y1 - y0 > abs(y0) * 1e-12 + 1e-300:
        pad = abs(y0) * 0.05 or 0.5
        y0, y1 = y0 - pad, y1 + pad
    pad = (y1 - y0) * 0.05
    # Values near the largest that there are would overflow with their margin.
    return Frame(width, height, x0, x1, y0 - pad, y1 + pad) if math.isfinite((y1 - y0) * 2) else None


def ticks(low: float, high: float, most: int) -> list[float]:
    """Round numbers between two values, `most` of them at the most."""
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough)) if rough > 0 else 1.0
    step = next((factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough), 10 * power)
    first = math.ceil(low / step)
    return [place * step for place in range(first, first + most + 1) if place * step <= high]


def _axes(frame: Frame, axis: str) -> str:
    left, right = _MARGINS[0], frame.width - _MARGINS[1]
    bottom = frame.height - _MARGINS[3]
    parts = []
    for value in ticks(frame.y0, frame.y1, 4):
        y = float(frame.y(value))
        parts.append(f'<line x1="{left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}" stroke="currentColor" opacity=".12"/>')
        parts.append(_text(left - 6, y + 3.5, short_number(value), "end"))
    places = ticks(frame.x0, frame.x1, 6)
    if axis in ("step", "gradient_step"):
        places = [value for value in places if value == int(value)]
    for value in places:
        x = float(frame.x(value))
        if x < right - 46:  # the axis's name stands there
            parts.append(_text(x, bottom + 15, short_number(value), "middle"))
    parts.append(f'<line x1="{left}" x2="{right}" y1="{bottom}" y2="{bottom}" stroke="currentColor" opacity=".35"/>')
    parts.append(_text(right, bottom + 15, axis, "end"))
    return "".join(parts)


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="11" fill="currentColor" opacity=".68" '
        f'font-family="system-ui,sans-serif">{escaped(text, 24)}</text>'
    )


def _line(place: int, curve: Curve, frame: Frame) -> str:
    color = _color(place)
    middle = (curve.x + curve.x_end) / 2
    finite = numpy.isfinite(curve.mean) & numpy.isfinite(middle)
    x, mean = frame.x(middle), frame.y(curve.mean)
    parts = []
    low, high = frame.y(curve.min), frame.y(curve.max)
    for start, end in _stretches(finite):
        if end - start == 1:
            parts.append(f'<circle cx="{x[start]:.1f}" cy="{mean[start]:.1f}" r="2.5" fill="{color}"/>')
            continue
        if numpy.any(low[start:end] - high[start:end] > 0.5):
            there = _points(x[start:end], high[start:end])
            back = _points(x[start:end][::-1], low[start:end][::-1])
            parts.append(f'<polygon points="{there} {back}" fill="{color}" opacity=".18"/>')
        parts.append(
            f'<polyline points="{_points(x[start:end], mean[start:end])}" fill="none" stroke="{color}" '
            'stroke-width="1.6" stroke-linejoin="round" vector-effect="non-scaling-stroke"/>'
        )
    bottom = frame.height - _MARGINS[3]
    for at in numpy.flatnonzero((curve.nonfinite > 0) & numpy.isfinite(middle))[:200]:
        parts.append(
            f'<path d="M{x[at]:.1f} {bottom - 7}l4 7h-8z" fill="var(--lb-bad,#b3261e)"><title>'
            f"{int(curve.nonfinite[at])} not finite</title></path>"
        )
    return "".join(parts)


def _stretches(finite: NDArray[numpy.bool_]) -> list[tuple[int, int]]:
    """Where values stand side by side: a line is not drawn over a gap."""
    edges = numpy.flatnonzero(numpy.diff(numpy.concatenate(([False], finite, [False])).astype(numpy.int8)))
    return [(int(start), int(end)) for start, end in edges.reshape(-1, 2)]


def _points(x: NDArray[numpy.float64], y: NDArray[numpy.float64]) -> str:
    return " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x.tolist(), y.tolist(), strict=True))
