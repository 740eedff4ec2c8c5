"""Experiments as the rows of a text table."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from lossbook.lm.log import ExperimentLog
from lossbook.lm.stored_logs import StoredLog
from lossbook.lm.summary import format_seconds

#: What the configuration is shown by in a table, and its heading.
SHAPE = (
    ("d_model", "d_model"), ("num_layers", "layers"), ("num_heads", "heads"), ("context_length", "context"),
    ("batch_size", "batch"), ("learning_rate", "max lr"),
)  # fmt: skip


def comparison_table(experiments: Sequence[tuple[str, ExperimentLog]]) -> str:
    """A line for each experiment, in this order; a column that is empty for all is left out."""
    rows = [_table_row(name, log) for name, log in experiments]
    headings = [heading for heading in rows[0] if any(row[heading] for row in rows)]
    widths = {heading: max(len(heading), *(len(row[heading]) for row in rows)) for heading in headings}

    def line(cells: Mapping[str, str]) -> str:
        shown = [
            cells[one].ljust(widths[one]) if number == 0 else cells[one].rjust(widths[one])
            for number, one in enumerate(headings)
        ]
        return "  ".join(shown).rstrip()

    rule = "  ".join("-" * widths[one] for one in headings)
    return "\n".join([line({one: one for one in headings}), rule, *(line(row) for row in rows)])


def _table_row(name: str, log: ExperimentLog) -> dict[str, str]:
    shape = {heading: short(getattr(log.config, field)) for field, heading in SHAPE}
    steps, rate = _last_step_and_rate(log)
    return {
        "experiment": name,
        **shape,
        "steps": f"{steps:,}" if steps else "",
        "best train": short(log.best_train_loss),
        "best val": short(log.best_val_loss),
        "final val": short(log.final_val_loss),
        "tokens/s": f"{rate:,.0f}" if rate else "",
        "wallclock": format_seconds(log.duration_seconds),
    }


def short(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _last_step_and_rate(log: ExperimentLog) -> tuple[int, float | None]:
    """The last gradient step, and the mean of the tokens per second."""
    if isinstance(log, StoredLog):
        return 0, None
    steps = log.metrics_history[-1].gradient_step if log.metrics_history else 0
    rates = [rate for one in log.metrics_history if (rate := one.tokens_per_sec) is not None and math.isfinite(rate)]
    return steps, math.fsum(rates) / len(rates) if rates else None
