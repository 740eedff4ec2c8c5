"""`run`: a program written for another tracker, unedited, with Lossbook in that tracker's place."""

from __future__ import annotations

import os
import shutil
import sys

import click

from lossbook.cli.app import Settings
from lossbook.errors import BadArgument


@click.command(
    "run",
    epilog="""\b
SCRIPT is started by this Python exactly as `python SCRIPT ...` starts it, and
takes this process's place: its exit status is the command's. In place of
SCRIPT, a command (python -O, torchrun, accelerate launch) may stand; the
Python processes it starts have Lossbook in the tracker's place as well.

\b
Examples:
  lossbook run train.py --lr 3e-4
  lossbook run --as wandb -m package.train --lr 3e-4
  lossbook run --as wandb torchrun --nproc-per-node 8 train.py""",
    context_settings={"ignore_unknown_options": False, "allow_interspersed_args": False},
)
@click.option(
    "--as",
    "names",
    multiple=True,
    metavar="NAMES",
    help="The trackers to stand in for, by commas [default: wandb,trackio].",
)
@click.option("-m", "as_module", is_flag=True, help="SCRIPT is a module's name, as for python -m.")
@click.option("--store", metavar="FOLDER", help="The store that it writes to: LOSSBOOK_STORE of the program.")
@click.argument("words", nargs=-1, required=True, metavar="SCRIPT [ARGUMENTS...]")
@click.pass_obj
def run_command(
    settings: Settings, names: tuple[str, ...], as_module: bool, store: str | None, words: tuple[str, ...]
) -> None:
    """Run an unedited program: its `import wandb` is Lossbook."""
    from lossbook.compat.stand_in import DEFAULT, check_words, environment_for

    chosen = check_words(name for one in names for name in one.split(",")) if names else DEFAULT
    if not chosen:
        raise BadArgument("--as names no tracker: --as wandb")
    command = _command(words, as_module)
    environment = environment_for(chosen, dict(os.environ))
    if store or settings.store:
        environment["LOSSBOOK_STORE"] = str(store or settings.store)
    sys.stdout.flush()
    sys.stderr.flush()
    # In this process's place: its number, its signals and its exit status are the program's own.
    os.execve(command[0], command, environment)


def _command(words: tuple[str, ...], as_module: bool) -> list[str]:
    program, arguments = words[0], list(words[1:])
    if as_module:
        return [sys.executable, "-m", program, *arguments]
    if program.endswith((".py", ".pyc", ".pyz")) or os.path.isdir(program):
        if not os.path.exists(program):
            raise BadArgument(f"there is no script {program}: name a file, a module with -m, or a command")
        return [sys.executable, program, *arguments]
    found = shutil.which(program)
    if found is not None:
        return [found, *arguments]
    if os.path.isfile(program):
        return [sys.executable, program, *arguments]
    raise BadArgument(f"there is no script or command {program}: name a file, a module with -m, or a command")
