"""What exactly was run is kept with the run: commit, changes, script, packages, environment; secrets are not."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import lossbook
from lossbook.follower import capture, repository as git_repository
from lossbook.follower.capture import environment, packages
from lossbook.follower.repository import git_state
from lossbook.paths import RunFolder, read_json
from lossbook.redaction import is_secret_name, mask_arguments, mask_config, mask_text

TOKEN = "hf_" + "abcdefghij" * 3

needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


@pytest.fixture(autouse=True)
def no_git_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The user's own settings of git, and a repository around the tests, play no part."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", os.devnull)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))


def git(where: Path, *arguments: str) -> str:
    names = ["-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "init.defaultBranch=main"]
    done = subprocess.run(["git", "-C", str(where), *names, *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository of one commit, with `train.py` and `config.yaml` in it."""
    path = tmp_path / "project"
    path.mkdir()
    (path / "train.py").write_text("lr = 3e-4\n")
    (path / "config.yaml").write_text("layers: 4\n")
    git(path, "init")
    git(path, "add", ".")
    git(path, "commit", "-m", "first")
    return path


def state(where: Path, script: Path | None = None) -> dict[str, Any]:
    found = git_state(str(where), None if script is None else str(script))
    assert found is not None
    return {**found.to_json(), "diff": found.diff}


# -- git ----------------------------------------------------------------------------------------------------------


@needs_git
def test_a_clean_repository_is_its_commit(repository: Path) -> None:
    found = state(repository, repository / "train.py")
    assert (found["commit"], found["branch"]) == (git(repository, "rev-parse", "HEAD"), "main")
    assert (found["dirty"], found["untracked"], found["diff"], found["script_untracked"]) == (False, [], "", False)
    assert os.path.samefile(found["root"], repository)


@needs_git
def test_changes_are_kept_as_a_patch_that_applies(repository: Path, tmp_path: Path) -> None:
    (repository / "train.py").write_text("lr = 1e-3\n")
    (repository / "config.yaml").write_text("layers: 8\n")
    git(repository, "add", "config.yaml")
    found = state(repository)
    assert found["dirty"]
    git(repository, "reset", "--hard")
    (tmp_path / "diff.patch").write_text(found["diff"])
    git(repository, "apply", str(tmp_path / "diff.patch"))
    assert (repository / "train.py").read_text() == "lr = 1e-3\n"
    assert (repository / "config.yaml").read_text() == "layers: 8\n", "staged changes as well"


@needs_git
def test_files_that_git_does_not_know_are_listed_by_their_own_names(repository: Path) -> None:
    for name in ("new.py", "größe und mehr.txt", 'a "quoted" name'):
        (repository / name).write_text("x")
    (repository / "outputs").mkdir()
    (repository / "outputs" / "1.txt").write_text("x")
    found = state(repository)
    assert sorted(found["untracked"]) == sorted(["new.py", "größe und mehr.txt", 'a "quoted" name', "outputs/"])
    assert not found["dirty"], "nothing that is tracked has changed"


@needs_git
def test_a_renamed_file_makes_the_repository_dirty(repository: Path) -> None:
    git(repository, "mv", "config.yaml", "settings.yaml")
    found = state(repository)
    assert found["dirty"]
    assert found["untracked"] == []


@needs_git
def test_a_subfolder_belongs_to_its_repository(repository: Path) -> None:
    (repository / "deep").mkdir()
    assert state(repository / "deep")["commit"] == git(repository, "rev-parse", "HEAD")


@needs_git
def test_a_detached_head_has_a_commit_and_no_branch(repository: Path) -> None:
    git(repository, "checkout", "--detach")
    found = state(repository)
    assert (found["commit"], found["branch"]) == (git(repository, "rev-parse", "HEAD"), None)


@needs_git
def test_a_repository_without_a_commit_has_none(tmp_path: Path) -> None:
    git(tmp_path, "init")
    (tmp_path / "train.py").write_text("x = 1\n")
    found = state(tmp_path, tmp_path / "train.py")
    assert (found["commit"], found["branch"], found["diff"]) == (None, "main", "")
    assert found["script_untracked"]


@needs_git
def test_outside_a_repository_there_is_nothing_to_say(tmp_path: Path) -> None:
    assert git_state(str(tmp_path), None) is None


def test_without_git_there_is_nothing_to_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_state(str(tmp_path), None) is None


@needs_git
def test_a_password_in_the_address_of_the_remote_is_masked(repository: Path) -> None:
    git(repository, "remote", "add", "origin", "https://me:hunter2@example.org/project.git")
    assert state(repository)["remote"] == "https://***@example.org/project.git"


@needs_git
def test_secrets_in_changes_are_masked(repository: Path) -> None:
    (repository / "train.py").write_text(f'login("{TOKEN}")\napi_key = "0123456789abcdef"\n')
    diff = state(repository)["diff"]
    assert '+login("***")' in diff
    assert '+api_key = "***"' in diff


@needs_git
def test_a_huge_diff_is_cut_and_says_so(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(git_repository, "LARGEST_DIFF_BYTES", 10_000)
    (repository / "config.yaml").write_text("größe: 1\n" * 100_000)
    diff = state(repository)["diff"]
    assert len(diff) < 11_000
    assert diff.startswith("diff --git a/config.yaml")
    assert diff.endswith("[cut here: the diff is longer than 10000 bytes]\n")


@needs_git
def test_git_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = tmp_path / "bin" / "git"
    slow.parent.mkdir()
    slow.write_text("#!/bin/sh\nexec sleep 60\n")
    slow.chmod(0o755)
    monkeypatch.setenv("PATH", f"{slow.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(git_repository, "GIT_SECONDS", 0.1)
    assert git_state(str(tmp_path), None) is None


# -- a repository of somebody else's ------------------------------------------------------------------------------


def program(tmp_path: Path, name: str) -> str:
    """A command of the shell that leaves a mark when it is run."""
    return f"touch '{tmp_path}/ran-{name}'; cat"


def programs_run(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in tmp_path.glob("ran-*"))


@pytest.fixture
def hostile(repository: Path, tmp_path: Path) -> Path:
    """A repository with a changed file of each kind, whose settings name programs for everything."""
    (repository / "a.bin").write_bytes(bytes(range(256)))
    (repository / "notes.conv").write_text("one\n")
    (repository / "data.filtered").write_text("one\n")
    attributes = "*.conv diff=conv\n*.filtered filter=odd.name\n*.bin diff=outside\n"
    (repository / ".gitattributes").write_text(attributes)
    git(repository, "add", ".")
    git(repository, "commit", "-m", "more")
    (repository / "train.py").write_text("lr = 1e-3\n")
    (repository / "a.bin").write_bytes(bytes(reversed(range(256))))
    (repository / "notes.conv").write_text("two\n")
    (repository / "data.filtered").write_text("two\n")
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    for name in ("post-index-change", "fsmonitor-watchman", "post-checkout"):
        (hooks / name).write_text(f"#!/bin/sh\n{program(tmp_path, 'hook')} </dev/null\n")
        (hooks / name).chmod(0o755)
    included = tmp_path / "included"
    included.write_text(f'[diff "conv"]\n\ttextconv = "sh -c \\"touch {tmp_path}/ran-conversion\\""\n')
    for name, value in {
        "core.hooksPath": str(hooks),
        "diff.external": f"touch {tmp_path}/ran-external",
        "diff.outside.command": f"touch {tmp_path}/ran-driver",
        "filter.odd.name.clean": f"touch {tmp_path}/ran-clean; cat",
        "filter.odd.name.process": f"touch {tmp_path}/ran-process",
        "filter.odd.name.required": "true",
        "diff.submodule": "diff",
        "diff.noprefix": "true",
        "diff.orderFile": str(tmp_path / "no such file"),
        "core.pager": f"touch {tmp_path}/ran-pager",
        f"includeIf.gitdir:{repository}/.git.path": str(included),
    }.items():
        git(repository, "config", name, value)
    git(repository, "config", "core.fsmonitor", f"touch {tmp_path}/ran-monitor; true")
    return repository


@needs_git
def test_no_program_that_a_repository_names_is_run(hostile: Path, tmp_path: Path) -> None:
    found = state(hostile, hostile / "train.py")
    assert programs_run(tmp_path) == []
    assert found["dirty"]
    assert "+lr = 1e-3" in found["diff"]
    assert "+two" in found["diff"], "a text conversion is not needed to see a change"
    assert "data.filtered" not in found["diff"]
    assert found["left_out"] == ["data.filtered"]
    subprocess.run(["git", "-C", str(hostile), "status"], capture_output=True)
    assert programs_run(tmp_path) != [], "git itself would have run them"


@needs_git
def test_the_kept_diff_makes_text_and_binary_changes_again(hostile: Path, tmp_path: Path) -> None:
    (hostile / "latin.txt").write_bytes("größe\n".encode("latin-1"))
    fresh = tmp_path / "fresh"
    config = (hostile / ".git/config").read_text()
    (hostile / ".git/config").write_text("[core]\n\tbare = false\n")
    git(hostile, "add", "latin.txt")
    git(tmp_path, "clone", str(hostile), str(fresh))
    (hostile / ".git/config").write_text(config)
    (tmp_path / "diff.patch").write_bytes(os.fsencode(state(hostile)["diff"]))
    git(fresh, "apply", "--index", str(tmp_path / "diff.patch"))
    for name in ("train.py", "a.bin", "notes.conv", "latin.txt"):
        assert (fresh / name).read_bytes() == (hostile / name).read_bytes(), name


@needs_git
def test_a_submodules_own_programs_are_not_run(repository: Path, tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    git(inner, "init")
    (inner / "file").write_text("x")
    git(inner, "add", ".")
    git(inner, "commit", "-m", "inner")
    git(repository, "-c", "protocol.file.allow=always", "submodule", "add", str(inner), "sub")
    git(repository, "commit", "-m", "with a submodule")
    git(repository / "sub", "config", "core.fsmonitor", f"touch {tmp_path}/ran-inside; true")
    (repository / "sub/file").write_text("y")
    (repository / "train.py").write_text("lr = 1\n")
    git(repository, "config", "diff.submodule", "diff")
    assert "+lr = 1" in state(repository)["diff"]
    assert programs_run(tmp_path) == []


@needs_git
def test_a_long_binary_file_leaves_room_for_code(repository: Path) -> None:
    (repository / "a-weights.bin").write_bytes(b"\0")
    git(repository, "add", ".")
    git(repository, "commit", "-m", "weights")
    (repository / "a-weights.bin").write_bytes(os.urandom(2 << 20))
    (repository / "train.py").write_text("lr = 1\n")
    found = state(repository)
    assert found["left_out"] == ["a-weights.bin"]
    assert "+lr = 1" in found["diff"]
    assert len(found["diff"]) < 10_000


@needs_git
def test_masking_leaves_a_binary_patch_whole_unless_a_secret_is_in_it(repository: Path) -> None:
    (repository / "settings.bin").write_bytes(b"\0")
    git(repository, "add", ".")
    git(repository, "commit", "-m", "settings")
    (repository / "settings.bin").write_bytes(b"\0api_key = '0123456789abcdef'\0" + TOKEN.encode())
    (repository / "train.py").write_text(f"lr = 1  # {TOKEN}\n")
    diff = state(repository)["diff"]
    assert "GIT binary patch" not in diff
    assert TOKEN not in diff
    (repository / "settings.bin").write_bytes(bytes(range(200)))
    assert "GIT binary patch" in state(repository)["diff"]


@needs_git
def test_settings_of_a_repository_cannot_point_at_another_folder(repository: Path, tmp_path: Path) -> None:
    (tmp_path / "private").mkdir()
    git(repository, "config", "core.worktree", str(tmp_path / "private"))
    assert git_state(str(repository), None) is None


@needs_git
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
@pytest.mark.parametrize("trusts_options", [True, False], ids=["git 2.38 and later", "earlier"])
def test_a_repository_of_another_owner_is_read(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trusts_options: bool
) -> None:
    (repository / "train.py").write_text("lr = 1\n")
    for path in (repository, *repository.rglob("*")):
        os.chown(path, 12345, 12345)
    with pytest.raises(subprocess.CalledProcessError):
        git(repository, "status")
    if not trusts_options:
        # Before 2.38 git passed over what the command line says of this.
        real = shutil.which("git")
        wrapper = tmp_path / "bin/git"
        wrapper.parent.mkdir()
        wrapper.write_text(
            f"""#!/bin/bash
for one in "$@"; do [[ $one == safe.directory=* ]] && one=core.unused=; words+=("$one"); done
exec {real} "${{words[@]}}"
"""
        )
        wrapper.chmod(0o755)
        monkeypatch.setenv("PATH", f"{wrapper.parent}{os.pathsep}{os.environ['PATH']}")
    assert "+lr = 1" in state(repository / "..", repository / "train.py")["diff"]


# -- the rest -----------------------------------------------------------------------------------------------------


def test_installed_packages_are_listed_as_pip_does() -> None:
    lines = packages().splitlines()
    assert lines == sorted(lines, key=lambda line: line.partition("==")[0].lower())
    assert [line for line in lines if line.startswith("orjson==")]
    assert all(line.count("==") == 1 for line in lines)


def test_only_variables_that_matter_to_training_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = {"CUDA_VISIBLE_DEVICES": "0,1", "NCCL_DEBUG": "INFO", "OMP_NUM_THREADS": "4", "WORLD_SIZE": "2"}
    for name, value in kept.items():
        monkeypatch.setenv(name, value)
    for name in ("MY_DIARY", "AWS_REGION", "SSH_AUTH_SOCK", "HOME"):
        monkeypatch.setenv(name, "private")
    found = environment()
    assert found["variables"].items() >= kept.items()
    assert "private" not in found["variables"].values()
    assert found["executable"] == sys.executable


def test_secret_variables_are_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WANDB_API_KEY", "HF_HUB_TOKEN", "LOSSBOOK_STORE_PASSWORD", "SLURM_JWT_SECRET"):
        monkeypatch.setenv(name, "0123456789")
    monkeypatch.setenv("WANDB_BASE_URL", "https://me:0123456789@example.org")
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
    variables = environment()["variables"]
    assert "0123456789" not in str(variables)
    assert variables["WANDB_API_KEY"] == "***"
    assert variables["TOKENIZERS_PARALLELISM"] == "false"


@pytest.mark.parametrize(
    "name",
    [
        "api_key",
        "openai-api-key",
        "HF_TOKEN",
        "token",
        "password",
        "db.password",
        "wandb_token",
        "credentials_file",
        "openaiApiKey",
        "hub.token",
    ],
)
def test_names_of_secrets(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "tokens",
        "max_tokens",
        "tokenizer",
        "pad_token",
        "key",
        "keys",
        "monkey",
        "secretary",
        "n_tokens_per_second",
        "maxTokens",
    ],
)
def test_names_of_none(name: str) -> None:
    assert not is_secret_name(name)


@pytest.mark.parametrize(
    "secret",
    [
        TOKEN, "sk-" + "a1" * 20, "ghp_" + "a1" * 18, "github_pat_" + "a1" * 20, "AKIA" + "A1" * 8, "AIza" + "a1" * 18,
        "xoxb-" + "1" * 12, "wandb_v1_" + "a1" * 20, "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NSJ9.c2lnbmF0dXJl",
        "-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----",
    ],
)  # fmt: skip
def test_known_forms_of_secrets_are_masked_wherever_they_stand(secret: str) -> None:
    assert mask_text(f"before {secret} after") == "before *** after"
    assert mask_config({"notes": [f"x {secret}"]}) == {"notes": ["x ***"]}


@pytest.mark.parametrize(
    "text",
    [
        "sk-learn",
        "task-specific-language-model-v2",
        "loss = 3.5",
        "https://example.org/a@b",
        "/home/me/data",
        "key = value",
    ],
)
def test_a_plain_text_stays_as_it_is(text: str) -> None:
    assert mask_text(text) == text


def test_secrets_on_the_command_line_are_masked() -> None:
    given = ["python", "train.py", "--api-key", "abc", "--token=abc", "--lr", "0.1", "--hf_token", "--fast", TOKEN]
    assert mask_arguments(given) == [
        "python",
        "train.py",
        "--api-key",
        "***",
        "--token=***",
        "--lr",
        "0.1",
        "--hf_token",
        "--fast",
        "***",
    ]


# -- into the run's folder ----------------------------------------------------------------------------------------


def captured(store: Path, script: Path, attempts: int = 1) -> RunFolder:
    """A run of that script, captured as its follower would."""
    for number in range(attempts):
        run = lossbook.init(store=store, project="p", id="one", resume="allow", console=False)
        run.finish()
        folder = RunFolder(run.path)
        capture.capture(folder, attempt=number, main=True)
    return folder


@pytest.fixture
def run_from(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], Path]:
    """Makes this process look as if it had been started as that script, in its folder."""

    def start(script: Path) -> Path:
        monkeypatch.chdir(script.parent)
        monkeypatch.setattr(sys, "argv", [str(script)])
        return script

    return start


@needs_git
def test_the_commit_is_in_run_json_and_the_changes_beside_it(
    repository: Path, store: Path, run_from: Callable[[Path], Path]
) -> None:
    (repository / "train.py").write_text("lr = 1e-3\n")
    folder = captured(store, run_from(repository / "train.py"))
    identity = read_json(folder.run_json) or {}
    assert identity["git"] == {
        "commit": git(repository, "rev-parse", "HEAD"),
        "branch": "main",
        "dirty": True,
        "remote": None,
    }
    assert identity["attempts"][0]["git"] == identity["git"]
    assert sorted(os.listdir(folder.code)) == ["diff.patch", "environment.json", "git.json", "packages.txt"]
    assert "+lr = 1e-3" in Path(folder.code, "diff.patch").read_text()


@needs_git
def test_each_attempt_keeps_what_it_ran(repository: Path, store: Path, run_from: Callable[[Path], Path]) -> None:
    folder = captured(store, run_from(repository / "train.py"), attempts=2)
    assert os.path.exists(os.path.join(folder.code, "attempt-1", "git.json"))
    assert [bool(one.get("git")) for one in (read_json(folder.run_json) or {})["attempts"]] == [True, True]


@needs_git
def test_a_script_that_git_does_not_know_is_kept_whole(
    repository: Path, store: Path, run_from: Callable[[Path], Path]
) -> None:
    (repository / "try.py").write_text(f"login('{TOKEN}')\n")
    folder = captured(store, run_from(repository / "try.py"))
    assert Path(folder.code, "try.py").read_text() == "login('***')\n"


def test_a_script_outside_a_repository_is_kept_whole(
    tmp_path: Path, store: Path, run_from: Callable[[Path], Path]
) -> None:
    (tmp_path / "try.py").write_text("lr = 1\n")
    folder = captured(store, run_from(tmp_path / "try.py"))
    assert Path(folder.code, "try.py").read_text() == "lr = 1\n"
    assert (read_json(folder.run_json) or {})["git"] is None


def test_other_ranks_have_nothing_to_add(tmp_path: Path) -> None:
    capture.capture(RunFolder(str(tmp_path)), attempt=0, main=False)
    assert os.listdir(tmp_path) == []
