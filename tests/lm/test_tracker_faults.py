"""Nothing that goes wrong with tracking reaches the training, and nothing that ends the training loses what was told."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest
from experiments import last, one_clean_line, program, recorded, rows, track, train

import lossbook
from lossbook.errors import BadArgument
from lossbook.lm import load_experiment_log

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


# -- nothing stands in the way of training ------------------------------------------------------------------------


def test_a_disabled_run_takes_every_call_and_leaves_nothing(store: Path, tmp_path: Path) -> None:
    tracker = track(store, mode="disabled").start()
    train(tracker, range(3))
    tracker.log_validation(val_loss=1.0)
    tracker.log_checkpoint("a.pt")
    tracker.log_custom_metric("a", 1.0)
    tracker.stage("a")
    tracker.log_metrics(iteration=3, train_loss=1.0)
    tracker.log_eval(iteration=3, val_loss=1.0)
    assert tracker.gradient_steps == 3
    resumed = track(store, mode="disabled")
    resumed.load_state_dict(tracker.state_dict())
    tracker.finish()
    tracker.print_summary()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(BadArgument, match="the run is disabled"):
        tracker.plot()
    log = load_experiment_log(tracker.save())
    assert (log.name, log.best_val_loss) == ("one", 1.0)


def test_a_log_folder_that_cannot_be_written_is_said_once(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a-file").write_text("not a folder")
    tracker = track(store, log_dir=tmp_path / "a-file" / "below", summary_dir=tmp_path / "a-file").start()
    train(tracker, range(3))
    tracker.save()
    tracker.finish(save_summary=True)
    assert tracker.save().parent == tmp_path / "a-file" / "below"
    tracker.print_summary()
    assert len(rows(store, "train/loss")) == 3
    assert recorded(store).state == "finished"
    said = capsys.readouterr().err
    assert said.count("no log can be written") == 1
    assert "the run has every row" in said


def test_a_store_that_cannot_be_written_costs_the_run_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "a-file").write_text("not a folder")
    tracker = track(tmp_path / "a-file" / "store").start()
    train(tracker, range(3))
    tracker.log_validation(val_loss=1.0)
    assert tracker.gradient_steps == 3
    tracker.finish(save_summary=True)
    tracker.save()
    tracker.print_summary()


@pytest.mark.root
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_disk_that_is_full_costs_rows_and_nothing_else(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip("this test needs to mount a file system, which is not allowed here")
    try:
        tracker = track(disk / "store", log_dir=disk / "logs", summary_dir=disk / "summaries").start()
        train(tracker, range(10))
        whole = tracker.save().read_bytes()
        with open(disk / "ballast", "wb", buffering=0) as ballast:
            try:
                while True:
                    ballast.write(bytes(4096))
            except OSError:
                pass
        for iteration in range(10, 400):
            tracker.log_train_step(loss=float(iteration), tokens=10, iteration=iteration)
        tracker.log_validation(val_loss=1.0)
        path = tracker.save()
        assert path.read_bytes() == whole, "what was there stays, where the new one has no room"
        assert (tracker.gradient_steps, tracker.tokens_seen) == (400, 4000)
        os.unlink(disk / "ballast")
        tracker.log_train_step(loss=1.0, tokens=10, iteration=400)
        tracker.finish(save_summary=True)
        assert last(disk / "store", "time/gradient_steps") == 401
        assert load_experiment_log(tracker.save()).metrics_history[-1].iteration == 400
    finally:
        lossbook.finish()
        subprocess.run(["umount", "-l", str(disk)], check=True)


# -- real processes -----------------------------------------------------------------------------------------------


def test_after_a_kill_the_counts_are_exact_and_the_line_is_clean(store: Path) -> None:
    code = """
    tracker = ExperimentTracker(config, store=store, project="p", run_id="killed").start()
    first, kill_at = int(sys.argv[2]), int(sys.argv[3])
    for step in range(first, 30):
        tracker.log_train_step(loss=float(step), tokens=10, iteration=step)
        if step == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
    tracker.finish()
    tracker.save()
    """
    # A checkpoint every ten steps, so that each attempt goes back to the last one.
    assert program(store, code, "0", "14").returncode == -signal.SIGKILL
    (stub,) = (store.parent / "experiment_logs").glob("*.json")
    log = load_experiment_log(stub)
    assert [one.iteration for one in log.metrics_history] == list(range(15)), "read through its run"
    assert log.end_time is None
    assert log.final_train_loss == 14.0
    assert log.duration_seconds == pytest.approx(log.metrics_history[-1].wallclock_time)
    assert program(store, code, "10", "24").returncode == -signal.SIGKILL
    finished = program(store, code, "20", "-1")
    assert finished.returncode == 0, finished.stderr
    one_clean_line(store, 30)
    assert recorded(store).state == "finished"
    assert len(recorded(store).attempts) == 3
    elapsed = rows(store, "time/elapsed_hours", "time/wallclock_hours")
    assert all(whole >= worked for _, whole, worked in elapsed)
    # Two programs had to start in between: that is in the one and not in the other.
    assert elapsed[-1][1] - elapsed[-1][2] > 0.05 / 3600


def test_a_killed_program_that_kept_its_state_goes_on_from_there(store: Path) -> None:
    code = """
    import json
    tracker = ExperimentTracker(config, store=store, project="p")
    if os.path.exists("state.json"):
        tracker.load_state_dict(json.load(open("state.json")))
    tracker.start()
    for step in range(tracker.iteration + 1, 20):
        tracker.log_train_step(loss=float(step), tokens=10, iteration=step)
        if step == 9 and not os.path.exists("state.json"):
            json.dump(tracker.state_dict(), open("state.json", "w"))
        if step == 15 and len(sys.argv) > 2:
            os.kill(os.getpid(), signal.SIGKILL)
    tracker.finish()
    """
    assert program(store, code, "kill").returncode == -signal.SIGKILL
    assert program(store, code, "kill").returncode == -signal.SIGKILL
    finished = program(store, code)
    assert finished.returncode == 0, finished.stderr
    one_clean_line(store, 20)


def test_a_program_that_never_calls_finish_loses_nothing(store: Path) -> None:
    code = """
    tracker = ExperimentTracker(config, store=store, project="p").start()
    for step in range(5):
        tracker.log_train_step(loss=float(step), tokens=10, iteration=step)
    """
    assert program(store, code).returncode == 0
    one_clean_line(store, 5)
    assert recorded(store).state == "finished"
    (path,) = (store.parent / "experiment_logs").glob("*.json")
    assert [one.train_loss for one in load_experiment_log(path).metrics_history] == [0.0, 1.0, 2.0, 3.0, 4.0]


def test_two_ranks_of_torchrun_are_one_run_with_global_tokens(store: Path) -> None:
    pytest.importorskip("torch")
    code = """
    config = config.replace(batch_size=2, context_length=8)
    tracker = ExperimentTracker(config, store=store, project="p").start()
    assert tracker.world_size == 2
    for step in range(6):
        tracker.log_train_step(loss=float(step), tokens=10, iteration=step)
    tracker.log_validation(val_loss=1.0)
    tracker.log_checkpoint("a.pt")
    tracker.log_custom_metric("a", 1.0)
    assert tracker.tokens_seen == 120
    assert tracker.state_dict()["tokens_seen"] == 120
    tracker.finish(notes="of both", save_summary=True)
    path = tracker.save()
    if os.environ["RANK"] == "0":
        assert len(load_experiment_log(path).metrics_history) == 7
    """
    words = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    finished = program(store, code, prefix=words)
    assert finished.returncode == 0, finished.stderr
    (run,) = lossbook.open(store).runs()
    assert [tokens for _, tokens in rows(store, "time/tokens_seen")] == [20 * (step + 1) for step in range(6)]
    assert [step for _, step in rows(store, "time/gradient_steps")] == list(range(1, 7))
    assert len(run.events("note")) == 1
    assert len(run.events("checkpoint")) == 1
    assert run.config["world_size"] == 2
    folder = store.parent
    assert len(list((folder / "experiment_logs").iterdir())) == 1
    assert [path.name for path in (folder / "experiments").iterdir()] == ["one_summary.json"]


def test_a_restart_by_torchrun_goes_on_with_the_counts(store: Path) -> None:
    pytest.importorskip("torch")
    code = """
    restart = int(os.environ["TORCHELASTIC_RESTART_COUNT"])
    tracker = ExperimentTracker(config, store=store, project="p").start()
    for step in range(0 if restart == 0 else 6, 12):
        if restart == 0 and step == 9:
            if os.environ["RANK"] == "1":
                time.sleep(60)  # until torchrun ends it, which is when the first has failed
            raise RuntimeError("a device has fallen off the bus")
        tracker.log_train_step(loss=float(step), tokens=5, iteration=step)
    tracker.finish()
    """
    words = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--max-restarts", "1")
    finished = program(store, code, prefix=words)
    assert finished.returncode == 0, finished.stderr
    one_clean_line(store, 12)


def test_memory_does_not_grow_with_the_run(store: Path) -> None:
    code = """
    import psutil
    tracker = ExperimentTracker(config, store=store, project="p").start()
    process, seen = psutil.Process(), {}
    for step in range(300_000):
        tracker.log_train_step(loss=1.0, learning_rate=1e-3, tokens=10, iteration=step)
        if step in (50_000, 299_999):
            seen[step] = process.memory_info().rss
    print("logging", (seen[299_999] - seen[50_000]) / 2**20)
    path = tracker.save()
    print("saving", (process.memory_info().rss - seen[299_999]) / 2**20)
    print("rows", sum(b'"iteration"' in line for line in open(path, "rb")))
    print("steps", tracker.gradient_steps)
    os._exit(0)
    """
    finished = program(store, code)
    assert finished.returncode == 0, finished.stderr
    said = dict(line.split() for line in finished.stdout.splitlines())
    assert float(said["logging"]) < 8, "MiB from 50,000 calls to 300,000"
    assert int(said["rows"]) == int(said["steps"]) == 300_000
    # DuckDB and the windows in which a history is read: the same for a run of any length.
    assert float(said["saving"]) < 400
