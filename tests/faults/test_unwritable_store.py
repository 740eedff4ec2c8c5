"""A store that cannot be written stops no training: the run is kept elsewhere, or nothing is, and one sentence says so."""

from __future__ import annotations

from pathlib import Path

import pytest
from programs import only_run, recorded, steps

import lossbook
from lossbook.errors import UnknownRun
from lossbook.paths import RunFolder


def sentences(said: str) -> list[str]:
    return [line for line in said.splitlines() if line.startswith("lossbook: ")]


def train(store: Path) -> lossbook.Run:
    """A training program that knows nothing of any trouble."""
    with lossbook.init(store=store, project="p", config={"lr": 1e-3}, console=False) as run:
        for step in range(3):
            run.log({"loss": step}, step=step)
        run.config["lr"] = 2e-3
        run.summary["best"] = 1
        run.note("done")
        run.alert("spike")
        run.define_metric("val/*", goal="minimize")
        run.checkpoint("model.pt")
        run.sync()
    return run


def test_a_file_in_place_of_the_store(below_a_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = train(below_a_file)
    (said,) = sentences(capsys.readouterr().err)
    assert str(below_a_file) in said
    assert "rescued" in said
    assert run.path.startswith(str(tmp_path / "cache" / "rescued"))
    assert steps(RunFolder(run.path)) == [0, 1, 2]
    assert recorded(RunFolder(run.path)).state == "finished"


@pytest.mark.root
def test_a_read_only_file_system(read_only: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = train(read_only / "store")
    (said,) = sentences(capsys.readouterr().err)
    assert "Read-only file system" in said
    assert steps(only_run(tmp_path / "cache" / "rescued")) == [0, 1, 2]
    assert run.project == "p"


@pytest.mark.root
def test_neither_the_store_nor_the_cache_can_be_written(
    read_only: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LOSSBOOK_CACHE", str(read_only / "cache"))
    run = train(read_only / "store")
    assert (run.mode, run.path) == ("disabled", "")
    assert "nothing of this run is recorded" in sentences(capsys.readouterr().err)[-1]
    assert run.config["lr"] == 2e-3


def test_a_file_in_place_of_the_project(store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store.mkdir()
    (store / "p").write_text("not a folder")
    run = train(store)
    assert len(sentences(capsys.readouterr().err)) == 1
    assert run.path.startswith(str(tmp_path / "cache" / "rescued"))


def test_a_file_in_place_of_the_run(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (store / "p").mkdir(parents=True)
    (store / "p" / "taken").write_text("not a folder")
    with lossbook.init(store=store, project="p", id="taken", console=False) as run:
        run.log({"loss": 1})
    assert len(sentences(capsys.readouterr().err)) == 1
    assert steps(RunFolder(run.path)) == [0]


def test_must_resume_raises_in_a_store_that_is_not_there(below_a_file: Path) -> None:
    with pytest.raises(UnknownRun, match="resume='must'"):
        lossbook.init(store=below_a_file, project="p", id="gone", resume="must", console=False)


def test_a_run_json_that_is_damaged_does_not_stop_its_successor(store: Path) -> None:
    with lossbook.init(store=store, project="p", id="same", console=False) as run:
        run.log({"loss": 1})
    Path(run.path, "run.json").write_text("{ torn")
    with lossbook.init(store=store, project="p", id="same", resume="allow", console=False) as other:
        other.log({"loss": 2})
    assert steps(RunFolder(other.path)) == [0]
    assert other.path != run.path
    assert Path(run.path, "run.json").read_text() == "{ torn"


def test_a_journal_folder_that_vanishes_while_training_costs_what_it_held_and_no_more(store: Path) -> None:
    import shutil

    with lossbook.init(store=store, project="p", console=False) as run:
        run.log({"loss": 0})
        shutil.rmtree(run.path)
        run.log({"loss": 1})
        run.log({"image": lossbook.Text("into nowhere")})
        run.sync()
    run.finish()


@pytest.mark.root
def test_a_store_that_turns_read_only_while_training_is_said_once(
    small_disk: object, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from passthrough import mount

    from lossbook.journal import writer

    monkeypatch.setattr(writer, "SEGMENT_BYTES", 2000)
    path: Path = small_disk.path  # type: ignore[attr-defined]
    run = lossbook.init(store=path / "store", project="p", console=False)
    run.log({"loss": 0})
    run._journal.close()
    mount("tmpfs", str(path), "tmpfs", 1 | 32, "")
    for step in range(1, 100):
        run.log({"loss": step}, step=step)
    assert capsys.readouterr().err.count("ROWS ARE BEING LOST") == 1
    mount("tmpfs", str(path), "tmpfs", 32, "")
    run.log({"loss": 100}, step=100)
    run.finish()
    assert steps(RunFolder(run.path)) == [0, 100]
    (problem,) = recorded(RunFolder(run.path)).problems()
    assert problem.startswith("99 rows could not be written")
