"""`make train`: start the trainer that `.config` names, with the flags that it says.

    python scripts/train.py                                   # .config
    python scripts/train.py --config defconfigs/gpt2-smoke --steps 20
    python scripts/train.py --show                            # print the command, and start nothing

A flag given here wins over the file. All of them end up in the configuration of the run.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from scripts.kconfig import config_path, remark
from trainers.configuration import ROOT, ConfigError, Configuration, Flag, Trainer, load


class Start(NamedTuple):
    """A trainer and all that it is told, the command line's flags last, because the last one wins."""

    trainer: Trainer
    flags: list[Flag]
    given: list[str]
    processes: int
    environment: dict[str, str]

    @property
    def argv(self) -> list[str]:
        return [*(word for flag in self.flags for word in flag.words()), *self.given]

    def command(self) -> list[str]:
        """What starts the trainer as a process of its own."""
        launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={self.processes}"]
        return [sys.executable, *(launcher if self.processes > 1 else []), str(self.trainer.program), *self.argv]


def resolve(configuration: Configuration, given: list[str], tracker: str | None) -> Start:
    """What a configuration and the command line come to.

    A resumed run keeps what its checkpoint says: of the file only where checkpoints are.

    Raises:
        ConfigError: the configuration names an unknown tracker, or a choice lacks its path.
    """
    flags = configuration.flags(tracker)
    if any(word == "--resume" or word.startswith("--resume=") for word in given):
        named = {"TRACKER"} if tracker else set()
        flags = [flag for flag in flags if flag.name == "--checkpoints" or flag.symbol in named]
    return Start(configuration.trainer, flags, given, configuration.processes, configuration.environment())


def check(start: Start, configuration: Configuration) -> argparse.Namespace:
    """Have the trainer read its flags, and say of a refused one where it stands.

    Raises:
        ConfigError: the trainer refuses a flag.
        SystemExit: --help was among them.
    """
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            arguments: argparse.Namespace = importlib.import_module(start.trainer.arguments).parse(start.argv)
            return arguments
    except SystemExit as end:
        sentence = said.getvalue().strip().partition(";")[0]
        if end.code in (0, None):
            raise
        raise ConfigError(sentence + whence(sentence, start, configuration)) from None


def whence(sentence: str, start: Start, configuration: Configuration) -> str:
    """Where the flags that a sentence names were said, unless the command line said them."""
    given = {word.partition("=")[0] for word in start.given}
    named = [name for name in re.findall(r"--[\w-]+", sentence) if name not in given]
    symbols = {
        flag.name: flag.symbol for flag in start.flags if flag.name in named
    }  # the last one, as it is with flags
    return f" ({'; '.join(map(configuration.where, symbols.values()))})" if symbols else ""


def run(start: Start) -> int:
    """Train, here or under torchrun; the exit status is the trainer's."""
    os.environ.update(start.environment)
    if start.processes == 1:
        program: Any = importlib.import_module(f"{start.trainer.name}.train")
        return int(program.main(start.argv))
    process = subprocess.Popen(start.command(), cwd=Path.cwd())

    def forward(number: int, frame: Any) -> None:
        # Ctrl-C reaches the whole terminal by itself; what is sent to this process alone has to be passed on.
        if number == signal.SIGTERM:
            process.terminate()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, forward)
    status = process.wait()
    return 128 - status if status < 0 else status


def compare_with(baseline: str, store: str | None) -> None:
    """Hold the run that has just ended against the baseline."""
    import lossbook
    from lossbook.errors import LossbookError

    try:
        # Trained in this process, it is known; of several processes it is the newest.
        latest = lossbook.open(store).run(lossbook.run.id if lossbook.run is not None else "latest")
    except LossbookError as error:
        print(f"no comparison with {baseline}: {error}", file=sys.stderr)
        return
    print(f"\nagainst {baseline}:", flush=True)
    chosen = ["--store", store] if store else []
    subprocess.run(
        [sys.executable, "-m", "lossbook.cli", *chosen, "compare", baseline, latest.id],
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])},
    )


def own_arguments(description: str) -> argparse.ArgumentParser:
    """The flags that are not the trainer's."""
    parser = argparse.ArgumentParser(description=description, allow_abbrev=False, add_help=False)
    parser.add_argument("--config", type=Path, help="the configuration [KCONFIG_CONFIG, else .config]")
    parser.add_argument("--tracker", help="wandb, trackio, both, none, ... in place of the configuration's")
    parser.add_argument("--show", action="store_true", help="print what would be started")
    return parser


def main(argv: list[str] | None = None) -> int:
    own, given = own_arguments("Train what .config says.").parse_known_args(argv)
    try:
        configuration = remark(load(own.config or config_path()))
        start = resolve(configuration, given, own.tracker)
        if own.show:
            print(shlex.join(start.command()))
            return 0
        arguments = check(start, configuration)
        status = run(start)
    except ConfigError as error:
        print(f"train: {error}", file=sys.stderr)
        return 2
    baseline = configuration["BASELINE_RUN_ID"]
    if status == 0 and baseline:
        compare_with(baseline, arguments.store)
    return status


if __name__ == "__main__":
    sys.exit(main())
