"""What a notebook shows: runs, tables and curves as HTML, a chart that follows a training, and `%lossbook`.

Pages of a notebook travel: what is shown holds no script and asks nothing of the network, and every name in it is escaped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lossbook.lazy import lazy_exports

if TYPE_CHECKING:
    from lossbook.notebook.cards import (
        book_html as book_html,
        curve_html as curve_html,
        live_run_html as live_run_html,
        run_html as run_html,
        runs_html as runs_html,
        table_html as table_html,
    )
    from lossbook.notebook.live_chart import LiveChart as LiveChart
    from lossbook.notebook.magics import (
        load_ipython_extension as load_ipython_extension,
        unload_ipython_extension as unload_ipython_extension,
    )
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "cards": "book_html curve_html live_run_html run_html runs_html table_html",
            "live_chart": "LiveChart",
            "magics": "load_ipython_extension unload_ipython_extension",
        },
    )
