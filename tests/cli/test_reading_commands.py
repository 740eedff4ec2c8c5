"""`ls`, `show`, `keys`, `curve`, `export` and `sql`, on real runs."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest
from recorded import NOT_A_NUMBER, SPIKE, STEPS, Command, Result
from waiting import wait_until

import lossbook

FindId = Callable[[str], str]


def rows_of(result: Result) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(result.out)))


# -- ls -----------------------------------------------------------------------------------------------------------


def test_ls_shows_the_newest_run_first_with_its_state_and_losses(store: Path, command: Command) -> None:
    lines = command("ls").out.splitlines()
    assert lines[0].split() == ["id", "name", "project", "state", "started", "duration", "steps", "loss", "val", "loss"]
    assert [line.split()[1] for line in lines[1:]] == ["broken", "wide", "baseline"]
    assert [line.split()[3] for line in lines[1:]] == ["failed", "finished", "finished"]


def test_ls_filters_sorts_limits_and_picks_columns(store: Path, command: Command) -> None:
    found = command("ls", "--where", "state = 'finished'", "--sort", "-config.lr", "--columns", "name,config.lr")
    assert [line.split() for line in found.out.splitlines()] == [
        ["name", "config.lr"],
        ["wide", "0.001"],
        ["baseline", "0.0003"],
    ]
    assert len(command("ls", "--limit", "1", "--json").json) == 1
    assert [one["name"] for one in command("ls", "--project", "other", "--json").json] == ["broken"]


def test_ls_knows_metrics_by_the_names_that_others_give_them(store: Path, command: Command) -> None:
    found = command("ls", "--columns", "name,val/loss,train_loss.max,summary.params", "--sort", "name", "--json").json
    assert found[0]["train_loss.max"] == 42.0
    assert found[0]["val/loss"] == pytest.approx(1.75, abs=0.1)
    assert found[0]["summary.params"] == 124_439_808


def test_options_may_stand_before_the_command(store: Path, command: Command) -> None:
    assert command("--json", "ls").json == command("ls", "--json").json
    assert command("--store", store, "--json", "ls").json == command("ls", "--json").json


def test_an_empty_store_says_how_to_begin(tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOSSBOOK_STORE", str(tmp_path))
    assert "lossbook.init(" in command("ls").out
    assert command("ls", "--json").json == []
    monkeypatch.setenv("LOSSBOOK_STORE", str(tmp_path / "none"))
    assert "lossbook.init(" in command("ls").out


def test_a_filter_that_fits_nothing_says_so(store: Path, command: Command) -> None:
    assert command("ls", "--where", "config.lr > 5").out == "No run fits.\n"


def test_a_running_run_is_seen_while_it_runs(store: Path, command: Command) -> None:
    with lossbook.init(store=store, project="gpt2", name="live", console=False) as run:
        run.log({"train_loss": 7.25}, step=11)
        wait_until(lambda: command("ls", "--json").json[0]["last_step"] == 11)
        found = command("ls", "--json").json[0]
        assert (found["name"], found["state"], found["metrics"]) == ("live", "running", {"train_loss": 7.25})
        refused = command("rm", "live")
        assert refused.status == 1
        assert "is running and cannot be removed" in refused.err
        assert "is running and cannot be moved" in command("mv", "live", "--project", "x").err


# -- show and keys ------------------------------------------------------------------------------------------------


def test_show_tells_everything_about_a_run(store: Path, command: Command) -> None:
    shown = command("show", "baseline").out
    for expected in (
        "finished",
        "model.n_layer  4",
        "params  124439808",
        "ablation",
        "out/best.pt  (best)",
        "loss spike",
        f"42  at step {SPIKE}",
        "1 not finite",
        "train_loss",
    ):
        assert expected in shown, expected


def test_show_takes_the_latest_run_and_its_error(store: Path, command: Command) -> None:
    shown = command("show").out
    assert shown.startswith("broken")
    assert "RuntimeError: out of memory" in shown


def test_show_as_json_has_every_statistic(store: Path, command: Command) -> None:
    shown = command("show", "baseline", "--json").json
    assert shown["metrics"]["train_loss"]["max_step"] == SPIKE
    assert shown["metrics"]["train_loss"]["nonfinite"] == 1
    assert shown["checkpoints"][0]["value"]["is_best"] is True
    assert shown["problems"] == []
    assert len(shown["attempts"]) == 1


def test_show_draws_the_keys_that_are_named(store: Path, command: Command) -> None:
    shown = command("show", "baseline", "--key", "val/loss", "--width", "50", "--height", "8").out
    assert "━━ val/loss" in shown
    assert "train_loss  " in shown


def test_keys_come_in_groups(store: Path, command: Command) -> None:
    found = command("keys", "baseline", "--json").json
    assert found["groups"] == {"training": ["lr", "tokens", "train_loss"], "validation": ["val_loss"]}
    assert found["count"] == 4
    assert "validation (1)" in command("keys", "baseline").out


# -- curve --------------------------------------------------------------------------------------------------------


def test_curve_prints_numbers_where_nobody_looks(store: Path, command: Command, run_id: FindId) -> None:
    rows = rows_of(command("curve", "baseline", "train/loss", "--points", "20"))
    assert {row["run"] for row in rows} == {run_id("baseline")}
    assert len(rows) <= 20
    assert sum(int(row["count"]) for row in rows) == STEPS
    assert max(float(row["max"]) for row in rows) == 42.0
    assert sum(int(row["nonfinite"]) for row in rows) == 1


def test_curve_takes_several_runs_and_keys(store: Path, command: Command) -> None:
    found = command("curve", "baseline,wide", "train_loss,val_loss", "--points", "5", "--x", "tokens", "--json").json
    assert [(one["name"], one["key"]) for one in found] == [
        ("baseline", "train_loss"),
        ("wide", "train_loss"),
        ("baseline", "val_loss"),
        ("wide", "val_loss"),
    ]
    assert max(found[0]["x"]) > STEPS


def test_curve_draws_when_told_to(store: Path, command: Command) -> None:
    drawn = command("curve", "baseline,wide", "train_loss", "--draw", "--width", "60", "--height", "10").out
    assert "** baseline" in drawn
    assert "oo wide" in drawn
    assert "× 1 not finite" in drawn


def test_curve_between_two_steps_has_only_those(store: Path, command: Command) -> None:
    rows = rows_of(command("curve", "baseline", "train_loss", "--start", "100", "--end", "109"))
    assert [float(row["x"]) for row in rows] == list(range(100, 110))


# -- export -------------------------------------------------------------------------------------------------------


def test_export_writes_a_line_a_step(store: Path, command: Command, tmp_path: Path) -> None:
    target = tmp_path / "wide.csv"
    assert command("export", "baseline", "-o", target).status == 0
    rows = list(csv.DictReader(target.read_text().splitlines()))
    assert len(rows) == STEPS
    assert float(rows[SPIKE]["train_loss"]) == 42.0
    assert rows[NOT_A_NUMBER]["train_loss"].lower() == "nan"
    assert rows[1]["val_loss"] == ""


def test_export_writes_json_that_every_parser_takes(store: Path, command: Command) -> None:
    def refuse(name: str) -> None:
        raise ValueError(f"{name} is not JSON")

    whole = json.loads(command("export", "baseline", "--format", "json").out, parse_constant=refuse)
    lines = command("export", "baseline", "--format", "jsonl").out.splitlines()
    assert [json.loads(line, parse_constant=refuse) for line in lines] == whole
    assert whole[NOT_A_NUMBER]["train_loss"] == "NaN"


def test_export_of_a_project_as_parquet_has_every_value(store: Path, command: Command, tmp_path: Path) -> None:
    target = tmp_path / "long.parquet"
    done = command("export", "--project", "gpt2", "--long", "--keys", "train/loss", "-o", target)
    assert f"{2 * STEPS} rows of 2 runs" in done.err
    found = duckdb.sql(
        f"select name, count(*), max(value) filter (isfinite(value)) from '{target}' group by name order by name"
    )
    assert found.fetchall() == [("baseline", STEPS, 42.0), ("wide", STEPS, 42.0)]


def test_export_of_runs_with_different_metrics_leaves_gaps(store: Path, command: Command) -> None:
    rows = rows_of(command("export", "broken", "baseline"))
    assert len(rows) == STEPS + 1
    assert rows[0]["train_loss"] == ""
    assert float(rows[0]["loss"]) == 1.0


def test_export_never_replaces_a_file_unasked(store: Path, command: Command, tmp_path: Path) -> None:
    target = tmp_path / "precious.csv"
    target.write_text("mine")
    refused = command("export", "baseline", "-o", target)
    assert refused.status == 1
    assert "--force replaces it" in refused.err
    assert target.read_text() == "mine"
    assert command("export", "baseline", "-o", target, "--force").status == 0
    assert target.read_text().startswith("run,name,step")


def test_export_does_not_rename_over_a_device(store: Path, command: Command) -> None:
    refused = command("export", "baseline", "-o", "/dev/null", "--force")
    assert refused.status == 1
    assert "no ordinary file" in refused.err


def test_a_failed_export_leaves_nothing_behind(store: Path, command: Command, tmp_path: Path) -> None:
    assert "there is no folder" in command("export", "baseline", "-o", tmp_path / "none" / "a.csv").err
    assert command("export", "baseline", "--keys", "nope", "-o", tmp_path / "a.csv").status == 1
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(("a.", "none"))] == []


# -- sql ----------------------------------------------------------------------------------------------------------


def test_sql_answers_as_table_csv_and_json(store: Path, command: Command) -> None:
    query = "select name, max(value) as worst from metrics where key = 'train_loss' and isfinite(value) group by name"
    query += " order by name"
    assert [line.split() for line in command("sql", query).out.splitlines()] == [
        ["name", "worst"],
        ["baseline", "42"],
        ["wide", "42"],
    ]
    assert command("sql", query, "--csv").out == "name,worst\nbaseline,42\nwide,42\n"
    assert command("sql", query, "--json").json[0] == {"name": "baseline", "worst": 42.0}


def test_sql_gives_nested_columns_as_json(store: Path, command: Command) -> None:
    found = command("sql", "select config, created from runs where name = 'wide'", "--json").json
    assert found[0]["config"] == {"lr": 1e-3, "model": {"n_layer": 4}}
    assert found[0]["created"].startswith("20")


def test_sql_takes_times_with_a_zone(store: Path, command: Command) -> None:
    assert (
        command("sql", "select timestamptz '2026-01-02 00:00:00+00' as t", "--json")
        .json[0]["t"]
        .startswith("2026-01-0")
    )


def test_sql_csv_keeps_every_digit(store: Path, command: Command) -> None:
    assert command("sql", "select 0.1::double + 0.2::double as x", "--csv").out == "x\n0.30000000000000004\n"
