"""Gradients of a PyTorch model: the norm of each layer, and where wanted their distribution.

    watched = watch(model, run, log_every=100)
    ...
    watched.remove()

Gradients are looked at when an optimizer is about to use them: whole (all accumulated micro-batches), unscaled by a
gradient scaler, and clipped where the training clips them. No CUDA device is waited for: norms go to `run.log` as
they are, and counts are copied on the side and recorded when they have arrived.
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import NamedTuple

import lossbook
from lossbook.errors import BadArgument, MissingLibrary
from lossbook.integrations.guard import harmless, is_over
from lossbook.json_shapes import JsonObject
from lossbook.run import Event, Media, Run

try:
    import torch
    from torch.optim.optimizer import register_optimizer_step_pre_hook
except ImportError as error:
    raise MissingLibrary("watch() needs PyTorch: pip install torch") from error

BINS = 64


def watch(
    model: torch.nn.Module,
    run: Run | None = None,
    *,
    log_every: int = 100,
    histograms: bool = False,
    bins: int = BINS,
    gradients: bool = True,
    parameters: bool = False,
    prefix: str = "",
    step: Callable[[], int] | None = None,
) -> Watched:
    """Record the gradients of a model, or its parameters, while it trains.

    Keys are `gradients/norm/{parameter}` (2-norm), `gradients/norm/total`, and with `histograms`
    `gradients/{parameter}`; the same with `parameters/`, as they are before the optimizer changes them.

    Args:
        model: a `torch.nn.Module`, sharded already if it is to be. Parameters without a gradient are left out.
        run: where to; None for the run that `lossbook.init` began last.
        log_every: gradient steps between two rows; the first gradient step is recorded.
        histograms: record distributions too, of `bins` equal bins over the finite values.
        gradients, parameters: which of them.
        prefix: put before every key, where several models are watched.
        step: tells the step of a row; by default gradient steps are counted on from the run's step.

    Returns:
        What can be removed again; as a context manager it removes itself.

    Raises:
        BadArgument: there is no run, or `log_every` or `bins` is below 1.
    """
    run = run if run is not None else lossbook.run
    if run is None:
        raise BadArgument("there is no run to record gradients in: call lossbook.init() first, or pass run=")
    if log_every < 1 or bins < 1:
        raise BadArgument(f"log_every={log_every} and bins={bins} are at least 1")
    kinds = {"gradients": f"{prefix}gradients"} if gradients else {}
    if parameters:
        kinds["parameters"] = f"{prefix}parameters"
    return Watched(model, run, log_every=log_every, bins=bins if histograms else 0, kinds=kinds, step=step)


class _Counted(Media):
    """A distribution that was counted on the device."""

    def __init__(self, low: float, high: float, counts: list[int], nonfinite: int) -> None:
        self.low, self.high, self.counts, self.nonfinite = low, high, counts, nonfinite

    def event(self, key: str) -> Event:
        total = sum(self.counts)
        if total == 0:
            body: JsonObject = {"edges": [0.0, 0.0], "counts": [0]}
        elif self.low == self.high:
            body = {"edges": [self.low, self.high], "counts": [total]}
        else:
            width = (self.high - self.low) / len(self.counts)
            edges = [self.low + width * number for number in range(len(self.counts))]
            body = {"edges": [*edges, self.high], "counts": [*self.counts]}
        if self.nonfinite:
            body["nonfinite"] = self.nonfinite
        return Event("histogram", key, body)


class _Arriving(NamedTuple):
    """Histograms of one step on their way from a device; `event` None: they are there."""

    step: int
    names: list[str]
    limits: torch.Tensor  # (layers, 2), float64: lowest and highest finite value
    counts: torch.Tensor  # (layers, bins + 1), int64: the last column counts what is not finite
    event: torch.cuda.Event | None


class Watched:
    """A model whose gradients are recorded. Made by `watch()`.

    Attributes:
        gradient_steps: how many were seen.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        run: Run,
        *,
        log_every: int,
        bins: int,
        kinds: dict[str, str],
        step: Callable[[], int] | None,
    ) -> None:
        self.gradient_steps = 0
        self._model = weakref.ref(model)
        self._run = run
        self._log_every, self._bins, self._kinds = log_every, bins, kinds
        self._step = step
        self._first_step = run.step
        self._names = {id(parameter): _plain(name) for name, parameter in model.named_parameters()}
        self._leading: weakref.ReferenceType[torch.optim.Optimizer] | None = None
        self._arriving: deque[_Arriving] = deque()
        self._streams: dict[torch.device, torch.cuda.Stream] = {}
        # On all optimizers: they may be made later, and a learning-rate search may make new ones.
        self._hook = register_optimizer_step_pre_hook(self._before_step)

    def remove(self) -> None:
        """Stop recording; what is still on its way is waited for and recorded."""
        self._hook.remove()
        self._record_arrived(wait=True)

    def __enter__(self) -> Watched:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()

    @harmless
    def _before_step(self, optimizer: torch.optim.Optimizer, arguments: object, named: object) -> None:
        if self._model() is None or is_over(self._run):
            self._hook.remove()
            return
        stepped = dict(self._stepped(optimizer))
        if not stepped:
            return
        # Several optimizers may share a model: the first one that is seen counts the steps.
        if self._leading is None or self._leading() is None:
            self._leading = weakref.ref(optimizer)
        if self._leading() is optimizer:
            self.gradient_steps += 1
        self._record_arrived()
        if (self.gradient_steps - 1) % self._log_every == 0:
            step = self._step() if self._step is not None else self._first_step + self.gradient_steps - 1
            with torch.no_grad():
                self._record(stepped, getattr(optimizer, "grad_scale", None), step)
            self._record_arrived()

    def _stepped(self, optimizer: torch.optim.Optimizer) -> Iterator[tuple[str, torch.nn.Parameter]]:
        """The model's parameters that the optimizer is about to change, by name."""
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                name = self._names.get(id(parameter))
                if name is not None and parameter.grad is not None and parameter.grad.numel():
                    yield name, parameter

    def _record(self, stepped: dict[str, torch.nn.Parameter], scale: torch.Tensor | None, step: int) -> None:
        row: dict[str, object] = {}
        tensors: dict[str, torch.Tensor] = {}
        for kind, place in self._kinds.items():
            if kind == "gradients":
                found = {name: _dense(parameter.grad.detach()) for name, parameter in stepped.items()}
                if scale is not None:
                    # A fused optimizer unscales within its own kernel, so these are still scaled.
                    found = {name: gradient / scale.to(gradient.device) for name, gradient in found.items()}
            else:
                found = {name: parameter.detach() for name, parameter in stepped.items()}
            norms = _norms(list(found.values()))
            row.update({f"{place}/norm/{name}": norm for name, norm in zip(found, norms, strict=True)})
            # Not the CPU where there is a device: a copy to it would be waited for, or read before it has come.
            home = next((norm.device for norm in norms if norm.device.type != "cpu"), norms[0].device)
            together = torch.stack([norm.to(home, non_blocking=True) for norm in norms])  # (layers,)
            row[f"{place}/norm/total"] = torch.linalg.vector_norm(together)
            tensors.update({f"{place}/{name}": tensor for name, tensor in found.items()})
        self._log(row, step)
        if self._bins:
            self._count(tensors, step)

    def _log(self, row: dict[str, object], step: int) -> None:
        """Record a row without moving the step that the training's own `log()` counts on from."""
        self._run.log_aside(row, step)

    # -- distributions --------------------------------------------------------------------------------------------

    def _count(self, tensors: dict[str, torch.Tensor], step: int) -> None:
        by_device: dict[torch.device, list[str]] = {}
        for name, tensor in tensors.items():
            by_device.setdefault(tensor.device, []).append(name)
        for device, names in by_device.items():
            counted = [_histogram(tensors[name], self._bins) for name in names]
            limits = torch.stack([limit for limit, _ in counted])
            counts = torch.stack([count for _, count in counted])
            event = None
            if device.type == "cuda":
                limits, counts, event = self._copy_aside(device, limits, counts)
            self._arriving.append(_Arriving(step, names, limits, counts, event))

    def _copy_aside(
        self, device: torch.device, limits: torch.Tensor, counts: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.cuda.Event]:
        """Queue copies to pinned memory behind the counting, on a stream of their own."""
        stream = self._streams.get(device)
        if stream is None:
            stream = self._streams[device] = torch.cuda.Stream(device=device)
        stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(stream):
            landed = []
            for tensor in (limits, counts):
                # The allocator may otherwise hand the memory out again before the copy has run.
                tensor.record_stream(stream)
                place = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
                landed.append(place.copy_(tensor, non_blocking=True))
            event = torch.cuda.Event(blocking=True)
            event.record(stream)
        return landed[0], landed[1], event

    def _record_arrived(self, *, wait: bool = False) -> None:
        while self._arriving:
            first = self._arriving[0]
            if first.event is not None:
                if wait:
                    first.event.synchronize()
                elif not first.event.query():
                    return
            self._arriving.popleft()
            row: dict[str, object] = {}
            for name, (low, high), counts in zip(
                first.names, first.limits.tolist(), first.counts.tolist(), strict=True
            ):
                row[name] = _Counted(low, high, counts[:-1], counts[-1])
            self._log(row, first.step)


def _plain(name: str) -> str:
    """A parameter's name without what compiling and DistributedDataParallel put before it."""
    return name.replace("_orig_mod.", "").removeprefix("module.")


def _dense(gradient: torch.Tensor) -> torch.Tensor:
    return gradient.coalesce().values() if gradient.is_sparse else gradient


def _norms(tensors: list[torch.Tensor]) -> list[torch.Tensor]:
    """The 2-norm of each, as 0-d tensors; of 16-bit ones in float32."""
    narrow = any(tensor.dtype in (torch.float16, torch.bfloat16) for tensor in tensors)
    norms = torch._foreach_norm(tensors, 2.0, dtype=torch.float32 if narrow else None)
    # Over all shards of a distributed tensor: every rank gets here, since every rank steps its optimizer.
    return [norm.full_tensor() if hasattr(norm, "full_tensor") else norm for norm in norms]


def _histogram(tensor: torch.Tensor, bins: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Count on the device what `torch.histc` and `bincount` could only count by waiting for it.

    Returns:
        Lowest and highest finite value (2,) in float64 (float32 where a device has no other), and the counts
        (bins + 1,) in int64, the last of what is not finite.
    """
    local = tensor.to_local() if hasattr(tensor, "to_local") else tensor
    wide = torch.float32 if local.device.type == "mps" else torch.float64
    values = local.reshape(-1).to(wide)  # (n,)
    finite = torch.isfinite(values)  # (n,)
    infinity = torch.full((), float("inf"), dtype=values.dtype, device=values.device)
    low = torch.where(finite, values, infinity).amin()
    high = torch.where(finite, values, -infinity).amax()
    width = torch.where(high > low, high - low, torch.ones_like(high))
    place = ((torch.where(finite, values, low) - low) / width * bins).long().clamp_(0, bins - 1)
    place = torch.where(finite, place, bins)
    counts = torch.zeros(bins + 1, dtype=torch.int64, device=values.device)
    counts.scatter_add_(0, place, torch.ones_like(place))
    return torch.stack([low, high]), counts
