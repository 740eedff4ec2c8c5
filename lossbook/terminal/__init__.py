"""The terminal page: `lossbook watch`.

`drawing` draws curves with characters and `styled_text` is what they are made of; `lossbook show` prints the same.
`reader` looks at the store in a thread, `state` and `model` hold what the user chose, and the views turn both into
lines. `app` alone knows Textual: it hands keys in and lines out, and sends what changed of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lossbook.lazy import lazy_exports

if TYPE_CHECKING:
    from lossbook.terminal.app import Watch as Watch
    from lossbook.terminal.drawing import Line as Line, Look as Look, draw as draw, legend as legend, to_line as to_line
    from lossbook.terminal.model import Model as Model
    from lossbook.terminal.runs import run_line as run_line
    from lossbook.terminal.snapshot import Snapshot as Snapshot
    from lossbook.terminal.styled_text import STATE_COLORS as STATE_COLORS, plain_text as plain_text
    from lossbook.terminal.table import runs_table as runs_table
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "app": "Watch",
            "drawing": "Line Look draw legend to_line",
            "model": "Model",
            "runs": "run_line",
            "snapshot": "Snapshot",
            "styled_text": "STATE_COLORS plain_text",
            "table": "runs_table",
        },
    )
