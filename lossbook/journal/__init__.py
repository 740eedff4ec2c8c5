"""The journal: append-only JSON Lines, one file per writing process and segment.

`line` owns the format of a line, `attempt_row` the row that begins a segment, `writer` the promise that a returned
append survives SIGKILL, `gate` that one thread writes at a time, `current_segment` that its file is at its path,
`home` where the run's folder is, `flush` what a loss of power cannot take, `bounded_text` how the console keeps its
beginning and its end, `async_writer` and `spill` the same for a file system that may hang, `waiting` for a run that
is not known yet, `digest` the checksums that tell a flipped byte, `reader` the reading of whatever is there, damaged
or not, `read_mark` whether a file is still the one that was read, `liveness` and `lease` whether somebody may still
write, `takeover` what is done where that cannot be seen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lossbook.lazy import lazy_exports

if TYPE_CHECKING:
    from lossbook.journal.async_writer import AsyncJournal as AsyncJournal
    from lossbook.journal.attempt_row import AttemptRow as AttemptRow, attempt_of as attempt_of
    from lossbook.journal.bounded_text import Gap as Gap, append_bounded as append_bounded, find_gap as find_gap
    from lossbook.journal.clock import RowClock as RowClock
    from lossbook.journal.digest import (
        DamagedPart as DamagedPart,
        JournalCheck as JournalCheck,
        check_journal as check_journal,
        covered_bytes as covered_bytes,
        damaged_parts as damaged_parts,
        describe_damage as describe_damage,
        digest_path as digest_path,
        extend_digest as extend_digest,
        extend_digests as extend_digests,
    )
    from lossbook.journal.digest_keeper import DigestKeeper as DigestKeeper
    from lossbook.journal.durability import choose_durability as choose_durability, file_system as file_system
    from lossbook.journal.home import Home as Home
    from lossbook.journal.lease import (
        RENEW_SECONDS as RENEW_SECONDS,
        SILENT_SECONDS as SILENT_SECONDS,
        Sign as Sign,
        drop_lease as drop_lease,
        last_sign as last_sign,
        lease_path as lease_path,
        named_limit as named_limit,
        place_name as place_name,
        renew_lease as renew_lease,
        seems_alive as seems_alive,
        server_clock as server_clock,
    )
    from lossbook.journal.left_out import note_left_out as note_left_out, take_left_out as take_left_out
    from lossbook.journal.line import (
        DamagedLine as DamagedLine,
        Row as Row,
        decode as decode,
        decode_number as decode_number,
        decode_plain as decode_plain,
        encode_number as encode_number,
        is_place as is_place,
        is_step as is_step,
        merge_config as merge_config,
    )
    from lossbook.journal.liveness import (
        Writer as Writer,
        is_this_process as is_this_process,
        life_of as life_of,
        live_writers as live_writers,
        living_writer as living_writer,
        place_of as place_of,
        seems_over as seems_over,
        segment_writers as segment_writers,
        writer_is_over as writer_is_over,
    )
    from lossbook.journal.null_journal import NullJournal as NullJournal
    from lossbook.journal.read_mark import (
        ReadMark as ReadMark,
        is_same_file as is_same_file,
        mark_of as mark_of,
    )
    from lossbook.journal.reader import (
        CHUNK_BYTES as CHUNK_BYTES,
        JournalSegment as JournalSegment,
        Reading as Reading,
        find_gaps as find_gaps,
        first_row as first_row,
        is_damaged as is_damaged,
        journal_segments as journal_segments,
        last_row as last_row,
        read_segment as read_segment,
        rows_backwards as rows_backwards,
    )
    from lossbook.journal.segment_numbers import next_child_rank as next_child_rank, next_segment as next_segment
    from lossbook.journal.spill import bring_home as bring_home
    from lossbook.journal.takeover import bring_rest_home as bring_rest_home, take_over as take_over
    from lossbook.journal.waiting import WaitingJournal as WaitingJournal
    from lossbook.journal.writer import Journal as Journal, NotPlain as NotPlain
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "async_writer": "AsyncJournal",
            "attempt_row": "AttemptRow attempt_of",
            "bounded_text": "Gap append_bounded find_gap",
            "digest": (
                "DamagedPart JournalCheck check_journal covered_bytes damaged_parts describe_damage digest_path extend_digest "
                "extend_digests"
            ),
            "digest_keeper": "DigestKeeper",
            "durability": "choose_durability file_system",
            "clock": "RowClock",
            "home": "Home",
            "line": "DamagedLine Row decode decode_number decode_plain encode_number is_place is_step merge_config",
            "lease": (
                "RENEW_SECONDS SILENT_SECONDS Sign drop_lease last_sign lease_path named_limit "
                "place_name renew_lease seems_alive server_clock"
            ),
            "left_out": "note_left_out take_left_out",
            "liveness": (
                "Writer is_this_process life_of live_writers living_writer place_of seems_over segment_writers "
                "writer_is_over"
            ),
            "null_journal": "NullJournal",
            "read_mark": "ReadMark is_same_file mark_of",
            "reader": (
                "CHUNK_BYTES JournalSegment Reading find_gaps first_row is_damaged journal_segments last_row read_segment "
                "rows_backwards"
            ),
            "segment_numbers": "next_child_rank next_segment",
            "spill": "bring_home",
            "takeover": "bring_rest_home take_over",
            "waiting": "WaitingJournal",
            "writer": "Journal NotPlain",
        },
    )
