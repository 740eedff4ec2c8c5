"""`seeds`: tables over seeds, two groups against one another, and bands as files."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import duckdb
import pytest
from journals import BEGIN, WrittenRun
from recorded import Command


@pytest.fixture(autouse=True)
def seeds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two optimizers, six seeds each, of five rows."""
    store = tmp_path / "store"
    monkeypatch.setenv("LOSSBOOK_STORE", str(store))
    monkeypatch.setenv("LOSSBOOK_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    for seed in range(6):
        for number, optimizer in enumerate(("adamw", "muon")):
            name = f"{optimizer}-{seed}"
            config = {"optimizer": optimizer, "lr": 0.1, "seed": seed, "run_name": name}
            run = WrittenRun(store / "tests" / name, name=name, created=BEGIN + 10 * seed + number, config=config)
            run.segment([{"val/loss": 5.0 - step - number * 0.25 + seed / 4} for step in range(5)], end="finished")


def test_a_table_has_a_line_for_each_recipe(command: Command) -> None:
    found = command("seeds", "val/loss")
    heading, muon, adamw, left_out = found.out.splitlines()
    assert (found.status, heading.split()[:2]) == (0, ["optimizer", "runs"])
    assert muon.split()[:4] == ["muon", "6", "1.375", "1.375"]
    assert adamw.split()[:3] == ["adamw", "6", "1.625"]
    assert left_out == "not looked at: seed, run_name"
    parsed = command("seeds", "--json").json
    assert [(one["settings"], one["runs"], one["mean"]) for one in parsed["groups"]] == [
        ({"optimizer": "muon"}, 6, 1.375),
        ({"optimizer": "adamw"}, 6, 1.625),
    ]


def test_a_table_is_written_in_the_format_of_the_files_name(command: Command, tmp_path: Path) -> None:
    for ending, sign in ((".md", "| optimizer |"), (".tex", r"\toprule"), (".csv", "project,optimizer,runs,mean")):
        path = tmp_path / f"table{ending}"
        done = command("seeds", "--output", path)
        assert (done.status, done.out) == (0, "")
        assert "2 groups of 12 runs" in done.err
        assert sign in path.read_text()
    assert command("seeds", "--output", path).status == 1
    parquet = tmp_path / "table.parquet"
    assert command("seeds", "--output", parquet).status == 0
    rows = duckdb.sql(f"select optimizer, runs, mean from '{parquet}' order by mean").fetchall()
    assert rows == [("muon", 6, 1.375), ("adamw", 6, 1.625)]


def test_a_pivot_table_is_a_grid_of_two_settings(command: Command) -> None:
    found = command("seeds", "--by", "config.optimizer,config.lr", "--pivot", "optimizer,lr", "--format", "markdown")
    assert [cell.strip() for cell in found.out.splitlines()[-1].split("|")[1:3]] == ["muon", "1.375 ± 0.47 (6)"]
    assert command("seeds", "--pivot", "optimizer").status == 1
    unknown = command("seeds", "--pivot", "optimizer,depth")
    assert (unknown.status, "no setting 'depth'" in unknown.err) == (1, True)


def test_two_groups_are_paired_by_seed(command: Command) -> None:
    found = command("seeds", "--against", "optimizer=muon", "adamw")
    assert (found.status, "no group 'adamw'" in found.err) == (1, True)
    found = command("seeds", "--against", "optimizer=muon", "optimizer=adamw")
    assert found.out.splitlines()[-1].startswith("optimizer=muon is better (p = 0.0312; difference -0.25")
    few = command("seeds", "--where", "config.seed < 2", "--against", "optimizer=muon", "optimizer=adamw", "--json")
    assert few.json["distinguishable"] is False
    assert few.json["verdict"].startswith("not distinguishable: with 2 runs a side")


def test_a_band_has_every_row_of_each_group(command: Command, tmp_path: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(command("seeds", "--band", "val/loss").out)))
    assert len(rows) == 10
    assert {row["count"] for row in rows} == {"6"}
    assert [float(row["mean"]) for row in rows if row["optimizer"] == "adamw"] == [5.625, 4.625, 3.625, 2.625, 1.625]
    path = tmp_path / "band.parquet"
    assert command("seeds", "--band", "val/loss", "--output", path).status == 0
    found = duckdb.sql(f"select count(*), max(mean), max(interval_high) <= max(high) from '{path}'").fetchall()
    assert found == [(10, 5.625, True)]


def test_a_setting_called_like_a_column_of_the_band_keeps_its_own(command: Command, tmp_path: Path) -> None:
    for number in (1, 2):
        run = WrittenRun(
            tmp_path / "store" / "tests" / f"x-{number}", name=f"x-{number}", config={"x": number, "Count": number}
        )
        run.segment([{"score": 1.0 * number}], end="finished")
    path = tmp_path / "band.parquet"
    assert command("seeds", "--where", "config.x > 0", "--band", "score", "--output", path).status == 0
    found = duckdb.sql(f"""select "config.x", "config.Count", x, count, mean from '{path}' order by 1""").fetchall()
    assert found == [(1, 1, 0.0, 1, 1.0), (2, 2, 0.0, 1, 2.0)]


@pytest.mark.parametrize(
    ("arguments", "status", "sentence"),
    [
        (("val/los",), 1, "nearest are val/loss"),
        (("--by", "optimiser"), 1, "no run has optimiser"),
        (("--ignore", "optimiser"), 1, "nearest are optimizer"),
        (("--where", "optimizer = 'sgd'"), 1, "no run fits"),
        (("--group", "nobody"), 1, "no run fits"),
        (("--project", "nobody"), 1, "nobody"),
        (("--band", "val/los"), 1, "val/loss"),
        (("--band", "val/loss", "--format", "latex"), 1, "csv, json or parquet"),
        (("--format", "parquet"), 2, "--output"),
        (("--x", "tokens"), 2, "--band"),
        (("--band", "val/loss", "--pivot", "a,b"), 2, "at a time"),
        (("--confidence", "95"), 1, "between 0 and 1"),
    ],
)
def test_what_cannot_be_meant_is_one_sentence_and_a_status(
    command: Command, arguments: tuple[str, ...], status: int, sentence: str
) -> None:
    found = command("seeds", *arguments)
    assert found.status == status
    assert sentence in found.err
    assert len(found.err.splitlines()) <= 3


def test_sql_has_the_view_and_names_it(command: Command) -> None:
    found = command("sql", "select settings->>'optimizer', runs, mean from seeds order by mean", "--csv")
    assert found.out.splitlines()[1:] == ["muon,6,1.375", "adamw,6,1.625"]
    assert "seeds" in command("sql", "select * from seedz").err
