"""Secrets that lie about where a run begins reach none of its files."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings, strategies as st
from programs import begin, kill_group, only_run

import lossbook
from lossbook.cli.app import main
from lossbook.cli.followers import follower_of
from lossbook.redaction import is_secret_name, mask_arguments, mask_named_values, mask_text

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
    assert not is_secret_name(name)


# -- at every depth -------------------------------------------------------------------------------------------------

SECRET = "planted-hunter2-horse"


class Options(NamedTuple):
    lr: float
    api_key: str


@dataclass
class Login:
    user: str
    password: str
    inner: Options | None = None


class Plain:
    """An object that only has a text."""

    def __repr__(self) -> str:
        return f"Plain(lr=0.1, api_key='{SECRET}', token={SECRET})"


HOLDERS: dict[str, object] = {
    "a named tuple": Options(0.1, SECRET),
    "a named tuple in a list": [1, Options(0.1, SECRET)],
    "a data class": Login("me", SECRET),
    "a named tuple in a data class in a tuple": (Login("me", "***", Options(0.1, SECRET)),),
    "a dictionary in a list in a dictionary": {"clients": [{"name": "a", "auth_token": SECRET}]},
    "a list under a secret name": {"secrets": [SECRET, [SECRET]]},
    "the text of an object": Plain(),
    "a URL": f"https://me:{SECRET}@example.org/data",
    "a key with a slash": {"wandb/api_key": SECRET},
    "text under a secret name": {"password": SECRET},
}


def everything_written(store: Path) -> str:
    return "".join(path.read_text(errors="replace") for path in store.rglob("*") if path.is_file())


@pytest.mark.parametrize("holder", HOLDERS.values(), ids=HOLDERS)
def test_a_secret_is_masked_however_it_is_held(
    store: Path, holder: object, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LOSSBOOK_FOLLOWER", "off")
    run = lossbook.init(store=store, project="p", id="r", config={"first": holder}, console=False, system_metrics=False)
    run.config["later"] = holder
    run.config.update({"deep": {"deeper": [holder]}})
    run.summary["result"] = holder
    run.summary.update({"nested": {"deeper": holder}})
    run.finish()
    assert SECRET not in everything_written(store)
    for words in (["show", "r"], ["export", "r", "-o", "-"], ["sql", "select * from runs"], ["show", "r", "--json"]):
        main([*words, "--store", str(store)])
    assert SECRET not in "".join(capsys.readouterr())


def test_a_secret_under_a_name_of_the_summary_is_masked(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOSSBOOK_FOLLOWER", "off")
    run = lossbook.init(store=store, project="p", id="r", console=False, system_metrics=False)
    run.summary["password"] = SECRET
    run.summary["api_key"] = 90817263544536
    run.summary["best"] = 0.25
    run.summary["tokens"] = 123_456_789
    run.log({"password": SECRET, "loss": 1.0})
    run.finish()
    assert SECRET not in everything_written(store)
    assert "90817263544536" not in everything_written(store)
    summary = lossbook.open(store).run("r").summary
    assert (summary["best"], summary["tokens"]) == (0.25, 123_456_789)


def test_the_error_of_a_failed_run_repeats_no_password(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOSSBOOK_FOLLOWER", "off")
    with pytest.raises(ConnectionError), lossbook.init(store=store, project="p", id="r", console=False):
        raise ConnectionError(f"cannot reach https://me:{SECRET}@example.org")
    assert SECRET not in everything_written(store)


def test_named_tuples_keep_their_names(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOSSBOOK_FOLLOWER", "off")
    config = {"options": Options(0.1, "***"), "betas": (0.9, 0.999)}
    lossbook.init(store=store, project="p", id="r", config=config, console=False, system_metrics=False).finish()
    assert lossbook.open(store).run("r").config == {"options": {"lr": 0.1, "api_key": "***"}, "betas": [0.9, 0.999]}


def test_a_value_inside_an_argument_is_masked_by_its_name() -> None:
    given = ["train.py", f"--set=logger.api_key={SECRET},lr=0.1", f"+trainer={{token: {SECRET}}}", "pad_token=<pad>"]
    said = " ".join(mask_arguments(given))
    assert SECRET not in said
    assert "lr=0.1" in said
    assert "pad_token=<pad>" in said


@pytest.mark.parametrize(
    "text",
    [
        "://" + "a" * 200_000, "https://" * 25_000, "eyJ-" * 50_000, "-----BEGIN PRIVATE KEY-----" * 8_000, "sk-" * 60_000,
        "api_key=1" * 22_000 + ",", "password" + " " * 200_000, 'api_key="' * 20_000, "a" * 200_000, "a: " * 60_000,
        "hf_" + "a" * 19 + "hf_" * 60_000, "x.y-z/" * 30_000,
    ],
    ids=lambda text: text[:12],
)  # fmt: skip
def test_masking_ends_whatever_the_text_is(text: str) -> None:
    """A quadratic pattern takes minutes for these, in the training process, where what is printed is masked."""

    def too_late(*_: object) -> None:
        raise TimeoutError("masking does not come to an end")

    before = signal.signal(signal.SIGALRM, too_late)
    signal.alarm(60)
    try:
        masked = mask_named_values(text)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    assert len(masked) <= len(text)


# -- patterns are asked only where they can find something -------------------------------------------------------------

#: What secrets, and texts that are nearly secrets, are made of; `K` and `ſ` are k and s where case is ignored.
PIECES = (
    *("sk-", "hf_", "ghp_", "github_pat_", "AKIA", "AIza", "xoxb-", "eyJ", "wandb_v1_"),
    *("-----BEGIN ", "-----END ", "PRIVATE KEY-----", "://", "@", ":", "=", '"', "'", " ", "\n", ".", "_", "-", "/"),
    *(
        "api_key",
        "apikey",
        "API_KEY",
        "apı_key",
        "secret_key",
        "ſecret_key",
        "access_Key",
        "auth_token",
        "aCCess_toKen",
    ),
    *("password", "paſſwd", "A" * 16, "a1" * 12, "0" * 16, "abc123", "x", "é", "https", "me"),
)
NAMES = (
    *("api", "key", "Key", "K", "secret", "token", "s", "pass", "word", "wd", "phrase", "auth", "access", "private"),
    *("refresh", "hf", "hub", "hugging", "face", "github", "bearer", "Bearer", "credential", "credentıal", "cookie"),
    *("dsn", "connection", "string", "netrc", "webhook", "id", "file", "url", "_", "-", " ", ".", "/", ":", "1", "é"),
)
#: No secret, and with something of each secret in it, so that behind it no pattern is left out.
EVERY_MARK = "AKIA AIza eyJ - _ = : a://b@c key passw token .\n"


@settings(deadline=None, max_examples=2000)
@given(st.lists(st.sampled_from(PIECES), max_size=10).map("".join))
def test_a_secret_is_masked_whatever_else_the_text_holds(text: str) -> None:
    assert mask_text(EVERY_MARK + text) == mask_text(EVERY_MARK) + mask_text(text)


@settings(deadline=None, max_examples=2000)
@given(st.lists(st.sampled_from(NAMES), max_size=6).map("".join))
def test_a_secret_name_is_one_beside_letters_of_other_languages(name: str) -> None:
    assert is_secret_name(name) == is_secret_name(f"é/token_count_é/{name}")
