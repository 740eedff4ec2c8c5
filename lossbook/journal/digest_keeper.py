"""Keeps the digests of a run's journals while they are written, from where the last look ended."""

from __future__ import annotations

from lossbook.journal.attempt_row import attempt_of
from lossbook.journal.digest import PIECE_BYTES, extend_digest
from lossbook.journal.liveness import place_of
from lossbook.journal.reader import first_row, journal_segments
from lossbook.paths import RunFolder
from lossbook.processes import this_place


class DigestKeeper:
    """Keeps the digests of a run's journals as they are written, of those that this node writes. Cheap to ask often."""

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self._covered: dict[str, int] = {}  # by journal
        self._is_ours: dict[str, bool] = {}

    def extend(self, *, to_end: bool = False) -> None:
        """Cover what was added.

        Args:
            to_end: nobody here writes any more.

        Raises:
            OSError: a digest cannot be written.
        """
        segments = journal_segments(self._folder.journal)
        newest = {segment.name.rank: segment for segment in segments}
        for segment in segments:
            path = segment.path
            is_left = to_end or newest[segment.name.rank] is not segment
            grown = segment.size_bytes() - self._covered.get(path, 0)
            if grown < (1 if is_left else PIECE_BYTES) or not self._is_written_here(path):
                continue
            try:
                self._covered[path] = extend_digest(self._folder, path, to_end=is_left)
            except FileNotFoundError:
                continue  # sealed meanwhile
        standing = {segment.path for segment in segments}
        self._covered = {path: end for path, end in self._covered.items() if path in standing}
        self._is_ours = {path: ours for path, ours in self._is_ours.items() if path in standing}

    def _is_written_here(self, path: str) -> bool:
        found = self._is_ours.get(path)
        if found is None:
            head = attempt_of(first_row(path))
            # One without its head belongs to nobody else, as far as can be told.
            found = self._is_ours[path] = head is None or place_of(head.attempt) == this_place()
        return found
