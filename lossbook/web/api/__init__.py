"""What the dashboard can be asked, one file for each group of questions; plain functions that know nothing of HTTP."""

from __future__ import annotations

import importlib

from lossbook.web.routing import Route

#: The modules that have a table `ROUTES`.
MODULES = (
    "store", "project", "curves", "comparing", "run", "events", "console", "gpus", "code", "files", "matrix", "edit",
)  # fmt: skip


def routes() -> list[Route]:
    """Every question that is answered."""
    return [route for name in MODULES for route in importlib.import_module(f"{__name__}.{name}").ROUTES]
