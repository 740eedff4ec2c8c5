"""Figures with matplotlib: curves as PNG, SVG and PDF. Knows nothing of language models."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lossbook.lazy import lazy_exports

if TYPE_CHECKING:
    from lossbook.plots.figure import loss_keys as loss_keys, plot as plot
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "figure": "loss_keys plot",
        },
    )
