"""A live table of a store's runs: says which changed since the last look, and gives columns of ten thousand of them.

A record (`lossbook.reading.record`) is read when its run's folder changed, kept as text outside of this process's memory
(the mapped index, and a file without a name for what changed since), and parsed when a question needs it. What was found
for a column or an expression is kept by run until that run changes.

Costs, measured with 10,000 runs of 60 names each, 100 of 300 and one of 5,000, on two cores: the first look 0.3 s where
the index is up to date; a look each second 15 ms, because a fifth of the folders is looked at; a column that was not asked
for before 0.4 s, because every record is parsed, and 6 ms from then on. The process grows by 25 MB.
"""

from __future__ import annotations

import math
import mmap
import os
import threading
import time
import zlib
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lossbook.access import check_store, why_unreadable
from lossbook.errors import BadQuery, UnknownRun
from lossbook.json_shapes import Json
from lossbook.paths import RunFolder, folder_mark, is_settled, safe_name
from lossbook.reading.columns import ColumnCache, ColumnName, NameSets
from lossbook.reading.index import IndexEntry, MappedText, load_index, read_index
from lossbook.reading.names import FIELDS, bare, compile_value, presence
from lossbook.reading.project_folders import ProjectFolders, RunKey as RunKey
from lossbook.reading.record import IndexRecord, parse_record, read_record
from lossbook.reading.record_file import FilePlace, RecordFile
from lossbook.reading.where import compile_where, sorted_places

if TYPE_CHECKING:
    from lossbook.reading.context import ReadContext
    from lossbook.storage import LiveSummary

#: Within so many seconds every folder is looked at; running runs, and those that changed lately, at each look.
LOOK_SECONDS = 5.0
#: A run that changed so lately is looked at each time.
_LATELY_SECONDS = 30.0
#: Runs that went away, as far back as `changes_since` remembers them.
_MOST_REMOVED = 10_000


@dataclass(frozen=True)
class Changes:
    """What changed between two looks.

    Attributes:
        revision: of the later look; ask for the changes since then the next time.
        added, changed, removed: runs, each in one of them.
        whole: the earlier look was so long ago that removed runs are not remembered: begin anew, `added` has all runs.
    """

    revision: int
    added: tuple[RunKey, ...]
    changed: tuple[RunKey, ...]
    removed: tuple[RunKey, ...]
    whole: bool = False

    def __bool__(self) -> bool:
        return bool(self.added or self.changed or self.removed)


@dataclass(frozen=True)
class Names:
    """What can be shown of runs: names of fields, and of configuration, summary and metrics how many runs have each."""

    fields: tuple[str, ...]
    config: Mapping[str, int]
    summary: Mapping[str, int]
    metrics: Mapping[str, int]


@dataclass(eq=False)
class _Row:
    """One run of the table."""

    key: RunKey
    slot: int  # its place in every kept column
    mark: int
    created: int
    state: str
    text: MappedText | FilePlace  # where its record lies
    checksum: int
    added: int
    revision: int
    changed: float = 0.0  # when a look found it new or changed
    names: int = -1  # the number of the set of names that its record has; -1 where it was not parsed yet
    live: LiveSummary | None = None
    parents: tuple[str, ...] = ()  # of a fork: their folders, and what tells that they changed
    parents_stamp: int = 0

    def is_of_its_parents(self) -> bool:
        """Whether the record of a fork still says what its parents' files say."""
        if not self.parents:
            return True
        from lossbook.reading.forks import parents_stamp

        return parents_stamp(self.parents) == self.parents_stamp


class Listing:
    """All runs of a book as they stood at the last `look()`. Thread-safe; hold one for as long as a book."""

    def __init__(self, context: ReadContext) -> None:
        self._context = context
        self._lock = threading.RLock()
        self._revision = 0
        self._rows: dict[RunKey, _Row] = {}
        self._order: list[RunKey] | None = None
        self._free: list[int] = []
        self._slots = 0
        self._columns = ColumnCache()
        self._name_sets = NameSets()
        self._removed: deque[tuple[int, int, RunKey]] = deque(maxlen=_MOST_REMOVED)  # revision, added, key
        self._forgotten = 0  # removals up to this revision are not remembered
        self._folders = ProjectFolders(context.store)
        self._pending: set[RunKey] = set()  # folders that hold no run, or none yet
        self._turns: deque[RunKey] = deque()  # whose folder is looked at next
        self._touched: set[RunKey] = set()
        self._looked = 0.0
        self._unreadable: list[str] = []  # what the first look could not read
        self._file = RecordFile()

    # -- looking ------------------------------------------------------------------------------------------------

    @property
    def revision(self) -> int:
        """The number of the last look that found something changed."""
        return self._revision

    def look(self, *, everything: bool = False) -> Changes:
        """Look at the store again. The first look reads the index: a tenth of a second for ten thousand runs.

        New and removed folders are seen at once, and so is what running runs do; of the other runs some are looked at
        each time, all of them within five seconds.

        Args:
            everything: look at every folder now.

        Returns:
            What changed since the look before, whoever took it.

        Raises:
            StoreError: the store is not there any more, or cannot be read; what was known stays as it was.
        """
        with self._lock:
            before = self._revision
            now = time.monotonic()
            if not self._looked:
                self._read_index(now)
            else:
                self._look_again(now, everything)
            self._looked = now
            return self.changes_since(before)

    def changes_since(self, revision: int) -> Changes:
        """What changed after a look of that number, up to the last look; of 0, every run is new."""
        with self._lock:
            if revision == self._revision:
                return Changes(revision, (), (), ())
            if revision > self._revision or revision < self._forgotten:
                return Changes(self._revision, tuple(self.keys()), (), (), True)
            fresh = [row for row in self._rows.values() if row.revision > revision]
            added = tuple(row.key for row in fresh if row.added > revision)
            changed = tuple(row.key for row in fresh if row.added <= revision)
            removed = tuple(
                key
                for at, begun, key in self._removed
                if at > revision and begun <= revision and (key not in self._rows or self._rows[key].added > at)
            )
            gone = set(removed)
            # A folder that went and came back is changed.
            back = gone.intersection(added)
            return Changes(
                self._revision,
                tuple(key for key in added if key not in back),
                (*changed, *back),
                tuple(dict.fromkeys(key for key in removed if key not in back)),
            )

    def revision_of(self, key: RunKey) -> int:
        """The number of the look in which a run was found new or changed.

        Raises:
            UnknownRun: there is no such run.
        """
        return self._row(key).revision

    def touch(self, key: RunKey) -> None:
        """Have the next look look at this run, because somebody changed it."""
        with self._lock:
            self._touched.add(RunKey(*key))

    def _read_index(self, now: float) -> None:
        self._unreadable = []
        entries = read_index(self._context.store, self._unreadable)
        # What stands in the index is mapped rather than kept, whoever wrote it just now.
        mapped = load_index(self._context.store)
        self._revision += 1
        for entry in entries:
            key = RunKey(*entry.path.rsplit("/", 2)[-2:])
            known = mapped.get(f"{key.project}/{key.id}")
            same = (
                known is not None
                and (known.mark, known.stamp, known.parents_stamp) == (entry.mark, entry.stamp, entry.parents_stamp)
                and entry.mark != 0
            )
            self._put(key, known if same and known is not None else entry, now)
        self._turns.extend(self._rows)

    def _look_again(self, now: float, everything: bool) -> None:
        check_store(self._context.store)
        self._unreadable = []  # by now the folders themselves are looked at
        due = self._due(now, everything)
        appeared, gone = self._folders.compare(self._rows)
        self._pending -= gone
        gone.intersection_update(self._rows)
        revision = self._revision + 1
        changed = bool(gone)
        for key in gone:
            self._drop(key, revision)
        self._pending.update(appeared)
        for key in [*self._pending, *(key for key in due if key in self._rows)]:
            changed |= self._look_at(key, now, revision)
        for key in self._pending.intersection(self._rows):
            self._pending.remove(key)
            self._turns.append(key)
        if changed:
            self._revision = revision

    def _due(self, now: float, everything: bool) -> set[RunKey]:
        """The runs to look at now: those that may change any moment, and as many others as the time since says."""
        if everything:
            return set(self._rows)
        due = self._touched
        self._touched = set()
        due |= {
            row.key
            for row in self._rows.values()
            if row.state == "running" or row.mark == 0 or now - row.changed < _LATELY_SECONDS
        }
        for _ in range(min(len(self._turns), math.ceil((now - self._looked) / LOOK_SECONDS * len(self._turns)))):
            key = self._turns.popleft()
            if key in self._rows:
                due.add(key)
                self._turns.append(key)
        return due

    def _look_at(self, key: RunKey, now: float, revision: int) -> bool:
        """Look at one folder; says whether its run is new or changed."""
        row = self._rows.get(key)
        folder = RunFolder(f"{self._context.store}/{key.project}/{key.id}")
        try:
            status = os.stat(folder.path)
            mark = folder_mark(status)
        except OSError:
            return False
        if row is not None and row.mark == mark and row.state != "running" and row.is_of_its_parents():
            return False
        if not folder.exists():
            return False
        looked_ns = time.time_ns()
        live = None
        if row is not None and row.state == "running":
            live = row.live = row.live or self._context.live_summary(folder)
        record, _, parents, stamp, is_whole = read_record(folder, live)
        settled = mark if is_whole and is_settled(status.st_mtime_ns, looked_ns) else 0
        checksum = _checksum(record)
        if row is not None and row.checksum == checksum:
            row.mark, row.parents, row.parents_stamp = settled, parents, stamp
            return False
        entry = IndexEntry(
            folder.path,
            settled,
            record.created_us,
            record.state,
            record.to_text(),
            parents=parents,
            parents_stamp=stamp,
        )
        self._put(key, entry, now, revision, checksum)
        return True

    def _put(
        self, key: RunKey, entry: IndexEntry, now: float, revision: int | None = None, checksum: int | None = None
    ) -> None:
        row = self._rows.get(key)
        at_revision = self._revision if revision is None else revision
        text = entry.mapped_text or self._file.append(entry.text)
        if row is None:
            slot = self._free.pop() if self._free else self._slots
            self._slots = max(self._slots, slot + 1)
            row = self._rows[key] = _Row(
                key, slot, entry.mark, entry.created, entry.state, text, 0, at_revision, at_revision
            )
            self._order = None
            self._columns.make_room(self._slots)
        else:
            self._release(row)
            row.mark, row.state, row.text, row.revision = entry.mark, entry.state, text, at_revision
            if row.created != entry.created:
                row.created, self._order = entry.created, None
            if row.state != "running":
                row.live = None
        row.parents, row.parents_stamp = entry.parents, entry.parents_stamp
        row.changed = now if revision is not None else 0.0
        # Those that are looked at again although their folder shows no change are compared by what they say.
        volatile = entry.state == "running" or entry.mark == 0
        row.checksum = checksum or (_checksum(entry.record) if volatile else 0)
        row.names = -1
        self._columns.forget(row.slot)
        if self._file.is_wasteful:
            self._compact()

    def _drop(self, key: RunKey, revision: int) -> None:
        row = self._rows.pop(key)
        self._release(row)
        self._free.append(row.slot)
        self._columns.forget(row.slot)
        self._order = None
        if len(self._removed) == self._removed.maxlen:
            self._forgotten = self._removed[0][0]
        self._removed.append((revision, row.added, key))

    def _release(self, row: _Row) -> None:
        if isinstance(row.text, FilePlace):
            self._file.release(row.text)

    def _compact(self) -> None:
        places = {row.key: row.text for row in self._rows.values() if isinstance(row.text, FilePlace)}
        self._file, moved = self._file.compacted(list(places.values()))
        for key, place in zip(places, moved, strict=True):
            self._rows[key].text = place

    # -- asking -------------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, key: object) -> bool:
        return key in self._rows

    def keys(self, project: str | None = None) -> list[RunKey]:
        """Every run, the newest first.

        Args:
            project: only that project's; its name, or its folder's.
        """
        with self._lock:
            if self._order is None:
                rows = sorted(self._rows.values(), key=lambda row: row.created, reverse=True)
                self._order = [row.key for row in rows]
            if project is None:
                return list(self._order)
            folder = safe_name(project)
            return [key for key in self._order if key.project in (project, folder)]

    def projects(self) -> dict[str, int]:
        """How many runs each project has, by its folder's name, sorted."""
        with self._lock:
            return dict(sorted(Counter(key.project for key in self._rows).items()))

    def record(self, key: RunKey) -> IndexRecord:
        """All that is known of a run, as `RecordedRun.record`; parsed now, and not kept.

        Raises:
            UnknownRun: there is no such run.
        """
        with self._lock:
            return self._parse(self._row(key))

    def records(self, keys: Sequence[RunKey]) -> list[IndexRecord | None]:
        """As `record`, of several runs; None for one that is gone."""
        with self._lock:
            rows = [self._rows.get(key) for key in keys]
            found = [None if row is None else self._parse(row) for row in rows]
            self._let_go()
            return found

    def column(self, name: str, keys: Sequence[RunKey] | None = None) -> list[Json]:
        """One value of each run, None where a run has none.

        Args:
            name: as in `where` and `sort`: `config.lr`, `summary.x`, `val/loss`, `val/loss.min`, `state`, ...
            keys: of these runs, in this order; None for all, the newest first. None too for one that is gone.
        """
        return self.columns([name], keys)[name]

    def columns(self, names: Sequence[str], keys: Sequence[RunKey] | None = None) -> dict[str, list[Json]]:
        """Several columns, for which each record is parsed once; see `column`."""
        with self._lock:
            rows = self._chosen(keys)
            wanted = {ColumnName("value", name): compile_value(name) for name in names}
            self._fill(wanted, rows)
            return {name.text: self._columns.of(name, rows) for name in wanted}

    def unknown(self, names: Sequence[str], keys: Sequence[RunKey] | None = None) -> list[str]:
        """Those of some names that none of the runs has; none where there is no run."""
        with self._lock:
            rows = [row for row in self._chosen(keys) if row is not None]
            asked = {name: ColumnName("has", bare(name)) for name in names}
            self._fill({one: presence(one.text) for one in asked.values()}, rows)
            return [name for name, one in asked.items() if rows and True not in self._columns.of(one, rows)]

    def where(
        self, expression: str, keys: Sequence[RunKey] | None = None, *, seconds: float | None = None
    ) -> list[RunKey]:
        """The runs that an expression is true of (see `lossbook.reading.where`), in the order of `keys`.

        Args:
            seconds: give up after that long.

        Raises:
            BadQuery: it cannot be understood, takes longer, or means nothing: none of the runs has a name (yet), or a
                text stands against a number in each.
        """
        test = compile_where(expression)
        if seconds is not None:
            test = test.within(seconds)
        with self._lock:
            rows = self._chosen(keys)
            name = ColumnName("where", expression)
            if test.has_patterns:
                test.learn(self._parse(row) for row in self._columns.lacking(name, rows))
            checks = {
                ColumnName("has", check.name) if check.name else ColumnName(f"check {at}", expression): check
                for at, check in enumerate(test.checks)
            }
            wanted: dict[ColumnName, Callable[[IndexRecord], Json]] = {
                one: check.verdict for one, check in checks.items()
            }
            self._fill({name: test, **wanted}, rows)
            if not self._is_filling():
                present = [row for row in rows if row is not None]
                for one, check in checks.items():
                    verdicts = self._columns.of(one, present)
                    remark = check.conclude(verdicts, lambda: [self._parse(row) for row in present])
                    if remark is not None:
                        raise BadQuery(remark)
            fits = self._columns.of(name, rows)
            return [row.key for row, one in zip(rows, fits, strict=True) if row is not None and one]

    def sorted(self, name: str, descending: bool = False, keys: Sequence[RunKey] | None = None) -> list[RunKey]:
        """Runs by a value, numbers before texts; those without a value, or with NaN, last."""
        chosen = self.keys() if keys is None else [RunKey(*key) for key in keys if key in self._rows]
        places = sorted_places(self.column(name, chosen), descending=descending)
        return [chosen[at] for at in places]

    def forks_of(self, path: str) -> list[RunKey]:
        """The runs that go on from the run in a folder, sorted."""
        with self._lock:
            return sorted(key for key, row in self._rows.items() if row.parents[:1] == (path,))

    def names(self, project: str | None = None) -> Names:
        """Every name that a column can have, and how many runs have it; nested configuration with dots."""
        with self._lock:
            rows = [self._rows[key] for key in self.keys(project)]
            for row in rows:
                if row.names < 0:
                    self._parse(row)
            self._let_go()
            counts: tuple[Counter[str], ...] = (Counter(), Counter(), Counter())
            for number, runs in Counter(row.names for row in rows).items():
                for counter, names in zip(counts, self._name_sets[number], strict=True):
                    for name in names:
                        counter[name] += runs
            return Names(FIELDS, *(dict(sorted(counter.items())) for counter in counts))

    def unreadable(self) -> list[str]:
        """A sentence for each project and each run that may not be read; runs of it that were known are shown as they were."""
        with self._lock:
            found = dict(self._folders.unreadable)
            for key in [*self._pending, *(key for key, row in self._rows.items() if row.mark == 0)]:
                folder = RunFolder(f"{self._context.store}/{key.project}/{key.id}")
                if (why := why_unreadable(folder)) is not None:
                    found[folder.path] = why
            first = list(self._unreadable)
        return first or [f"{path} cannot be read ({why}); check who owns it" for path, why in sorted(found.items())]

    def _is_filling(self) -> bool:
        """Whether names may be missing because runs have not been read yet."""
        return False

    def _row(self, key: RunKey) -> _Row:
        row = self._rows.get(key)
        if row is None:
            raise UnknownRun(f"there is no run {key[1]!r} in the project {key[0]!r} of {self._context.store}")
        return row

    def _chosen(self, keys: Sequence[RunKey] | None) -> list[_Row | None]:
        return [self._rows.get(key) for key in (self.keys() if keys is None else keys)]

    def _fill(self, wanted: Mapping[ColumnName, Callable[[IndexRecord], Json]], rows: Sequence[_Row | None]) -> None:
        self._columns.fill(wanted, rows, self._parse)
        self._let_go()

    def _parse(self, row: _Row) -> IndexRecord:
        text = self._file.read(row.text) if isinstance(row.text, FilePlace) else row.text.read()
        if text is None:
            # A cache that was damaged costs one reading, never a wrong answer.
            record = read_record(RunFolder(f"{self._context.store}/{row.key.project}/{row.key.id}")).record
        else:
            record = parse_record(text)
        if row.names < 0:
            if len(self._name_sets) > 1000 + 2 * len(self._rows):
                self._forget_names()
            row.names = self._name_sets.number_of(record)
        return record.aged() if row.state == "running" else record

    def _forget_names(self) -> None:
        """Forget sets of names that no run has any more."""
        renumbered = self._name_sets.keep_only(row.names for row in self._rows.values() if row.names >= 0)
        for row in self._rows.values():
            row.names = renumbered.get(row.names, -1)

    def _let_go(self) -> None:
        """Give back the memory in which the mapped index was looked at: it can be read again."""
        mapped = {id(row.text.file): row.text.file for row in self._rows.values() if isinstance(row.text, MappedText)}
        for file in mapped.values():
            file.madvise(mmap.MADV_DONTNEED)


def _checksum(record: IndexRecord) -> int:
    return zlib.crc32(record._replace(duration=0.0).to_text()) or 1
