"""Curves of runs drawn on standard output, with a legend below, in the colours of this terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lossbook.cli.format import Screen
from lossbook.errors import UnknownKey
from lossbook.terminal import Line, Look, draw as draw_pieces, legend, to_line

if TYPE_CHECKING:
    from lossbook.curves import Curve
    from lossbook.reading import RecordedRun

_WIDTH, _HEIGHT = 100, 20


def picture(
    runs: Sequence[RecordedRun],
    keys: Sequence[str],
    view: Screen,
    *,
    x: str = "step",
    log: bool = False,
    width: int | None = None,
    height: int | None = None,
    start: float | None = None,
    end: float | None = None,
    points: int | None = None,
) -> list[str]:
    """Draw every key of every run over one another.

    Raises:
        UnknownKey: none of the runs has one of the keys.
    """
    if not keys:
        return []
    width = width or (min(view.width, 160) if view.width else _WIDTH)
    height = height or (min(_HEIGHT, max(8, view.height - 8)) if view.height else _HEIGHT)
    found = curves(runs, keys, x=x, points=points or 2 * width, start=start, end=end)
    same_name = len({run.name for run in runs}) < len(runs)
    lines = []
    for run, key, curve in found:
        name = f"{run.name} {run.id}" if same_name else run.name or run.id
        label = key if len(runs) == 1 else name if len(keys) == 1 else f"{name} · {key}"
        lines.append(to_line(label, curve))
    return draw(lines, view, width=width, height=height, x=x, log=log)


def curves(
    runs: Sequence[RecordedRun],
    keys: Sequence[str],
    *,
    x: str = "step",
    points: int = 1000,
    start: float | None = None,
    end: float | None = None,
) -> list[tuple[RecordedRun, str, Curve]]:
    """The curve of every key in every run that has it.

    Raises:
        UnknownKey: no run has one of the keys.
    """
    found: list[tuple[RecordedRun, str, Curve]] = []
    for key in keys:
        missing: UnknownKey | None = None
        count = len(found)
        for run in runs:
            try:
                found.append((run, key, run.curve(key, x=x, points=points, start=start, end=end)))
            except UnknownKey as error:
                missing = error
        if missing is not None and len(found) == count:
            raise missing
    return found


def draw(
    lines: Sequence[Line],
    view: Screen,
    *,
    width: int,
    height: int,
    x: str = "step",
    log: bool = False,
) -> list[str]:
    """Draw curves over one another, with axes and a legend.

    Args:
        lines, width, height, x, log: see `lossbook.terminal.drawing.draw`; the legend is not counted in `height`.

    Returns:
        Lines of text, with colours where `view` takes them.
    """
    look = Look(view.color, view.unicode)
    picture, left_out = draw_pieces(lines, look, width=width, height=height, x=x, log=log)
    if len(picture) > 1:
        picture += legend(lines, look, max(width, 24), left_out)
    return [
        "".join(view.paint(piece.text, piece.color, bold=piece.bold, dim=piece.dim) for piece in line)
        for line in picture
    ]
