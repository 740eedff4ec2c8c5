"""What a picture shows: every line, spike, gap and mark, on any axis, in a file that is whole or not there."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest

import lossbook
from lossbook.errors import BadArgument, MissingLibrary, UnknownKey
from lossbook.plots.figure import plot
from lossbook.reading.run import RecordedRun

pytest.importorskip("matplotlib", reason="matplotlib is not installed: pip install 'lossbook[plot]'")

MakeRun = Callable[..., RecordedRun]
SPIKE, NOT_A_NUMBER = 1777, 2100


@pytest.fixture
def make_run(store: Path) -> MakeRun:
    """A run of a course's length, with a spike, a NaN, checkpoints, two stages and an alert."""

    def make(
        name: str = "baseline", steps: int = 3000, *, lr: float = 1e-3, spike: float = 9.5, **more: Any
    ) -> RecordedRun:
        with lossbook.init(
            store=store, project="p", name=name, config={"lr": lr}, console=False, system_metrics=False, **more
        ) as run:
            for step in range(steps):
                loss = 3 + 8 * math.exp(-step / 100) + 0.1 * math.sin(step)
                loss = spike if step == SPIKE else math.nan if step == NOT_A_NUMBER else loss
                row = {"train/loss": loss, "lr": lr, "tokens": 512.0 * step, "time/gradient_steps": step // 2}
                run.log(row | {"throughput/flops_seen": 1e15 * step}, step=step)
                if step % 500 == 499:
                    run.log({"val/loss": loss + 0.1}, step=step)
                    run.checkpoint(f"{step}.pt", step=step, is_best=step == 999)
                if step in (0, 1200):
                    run.stage("warmup" if step == 0 else "full_ternary", step=step)
                if step == SPIKE:
                    run.alert("loss spike", level="error")
        return lossbook.open(store).run(run.id)

    return make


def lines(figure: Any, panel: int = 0) -> list[Any]:
    return [
        line for line in figure.axes[panel].get_lines() if len(line.get_xdata()) > 1 and line.get_linestyle() != "None"
    ]


def marked(figure: Any, marker: str) -> list[Any]:
    return [line for line in figure.axes[0].get_lines() if line.get_marker() == marker]


def labels(figure: Any) -> list[str]:
    legends = [panel.get_legend() for panel in figure.axes if panel.get_legend()] + list(figure.legends)
    return [text.get_text() for legend in legends for text in legend.get_texts()]


def texts(figure: Any) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


def pixels(path: Path) -> numpy.ndarray[Any, Any]:
    from matplotlib.image import imread

    return numpy.asarray(imread(path))


# -- what is drawn ------------------------------------------------------------------------------------------------


def test_training_and_validation_loss_are_drawn_when_nothing_is_named(make_run: MakeRun, tmp_path: Path) -> None:
    figure = plot(make_run(), path=tmp_path / "loss.png")
    assert labels(figure)[:2] == ["train/loss", "val/loss"]
    assert figure.axes[0].get_ylabel() == "loss (nats)"
    assert figure.axes[0].get_xlabel() == "step"
    assert figure.axes[0].get_title() == "baseline"
    picture = pixels(tmp_path / "loss.png")
    assert picture.shape[:2] == (750, 1200)
    assert len(numpy.unique(picture.reshape(-1, picture.shape[2]), axis=0)) > 50


def test_a_spike_of_one_row_reaches_its_height_in_the_light_range_behind_the_line(make_run: MakeRun) -> None:
    figure = plot(make_run(spike=50.0), "train/loss")
    (envelope,) = figure.axes[0].collections
    assert max(path.vertices[:, 1].max() for path in envelope.get_paths()) == 50.0
    assert figure.axes[0].get_ylim()[1] > 50


def test_a_row_that_is_no_number_is_a_cross_at_the_bottom(make_run: MakeRun) -> None:
    figure = plot(make_run(), "train/loss")
    (cross,) = marked(figure, "x")
    assert cross.get_xdata()[0] == pytest.approx(NOT_A_NUMBER, abs=5)
    assert "NaN or infinite" in labels(figure)


def test_a_smoothed_line_lies_over_the_one_that_was_logged(make_run: MakeRun) -> None:
    run = make_run()
    figure = plot(run, "train/loss", smoothing="ema:0.99", marks=False)
    logged, smoothed = lines(figure)
    assert smoothed.get_linewidth() > logged.get_linewidth()
    assert smoothed.get_zorder() > logged.get_zorder()
    expected = run.curve("train/loss", points=800, smoothing="ema:0.99")
    numpy.testing.assert_array_equal(smoothed.get_ydata(), expected.mean)
    assert len(lines(plot(run, "train/loss", smoothing="ema:0.99", raw=False, marks=False))) == 1


def test_a_line_of_a_few_rows_stays_as_it_was_logged(make_run: MakeRun) -> None:
    run = make_run()
    (line,) = lines(plot(run, "val/loss", smoothing="ema:0.99", marks=False))[:1]
    numpy.testing.assert_array_equal(line.get_ydata(), run.curve("val/loss").mean)
    # Few rows are seen as points as well.
    assert marked(plot(run, "val/loss", marks=False), "o")


def test_metrics_of_another_kind_have_a_panel_of_their_own(make_run: MakeRun) -> None:
    figure = plot(make_run(), ["train/loss", "val/loss", "lr"], marks=False)
    assert len(figure.axes) == 2
    assert [panel.get_ylabel() for panel in figure.axes] == ["loss (nats)", "lr"]
    assert figure.axes[1].get_xlabel() == "step"


def test_several_runs_are_told_apart_by_name_and_by_id_where_names_are_equal(make_run: MakeRun) -> None:
    runs = [make_run("a", 50), make_run("b", 50)]
    assert labels(plot(runs, "train/loss", marks=False)) == ["a", "b"]
    assert labels(plot(runs, ["train/loss", "train_loss"], marks=False))[0] == "a · train/loss"
    twins = [make_run("same", 20), make_run("same", 20)]
    assert labels(plot(twins, "train/loss", marks=False)) == [f"same {run.id}" for run in twins]


def test_a_run_without_the_metric_is_left_out_unless_none_has_it(make_run: MakeRun) -> None:
    short, long = make_run("short", 50), make_run("long", 600)
    assert labels(plot([short, long], "val/loss", marks=False)) == ["long"]
    with pytest.raises(UnknownKey, match="never logged 'val/loss'"):
        plot([short], "val/loss")


def test_many_runs_have_their_legend_beside_the_picture(make_run: MakeRun) -> None:
    runs = [make_run(f"run-{number}", 5) for number in range(12)]
    figure = plot(runs, "train/loss", marks=False)
    assert figure.axes[0].get_legend() is None
    assert labels(figure) == [f"run-{number}" for number in range(12)]


def test_names_with_dollars_underscores_and_line_ends_are_drawn_as_they_are(make_run: MakeRun, tmp_path: Path) -> None:
    runs = [make_run("_$\\frac", 30), make_run("$x", 30), make_run("漢字\n", 30)]
    figure = plot(runs, "train/loss", path=tmp_path / "odd.png", title="50 $ a\nday $")
    assert labels(figure)[:2] == [" _$\\frac", "$x"]
    assert figure.axes[0].get_title() == "50 $ a day $"


# -- axes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("x", "label", "last"),
    [
        ("step", "step", 2999),
        ("gradient_step", "gradient step", 1499),
        ("tokens", "tokens", 512 * 2999),
        ("flops", "FLOPs", 1e15 * 2999),
        ("lr", "lr", 1e-3),
    ],
)
def test_a_picture_is_drawn_against_any_axis(
    make_run: MakeRun, tmp_path: Path, x: str, label: str, last: float
) -> None:
    figure = plot(make_run(), "train/loss", x=x, path=tmp_path / "loss.png")
    assert figure.axes[0].get_xlabel() == label
    assert lines(figure)[0].get_xdata()[-1] == pytest.approx(last, rel=0.01)


@pytest.mark.parametrize("x", ["wallclock", "elapsed", "time"])
def test_clocks_are_labelled_with_their_unit(make_run: MakeRun, tmp_path: Path, x: str) -> None:
    figure = plot(make_run(steps=100), "train/loss", x=x, path=tmp_path / "loss.png")
    assert figure.axes[0].get_xlabel().startswith(f"{x} (")
    assert x == "time" or figure.axes[0].get_xlabel() == f"{x} (seconds)"


def test_a_long_clock_is_labelled_in_hours(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    run = make_run(steps=100)
    curve = RecordedRun.curve

    def slow(self: RecordedRun, *arguments: Any, **named: Any) -> Any:
        found = curve(self, *arguments, **named)
        hours = numpy.linspace(0, 10, len(found)) * 3600
        return replace(found, x=hours, x_end=hours)

    monkeypatch.setattr(RecordedRun, "curve", slow)
    figure = plot(run, "train/loss", x="wallclock", marks=False)
    assert figure.axes[0].get_xlabel() == "wallclock (hours)"
    assert lines(figure)[0].get_xdata()[-1] == pytest.approx(10)


def test_logarithmic_axes_leave_out_what_is_not_above_zero(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run(spike=-5.0)
    figure = plot(run, "train/loss", log_x=True, log_y=True, path=tmp_path / "loss.png")
    assert figure.axes[0].get_xscale() == figure.axes[0].get_yscale() == "log"
    assert figure.axes[0].get_ylim()[0] > 0


def test_a_range_shows_its_rows_and_its_marks_alone(make_run: MakeRun) -> None:
    figure = plot(make_run(), "train/loss", start=1000, end=1600)
    assert min(lines(figure)[0].get_xdata()) >= 1000
    assert max(lines(figure)[0].get_xdata()) <= 1600
    assert texts(figure) == ["full_ternary"]


# -- marks --------------------------------------------------------------------------------------------------------


def test_checkpoints_stages_and_alerts_are_marked(make_run: MakeRun) -> None:
    figure = plot(make_run())
    diamonds = marked(figure, "D")
    empty, filled = sorted(diamonds, key=lambda line: len(line.get_xdata()), reverse=True)
    assert filled.get_xdata().tolist() == [999]
    assert empty.get_xdata().tolist() == [499, 1499, 1999, 2499, 2999]
    assert filled.get_markerfacecolor() == filled.get_color()
    assert empty.get_markerfacecolor() == "white"
    assert texts(figure) == ["warmup", "full_ternary", "loss spike"]
    (alert,) = marked(figure, "v")
    assert alert.get_xdata() == [SPIKE]
    assert {"checkpoint", "best checkpoint", "alert"} <= set(labels(figure))


def test_marks_stand_at_the_same_place_on_other_axes(make_run: MakeRun) -> None:
    run = make_run()
    for x, of_step in (("tokens", 512), ("gradient_step", 0.5)):
        best = next(one for one in marked(plot(run, "train/loss", x=x), "D") if len(one.get_xdata()) == 1)
        assert best.get_xdata()[0] == pytest.approx(999 * of_step, rel=0.01)
    for x in ("wallclock", "elapsed", "time"):
        figure = plot(run, "train/loss", x=x)
        low, high = figure.axes[0].get_xlim()
        assert all(low <= at <= high for one in marked(figure, "D") for at in one.get_xdata())


def test_marks_can_be_left_out(make_run: MakeRun) -> None:
    figure = plot(make_run(), marks=False)
    assert not marked(figure, "D")
    assert texts(figure) == []


def test_a_checkpoint_that_a_resumed_attempt_went_back_beyond_is_not_marked(store: Path) -> None:
    for resume_step in (None, 49):
        with lossbook.init(
            store=store,
            project="p",
            id="again",
            resume="allow",
            resume_step=resume_step,
            console=False,
            system_metrics=False,
        ) as run:
            first = 0 if resume_step is None else 50
            for step in range(first, first + 80):
                run.log({"loss": 1.0}, step=step)
            run.checkpoint("one.pt", step=40 if resume_step is None else 120)
            run.checkpoint("two.pt", step=70 if resume_step is None else 125)
    figure = plot(lossbook.open(store).run("again"))
    assert [at for one in marked(figure, "D") for at in one.get_xdata()] == [40, 120, 125]


# -- bands --------------------------------------------------------------------------------------------------------


def test_a_band_has_one_line_for_each_group_with_its_range_behind_it(make_run: MakeRun) -> None:
    runs = [make_run(f"{lr}-{seed}", 50, lr=lr) for lr in (1e-2, 1e-3) for seed in range(2)]
    figure = plot(runs, "train/loss", band="config.lr")
    assert labels(figure) == ["config.lr = 0.001 (2 runs)", "config.lr = 0.01 (2 runs)"]
    assert len(lines(figure)) == 2
    assert len(figure.axes[0].collections) == 2


def test_bands_by_group_name_the_group(make_run: MakeRun) -> None:
    runs = [make_run("a", 20, group="adam"), make_run("b", 20, group="muon"), make_run("c", 20)]
    assert labels(plot(runs, "train/loss", band="group")) == ["adam (1 run)", "muon (1 run)", "no group (1 run)"]
    with pytest.raises(BadArgument, match=r"config\.width"):
        plot(runs, "train/loss", band="config.width")


# -- files --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "begins"), [("a.png", b"\x89PNG"), ("a.SVG", b"<?xml"), ("a.pdf", b"%PDF")])
def test_a_picture_is_written_in_the_format_of_its_ending(
    make_run: MakeRun, tmp_path: Path, name: str, begins: bytes
) -> None:
    plot(make_run(steps=100), path=tmp_path / name)
    assert (tmp_path / name).read_bytes().startswith(begins)
    assert not list(tmp_path.glob("*.tmp"))


def test_what_cannot_be_written_is_refused_before_anything_is_read(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run(steps=20)
    with pytest.raises(BadArgument, match=r"\.png, \.svg or \.pdf"):
        plot(run, path=tmp_path / "loss.jpg")
    with pytest.raises(BadArgument, match="no folder"):
        plot(run, path=tmp_path / "nowhere" / "loss.png")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(BadArgument, match="no ordinary file"):
        plot(run, path=tmp_path / "folder.png")
    assert not (tmp_path / "loss.jpg").exists()


def test_a_failed_write_leaves_the_old_picture(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "loss.png"
    path.write_bytes(b"old")

    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    run = make_run(steps=20)
    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="No space"):
        plot(run, path=path)
    assert path.read_bytes() == b"old"
    assert sorted(one.name for one in tmp_path.glob("loss.png*")) == ["loss.png"]


def test_arguments_that_cannot_be_meant_are_refused(make_run: MakeRun, store: Path) -> None:
    run = make_run(steps=20)
    with pytest.raises(BadArgument, match="no run"):
        plot([])
    with pytest.raises(BadArgument, match="no metric"):
        plot(run, [])
    with pytest.raises(BadArgument, match="inches"):
        plot(run, width=0)
    with pytest.raises(BadArgument, match="smoothing"):
        plot(run, smoothing="a lot")
    with lossbook.init(store=store, project="p", name="nothing", console=False, system_metrics=False):
        pass
    with pytest.raises(UnknownKey, match="has logged a metric yet"):
        plot(lossbook.open(store).run("nothing"))


def test_without_matplotlib_the_message_says_what_to_install(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(steps=5)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingLibrary, match=r"pip install 'lossbook\[plot\]'"):
        plot(run)


def test_drawing_works_in_threads(make_run: MakeRun, tmp_path: Path) -> None:
    runs = [make_run(f"{number}", 50) for number in range(4)]
    problems: list[BaseException] = []

    def draw(number: int) -> None:
        try:
            book = lossbook.open(Path(runs[0].path).parent.parent)
            plot(book.run(f"{number}"), path=tmp_path / f"{number}.png")
        except BaseException as problem:
            problems.append(problem)

    threads = [threading.Thread(target=draw, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    assert len(list(tmp_path.glob("?.png"))) == 4


def test_drawing_loads_no_pyplot(tmp_path: Path) -> None:
    # pyplot keeps global state and may open a window: asked of a fresh interpreter, for other tests may have loaded it.
    program = (
        "import sys, lossbook; from lossbook.lm import plot\n"
        "run = lossbook.init(store=sys.argv[1], project='p', console=False)\n"
        "run.log({'train/loss': 1.0}, step=0); run.finish()\n"
        "plot([lossbook.open(sys.argv[1]).run()], path=sys.argv[1] + '/loss.png')\n"
        "assert 'matplotlib.figure' in sys.modules and 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "store")], check=True, timeout=120)
