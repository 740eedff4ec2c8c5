"""`lossbook export --html`: one file with the page and its answers, that asks nobody."""

from __future__ import annotations

import random
import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy
import pytest

import lossbook
from lossbook.cli import main

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

SPIKE = 321.0


def record(store: Path, name: str, *, group: str | None = None, steps: int = 400, seed: int = 0) -> str:
    chance = random.Random(seed)
    config = {"lr": 1e-3 * (seed + 1), "model": {"depth": 4}}
    with lossbook.init(project="a team", name=name, group=group, config=config, store=store, notes="first try") as run:
        for step in range(steps):
            row = {"train/loss": 3 + 5 / (1 + step / 20) + chance.gauss(0, 0.01), "tokens": step * 512}
            if step == steps // 2:
                row["train/loss"] = SPIKE
            if step % 10 == 0:
                row |= {f"layers/{layer}/grad_norm": chance.random() for layer in range(6)}
            run.log(row, step=step)
        run.log(
            {
                "sample": lossbook.Text("Once </script><script>window.hurt = 1</script> upon a time"),
                "weights": lossbook.Histogram(numpy.arange(100.0)),
                "picture": lossbook.Image(numpy.full((8, 8, 3), 200, dtype=numpy.uint8)),
                "answers": lossbook.Table(columns=["asked", "told"], rows=[["2 + 2", 4]]),
            },
            step=steps - 1,
        )
        run.alert("looked at", level="info")
        return str(run.id)


def export(store: Path, *arguments: str) -> int:
    return main(["export", "--store", str(store), *arguments])


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def offline(browser: Browser, complaints: list[str]) -> Page:
    """A page that notes every request that leaves the file."""
    context = browser.new_context(viewport={"width": 1280, "height": 800}, accept_downloads=True)
    context.set_default_timeout(20_000)
    page = context.new_page()
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: complaints.append(request.url) if request.url.startswith("http") else None)
    return page


def test_a_copy_shows_a_project_and_asks_nobody(
    store: Path, offline: Page, complaints: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    for seed in range(2):
        record(store, f"run </script> {seed}", group="pair", seed=seed)
    assert export(store, "--project", "a team", "--html", "-o", "team.html") == 0
    assert "of 2 runs in team.html" in capsys.readouterr().err
    offline.goto(Path("team.html").absolute().as_uri())
    offline.get_by_role("heading", name="train", exact=False).first.wait_for()
    offline.get_by_text("a copy: nothing new comes").wait_for()
    offline.get_by_text("run </script> 1").first.wait_for()
    assert "a%20team" in offline.url
    curves = offline.evaluate("() => document.querySelectorAll('figure canvas').length")
    assert curves > 0
    offline.keyboard.press("2")
    offline.get_by_role("grid").wait_for()
    assert complaints == []
    offline.context.close()


def test_a_copy_of_one_run_opens_at_it_with_its_texts_and_pictures(
    store: Path, offline: Page, complaints: list[str]
) -> None:
    record(store, "alone")
    assert export(store, "alone", "-o", "alone.html") == 0
    offline.goto(Path("alone.html").absolute().as_uri())
    offline.get_by_text("first try").first.wait_for()
    offline.get_by_role("link", name="Media").click()
    offline.locator("img[src^='data:image/png']").first.wait_for()
    offline.get_by_text("<script>window.hurt = 1</script>").first.wait_for()
    assert offline.evaluate("() => window.hurt") is None
    offline.get_by_role("link", name="Console").click()
    offline.get_by_role("link", name="Layers").click()
    offline.locator("canvas").first.wait_for()
    assert complaints == []
    offline.context.close()


def test_a_copy_has_every_spike_and_no_path_of_the_machine(store: Path) -> None:
    record(store, "alone", steps=3000)
    assert export(store, "alone", "-o", "alone.html", "--points", "50") == 0
    text = Path("alone.html").read_text()
    assert str(store) not in text
    header, numbers = unpack(text)
    curve = next(one for name, one in header["curves"].items() if name.split("\n")[1:] == ["train/loss", "step"])
    assert curve["length"] <= 50
    highest = curve["arrays"][5]
    assert SPIKE in numbers[highest : highest + curve["length"]]
    assert str(store) not in str(header)


def unpack(text: str) -> tuple[dict, numpy.ndarray]:
    import base64
    import gzip

    from lossbook.web.binary import decode_frame

    found = re.search(r'id="lossbook-copy">([^<]+)<', text)
    assert found
    return decode_frame(gzip.decompress(base64.b64decode(found[1])))


def test_what_a_copy_cannot_be_is_one_sentence(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record(store, "alone", steps=5)
    for arguments, sentence in (
        (["--html", "--format", "csv", "-o", "a.html"], "two files"),
        (["--points", "50", "-o", "a.csv"], "--points is for --html"),
        (["--html", "--keys", "nothing", "-o", "a.html"], "no run among those named logged 'nothing'"),
        (["--html", "-o", "nowhere/a.html"], "cannot be written"),
    ):
        assert export(store, "alone", *arguments) == 1
        told = capsys.readouterr().err
        assert sentence in told
        assert len(told.strip().splitlines()) == 1
    assert export(store, "alone", "-o", "a.html") == 0
    capsys.readouterr()
    assert export(store, "alone", "-o", "a.html") == 1
    assert "--force replaces it" in capsys.readouterr().err


def test_only_the_named_metrics_are_copied(store: Path) -> None:
    record(store, "alone", steps=20)
    assert export(store, "alone", "--keys", "loss", "-o", "a.html") == 0
    header, _ = unpack(Path("a.html").read_text())
    assert {name.split("\n")[1] for name in header["curves"]} == {"train/loss"}
