"""Curves and heat maps: series decimated for drawing, against any axis, with no spike lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lossbook.lazy import lazy_exports

if TYPE_CHECKING:
    from lossbook.curves.axes import (
        CLOCKS as CLOCKS,
        draw_on_axis as draw_on_axis,
        place_events as place_events,
    )
    from lossbook.curves.cells import Matrix as Matrix
    from lossbook.curves.downsample import (
        Curve as Curve,
        check_points as check_points,
        gather as gather,
        level_for as level_for,
    )
    from lossbook.curves.heatmap import draw_matrix as draw_matrix
    from lossbook.curves.layers import layer_families as layer_families
    from lossbook.curves.smoothing import (
        Smoothing as Smoothing,
        exponential_moving_average as exponential_moving_average,
        gaussian as gaussian,
        moving_average as moving_average,
        moving_median as moving_median,
        parse_smoothing as parse_smoothing,
        smooth as smooth,
    )
    from lossbook.curves.sources import Source as Source, make_sources as make_sources
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "axes": "CLOCKS draw_on_axis place_events",
            "cells": "Matrix",
            "downsample": "Curve check_points gather level_for",
            "heatmap": "draw_matrix",
            "layers": "layer_families",
            "sources": "Source make_sources",
            "smoothing": "Smoothing exponential_moving_average gaussian moving_average moving_median parse_smoothing smooth",
        },
    )
