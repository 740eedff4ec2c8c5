"""JSON and CSV logs of all kinds, whole, growing and damaged."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import pytest
from made_up_source import check_every_place

import lossbook
from lossbook.cli.app import main
from lossbook.errors import StoreError
from lossbook.trackers.sources import find_source

EXPERIMENTS = Path(__file__).parents[1] / "lm" / "logs"


def test_the_log_of_an_experiment_is_a_run(tmp_path: Path) -> None:
    run = lossbook.open(EXPERIMENTS / "whole.json").run()
    log = json.loads((EXPERIMENTS / "whole.json").read_text())
    history = run.history(["train_loss", "learning_rate"]).df()
    assert history["step"].tolist() == [one["iteration"] for one in log["metrics_history"]]
    assert history["train_loss"].tolist() == [one["train_loss"] for one in log["metrics_history"]]
    assert run.name == log["config"]["experiment_name"]
    assert run.config == log["config"]
    assert run.summary["best_val_loss"] == log["best_val_loss"]
    assert run.curve("train/loss").count.sum() == len(log["metrics_history"])


def test_a_damaged_log_gives_what_can_be_read_of_it() -> None:
    book = lossbook.open(EXPERIMENTS)
    by_file = {Path(run.info.source.more["file"]).name: run for run in book.runs()}
    assert (by_file["truncated.json"].state, by_file["unfinished.json"].state) == ("crashed", "crashed")
    assert "line" in str(by_file["truncated.json"].error)
    assert by_file["truncated.json"].metrics["train_loss"]["count"] > 0
    assert by_file["diverged.json"].metrics["train_loss"]["nonfinite"] > 0


def test_json_lines_have_steps_times_and_nested_values(tmp_path: Path) -> None:
    lines = [
        {"step": 0, "loss": 2.5, "time": 1.7e9, "phase": "train", "gpu": {"0": {"util": 10}}},
        {"step": 5, "loss": "NaN", "time": 1.7e9 + 60, "ok": True},
        {"step": 10, "loss": None, "val_loss": 2.0, "time": 1.7e9 + 61},
    ]
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 11, "lo')
    run = lossbook.open(path).run("metrics")
    assert run.keys() == ["gpu/0/util", "loss", "ok", "val_loss"]
    history = run.history("loss").df()
    assert history["step"].tolist() == [0, 5]
    assert str(history["loss"].tolist()) == "[2.5, nan]"
    assert run.curve("loss", x="time").x.tolist() == [1.7e9, 1.7e9 + 60]


def test_a_line_that_is_damaged_costs_itself_and_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text('{"step": 0, "loss": 1.5}\n{"step": 1, "loss": NaN}\n{"step": 2, "lo\n{"step": 3, "loss": 0.5}\n')
    run = lossbook.open(path).run()
    assert run.history("loss").df()["step"].tolist() == [0, 1, 3]
    assert "damaged" in run.events("warning")[0]["value"]["message"]


def test_a_growing_file_is_read_on_from_where_it_ended(tmp_path: Path, store: Path, capsys) -> None:
    path = tmp_path / "log.jsonl"
    for rows in (10, 10, 25):
        with path.open("w") as file:
            file.writelines(f'{{"step": {step}, "loss": {1 / (step + 1)}}}\n' for step in range(rows))
        assert main(["import", str(path), "--to", str(store), "--json"]) == 0
    assert json.loads(capsys.readouterr().out.rsplit("[\n", 1)[1].join(["[", ""]))[0]["rows"] == 15
    history = lossbook.open(store).run().history("loss").df()
    assert history["loss"].tolist() == [1 / (step + 1) for step in range(25)]


@pytest.mark.parametrize("name", ["log.jsonl", "log.csv", "log.json"])
def test_a_file_that_became_another_log_is_not_mixed_with_what_it_was(
    tmp_path: Path, store: Path, capsys, name: str
) -> None:
    def write(scale: float, rows: int) -> None:
        entries = [{"step": step, "loss": scale + step} for step in range(rows)]
        text = {
            "log.jsonl": "".join(json.dumps(entry) + "\n" for entry in entries),
            "log.csv": "step,loss\n" + "".join(f"{entry['step']},{entry['loss']}\n" for entry in entries),
            "log.json": json.dumps(entries),
        }[name]
        (tmp_path / name).write_text(text)

    write(1.0, 10)
    assert main(["import", str(tmp_path / name), "--to", str(store)]) == 0
    assert lossbook.open(tmp_path / name).run().metrics["loss"]["max"] == 10.0
    write(500.0, 20)
    assert main(["import", str(tmp_path / name), "--to", str(store)]) == 1
    assert "another log" in capsys.readouterr().err
    assert lossbook.open(store).run().metrics["loss"]["max"] == 10.0
    assert lossbook.open(tmp_path / name).run().metrics["loss"]["count"] == 20


def test_a_csv_with_blanks_quotes_and_a_mark_at_its_beginning(tmp_path: Path) -> None:
    folder = tmp_path / "lightning_logs" / "version_0"
    folder.mkdir(parents=True)
    (folder / "metrics.csv").write_text(
        '\ufeffepoch,step,"train_loss",val_loss,note\n0,9,0.5,,"a, \nb"\n0,9,,0.25,\n1,19,inf,,x\n\n', encoding="utf-8"
    )
    (folder / "hparams.yaml").write_text("lr: 0.1\nlayers: [1, 2]\n")
    run = lossbook.open(tmp_path / "lightning_logs").run("version_0")
    assert run.config == {"lr": 0.1, "layers": [1, 2]}
    assert run.history("train_loss").df()[["step", "train_loss"]].values.tolist() == [[9, 0.5], [19, math.inf]]
    assert run.history("val_loss").df()["val_loss"].tolist() == [0.25]
    assert run.metrics["epoch"]["last"] == 1


def test_the_last_line_of_a_csv_is_taken_once_nobody_writes_to_it(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("step,loss\n0,0.5\n1,0.2")
    assert lossbook.open(path).run().metrics["loss"]["count"] == 1
    os.utime(path, (1.7e9, 1.7e9))
    assert lossbook.open(path).run().history("loss").df()["loss"].tolist() == [0.5, 0.2]


def test_the_state_of_a_trainer_is_a_log(tmp_path: Path) -> None:
    history = [{"epoch": 0.5, "loss": 2.0, "grad_norm": 1.0, "step": 10}, {"epoch": 1.0, "eval_loss": 1.5, "step": 20}]
    (tmp_path / "trainer_state.json").write_text(json.dumps({"global_step": 20, "log_history": history}))
    (tmp_path / "config.json").write_text(json.dumps({"hidden_size": 12}))
    (run,) = lossbook.open(tmp_path).runs()
    assert run.metrics["loss"]["last_step"] == 10
    assert run.metrics["eval_loss"]["last"] == 1.5
    assert run.metrics["epoch"]["last"] == 1.0


def test_what_tensorboards_page_downloads_is_a_log(tmp_path: Path) -> None:
    path = tmp_path / "run-exp_a-tag-train_loss.csv"
    path.write_text("Wall time,Step,Value\n1700000000.5,0,2.5\n1700000001.5,10,1.25\n")
    run = lossbook.open(path).run()
    assert run.history("train_loss").df()[["step", "train_loss"]].values.tolist() == [[0, 2.5], [10, 1.25]]
    assert run.curve("train_loss", x="time").x[0] == 1_700_000_000.5


def test_files_that_are_no_logs_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "package.json").write_text('{"name": "x", "step": "build"}')
    (tmp_path / "table.csv").write_text("name,price\na,1\n")
    (tmp_path / "empty.json").write_text("")
    (tmp_path / "log.jsonl").write_text('{"iteration": 3, "loss": 1.5}\n')
    (run,) = lossbook.open(tmp_path).runs()
    assert run.history().df()[["step", "loss"]].values.tolist() == [[3, 1.5]]
    (tmp_path / "log.jsonl").unlink()
    with pytest.raises(StoreError, match="a row needs a column such as step"):
        lossbook.open(tmp_path)


@pytest.mark.slow
def test_a_hundred_thousand_rows_need_no_memory_of_their_own(tmp_path: Path, program) -> None:
    path = tmp_path / "log.jsonl"
    with path.open("w") as file:
        for step in range(100_000):
            file.write(f'{{"step": {step}, "loss": {1 / (step + 1)}, "lr": 0.001, "grad_norm": {step % 7}}}\n')
    grown = program(
        "import resource, sys\n"
        "import lossbook.trackers.ingest as ingest\n"
        "import duckdb, numpy, lossbook.storage.segment_file\n"
        "from lossbook.trackers.sources import find_source\n"
        "source = find_source(sys.argv[1])\n"
        "(run,) = source.runs()\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "folder = ingest.import_run(sys.argv[2], source, run)\n"
        "ingest.LiveSummary.write = lambda self: {}\n"
        "ingest.seal_run = lambda *a, **b: None\n"  # what sealing needs is bounded, and tested, elsewhere
        "print(ingest.import_rows(folder, source, run))\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n",
        str(path),
        str(tmp_path / "store"),
    )
    rows, kibibytes = map(int, grown.split())
    assert rows == 100_000
    assert kibibytes < 30_000, f"{kibibytes} KiB for 100,000 rows"
    assert len(lossbook.open(tmp_path / "store").run().history("loss")) == 100_000


def test_reading_goes_on_from_any_row(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    (folder / "a.jsonl").write_text("".join(f'{{"step": {n}, "loss": {n}}}\n\n' for n in range(20)) + "{torn\n")
    (folder / "b.csv").write_text("step,loss,said\n" + "".join(f'{n},{n},"two\nlines"\n' for n in range(20)))
    (folder / "c.json").write_text(json.dumps([{"epoch": n / 2, "loss": n} for n in range(20)]))
    source = find_source(str(folder))
    assert source is not None
    assert check_every_place(source) == 61
