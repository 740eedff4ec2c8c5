"""`tag`, `note`, `rename`, `rm`, `undo`, `mv`, `seal`, `verify`, `doctor` and `completion`."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from recorded import STEPS, Command
from waiting import wait_until

import lossbook
from lossbook.cli import moving
from lossbook.cli.followers import follower_of
from lossbook.reading.index import index_path

FindId = Callable[[str], str]


def names(command: Command, *options: object) -> list[str]:
    return sorted(one["name"] for one in command("ls", "--json", *options).json)


def tree(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix != ".lock"
    }


# -- what people say ----------------------------------------------------------------------------------------------


def test_tags_are_added_and_taken_away(store: Path, command: Command) -> None:
    assert command("tag", "baseline").out == "ablation\n"
    assert command("tag", "baseline", "+keep", "-ablation", "+paper").out == "keep paper\n"
    assert command("ls", "--where", "tags = 'paper'", "--columns", "name").out.split() == ["name", "baseline"]


def test_a_tag_without_a_sign_or_that_is_not_there_is_refused(store: Path, command: Command) -> None:
    assert command("tag", "baseline", "keep").status == 2
    refused = command("tag", "baseline", "+new", "-nope")
    assert refused.status == 1
    assert "has no tag 'nope'" in refused.err
    assert command("tag", "baseline").out == "ablation\n"


def test_notes_grow_are_edited_and_cleared(store: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    assert command("note", "baseline").out == "(no notes)\n"
    command("note", "baseline", "a", "bad", "batch")
    assert command("note", "baseline", "at 177").out == "a bad batch\nat 177\n"
    monkeypatch.setenv("EDITOR", "sed -i s/bad/good/")
    assert command("note", "baseline", "--edit").out == "a good batch\nat 177\n"
    monkeypatch.setenv("EDITOR", "false")
    assert "as they were" in command("note", "baseline", "--edit").err
    command("note", "baseline", "--clear")
    assert command("note", "baseline", "--json").json["notes"] is None


def test_a_renamed_run_answers_to_its_new_name(store: Path, command: Command, run_id: FindId) -> None:
    identity = run_id("baseline")
    command("rename", "baseline", "the control")
    assert run_id("the control") == identity
    assert command("rename", "the control", " ").status == 1


# -- rm and undo --------------------------------------------------------------------------------------------------


def test_a_removed_run_comes_back_as_it_was(store: Path, command: Command, run_id: FindId) -> None:
    folder = store / "gpt2" / run_id("baseline")
    before = tree(folder)
    assert command("rm", "baseline").status == 0
    assert names(command) == ["broken", "wide"]
    assert not folder.exists()
    assert command("rm", "--trash", "--json").json[0]["name"] == "baseline"
    assert command("undo").status == 0
    assert tree(folder) == before
    assert names(command) == ["baseline", "broken", "wide"]
    assert command("undo").status == 1


def test_undo_finds_a_run_by_name_among_several(store: Path, command: Command) -> None:
    command("rm", "baseline", "wide", "broken")
    command("undo", "baseline")
    assert names(command) == ["baseline"]
    command("rm", "--undo")
    assert len(names(command)) == 2
    assert "no run 'nope' lies in the trash" in command("undo", "nope").err


def test_undo_never_overwrites_a_run(store: Path, command: Command, run_id: FindId) -> None:
    folder = store / "gpt2" / run_id("baseline")
    shutil.copytree(folder, store / "copy")
    command("rm", "baseline")
    shutil.move(store / "copy", folder)
    refused = command("undo")
    assert refused.status == 1
    assert "there is another run at" in refused.err
    assert len(command("rm", "--trash", "--json").json) == 1


def test_an_unknown_run_among_several_removes_none(store: Path, command: Command) -> None:
    assert command("rm", "baseline", "nope").status == 1
    assert len(names(command)) == 3


def test_the_trash_is_emptied_for_good(store: Path, command: Command) -> None:
    command("rm", "baseline")
    assert "Deleted 1 run" in command("rm", "--empty-trash", "--yes").out
    assert command("undo").status == 1
    assert names(command) == ["broken", "wide"]


# -- mv -----------------------------------------------------------------------------------------------------------


def test_a_run_moves_to_another_project(store: Path, command: Command, run_id: FindId) -> None:
    identity = run_id("baseline")
    assert command("mv", "baseline", "--project", "archive").status == 0
    moved = json.loads((store / "archive" / identity / "run.json").read_text())
    assert moved["project"] == "archive"
    assert names(command, "--project", "archive") == ["baseline"]
    assert command("curve", "baseline", "train_loss", "--json").json[0]["count"]


def test_a_run_moves_to_another_store(store: Path, command: Command, tmp_path: Path, run_id: FindId) -> None:
    source = store / "gpt2" / run_id("wide")
    before = tree(source)
    other = tmp_path / "other"
    assert command("mv", "wide", "--to", other).status == 0
    assert not source.exists()
    after = tree(other / "gpt2" / source.name)
    assert {name: text for name, text in after.items() if name != "run.json"} == {
        name: text for name, text in before.items() if name != "run.json"
    }
    assert names(command, "--store", other) == ["wide"]


def across_devices(source: object, target: object, *_: Any, real: Any = os.rename) -> None:
    if os.path.dirname(os.path.dirname(str(source))) != os.path.dirname(os.path.dirname(str(target))):
        raise OSError(errno.EXDEV, "Invalid cross-device link")
    real(source, target)


def test_a_run_moves_between_file_systems(
    store: Path, command: Command, tmp_path: Path, run_id: FindId, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = store / "gpt2" / run_id("wide")
    before = tree(source)
    monkeypatch.setattr(moving.os, "rename", across_devices)
    assert command("mv", "wide", "--to", tmp_path / "other").status == 0
    after = tree(tmp_path / "other" / "gpt2" / source.name)
    assert after.keys() == before.keys()
    assert not source.exists()
    assert [path.name for path in (tmp_path / "other" / "gpt2").iterdir()] == [source.name]


def test_a_copy_that_fails_leaves_the_run_where_it_was(
    store: Path, command: Command, tmp_path: Path, run_id: FindId, monkeypatch: pytest.MonkeyPatch
) -> None:
    def copy_badly(folder: str, target: str, **_: Any) -> None:
        os.makedirs(target)
        for name, text in tree(Path(folder)).items():
            path = Path(target) / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(text[:-1] if name.endswith(".parquet") else text)

    source = store / "gpt2" / run_id("wide")
    before = tree(source)
    monkeypatch.setattr(moving.os, "rename", across_devices)
    monkeypatch.setattr(moving.shutil, "copytree", copy_badly)
    refused = command("mv", "wide", "--to", tmp_path / "other")
    assert refused.status == 1
    assert "left where it was" in refused.err
    assert tree(source) == before
    assert list((tmp_path / "other").iterdir()) == []


def test_a_run_is_never_moved_onto_another(store: Path, command: Command, tmp_path: Path, run_id: FindId) -> None:
    target = tmp_path / "other" / "gpt2" / run_id("wide")
    target.mkdir(parents=True)
    assert "there is something at" in command("mv", "wide", "--to", tmp_path / "other").err
    assert "it lies there already" in command("mv", "wide", "--to", store).err
    assert command("mv", "wide").status == 2


# -- seal and verify ----------------------------------------------------------------------------------------------


def unsealed(store: Path) -> Path:
    """A run whose training and follower were killed before anything was sealed."""
    script = (
        "import os, signal, lossbook\n"
        f"run = lossbook.init(store={str(store)!r}, project='gpt2', name='killed', console=False)\n"
        f"for step in range({STEPS}): run.log({{'loss': float(step)}}, step=step)\n"
        "print(run.path, flush=True)\n"
        "os.killpg(0, signal.SIGKILL)\n"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, start_new_session=True)
    path = Path(ran.stdout.strip())
    wait_until(lambda: follower_of(str(path)) is None)
    return path


def test_seal_does_the_work_of_a_follower(store: Path, command: Command) -> None:
    path = unsealed(store)
    done = command("seal", "--all", "--json")
    assert done.status == 0
    assert len(done.json) == 4
    assert list(path.glob("metrics/*.parquet"))
    assert not list(path.glob("journal/*.jsonl"))
    assert command("ls", "--where", "name = 'killed'", "--json").json[0]["state"] == "crashed"
    assert command("sql", "select count(*) as n from metrics where name = 'killed'", "--json").json == [{"n": STEPS}]
    assert "nothing to seal" in command("seal", "killed").out


def test_verify_finds_whole_runs_whole(store: Path, command: Command) -> None:
    checked = command("verify", "--all")
    assert checked.status == 0
    assert "3 runs" in checked.out.splitlines()[-1]
    assert "all whole" in checked.out


def test_verify_names_the_damaged_file(store: Path, command: Command, run_id: FindId) -> None:
    folder = store / "gpt2" / run_id("wide")
    path = next(path for path in (folder / "metrics").glob("*.parquet") if "rollup" not in path.name)
    path.write_bytes(path.read_bytes()[:-500])
    checked = command("verify", "wide", "--json")
    assert checked.status == 1
    bad = [one for one in checked.json[0]["findings"] if not one["ok"]]
    assert any(path.name in one["path"] for one in bad)
    assert command("verify", "--all", "--quiet").status == 1
    assert "1 of them damaged" in command("verify", "--all").out


# -- doctor and completion ----------------------------------------------------------------------------------------


def test_doctor_tells_about_installation_store_and_runs(store: Path, command: Command) -> None:
    found = command("doctor", "--json").json
    assert found["installation"]["duckdb"][0].isdigit()
    assert found["store"]["durability"].partition(":")[0] in ("process", "async")
    assert found["runs"]["recorded"] == "3"
    assert list(store.glob(".lossbook-doctor*")) == []


def test_doctor_warns_of_a_damaged_index(store: Path, command: Command) -> None:
    command("ls")
    Path(index_path(str(store))).write_bytes(b"\x00\xff")
    checked = command("doctor")
    assert checked.status == 1
    assert f"{index_path(str(store))} is damaged" in checked.out


def test_doctor_sees_a_run_that_nobody_follows(store: Path, command: Command, tmp_path: Path) -> None:
    with lossbook.init(store=store, project="gpt2", name="alone", console=False) as run:
        wait_until(lambda: follower_of(run.path) is not None)
        os.kill(int(follower_of(run.path) or 0), 9)
        wait_until(lambda: follower_of(run.path) is None)
        assert f"nobody follows the run {run.id}" in command("doctor").out


def test_doctor_reads_the_kernels_list_of_amd_gpus(tmp_path: Path) -> None:
    from lossbook.cli.doctor import amd_gpus

    for node, properties in enumerate(("simd_count 0\n", "simd_count 1216\ngfx_target_version 90402\n")):
        bank = tmp_path / str(node) / "mem_banks" / "0"
        bank.mkdir(parents=True)
        (tmp_path / str(node) / "properties").write_text(properties)
        (bank / "properties").write_text(f"heap_type 1\nsize_in_bytes {192 << 30}\n")
    assert amd_gpus(str(tmp_path)) == ["AMD gfx942, 192 GiB"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script(shell: str, command: Command) -> None:
    assert "_LOSSBOOK_COMPLETE" in command("completion", shell).out


def test_runs_and_keys_complete_from_the_store(store: Path) -> None:
    def complete(*words: str) -> str:
        line = {"COMP_WORDS": " ".join(words), "COMP_CWORD": str(len(words) - 1), "_LOSSBOOK_COMPLETE": "bash_complete"}
        ran = subprocess.run(
            [sys.executable, "-c", "import sys; from lossbook.cli import main; sys.exit(main([]))"],
            env={**os.environ, **line},
            capture_output=True,
            text=True,
        )
        return ran.stdout

    assert "plain,baseline" in complete("lossbook", "show", "ba")
    assert "plain,train_loss" in complete("lossbook", "curve", "baseline", "tr")
