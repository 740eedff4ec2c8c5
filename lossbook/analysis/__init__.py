"""Answers over several runs or machines: comparisons, the best run, time to a target, GPUs, nodes, seed bands, reports."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lossbook.lazy import lazy_exports

if TYPE_CHECKING:
    from lossbook.analysis.best import best_run as best_run, best_value as best_value, direction as direction
    from lossbook.analysis.compare import (
        compare_runs as compare_runs,
        differing_settings as differing_settings,
        flatten_settings as flatten_settings,
    )
    from lossbook.analysis.comparison import Comparison as Comparison
    from lossbook.analysis.gpus import (
        Gpu as Gpu,
        GpuFigures as GpuFigures,
        Reading as Reading,
        read_gpus as read_gpus,
        total_memory as total_memory,
    )
    from lossbook.analysis.nodes import GpuState as GpuState, NodeState as NodeState, read_nodes as read_nodes
    from lossbook.analysis.report import (
        ReportEntry as ReportEntry,
        entries_of_runs as entries_of_runs,
        write_report as write_report,
    )
    from lossbook.analysis.seed_bands import Band as Band, seed_band as seed_band
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "best": "best_run best_value direction",
            "compare": "compare_runs differing_settings flatten_settings",
            "comparison": "Comparison",
            "gpus": "Gpu GpuFigures Reading read_gpus total_memory",
            "nodes": "GpuState NodeState read_nodes",
            "report": "ReportEntry entries_of_runs write_report",
            "seed_bands": "Band seed_band",
        },
    )
