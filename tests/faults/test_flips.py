"""A byte that flips, anywhere in a file that Lossbook wrote: `verify` finds it, and no reader serves a wrong value in silence."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy
import pytest

import lossbook
from lossbook.book import Book
from lossbook.errors import LossbookError
from lossbook.paths import RunFolder
from lossbook.storage import LiveSummary, seal_run, verify_run

STEPS = 60
#: So many places of each kind of file are tried; `make attack` tries them all.
PLACES = 8


@dataclass(frozen=True)
class Read:
    """What a reader is told of a run."""

    loss: dict[int, float]
    curve: float
    notes: list[str]
    config: dict[str, object]
    count: int
    state: str


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Path]]:
    """Runs that have ended: one that is sealed in two files, and one whose journal stands."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOSSBOOK_FOLLOWER", "off")
        made = {}
        for name in ("sealed", "journal"):
            store = made[name] = tmp_path_factory.mktemp("flips") / name
            for resume in ("never", "must"):
                run = lossbook.init(
                    project="p",
                    id="r",
                    store=str(store),
                    config={"lr": 0.125},
                    resume=resume,
                    console=False,
                    system_metrics=False,
                )
                first = 0 if resume == "never" else STEPS // 2
                for step in range(first, first + STEPS // 2):
                    run.log({"loss": value_at(step), "lr": 0.001}, step=step)
                run.log({"sample": lossbook.Text(f"note {first}")}, step=first)
                run.log({"noise": lossbook.Image(numpy.full((4, 4, 3), first, dtype=numpy.uint8))}, step=first)
                run.finish()
                folder = RunFolder(run.path)
                if name == "sealed":
                    seal_run(folder, finished=False)
                    if resume == "must":
                        seal_run(folder, finished=True)
                        LiveSummary(folder).write()
        yield made


def value_at(step: int) -> float:
    return 1.0 / (step + 3)


def read(store: Path) -> Read:
    run = Book(store).run("r")
    found = {row["step"]: row["loss"] for row in run.history(["loss"]).dicts()}
    curve = run.curve("loss", points=10)
    run.history(["lr"]).numpy()
    Book(store).sql("select count(*), avg(value) from metrics").rows()
    return Read(
        loss=found,
        curve=float(numpy.nansum(curve.mean * curve.count)),
        notes=[event["value"].get("text") for event in run.events("text")],
        config=run.config,
        count=run.metrics["loss"]["count"],
        state=run.state,
    )


def problems(store: Path) -> list[str]:
    run = Book(store).run("r")
    run.history(["loss"]).rows()
    run.events()
    return run.problems()


def flipped(contents: bytes, place: int) -> bytes:
    changed = bytearray(contents)
    changed[place] ^= 1 << (place % 8)
    return bytes(changed)


def files_of(store: Path, kind: str) -> list[Path]:
    return sorted(path for path in (store / "p" / "r").glob(kind) if path.is_file())


def damaged_copies(
    store: Path, kind: str, tmp_path: Path, change: Callable[[bytes, int], bytes], places: int = PLACES
) -> Iterator[tuple[Path, Path, int]]:
    """A copy of a store for each damage: the copy, the damaged file in it, and where."""
    files = files_of(store, kind)
    assert files, kind
    for file in files:
        size = file.stat().st_size
        for place in range(0, size, max(1, size * len(files) // places)):
            copy = tmp_path / f"{file.name}-{place}"
            shutil.copytree(store, copy)
            target = copy / file.relative_to(store)
            target.write_bytes(change(file.read_bytes(), place))
            yield copy, target, place
            shutil.rmtree(copy)


def check(store: Path, target: Path, wanted: Read, place: int) -> None:
    """What a reader is told is true, or comes with a word; its errors are Lossbook's own."""
    try:
        found = read(store)
        said = problems(store)
    except LossbookError as error:
        assert target.name in str(error), place
        return
    assert (
        all(math.isclose(value, wanted.loss[step]) for step, value in found.loss.items() if value is not None) or said
    )
    if found != wanted:
        assert said, (place, found)


KINDS = [
    ("sealed", "metrics/*[0-9].parquet"),
    ("sealed", "rollups/*.parquet"),
    ("sealed", "events/*.parquet"),
    ("sealed", "visible/*.parquet"),
    ("sealed", "digests/*.sha256"),
    ("sealed", "followers/seal.json"),
    ("sealed", "summary.json"),
    ("sealed", "run.json"),
    ("sealed", "media/*"),
    ("journal", "journal/*.jsonl"),
    ("journal", "digests/*.journal.jsonl"),
    ("journal", "run.json"),
]


@pytest.mark.parametrize(("state", "kind"), KINDS)
def test_a_flipped_byte_is_found_and_served_by_nobody(
    stores: dict[str, Path], state: str, kind: str, tmp_path: Path
) -> None:
    wanted = read(stores[state])
    assert wanted.loss == {step: value_at(step) for step in range(STEPS)}
    for store, target, place in damaged_copies(stores[state], kind, tmp_path, flipped):
        name = os.path.relpath(target, store / "p" / "r")
        found = [finding for finding in verify_run(RunFolder(str(store / "p" / "r"))) if not finding.ok]
        assert name in {finding.path for finding in found}, (place, found)
        check(store, target, wanted, place)


@pytest.mark.parametrize("state", ["sealed", "journal"])
def test_sealing_a_damaged_run_hides_nothing(stores: dict[str, Path], state: str, tmp_path: Path) -> None:
    kind = "journal/*.jsonl" if state == "journal" else "metrics/*[0-9].parquet"
    wanted = read(stores[state])
    for store, target, place in damaged_copies(stores[state], kind, tmp_path, flipped, places=4):
        contents = target.read_bytes()
        seal_run(RunFolder(str(store / "p" / "r")), finished=True)
        assert target.read_bytes() == contents
        assert not all(finding.ok for finding in verify_run(RunFolder(str(store / "p" / "r"))))
        check(store, target, wanted, place)


@pytest.mark.parametrize(
    ("state", "kind"), [one for one in KINDS if "digests" not in one[1]]
)  # one cut at a line's end covers less, which is no damage
def test_a_file_cut_short_is_found_and_served_by_nobody(
    stores: dict[str, Path], state: str, kind: str, tmp_path: Path
) -> None:
    wanted = read(stores[state])
    for store, target, place in damaged_copies(stores[state], kind, tmp_path, lambda contents, at: contents[:at], 4):
        findings = verify_run(RunFolder(str(store / "p" / "r")))
        assert not all(finding.ok for finding in findings), place
        check(store, target, wanted, place)
