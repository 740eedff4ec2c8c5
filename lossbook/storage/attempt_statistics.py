"""Statistics of a run's series by attempt and rank, and over the rows that count of them.

A later attempt hides rows of the earlier ones, as `attempts` says. The statistics of a series that it hides wholly, or not
at all, are at hand; of a series that it cuts, the rows up to the cut are read from the files again, once for each cut.
What was read is kept until rows at or before the cut come. Memory grows with the number of series, not of rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from lossbook.storage.attempts import NEVER, cutoffs
from lossbook.storage.segment import Segment
from lossbook.storage.statistics import Statistics, statistics_up_to

#: Steps up to which statistics are kept, of a run that others were forked from.
_MOST_CUTS = 64

Place = tuple[int, int]  # attempt, rank


class AttemptStatistics:
    """The statistics of each series of a run, by the attempt and the rank that logged it; `len()` counts them."""

    def __init__(self) -> None:
        self._series: dict[Place, dict[str, Statistics]] = {}
        self._places: dict[str, list[Place]] = {}  # by key
        self._changed: set[str] = set()
        self._cut: dict[tuple[str, Place], tuple[int, int, Statistics]] = {}  # cut, rows then, up to there
        self._up_to: dict[tuple[Place, int], dict[str, Statistics]] = {}  # as `up_to` worked it out
        self._lowest: dict[Place, int] = {}  # the lowest step that came since

    def __len__(self) -> int:
        return sum(map(len, self._series.values()))

    def of(self, place: Place) -> dict[str, Statistics]:
        """One attempt's and rank's series by key, to be added to; new ones come by `add`."""
        series = self._series.get(place)
        if series is None:
            series = self._series[place] = {}
        return series

    def add(self, place: Place, fresh: dict[str, Statistics]) -> None:
        """Begin series that this attempt and rank have not logged before."""
        self._series[place].update(fresh)
        for key in fresh:
            places = self._places.setdefault(key, [])
            places.append(place)
            # In the order in which one who reads everything finds them.
            places.sort()

    def note_added(self, place: Place, keys: Iterable[str], lowest_step: int) -> None:
        """Say that rows of these keys were added, the lowest of them at that step."""
        self._changed.update(keys)
        self._lowest[place] = min(self._lowest.get(place, NEVER), lowest_step)

    def note_all_changed(self) -> None:
        """Say that other rows may count now."""
        self._changed.update(self._places)

    def take_changed(
        self, segments: list[Segment], resumed_from: Mapping[int, int | None]
    ) -> Iterator[tuple[str, list[Statistics]]]:
        """Each key that has changed since the last time, with the parts of it that count: to be merged in this order.

        Args:
            resumed_from: `RunInfo.resume_steps()`.

        Raises:
            FileNotFoundError: a file was sealed or merged meanwhile; the keys are still to be taken.
        """
        cuts = self._cuts(segments, resumed_from)
        changed, self._changed = self._changed, set()
        for key in changed:
            parts = (cuts.get((key, place), self._series[place][key]) for place in self._places[key])
            yield key, [one for one in parts if one is not None]

    def up_to(
        self, step: int, segments: list[Segment], resumed_from: Mapping[int, int | None]
    ) -> dict[str, Statistics]:
        """Statistics by key over the rows that count and are not beyond a step.

        Raises:
            FileNotFoundError: a file was sealed or merged meanwhile.
        """
        for place, cut in [*self._up_to]:
            if self._lowest.get(place, NEVER) <= cut:
                del self._up_to[place, cut]
        self._lowest.clear()
        whole: dict[str, Statistics] = {}
        missing: dict[tuple[Place, int], set[str]] = {}
        pieces: dict[str, list[tuple[Place, int | None]]] = {}
        for key, places in self._places.items():
            cuts = cutoffs(resumed_from, self._first_steps(key))
            for place in places:
                one, cut = self._series[place][key], min(step, cuts[place[0]])
                if one.first_step > cut:
                    continue
                is_whole = one.furthest_step <= cut
                pieces.setdefault(key, []).append((place, None if is_whole else cut))
                if not is_whole and key not in self._up_to.get((place, cut), ()):
                    missing.setdefault((place, cut), set()).add(key)
        for (place, cut), keys in missing.items():
            found = statistics_up_to(segments, *place, cut, keys)
            self._up_to.setdefault((place, cut), {}).update({key: found.get(key, Statistics()) for key in keys})
        for key, parts in pieces.items():
            total = Statistics()
            for place, end in parts:
                total.merge(self._series[place][key] if end is None else self._up_to[place, end][key])
            if total.count:
                whole[key] = total
        while len(self._up_to) > _MOST_CUTS:
            del self._up_to[next(iter(self._up_to))]
        return whole

    def _first_steps(self, key: str) -> dict[int, int]:
        """The first step of a key in each attempt that logged it."""
        firsts: dict[int, int] = {}
        for place in self._places[key]:
            firsts[place[0]] = min(firsts.get(place[0], NEVER), self._series[place][key].first_step)
        return firsts

    def _cuts(
        self, segments: list[Segment], resumed_from: Mapping[int, int | None]
    ) -> dict[tuple[str, Place], Statistics | None]:
        """Of series that changed and have rows that a later attempt hides: the rest of them, None where none is left."""
        attempts = {attempt for attempt, _ in self._series}
        if len(attempts | set(resumed_from)) < 2:
            return {}
        found: dict[tuple[str, Place], Statistics | None] = {}
        known: dict[tuple[tuple[int, int], ...], dict[int, int]] = {}
        missing: dict[tuple[Place, int], set[str]] = {}
        for key in self._changed:
            firsts = self._first_steps(key)
            named = tuple(sorted(firsts.items()))
            cuts = known.get(named)
            if cuts is None:
                cuts = known[named] = cutoffs(resumed_from, firsts)
            for place in self._places[key]:
                one, cut = self._series[place][key], cuts[place[0]]
                if one.first_step > cut:
                    found[key, place] = None
                elif one.furthest_step > cut:
                    kept = self._cut.get((key, place))
                    if kept is not None and kept[:2] == (cut, one.count):
                        found[key, place] = kept[2]
                    else:
                        missing.setdefault((place, cut), set()).add(key)
        for (place, cut), keys in missing.items():
            rest = statistics_up_to(segments, *place, cut, keys)
            for key in keys:
                one = rest.get(key, Statistics())
                self._cut[key, place] = (cut, self._series[place][key].count, one)
                found[key, place] = one
        return found
