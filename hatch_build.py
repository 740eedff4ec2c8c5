"""Has the dashboard's page built before a wheel, an editable install or a source distribution is made.

Node.js is asked of pip only if the page has to be built: a source distribution carries it built, and needs none.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

sys.path.insert(0, str(Path(__file__).resolve().parent / "scripts"))
import build_ui

sys.path.pop(0)


class PageBuildHook(BuildHookInterface[Any]):
    """`lossbook/web/static/` is up to date when hatchling gathers files."""

    def dependencies(self) -> list[str]:
        return [] if build_ui.Page(Path(self.root)).is_current() else [build_ui.NODE_REQUIREMENT]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        try:
            build_ui.Page(Path(self.root)).build()
        except build_ui.BuildFailed as failure:
            self.app.abort(str(failure))
