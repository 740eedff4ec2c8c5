"""What a tracker cannot hold stands on the page on mirrors and in `lossbook doctor`, never only in the code."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from lossbook.registry import MIRRORS
from lossbook.trackers.mirrors import mirror_class

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "mirrors.md").read_text(encoding="utf-8")


def plain(sentence: str) -> str:
    return sentence.removeprefix("W&B: ").rstrip(".").lower()


@pytest.mark.parametrize("name", MIRRORS.own)
def test_the_page_names_all_that_a_tracker_cannot_hold(name: str) -> None:
    lacks = mirror_class(name).lacks
    assert lacks
    missing = [sentence for sentence in lacks if plain(sentence) not in PAGE.lower()]
    assert missing == []


@pytest.mark.parametrize("name", MIRRORS.own)
def test_a_mirror_says_its_own_kind_and_title(name: str) -> None:
    assert mirror_class(name).kind == name
    assert mirror_class(name).title in PAGE


def test_doctor_says_which_trackers_are_there_and_what_they_cannot_hold(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "lossbook.cli", "doctor", "--json", "--store", str(tmp_path)]
    said = subprocess.run(command, capture_output=True, text=True).stdout
    section = json.loads(said)["mirrors"]
    for name in MIRRORS.own:
        assert name in section
        assert f"{name} lacks 1" in section
