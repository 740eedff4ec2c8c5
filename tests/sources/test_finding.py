"""Which source a location means."""

from __future__ import annotations

from pathlib import Path

import pytest

import lossbook
from lossbook.cli.app import main
from lossbook.errors import BadArgument, StoreError
from lossbook.trackers.sources import SOURCES, find_source, source_class, source_of


def kind_of(location: str) -> str | None:
    found = source_of(location)
    return found.kind if found is not None else None


def test_a_store_is_no_source(store: Path) -> None:
    with lossbook.init(project="p", store=str(store)) as run:
        run.log({"loss": 1.0}, step=0)
    assert kind_of(str(store)) is None
    assert kind_of(f"file://{store}") is None
    # Nor is a project of it, nor a run, although both have JSON in them.
    assert kind_of(str(store / "p")) is None
    assert kind_of(str(next((store / "p").iterdir()))) is None
    assert type(lossbook.open(store)).__name__ == "Book"


def test_a_store_whose_runs_are_all_deleted_is_one_whatever_lies_in_it(store: Path) -> None:
    with lossbook.init(project="p", store=str(store)) as run:
        run.log({"loss": 1.0}, step=0)
    assert main(["--store", str(store), "rm", run.id, "--yes"]) == 0
    (store / "table.csv").write_text("step,loss\n1,2\n")
    assert kind_of(str(store)) is None


def test_an_empty_folder_and_one_that_is_not_there_are_no_source(tmp_path: Path) -> None:
    assert kind_of(str(tmp_path)) is None
    assert kind_of(str(tmp_path / "nowhere")) is None
    with pytest.raises(StoreError, match="there is no store"):
        lossbook.open(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("location", "kind"),
    [("wandb://a/b", "wandb"), ("trackio://p", "trackio"), ("mlflow://e", "mlflow"), ("tensorboard://x", "tensorboard"),
     ("logs://x", "logs")],
)  # fmt: skip
def test_a_scheme_names_its_source(location: str, kind: str) -> None:
    assert kind_of(location) == kind


def test_a_scheme_that_nobody_knows_is_one_sentence() -> None:
    with pytest.raises(BadArgument, match=r"comet://x.*wandb://"):
        find_source("comet://x")
    with pytest.raises(BadArgument, match="tensorboard"):
        source_class("comet")


def test_a_folder_is_known_by_what_lies_in_it(tmp_path: Path) -> None:
    for path, kind in (
        ("a/run-1/run-abc.wandb", "wandb-offline"),
        ("b/deep/events.out.tfevents.1.host.2", "tensorboard"),
        ("c/log.jsonl", "logs"),
    ):
        file = tmp_path / path
        file.parent.mkdir(parents=True)
        file.write_bytes(b"")
        assert kind_of(str(tmp_path / path.split("/")[0])) == kind
        assert kind_of(str(file)) == kind


@pytest.mark.parametrize("kind", SOURCES.own)
def test_a_source_says_its_own_kind_its_title_and_what_it_lacks(kind: str) -> None:
    found = source_class(kind)
    assert found.kind == kind
    assert found.title
    assert found.lacks
    assert all(sentence.endswith(".") for sentence in found.lacks)


def test_logs_beside_another_trackers_files_are_not_what_is_meant(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("[]")
    (tmp_path / "z").mkdir()
    (tmp_path / "z" / "events.out.tfevents.1.host.2").write_bytes(b"")
    assert kind_of(str(tmp_path)) == "tensorboard"


def test_the_command_refuses_what_it_cannot_import(store: Path, tmp_path: Path, capsys) -> None:
    with lossbook.init(project="p", store=str(store)) as run:
        run.log({"loss": 1.0}, step=0)
    (tmp_path / "log.jsonl").write_text('{"step": 3, "loss": 1.5}\n')
    for arguments, said in (
        (["import", str(store)], "a store of Lossbook's own"),
        (["import", str(tmp_path / "nothing")], "there is no"),
        (["import", str(tmp_path / "log.jsonl"), "--to", "s3://bucket"], "no folder"),
        (["import", str(tmp_path / "log.jsonl"), "--to", str(store), "--run", "lag"], "the nearest are log"),
        (["import", "comet://x"], "is no source"),
    ):
        assert main(arguments) == 1
        assert said in capsys.readouterr().err


def test_commands_read_a_source_where_they_read_a_store(tmp_path: Path, capsys) -> None:
    (tmp_path / "log.jsonl").write_text("".join(f'{{"step": {step}, "loss": {step}}}\n' for step in range(9)))
    for arguments, said in (
        (["ls"], "log"),
        (["show"], "loss"),
        (["keys"], "loss"),
        (["curve", "latest", "loss"], ""),
        (["sql", "select max(value) as top from metrics"], "8"),
        (["best", "loss"], "0"),
        (["export", "latest"], "loss"),
    ):
        assert main(["--store", str(tmp_path / "log.jsonl"), *arguments]) == 0, capsys.readouterr()
        assert said in capsys.readouterr().out


def test_runs_are_put_into_the_project_that_is_named(tmp_path: Path, store: Path) -> None:
    (tmp_path / "log.jsonl").write_text('{"step": 3, "loss": 1.5}\n')
    assert main(["import", str(tmp_path / "log.jsonl"), "--to", str(store), "--project", "mine"]) == 0
    assert lossbook.open(store).run().project == "mine"
    assert main(["--store", str(store), "verify"]) == 0
