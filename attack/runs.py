"""Runs of which it is known what must be in them, and what a reader finds in them.

Row `step` holds `loss = value_of(step)` and `lr`, so that each value can be checked wherever it is read.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import lossbook
from attack.child import describe
from lossbook.cli.maintenance import seal_folder
from lossbook.errors import LossbookError
from lossbook.paths import RunFolder, run_folders
from lossbook.storage import verify_run

PROJECT, RUN = "attack", "victim"
PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d4944415478da63fccfc0500f00048501807f2c"
    "7a1f0000000049454e44ae426082"
)


def value_of(step: int) -> float:
    """What `loss` is at a step: no round number, so that no flipped bit of it goes unnoticed."""
    return 7.0 / (step + 3)


def learning_rate_of(step: int) -> float:
    return 1e-3 / (step + 1)


def log_steps(run: lossbook.Run, steps: Iterable[int]) -> None:
    for step in steps:
        run.log({"loss": value_of(step), "lr": learning_rate_of(step)}, step=step, ranks="all")


def log_events(run: lossbook.Run) -> None:
    """One row of each kind that takes another path to the disk."""
    run.log({"sample": lossbook.Text("once upon a time"), "spread": lossbook.Histogram([1, 2, 3])}, step=1)
    run.note("a note")
    run.alert("spike", text="of the loss")
    run.config["batch"] = 32
    run.summary["best"] = 0.25


@dataclass
class Contents:
    """What a reader finds in a store.

    Attributes:
        steps: of each run, of `loss`, sorted, each as often as it is there.
        wrong: values, names and states that are not what was logged.
        problems: sentences that the reader says of the run.
        errors: LossbookErrors that it raises.
        failures: any other exception.
    """

    steps: dict[str, list[int]] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    states: dict[str, str] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    events: list[str] = field(default_factory=list)

    @property
    def all_steps(self) -> list[int]:
        return sorted(step for steps in self.steps.values() for step in steps)

    @property
    def said(self) -> list[str]:
        return [*self.problems, *self.errors]


def read_store(store: Path | str) -> Contents:
    """All that a reader finds in a store. Call it in a child: it starts DuckDB."""
    found = Contents()
    for folder in run_folders(str(store)):
        if folder.exists():
            _read_run(store, folder, found)
    return found


def _read_run(store: Path | str, folder: RunFolder, found: Contents) -> None:
    name = os.path.basename(folder.path)
    found.steps.setdefault(name, [])
    try:
        book = lossbook.open(store)
        run = book.run(name)
        found.states[name], found.names[name] = run.state, run.name
        keys = set(run.keys())
    except LossbookError as error:
        found.errors.append(str(error))
        return
    except Exception as error:
        found.failures.append(describe(error))
        return

    def rows() -> None:
        if "loss" not in keys:
            return
        logged = run.history(["loss", "lr"], ranks=True, hidden=True).numpy()
        for step, loss, rate in zip(*(logged[name].tolist() for name in ("step", "loss", "lr")), strict=True):
            found.steps[name].append(step)
            if loss != value_of(step) or rate != learning_rate_of(step):
                found.wrong.append(f"step {step}: loss {loss}, lr {rate}")

    def curve() -> None:
        if "loss" not in keys:
            return
        drawn = run.curve("loss", points=100_000)
        for step, value in zip(drawn.x.tolist(), drawn.last.tolist(), strict=True):
            if value != value_of(int(step)):
                found.wrong.append(f"curve at {step}: {value}")
                break

    def events() -> None:
        found.events += sorted(event["kind"] for event in run.events())

    def problems() -> None:
        found.problems += run.problems()

    def statistics() -> None:
        if run.state == "running" or "loss" not in keys or found.said:
            return
        count, there = run.metrics.get("loss", {}).get("count"), len(run.history(["loss"], ranks=True).rows())
        if count != there:
            found.wrong.append(f"the summary counts {count} rows of loss, and {there} are read")

    for question in (rows, curve, events, problems, statistics):
        try:
            question()
        except LossbookError as error:
            found.errors.append(str(error))
        except Exception as error:
            found.failures.append(f"{question.__name__}: {describe(error)}")


def complaints(store: Path | str) -> list[str]:
    """What `lossbook verify` finds damaged in the runs of a store."""
    return [
        f"{one.path}: {one.message}"
        for folder in run_folders(str(store))
        if folder.exists()
        for one in verify_run(folder)
        if not one.ok
    ]


def victim(store: Path | str) -> RunFolder:
    return RunFolder(os.path.join(store, PROJECT, RUN))


def seal_quietly(path: Path, run: str = RUN) -> str:
    """Seal a run of the store below `path` as `lossbook seal` does; returns what it raised, LossbookErrors left out."""
    try:
        seal_folder(RunFolder(os.path.join(path, "store", PROJECT, run)))
    except LossbookError:
        return ""
    except Exception as error:
        return describe(error)
    return ""


def begin(store: Path | str, *, resume: str = "never", **more: object) -> lossbook.Run:
    """Begin the run that is attacked, or another attempt of it."""
    # A run that is resumed with a name is called so from then on, whatever somebody has called it.
    name = "victim" if resume == "never" else None
    return lossbook.init(
        project=PROJECT, id=RUN, name=name, store=str(store), config={"lr": 0.1}, resume=resume, **more
    )


def missing(found: Sequence[int], expected: Iterable[int]) -> list[int]:
    there = set(found)
    return [step for step in expected if step not in there]


def twice(found: Sequence[int]) -> list[int]:
    seen: set[int] = set()
    return [step for step in found if step in seen or seen.add(step)]
