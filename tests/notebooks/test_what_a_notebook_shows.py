"""Runs, tables and curves as a notebook shows them: whole, escaped, and without anything from outside."""

from __future__ import annotations

import html.parser
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
from IPython.core.formatters import HTMLFormatter
from notebooks.conftest import Kernel
from waiting import wait_until

import lossbook
from lossbook.served_pages import noted, served_at

HOSTILE = "<img src=x onerror=alert(1)>\"'&\u202e</style><script>alert(2)</script>"
#: What draws and what arranges; nothing that runs or loads.
TAGS = {*("div", "span", "i", "b", "a", "style"), *("table", "thead", "tbody", "tr", "th", "td")}
DRAWING = {"svg", "line", "text", "polyline", "polygon", "circle", "path", "title"}


class Page(html.parser.HTMLParser):
    """The tags and attributes of a page, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.attributes: dict[str, list[str]] = {}
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.open.append(tag)
        for name, value in attrs:
            self.attributes.setdefault(name, []).append(value or "")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.text += f" {data}"


def page_of(shown: object) -> Page:
    """What a notebook shows of an object; it is well formed, runs nothing and loads nothing."""
    text = HTMLFormatter()(shown)
    assert isinstance(text, str)
    page = Page(text)
    assert page.open == []
    assert set(page.tags) <= TAGS | DRAWING
    assert not [name for name in page.attributes if name.startswith("on") or name == "src"]
    assert "url(" not in text
    assert "@import" not in text
    return page


@pytest.fixture
def store(tmp_path: Path) -> Path:
    path = tmp_path / "store"
    for number in range(3):
        run = lossbook.init(
            store=path,
            project="study",
            id=f"r{number}",
            name=f"run {number} {HOSTILE}",
            tags=[HOSTILE],
            config={"lr": 0.1 * (number + 1), HOSTILE: HOSTILE, "same": 1},
            system_metrics=False,
            console=False,
        )
        for step in range(200):
            loss = math.nan if number == 1 and step > 150 else 5 / (1 + step)
            run.log({"train/loss": loss, "val/loss": 5 / (1 + step), HOSTILE: step}, step=step)
        run.end("failed" if number == 1 else "finished", f"{HOSTILE}\nit diverged" if number == 1 else None)
    return path


def test_everything_that_is_shown_is_escaped_and_loads_nothing(store: Path) -> None:
    book = lossbook.open(store)
    run = book.run("r1")
    shown = [book, book.runs(), run, run.history(), run.history([HOSTILE]), run.curve("train/loss"), run.curve(HOSTILE)]
    for one in shown:
        assert "alert(2)" not in page_of(one).attributes
    assert "it diverged" in page_of(run).text
    assert "failed" in page_of(run).text


def test_a_run_is_shown_with_its_losses_last_values_and_settings(store: Path) -> None:
    page = page_of(lossbook.open(store).run("r0"))
    assert page.tags.count("svg") >= 1
    for words in (
        "run 0",
        "finished",
        "study / r0",
        "Last values",
        "train/loss",
        "0.025",
        "Configuration",
        "lr",
        "0.1",
    ):
        assert words in page.text


def test_runs_are_a_table_of_what_differs(store: Path) -> None:
    runs = lossbook.open(store).runs()
    page = page_of(runs)
    assert page.tags.count("tr") == 4
    assert " lr " in page.text
    assert " same " not in page.text
    assert page_of(runs[:2]).tags.count("tr") == 3
    assert isinstance(runs, list)
    assert "no runs" in page_of(runs[:0]).text


def test_a_long_history_shows_its_first_rows_and_how_many_there_are(store: Path) -> None:
    history = lossbook.open(store).run("r0").history(["train/loss"])
    page = page_of(history)
    assert page.tags.count("tr") == 11
    assert "the first 10 of 200 rows, 3 columns" in page.text
    assert history.first(2) == history.rows()[:2]


def test_a_curve_marks_what_is_not_finite_and_draws_over_no_gap(store: Path) -> None:
    book = lossbook.open(store)
    page = page_of(book.run("r1").curve("train/loss"))
    assert "49 not finite" in page.text
    assert page.tags.count("path") == 49
    assert page.tags.count("polyline") == 1
    assert page_of(book.run("r0").curve("train/loss", points=1)).tags.count("circle") == 1


def test_a_curve_of_many_points_is_thinned_with_its_spike(tmp_path: Path) -> None:
    with lossbook.init(store=tmp_path, project="p", id="r", system_metrics=False, console=False) as run:
        for step in range(9000):
            run.log({"loss": 900.0 if step == 4321 else math.nan if step == 8000 else 1.0}, step=step)
    curve = lossbook.open(tmp_path).run().curve("loss", points=9000)
    assert repr(curve) == "<lossbook curve of loss by step: 9,000 points>"
    page = page_of(curve)
    envelopes = page.attributes["points"]
    assert sum(text.count(" ") for text in envelopes) < 6000
    # The top of the picture is the spike, above the line of the means.
    assert min(float(point.split(",")[1]) for text in envelopes for point in text.split()) < 20
    assert "1 not finite" in page.text


def test_values_of_any_size_are_drawn(tmp_path: Path) -> None:
    with lossbook.init(store=tmp_path, project="p", id="r", system_metrics=False, console=False) as run:
        for step, value in enumerate((1e308, -1e308, 0.0, math.inf)):
            run.log({"huge": value, "tiny": 5e-324 * step, "one": 1.0, "never": math.nan}, step=step)
    recorded = lossbook.open(tmp_path).run("r")
    for key in sorted(recorded.metrics):
        assert "nan" not in str(page_of(recorded.curve(key)).attributes.get("points", ""))


def test_a_store_whose_page_is_served_links_to_it(store: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LOSSBOOK_CACHE", str(tmp_path / "cache"))
    book = lossbook.open(store)
    assert "href" not in page_of(book.run("r0")).attributes
    with noted("http://127.0.0.1:8765/", str(store)):
        assert served_at(str(store / ".." / "store")) == "http://127.0.0.1:8765/"
        assert page_of(book.run("r0")).attributes["href"] == ["http://127.0.0.1:8765/#/p/study/r/r0"]
        assert served_at(str(tmp_path)) is None
    assert served_at(str(store)) is None
    # A server that was killed leaves its note behind; it is told by the process that is gone.
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    note = {"address": "http://127.0.0.1:1/", "store": os.path.realpath(store), "start": None, "boot": None}
    (tmp_path / "cache/pages" / f"{gone.pid}.json").write_text(json.dumps(note))
    assert served_at(str(store)) is None


def test_a_run_that_is_not_recorded_is_shown_as_that() -> None:
    run = lossbook.init(mode="disabled", name=HOSTILE)
    assert "nothing of this run is recorded" in page_of(run).text
    assert run.live_chart("loss") is not None
    run.finish()


@pytest.mark.slow
def test_a_live_chart_follows_the_training_and_ends_with_the_run(kernel: Kernel) -> None:
    kernel.cell("import lossbook\nrun = lossbook.init(project='p', id='r', name='live', system_metrics=False)")
    first = kernel.shown("chart = run.live_chart('train/loss', every_seconds=0.2)")
    assert "no row yet" in first[0]["text/html"]
    loop = "import time\nfor step in range(100):\n    run.log({'train/loss': 1 / (1 + step)}, step=step)\n    time.sleep(0.02)  # a step's work"
    updates = [one["text/html"] for one in kernel.shown(loop)]
    assert len(updates) >= 2
    assert all("<svg" in one for one in updates[1:])
    last = kernel.shown("run.finish()\nassert chart.wait()")
    assert "finished" in last[-1]["text/html"]
    assert "0.01" in last[-1]["text/html"]
    assert (
        kernel.shown("import threading; [t.name for t in threading.enumerate() if 'chart' in t.name]")[0]["text/plain"]
        == "[]"
    )


@pytest.mark.slow
def test_objects_and_the_magic_are_shown_in_a_kernel(kernel: Kernel) -> None:
    kernel.cell("import lossbook\nrun = lossbook.init(project='p', id='r', name='one', system_metrics=False)")
    kernel.cell("run.log({'loss': 1.0}, step=1)\nrun.finish()")
    kernel.cell("%load_ext lossbook")
    sources = ("run", "%lossbook", "%lossbook one", "lossbook.open()", "lossbook.open().run().curve('loss')")
    for source in sources:
        (shown,) = kernel.shown(source)
        assert 'class="lossbook"' in shown["text/html"]
    assert "there is no run 'none'" in kernel.cell("%lossbook none")
    assert "call lossbook.init() first" in kernel.cell("%lossbook live")
    assert "Traceback" not in kernel.cell("%lossbook 'open")
    kernel.cell("lossbook.init(project='p', id='second', system_metrics=False).log({'loss': 1.0})")
    wait_until(lambda: "svg" in kernel.shown("%lossbook live loss")[0]["text/html"])
