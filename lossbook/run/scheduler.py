"""What the scheduler around a process says of the signal that ends it, from the variables that it has set."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping

#: A job that Slurm has told so shortly before its limit to end is ended by the limit (`--signal=TERM@120`).
LIMIT_IS_NEAR_SECONDS = 300.0


def how_terminated(environment: Mapping[str, str] | None = None, *, now: float | None = None) -> str:
    """A sentence about the SIGTERM that has come: who is likely to have sent it, and where that is told.

    Args:
        environment: the variables of the process.
        now: Unix seconds.
    """
    variables = os.environ if environment is None else environment
    said = "ended by SIGTERM"
    job = variables.get("SLURM_JOB_ID", "")
    if job:
        left = _seconds_left(variables, time.time() if now is None else now)
        if left is not None and left <= 0:
            return f"{said}: the time limit of Slurm's job {job} was reached"
        if left is not None and left <= LIMIT_IS_NEAR_SECONDS:
            return f"{said} {left:.0f} s before the time limit of Slurm's job {job}"
        return f"{said}: Slurm's job {job} was cancelled or preempted, or its program was told to end"
    if variables.get("KUBERNETES_SERVICE_HOST") and (pod := variables.get("HOSTNAME")):
        return f"{said}: the pod {pod} was deleted, evicted or preempted, or its program was told to end"
    return said


def _seconds_left(variables: Mapping[str, str], now: float) -> float | None:
    try:
        return float(variables["SLURM_JOB_END_TIME"]) - now
    except (KeyError, ValueError):
        return None
