"""Each launch is one run of all its ranks, and no two launches are one, whatever their environment has in common."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
from programs import PREAMBLE, REPOSITORY, all_runs, begin, kill_group, recorded
from waiting import wait_until

TRAIN = """
name, lr = sys.argv[2], float(sys.argv[3])
with lossbook.init(store=store, project="p", name=name, config={"lr": lr}, console=False) as run:
    for step in range(5):
        run.log({"loss": lr}, step=step)
        run.log({"speed": lr}, step=step, ranks="all")
    if len(sys.argv) > 4:
        print("logged", flush=True)
        sys.stdin.readline()
"""

Environment = Mapping[str, str]


def deepspeed(rank: int) -> Environment:
    return {
        "RANK": f"{rank}",
        "LOCAL_RANK": f"{rank}",
        "WORLD_SIZE": "2",
        "LOCAL_SIZE": "2",
        "CROSS_RANK": "0",
        "CROSS_SIZE": "1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": "29500",
    }


def mpirun(rank: int) -> Environment:
    return {
        "OMPI_COMM_WORLD_RANK": f"{rank}",
        "OMPI_COMM_WORLD_SIZE": "2",
        "OMPI_COMM_WORLD_LOCAL_RANK": f"{rank}",
        "PMIX_NAMESPACE": "prterun-pod-7@1",
        "MASTER_ADDR": "localhost",
        "MASTER_PORT": "12355",
    }


def srun(rank: int) -> Environment:
    return {
        "SLURM_JOB_ID": "4711",
        "SLURM_STEP_ID": "0",
        "SLURM_PROCID": f"{rank}",
        "SLURM_NTASKS": "2",
        "SLURM_LOCALID": "0",
        "MASTER_ADDR": "n0",
        "MASTER_PORT": "29500",
    }


def torchrun_in_slurm(rank: int) -> Environment:
    return {
        "SLURM_JOB_ID": "4711",
        "SLURM_STEP_ID": "0",
        "TORCHELASTIC_RUN_ID": "none",
        "TORCHELASTIC_RESTART_COUNT": "0",
        "RANK": f"{rank}",
        "WORLD_SIZE": "2",
        "LOCAL_RANK": "0",
        "LOCAL_WORLD_SIZE": "1",
        "MASTER_ADDR": "n0",
        "MASTER_PORT": "29500",
    }


def verl(rank: int) -> Environment:
    return {
        "RAY_JOB_ID": "01000000",
        "RANK": f"{rank}",
        "WORLD_SIZE": "2",
        "LOCAL_RANK": f"{rank}",
        "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "10.0.0.1",
        "MASTER_PORT": "38101",
    }


def kubeflow(rank: int) -> Environment:
    """Each pod is a node; the first knows itself as localhost, as older operators have it."""
    address = "localhost" if rank == 0 else f"{socket.gethostname()}.training.svc"
    return {"RANK": f"{rank}", "WORLD_SIZE": "2", "MASTER_ADDR": address, "MASTER_PORT": "23456"}


def jobset(rank: int) -> Environment:
    """Pods that are given their rank; the recipe hands the JobSet's annotation of restarts on."""
    return {
        "JOBSET_NAME": "train-7b",
        "JOB_COMPLETION_INDEX": f"{rank}",
        "RANK": f"{rank}",
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "train-7b-workers-0-0.train-7b",
        "MASTER_PORT": "29500",
    }


def named_by_hand(rank: int) -> Environment:
    return {"LOSSBOOK_RANK": f"{rank}", "LOSSBOOK_WORLD_SIZE": "2"}


LAUNCHERS = {
    "DeepSpeed": deepspeed,
    "mpirun": mpirun,
    "srun": srun,
    "torchrun in Slurm": torchrun_in_slurm,
    "Ray, verl": verl,
    "Kubeflow": kubeflow,
    "JobSet": jobset,
    "LOSSBOOK_RANK": named_by_hand,
}
each_launcher = pytest.mark.parametrize("launcher", LAUNCHERS.values(), ids=LAUNCHERS)
#: What the schedulers call a job, and how they count how often they have begun it again.
REQUEUES: dict[str, tuple[Environment, str]] = {
    "srun": ({"SLURM_JOB_ID": "4711"}, "SLURM_RESTART_COUNT"),
    "JobSet": ({"JOBSET_NAME": "train-7b"}, "JOBSET_RESTART_ATTEMPT"),
}


def end(processes: Iterable[subprocess.Popen[str]]) -> list[str]:
    """Let programs end well; returns what each said on stderr."""
    said = []
    for process in processes:
        try:
            _, err = process.communicate("\n", timeout=90)
            assert process.returncode == 0, err
            said.append(err)
        finally:
            kill_group(process)
    return said


def runs_by_name(store: Path) -> dict[str, tuple[float, list[tuple[int, float]]]]:
    """The learning rate of each run, and which ranks logged which value; a name that is there twice is an error."""
    found: dict[str, tuple[float, list[tuple[int, float]]]] = {}
    for folder in all_runs(store):
        run: Any = recorded(folder)
        assert run.name not in found
        assert run.state == "finished"
        rows = run.history(["speed"], ranks=True).numpy()
        ranks = sorted(set(zip(rows["rank"].tolist(), rows["speed"].tolist(), strict=True)))
        assert len(rows["rank"]) == 5 * len(ranks)
        found[run.name] = (run.config["lr"], ranks)
    return found


@each_launcher
def test_two_jobs_one_after_the_other_are_two_runs_of_two_ranks(store: Path, launcher: Any) -> None:
    for name, lr, order in (("first", 0.1, (0, 1)), ("second", 0.9, (1, 0))):
        end([begin(TRAIN, store, name, lr, **launcher(rank)) for rank in order])
    assert runs_by_name(store) == {"first": (0.1, [(0, 0.1), (1, 0.1)]), "second": (0.9, [(0, 0.9), (1, 0.9)])}


@each_launcher
def test_two_jobs_at_once_with_the_same_constants_are_two_runs(store: Path, launcher: Any) -> None:
    running = []
    for name, lr in (("east", 0.2), ("west", 0.8)):
        job = [begin(TRAIN, store, name, lr, "waits", **launcher(rank)) for rank in (1, 0)]
        for process in job:
            assert process.stdout is not None
            assert process.stdout.readline() == "logged\n"
        running += job
    end(running)
    assert runs_by_name(store) == {"east": (0.2, [(0, 0.2), (1, 0.2)]), "west": (0.8, [(0, 0.8), (1, 0.8)])}


FAILS = """
rank = int(sys.argv[2])
run = lossbook.init(store=store, project="p", name="job", console=False)
run.log({"speed": 1.0}, step=0, ranks="all")
if rank == 1:
    raise RuntimeError("CUDA out of memory")
print("logged", flush=True)
sys.stdin.readline()
"""


@each_launcher
def test_the_rank_that_fails_first_is_the_error_of_the_run(store: Path, launcher: Any) -> None:
    failing, ended = [begin(FAILS, store, rank, **launcher(rank)) for rank in (1, 0)]
    try:
        assert ended.stdout is not None
        assert ended.stdout.readline() == "logged\n"
        assert failing.wait(90) == 1
        kill_group(ended, signal.SIGTERM)  # as a launcher ends the others
        ended.wait(90)
    finally:
        kill_group(failing)
        kill_group(ended)
    (folder,) = all_runs(store)
    assert recorded(folder).state == "failed"
    assert recorded(folder).error.startswith("rank 1 failed first: ")
    assert "CUDA out of memory" in recorded(folder).error


def test_a_rank_waits_for_its_own_launcher_where_another_job_has_the_same_place_to_offer(store: Path) -> None:
    first = begin(TRAIN, store, "east", 0.2, "waits", **deepspeed(0))
    assert first.stdout is not None
    assert first.stdout.readline() == "logged\n"
    script = store.parent / "train.py"
    script.write_text(PREAMBLE + TRAIN)
    launcher = """
    import subprocess
    ranks = []
    for rank in ("1", "0"):
        place = {**os.environ, "RANK": rank, "LOCAL_RANK": rank}
        ranks.append(subprocess.Popen([sys.executable, sys.argv[2], store, "west", "0.8"], env=place))
        if rank == "1":
            time.sleep(0.5)  # the launcher is slow: its rank 1 looks for a rank 0 meanwhile
    sys.exit(max(rank.wait() for rank in ranks))
    """
    end([begin(launcher, store, script, **deepspeed(0))])
    end([begin(TRAIN, store, "east", 0.2, **deepspeed(1)), first])
    assert runs_by_name(store) == {"east": (0.2, [(0, 0.2), (1, 0.2)]), "west": (0.8, [(0, 0.8), (1, 0.8)])}


def test_a_rank_waits_for_rank_0_of_its_launch(store: Path) -> None:
    late = begin(TRAIN, store, "job", 0.1, **deepspeed(1))
    wait_until(lambda: any(store.glob("p/.launches-*/*")), what="rank 1 looks for its launch")
    assert list(all_runs(store)) == []
    end([begin(TRAIN, store, "job", 0.1, **deepspeed(0)), late])
    assert runs_by_name(store) == {"job": (0.1, [(0, 0.1), (1, 0.1)])}


BEGINS = """
name, lr, first = sys.argv[2], float(sys.argv[3]), int(sys.argv[4])
with lossbook.init(store=store, project="p", name=name, config={"lr": lr}, console=False) as run:
    for step in range(5):
        if step == first:
            print("logged", flush=True)
            sys.stdin.readline()
        run.log({"speed": lr}, step=step, ranks="all")
"""


def test_a_rank_that_comes_late_joins_a_rank_0_that_lives_and_is_about_to_train(store: Path) -> None:
    first = begin(BEGINS, store, "job", 0.1, 1, **kubeflow(0))
    assert first.stdout is not None
    assert first.stdout.readline() == "logged\n"
    end([begin(TRAIN, store, "job", 0.1, **kubeflow(1)), first])
    assert runs_by_name(store) == {"job": (0.1, [(0, 0.1), (1, 0.1)])}


@pytest.mark.parametrize("address", [{}, {"MASTER_ADDR": "n0", "MASTER_PORT": "29500"}], ids=["none", "of the job"])
def test_a_rank_that_is_left_over_in_a_shell_joins_no_job_that_trains(store: Path, address: Environment) -> None:
    job = begin(BEGINS, store, "job", 0.1, 4, RANK="0", WORLD_SIZE="8", **address)
    assert job.stdout is not None
    assert job.stdout.readline() == "logged\n"
    time.sleep(0.1)  # when a process began is known by the hundredth of a second
    end([begin(TRAIN, store, "evaluation", 0.5, RANK="3", WORLD_SIZE="8", **address), job])
    assert runs_by_name(store) == {"job": (0.1, [(0, 0.1)]), "evaluation": (0.5, [(0, 0.5)])}


IMPATIENT = """
from lossbook.run import announcement, late_launch
announcement.LAUNCHED_SECONDS = announcement.LAST_RANK_SECONDS = 0.2
late_launch.SETTLE_SECONDS = float(os.environ.get("SETTLE_SECONDS", "60"))
"""

IN_TWO_PARTS = (
    IMPATIENT
    + """
run = lossbook.init(store=store, project="p", name=sys.argv[2], config={"lr": float(sys.argv[3])}, console=False)
for step in range(10):
    run.log({"loss": 0.5}, step=step)
    run.log({"speed": 0.5, "rank": int(os.environ["RANK"])}, step=step, ranks="all")
    if step == 4:
        print("logged", run.id, flush=True)
        sys.stdin.readline()
run.finish()
print(run.id, flush=True)
"""
)


def said_by(process: subprocess.Popen[str]) -> list[str]:
    assert process.stdout is not None
    return process.stdout.readline().split()


@pytest.mark.parametrize("durability", ["process", "async"])
def test_a_rank_trains_on_while_its_rank_0_is_late_and_then_all_its_rows_are_in_the_run(
    store: Path, durability: str
) -> None:
    settings = {"LOSSBOOK_DURABILITY": durability}
    early = begin(IN_TWO_PARTS, store, "job", 0.1, **deepspeed(1), **settings)
    assert said_by(early)[0] == "logged"
    assert list(all_runs(store)) == []
    first = begin(IN_TWO_PARTS, store, "job", 0.1, **deepspeed(0), **settings)
    run_id = said_by(first)[1]
    wait_until(lambda: any(store.glob(f"p/{run_id}/journal/r1-*")), what="the rows of rank 1 come to the run")
    assert end([early, first]) == ["", ""]
    (folder,) = all_runs(store)
    assert folder.path == str(store / "p" / run_id)
    rows = recorded(folder).history(["speed", "rank"], ranks=True).numpy()
    expected = [(step, rank) for step in range(10) for rank in (0, 1)]
    assert list(zip(rows["step"].tolist(), rows["rank"].tolist(), strict=True)) == expected
    # What counts on rank 0 alone is not kept of another rank, from the first row on.
    assert set(recorded(folder).history(["loss"], ranks=True).numpy()["rank"].tolist()) == {0}


def test_the_only_rank_of_a_job_that_logs_is_the_run(store: Path) -> None:
    last = begin(IN_TWO_PARTS, store, "megatron", 0.1, SETTLE_SECONDS="0", **deepspeed(1))
    assert said_by(last)[0] == "logged"
    wait_until(lambda: len(list(all_runs(store))) == 1, what="the rank is a run by itself")
    (sentence,) = end([last])
    assert "LOSSBOOK_RUN_ID" in sentence
    (folder,) = all_runs(store)
    run: Any = recorded(folder)
    assert (run.name, run.state, run.config["lr"]) == ("megatron", "finished", 0.1)
    assert run.history(["loss", "speed"]).numpy()["loss"].tolist() == [0.5] * 10
    assert any("rank 1 of 2" in warning["value"]["message"] for warning in run.events("warning"))


def test_what_a_killed_rank_logged_before_its_rank_0_was_there_is_brought_home(store: Path) -> None:
    early = begin(IN_TWO_PARTS, store, "job", 0.1, **deepspeed(1))
    assert said_by(early)[0] == "logged"
    kill_group(early)
    assert list(all_runs(store)) == []
    finished = begin("from lossbook.cli import main; sys.exit(main(['--store', store, 'seal']))", store)
    end([finished])
    (folder,) = all_runs(store)
    assert recorded(folder).name == "job"
    assert recorded(folder).history(["loss"]).numpy()["loss"].tolist() == [0.5] * 5


def test_a_rank_that_is_left_over_in_the_environment_is_a_run_by_itself_and_says_so(store: Path) -> None:
    left = {"RANK": "3", "WORLD_SIZE": "8", "MASTER_ADDR": "n0", "MASTER_PORT": "29500"}
    (said,) = end([begin(TRAIN, store, "evaluation", 0.5, **left)])
    assert "LOSSBOOK_RUN_ID" in said
    (folder,) = all_runs(store)
    assert (recorded(folder).name, recorded(folder).state) == ("evaluation", "finished")
    assert recorded(folder).history(["loss"]).numpy()["loss"].tolist() == [0.5] * 5


def test_a_store_that_may_hang_is_asked_by_the_journal_of_each_rank(store: Path) -> None:
    hangs = {"LOSSBOOK_DURABILITY": "async"}
    for name, lr in (("first", 0.1), ("second", 0.9)):
        end([begin(TRAIN, store, name, lr, **deepspeed(rank), **hangs) for rank in (1, 0)])
    assert runs_by_name(store) == {"first": (0.1, [(0, 0.1), (1, 0.1)]), "second": (0.9, [(0, 0.9), (1, 0.9)])}
    end([begin(TRAIN, store, "alone", 0.5, RANK="1", WORLD_SIZE="2", **hangs)])
    assert runs_by_name(store)["alone"] == (0.5, [(0, 0.5)])


def test_an_id_of_ones_own_needs_no_announcement(store: Path) -> None:
    end([begin(TRAIN, store, "job", 0.1, LOSSBOOK_RUN_ID="mine", **deepspeed(rank)) for rank in (1, 0)])
    assert [folder.path for folder in all_runs(store)] == [str(store / "p" / "mine")]
    assert not list(store.glob("p/.launches-*"))


PREEMPTED_ONCE = """
requeued = int(os.environ[sys.argv[3]])
run = lossbook.init(store=store, project="p", name=sys.argv[2], console=False)
run.log({"loss": 1.0}, step=requeued)
run.log({"speed": 1.0}, step=requeued, ranks="all")
if not requeued and sys.argv[2] != "done":
    os.kill(os.getpid(), signal.SIGKILL)
run.finish()
"""


def submit(store: Path, requeued: int, name: str, scheduler: str, places: Iterable[Environment]) -> None:
    """Run a job script as a scheduler does: once more with the same words when it is requeued."""
    script = store.parent / "job.py"
    script.write_text(PREAMBLE + PREEMPTED_ONCE)
    job, counter = REQUEUES[scheduler]
    path = {"PYTHONPATH": str(REPOSITORY)}
    words = [sys.executable, str(script), str(store), name, counter]
    count = {counter: f"{requeued}"}
    running = [subprocess.Popen(words, env={**os.environ, **path, **job, **count, **place}) for place in places]
    for process in running:
        assert process.wait(90) in (0, -signal.SIGKILL)


@pytest.mark.parametrize("scheduler", REQUEUES)
@pytest.mark.parametrize("ranks", [(), (1, 0)])
def test_a_requeued_job_goes_on_with_the_run_that_was_interrupted(store: Path, scheduler: str, ranks: Any) -> None:
    places = [LAUNCHERS[scheduler](rank) for rank in ranks] or [{}]
    for requeued in (0, 1):
        for name in ("done", "preempted"):
            submit(store, requeued, name, scheduler, places)
    attempts = sorted(
        (recorded(folder).name, len(recorded(folder).info.attempts), recorded(folder).state)
        for folder in all_runs(store)
    )
    # What had come to its end is begun anew; what was interrupted goes on.
    assert attempts == [("done", 1, "finished"), ("done", 1, "finished"), ("preempted", 2, "finished")]
    for folder in all_runs(store):
        if recorded(folder).name == "preempted":
            rows = recorded(folder).history(["speed"], ranks=True).numpy()
            expected = [(step, rank) for step in (0, 1) for rank in range(len(places))]
            assert list(zip(rows["step"].tolist(), rows["rank"].tolist(), strict=True)) == expected


# -- real launches ----------------------------------------------------------------------------------------------------


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def torchrun(code: str, store: Path, *arguments: Any, options: Iterable[str]) -> subprocess.Popen[str]:
    return begin(code, store, *arguments, prefix=["-m", "torch.distributed.run", *options], OMP_NUM_THREADS="1")


def test_a_static_launch_on_two_nodes_that_is_started_twice_is_two_runs(store: Path) -> None:
    pytest.importorskip("torch")
    port = free_port()
    for name, lr in (("first", 0.1), ("second", 0.9)):
        nodes = []
        for node in (0, 1):
            options = [f"--nnodes=2 --node_rank={node} --nproc_per_node=1 --master_addr=127.0.0.1 --master_port={port}"]
            nodes.append(torchrun(TRAIN, store, name, lr, options=options[0].split()))
        end(nodes)
    assert runs_by_name(store) == {"first": (0.1, [(0, 0.1), (1, 0.1)]), "second": (0.9, [(0, 0.9), (1, 0.9)])}


FAILS_ONCE = """
rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
restart = int(os.environ["TORCHELASTIC_RESTART_COUNT"])
run = lossbook.init(store=store, project="p", name="job", config={"lr": 0.1}, console=False)
for step in range(5 * restart, 5 * restart + 5):
    run.log({"speed": 0.1}, step=step, ranks="all")
if restart == 0:
    open(f"{store}.{rank}", "w").close()
    while not all(os.path.exists(f"{store}.{one}") for one in range(size)):
        time.sleep(0.01)  # polls: this program has no test to wait with
    raise RuntimeError("a device has fallen off the bus")
"""


@pytest.mark.parametrize("nodes", [1, 2])
def test_a_restart_by_torchrun_goes_on_with_the_run_on_any_number_of_nodes(store: Path, nodes: int) -> None:
    pytest.importorskip("torch")
    where = f"--rdzv-backend=c10d --rdzv-endpoint=127.0.0.1:{free_port()} --rdzv-id=same"
    options = f"--nnodes={nodes} --nproc-per-node=1 --max-restarts=1 {where}".split()
    end([torchrun(FAILS_ONCE, store, options=options) for _ in range(nodes)])
    (folder,) = all_runs(store)
    assert len(recorded(folder).info.attempts) == 2
    rows = recorded(folder).history(["speed"], ranks=True).numpy()
    expected = [(step, rank) for step in range(10) for rank in range(nodes)]
    assert list(zip(rows["step"].tolist(), rows["rank"].tolist(), strict=True)) == expected


def accelerate_launch(store: Path, name: str, lr: float) -> subprocess.Popen[str]:
    pytest.importorskip("accelerate")
    port = ["--main_process_port", f"{free_port()}"]
    options = "-m accelerate.commands.launch --multi_gpu --num_processes 2 --num_machines 1 --mixed_precision no --dynamo_backend no"
    return begin(TRAIN, store, name, lr, prefix=[*options.split(), *port], OMP_NUM_THREADS="1")


def torchrun_standalone(store: Path, name: str, lr: float) -> subprocess.Popen[str]:
    return torchrun(TRAIN, store, name, lr, options=["--standalone", "--nproc-per-node=2"])


#: The script begins its run before Lightning starts the other rank, which runs the script from its beginning.
LIGHTNING = """
from lightning.fabric import Fabric
name, lr = sys.argv[2], float(sys.argv[3])
with lossbook.init(store=store, project="p", name=name, config={"lr": lr}, console=False) as run:
    fabric = Fabric(accelerator="cpu", devices=2, strategy="ddp")
    fabric.launch()
    for step in range(5):
        run.log({"loss": lr}, step=step)
        run.log({"speed": lr}, step=step, ranks="all")
    fabric.barrier()
"""


def lightning(store: Path, name: str, lr: float) -> subprocess.Popen[str]:
    pytest.importorskip("lightning")
    return begin(LIGHTNING, store, name, lr, OMP_NUM_THREADS="1")


REAL = {"torchrun": torchrun_standalone, "accelerate launch": accelerate_launch, "Lightning": lightning}


each_real_launcher = pytest.mark.parametrize("launch", REAL.values(), ids=REAL)


@each_real_launcher
def test_two_real_launches_at_once_are_two_runs_of_two_ranks(store: Path, launch: Any) -> None:
    pytest.importorskip("torch")
    end([launch(store, "east", 0.2), launch(store, "west", 0.8)])
    assert runs_by_name(store) == {"east": (0.2, [(0, 0.2), (1, 0.2)]), "west": (0.8, [(0, 0.8), (1, 0.8)])}


def test_the_last_rank_of_a_real_launch_is_the_run_where_it_alone_logs(store: Path) -> None:
    pytest.importorskip("torch")
    code = f"""{IMPATIENT}
if os.environ["RANK"] == "1":
    with lossbook.init(store=store, project="p", name="megatron", console=False) as run:
        for step in range(5):
            run.log({{"loss": 0.5}}, step=step)
        announcement.FINISH_SECONDS = late_launch.FINISH_SECONDS = 0.0
"""
    end([torchrun(code, store, options=["--standalone", "--nproc-per-node=2"])])
    (folder,) = all_runs(store)
    assert (recorded(folder).name, recorded(folder).state) == ("megatron", "finished")
    assert recorded(folder).history(["loss"]).numpy()["loss"].tolist() == [0.5] * 5


def test_processes_that_only_torch_knows_as_ranks_are_one_run_a_launch(store: Path) -> None:
    pytest.importorskip("torch")
    code = """
    import torch.distributed as distributed
    import torch.multiprocessing as multiprocessing

    def train(rank, store, name, lr):
        distributed.init_process_group("gloo", init_method=f"file://{store}.{name}", rank=rank, world_size=2)
        with lossbook.init(store=store, project="p", name=name, config={"lr": lr}, console=False) as run:
            for step in range(5):
                run.log({"speed": lr}, step=step, ranks="all")
        distributed.destroy_process_group()

    if __name__ == "__main__":
        for name, lr in (("first", 0.1), ("second", 0.9)):
            multiprocessing.spawn(train, (store, name, lr), nprocs=2)
    """
    end([begin(code, store)])
    assert runs_by_name(store) == {"first": (0.1, [(0, 0.1), (1, 0.1)]), "second": (0.9, [(0, 0.9), (1, 0.9)])}


# -- what is shown of each launcher -----------------------------------------------------------------------------------

ONE_RUN, RESTART, AT_ONCE, FAILING = (
    "one run, right ranks",
    "a restart goes on",
    "two at once are two",
    "first failing rank named",
)
#: Tests that take launchers one by one: what they show.
SHOWN_OF_EACH: dict[Any, tuple[str, ...]] = {
    test_two_jobs_one_after_the_other_are_two_runs_of_two_ranks: (ONE_RUN,),
    test_two_jobs_at_once_with_the_same_constants_are_two_runs: (AT_ONCE,),
    test_the_rank_that_fails_first_is_the_error_of_the_run: (FAILING,),
    test_a_requeued_job_goes_on_with_the_run_that_was_interrupted: (RESTART,),
    test_two_real_launches_at_once_are_two_runs_of_two_ranks: (ONE_RUN, AT_ONCE),
}
#: In test_torchrun.py.
FIRST_FAILING_OF_TORCHRUN = "test_the_first_failing_rank_is_the_error_of_the_run"
#: Tests of one launcher.
SHOWN: dict[str, dict[str, Any]] = {
    "torchrun": {
        RESTART: test_a_restart_by_torchrun_goes_on_with_the_run_on_any_number_of_nodes,
        FAILING: FIRST_FAILING_OF_TORCHRUN,
    },
    "torchrun on several nodes": {
        ONE_RUN: test_a_static_launch_on_two_nodes_that_is_started_twice_is_two_runs,
        RESTART: test_a_restart_by_torchrun_goes_on_with_the_run_on_any_number_of_nodes,
    },
    "mp.spawn": {ONE_RUN: test_processes_that_only_torch_knows_as_ranks_are_one_run_a_launch},
}


def is_shown(launcher: str, column: str) -> bool:
    for test, columns in SHOWN_OF_EACH.items():
        for mark in test.pytestmark if column in columns else ():
            if mark.name == "parametrize" and launcher in list(mark.kwargs.get("ids") or mark.args[1]):
                return True
    return column in SHOWN.get(launcher, {})


def test_the_documented_table_of_launchers_is_what_these_tests_show() -> None:
    assert f"def {FIRST_FAILING_OF_TORCHRUN}(" in Path(__file__).with_name("test_torchrun.py").read_text()
    columns = (ONE_RUN, RESTART, AT_ONCE, FAILING)
    lines = [f"| launcher | tested by | {' | '.join(columns)} |", "| --- | --- " + "| --- " * len(columns) + "|"]
    for launcher in dict.fromkeys([*REAL, *SHOWN, *LAUNCHERS]):
        how = "its variables" if launcher in LAUNCHERS else "real launches"
        cells = ["yes" if is_shown(launcher, column) else "\N{EN DASH}" for column in columns]
        lines.append(f"| {launcher} | {how} | {' | '.join(cells)} |")
    assert "\n".join(lines) in (REPOSITORY / "docs" / "configuration.md").read_text()
