"""Runs as they are read: one run, the table of all runs, filters, SQL, events and console. Writes nothing into a store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lossbook.lazy import lazy_exports

if TYPE_CHECKING:
    from lossbook.reading.cache import RunCache as RunCache, share_memory as share_memory
    from lossbook.reading.console import (
        ConsoleLine as ConsoleLine,
        ConsolePage as ConsolePage,
        follow_console as follow_console,
        list_consoles as list_consoles,
        read_console as read_console,
        search_console as search_console,
    )
    from lossbook.reading.context import Question as Question, ReadContext as ReadContext
    from lossbook.reading.edit import (
        edit_run as edit_run,
        name_of as name_of,
        set_labels as set_labels,
        set_name as set_name,
        set_notes as set_notes,
        writable as writable,
    )
    from lossbook.reading.event_pages import EventPages as EventPages
    from lossbook.reading.events import read_events as read_events
    from lossbook.reading.index import IndexEntry as IndexEntry, index_path as index_path, read_index as read_index
    from lossbook.reading.listing import Changes as Changes, Listing as Listing, RunKey as RunKey
    from lossbook.reading.names import (
        COLUMN_FIELDS as COLUMN_FIELDS,
        FIELDS as FIELDS,
        all_names as all_names,
        bare as bare,
        compile_value as compile_value,
        lookup as lookup,
        nested as nested,
        plain_number as plain_number,
        presence as presence,
        refuse_unknown as refuse_unknown,
    )
    from lossbook.reading.pattern import LinePattern as LinePattern
    from lossbook.reading.query_result import QueryResult as QueryResult, first_sentence as first_sentence
    from lossbook.reading.record import IndexRecord as IndexRecord
    from lossbook.reading.run import RecordedRun as RecordedRun
    from lossbook.reading.sql import query_runs as query_runs
    from lossbook.reading.where import compile_where as compile_where, sorted_places as sorted_places
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "cache": "RunCache share_memory",
            "console": "ConsoleLine ConsolePage follow_console list_consoles read_console search_console",
            "context": "Question ReadContext",
            "edit": "edit_run name_of set_labels set_name set_notes writable",
            "event_pages": "EventPages",
            "events": "read_events",
            "index": "IndexEntry index_path read_index",
            "listing": "Changes Listing RunKey",
            "names": "COLUMN_FIELDS FIELDS all_names bare compile_value lookup nested plain_number presence refuse_unknown",
            "pattern": "LinePattern",
            "query_result": "QueryResult first_sentence",
            "record": "IndexRecord",
            "run": "RecordedRun",
            "sql": "query_runs",
            "where": "compile_where sorted_places",
        },
    )
