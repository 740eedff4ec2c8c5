"""How far one mirror of one run is: `followers/<name>.json`, replaced atomically after each delivery."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from lossbook.errors import LossbookError
from lossbook.json_shapes import JsonMapping, JsonObject, object_or_empty, shallow_object, text_or_none, whole_or_none
from lossbook.paths import FORMAT, RunFolder, make_folder, read_json, write_json


@dataclass
class Cursor:
    """What was delivered, and what the mirror wrote down for itself.

    Attributes:
        name: the tracker and, where that is not "online", the mode: `wandb`, `wandb-offline`.
        delivered: by rank the number of the last row that the tracker holds for certain.
        remote: the mirror's own notes (remote id, files, counters).
        state: "open", "closed" (all is delivered and the tracker knows how the run ended) or "stopped".
        error: what kept the last delivery from going on, one sentence.
        attempts: of the run, as many as it had when the mirror was closed.
    """

    name: str
    delivered: dict[int, int] = field(default_factory=dict)
    remote: JsonObject = field(default_factory=dict)
    state: str = "open"
    error: str | None = None
    url: str | None = None
    attempts: int = 0

    @property
    def rows(self) -> int:
        """Rows delivered so far."""
        return sum(i + 1 for i in self.delivered.values())

    def save(self, folder: RunFolder) -> None:
        """Write it down, so that it survives power loss.

        Raises:
            OSError: the run's folder cannot be written.
        """
        make_folder(folder.followers)
        value = {
            "format": FORMAT,
            "mirror": self.name,
            "state": self.state,
            "error": self.error,
            "url": self.url,
            "delivered": {f"r{rank}": i for rank, i in sorted(self.delivered.items())},
            "attempts": self.attempts,
            "remote": self.remote,
            "updated": time.time_ns() // 1000,
        }
        write_json(cursor_path(folder, self.name), value)


def cursor_path(folder: RunFolder, name: str) -> str:
    return os.path.join(folder.followers, f"{name}.json")


def load_cursor(folder: RunFolder, name: str) -> Cursor:
    """The cursor of a mirror; a new one where there is none, or where it is damaged (the mirror then finds out itself)."""
    try:
        value: JsonMapping = read_json(cursor_path(folder, name)) or {}
        delivered = object_or_empty(value.get("delivered"))
        return Cursor(
            name=name,
            delivered={int(rank.removeprefix("r")): i for rank, i in delivered.items() if isinstance(i, int)},
            remote=dict(shallow_object(value.get("remote"))),
            state=text_or_none(value.get("state")) or "open",
            error=text_or_none(value.get("error")),
            url=text_or_none(value.get("url")),
            attempts=whole_or_none(value.get("attempts")) or 0,
        )
    except (LossbookError, ValueError):
        return Cursor(name=name)


def cursors(folder: RunFolder, names: Sequence[str]) -> list[Cursor]:
    """The cursors of those mirrors that have one, online and offline."""
    found = []
    for name in names:
        for one in (name, f"{name}-offline"):
            if os.path.exists(cursor_path(folder, one)):
                found.append(load_cursor(folder, one))
    return found
