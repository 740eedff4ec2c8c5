"""What a training script can rely on: `init()` and `Run`, from the first row to the last."""

from __future__ import annotations

import argparse
import copy
import dataclasses
import json
import math
import multiprocessing
import os
import pickle
import subprocess
import sys
import threading
import weakref
from pathlib import Path
from typing import Any

import numpy
import pytest

import lossbook
from lossbook.errors import BadArgument
from lossbook.journal.reader import journal_segments, read_segment
from lossbook.paths import RunFolder, read_json
from lossbook.run import current
from lossbook.run.distributed import Launch, detect, shared_run_id


@pytest.fixture
def run(store: Path) -> lossbook.Run:
    return lossbook.init(store=store, project="p", console=False)


def rows(run: lossbook.Run, rank: int = 0) -> list[Any]:
    """Every row of a rank of a run that has not been sealed."""
    found = []
    for segment in journal_segments(RunFolder(run.path).journal):
        if segment.name.rank == rank:
            reading = read_segment(segment.path)
            assert reading.problems == []
            found += reading.rows
    return found


def scalars(run: lossbook.Run) -> list[tuple[Any, dict[str, float]]]:
    """The (step, values) of each row of scalars."""
    return [(row.step, row.body) for row in rows(run) if row.kind is None]


def events(run: lossbook.Run, kind: str) -> list[Any]:
    """The contents of the rows of a kind."""
    return [row.body for row in rows(run) if row.kind == kind]


def identity(run: lossbook.Run) -> dict[str, Any]:
    """What `run.json` says."""
    return read_json(RunFolder(run.path).run_json) or {}


# -- beginning ----------------------------------------------------------------------------------------------------


def test_a_run_is_a_folder_that_says_what_it_is(store: Path) -> None:
    run = lossbook.init(
        project="gpt",
        name="baseline",
        config={"lr": 3e-4, "model": {"layers": 4}},
        tags=["a", "b", "a"],
        group="g",
        notes="why",
        store=store,
        console=False,
    )
    assert run.path == str(store / "gpt" / run.id)
    found = identity(run)
    assert {key: found[key] for key in ("format", "id", "name", "project", "config", "tags", "group", "notes")} == {
        "format": 2,
        "id": run.id,
        "name": "baseline",
        "project": "gpt",
        "config": {"lr": 3e-4, "model": {"layers": 4}},
        "tags": ["a", "b"],
        "group": "g",
        "notes": "why",
    }
    (attempt,) = found["attempts"]
    assert (attempt["number"], attempt["pid"], attempt["resume_step"]) == (0, os.getpid(), None)
    assert (run.attempt, run.resumed, run.step) == (0, False, 0)


def test_a_run_without_a_name_is_named_by_its_configuration(store: Path) -> None:
    config = {"model": "gpt2-small", "optimizer": "AdamW", "method": "wanda", "sparsity": 0.5}
    run = lossbook.init(config=config, store=store, console=False)
    assert run.name == f"gpt2-small_AdamW_wanda_50_{run.id[:4]}"
    assert os.path.basename(os.path.dirname(run.path)) == run.project


def test_two_runs_of_one_name_are_two_runs(store: Path) -> None:
    first, second = (lossbook.init(store=store, project="p", name="same", console=False) for _ in range(2))
    assert first.name == second.name
    assert first.path != second.path


def test_a_run_or_project_named_after_a_path_stays_inside_the_store(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = lossbook.init(store=store, project="../../etc", name="../../etc", id="../../etc", console=False)
    assert Path(run.path).resolve().is_relative_to(store)
    assert Path(run.path).parent.parent == store
    assert run.name == "../../etc"
    assert "cannot be a folder name" in capsys.readouterr().err


def test_an_id_that_is_taken_gets_a_number(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [lossbook.init(store=store, project="p", id="mine", console=False) for _ in range(3)]
    assert [run.id for run in runs] == ["mine", "mine-2", "mine-3"]
    assert "exists already; pass resume='allow'" in capsys.readouterr().err


def test_the_environment_stands_in_for_arguments(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = {
        "PROJECT": "p",
        "NAME": "n",
        "GROUP": "g",
        "RUN_ID": "one",
        "STORE": str(store),
        "MIRRORS": "wandb, trackio",
    }
    for name, value in wanted.items():
        monkeypatch.setenv(f"LOSSBOOK_{name}", value)
    run = lossbook.init(console=False)
    assert (run.project, run.name, run.id, run.path) == ("p", "n", "one", str(store / "p" / "one"))
    assert (identity(run)["group"], identity(run)["mirrors"]) == ("g", ["wandb", "trackio"])
    named = lossbook.init(console=False, project="other", name="m", id="two", mirrors="none")
    assert (named.project, named.name, named.id, identity(named)["mirrors"]) == ("other", "m", "two", [])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"mode": "on"}, "online, offline, disabled"),
        ({"resume": "maybe"}, "never, allow, must"),
        ({"durability": "forever"}, "process, async"),
        ({"config": 7}, "config is a dictionary"),
        ({"tags": 7}, "tags is a list"),
        ({"mirrors": 7}, "mirrors is a list"),
        ({"store": 7}, "store is the path"),
        ({"store": "s3://bucket/runs"}, "is no folder"),
        ({"resume_step": "late"}, "resume_step is a whole number"),
        ({"fork_from": "run"}, "pair"),
    ],
)
def test_an_argument_that_cannot_be_meant_is_said_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: dict[str, Any], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadArgument, match=words):
        lossbook.init(**arguments)
    assert os.listdir(tmp_path) == []


def test_a_damaged_setting_of_the_segment_size_does_not_stop_the_import(monkeypatch: pytest.MonkeyPatch) -> None:
    import subprocess

    code = "from lossbook.journal.writer import SEGMENT_BYTES; print(SEGMENT_BYTES)"
    for value, expected in (("8 MB", "8388608"), ("", "8388608"), ("0", "8388608"), ("4096", "4096")):
        monkeypatch.setenv("LOSSBOOK_SEGMENT_BYTES", value)
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == expected


def test_a_run_is_ended_even_when_nobody_holds_it_any_more(store: Path) -> None:
    from lossbook.run import exit_hooks

    path = lossbook.init(store=store, project="p", console=False).path
    lossbook.init(store=store, project="p", console=False)
    assert path in [one.path for one in exit_hooks.live_runs()]


# -- configuration ------------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Inner:
    layers: int = 2


@dataclasses.dataclass
class Settings:
    lr: float = 0.1
    inner: Inner = dataclasses.field(default_factory=Inner)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (None, {}),
        ({"a": {"b": 1}}, {"a": {"b": 1}}),
        (argparse.Namespace(lr=0.1, name="x"), {"lr": 0.1, "name": "x"}),
        (Settings(), {"lr": 0.1, "inner": {"layers": 2}}),
        ({"path": Path("x/y"), "none": None, "set": {2, 1}, "tuple": (1, "a")}, {"path": "x/y", "none": None, "set": [1, 2], "tuple": [1, "a"]}),
        ({"lr": numpy.float32(0.5), "shape": numpy.array([1, 2])}, {"lr": 0.5, "shape": [1, 2]}),
        ({"bad": math.nan, "big": 1 << 80}, {"bad": "NaN", "big": str(1 << 80)}),
        ({7: 1, "lone": "\ud800"}, {"7": 1, "lone": "?"}),
    ],
)  # fmt: skip
def test_a_configuration_is_kept_in_what_json_has(store: Path, config: Any, expected: dict[str, Any]) -> None:
    run = lossbook.init(store=store, config=config, console=False)
    assert identity(run)["config"] == expected
    assert dict(run.config) == expected


def test_secrets_in_a_configuration_are_masked(store: Path) -> None:
    config = {
        "api_key": "abcdef",
        "hf": {"token": "abc"},
        "url": "https://me:hunter2@example.org/x",
        "note": "hf_" + "a" * 30,
        "max_tokens": 1024,
        "tokenizer": "gpt2",
        "pad_token": "<pad>",
    }
    run = lossbook.init(store=store, config=config, console=False)
    run.config["password"] = "hunter2"
    run.config.update({"optim": {"secret_key": "xyz"}})
    text = Path(run.path, "run.json").read_text() + json.dumps([row.body for row in rows(run)])
    for secret in ("abcdef", '"abc"', "hunter2", "a" * 30, "xyz"):
        assert secret not in text
    assert identity(run)["config"] | {"hf": None} == {
        "api_key": "***",
        "hf": None,
        "url": "https://***@example.org/x",
        "note": "***",
        "max_tokens": 1024,
        "tokenizer": "gpt2",
        "pad_token": "<pad>",
    }


def test_a_change_of_the_configuration_is_a_row(run: lossbook.Run) -> None:
    run.config["lr"] = 3e-4
    run.config.update({"a": 1}, b=numpy.float32(2))
    run.config.seed = 7
    del run.config["a"]
    assert events(run, "config") == [{"lr": 3e-4}, {"a": 1, "b": 2.0}, {"seed": 7}, {"a": None}]
    assert (run.config.lr, run.config["seed"], "a" in run.config) == (3e-4, 7, False)
    with pytest.raises(AttributeError, match="there is no 'momentum' here"):
        _ = run.config.momentum


def test_a_copy_of_the_configuration_is_a_plain_dictionary(run: lossbook.Run) -> None:
    run.config.update({"model": {"layers": 2}})
    copied = copy.deepcopy(run.config)
    copied["model"]["layers"] = 3
    assert type(copied) is dict
    assert run.config["model"] == {"layers": 2}
    assert pickle.loads(pickle.dumps(run.config)) == {"model": {"layers": 2}}
    assert len(events(run, "config")) == 1


def test_the_summary_holds_what_the_user_says_in_the_end(run: lossbook.Run) -> None:
    run.summary["params"] = 124_439_808
    run.summary.update({"best": {"loss": math.nan}, "note": "done", "verdict": None})
    assert events(run, "summary") == [{"params": 124_439_808.0}, {"best/loss": "NaN", "note": "done", "verdict": None}]


# -- rows ---------------------------------------------------------------------------------------------------------


def test_log_writes_a_row_with_its_step(run: lossbook.Run) -> None:
    run.log({"train/loss": 3.5, "lr": 3e-4}, step=100)
    run.log({"train/loss": 3.25})
    assert scalars(run) == [(100, {"train/loss": 3.5, "lr": 3e-4}), (101, {"train/loss": 3.25})]
    assert (run.step, run.last_step) == (102, 101)


def test_steps_may_come_in_any_order(run: lossbook.Run) -> None:
    for step in (5, 3, -7, 1 << 62, 0):
        run.log({"x": 1.0}, step)
    assert [step for step, _ in scalars(run)] == [5, 3, -7, 1 << 62, 0]


@pytest.mark.parametrize("step", [7.0, numpy.int32(7), numpy.array(7), True + 6, "7"])
def test_a_step_of_another_type_is_made_whole(run: lossbook.Run, step: Any) -> None:
    run.log({"x": 1.0}, step)
    assert scalars(run) == [(7, {"x": 1.0})]


@pytest.mark.parametrize("step", ["late", math.nan, [1], 1 << 70, object()])
def test_a_step_that_is_none_costs_the_step_and_not_the_row(
    run: lossbook.Run, step: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    run.log({"x": 1.0}, 3)
    run.log({"x": 2.0}, step)
    assert scalars(run)[1] == (4, {"x": 2.0})
    assert "the row gets the next step" in capsys.readouterr().err


def test_nan_and_infinities_come_back(run: lossbook.Run) -> None:
    run.log({"a": math.nan, "b": math.inf, "c": -math.inf, "d": 1.0}, 0)
    ((_, body),) = scalars(run)
    assert math.isnan(body.pop("a"))
    assert body == {"b": math.inf, "c": -math.inf, "d": 1.0}


def test_an_empty_dictionary_is_a_row_too(run: lossbook.Run) -> None:
    run.log({}, step=3)
    run.log({})
    assert scalars(run) == [(3, {}), (4, {})]


def test_log_never_raises_and_says_each_thing_once(run: lossbook.Run, capsys: pytest.CaptureFixture[str]) -> None:
    for step in range(3):
        run.log({"loss": 1.0, "prompt": "hello", "image": object()}, step)
    run.log(None)  # type: ignore[arg-type]
    assert [body for _, body in scalars(run)] == [{"loss": 1.0}] * 3
    assert len(events(run, "warning")) == 7, "each is recorded"
    said = capsys.readouterr().err
    assert (said.count("'prompt'"), said.count("'image'")) == (1, 1), "and printed the first time"


def test_a_value_that_was_logged_is_not_held(run: lossbook.Run) -> None:
    class Loss(float):
        """A number that can be watched."""

    class Tensor:
        def item(self) -> float:
            return 2.0

    loss, tensor = Loss(1.0), Tensor()
    seen = [weakref.ref(loss), weakref.ref(tensor)]
    run.log({"a": loss})
    run.log({"a": tensor})
    del loss, tensor
    assert [watched() for watched in seen] == [None, None]
    assert [values for _, values in scalars(run)] == [{"a": 1.0}, {"a": 2.0}]


def test_media_become_rows_of_their_own_at_the_step_of_their_scalars(run: lossbook.Run) -> None:
    run.log(
        {
            "loss": 1.0,
            "sample": lossbook.Text("once upon"),
            "weights": lossbook.Histogram([1.0, 2.0], bins=2),
            "scores": lossbook.Table(columns=["a"], rows=[[1]]),
            "picture": lossbook.Image(numpy.zeros((2, 2), dtype=numpy.uint8)),
        },
        step=9,
    )
    found = {row.key: (row.kind, row.step) for row in rows(run) if row.key}
    assert found == {
        "sample": ("text", 9),
        "weights": ("histogram", 9),
        "scores": ("table", 9),
        "picture": ("image", 9),
    }
    assert scalars(run) == [(9, {"loss": 1.0})]
    (picture,) = events(run, "image")
    assert Path(run.path, picture["file"]).read_bytes().startswith(b"\x89PNG")


def test_media_alone_take_the_next_step(run: lossbook.Run) -> None:
    run.log({"loss": 1.0}, 4)
    run.log({"sample": lossbook.Text("x")})
    assert [row.step for row in rows(run) if row.kind == "text"] == [5]
    assert run.step == 6


def test_everything_else_that_can_be_said_is_a_row(run: lossbook.Run, tmp_path: Path) -> None:
    run.log({"loss": 1.0}, step=7)
    run.define_metric("val/*", x="tokens", goal="minimize", unit="nats")
    run.alert("loss spike", "it doubled", level="ERROR")
    run.checkpoint(tmp_path / "model.pt", is_best=True)
    run.note("a thought")
    assert events(run, "define") == [{"pattern": "val/*", "x": "tokens", "goal": "minimize", "unit": "nats"}]
    assert events(run, "alert") == [{"title": "loss spike", "text": "it doubled", "level": "error"}]
    assert events(run, "checkpoint") == [{"path": str(tmp_path / "model.pt"), "is_best": True}]
    assert events(run, "note") == [{"text": "a thought"}]
    assert {row.step for row in rows(run) if row.kind in ("alert", "checkpoint", "note")} == {7}


@pytest.mark.parametrize(
    ("given", "kept"), [("warn", "warning"), ("WARNING", "warning"), ("info", "info"), ("loud", "warning")]
)
def test_an_alert_has_one_of_three_levels(run: lossbook.Run, given: str, kept: str) -> None:
    run.alert("x", level=given)
    assert [one["level"] for one in events(run, "alert")] == [kept]


def test_a_goal_that_is_none_is_left_out(run: lossbook.Run, capsys: pytest.CaptureFixture[str]) -> None:
    run.define_metric("loss", goal="down")
    assert events(run, "define") == [{"pattern": "loss"}]
    assert "use one of minimize, maximize" in capsys.readouterr().err


def test_what_is_printed_is_kept_until_the_end(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = lossbook.init(store=store, project="p")
    print("step 1, loss 3.5")
    print("careful", file=sys.stderr)
    run.finish()
    print("afterwards")
    text = Path(run.path, "console", "r0.log").read_text()
    assert "step 1, loss 3.5\n" in text
    assert "careful\n" in text
    assert "afterwards" not in text
    assert "step 1, loss 3.5\n" in capsys.readouterr().out


# -- one process, several threads and children ------------------------------------------------------------------------


def test_threads_may_log_to_one_run(run: lossbook.Run) -> None:
    def log(number: int) -> None:
        for step in range(200):
            run.log({f"thread/{number}": step, "nan": math.nan}, step=step)

    threads = [threading.Thread(target=log, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [row.i for row in rows(run)] == list(range(801))


def log_in_child(run: lossbook.Run, number: int) -> None:
    run.alert(f"child {number} begins")
    for step in range(5):
        run.log({f"child/{number}": float(step)}, step=step)
    run.finish()


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_children_log_to_the_same_run_in_journals_of_their_own(
    run: lossbook.Run, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run.log({"parent": 1.0}, step=0)
    context = multiprocessing.get_context(method)
    children = [context.Process(target=log_in_child, args=(run, number)) for number in range(2)]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
    assert [child.exitcode for child in children] == [0, 0]
    run.log({"parent": 2.0}, step=1)
    found: dict[str, list[int | None]] = {}
    for rank in (-1, -2):
        mine = rows(run, rank)
        assert [row.i for row in mine] == list(range(7)), "attempt, alert, five rows"
        assert mine[0].kind == "attempt"
        for row in mine:
            for key in row.body if row.kind is None else ():
                found.setdefault(key, []).append(row.step)
    assert found == {"child/0": [0, 1, 2, 3, 4], "child/1": [0, 1, 2, 3, 4]}
    assert [row.i for row in rows(run)] == [0, 1, 2]


def test_a_copied_run_is_the_same_run(run: lossbook.Run) -> None:
    assert copy.copy(run) is run
    assert copy.deepcopy({"callback": [run]})["callback"][0] is run


# -- the end ------------------------------------------------------------------------------------------------------


def test_finish_says_so_and_a_second_one_nothing(run: lossbook.Run) -> None:
    run.finish()
    run.finish("failed")
    assert events(run, "finish") == [{"state": "finished", "error": None}]


@pytest.mark.parametrize("state", ["failed", "interrupted", "killed"])
def test_finish_takes_another_state(run: lossbook.Run, state: str) -> None:
    run.finish(state)
    assert [one["state"] for one in events(run, "finish")] == [state]


def test_a_state_that_is_none_finishes_the_run(run: lossbook.Run, capsys: pytest.CaptureFixture[str]) -> None:
    run.finish("done")
    assert [one["state"] for one in events(run, "finish")] == ["finished"]
    assert "use one of finished, failed, interrupted, killed" in capsys.readouterr().err


def test_after_the_end_everything_is_said_and_nothing_recorded(
    run: lossbook.Run, capsys: pytest.CaptureFixture[str]
) -> None:
    run.log({"loss": 1.0}, 0)
    run.finish()
    before = len(rows(run))
    run.log({"loss": 2.0})
    run.log({"loss": 2.0}, ranks="all")
    run.alert("late")
    run.config["lr"] = 1
    assert run.sync()
    assert len(rows(run)) == before
    assert "after finish()" in capsys.readouterr().err


def test_leaving_a_with_block_ends_the_run_as_it_was_left(store: Path) -> None:
    with lossbook.init(store=store, project="p", console=False) as run:
        run.log({"loss": 1.0})
    assert [one["state"] for one in events(run, "finish")] == ["finished"]
    with pytest.raises(ZeroDivisionError), lossbook.init(store=store, project="p", console=False) as run:
        run.log({"loss": 1 / 0})
    (ending,) = events(run, "finish")
    assert ending["state"] == "failed"
    assert ending["error"].endswith("ZeroDivisionError: division by zero")


# -- the module's own functions, and runs that record nothing -----------------------------------------------------


def test_the_module_logs_to_the_run_that_was_begun_last(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lossbook.log({"loss": 0.0})
    assert "call lossbook.init() first" in capsys.readouterr().err
    run = lossbook.init(store=store, project="p", console=False)
    assert lossbook.run is run
    lossbook.log({"loss": 1.0}, step=3)
    lossbook.finish()
    assert lossbook.run is None
    assert scalars(run) == [(3, {"loss": 1.0})]
    assert len(events(run, "finish")) == 1
    lossbook.finish()


def test_a_disabled_run_takes_every_call_and_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LOSSBOOK_MODE", "disabled")
    with lossbook.init(config={"lr": 0.1}, project="p") as run:
        run.log({"loss": object()}, step="x")  # type: ignore[arg-type]
        run.define_metric("loss")
        run.alert("x")
        run.checkpoint("x")
        run.note("x")
        run.config["seed"] = run.config["lr"]
        run.summary["x"] = 1
        assert run.sync()
        assert dict(run.config) == {"lr": 0.1, "seed": 0.1}
    assert (run.mode, run.path) == ("disabled", "")
    assert os.listdir(tmp_path) == []


def test_a_disabled_run_has_every_public_name_of_a_run() -> None:
    disabled = lossbook.init(mode="disabled")
    for name in dir(lossbook.Run):
        if not name.startswith("_"):
            getattr(disabled, name)
    for name in ("id", "name", "project", "path", "attempt", "resumed", "mode", "config", "summary"):
        getattr(disabled, name)


def test_a_run_that_cannot_be_recorded_still_takes_every_call(
    store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*arguments: Any, **named: Any) -> Any:
        raise RuntimeError("no such thing")

    monkeypatch.setattr(current, "begin", refuse)
    run = lossbook.init(store=store, config={"lr": 0.1})
    run.log({"loss": 1.0})
    assert run.config["lr"] == 0.1
    assert "nothing of this run is recorded" in capsys.readouterr().err


def test_a_follower_that_cannot_be_started_costs_one_sentence(
    store: Path, follower: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    run = lossbook.init(store=store, console=False)
    run.log({"loss": 1.0})
    assert "`lossbook seal` does its work later" in capsys.readouterr().err


# -- many ranks ---------------------------------------------------------------------------------------------------


def place(monkeypatch: pytest.MonkeyPatch, rank: int, **more: str) -> Launch:
    """This process's place when a launcher on this machine says that it is that one of two."""
    wanted = {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "localhost",
        "MASTER_PORT": "29500",
    }
    for name, value in (wanted | more).items():
        monkeypatch.setenv(name, value)
    return detect()


def test_without_a_launcher_a_process_is_alone() -> None:
    assert detect() == Launch(0, 0, 1, "", 0)


def test_the_ranks_of_one_launch_arrive_at_one_run_by_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = place(monkeypatch, 0), place(monkeypatch, 1)
    assert (first.rank, second.rank, first.world_size) == (0, 1, 2)
    assert shared_run_id(first, 0) == shared_run_id(second, 0)
    assert shared_run_id(first, 0) != shared_run_id(first, 1), "the second run of the same processes is another"
    assert shared_run_id(place(monkeypatch, 0, MASTER_PORT="29501"), 0) != shared_run_id(first, 0)


@pytest.mark.parametrize("values", [("x", "2"), ("2", "2"), ("-1", "2"), ("0", "0"), ("0", "")])
def test_a_place_that_cannot_be_is_none(monkeypatch: pytest.MonkeyPatch, values: tuple[str, str]) -> None:
    monkeypatch.setenv("RANK", values[0])
    monkeypatch.setenv("WORLD_SIZE", values[1])
    assert detect().world_size == 1


def test_the_variables_of_slurm_alone_may_be_those_of_a_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_PROCID", "3")
    monkeypatch.setenv("SLURM_NTASKS", "8")
    assert detect().world_size == 1
    monkeypatch.setenv("MASTER_ADDR", "node-1")
    assert (detect().rank, detect().world_size) == (3, 8)


def test_rank_0_writes_the_run_and_the_others_what_is_asked_of_all(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = []
    for rank in (0, 1):
        place(monkeypatch, rank)
        # Each rank is a process of its own: none of them has begun a run before.
        monkeypatch.setattr(current, "runs_begun", 0)
        runs.append(lossbook.init(store=store, project="p", config={"lr": rank}, console=False))
    first, second = runs
    assert first.path == second.path
    for run in runs:
        run.log({"loss": 1.0}, step=0)
        run.config["seed"] = 1
    assert rows(first, 1) == [], "a rank that has nothing to add has no journal"
    for run in runs:
        run.log({"memory": 2.0}, step=1, ranks="all")
        run.log({"memory": math.nan}, step=2, ranks="all")
        run.finish()
    assert identity(first)["config"] == {"lr": 0}
    assert [row.kind or row.step for row in rows(first, 0)] == ["attempt", 0, "config", 1, 2, "finish"]
    assert [row.kind or row.step for row in rows(first, 1)] == ["attempt", 1, 2, "finish"]
    assert [row.i for row in rows(first, 1)] == [0, 1, 2, 3]
    table = lossbook.open(store).run(first.id).history(["memory"], ranks=True)
    assert sorted((row["step"], row["rank"]) for row in table.dicts()) == [(1, 0), (1, 1), (2, 0), (2, 1)]


def test_a_restart_by_torchrun_is_another_attempt_of_the_same_run(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for restart in (0, 1):
        for rank in (0, 1):
            place(monkeypatch, rank, TORCHELASTIC_RESTART_COUNT=str(restart))
            monkeypatch.setattr(current, "runs_begun", 0)
            run = lossbook.init(store=store, project="p", console=False)
            run.log({"memory": 1.0}, step=restart, ranks="all")
            run.finish()
            assert run.attempt == restart
    assert [one["number"] for one in identity(run)["attempts"]] == [0, 1]
    assert [row.i for row in rows(run, 1)] == list(range(6))


def test_a_rank_that_is_not_known_is_said_and_the_row_kept(
    run: lossbook.Run, capsys: pytest.CaptureFixture[str]
) -> None:
    run.log({"loss": 1.0}, step=0, ranks="some")
    assert scalars(run) == [(0, {"loss": 1.0})]
    assert "use ranks='all'" in capsys.readouterr().err


@pytest.mark.parametrize("named", [True, False])
def test_a_run_begins_in_a_working_directory_that_was_removed(tmp_path: Path, named: bool) -> None:
    """With a store named it is there; without one it is kept in the cache, and one sentence says where."""
    store = tmp_path / "store"
    program = (
        "import os, sys, tempfile\n"
        "gone = tempfile.mkdtemp(); os.chdir(gone); os.rmdir(gone)\n"
        "import lossbook\n"
        "run = lossbook.init(project='p', id='r', store=sys.argv[1] or None, console=False)\n"
        "run.log({'loss': 1.0})\n"
        "run.checkpoint('model.pt')\n"
        "run.finish()\n"
        "print(run.path)\n"
    )
    ended = subprocess.run([sys.executable, "-c", program, str(store) if named else ""], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    kept = store if named else tmp_path / "cache" / "rescued"
    assert ended.stdout.strip() == str(kept / "p" / "r")
    assert (str(kept) in ended.stderr) is not named
    assert len(lossbook.open(kept).run("r").history(["loss"]).rows()) == 1
