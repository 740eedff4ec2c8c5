"""What trainers printed, read line by line: the shapes of many trainers, and lines that are none."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path

import pytest
from made_up_source import check_every_place

import lossbook
from lossbook.cli.app import main
from lossbook.errors import StoreError
from lossbook.trackers.sources import find_source

#: By what prints it: lines, and the rows that they become.
SHAPES: Mapping[str, tuple[str, list[tuple[int, dict[str, float]]]]] = {
    "nanoGPT": (
        "step 0: train loss 10.9012, val loss 10.8034\niter 0: loss 10.9512, time 3021.55ms, mfu -100.00%\n"
        "iter 10: loss 9.4120, time 150.25ms, mfu 31.50%\n",
        [(0, {"train_loss": 10.9012, "val_loss": 10.8034}), (0, {"loss": 10.9512, "time_ms": 3021.55, "mfu": -100.0}),
         (10, {"loss": 9.412, "time_ms": 150.25, "mfu": 31.5})],
    ),
    "modded-nanogpt": (
        "step:0/900 val_loss:10.8258 train_time:3ms step_avg:nanms\n"
        "step:1/900 train_loss:10.7100 train_time:103ms step_avg:103.20ms\n",
        [(0, {"val_loss": 10.8258, "train_time_ms": 3.0, "step_avg_ms": math.nan}),
         (1, {"train_loss": 10.71, "train_time_ms": 103.0, "step_avg_ms": 103.2})],
    ),
    "llm.c's file": (
        "s:0 tel:11.0021\ns:1 trl:10.8000 lr:0.000002 norm:17.5000\ns:250 eval:0.2471\n",
        [(0, {"val_loss": 11.0021}), (1, {"train_loss": 10.8, "lr": 2e-6, "norm": 17.5}),
         (250, {"hellaswag_accuracy": 0.2471})],
    ),
    "llm.c's console": (
        "step    1/900 | loss 11.0091 (+nanz)| norm 15.3010 (+nanz)| lr 8.57e-07 | 1033.56 ms | 41.2% bf16 MFU | 504230 tok/s\n"
        "step    2/900 | loss 10.9001 (+nanz)| norm 14.0000 (+1.2z)| lr 1.71e-06 | 1001.00 ms | 42.5% bf16 MFU | 521001 tok/s\n",
        [(1, {"loss": 11.0091, "norm": 15.301, "lr": 8.57e-7, "time_ms": 1033.56, "bf16_mfu": 41.2, "tok/s": 504230.0}),
         (2, {"loss": 10.9001, "norm": 14.0, "lr": 1.71e-6, "time_ms": 1001.0, "bf16_mfu": 42.5, "tok/s": 521001.0})],
    ),
    "build-nanogpt": (
        "0 val 10.9511\n0 hella 0.2440\n0 train 10.955100\n1 train 9.61\n",
        [(0, {"val_loss": 10.9511}), (0, {"hellaswag_accuracy": 0.244}), (0, {"train_loss": 10.9551}),
         (1, {"train_loss": 9.61})],
    ),
    "Megatron": (
        " [2026-02-03 04:05:06.123456] iteration       20/     900 | consumed samples:          640 | elapsed time per "
        "iteration (ms): 431.3 | learning rate: 6.000000E-06 | lm loss: 8.125000E+00 | grad norm: 1.095 | number of nan "
        "iterations:   0 |\n"
        " validation loss at iteration 20 | lm loss value: 8.500000E+00 | lm loss PPL: 4.914769E+03 | \n",
        [(20, {"consumed_samples": 640.0, "elapsed_time_per_iteration_ms": 431.3, "learning_rate": 6e-6, "lm_loss": 8.125,
               "grad_norm": 1.095, "number_of_nan_iterations": 0.0}),
         (20, {"val_loss": 8.5, "val_ppl": 4914.769})],
    ),
    "NeMo": (
        "0: Training epoch 0, iteration 28/99 | lr: 5.6e-06 | global_step: 28 | reduced_train_loss: 2.77 | "
        "train_step_timing in s: 0.189\n"
        "0: Training epoch 1, iteration 0/99 | lr: 5.8e-06 | global_step: 100 | reduced_train_loss: 2.5 | val_loss: 2.86\n",
        [(28, {"epoch": 0.0, "lr": 5.6e-6, "reduced_train_loss": 2.77, "train_step_timing_in_s": 0.189}),
         (100, {"epoch": 1.0, "lr": 5.8e-6, "reduced_train_loss": 2.5, "val_loss": 2.86})],
    ),
    "Hugging Face": (
        "  1%|1         | 10/900 [00:10<14:50,  1.00s/it]\n"
        "{'loss': 2.125, 'grad_norm': 1.5, 'learning_rate': 4.9e-05, 'epoch': 0.03}\n"
        "{'loss': '2.0', 'grad_norm': 'nan', 'learning_rate': '4.8e-05', 'epoch': '0.06'}\n{'eval_loss': 1.75, 'epoch': 1.0}\n",
        [(0, {"loss": 2.125, "grad_norm": 1.5, "learning_rate": 4.9e-5, "epoch": 0.03}),
         (1, {"loss": 2.0, "grad_norm": math.nan, "learning_rate": 4.8e-5, "epoch": 0.06}),
         (2, {"eval_loss": 1.75, "epoch": 1.0})],
    ),
    "torchtitan": (
        "\x1b[32m[rank0]:[titan] 2026-02-03 04:05:06,123 - root - INFO - \x1b[31mstep: 10  \x1b[32mloss:  9.7069  "
        "\x1b[33mmemory: 30.99GiB(32.62%)  tps: 7,034  tflops: 407.35  mfu: 41.19%\x1b[39m\n"
        "[rank0]:[titan] 2026-02-03 04:06:06,123 - root - INFO - step: 20  loss:  8.5  memory: 31.00GiB(32.7%)  tps: 7,100\n",
        [(10, {"loss": 9.7069, "memory_gib": 30.99, "tps": 7034.0, "tflops": 407.35, "mfu": 41.19}),
         (20, {"loss": 8.5, "memory_gib": 31.0, "tps": 7100.0})],
    ),
    "fairseq and metaseq": (
        '2026-02-03 04:05:06 | INFO | train_inner | {"epoch": 1, "update": 0.2, "loss": "16.5", "ppl": "9112", '
        '"num_updates": "10", "lr": "2e-05"}\n'
        '2026-02-03 04:06:06 | INFO | valid | {"epoch": 1, "valid_loss": "15.25", "valid_num_updates": "50"}\n',
        [(10, {"epoch": 1.0, "update": 0.2, "loss": 16.5, "ppl": 9112.0, "lr": 2e-5}),
         (50, {"epoch": 1.0, "valid_loss": 15.25})],
    ),
    "DeepSpeed": (
        "[2026-02-03 04:05:06,123] [INFO] [logging.py:96:log_dist] [Rank 0] step=10, skipped=0, lr=[1e-05], mom=[(0.9, 0.95)]\n"
        "steps: 10 loss: 9.8125 iter time (s): 1.250 samples/sec: 3.200\n",
        [(10, {"skipped": 0.0, "lr": 1e-5}), (10, {"loss": 9.8125, "iter_time_s": 1.25, "samples/sec": 3.2})],
    ),
    "nanochat": (
        "step 00010/21400 (0.05%) | loss: 9.125 | lrm: 1.00 | dt: 1234.50ms | tok/sec: 423,000 | mfu: 47.20\n"
        "Step 00250 | Validation bpb: 3.3125\n",
        [(10, {"loss": 9.125, "lrm": 1.0, "dt_ms": 1234.5, "tok/sec": 423000.0, "mfu": 47.2}),
         (250, {"validation_bpb": 3.3125})],
    ),
    "Lightning's bar": (
        "Epoch 0:  10%|#         | 10/100 [00:01<00:09,  9.50it/s, v_num=1, train_loss=2.30]\r"
        "Epoch 0:  10%|#         | 10/100 [00:01<00:09,  9.50it/s, v_num=1, train_loss=2.30]\r"
        "Epoch 0:  20%|##        | 20/100 [00:02<00:08,  9.50it/s, v_num=1, train_loss=2.10]\n",
        [(10, {"epoch": 0.0, "train_loss": 2.3}), (20, {"epoch": 0.0, "train_loss": 2.1})],
    ),
    "a loop over epochs": (
        "Epoch 1/3 - Train Loss: 1.25 | Val Loss: 1.5 | Accuracy: 56.25%\n"
        "Epoch [2/3], Train Loss: 1.00, Val Loss: 1.25, Accuracy: 60.00%\n",
        [(1, {"epoch": 1.0, "train_loss": 1.25, "val_loss": 1.5, "accuracy": 56.25}),
         (2, {"epoch": 2.0, "train_loss": 1.0, "val_loss": 1.25, "accuracy": 60.0})],
    ),
    "evaluation under the same names": (
        "step 100: loss 2.5\n[eval] step 100: loss 2.75\nTest epoch 1 step 200: loss 2.0\n",
        [(100, {"loss": 2.5}), (100, {"eval_loss": 2.75}), (200, {"epoch": 1.0, "test_loss": 2.0})],
    ),
}  # fmt: skip

PROSE = [
    "Saved checkpoint at step 100 to /data/run in 3.2 s",
    "step 100: saved a checkpoint in 3.2 s",
    "tokens per iteration: 4096",
    "number of parameters: 124.34M",
    'print(f"step:{step} val_loss:{loss:.4f}")',
    "| 0   N/A  N/A   |   60C   100 % | 80161MiB / 143771MiB |",
    "batch 128: see step 3 of the README",
    "torch==2.13.0",
]


def rows_of(path: Path) -> list[tuple[int | None, dict[str, float]]]:
    source = find_source(str(path))
    assert source is not None
    (run,) = source.runs()
    return [(row.step, {key: float(str(value)) for key, value in row.body.items()}) for row in source.rows(run)]


@pytest.mark.parametrize("trainer", SHAPES)
def test_what_a_trainer_prints_is_a_log(tmp_path: Path, trainer: str) -> None:
    text, rows = SHAPES[trainer]
    path = tmp_path / "train.log"
    path.write_bytes(("loading 3 shards\n" + text).encode())
    assert repr(rows_of(path)) == repr(rows)


def test_lines_that_only_speak_of_a_step_are_not_read(tmp_path: Path, store: Path, capsys) -> None:
    path = tmp_path / "train.log"
    path.write_text("".join(f"{line}\n" for line in (*PROSE, "step 1: loss 2.5", "step 2: loss 2.25")))
    assert rows_of(path) == [(1, {"loss": 2.5}), (2, {"loss": 2.25})]
    assert main(["import", str(path), "--to", str(store)]) == 0
    said = capsys.readouterr().err
    assert "2 of 10 lines are read" in said
    assert "line 1: 'Saved checkpoint" in said


def test_a_line_without_its_end_is_not_there_yet(tmp_path: Path) -> None:
    path = tmp_path / "train.out"
    path.write_text("step 1: loss 2.5\nstep 2: loss 2.25\nstep 3: loss 2.1")
    assert [step for step, _ in rows_of(path)] == [1, 2]


def test_a_log_that_grows_is_read_on_and_its_restart_begins_an_attempt(tmp_path: Path, store: Path) -> None:
    path = tmp_path / "train.out"
    for begin, end, scale in ((0, 6, 5.0), (3, 9, 1.0)):
        with path.open("a") as file:
            file.writelines(f"iter {step}: loss {scale + step / 10:.4f}, time 10.0ms\n" for step in range(begin, end))
        assert main(["import", str(path), "--to", str(store)]) == 0
    run = lossbook.open(store).run()
    losses = run.history("loss").df()
    assert losses["step"].tolist() == list(range(9))
    assert losses["loss"].tolist() == [5.0, 5.1, 5.2, 1.3, 1.4, 1.5, 1.6, 1.7, 1.8]
    assert [attempt.resume_step for attempt in run.attempts] == [None, 2]


@pytest.mark.parametrize("name", ["log.jsonl", "log.csv"])
def test_a_restart_in_an_appended_table_is_an_attempt(tmp_path: Path, name: str) -> None:
    rows = [(step, 5.0) for step in range(0, 51, 10)] + [(step, 1.0) for step in range(30, 81, 10)]
    lines = [json.dumps({"iteration": step, "loss": loss}) for step, loss in rows]
    if name.endswith("csv"):
        lines = ["iteration,loss", *(f"{step},{loss}" for step, loss in rows)]
        lines.insert(7, lines[0])  # the process that went on wrote the heading again
    (tmp_path / name).write_text("\n".join(lines) + "\n")
    run = lossbook.open(tmp_path / name).run()
    assert [(row[0], row[-1]) for row in run.history(["loss"]).rows()] == [
        (step, 5.0 if step < 30 else 1.0) for step in range(0, 81, 10)
    ]
    source = find_source(str(tmp_path / name))
    assert source is not None
    assert check_every_place(source) == 13


def test_a_late_evaluation_and_ranks_beside_each_other_are_no_restart(tmp_path: Path) -> None:
    lines = [
        {"step": 0, "rank": 0, "loss": 1.0},
        {"step": 1, "rank": 0, "loss": 0.9},
        {"step": 0, "rank": 1, "loss": 1.1},
        {"step": 2, "rank": 0, "loss": 0.8},
        {"step": 1, "eval_loss": 1.0},
        {"step": 1, "rank": 1, "loss": 1.0},
    ]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert len(lossbook.open(tmp_path / "log.jsonl").run().attempts) == 1
    assert lossbook.open(tmp_path / "log.jsonl").run().metrics["loss"]["count"] == 5


def test_steps_that_begin_anew_with_each_epoch_are_counted_on(tmp_path: Path, store: Path, capsys) -> None:
    lines = [{"epoch": epoch, "batch": batch, "loss": 1.0} for epoch in (1, 2, 3) for batch in (0, 10, 20, 30)]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert main(["import", str(tmp_path / "log.jsonl"), "--to", str(store)]) == 0
    assert "begins anew with each epoch" in capsys.readouterr().err
    assert lossbook.open(store).run().history("loss").df()["step"].tolist() == list(range(0, 120, 10))
    source = find_source(str(tmp_path / "log.jsonl"))
    assert source is not None
    assert check_every_place(source) == 12


@pytest.mark.parametrize(
    ("columns", "step"),
    [("current_steps,total_steps,epoch", "current_steps"), ("time/total_timesteps,time/iterations", "time/total_timesteps"),
     ("timesteps_total,training_iteration", "timesteps_total"), ("epoch,global_step", "global_step")],
)  # fmt: skip
def test_the_columns_that_trainers_count_in_are_steps(tmp_path: Path, columns: str, step: str) -> None:
    names = columns.split(",")
    rows = [",".join(str(row * 10 if name == step else 0.5 + row / 60) for name in names) for row in range(20)]
    (tmp_path / "progress.csv").write_text(f"{columns},loss\n" + "".join(f"{row},1.5\n" for row in rows))
    assert [at for at, _ in rows_of(tmp_path / "progress.csv")] == list(range(0, 200, 10))


@pytest.mark.parametrize(
    "rows",
    [[{"loss": 3 - row / 10, "lr": 1e-3} for row in range(20)], [{"epoch": row / 20, "loss": 1.0} for row in range(20)],
     [{"epoch": row // 5, "loss": 1.0} for row in range(20)]],
    ids=["no step", "fractions of an epoch", "several rows an epoch"],
)  # fmt: skip
def test_where_no_column_is_a_step_the_rows_are_counted_and_that_is_said(
    tmp_path: Path, store: Path, capsys, rows: list[dict[str, float]]
) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(["import", str(path), "--to", str(store)]) == 0
    assert "the row's number is the step" in capsys.readouterr().err
    assert lossbook.open(store).run().history("loss").df()["step"].tolist() == list(range(20))


def test_a_person_names_the_columns_of_any_other_table(tmp_path: Path, store: Path, capsys) -> None:
    path = tmp_path / "results.csv"
    path.write_text("frames,when,score\n100,2026-01-02T03:04:05+00:00,1.5\n200,2026-01-02T03:05:05+00:00,2.5\n")
    named = ["import", str(path), "--to", str(store), "--step", "frames", "--time", "when", "--map", "score=reward"]
    assert main([*named, "--dry-run"]) == 0
    assert "reward: 2 values" in capsys.readouterr().out
    assert not store.exists()
    assert main(named) == 0
    run = lossbook.open(store).run()
    assert run.keys() == ["reward"]
    assert run.history("reward").df()["step"].tolist() == [100, 200]
    assert run.curve("reward", x="time").x.tolist() == [1767323045.0, 1767323105.0]
    capsys.readouterr()
    assert main(["import", str(path), "--to", str(store)]) == 1
    assert "other options" in capsys.readouterr().err


def test_a_pattern_reads_lines_of_any_shape(tmp_path: Path, store: Path, capsys) -> None:
    path = tmp_path / "odd.text"
    path.write_text("begin\n" + "".join(f"<{step}> nll is {5 - step / 10}!\n" for step in range(9)) + "end\n")
    pattern = r"<(?P<step>\d+)> nll is (?P<nll>[\d.]+)"
    assert main(["import", str(path), "--to", str(store), "--pattern", pattern, "--map", "nll=train/loss"]) == 0
    assert "9 of 11 lines fit the pattern" in capsys.readouterr().err
    history = lossbook.open(store).run().history("train/loss").df()
    assert history["train/loss"].tolist() == [5 - step / 10 for step in range(9)]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--step", "itr"], "the nearest are|has no column 'itr'"),
        (["--pattern", r"(\d+)"], "names no part of a line"),
        (["--pattern", r"(?P<a>\d+)(?=x)"], "no regular expression"),
        (["--map", "loss"], "is not OLD=NEW"),
        (["--time", "loss"], "nothing that is a time"),
    ],
)
def test_an_option_that_does_not_fit_is_one_sentence(tmp_path: Path, capsys, options: list[str], said: str) -> None:
    (tmp_path / "log.jsonl").write_text('{"iter": 3, "loss": 1.5}\n')
    assert main(["import", str(tmp_path / "log.jsonl"), *options]) == 1
    error = capsys.readouterr().err
    assert any(one in error for one in said.split("|"))
    assert len(error.splitlines()) == 1


def test_a_folder_in_which_nothing_is_a_log_is_refused_with_what_can_be_read(tmp_path: Path, capsys) -> None:
    (tmp_path / "notes.txt").write_text("It snowed.\nStep by step, nothing happened in 3 days.\n")
    for location in (tmp_path, tmp_path / "notes.txt"):
        assert main(["--store", str(location), "ls"]) == 1
        said = capsys.readouterr()
        assert "there is no log in" in said.err
        assert "--pattern" in said.err
    with pytest.raises(StoreError, match="nanoGPT"):
        lossbook.open(tmp_path)


def test_a_table_or_json_lines_under_the_ending_of_a_text_are_read(tmp_path: Path) -> None:
    (tmp_path / "training.log").write_text("epoch,loss,val_loss\n0,1.5,1.75\n1,1.25,1.5\n")
    (tmp_path / "out.txt").write_text('{"step": 10, "loss": 1.5}\n{"step": 20, "loss": 1.25}\n')
    runs = {run.name: run for run in lossbook.open(tmp_path).runs()}
    assert runs["training"].history("val_loss").df()[["step", "val_loss"]].values.tolist() == [[0, 1.75], [1, 1.5]]
    assert runs["out"].history("loss").df()["step"].tolist() == [10, 20]


def test_a_text_of_two_bytes_a_letter_is_named_with_what_to_do(tmp_path: Path, capsys) -> None:
    (tmp_path / "train.log").write_bytes("step 1: loss 2.5\r\nstep 2: loss 2.25\r\n".encode("utf-16"))
    assert main(["--store", str(tmp_path / "train.log"), "ls"]) == 1
    assert "iconv" in capsys.readouterr().err


def test_reading_printed_lines_goes_on_from_any_row(tmp_path: Path) -> None:
    (tmp_path / "train.log").write_text("".join(text.replace("\r", "\n") for text, _ in SHAPES.values()))
    source = find_source(str(tmp_path / "train.log"))
    assert source is not None
    assert check_every_place(source) > 30
