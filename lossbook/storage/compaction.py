"""Seals journal segments as Parquet, and merges small Parquet files into larger ones.

Every step can be cut off anywhere and done again, by this process or by another at the same time: files are
written under names of their own, flushed, read back, renamed into place (the one in `metrics/` last, as the
mark that the segment is sealed), and only then is what they replace removed.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

from lossbook.access import refusal
from lossbook.errors import LossbookError, StoreError
from lossbook.formatting import duration
from lossbook.journal import (
    JournalSegment,
    Writer,
    bring_rest_home,
    check_journal,
    describe_damage,
    digest_path,
    journal_segments,
    last_sign,
    place_name,
    segment_writers,
    server_clock,
    take_over,
)
from lossbook.paths import RunFolder, SegmentName, file_names, folder_lock, fsync_folder, parse_segment_name
from lossbook.processes import Life, Place, process_life, this_place
from lossbook.run_files import refuse_linked_folders
from lossbook.run_info import read_run_info
from lossbook.storage.derived_files import SealNotes, read_seal_notes, write_seal_notes
from lossbook.storage.digests import (
    disagreement,
    remove_digests,
    settle_digests,
    sha256_of,
    write_digests,
)
from lossbook.storage.resume_point import LAST_ROWS, next_row
from lossbook.storage.segment import Identity, Partials, Segment
from lossbook.storage.segments import list_segments, sealed_segments
from lossbook.storage.visible_file import visible_path, write_visible

if TYPE_CHECKING:
    from lossbook.storage.journal_rows import JournalRead, JournalRows

#: That many files of a like size are merged into one.
MERGE_FILES = 8
#: That much of a journal is sealed at once; its rows are held in memory meanwhile, at about ten times the size.
GROUP_BYTES = 32 << 20
#: A finished run is left with that many files, unless it is so small that merging them costs nothing.
FEW_FILES, FEW_ROWS = 4, 200_000
#: No file is merged beyond that many rows: it bounds the memory of a merge.
LARGEST_ROWS = 8_000_000


@dataclass
class SealReport:
    """What a sealing did. Sizes in bytes; `problems` a sentence each; `left` says what may still be written, if anything."""

    segments: int = 0
    rows: int = 0
    scalars: int = 0
    merged: int = 0
    rewritten: int = 0
    bytes_before: int = 0
    bytes_after: int = 0
    problems: list[str] = field(default_factory=list)
    left: str | None = None
    #: The keys and attempts of what was sealed.
    keys: set[str] = field(default_factory=set, repr=False)
    attempts: set[int] = field(default_factory=set, repr=False)


def seal_run(folder: RunFolder, *, finished: bool, node_only: bool = False, take_over: bool = False) -> SealReport:
    """Seal what can be sealed, then merge small files. A segment whose writer is not proven to be over is left alone.

    Args:
        finished: also seal each rank's last segment, if its writer is over, and merge all there is.
        node_only: leave alone what was written in another place than this process's: so does a follower.
        take_over: take segments over from writers that cannot be seen from here; never from one that is seen to live.

    Raises:
        StoreError: the folder cannot be written, or the disk is full; the journal is untouched.
    """
    report = SealReport()
    refuse_linked_folders(folder)
    with folder_lock(folder, "seal", seconds=60.0):
        place = this_place() if node_only else None
        _remove_leftovers(folder, place)
        journals: list[JournalSegment] = []
        left: list[Writer] = []
        writers = segment_writers(folder.journal)
        newest = {writer.segment.name.rank: writer.segment for writer in writers}
        sealed = {segment.name for segment in sealed_segments(folder)}
        for writer in writers:
            segment = writer.segment
            if any(name.covers(segment.name) for name in sealed):
                continue
            if segment.taken_bytes is None:
                if newest[segment.name.rank] is segment and not finished:
                    continue
                if place is not None and not _is_from(writer, place):
                    continue
                if writer.life is not Life.DEAD:
                    if not take_over or writer.life is Life.ALIVE:
                        left.append(writer)
                        continue
                    segment = _take_over(folder, segment)
            journals.append(segment)
        if left and not node_only:
            report.left = _why_left(folder, left)
        for group in _groups([journal for journal in journals if _is_whole(journal, report)]):
            seal_segments(folder, group, report)
        _settle_taken(folder)
        live = [segment for segment in list_segments(folder) if not segment.is_sealed]
        merge_segments(folder, report, everything=finished and not live)
        _settle_visible(folder, report, is_all=not sealed)
    return report


def rewrite_sealed(folder: RunFolder) -> SealReport:
    """Write those sealed segments anew that do not say which run they belong to, or name another project.

    Format 1 does not say it; and a run may have been moved to another project since it was sealed.

    Raises:
        StoreError: as `seal_run`.
    """
    from lossbook.storage.segment_file import says_identity, write_merged

    report = SealReport()
    refuse_linked_folders(folder)
    with folder_lock(folder, "seal", seconds=60.0):
        identity = _identity(folder)
        for segment in sealed_segments(folder):
            if says_identity(segment, identity):
                continue
            if damage := _damage(segment):
                report.problems += [f"{one}; it is left as it is" for one in damage]
                continue
            before = sum(map(_size, _files(segment)))
            write = partial(write_merged, [segment], identity, _spill_folder(folder))
            report.bytes_after += put_segment(folder, segment.name, write)
            report.bytes_before += before
            report.rewritten += 1
        if report.rewritten:
            _write_visible(folder, report)
    return report


def _settle_visible(folder: RunFolder, report: SealReport, *, is_all: bool) -> None:
    """Write `visible/` where it is not there, or rows were sealed.

    Args:
        is_all: what this sealing sealed is all that is sealed of the run.
    """
    info, _ = read_run_info(folder)
    # A parent's rows may have been sealed since.
    if (
        not report.segments
        and info.parent is None
        and (os.path.exists(visible_path(folder)) or not sealed_segments(folder))
    ):
        return
    keys = None
    if is_all and info.parent is None and len(info.attempts) <= 1 and len(report.attempts) == 1:
        keys = report.keys  # nothing is hidden, so its files need not be asked
    own_steps = {key: dict.fromkeys(report.attempts, 0) for key in keys} if keys is not None else None
    _write_visible(folder, report, own_steps)


def _write_visible(folder: RunFolder, report: SealReport, own_steps: dict[str, dict[int, int]] | None = None) -> None:
    """As `write_visible`; that it cannot be written costs other engines what was sealed, and nobody a row."""
    import duckdb

    try:
        write_visible(folder, own_steps)
    except FileNotFoundError:
        return  # merged meanwhile, by one who writes it
    except (LossbookError, OSError, duckdb.Error, UnicodeDecodeError) as error:
        report.problems.append(f"{visible_path(folder)} could not be written ({str(error).splitlines()[0]})")


def _journals_beyond(folder: RunFolder) -> set[str]:
    """Journals that hold rows which the sealed file of their segment lacks, or that stand for one that is damaged."""
    sealed = [segment.name for segment in sealed_segments(folder)]
    return {
        segment.journal
        for segment in list_segments(folder)
        if segment.journal is not None and any(name.covers(segment.name) for name in sealed)
    }


def _is_whole(journal: JournalSegment, report: SealReport) -> bool:
    """Whether a journal is what was written; one that is not stays as it is, so that nothing is lost or made to look well."""
    try:
        check = check_journal(journal.path)
    except OSError:
        return True  # sealing says what is wrong
    if check.damaged:
        report.problems.append(f"{journal.path} is not sealed: {describe_damage(check)}")
    return not check.damaged


def _is_from(writer: Writer, place: Place) -> bool:
    """Whether a segment was written in this place, or nowhere in particular (imported)."""
    return writer.place == place or (writer.is_whole and writer.attempt is not None and not writer.attempt.host)


def _why_left(folder: RunFolder, writers: list[Writer]) -> str:
    """Says of segments that are left alone who may still write them, and what to do."""
    # The one that is seen to live says most, and rank 0 more than the follower beside it.
    writer = min(writers, key=lambda one: (one.life is not Life.ALIVE, one.attempt is None, -one.segment.name.rank))
    attempt = writer.attempt
    names = ", ".join(one.segment.name.stem for one in writers[:4]) + (" …" if len(writers) > 4 else "")
    what = f"{names} {'is' if len(writers) == 1 else 'are'} left as {'it is' if len(writers) == 1 else 'they are'}"
    if attempt is None or writer.place is None:
        return f"{what}: it is not known who writes there; pass --take-over once nobody does"
    who = f"process {attempt.pid} on {attempt.host}"
    if writer.life is Life.ALIVE:
        return f"{what}: {who} is writing; its rows are sealed when that process ends"
    sign = last_sign(folder, writer.place, [writer.segment.path])
    try:
        quiet = None if sign is None else max(0.0, server_clock(folder) - sign.seconds)
    except OSError:
        quiet = None
    said = "" if quiet is None else f" (its last sign of life is {duration(quiet)} old)"
    return (
        f"{what}: {who} cannot be seen from here and may still be writing{said}; "
        "seal on that machine, or pass --take-over once that process has ended"
    )


def _take_over(folder: RunFolder, segment: JournalSegment, *, sealed_bytes: int = 0) -> JournalSegment:
    try:
        return take_over(segment, sealed_bytes=sealed_bytes)
    except FileNotFoundError:
        return segment  # sealed meanwhile
    except OSError as error:
        raise StoreError(
            f"{segment.path} cannot be renamed ({error.strerror or error}); it is untouched: check who owns it, "
            "and run `lossbook seal`"
        ) from error


def _settle_taken(folder: RunFolder) -> None:
    """See to the segments that were taken over and are sealed: what was added to them since, and their removal."""
    if not any(segment.taken_bytes for segment in journal_segments(folder.journal)):
        return
    sealed = {segment.name for segment in sealed_segments(folder)}
    for writer in segment_writers(folder.journal):
        segment = writer.segment
        if not segment.taken_bytes or not any(name.covers(segment.name) for name in sealed):
            continue
        is_over = writer.life is Life.DEAD  # looked at before the file is read to its end
        try:
            segment = bring_rest_home(folder, segment, next_row=next_row)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise StoreError(
                f"rows behind {segment.path} cannot be added to the run ({error.strerror or error}); they stay there: "
                "mend that and run `lossbook seal`"
            ) from error
        if is_over:
            _unlink(segment.path)
            _unlink(digest_path(folder, segment.name))


def _groups(journals: list[JournalSegment]) -> list[list[JournalSegment]]:
    """Neighbouring segments of a rank that are sealed as one: what waits already need not be merged later."""
    groups: list[list[JournalSegment]] = []
    size = 0
    for journal in journals:
        before = groups[-1][-1].name if groups else None
        size += journal.size_bytes()
        if (
            before is None
            or before.rank != journal.name.rank
            or before.last + 1 != journal.name.first
            or size > GROUP_BYTES
            or journal.taken_bytes is not None
            or groups[-1][-1].taken_bytes is not None
        ):
            groups.append([])
            size = journal.size_bytes()
        groups[-1].append(journal)
    return groups


def seal_segments(folder: RunFolder, journals: list[JournalSegment], report: SealReport | None = None) -> SealReport:
    """Turn neighbouring journal segments of one rank, to which nobody writes any more, into Parquet; remove them.

    Raises:
        StoreError: as `seal_run`.
    """
    from lossbook.storage.journal_rows import JournalRows, read_journal
    from lossbook.storage.segment_file import write_sealed

    report = report if report is not None else SealReport()
    before = sum(journal.size_bytes() for journal in journals)
    # Rows whose attempt row is damaged belong to the attempt before them.
    rank = journals[0].name.rank
    # What was noted of a sealing that was cut off says nothing of the rows before these.
    notes = _read_notes(folder)
    follows = notes.last_segment.get(rank, 0) == journals[0].name.first - 1
    rows = JournalRows(
        last_attempt=notes.last_attempt.get(rank, 0), next_row=notes.next_row.get(rank, 0) if follows else 0
    )
    try:
        reads = []
        for journal in journals:
            reads.append(read_journal(journal, rows))
            if (check := check_journal(journal.path)).missing_bytes:
                rows.problems.append(f"{journal.path}: {describe_damage(check)}")
    except FileNotFoundError:
        return report  # somebody else has sealed it meanwhile
    if journals[0].taken_bytes is not None:
        # A writer may yet add to it: what is sealed of it stands in its name before that is so.
        if not reads[0].whole_bytes:
            return report
        journals = [_take_over(folder, journals[0], sealed_bytes=reads[0].whole_bytes)]
    name = SegmentName(journals[0].name.rank, journals[0].name.first, journals[-1].name.last)
    # Noted before the journal goes: a resumed run that is cut off from it here still counts on from the right row.
    _note_sealed(folder, name, rows)
    identity = _identity(folder)
    after = put_segment(folder, name, lambda partials: write_sealed(rows, name.rank, identity, partials))
    for journal, read in zip(journals, reads, strict=True):
        if journal.taken_bytes is None:
            _remove_sealed(folder, journal, read)
    report.segments += len(journals)
    report.rows += len(rows.i) + len(rows.events)
    report.scalars += rows.scalars
    report.keys.update(rows.names)
    report.attempts.update(rows.attempt)
    report.bytes_before += before
    report.bytes_after += after
    report.problems += rows.problems
    return report


def _remove_sealed(folder: RunFolder, journal: JournalSegment, read: JournalRead) -> None:
    """Remove a journal that is sealed now, if it is still what was read; one that has grown is kept for its other rows."""
    try:
        if os.stat(journal.path).st_size == read.bytes:
            _unlink(journal.path)
            _unlink(digest_path(folder, journal.name))
        else:
            take_over(journal, sealed_bytes=read.whole_bytes)
    except OSError:
        return


def merge_segments(folder: RunFolder, report: SealReport, *, everything: bool = False) -> None:
    """Merge neighbouring sealed files: eight of a like size into one, or all of a rank when it has ended."""
    from lossbook.storage.segment_file import count_rows, write_merged

    counts: dict[SegmentName, int] = {}
    while True:
        sealed = sealed_segments(folder)
        if len(sealed) < 2:
            return  # a short run, as a rule: its file need not be opened again
        for segment in sealed:
            if segment.name not in counts:
                counts[segment.name] = count_rows(segment)
                if counts[segment.name] < 0:
                    report.problems.append(f"{segment.metrics} cannot be read; it is left as it is, and out of merging")
        # Merging must neither spread nor hide the damage.
        sealed = [segment for segment in sealed if counts[segment.name] >= 0]
        small = len(sealed) <= FEW_FILES and sum(counts[segment.name] for segment in sealed) > FEW_ROWS
        chosen = _choose(sealed, counts, everything and not small)
        if not chosen:
            return
        if damaged := {segment.name: damage for segment in chosen if (damage := _damage(segment))}:
            counts.update(dict.fromkeys(damaged, -1))
            report.problems += [f"{one}; it stays out of merging" for damage in damaged.values() for one in damage]
            continue
        name = SegmentName(chosen[0].name.rank, chosen[0].name.first, chosen[-1].name.last)
        before = sum(_size(path) for segment in chosen for path in _files(segment))
        after = put_segment(folder, name, partial(write_merged, chosen, _identity(folder), _spill_folder(folder)))
        for segment in chosen:
            for path in (segment.metrics, segment.rollup, segment.events):
                if path is not None:
                    _unlink(path)
            remove_digests(folder, segment.name.stem)
        report.merged += len(chosen)
        report.bytes_after += after - before


def _damage(segment: Segment) -> list[str]:
    """What is said of those of a segment's files that are not what was written, or cannot be read."""
    said: list[str | None] = []
    for path in _files(segment):
        try:
            said.append(disagreement(path))
        except FileNotFoundError:
            return []  # merged by another meanwhile
        except OSError as error:
            said.append(f"{path} cannot be read ({error.strerror or error})")
    return [sentence for sentence in said if sentence is not None]


def _choose(sealed: list[Segment], counts: dict[SegmentName, int], everything: bool) -> list[Segment]:
    """The next files to merge: neighbours of one rank, of one tier unless everything is to be merged."""
    for rank in sorted({segment.name.rank for segment in sealed}):
        run: list[Segment] = []
        rows = 0
        for segment in [one for one in sealed if one.name.rank == rank]:
            size = counts[segment.name]
            like = not run or everything or _tier(counts[run[-1].name]) == _tier(size)
            if run and (not like or rows + size > LARGEST_ROWS or segment.name.first != run[-1].name.last + 1):
                if everything and len(run) > 1:
                    return run
                run, rows = [], 0
            run.append(segment)
            rows += size
            if not everything and len(run) == MERGE_FILES:
                return run
        if everything and len(run) > 1:
            return run
    return []


def _tier(rows: int) -> int:
    """Files of one tier are within a factor of `MERGE_FILES` of each other; the smallest are all alike."""
    tier = 0
    while rows > 1 << 20:
        rows //= MERGE_FILES
        tier += 1
    return tier


def put_segment(folder: RunFolder, name: SegmentName, write: Callable[[Partials], None]) -> int:
    """Write a segment's three files and rename them into place; returns their size in bytes."""
    ending = f".{os.getpid()}-{os.urandom(3).hex()}.tmp"
    targets = [
        (os.path.join(folder.events, f"{name.stem}.parquet"), "events"),
        (os.path.join(folder.rollups, f"{name.stem}.parquet"), "rollup"),
        (os.path.join(folder.metrics, f"{name.stem}.parquet"), "metrics"),
    ]
    partials = Partials(**{kind: path + ending for path, kind in targets})
    try:
        os.makedirs(folder.events, exist_ok=True)
        os.makedirs(folder.rollups, exist_ok=True)
        os.makedirs(folder.metrics, exist_ok=True)
        write(partials)
        size = sum(_size(path + ending) for path, _ in targets)
        digests = {os.path.relpath(path, folder.path): sha256_of(path + ending) for path, _ in targets}
        write_digests(folder, name.stem, digests)
        # The folders may be new: without their own names, power loss would take what is in them, however well it is synced.
        fsync_folder(folder.path)
        for path, _ in targets:
            os.replace(path + ending, path)
            fsync_folder(os.path.dirname(path))
        settle_digests(folder, name.stem, digests)
        _unlink(os.path.join(folder.metrics, f"{name.stem}.rollup.parquet"))  # of format 1
        return size
    except BaseException as error:
        import duckdb

        for path, _ in targets:
            _unlink(path + ending)
        if isinstance(error, LossbookError) or not isinstance(error, (OSError, duckdb.Error)):
            raise
        why = (error.strerror if isinstance(error, OSError) else None) or str(error).strip().partition("\n")[0]
        raise StoreError(
            f"segment {name.stem} of {folder.path} could not be sealed ({why}); "
            "what it is made of is untouched: mend that and run `lossbook seal`"
        ) from error


def _identity(folder: RunFolder) -> Identity:
    """What sealed files say of the run that they belong to."""
    info, _ = read_run_info(folder)
    return Identity(info.project, info.id)


def _read_notes(folder: RunFolder) -> SealNotes:
    try:
        return read_seal_notes(folder)
    except LossbookError:
        return SealNotes()


def _note_sealed(folder: RunFolder, name: SegmentName, rows: JournalRows) -> None:
    """Keep the row number and the step that a resumed run goes on from, and what was found damaged."""
    notes, rank = _read_notes(folder), name.rank
    notes = replace(
        notes,
        next_row={**notes.next_row, rank: max(rows.next_row, notes.next_row.get(rank, 0))},
        last_attempt={**notes.last_attempt, rank: rows.last_attempt},
        last_segment={**notes.last_segment, rank: name.last},
        last_step={**notes.last_step, rank: max(rows.step[-LAST_ROWS:])} if rows.step else notes.last_step,
        problems=tuple(dict.fromkeys([*notes.problems, *rows.problems]))[-200:],
    )
    try:
        write_seal_notes(folder, notes)
    except OSError as error:
        raise StoreError(
            f"{folder.path} cannot be written ({refusal(error)}); its journal is untouched: make room, "
            "or check who owns it, and run `lossbook seal`"
        ) from error


def _remove_leftovers(folder: RunFolder, place: Place | None) -> None:
    """Remove what an interrupted sealing left: files whose rows are in another file, and old partial files.

    Args:
        place: leave journals that were written elsewhere alone; None for nowhere.
    """
    sealed = {segment.name for segment in sealed_segments(folder)}
    if any(name.covers(journal.name) for journal in journal_segments(folder.journal) for name in sealed):
        beyond = _journals_beyond(folder)
        for writer in segment_writers(folder.journal):
            journal = writer.segment
            if (
                not journal.taken_bytes
                and writer.life is Life.DEAD
                and (place is None or _is_from(writer, place))
                and any(name.covers(journal.name) for name in sealed)
                and journal.path not in beyond
            ):
                _unlink(journal.path)
                _unlink(digest_path(folder, journal.name))
        _settle_taken(folder)
    _remove_dead_spills(folder)
    now: float | None = None
    for directory in (folder.metrics, folder.rollups, folder.events, folder.digests):
        for filename in file_names(directory):
            path = os.path.join(directory, filename)
            if filename.endswith(".tmp"):
                try:
                    now = server_clock(folder) if now is None else now
                    if now - os.stat(path).st_mtime > 3600:
                        _unlink(path)
                except OSError:
                    pass
                continue
            name = parse_segment_name(filename)
            if filename.endswith(".rollup.parquet") and name is not None:  # of format 1
                replaced = os.path.exists(os.path.join(folder.rollups, f"{name.stem}.parquet"))
                if replaced:
                    _unlink(path)
            if name is not None and any(other != name and other.covers(name) for other in sealed):
                _unlink(path)


def _remove_dead_spills(folder: RunFolder) -> None:
    """Remove what a killed sort put on disk."""
    try:
        names = os.listdir(folder.followers)
    except OSError:
        return
    here = _spill_prefix()
    for name in names:
        pid = name.removeprefix(here).removesuffix(".tmp")
        if name == f"{here}{pid}.tmp" and pid.isdigit() and process_life(int(pid), None) is Life.DEAD:
            shutil.rmtree(os.path.join(folder.followers, name), ignore_errors=True)


def _spill_folder(folder: RunFolder) -> str:
    return os.path.join(folder.followers, f"{_spill_prefix()}{os.getpid()}.tmp")


def _spill_prefix() -> str:
    """Another place's process has the same number."""
    return f"sort-{place_name(this_place())}-"


def _files(segment: Segment) -> list[str]:
    return [path for path in (segment.metrics, segment.rollup, segment.events) if path is not None]


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        pass
