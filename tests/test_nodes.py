"""What is known of a run's machines: which rank is where, what its GPUs did, and who makes the others wait."""

from __future__ import annotations

from pathlib import Path

import pytest
from journals import WrittenRun

import lossbook
from lossbook.analysis.nodes import read_nodes
from lossbook.paths import MONITOR_RANK
from lossbook.storage.compaction import seal_run


def head(rank: int, host: str) -> tuple[str, dict[str, object]]:
    return ("attempt", {"number": 0, "rank": rank, "host": host, "pid": 100 + rank, "format": 1})


def written(tmp_path: Path, times: dict[int, float], key: str = "step_time") -> WrittenRun:
    """Two ranks a node on n0 and n1, GPU i beside rank i; rank 0 is slow to begin with."""
    run = WrittenRun(tmp_path / "store" / "tests" / "a1")
    for rank, seconds in times.items():
        begin = [(step, {key: 99.0, "loss": 1.0}) for step in range(1000)]
        now = [(step, {key: seconds, "loss": 1.0}) for step in range(1000, 3000)]
        run.segment([head(rank, f"n{rank // 2}"), *begin, *now], rank=rank, head=False, end="finished")
    for first in (0, 2):
        figures = {
            f"system.gpu.{first + k}.{name}": value
            for k in range(2)
            for name, value in (
                ("temp", 60.0 + first + k),
                ("gpu", 90.0),
                ("throttled", float(k)),
                ("throttle", 4.0 * k),
            )
        }
        run.segment([(step, figures) for step in (0, 1)], rank=MONITOR_RANK - first, end="finished")
    return run


@pytest.mark.parametrize("sealed", [False, True])
def test_each_node_has_its_ranks_and_gpus_and_the_slow_rank_is_named(tmp_path: Path, sealed: bool) -> None:
    run = written(tmp_path, {0: 1.0, 1: 1.0, 2: 1.5, 3: 1.0})
    if sealed:
        seal_run(run.folder, finished=True)
    found = read_nodes(lossbook.open(tmp_path / "store").run("a1"))
    assert [(node.host, node.first_rank, len(node.ranks)) for node in found.nodes] == [("n0", 0, 2), ("n1", 2, 2)]
    assert [[gpu.gpu.number for gpu in node.gpus] for node in found.nodes] == [[0, 1], [2, 3]]
    assert (found.step_key, found.is_speed) == ("step_time", False)
    assert found.slowest is not None
    assert (found.slowest.rank, found.slowest.pid, found.slowest.last_step) == (2, 102, 2999)
    assert found.slowest.step_time == 1.5
    assert found.slowest.slower_percent == pytest.approx(50.0)
    assert found.nodes[0].ranks[0].slower_percent == pytest.approx(0.0)
    cool, held = found.nodes[1].gpus
    assert cool.gpu.readings["temperature_celsius"].current == 62.0
    assert cool.throttled is not None
    assert cool.throttled.average == 0.0
    assert held.throttled is not None
    assert held.throttled.current == 1.0
    assert held.throttle_reasons == 4


def test_where_speeds_were_logged_the_lowest_is_slowest(tmp_path: Path) -> None:
    written(tmp_path, {0: 100.0, 1: 50.0}, key="tokens_per_second")
    found = read_nodes(lossbook.open(tmp_path / "store").run("a1"))
    assert found.is_speed
    assert found.slowest is not None
    assert (found.slowest.rank, found.slowest.slower_percent) == (1, pytest.approx(100.0))


def test_a_run_of_one_rank_has_nobody_to_compare_with(tmp_path: Path) -> None:
    with lossbook.init(project="tests", store=tmp_path / "store") as run:
        run.log({"loss": 1.0, "step_time": 0.5}, step=0)
    found = read_nodes(lossbook.open(tmp_path / "store").run(run.id))
    (node,) = found.nodes
    assert (len(node.ranks), node.ranks[0].step_time, node.ranks[0].slower_percent) == (1, 0.5, None)
    assert node.host
    assert found.slowest is None
