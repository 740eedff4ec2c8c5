"""`lossbook plot`: which words are runs and which metrics, and what comes out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from recorded import Command

pytest.importorskip("matplotlib", reason="matplotlib is not installed: pip install 'lossbook[plot]'")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "runs", "keys"),
    [
        (["baseline"], ["baseline"], ["train_loss", "val_loss"]),
        (["baseline", "wide"], ["baseline", "wide"], ["train_loss", "val_loss"]),
        (["baseline", "train/loss"], ["baseline"], ["train/loss"]),
        (["base", "wi", "lr", "tokens"], ["baseline", "wide"], ["lr", "tokens"]),
        (["baseline,wide", "train_loss,lr"], ["baseline", "wide"], ["train_loss", "lr"]),
        (["baseline", "baseline"], ["baseline"], ["train_loss", "val_loss"]),
    ],
)
def test_words_are_runs_first_then_metrics(
    command: Command, store: Path, run_id: Callable[[str], str], words: list[str], runs: list[str], keys: list[str]
) -> None:
    done = command("plot", *words, "--json")
    assert done.status == 0, done.err
    assert done.json == {"path": "loss.png", "runs": [run_id(name) for name in runs], "keys": keys}
    assert Path("loss.png").read_bytes().startswith(b"\x89PNG")


def test_without_words_the_latest_run_is_drawn(command: Command, store: Path) -> None:
    done = command("plot", "--project", "gpt2")
    assert done.out == "loss.png  train_loss, val_loss of 1 run\n"
    assert command("plot", "val/loss", "--project", "gpt2").out == "loss.png  val/loss of 1 run\n"


def test_options_reach_the_picture(command: Command, store: Path) -> None:
    done = command(
        "plot",
        "baseline",
        "train/loss",
        "--x",
        "tokens",
        "--smooth",
        "ema:0.9",
        "--log-x",
        "--log-y",
        "--from",
        1000,
        "--to",
        200_000,
        "--title",
        "Tokens <seen>",
        "--no-marks",
        "--no-raw",
        "--width",
        4,
        "--height",
        3,
        "-o",
        "tokens.svg",
    )
    assert done.status == 0, done.err
    assert 'width="288pt" height="216pt"' in Path("tokens.svg").read_text(encoding="utf-8")
    plain = command("plot", "baseline", "train/loss", "-o", "plain.svg")
    assert plain.status == 0
    assert Path("tokens.svg").read_bytes() != Path("plain.svg").read_bytes()


def test_runs_are_chosen_by_an_expression_and_banded(
    command: Command, store: Path, run_id: Callable[[str], str]
) -> None:
    done = command("plot", "--where", "project = 'gpt2'", "--band", "config.lr", "train/loss", "--json")
    assert done.status == 0, done.err
    assert sorted(done.json["runs"]) == sorted([run_id("baseline"), run_id("wide")])
    refused = command("plot", "--where", "name = 'nobody'")
    assert (refused.status, refused.out) == (1, "")
    assert "no run in" in refused.err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nosuchword"], "neither a run nor a metric 'nosuchword'"),
        (["baseline", "train/los"], "the nearest are"),
        (["baseline", "-o", "loss.gif"], ".png, .svg or .pdf"),
        (["baseline", "--smooth", "a lot"], "ema:0.99"),
        (["baseline", "--x", "nosuch"], "nosuch"),
        (["baseline", "--band", "config.depth"], "config.depth"),
        (["baseline", "--from", 10, "--to", 5], "beyond"),
    ],
)
def test_what_cannot_be_drawn_is_refused_in_one_sentence(
    command: Command, store: Path, here: Path, arguments: list[object], says: str
) -> None:
    done = command("plot", *arguments)
    assert (done.status, done.out) == (1, "")
    assert says in done.err
    assert done.err.count("\n") == 1
    assert not list(here.glob("loss*"))
