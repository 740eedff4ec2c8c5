"""A run's folder may come from anybody: looking at it, delivering it and sealing it touch nothing outside of it."""

from __future__ import annotations

import ast
import csv
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pseudo_terminal import run_on_a_terminal
from waiting import ends_after

import lossbook
from lossbook.cli.app import main
from lossbook.errors import StoreError
from lossbook.paths import RunFolder, file_names, read_json
from lossbook.run_files import NoSuchRunFile, has_run_file, open_run_file, read_run_file, run_file_path, walk_run_files
from lossbook.storage import seal_run, verify_run

SECRET = "planted-outside-secret"
CODE = Path(lossbook.__file__).parent
#: What a person asks of a run that somebody gave them.
LOOKING = [
    ["show", "foreign"], ["ls"], ["keys", "foreign"], ["curve", "foreign", "loss", "--csv"], ["check", "foreign"],
    ["seal"], ["verify", "--all"], ["export", "foreign", "-o", "-"], ["sql", "select count(*) from metrics"],
    ["export", "foreign", "-o", "copy.html"], ["doctor"],
]  # fmt: skip


@pytest.fixture(autouse=True)
def nothing_waits() -> Iterator[None]:
    """A pipe that is waited for ends the test instead of the whole suite."""
    with ends_after(60, "something waited for a pipe"):
        yield


def attempt(**more: Any) -> dict[str, Any]:
    return {"number": 0, "rank": 0, "format": 1, "host": "elsewhere", "pid": 1, "world_size": 1, **more}


class ForeignRun:
    """A run's folder as somebody else may have made it."""

    def __init__(self, store: Path, run_id: str = "foreign") -> None:
        self.path = store / "p" / run_id
        (self.path / "journal").mkdir(parents=True)
        self.identity(id=run_id, name=run_id)
        self.rows({"s": 1, "m": {"loss": 1.0}})

    def identity(self, **more: Any) -> None:
        begun = {"format": 1, "id": "foreign", "name": "foreign", "project": "p", "created": 1_700_000_000_000_000}
        identity = {**begun, "config": {}, "tags": [], "argv": [], "attempts": [attempt()], **more}
        (self.path / "run.json").write_text(json.dumps(identity))

    def rows(self, *rows: dict[str, Any], name: str = "r0-000001.jsonl") -> None:
        begin, end = {"k": "attempt", "v": attempt()}, {"k": "finish", "v": {"state": "finished"}}
        lines = [{"i": i, "t": 1_700_000_000_000_000 + i, **row} for i, row in enumerate([begin, *rows, end])]
        (self.path / "journal" / name).write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.fixture
def foreign(tmp_path: Path) -> ForeignRun:
    return ForeignRun(tmp_path / "store")


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder of mine, beside the store."""
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "key").write_text(SECRET)
    (folder / "table.json").write_text(json.dumps({"columns": ["x"], "rows": [[SECRET]]}))
    (folder / "work.tmp").write_text("precious")
    os.utime(folder / "work.tmp", (1e9, 1e9))
    return folder


def contents_below(folder: Path) -> bytes:
    """All bytes of all plain files of a tree."""
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink())


# -- the door -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "",
        "/etc/hostname",
        "../mine/key",
        "media/../../mine/key",
        "media//x",
        "./run.json",
        "media/",
        "a\0b",
        "x" * 5000,
    ],
)
def test_a_name_that_leads_out_of_the_run_opens_nothing(foreign: ForeignRun, outside: Path, name: str) -> None:
    with pytest.raises(NoSuchRunFile):
        open_run_file(str(foreign.path), name)
    assert not has_run_file(str(foreign.path), name)


def test_no_part_of_a_name_may_be_a_link(foreign: ForeignRun, outside: Path) -> None:
    (foreign.path / "media").mkdir()
    (foreign.path / "media/file").symlink_to(outside / "key")
    (foreign.path / "media/folder").symlink_to(outside)
    (foreign.path / "media/round").symlink_to(foreign.path / "media/round")
    (foreign.path / "media/inside").symlink_to(foreign.path / "run.json")
    for name in ("media/file", "media/folder/key", "media/round", "media/inside"):
        with pytest.raises(NoSuchRunFile, match="link"):
            read_run_file(str(foreign.path), name)


def test_nothing_but_a_plain_file_is_opened_and_nothing_is_waited_for(foreign: ForeignRun) -> None:
    (foreign.path / "media").mkdir()
    os.mkfifo(foreign.path / "media/pipe")
    for name in ("media/pipe", "media"):
        with pytest.raises(NoSuchRunFile, match="no plain file"):
            run_file_path(str(foreign.path), name)


def test_a_plain_file_is_read_through_a_run_that_is_linked_into_the_store(foreign: ForeignRun, tmp_path: Path) -> None:
    (tmp_path / "linked").symlink_to(foreign.path)
    assert b'"format"' in read_run_file(str(tmp_path / "linked"), "run.json")
    assert [one.name for one in walk_run_files(str(tmp_path / "linked"))] == ["journal/r0-000001.jsonl", "run.json"]


def test_a_listing_shows_no_link_and_looks_into_none(foreign: ForeignRun, outside: Path) -> None:
    (foreign.path / "journal/r0-000002.jsonl").symlink_to(outside / "key")
    (foreign.path / "metrics").symlink_to(outside)
    assert file_names(str(foreign.path / "journal")) == ["r0-000001.jsonl"]
    assert file_names(str(foreign.path / "metrics")) == []


def test_small_files_that_are_links_or_pipes_are_not_read(foreign: ForeignRun, outside: Path) -> None:
    (outside / "elsewhere.json").write_text('{"a": 1}')
    (foreign.path / "summary.json").symlink_to(outside / "elsewhere.json")
    with pytest.raises(StoreError, match="is a link"):
        read_json(str(foreign.path / "summary.json"))
    (foreign.path / "summary.json").unlink()
    os.mkfifo(foreign.path / "summary.json")
    with pytest.raises(StoreError, match="no plain file"):
        read_json(str(foreign.path / "summary.json"))


# -- who looks ------------------------------------------------------------------------------------------------------


def test_looking_at_a_run_full_of_links_changes_nothing_outside(
    foreign: ForeignRun,
    outside: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("metrics", "events", "media", "console", "code"):
        (foreign.path / folder).symlink_to(outside)
    (foreign.path / "journal/r0-000002.jsonl").symlink_to(outside / "key")
    before = {path.name: path.read_bytes() for path in outside.iterdir()}
    store = ["--store", str(tmp_path / "store")]
    for words in LOOKING:
        assert main([*words, *store]) in (0, 1), words
    said = capfd.readouterr()
    assert "inside Lossbook" not in said.err
    assert {path.name: path.read_bytes() for path in outside.iterdir()} == before
    assert SECRET not in said.out + said.err
    assert SECRET.encode() not in contents_below(tmp_path / "store")


def test_sealing_refuses_a_run_whose_folders_are_links(foreign: ForeignRun, outside: Path) -> None:
    (foreign.path / "metrics").symlink_to(outside)
    with pytest.raises(StoreError, match="is a link"):
        seal_run(RunFolder(str(foreign.path)), finished=True)
    assert (foreign.path / "journal/r0-000001.jsonl").exists()
    assert sorted(os.listdir(outside)) == ["key", "table.json", "work.tmp"]


def test_a_run_whose_folders_are_links_is_not_gone_on_with(
    foreign: ForeignRun, outside: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (foreign.path / "followers").symlink_to(outside)
    here = {"store": foreign.path.parent.parent, "project": "p", "id": "foreign", "console": False}
    with pytest.raises(StoreError, match="is a link"):
        lossbook.init(**here, resume="must")
    with lossbook.init(**here, resume="allow") as run:
        run.log({"loss": 0.5})
    assert run.id == "foreign-2"
    assert "is a link" in capsys.readouterr().err
    assert sorted(os.listdir(outside)) == ["key", "table.json", "work.tmp"]


def test_verify_names_each_link_and_waits_for_no_pipe(foreign: ForeignRun, outside: Path) -> None:
    (foreign.path / "media").mkdir()
    (foreign.path / f"media/{'a' * 64}.png").symlink_to(outside / "key")
    os.mkfifo(foreign.path / f"media/{'b' * 64}.png")
    (foreign.path / "console").symlink_to(outside)
    found = {one.path: one.message for one in verify_run(RunFolder(str(foreign.path))) if not one.ok}
    assert "link" in found[f"media/{'a' * 64}.png"]
    assert "link" in found["console"]


@pytest.mark.parametrize("target", ["tensorboard", "wandb:offline", "trackio", "mlflow"])
def test_a_mirror_sends_no_file_from_outside_and_writes_nowhere_that_the_run_names(
    foreign: ForeignRun, outside: Path, tmp_path: Path, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere, here = tmp_path / "elsewhere", tmp_path / "here"
    elsewhere.mkdir()
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (foreign.path / "media").mkdir()
    (foreign.path / "media/linked.png").symlink_to(outside / "key")
    (foreign.path / "media/linked.json").symlink_to(outside / "table.json")
    (foreign.path / "console").mkdir()
    (foreign.path / "console/r0.log").symlink_to(outside / "key")
    (foreign.path / "code").mkdir()
    (foreign.path / "code/diff.patch").symlink_to(outside / "key")
    names = [str(outside / "key"), "../../../mine/key", "media/linked.png", 7, None]
    tables = [str(outside / "table.json"), "../../../mine/table.json", "media/linked.json"]
    foreign.identity(cwd=str(elsewhere), script=str(outside / "key"))
    foreign.rows(
        {"s": 1, "m": {"loss": 1.0}},
        *[{"s": 1, "k": "image", "key": f"i{n}", "v": {"file": name}} for n, name in enumerate(names)],
        *[
            {"s": 1, "k": "table", "key": f"t{n}", "v": {"columns": ["x"], "count": 1, "file": name}}
            for n, name in enumerate(tables)
        ],
        {"s": 1, "k": "file", "key": "f", "v": {"path": "key", "file": str(outside / "key"), "bytes": 9}},
    )
    (foreign.path / "followers").mkdir()
    kind, _, mode = target.partition(":")
    remote = {"folder": str(elsewhere), "file": str(elsewhere / "run.wandb"), "id": "../../x", "uri": "sqlite:///x"}
    cursor = {"format": 1, "mirror": kind, "remote": remote, "delivered": {}}
    (foreign.path / f"followers/{kind}{'-offline' if mode else ''}.json").write_text(json.dumps(cursor))
    words = [sys.executable, "-c", "import lossbook.cli; raise SystemExit(lossbook.cli.main())", "sync", "foreign"]
    done = subprocess.run([*words, "--to", target, "--store", str(tmp_path / "store")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert os.listdir(elsewhere) == []
    for folder in ("store", "here", "trackio", "cache"):
        assert SECRET.encode() not in contents_below(tmp_path / folder), folder


# -- what is shown --------------------------------------------------------------------------------------------------

STEERING = "\x1b]52;c;eA==\x07 \x1b[2J \x9b31m \u202egnp.exe \u2066 \x08\x07"
AS_CSV = [
    ["export", "foreign", "-o", "-"], ["export", "foreign", "--wide", "-o", "-"],
    ["sql", "select * from runs", "--csv"], ["sql", 'select key as "=k", value from metrics', "--csv"],
    ["curve", "foreign", '=HYPERLINK("http://example.org")', "--csv"], ["compare", "foreign", "--format", "csv"],
]  # fmt: skip
FORMULAS = ['=HYPERLINK("http://example.org")', "+1+cmd", "-2+3", "@SUM(1)", "\t=1", "\r=1"]


def is_formula(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n"))
    return False


@pytest.fixture
def steering(tmp_path: Path) -> Path:
    """A store with a run whose every text would steer a terminal."""
    run = ForeignRun(tmp_path / "store")
    text = STEERING
    run.identity(name=f"name {text}", group=text, notes=text, tags=[text], config={text: text}, argv=[text], cwd=text)
    run.rows(
        {"s": 1, "m": {f"loss{text}": -1.5, "loss": -2.5}},
        {"s": 1, "k": "alert", "key": text, "v": {"title": text, "text": text, "level": "error"}},
        {"s": 1, "k": "text", "key": text, "v": {"text": text}},
        {"s": 1, "k": "note", "v": {"text": text}},
        {"s": 2, "k": "warning", "v": {"message": text}},
    )
    (run.path / "console").mkdir()
    (run.path / "console/r0.log").write_text(f"{text}\n")
    return tmp_path / "store"


@pytest.mark.parametrize(
    "words",
    [
        ["show", "foreign"], ["ls"], ["keys", "foreign"], ["sql", "select * from runs", "--csv"],
        ["sql", "select * from metrics", "--csv"], ["sql", "select value from events"], ["export", "foreign", "-o", "-"],
        ["curve", "foreign", "loss"], ["check", "foreign"], ["verify", "--all"], ["show", "foreign", "--json"],
        ["show", STEERING.strip("\x08\x07")], ["compare", "foreign"],
    ],
    ids=lambda words: " ".join(words)[:20].encode("ascii", "replace").decode(),
)  # fmt: skip
def test_nothing_that_a_run_says_steers_the_terminal(steering: Path, words: list[str]) -> None:
    command = [sys.executable, "-c", "import lossbook.cli; raise SystemExit(lossbook.cli.main())", *words]
    status, said = run_on_a_terminal([*command, "--store", str(steering)])
    assert status in (0, 1)
    text = said.decode("utf-8", "replace")
    ours = re.sub(r"\x1b\[[0-9;]*m", "", text).replace("\r\n", "\n")
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", ours)


def test_json_stays_faithful(steering: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ls", "--json", "--store", str(steering)]) == 0
    said = capsys.readouterr().out
    assert STEERING in json.loads(said)[0]["name"]
    assert "\x9b" not in said
    assert "\u202e" not in said


def test_no_cell_of_a_csv_file_begins_a_formula_and_numbers_stay_numbers(
    foreign: ForeignRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    foreign.identity(name=FORMULAS[0], group=FORMULAS[1], notes="-2.5", config={"=x": FORMULAS[2], "lr": -0.5})
    foreign.rows({"s": -1, "m": {**dict.fromkeys(FORMULAS, -1.5), "loss": -2.5}})
    store = ["--store", str(tmp_path / "store")]
    for words in AS_CSV:
        assert main([*words, *store]) == 0, words
        cells = [cell for row in csv.reader(io.StringIO(capsys.readouterr().out, newline="")) for cell in row]
        assert [cell for cell in cells if is_formula(cell)] == [], words
        assert any(cell.startswith("-") for cell in cells) or words[0] in ("curve", "sql"), words
    table = lossbook.open(tmp_path / "store").sql("select '-2.5' as a, -2.5 as b, '=1' as \"+c\", null as d")
    table.write(tmp_path / "out.csv", "csv")
    assert (tmp_path / "out.csv").read_text() == "a,b,'+c,d\n-2.5,-2.5,'=1,\n"


# -- every door is this door ----------------------------------------------------------------------------------------


def test_no_other_module_joins_what_a_row_names_into_a_path() -> None:
    """A row's `file` is handed to `run_files` as it is: whoever joins it into a path has made a second door."""
    joins: list[str] = []
    for path in sorted(CODE.rglob("*.py")):
        if path.name == "run_files.py" or "node_modules" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("os.path.join", "Path"):
                joined = [ast.unparse(argument) for argument in node.args]
                if any(
                    '["file"]' in one.replace("'", '"') or '.get("file")' in one.replace("'", '"') for one in joined
                ):
                    joins.append(f"{path.relative_to(CODE)}:{node.lineno}: {ast.unparse(node)}")
    assert joins == []


def test_no_mirror_and_no_page_opens_a_run_folders_file_by_itself() -> None:
    """What leaves the machine or is shown to others is opened through the door alone."""
    opened: list[str] = []
    openers = ("open", "shutil.copyfile", "shutil.copy", "Path", "read_json", "os.open")
    for package in ("trackers", "web", "follower", "reading", "terminal"):
        for path in sorted((CODE / package).rglob("*.py")):
            if "node_modules" in path.parts:
                continue
            for node in ast.walk(ast.parse(path.read_text())):
                if not isinstance(node, ast.Call) or ast.unparse(node.func) not in openers or not node.args:
                    continue
                named = ast.unparse(node.args[0])
                if any(f"folder.{part}" in named for part in ("media", "files", "console", "code")):
                    opened.append(f"{path.relative_to(CODE)}:{node.lineno}: {ast.unparse(node)}")
    assert [one for one in opened if not one.startswith("trackers/staging.py")] == []  # an import's own stage
