"""What each key does to what the user chose. No screen, no file, no Textual: keys in, choices out."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from functools import partial

from lossbook.metrics import AXES, find_key
from lossbook.terminal.prompt import Picker, Prompt
from lossbook.terminal.runs import FALLING, SORT_VALUES
from lossbook.terminal.snapshot import MOST_DRAWN
from lossbook.terminal.state import CLOCKS, MOVES, PANEL_COUNTS, SMOOTHINGS, VIEWS, WatchState
from lossbook.terminal.themes import THEMES


class Model(WatchState):
    """The state, and what each key does to it."""

    # -- keys -------------------------------------------------------------------------------------------------------

    def press(self, key: str, character: str | None = None) -> None:
        """Do what a key says.

        Args:
            key: "up", "pagedown", "escape", "enter", "space", "tab", ... or the character itself.
            character: what it would type, None where it types nothing.
        """
        self.message = ""
        if key == "ctrl+c":
            self.quitting = True
        elif self.prompt is not None:
            self._type(key, character)
        elif self.picker is not None:
            self._pick(key, character)
        elif self.help:
            self.help = False
            if key in _EVERYWHERE and key not in ("escape", "q", "question_mark", "space"):
                self._command(key)
        else:
            self._command(character if character and character.isprintable() and character != " " else key)

    def paste(self, text: str) -> None:
        """Put a pasted text where something is being typed."""
        for character in " ".join(text.split()):
            if self.prompt is not None or self.picker is not None:
                self.press(character, character)

    def _type(self, key: str, character: str | None) -> None:
        prompt = self.prompt
        assert prompt is not None
        if key == "escape":
            self.prompt = None
            self._answer(prompt.purpose, prompt.before)
        elif key == "enter":
            self.prompt = None
            self._answer(prompt.purpose, prompt.text)
            if prompt.purpose == "find":
                self._next_match(-1)
        elif key in ("up", "down") and prompt.purpose == "words":
            self._move(-1 if key == "up" else 1)
        else:
            prompt.type(key, character)
            if prompt.purpose != "where":
                self._answer(prompt.purpose, prompt.text)

    def _answer(self, purpose: str, text: str) -> None:
        if purpose == "words":
            self.words = text
        elif purpose == "where":
            self._set_where(text.strip())
        else:
            self.found = text
            self.found_at = None

    def _set_where(self, text: str) -> None:
        from lossbook.errors import BadQuery
        from lossbook.reading import compile_where

        if text:
            try:
                compile_where(text)
            except BadQuery as error:
                self.message = str(error)
                self.prompt = Prompt("where", text, before=self.where)
                return
        self.where = text

    def _pick(self, key: str, character: str | None) -> None:
        picker = self.picker
        assert picker is not None
        if key == "escape":
            self.picker = None
        elif key == "enter":
            self.picker = None
            if picker.chosen is not None:
                if picker.purpose == "key":
                    self.chosen_key = picker.chosen
                else:
                    self._sort_by(picker.chosen)
        else:
            picker.press(key, character)

    def _command(self, key: str) -> None:
        if key in _EVERYWHERE:
            _EVERYWHERE[key](self)
        elif self.view == "curves" and key in _IN_CURVES:
            _IN_CURVES[key](self)
        elif self.view == "console" and key in _IN_CONSOLE:
            _IN_CONSOLE[key](self)
        elif key in MOVES:
            self._scroll(key)
        elif self.view == "runs" and key in _IN_RUNS:
            _IN_RUNS[key](self)
        elif key in _IN_CURVES and key not in ("left", "right"):
            # What a curve looks like may be chosen before one is looked at.
            _IN_CURVES[key](self)

    # -- runs -------------------------------------------------------------------------------------------------------

    def _mark(self) -> None:
        line = self.focused
        if line is None:
            return
        if line.path in self.slots:
            del self.slots[line.path]
        elif len(self.slots) >= MOST_DRAWN:
            self.message = f"{MOST_DRAWN} runs are marked, and more cannot be told apart: u unmarks all"
        else:
            self.slots[line.path] = self._free_slot()
        if self.view == "runs":
            self._move(1)

    def _unmark(self) -> None:
        self.slots.clear()

    def _pin(self) -> None:
        line = self.focused
        if line is not None:
            self.baseline = None if self.baseline == line.path else line.path
            self.message = f"baseline: {line.name}" if self.baseline else "no baseline"

    def _sort_by(self, column: str) -> None:
        if column == self.sort:
            self.falling = not self.falling
        else:
            self.sort, self.falling = column, column in FALLING

    def _pick_sort(self) -> None:
        self.picker = Picker("sort", "sort by (again: the other way round)", tuple(SORT_VALUES), self.sort)

    def click_heading(self, column: str) -> None:
        """Sort by a column, the other way round where it already is."""
        if column in SORT_VALUES:
            self._sort_by(column)

    # -- curves -----------------------------------------------------------------------------------------------------

    def _pick_key(self) -> None:
        shown = self.shown_keys
        self.picker = Picker("key", "metric", self.snapshot.keys, shown[0] if shown else None)

    def _next_key(self, by: int) -> None:
        keys = self.snapshot.keys
        if keys:
            shown = self.shown_keys
            held = keys.index(shown[0]) if shown and shown[0] in keys else -by
            self.chosen_key = keys[(held + by) % len(keys)]

    def _next_axis(self, by: int) -> None:
        axes = ["step", *(axis for axis in AXES if find_key(axis, self.snapshot.keys) is not None), *CLOCKS]
        held = axes.index(self.x) if self.x in axes else -by
        self.x = axes[(held + by) % len(axes)]
        self.zoom = None

    def _smooth(self, by: int) -> None:
        self.smoothing = min(len(SMOOTHINGS) - 1, max(0, self.smoothing + by))

    def _zoom(self, factor: float) -> None:
        whole = self.span
        if whole is None or whole[0] >= whole[1]:
            return
        left, right = self.zoom or whole
        middle, half = (left + right) / 2, (right - left) / 2 * factor
        if half * 2 >= 0.98 * (whole[1] - whole[0]):
            self.zoom = None
            return
        smallest = 2.0 if self.x in ("step", *AXES) else 1e-3
        if half * 2 < smallest:
            return
        self._look_between(middle - half, middle + half)

    def _pan(self, by: int) -> None:
        if self.zoom is not None:
            left, right = self.zoom
            shift = by * (right - left) / 4
            self._look_between(left + shift, right + shift)

    def _look_between(self, left: float, right: float) -> None:
        assert self.span is not None
        # The view keeps its width at the ends of the curve.
        shift = max(0.0, self.span[0] - left) - max(0.0, right - self.span[1])
        left, right = left + shift, right + shift
        self.zoom = (round(left), round(right)) if self.x in ("step", *AXES) else (left, right)

    def _reset(self) -> None:
        self.zoom = None

    # -- console ----------------------------------------------------------------------------------------------------

    def matches(self) -> list[int]:
        """Numbers of the console's lines that hold what is searched, in order."""
        tail = self.snapshot.tail
        if tail is None or not self.found:
            return []
        sought = self.found.lower()
        return [number for number, line in enumerate(tail.lines) if sought in line.lower()]

    def _next_match(self, by: int) -> None:
        tail, matches = self.snapshot.tail, self.matches()
        if tail is None or not self.found:
            self.message = "/ searches"
            return
        if not matches:
            self.message = f"nothing here has {self.found!r}"
            return
        if self.found_at is None:
            place = len(matches) - 1
        else:
            held = self.found_at - tail.first_number
            place = bisect_left(matches, held)
            place = place + by if by < 0 or (place < len(matches) and matches[place] == held) else place
            place %= len(matches)
        self.found_at = matches[place] + tail.first_number
        self.follow = False
        total = len(tail.lines) + bool(tail.unfinished)
        self.scrolls["console"] = max(0, total - matches[place] - 1 - self.page // 2)
        self.message = f"match {place + 1} of {len(matches)}"

    def _follow(self) -> None:
        self.follow = not self.follow
        if self.follow:
            self.scrolls["console"] = 0

    def _shift(self, by: int) -> None:
        self.scrolls["across"] = max(0, self.scrolls.get("across", 0) + by)

    def _next_console(self) -> None:
        names = self.snapshot.consoles
        if len(names) > 1:
            held = names.index(self.console) if self.console in names else 0
            self.console = names[(held + 1) % len(names)]
            self.scrolls["console"], self.found_at = 0, None

    # -- everywhere -------------------------------------------------------------------------------------------------

    def _search(self) -> None:
        if self.view == "console":
            self.prompt = Prompt("find", self.found, before=self.found)
        elif self.view == "curves":
            self._pick_key()
        else:
            self.view = "runs"
            self.prompt = Prompt("words", self.words, before=self.words)

    def _ask_where(self) -> None:
        self.view = "runs"
        self.prompt = Prompt("where", self.where, before=self.where)

    def _close(self) -> None:
        """Take back what narrows the view, the nearest first."""
        if self.view == "curves" and self.zoom is not None:
            self.zoom = None
        elif self.view == "console" and self.found:
            self.found, self.found_at = "", None
        elif self.view == "console" and not self.follow:
            self._follow()
        elif self.view != "runs":
            self.view = "runs"
        elif self.words:
            self.words = ""
        elif self.where:
            self.where = ""

    def _open_help(self) -> None:
        self.help = True

    def _quit(self) -> None:
        self.quitting = True

    def _refresh(self) -> None:
        self.asked += 1
        self.message = "reading everything again"

    def _next_theme(self) -> None:
        names = tuple(THEMES)
        self.theme = names[(names.index(self.theme) + 1) % len(names)]
        self.message = f"theme: {self.theme}"

    def _group(self) -> None:
        self.grouped = not self.grouped
        self.message = "runs of a group together" if self.grouped else "each run by itself"

    def _toggle_log(self) -> None:
        self.log = not self.log

    def _next_panels(self) -> None:
        self.panels = PANEL_COUNTS[(PANEL_COUNTS.index(self.panels) + 1) % len(PANEL_COUNTS)]

    def _next_view(self, by: int) -> None:
        self.go(VIEWS[(VIEWS.index(self.view) + by) % len(VIEWS)])


_EVERYWHERE: dict[str, Callable[[Model], None]] = {
    **{str(place): partial(Model.go, view=view) for place, view in enumerate(VIEWS, 1)},
    "tab": lambda model: model._next_view(1),
    "shift+tab": lambda model: model._next_view(-1),
    "question_mark": Model._open_help,
    "?": Model._open_help,
    "q": Model._quit,
    "r": Model._refresh,
    "t": Model._next_theme,
    "/": Model._search,
    "slash": Model._search,
    "w": Model._ask_where,
    "escape": Model._close,
    "g": Model._group,
    "b": Model._pin,
    "space": Model._mark,
    "u": Model._unmark,
    ">": lambda model: model._move(1),
    "<": lambda model: model._move(-1),
}

_IN_RUNS: dict[str, Callable[[Model], None]] = {
    "enter": lambda model: model.go("curves"),
    "s": Model._pick_sort,
    "S": lambda model: model._sort_by(model.sort),
}

_IN_CURVES: dict[str, Callable[[Model], None]] = {
    "K": Model._pick_key,
    "n": lambda model: model._next_key(1),
    "p": lambda model: model._next_key(-1),
    "x": lambda model: model._next_axis(1),
    "X": lambda model: model._next_axis(-1),
    "l": Model._toggle_log,
    "]": lambda model: model._smooth(1),
    "[": lambda model: model._smooth(-1),
    "+": lambda model: model._zoom(0.5),
    "=": lambda model: model._zoom(0.5),
    "-": lambda model: model._zoom(2.0),
    "left": lambda model: model._pan(-1),
    "right": lambda model: model._pan(1),
    "0": Model._reset,
    "m": Model._next_panels,
}

_IN_CONSOLE: dict[str, Callable[[Model], None]] = {
    "f": Model._follow,
    "n": lambda model: model._next_match(1),
    "N": lambda model: model._next_match(-1),
    "p": lambda model: model._next_match(-1),
    "o": Model._next_console,
    "left": lambda model: model._shift(-20),
    "right": lambda model: model._shift(20),
}
