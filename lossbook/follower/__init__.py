"""Followers of the journal, in a process of their own beside the training.

`python -m lossbook.follower RUN_FOLDER` seals segments, keeps `summary.json` fresh, records what exactly was run,
and notices when training dies without a word. Training never waits for it and never notices its death.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lossbook.lazy import lazy_exports

if TYPE_CHECKING:
    from lossbook.follower.cursor import Cursor as Cursor, cursors as cursors, load_cursor as load_cursor
    from lossbook.follower.deliver import (
        Busy as Busy,
        Delivery as Delivery,
        UnforeseenFailure as UnforeseenFailure,
        cursor_name as cursor_name,
        ending_of as ending_of,
        is_complete as is_complete,
        undelivered_rows as undelivered_rows,
    )
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "cursor": "Cursor cursors load_cursor",
            "deliver": "Busy Delivery UnforeseenFailure cursor_name ending_of is_complete undelivered_rows",
        },
    )
