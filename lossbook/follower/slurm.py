"""Asks Slurm whether it has preempted a job: the signal that ends a program does not tell, and no variable does."""

from __future__ import annotations

import re
from collections.abc import Mapping

#: A controller that does not answer is not waited for any longer.
ASK_SECONDS = 3.0


def preempted_job(environment: Mapping[str, str]) -> str | None:
    """The number of the job that a program is of, where Slurm says that it preempts that; else None.

    Args:
        environment: the program's variables.
    """
    job = environment.get("SLURM_JOB_ID", "")
    if not job.isdecimal():
        return None
    import subprocess

    try:
        answer = subprocess.run(
            ["scontrol", "show", "job", "-o", job],
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=ASK_SECONDS,
            text=True,
            errors="replace",
        ).stdout
    except (OSError, ValueError, subprocess.SubprocessError):  # there is no Slurm here, or it does not answer
        return None
    when = re.search(r"\bPreemptTime=(\S+)", answer)
    has_time = when is not None and when[1][0].isdigit()
    return job if has_time or re.search(r"\bJobState=PREEMPTED\b", answer) else None
