"""The processes of one training under torchrun: who this one is, and what they do together.

A single process is a group of one, for which everything here costs nothing. Gradients are DistributedDataParallel's
business. What else the processes say to each other goes over gloo and the CPU, so that nobody waits for a GPU.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from trainers.datasets import TextError

Result = TypeVar("Result")
#: How long the others may wait for the first, in days: tokenising a large set takes hours.
PATIENCE_DAYS = 7


class Group:
    """The processes that train one model together.

    Attributes:
        rank: this process among all, from 0; the first writes checkpoints and speaks to the user.
        size: how many there are.
    """

    def __init__(self, rank: int = 0, local_rank: int = 0, size: int = 1) -> None:
        self.rank, self.local_rank, self.size = rank, local_rank, size
        self._control: Any = None
        self._question: tuple[Any, Tensor] | None = None

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    @classmethod
    def from_environment(cls) -> Group:
        """This process's place, as torchrun has put it into the environment."""
        places = ("RANK", "LOCAL_RANK", "WORLD_SIZE")
        if int(os.environ.get("WORLD_SIZE", "1")) < 2:
            return cls()
        if missing := [name for name in (*places, "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]:
            raise TextError(f"WORLD_SIZE is set but {', '.join(missing)} is not: start several processes with torchrun")
        return cls(*(int(os.environ[name]) for name in places))

    def pick_device(self, name: str) -> torch.device:
        """The device that --device means for this process: a GPU each.

        Raises:
            TextError: this machine has none, or too few.
        """
        if name == "auto":
            name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        if name == "cuda":
            if not torch.cuda.is_available():
                raise TextError("--device cuda: this PyTorch sees no GPU; use --device cpu")
            here, gpus = int(os.environ.get("LOCAL_WORLD_SIZE", "1")), torch.cuda.device_count()
            if self.size > 1 and here > gpus:
                raise TextError(
                    f"--device cuda: {gpus} GPUs are too few for {here} processes, which need one each; start fewer with "
                    "torchrun --nproc-per-node"
                )
            if self.size > 1:
                return torch.device("cuda", self.local_rank)
        if name == "mps":
            if not torch.backends.mps.is_available():
                raise TextError("--device mps: this PyTorch sees no Apple GPU; use --device cpu")
            if self.size > 1:
                raise TextError("--device mps: one Apple GPU cannot be shared by processes; use --device cpu")
        return torch.device(name)

    def join(self, device: torch.device) -> None:
        """Meet the others: NCCL for GPUs, gloo for CPUs."""
        if self.size == 1:
            return
        if device.type == "cuda":
            torch.cuda.set_device(device)
            dist.init_process_group("nccl", device_id=device)
        else:
            dist.init_process_group("gloo")
        self._control = dist.new_group(backend="gloo", timeout=timedelta(days=PATIENCE_DAYS))

    def leave(self) -> None:
        if self.size > 1 and dist.is_initialized():
            dist.destroy_process_group()

    def wrap(self, model: nn.Module, device: torch.device) -> nn.Module:
        """The model whose gradients are the mean over all processes."""
        if self.size == 1:
            return model
        return nn.parallel.DistributedDataParallel(
            model, device_ids=[device.index] if device.type == "cuda" else None, gradient_as_bucket_view=True
        )

    def first_alone(self, work: Callable[[], Result]) -> Result:
        """Do `work` on the first process of each machine, then on the others, which find what it left.

        Raises:
            TextError: it was refused on one of them; all are told.
        """
        if self.size == 1:
            return work()
        result: list[Result] = []
        for turn in (True, False):
            refused: str | None = None
            if (self.local_rank == 0) is turn:
                try:
                    result = [work()]
                except TextError as error:
                    refused = str(error)
            said: list[str | None] = [None] * self.size
            dist.all_gather_object(said, refused, group=self._control)
            if sentences := [sentence for sentence in said if sentence]:
                raise TextError(sentences[0])
        return result[0]

    def mean(self, value: Tensor) -> Tensor:
        """The mean over all processes of a value that each has, in place; nobody waits for it here."""
        if self.size > 1:
            dist.all_reduce(value)
            value /= self.size
        return value

    def total(self, value: Tensor) -> Tensor:
        """The sum over all processes of a value that each has, in place."""
        if self.size > 1:
            dist.all_reduce(value)
        return value

    def gather(self, value: Any) -> list[Any]:
        """What each process has, in the order of ranks; empty but on the first."""
        if self.size == 1:
            return [value]
        found: list[Any] | None = [None] * self.size if self.is_first else None
        dist.gather_object(value, found, group=self._control)
        return found or []

    def agree(self, number: int) -> int:
        """The largest number that any process brought, the same for all: of the call before, or 0 at the first.

        The question of this call is on its way while the next step is computed, so that no step waits for it. A group
        of one answers at once.
        """
        if self.size == 1:
            return number
        answer = 0
        if self._question is not None:
            pending, largest = self._question
            pending.wait()
            answer = int(largest)
        largest = torch.tensor(number)
        self._question = (dist.all_reduce(largest, dist.ReduceOp.MAX, group=self._control, async_op=True), largest)
        return answer


class Stop:
    """Ctrl-C and SIGTERM end the run after the step under way; a second Ctrl-C ends it at once.

    Under torchrun every process is told twice, by the terminal and by torchrun: only the first counts there.
    """

    def __init__(self, group: Group) -> None:
        self.signal = 0
        self.alone = group.size == 1
        self.previous = {number: signal.signal(number, self.ask) for number in (signal.SIGINT, signal.SIGTERM)}

    def ask(self, number: int, frame: Any) -> None:
        self.signal = self.signal or number
        if self.alone:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def restore(self) -> None:
        for number, handler in self.previous.items():
            signal.signal(number, handler)
