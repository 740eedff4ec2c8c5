"""Whatever a training program hands over, `log()` never raises, and what can be kept is kept exactly."""

from __future__ import annotations

import decimal
import fractions
import itertools
import math
import os
import time
from collections import OrderedDict, UserDict
from pathlib import Path
from typing import Any

import numpy
import pytest
from programs import all_runs, journal_rows, only_run, recorded, row_numbers, steps

import lossbook
from lossbook.errors import BadArgument
from lossbook.paths import RunFolder


def logged(store: Path, *calls: Any, **kwargs: Any) -> tuple[dict[str, float], list[str]]:
    """Log each dictionary, and return all scalars that were recorded, and the warnings."""
    with lossbook.init(store=store, project="p", console=False) as run:
        for call in calls:
            run.log(call, **kwargs)
    rows = journal_rows(RunFolder(run.path))
    assert [row.i for row in rows] == list(range(len(rows)))
    scalars = {key: value for row in rows if row.kind is None for key, value in row.body.items()}
    return scalars, [row.body["message"] for row in rows if row.kind == "warning"]


# -- values -------------------------------------------------------------------------------------------------------------


class Raises:
    def __float__(self) -> float:
        raise RuntimeError("no number today")


class RaisesUnspeakably:
    """Raises an error that cannot even be printed."""

    class Error(Exception):
        def __str__(self) -> str:
            raise self

    def __float__(self) -> float:
        raise self.Error

    def __repr__(self) -> str:
        raise self.Error


class Lookalike:
    """Has all the attributes of a tensor, and none of them works."""

    shape = "no shape"
    device = None
    requires_grad = True

    def __getattr__(self, name: str) -> Any:
        raise ValueError(name)


def cycle() -> dict[str, Any]:
    nested: dict[str, Any] = {"a": 1.0}
    nested["left"] = nested["right"] = nested
    return nested


GOOD: list[tuple[str, Any, float]] = [
    ("int", 3, 3.0),
    ("bool", True, 1.0),
    ("huge int", 1 << 70, float(1 << 70)),
    ("past every float", 10**400, math.inf),
    ("unsigned", (1 << 64) - 1, float((1 << 64) - 1)),
    ("nan", math.nan, math.nan),
    ("infinity", -math.inf, -math.inf),
    ("smallest", 5e-324, 5e-324),
    ("largest", 1.7976931348623157e308, 1.7976931348623157e308),
    ("minus zero", -0.0, -0.0),
    ("numpy float64", numpy.float64(0.1), 0.1),
    ("numpy float32", numpy.float32(0.1), float(numpy.float32(0.1))),
    ("numpy float16", numpy.float16(0.1), float(numpy.float16(0.1))),
    ("numpy int8", numpy.int8(-5), -5.0),
    ("numpy uint64", numpy.uint64((1 << 64) - 1), float((1 << 64) - 1)),
    ("numpy bool", numpy.bool_(True), 1.0),
    ("numpy nan", numpy.float32("nan"), math.nan),
    ("0-d array", numpy.array(2.5), 2.5),
    ("array of one", numpy.array([2.5]), 2.5),
    ("decimal", decimal.Decimal("1.5"), 1.5),
    ("fraction", fractions.Fraction(1, 4), 0.25),
]


@pytest.mark.parametrize(("value", "expected"), [case[1:] for case in GOOD], ids=[case[0] for case in GOOD])
def test_numbers_of_every_kind_are_kept_exactly(store: Path, value: Any, expected: float) -> None:
    scalars, warnings = logged(store, {"x": value, "plain": 1.0})
    assert warnings == []
    assert repr(scalars["x"]) == repr(expected)
    assert scalars["plain"] == 1.0


BAD: list[tuple[str, Any]] = [
    ("None", None),
    ("text", "0.5"),
    ("bytes", b"0.5"),
    ("list", [1.0]),
    ("tuple", (1.0,)),
    ("complex", 1 + 2j),
    ("numpy complex", numpy.complex64(1j)),
    ("numpy text", numpy.str_("1.0")),
    ("array", numpy.zeros((2, 2))),
    ("empty array", numpy.zeros(0)),
    ("object", object()),
    ("class", int),
    ("function", len),
    ("signalling nan", decimal.Decimal("sNaN")),
    ("raises", Raises()),
    ("raises unspeakably", RaisesUnspeakably()),
    ("lookalike", Lookalike()),
    ("cycle", cycle()),
    ("surrogate", "\ud800"),
]


@pytest.mark.parametrize("value", [case[1] for case in BAD], ids=[case[0] for case in BAD])
def test_what_is_no_number_becomes_a_warning_printed_once_and_the_rest_of_its_row_is_kept(
    store: Path, value: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    scalars, warnings = logged(store, {"good": 1.0, "bad": value}, {"bad": value, "good": 2.0})
    assert scalars["good"] == 2.0
    assert len(warnings) >= 2
    assert all(isinstance(one, str) and one for one in warnings)
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("lossbook: ")]
    assert 1 <= len(said) == len(set(said))


def test_a_cycle_costs_no_more_than_a_warning(store: Path) -> None:
    scalars, _ = logged(store, {"cycle": cycle()})
    assert scalars["cycle/a"] == 1.0
    assert len(scalars) < 100


@pytest.mark.parametrize("call", [None, 1.0, "text", [("loss", 1.0)], [1, 2], {1.0}, len], ids=repr)
def test_what_is_no_dictionary_becomes_a_warning(store: Path, call: Any) -> None:
    scalars, warnings = logged(store, call, {"loss": 1.0})
    assert scalars == {"loss": 1.0}
    assert len(warnings) == 1


def test_dictionaries_of_every_kind_are_taken(store: Path) -> None:
    scalars, warnings = logged(store, OrderedDict(a=1), UserDict(b=2), {"c": {"d": {"e": 3}}, "f": {}}, {})
    assert warnings == []
    assert scalars == {"a": 1.0, "b": 2.0, "c/d/e": 3.0}


def test_torch_tensors_are_kept_exactly(store: Path) -> None:
    torch = pytest.importorskip("torch")
    weight = torch.tensor(0.5, requires_grad=True)
    values = {
        "leaf": weight,
        "graph": weight * 3,
        "half": torch.tensor(0.1, dtype=torch.bfloat16),
        "one": torch.ones(1, 1),
        "int": torch.tensor(7),
        "bool": torch.tensor(True),
        "nan": torch.tensor(math.nan),
    }
    scalars, warnings = logged(store, values, {"many": torch.ones(3), "meta": torch.ones((), device="meta")})
    assert scalars.pop("half") == float(torch.tensor(0.1, dtype=torch.bfloat16))
    assert math.isnan(scalars.pop("nan"))
    assert scalars == {"leaf": 0.5, "graph": 1.5, "one": 1.0, "int": 7.0, "bool": 1.0}
    assert len(warnings) == 2


def test_media_that_cannot_be_made_become_warnings(store: Path) -> None:
    calls = [
        {"image": lossbook.Image("/not/there.png")},
        {"image": lossbook.Image(numpy.zeros((0, 3)))},
        {"histogram": lossbook.Histogram(edges=[1], counts=[1, 2])},
        {"histogram": lossbook.Histogram(["a"])},
        {"table": lossbook.Table(columns=["a"], rows=[[1, 2]])},
    ]
    scalars, warnings = logged(store, *calls, {"loss": 1.0})
    assert scalars == {"loss": 1.0}
    assert len(warnings) == len(calls)


# -- keys ---------------------------------------------------------------------------------------------------------------


class Unprintable:
    def __str__(self) -> str:
        raise RuntimeError("no name")


def test_keys_of_every_kind_come_back_as_they_were(store: Path) -> None:
    keys = [
        "a/b",
        "/",
        "//x",
        " ",
        "with space",
        "läuft ✓ 損失",
        "new\nline",
        '"quoted"',
        "\\",
        "",
        "\x00",
        "x" * 10_240,
        "../../etc",
        "'; drop table metrics; --",
        "NaN",
        "i",
        "m",
    ]
    scalars, warnings = logged(store, {key: float(number) for number, key in enumerate(keys)})
    assert warnings == []
    assert scalars == {key: float(number) for number, key in enumerate(keys)}
    found = recorded(only_run(store))
    assert sorted(found.keys()) == sorted(keys)
    for number, key in enumerate(keys):
        assert found.curve(key).last.tolist() == [number]


def test_keys_that_are_no_text_become_text_and_cost_no_other(store: Path) -> None:
    scalars, warnings = logged(store, {1: 1.0, 2.5: 2.0, None: 3.0, ("a", 1): 4.0, "\ud800x": 5.0, "loss": 6.0})
    assert warnings == []
    assert scalars == {"1": 1.0, "2.5": 2.0, "None": 3.0, "('a', 1)": 4.0, "?x": 5.0, "loss": 6.0}
    scalars, warnings = logged(store, {Unprintable(): 1.0, "loss": 2.0})
    assert scalars == {"loss": 2.0}
    assert len(warnings) == 1


def test_a_hundred_thousand_keys(store: Path) -> None:
    with lossbook.init(store=store, project="p", console=False) as run:
        for first in range(0, 100_000, 1000):
            run.log({f"layer/{number}/norm": float(number) for number in range(first, first + 1000)}, step=0)
    found = recorded(only_run(store))
    assert len(found.keys()) == 100_000
    assert found.metrics["layer/99999/norm"]["last"] == 99_999.0
    assert found.curve("layer/50000/norm").last.tolist() == [50_000.0]


# -- steps and clocks -----------------------------------------------------------------------------------------------------


def test_steps_come_in_any_order_and_of_any_kind(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = [5, 3, -7, 0, (1 << 63) - 1, -(1 << 63), numpy.int64(12), numpy.int32(13), True, 14.0, numpy.float32(15)]
    with lossbook.init(store=store, project="p", console=False) as run:
        for step in asked:
            run.log({"loss": 1.0}, step=step)
    folder = only_run(store)
    assert steps(folder) == [int(step) for step in asked]
    assert capsys.readouterr().err == ""
    found = recorded(folder)
    assert found.metrics["loss"]["count"] == len(asked)
    assert found.history(["loss"]).numpy()["step"].tolist() == sorted(int(step) for step in asked)


@pytest.mark.parametrize(
    "step",
    ["ten", None, 1 << 63, -(1 << 64), 1e300, math.nan, math.inf, [1], object(), RaisesUnspeakably()],
)
def test_a_step_that_is_none_costs_no_row(store: Path, step: Any) -> None:
    scalars, warnings = logged(store, {"first": 1.0}, {"second": 2.0}, step=step)
    assert scalars == {"first": 1.0, "second": 2.0}
    assert steps(only_run(store)) == [0, 1]
    assert len(warnings) == (0 if step is None else 2)


def test_a_step_between_two_is_rounded_with_a_warning(store: Path) -> None:
    scalars, warnings = logged(store, {"loss": 1.0}, step=1.5)
    assert steps(only_run(store)) == [1]
    assert len(warnings) == 1


def test_clocks_that_go_back_cost_nothing(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lossbook.journal import clock, writer

    times = itertools.cycle([time.time_ns(), 0, -(10**18), 4 * 10**18, time.time_ns() - 10**15])
    monkeypatch.setattr(clock, "clock_ns", lambda: next(times))
    monkeypatch.setattr(writer, "LOOK_SECONDS", 0.0)
    with lossbook.init(store=store, project="p", console=False) as run:
        for step in range(100):
            run.log({"loss": float(step)}, step=step)
    found = recorded(only_run(store))
    assert found.metrics["loss"]["count"] == 100
    assert found.curve("loss", points=1000).last.tolist() == [float(step) for step in range(100)]
    assert len(found.curve("loss", x="time", points=1000).x) > 0
    assert len(found.curve("loss", x="wallclock", points=1000).x) > 0
    assert found.problems() == []


def times_of_rows(folder: RunFolder) -> list[int]:
    return [row.t for row in journal_rows(folder)]


@pytest.mark.parametrize("durability", ["process", "async"])
def test_a_clock_that_is_set_moves_no_row_and_is_told_once(
    store: Path, durability: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lossbook.journal import clock, writer

    set_by = [0.0]  # hours
    monkeypatch.setattr(clock, "clock_ns", lambda: time.time_ns() + int(set_by[-1] * 3600e9))
    monkeypatch.setattr(writer, "LOOK_SECONDS", 0.0)
    begun = time.time_ns() // 1000
    with lossbook.init(store=store, project="p", console=False, durability=durability) as run:
        for step, hours in enumerate([0.0, 0.0, 5.0, 5.0, -7.0, -7.0, -7.0, 0.0, 0.0]):
            set_by.append(hours)
            run.log({"loss": float(step)}, step=step)
            run.sync()
    times = times_of_rows(only_run(store))
    assert times == sorted(times)
    assert begun - 1e6 <= times[0] <= times[-1] <= time.time_ns() // 1000 + 1e6
    found = recorded(only_run(store))
    wallclock = found.curve("loss", x="wallclock", points=1000).x.tolist()
    assert wallclock == sorted(wallclock)
    (told,) = [row["value"]["message"] for row in found.events(kind="warning")]
    assert "was set forward by 18,000 s" in told


def test_the_time_that_a_machine_sleeps_is_counted(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lossbook.journal import clock, writer

    slept_ns = 0
    real = time.clock_gettime_ns
    monkeypatch.setattr(clock, "clock_ns", lambda: time.time_ns() + slept_ns)
    monkeypatch.setattr(time, "clock_gettime_ns", lambda which: real(which) + slept_ns)
    monkeypatch.setattr(writer, "LOOK_SECONDS", 0.0)
    with lossbook.init(store=store, project="p", console=False) as run:
        run.log({"loss": 1.0}, step=0)
        slept_ns = int(8 * 3600e9)
        run.log({"loss": 2.0}, step=1)
        run.log({"loss": 3.0}, step=2)
    times = times_of_rows(only_run(store))
    assert times == sorted(times)
    assert 8 * 3600 <= (times[-1] - times[0]) / 1e6 < 9 * 3600
    assert list(recorded(only_run(store)).events(kind="warning")) == []


# -- names and folders ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["../../etc", "/etc/passwd", "..", ".", "", " ", "a/b", "\x00", "x" * 5000, "\ud800", "-rf", "~", "名前"]
)
def test_no_name_leaves_the_store(store: Path, tmp_path: Path, name: str) -> None:
    before = {path for path in tmp_path.iterdir() if path != store}
    with lossbook.init(
        store=store,
        project=name,
        name=name,
        id=name,
        group=name,
        notes=name,
        tags=[name],
        config={name: name},
        console=False,
    ) as run:
        run.log({"loss": 1.0})
        run.log({"text": lossbook.Text(name)})
    assert Path(run.path).resolve().is_relative_to(store.resolve())
    assert len(Path(run.path).relative_to(store).parts) == 2
    assert {path for path in tmp_path.iterdir() if path.name not in ("store", "cache")} == before - {tmp_path / "cache"}
    assert len(lossbook.open(store).runs()) == 1
    assert recorded(only_run(store)).metrics["loss"]["count"] == 1


def test_two_runs_of_the_same_name_are_two(store: Path) -> None:
    for number in range(2):
        with lossbook.init(store=store, project="p", name="same", console=False) as run:
            run.log({"loss": number})
    assert len({folder.path for folder in all_runs(store)}) == 2
    assert [one.name for one in lossbook.open(store).runs()] == ["same", "same"]


def test_foreign_files_anywhere_are_passed_over(store: Path) -> None:
    with lossbook.init(store=store, project="p", console=False) as run:
        run.log({"loss": 1.0})
    for folder in (store, store / "p", Path(run.path), *Path(run.path).iterdir()):
        if folder.is_dir():
            (folder / "notes.txt").write_text("mine")
            (folder / ".hidden").mkdir()
            (folder / "a folder").mkdir()
            (folder / "r0-x.jsonl").write_bytes(b"\xff\xfe")
            (folder / "r0-000002.jsonl.bak").write_bytes(b"\xff\xfe")
            (folder / "loop").symlink_to(folder / "loop")
            (folder / "dangling").symlink_to("nowhere")
            os.mkfifo(folder / "pipe")
    found = lossbook.open(store).runs()
    assert [one.id for one in found] == [run.id]
    assert found[0].metrics["loss"]["count"] == 1
    assert found[0].problems() == []
    with lossbook.init(store=store, project="p", console=False) as other:
        other.log({"loss": 2.0})
    assert len(lossbook.open(store).runs()) == 2


def test_a_run_folder_that_was_copied_half_way_gives_what_it_has(store: Path, tmp_path: Path) -> None:
    import shutil

    with lossbook.init(store=store, project="p", console=False) as run:
        for step in range(100):
            run.log({"loss": float(step)}, step=step)
    other = tmp_path / "other"
    copied = other / "p" / run.id / "journal"
    copied.mkdir(parents=True)
    contents = Path(run.path, "journal", "r0-000001.jsonl").read_bytes()
    (copied / "r0-000001.jsonl").write_bytes(contents[: len(contents) // 2])
    os.utime(copied / "r0-000001.jsonl", (0, 0))
    half = lossbook.open(other).run(run.id)
    assert half.metrics["loss"]["count"] in range(40, 60)
    shutil.copy(Path(run.path, "run.json"), copied.parent)
    assert lossbook.open(other).run(run.id).name == run.name


# -- arguments and configuration --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        {"mode": "on"}, {"resume": "maybe"}, {"durability": "none"}, {"resume_step": "ten"}, {"fork_from": "run"},
        {"config": 5}, {"tags": 5}, {"store": 5}, {"store": "s3://bucket"}, {"mirrors": 5},
    ],
    ids=str,
)  # fmt: skip
def test_an_argument_that_cannot_be_meant_is_said_before_anything_is_written(
    store: Path, wrong: dict[str, Any]
) -> None:
    with pytest.raises(BadArgument):
        lossbook.init(**{"store": store, "project": "p", "console": False, **wrong})
    assert not store.exists()


def test_a_configuration_of_anything_is_kept_as_far_as_it_can_be(store: Path) -> None:
    config: dict[Any, Any] = {
        "cycle": cycle(),
        "object": object(),
        "raises": Raises(),
        "huge": 10**30,
        "nan": math.nan,
        "bytes": b"x",
        "array": numpy.arange(3),
        "path": Path("/x"),
        "set": {1},
        5: "five",
        "\ud800": "\ud800",
        "none": None,
    }
    with lossbook.init(store=store, project="p", config=config, console=False) as run:
        run.config.update(config)
        run.config["late"] = {"deep": [1, 2]}
        run.summary.update(
            {"object": object(), "raises": Raises(), "best": numpy.float32(0.5), "text": "x", "nan": math.nan}
        )
    found = recorded(only_run(store))
    assert found.config["array"] == [0, 1, 2]
    assert found.config["late"] == {"deep": [1, 2]}
    assert found.config["5"] == "five"
    assert found.summary["best"] == 0.5
    assert found.summary["text"] == "x"


def test_every_other_call_takes_anything(store: Path) -> None:
    anything: list[Any] = [None, 5, "", "\ud800", object(), math.nan, RaisesUnspeakably()]
    with lossbook.init(store=store, project="p", console=False) as run:
        for one in anything:
            run.alert(one, text=one, level=one)
            run.note(one)
            run.checkpoint(one, step=one, is_best=one)
            run.define_metric(one, x=one, goal=one, unit=one)
            run.log({"loss": 1.0}, ranks=one)
    folder = only_run(store)
    assert row_numbers(folder) == list(range(len(row_numbers(folder))))
    assert recorded(folder).metrics["loss"]["count"] == len(anything)
