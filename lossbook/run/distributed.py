"""Which process of which job this is: rank, world size, and what the ranks of one launch have in common."""

from __future__ import annotations

import os
import sys
from typing import NamedTuple

from lossbook.processes import host_name

_ALPHABET = "abcdefghijkmnpqrstuvwxyz23456789"


class Launch(NamedTuple):
    """This process's place in its job.

    Attributes:
        token: equal for all ranks of one launch; empty for a single process.
        restart: counts the restarts of the same launch by torchrun, and of the job by Slurm.
        is_named: whether `token` names this launch and no other; else the ranks agree on a run in the store.
        job: equal for the ranks of one launch, and for launches that cannot be told from it by the environment; empty
            where nothing restarts this process and no other rank is looked for.
        requeue: how often Slurm or JobSet has begun the job again.
        is_elastic: whether an agent of torchrun started this process; it may start the ranks of its launch again.
        is_launched: whether more than `RANK` and `WORLD_SIZE` says that a launcher has started this process.
        parent_may_lead: whether rank 0 may be the process that started this one, before it knew that it is rank 0.
    """

    rank: int
    local_rank: int
    world_size: int
    token: str
    restart: int
    is_named: bool = False
    job: str = ""
    requeue: int = 0
    is_elastic: bool = False
    is_launched: bool = False
    parent_may_lead: bool = False

    @property
    def must_agree(self) -> bool:
        """Whether the ranks find their run in the store: the environment does not name this launch alone."""
        return bool(self.job) and not (self.is_named and self.requeue == 0)


def detect(begun: int = 0) -> Launch:
    """Read the place from the environment: LOSSBOOK_RANK, torchrun's variables, or those of Slurm and MPI.

    Slurm's and MPI's count only beside MASTER_ADDR: without it, `srun` may as well have started a sweep of
    independent runs. A process group of `torch.distributed` counts where the environment says nothing, and before what
    may be left over in it: `RANK` and `WORLD_SIZE` by themselves.

    Args:
        begun: how many runs this process has begun before (each rank begins the same ones).
    """
    environment = os.environ
    sets = [("LOSSBOOK_RANK", "LOSSBOOK_WORLD_SIZE", "LOSSBOOK_LOCAL_RANK"), ("RANK", "WORLD_SIZE", "LOCAL_RANK")]
    if "MASTER_ADDR" in environment:
        sets += [
            ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID"),
            ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"),
            ("PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID"),
        ]
        if _number("NODE_RANK") == 0:
            # Lightning starts the other ranks of a machine by itself, and gives them no RANK.
            sets.append(("LOCAL_RANK", "WORLD_SIZE", "LOCAL_RANK"))
    group = _process_group()
    for rank_name, size_name, local_name in sets:
        rank, size, local = _number(rank_name), _number(size_name), _number(local_name)
        if rank is None or size is None or size < 1 or not 0 <= rank < size:
            continue
        if group is not None and local is None and rank_name == "RANK":
            break
        return _launch(
            rank, local, size, begun, is_launched=rank_name == "LOSSBOOK_RANK", by_parent=rank_name == local_name
        )
    if group is not None:
        return _launch(group[0], _number("LOCAL_RANK"), group[1], begun, is_launched=True)
    return _launch(0, None, 1, begun)


def _launch(
    rank: int,
    local_rank: int | None,
    world_size: int,
    begun: int,
    *,
    is_launched: bool = False,
    by_parent: bool = False,
) -> Launch:
    requeue = max(_number("SLURM_RESTART_COUNT") or 0, _number("JOBSET_RESTART_ATTEMPT") or 0)
    is_elastic = elastic_folder() != ""
    return Launch(
        rank,
        rank if local_rank is None else local_rank,
        world_size,
        _token(world_size) if world_size > 1 else "",
        (_number("TORCHELASTIC_RESTART_COUNT") or 0) + requeue,
        is_named=world_size > 1 and bool(_launch_folder(world_size)),
        job=_job(world_size, is_elastic, begun),
        requeue=requeue,
        is_elastic=is_elastic,
        is_launched=is_launched or local_rank is not None or is_elastic,
        parent_may_lead=by_parent,
    )


def _process_group() -> tuple[int, int] | None:
    """Rank and size of the process group that this process is in already; None where there is none."""
    distributed = sys.modules.get("torch.distributed")
    if distributed is None:
        return None
    try:
        if distributed.is_available() and distributed.is_initialized():
            return int(distributed.get_rank()), int(distributed.get_world_size())
    except Exception:  # whatever another package's module raises: training goes on
        pass
    return None


def master_address() -> str:
    """Where the ranks of this job meet, as far as the environment says."""
    return os.environ.get("MASTER_ADDR", "")


def is_loopback(address: str) -> bool:
    """Whether an address means the machine that it is used on."""
    return address in ("localhost", "::1", "0.0.0.0") or address.startswith("127.")


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


def elastic_folder() -> str:
    """The folder of its own that torchrun's agent on this machine has made for this launch; empty without one."""
    error_file = os.environ.get("TORCHELASTIC_ERROR_FILE", "")
    # <random folder of this launch>/<run id>_<random>/attempt_<n>/<local rank>/error.json
    return os.path.dirname(os.path.dirname(os.path.dirname(error_file)))


def _launch_folder(world_size: int) -> str:
    """As `elastic_folder`, where all ranks are on this machine: it names the launch for all of them."""
    return elastic_folder() if _number("LOCAL_WORLD_SIZE") == world_size else ""


def _token(world_size: int) -> str:
    if folder := _launch_folder(world_size):
        return f"{host_name()}:{folder}"
    return "|".join(os.environ.get(name, "") for name in (*_JOB, "MASTER_ADDR", "MASTER_PORT"))


#: What launchers and schedulers call a job; a launch or two may be of one job.
_JOB = (
    "TORCHELASTIC_RUN_ID",
    "SLURM_JOB_ID",
    "SLURM_STEP_ID",
    "PMIX_NAMESPACE",
    "OMPI_MCA_ess_base_jobid",
    "PMI_JOBID",
    "RAY_JOB_ID",
    "JOBSET_NAME",
)
#: Which of them a scheduler begins again, and counts how often.
_REQUEUED = frozenset(("SLURM_JOB_ID", "JOBSET_NAME"))


def _job(world_size: int, is_elastic: bool, begun: int) -> str:
    environment = os.environ
    is_scheduled = not _REQUEUED.isdisjoint(environment)
    if world_size == 1 and not (is_elastic or is_scheduled):
        return ""
    if _launch_folder(world_size) and world_size > 1 and not is_scheduled:
        return ""
    names = list(_JOB)
    if "JOBSET_NAME" in environment:
        names.remove("TORCHELASTIC_RUN_ID")  # recipes put the number of the attempt into it
    parts = [environment.get(name, "") for name in names]
    if not is_elastic:
        # torchrun's agents may meet at another port after each restart.
        parts.append(environment.get("MASTER_PORT", ""))
    if world_size == 1:
        place = environment.get("SLURM_PROCID", environment.get("JOB_COMPLETION_INDEX", ""))
        parts.append(f"task {place}")
    return "|".join([*parts, f"run {begun}"])
