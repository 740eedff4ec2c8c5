"""The host, the training process and its children, and the limits of a container."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from lossbook import monitor as monitor_module
from lossbook.monitor import Family, FamilyLost, Monitor
from lossbook.monitor.base import Rates
from lossbook.monitor.cgroups import container_cpu, oom_kills
from lossbook.monitor.host import Host
from lossbook.monitor.process import TrainingProcess, node_environment

WaitUntil = Callable[..., None]

SPIN = "import os\nprint(flush=True)\nwhile True: pass"
HOLD = (
    "memory = bytearray(200_000_000)\nfor at in range(0, len(memory), 4096): memory[at] = 1\nprint(flush=True)\ninput()"
)


@pytest.fixture
def child() -> Iterator[Callable[[str], subprocess.Popen[bytes]]]:
    """Starts a child process of this one; it has printed a line when this returns."""
    started: list[subprocess.Popen[bytes]] = []

    def start(code: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        started.append(process)
        assert process.stdout is not None
        process.stdout.readline()
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


# -- host -----------------------------------------------------------------------------------------------------------


def test_the_host_is_measured_and_rates_begin_with_the_second_look(tmp_path: Path, wait_until: WaitUntil) -> None:
    host = Host(str(tmp_path))
    first = host.sample()
    assert 0 < first["memory_percent"] < 100
    assert 0 < first["disk_percent"] <= 100
    assert first["memory_percent"] == pytest.approx(
        100 * first["memory_used_bytes"] / first["memory_total_bytes"], abs=0.01
    )
    assert not [name for name in first if name.endswith("per_second") or name == "cpu_percent"]
    wait_until(lambda: "cpu_percent" in host.sample())
    later = host.sample()
    assert 0 <= later.get("cpu_percent", 0) <= 100
    assert later["network_sent_bytes_per_second"] >= 0


def test_a_counter_that_begins_again_gives_no_rate() -> None:
    rates = Rates()
    assert rates.of("sent", 100.0, 1.0) is None
    assert rates.of("sent", 300.0, 3.0) == 100.0
    assert rates.of("sent", 50.0, 4.0) is None
    assert rates.of("sent", 60.0, 5.0) == 10.0
    assert rates.of("sent", 60.0, 5.0) is None  # no time has passed


def groups(folder: Path, line: str, files: dict[str, str]) -> tuple[Path, Path]:
    """A process's control groups: the file that names them, and their folders."""
    for name, text in files.items():
        path = folder / "sys" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    listed = folder / "cgroup"
    listed.write_text(line)
    return listed, folder / "sys"


def test_the_processor_limit_of_a_container_is_read_from_either_interface(tmp_path: Path) -> None:
    v2 = groups(
        tmp_path / "v2",
        "0::/pod/inner\n",
        {
            "cpu.stat": "usage_usec 1\n",
            "pod/cpu.max": "150000 100000\n",
            "pod/cpu.stat": "usage_usec 2500000\nuser_usec 1\n",
            "pod/inner/cpu.max": "max 100000\n",
        },
    )
    assert container_cpu(*v2) == (2.5, 1.5)
    v1 = groups(
        tmp_path / "v1",
        "4:cpu,cpuacct:/job\n2:memory:/job\n",
        {
            "cpu/job/cpu.cfs_quota_us": "400000\n",
            "cpu/job/cpu.cfs_period_us": "100000\n",
            "cpuacct/job/cpuacct.usage": "7000000000\n",
        },
    )
    assert container_cpu(*v1) == (7.0, 4.0)
    free = groups(
        tmp_path / "free", "4:cpu:/job\n", {"cpu/job/cpu.cfs_quota_us": "-1\n", "cpu/job/cpu.cfs_period_us": "100000\n"}
    )
    assert container_cpu(*free) is None
    assert container_cpu(tmp_path / "missing", tmp_path) is None


def test_processes_that_the_kernel_ended_for_want_of_memory_are_counted_in_the_nearest_group(tmp_path: Path) -> None:
    v2 = groups(
        tmp_path / "v2",
        "0::/pod/inner\n",
        {"pod/memory.events": "oom 9\noom_kill 9\n", "pod/inner/memory.events": "low 0\noom 3\noom_kill 2\n"},
    )
    assert oom_kills(*v2) == 2
    v1 = groups(
        tmp_path / "v1",
        "4:memory:/job\n",
        {"memory/job/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 5\n"},
    )
    assert oom_kills(*v1) == 5
    machine = int(Path("/proc/vmstat").read_text().partition("\noom_kill ")[2].split()[0])
    assert oom_kills(tmp_path / "missing", tmp_path) == machine


def test_in_a_container_shares_are_of_what_it_may_use(tmp_path: Path) -> None:
    listed, root = groups(
        tmp_path,
        "0::/pod\n",
        {
            "pod/cpu.max": "50000 100000\n",
            "pod/cpu.stat": "usage_usec 0\n",
            "pod/memory.max": "4000000\n",
            "pod/memory.current": "3500000\n",
            "pod/memory.stat": "inactive_file 500000\n",
        },
    )
    host = Host(str(tmp_path), groups=listed, root=root)
    host.sample()
    (root / "pod/cpu.stat").write_text("usage_usec 250000\n")
    time.sleep(0.5)  # the time over which the rate is taken
    figures = host.sample()
    # A quarter of a second in half a second or a little more, of half a core: about all there is, and never above.
    assert 1 < figures["cpu_percent"] <= 100
    assert figures["memory_percent"] == 75.0
    assert figures["memory_total_bytes"] == 4_000_000.0


# -- the training process -------------------------------------------------------------------------------------------


def test_the_training_process_and_its_workers_are_measured(
    child: Callable[[str], subprocess.Popen[bytes]], wait_until: WaitUntil
) -> None:
    before = TrainingProcess(os.getpid())
    assert before.open()
    others = before.sample().get("system.proc.children", 0.0)  # what other tests have left running
    before.close()
    child(HOLD)
    worker = child(SPIN)
    process = TrainingProcess(os.getpid())
    assert process.open()
    figures = process.sample()
    assert figures["system.proc.children"] == others + 2.0
    assert figures["system.proc.children_memory_rss_bytes"] > 200_000_000
    assert figures["system.proc.memory_rss_bytes"] > 10_000_000
    wait_until(lambda: process.sample().get("system.proc.children_cpu_percent", 0.0) > 5)
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    assert process.sample()["system.proc.children"] == others + 1.0
    process.close()


def test_processor_time_of_workers_that_ended_is_not_taken_back(
    child: Callable[[str], subprocess.Popen[bytes]], wait_until: WaitUntil
) -> None:
    worker = child(SPIN)
    process = TrainingProcess(os.getpid())
    process.open()
    spent = Path(f"/proc/{worker.pid}/stat")
    wait_until(lambda: int(spent.read_text().rpartition(")")[2].split()[11]) > 0, what="the worker has spent a tick")
    process.sample()
    worker.kill()
    worker.wait()
    # A sum that shrank would give no rate, or one below zero.
    assert process.sample().get("system.proc.children_cpu_percent", 0.0) >= 0.0


def test_the_runs_processes_are_those_below_the_training_process(
    child: Callable[[str], subprocess.Popen[bytes]],
) -> None:
    nested = child(
        "import subprocess, sys\n"
        "inner = subprocess.Popen([sys.executable, '-c', 'input()'], stdin=subprocess.PIPE)\n"
        "print(inner.pid, flush=True)\ninput()"
    )
    alone = TrainingProcess(nested.pid)
    assert len(alone.processes()) == 2
    assert nested.pid in alone.processes()
    rank = TrainingProcess(nested.pid, is_one_of_several=True)
    rank.open()
    other = child("print(flush=True)\ninput()")
    assert other.pid in rank.processes()  # the same launcher's
    assert other.pid not in alone.processes()


def test_gpus_that_a_launcher_dealt_out_to_ranks_are_all_the_runs() -> None:
    code = "print(flush=True)\ninput()"
    job = {**os.environ, "MASTER_PORT": "29500"}
    ranks = []
    for local_rank, devices, port in (
        (1, "3", "29500"),
        (0, "2", "29500"),
        (2, "5", "29501"),
    ):  # the last is another job's
        environment = {**job, "LOCAL_RANK": str(local_rank), "CUDA_VISIBLE_DEVICES": devices, "MASTER_PORT": port}
        ranks.append(
            (
                subprocess.Popen(
                    [sys.executable, "-c", code], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
                ),
                environment,
            )
        )
    try:
        for process, _ in ranks:
            assert process.stdout is not None
            process.stdout.readline()
        process, environment = ranks[1]
        joined = node_environment(process.pid, environment)
        assert (joined["CUDA_VISIBLE_DEVICES"], joined["LOCAL_WORLD_SIZE"]) == ("2,3", "2")
        alone = {"CUDA_VISIBLE_DEVICES": "1"}
        assert node_environment(process.pid, alone) == alone
    finally:
        for process, _ in ranks:
            process.kill()
            process.communicate()


def test_a_process_that_has_ended_has_no_figures(child: Callable[[str], subprocess.Popen[bytes]]) -> None:
    worker = child("print(flush=True)\ninput()")
    process = TrainingProcess(worker.pid)
    process.open()
    worker.kill()
    worker.wait()
    assert process.sample() == {}
    assert not TrainingProcess(worker.pid).open()


# -- all together -----------------------------------------------------------------------------------------------------


class Shaky:
    """A family that does as it is told."""

    def __init__(self, figures: dict[str, float]) -> None:
        self.figures = figures
        self.error: Exception | None = None
        self.opened = self.closed = 0

    def open(self) -> bool:
        self.opened += 1
        return True

    def sample(self) -> dict[str, float]:
        if self.error is not None:
            raise self.error
        return dict(self.figures)

    def close(self) -> None:
        self.closed += 1


def test_a_family_that_fails_leaves_the_others_alone_and_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    good: Family = Shaky({"cpu_percent": 5.0})
    bad = Shaky({"system.gpu.0.gpu": 50.0})
    said: list[str] = []
    monitor = Monitor(os.getpid(), say=said.append, families={"bad": bad, "good": good})
    assert monitor.sample() == {"cpu_percent": 5.0, "system.gpu.0.gpu": 50.0, "gpu_utilization": 50.0}
    bad.error = FamilyLost("the driver is gone")
    assert monitor.sample() == {"cpu_percent": 5.0}
    assert monitor.sample() == {"cpu_percent": 5.0}
    assert (said, bad.opened, bad.closed) == (["the driver is gone"], 1, 1)
    bad.error = None
    assert "system.gpu.0.gpu" not in monitor.sample()  # not before it is time
    later = time.monotonic() + monitor_module.RETRY_SECONDS + 1
    monkeypatch.setattr(monitor_module, "time", SimpleNamespace(monotonic=lambda: later))
    assert monitor.sample()["system.gpu.0.gpu"] == 50.0
    assert bad.opened == 2
    monitor.close()


def test_bindings_may_raise_anything() -> None:
    bad = Shaky({})
    bad.error = ZeroDivisionError("in the driver's bindings")
    said: list[str] = []
    assert Monitor(os.getpid(), say=said.append, families={"bad": bad}).sample() == {}
    assert said == ["bad cannot be measured any more (ZeroDivisionError: in the driver's bindings); training goes on"]


def test_another_nodes_host_has_its_node_in_the_name() -> None:
    families = {
        "host": Shaky({"cpu_percent": 5.0, "system.proc.children": 2.0}),
        "gpus": Shaky({"system.gpu.8.gpu": 9.0}),
    }
    assert Monitor(os.getpid(), rank=8, families=families).sample() == {
        "cpu_percent/node_8": 5.0,
        "system.proc.children/node_8": 2.0,
        "system.gpu.8.gpu": 9.0,
    }
