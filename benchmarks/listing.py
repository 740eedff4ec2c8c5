"""`ls`: what it takes to know the state and the last values of every run in a store."""

from __future__ import annotations

import os
import pty
import statistics
import subprocess
import sys
from time import perf_counter
from typing import Any

from benchmarks.report import Figure, Target
from benchmarks.session import Session
from benchmarks.trackers import OURS, PROJECT, TRACKERS
from benchmarks.work import rows_of, ten_columns

SMALL = 200


def record_one(folder: str) -> str:
    """Record one short run; returns its folder."""
    used: Any = TRACKERS[OURS](folder)
    log = used.start()
    used.run.config.update({"lr": 6e-4, "model": "gpt2", "optimizer": "adamw", "batch_size": 32, "layers": 12})
    for step, row in enumerate(rows_of(ten_columns(100))):
        log(row, step)
    used.finish()
    return str(used.run.path)


def multiply(folder: str, path: str, runs: int) -> None:
    """Make a store of `runs` runs out of one: each with its own identity, name, configuration and last values."""
    import random

    import orjson

    from lossbook.paths import RunFolder, new_run_id, read_json, replace_file, run_folder

    chance = random.Random(0)
    original = RunFolder(path)
    identity, summary = read_json(original.run_json), read_json(original.summary_json)
    assert identity is not None
    assert summary is not None
    parquet = [
        os.path.join(directory, filename)
        for directory in (original.metrics, original.events)
        for filename in os.listdir(directory)
    ]
    for number in range(runs):
        copy = run_folder(os.path.join(folder, "lossbook"), PROJECT, new_run_id())
        for directory in (copy.journal, copy.metrics, copy.events, copy.followers):
            os.makedirs(directory)
        for source in parquet:
            # `ls` reads none of these: a name for each is enough.
            os.link(source, os.path.join(copy.path, os.path.relpath(source, path)))
        identity.update(id=os.path.basename(copy.path), name=f"run-{number}", created=identity["created"] + 1_000_000)
        identity["config"] = {**identity["config"], "lr": chance.uniform(1e-5, 1e-3), "seed": number}
        summary["metrics"]["train/loss"]["last"] = chance.uniform(2.5, 4)
        replace_file(copy.run_json, orjson.dumps(identity), durable=False)
        replace_file(copy.summary_json, orjson.dumps(summary), durable=False)


def in_pipe(command: list[str]) -> tuple[bytes, int]:
    """Run a command whose output goes to a program: what it printed, and its exit status."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    return done.stdout, done.returncode


def in_terminal(command: list[str]) -> tuple[bytes, int]:
    """Run a command as a user does who types it, so that it prints what a screen is for."""
    leader, follower = pty.openpty()
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=follower, stderr=follower)
    os.close(follower)
    printed = b""
    while True:
        try:
            part = os.read(leader, 1 << 16)
        except OSError:  # Linux says so when the other side has gone
            part = b""
        if not part:
            break
        printed += part
    os.close(leader)
    return printed, process.wait()


def list_runs(folder: str, api_repeats: int) -> dict[str, float]:
    """Seconds of `ls` of the store, as a whole command and as a call: the first, again, after one run changed."""

    import lossbook
    from lossbook.paths import RunFolder
    from lossbook.reading.index import index_path
    from lossbook.run_info import edit_run_info

    store = os.path.join(folder, "lossbook")
    command = [sys.executable, "-m", "lossbook.cli", "ls", "--store", store]

    def run_command(*, terminal: bool = True) -> float:
        begin = perf_counter()
        printed, status = in_terminal(command) if terminal else in_pipe(command)
        seconds = perf_counter() - begin
        if status != 0 or not printed:
            raise RuntimeError(printed.decode(errors="replace")[-500:])
        return seconds

    def forget() -> None:
        if os.path.exists(index_path(store)):
            os.unlink(index_path(store))

    def change_one(number: int) -> None:
        run = os.path.join(store, PROJECT, sorted(os.listdir(os.path.join(store, PROJECT)))[number])
        edit_run_info(RunFolder(run), lambda info: info._replace(tags=(f"seen-{number}",)))

    found: dict[str, float] = {}
    forget()
    found["command_first"] = run_command()
    found["command_again"] = statistics.median(run_command() for _ in range(5))
    after = []
    for number in range(5):
        change_one(number)
        after.append(run_command())
    found["command_changed"] = statistics.median(after)
    found["command_piped"] = statistics.median(run_command(terminal=False) for _ in range(3))
    forget()
    begin = perf_counter()
    book = lossbook.open(store)
    found["runs"] = len(book.runs())
    found["call_first"] = perf_counter() - begin
    again, values = [], []
    for _ in range(api_repeats):
        begin = perf_counter()
        runs = lossbook.open(store).runs()
        again.append(perf_counter() - begin)
        [run.metrics["train/loss"]["last"] for run in runs]
        values.append(perf_counter() - begin)
    found["call_again"] = statistics.median(again)
    found["call_values"] = statistics.median(values)
    return found


def record_many(folder: str, tracker: str) -> None:
    """Write 200 short runs with a peer, by the shortest way that leaves what it would have left."""
    rows = rows_of(ten_columns(20))
    if tracker == "trackio":
        from trackio.sqlite_storage import SQLiteStorage

        for number in range(SMALL):
            SQLiteStorage.bulk_log(PROJECT, f"run-{number}", rows, steps=list(range(len(rows))))
        return
    for number in range(SMALL):
        used = TRACKERS[tracker](folder)
        log = used.start(f"run-{number}")
        for step, row in enumerate(rows):
            log(row, step)
        used.finish()


def list_peer(folder: str, tracker: str) -> dict[str, float]:
    """Seconds to the last loss of every run, after the import."""
    if tracker == "trackio":
        from trackio.sqlite_storage import SQLiteStorage

        begin = perf_counter()
        names = SQLiteStorage.get_runs(PROJECT)
        last = [SQLiteStorage.get_logs(PROJECT, name)[-1]["train/loss"] for name in names]
    else:
        from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer

        begin = perf_counter()
        multiplexer = EventMultiplexer().AddRunsFromDirectory(os.path.join(folder, "tensorboard")).Reload()
        last = [multiplexer.Scalars(run, "train/loss")[-1].value for run in multiplexer.Runs()]
    return {"seconds": perf_counter() - begin, "runs": len(last)}


def figures(session: Session) -> list[Figure]:
    many = 1_000 if session.quick else 10_000
    one = session.measure(record_one, session.place("one-run"))
    large = small = None
    if one is not None:
        folder = session.place("store-large")
        if session.measure(multiply, folder, path=one.value, runs=many):
            large = session.measure(list_runs, folder, api_repeats=5)
        folder = session.place("store-small")
        if session.measure(multiply, folder, path=one.value, runs=SMALL):
            small = session.measure(list_runs, folder, api_repeats=20)
    peers: dict[str, float] = {}
    for tracker in [peer for peer in session.peers if peer != "wandb"]:
        folder = session.place(f"many-{tracker}")
        if session.measure(record_many, folder, tracker=tracker):
            outcome = session.measure(list_peer, folder, tracker=tracker)
            if outcome is not None and outcome.value["runs"] == SMALL:
                peers[tracker] = outcome.value["seconds"]

    def of(outcome: Any, name: str) -> float | None:
        return outcome.value[name] if outcome is not None else None

    return [
        Figure(
            "listing",
            f"ls of {many:,} runs, first time, s",
            of(large, "command_first"),
            target=Target(at_most=3),
            note="the whole command in a terminal, from its start to its end, without an index; files are in the page "
            "cache. A terminal is shown the newest runs, a pipe all of them.",
        ),
        Figure("listing", f"ls of {many:,} runs, again, s", of(large, "command_again"), target=Target(at_most=0.15)),
        Figure(
            "listing",
            f"ls of {many:,} runs, after one changed, s",
            of(large, "command_changed"),
            target=Target(at_most=0.2),
        ),
        Figure("listing", f"ls of {many:,} runs, every one printed into a pipe, s", of(large, "command_piped")),
        Figure("listing", f"book.runs() of {many:,} runs, again, s", of(large, "call_again")),
        Figure(
            "listing",
            f"list {SMALL} runs with their last values, s",
            of(small, "call_values"),
            peers,
            Target(at_most=0.02),
            note="a call in a running process: ours `book.runs()` and a metric of each; trackio `get_runs` and "
            "`get_logs`; TensorBoard's multiplexer. wandb keeps no list of offline runs.",
        ),
    ]
