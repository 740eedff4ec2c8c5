"""Which process of which job this is: rank, world size, and what the ranks of one launch have in common."""

from __future__ import annotations

import os
from typing import NamedTuple

from lossbook.processes import host_name, process_start

_ALPHABET = "abcdefghijkmnpqrstuvwxyz23456789"


class Launch(NamedTuple):
    """This process's place in its job.

    `token` is equal for all ranks of one launch, and differs between launches; empty for a single process.
    `restart` counts the restarts of the same launch by torchrun.
    """

    rank: int
    local_rank: int
    world_size: int
    token: str
    restart: int


def detect() -> Launch:
    """Read the place from the environment: LOSSBOOK_RANK, torchrun's variables, or those of Slurm and MPI.

    Slurm's and MPI's count only beside MASTER_ADDR: without it, `srun` may as well have started a sweep of
    independent runs.
    """
    environment = os.environ
    sets = [("LOSSBOOK_RANK", "LOSSBOOK_WORLD_SIZE", "LOSSBOOK_LOCAL_RANK"), ("RANK", "WORLD_SIZE", "LOCAL_RANK")]
    if "MASTER_ADDR" in environment:
        sets += [
            ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID"),
            ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"),
            ("PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID"),
        ]
    for rank_name, size_name, local_name in sets:
        rank, size = _number(rank_name), _number(size_name)
        if rank is None or size is None or size < 1 or not 0 <= rank < size:
            continue
        local = _number(local_name)
        restart = _number("TORCHELASTIC_RESTART_COUNT") or 0
        return Launch(rank, rank if local is None else local, size, _token(size) if size > 1 else "", restart)
    return Launch(0, 0, 1, "", 0)


def shared_run_id(launch: Launch, count: int) -> str:
    """The run id that every rank of a launch arrives at by itself.

    Args:
        count: how many runs this process has begun before (each rank begins the same ones).
    """
    import hashlib

    digest = hashlib.sha256(f"{launch.token}#{count}".encode()).digest()
    return _ALPHABET[digest[0] % 24] + "".join(_ALPHABET[byte & 31] for byte in digest[1:8])


def _number(name: str) -> int | None:
    try:
        return int(os.environ[name])
    except (KeyError, ValueError):
        return None


def _token(world_size: int) -> str:
    environment = os.environ
    local_size = _number("LOCAL_WORLD_SIZE")
    error_file = environment.get("TORCHELASTIC_ERROR_FILE", "")
    if local_size == world_size and error_file:
        # torchrun puts it at <random folder of this launch>/<run id>_<random>/attempt_<n>/<local rank>/error.json.
        return f"{host_name()}:{os.path.dirname(os.path.dirname(os.path.dirname(error_file)))}"
    names = ("TORCHELASTIC_RUN_ID", "SLURM_JOB_ID", "SLURM_STEP_ID", "PMIX_NAMESPACE", "MASTER_ADDR", "MASTER_PORT")
    parts = [environment.get(name, "") for name in names]
    if local_size == world_size or world_size == _number("LOSSBOOK_WORLD_SIZE"):
        # All ranks are children of one launcher on this machine.
        parts.append(f"{host_name()}:{os.getppid()}:{process_start(os.getppid())}")
    return "|".join(parts)
