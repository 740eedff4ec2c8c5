"""Which findings belong together, and which of them was first: what comes after is what it led to, as a rule."""

from __future__ import annotations

from collections.abc import Iterable

from lossbook.diagnosis.finding import Finding

#: What may lead to what: findings about the curve, and findings about the machine and the pace.
_CHAINS = (
    frozenset({"nonfinite", "spike", "divergence"}),
    frozenset({"overheating", "throttling", "odd_gpu", "gpu_idle", "throughput", "straggler", "stall"}),
)
#: A finding that begins so many steps behind the end of another, or that share of its length, still belongs to it.
_GAP_STEPS, _GAP_SHARE = 50, 0.25
_SEVERITIES = {"error": 0, "warning": 1, "info": 2}


def group_findings(findings: Iterable[Finding]) -> list[tuple[Finding, ...]]:
    """Put findings that overlap or follow each other closely into groups.

    Returns:
        The groups, those with an error first, then by step; in each the first cause comes first.
    """
    groups: list[list[Finding]] = []
    for one in sorted(findings, key=lambda one: (one.first_step, _began_us(one), _SEVERITIES[one.severity])):
        group = next((group for group in groups if _belongs(one, group)), None)
        if group is None:
            groups.append([one])
        else:
            group.append(one)
    return [tuple(group) for group in sorted(groups, key=lambda group: (_severity(group), group[0].first_step))]


def _belongs(one: Finding, group: list[Finding]) -> bool:
    if not any(one.kind in chain and group[0].kind in chain for chain in _CHAINS):
        return False
    first, last = group[0].first_step, max(other.last_step for other in group)
    return one.first_step <= last + max(_GAP_STEPS, _GAP_SHARE * (last - first))


def _began_us(one: Finding) -> int:
    return min((seen.time_us for seen in one.evidence if seen.step >= one.first_step), default=0)


def _severity(group: list[Finding]) -> int:
    return min(_SEVERITIES[one.severity] for one in group)
