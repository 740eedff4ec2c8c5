"""The page of one run, used as a person uses it: every view on real runs, live ones too, with texts that mean harm."""

from __future__ import annotations

import math
import os
import re
import subprocess
import sys
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy
import pytest
from serving import Served, serving

import lossbook
from lossbook.follower.capture import capture
from lossbook.paths import RunFolder

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytest.importorskip("playwright.sync_api")
from playwright.sync_api import expect

expect.set_options(timeout=20_000)  # a busy machine answers late

SCRIPT = "<script>document.title = 'taken over'</script>"
PICTURE = "<img src=x onerror=\"document.title='taken over'\">"
NUL, BELL, TURNED = "\x00", "\x07", "\u202e"


def _picture(step: int) -> numpy.ndarray:
    image = numpy.zeros((24, 32, 3), dtype=numpy.uint8)
    image[:, : step // 10 + 1] = 200
    return image


def _gpus(count: int, step: int) -> dict[str, float]:
    row: dict[str, float] = {}
    for number in range(count):
        row |= {
            f"system.gpu.{number}.gpu": 90.0 - number % 8,
            f"system.gpu.{number}.memoryAllocatedBytes": (40 + number % 8) * 2.0**30,
            f"system.gpu.{number}.memoryTotalBytes": 80 * 2.0**30,
            f"system.gpu.{number}.powerWatts": 500.0 + step % 7,
            f"system.gpu.{number}.temp": 60.0 + number % 8,
        }
    return row


def _train(run: lossbook.Run, steps: range) -> None:
    for step in steps:
        run.log({"train/loss": 2 + 5 * math.exp(-step / 40), "throughput/tokens_per_second": 1000.0 + step}, step=step)
        if step % 20 == 0:
            run.log({"val/loss": 2.5 + 5 * math.exp(-step / 40), "cpu_percent": 30.0} | _gpus(2, step), step=step)
            run.log({"sample": lossbook.Text(f"said at step {step}: {SCRIPT}{NUL}{BELL}")}, step=step)
            run.log({"weights": lossbook.Histogram(numpy.linspace(-1, 1, 50 + step))}, step=step)
            run.log({"attention": lossbook.Image(_picture(step), caption=f"after {step} steps {PICTURE}")}, step=step)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A store with a run that has something for every view, a resumed attempt, a fork, and a run that has nothing."""
    folder = tmp_path_factory.mktemp("run-page")
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith("LOSSBOOK_"):
                patch.delenv(name)
        patch.setenv("LOSSBOOK_CACHE", str(folder / "cache"))
        patch.setenv("LOSSBOOK_FOLLOWER", "off")
        patch.setenv("LOSSBOOK_SYSTEM_INTERVAL", "off")
        work = folder / "work"
        work.mkdir()
        patch.chdir(work)
        # The commit is that of the script's repository, and pytest may lie in one of its own.
        patch.setattr(sys, "argv", [str(work / "train.py")])
        _make_repository(work)
        store = str(folder / "store")
        _make_runs(store)
        yield folder / "store"


def _make_repository(work: Path) -> None:
    (work / "schedule.py").write_text("def rate(step):\n    return 3e-4\n")
    for command in (
        ["init", "-q", "-b", "main"],
        ["add", "-A"],
        ["-c", "user.name=a", "-c", "user.email=a@example.org", "commit", "-q", "-m", "first"],
        ["remote", "add", "origin", "https://example.org/tiny.git"],
    ):
        subprocess.run(["git", *command], cwd=work, check=True)
    (work / "schedule.py").write_text(f"def rate(step):\n    return 6e-4  # {SCRIPT}\n")


def _make_runs(store: str) -> None:
    config = {
        "model": {"layers": 12, "rope": {"theta": 10000}},
        "optimizer": {"lr": 0.00031415926},
        "harm": SCRIPT,
        "words": PICTURE,
    }
    run = lossbook.init(
        "tiny",
        name="full of things",
        id="full",
        store=store,
        config=config,
        tags=["ablation"],
        group="size",
        notes=f"first line\n{SCRIPT}",
        system_metrics=False,
    )
    for number in range(600):
        print(f"line number {number}" + (" needle" if number % 100 == 50 else ""))
    print(f"\x1b[31mred\x1b[0m {SCRIPT} nul{NUL} bell{BELL} turned{TURNED}around שלום")
    _train(run, range(120))
    run.alert("Loss is high", f"at last {SCRIPT}", level="warning")
    run.alert("Disk full", level="error")
    run.log(
        {
            "answers": lossbook.Table(
                ["prompt", "score"], [[f"prompt {row} {PICTURE}", 200 - row] for row in range(120)]
            )
        },
        step=60,
    )
    Path("kept.txt").write_text("kept with the run\n")
    run.save("kept.txt")
    run.summary["params"] = 124_439_808
    run.end("failed", "RuntimeError: device-side assert")
    again = lossbook.init("tiny", id="full", store=store, resume="must", resume_step=100, system_metrics=False)
    _train(again, range(101, 141))
    again.end("failed", f"ValueError: {SCRIPT}")
    for attempt in (0, 1):
        capture(RunFolder(os.path.join(store, "tiny", "full")), attempt=attempt, main=True)
    fork = lossbook.init("tiny", name="the fork", id="fork", store=store, fork_from=("full", 80), system_metrics=False)
    fork.log({"train/loss": 2.0}, step=81)
    fork.finish()
    wide = lossbook.init("tiny", name="many GPUs", id="wide", store=store, system_metrics=False)
    wide.log(_gpus(64, 0), step=0)
    wide.finish()
    lossbook.init("tiny", name="nothing in it", id="bare", store=store, system_metrics=False, console=False).finish()


@pytest.fixture(scope="module")
def reading(filled: Path) -> Iterator[Served]:
    """A server that only reads."""
    with serving(filled) as served:
        yield served


@pytest.fixture
def show(page: Page, reading: Served) -> Callable[..., None]:
    """`show(view, run="full", **settings)`: open a view of a run, as a link that somebody sent."""

    def open_view(view: str, run: str = "full", served: Served = reading, **settings: Any) -> None:
        query = urllib.parse.urlencode(settings)
        page.goto(f"{served.url}#/p/tiny/r/{run}/{view}" + (f"?{query}" if query else ""))

    return open_view


def _region(page: Page, name: str) -> Any:
    return page.get_by_role("region", name=name, exact=True)


# -- overview -----------------------------------------------------------------------------------------------------


def test_the_overview_says_what_a_run_is_and_how_it_stands(page: Page, show: Callable[..., None]) -> None:
    show("overview")
    expect(page.get_by_role("heading", level=1)).to_have_text("full of things")
    head = page.locator(".run-head")
    expect(head).to_contain_text("failed")
    expect(head).to_contain_text("2 attempts")
    expect(page.get_by_role("alert")).to_have_text(f"ValueError: {SCRIPT}")
    figures = page.locator(".figures")
    expect(figures).to_contain_text("Best training loss")
    expect(figures).to_contain_text("at step 140")
    expect(figures).to_contain_text("2 GPUs")
    expect(_region(page, "Attempts").get_by_role("row")).to_have_count(3)
    expect(_region(page, "Lineage").get_by_role("link", name="the fork")).to_be_visible()
    expect(_region(page, "Origin").get_by_role("link", name="https://example.org/tiny.git")).to_be_visible()
    expect(_region(page, "Summary")).to_contain_text("124,439,808")
    _region(page, "Lineage").get_by_role("link", name="the fork").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("the fork")
    expect(_region(page, "Lineage")).to_contain_text("full of things at step 80")


def test_the_configuration_is_searched_by_path_and_by_value(page: Page, show: Callable[..., None]) -> None:
    show("overview")
    configuration = _region(page, "Configuration")
    expect(configuration).to_contain_text("0.00031415926")  # every digit
    page.keyboard.press("/")
    page.keyboard.type("model.rope")
    expect(configuration.locator(".leaf")).to_have_count(1)
    expect(configuration.locator(".leaf")).to_contain_text("10,000")
    page.reload()
    expect(configuration.locator(".leaf")).to_have_count(1)  # the search stands in the link
    configuration.get_by_role("searchbox").fill("no such thing")
    expect(configuration).to_contain_text("Nothing here has “no such thing”")


def test_metrics_are_sorted_and_searched(page: Page, show: Callable[..., None]) -> None:
    show("overview")
    metrics = _region(page, "Metrics")
    metrics.get_by_role("searchbox").fill("loss")
    rows = metrics.get_by_role("row")
    expect(rows).to_have_count(3)  # the head, and two losses
    metrics.get_by_role("button", name="Last").click()
    expect(rows.nth(1)).to_contain_text("train/loss")
    metrics.get_by_role("button", name="Last").click()
    expect(rows.nth(1)).to_contain_text("val/loss")
    expect(metrics.get_by_role("columnheader", name="Last")).to_have_attribute("aria-sort", "descending")
    page.reload()
    expect(rows.nth(1)).to_contain_text("val/loss")
    metrics.get_by_role("link", name="train/loss").click()
    expect(page.locator("[data-metric='train/loss']")).to_be_visible()


def test_a_page_that_only_reads_says_how_notes_are_written(page: Page, show: Callable[..., None]) -> None:
    show("overview")
    notes = _region(page, "Notes")
    expect(notes).to_contain_text("lossbook serve --edit")
    expect(notes).to_contain_text("lossbook note full")
    expect(notes.get_by_role("button")).to_have_count(0)


def test_notes_names_and_tags_are_edited_in_place(served: Callable[..., Served], page: Page, filled: Path) -> None:
    editing = served(filled, editable=True)
    page.goto(f"{editing.url}#/p/tiny/r/fork/overview")
    notes = _region(page, "Notes")
    notes.get_by_role("button", name="Write").click()
    field = notes.get_by_role("textbox", name="Notes")
    field.fill("thrown away")
    field.press("Escape")
    expect(notes).to_contain_text("None yet.")
    notes.get_by_role("button", name="Write").click()
    field.fill(f"holds\n{SCRIPT}")
    field.press("Control+Enter")
    expect(notes.locator("pre")).to_have_text(f"holds\n{SCRIPT}")
    assert lossbook.open(filled).run("fork").notes == f"holds\n{SCRIPT}"

    labels = _region(page, "Labels")
    labels.get_by_role("button", name="Edit").click()
    labels.get_by_label("Name").fill("the renamed fork")
    labels.get_by_label("Tags").fill("one, two")
    labels.get_by_role("button", name="Save").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("the renamed fork")
    expect(labels.locator(".tag")).to_have_text(["one", "two"])
    editing.post("/api/edit", {"project": "tiny", "run": "fork", "name": "the fork", "tags": []})


def test_notes_that_somebody_else_has_changed_are_not_overwritten_unseen(
    served: Callable[..., Served], page: Page, filled: Path
) -> None:
    editing = served(filled, editable=True)
    page.goto(f"{editing.url}#/p/tiny/r/wide/overview")
    notes = _region(page, "Notes")
    notes.get_by_role("button", name="Write").click()
    notes.get_by_role("textbox").fill("mine")
    editing.post("/api/edit", {"project": "tiny", "run": "wide", "notes": "theirs"})
    notes.get_by_role("button", name="Save").click()
    expect(notes.get_by_role("alert")).to_contain_text("changed by somebody else")
    expect(notes.locator(".theirs")).to_have_text("theirs")
    assert lossbook.open(filled).run("wide").notes == "theirs"
    notes.get_by_role("button", name="Save").click()
    expect(notes.locator("pre")).to_have_text("mine")
    assert lossbook.open(filled).run("wide").notes == "mine"


# -- console ------------------------------------------------------------------------------------------------------


def test_the_console_is_searched_from_match_to_match(page: Page, show: Callable[..., None]) -> None:
    show("console")
    log = page.get_by_role("log")
    expect(log).to_contain_text("line number 599")
    page.keyboard.press("/")
    page.keyboard.type("NEEDLE")
    found = page.locator(".console .bar").get_by_role("status").first
    expect(found).to_have_text("6 lines")
    page.keyboard.press("Enter")
    expect(found).to_have_text("1 of 6 lines")
    expect(log.locator(".line.marked")).to_contain_text("line number 50 needle")
    expect(log.locator(".line.marked mark")).to_have_text("needle")
    page.keyboard.press("Enter")
    expect(log.locator(".line.marked")).to_contain_text("line number 150 needle")
    page.keyboard.press("Shift+Enter")
    page.keyboard.press("Shift+Enter")
    expect(log.locator(".line.marked")).to_contain_text("line number 550 needle")
    log.focus()
    page.keyboard.press("N")
    expect(log.locator(".line.marked")).to_contain_text("line number 450 needle")
    page.reload()  # the link has the search and the line
    expect(log.locator(".line.marked")).to_contain_text("line number 450 needle")
    expect(log.locator(".line.marked")).to_be_in_viewport()
    expect(page.get_by_role("searchbox")).to_have_value("NEEDLE")
    page.keyboard.press("w")
    expect(page.get_by_role("button", name="Wrap")).to_have_attribute("aria-pressed", "true")
    expect(log.locator(".line.marked")).to_contain_text("line number 450 needle")


def test_what_a_run_printed_is_text_and_nothing_else(page: Page, show: Callable[..., None]) -> None:
    show("console")
    line = page.get_by_role("log").locator(".line", has_text="red")
    expect(line).to_contain_text(f"red {SCRIPT} nul bell turnedU+202Earound שלום")
    expect(line.locator(".ansi-red")).to_have_text("red")
    expect(line.locator("script")).to_have_count(0)
    assert TURNED not in line.inner_text()
    assert "taken over" not in page.title()


def test_the_console_of_a_running_run_is_followed_until_somebody_scrolls(
    served: Callable[..., Served], page: Page, store: Path
) -> None:
    run = lossbook.init("live", id="going", store=store, system_metrics=False)
    for number in range(200):
        print(f"early {number}")
    served_here = served(store)
    page.goto(f"{served_here.url}#/p/live/r/going/console")
    log = page.get_by_role("log")
    expect(log).to_contain_text("early 199")
    print("a new line")
    expect(log.get_by_text("a new line")).to_be_in_viewport()
    log.hover()
    page.mouse.wheel(0, -2000)
    expect(page.get_by_role("button", name="Jump to the end")).to_be_visible()
    before = log.evaluate("log => log.scrollTop")
    for number in range(30):
        print(f"late {number}")
    expect(page.get_by_text("231 lines")).to_be_visible()
    assert log.evaluate("log => log.scrollTop") == before  # nothing jumps
    page.get_by_role("button", name="Jump to the end").click()
    expect(log.get_by_text("late 29")).to_be_in_viewport()
    run.finish()
    expect(page.locator(".run-head .state")).to_have_text("finished")
    expect(page.get_by_role("button", name="Follow")).to_have_count(0)


# -- alerts -------------------------------------------------------------------------------------------------------


def test_alerts_are_filtered_by_level_and_lead_to_the_curve(page: Page, show: Callable[..., None]) -> None:
    show("alerts")
    alerts = page.get_by_role("list", name="Alerts").get_by_role("listitem")
    expect(alerts).to_have_count(2)
    page.get_by_role("button", name="Warnings 1").click()
    expect(alerts).to_have_count(1)
    expect(alerts).to_contain_text(f"at last {SCRIPT}")
    page.reload()
    expect(alerts).to_have_count(1)
    alerts.get_by_role("link", name="119").click()
    expect(page.locator("nav.tabs [aria-current=page]")).to_contain_text("Charts")
    settings = urllib.parse.parse_qs(page.url.partition("?")[2])
    low, high = (float(edge) for edge in settings["range"][0].split(","))
    assert low < 119 < high


# -- media --------------------------------------------------------------------------------------------------------


def test_media_of_one_step_are_seen_together_and_pictures_one_by_one(page: Page, show: Callable[..., None]) -> None:
    show("media")
    card = _region(page, "attention")
    # Step 120 of the first attempt was taken anew by the second.
    expect(card).to_contain_text("step 140")
    expect(card).to_contain_text(PICTURE)
    slider = page.get_by_role("slider", name="Step")
    slider.focus()
    slider.press("Home")
    expect(card).to_contain_text("after 0 steps")
    expect(_region(page, "weights")).to_contain_text("50 values from -1 to 1")
    expect(_region(page, "sample")).to_contain_text(f"said at step 0: {SCRIPT}␀␇")
    page.reload()
    expect(card).to_contain_text("after 0 steps")
    card.get_by_role("button", name="Look at attention").click()
    box = page.get_by_role("dialog", name="attention")
    expect(box).to_contain_text("1 of 8")
    page.keyboard.press("ArrowRight")
    expect(box).to_contain_text("after 20 steps")
    page.keyboard.press("ArrowLeft")
    expect(box).to_contain_text("after 0 steps")
    assert box.get_by_role("img").evaluate("image => image.decode().then(() => image.naturalWidth)") == 32
    page.keyboard.press("Escape")
    expect(box).to_have_count(0)


def test_a_picture_whose_file_is_gone_is_a_sentence(
    served: Callable[..., Served], page: Page, store: Path, complaints: list[str]
) -> None:
    run = lossbook.init("tiny", id="full", store=store, system_metrics=False)
    run.log({"attention": lossbook.Image(_picture(10))}, step=0)
    run.finish()
    for file in (store / "tiny" / "full" / "media").iterdir():
        file.unlink()
    page.goto(f"{served(store).url}#/p/tiny/r/full/media")
    expect(_region(page, "attention")).to_contain_text("The file of this picture is missing or damaged")
    complaints.clear()  # of the 404


def test_a_table_is_paged_sorted_and_its_cells_are_text(page: Page, show: Callable[..., None]) -> None:
    show("media", key="table:answers")
    table = _region(page, "answers")
    expect(table).to_contain_text("rows 1 to 50 of 120")
    expect(table.get_by_role("row").nth(1)).to_contain_text(f"prompt 0 {PICTURE}")
    table.get_by_role("button", name="The next rows").click()
    expect(table).to_contain_text("rows 51 to 100 of 120")
    table.get_by_role("button", name="score").click()
    expect(table.get_by_role("row").nth(1)).to_contain_text("prompt 99")
    assert page.title().endswith("Lossbook")


def test_media_are_chosen_by_key(page: Page, show: Callable[..., None]) -> None:
    show("media")
    keys = page.get_by_role("navigation", name="What was logged")
    keys.get_by_role("button", name="sample").click()
    expect(_region(page, "sample")).to_be_visible()
    expect(_region(page, "attention")).to_have_count(0)
    page.reload()
    expect(_region(page, "sample")).to_be_visible()
    expect(_region(page, "attention")).to_have_count(0)


# -- machines, code, files ----------------------------------------------------------------------------------------


def test_gpus_are_told_apart_with_what_they_do_now_on_average_and_at_most(
    page: Page, show: Callable[..., None]
) -> None:
    show("gpus")
    gpus = _region(page, "GPUs")
    expect(gpus.get_by_role("row")).to_have_count(3)
    expect(gpus.get_by_role("img", name="Utilisation: now 89 %")).to_have_count(1)
    expect(gpus).to_contain_text("40 GiB")
    _region(page, "Host").scroll_into_view_if_needed()
    expect(_region(page, "Host")).to_contain_text("CPU")


def test_many_gpus_are_a_grid_with_a_table_below(page: Page, show: Callable[..., None]) -> None:
    show("gpus", run="wide")
    squares = page.get_by_role("list", name="Utilisation of the GPUs").get_by_role("listitem")
    expect(squares).to_have_count(64)
    page.get_by_label("Shown").select_option("Temperature")
    expect(page.get_by_text("GPU 63: 67 °C")).to_have_count(1)
    page.get_by_text("As a table").click()
    expect(_region(page, "GPUs").get_by_role("row")).to_have_count(65)


def test_code_shows_the_commit_and_what_was_changed_since(page: Page, show: Callable[..., None]) -> None:
    show("code")
    expect(_region(page, "Git")).to_contain_text("main")
    changes = _region(page, "Changes")
    expect(changes.get_by_role("button", name="schedule.py")).to_be_visible()
    expect(changes.locator(".line.added")).to_have_text(f"+    return 6e-4  # {SCRIPT}")
    expect(changes.locator(".line.removed")).to_have_text("-    return 3e-4")
    packages = _region(page, "Packages")
    packages.get_by_role("searchbox").fill("numpy==")
    expect(packages.get_by_role("listitem")).to_have_count(1)
    page.get_by_label("Attempt").select_option("0")
    expect(changes).to_be_visible()


def test_files_are_listed_by_folder_and_pictures_looked_at(page: Page, show: Callable[..., None]) -> None:
    show("files")
    row = page.get_by_role("row", name="run.json")
    with page.expect_download() as saved:
        row.get_by_role("link", name="Save run.json").click()
    assert '"full of things"' in saved.value.path().read_text()
    page.get_by_role("searchbox").fill("media/")
    page.get_by_role("button", name="Look at media/").first.click()
    picture = page.get_by_role("dialog").get_by_role("img")
    assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") == 32


# -- the page as a whole ------------------------------------------------------------------------------------------


def test_views_with_nothing_in_them_say_what_would_bring_something(page: Page, show: Callable[..., None]) -> None:
    show("overview", run="bare")
    expect(_region(page, "Metrics")).to_contain_text("run.log(")
    for view, words in {
        "charts": "run.log(",
        "gpus": "system_metrics=True",
        "console": "print(",
        "alerts": "run.alert(",
        "media": "lossbook.Text(",
    }.items():
        page.get_by_role("navigation", name="Views").get_by_role("link", name=view, exact=False).click()
        expect(page.locator("main")).to_contain_text(words)


def test_numbers_go_to_the_views_and_the_head_leads_on(page: Page, show: Callable[..., None]) -> None:
    show("overview")
    expect(_region(page, "Notes")).to_contain_text("only reads")
    for key, title in (("4", "Console"), ("6", "Media"), ("9", "Files"), ("1", "Overview")):
        page.keyboard.press(key)
        expect(page.locator("nav.tabs [aria-current=page]")).to_contain_text(title)
    page.keyboard.press("b")
    expect(page.get_by_role("button", name="Baseline")).to_have_attribute("aria-pressed", "true")
    page.get_by_role("link", name="Draw with others").click()
    settings = urllib.parse.parse_qs(page.url.partition("?")[2])
    assert settings["baseline"] == ["full"]
    assert "full" in settings["runs"][0].split(",")


def test_a_run_that_is_not_there_is_a_sentence_with_a_way_back(
    page: Page, show: Callable[..., None], complaints: list[str]
) -> None:
    show("overview", run="no-such-run")
    expect(page.locator("main")).to_contain_text("no-such-run")
    page.get_by_role("link", name="All runs of tiny").click()
    expect(page).to_have_url(re.compile(r"#/p/tiny$"))
    complaints.clear()  # of the 404


def test_a_running_run_is_seen_to_go_on_and_to_end(served: Callable[..., Served], page: Page, store: Path) -> None:
    run = lossbook.init("live", id="going", name="goes on", store=store, system_metrics=False)
    run.log({"train/loss": 3.0}, step=1)
    page.goto(f"{served(store).url}#/p/live/r/going/overview")
    expect(page.locator(".run-head .state")).to_have_text("running")
    expect(page.locator(".figures")).to_contain_text("at step 1")
    run.log({"train/loss": 2.0}, step=7)
    expect(page.locator(".figures")).to_contain_text("at step 7")
    page.keyboard.press("5")
    run.alert("It happened", level="error")
    expect(page.get_by_role("list", name="Alerts")).to_contain_text("It happened")
    page.keyboard.press("6")
    run.log({"sample": lossbook.Text("a first word")}, step=8)
    expect(_region(page, "sample")).to_contain_text("a first word")
    run.log({"sample": lossbook.Text("a second word")}, step=9)
    expect(_region(page, "sample")).to_contain_text("a second word")
    run.finish()
    expect(page.locator(".run-head .state")).to_have_text("finished")
