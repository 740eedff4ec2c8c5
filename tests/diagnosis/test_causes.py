"""Findings that belong together are one group, and the first cause is its first."""

from __future__ import annotations

from lossbook.diagnosis import Evidence, Finding, group_findings


def found(kind: str, first: int, last: int, severity: str = "warning", *, at_us: int = 0) -> Finding:
    return Finding(kind, severity, "key", first, last, 1.0, 0.5, "a sentence", (Evidence("key", first, 1.0, at_us),))


def grouped(*findings: Finding) -> list[list[str]]:
    return [[one.kind for one in group] for group in group_findings(findings)]


def test_what_a_loss_goes_through_is_one_group_in_its_order() -> None:
    assert grouped(
        found("nonfinite", 900, 2000, "error"), found("divergence", 500, 880, "error"), found("spike", 480, 510)
    ) == [["spike", "divergence", "nonfinite"]]


def test_heat_comes_before_the_clock_and_the_clock_before_the_speed() -> None:
    assert grouped(found("throughput", 300, 900), found("throttling", 280, 900), found("overheating", 250, 900)) == [
        ["overheating", "throttling", "throughput"]
    ]


def test_what_begins_at_one_step_is_told_apart_by_its_time() -> None:
    assert grouped(found("spike", 100, 200, at_us=7), found("divergence", 100, 200, "error", at_us=9)) == [
        ["spike", "divergence"]
    ]


def test_what_is_far_apart_or_of_another_nature_is_a_group_of_its_own_and_errors_come_first() -> None:
    assert grouped(found("spike", 10, 12), found("plateau", 2000, 5000), found("nonfinite", 8000, 8100, "error")) == [
        ["nonfinite"],
        ["spike"],
        ["plateau"],
    ]
    assert grouped(found("spike", 10, 400), found("throughput", 20, 400)) == [["spike"], ["throughput"]]
