"""Event files that the real tensorboardX, torch and tensorboard wrote, read without any of them."""

from __future__ import annotations

import json
import math
import shutil
import struct
from pathlib import Path

import pytest
from made_up_source import check_every_place

import lossbook
from lossbook.cli.app import main
from lossbook.errors import StoreError
from lossbook.trackers.sources import find_source
from lossbook.trackers.tensorboard import tfrecord

pytestmark = pytest.mark.slow

WRITE = """
import sys, math, numpy
from tensorboardX import SummaryWriter
with SummaryWriter(sys.argv[1] + "/exp/first") as writer:
    for step in range(50):
        writer.add_scalar("train/loss", 1 / (step + 1), step)
        writer.add_scalar("odd", [math.nan, math.inf, -math.inf][step % 3], step)
    writer.add_text("note", "hello *x*", 2)
    writer.add_histogram("spread", numpy.arange(10.0), 3)
    writer.add_image("picture", numpy.zeros((3, 4, 5), dtype=numpy.uint8), 3)
    writer.add_hparams({"lr": 3e-4, "optimizer": "adam", "layers": 12, "tied": True}, {"final": 0.5})
with SummaryWriter(sys.argv[1] + "/exp/second") as writer:
    for step in range(50):
        writer.add_scalar("train/loss", 2 / (step + 1), step)
"""

RESTART = """
import sys
from tensorboardX import SummaryWriter
for start, purge, scale in ((0, None, 1.0), (6, 6, 100.0)):
    with SummaryWriter(sys.argv[1], purge_step=purge, filename_suffix=f".{start}") as writer:
        for step in range(start, 10):
            writer.add_scalar("loss", scale + step, step)
"""


def float32(value: float) -> float:
    return float(struct.unpack("<f", struct.pack("<f", value))[0])


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import subprocess
    import sys

    pytest.importorskip("tensorboardX")
    folder = tmp_path_factory.mktemp("tensorboard")
    subprocess.run([sys.executable, "-W", "ignore", "-c", WRITE, str(folder)], check=True, timeout=180)
    return folder


@pytest.fixture
def logs(written: Path, tmp_path: Path) -> Path:
    shutil.copytree(written / "exp", tmp_path / "exp")
    return tmp_path / "exp"


def test_every_folder_with_event_files_is_a_run(logs: Path) -> None:
    book = lossbook.open(logs)
    assert {"first", "second"} < {run.name for run in book.runs()}
    run = book.run("first")
    assert (run.project, run.state) == ("exp", "finished")
    history = run.history("train/loss").df()
    assert history["step"].tolist() == list(range(50))
    assert history["train/loss"].tolist() == [float32(1 / (step + 1)) for step in range(50)]
    assert str(run.history("odd").df()["odd"].tolist()[:3]) == "[nan, inf, -inf]"
    assert run.problems() == []


def test_the_hyperparameters_of_a_run_are_its_configuration(logs: Path) -> None:
    run = lossbook.open(logs).run("first")
    assert run.config == {"lr": 3e-4, "optimizer": "adam", "layers": 12, "tied": True}
    assert isinstance(run.config["layers"], int)


def test_texts_histograms_and_pictures_come_along(logs: Path) -> None:
    run = lossbook.open(logs).run("first")
    (text,) = run.events("text")
    assert (text["key"], text["step"], text["value"]["text"]) == ("note/text_summary", 2, "hello *x*")
    (spread,) = run.events("histogram")
    assert sum(spread["value"]["counts"]) == 10
    assert (spread["value"]["edges"][0], spread["value"]["edges"][-1]) == (0.0, 9.0)
    (picture,) = run.events("image")
    assert (picture["value"]["width"], picture["value"]["height"]) == (5, 4)
    assert Path(run.path, picture["value"]["file"]).read_bytes().startswith(b"\x89PNG")


def test_the_values_are_those_that_tensorboard_reads(logs: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator").EventAccumulator
    theirs = accumulator(str(logs / "first"), size_guidance={"scalars": 0})
    theirs.Reload()
    run = lossbook.open(logs).run("first")
    for tag in theirs.Tags()["scalars"]:
        ours = run.history(tag).df()
        assert ours["step"].tolist() == [one.step for one in theirs.Scalars(tag)]
        assert str(ours[tag].tolist()) == str([one.value for one in theirs.Scalars(tag)])
    assert run.curve("train/loss", x="time").x[0] == pytest.approx(theirs.Scalars("train/loss")[0].wall_time, abs=1e-6)


def test_what_a_restart_took_back_is_hidden_as_in_tensorboard(tmp_path: Path, program) -> None:
    program(RESTART, str(tmp_path / "logs"))
    expected = [1.0 + step for step in range(6)] + [100.0 + step for step in range(6, 10)]
    run = lossbook.open(tmp_path / "logs").run("logs")
    assert run.history("loss").df()["loss"].tolist() == expected
    assert run.attempts[-1].resume_step == 5
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator").EventAccumulator
    theirs = accumulator(str(tmp_path / "logs"))
    theirs.Reload()
    assert [one.value for one in theirs.Scalars("loss")] == expected


def test_a_torn_last_record_is_not_there_yet_and_comes_when_it_is_whole(logs: Path, store: Path) -> None:
    (path,) = (logs / "second").glob("*tfevents*")
    whole = path.read_bytes()
    counts = []
    for length in (len(whole) - 3, len(whole) - 60, 1200):
        path.write_bytes(whole[:length])
        with path.open("rb") as file:
            counts.append(sum(1 for _ in tfrecord.read_records(file)))
    assert counts[0] == 50  # the file's version and 49 of its 50 values
    assert counts == sorted(counts, reverse=True)
    assert main(["import", str(logs), "--to", str(store), "--run", "second"]) == 0
    before = lossbook.open(store).run("second").metrics["train/loss"]["count"]
    assert 0 < before < 49
    path.write_bytes(whole)
    assert main(["import", str(logs), "--to", str(store), "--run", "second"]) == 0
    assert lossbook.open(store).run("second").history("train/loss").df()["step"].tolist() == list(range(50))


def test_a_damaged_record_costs_itself_and_one_sentence(logs: Path) -> None:
    (path,) = (logs / "second").glob("*tfevents*")
    contents = bytearray(path.read_bytes())
    with path.open("rb") as file:
        damaged = list(tfrecord.read_records(file))[10]
    contents[damaged.start + 14] ^= 0xFF
    path.write_bytes(contents)
    run = lossbook.open(logs).run("second")
    assert run.history("train/loss").df()["step"].tolist() == [*range(9), *range(10, 50)]
    (warning,) = run.events("warning")
    assert f"byte {damaged.start}" in warning["value"]["message"]


def test_a_file_that_was_written_anew_is_not_mixed_with_what_it_was(logs: Path, store: Path, capsys) -> None:
    assert main(["import", str(logs), "--to", str(store), "--run", "second"]) == 0
    (path,) = (logs / "second").glob("*tfevents*")
    path.write_bytes(path.read_bytes()[:900])
    assert main(["import", str(logs), "--to", str(store), "--run", "second"]) == 1
    assert "written anew" in capsys.readouterr().err
    assert lossbook.open(store).run("second").metrics["train/loss"]["count"] == 50


def test_a_run_is_the_same_wherever_its_folder_is_moved(logs: Path, store: Path, tmp_path: Path, capsys) -> None:
    assert main(["import", str(logs), "--to", str(store), "--project", "p", "--json"]) == 0
    first = json.loads(capsys.readouterr().out)
    moved = tmp_path / "moved" / "exp"
    moved.parent.mkdir()
    shutil.move(logs, moved)
    assert main(["import", str(moved), "--to", str(store), "--project", "p", "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert [one["run"] for one in first] == [one["run"] for one in again]
    assert sum(one["rows"] for one in again) == 0


def test_imported_and_read_runs_compare_as_equal(logs: Path, store: Path, capsys) -> None:
    assert main(["import", str(logs), "--to", str(store)]) == 0
    for name in ("first", "second"):
        left, right = lossbook.open(store).run(name), lossbook.open(logs).run(name)
        assert left.history().df().equals(right.history().df())
    capsys.readouterr()
    assert main(["--store", str(logs), "compare", "first", "second", "--json"]) == 0
    shown = capsys.readouterr().out
    assert all(str(float32(loss)) in shown for loss in (1 / 50, 2 / 50))


def test_what_torch_writes_is_read_too(tmp_path: Path, program) -> None:
    pytest.importorskip("torch")
    program(
        "import sys\n"
        "from torch.utils.tensorboard import SummaryWriter\n"
        "with SummaryWriter(sys.argv[1]) as writer:\n"
        "    for step in range(5):\n"
        "        writer.add_scalar('old', step, step)\n"
        "        writer.add_scalar('new', step * 0.5, step, new_style=True)\n"
        "    writer.add_text('said', 'hi')\n",
        str(tmp_path / "logs"),
    )
    run = lossbook.open(tmp_path / "logs").run()
    assert run.history("old").df()["old"].tolist() == [0, 1, 2, 3, 4]
    assert run.history("new").df()["new"].tolist() == [0, 0.5, 1, 1.5, 2]
    assert run.events("text")[0]["value"]["text"] == "hi"


def test_tensors_of_every_kind_are_decoded(tmp_path: Path) -> None:
    """As TensorFlow 2 writes: scalars, histograms and pictures are tensors, their plugin named at the first alone."""
    summary_pb2 = pytest.importorskip("tensorboard.compat.proto.summary_pb2")
    import numpy
    from tensorboard.compat.proto import event_pb2
    from tensorboard.util import tensor_util

    def event(step: int, tag: str, array: object, plugin: str = "") -> bytes:
        value = summary_pb2.Summary.Value(tag=tag, tensor=tensor_util.make_tensor_proto(array))
        value.metadata.plugin_data.plugin_name = plugin
        return event_pb2.Event(
            wall_time=1.7e9 + step, step=step, summary=summary_pb2.Summary(value=[value])
        ).SerializeToString()

    messages = [event_pb2.Event(wall_time=1.7e9, file_version="brain.Event:2").SerializeToString()]
    for number, kind in enumerate((numpy.float32, numpy.float64, numpy.float16, numpy.int32, numpy.int64)):
        messages += [
            event(0, f"s{number}", numpy.array(1.5, kind), "scalars"),
            event(1, f"s{number}", numpy.array(-2, kind)),
        ]
    messages.append(event(1, "h", numpy.array([[0.0, 1.0, 3.0], [1.0, 2.0, 4.0]]), "histograms"))
    messages.append(event(1, "p", numpy.array([b"5", b"4", b"\x89PNG1", b"\x89PNG2"], dtype=object), "images"))
    messages.append(event(-3, "s0", numpy.float32(math.inf)))
    path = tmp_path / "logs" / "events.out.tfevents.1.host"
    path.parent.mkdir()
    path.write_bytes(b"".join(map(tfrecord.record, messages)))
    run = lossbook.open(path).run()
    assert [run.metrics[f"s{number}"]["min"] for number in range(5)] == [-2.0] * 5
    assert [run.metrics[f"s{number}"]["max"] for number in range(5)] == [1.5, 1.5, 1.5, 1.0, 1.0]
    assert run.history("s0").df()["step"].tolist() == [-3, 0, 1]
    assert run.events("histogram")[0]["value"] == {"edges": [0.0, 1.0, 2.0], "counts": [3.0, 4.0]}
    assert [event["key"] for event in run.events("image")] == ["p", "p/1"]


def test_a_run_that_lossbook_mirrored_comes_back(tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with lossbook.init(project="p", name="mine", store=str(store), config={"lr": 0.5}) as run:
        for step in range(20):
            run.log({"loss": 1 / (step + 1), "system.gpu.0.gpu": 50.0 + step}, step=step)
        run.log({"spread": lossbook.Histogram([1.0, 2.0, 4.0])}, step=20)
    assert main(["--store", str(store), "sync", "mine", "--to", "tensorboard"]) == 0
    (folder,) = tmp_path.glob("runs/p/*")
    read = lossbook.open(folder).run()
    assert read.history("loss").df()["loss"].tolist() == [float32(1 / (step + 1)) for step in range(20)]
    assert read.metrics["system.gpu.0.gpu"]["last"] == 69.0
    assert (read.config, read.state) == ({"lr": 0.5}, "finished")
    original = lossbook.open(store).run("mine")
    assert read.events("histogram")[0]["value"] == original.events("histogram")[0]["value"]


def test_a_folder_without_logs_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no event files"):
        lossbook.open(f"tensorboard://{tmp_path}")


def test_reading_goes_on_from_any_row(logs: Path, tmp_path: Path, program) -> None:
    program(RESTART, str(tmp_path / "restarted"))
    for folder, rows in ((logs, 100 + 3 + 50 + 1), (tmp_path / "restarted", 10 + 1 + 4)):
        source = find_source(str(folder))
        assert source is not None
        assert check_every_place(source) == rows


def test_a_restart_that_comes_after_an_import_is_brought_by_the_next(tmp_path: Path, store: Path, program) -> None:
    program(RESTART, str(tmp_path / "logs"))
    first, second = sorted((tmp_path / "logs").iterdir(), key=lambda path: path.name.rpartition(".")[2])
    second.rename(tmp_path / "later")
    assert main(["import", str(tmp_path / "logs"), "--to", str(store)]) == 0
    assert lossbook.open(store).run().history("loss").df()["loss"].tolist() == [1.0 + step for step in range(10)]
    (tmp_path / "later").rename(second)
    assert main(["import", str(tmp_path / "logs"), "--to", str(store)]) == 0
    run = lossbook.open(store).run()
    assert run.history("loss").df()["loss"].tolist() == [1.0 + n for n in range(6)] + [100.0 + n for n in range(6, 10)]
    assert (run.state, run.problems(), len(run.attempts)) == ("finished", [], 2)
