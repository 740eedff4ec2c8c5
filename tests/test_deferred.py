"""A value on a device never makes training wait: its row comes later, as if it had been written at once.

`Device` stands in for CUDA: it has the parts of torch that `run/deferred.py` uses, runs nothing until it is told to,
and refuses to be waited for on the training thread.
"""

from __future__ import annotations

import math
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

import lossbook
from lossbook.journal.reader import journal_segments, read_segment
from lossbook.paths import RunFolder
from lossbook.run import deferred
from lossbook.run.deferred import DeferredRows


class Device:
    """A queue of work, done when `run()` says so. `waits` are the threads that waited for it."""

    type = "cuda"

    def __init__(self) -> None:
        self.ran = threading.Event()
        self.fails = False
        self.waits: list[str] = []

    def run(self) -> None:
        self.ran.set()

    def wait(self) -> None:
        assert threading.current_thread() is not threading.main_thread(), "the training thread waits for the device"
        self.waits.append(threading.current_thread().name)
        assert self.ran.wait(20)
        if self.fails:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")


class Tensor:
    """A 0-d tensor on a `Device`; reading it waits."""

    is_cuda = True
    shape = ()
    requires_grad = False

    def __init__(self, device: Device, read: float | Callable[[], float], elements: int = 1) -> None:
        self.device, self.elements = device, elements
        self.read = read if callable(read) else lambda: read
        self.streams: list[Any] = []

    def fill_(self, value: float) -> None:
        self.read = lambda: value

    def numel(self) -> int:
        return self.elements

    def detach(self) -> Tensor:
        return self

    def clone(self) -> Tensor:
        return Tensor(self.device, self.read())

    def reshape(self, shape: tuple[int, ...]) -> Tensor:
        assert shape == ()
        return self

    def to(self, dtype: str) -> Tensor:
        return self

    def record_stream(self, stream: Any) -> None:
        self.streams.append(stream)

    def item(self) -> float:
        self.device.wait()
        return self.read()

    __float__ = item

    def tolist(self) -> float:
        return self.item()


class Elsewhere(Tensor):
    """A tensor on a device that is not CUDA."""

    is_cuda = False


class Landing:
    """A place in pinned memory: holds nothing before the copy has run."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.source: Tensor | None = None

    def copy_(self, source: Tensor, *, non_blocking: bool) -> None:
        assert non_blocking
        self.source = source

    def tolist(self) -> list[float]:
        assert self.source is not None
        assert self.source.device.ran.is_set(), "read before the copy has run"
        values: Any = self.source.read()
        assert len(values) == self.count
        return list(values)


class Stream:
    def __init__(self, device: Device) -> None:
        self.waited_for: list[Any] = []

    def wait_stream(self, other: Any) -> None:
        self.waited_for.append(other)


@pytest.fixture
def device() -> Iterator[Device]:
    device = Device()
    yield device
    device.run()


@pytest.fixture
def torch(device: Device, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module in torch's place, with the few names that copying takes."""
    current: list[Any] = ["training"]

    @contextmanager
    def stream(side: Any) -> Iterator[None]:
        current.append(side)
        yield
        current.pop()

    def stack(tensors: list[Tensor]) -> Tensor:
        if current[-1] == "training":
            # In the order of the training stream: what is changed afterwards is not seen.
            values: Any = [tensor.read() for tensor in tensors]
            return Tensor(device, lambda: values)
        return Tensor(device, lambda: [tensor.read() for tensor in tensors])  # type: ignore[arg-type, return-value]

    class Event:
        def __init__(self, *, blocking: bool) -> None:
            assert blocking, "a spinning wait takes a core from training"

        def record(self, stream: Any) -> None:
            assert isinstance(stream, Stream)

        def synchronize(self) -> None:
            device.wait()

    def empty(count: int, *, dtype: str, pin_memory: bool) -> Landing:
        assert pin_memory
        assert dtype == "float64"
        return Landing(count)

    module: Any = ModuleType("torch")
    module.float64 = "float64"
    module.empty, module.stack, module.no_grad = empty, stack, nullcontext
    module.cuda = SimpleNamespace(
        Stream=lambda device: Stream(device), Event=Event, stream=stream, current_stream=lambda device: "training"
    )
    monkeypatch.setitem(sys.modules, "torch", module)
    return module  # type: ignore[no-any-return]


@pytest.fixture
def run(store: Path) -> lossbook.Run:
    return lossbook.init(store=store, project="p", console=False)


def rows(run: lossbook.Run) -> list[Any]:
    """The rows of scalars of a run, in the order of the journal."""
    found = []
    for segment in journal_segments(RunFolder(run.path).journal):
        found += [row for row in read_segment(segment.path).rows if row.kind is None]
    return found


def test_a_row_from_the_device_comes_when_the_device_has_it(
    run: lossbook.Run, device: Device, torch: ModuleType, wait_until: Callable[..., None]
) -> None:
    before = time.time_ns() // 1000
    run.log({"loss": Tensor(device, 0.5), "lr": 3e-4, "gpu/norm": Tensor(device, 2.0)}, step=7)
    after = time.time_ns() // 1000
    assert rows(run) == []
    time.sleep(0.01)  # the device takes a while: its row keeps the time of its log()
    device.run()
    wait_until(lambda: rows(run))
    (row,) = rows(run)
    assert (row.step, row.body) == (7, {"loss": 0.5, "lr": 3e-4, "gpu/norm": 2.0})
    assert before <= row.t <= after, "its time is that of its log(), not of its arrival"
    assert device.waits == ["lossbook-deferred"]


def test_training_goes_on_while_rows_are_on_their_way(run: lossbook.Run, device: Device, torch: ModuleType) -> None:
    for step in range(100):
        run.log({"loss": Tensor(device, float(step))}, step=step)
        run.log({"lr": 1.0}, step=step)
    assert [row.body for row in rows(run)] == [{"lr": 1.0}] * 100
    device.run()
    run.finish()
    late = [row for row in rows(run) if "loss" in row.body]
    assert [(row.step, row.body["loss"]) for row in late] == [(step, float(step)) for step in range(100)]


def test_a_value_that_is_changed_in_place_afterwards_is_the_one_that_was_logged(
    run: lossbook.Run, device: Device, torch: ModuleType
) -> None:
    # `total += loss; log(total); total.zero_()` is how losses of micro-batches are summed.
    total, elsewhere = Tensor(device, 3.5), Elsewhere(device, 4.5)
    run.log({"cuda": total, "mps": elsewhere}, step=0)
    total.fill_(0.0)
    elsewhere.fill_(0.0)
    device.run()
    run.finish()
    assert rows(run)[0].body == {"cuda": 3.5, "mps": 4.5}


def test_steps_go_on_from_the_row_that_is_still_on_its_way(
    run: lossbook.Run, device: Device, torch: ModuleType
) -> None:
    run.log({"loss": Tensor(device, 1.0)}, step=10)
    run.log({"lr": 1.0})
    run.log({"loss": Tensor(device, 2.0)})
    device.run()
    run.finish()
    assert sorted((row.step, *row.body) for row in rows(run)) == [(10, "loss"), (11, "lr"), (12, "loss")]
    assert run.step == 13


def test_the_copy_waits_for_what_makes_the_value_and_its_memory_for_the_copy(
    device: Device, torch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    stacked: list[Tensor] = []
    stack = torch.stack

    def keep(tensors: list[Tensor]) -> Tensor:
        stacked.append(stack(tensors))
        return stacked[-1]

    monkeypatch.setattr(torch, "stack", keep)
    written: list[Any] = []
    waiting = DeferredRows(lambda *row: written.append(row), pytest.fail)
    waiting.add({"a": Tensor(device, 1.0)}, {}, 0, 1)
    (stream,) = stacked[0].streams
    assert stream.waited_for == ["training"]
    device.run()
    assert waiting.close()
    assert [row[:2] for row in written] == [({"a": 1.0}, 0)]


def test_tensors_of_other_devices_are_read_on_the_side_too(run: lossbook.Run, device: Device) -> None:
    run.log({"loss": Elsewhere(device, 0.25)}, step=3)
    assert rows(run) == []
    device.run()
    run.finish()
    assert [(row.step, row.body) for row in rows(run)] == [(3, {"loss": 0.25})]
    assert device.waits == ["lossbook-deferred"]


def test_a_jax_array_in_flight_is_asked_for_once_and_read_on_the_side(run: lossbook.Run, device: Device) -> None:
    asked: list[str] = []

    class Array:
        shape = ()

        def is_ready(self) -> bool:
            return device.ran.is_set()

        def copy_to_host_async(self) -> None:
            asked.append("copy")

        def item(self) -> float:
            if not self.is_ready():
                device.wait()
            return 1.5

    Array.__module__ = "jaxlib._jax"
    run.log({"loss": Array()}, step=1)
    assert (rows(run), asked) == ([], ["copy"])
    device.run()
    run.log({"loss": Array()}, step=2)
    run.finish()
    assert sorted((row.step, row.body["loss"]) for row in rows(run)) == [(1, 1.5), (2, 1.5)]
    assert asked == ["copy"], "the second was there already"


def test_a_real_jax_scalar_is_a_number(run: lossbook.Run) -> None:
    jax = pytest.importorskip("jax")
    run.log({"loss": jax.numpy.float32(0.5) * 3, "half": jax.numpy.bfloat16(0.5), "n": jax.numpy.array([7])}, step=0)
    run.finish()
    assert rows(run)[0].body == {"loss": 1.5, "half": 0.5, "n": 7.0}


def test_a_tensor_of_many_elements_on_the_device_is_a_warning(
    run: lossbook.Run, device: Device, capsys: pytest.CaptureFixture[str]
) -> None:
    run.log({"weights": Tensor(device, 1.0, elements=12), "lr": 1.0}, step=0)
    assert rows(run)[0].body == {"lr": 1.0}
    assert "12 elements" in capsys.readouterr().err


def test_values_that_are_not_finite_come_back_from_the_device(
    run: lossbook.Run, device: Device, torch: ModuleType
) -> None:
    run.log({"a": Tensor(device, math.nan), "b": Tensor(device, math.inf)}, step=0)
    device.run()
    run.finish()
    body = rows(run)[0].body
    assert math.isnan(body["a"])
    assert body["b"] == math.inf


def test_finish_waits_for_the_rows_on_their_way(run: lossbook.Run, device: Device, torch: ModuleType) -> None:
    run.log({"loss": Tensor(device, 1.0)}, step=0)
    threading.Timer(0.2, device.run).start()
    run.finish()
    assert [row.body for row in rows(run)] == [{"loss": 1.0}]


def test_a_device_that_hangs_does_not_keep_the_program_from_ending(device: Device, torch: ModuleType) -> None:
    said: list[str] = []
    waiting = DeferredRows(lambda *row: None, said.append)
    for step in range(3):
        waiting.add({"loss": Tensor(device, 1.0)}, {}, step, 1)
    assert not waiting.close(timeout_seconds=0.05)
    assert said == ["3 rows are lost: the device did not deliver their values"]


def test_rows_that_come_after_the_end_are_not_written_behind_it(
    run: lossbook.Run,
    device: Device,
    torch: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    wait_until: Callable[..., None],
) -> None:
    close = DeferredRows.close
    monkeypatch.setattr(DeferredRows, "close", lambda self: close(self, 0.05))
    run.log({"loss": Tensor(device, 1.0)}, step=0)
    run.finish()
    device.run()
    wait_until(lambda: not any(thread.name == "lossbook-deferred" for thread in threading.enumerate()))
    (segment,) = journal_segments(RunFolder(run.path).journal)
    assert read_segment(segment.path).rows[-1].kind == "finish"


def test_a_device_that_fails_costs_its_rows_and_one_sentence(
    run: lossbook.Run, device: Device, torch: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    device.fails = True
    for step in range(3):
        run.log({"loss": Tensor(device, 1.0)}, step=step)
    device.run()
    run.log({"lr": 1.0}, step=3)
    run.finish()
    assert [row.body for row in rows(run)] == [{"lr": 1.0}]
    assert capsys.readouterr().err.count("illegal memory access") == 1


def test_only_so_many_rows_wait(device: Device, torch: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deferred, "MOST_PENDING", 5)
    said: list[str] = []
    written: list[Any] = []
    waiting = DeferredRows(lambda *row: written.append(row), said.append)
    for step in range(7):
        waiting.add({"loss": Tensor(device, 1.0)}, {}, step, 1)
    device.run()
    assert waiting.close()
    assert [row[1] for row in written] == [0, 1, 2, 3, 4]
    assert [sentence[:24] for sentence in said] == ["the row of step 5 is los", "the row of step 6 is los"]
