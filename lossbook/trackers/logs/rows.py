"""The rows of one log, from the entries of its format: steps, times, restarts, and the place to read on from.

A file to which lines are added is read on from where it ended; a damaged line costs itself and one sentence. A step that
falls is a restart: another attempt begins, and what the one before had beyond that step is hidden.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from lossbook.errors import StoreError
from lossbook.json_shapes import Json, JsonMapping, JsonObject, counts_of, object_or_empty, text_or_none, whole_or_none
from lossbook.trackers.logs.columns import (
    SECONDS,
    TIMES,
    flat,
    is_epoch,
    moment_in,
    series_of,
    step_of,
)
from lossbook.trackers.logs.formats import read_entries
from lossbook.trackers.logs.log import Entry, Log
from lossbook.trackers.logs.values import moment_of, number_of, seconds_of, whole_of
from lossbook.trackers.source import ForeignRow, ForeignRun, Rewritten

_HEAD_BYTES = 4096
#: Series whose last step is remembered.
_MOST_SERIES = 10_000


@dataclass
class Reading:
    """What one reading of a log's rows came to, for whoever asked for it.

    Attributes:
        rows: how many there were.
        remarks: what was assumed or passed over, a sentence each.
        kinds: of remarks that were made already.
    """

    rows: int = 0
    remarks: list[str] = field(default_factory=list)
    kinds: set[str] = field(default_factory=set)


def rows_of(log: Log, run: ForeignRun, reading: Reading) -> Iterator[ForeignRow]:
    """The rows behind `run.after`.

    Raises:
        StoreError: the file cannot be read.
        Rewritten: it is another log than the one that was read before, or is read with other options.
    """
    after = object_or_empty(run.after)
    if after and (text_or_none(after.get("options")) or "") != log.options.digest:
        raise Rewritten(f"{log.path} was imported with other options: remove the run that was imported")
    maker = _RowMaker(log, run, after, reading)
    yield from _json_rows(log, maker, after) if log.entries is not None else _line_rows(log, maker, after)


def _json_rows(log: Log, maker: _RowMaker, after: JsonMapping) -> Iterator[ForeignRow]:
    """The entries of a history, behind those that were read. It is written anew as it grows: the first must be the same."""
    entries = log.entries or []
    done = whole_or_none(after.get("entries")) or 0
    print_of_first = hashlib.sha256(repr(entries[:1]).encode("utf-8", "replace")).hexdigest()[:16]
    if done and (done > len(entries) or after.get("first") != print_of_first):
        raise Rewritten(f"{log.path} is another log than at the last import: remove the run that was imported")
    for entry in read_entries(log, done, maker.reading.remarks):
        yield from maker.rows(
            entry, lambda behind, end: {"entries": end if behind else end - 1, "first": print_of_first}
        )


def _line_rows(log: Log, maker: _RowMaker, after: JsonMapping) -> Iterator[ForeignRow]:
    """The lines of a file behind the offset that was read."""
    offset = start = whole_or_none(after.get("offset")) or 0
    try:
        with open(log.path, "rb") as file:
            head = file.read(_HEAD_BYTES)
            size = file.seek(0, os.SEEK_END)
    except OSError as error:
        raise StoreError(f"{log.path} cannot be read ({error.strerror}); check who owns it") from error
    length = min(whole_or_none(after.get("head_bytes")) or 0, _HEAD_BYTES)
    if offset and (size < offset or hashlib.sha256(head[:length]).hexdigest()[:16] != after.get("head")):
        raise Rewritten(f"{log.path} is another log than at the last import: remove the run that was imported")
    prints: dict[int, str] = {}

    def place(behind: bool, end: int) -> JsonObject:
        nonlocal prints
        length = min(end, len(head))
        if length not in prints:
            prints = {length: hashlib.sha256(head[:length]).hexdigest()[:16]}
        return {"offset": end if behind else start, "head": prints[length], "head_bytes": length}

    try:
        for entry in read_entries(log, offset, maker.reading.remarks):
            yield from maker.rows(entry, place)
            start = entry.end
    except OSError as error:
        if isinstance(error, StoreError):
            raise
        raise StoreError(f"{log.path} cannot be read ({error.strerror}); check the disk, and who owns it") from error


class _RowMaker:
    """Makes the rows of entries, one after the other; what it has to know of those before is in each row's place."""

    def __init__(self, log: Log, run: ForeignRun, after: JsonMapping, reading: Reading) -> None:
        self.reading = reading
        self._log, self._run = log, run
        # A log that has grown may look otherwise: it is read on as it was begun.
        begun = after.get("steps") is not None
        self._column = text_or_none(after.get("column")) if begun else log.columns.step
        self._counts_rows = bool(after.get("counts_rows")) if begun else log.columns.counts_rows
        self._number = whole_or_none(after.get("number")) or 0
        self._last = whole_or_none(after.get("last")) or 0
        self._stride = whole_or_none(after.get("stride")) or 1
        #: By series and metric, the last step.
        self._steps = counts_of(after.get("steps"))
        #: By epoch, what is added to a step that is counted anew in each; and the epoch of the last row.
        self._bases = counts_of(after.get("bases"))
        self._epoch = whole_or_none(after.get("epoch"))

    def rows(self, entry: Entry, place: Callable[[bool, int], JsonObject]) -> Iterator[ForeignRow]:
        """The rows of an entry: none, one, or the beginning of an attempt and one.

        Args:
            place: the file's part of a row's place: behind the entry that ends somewhere (True), or in front of it.
        """
        if entry.problem is not None:
            body = {"message": f"{self._log.path}: {entry.problem}"}
            row = ForeignRow(int(self._run.created * 1e6), None, "warning", None, body)
            yield row._replace(place=self._state(place(True, entry.end)))
            return
        values = dict(flat(entry.values))
        scalars = self._scalars(values)
        if not scalars or (self._counts_rows and all(map(is_epoch, scalars))):
            return
        epoch = next((whole_of(value) for key, value in values.items() if is_epoch(key)), None)
        series = series_of(values)
        rank = 0 if entry.rank == self._log.columns.rank else entry.rank
        keys = [f"{rank or ''}{series}|{key}" for key in scalars]
        step = self._step(entry, values, epoch)
        before = max((self._steps.get(key, step) for key in keys), default=step)
        if before > step:
            if epoch is not None and self._epoch is not None and epoch > self._epoch and not self._is_by_epoch():
                step = self._count_on(before, step, epoch, entry.line)
            else:
                self._steps.clear()
                self._remark(
                    f"the step falls from {before} to {step} in line {entry.line}: a restart, so what it repeats is hidden"
                )
                begun = ForeignRow(self._time_us(entry, values), None, "attempt", None, {"resume_step": step - 1})
                yield begun._replace(place=self._state(place(False, entry.end)))
        if len(self._steps) < _MOST_SERIES:
            self._steps.update(dict.fromkeys(keys, step))
        self._stride = step - self._last if step > self._last else self._stride
        self._last, self._epoch = step, epoch if epoch is not None else self._epoch
        self._number += 1
        self.reading.rows += 1
        row = ForeignRow(self._time_us(entry, values), step, None, None, scalars, rank)
        yield row._replace(place=self._state(place(True, entry.end)))

    def _scalars(self, values: Mapping[str, Json]) -> dict[str, float]:
        log, scalars = self._log, {}
        for key, value in values.items():
            # An epoch may be a fraction, and is worth an axis of its own.
            if (key == self._column and not is_epoch(key)) or key == log.columns.time:
                continue
            if key.lower() in TIMES and moment_of(value) is not None:
                continue  # "time" may be a duration as well, and is a metric then
            found = number_of(value)
            if found is not None:
                name = log.tag if log.tag is not None and key == "Value" else key
                scalars[log.options.rename.get(name, name)] = found
        return scalars

    def _step(self, entry: Entry, values: Mapping[str, Json], epoch: int | None) -> int:
        """The step of a row; where it has none, that of the row before."""
        if self._counts_rows:
            return self._number
        found: int | None
        if self._column is None:
            found = whole_of(entry.step)
        elif values.get(self._column) in (None, ""):
            found = step_of(values)
        else:
            found = whole_of(values[self._column])
            if found is None:
                self._remark(
                    f"{self._column} is no whole number in line {entry.line}: the row stands where the one before does"
                )
        if found is None:
            return self._last
        base = self._bases.get(str(epoch if epoch is not None else self._epoch), 0)
        return found if self._is_by_epoch() else found + base

    def _count_on(self, before: int, step: int, epoch: int, line: int) -> int:
        """The step of the first row of an epoch in which steps begin anew."""
        known = self._bases.get(str(self._epoch), 0)
        self._bases[str(self._epoch)] = known
        self._bases[str(epoch)] = before + self._stride - step + self._bases.get(str(epoch), 0)
        self._remark(f"the step begins anew with each epoch, first in line {line}: it is counted on")
        return before + self._stride

    def _is_by_epoch(self) -> bool:
        return self._column is not None and is_epoch(self._column)

    def _remark(self, sentence: str) -> None:
        # The first of each kind is enough: a log may have a million.
        kind = sentence.split(" in line ")[0].rstrip("0123456789 ")
        if kind not in self.reading.kinds:
            self.reading.kinds.add(kind)
            self.reading.remarks.append(sentence)

    def _state(self, place: JsonObject) -> JsonObject:
        state: JsonObject = {
            **place,
            "number": self._number,
            "last": self._last,
            "stride": self._stride,
            "steps": dict(self._steps),
            "column": self._column,
            "counts_rows": self._counts_rows,
            "bases": dict(self._bases),
            "epoch": self._epoch,
        }
        if self._log.options.digest:
            state["options"] = self._log.options.digest
        return state

    def _time_us(self, entry: Entry, values: Mapping[str, Json]) -> int:
        named = self._log.columns.time
        moment = moment_of(values.get(named)) if named is not None else None
        moment = entry.time if moment is None else moment
        moment = moment_in(values) if moment is None else moment
        if moment is not None:
            return round(moment * 1e6)
        for key, value in values.items():
            if key.rpartition("/")[2].lower() in SECONDS and (passed := seconds_of(value)) is not None:
                return round((self._run.created + passed) * 1e6)
        return int(self._run.created * 1e6)
