"""A run of every kind, with a file of every kind in it, and all that a reader can ask of it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import lossbook
from attack.child import describe, in_child
from attack.operations import STEPS, crashed, left_alone, seal_and_summarise, sealed_in_parts
from attack.report import Attempted, Session, Tally
from attack.runs import RUN, begin, complaints, log_events, log_steps, victim
from lossbook.errors import LossbookError
from lossbook.follower.cursor import Cursor
from lossbook.journal import extend_digests
from lossbook.reading import set_labels


def finished(path: Path) -> None:
    """Ended and sealed; with events, media, a saved file, labels and the cursor of a mirror."""
    run = begin(path / "store", tags=["first"], notes="as it began")
    log_steps(run, range(STEPS))
    log_events(run)
    run.log({"answers": lossbook.Table(columns=["question", "answer"], rows=[[str(n), n] for n in range(300)])})
    (path / "weights.bin").write_bytes(bytes(range(256)) * 4)
    run.save(str(path / "weights.bin"), policy="now")
    run.finish()
    seal_and_summarise(path)
    set_labels(victim(path / "store").path, name="labelled", tags=["first", "second"])
    Cursor("tensorboard", delivered={0: STEPS}, remote={"file": "events.out"}).save(victim(path / "store"))


def killed(path: Path) -> None:
    """Its process died, and the node's follower covered its journal; not sealed."""
    in_child(lambda: crashed(path)).must_be_well()
    extend_digests(victim(path / "store"), 0)


def resumed(path: Path) -> None:
    """Two attempts, the second from a checkpoint; ended and sealed."""
    in_child(lambda: crashed(path)).must_be_well()
    run = begin(path / "store", resume="allow", resume_step=STEPS // 2)
    log_steps(run, range(STEPS // 2 + 1, 2 * STEPS))
    run.finish()
    seal_and_summarise(path)


def distributed(path: Path) -> None:
    """Two ranks; ended, not sealed."""

    def rank(number: int) -> None:
        os.environ.update(RANK=str(number), LOCAL_RANK=str(number), WORLD_SIZE="2", LOSSBOOK_RUN_ID=RUN)
        run = begin(path / "store")
        log_steps(run, range(STEPS))
        run.finish()

    for number in (0, 1):
        in_child(lambda number=number: rank(number)).must_be_well()


#: Makers of the one run that a store holds.
KINDS: dict[str, Callable[[Path], None]] = {
    "finished, sealed": finished,
    "finished, sealed in parts": sealed_in_parts,
    "finished, not sealed": left_alone,
    "killed, not sealed": killed,
    "resumed, sealed": resumed,
    "two ranks, not sealed": distributed,
}


@dataclass
class Picture:
    """What a reader is told of a run.

    Attributes:
        answers: by question.
        said: problems and LossbookErrors, a sentence each.
        failures: every other exception.
    """

    answers: dict[str, object] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


def picture(path: Path) -> Picture:
    """Ask everything of the one run of a store. Call it in a child: it starts DuckDB."""
    seen = Picture()
    found: list[lossbook.RecordedRun] = []
    questions: dict[str, Callable[[lossbook.RecordedRun], object]] = {
        "rows": lambda run: sorted(run.history(hidden=True, ranks=True).rows(), key=repr),
        "curve": lambda run: [
            getattr(run.curve("loss", points=20), column).tolist() for column in ("x", "min", "max", "last", "count")
        ],
        "events": lambda run: run.events(),
        # A mean is summed in another order once rows are sealed.
        "statistics": lambda run: {key: {**one, "mean": f"{one['mean']:.12g}"} for key, one in run.metrics.items()},
        "config": lambda run: run.config,
        "summary": lambda run: run.summary,
        "labels": lambda run: (run.name, run.tags, run.notes, run.group),
        "state": lambda run: (run.state, run.error),
        "attempts": lambda run: [(one.number, one.resume_step) for one in run.attempts],
    }
    try:
        found += lossbook.open(path / "store").runs()
    except LossbookError as error:
        seen.said.append(str(error))
    except Exception as error:
        seen.failures.append(f"problems: {describe(error)}")
    if not found:
        return seen
    # Problems last: what is read tells most.
    for name, question in {**questions, "problems": lambda run: seen.said.extend(run.problems())}.items():
        try:
            seen.answers[name] = question(found[0])
        except LossbookError as error:
            seen.said.append(str(error))
        except Exception as error:
            seen.failures.append(f"{name}: {describe(error)}")
    return seen


@dataclass(frozen=True)
class Place:
    """A place in a file of a run.

    Attributes:
        file: relative to the run's folder.
        sort: what sort of file it is, as the table names it.
        at: a byte of it.
    """

    file: str
    sort: str
    at: int


def places_of(path: Path, session: Session, *, long: int) -> dict[str, list[Place]]:
    """Places in the files of the one run of a store, by sort of file: one of each sort in a short attack, `long` in each file
    otherwise. Left out are those that hold nothing of the run: locks, and followers' own logs.
    """
    folder = Path(victim(path / "store").path)
    found: dict[str, list[Place]] = {}
    for one in sorted(folder.rglob("*")):
        if one.is_file() and one.suffix not in (".lock", ".log", ".tmp"):
            name = str(one.relative_to(folder))
            sort = _sort_of(name)
            bytes_of_it = session.choose(range(one.stat().st_size), short=1, long=long)
            found.setdefault(sort, []).extend(Place(name, sort, at) for at in bytes_of_it)
    return {sort: session.choose(places, short=1) for sort, places in sorted(found.items())}


Harm = Callable[[Path, Place, Picture, str, Tally], None]


def attack_places(session: Session, harm: Harm, *, fault: str, long: int) -> Iterator[Attempted]:
    """Do harm at places in each file of a run of each kind, one after another.

    Args:
        harm: takes the folder with the run, a place in it, what was read before, the point's name, and the tally.
        fault: what the harm is called.
        long: places in each file of a long attack.
    """
    for kind, make in KINDS.items():
        with tempfile.TemporaryDirectory(dir=session.folder) as folder:
            path = Path(folder) / "run"
            path.mkdir()
            in_child(lambda make=make, path=path: make(path)).must_be_well()
            well = in_child(lambda path=path: (picture(path), complaints(path / "store")))
            well.must_be_well()
            assert well.answer is not None
            before, already = well.answer
            if already or before.failures:
                raise RuntimeError(f"{kind}: an undisturbed run is not well: {already or before.failures}")
            for sort, places in places_of(path, session, long=long).items():
                tally = Tally()
                for one in places:
                    point = f"{kind}:{one.file}:{one.at}"
                    if session.wants(point):
                        harm(path, one, before, point, tally)
                if tally.points:
                    yield tally.row(fault, f"{sort} of a run that is {kind}")


def _sort_of(name: str) -> str:
    folder, _, file = name.rpartition("/")
    if folder in ("digests", "followers"):
        return f"{folder} ({file if folder == 'followers' else file.partition('.')[2]})"
    return folder.partition("/")[0] or file
