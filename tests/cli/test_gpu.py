"""`gpu` and `keys`, on runs of one GPU, of several, of means alone, and of none."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from recorded import Command

import lossbook
from lossbook.analysis.gpus import read_gpus
from lossbook.cli.app import main
from lossbook.storage import MetricStatistics, MetricTable

GIB = 2**30
HEADING = """\
Run: {name} ({id})
State: finished
URL: {url}
--------------------------------------------------------------------------------

"""


def write(store: Path, name: str, rows: list[dict[str, float]], **more: object) -> None:
    with lossbook.init(store=store, project="gpt2", name=name, console=False, **more) as run:  # type: ignore[arg-type]
        for step, row in enumerate(rows):
            run.log(row, step=step)


def of_gpu(gpu: int, used_gib: float, share: float, busy: float, watts: float, heat: float) -> dict[str, float]:
    name = f"system.gpu.{gpu}"
    return {
        f"{name}.memoryAllocatedBytes": used_gib * GIB,
        f"{name}.memoryAllocated": share,
        f"{name}.gpu": busy,
        f"{name}.powerWatts": watts,
        f"{name}.temp": heat,
        f"{name}.memory": 33.0,
    }


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Runs as monitors and trainers of several habits leave them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOSSBOOK_SYSTEM_INTERVAL", "off")
        patch.setenv("LOSSBOOK_FOLLOWER", "off")
        store = tmp_path_factory.mktemp("gpus") / "store"
        write(store, "none", [{"train/loss": 1.0, "cpu_percent": 12.0}])
        write(store, "strange", [{"train/loss": 1.0, "my_gpu_figure": 12.0}])
        write(store, "silent", [{"train/loss": 1.0}], system_metrics=False)
        write(
            store,
            "means",
            [
                {
                    "train_loss": 2.0,
                    "gpu/compute_util_avg": 60.0 + 10 * step,
                    "gpu/memory_util_avg": 20.0,
                    "gpu/memory_used_avg_gb": 8.0,
                    "gpu/memory_used_total_gb": 32.0 + step,
                    "gpu/memory_total_gb": 96.0,
                }
                for step in range(3)
            ],
        )
        write(store, "single", [{"gpu_utilization": 50.0, "gpu_memory_used": 1536.0, "gpu_temperature": 61.0}])
        write(
            store,
            "torch",
            [
                {
                    f"memory/gpu_{gpu}_{name}_gb": size
                    for gpu in (0, 1)
                    for name, size in (("allocated", 3.0), ("reserved", 6.0), ("total", 24.0))
                }
            ],
        )
        write(
            store,
            "four",
            [
                {"train_loss": 3.0 - step, "val_loss": 3.0, "learning_rate": 1e-3, "sparsity": 0.5}
                | of_gpu(0, 4.0 + 4 * step, 25.0 + 25 * step, 40.0 + 40 * step, 200.0, 60.0)
                | of_gpu(1, 8.0 - 4 * step, 50.0 - 25 * step, 80.0 - 40 * step, 250.55, 71.6)
                | of_gpu(2, 0.5, 2.0, 0.0, 30.0, 35.0)
                for step in range(2)
            ],
        )
        yield store


@pytest.fixture
def store(written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    copy = tmp_path / "store"
    shutil.copytree(written, copy)
    monkeypatch.setenv("LOSSBOOK_STORE", str(copy))
    return copy


def heading_of(store: Path, name: str) -> str:
    run = lossbook.open(store).run(name)
    return HEADING.format(name=name, id=run.id, url=Path(run.path).resolve().as_uri())


# -- what is shown ------------------------------------------------------------------------------------------------


def test_memory_and_utilisation_of_each_gpu_stand_as_their_users_know_them(store: Path, command: Command) -> None:
    assert command("gpu", "four").out == heading_of(store, "four") + (
        """\
GPU 0:
  Memory Used:
    Current:  8192.0 MB (8.00 GB)
    Average:  6144.0 MB (6.00 GB)
    Maximum:  8192.0 MB (8.00 GB)
  Memory Allocated (%):
    Current:  50.0%
    Average:  37.5%
    Maximum:  50.0%
  GPU Utilization (%):
    Current:  80.0%
    Average:  60.0%
    Maximum:  80.0%

GPU 1:
  Memory Used:
    Current:  4096.0 MB (4.00 GB)
    Average:  6144.0 MB (6.00 GB)
    Maximum:  8192.0 MB (8.00 GB)
  Memory Allocated (%):
    Current:  25.0%
    Average:  37.5%
    Maximum:  50.0%
  GPU Utilization (%):
    Current:  40.0%
    Average:  60.0%
    Maximum:  80.0%

TOTAL ACROSS ALL 2 GPUs:
  Current Total Memory:  12.0 GB
  Average Total Memory:  12.0 GB
  Maximum Total Memory:  12.0 GB

GPU 2 not used by this run.
"""
    )


def test_the_full_answer_has_power_and_temperature_of_the_gpus_at_work(store: Path, command: Command) -> None:
    shown = command("gpu", "four", "--full").out
    assert shown.startswith(
        heading_of(store, "four")
        + """\
Detected 2 active GPUs (GPU 2 not used by this run)

GPU 0:
  Memory Allocated:
    Current:  8.00 GB (50.0%)
    Average:  6.00 GB (37.5%)
    Maximum:  8.00 GB (50.0%)
  GPU Utilization:
    Current:  80.0%
    Average:  60.0%
    Maximum:  80.0%
  Power:
    Current:  200.0 W
    Average:  200.0 W
    Maximum:  200.0 W
  Temperature:
    Current:  60°C
    Average:  60°C
    Maximum:  60°C

GPU 1:
"""
    )
    assert "    Current:  72°C\n" in shown
    assert shown.endswith("  Maximum Total Memory:  12.0 GB\n")


def test_the_largest_total_is_of_one_moment_and_not_the_sum_of_what_each_had_once(
    store: Path, command: Command
) -> None:
    # GPU 0 had its 8 GiB when GPU 1 had gone down to 4.
    found = command("gpu", "four", "--json").json
    assert [gpu["memory_bytes"]["maximum"] / GIB for gpu in found["gpus"][:2]] == [8.0, 8.0]
    assert found["total"] == {
        "gpus": 2,
        "memory_bytes": {
            "current": 12.0 * GIB,
            "average": 12.0 * GIB,
            "maximum": 12.0 * GIB,
            "count": 2,
            "key": None,
            "by_torch": False,
        },
    }
    assert [gpu["active"] for gpu in found["gpus"]] == [True, True, False]
    assert found["gpus"][1]["power_watts"]["key"] == "system.gpu.1.powerWatts"


def test_means_of_all_gpus_are_shown_where_no_single_one_was_logged(store: Path, command: Command) -> None:
    shown = command("gpu", "means").out
    assert shown == heading_of(store, "means") + (
        """\
AVERAGE OF ALL GPUs:
  GPU Utilization (%):
    Current:  80.0%
    Average:  70.0%
    Maximum:  80.0%
  Memory Bandwidth Utilization (%):
    Current:  20.0%
    Average:  20.0%
    Maximum:  20.0%
  Memory Used per GPU:
    Current:  8.00 GB
    Average:  8.00 GB
    Maximum:  8.00 GB

TOTAL ACROSS ALL GPUs:
  Current Total Memory:  34.0 GB
  Average Total Memory:  33.0 GB
  Maximum Total Memory:  34.0 GB
  Memory of All GPUs:  96.0 GB
"""
    )
    full = command("gpu", "means", "--full").out
    assert "No single GPU has metrics of its own" in full
    assert full.endswith(shown.split("AVERAGE")[1])
    assert command("gpu", "means", "--json").json["overall"]["utilisation_percent"]["average"] == 70.0


def test_a_trainer_that_knows_of_one_gpu_is_understood(store: Path, command: Command) -> None:
    shown = command("gpu", "single", "--full").out
    assert "Detected 1 active GPU\n" in shown
    assert "    Current:  1.50 GB\n" in shown
    assert "61°C" in shown
    assert "TOTAL" not in shown
    assert "Current:  1536.0 MB (1.50 GB)\n" in command("gpu", "single").out


def test_what_torch_holds_is_not_called_what_the_device_holds(store: Path, command: Command) -> None:
    shown = command("gpu", "torch").out
    assert "  Memory Used by torch:\n    Current:  6144.0 MB (6.00 GB)\n" in shown
    assert "  Memory Allocated (%):\n    Current:  25.0%\n" in shown
    assert "TOTAL ACROSS ALL 2 GPUs:\n  Current Total Memory:  12.0 GB\n" in shown


def test_with_no_run_named_it_is_the_latest(store: Path, command: Command) -> None:
    assert command("gpu").out == command("gpu", "four").out


def test_a_run_answers_while_it_runs(tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOSSBOOK_FOLLOWER", "off")
    with lossbook.init(store=tmp_path, name="live", console=False) as run:
        for degrees in (50.0, 60.0):
            run.log({"system.gpu.0.temp": degrees})
            shown = command("--store", tmp_path, "gpu", "--full").out
            assert "State: running\n" in shown
            assert f"    Current:  {degrees:.0f}°C\n" in shown


# -- nothing to answer with ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("none", ("it has cpu_percent, train/loss.", "no GPU could be read", "lossbook[gpu]")),
        ("strange", ("it has my_gpu_figure, and none of these names is known.",)),
        ("silent", ("it has train/loss.", "system_metrics=False", "lossbook[gpu]")),
    ],
)
def test_a_run_without_gpu_metrics_says_what_it_has_and_what_to_turn_on(
    store: Path, command: Command, name: str, expected: tuple[str, ...]
) -> None:
    for arguments in ((), ("--full",)):
        found = command("gpu", name, *arguments)
        assert found.status == 1
        assert found.out == heading_of(store, name).rstrip("\n") + "\n"
        assert "No GPU metrics found in this run: " in found.err
        for words in expected:
            assert words in found.err
    assert command("gpu", name, "--json").out == ""


# -- names of others ----------------------------------------------------------------------------------------------


def statistics(last: float) -> MetricStatistics:
    return MetricStatistics(last=last, mean=last, max=last, count=1)


def test_gpus_that_only_others_used_are_not_active() -> None:
    # W&B samples every GPU of a machine, and those of the run's own processes under another name.
    figures = read_gpus(
        {
            "system.gpu.0.gpu": statistics(90.0),
            "system.gpu.1.gpu": statistics(80.0),
            "system.gpu.2.gpu": statistics(0.0),
            "system.gpu.process.0.memoryAllocatedBytes": statistics(1e9),
            "system.gpu.process.0.gpu": statistics(90.0),
        }
    )
    assert [(gpu.number, gpu.is_active) for gpu in figures.gpus] == [(0, True), (1, False), (2, False)]
    assert figures.mean_utilisation_percent == 90.0


def test_gpus_of_several_nodes_keep_their_labels() -> None:
    figures = read_gpus({f"system.gpu.0.gpu/l:{node}": statistics(10.0) for node in ("b", "a")})
    assert [gpu.name for gpu in figures.gpus] == ["0 (a)", "0 (b)"]


def test_the_share_of_memory_is_worked_out_where_only_bytes_were_logged() -> None:
    (gpu,) = read_gpus(
        {"system.gpu.0.memoryAllocatedBytes": statistics(6e9), "system.gpu.0.memoryTotalBytes": statistics(24e9)}
    ).gpus
    assert gpu.readings["memory_percent"].values == (25.0, 25.0, 25.0)


def test_memory_activity_is_never_taken_for_memory_in_use() -> None:
    (gpu,) = read_gpus({"system.gpu.0.memory": statistics(55.0)}).gpus
    assert set(gpu.readings) == {"memory_activity_percent"}


def test_values_that_are_not_finite_are_left_out() -> None:
    figures = read_gpus(
        MetricTable(
            {
                "system.gpu.0.temp": {"last": "NaN", "mean": None, "max": None, "count": 3},
                "gpu/compute_util_avg": {"last": float("nan"), "mean": 50.0, "max": 60.0, "count": 3},
            }
        )
    )
    assert figures.gpus == ()
    assert figures.overall["utilisation_percent"].values == (None, 50.0, 60.0)


# -- keys ---------------------------------------------------------------------------------------------------------


def test_keys_say_which_run_they_are_of_and_how_many_they_are(store: Path, command: Command) -> None:
    lines = command("keys", "four").out.splitlines()
    assert lines[:6] == [*heading_of(store, "four").splitlines(), "Total unique keys: 22"]
    for expected in ("training (3)", "validation (1)", "GPU (18)"):
        assert expected in lines
    found = command("keys", "four", "--json").json
    assert found["count"] == 22
    assert found["url"] == Path(found["path"]).resolve().as_uri()
    assert found["groups"]["validation"] == ["val_loss"]


def test_what_was_set_once_at_the_end_is_a_key_too(
    tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOSSBOOK_FOLLOWER", "off")
    with lossbook.init(store=tmp_path, name="ended", console=False) as run:
        run.log({"train/loss": 1.0})
        run.summary["final/best_val_loss"] = 2.5
        run.summary["words"] = "not a number"
    found = command("--store", tmp_path, "keys", "--json").json
    assert (found["count"], found["summary"]) == (1, ["final/best_val_loss"])
    shown = command("--store", tmp_path, "keys").out
    assert "Total unique keys: 2\n" in shown
    assert shown.splitlines()[-1].split() == ["final/best_val_loss", "2.5"]


def test_the_page_of_a_mirrored_run_is_named(store: Path, command: Command) -> None:
    run = lossbook.open(store).run("four")
    Path(run.folder.followers, "wandb.json").write_text('{"url": "https://wandb.ai/team/gpt2/runs/abc"}')
    assert "URL: https://wandb.ai/team/gpt2/runs/abc\n" in command("gpu", "four").out
    assert main(["keys", "four"]) == 0
