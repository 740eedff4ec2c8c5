"""A run as TensorBoard reads it: with its own EventAccumulator, and with its own server's HPARAMS and text pages."""

from __future__ import annotations

import math
import os
import struct
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from driving_mirrors import CREATED, deliver_through_kills, drive, ending, other, scalars, subject

from lossbook.run.values import Image
from lossbook.trackers.mirror import Ending, LoggedRow, MirrorSettings, MirrorUnavailable
from lossbook.trackers.tensorboard import event_writer, tfrecord
from lossbook.trackers.tensorboard.mirror import TensorBoardMirror

pytest.importorskip("tensorboard")


def mirror(folder: Path, remote: dict[str, Any] | None = None, **changes: Any) -> TensorBoardMirror:
    return TensorBoardMirror(
        subject(folder, **changes), MirrorSettings(cwd=str(folder)), {} if remote is None else remote
    )


def delivered(folder: Path, rows: Iterable[LoggedRow], end: Ending | None = None, **changes: Any) -> Any:
    """TensorBoard's reading of a run with these rows."""
    made = mirror(folder, **changes)
    drive(made, rows, end)
    return read(made.remote["folder"])


def read(folder: str | Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    accumulator = EventAccumulator(
        str(folder), size_guidance={"scalars": 0, "tensors": 0, "images": 0, "histograms": 0}
    )
    return accumulator.Reload()


def texts(accumulator: Any, tag: str) -> list[str]:
    return [event.tensor_proto.string_val[0].decode() for event in accumulator.Tensors(tag)]


def points(accumulator: Any, tag: str) -> list[tuple[int, float]]:
    return [(event.step, event.value) for event in accumulator.Scalars(tag)]


def test_the_files_lie_where_users_of_tensorboard_look(tmp_path: Path) -> None:
    drive(mirror(tmp_path, name="baseline"), [scalars(0, 0, {"loss": 1.0})])
    files = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*tfevents*"))
    assert files == ["runs/lab/baseline-abcd2345/events.out.tfevents.1763688000.lossbook.abcd2345"]


def test_a_name_that_is_no_folder_name_stays_inside_the_log_folder(tmp_path: Path) -> None:
    made = mirror(tmp_path, name="../../etc", project="..")
    drive(made, [scalars(0, 0, {"loss": 1.0})])
    assert Path(made.remote["folder"]).is_relative_to(tmp_path / "runs")
    assert made.url is not None


def test_every_value_has_its_own_step_and_time(tmp_path: Path) -> None:
    accumulator = delivered(tmp_path, [scalars(i, i * 10, {"loss": i / 7, "lr": 3e-4}) for i in range(100)])
    events = accumulator.Scalars("loss")
    assert [event.step for event in events] == [i * 10 for i in range(100)]
    assert [event.value for event in events] == [float32(i / 7) for i in range(100)]
    assert [event.wall_time for event in events] == pytest.approx([CREATED + i / 1000 for i in range(100)], abs=1e-6)
    assert len(accumulator.Scalars("lr")) == 100


def test_steps_that_go_backward_or_repeat_all_arrive(tmp_path: Path) -> None:
    steps = [5, 3, 4, 4, 5, -2, 1 << 40]
    accumulator = delivered(tmp_path, [scalars(i, step, {"loss": float(i)}) for i, step in enumerate(steps)])
    assert points(accumulator, "loss") == [(step, float(i)) for i, step in enumerate(steps)]


def test_values_that_are_not_finite_arrive(tmp_path: Path) -> None:
    values = [math.nan, math.inf, -math.inf, 1e300, 0.5]
    accumulator = delivered(tmp_path, [scalars(i, i, {"loss": value}) for i, value in enumerate(values)])
    nan, *others = (value for _, value in points(accumulator, "loss"))
    assert math.isnan(nan)
    assert others == [math.inf, -math.inf, math.inf, 0.5]


def test_other_ranks_have_series_of_their_own(tmp_path: Path) -> None:
    rows = [
        scalars(0, 0, {"loss": 1.0}, rank=0),
        scalars(0, 0, {"loss": 2.0}, rank=1),
        scalars(0, 0, {"x": 3.0}, rank=-1),
    ]
    made = mirror(tmp_path)
    made.open({})
    made.deliver(rows)
    made.flush()
    made.close(None)
    accumulator = read(made.remote["folder"])
    assert accumulator.Tags()["scalars"] == ["loss", "loss/rank_1", "x"]
    assert mirror(tmp_path, made.remote).open({0: 0, 1: 0, -1: 0, 2: 7}) == {0: 0, 1: 0, -1: 0, 2: 7}


def test_system_metrics_are_a_run_of_their_own_by_seconds(tmp_path: Path) -> None:
    rows = [scalars(i, None, {"system.gpu.0.temp": 50.0 + i, "loss": 1.0}) for i in range(0, 4000, 1000)]
    made = mirror(tmp_path)
    drive(made, rows)
    system = read(Path(made.remote["folder"], "system"))
    assert points(system, "system.gpu.0.temp") == [(second, 50.0 + second * 1000) for second in range(4)]
    assert read(made.remote["folder"]).Tags()["scalars"] == ["loss"]


def test_the_run_and_its_configuration_are_text_and_hyperparameters(tmp_path: Path) -> None:
    from tensorboard.plugins.hparams import plugin_data_pb2

    rows = [
        other(0, "config", {"lr": 1e-3, "model": {"width": 64}, "layers": [1, 2], "tied": True, "none": None}),
        scalars(1, 0, {"loss": 1.0}),
        other(2, "config", {"lr": 5e-4}, step=10),
    ]
    accumulator = delivered(tmp_path, rows)
    run = texts(accumulator, "lossbook/run")[0]
    for known in ("small run", "lab", "abcd2345", "ablation, step-05", "ratio-ablation", "first try", "0123abc"):
        assert known in run
    first, changed = texts(accumulator, "lossbook/config")
    assert "| lr | 0.001 |" in first
    assert "| model/depth | 12 |" in first
    assert "| lr | 0.0005 |" in changed
    contents = accumulator.PluginTagToContent("hparams")["_hparams_/session_start_info"]
    started = plugin_data_pb2.HParamsPluginData.FromString(contents).session_start_info
    assert started.hparams["lr"].number_value == 1e-3
    assert started.hparams["model/width"].number_value == 64
    assert started.hparams["layers"].string_value == "[1,2]"
    assert started.hparams["tied"].bool_value is True
    assert "none" not in started.hparams
    assert started.group_name == "abcd2345"
    assert started.start_time_secs == CREATED


def test_texts_histograms_images_and_tables_arrive(tmp_path: Path) -> None:
    picture = Image([[0.0, 1.0, 0.5]], caption="a row").event("picture")
    assert picture.file is not None
    (tmp_path / "run" / "media").mkdir(parents=True)
    (tmp_path / "run" / picture.file.path).write_bytes(picture.file.contents)
    rows = [
        other(0, "text", {"text": "Once | upon\n*a* time"}, key="sample", step=3),
        other(
            1, "histogram", {"edges": [0, 1, 2, 3, 4], "counts": [0, 2, 3, 0], "nonfinite": 7}, key="weights", step=4
        ),
        other(2, "image", picture.value, key="picture", step=5),
        other(3, "image", {"file": "media/gone.png"}, key="lost", step=5),
        other(4, "table", {"columns": ["a", "b|c"], "rows": [[1, "x\ny"], ["NaN", None]]}, key="table", step=6),
    ]
    accumulator = delivered(tmp_path, rows)
    assert texts(accumulator, "sample") == ["Once | upon\n*a* time"]
    (weights,) = accumulator.Histograms("weights")
    assert weights.step == 4
    assert (weights.histogram_value.min, weights.histogram_value.max) == (1, 3)
    assert list(weights.histogram_value.bucket_limit) == [2, 3]
    assert list(weights.histogram_value.bucket) == [2, 3]
    assert points(accumulator, "weights/nonfinite") == [(4, 7.0)]
    (image,) = accumulator.Images("picture")
    assert (image.width, image.height, image.encoded_image_string) == (3, 1, picture.file.contents)
    assert texts(accumulator, "picture/caption") == ["a row"]
    assert "media/gone.png could not be read" in texts(accumulator, "lost/missing")[0]
    assert texts(accumulator, "table") == ["| a | b\\|c |\n| --- | --- |\n| 1 | x<br>y |\n| NaN |  |"]


def test_alerts_notes_stages_checkpoints_and_warnings_are_texts(tmp_path: Path) -> None:
    rows = [
        other(0, "alert", {"title": "loss spike", "text": "9.1 after 3.0", "level": "warning"}, step=7),
        other(1, "note", {"text": "more heads"}, step=8),
        other(2, "stage", {"name": "full_ternary"}, step=9),
        other(3, "checkpoint", {"path": "/models/best.pt", "is_best": True}, step=10),
        other(4, "warning", {"message": "a value was no number"}),
        other(5, "define", {"pattern": "val/*", "x": "tokens"}),
        other(6, "of a later version", {"anything": 1}),
    ]
    accumulator = delivered(tmp_path, rows)
    assert texts(accumulator, "lossbook/alerts") == ["**warning: loss spike**\n\n9.1 after 3.0"]
    assert texts(accumulator, "lossbook/notes") == ["more heads"]
    assert texts(accumulator, "lossbook/stages") == ["full_ternary"]
    assert texts(accumulator, "lossbook/checkpoints") == ["/models/best.pt (best)"]
    assert texts(accumulator, "lossbook/warnings") == ["a value was no number"]


def test_a_long_table_says_how_many_rows_are_left_out(tmp_path: Path) -> None:
    rows = [other(0, "table", {"columns": ["n"], "rows": [[n] for n in range(1002)]}, key="long", step=0)]
    (shown,) = texts(delivered(tmp_path, rows), "long")
    assert "| 999 |" in shown
    assert "| 1000 |" not in shown
    assert shown.endswith("2 more rows are in Lossbook.")


@pytest.mark.parametrize(("state", "status"), [("finished", 1), ("failed", 2)])
def test_the_end_says_how_it_went_and_what_was_printed(tmp_path: Path, state: str, status: int) -> None:
    from tensorboard.plugins.hparams import plugin_data_pb2

    (tmp_path / "run" / "console").mkdir(parents=True)
    (tmp_path / "run" / "console" / "r0.log").write_text("begin\nstep 1\rstep 2\rstep 3\nend\n")
    accumulator = delivered(tmp_path, [scalars(0, 0, {"loss": 1.0})], ending(state, **{"val/loss": 1.5}))
    assert texts(accumulator, "lossbook/state") == [state]
    assert "| val/loss | 1.5 |" in texts(accumulator, "lossbook/summary")[0]
    assert texts(accumulator, "lossbook/console") == ["    begin\n    step 3\n    end\n    "]
    contents = accumulator.PluginTagToContent("hparams")["_hparams_/session_end_info"]
    ended = plugin_data_pb2.HParamsPluginData.FromString(contents).session_end_info
    assert (ended.status, ended.end_time_secs) == (status, CREATED + 60)


def test_an_attempt_that_resumes_from_a_step_takes_back_what_was_beyond(tmp_path: Path) -> None:
    rows = [scalars(i, i, {"loss": float(i)}) for i in range(10)]
    rows.append(other(10, "attempt", {"number": 1, "resume_step": 4}, attempt=1))
    rows += [scalars(11 + i, 5 + i, {"loss": 100.0 + i}, attempt=1) for i in range(3)]
    # A segment of the same attempt, and a late row of another rank's earlier attempt.
    rows.append(other(14, "attempt", {"number": 1, "resume_step": 4, "continues": True}, attempt=1))
    rows.append(scalars(0, 7, {"loss": 7.0}, rank=1))
    rows.append(scalars(1, 3, {"loss": 3.0}, rank=1))
    accumulator = delivered(tmp_path, rows)
    assert points(accumulator, "loss") == [(n, float(n)) for n in range(5)] + [(5, 100.0), (6, 101.0), (7, 102.0)]
    assert points(accumulator, "loss/rank_1") == [(3, 3.0)]


def test_a_run_that_begins_again_from_nothing_keeps_its_texts(tmp_path: Path) -> None:
    rows = [scalars(0, 0, {"loss": 1.0}), other(1, "attempt", {"number": 1, "resume_step": -1}, attempt=1)]
    made = mirror(tmp_path)
    drive(made, [*rows, scalars(2, 0, {"loss": 2.0}, attempt=1)])
    assert points(read(made.remote["folder"]), "loss") == [(0, 2.0)]
    # The server's own reading, which takes back texts too.
    from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator

    served = EventAccumulator(made.remote["folder"]).Reload()
    assert len(served.Tensors("loss")) == 1
    assert len(served.Tensors("lossbook/run")) == 1
    assert len(served.Tensors("lossbook/config")) == 1


def test_what_was_delivered_and_not_noted_is_taken_back(tmp_path: Path) -> None:
    rows = [scalars(i, i, {"loss": float(i), "system.cpu": 1.0}) for i in range(30)]
    first = mirror(tmp_path)
    first.open({})
    first.deliver(rows[:10])
    first.flush()
    noted = dict(first.remote)
    first.deliver(rows[10:20])
    first.flush()  # and the engine dies before it stores what was noted

    second = mirror(tmp_path, noted)
    assert second.open({0: 9}) == {0: 9}
    second.deliver(rows[10:])
    second.flush()
    second.close(None)
    assert points(read(second.remote["folder"]), "loss") == [(i, float(i)) for i in range(30)]
    assert len(read(Path(second.remote["folder"], "system")).Scalars("system.cpu")) == 30


def test_files_that_were_removed_are_written_again_from_the_beginning(tmp_path: Path) -> None:
    rows = [scalars(i, i, {"loss": float(i)}) for i in range(10)]
    first = mirror(tmp_path)
    drive(first, rows)
    os.truncate(next(Path(first.remote["folder"]).glob("*tfevents*")), 100)
    again = mirror(tmp_path, first.remote)
    assert again.open({0: 9}) == {}
    again.deliver(rows)
    again.flush()
    again.close(ending())
    assert points(read(again.remote["folder"]), "loss") == [(i, float(i)) for i in range(10)]


def test_a_run_resumed_after_its_end_loses_the_end_and_no_byte_of_its_length(tmp_path: Path) -> None:
    """A TensorBoard that has read the end goes on at its place in the file: it must find a record there."""
    first = mirror(tmp_path)
    drive(first, [scalars(0, 0, {"loss": 1.0})], ending("failed"))
    folder = first.remote["folder"]
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    (path,) = Path(folder).glob("*tfevents*")
    watching = EventFileLoader(str(path))
    assert len(list(watching.Load())) == 5  # version, beginning, introduction, row, end

    second = mirror(tmp_path, first.remote)
    assert second.open({0: 0}) == {0: 0}
    second.deliver([scalars(1, 1, {"loss": 2.0})])
    second.flush()
    seen = [value.tag for event in watching.Load() for value in event.summary.value]
    assert seen == ["loss"]
    second.close(ending("finished"))
    accumulator = read(folder)
    assert points(accumulator, "loss") == [(0, 1.0), (1, 2.0)]
    assert texts(accumulator, "lossbook/state") == ["finished"]


@pytest.mark.parametrize("length", [48, 49, 50, 127, 128, 129, 130, 131, 132, 133, 134, 1000, 16385, 16390, 40000])
def test_a_record_of_any_length_can_be_blotted_out(length: int) -> None:
    from tensorboard.compat.proto import event_pb2

    blank = event_writer.blank_record(length)
    assert len(blank) == length
    assert event_pb2.Event.FromString(blank).WhichOneof("what") == "log_message"


def test_checksums_are_those_of_the_format() -> None:
    # RFC 3720, B.4: the CRC-32C of 32 zeros is 0x8A9136AA; masked as record_writer.h says.
    crc = 0x8A9136AA
    assert tfrecord.masked_crc(bytes(32)) == (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def test_a_folder_that_cannot_be_written_is_said_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file where the folder should be")
    with pytest.raises(
        MirrorUnavailable, match="cannot be written to .*runs/lab.*lossbook sync abcd2345 --to tensorboard"
    ):
        mirror(tmp_path).open({})


def test_a_full_disk_is_said_and_the_rows_can_come_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [scalars(i, i, {"loss": float(i)}) for i in range(10)]
    first = mirror(tmp_path)
    first.open({})
    first.deliver(rows[:5])
    first.flush()
    first.deliver(rows[5:])
    write = os.write

    def half(file: int, contents: Any) -> int:
        """The disk takes ten bytes more and is full."""
        monkeypatch.setattr(os, "write", full)
        return write(file, bytes(contents)[:10])

    def full(file: int, contents: Any) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", half)
    with pytest.raises(MirrorUnavailable, match="No space left on device"):
        first.flush()
    monkeypatch.setattr(os, "write", write)
    assert drive(mirror(tmp_path, first.remote), rows) == {0: 4}
    assert points(read(first.remote["folder"]), "loss") == [(i, float(i)) for i in range(10)]


def test_sigkill_at_any_moment_neither_loses_nor_repeats_a_row(tmp_path: Path) -> None:
    rows = [other(0, "attempt", {"number": 0})]
    rows += [
        scalars(i, i - 1, {f"key/{n}": i / (n + 1) for n in range(9)} | {"system.cpu": 1.0}) for i in range(1, 3001)
    ]
    killed = deliver_through_kills("tensorboard", tmp_path, rows, kills=12, longest_seconds=0.15)
    assert killed > 0
    (folder,) = (tmp_path / "runs" / "lab").iterdir()
    accumulator = read(folder)
    for n in range(9):
        assert points(accumulator, f"key/{n}") == [(i - 1, float32(i / (n + 1))) for i in range(1, 3001)]
    assert len(read(folder / "system").Scalars("system.cpu")) == 3000
    assert len(texts(accumulator, "lossbook/run")) == 1
    assert texts(accumulator, "lossbook/state") == ["finished"]


def test_writing_needs_no_library() -> None:
    code = "import sys, lossbook.trackers.tensorboard.mirror; print([m for m in sys.modules if m.startswith(('tensor', 'torch', 'numpy'))])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.strip() == "[]"


def float32(value: float) -> float:
    return float(struct.unpack("<f", struct.pack("<f", value))[0])
