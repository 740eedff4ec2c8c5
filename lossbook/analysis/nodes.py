"""Reads the machines of a run: each node's GPUs, what a step takes on each rank, and which rank is slow.

GPUs are read from the run's statistics (`lossbook.analysis.gpus`); which node a rank is on, from the row that its journal
begins with. Step times are means over the run's last steps, so they say how it goes now.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy

from lossbook.analysis.gpus import Gpu, Reading, read_gpus
from lossbook.curves import gather
from lossbook.errors import LossbookError
from lossbook.metrics import is_speed, is_step_time, role_of
from lossbook.paths import MONITOR_RANK, is_monitor
from lossbook.run_info import Attempt, parse_attempt
from lossbook.storage import MetricTable

if TYPE_CHECKING:
    from lossbook.reading import RecordedRun

#: Step times are taken from this part of the steps at the end of the run, and from so many steps at the least.
RECENT_SHARE, RECENT_STEPS = 0.1, 200
_POINTS = 100


@dataclass(frozen=True)
class GpuState:
    """One GPU: its readings (see `Gpu.readings`), and whether its clock was held down.

    Attributes:
        throttled: 1 where it is held down by heat, power or the hardware: now, the share of samples, and whether it ever
            was; None where that was not logged.
        throttle_reasons: NVML's bits as they were logged last.
    """

    gpu: Gpu
    throttled: Reading | None
    throttle_reasons: int | None


@dataclass(frozen=True)
class RankState:
    """One rank of the run, as its last attempt has it.

    Attributes:
        host, pid: where it ran.
        step_time: the mean of `RunNodes.step_key` over the run's last steps, in that key's own unit; None where it was
            not logged by rank.
        slower_percent: by how much it is slower than the median of the other ranks; below 0 when it is faster. None
            where there are no others.
        last_step: the last step of which it logged that key.
    """

    rank: int
    host: str | None
    pid: int | None
    step_time: float | None
    slower_percent: float | None
    last_step: int | None


@dataclass(frozen=True)
class NodeState:
    """One machine of the run; `first_rank` is its lowest rank, `gpus` those that its follower measured."""

    host: str | None
    first_rank: int
    ranks: tuple[RankState, ...]
    gpus: tuple[GpuState, ...]


@dataclass(frozen=True)
class RunNodes:
    """The machines of a run, by their first ranks.

    Attributes:
        step_key: the series that ranks are compared by; None where none was logged by several ranks.
        is_speed: whether more of it is faster.
        slowest: the rank that is slowest, None where there is nobody to compare with.
    """

    nodes: tuple[NodeState, ...]
    step_key: str | None
    is_speed: bool
    slowest: RankState | None


def read_nodes(run: RecordedRun) -> RunNodes:
    """What is known of each node and rank of a run. Models and serial numbers of GPUs are not recorded."""
    metrics = run.statistics
    begun = _attempt_rows(run)
    times, key = _step_times(run, metrics)
    is_fast = key is not None and is_speed(key, run.record.define)
    ranks = sorted({*begun, *times} or {0})
    slower = _slower_percent({rank: mean for rank, (mean, _) in times.items()}, is_fast)
    states = []
    for rank in ranks:
        attempt = begun.get(rank, Attempt())
        mean, last_step = times.get(rank, (None, None))
        states.append(RankState(rank, attempt.host, attempt.pid, mean, slower.get(rank), last_step))
    compared = [state for state in states if state.slower_percent is not None]
    slowest = max(compared, key=lambda state: state.slower_percent or 0.0) if compared else None
    return RunNodes(_nodes(run, states, metrics), key, is_fast, slowest)


def _attempt_rows(run: RecordedRun) -> dict[int, Attempt]:
    """What each rank said when its last attempt began."""
    found: dict[int, Attempt] = {}
    try:
        events = run.events("attempt")
    except LossbookError:
        return found
    for event in events:
        if event["rank"] >= 0 and isinstance(event["value"], dict):
            found[event["rank"]] = parse_attempt(event["value"])
    return found


def _step_times(run: RecordedRun, metrics: MetricTable) -> tuple[dict[int, tuple[float, int]], str | None]:
    """Per rank the mean of a step-time series over the last steps, and its last step; and which series."""
    defined = run.record.define
    said = {key for key in metrics if role_of(key, defined) != role_of(key)}
    candidates = sorted(
        (key for key in metrics if is_step_time(key, defined) or is_speed(key, defined)),
        key=lambda key: (key not in said, not is_step_time(key, defined), len(key), key),
    )
    alone: tuple[dict[int, tuple[float, int]], str | None] = ({}, None)
    for key in candidates:
        found = run.consistently(partial(_by_rank, run, key))
        if len(found) > 1:
            return found, key
        if found and alone[1] is None:
            alone = found, key
    return alone


def _by_rank(run: RecordedRun, key: str) -> dict[int, tuple[float, int]]:
    sources = run.sources()[-1:]
    parts = [part for part in sources[0].rows.parts(key) if part.rank >= 0]
    if not parts:
        return {}
    newest = max(part.attempt for part in parts)
    parts = [part for part in parts if part.attempt == newest]
    first, last = min(part.first_step for part in parts), max(part.last_step for part in parts)
    since = max(first, last - max(RECENT_STEPS, int((last - first) * RECENT_SHARE)))
    buckets = gather(sources, key, points=_POINTS, first=since, last=last, attempt=newest)
    found: dict[int, tuple[float, int]] = {}
    for rank in sorted({part.rank for part in parts}):
        own = buckets["rank"] == rank
        finite = int((buckets["count"] - buckets["nonfinite"])[own].sum())
        if finite:
            ended = max(part.last_step for part in parts if part.rank == rank)
            found[rank] = (float(numpy.sum(buckets["sum"][own])) / finite, ended)
    return found


def _slower_percent(means: Mapping[int, float], speed: bool) -> dict[int, float]:
    """By how much each rank is slower than the median of the others."""
    found = {}
    for rank, mean in means.items():
        others = [other for number, other in means.items() if number != rank]
        if not others:
            continue
        usual = statistics.median(others)
        taken, expected = (usual, mean) if speed else (mean, usual)
        if expected > 0:
            found[rank] = 100.0 * (taken / expected - 1.0)
    return found


def _nodes(run: RecordedRun, ranks: list[RankState], metrics: MetricTable) -> tuple[NodeState, ...]:
    measured = {MONITOR_RANK - one.name.rank for one in run.rows().segments if is_monitor(one.name.rank)}
    firsts: list[int] = []
    for position, state in enumerate(ranks):
        before = ranks[position - 1].host if position else None
        # Ranks of a machine are neighbours; where hosts are not known, a follower begins a node.
        if position == 0 or (state.host != before if state.host and before else state.rank in measured):
            firsts.append(state.rank)
    gpus = [_gpu_state(gpu, metrics) for gpu in read_gpus(metrics).gpus]
    nodes = []
    for position, first in enumerate(firsts):
        end = firsts[position + 1] if position + 1 < len(firsts) else None
        own = tuple(state for state in ranks if state.rank >= first and (end is None or state.rank < end))
        # A node's GPUs are numbered from its first rank on.
        here = tuple(
            one for one in gpus if (one.gpu.number >= first or position == 0) and (end is None or one.gpu.number < end)
        )
        nodes.append(NodeState(own[0].host, first, own, here))
    return tuple(nodes)


def _gpu_state(gpu: Gpu, metrics: MetricTable) -> GpuState:
    label = f"/l:{gpu.node}" if gpu.node else ""
    throttled = metrics.get(f"system.gpu.{gpu.number}.throttled{label}")
    held = metrics.get(f"system.gpu.{gpu.number}.throttle{label}")
    reasons = None if held is None else held.last
    reading = None
    if throttled is not None:
        key = f"system.gpu.{gpu.number}.throttled{label}"
        reading = Reading(throttled.last, throttled.mean, throttled.max, throttled.count, key)
    return GpuState(gpu, reading, int(reasons) if reasons is not None and reasons == reasons else None)
