"""What the machine under a run spends: GPUs, processors, memory, disks, network, and the training's own processes.

One file per device family. `Monitor` puts together what this machine has; handles stay open between samples. A family
that fails ends its own series, says so in one sentence, and is looked for again; the others go on.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping

from lossbook.monitor.base import Family, FamilyLost, Say
from lossbook.monitor.cgroups import container_memory_bytes, oom_kills
from lossbook.monitor.drivers import may_have_amd, may_have_nvidia
from lossbook.monitor.gpus import aggregates, first_gpu
from lossbook.monitor.host import Host
from lossbook.monitor.process import TrainingProcess, node_environment

#: A family that was there and has failed is looked for again after so long.
RETRY_SECONDS = 30.0

__all__ = ["Family", "FamilyLost", "Monitor", "aggregates", "container_memory_bytes", "oom_kills"]


class Monitor:
    """All that can be measured of one node's part of a run.

    Args:
        pid: the training process.
        rank: its rank, the lowest on this node: GPU i of the node is number rank + i, and the host's series of another
            node than rank 0's end with `/node_{rank}`.
        folder: the run's folder.
        environment: that of the training process (visible devices, how many ranks this node has).
        say: takes one sentence for the user.
        families: in place of those that this machine may have.
    """

    def __init__(
        self,
        pid: int,
        *,
        rank: int = 0,
        folder: str = ".",
        environment: Mapping[str, str] | None = None,
        say: Say = print,
        families: Mapping[str, Family] | None = None,
    ) -> None:
        self._rank = rank
        self._say = say
        self._said: set[str] = set()
        if families is None:
            environment = node_environment(pid, os.environ if environment is None else environment)
            several = environment.get("LOCAL_WORLD_SIZE", "1") not in ("", "1")
            training = TrainingProcess(pid, is_one_of_several=several)
            families = {
                "nvidia": _Driven(may_have_nvidia, lambda: self._nvidia(environment, training)),
                "amd": _Driven(may_have_amd, lambda: self._amd(environment, training)),
                "host": Host(folder),
                "process": training,
            }
        self._families = dict(families)
        self._open: set[str] = set()
        self._retry_at: dict[str, float] = dict.fromkeys(self._families, float("-inf"))

    def sample(self) -> dict[str, float]:
        """The figures of this moment by name, aggregates of this node's GPUs not among them. Never raises."""
        figures: dict[str, float] = {}
        for name, family in self._families.items():
            if name == "amd" and "nvidia" in self._open:
                continue  # torch is built for one of them, and both would take the same numbers
            for key, value in self._sample(name, family).items():
                own = key.startswith("system.gpu.") or self._rank == 0
                figures[key if own else f"{key}/node_{self._rank}"] = value
        if self._rank == 0:
            figures.update(first_gpu(figures))
        return figures

    def close(self) -> None:
        """Let go of every handle. Never raises."""
        for name in list(self._open):
            self._close(name)

    def _sample(self, name: str, family: Family) -> dict[str, float]:
        try:
            if name not in self._open:
                now = time.monotonic()
                if now < self._retry_at[name]:
                    return {}
                self._retry_at[name] = now + RETRY_SECONDS
                if not family.open():
                    return {}
                self._open.add(name)
            return family.sample()
        except FamilyLost as error:
            self._fail(name, str(error))
        except Exception as error:  # a driver's bindings may raise anything, and the rest goes on
            self._fail(name, f"{name} cannot be measured any more ({type(error).__name__}: {error}); training goes on")
        return {}

    def _fail(self, name: str, sentence: str) -> None:
        self._tell(sentence)
        self._close(name)
        self._retry_at[name] = time.monotonic() + RETRY_SECONDS

    def _close(self, name: str) -> None:
        self._open.discard(name)
        try:
            self._families[name].close()
        except Exception:  # what is broken need not close well
            pass

    def _tell(self, sentence: str) -> None:
        if sentence not in self._said:
            self._said.add(sentence)
            self._say(sentence)

    def _nvidia(self, environment: Mapping[str, str], training: TrainingProcess) -> Family:
        from lossbook.monitor.nvidia import Nvidia

        return Nvidia(first=self._rank, environment=environment, processes=training.processes, say=self._tell)

    def _amd(self, environment: Mapping[str, str], training: TrainingProcess) -> Family:
        from lossbook.monitor.amd import Amd

        return Amd(first=self._rank, environment=environment, processes=training.processes, say=self._tell)


class _Driven:
    """A family that is loaded once its driver is there: a vendor's bindings take longer to load than all else here."""

    def __init__(self, is_there: Callable[[], bool], make: Callable[[], Family]) -> None:
        self._is_there = is_there
        self._make = make
        self._family: Family | None = None

    def open(self) -> bool:
        """As `Family.open`."""
        if self._family is None:
            if not self._is_there():
                return False
            self._family = self._make()
        return self._family.open()

    def sample(self) -> dict[str, float]:
        """As `Family.sample`."""
        return {} if self._family is None else self._family.sample()

    def close(self) -> None:
        """As `Family.close`."""
        if self._family is not None:
            self._family.close()
