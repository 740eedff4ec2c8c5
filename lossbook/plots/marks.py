"""What happened in a run, drawn on its curves: checkpoints, stages and alerts."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy

from lossbook.json_shapes import JsonObject, object_or_empty
from lossbook.metrics import find_key
from lossbook.plots.style import Drawn, Picture, one_line

if TYPE_CHECKING:
    from lossbook.reading import RecordedRun

LEVELS = {"info": "#3b7dd8", "warning": "#d98200", "error": "#c62828"}
#: Marks of one kind and run that a picture can hold; of more, some are left out evenly, best checkpoints last.
_MOST_MARKS = 200
#: Texts that can stand beside each other.
_MOST_TEXTS = 12
_LONGEST_TEXT = 32


class Mark(NamedTuple):
    """One event and where it stands, in units of the curve's x."""

    x: float
    value: JsonObject


def draw_marks(picture: Picture, start: float | None, end: float | None) -> None:
    """Draw the marks of every run that has a line in the picture.

    Checkpoints are diamonds on the validation line where there is one, else on the first line; the best ones are
    filled. A change of stage is a dashed line through all panels, an alert a triangle at the top.
    """
    owners: dict[str, list[Drawn]] = {}
    for _, lines in picture.panels:
        for one in lines:
            if one.run is not None:
                owners.setdefault(one.run.path, []).append(one)
    texts = 0
    for lines in owners.values():
        run = lines[0].run
        assert run is not None
        carrier = next((one for one in lines if find_key("val/loss", [one.key])), lines[0])
        color = "#666666" if len(owners) == 1 else carrier.color
        _draw_checkpoints(picture, carrier, _marks(run, "checkpoint", carrier, picture, start, end))
        texts = _draw_stages(picture, _marks(run, "stage", carrier, picture, start, end), color, texts)
        texts = _draw_alerts(picture, _marks(run, "alert", carrier, picture, start, end), texts)


def _marks(
    run: RecordedRun, kind: str, carrier: Drawn, picture: Picture, start: float | None, end: float | None
) -> list[Mark]:
    events = run.events(kind)
    if not events:
        return []
    at = run.place_events(events, carrier.key, picture.axis.name)
    return [
        Mark(float(x), object_or_empty(event["value"]))
        for x, event in zip(at, events, strict=True)
        if numpy.isfinite(picture.axis.place(x)) and (start is None or x >= start) and (end is None or x <= end)
    ]


def _thinned(marks: list[Mark]) -> list[Mark]:
    if len(marks) <= _MOST_MARKS:
        return marks
    return [marks[at] for at in numpy.unique(numpy.linspace(0, len(marks) - 1, _MOST_MARKS).astype(int))]


def _draw_checkpoints(picture: Picture, carrier: Drawn, marks: list[Mark]) -> None:
    x, y = carrier.line
    finite = numpy.isfinite(y) & (y > 0 if picture.log_y else True)
    if not marks or not bool(finite.any()):
        return
    from matplotlib.lines import Line2D

    panel = next(panel for panel, lines in picture.panels if carrier in lines)
    for is_best, label in ((False, "checkpoint"), (True, "best checkpoint")):
        chosen = _thinned([mark for mark in marks if bool(mark.value.get("is_best")) is is_best])
        if not chosen:
            continue
        at = numpy.array([mark.x for mark in chosen])
        panel.plot(
            picture.axis.place(at),
            numpy.interp(at, x[finite], y[finite]),
            color=carrier.color,
            zorder=6,
            marker="D",
            linestyle="none",
            markersize=6 if len(chosen) <= 30 else 4,
            markeredgewidth=1.1,
            markerfacecolor=carrier.color if is_best else "white",
        )
        picture.legend[label] = Line2D(
            [],
            [],
            color="#333333",
            marker="D",
            linestyle="none",
            markersize=5,
            markeredgewidth=1.1,
            markerfacecolor="#333333" if is_best else "white",
        )


def _draw_stages(picture: Picture, marks: list[Mark], color: str, texts: int) -> int:
    for mark in _thinned(marks):
        at = float(picture.axis.place(mark.x))
        for panel, _ in picture.panels:
            panel.axvline(at, color=color, linestyle=(0, (4, 3)), linewidth=0.9, alpha=0.8, zorder=1.5)
        texts += _write(picture, at, str(mark.value.get("name", "")), color, texts, below=4)
    return texts


def _draw_alerts(picture: Picture, marks: list[Mark], texts: int) -> int:
    from matplotlib.lines import Line2D

    for mark in _thinned(marks):
        at = float(picture.axis.place(mark.x))
        color = LEVELS.get(str(mark.value.get("level")), LEVELS["warning"])
        panel = picture.panels[0][0]
        panel.plot(
            [at], [1.0], "v", color=color, markersize=6, clip_on=False, transform=panel.get_xaxis_transform(), zorder=7
        )
        texts += _write(picture, at, str(mark.value.get("title", "")), color, texts, below=10)
        picture.legend["alert"] = Line2D([], [], color=LEVELS["warning"], marker="v", linestyle="none", markersize=6)
    return texts


def _write(picture: Picture, at: float, text: str, color: str, texts: int, *, below: int) -> bool:
    """Write along a mark, from the top of the picture down; says whether there was room for it."""
    if not text or texts >= _MOST_TEXTS:
        return False
    shown = one_line(text)
    shown = shown if len(shown) <= _LONGEST_TEXT else f"{shown[: _LONGEST_TEXT - 1]}…"
    panel = picture.panels[0][0]
    panel.annotate(
        shown,
        (at, 1.0),
        xycoords=panel.get_xaxis_transform(),
        xytext=(2, -below),
        textcoords="offset points",
        rotation=90,
        va="top",
        ha="left",
        fontsize=7,
        color=color,
        parse_math=False,
        annotation_clip=False,
        zorder=7,
    )
    return True
