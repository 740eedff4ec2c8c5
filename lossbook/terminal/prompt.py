"""What asks the user for something: a line to type in, and a list to choose from by typing a part of the name."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Prompt:
    """A line that is being typed.

    Attributes:
        purpose: "words" (a filter of the table), "where" (an expression) or "find" (in the console).
        before: what held before, and holds again when it is given up.
        place: characters before the cursor; None for all.
    """

    purpose: str
    text: str = ""
    before: str = ""
    place: int | None = None

    @property
    def at(self) -> int:
        return len(self.text) if self.place is None else min(self.place, len(self.text))

    def type(self, key: str, character: str | None) -> None:
        """Change the line as a key says; keys that mean nothing here change nothing."""
        before, after = self.text[: self.at], self.text[self.at :]
        if key in ("left", "ctrl+b"):
            self.place = max(0, self.at - 1)
        elif key in ("right", "ctrl+f"):
            self.place = self.at + 1
        elif key in ("home", "ctrl+a"):
            self.place = 0
        elif key in ("end", "ctrl+e"):
            self.place = None
        elif key in ("backspace", "ctrl+h"):
            self._set(before[:-1], after)
        elif key == "delete":
            self._set(before, after[1:])
        elif key == "ctrl+u":
            self._set("", after)
        elif key == "ctrl+w":
            self._set(before.rstrip().rpartition(" ")[0] + " " if " " in before.rstrip() else "", after)
        elif character and character.isprintable():
            self._set(before + character, after)

    def _set(self, before: str, after: str) -> None:
        self.text, self.place = before + after, len(before)


@dataclass
class Picker:
    """A list of names, one of which is chosen.

    Attributes:
        typed: parts of a name, separated by spaces; only names with all of them are listed.
        row: which of those is chosen.
    """

    purpose: str
    title: str
    names: tuple[str, ...]
    current: str | None = None
    typed: str = ""
    row: int = 0

    def __post_init__(self) -> None:
        if self.current in self.names:
            self.row = self.names.index(self.current)

    @property
    def fitting(self) -> list[str]:
        """The names that have what was typed."""
        words = self.typed.lower().split()
        return [name for name in self.names if all(word in name.lower() for word in words)]

    @property
    def chosen(self) -> str | None:
        """The name that Enter takes."""
        fitting = self.fitting
        return fitting[min(self.row, len(fitting) - 1)] if fitting else None

    def press(self, key: str, character: str | None) -> None:
        """Move, or type a part of a name."""
        moves = {"up": -1, "down": 1, "pageup": -10, "pagedown": 10, "ctrl+p": -1, "ctrl+n": 1}
        if key in moves:
            self.row = min(max(0, len(self.fitting) - 1), max(0, self.row + moves[key]))
            return
        line = Prompt("pick", self.typed)
        line.type(key, character)
        if line.text != self.typed:
            self.typed, self.row = line.text, 0
