"""Secrets that lie about where a run begins reach none of its files."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from programs import begin, kill_group, only_run

from lossbook.cli.followers import follower_of

#: Invented, each in the form in which its kind comes; none of them is anybody's.
SECRETS = {
    "WANDB_API_KEY": "0123456789abcdef0123456789abcdef01234567",
    "HF_TOKEN": "hf_" + "PlantedSecretAbCdEfGhIjKlMn",
    "WANDB_PASSWORD": "planted-environment-password",
    "option": "planted-option-secret-1",
    "equals": "planted-option-secret-2",
    "override": "planted-hydra-override-3",
    "flag": "sk-" + "plantedOpenAiLikeSecret123456",
    "config": "planted-config-secret-4",
    "nested": "planted-nested-secret-5",
    "inside": "planted-inside-secret-6",
    "late": "planted-late-secret-7",
    "number": "90817263544536271809",
    "text": "ghp_" + "PlantedGithubTokenAbCdEf012345",
    "remote": "planted-remote-password-8",
    "quoted diff": "planted-quoted-diff-secret-9",
    "shell diff": "fedcba9876543210fedcba9876543210fedcba98",
    "yaml diff": "planted0yaml0diff0secret0A",
    "script": "planted-script-secret-B",
}

CODE = f"""
import json
API_KEY = "{SECRETS["script"]}"
planted = json.loads(sys.stdin.read())
run = lossbook.init(store=store, project="p", config={{
    "lr": 0.1, "tokens": 5, "pad_token": "<pad>", "api_key": planted["config"],
    "logger": {{"wandb": {{"password": planted["nested"]}}}}, "secrets": {{"first": [planted["inside"]]}},
    "notes": "cloned with " + planted["text"], "token": int(planted["number"]),
}})
run.config["auth_token"] = planted["late"]
run.config.update({{"deep": {{"access_key": planted["late"]}}}})
run.log({{"loss": 1.0}})
run.finish()
"""


def git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=me", "-c", "user.email=me@example.org"]
    subprocess.run(["git", "-C", str(folder), *identity, *arguments], check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A git repository with uncommitted changes, and with what people forget in it."""
    folder = tmp_path / "repository"
    folder.mkdir()
    git(folder, "init")
    for name in ("settings.py", ".env", "config.yaml"):
        (folder / name).write_text("lr = 0.1\n")
    git(folder, "add", ".")
    git(folder, "commit", "-m", "begin")
    git(folder, "remote", "add", "origin", f"https://me:{SECRETS['remote']}@example.org/me/code.git")
    (folder / "settings.py").write_text(f'lr = 0.2\npassword = "{SECRETS["quoted diff"]}"\n')
    (folder / ".env").write_text(f"lr = 0.1\nexport WANDB_API_KEY={SECRETS['shell diff']}\n")
    (folder / "config.yaml").write_text(f"lr = 0.1\nsecret_key: {SECRETS['yaml diff']}\n")
    return folder


@pytest.mark.usefixtures("follower")
def test_planted_secrets_reach_no_file_of_the_run(
    repository: Path, wait_until: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = repository / "store"
    for name in ("WANDB_API_KEY", "HF_TOKEN", "WANDB_PASSWORD"):
        monkeypatch.setenv(name, SECRETS[name])
    options = [
        "--api-key",
        SECRETS["option"],
        f"--hf_token={SECRETS['equals']}",
        f"logger.wandb.api_key={SECRETS['override']}",
        "--endpoint",
        SECRETS["flag"],
    ]
    process = begin(CODE, store, *options)
    try:
        out, err = process.communicate(json.dumps(SECRETS), timeout=60)
    finally:
        kill_group(process)
    assert process.returncode == 0, err
    folder = only_run(store)
    wait_until(lambda: follower_of(folder.path) is None, 60)
    contents = {
        os.path.relpath(os.path.join(place, name), folder.path): Path(place, name).read_bytes()
        for place, _, names in os.walk(folder.path)
        for name in names
    }
    assert {"run.json", "code/environment.json", "code/diff.patch", "code/git.json"} <= set(contents)
    # What is looked for would be found: it is all there but for the secrets.
    assert b"lr = 0.2" in contents["code/diff.patch"]
    assert b"WANDB_API_KEY" in contents["code/environment.json"]
    assert b"--api-key" in contents["run.json"]
    assert b"<pad>" in contents["run.json"]
    leaked = {
        (name, path) for name, secret in SECRETS.items() for path, text in contents.items() if secret.encode() in text
    }
    assert leaked == set()


@pytest.mark.parametrize(
    "name",
    [
        "api_key",
        "API-KEY",
        "openai.api_key",
        "hf_token",
        "token",
        "password",
        "aws_secret_access_key",
        "db_password",
        "secrets",
    ],
)
def test_names_of_secrets_are_known(name: str) -> None:
    from lossbook.redaction import is_secret_name

    assert is_secret_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "tokens",
        "pad_token",
        "eos_token",
        "num_tokens",
        "tokens_per_second",
        "tokenizer",
        "max_tokens",
        "monkey",
        "keyboard",
        "secretary_problem",
    ],
)
def test_names_of_what_is_no_secret_are_left_alone(name: str) -> None:
    from lossbook.redaction import is_secret_name

    assert not is_secret_name(name)
