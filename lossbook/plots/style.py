"""How a picture of curves looks: its panels, lines, envelopes, marks, axes and legends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

import numpy

from lossbook.metrics import quantity_of, unit_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis as MatplotlibAxis
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from numpy.typing import ArrayLike, NDArray

    from lossbook.analysis import Band
    from lossbook.curves import Curve
    from lossbook.reading import RecordedRun

#: So few points are drawn as points as well: a validation loss of three values is no mere bend in a line.
FEW_POINTS = 40
#: A longer legend stands beside the picture, and is cut off behind so many entries.
_INSIDE_ENTRIES, _MOST_ENTRIES = 10, 30
#: A name, or an offset and the lengths of dashes and gaps, in points.
LineStyle: TypeAlias = str | tuple[float, tuple[float, ...]]


@dataclass(frozen=True)
class Drawn:
    """One line of the picture. `curve` is what was logged, `smoothed` the line over it; a band has neither."""

    key: str
    label: str
    color: str
    style: LineStyle
    run: RecordedRun | None = None
    curve: Curve | None = None
    smoothed: Curve | None = None
    band: Band | None = None

    @property
    def line(self) -> tuple[NDArray[numpy.float64], NDArray[numpy.float64]]:
        """x and y of the line that stands out, each of shape (n,)."""
        if self.band is not None:
            return self.band.x, self.band.mean
        curve = self.smoothed if self.smoothed is not None else self.curve
        assert curve is not None
        return (curve.x + curve.x_end) / 2, curve.mean


@dataclass(frozen=True)
class Axis:
    """How x is shown: what stands below it, and what one unit of it is in units of the curve."""

    name: str
    label: str
    unit: float = 1.0
    is_date: bool = False
    is_logarithmic: bool = False

    def place(self, x: ArrayLike) -> NDArray[numpy.float64]:
        """Where values of the curve's x stand in the picture; NaN for what a logarithmic axis does not have."""
        values = numpy.asarray(x, dtype=numpy.float64)
        if not self.is_date:
            return numpy.where(values > 0, values, numpy.nan) / self.unit if self.is_logarithmic else values / self.unit
        from matplotlib.dates import date2num

        days: NDArray[numpy.float64] = date2num(numpy.round(values * 1e6).astype("datetime64[us]"))
        return days


@dataclass
class Picture:
    """What is being drawn: its panels from the top, each with its lines."""

    axis: Axis
    panels: list[tuple[Axes, list[Drawn]]]
    log_y: bool
    legend: dict[str, Line2D] = field(default_factory=dict)  # entries for marks, by label


def one_line(text: str) -> str:
    """`text` without line ends and control characters."""
    return "".join(character if character.isprintable() else " " for character in text)


# -- how it is drawn ----------------------------------------------------------------------------------------------


def prepare(panel: Axes, lines: Sequence[Drawn], picture: Picture) -> None:
    panel.set_axisbelow(True)
    panel.grid(True, color="#e6e6e6", linewidth=0.7)
    for side in ("top", "right"):
        panel.spines[side].set_visible(False)
    panel.margins(x=0.015)
    if picture.axis.is_logarithmic:
        panel.set_xscale("log")
    if picture.log_y:
        panel.set_yscale("log")
    quantity = quantity_of(lines[0].key)
    units = {unit_of(one.key, largest=_largest(one)) for one in lines}
    unit = units.pop() if len(units) == 1 else ""
    name = lines[0].key if len({one.key for one in lines}) == 1 else quantity
    panel.set_ylabel(f"{one_line(name)} ({unit})" if unit else one_line(name), parse_math=False)


def _largest(one: Drawn) -> float | None:
    values = one.line[1]
    finite = values[numpy.isfinite(values)]
    return float(finite.max()) if finite.size else None


def draw_line(panel: Axes, one: Drawn, picture: Picture) -> None:
    if one.band is not None:
        x = picture.axis.place(one.band.x)
        low, high = _above_zero(one.band.low, one.band.high, picture.log_y)
        panel.fill_between(x, low, high, color=one.color, alpha=0.2, linewidth=0)
        _draw_means(panel, x, one.band.mean, one, picture.log_y, is_main=True)
        return
    logged = one.curve if one.curve is not None else one.smoothed
    assert logged is not None
    if one.curve is not None:
        _draw_curve(panel, one.curve, one, picture, is_main=one.smoothed is None)
    if one.smoothed is not None:
        _draw_curve(panel, one.smoothed, one, picture, is_main=True)
    odd = logged.nonfinite > 0
    if bool(odd.any()):
        _mark_odd(panel, picture.axis.place(logged.x[odd]), one, picture)


def _draw_curve(panel: Axes, curve: Curve, one: Drawn, picture: Picture, is_main: bool) -> None:
    x = picture.axis.place((curve.x + curve.x_end) / 2)
    low, high = _above_zero(curve.min, curve.max, picture.log_y)
    if bool(numpy.any(high > low)):
        # The thin edge shows a spike that is narrower than a dot.
        panel.fill_between(x, low, high, color=one.color, alpha=0.22 if is_main else 0.17, linewidth=0.5)
    _draw_means(panel, x, curve.mean, one, picture.log_y, is_main)


def _mark_odd(panel: Axes, x: NDArray[numpy.float64], one: Drawn, picture: Picture) -> None:
    panel.plot(
        x,
        numpy.full(len(x), 0.02),
        "x",
        color=one.color,
        markersize=5,
        markeredgewidth=1.2,
        clip_on=False,
        transform=panel.get_xaxis_transform(),
        zorder=5,
    )
    from matplotlib.lines import Line2D

    picture.legend["NaN or infinite"] = Line2D([], [], color="#333333", marker="x", linestyle="none", markersize=5)


def _draw_means(
    panel: Axes, x: NDArray[numpy.float64], mean: NDArray[numpy.float64], one: Drawn, log_y: bool, is_main: bool
) -> None:
    shown = numpy.where(mean > 0, mean, numpy.nan) if log_y else mean
    finite = numpy.isfinite(shown)
    # A point between two gaps has no line to be seen by.
    alone = finite & ~numpy.append(finite[1:], False) & ~numpy.insert(finite[:-1], 0, False)
    few = len(x) <= FEW_POINTS
    panel.plot(
        x,
        shown,
        color=one.color,
        zorder=3 if is_main else 2,
        linewidth=1.4 if is_main else 0.8,
        linestyle=one.style if is_main else "solid",
        alpha=None if is_main else 0.4,
    )
    if few or bool(alone.any()):
        chosen = finite if few else alone
        panel.plot(
            x[chosen],
            shown[chosen],
            "o",
            color=one.color,
            markersize=3 if is_main else 2,
            zorder=3,
            alpha=None if is_main else 0.4,
        )


def _above_zero(
    low: NDArray[numpy.float64], high: NDArray[numpy.float64], log_y: bool
) -> tuple[NDArray[numpy.float64], NDArray[numpy.float64]]:
    if not log_y:
        return low, high
    positive = numpy.concatenate((low[low > 0], high[high > 0]))
    floor = float(positive.min()) if len(positive) else numpy.nan
    return numpy.where(low > 0, low, floor), numpy.where(high > 0, high, numpy.nan)


def finish_axes(picture: Picture) -> None:
    from matplotlib import ticker

    bottom = picture.panels[-1][0]
    bottom.set_xlabel(one_line(picture.axis.label), parse_math=False)
    if picture.axis.is_date:
        from datetime import datetime

        from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

        zone = datetime.now().astimezone().tzinfo
        locator = AutoDateLocator(tz=zone)
        bottom.xaxis.set_major_locator(locator)
        bottom.xaxis.set_major_formatter(ConciseDateFormatter(locator, tz=zone))
    else:
        bottom.xaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: short_number(value)))
        if not picture.axis.is_logarithmic and picture.axis.name in ("step", "gradient_step"):
            bottom.xaxis.set_major_locator(ticker.MaxNLocator("auto", integer=True, steps=[1, 2, 2.5, 5, 10]))
    # Between powers of ten there are labels only where few of these are in sight.
    logarithmic: list[MatplotlibAxis] = [panel.yaxis for panel, _ in picture.panels if picture.log_y]
    for axis in logarithmic:
        axis.set_major_formatter(ticker.LogFormatter(labelOnlyBase=False, minor_thresholds=(1.5, 0.7)))
    for axis in [*logarithmic, *([bottom.xaxis] if picture.axis.is_logarithmic else [])]:
        axis.set_minor_formatter(ticker.LogFormatter(labelOnlyBase=False, minor_thresholds=(1.5, 0.7)))


def short_number(value: float) -> str:
    """A number for an axis: `1.5k`, `20M`, `3B`, `1e18`."""
    size = abs(value)
    for factor, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if factor <= size < 1e15 and (factor > 1e3 or size >= 1e4):
            return f"{value / factor:.7g}{letter}"
    return f"{value:.6g}".replace("e+", "e").replace("e-0", "e-")


def draw_legends(figure: Figure, picture: Picture) -> None:
    from matplotlib.lines import Line2D

    for number, (panel, lines) in enumerate(picture.panels):
        entries: dict[str, Line2D] = {
            # matplotlib leaves labels out that begin with an underscore.
            f" {one.label}" if one.label.startswith("_") else one.label: Line2D(
                [], [], color=one.color, linestyle=one.style, linewidth=1.6
            )
            for one in lines
        }
        if number == 0:
            entries |= picture.legend
        if list(entries) == [lines[0].key]:
            # The axis says that already.
            continue
        if len(entries) > _MOST_ENTRIES:
            kept = dict(list(entries.items())[: _MOST_ENTRIES - 1])
            kept[f"and {len(entries) - len(kept)} more"] = Line2D([], [], linestyle="none")
            entries = kept
        handles, labels = list(entries.values()), [one_line(label) for label in entries]
        if len(entries) > _INSIDE_ENTRIES:
            legend = figure.legend(handles, labels, loc="outside right upper", fontsize=7, frameon=False)
        else:
            legend = panel.legend(handles, labels, loc="best", fontsize=8, framealpha=0.85, edgecolor="#dddddd")
        for text in legend.get_texts():
            text.set_parse_math(False)
