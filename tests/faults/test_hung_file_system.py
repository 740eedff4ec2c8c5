"""A file system that stops answering never stops training, and no row is lost or doubled when it answers again."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from programs import all_runs, begin, journal_rows, kill_group, only_run, recorded, row_numbers, run, steps

import lossbook
from lossbook.errors import UnknownRun
from lossbook.journal import async_writer, durability
from lossbook.journal.durability import choose_durability
from lossbook.journal.spill import bring_home
from lossbook.paths import RunFolder
from lossbook.storage.resume_point import next_row

#: No call of a training thread comes near it; a call that waits for a hung file system takes for ever.
HANGS_SECONDS = 60.0


def spilled(tmp_path: Path) -> list[str]:
    folder = tmp_path / "cache" / "spill"
    return sorted(os.listdir(folder)) if folder.is_dir() else []


def exactly_once(folder: RunFolder, expected: int) -> bool:
    """Whether steps 0 to `expected` - 1 are there, once each and in order, and row numbers have no gaps."""
    numbers = row_numbers(folder)
    return steps(folder) == list(range(expected)) and numbers == list(range(len(numbers)))


@pytest.mark.root
def test_logging_goes_on_while_the_file_system_hangs_and_all_arrives_when_it_answers(
    hanging: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], wait_until: Any
) -> None:
    monkeypatch.setattr(async_writer, "QUEUE_BYTES", 50_000)
    one = lossbook.init(store=hanging.path / "store", project="p", console=False)
    for step in range(10):
        one.log({"loss": step}, step=step)
    assert one.sync()
    hanging.hang()
    for step in range(10, 5000):
        one.log({"loss": step}, step=step)
    one.note("all the while")
    assert spilled(tmp_path) != []
    assert capsys.readouterr().err.count("does not answer") == 1
    hanging.answer()
    for step in range(5000, 5010):
        one.log({"loss": step}, step=step)
    one.finish()
    folder = only_run(hanging.behind / "store")
    assert exactly_once(folder, 5010)
    assert [row.kind for row in journal_rows(folder)][-1] == "finish"
    assert spilled(tmp_path) == []
    assert recorded(folder).problems() == []


@pytest.mark.root
def test_finish_returns_in_its_time_and_the_rest_arrives_while_the_process_lives(
    hanging: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], wait_until: Any
) -> None:
    monkeypatch.setattr(async_writer, "QUEUE_BYTES", 50_000)
    one = lossbook.init(store=hanging.path / "store", project="p", console=False)
    one.log({"loss": 0}, step=0)
    assert one.sync()
    hanging.hang()
    for step in range(1, 3000):
        one.log({"loss": step}, step=step)
    began = time.monotonic()
    one.finish()
    assert time.monotonic() - began < HANGS_SECONDS
    assert "rows wait in" in capsys.readouterr().err
    hanging.answer()
    # A notebook goes on: its journal thread brings home what it left behind.
    wait_until(lambda: spilled(tmp_path) == [])
    folder = only_run(hanging.behind / "store")
    assert exactly_once(folder, 3000)
    assert recorded(folder).state == "finished"
    assert recorded(folder).problems() == []


@pytest.mark.root
def test_a_process_that_ends_while_it_hangs_leaves_its_rows_to_be_brought_home(
    hanging: Any, tmp_path: Path, wait_until: Any
) -> None:
    code = """
        from lossbook.journal import async_writer
        async_writer.QUEUE_BYTES = 50_000
        run = lossbook.init(store=store, project="p", console=False)
        run.log({"loss": 0}, step=0)
        run.sync()
        print("ready", flush=True)
        sys.stdin.readline()
        for step in range(1, 3000):
            run.log({"loss": step}, step=step)
        run.finish()
    """
    process = begin_outside(code, hanging.path / "store", tmp_path)
    assert process.stdout.readline() == "ready\n"
    hanging.hang()
    _, said = process.communicate("go\n", timeout=HANGS_SECONDS)
    assert process.returncode == 0, said
    assert "`lossbook seal` adds them" in said
    hanging.answer()
    folder = only_run(hanging.behind / "store")
    seen = RunFolder(os.path.join(hanging.path, os.path.relpath(folder.path, hanging.behind)))
    (sentence,) = bring_home(seen, next_row=next_row)
    assert "rows that waited" in sentence
    assert exactly_once(folder, 3000)
    assert bring_home(seen, next_row=next_row) == []
    assert exactly_once(folder, 3000)
    assert recorded(folder).state == "finished"
    assert recorded(folder).problems() == []


def begin_outside(code: str, store: Path, place: Path) -> Any:
    """Begin a program on a store that may hang: nothing of the program itself lies there."""
    import textwrap

    return begin("store = sys.argv[2]\n" + textwrap.dedent(code), place / "unused", store)


@pytest.mark.root
def test_a_process_that_is_killed_while_it_hangs_loses_only_what_was_in_its_memory(
    hanging: Any, tmp_path: Path, wait_until: Any
) -> None:
    code = """
        from lossbook.journal import async_writer
        async_writer.QUEUE_BYTES = 5_000
        run = lossbook.init(store=store, project="p", console=False)
        run.log({"loss": 0}, step=0)
        run.sync()
        print("ready", flush=True)
        sys.stdin.readline()
        for step in range(1, 3000):
            run.log({"loss": step}, step=step)
        print("logged", flush=True)
        time.sleep(60)  # until it is killed
    """
    process = begin_outside(code, hanging.path / "store", tmp_path)
    assert process.stdout.readline() == "ready\n"
    hanging.hang()
    process.stdin.write("go\n")
    process.stdin.flush()
    assert process.stdout.readline() == "logged\n"
    kill_group(process)
    hanging.answer()
    folder = only_run(hanging.behind / "store")
    bring_home(next_row=next_row)
    logged = steps(folder)
    assert logged == sorted(set(logged))
    # The queue's 5 kB and the one batch in flight were in memory; the rest was on the local disk.
    assert len(logged) > 2700
    assert spilled(tmp_path) == []


@pytest.mark.root
def test_init_does_not_wait_for_a_file_system_that_hangs_already(
    hanging: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, wait_until: Any
) -> None:
    from lossbook.run import create

    monkeypatch.setattr(create, "OPEN_SECONDS", 0.2)
    hanging.hang()
    began = time.monotonic()
    one = lossbook.init(store=hanging.path / "store", project="p", name="early", config={"lr": 1}, console=False)
    for step in range(100):
        one.log({"loss": step}, step=step)
    assert time.monotonic() - began < HANGS_SECONDS
    hanging.answer()
    one.finish()
    wait_until(lambda: spilled(tmp_path) == [])
    folder = only_run(hanging.behind / "store")
    assert exactly_once(folder, 100)
    assert (recorded(folder).name, recorded(folder).config) == ("early", {"lr": 1})


@pytest.mark.root
def test_a_run_of_which_nothing_could_be_written_is_brought_home_whole(
    hanging: Any, tmp_path: Path, wait_until: Any
) -> None:
    code = """
        from lossbook.run import create
        create.OPEN_SECONDS = 0.2
        run = lossbook.init(store=store, project="p", name="never seen", config={"lr": 1}, console=False)
        for step in range(100):
            run.log({"loss": step}, step=step)
        run.finish()
        os._exit(0)
    """
    hanging.hang()
    process = begin_outside(code, hanging.path / "store", tmp_path)
    _, said = process.communicate(timeout=HANGS_SECONDS)
    assert process.returncode == 0, said
    hanging.answer()
    assert len(bring_home(next_row=next_row)) == 1
    folder = only_run(hanging.behind / "store")
    assert exactly_once(folder, 100)
    assert (recorded(folder).name, recorded(folder).config) == ("never seen", {"lr": 1})


@pytest.mark.root
def test_a_store_on_such_a_file_system_is_written_asynchronously_by_itself(hanging: Any) -> None:
    chosen, reason = choose_durability(str(hanging.path / "store"))
    assert chosen == "async"
    assert "fuse.passthrough" in reason
    one = lossbook.init(store=hanging.path / "store", project="p", console=False)
    one.finish()
    assert recorded(only_run(hanging.behind / "store")).state == "finished"


def test_what_cannot_wait_anywhere_is_counted(
    store: Path, below_a_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(async_writer, "QUEUE_BYTES", 2_000)
    monkeypatch.setenv("LOSSBOOK_CACHE", str(below_a_file))
    one = lossbook.init(store=store, project="p", durability="async", console=False)
    assert one.sync()
    answers = threading.Event()
    write = os.write

    def hangs(fd: int, text: bytes) -> int:
        if threading.current_thread().name == "lossbook-journal":
            answers.wait(HANGS_SECONDS)
        return write(fd, text)

    monkeypatch.setattr(os, "write", hangs)
    for step in range(500):
        one.log({"loss": step}, step=step)
    answers.set()
    assert one.sync()
    one.finish()
    folder = only_run(store)
    counts = [row.body["lost"] for row in journal_rows(folder) if row.kind == "warning"]
    assert counts[0] > 0
    assert len(steps(folder)) + sum(counts) == 500
    said = capsys.readouterr().err
    assert all(f"{count} rows" in said for count in counts)


def test_asynchronous_runs_resume_and_refuse_as_others_do(store: Path) -> None:
    with lossbook.init(store=store, project="p", id="same", durability="async", console=False) as first:
        first.log({"loss": 1})
    with lossbook.init(store=store, project="p", id="same", durability="async", console=False) as second:
        second.log({"loss": 2})
    assert second.path != first.path
    assert steps(RunFolder(first.path)) == [0]
    assert steps(RunFolder(second.path)) == [0]
    with lossbook.init(store=store, project="p", id="same", durability="async", resume="must", console=False) as third:
        third.log({"loss": 3})
    assert (third.path, third.attempt, third.resumed) == (first.path, 1, True)
    assert exactly_once(RunFolder(first.path), 2)
    with pytest.raises(UnknownRun):
        lossbook.init(store=store, project="p", id="other", durability="async", resume="must", console=False)


def test_an_asynchronous_run_takes_everything_that_others_take(store: Path) -> None:
    with lossbook.init(store=store, project="p", durability="async") as one:
        for step in range(1000):
            one.log({"loss": step, "nan": float("nan")}, step=step)
        one.log({"text": lossbook.Text("once upon"), "bad": object()})
        one.alert("spike")
        one.summary["best"] = 1
        print("kept in the console's file")
    folder = only_run(store)
    assert exactly_once(folder, 1000)
    assert Path(folder.console, "r0.log").read_text().endswith("kept in the console's file\n")
    assert recorded(folder).metrics["nan"]["nonfinite"] == 1000


def test_a_program_that_forgets_to_finish_ends_its_asynchronous_run(store: Path) -> None:
    code = """
        run = lossbook.init(store=store, project="p", durability="async")
        for step in range(1000):
            run.log({"loss": step}, step=step)
    """
    assert run(code, store).returncode == 0
    assert exactly_once(only_run(store), 1000)
    assert recorded(only_run(store)).state == "finished"


# -- the automatic choice ---------------------------------------------------------------------------------------------

MOUNT_TABLE = """\
22 1 259:1 / / rw,relatime shared:1 - ext4 /dev/root rw
23 22 0:21 / /proc rw shared:2 - proc proc rw
40 22 0:40 / /mnt/nfs rw shared:3 master:1 - nfs4 server:/export rw,vers=4.2
41 22 0:41 / /mnt/with\\040space rw - lustre 10.0.0.1@tcp:/fs rw
42 40 0:42 / /mnt/nfs/local rw - xfs /dev/sdb rw
43 22 0:43 / /mnt/sshfs rw - fuse.sshfs host: rw
44 22 0:44 / /mnt/usb rw - fuseblk /dev/sdc1 rw
45 22 0:45 / /mnt/over rw - ext4 /dev/sdd rw
46 45 0:46 / /mnt/over rw - cifs //server/share rw
"""


@pytest.mark.parametrize(
    ("path", "chosen", "kind"),
    [
        ("/home/me/runs", "process", "ext4"),
        ("/mnt/nfs/team/runs", "async", "nfs4"),
        ("/mnt/nfs", "async", "nfs4"),
        ("/mnt/nfs-not", "process", "ext4"),
        ("/mnt/with space/runs", "async", "lustre"),
        ("/mnt/sshfs/x", "async", "fuse.sshfs"),
        ("/mnt/usb/x", "process", "fuseblk"),
        ("/mnt/over/x", "async", "cifs"),
    ],
)
def test_network_file_systems_are_written_asynchronously(
    path: str, chosen: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mountinfo").write_text(MOUNT_TABLE)
    monkeypatch.setattr(durability, "MOUNTS", str(tmp_path / "mountinfo"))
    assert choose_durability(path)[0] == chosen
    assert kind in choose_durability(path)[1]


def test_a_symbolic_link_into_a_network_file_system_is_seen_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = tmp_path / "server"
    server.mkdir()
    (tmp_path / "link").symlink_to("server/runs")
    (tmp_path / "chain").symlink_to(tmp_path / "link")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    table = MOUNT_TABLE + f"50 22 0:50 / {server} rw - nfs server:/runs rw\n"
    (tmp_path / "mountinfo").write_text(table)
    monkeypatch.setattr(durability, "MOUNTS", str(tmp_path / "mountinfo"))
    assert choose_durability(str(tmp_path / "link" / "x"))[0] == "async"
    assert choose_durability(str(tmp_path / "chain"))[0] == "async"
    assert choose_durability(str(tmp_path / "loop" / "x"))[0] == "process"
    assert choose_durability(str(tmp_path / "beside"))[0] == "process"


@pytest.mark.parametrize("table", ["", "garbage\n", "1 2 3\n\n - \n"])
def test_a_mount_table_that_cannot_be_read_means_a_local_disk(
    table: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mountinfo").write_text(table)
    monkeypatch.setattr(durability, "MOUNTS", str(tmp_path / "mountinfo"))
    assert choose_durability("/anywhere")[0] == "process"
    monkeypatch.setattr(durability, "MOUNTS", str(tmp_path / "not there"))
    assert choose_durability("/anywhere")[0] == "process"


def test_what_the_user_says_counts(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOSSBOOK_DURABILITY", "async")
    one = lossbook.init(store=store, project="p", console=False)
    assert "lossbook-journal" in {thread.name for thread in threading.enumerate()}, "a thread writes"
    one.finish()
    two = lossbook.init(store=store, project="p", durability="process", console=False)
    assert "lossbook-journal" not in {thread.name for thread in threading.enumerate()}, "the training writes"
    two.finish()
    assert len(all_runs(store)) == 2
