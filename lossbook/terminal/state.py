"""What the user chose, and what follows from it: which runs, metrics and lines are shown. No screen, no file, no key."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from lossbook.metrics import find_key
from lossbook.terminal.prompt import Picker, Prompt
from lossbook.terminal.runs import RunLine, arranged
from lossbook.terminal.snapshot import MOST_DRAWN, Snapshot, ViewRequest

VIEWS = ("runs", "curves", "gpus", "console", "overview")
SMOOTHINGS = (None, "ema:0.6", "ema:0.9", "ema:0.99", "ema:0.999")
CLOCKS = ("wallclock", "time")
PANEL_COUNTS = (1, 2, 4)
#: Buckets that are read of a curve: several for each column, so that a curve that grows is not drawn anew as a whole.
POINTS = 1600


@dataclass
class WatchState:
    """Everything that is chosen, and the last snapshot.

    Attributes:
        given: folders of the runs that were named on the command line; marked from the beginning.
        keys: metrics named on the command line; None in place of the metrics that the runs usually have.
        unicode: whether the terminal can show more than ASCII.
    """

    given: tuple[str, ...] = ()
    where: str = ""
    keys: tuple[str, ...] = ()
    x: str = "step"
    unicode: bool = True
    theme: str = "dark"
    view: str = "runs"
    width: int = 80
    height: int = 24
    snapshot: Snapshot = field(default_factory=Snapshot)
    quitting: bool = False

    def __post_init__(self) -> None:
        self.words = ""
        self.sort = "started"
        self.falling = True
        self.grouped = False
        self.focus: str | None = self.given[0] if self.given else None
        # A marked run keeps its place, so it keeps its colour.
        self.slots: dict[str, int] = {path: slot for slot, path in enumerate(self.given[:MOST_DRAWN])}
        self.baseline: str | None = None
        self.first_row = 0
        self.key = 0
        self.chosen_key: str | None = self.keys[0] if self.keys else None
        self.panels = 1
        self.log = False
        self.smoothing = 0
        self.zoom: tuple[float, float] | None = None
        self.span: tuple[float, float] | None = None
        self.room: tuple[float, float] | None = None
        self.scrolls: dict[str, int] = {}
        self.follow = True
        self.console: str | None = None
        self.found = ""
        self.found_at: int | None = None
        self.help = False
        self.prompt: Prompt | None = None
        self.picker: Picker | None = None
        self.message = ""
        self.asked = 0
        self._arranged: tuple[object, list[RunLine]] = (None, [])
        self._focus_row = 0

    # -- what is shown ----------------------------------------------------------------------------------------------

    @property
    def lines(self) -> list[RunLine]:
        """The runs of the table, chosen and in order."""
        snapshot = self.snapshot
        name = (
            snapshot.lines,
            snapshot.fits if self.where else None,
            self.words,
            self.sort,
            self.falling,
            self.grouped,
        )
        held = self._arranged[0]
        if not (isinstance(held, tuple) and held[0] is name[0] and held[1] is name[1] and held[2:] == name[2:]):
            lines: Sequence[RunLine] = snapshot.lines or ()
            if self.where:
                fits = snapshot.fits if snapshot.fits is not None else frozenset()
                lines = [line for line in lines if line.path in fits]
            found = arranged(lines, words=self.words, sort=self.sort, falling=self.falling, grouped=self.grouped)
            self._arranged = (name, found)
        return self._arranged[1]

    @property
    def row(self) -> int:
        """Where the run in focus stands in the table."""
        lines = self.lines
        if not lines:
            return 0
        row = min(self._focus_row, len(lines) - 1)
        if lines[row].path != self.focus:
            row = next((place for place, line in enumerate(lines) if line.path == self.focus), row)
        self._focus_row = row
        return row

    @property
    def focused(self) -> RunLine | None:
        """The run that the last three views are about."""
        lines = self.lines
        if lines and lines[self.row].path == self.focus:
            return lines[self.row]
        # It may be hidden by a filter, and is still what is looked at.
        for line in self.snapshot.lines or ():
            if line.path == self.focus:
                return line
        return lines[self.row] if lines else None

    @property
    def drawn(self) -> dict[str, int]:
        """Folders of the runs that are drawn, with the place of their colour: those marked, else the one in focus."""
        drawn = dict(self.slots)
        if self.baseline is not None and self.baseline not in drawn:
            drawn[self.baseline] = self._free_slot()
        if not drawn and self.focused is not None:
            return {self.focused.path: 0}
        return drawn

    @property
    def shown_keys(self) -> tuple[str, ...]:
        """The metrics of the panels."""
        keys = self.snapshot.keys
        if self.chosen_key is None:
            first = 0
        else:
            chosen = find_key(self.chosen_key, keys)
            if chosen is None:
                return (self.chosen_key,)
            first = keys.index(chosen)
        if self.panels > 1 and len(self.keys) > 1 and self.chosen_key == self.keys[0]:
            return self.keys[: self.panels]
        return keys[first : first + self.panels]

    def wanted(self, watched: tuple[str, ...] = ()) -> ViewRequest:
        """What the reader has to look at for this."""
        start, end = self.zoom if self.zoom is not None else (None, None)
        focused = self.focused
        keys = self.shown_keys
        if self.panels > len(keys) and self.keys and self.chosen_key == self.keys[0]:
            keys = self.keys[: self.panels]
        return ViewRequest(
            view=self.view,
            where=self.where,
            focus=focused.path if focused is not None else None,
            drawn=tuple(self.drawn),
            keys=keys,
            x=self.x,
            smoothing=SMOOTHINGS[self.smoothing],
            start=start,
            end=end,
            points=POINTS,
            grouped=self.grouped,
            watched=watched if self.view == "runs" else (),
            console=self.console,
            asked=self.asked,
        )

    def _free_slot(self) -> int:
        taken = set(self.slots.values())
        return next(slot for slot in range(len(taken) + 1) if slot not in taken)

    # -- moving -----------------------------------------------------------------------------------------------------

    @property
    def page(self) -> int:
        """Lines between the frame's first and last ones."""
        return max(1, self.height - 4)

    def _scroll(self, key: str) -> None:
        by = MOVES[key]
        step = {"line": 1, "page": self.page - 1, "end": 10**9}[by[0]] * by[1]
        if self.view in ("runs", "curves"):
            self._move(step)
            return
        if self.view == "console":
            # Lines from the end, so that what is read stands still while more is written.
            self.follow = False
        held = self.scrolls.get(self.view, 0)
        self.scrolls[self.view] = max(0, held + (-step if self.view == "console" else step))
        if self.view == "console" and self.scrolls["console"] == 0 and step > 0:
            self.follow = True

    def _move(self, by: int) -> None:
        lines = self.lines
        if lines:
            self.focus_on(min(len(lines) - 1, max(0, self.row + by)))

    def focus_on(self, row: int) -> None:
        """Look at the run in a row of the table."""
        lines = self.lines
        if 0 <= row < len(lines):
            if self.focus != lines[row].path:
                self._forget_place()
            self._focus_row, self.focus = row, lines[row].path

    def _forget_place(self) -> None:
        self.scrolls, self.follow, self.console = {}, True, None
        self.found_at = None
        if not self.slots:
            self.zoom = None

    def go(self, view: str) -> None:
        """Show a view."""
        self.view = view
        if self.focus is None and self.focused is not None:
            self.focus = self.focused.path


#: Keys that scroll, by what and in which direction.
MOVES = {
    "j": ("line", 1), "k": ("line", -1), "down": ("line", 1), "up": ("line", -1),
    "pagedown": ("page", 1), "pageup": ("page", -1), "ctrl+d": ("page", 1), "ctrl+u": ("page", -1),
    "home": ("end", -1), "end": ("end", 1), "G": ("end", 1),
}  # fmt: skip
