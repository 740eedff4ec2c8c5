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
    from lossbook.analysis.seed_comparison import SeedComparison as SeedComparison, compare_groups as compare_groups
    from lossbook.analysis.seed_groups import group_runs as group_runs, setting_text as setting_text
    from lossbook.analysis.seed_pivot import SeedPivot as SeedPivot
    from lossbook.analysis.seed_statistics import SeedTable as SeedTable, seed_table as seed_table
    from lossbook.analysis.seed_summary import (
        SeedGroup as SeedGroup,
        Statistics as Statistics,
        csv_text as csv_text,
        setting_column as setting_column,
        summarize as summarize,
    )
    from lossbook.analysis.seed_view import make_seeds_view as make_seeds_view
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
            "seed_comparison": "SeedComparison compare_groups",
            "seed_groups": "group_runs setting_text",
            "seed_pivot": "SeedPivot",
            "seed_statistics": "SeedTable seed_table",
            "seed_summary": "SeedGroup Statistics csv_text setting_column summarize",
            "seed_view": "make_seeds_view",
        },
    )
