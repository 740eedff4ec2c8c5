"""`check`, on real runs: one with a spike and a NaN, one that went well, and one of another kind."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from recorded import NOT_A_NUMBER, SPIKE, Command

import lossbook
from lossbook.journal import AttemptRow, Journal
from lossbook.paths import RunFolder
from lossbook.run_info import Attempt


def test_check_says_what_is_wrong_and_where_and_ends_with_status_1(store: Path, command: Command) -> None:
    found = command("check", "baseline")
    assert found.status == 1
    assert found.out.splitlines()[0].endswith("finished  2 findings")
    assert f"train_loss is NaN at step {NOT_A_NUMBER}, the first that is not finite" in found.out
    assert f"to 42 at step {SPIKE}" in found.out
    assert found.out.splitlines()[-1].endswith("'train_loss' draws the curve")


def test_check_as_json_has_the_evidence(store: Path, command: Command) -> None:
    found = command("check", "baseline", "--json")
    assert found.status == 1
    assert (found.json["run"]["name"], found.json["left_out"]) == ("baseline", {})
    second, first = found.json["findings"]  # the spike came first, shortly before
    assert first["group"] == second["group"] == 0
    assert (first["kind"], first["severity"], first["key"]) == ("nonfinite", "error", "train_loss")
    assert (first["first_step"], first["last_step"], first["value"]) == (NOT_A_NUMBER, NOT_A_NUMBER, "NaN")
    assert (second["kind"], second["severity"], second["value"]) == ("spike", "warning", 42.0)
    assert 0 < second["threshold"] < 42
    (row,) = second["evidence"]
    assert (row["key"], row["step"], row["value"], row["rank"]) == ("train_loss", SPIKE, 42.0, 0)
    assert row["time_us"] > 1.7e15


def test_ranks_can_be_compared_by_a_metric_that_is_named_on_the_command_line(store: Path, command: Command) -> None:
    run = lossbook.init(store=store, project="gpt2", name="ranks", console=False)
    for rank in (1, 2):
        journal = Journal(RunFolder(run.path), rank, AttemptRow(Attempt(number=0), rank))
        for step in range(300):
            journal.append_scalars({"perf/fwd_dur": 2.0 if rank == 2 else 1.0}, step)
        journal.close()
    for step in range(300):
        run.log({"perf/fwd_dur": 1.0}, step=step, ranks="all")
    run.finish()
    before = command("check", "ranks")
    assert before.status == 0
    assert "perf/fwd_dur is logged by several ranks and looks like a step time" in before.out
    found = command("check", "ranks", "--step-time", "perf/fwd_dur")
    assert found.status == 1
    assert "rank 2 is slower than the others" in found.out
    unknown = command("check", "ranks", "--step-time", "perf/fwd")
    assert (unknown.status, unknown.out) == (1, "")
    assert "perf/fwd_dur" in unknown.err


def test_a_run_that_went_well_has_nothing_and_status_0(store: Path, command: Command) -> None:
    with lossbook.init(store=store, project="gpt2", name="well", console=False) as run:
        for step in range(300):
            run.log({"train_loss": 1.5 + 9 * math.exp(-step / 60), "lr": 1e-3}, step=step)
    found = command("check", "well")
    assert (found.status, found.err) == (0, "")
    assert found.out.split() == ["well", run.id, "finished", "nothing", "found"]
    assert command("check", run.id, "--json").json["findings"] == []


def test_a_run_that_logged_nothing_has_nothing(store: Path, command: Command) -> None:
    with lossbook.init(store=store, project="gpt2", name="empty", console=False):
        pass
    assert command("check", "empty").status == 0


def test_an_unknown_run_is_one_sentence(store: Path, command: Command) -> None:
    found = command("check", "nothing-of-that-name")
    assert (found.status, found.out) == (1, "")
    assert found.err.startswith("lossbook: ")


def test_without_a_run_it_is_the_latest(store: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    latest = command("show", "--json").json["name"]
    assert command("check", "--json").json["run"]["name"] == latest
