"""Curves drawn on standard output, with a legend below: `lossbook.terminal.drawing` in the colours of this terminal."""

from __future__ import annotations

from collections.abc import Sequence

from lossbook.cli.format import Screen
from lossbook.terminal.drawing import COLORS as COLORS
from lossbook.terminal.drawing import Line as Line
from lossbook.terminal.drawing import Look, legend
from lossbook.terminal.drawing import draw as draw_pieces


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
