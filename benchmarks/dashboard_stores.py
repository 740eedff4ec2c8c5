"""What the dashboards are shown: the same runs written for each tracker, by the shortest way that leaves what it would
have left."""

from __future__ import annotations

import os
import shutil
import time
from typing import Any

from benchmarks.trackers import OURS, PROJECT, TRACKERS
from benchmarks.work import SPIKED_KEY, Row, rows_of, ten_columns

CURVES = 50
#: So many of the curves are different; the others are copies of them.
DIFFERENT = 3
SHORT_ROWS = 100


def write_runs(folder: str, tracker: str, runs: int) -> None:
    """A peer's project of `runs` runs, each of ten series and 100 rows; ours is `benchmarks.listing`'s."""
    rows = rows_of(ten_columns(SHORT_ROWS))
    if tracker == "trackio":
        for number in range(runs):
            _write_trackio(f"run-{number}", rows)
        return
    _write_tensorboard(folder, "run-0", rows)
    for number in range(1, runs):
        _copy_tensorboard(folder, "run-0", f"run-{number}")


def write_curves(folder: str, tracker: str, rows: int) -> None:
    """A project of 50 runs with one series of `rows` steps."""
    for number in range(DIFFERENT):
        values = curve_values(rows, number)
        if tracker == OURS:
            _write_sealed_run(folder, f"run-{number}", values)
        elif tracker == "trackio":
            of_one = [{SPIKED_KEY: value} for value in values.tolist()]
            for copy in range(number, CURVES, DIFFERENT):
                _write_trackio(f"run-{copy}", of_one)
        else:
            _write_tensorboard(folder, f"run-{number}", [{SPIKED_KEY: value} for value in values.tolist()])
            for copy in range(number + DIFFERENT, CURVES, DIFFERENT):
                _copy_tensorboard(folder, f"run-{number}", f"run-{copy}")


def copy_runs(folder: str) -> None:
    """Copy our first runs until there are 50; not while a follower may still write to them."""
    import orjson

    from lossbook.paths import RunFolder, new_run_id, read_json, replace_file

    project = os.path.join(folder, "lossbook", PROJECT)
    originals = sorted(os.listdir(project))
    for number in range(DIFFERENT, CURVES):
        copy = os.path.join(project, new_run_id())
        shutil.copytree(os.path.join(project, originals[number % DIFFERENT]), copy)
        run = RunFolder(copy)
        identity = read_json(run.run_json)
        assert identity is not None
        identity.update(id=os.path.basename(copy), name=f"run-{number}", created=identity["created"] + number)
        replace_file(run.run_json, orjson.dumps(identity), durable=False)


def log_when_told(folder: str, tracker: str, points: int, seconds: float) -> None:
    """Record a run of 50 rows, then a row for each file `tell-N` that appears in `folder`.

    `told-N` has the moment at which `log()` had returned (Unix seconds). Each value is far above those before it and
    each step far behind, so that the whole curve is drawn elsewhere.
    """
    used: Any = TRACKERS[tracker](folder)
    log = used.start()
    for step in range(50):
        log({SPIKED_KEY: 2.0 + 0.01 * (step % 7)}, step)
    if tracker == "tensorboardX":
        used.writer.flush()
    _leave(os.path.join(folder, "told-begun"), "")
    for number in range(points):
        deadline = time.monotonic() + seconds
        while not os.path.exists(os.path.join(folder, f"tell-{number}")):
            if time.monotonic() > deadline:
                break
            time.sleep(0.001)
        log({SPIKED_KEY: 4.0 * 2.0**number}, 50 + 25 * (number + 1))
        if tracker == "tensorboardX":
            # It would keep ten rows or two minutes of them to itself.
            used.writer.flush()
        _leave(os.path.join(folder, f"told-{number}"), repr(time.time()))
    used.finish()


def curve_values(rows: int, number: int) -> Any:
    """Values of one of the different curves, shape (rows,): a decay of its own height, and a little noise."""
    import numpy

    random = numpy.random.default_rng(number)
    decay = (2.6 + 0.5 * number) + 3.0 * (1 + numpy.arange(rows) / (0.02 * rows)) ** -0.45
    return (decay + random.normal(0, 0.03, rows)).astype(numpy.float32).astype(numpy.float64)


def _write_sealed_run(folder: str, name: str, values: Any) -> None:
    """A finished run as its follower would leave it, without its journal: written by the function that seals."""
    import numpy

    import lossbook
    from lossbook.paths import RunFolder, SegmentName
    from lossbook.storage.compaction import put_segment
    from lossbook.storage.journal_rows import JournalRows
    from lossbook.storage.segment import Identity, Partials
    from lossbook.storage.segment_file import write_sealed

    run = lossbook.init(project=PROJECT, name=name, store=os.path.join(folder, "lossbook"))
    run.log({SPIKED_KEY: float(values[0])}, 0)
    run.finish()
    steps = numpy.arange(1, len(values))
    journal: Any = JournalRows()
    journal.i, journal.step, journal.t = steps, steps, 1_763_688_000_000_000 + 250_000 * steps
    journal.attempt = numpy.zeros(len(steps), dtype=numpy.int16)
    journal.codes = [numpy.zeros(1, dtype=numpy.int32)] * len(steps)
    journal.values = values[1:]
    journal.names = {SPIKED_KEY: 0}

    def write(partials: Partials) -> None:
        write_sealed(journal, 0, Identity(PROJECT, run.id), partials)

    put_segment(RunFolder(run.path), SegmentName(0, 2, 9), write)


def _write_trackio(run: str, rows: list[Row]) -> None:
    from trackio.sqlite_storage import SQLiteStorage

    SQLiteStorage.bulk_log(PROJECT, run, rows, steps=list(range(len(rows))))


def _write_tensorboard(folder: str, run: str, rows: list[Row]) -> None:
    used = TRACKERS["tensorboardX"](folder)
    log = used.start(run)
    for step, row in enumerate(rows):
        log(row, step)
    used.finish()


def _copy_tensorboard(folder: str, run: str, copy: str) -> None:
    store = os.path.join(folder, "tensorboard")
    shutil.copytree(os.path.join(store, run), os.path.join(store, copy))


def _leave(path: str, text: str) -> None:
    """Write a file that is whole from the moment at which it is there."""
    with open(path + ".new", "w", encoding="utf-8") as file:
        file.write(text)
    os.rename(path + ".new", path)
