"""Working time, GPU memory without waiting for a GPU, host memory in and out of containers, the model's size."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from lossbook.lm.memory import Timer, container_memory_bytes, gpu_memory, model_parameters, system_memory


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def pass_by(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_timer_leaves_out_what_it_was_paused_for(clock: Clock) -> None:
    timer = Timer(clock).start()
    clock.pass_by(10)
    with timer.paused():
        clock.pass_by(100)
        assert timer.elapsed_seconds == 10
        assert timer.running
    clock.pass_by(5)
    assert timer.elapsed_seconds == 15


def test_pauses_nest_and_end_with_an_exception_too(clock: Clock) -> None:
    timer = Timer(clock).start()
    with pytest.raises(RuntimeError), timer.paused():
        with timer.paused():
            clock.pass_by(1)
        clock.pass_by(1)
        raise RuntimeError("validation failed")
    clock.pass_by(3)
    assert timer.elapsed_seconds == 3


def test_a_timer_stands_before_its_start_and_after_its_stop_and_goes_on_when_started_again(clock: Clock) -> None:
    timer = Timer(clock)
    clock.pass_by(50)
    assert timer.elapsed_seconds == 0
    assert not timer.running
    timer.start()
    clock.pass_by(2)
    timer.start()
    clock.pass_by(2)
    assert timer.stop() == 4
    clock.pass_by(50)
    assert timer.elapsed_seconds == 4
    timer.start()
    clock.pass_by(1)
    assert timer.stop() == 5


def test_a_resume_without_a_pause_and_a_stop_within_one_do_no_harm(clock: Clock) -> None:
    timer = Timer(clock).start()
    timer.resume()
    clock.pass_by(1)
    timer.pause()
    clock.pass_by(10)
    timer.stop()
    timer.start()
    clock.pass_by(1)
    assert timer.elapsed_seconds == 2


def test_a_restored_timer_does_not_count_the_time_between(clock: Clock) -> None:
    timer = Timer(clock).start()
    clock.pass_by(30)
    kept = json.loads(json.dumps(timer.state_dict()))

    clock.pass_by(100_000)
    elsewhere = Clock()
    elsewhere.now = 7.0  # a machine that has just booted
    resumed = Timer(elsewhere)
    resumed.load_state_dict(kept)
    assert resumed.elapsed_seconds == 30
    resumed.start()
    elsewhere.pass_by(12)
    assert resumed.elapsed_seconds == 42


def test_a_state_loaded_into_a_running_timer_takes_the_place_of_what_it_had_counted(clock: Clock) -> None:
    timer = Timer(clock).start()
    clock.pass_by(99)
    timer.load_state_dict({"elapsed_seconds": 10})
    clock.pass_by(1)
    assert timer.elapsed_seconds == 11


def test_the_real_clock_only_goes_forward() -> None:
    timer = Timer().start()
    readings = [timer.elapsed_seconds for _ in range(100)]
    assert readings == sorted(readings)
    assert readings[0] >= 0


GIB = 2**30


def torch_with(
    devices: dict[int, tuple[int, int]], *, current: int = 0, initialised: bool = True, count: int = 4
) -> SimpleNamespace:
    """A torch whose GPUs of 80 GiB hold (allocated, reserved) bytes; whatever would wait for one is not there."""

    def counters(index: int) -> dict[str, Any]:
        allocated, reserved = devices.get(index, (0, 0))
        return {
            name: {"all": {"current": value, "peak": value}, "small_pool": {"current": 0}}
            for name, value in (("allocated_bytes", allocated), ("reserved_bytes", reserved))
        }

    cuda = SimpleNamespace(is_initialized=lambda: initialised)
    if initialised:
        cuda.current_device = lambda: current
        cuda.device_count = lambda: count
        cuda.memory_stats_as_nested_dict = counters
        cuda.get_device_properties = lambda index: SimpleNamespace(total_memory=80 * GIB)
    return SimpleNamespace(cuda=cuda)


def test_gpu_memory_shows_each_gpu_that_this_process_uses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", torch_with({0: (20 * GIB, 32 * GIB), 2: (0, GIB)}))
    assert gpu_memory() == {
        "memory/gpu_0_allocated_gb": 20.0,
        "memory/gpu_0_reserved_gb": 32.0,
        "memory/gpu_0_total_gb": 80.0,
        "memory/gpu_0_free_gb": 48.0,
        "memory/gpu_0_utilization_pct": 25.0,
        "memory/gpu_2_allocated_gb": 0.0,
        "memory/gpu_2_reserved_gb": 1.0,
        "memory/gpu_2_total_gb": 80.0,
        "memory/gpu_2_free_gb": 79.0,
        "memory/gpu_2_utilization_pct": 0.0,
    }


def test_the_current_gpu_is_shown_before_it_holds_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", torch_with({}, current=3))
    assert {key.split("_")[1] for key in gpu_memory()} == {"3"}


@pytest.mark.parametrize("torch", [None, SimpleNamespace(), torch_with({}, initialised=False)])
def test_gpu_memory_neither_imports_torch_nor_begins_cuda(torch: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", torch)
    assert gpu_memory() == {}


def test_the_installed_torch_has_every_counter_that_is_asked_for() -> None:
    cuda = pytest.importorskip("torch").cuda
    for name in (
        "is_initialized",
        "current_device",
        "device_count",
        "memory_stats_as_nested_dict",
        "get_device_properties",
    ):
        assert callable(getattr(cuda, name))


def test_system_memory_is_that_of_this_machine_or_less() -> None:
    memory = system_memory()
    used, total = memory["memory/system_memory_used_gb"], memory["memory/system_memory_total_gb"]
    assert 0 < used < total <= psutil.virtual_memory().total / GIB
    assert memory["memory/system_memory_percent"] == pytest.approx(100 * used / total)


def test_a_containers_limit_is_the_total(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lossbook.lm.memory.container_memory_bytes", lambda: (GIB // 4, GIB))
    assert system_memory() == {
        "memory/system_memory_used_gb": 0.25,
        "memory/system_memory_total_gb": 1.0,
        "memory/system_memory_percent": 25.0,
    }


Groups = Callable[[str, dict[str, str]], tuple[Path, Path]]


@pytest.fixture
def groups(tmp_path: Path) -> Groups:
    """Write what /proc/self/cgroup says, and the files under /sys/fs/cgroup."""

    def write(own: str, files: dict[str, str]) -> tuple[Path, Path]:
        listed, root = tmp_path / "cgroup", tmp_path / "sys"
        listed.write_text(own)
        for name, text in files.items():
            file = root / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        return listed, root

    return write


def test_the_tightest_group_around_a_process_counts(groups: Groups) -> None:
    listed, root = groups(
        "0::/kubepods/pod1/main\n",
        {
            "kubepods/memory.max": "1000000\n",
            "kubepods/memory.current": "999999\n",
            "kubepods/pod1/memory.max": "4000\n",
            "kubepods/pod1/memory.current": "3000\n",
            "kubepods/pod1/memory.stat": "anon 1500\ninactive_file 500\nactive_file 100\n",
            "kubepods/pod1/main/memory.max": "max\n",
            "kubepods/pod1/main/memory.current": "2900\n",
        },
    )
    assert container_memory_bytes(listed, root) == (2500, 4000)


def test_the_older_interface_is_read_and_its_largest_number_is_no_limit(groups: Groups) -> None:
    files = {
        "memory/docker/abc/memory.limit_in_bytes": "4000\n",
        "memory/docker/abc/memory.usage_in_bytes": "3000\n",
        "memory/docker/abc/memory.stat": "inactive_file 1\ntotal_inactive_file 1000\n",
        "memory/memory.limit_in_bytes": "9223372036854771712\n",
        "memory/memory.usage_in_bytes": "123\n",
    }
    listed, root = groups("5:cpu,cpuacct:/\n4:memory:/docker/abc\n0::/\n", files)
    assert container_memory_bytes(listed, root) == (2000, 4000)


def test_in_a_container_the_group_may_be_the_root_of_what_is_mounted(groups: Groups) -> None:
    files = {"memory/memory.limit_in_bytes": "4000\n", "memory/memory.usage_in_bytes": "1000\n"}
    listed, root = groups("4:memory:/docker/not-mounted-here\n", files)
    assert container_memory_bytes(listed, root) == (1000, 4000)


@pytest.mark.parametrize(
    ("own", "files"),
    [
        ("0::/user.slice\n", {"user.slice/memory.max": "max\n", "user.slice/memory.current": "5\n"}),
        (
            "4:memory:/\n",
            {"memory/memory.limit_in_bytes": "9223372036854771712\n", "memory/memory.usage_in_bytes": "5\n"},
        ),
        ("0::/a\n", {"a/memory.max": "4000\n"}),
        ("", {}),
        ("what is this", {}),
        ("0::/../../elsewhere\n", {"memory.current": "5\n"}),
    ],
    ids=["no limit", "no limit, older interface", "no usage", "no groups", "not a group file", "outside"],
)
def test_without_a_limit_there_is_no_container(own: str, files: dict[str, str], groups: Groups) -> None:
    assert container_memory_bytes(*groups(own, files)) is None


def test_a_machine_without_groups_has_no_container(tmp_path: Path) -> None:
    assert container_memory_bytes(tmp_path / "missing", tmp_path / "sys") is None


def test_a_models_parameters_are_counted_and_tied_ones_once() -> None:
    torch = pytest.importorskip("torch")
    model = torch.nn.ModuleDict({"embedding": torch.nn.Embedding(10, 4), "head": torch.nn.Linear(4, 10, bias=False)})
    assert model_parameters(model) == 80
    model["head"].weight = model["embedding"].weight
    assert model_parameters(model) == 40


def test_a_layer_that_does_not_know_its_size_yet_has_no_count() -> None:
    torch = pytest.importorskip("torch")
    assert model_parameters(torch.nn.LazyLinear(3)) is None


def test_other_models_need_only_parameters_that_have_shapes() -> None:
    import numpy

    shared = numpy.zeros((2, 3))
    nested = {"layers": [{"weight": shared, "bias": numpy.zeros(3)}, {"weight": shared}], "scale": numpy.zeros(())}
    assert model_parameters(SimpleNamespace(parameters=lambda: nested)) == 6 + 3 + 1
    assert model_parameters(SimpleNamespace(parameters=lambda: iter([shared]))) == 6


@pytest.mark.parametrize(
    "model", [None, 3, object(), SimpleNamespace(parameters=5), SimpleNamespace(parameters=lambda: 5)]
)
def test_what_is_no_model_has_no_count(model: object) -> None:
    assert model_parameters(model) is None
