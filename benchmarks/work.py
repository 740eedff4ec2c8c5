"""The work that every tracker is given: rows as a language-model trainer logs them, the same for all."""

from __future__ import annotations

import math
from typing import Any

Row = dict[str, float]

#: The ten scalars of the figures that speak of "10 scalars".
TEN_KEYS = (
    "train/loss",
    "train/perplexity",
    "train/learning_rate",
    "train/grad_norm",
    "time/tokens_seen",
    "time/wallclock_hours",
    "throughput/tokens_per_second",
    "progress/completion_pct",
    "gpu/compute_util_avg",
    "gpu/memory_used_avg_gb",
)
SPIKED_KEY = "train/loss"
SPIKE = 97.0
LAYERS = 8


def spike_steps(rows: int, spikes: int = 20) -> list[int]:
    """Steps at which the loss is `SPIKE` for one step: spread over the run, never at a round place."""
    return [int((place + 0.371) * rows / spikes) for place in range(spikes)] if rows >= 10 * spikes else []


def ten_columns(rows: int, *, seed: int = 0) -> dict[str, Any]:
    """The ten series, lists of length `rows`.

    Losses and norms have the 24 bits of a float32, because a trainer gets them with `.item()`; what Python
    computes has all 53; counters and percentages are what they are.
    """
    import numpy

    random = numpy.random.default_rng(seed)
    steps = numpy.arange(rows)
    decay = 2.6 + 8.2 * (1 + steps / max(1.0, rows * 0.004)) ** -0.45
    loss = _single(decay + random.normal(0, 0.06, rows))
    loss[spike_steps(rows)] = SPIKE
    seconds = numpy.cumsum(random.gamma(40.0, 0.25 / 40, rows))
    return {
        "train/loss": loss.tolist(),
        "train/perplexity": numpy.exp(numpy.minimum(loss, 20.0)).tolist(),
        "train/learning_rate": _schedule(rows, 6e-4).tolist(),
        "train/grad_norm": _single(numpy.exp(random.normal(-0.5, 0.35, rows))).tolist(),
        "time/tokens_seen": ((steps + 1) * 524288).tolist(),
        "time/wallclock_hours": (seconds / 3600).tolist(),
        "throughput/tokens_per_second": (524288 / random.gamma(40.0, 0.25 / 40, rows)).tolist(),
        "progress/completion_pct": (100.0 * steps / rows).tolist(),
        "gpu/compute_util_avg": random.integers(91, 100, rows).astype(float).tolist(),
        "gpu/memory_used_avg_gb": numpy.full(rows, 61.4375).tolist(),
    }


def thirty_columns(rows: int, *, seed: int = 0) -> dict[str, Any]:
    """The ten series and twenty more: norms of every layer, counters, what a GPU says of itself."""
    import numpy

    random = numpy.random.default_rng(seed + 1)
    columns = ten_columns(rows, seed=seed)
    for layer in range(LAYERS):
        norms = numpy.exp(random.normal(-1.5 + 0.1 * layer, 0.3, rows))
        columns[f"grad_norm/layers.{layer}"] = _single(norms).tolist()
    for layer in range(4):
        drift = 30.0 + layer + numpy.cumsum(random.normal(0.001, 0.0005, rows))
        columns[f"weight_norm/layers.{layer}"] = _single(drift).tolist()
    columns["optimizer/beta2"] = numpy.full(rows, 0.95).tolist()
    columns["optimizer/loss_scale"] = numpy.full(rows, 65536.0).tolist()
    columns["data/epoch"] = (numpy.arange(rows) // 4000).tolist()
    columns["data/documents_seen"] = numpy.cumsum(random.integers(400, 600, rows)).tolist()
    columns["system.gpu.0.temp"] = random.integers(61, 68, rows).astype(float).tolist()
    columns["system.gpu.0.powerWatts"] = numpy.round(random.normal(640, 18, rows), 1).tolist()
    columns["system.gpu.0.memory"] = random.integers(30, 55, rows).astype(float).tolist()
    columns["iter_time_ms"] = numpy.round(random.gamma(40.0, 250.0 / 40, rows), 3).tolist()
    return columns


def rows_of(columns: dict[str, Any]) -> list[Row]:
    """Columns to rows, a dictionary each."""
    keys = tuple(columns)
    return [dict(zip(keys, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def one_step() -> Any:
    """Return a function that does about a millisecond of matrix products, a stand-in for a training step."""
    import time

    import numpy

    random = numpy.random.default_rng(0)
    left = random.normal(size=(64, 256)).astype(numpy.float32)
    right = random.normal(size=(256, 256)).astype(numpy.float32)
    repeats = 1
    while True:
        begin = time.perf_counter()
        for _ in range(repeats):
            left @ right
        if time.perf_counter() - begin > 0.001:
            break
        repeats += 1

    def step() -> None:
        for _ in range(repeats):
            left @ right

    return step


def _single(values: Any) -> Any:
    import numpy

    return values.astype(numpy.float32).astype(numpy.float64)


def _schedule(rows: int, peak: float) -> Any:
    """Linear warm-up over a fiftieth of the run, then a cosine to a tenth of the peak; full doubles."""
    import numpy

    steps = numpy.arange(rows)
    warm_up = max(1, rows // 50)
    cosine = 0.55 + 0.45 * numpy.cos(math.pi * (steps - warm_up) / max(1, rows - warm_up))
    return peak * numpy.where(steps < warm_up, (steps + 1) / warm_up, cosine)
