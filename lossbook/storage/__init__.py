"""Sealed segments: the Parquet files that journal segments become, and the rows, buckets and figures read from them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lossbook.lazy import lazy_exports

if TYPE_CHECKING:
    from lossbook.storage.array_cache import ArrayCache as ArrayCache, FilesReplaced as FilesReplaced
    from lossbook.storage.attempts import NEVER as NEVER, is_shared as is_shared
    from lossbook.storage.buckets import BUCKET_COLUMNS as BUCKET_COLUMNS, Buckets as Buckets, between as between
    from lossbook.storage.chunks import SeriesPart as SeriesPart
    from lossbook.storage.compaction import (
        SealReport as SealReport,
        rewrite_sealed as rewrite_sealed,
        seal_run as seal_run,
    )
    from lossbook.storage.digests import (
        compare_ahead as compare_ahead,
        disagreement as disagreement,
        known_disagreements as known_disagreements,
    )
    from lossbook.storage.parents import (
        Ancestor as Ancestor,
        ancestors as ancestors,
        find_parent as find_parent,
    )
    from lossbook.storage.resume_point import (
        last_step as last_step,
        next_row as next_row,
        recorded_state as recorded_state,
    )
    from lossbook.storage.rollup import FINEST_LEVEL as FINEST_LEVEL, LEVEL_STEP as LEVEL_STEP
    from lossbook.storage.run_state import ENDED_BY_SECONDS as ENDED_BY_SECONDS, sealed_problems as sealed_problems
    from lossbook.storage.scan import LoggedRow as LoggedRow, Replay as Replay, visible as visible
    from lossbook.storage.schema import (
        EVENTS as EVENTS,
        METRICS as METRICS,
        METRICS_ROW_GROUP as METRICS_ROW_GROUP,
        TOP_LEVEL as TOP_LEVEL,
        Column as Column,
        Columns as Columns,
        Rows as Rows,
        connect as connect,
        fetch_columns as fetch_columns,
        parquet as parquet,
        quote as quote,
        quote_name as quote_name,
    )
    from lossbook.storage.sealed_files import (
        events_source as events_source,
        leave_out as leave_out,
        metrics_source as metrics_source,
    )
    from lossbook.storage.segment import Segment as Segment
    from lossbook.storage.segments import list_segments as list_segments
    from lossbook.storage.series_reader import RunRows as RunRows
    from lossbook.storage.statistics import Statistics as Statistics, statistics_of as statistics_of
    from lossbook.storage.summary import (
        LiveSummary as LiveSummary,
        compute_summary as compute_summary,
        overlay as overlay,
    )
    from lossbook.storage.summary_file import (
        MetricStatistics as MetricStatistics,
        MetricTable as MetricTable,
        RunSummary as RunSummary,
        read_summary as read_summary,
    )
    from lossbook.storage.verify import verify_run as verify_run
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "array_cache": "ArrayCache FilesReplaced",
            "attempts": "NEVER is_shared",
            "buckets": "BUCKET_COLUMNS Buckets between",
            "chunks": "SeriesPart",
            "compaction": "SealReport rewrite_sealed seal_run",
            "digests": "compare_ahead disagreement known_disagreements",
            "resume_point": "last_step next_row recorded_state",
            "parents": "Ancestor ancestors find_parent",
            "rollup": "FINEST_LEVEL LEVEL_STEP",
            "run_state": "ENDED_BY_SECONDS sealed_problems",
            "scan": "LoggedRow Replay visible",
            "schema": ("EVENTS METRICS METRICS_ROW_GROUP TOP_LEVEL connect fetch_columns parquet quote quote_name"),
            "sealed_files": "events_source leave_out metrics_source",
            "segment": "Segment",
            "segments": "list_segments",
            "series_reader": "RunRows",
            "statistics": "Statistics statistics_of",
            "summary": "LiveSummary compute_summary overlay",
            "summary_file": "MetricStatistics MetricTable RunSummary read_summary",
            "verify": "verify_run",
        },
    )
