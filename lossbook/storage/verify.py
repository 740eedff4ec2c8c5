"""Checks a run file by file: what is damaged, what was saved of it, and what is well.

Every file is read whole and held against its digest: each byte of a sealed file, of a journal, of the small JSON files and
of media is covered. Of files that an older Lossbook wrote, sealed rows are held against their rollup, which was made
apart from them. Nothing is changed.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TYPE_CHECKING

from lossbook.errors import LossbookError
from lossbook.journal import (
    CHUNK_BYTES,
    JournalSegment,
    Reading,
    check_journal,
    describe_damage,
    find_gaps,
    journal_segments,
    read_segment,
    seems_over,
)
from lossbook.json_shapes import JsonObject
from lossbook.paths import FORMAT, RunFolder, SegmentName, file_names, parse_segment_name, read_json, read_json_file
from lossbook.run_files import links_of_run, open_run_file, walk_run_files
from lossbook.run_info import missing_fields, parse_run_info
from lossbook.storage.derived_files import read_seal_notes
from lossbook.storage.digests import compare, is_covered, read_digests
from lossbook.storage.schema import EVENTS, IDENTITY, METRICS, ROLLUP, TOP_LEVEL, connect, parquet
from lossbook.storage.segment import Segment
from lossbook.storage.segments import list_segments, sealed_segments
from lossbook.storage.visible_file import visible_path

if TYPE_CHECKING:
    import duckdb

_CHECKSUM = re.compile(r"[0-9a-f]{64}\Z")
#: That many findings of one sort are listed for a file; the last one says how many more there are.
_MOST = 20
#: How far two sums of the same numbers may lie apart, as a part of the sum of their sizes.
_ROUNDING = 1e-10


@dataclass(frozen=True)
class Finding:
    """What was found about one file, relative to the run's folder: well or not, and one sentence."""

    path: str
    ok: bool
    message: str


def verify_run(folder: RunFolder) -> list[Finding]:
    """Read every file of a run and say what state it is in.

    Returns:
        One finding or more for each file, in the order run.json, summary, sealed files, journals, media; a file
        that is not Lossbook's gets none.
    """
    checks = (_run_info, _summary, _notes, _sealed, _visible, _digests, _journals, _missing, _media, _links, _uncovered)
    return [
        Finding(os.path.relpath(finding.path, folder.path), finding.ok, finding.message)
        for check in checks
        for finding in _to_its_end(check, folder)
    ]


def _to_its_end(check: Callable[[RunFolder], Iterable[Finding]], folder: RunFolder) -> Iterator[Finding]:
    """What a check finds, and where it could not go on: a disk that fails now and then is a finding too."""
    import duckdb

    try:
        yield from check(folder)
    except (OSError, duckdb.Error) as error:
        path = error.filename if isinstance(error, OSError) and isinstance(error.filename, str) else folder.path
        said = str(error).strip().partition("\n")[0]
        yield Finding(path, False, f"it could not be checked to the end ({said}); check the disk, and verify again")


# -- small files ----------------------------------------------------------------------------------------------------


def _run_info(folder: RunFolder) -> Iterator[Finding]:
    path = folder.run_json
    try:
        found = read_json_file(path)
    except LossbookError as error:
        yield Finding(path, False, f"{error}; rows can still be read, the run's name and configuration cannot")
        return
    if found is None:
        yield Finding(path, False, "it is not there; rows can still be read, the run's name and configuration cannot")
        return
    values = found.values
    info, wrong = parse_run_info(values, folder)
    if info.format > FORMAT:
        yield Finding(
            path, False, f"it says format {info.format}, this version reads formats 1 to {FORMAT}: upgrade Lossbook"
        )
        return
    if missing := missing_fields(values):
        wrong.append(f"it lacks {', '.join(missing)}")
    if found.doubt is not None:
        wrong.append("it is not as it was written: somebody changed it, or it is damaged")
    if wrong:
        yield Finding(path, False, "; ".join(wrong))
        return
    covered = "" if found.is_covered else "; it has no checksum, so a changed value would not show"
    yield Finding(path, True, f"the run {info.name}, {_count(len(info.attempts), 'attempt')}{covered}")


def _summary(folder: RunFolder) -> Iterator[Finding]:
    path = folder.summary_json
    try:
        found = read_json_file(path)
        summary = read_json(path)
    except LossbookError as error:
        yield Finding(path, False, f"{error}; nothing is lost: delete it and it is made anew")
        return
    if summary is None:
        yield Finding(path, True, "not there yet; it is made from the rows")
    elif not isinstance(summary.get("metrics"), dict):
        yield Finding(path, False, "it holds no summary; nothing is lost: delete it and it is made anew")
    else:
        covered = (
            "" if found is not None and found.is_covered else "; it has no checksum, so a changed value would not show"
        )
        yield Finding(path, True, f"{summary.get('state')}, {_count(len(summary['metrics']), 'key')}{covered}")


def _notes(folder: RunFolder) -> Iterator[Finding]:
    """What followers keep: where they stand, and what they have found."""
    for filename in sorted(file_names(folder.followers)):
        path = os.path.join(folder.followers, filename)
        if not filename.endswith(".json") or filename == "seal.json":
            continue
        try:
            read_json(path)
        except LossbookError as error:
            yield Finding(path, False, f"{error}; it may be deleted")


def _media(folder: RunFolder) -> Iterator[Finding]:
    stored = set()
    for one in walk_run_files(folder.path, "media"):
        path = os.path.join(folder.path, one.name)
        checksum = os.path.basename(path).split(".", 1)[0]
        if not _CHECKSUM.match(checksum):
            continue
        stored.add(one.name)
        try:
            found = _sha256(folder.path, one.name)
        except OSError as error:
            yield Finding(path, False, f"it cannot be read ({error.strerror or error})")
            continue
        well = found == checksum
        yield Finding(path, well, "contents as named" if well else "it has been altered: its name is another SHA-256")
    for file in sorted(_media_named(folder) - stored):
        yield Finding(os.path.join(folder.path, file), False, "a row names this file, and it is not there")


def _links(folder: RunFolder) -> Iterator[Finding]:
    for link in links_of_run(folder):
        # What the training put into its own folder may be what it likes; it is not read there either.
        well = link.startswith("files/")
        yield Finding(os.path.join(folder.path, link), well, "it is a link; links among a run's files are not followed")


def _media_named(folder: RunFolder) -> set[str]:
    """The media files that rows speak of."""
    import duckdb
    import orjson

    named: list[str] = []
    for segment in list_segments(folder):
        bodies: list[JsonObject] = []
        try:
            if segment.journal is not None:
                for reading in _readings(segment.journal):
                    bodies += [row.body for row in reading.rows if row.kind in ("image", "table", "file")]
            elif segment.events is not None:
                with connect() as connection:
                    query = f"SELECT value FROM {parquet(segment.events)} WHERE kind IN ('image', 'table', 'file')"
                    bodies = [orjson.loads(value) for (value,) in connection.execute(query).fetchall()]
        except (OSError, duckdb.Error, orjson.JSONDecodeError):
            continue  # said by the check of that file itself
        named += [os.path.normpath(file) for body in bodies if isinstance(file := body.get("file"), str)]
    # A saved file may lie in the run's own `files/`, where the training may change it.
    return {file for file in named if not file.startswith("files" + os.sep)}


# -- sealed files ---------------------------------------------------------------------------------------------------


def _sealed(folder: RunFolder) -> Iterator[Finding]:
    segments = sealed_segments(folder)
    with connect() as connection:
        for segment in segments:
            yield from _sealed_segment(connection, folder, segment)
    for segment in segments:
        others = [other.name.stem for other in segments if other is not segment and _overlap(segment.name, other.name)]
        if others:
            said = f"it holds rows that {', '.join(others)} holds too: each is counted once"
            yield Finding(str(segment.metrics), True, said)
    yield from _leftovers(folder, [segment.name for segment in segments])
    # Journals that were damaged are gone once sealed; what was wrong with them was written down then.
    path = os.path.join(folder.followers, "seal.json")
    try:
        noted = read_seal_notes(folder).problems
    except LossbookError as error:
        yield Finding(path, False, f"{error}; it may be deleted")
        return
    for problem in noted[:_MOST]:
        # They name the run's folder as it was then; it may have been moved.
        name, _, rest = str(problem).rpartition(os.sep)[2].partition(".jsonl")
        sentence = f"{name}.jsonl{rest}" if rest and parse_segment_name(name) else str(problem)
        yield Finding(path, False, f"noted when it was sealed: {sentence}")
    if len(noted) > _MOST:
        yield Finding(path, False, f"and {len(noted) - _MOST} more of that sort")


def _overlap(one: SegmentName, other: SegmentName) -> bool:
    return one.rank == other.rank and one.first <= other.last and other.first <= one.last


def _visible(folder: RunFolder) -> Iterator[Finding]:
    """What other engines go by; nothing here reads it."""
    path = visible_path(folder)
    if os.path.exists(path):
        well = _compared(path) is not _State.DAMAGED
        damaged = "it is not what was written, its SHA-256 disagrees: delete it, and `lossbook seal` makes it again"
        yield Finding(path, well, "other engines see by it which rows count" if well else damaged)


def _digests(folder: RunFolder) -> Iterator[Finding]:
    """The files of digests themselves; those of journals are told with their journals."""
    standing = {f"{journal.name.stem}.journal.jsonl" for journal in journal_segments(folder.journal)}
    for filename in sorted(file_names(folder.digests)):
        path = os.path.join(folder.digests, filename)
        if filename.endswith(".sha256"):
            try:
                read_digests(path)
            except LossbookError as error:
                yield Finding(path, False, str(error))
            except OSError as error:
                yield Finding(path, False, f"it cannot be read ({error.strerror})")
        elif filename.endswith(".journal.jsonl") and filename not in standing:
            yield Finding(path, True, "its journal is sealed, or gone; removed by the next sealing")


def _sealed_segment(connection: duckdb.DuckDBPyConnection, folder: RunFolder, segment: Segment) -> Iterator[Finding]:
    """Each file of a segment against its digest; and what its contents say of where the damage lies."""
    found = list(_decoded(connection, folder, segment))
    states = {path: _compared(path) for path in (segment.metrics, segment.rollup, segment.events) if path is not None}
    # Of rows and a rollup that disagree, digests say which is damaged.
    rows_are_damaged = (
        states[str(segment.metrics)] is _State.DAMAGED and states.get(str(segment.rollup)) is _State.WHOLE
    )
    for path in dict.fromkeys([*states, *(finding.path for finding in found)]):
        own = [finding for finding in found if finding.path == path]
        if rows_are_damaged and path == segment.metrics:
            own += [finding for finding in found if finding.path == segment.rollup]
        faults = [finding for finding in own if not finding.ok]
        state = states.get(path)
        if state is _State.DAMAGED:
            said = [finding.message for finding in faults]
            sentence = "it is not what was written, its SHA-256 disagrees: restore it from a copy"
            yield Finding(path, False, "; ".join([sentence, *said]))
        elif rows_are_damaged and path == segment.rollup:
            yield Finding(path, True, "it is what was written")
        elif state is _State.UNCOVERED and not faults:
            yield from (Finding(path, True, f"{finding.message}; no digest covers it") for finding in own)
        else:
            yield from own


class _State(Enum):
    """How a sealed file compares with its digest."""

    WHOLE = auto()
    DAMAGED = auto()
    UNCOVERED = auto()


def _compared(path: str) -> _State:
    try:
        if compare(path) is not None:
            return _State.DAMAGED
        return _State.WHOLE if is_covered(path) else _State.UNCOVERED
    except (LossbookError, OSError):
        return _State.UNCOVERED  # the check of the file of digests, or of the file itself, says why


def _decoded(connection: duckdb.DuckDBPyConnection, folder: RunFolder, segment: Segment) -> Iterator[Finding]:
    """What the contents of a segment's files say."""
    metrics = str(segment.metrics)
    rows = None
    yield from (problems := list(_opened(connection, metrics, METRICS, segment.name)))
    if not problems:
        problems = list(_rows(connection, metrics))
        yield from problems
        rows = _number(connection, f"SELECT count(*) FROM {parquet(metrics)}")
        if not problems:
            yield Finding(metrics, True, f"{_count(rows, 'scalar')} in order")
    if segment.rollup is None:
        path = os.path.join(folder.rollups, f"{segment.name.stem}.parquet")
        yield Finding(path, False, "it is not there: curves are made of the rows instead, which is slower")
    else:
        yield from (problems := list(_opened(connection, segment.rollup, ROLLUP, segment.name)))
        if not problems and rows is not None:
            yield from _rollup(connection, segment.rollup, metrics)
    if segment.events is None:
        path = os.path.join(folder.events, f"{segment.name.stem}.parquet")
        yield Finding(path, False, "it is not there: the texts, notes, alerts and configuration changes in it are lost")
    else:
        yield from (problems := list(_opened(connection, segment.events, EVENTS, segment.name)))
        if not problems:
            yield from _events(connection, segment.events)


def _opened(
    connection: duckdb.DuckDBPyConnection, path: str, columns: dict[str, str], name: SegmentName
) -> Iterator[Finding]:
    """Whether a file can be decoded from end to end, has its columns, and belongs to the rank of its name."""
    import duckdb

    try:
        described = connection.execute(f"DESCRIBE SELECT * FROM {parquet(path)}").fetchall()
        found = {column: kind for column, kind, *_ in described}
        if all(found.get(column) == kind for column, kind in IDENTITY.items()):
            found = {column: kind for column, kind in found.items() if column not in IDENTITY}
        if found != columns:
            differing = sorted(column for column in {*found, *columns} if found.get(column) != columns.get(column))
            yield Finding(path, False, f"its columns {', '.join(differing)} are not as the format has them")
            return
        # A sum of hashes of whole rows decodes every page.
        connection.execute(f"SELECT sum(hash(one)) FROM {parquet(path)} AS one").fetchone()
        ranks = [rank for (rank,) in connection.execute(f"SELECT DISTINCT rank FROM {parquet(path)}").fetchall()]
    except (duckdb.Error, UnicodeDecodeError) as error:
        yield Finding(path, False, f"it cannot be read ({str(error).strip().splitlines()[0]}); restore it from a copy")
        return
    if ranks not in ([], [name.rank]):
        yield Finding(path, False, f"it holds rows of the ranks {sorted(ranks)}, and its name says {name.rank}")


def _rows(connection: duckdb.DuckDBPyConnection, path: str) -> Iterator[Finding]:
    before = "lag({0}) OVER () AS {0}_before"
    query = (
        f"SELECT count(*) FROM (SELECT key, step, row, {before.format('key')}, {before.format('step')}, "
        f"{before.format('row')} FROM {parquet(path)}) "
        "WHERE key_before IS NOT NULL AND (key, step, row) < (key_before, step_before, row_before)"
    )
    unsorted = _number(connection, query)
    if unsorted:
        yield Finding(path, False, f"{_count(unsorted, 'row')} out of order: curves may be wrong; rows are all there")
    empty = _number(
        connection,
        f"SELECT count(*) FROM {parquet(path)} WHERE key IS NULL OR row IS NULL OR step IS NULL OR time IS NULL OR "
        "value IS NULL OR attempt IS NULL",
    )
    if empty:
        yield Finding(path, False, f"{_count(empty, 'row')} with an empty field")


def _rollup(connection: duckdb.DuckDBPyConnection, path: str, metrics: str) -> Iterator[Finding]:
    finite = "FILTER (isfinite(value))"
    exact = (
        "key, attempt, count, nonfinite, min, max, first_step, last_step, first_row, last_row, first_time, last_time"
    )
    # Sums were added up in another order: they agree but for the rounding of each addition.
    query = f"""
        WITH counted AS (
            SELECT key, attempt, count(*) AS count, count(*) FILTER (NOT isfinite(value)) AS nonfinite,
                   min(value) {finite} AS min, max(value) {finite} AS max, min(step) AS first_step,
                   max(step) AS last_step, min(row) AS first_row, max(row) AS last_row, min(time) AS first_time,
                   max(time) AS last_time, fsum(value) {finite} AS sum, fsum(abs(value)) {finite} AS size
            FROM {parquet(metrics)} GROUP BY key, attempt),
        kept AS (SELECT {exact}, sum FROM {parquet(path)} WHERE level = {TOP_LEVEL})
        SELECT DISTINCT key FROM (
            SELECT key FROM (SELECT {exact} FROM counted EXCEPT ALL SELECT {exact} FROM kept)
            UNION ALL
            SELECT key FROM (SELECT {exact} FROM kept EXCEPT ALL SELECT {exact} FROM counted)
            UNION ALL
            SELECT key FROM counted JOIN kept USING (key, attempt)
            WHERE isfinite(size) AND abs(counted.sum - kept.sum) > {_ROUNDING} * size
        ) ORDER BY key"""
    differing = [key for (key,) in connection.execute(query).fetchall()]
    # Every level covers each row once, or is not there for that series.
    query = f"""
        WITH levels AS (
            SELECT key, attempt, level, sum(count) AS count, sum(nonfinite) AS nonfinite,
                   min(min) AS min, max(max) AS max
            FROM {parquet(path)} GROUP BY ALL)
        SELECT DISTINCT key FROM levels AS one JOIN levels AS top USING (key, attempt)
        WHERE top.level = {TOP_LEVEL} AND (one.count <> top.count OR one.nonfinite <> top.nonfinite
            OR one.min IS DISTINCT FROM top.min OR one.max IS DISTINCT FROM top.max) ORDER BY key"""
    differing += [key for (key,) in connection.execute(query).fetchall() if key not in differing]
    for key in differing[:_MOST]:
        yield Finding(path, False, f"it disagrees with the rows of {key!r}: one of the two files is damaged")
    if len(differing) > _MOST:
        yield Finding(path, False, f"and {len(differing) - _MOST} more keys of that sort")
    if not differing:
        buckets = _number(connection, f"SELECT count(*) FROM {parquet(path)}")
        yield Finding(path, True, f"{_count(buckets, 'bucket')} that agree with the rows")


def _events(connection: duckdb.DuckDBPyConnection, path: str) -> Iterator[Finding]:
    rows, bad = connection.execute(
        f"SELECT count(*), count(*) FILTER (value IS NULL OR NOT json_valid(value)) FROM {parquet(path)}"
    ).fetchall()[0]
    if bad:
        yield Finding(path, False, f"{_count(bad, 'row')} whose contents are not JSON")
    else:
        yield Finding(path, True, _count(rows, "row"))


def _leftovers(folder: RunFolder, names: list[SegmentName]) -> Iterator[Finding]:
    for directory in (folder.metrics, folder.rollups, folder.events):
        for filename in sorted(file_names(directory)):
            path = os.path.join(directory, filename)
            name = parse_segment_name(filename)
            if name is None:
                continue
            if filename.endswith(".tmp"):
                yield Finding(path, True, "half-written by a sealing that was cut off; passed over")
            elif filename.endswith(".parquet") and name not in names:
                covered = any(other.covers(name) for other in names)
                reason = "its rows are in a merged file" if covered else "left by a sealing that was cut off"
                yield Finding(path, True, f"{reason}; passed over, and removed by the next sealing")


# -- journals -------------------------------------------------------------------------------------------------------


@dataclass
class _Rank:
    """Where the journal of one rank stands."""

    expected: int | None = None
    number: int = 0
    problems: list[Finding] = field(default_factory=list)


def _journals(folder: RunFolder) -> Iterator[Finding]:
    sealed = [segment.name for segment in sealed_segments(folder)]
    beyond = {one.journal for one in list_segments(folder)}
    ranks: dict[int, _Rank] = {}
    for journal in journal_segments(folder.journal):
        if journal.path in beyond and any(name.covers(journal.name) for name in sealed):
            yield Finding(
                journal.path, False, "its segment is sealed, and it holds rows that the sealed file does not give"
            )
        elif any(name.covers(journal.name) for name in sealed):
            yield Finding(journal.path, True, "sealed already; passed over, and removed by the next sealing")
            continue
        state = ranks.setdefault(journal.name.rank, _Rank())
        if state.number + 1 != journal.name.first:
            state.expected = None  # the segments between are sealed, or reported as missing
        state.number = journal.name.last
        yield from _journal(journal, state)


def _journal(journal: JournalSegment, state: _Rank) -> Iterator[Finding]:
    rows = damaged = listed = 0
    torn = b""
    begins_well: bool | None = None
    try:
        for reading in _readings(journal.path):
            if begins_well is None and reading.rows:
                begins_well = reading.rows[0].kind == "attempt"
            # A damaged line was a row, so its number is not missing as well.
            gaps = find_gaps(reading.rows, journal.path, state.expected)
            gaps = [gap for gap in gaps if "again" in gap.message or _missing_rows(gap.message) > len(reading.problems)]
            for problem in [*reading.problems, *gaps]:
                listed += 1
                if listed <= _MOST:
                    where = f"line {problem.line}: " if problem.line else ""
                    yield Finding(journal.path, False, f"{where}{problem.message}")
            if reading.rows:
                state.expected = max(state.expected or 0, *(row.i + 1 for row in reading.rows))
            rows += len(reading.rows)
            damaged += len(reading.problems)
            torn = reading.torn
    except OSError as error:
        yield Finding(journal.path, False, f"it cannot be read ({error.strerror}); check who owns it")
        return
    if listed > _MOST:
        yield Finding(journal.path, False, f"and {listed - _MOST} more of that sort")
    if rows and not begins_well:
        yield Finding(journal.path, False, "it does not begin with its attempt; its rows count to the attempt before")
    if torn and seems_over(journal):
        yield Finding(journal.path, False, f"the last line is torn off after {len(torn)} bytes; it was no whole row")
    if damaged:
        yield Finding(journal.path, False, f"{_count(damaged, 'line')} damaged, {_count(rows, 'row')} saved")
    yield from _journal_digest(journal, f"{_count(rows, 'row')}" if not listed and not damaged else "")


def _journal_digest(journal: JournalSegment, well: str) -> Iterator[Finding]:
    """How a journal compares with its digest; `well` is what to say of it where nothing else is wrong."""
    path = os.path.join(os.path.dirname(os.path.dirname(journal.path)), "digests", f"{journal.name.stem}.journal.jsonl")
    check = check_journal(journal.path)
    if check.missing_bytes:
        yield Finding(
            journal.path, False, f"its last {check.missing_bytes:,} bytes are missing: its digest covers them"
        )
    elif well and check.damaged:
        # The end of the last line: to a reader it is a line that is not whole yet.
        yield Finding(journal.path, False, describe_damage(check))
    elif well:
        behind = journal.size_bytes() - check.covered
        uncovered = f"; the last {behind:,} bytes are not covered by a digest" if behind and check.covered else ""
        yield Finding(journal.path, True, f"{well}{uncovered if check.covered else '; no digest covers it'}")
    for number in check.damaged_lines[:_MOST]:
        yield Finding(path, False, f"line {number} is damaged; the journal that it covers is not")
    if len(check.damaged_lines) > _MOST:
        yield Finding(path, False, f"and {len(check.damaged_lines) - _MOST} more of that sort")
    if check.torn and seems_over(journal):
        yield Finding(path, False, "the last line is torn off; what it covered is not covered")
    elif check.has_digest and not check.damaged_lines:
        yield Finding(path, True, f"it covers {check.covered:,} bytes of the journal")


def _readings(path: str) -> Iterator[Reading]:
    """Read a segment piece by piece, whole lines each."""
    offset, line = 0, 1
    while True:
        reading = read_segment(path, offset=offset, first_line=line, limit_bytes=CHUNK_BYTES)
        if reading.offset == offset and not reading.torn:
            return
        yield reading
        if reading.torn:
            return
        offset = reading.offset
        line += len(reading.rows) + len(reading.problems)


def _missing_rows(sentence: str) -> int:
    numbers = [int(number) for number in re.findall(r"\d+", sentence)]
    return numbers[1] - numbers[0] + 1 if len(numbers) == 2 else 0


def _missing(folder: RunFolder) -> Iterator[Finding]:
    """Segments that should lie between others; the first of each rank is number 1."""
    reached: dict[int, int] = {}
    for segment in list_segments(folder):
        name = segment.name
        last = reached.get(name.rank, 0)
        if name.first > last + 1:
            lost = SegmentName(name.rank, last + 1, name.first - 1)
            which = f"segments {lost.first} to {lost.last} of rank {lost.rank} are"
            if lost.first == lost.last:
                which = f"segment {lost.stem} is"
            yield Finding(
                os.path.join(folder.journal, f"{lost.stem}.jsonl"),
                False,
                f"{which} missing, neither journal nor sealed: copy the run folder again if it came from elsewhere",
            )
        reached[name.rank] = max(last, name.last)


def _uncovered(folder: RunFolder) -> Iterator[Finding]:
    """What has no checksum, so that a byte that changed in it does not show."""
    for path, what in (
        (folder.console, "what was printed"),
        (folder.code, "code and environment"),
        (folder.files, "what the training keeps there itself"),
    ):
        number = sum(1 for _ in walk_run_files(folder.path, os.path.relpath(path, folder.path)))
        if number:
            yield Finding(path, True, f"{what}, {_count(number, 'file')}: no checksum covers it")


# -- files ------------------------------------------------------------------------------------------------------


def _sha256(run_path: str, name: str) -> str:
    with open(open_run_file(run_path, name), "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _number(connection: duckdb.DuckDBPyConnection, query: str) -> int:
    row = connection.execute(query).fetchone()
    return int(row[0]) if row and row[0] is not None else 0


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
