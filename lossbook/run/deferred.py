"""Scalars that still sit on a device: copied on the side, written when they have arrived.

Reading a CUDA tensor (`.item()`) makes the training thread wait for everything queued before it. Here the copy
into pinned memory is queued on a stream of its own, behind the work that produces the value; a thread waits for
its event, without the interpreter's lock, and writes the row. Other devices (MPS, XPU) and jax arrays in flight
are read by that thread too. The training thread never waits.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from lossbook.run.numbers import number_of

if TYPE_CHECKING:
    import torch

#: Rows waiting at the most. A device's own launch queue is about 1,000 kernels deep, so this is never reached
#: unless the device hangs; rows beyond it are counted as lost.
MOST_PENDING = 4096


class _Pending(NamedTuple):
    """One row: its time and step are those of its `log()`; `read` waits for its numbers."""

    step: int
    time_us: int
    scalars: dict[str, float]
    read: Callable[[], dict[str, float]]


class DeferredRows:
    """Rows whose values are on their way from a device.

    Args:
        write: writes a row: (scalars, step, time in µs); called from this object's own thread.
        lost: called with one sentence when a row could not be had.
    """

    def __init__(self, write: Callable[[dict[str, float], int, int], None], lost: Callable[[str], None]) -> None:
        self._write = write
        self._lost = lost
        self._rows: deque[_Pending] = deque()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closing = False
        self._streams: dict[torch.device, torch.cuda.Stream] = {}

    def add(self, tensors: Mapping[str, object], scalars: dict[str, float], step: int, time_us: int) -> None:
        """Queue one row: `scalars` are here already, `tensors` (0-d or of one element) still on their device."""
        if len(self._rows) >= MOST_PENDING:
            self._lost(f"the row of step {step} is lost: {MOST_PENDING} rows wait for the device already")
            return
        row = _Pending(step, time_us, scalars, self._start_copy(tensors))
        with self._changed:
            self._rows.append(row)
            self._changed.notify_all()
            # A signal handler's exception may have kept it from being started.
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._work, name="lossbook-deferred", daemon=True)
                self._thread.start()

    def close(self, timeout_seconds: float = 10.0) -> bool:
        """Wait for the rows on their way; False when the device did not deliver them in time."""
        with self._changed:
            done = self._changed.wait_for(lambda: not self._rows, timeout_seconds)
            self._closing = True
            self._changed.notify_all()
        if not done:
            self._lost(f"{len(self._rows)} rows are lost: the device did not deliver their values")
        return done

    def _start_copy(self, tensors: Mapping[str, object]) -> Callable[[], dict[str, float]]:
        cuda = {key: value for key, value in tensors.items() if getattr(value, "is_cuda", False)}
        # A tensor may be changed in place before it is read, so a copy is queued; jax arrays cannot be changed.
        held = {
            key: detach().clone() if callable(detach := getattr(value, "detach", None)) else value
            for key, value in tensors.items()
            if key not in cuda
        }
        for value in held.values():
            start = getattr(value, "copy_to_host_async", None)
            if callable(start):
                start()
        copies = self._copy_cuda(cuda) if cuda else []

        def read() -> dict[str, float]:
            numbers: dict[str, float] = {}
            for event, keys, landing in copies:
                event.synchronize()
                numbers.update(zip(keys, landing.tolist(), strict=True))
            numbers.update({key: number_of(value) for key, value in held.items()})
            return {key: numbers[key] for key in tensors}

        return read

    def _copy_cuda(self, tensors: dict[str, torch.Tensor]) -> list[tuple[torch.cuda.Event, list[str], torch.Tensor]]:
        """Queue the copies: per device one landing place (n,) of pinned float64, and one event."""
        import torch

        by_device: dict[torch.device, list[str]] = {}
        for key, value in tensors.items():
            by_device.setdefault(value.device, []).append(key)
        copies = []
        for device, keys in by_device.items():
            stream = self._streams.get(device)
            if stream is None:
                stream = self._streams[device] = torch.cuda.Stream(device=device)
            landing = torch.empty(len(keys), dtype=torch.float64, pin_memory=True)
            with torch.no_grad():
                # On the training stream, because its next kernel may change a value in place (`total.zero_()`).
                values = torch.stack([tensors[key].detach().reshape(()).to(torch.float64) for key in keys])  # (n,)
            # The side stream waits for what produces the values; the training stream waits for nothing.
            stream.wait_stream(torch.cuda.current_stream(device))
            with torch.no_grad(), torch.cuda.stream(stream):
                # The allocator may otherwise hand the memory out again before the copy has run.
                values.record_stream(stream)
                landing.copy_(values, non_blocking=True)
                # A blocking event puts the waiting thread to sleep instead of spinning on a core.
                event = torch.cuda.Event(blocking=True)
                event.record(stream)
            copies.append((event, keys, landing))
        return copies

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._rows or self._closing)
                if not self._rows:
                    return
                row = self._rows[0]
            try:
                self._write({**row.scalars, **row.read()}, row.step, row.time_us)
            except Exception as error:
                self._lost(f"the row of step {row.step} is lost: its device failed ({type(error).__name__}: {error})")
            with self._changed:
                self._rows.popleft()
                self._changed.notify_all()
