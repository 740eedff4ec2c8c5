"""Which nodes of a run have gone: their leases are renewed no more, while this one's is."""

from __future__ import annotations

import os
from typing import NamedTuple

from lossbook.errors import LossbookError
from lossbook.journal import lease_path, place_name
from lossbook.json_shapes import JsonObject, whole_or_none
from lossbook.paths import RunFolder, file_names, make_folder, read_json, write_json
from lossbook.processes import Place

#: A node that has not been heard of for so long has gone, or does not reach the store: seven renewals were missed.
GONE_SECONDS = 70.0


class NodeNews(NamedTuple):
    """A node has gone, or is back.

    Attributes:
        rank: its lowest rank; None where nobody has noted it.
    """

    sentence: str
    rank: int | None
    is_back: bool


def note_ranks(folder: RunFolder, place: Place, rank: int, ranks: int) -> None:
    """Note which ranks run in a place: so many from `rank` on.

    Raises:
        OSError: the run's folder is gone or cannot be written.
    """
    make_folder(folder.followers)
    value: JsonObject = {"rank": rank, "ranks": ranks}
    write_json(os.path.join(folder.followers, f"node-{place_name(place)}.json"), value, durable=False)


class Nodes:
    """Watches the leases of the other nodes of a run, by the file server's clock.

    A lease that was there when this began, and has not been renewed since, is of an earlier attempt and tells nothing.

    Args:
        place: this node's, whose lease is the clock.
    """

    def __init__(self, folder: RunFolder, place: Place) -> None:
        self._folder = folder
        self._own = os.path.basename(lease_path(folder, place))
        self._renewed: dict[str, tuple[float, bool]] = {}  # when, and whether that has changed
        self._ranks: dict[str, tuple[int, int] | None] = {}
        self._gone: set[str] = set()
        self._has_looked = False

    def look(self) -> list[NodeNews]:
        """What has changed since the last time; to be called when this node's own lease has just been renewed."""
        followers = self._folder.followers
        now = _mtime(os.path.join(followers, self._own))
        found: list[NodeNews] = []
        if now is None:
            return found
        names = [name for name in file_names(followers) if name.startswith("lease-") and name != self._own]
        for name in self._renewed.keys() - set(names):
            del self._renewed[name]  # its work is done
            self._gone.discard(name)
        for name in names:
            path = os.path.join(followers, name)
            renewed = _mtime(path)
            if renewed is None:
                continue
            # A lease that was there at the first look may be of an earlier attempt.
            before, is_of_now = self._renewed.get(name, (0.0, False) if self._has_looked else (renewed, False))
            if renewed != before:
                is_of_now = True
                self._ranks[name] = _noted_ranks(followers, name.removeprefix("lease-"))
            self._renewed[name] = renewed, is_of_now
            silent = now - renewed
            if is_of_now and silent > GONE_SECONDS and name not in self._gone:
                self._gone.add(name)
                sentence = f"{self._name(name)} has not been heard of for {silent:.0f} s: it is gone, or does not reach the store"
                found.append(NodeNews(sentence, self._rank(name), is_back=False))
            elif silent <= GONE_SECONDS and name in self._gone:
                self._gone.discard(name)
                found.append(NodeNews(f"{self._name(name)} is heard of again", self._rank(name), is_back=True))
        self._has_looked = True
        return found

    def _rank(self, name: str) -> int | None:
        ranks = self._ranks.get(name)
        return None if ranks is None else ranks[0]

    def _name(self, name: str) -> str:
        host = name.removeprefix("lease-").rpartition("-")[0]
        ranks = self._ranks.get(name)
        if ranks is None:
            return f"the node {host}"
        first, count = ranks
        return f"the node {host} ({f'ranks {first} to {first + count - 1}' if count > 1 else f'rank {first}'})"


def _noted_ranks(followers: str, place: str) -> tuple[int, int] | None:
    try:
        noted = read_json(os.path.join(followers, f"node-{place}.json")) or {}
    except LossbookError:
        return None
    first, count = whole_or_none(noted.get("rank")), whole_or_none(noted.get("ranks"))
    return None if first is None else (first, count or 1)


def _mtime(path: str) -> float | None:
    try:
        return os.stat(path).st_mtime
    except OSError:
        return None
