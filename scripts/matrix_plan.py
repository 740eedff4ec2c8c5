"""Which runs a configuration's matrix has: every combination, checked by the trainer, each with a tag of its own."""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.train import Start, check, resolve
from trainers.configuration import GPT2, ConfigError, Configuration, Flag

#: Flags that change where a run is and who is told, but not what is learnt: they are no part of a cell's digest.
PLACES = {
    "--device", "--cache", "--data-root", "--data_root", "--checkpoints", "--store", "--no-local", "--log-interval",
    "--log_interval", "--tracker", "--resume", "--sample",
}  # fmt: skip
#: Flags that the matrix varies, in the order in which a label names them, and the symbols that list their values.
AXES = {
    "--optimizer": "GPT2_OPTIMIZER", "--pruning": "GPT2_PRUNING", "--sparsity": "MATRIX_SPARSITIES",
    "--prune-variant": "MATRIX_VARIANTS", "--model_size": "MATRIX_MODEL_SIZES", "--objective": "MATRIX_OBJECTIVES",
    "--learning-rate": "MATRIX_LEARNING_RATES", "--learning_rate": "MATRIX_LEARNING_RATES", "--seed": "MATRIX_SEEDS",
}  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """One combination: what it changes, and how its runs are known."""

    number: int
    #: Flag and value of each axis.
    changes: dict[str, str]
    #: `adamwprune state 0.7`: the values that tell it from the others.
    label: str
    tag: str


@dataclass(frozen=True)
class Matrix:
    """A configuration and its cells."""

    configuration: Configuration
    start: Start
    cells: list[Cell]
    group: str
    #: What the trainer makes of the flags that all cells share.
    arguments: argparse.Namespace

    @property
    def store(self) -> str | None:
        store: str | None = self.arguments.store
        return store

    @property
    def checkpoints(self) -> Path:
        return Path(self.arguments.checkpoints)

    @property
    def logs(self) -> Path:
        return self.checkpoints / self.group

    def command(self, cell: Cell, resume: str | None) -> list[str]:
        """What trains a cell, or goes on with a run of it."""
        start = self.start
        if resume is not None:
            flags = [flag for flag in start.flags if flag.name == "--checkpoints"]
            return start._replace(flags=flags, given=["--resume", resume, *start.given]).command()
        base = start.command()
        changes = [f"{name}={value}" for name, value in cell.changes.items()]
        tags = [*(part for part in self.configuration["TRACKER_TAGS"].split(",") if part.strip()), cell.tag]
        named = self.configuration["TRACKER_RUN_NAME"]
        name = "_".join([named, *cell.label.split()]) if len(self.cells) > 1 else named
        if start.trainer.name == GPT2.name:
            tracking = [f"--tracker-tags={','.join(tags)}", f"--tracker-group={self.group}"]
            tracking += [f"--tracker-run-name={name}"] if named else []
        else:
            tracking = [f"--wandb_group={self.group}", "--wandb_tags", *tags]
            tracking += [f"--wandb_run_name={name}"] if named else []
        return [*base, *changes, *tracking]


def words(text: str) -> list[str]:
    return [part for one in text.split(",") if (part := one.strip())]


def _checked(configuration: Configuration, prefix: str) -> list[str]:
    symbols = configuration.tree.unique_defined_syms
    return [
        one.name.removeprefix(prefix).lower()
        for one in symbols
        if one.name.startswith(prefix) and configuration.is_on(one.name)
    ]


def combinations(configuration: Configuration) -> list[dict[str, str]]:
    """The flags that each cell changes, flag to value.

    What would be trained twice is left out: without pruning there is one sparsity, and variants are of state pruning,
    which adamwprune alone has.

    Raises:
        ConfigError: nothing is left of what was chosen.
    """
    if configuration.trainer is not GPT2:
        names = {
            "MATRIX_MODEL_SIZES": "--model_size",
            "MATRIX_OBJECTIVES": "--objective",
            "MATRIX_LEARNING_RATES": "--learning_rate",
            "MATRIX_SEEDS": "--seed",
        }
        axes = [[(flag, value) for value in words(configuration[symbol])] for symbol, flag in names.items()]
        return [dict(one) for one in itertools.product(*(axis for axis in axes if axis))]
    optimizers = _checked(configuration, "MATRIX_OPTIMIZER_") or [configuration["GPT2_OPTIMIZER"].lower()]
    prunings = _checked(configuration, "MATRIX_PRUNING_") or [configuration["GPT2_PRUNING"].lower()]
    sparsities = words(configuration["MATRIX_SPARSITIES"]) or [configuration["GPT2_SPARSITY"]]
    variants = words(configuration["MATRIX_VARIANTS"]) or [configuration["GPT2_PRUNE_VARIANT"].lower()]
    rates = words(configuration["MATRIX_LEARNING_RATES"]) or [configuration["GPT2_LEARNING_RATE"]]
    seeds = words(configuration["MATRIX_SEEDS"]) or [configuration["GPT2_SEED"]]
    found: list[dict[str, str]] = []
    for optimizer, pruning, sparsity, variant, rate, seed in itertools.product(
        optimizers, prunings, sparsities, variants, rates, seeds
    ):
        if pruning == "state" and optimizer != "adamwprune":
            continue
        cell = {"--optimizer": optimizer, "--pruning": pruning}
        if pruning != "none":
            cell["--sparsity"] = sparsity
        if pruning == "state":
            cell["--prune-variant"] = variant
        cell.update({"--learning-rate": rate, "--seed": seed})
        if cell not in found:
            found.append(cell)
    if not found:
        raise ConfigError("state pruning is adamwprune's: choose that optimizer, or another pruning")
    return found


def digest(meaning: object) -> str:
    return hashlib.sha256(json.dumps(meaning, sort_keys=True, default=str).encode()).hexdigest()[:8]


def plan(configuration: Configuration, given: list[str], tracker: str | None) -> Matrix:
    """Every cell of a configuration, each checked by the trainer itself.

    Raises:
        ConfigError: a flag is refused, the runs are not kept here, or a flag would undo what cells differ in.
    """
    if configuration["TRACKER_LOCAL"] == "n":
        raise ConfigError(
            f"the matrix goes by the local runs, to know which are finished: turn {configuration.where('TRACKER_LOCAL')} on"
        )
    start = resolve(configuration, given, tracker)
    found = combinations(configuration)
    varied = {name for cell in found for name in cell}
    for word in given:
        if word.partition("=")[0] in varied | {"--resume"}:
            raise ConfigError(f"{word} would hold for every run of the matrix: set it in the menu Matrix")
    arguments = check(start, configuration)
    meanings = [
        _meaning(start, configuration, [Flag(name, (value,), AXES[name]) for name, value in changes.items()])
        for changes in found
    ]
    base = {
        name: value
        for name, value in meanings[0].items()
        if f"--{name.replace('_', start.trainer.joint)}" not in varied
    }
    group = configuration["TRACKER_GROUP"] or f"matrix-{digest(base)}"
    several = [name for name in AXES if len({cell[name] for cell in found if name in cell}) > 1]
    cells = [
        Cell(
            number,
            changes,
            " ".join(changes[name] for name in several if name in changes) or "as configured",
            f"cell-{digest(meaning)}",
        )
        for number, (changes, meaning) in enumerate(zip(found, meanings, strict=True))
    ]
    return Matrix(configuration, start, cells, group, arguments)


def _meaning(start: Start, configuration: Configuration, flags: list[Flag]) -> dict[str, Any]:
    """All that the trainer is told of what to learn, whether it was said or is a default."""
    told = vars(check(start._replace(flags=[*start.flags, *flags]), configuration))
    places = {name.removeprefix("--").replace("-", "_") for name in PLACES}
    return {
        name: value
        for name, value in told.items()
        if name not in places and not name.startswith(("tracker", "wandb_", "disable_wandb"))
    }
