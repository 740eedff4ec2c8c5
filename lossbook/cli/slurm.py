"""`slurm`: a job-array script for a cluster."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys

import click

from lossbook.cli.app import Settings, common_options
from lossbook.cli.format import printable, to_json
from lossbook.errors import BadArgument, StoreError

#: What plans and trains the cells of a matrix, in a checkout of Lossbook.
MATRIX = os.path.join("scripts", "matrix.py")
#: How long before the time limit the training is asked to save and end, in seconds.
WARNING_SECONDS = 120

_ARRAY = re.compile(r"\d+(-\d+(:[1-9]\d*)?)?(,\d+(-\d+(:[1-9]\d*)?)?)*\Z")
_TIME = re.compile(r"(\d+|\d+:\d+|\d+:\d+:\d+|\d+-\d+(:\d+){0,2})\Z")
_MEMORY = re.compile(r"\d+[KMGT]?\Z")
_WORD = re.compile(r"[A-Za-z0-9_.,:@+-]+\Z")


@click.command(
    "slurm",
    epilog="""\b
Without COMMAND it is the matrix of .config in this checkout: one task for
each of its runs, with a copy of .config beside the script. In COMMAND, {task}
is the number of the task. Nothing is submitted: sbatch does that.

\b
Examples:
  lossbook slurm --gpus 1 --time 4:00:00 -o matrix.sbatch && sbatch matrix.sbatch
  lossbook slurm --array 0-7 --jobs 4 -- python train.py --seed {task}""",
    context_settings={"ignore_unknown_options": False, "allow_interspersed_args": False},
)
@click.argument("words", nargs=-1, metavar="[-- COMMAND...]")
@click.option("--array", metavar="TASKS", help="Tasks of the array, such as 0-7 or 1,3,9 [default: one for each run].")
@click.option("--jobs", type=click.IntRange(min=1), metavar="N", help="So many tasks at a time.")
@click.option("--gpus", type=click.IntRange(min=0), default=0, show_default=True, help="GPUs of a task.")
@click.option("--cpus", type=click.IntRange(min=1), default=4, show_default=True, help="Cores of a task.")
@click.option("--memory", metavar="SIZE", help="Memory of a task, such as 32G.")
@click.option("--time", "limit", metavar="TIME", help="Time limit of a task, such as 4:00:00 or 2-0.")
@click.option("--partition", metavar="NAME", help="Partition.")
@click.option("--account", metavar="NAME", help="Account.")
@click.option("--name", metavar="NAME", help="Name of the job [default: the group of the matrix, or lossbook].")
@click.option(
    "--setup", multiple=True, metavar="LINE", help="Shell line to run first (modules, environment); repeatable."
)
@click.option("--config", metavar="FILE", default=".config", show_default=True, help="The matrix's configuration.")
@click.option("--output", "-o", metavar="FILE", help="Write to this file [default: print it].")
@click.option("--force", is_flag=True, help="Replace the file where there is one.")
@common_options(project=False)
@click.pass_obj
def slurm_command(
    settings: Settings,
    words: tuple[str, ...],
    array: str | None,
    jobs: int | None,
    gpus: int,
    cpus: int,
    memory: str | None,
    limit: str | None,
    partition: str | None,
    account: str | None,
    name: str | None,
    setup: tuple[str, ...],
    config: str,
    output: str | None,
    force: bool,
) -> None:
    """Write a Slurm job-array script: one task for each run.

    A task that nears its time limit or is preempted is told to save its checkpoint, and queued again; the matrix then
    goes on where it stopped.
    """
    for option, value, shape, example in (
        ("--array", array, _ARRAY, "0-7"),
        ("--time", limit, _TIME, "4:00:00"),
        ("--memory", memory, _MEMORY, "32G"),
        ("--partition", partition, _WORD, "gpu"),
        ("--account", account, _WORD, "team"),
        ("--name", name, _WORD, "ablation"),
    ):
        if value is not None and not shape.match(value):
            raise BadArgument(f"{option} {value!r} is nothing that Slurm takes: write it as in {option} {example}")
    if output is not None and os.path.lexists(output) and not force:
        raise StoreError(f"{output} is there already: --force replaces it")
    if words:
        if array is None:
            raise BadArgument("say which tasks there are: --array 0-7 (in the command, {task} is the task's number)")
        command, group, kept = _own_command(words), None, None
    else:
        group, count, processes = _matrix(config)
        if processes > 1 and gpus != processes:
            raise BadArgument(f"a run of {config} has {processes} processes, one for each GPU: --gpus {processes}")
        array = array or f"0-{count - 1}"
        kept = (
            f"{os.path.splitext(os.path.abspath(output))[0]}.config" if output is not None else os.path.abspath(config)
        )
        command = f'{shlex.quote(sys.executable)} {MATRIX} --config {shlex.quote(kept)} --cell "$SLURM_ARRAY_TASK_ID"'
        if settings.store:
            command += f" --store {shlex.quote(os.path.abspath(settings.store))}"
    directives = {
        "job-name": name or group or "lossbook",
        "array": f"{array}%{jobs}" if jobs else array,
        "cpus-per-task": str(cpus),
        "gpus": str(gpus) if gpus else None,
        "mem": memory,
        "time": limit,
        "partition": partition,
        "account": account,
        "output": "slurm-%A_%a.log",
        "open-mode": "append",
    }
    text = _script({key: value for key, value in directives.items() if value}, setup, command)
    if output is not None:
        if kept is not None:
            _write(kept, _read(config))
        _write(output, text)
    if settings.json:
        click.echo(to_json({"script": text, "array": array, "group": group, "path": output, "config": kept}))
    elif output is None:
        click.echo(text, nl=False)
    else:
        tasks = f"of the group {group}" if group else ""
        click.echo(f"{printable(output)}  tasks {array} {tasks}".rstrip())
        click.echo(f"submit it with: sbatch {shlex.quote(output)}", err=True)
        if group:
            click.echo(f"and look at the runs with: lossbook compare --group {shlex.quote(group)}", err=True)


def _own_command(words: tuple[str, ...]) -> str:
    """The command as one shell line; each word is passed on as it is, `{task}` aside."""
    return " ".join('"$SLURM_ARRAY_TASK_ID"'.join(map(_quoted, word.split("{task}"))) for word in words)


def _quoted(text: str) -> str:
    return shlex.quote(text) if text else ""


def _matrix(config: str) -> tuple[str, int, int]:
    """The group of the matrix that a configuration means, how many runs it has, and of how many processes each.

    Raises:
        BadArgument: this is no checkout with trainers, or the configuration is refused.
    """
    if not os.path.isfile(MATRIX):
        raise BadArgument(
            f"there is no {MATRIX} here: go to a checkout of Lossbook, or say what to run behind -- and with --array"
        )
    arguments = [sys.executable, MATRIX, "--config", config, "--list", "--json"]
    found = subprocess.run(arguments, capture_output=True, text=True, check=False)
    if found.returncode:
        said = found.stderr.strip().splitlines() or [f"it ended with status {found.returncode}"]
        raise BadArgument(said[-1].removeprefix("matrix: "))
    listed = json.loads(found.stdout)
    return str(listed["group"]), len(listed["cells"]), int(listed["processes"])


def _script(directives: dict[str, str], setup: tuple[str, ...], command: str) -> str:
    lines = "\n".join(f"#SBATCH --{key}={value}" for key, value in directives.items())
    before = "".join(f"{line}\n" for line in setup)
    return f"""#!/bin/bash
{lines}
#SBATCH --nodes=1 --ntasks=1
#SBATCH --requeue
#SBATCH --signal=B:USR1@{WARNING_SECONDS}
set -uo pipefail
cd {shlex.quote(os.getcwd())} || exit 1
{before}
# The time limit is near (USR1) or the job is preempted (TERM): the training saves its checkpoint and ends.
cut_short=
stop() {{ cut_short=1; kill -TERM "$training" 2>/dev/null; }}
trap stop USR1 TERM

{command} &
training=$!
# A signal ends `wait` before the training has ended.
while wait "$training"; status=$?; [ "$status" -gt 128 ] && kill -0 "$training" 2>/dev/null; do :; done
if [ -n "$cut_short" ] && [ "$status" -ne 0 ]; then
    scontrol requeue "${{SLURM_ARRAY_JOB_ID}}_${{SLURM_ARRAY_TASK_ID}}"
fi
exit "$status"
"""


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except OSError as error:
        raise StoreError(f"{path} cannot be read ({error.strerror or error})") from None


def _write(path: str, text: str) -> None:
    from lossbook.paths import replace_file

    try:
        replace_file(os.path.realpath(path), text.encode())
    except OSError as error:
        raise StoreError(f"{path} cannot be written ({error.strerror or error})") from None
