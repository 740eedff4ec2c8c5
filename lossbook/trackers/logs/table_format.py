"""Tables: a heading, then a line a row, with commas, tabs or semicolons between the cells."""

from __future__ import annotations

import csv
import io
import os
import re
import time
from collections.abc import Generator, Iterator
from typing import ClassVar

from lossbook.trackers.log_options import LogOptions
from lossbook.trackers.logs.format import QUIET_SECONDS, LogFormat, lines_before
from lossbook.trackers.logs.log import Entry, Log

#: A heading is no longer: what is longer is something else.
_LONGEST_LINE_BYTES = 1 << 20


class Table(LogFormat):
    """CSV, TSV and their kin: Lightning, Keras, Stable-Baselines3, TensorBoard's downloads."""

    kind: ClassVar[str] = "csv"
    title: ClassVar[str] = "CSV"
    endings: ClassVar[tuple[str, ...]] = (".csv", ".tsv")

    def look(self, path: str, options: LogOptions) -> Log | None:
        with open(path, "rb") as file:
            line = _first_line(file)
        separator = _separator(line)
        if separator is None:
            return None
        log = Log(path, self.kind, options=options)
        heading = [one.strip() for one in next(_records(iter([line]), separator), None) or []]
        if all(re.fullmatch(r"[-+.\deE]+", one) for one in heading if one):
            return None  # a table without a heading: nobody knows what its numbers are
        if heading == ["Wall time", "Step", "Value"]:
            # What TensorBoard's own page downloads: run-NAME-tag-TAG.csv.
            matched = re.match(r"run-(.*?)-tag-(.*)\.csv\Z", os.path.basename(path))
            log = log._replace(tag=matched[2] if matched else os.path.basename(path).removesuffix(".csv"))
        return self.with_columns(log)

    def entries(self, log: Log, start: int, remarks: list[str]) -> Generator[Entry, None, None]:
        consumed = number = 0
        with open(log.path, "rb") as file:
            quiet = time.time() - os.fstat(file.fileno()).st_mtime > QUIET_SECONDS

            def lines() -> Iterator[str]:
                nonlocal consumed, number
                for line in file:
                    if not line.endswith(b"\n") and not quiet:
                        return
                    consumed += len(line)
                    number += 1
                    yield line.decode("utf-8-sig" if consumed == len(line) else "utf-8", "replace").replace("\0", "")

            first = _first_line(file)
            separator = _separator(first) or ","
            file.seek(len(_comments(file)))
            consumed = file.tell()
            heading = [one.strip() for one in next(_records(lines(), separator), None) or []]
            if start:
                file.seek(start)
                consumed, number = start, lines_before(log.path, start)
            long, first_long = 0, 0
            for cells in _records(lines(), separator):
                if cells is None:
                    yield Entry({}, number, consumed, problem=f"line {number} is no line of a table: it ends there")
                    return
                if not any(cells):
                    continue
                if [one.strip() for one in cells] == heading:
                    continue  # written again by a process that was started again
                if len(cells) > len(heading):
                    long, first_long = long + 1, first_long or number
                    continue
                cells_by_name = {name: cell for name, cell in zip(heading, cells, strict=False) if name}
                yield Entry(cells_by_name, number, consumed)
        if long:
            remarks.append(
                f"{long} lines have more cells than the heading and were passed over, the first is line {first_long}"
            )


def _records(lines: Iterator[str], separator: str) -> Iterator[list[str] | None]:
    """The cells of each line; None where the text can be no table any more."""
    try:
        yield from csv.reader(lines, delimiter=separator)
    except csv.Error:
        yield None


def _comments(file: io.BufferedReader) -> bytes:
    """The lines in front of the heading that are comments, as Stable-Baselines3's monitor writes one."""
    file.seek(0)
    found = b""
    while (line := file.readline(_LONGEST_LINE_BYTES)).startswith(b"#"):
        found += line
    return found


def _first_line(file: io.BufferedReader) -> str:
    file.seek(len(_comments(file)))
    return file.readline(_LONGEST_LINE_BYTES).decode("utf-8-sig", "replace").strip("\r\n")


def _separator(line: str) -> str | None:
    """What stands between the names of a heading; a comma for a single name, None for a line that is no heading."""
    if line.lstrip().startswith(("{", "[", "<")) or not line.strip():
        return None
    counts = {separator: line.count(separator) for separator in (",", "\t", ";")}
    best = max(counts, key=lambda separator: counts[separator])
    return best if counts[best] else ","
