"""Which ink is used for what, on a dark terminal, on a light one, and without colour.

The eight colours that every terminal has, in the shades that its user chose; the paper is always the terminal's own.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Theme:
    """Inks.

    Attributes:
        color: whether there is any colour.
        curves: those of the curves, in the order in which runs are marked.
        instead: what stands for a colour that cannot be read on this paper.
    """

    color: bool
    curves: tuple[str, ...]
    instead: dict[str, str]


THEMES = {
    "dark": Theme(True, ("cyan", "yellow", "magenta", "green", "red", "blue"), {"blue": "bright_blue"}),
    "light": Theme(True, ("blue", "red", "magenta", "green", "cyan"), {"yellow": "magenta"}),
    "none": Theme(False, ("white",), {}),
}
