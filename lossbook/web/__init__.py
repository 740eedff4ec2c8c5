"""The dashboard: a server on the reading API, and the page that it serves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lossbook.lazy import lazy_exports

if TYPE_CHECKING:
    from lossbook.web.html_export import POINTS as POINTS, make_html_page as make_html_page
    from lossbook.web.server import Server as Server, make_app as make_app
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "html_export": "POINTS make_html_page",
            "server": "Server make_app",
        },
    )
