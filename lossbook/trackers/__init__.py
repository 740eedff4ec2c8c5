"""Other trackers. `mirror` and `source` are the contracts; one folder a tracker holds both directions and its file formats."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lossbook.lazy import lazy_exports

if TYPE_CHECKING:
    from lossbook.trackers.ingest import (
        import_rows as import_rows,
        import_run as import_run,
        rows_imported as rows_imported,
    )
    from lossbook.trackers.log_options import LogOptions as LogOptions
    from lossbook.trackers.mirror import (
        Ending as Ending,
        Mirror as Mirror,
        MirrorSettings as MirrorSettings,
        MirrorUnavailable as MirrorUnavailable,
        Subject as Subject,
    )
    from lossbook.trackers.mirrors import has_offline as has_offline, mirror_class as mirror_class
    from lossbook.trackers.source import ForeignRun as ForeignRun, Source as Source
    from lossbook.trackers.source_book import SourceBook as SourceBook
    from lossbook.trackers.sources import (
        SOURCES as SOURCES,
        find_logs as find_logs,
        find_source as find_source,
        only_read as only_read,
        open as open,
        source_class as source_class,
    )
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "ingest": "import_rows import_run rows_imported",
            "log_options": "LogOptions",
            "mirror": "Ending Mirror MirrorSettings MirrorUnavailable Subject",
            "mirrors": "has_offline mirror_class",
            "source": "ForeignRun Source",
            "source_book": "SourceBook",
            "sources": "SOURCES find_logs find_source only_read open source_class",
        },
    )
