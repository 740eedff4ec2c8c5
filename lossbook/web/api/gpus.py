"""What the machines of a run did: each GPU by node and rank, which rank makes the others wait, what was found wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lossbook.analysis import Reading, read_gpus
from lossbook.diagnosis import detector_classes
from lossbook.json_shapes import JsonObject, object_or_empty
from lossbook.metrics import host_charts, step_seconds
from lossbook.reading import RecordedRun
from lossbook.web import schemas
from lossbook.web.api.events import pages_of
from lossbook.web.routing import get
from lossbook.web.session import Session

if TYPE_CHECKING:
    from lossbook.analysis import GpuState, NodeState

_MOST_ALERTS = 1_000
_MOST_FINDINGS = 50


@dataclass(frozen=True)
class GpusQuestion:
    project: str
    run: str


def gpus(session: Session, question: GpusQuestion) -> schemas.Gpus:
    """What each GPU did and how fast each rank is; readings are statistics that the run keeps of its series."""
    from lossbook.analysis import read_nodes

    run = session.run(question.project, question.run)
    findings = [object_or_empty(alert["value"]["finding"]) for alert in _alerts(session, run)]
    found = read_nodes(run)
    behind = _stragglers(findings)
    metrics = run.record.metrics
    overall = read_gpus(metrics).overall
    return schemas.Gpus(
        gpus=[_gpu(node, state) for node in found.nodes for state in node.gpus],
        ranks=[
            schemas.RankSpeed(
                rank=state.rank,
                node=state.host,
                step_seconds=_seconds(found.step_key, state.step_time, found.is_speed),
                slower_percent=state.slower_percent or 0.0,
                straggler=state.rank in behind,
                value=state.step_time,
                last_step=state.last_step,
            )
            for node in found.nodes
            for state in node.ranks
        ],
        findings=_sentences(findings),
        overall=[_reading(quantity, one) for quantity, one in overall.items()],
        rank_key=found.step_key,
        host=[
            schemas.HostChart(chart.title, chart.unit, [schemas.HostSeries(*one) for one in chart.series])
            for chart in host_charts(metrics)
        ],
    )


def _gpu(node: NodeState, state: GpuState) -> schemas.Gpu:
    readings = [_reading(quantity, one) for quantity, one in state.gpu.readings.items()]
    if state.throttled is not None:
        readings.append(_reading("throttled", state.throttled))
    ranks = {one.rank for one in node.ranks}
    # A GPU is numbered as the rank that has it, where each rank has one.
    rank = state.gpu.number if len(ranks) > 1 and state.gpu.number in ranks else node.first_rank
    return schemas.Gpu(
        node=state.gpu.node or node.host,
        rank=rank,
        index=state.gpu.number,
        model=None,
        readings=readings,
        active=state.gpu.is_active,
        throttle_reasons=state.throttle_reasons,
    )


def _seconds(key: str | None, value: float | None, is_speed: bool) -> float | None:
    """A step time in seconds; None for a speed, of which it is not known how much a step is."""
    if key is None or value is None or is_speed:
        return None
    return step_seconds(key, value)


def _reading(quantity: str, reading: Reading) -> schemas.GpuReading:
    return schemas.GpuReading(quantity, reading.current, reading.average, reading.maximum, reading.key)


def _alerts(session: Session, run: RecordedRun) -> list[dict[str, Any]]:
    """The alerts that are about the machine or the pace rather than about the curve, the oldest first."""
    kinds = {detector.kind for detector in detector_classes() if not detector.is_of_curve}
    return [
        alert
        for alert in pages_of(session, run).choose(["alert"], limit=_MOST_ALERTS).events
        if isinstance(alert["value"].get("finding"), dict) and alert["value"]["finding"].get("kind") in kinds
    ]


def _sentences(findings: Sequence[JsonObject]) -> list[str]:
    """What was found wrong while the run was written: each finding once, as it was said last."""
    found: dict[tuple[str, str, str], str] = {}
    for finding in findings:
        name = str(finding.get("kind")), str(finding.get("key")), str(finding.get("first_step"))
        found[name] = str(finding.get("sentence") or finding.get("kind"))
    return list(found.values())[-_MOST_FINDINGS:]


def _stragglers(findings: Sequence[JsonObject]) -> set[int]:
    """The ranks that made others wait, as the rows that showed it say."""
    found = set()
    for finding in findings:
        evidence = finding.get("evidence")
        if finding.get("kind") == "straggler" and isinstance(evidence, list) and evidence:
            rank = evidence[0].get("rank") if isinstance(evidence[0], dict) else None
            if isinstance(rank, int):
                found.add(rank)
    return found


ROUTES = [get("/api/run/gpus", GpusQuestion, gpus)]
