"""What docs/engines.md shows: every engine says of every run what `book.sql` says."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import duckdb
import pytest

import lossbook
from lossbook.cli import main

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "engines.md").read_text(encoding="utf-8")
FORMAT_PAGE = (Path(__file__).resolve().parents[2] / "docs" / "format.md").read_text(encoding="utf-8")
LINES = dict(re.findall(r"### (\w+)\n\n```python\n(.*?)```", PAGE, re.DOTALL))
#: What makes a list of rows of each engine's own kind of table.
ROWS = {
    "DuckDB": "table.fetchall()",
    "Polars": "table.rows()",
    "pandas": "table.values.tolist()",
    "pyarrow": "list(zip(*table.to_pydict().values()))",
    "ClickHouse": "[line.split(chr(9)) for line in chdb.query(QUERY, 'TabSeparatedRaw').data().splitlines()]",
    "Spark": "[tuple(row) for row in table.collect()]",
}
LIBRARIES = {"ClickHouse": "chdb", "Spark": "pyspark"}
KILLED = """
import os, lossbook
run = lossbook.init(project="gpt2", name="killed", id="killed", console=False)
for step in range(60):
    run.log({"train/loss": 4.0, "lr": 1e-3}, step=step)
os.kill(os.getpid(), 9)
"""


def record(
    name: str, losses: list[float], *, first: int = 0, project: str = "gpt2", finish: bool = True, **more: Any
) -> None:
    run = lossbook.init(project=project, name=name, id=name, console=False, **more)
    for step, loss in enumerate(losses, first):
        run.log({"train/loss": loss, "lr": 1e-3}, step=step)
    if finish:
        run.finish()


def record_all() -> None:
    """The runs of the page's table."""
    record("finished", [2.0 + step / 100 for step in range(100)])
    record("resumed", [2.0] * 51 + [1000.0] * 49)
    record("resumed", [2.0] * 49, first=51, resume="must", resume_step=50)
    record("restarted", [3.0] * 80)
    record("restarted", [2.5] * 40, first=60, resume="must")
    record("rewound", [2.0] * 21 + [0.25] * 79)
    record("rewound", [1.75] * 10, first=21, resume="must", resume_step=20)
    record("fork", [1.25] * 29, first=71, fork_from="resumed?_step=70")
    subprocess.run([sys.executable, "-c", KILLED], check=False)
    record("007", [1.5] * 40, project="2025")
    record("odd", [5.0] * 10, project="vision: a=b/möbel")
    record("live", [3.0] * 30, finish=False)


def shown() -> dict[tuple[str, str], tuple[int, float, float]]:
    """The page's table."""
    found = re.findall(r"^\| (.+?) \| (\w+) \| .+? \| (\d+) \| ([\d.]+) \| ([\d.]+) \|$", PAGE, re.MULTILINE)
    return {(project, run): (int(rows), float(mean), float(best)) for project, run, rows, mean, best in found}


def as_table(rows: list[list[Any]]) -> dict[tuple[str, str], tuple[int, float, float]]:
    assert all(isinstance(one, str) for row in rows for one in row[:2]), "a name was taken for a number"
    return {(row[0], row[1]): (int(row[2]), float(row[3]), float(row[4])) for row in rows}


def is_same(
    one: dict[tuple[str, str], tuple[int, float, float]], other: dict[tuple[str, str], tuple[int, float, float]]
) -> bool:
    return one.keys() == other.keys() and all(
        math.isclose(a, b, abs_tol=5e-7) for name in one for a, b in zip(one[name], other[name], strict=True)
    )


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store `lossbook-runs` in it, and what was exported of it in `team`."""
    folder = tmp_path_factory.mktemp("engines")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("LOSSBOOK_FOLLOWER", "off")
        patch.setenv("LOSSBOOK_CACHE", str(folder / "cache"))
        record_all()
        assert main(["export", "--all", "--parquet", "team"]) == 0
    return folder


@pytest.fixture(scope="module")
def sealed(team: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same store after the live run has ended, with every journal sealed."""
    lossbook.finish()  # whichever test asked first
    folder = tmp_path_factory.mktemp("sealed")
    shutil.copytree(team / "lossbook-runs", folder / "lossbook-runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOSSBOOK_CACHE", str(folder / "cache"))
        assert main(["seal", "--all", "--take-over", "--store", str(folder / "lossbook-runs")]) == 0
    return folder


def skip_without(engine: str) -> None:
    if importlib.util.find_spec(LIBRARIES.get(engine, "duckdb")) is None:
        pytest.skip(f"{LIBRARIES[engine]} is not installed")
    if engine == "Spark" and not (shutil.which("java") or os.environ.get("JAVA_HOME")):
        pytest.skip("Spark needs Java, which is not installed")


def ask(code: str, rows: str, folder: Path) -> list[list[Any]]:
    """What an engine says, in a process of its own, far from this one's libraries."""
    code += f"\nimport json\nprint('ROWS', json.dumps({rows}))\n"
    answer = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=300)
    assert answer.returncode == 0, answer.stderr
    found = re.search(r"^.*ROWS (.*)$", answer.stdout, re.MULTILINE)
    assert found is not None
    return json.loads(found[1])  # type: ignore[no-any-return]


def test_the_table_of_the_page_is_what_sql_says(team: Path) -> None:
    query = "SELECT project, run, count(*), avg(value), min(value) FROM metrics WHERE key = 'train/loss' GROUP BY ALL ORDER BY ALL"
    said = as_table([list(row) for row in lossbook.open(team / "lossbook-runs").sql(query).rows()])
    assert is_same(shown(), said), said


@pytest.mark.parametrize("engine", sorted(ROWS))
def test_the_line_for_an_engine_says_what_the_table_of_the_page_says(engine: str, team: Path) -> None:
    skip_without(engine)
    code = LINES[engine]
    if engine == "ClickHouse":
        query = re.search(r'"""(.*?)"""', code, re.DOTALL)
        assert query is not None
        code += f"\nQUERY = {query[1]!r}\n"
    assert is_same(as_table(ask(code, ROWS[engine], team)), shown())


# -- the store itself ---------------------------------------------------------------------------------------------

VIEW = re.search(r"```sql\n(create view .*?)```", FORMAT_PAGE, re.DOTALL)
COUNTS = "select project, run, count(*) as n, avg(value) as mean, min(value) as best from metrics where key = 'train/loss' group by project, run"
#: How each engine makes the view of the page, and asks of it.
STORES = {
    "DuckDB": "import duckdb\nduckdb.sql({view!r})\ntable = duckdb.sql({counts!r})",
    "ClickHouse": "import chdb\nQUERY = {counts!r}.replace('from metrics', 'from (' + {select!r} + ')')",
    "Spark": "from pyspark.sql import SparkSession\nspark = SparkSession.builder.master('local[1]').getOrCreate()\n"
    "for name in ('metrics', 'visible'):\n"
    "    spark.read.parquet(f'lossbook-runs/*/*/{{name}}').createOrReplaceTempView(name + '_files')\n"
    "spark.sql({select!r}).createOrReplaceTempView('metrics')\ntable = spark.sql({counts!r})",
}
SOURCES = {
    "DuckDB": ("", ""),
    "ClickHouse": ("file('lossbook-runs/*/*/metrics/*.parquet')", "file('lossbook-runs/*/*/visible/*.parquet')"),
    "Spark": ("metrics_files", "visible_files"),
}


@pytest.mark.parametrize("engine", sorted(STORES))
def test_the_view_of_the_format_has_the_rows_that_count(engine: str, sealed: Path) -> None:
    skip_without(engine)
    assert VIEW is not None
    select = VIEW[1].partition("as\n")[2]
    for table, source in zip(re.findall(r"read_parquet\(.*?\)", select), SOURCES[engine], strict=True):
        select = select.replace(table, source) if source else select
    code = STORES[engine].format(view=VIEW[1], counts=COUNTS, select=select)
    said = as_table([list(row) for row in lossbook.open(sealed / "lossbook-runs").sql(COUNTS).rows()])
    assert is_same(as_table(ask(code, ROWS[engine], sealed)), said)
    assert is_same(said, shown())


def test_a_run_that_was_moved_to_another_project_is_there_in_the_view(sealed: Path, tmp_path: Path) -> None:
    assert VIEW is not None
    store = tmp_path / "lossbook-runs"
    shutil.copytree(sealed / "lossbook-runs", store)
    assert main(["mv", "finished", "--project", "archive", "--store", str(store)]) == 0
    duckdb.sql(VIEW[1].replace("lossbook-runs/", f"{store}/"))
    try:
        found = duckdb.sql("select distinct project, run from metrics where run = 'finished'").fetchall()
    finally:
        duckdb.sql("drop view metrics")
    assert found == [("archive", "finished")]


def test_every_engine_of_the_page_is_tested() -> None:
    assert set(LINES) == set(ROWS)
