"""Training code written for W&B runs on Lossbook with its import line changed."""

from __future__ import annotations

import argparse
import copy
import datetime
import inspect
import json
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy
import pytest

import lossbook
import lossbook as wandb
from lossbook.compat.wandb import unknown_names
from lossbook.errors import BadArgument, StoreError
from lossbook.journal.reader import journal_segments, read_segment
from lossbook.paths import RunFolder, read_json
from lossbook.run import messages

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working directory and a store of the test's own; nothing has been said yet."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LOSSBOOK_STORE", str(store))
    monkeypatch.setattr(messages, "said", set())


def rows(run: Any) -> list[Any]:
    """Every row of rank 0, in order."""
    return [row for part in journal_segments(RunFolder(run.path).journal) for row in read_segment(part.path).rows]


def scalars(run: Any) -> list[tuple[Any, dict[str, float]]]:
    return [(row.step, row.body) for row in rows(run) if row.kind is None]


def events(run: Any, kind: str) -> list[Any]:
    return [row.body for row in rows(run) if row.kind == kind]


def identity(run: Any) -> dict[str, Any]:
    return read_json(RunFolder(run.path).run_json) or {}


def run_script(script: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a training script in a process of its own, warnings as errors."""
    Path("train.py").write_text(textwrap.dedent(script))
    return subprocess.run(
        [sys.executable, "-W", "error", "train.py", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), **variables},
    )


# -- scripts as people have them ----------------------------------------------------------------------------------


def test_a_script_in_the_manner_of_nanogpt() -> None:
    done = run_script(
        """
        import os, time, math
        wandb_log = True
        wandb_project = 'owt'
        wandb_run_name = 'gpt2' + str(int(time.time()))
        learning_rate, max_iters, eval_interval = 6e-4, 20, 5
        config_keys = [k for k, v in globals().items() if not k.startswith('_') and isinstance(v, (int, float, bool, str))]
        config = {k: globals()[k] for k in config_keys}
        master_process = True
        if wandb_log and master_process:
            import lossbook as wandb
            wandb.init(project=wandb_project, name=wandb_run_name, config=config)
        iter_num, running_mfu = 0, -1.0
        while True:
            lr = learning_rate * (1 - iter_num / max_iters)
            if iter_num % eval_interval == 0 and master_process:
                losses = {'train': 10 / (iter_num + 1), 'val': 11 / (iter_num + 1)}
                if wandb_log:
                    wandb.log({
                        "iter": iter_num,
                        "train/loss": losses['train'],
                        "val/loss": losses['val'],
                        "lr": lr,
                        "mfu": running_mfu*100, # convert to percentage
                    })
            iter_num += 1
            if iter_num > max_iters:
                break
        """
    )
    assert (done.returncode, done.stderr) == (0, "")
    run = lossbook.open().run("latest")
    assert (run.project, run.state) == ("owt", "finished")
    assert (run.config["learning_rate"], run.config["wandb_log"]) == (6e-4, True)
    assert run.history(["iter", "val/loss"]).rows()[-1][-2:] == (20.0, 11 / 21)


def test_a_script_in_the_manner_of_the_pytorch_examples() -> None:
    pytest.importorskip("torch")
    done = run_script(
        """
        import argparse
        import torch
        import torch.nn as nn
        import torch.nn.functional as F
        import lossbook as wandb

        def main():
            parser = argparse.ArgumentParser()
            parser.add_argument('--lr', type=float, default=0.1)
            parser.add_argument('--epochs', type=int, default=2)
            args = parser.parse_args()
            wandb.init(project="pytorch-mnist", job_type="train", tags=["cnn"])
            wandb.config.update(args)
            config = wandb.config
            torch.manual_seed(1)
            model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(2 * 6 * 6, 10))
            wandb.watch(model, log="all", log_freq=2)
            optimizer = torch.optim.SGD(model.parameters(), lr=config.lr)
            pictures = torch.rand(4, 1, 8, 8)
            for epoch in range(1, config.epochs + 1):
                for batch in range(3):
                    optimizer.zero_grad()
                    loss = F.cross_entropy(model(pictures), torch.tensor([0, 1, 2, 3]))
                    loss.backward()
                    optimizer.step()
                example_images = [wandb.Image(data, caption=f"Pred: {n}") for n, data in enumerate(pictures[:2])]
                wandb.log({"Examples": example_images, "Test Accuracy": 100. * torch.rand(()), "Test Loss": loss, "epoch": epoch})
            torch.save(model.state_dict(), "model.h5")
            wandb.save("model.h5")
            wandb.run.summary["best_accuracy"] = 0.9
            wandb.run.summary.update({"params": sum(p.numel() for p in model.parameters())})

        main()
        """
    )
    assert (done.returncode, done.stderr) == (0, "")
    run = lossbook.open().run("latest")
    assert (run.config, run.info.job_type) == ({"lr": 0.1, "epochs": 2}, "train")
    assert run.summary == {"best_accuracy": 0.9, "params": 20 + 730}
    assert {"Test Loss", "gradients/norm/total", "gradients/norm/0.weight"} <= set(run.keys())
    assert [event["value"]["caption"] for event in run.events("image")] == ["Pred: 0", "Pred: 1"] * 2
    assert {event["key"] for event in run.events("histogram")} >= {"parameters/2.weight", "gradients/2.weight"}
    (saved,) = run.events("file")
    assert (Path(run.path) / saved["value"]["file"]).read_bytes() == Path("model.h5").read_bytes()
    assert run.problems() == []


def test_a_script_in_the_manner_of_hugging_face_with_resume_and_metric_definitions(store: Path) -> None:
    script = """
        import os, sys
        import lossbook as wandb

        os.environ.setdefault("WANDB_PROJECT", "huggingface")
        first, last = int(sys.argv[1]), int(sys.argv[2])
        if wandb.run is None:
            wandb.init(project=os.getenv("WANDB_PROJECT", "huggingface"), name="bert", id="bert-1", resume="allow",
                       config={"seed": 42, "model": {"hidden_size": 64}}, group="glue", notes="a try", entity="team",
                       settings=wandb.Settings(start_method="fork", init_timeout=300))
        wandb.config.update({"num_params": 1000}, allow_val_change=True)
        wandb.define_metric("train/global_step")
        wandb.define_metric("*", step_metric="train/global_step", step_sync=True)
        wandb.define_metric("eval/loss", summary="min")
        for step in range(first, last):
            wandb.log({"train/loss": 1 / (step + 1), "train/global_step": step})
        if wandb.run is not None:
            wandb.run.tags = wandb.run.tags + ("done",) if wandb.run.tags else ("done",)
        wandb.finish()
    """
    assert [run_script(script, *span).stderr for span in (("0", "5"), ("5", "8"))] == ["", ""]
    run = lossbook.open().run("bert-1", project="huggingface")
    assert (run.name, run.group, run.notes, run.tags, len(run.attempts)) == ("bert", "glue", "a try", ["done"], 2)
    assert run.config == {"seed": 42, "model": {"hidden_size": 64}, "num_params": 1000}
    history = run.history(["train/loss", "train/global_step"]).rows()
    assert [row[-1] for row in history] == list(range(8))
    assert run.info.entity == "team"


def test_a_sweep_of_runs_in_one_process() -> None:
    for rate in (0.1, 0.2):
        run = wandb.init(project="sweep", group="rates", config={"lr": rate}, reinit=True)
        with run:
            for step in range(3):
                run.log({"loss": rate * step}, step=step)
    found = lossbook.open().runs(project="sweep", where="group = 'rates'", sort="config.lr")
    assert [(run.config["lr"], run.state, run.metrics["loss"]["last"]) for run in found] == [
        (0.1, "finished", 0.2),
        (0.2, "finished", 0.4),
    ]


# -- init -----------------------------------------------------------------------------------------------------------


def test_init_takes_every_argument_of_the_real_one_and_refuses_others() -> None:
    run = wandb.init(
        entity="e",
        project="p",
        dir="d",
        id="one",
        name="n",
        notes="why",
        tags=["a"],
        config={"a": 1, "b": 2},
        config_exclude_keys=["b"],
        config_include_keys=None,
        allow_val_change=True,
        group="g",
        job_type="eval",
        mode="online",
        force=True,
        reinit="create_new",
        resume="allow",
        resume_from=None,
        fork_from=None,
        save_code=True,
        tensorboard=False,
        sync_tensorboard=None,
        monitor_gym=None,
        settings=None,
        anonymous=None,
    )
    found = identity(run)
    assert {key: found[key] for key in ("id", "name", "notes", "tags", "config", "group", "entity", "job_type")} == {
        "id": "one",
        "name": "n",
        "notes": "why",
        "tags": ["a"],
        "config": {"a": 1},
        "group": "g",
        "entity": "e",
        "job_type": "eval",
    }
    with pytest.raises(TypeError, match="unexpected keyword argument 'projekt'"):
        wandb.init(projekt="p")  # type: ignore[call-arg]


def test_the_folder_of_init_and_of_the_environment_holds_the_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOSSBOOK_STORE")
    named = wandb.init(project="p", dir="here", console=False)
    assert Path(named.path).is_relative_to(Path("here/lossbook-runs").resolve())
    monkeypatch.setenv("WANDB_DIR", "there")
    fallen_back = wandb.init(project="p", console=False)
    assert Path(fallen_back.path).is_relative_to(Path("there/lossbook-runs").resolve())
    assert [run.id for run in lossbook.open().runs()] == [fallen_back.id]


def test_the_variables_of_wandb_stand_behind_arguments_and_behind_our_own(monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = {
        "PROJECT": "p",
        "NAME": "n",
        "RUN_GROUP": "g",
        "TAGS": "a, b",
        "NOTES": "why",
        "RUN_ID": "one",
        "MODE": "dryrun",
    }
    for name, value in theirs.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    run = wandb.init(console=False)
    found = identity(run)
    assert [found[key] for key in ("project", "name", "group", "tags", "notes", "id", "mode")] == [
        "p",
        "n",
        "g",
        ["a", "b"],
        "why",
        "one",
        "offline",
    ]
    assert run.offline
    monkeypatch.setenv("LOSSBOOK_PROJECT", "ours")
    monkeypatch.setenv("LOSSBOOK_MODE", "online")
    again = wandb.init(name="m", id="two", tags=["c"], console=False)
    assert (again.project, again.name, again.id, again.tags, again.mode) == ("ours", "m", "two", ("c",), "online")


@pytest.mark.parametrize(("name", "value"), [("WANDB_DISABLED", "true"), ("WANDB_MODE", "disabled")])
def test_a_variable_that_turns_the_run_off_says_so(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], store: Path
) -> None:
    monkeypatch.setenv(name, value)
    run = wandb.init(project="p")
    run.log({"loss": 1})
    assert run.disabled
    assert not store.exists()
    assert f"{name}" in capsys.readouterr().err
    assert not wandb.init(project="p", mode="online", console=False).disabled


def test_an_unknown_mode_in_the_environment_is_passed_over(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WANDB_MODE", "sometimes")
    assert wandb.init(project="p", console=False).mode == "online"
    assert "WANDB_MODE='sometimes' is not known" in capsys.readouterr().err


@pytest.mark.parametrize("how", [{"resume": "auto"}, {"resume": True}, {}])
def test_resuming_automatically_goes_on_with_the_latest_run_unless_that_finished(
    how: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    if not how:
        monkeypatch.setenv("WANDB_RESUME", "auto")
    failed = wandb.init(project="p", console=False)
    failed.log({"loss": 1.0})
    failed.finish(exit_code=1)
    again = wandb.init(project="p", console=False, **how)
    assert (again.id, again.resumed, again.step) == (failed.id, True, 1)
    beside = wandb.init(project="p", console=False, **how)  # the latest still goes on
    assert beside.id != failed.id
    beside.finish()
    assert wandb.init(project="p", console=False, **how).id not in (failed.id, beside.id)


def test_a_killed_run_is_resumed_automatically() -> None:
    script = (
        "import os, signal, lossbook as wandb; wandb.init(project='p'); wandb.log({'a': 1}); os.kill(os.getpid(), 9)"
    )
    assert run_script(script).returncode == -9
    (killed,) = (path.parent.name for path in Path(os.environ["LOSSBOOK_STORE"]).glob("p/*/run.json"))
    assert wandb.init(project="p", resume="auto", console=False).id == killed


def test_moments_of_runs_are_resumed_and_forked_from() -> None:
    first = wandb.init(project="p", id="first", console=False)
    for step in range(5):
        first.log({"loss": float(step)})
    first.finish()
    rewound = wandb.init(project="p", resume_from="first?_step=2", console=False)
    assert (rewound.id, rewound.step, rewound.starting_step) == ("first", 3, 3)
    rewound.finish()
    fork = wandb.init(project="p", fork_from="first?_step=1", console=False)
    assert identity(fork)["parent"] | {"created": 0} == {"project": "p", "run": "first", "step": 1, "created": 0}
    with pytest.raises(BadArgument, match=r"run-id\?_step=100"):
        wandb.init(project="p", resume_from="first")


def test_what_becomes_of_a_run_that_goes_on_is_the_users_choice() -> None:
    first = wandb.init(project="p", console=False)
    assert wandb.init(project="p", reinit="return_previous") is first
    beside = wandb.init(project="p", reinit="create_new", console=False)
    assert (wandb.run is first, beside.id != first.id) == (True, True)
    third = wandb.init(project="p", reinit="finish_previous", console=False)
    assert wandb.run is third
    assert events(first, "finish") == [{"state": "finished", "error": None}]
    beside.finish()


def test_a_configuration_may_be_a_yaml_file() -> None:
    Path("config.yaml").write_text("wandb_version: 1\nlr:\n  desc: rate\n  value: 3e-4\nbatch:\n  value: 8\n")
    assert dict(wandb.init(project="p", config="config.yaml", console=False).config) == {"lr": 3e-4, "batch": 8}
    Path("plain.yaml").write_text("lr: 0.2\n")
    run = wandb.init(project="p", config=Path("plain.yaml"), console=False)  # type: ignore[arg-type, unused-ignore]
    assert dict(run.config) == {"lr": 0.2}
    for name, text in (("broken.yaml", "a: [1"), ("list.yaml", "- 1")):
        Path(name).write_text(text)
        with pytest.raises(BadArgument, match=name):
            wandb.init(project="p", config=name)
    with pytest.raises(BadArgument, match="cannot be read"):
        wandb.init(project="p", config="missing.yaml")


# -- log and finish -------------------------------------------------------------------------------------------------


def test_uncommitted_rows_are_written_at_once_and_share_the_step_of_the_next() -> None:
    run = wandb.init(project="p", console=False)
    wandb.log({"a": 1.0}, commit=False)
    assert scalars(run) == [(0, {"a": 1.0})]
    wandb.log({"b": float("nan"), "picture": wandb.Image(numpy.zeros((2, 2)))}, commit=False)
    wandb.log({"c": 3.0})
    wandb.log({"a": 4.0}, commit=True)
    wandb.log({"a": 5.0}, 10, False)
    wandb.log(data={"a": 6.0}, step=3)
    assert [(step, list(values)) for step, values in scalars(run)] == [
        (0, ["a"]),
        (0, ["b"]),
        (0, ["c"]),
        (1, ["a"]),
        (10, ["a"]),
        (3, ["a"]),
    ]
    assert [row.step for row in rows(run) if row.kind == "image"] == [0]


@pytest.mark.parametrize(
    ("arguments", "state"),
    [
        ({}, "finished"),
        ({"exit_code": 0}, "finished"),
        ({"exit_code": 1}, "failed"),
        ({"exit_code": 255, "quiet": True}, "failed"),
    ],
)
def test_an_exit_code_is_the_state_of_the_run(arguments: dict[str, Any], state: str) -> None:
    run = wandb.init(project="p", console=False)
    wandb.finish(**arguments)
    assert wandb.run is None
    assert events(run, "finish") == [{"state": state, "error": None}]


def test_before_init_nothing_raises_and_each_word_says_so_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert wandb.run is None
    for _ in range(2):
        wandb.log({"a": 1})
        wandb.config.lr = 1
        wandb.config.update({"lr": 1})
        wandb.summary["a"] = 1
        wandb.save("*.py")
        wandb.alert("title", "text")
        wandb.define_metric("a")
        wandb.watch(None)
        wandb.log_artifact("nothing.txt")
        wandb.finish()
    said = capsys.readouterr().err.splitlines()
    assert len(said) == len(set(said)) == 8
    assert "lr" not in wandb.config
    with pytest.raises(wandb.Error, match="needs a run"):
        wandb.use_artifact("model:latest")


def test_config_and_summary_of_the_module_are_those_of_the_current_run() -> None:
    run = wandb.init(project="p", config=argparse.Namespace(lr=0.1), console=False)
    wandb.config.batch = 8
    wandb.config["lr"] = 0.2
    wandb.config.setdefaults({"lr": 9.0, "epochs": 3})
    wandb.config.setdefault("seed", 1)
    wandb.config = {"late": True}
    assert (
        wandb.config.as_dict()
        == dict(run.config)
        == {
            "lr": 0.2,
            "batch": 8,
            "epochs": 3,
            "seed": 1,
            "late": True,
        }
    )
    assert (wandb.config.lr, wandb.config.get("nothing"), "batch" in wandb.config) == (0.2, None, True)
    wandb.summary["best"] = 1.0
    wandb.run.summary.update({"worst": 2.0})
    assert dict(wandb.summary) == {"best": 1.0, "worst": 2.0}


def test_absl_flags_and_enums_are_configurations() -> None:
    flags = SimpleNamespace(flag_values_dict=lambda: {"lr": 0.1})
    run = wandb.init(project="p", console=False)
    wandb.config.update(flags)
    assert dict(run.config) == {"lr": 0.1}


# -- what a run is --------------------------------------------------------------------------------------------------


def test_who_the_run_is_can_be_asked_and_changed() -> None:
    run = wandb.init(project="p", name="first", tags=["a"], group="g", console=False)
    run.name = "second"
    run.tags += ("b", "a")
    run.notes = "why"
    found = identity(run)
    assert (found["name"], found["tags"], found["notes"], found["config"]) == ("second", ["a", "b"], "why", {})
    assert (run.name, run.tags, run.notes, run.group) == ("second", ("a", "b"), "why", "g")
    assert run.url == run.get_url() == Path(run.path).as_uri()
    assert run.start_time == pytest.approx(found["created"] / 1e6)
    assert (run.disabled, run.offline, run.resumed, run.entity, run.sweep_id) == (False, False, False, "local", None)
    assert run.settings.run_id == run.id
    Path(run.dir, "note.txt").write_text("x")
    assert Path(run.dir).parent == Path(run.path)


def test_an_alert_of_one_title_waits() -> None:
    run = wandb.init(project="p", console=False)
    for _ in range(3):
        wandb.alert("slow", "very", wandb.AlertLevel.ERROR, 300)
        wandb.alert(title="low", text="x", level="INFO", wait_duration=datetime.timedelta(minutes=5))
        run.alert("each", "time")
    found = [(one["title"], one["level"]) for one in events(run, "alert")]
    assert found == [("slow", "error"), ("low", "info"), ("each", "warning"), ("each", "warning"), ("each", "warning")]


def test_metrics_are_defined_in_the_words_of_both() -> None:
    run = wandb.init(project="p", console=False)
    wandb.define_metric("val/*", "epoch", summary="min", hidden=True)
    run.define_metric("train/*", x="tokens", goal="minimize")
    assert events(run, "define") == [
        {"pattern": "val/*", "x": "epoch", "summary": "min", "hidden": True},
        {"pattern": "train/*", "x": "tokens", "goal": "minimize"},
    ]


def test_a_disabled_run_takes_everything(tmp_path: Path) -> None:
    run = wandb.init(project="p", mode="disabled", tags=["a"])
    before = sorted(os.listdir(tmp_path))
    run.name, run.tags, run.notes = "n", ("b",), "x"
    wandb.log({"a": 1}, step=1, commit=False)
    wandb.alert("a", "b", wandb.AlertLevel.WARN, 10)
    wandb.define_metric("a", step_metric="b")
    assert (wandb.save("*"), run.url, run.disabled, run.step) == ([], None, True, 0)
    artifact = wandb.Artifact("data", type="dataset")
    artifact.add_file(__file__)
    assert wandb.log_artifact(artifact) is artifact
    assert wandb.use_artifact("data:latest").file_count == 0
    wandb.watch(None)
    run.mark_preempting()
    run.log_code()
    run.finish(exit_code=3)
    assert sorted(os.listdir(tmp_path)) == before


# -- files ----------------------------------------------------------------------------------------------------------


def test_saved_files_are_copies_named_by_their_content() -> None:
    run = wandb.init(project="p", console=False)
    for name in ("a.txt", "sub/b.txt", "sub/c.json"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text("same" if name != "sub/c.json" else "{}")
    wandb.save("sub/*.txt")
    wandb.save("a.txt", policy="now")
    run.save(os.path.abspath("sub"), base_path=os.getcwd())
    assert [one["path"] for one in events(run, "file")] == ["sub/b.txt", "a.txt", "sub/b.txt", "sub/c.json"]
    assert len(list(Path(run.path, "media").iterdir())) == 2
    for one in events(run, "file"):
        assert (Path(run.path) / one["file"]).read_bytes() == Path(one["path"]).read_bytes()
    wandb.save("nothing-*.pt")
    assert "found no file" in events(run, "warning")[0]["message"]


@pytest.mark.parametrize("durability", ["process", "async"])
def test_a_saved_file_that_changed_is_saved_again_at_the_end(durability: str, wait_until: Any) -> None:
    run = wandb.init(project="p", console=False, durability=durability)
    for name, policy in (("live.log", "live"), ("now.log", "now"), ("still.log", "end")):
        Path(name).write_text("first")
        wandb.save(name, policy=policy)
    wait_until(lambda: len(events(run, "file")) == 3)
    Path("live.log").write_text("second, and longer")
    Path("now.log").write_text("second, and longer")
    run.finish()
    kept = [(one["path"], (Path(run.path) / one["file"]).read_text()) for one in events(run, "file")]
    first = [("live.log", "first"), ("now.log", "first"), ("still.log", "first")]
    assert (sorted(kept[:3]), kept[3:]) == (first, [("live.log", "second, and longer")])
    assert rows(run)[-1].kind == "finish"


def test_a_file_in_the_runs_own_folder_stays_where_it_is() -> None:
    run = wandb.init(project="p", console=False)
    path = Path(run.dir, "model.pt")
    path.write_bytes(b"weights")
    run.save(str(path))
    assert events(run, "file") == [{"path": "model.pt", "file": "files/model.pt", "bytes": 7}]
    run.finish()
    from lossbook.storage.verify import verify_run

    assert [finding for finding in verify_run(RunFolder(run.path)) if not finding.ok] == []


# -- artifacts ------------------------------------------------------------------------------------------------------


def make_artifact(text: str, name: str = "data") -> Any:
    artifact = wandb.Artifact(name, type="dataset", description="numbers", metadata={"rows": 3})
    with artifact.new_file("numbers.csv") as file:
        file.write(text)
    return artifact


def test_an_artifact_is_logged_used_and_downloaded() -> None:
    run = wandb.init(project="p", console=False)
    Path("folder/deep").mkdir(parents=True)
    Path("folder/deep/a.bin").write_bytes(b"\x00\x01")
    artifact = make_artifact("1,2,3")
    artifact.add_dir("folder", name="raw")
    artifact.add(wandb.Table(columns=["a"], data=[[1], [2]]), "preview")
    artifact.add_reference("s3://bucket/big.bin")
    assert artifact.is_draft()
    logged = run.log_artifact(artifact, aliases=["clean"]).wait()
    assert (logged.name, logged.version, logged.aliases, logged.is_draft()) == (
        "data:v0",
        "v0",
        ["clean", "latest"],
        False,
    )
    run.finish()

    user = wandb.init(project="p", job_type="eval", console=False)
    used = user.use_artifact("team/p/data:clean", type="dataset")
    assert (used.metadata, used.description, used.digest) == ({"rows": 3}, "numbers", logged.digest)
    folder = used.download(root="copy")
    assert Path(folder, "numbers.csv").read_text() == "1,2,3"
    assert Path(folder, "raw/deep/a.bin").read_bytes() == b"\x00\x01"
    used.verify("copy")
    Path(folder, "numbers.csv").write_text("altered")
    with pytest.raises(ValueError, match="is not what data:v0 holds"):
        used.verify("copy")
    assert used.get("preview").rows == [[1], [2]]
    assert used.get_entry("numbers.csv").download() == os.path.join("artifacts", "data:v0", "numbers.csv")
    assert [(one["use"], one["version"]) for one in (*events(run, "artifact"), *events(user, "artifact"))] == [
        ("output", 0),
        ("input", 0),
    ]


def test_versions_count_up_equal_contents_are_one_and_aliases_move() -> None:
    wandb.init(project="p", console=False)
    first = wandb.log_artifact(make_artifact("one"), aliases=["best"])
    same = wandb.log_artifact(make_artifact("one"))
    second = wandb.log_artifact(make_artifact("two"), aliases=["best"])
    assert [one.version for one in (first, same, second)] == ["v0", "v0", "v1"]
    assert wandb.use_artifact("data:best").version == wandb.use_artifact("data").version == "v1"
    assert wandb.use_artifact("data:v0").aliases == []
    with pytest.raises(BadArgument, match="logged and stays as it is"):
        first.add_file(__file__)
    again = wandb.use_artifact("data:v0")
    again.aliases.append("old")
    again.metadata["checked"] = True
    again.save()
    found = wandb.Api().artifact("p/data:old")
    assert (found.version, found.metadata) == ("v0", {"rows": 3, "checked": True})
    again.delete()
    with pytest.raises(wandb.errors.CommError, match="it has v1"):
        wandb.use_artifact("data:v0")


def test_an_alias_may_be_what_no_file_can_be_called() -> None:
    wandb.init(project="p", console=False)
    logged = wandb.log_artifact(make_artifact("one"), aliases=["epoch 9", "a/b", "plain"])
    assert sorted(logged.aliases) == ["a/b", "epoch 9", "latest", "plain"]
    found = wandb.use_artifact("data:epoch 9")
    assert sorted(found.aliases) == ["a/b", "epoch 9", "latest", "plain"]
    found.aliases.remove("a/b")
    found.save()
    assert sorted(wandb.use_artifact("data").aliases) == ["epoch 9", "latest", "plain"]


def test_contents_are_those_of_the_moment_they_were_added(tmp_path: Path) -> None:
    early = wandb.Artifact("early", type="t")  # before there is a run
    path = tmp_path / "weights.bin"
    path.write_bytes(b"early")
    early.add_file(str(path))
    wandb.init(project="p", console=False)
    late = wandb.Artifact("late", type="t")
    path.write_bytes(b"late")
    late.add_file(str(path), name="w.bin")
    path.unlink()
    wandb.log_artifact(early)
    wandb.log_artifact(late)
    assert Path(wandb.use_artifact("early:latest").file()).read_bytes() == b"early"
    assert Path(wandb.use_artifact("late:latest").file("elsewhere")).read_bytes() == b"late"


def test_a_path_is_an_artifact_too_and_a_model_comes_back_as_one() -> None:
    run = wandb.init(project="p", console=False)
    Path("w.pt").write_bytes(b"w")
    assert wandb.log_artifact("w.pt", type="model").name == f"run-{run.id}-w.pt:v0"
    run.log_model("w.pt", name="net", aliases=["best"])
    assert Path(run.use_model("net:best")).read_bytes() == b"w"


def test_many_processes_log_one_artifact_and_each_content_is_one_version(store: Path) -> None:
    script = """
        import sys, lossbook as wandb
        wandb.init(project='p', console=False)
        for number in range(5):
            artifact = wandb.Artifact('data', type='t')
            with artifact.new_file('a.txt') as file:
                file.write(f'{sys.argv[1]} {number}')
            wandb.log_artifact(artifact)
    """
    Path("log.py").write_text(textwrap.dedent(script))
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    started = [subprocess.Popen([sys.executable, "log.py", str(one)], env=environment) for one in range(3)]
    assert [one.wait() for one in started] == [0, 0, 0]
    versions = [json.loads(path.read_text()) for path in (store / ".artifacts/p/data").glob("v*.json")]
    assert sorted(one["version"] for one in versions) == list(range(15))
    assert len({one["digest"] for one in versions}) == 15
    assert lossbook.open(store).projects() == ["p"]


@pytest.mark.parametrize("path", ["../outside", "/etc/passwd", ".."])
def test_a_path_that_leads_out_of_an_artifact_is_refused(path: str) -> None:
    with pytest.raises(BadArgument, match="no path inside an artifact"):
        wandb.Artifact("a", type="t").add_file(__file__, name=path)


def test_an_artifact_that_cannot_be_kept_is_a_warning_and_training_goes_on(store: Path) -> None:
    run = wandb.init(project="p", console=False)
    (store / ".artifacts").write_text("in the way")
    artifact = make_artifact("x")
    assert wandb.log_artifact(artifact) is artifact
    assert artifact.is_draft()
    assert "log_artifact() did not work" in events(run, "warning")[0]["message"]
    with pytest.raises(StoreError, match="there is no artifact 'data'"):
        wandb.use_artifact("data")
    with pytest.raises(BadArgument, match="is no file"):
        artifact.add_file("missing.txt")
    with pytest.raises(BadArgument, match="cannot be an artifact's name"):
        wandb.Artifact("a/b", type="t")


# -- values ---------------------------------------------------------------------------------------------------------


def test_pictures_come_as_torch_and_pil_have_them() -> None:
    torch = pytest.importorskip("torch")
    tensor = torch.zeros(3, 4, 6)
    tensor[0] = 1.0
    pil = pytest.importorskip("PIL.Image").new("RGB", (6, 4), "red")
    run = wandb.init(project="p", console=False)
    wandb.log(
        {"tensor": wandb.Image(tensor, caption="red"), "pil": wandb.Image(pil), "grey": wandb.Image(pil, mode="L")}
    )
    wandb.log({"half": wandb.Image(tensor.bfloat16()), "nested": wandb.Image(wandb.Image(tensor, caption="kept"))})
    found = {row.key: row.body for row in rows(run) if row.kind == "image"}
    assert [(one["width"], one["height"]) for one in found.values()] == [(6, 4)] * 5
    opened = pytest.importorskip("PIL.Image")
    for key in ("tensor", "half", "pil", "nested"):
        with opened.open(Path(run.path) / found[key]["file"]) as image:
            assert image.getpixel((5, 3)) == (255, 0, 0)
    with opened.open(Path(run.path) / found["grey"]["file"]) as image:
        assert image.mode == "L"
    assert found["nested"]["caption"] == "kept"


def test_figures_are_pictures() -> None:
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(2, 1), dpi=50)
    axes.plot([1, 2])
    run = wandb.init(project="p", console=False)
    wandb.log({"figure": figure, "image": wandb.Image(figure), "pyplot": pyplot})
    pyplot.close(figure)
    assert [(one["width"], one["height"]) for one in events(run, "image")] == [(100, 50)] * 3


def test_tables_are_built_row_by_row_and_column_by_column() -> None:
    table = wandb.Table(columns=["id", "picture"])
    table.add_data(1, wandb.Image(numpy.zeros((2, 2)), caption="black"))
    table.add_data(2, None)
    table.add_column("score", [0.5, numpy.float32(0.25)])
    assert (table.get_column("score"), len(table.data), next(table.iterrows())[0]) == ([0.5, 0.25], 2, 0)
    with pytest.raises(ValueError, match="has 1 cells for 2 rows"):
        table.add_column("short", [1])
    with pytest.raises(KeyError, match="there is no column"):
        table.get_column("nothing")
    run = wandb.init(project="p", console=False)
    wandb.log({"table": table})
    (found,) = events(run, "table")
    assert found["columns"] == ["id", "picture", "score"]
    picture = found["rows"][0][1]
    assert (picture["kind"], picture["caption"]) == ("image", "black")
    assert (Path(run.path) / picture["file"]).exists()
    assert found["rows"][1] == [2, None, 0.25]


def test_tables_come_from_data_and_frames() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"a": [1, 2]})
    for table in (wandb.Table(dataframe=frame), wandb.Table(data=frame), wandb.Table(["a"], [[1], [2]])):
        assert (table.columns, table.rows) == (["a"], [[1], [2]])
        assert table.get_dataframe().equals(frame)
    assert wandb.Table(columns=["a"], data=numpy.array([[1], [2]]), allow_mixed_types=True).rows == [[1], [2]]
    with pytest.raises(TypeError, match="unexpected keyword argument 'colums'"):
        wandb.Table(colums=["a"])


def test_histograms_come_from_values_and_from_numpys() -> None:
    run = wandb.init(project="p", console=False)
    values = [1.0, 2.0, 2.0, 4.0]
    wandb.log(
        {"a": wandb.Histogram(values, num_bins=3), "b": wandb.Histogram(np_histogram=numpy.histogram(values, bins=3))}
    )
    first, second = events(run, "histogram")
    assert first == second == {"edges": [1.0, 2.0, 3.0, 4.0], "counts": [1, 2, 1]}


def test_what_is_not_supported_says_so_once_and_does_not_raise(capsys: pytest.CaptureFixture[str]) -> None:
    run = wandb.init(project="p", sync_tensorboard=True, monitor_gym=True, console=False)
    for _ in range(2):
        wandb.login(key="x", relogin=True)
        wandb.log(
            {
                "page": wandb.Html("<b>x</b>"),
                "sound": wandb.Audio([0.0], sample_rate=8000),
                "film": wandb.Video("a.mp4"),
            }
        )
        table = wandb.Table(columns=["x", "y"], data=[[1, 2]])
        wandb.log(
            {"line": wandb.plot.line(table, "x", "y", title="t"), "matrix": wandb.plot.confusion_matrix(y_true=[0])}
        )
        wandb.log({"cloud": wandb.Object3D("a.glb"), "boxes": wandb.Image(numpy.zeros((2, 2)), boxes={"p": {}})})
        assert wandb.sweep({"method": "grid"}, project="p") == ""
        wandb.agent("id", function=lambda: None)
        wandb.restore("model.h5")
        wandb.sklearn.plot_roc([0], [0])
        wandb.setup()
        run.log_code(".")
        run.link_artifact(None, "registry")
    said = capsys.readouterr().err.splitlines()
    assert len(said) == len(set(said)) == 16, said
    assert all(re.match(r"lossbook: .+", line) for line in said)
    assert [one["rows"] for one in events(run, "table")] == [[[1, 2]]] * 2
    assert {row.key for row in rows(run) if row.kind == "warning"} == {"page", "sound", "film", "matrix", "cloud"}
    assert not hasattr(wandb, "no_such_name_anywhere")


def test_several_models_are_watched_and_left_alone_again() -> None:
    torch = pytest.importorskip("torch")
    run = wandb.init(project="p", console=False)
    models = [torch.nn.Linear(2, 1, bias=False) for _ in range(2)]
    optimizers = [torch.optim.SGD(model.parameters(), lr=0.1) for model in models]
    wandb.watch(models, log_freq=1)

    def step() -> None:
        for model, optimizer in zip(models, optimizers, strict=True):
            model(torch.ones(1, 2)).sum().backward()
            optimizer.step()
        wandb.log({"loss": 1.0})

    step()
    wandb.unwatch(models[0])
    step()
    wandb.unwatch()
    step()
    seen = {
        number: [step for step, values in scalars(run) if f"model_{number}/gradients/norm/weight" in values]
        for number in (0, 1)
    }
    assert seen == {0: [0], 1: [0, 1]}
    assert [step for step, values in scalars(run) if "loss" in values] == [0, 1, 2]


def test_the_api_reads_the_store() -> None:
    run = wandb.init(project="p", name="n", config={"lr": 1}, console=False)
    wandb.log({"loss": 1.0})
    wandb.finish()
    api = wandb.Api()
    assert [one.id for one in api.runs("team/p")] == [run.id]
    assert api.run(f"team/p/{run.id}").config == {"lr": 1}
    with pytest.raises(wandb.errors.CommError):
        api.run("team/p/nothing")


# -- beside the real one --------------------------------------------------------------------------------------------


def test_no_name_and_no_argument_of_the_installed_package_is_missing() -> None:
    asked = """
        import inspect, json, wandb
        def names(function):
            kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
            return [one.name for one in inspect.signature(function).parameters.values() if one.kind not in kinds]
        members = {name: inspect.getattr_static(wandb.Run, name) for name in dir(wandb.Run) if not name.startswith("_")}
        print(json.dumps({
            "all": [name for name in wandb.__all__ if not name.startswith("__")],
            "init": names(wandb.init),
            "run": list(members),
            "methods": {name: names(one) for name, one in members.items() if inspect.isfunction(one)},
            "classes": {name: names(getattr(wandb, name).__init__) for name in ("Image", "Table", "Histogram", "Artifact")},
            "artifact": [name for name in dir(wandb.Artifact) if not name.startswith("_")],
        }))
    """
    Path("ask.py").write_text(textwrap.dedent(asked))
    done = subprocess.run([sys.executable, "ask.py"], capture_output=True, text=True)
    if "ModuleNotFoundError: No module named 'wandb'" in done.stderr:
        pytest.skip("wandb is not installed: pip install 'lossbook[test]'")
    theirs = json.loads(done.stdout)
    assert [name for name in theirs["all"] if not hasattr(lossbook, name)] == []
    from lossbook.compat.wandb.init_arguments import WandbArguments
    from lossbook.compat.wandb.run_methods import RunMethods

    ours = {*inspect.signature(lossbook.init).parameters, *WandbArguments.__annotations__}
    assert set(theirs["init"]) - ours == set()
    run = wandb.init(project="p", console=False)
    assert [name for name in theirs["run"] if not hasattr(run, name)] == []
    lacking = [
        f"{name}({argument})"
        for name, arguments in theirs["methods"].items()
        for argument in arguments
        if not takes(getattr(lossbook.Run, name, None) or getattr(RunMethods, name), argument)
    ]
    assert lacking == []
    for name, arguments in theirs["classes"].items():
        assert [one for one in arguments if not takes(getattr(lossbook, name).__init__, one)] == [], name
    # Artifacts have no registry, no time to live and no server here.
    absent = {
        "collection",
        "distributed_id",
        "entity",
        "get_added_local_path_name",
        "history_step",
        "incremental",
        "is_link",
        "json_encode",
        "linked_artifacts",
        "linked_at",
        "logged_by",
        "new_draft",
        "source_artifact",
        "source_collection",
        "source_entity",
        "source_project",
        "source_qualified_name",
        "source_version",
        "storage_region",
        "ttl",
        "unlink",
        "updated_at",
        "url",
        "use_as",
        "used_by",
        "digest_algorithm",
    }
    made = wandb.Artifact("a", type="t")
    assert {name for name in theirs["artifact"] if not hasattr(made, name)} - absent == set()


def test_the_tables_of_names_are_those_of_the_installed_package() -> None:
    asked = """
        import json, wandb
        from wandb.sdk.wandb_config import Config
        from wandb.sdk.wandb_summary import Summary
        kinds = {"run": wandb.Run, "table": wandb.Table, "config": Config, "summary": Summary}
        print(json.dumps({kind: [name for name in dir(one) if not name.startswith("__")] for kind, one in kinds.items()}))
    """
    Path("ask.py").write_text(textwrap.dedent(asked))
    done = subprocess.run([sys.executable, "ask.py"], capture_output=True, text=True)
    if "ModuleNotFoundError: No module named 'wandb'" in done.stderr:
        pytest.skip("wandb is not installed: pip install 'lossbook[test]'")
    theirs = json.loads(done.stdout)
    public = {kind: {name for name in names if not name.startswith("_")} for kind, names in theirs.items()}
    assert public["run"] <= unknown_names.RUN
    assert public["table"] <= unknown_names.TABLE
    # What Python, IPython or torch's own look-ups probe for is no word to answer.
    probed = {"_repr_mimebundle_", "_torch"}
    assert {name for name in theirs["run"] if name.startswith("_")} - probed == unknown_names.RUN_PRIVATE
    run = wandb.init(project="p", console=False)
    for mapping, kind in ((run.config, "config"), (run.summary, "summary")):
        assert [name for name in theirs[kind] if name != "_abc_impl" and not hasattr(mapping, name)] == []


def test_a_name_that_nobody_has_is_said_once_and_does_not_raise(capsys: pytest.CaptureFixture[str]) -> None:
    run = wandb.init(project="p", console=False)
    for _ in range(2):
        assert run.lgo({"loss": 1.0}) is None
        assert not run._label(repo="x")
        assert run.some_new_object.method(1) is None
        assert run.config._as_dict() == run.summary._as_dict() == {}
        assert wandb.Table(columns=["a"]).set_pk("a") is None
        assert not wandb.util.unknown_function(1)
        assert wandb.Settings().unknown_setting is None
    said = capsys.readouterr().err.splitlines()
    assert said == [
        "lossbook: there is no run.lgo in Lossbook; it does nothing; did you mean run.log?",
        "lossbook: run._label of W&B's has no counterpart here; it does nothing",
        "lossbook: there is no run.some_new_object in Lossbook; it does nothing",
        "lossbook: table.set_pk of W&B's has no counterpart here; it does nothing",
        "lossbook: wandb.util.unknown_function is not in Lossbook; it does nothing",
    ]


def test_what_libraries_probe_an_object_for_is_answered_truthfully() -> None:
    run = wandb.init(project="p", console=False)
    table = wandb.Table(columns=["a"], data=[[1]])
    for name in ("_ipython_display_", "__array__", "__torch_function__", "tolist", "state_dict", "to"):
        assert not hasattr(run, name), name
        assert not hasattr(table, name), name
    assert hasattr(run, "_repr_html_"), "a run has a card in a notebook"
    assert not hasattr(table, "_repr_html_")
    assert not hasattr(run.config, "lr")
    assert getattr(run.config, "lr", 0.5) == 0.5
    assert copy.deepcopy(run) is run
    assert copy.deepcopy(table).rows == [[1]]
    run.config.update({"run": run, "table": table})
    assert run.config["run"] is run
    assert "could not be" not in "".join(str(one) for one in events(run, "warning"))


def test_a_name_that_wandb_gave_up_is_deprecated() -> None:
    run = wandb.init(project="p", console=False)
    with pytest.warns(DeprecationWarning, match=r"run\.join\(\) is deprecated .*: use run\.finish\(\)") as seen:
        run.join()
    assert seen[0].filename == __file__
    assert events(run, "finish") == [{"state": "finished", "error": None}]


def test_the_module_of_wandbs_name_has_the_current_run_live() -> None:
    import lossbook.wandb as real

    assert (real.run, dict(real.config)) == (None, {})
    run = real.init(project="p", config={"lr": 1}, console=False)
    assert real.run is lossbook.run is run
    real.config = {"batch": 8}
    assert dict(real.config) == {"lr": 1, "batch": 8}
    real.summary["best"] = 0.5
    assert run.summary["best"] == 0.5
    for name in real.__all__:
        assert getattr(real, name) is not None, name
    assert set(dir(real)) >= set(real.__all__)
    real.finish()
    assert real.run is None


def takes(function: Any, argument: str) -> bool:
    """Whether a function can be called with that keyword."""
    parameters = inspect.signature(function).parameters
    return argument in parameters or any(one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters.values())


def test_wandb_itself_is_never_imported() -> None:
    done = run_script(
        """
        import sys
        import lossbook.wandb as wandb
        wandb.init(project="p", console=False)
        wandb.config.lr = 1
        artifact = wandb.Artifact("a", type="t")
        artifact.add_file("train.py")
        wandb.log_artifact(artifact)
        wandb.log({"a": 1})
        wandb.finish()
        print([name for name in sys.modules if name.partition(".")[0] in ("wandb", "torch", "numpy", "duckdb")])
        """
    )
    assert (done.stderr, done.stdout) == ("", "[]\n")


def test_every_variable_of_wandbs_is_on_the_page_and_read() -> None:
    code = "".join(path.read_text() for path in (REPOSITORY / "lossbook").rglob("*.py") if "mirrors" not in path.parts)
    names = set(re.findall(r"\bWANDB_[A-Z_]+[A-Z]\b", (REPOSITORY / "docs" / "wandb.md").read_text()))
    assert len(names) == 11
    assert {name for name in names if f'"{name}"' not in code} == set()


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ({"settings": {"console": "off"}}, None),
        ({"settings": {"console": "wrap"}}, "Console"),
        (
            {"settings": wandb.Settings(console="redirect")},
            "Console",
        ),  # not possible under pytest, whose streams are its own
        ({}, "Console"),
        ({"console": False}, None),
    ],
)
def test_the_console_is_kept_as_the_settings_say(store: Path, said: dict[str, Any], kept: str | None) -> None:
    run = wandb.init(project="p", store=store, **said)
    assert (run.console and type(run.console).__name__) == kept


def test_a_variable_of_wandb_turns_the_console_off(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_CONSOLE", "off")
    assert wandb.init(project="p", store=store).console is None
    monkeypatch.setenv("LOSSBOOK_CONSOLE", "stream")
    assert wandb.init(project="p", store=store).console is not None
