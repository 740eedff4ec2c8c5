"""`compare`, `best` and `report` on runs as training leaves them."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from recorded import STEPS, Command

pytestmark = pytest.mark.usefixtures("store")


def test_all_runs_are_compared_the_best_first(command: Command) -> None:
    found = command("compare")
    assert found.status == 0
    heading, *rows = found.out.splitlines()
    assert heading.split()[:3] == ["run", "id", "project"]
    assert "lr" in heading.split()
    assert {row.split()[0] for row in rows[:2]} == {"baseline", "wide"}
    assert rows[2].split()[0] == "broken"


def test_of_runs_that_were_named_the_first_is_the_baseline(command: Command) -> None:
    found = command("compare", "wide", "baseline", "--json").json
    assert [run["name"] for run in found["runs"]] == ["wide", "baseline"]
    assert found["baseline"] == found["runs"][0]["id"]
    assert found["runs"][1]["change"]["best_val_loss"] == 0
    assert found["runs"][0]["config.lr"] == 1e-3
    assert found["runs"][0]["last_step"] == STEPS - 1
    other = command("compare", "wide", "baseline", "--baseline", "baseline", "--json").json
    assert [run["name"] for run in other["runs"]] == ["baseline", "wide"]


def test_when_a_loss_was_first_reached_is_shown(command: Command) -> None:
    found = command("compare", "baseline", "--loss", "4", "--loss", "0.1", "--metric", "train/loss", "--json").json
    # 1.5 + 9 exp(-step / 60) is 4 at step 76.9.
    assert found["runs"][0]["step_of_4"] == 77
    assert found["runs"][0]["tokens_to_4"] == 77 * 1024
    assert found["runs"][0]["seconds_to_4"] > 0
    assert found["runs"][0]["step_of_0.1"] is None
    assert "time to 4" in command("compare", "baseline", "--loss", "4", "--metric", "train/loss").out


def test_runs_are_chosen_by_expression_group_tag_project_and_number(command: Command) -> None:
    def names(*arguments: str) -> set[str]:
        return {run["name"] for run in command("compare", *arguments, "--json").json["runs"]}

    assert names("--where", "config.lr > 5e-4") == {"wide"}
    assert names("--tag", "ablation") == {"baseline"}
    assert names("--project", "other") == {"broken"}
    assert names("--group", "none") == set()
    assert names("--limit", "1") == {"broken"}
    assert command("compare", "--group", "none").out == "No run fits.\n"
    assert "2 older runs" in command("compare", "--limit", "1").err
    both = command("compare", "wide", "--tag", "ablation")
    assert (both.status, "not both" in both.err) == (2, True)


def test_the_order_and_the_columns_can_be_chosen(command: Command) -> None:
    found = command("compare", "--project", "gpt2", "--sort", "-config.lr", "--columns", "lr,best_val_loss")
    assert [row.split()[0] for row in found.out.splitlines()] == ["run", "wide", "baseline"]
    assert found.out.split()[:2] == ["run", "lr"]
    wrong = command("compare", "--sort", "nothing")
    assert (wrong.status, "'nothing' to sort by" in wrong.err) == (1, True)
    assert command("compare", "--columns", ",").status == 1


def test_a_file_gets_the_format_of_its_ending_and_is_not_replaced_unasked(command: Command, tmp_path: Path) -> None:
    path = tmp_path / "table.tex"
    done = command("compare", "--output", path)
    assert (done.status, done.out) == (0, "")
    assert "3 runs compared" in done.err
    assert r"\toprule" in path.read_text()
    refused = command("compare", "--output", path)
    assert (refused.status, "--force" in refused.err) == (1, True)
    assert command("compare", "--output", path, "--force", "--format", "markdown").status == 0
    assert path.read_text().startswith("| run ")
    rows = list(csv.DictReader(io.StringIO(command("compare", "--format", "csv").out)))
    assert {row["name"] for row in rows} == {"baseline", "wide", "broken"}
    assert command("compare", "--output", tmp_path).status == 1


def test_the_best_run_is_named_with_its_value(command: Command) -> None:
    found = command("best")
    assert found.out.split()[0] in ("baseline", "wide")
    assert "val/loss 1." in found.out
    assert f"at step {STEPS - 50}" in found.out
    asked = command("best", "train/loss", "--where", "config.lr > 5e-4", "--json").json
    assert (asked["run"]["name"], asked["goal"], asked["step"]) == ("wide", "minimize", STEPS - 1)
    assert asked["value"] == pytest.approx(1.5, abs=0.02)


def test_a_metric_without_a_direction_needs_one(command: Command) -> None:
    refused = command("best", "tokens")
    assert (refused.status, "--goal" in refused.err) == (1, True)
    assert command("best", "tokens", "--goal", "maximize", "--json").json["value"] == (STEPS - 1) * 1024
    unknown = command("best", "tokenz")
    assert (unknown.status, "tokens" in unknown.err) == (1, True)
    assert command("best", "--group", "none").status == 1


def test_a_report_is_written_and_refreshed(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = command("report")
    assert (done.status, done.out) == (0, "3 experiments in EXPERIMENT_LOG.md\n")
    path = tmp_path / "EXPERIMENT_LOG.md"
    for name in ("baseline", "wide", "broken"):
        assert f"### {name}\n" in path.read_text()
    path.write_text(path.read_text() + "\nmine\n")
    assert command("note", "wide", "worth another look").status == 0
    asked = command("report", "--tag", "ablation", "--json").json
    assert asked == {"path": "EXPERIMENT_LOG.md", "experiments": 1}
    assert path.read_text().endswith("\nmine\n")
    assert command("report", "--output", "other.md", "--where", "name = 'wide'").status == 0
    assert "> worth another look" in (tmp_path / "other.md").read_text()
    path.write_text(path.read_text().replace("<!-- lossbook:end results -->", ""))
    refused = command("report")
    assert (refused.status, "line 5" in refused.err) == (1, True)
