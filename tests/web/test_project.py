"""The page of a project, used as a person uses it: its table of runs, and what stands in the link."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import pytest
from serving import Served, serving
from waiting import wait_for_page

import lossbook

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

HOSTILE = '<img src=x onerror="window.hit=1">'
RIGHT_TO_LEFT = "\u202eevil\u202c مرحبا"
LONG = "long-" + "n" * 295


@dataclass(frozen=True)
class Site:
    """A server on a store with a project `sweep`; `ids` of its runs by their names."""

    served: Served
    store: Path
    ids: dict[str, str]

    def at(self, place: str = "table", **settings: str) -> str:
        """The address of a view of the project."""
        query = "&".join(f"{name}={value}" for name, value in settings.items())
        return f"{self.served.url}#/p/sweep/{place}" + (f"?{query}" if query else "")


def make_runs(store: Path) -> dict[str, str]:
    """Nine runs of three optimizers, one that is NaN, one without a validation loss, and three with odd names."""
    ids = {}
    for number in range(9):
        optimizer = ("adamw", "muon", "sgd")[number % 3]
        config = {"optimizer": optimizer, "lr": (number + 1) * 1e-3, "same": 1}
        tags = ["keep", optimizer] if number < 3 else [optimizer]
        run = lossbook.init(
            store=store,
            project="sweep",
            name=f"{optimizer}-{number}",
            config=config,
            tags=tags,
            group=f"g{number % 2}",
            notes="a note about warmup" if number == 4 else None,
            console=False,
        )
        for step in range(20):
            train = "train_loss" if number == 0 else "train/loss"
            run.log({train: 10 / (step + 1) + number, "grad_norm": 1.0}, step=step)
            row: dict[str, float] = {f"gradient/h.{layer}.attn": 0.5 for layer in range(12)}
            if number != 8:
                row["val/loss"] = float("nan") if number == 7 else 100.0 / (number + 1)
            run.log(row | {"gpu_0_utilization_percent": 90.0}, step=step)
        run.finish()
        ids[f"{optimizer}-{number}"] = run.id
        time.sleep(0.002)  # one after the other in the table
    for name in (HOSTILE, RIGHT_TO_LEFT, LONG):
        run = lossbook.init(store=store, project="odd", name=name, tags=[name[:60]], notes=name, console=False)
        run.log({"val/loss": 1.0, HOSTILE: 2.0}, step=0)
        run.finish()
    return ids


@contextmanager
def quiet_runs(cache: Path) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOSSBOOK_SYSTEM_INTERVAL", "off")
        patch.setenv("LOSSBOOK_FOLLOWER", "off")
        patch.setenv("LOSSBOOK_CACHE", str(cache))
        yield


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("project")
    with quiet_runs(folder / "cache"):
        store = folder / "store"
        ids = make_runs(store)
        with serving(store) as served:
            yield Site(served, store, ids)


def show(page: Page, address: str) -> None:
    """Open an address anew, until its table is there with what the names told it to have."""
    page.goto("about:blank")
    page.goto(address)
    page.locator("[role=grid] [role=row] a.name").first.wait_for()


def names_of(page: Page) -> list[str]:
    return page.locator("[role=grid] .run-lines a.name").all_text_contents()


def settings_of(page: Page) -> str:
    return unquote(page.evaluate("location.hash"))


def row_of(page: Page, name: str) -> Locator:
    return page.locator(".run-lines [role=row]").filter(
        has=page.locator("a.name", has_text=re.compile(f"^{re.escape(name)}$"))
    )


def drawn_of(page: Page) -> list[str]:
    return page.locator(".run-lines [role=row][aria-selected=true] a.name").all_text_contents()


def column(page: Page, title: str) -> list[str]:
    """What stands in a column, from the top."""
    found: list[str] = page.locator("[role=grid]").evaluate(
        """(grid, title) => {
            const heads = [...grid.querySelectorAll(".head [role=columnheader]")];
            const place = heads.findIndex((head) => head.querySelector(".sorter bdi")?.textContent === title);
            return [...grid.querySelectorAll(".run-lines [role=row]")].map((row) => row.children[place]?.textContent ?? "");
        }""",
        title,
    )
    return found


def test_search_narrows_the_table_with_each_key(site: Site, page: Page) -> None:
    show(page, site.at())
    assert names_of(page)[0] == "sgd-8", "the newest first"
    page.keyboard.press("/")
    page.keyboard.type("muon")
    wait_for_page(page, lambda: names_of(page) == ["muon-7", "muon-4", "muon-1"])
    assert "3 of 9 runs" in page.locator(".count").inner_text()
    assert "q=muon" in settings_of(page)
    page.get_by_label("Search runs").fill("WARMUP")
    wait_for_page(page, lambda: names_of(page) == ["muon-4"])  # in its notes
    page.get_by_label("Search runs").fill("keep sgd")
    wait_for_page(page, lambda: names_of(page) == ["sgd-2"])  # every word, in tags or name
    page.keyboard.press("Escape")
    wait_for_page(page, lambda: len(names_of(page)) == 9)


def test_a_filter_is_an_expression_and_says_what_is_wrong_with_it(
    site: Site, page: Page, complaints: list[str]
) -> None:
    show(page, site.at())
    field = page.get_by_label("Filter by an expression")
    field.fill("config.lr > 0.0065 and not config.optimizer = 'sgd'")
    wait_for_page(page, lambda: names_of(page) == ["muon-7", "adamw-6"])
    field.fill("config.lr >")
    page.locator("#filter-failure").filter(has_text=re.compile(r"\w")).wait_for()
    assert field.get_attribute("aria-invalid") == "true"
    assert names_of(page) == ["muon-7", "adamw-6"], "what was found before stays while one writes"
    complaints.clear()  # the browser tells of the answer's status 400
    field.fill("")
    wait_for_page(page, lambda: len(names_of(page)) == 9 and page.locator("#filter-failure").inner_text() == "")
    field.press_sequentially("optim")
    page.get_by_role("option", name="config.optimizer").wait_for()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    field.press_sequentially("= 'muon'")
    wait_for_page(page, lambda: names_of(page) == ["muon-7", "muon-4", "muon-1"])
    assert "where=config.optimizer" in settings_of(page)
    complaints.clear()  # half an expression is none


def test_columns_are_sorted_as_numbers_and_what_is_missing_comes_last(site: Site, page: Page) -> None:
    show(page, site.at())
    header = page.get_by_role("columnheader", name="val/loss")
    header.locator("button.sorter").click()
    wait_for_page(page, lambda: "sort=val/loss" in settings_of(page))
    by_value = [f"{('adamw', 'muon', 'sgd')[number % 3]}-{number}" for number in range(7)]
    wait_for_page(
        page, lambda: names_of(page) == [*reversed(by_value), "muon-7", "sgd-8"]
    )  # 14.3 before 100; NaN, then none
    assert header.get_attribute("aria-sort") == "ascending"
    header.locator("button.sorter").click()
    wait_for_page(page, lambda: names_of(page) == [*by_value, "muon-7", "sgd-8"])
    assert header.get_attribute("aria-sort") == "descending"
    header.locator("button.sorter").click()
    wait_for_page(page, lambda: names_of(page)[0] == "sgd-8")
    assert header.get_attribute("aria-sort") == "none"


def test_columns_are_chosen_moved_and_hidden_by_keyboard(site: Site, page: Page) -> None:
    show(page, site.at())
    page.get_by_role("columnheader", name="lr").wait_for()  # a setting that differs is there by itself
    assert page.get_by_role("columnheader", name="same").count() == 0
    page.get_by_role("button", name="Columns").click()
    page.keyboard.type("config.same")  # the search has the focus
    page.get_by_role("button", name="Add config.same").press("Enter")
    page.get_by_role("columnheader", name="same").wait_for(state="attached")
    page.get_by_role("button", name="Move config.same up").press("Enter")
    page.get_by_role("button", name="Hide created").press("Enter")
    page.keyboard.press("Escape")
    wait_for_page(page, lambda: set(column(page, "same")) == {"1"})
    assert page.get_by_role("columnheader", name="Created").count() == 0
    cols = settings_of(page).split("cols=")[1].split("&")[0].split(",")
    assert cols.index("config.same") == len(cols) - 2
    assert cols[:2] == ["val/loss", "train/loss"]


def test_runs_are_grouped_and_a_group_is_drawn_as_one(site: Site, page: Page) -> None:
    show(page, site.at(runs=""))
    page.get_by_label("Group by").select_option("config.optimizer")
    wait_for_page(page, lambda: page.locator(".run-line.group").count() == 3)
    group = page.locator(".run-line.group").filter(has_text="muon")
    assert "3" in group.inner_text()
    assert "5 ± 3" in group.inner_text() or "0.005 ± 0.003" in group.inner_text()  # of the learning rates 2, 5, 8
    group.get_by_role("checkbox").click()
    wait_for_page(page, lambda: sorted(drawn_of(page)) == ["muon-1", "muon-4", "muon-7"])
    assert group.get_by_role("checkbox").get_attribute("aria-checked") == "true"
    row_of(page, "muon-4").get_by_role("checkbox").click()
    wait_for_page(page, lambda: group.get_by_role("checkbox").get_attribute("aria-checked") == "mixed")
    group.get_by_role("button", name="Fold muon").click()
    wait_for_page(page, lambda: len(names_of(page)) == 6)
    assert "folded=muon" in settings_of(page)


def test_runs_are_drawn_one_by_one_in_ranges_or_alone(site: Site, page: Page) -> None:
    show(page, site.at(runs=""))
    row_of(page, "sgd-8").get_by_role("checkbox").click()
    row_of(page, "sgd-5").get_by_role("checkbox").click(modifiers=["Shift"])
    wait_for_page(page, lambda: drawn_of(page) == ["sgd-8", "muon-7", "adamw-6", "sgd-5"])
    row_of(page, "muon-1").get_by_role("checkbox").click(modifiers=["Alt"])
    wait_for_page(page, lambda: drawn_of(page) == ["muon-1"])
    row_of(page, "sgd-2").get_by_role("checkbox").dblclick()
    wait_for_page(page, lambda: drawn_of(page) == ["sgd-2"])
    page.get_by_role("button", name="None").click()
    wait_for_page(page, lambda: drawn_of(page) == [])
    page.get_by_role("button", name="Draw all").click()
    wait_for_page(page, lambda: len(drawn_of(page)) == 9)
    assert "9 drawn" in page.locator(".count").inner_text()


def test_a_run_has_the_colour_that_was_chosen_until_it_gets_its_own_again(site: Site, page: Page) -> None:
    show(page, site.at())
    swatch = row_of(page, "sgd-8").locator(".swatch span")
    before = swatch.evaluate("it => getComputedStyle(it).borderColor")
    row_of(page, "sgd-8").get_by_role("button", name="Colour of sgd-8").click()
    choice = page.get_by_role("button", name=re.compile("Colour 5,"))
    chosen = choice.evaluate("it => getComputedStyle(it).backgroundColor")
    choice.click()
    wait_for_page(page, lambda: swatch.evaluate("it => getComputedStyle(it).borderColor") == chosen != before)
    assert f"colors={site.ids['sgd-8']}~" in settings_of(page)
    row_of(page, "sgd-8").get_by_role("button", name="Colour of sgd-8").click()
    page.get_by_role("button", name="Its own again").click()
    wait_for_page(page, lambda: swatch.evaluate("it => getComputedStyle(it).borderColor") == before)


def test_others_are_held_against_the_baseline(site: Site, page: Page) -> None:
    show(page, site.at())
    row_of(page, "muon-4").locator(".run-cell").nth(3).click()
    page.keyboard.press("b")
    pinned = page.locator(".run-line.held")
    pinned.wait_for()
    assert "muon-4" in pinned.inner_text()
    wait_for_page(
        page, lambda: "100" in row_of(page, "adamw-0").inner_text() and "+80" in row_of(page, "adamw-0").inner_text()
    )
    assert f"baseline={site.ids['muon-4']}" in settings_of(page)
    pinned.get_by_role("button", name="Baseline: muon-4").click()
    wait_for_page(page, lambda: pinned.count() == 0)


def test_a_link_shows_the_same_view_to_somebody_else(site: Site, browser: Browser, page: Page) -> None:
    show(page, site.at())
    page.get_by_label("Search runs").fill("-")
    page.get_by_label("Filter by an expression").fill("config.lr < 0.0075")
    page.get_by_role("columnheader", name="val/loss").locator("button.sorter").click()
    page.get_by_label("Group by").select_option("config.optimizer")
    row_of(page, "muon-1").get_by_role("checkbox").click()
    row_of(page, "muon-4").get_by_role("button", name="Baseline: muon-4").click()
    wait_for_page(
        page,
        lambda: all(part in settings_of(page) for part in ("q=", "where=", "sort=", "group=", "runs=", "baseline=")),
    )
    wait_for_page(page, lambda: len(names_of(page)) == 7)
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    try:
        other = context.new_page()
        show(other, page.url)
        wait_for_page(other, lambda: names_of(other) == names_of(page) and drawn_of(other) == drawn_of(page))
        wait_for_page(other, lambda: other.locator(".head").inner_text() == page.locator(".head").inner_text())
        assert "muon-1" not in drawn_of(other)
        assert other.locator(".run-line.held").inner_text() == page.locator(".run-line.held").inner_text()
        assert other.get_by_label("Filter by an expression").input_value() == "config.lr < 0.0075"
    finally:
        context.close()


def test_a_new_run_appears_at_the_top_by_itself_and_its_state_follows(site: Site, page: Page, tmp_path: Path) -> None:
    with quiet_runs(tmp_path):
        first = lossbook.init(store=site.store, project="live", name="first", console=False)
        first.log({"loss": 1.0}, step=0)
        first.finish()
        show(page, site.at().replace("sweep", "live"))
        run = lossbook.init(store=site.store, project="live", name="newcomer", console=False)
        run.log({"loss": 1.0}, step=0)
        wait_for_page(page, lambda: names_of(page) == ["newcomer", "first"])
        wait_for_page(page, lambda: row_of(page, "newcomer").locator(".state.running").count() == 1)
        run.finish()
        wait_for_page(page, lambda: row_of(page, "newcomer").locator(".state.finished").count() == 1)


def test_the_table_is_walked_with_the_keyboard_alone(site: Site, page: Page) -> None:
    show(page, site.at(runs=""))
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("Space")
    wait_for_page(page, lambda: drawn_of(page) == ["muon-7"])
    page.keyboard.press("k")
    page.keyboard.press("o")
    wait_for_page(page, lambda: drawn_of(page) == ["sgd-8"])
    page.keyboard.press("s")
    wait_for_page(page, lambda: "sort=" in settings_of(page))
    page.keyboard.press("g")
    wait_for_page(page, lambda: page.locator(".run-line.group").count() == 2)
    page.keyboard.press("g")
    page.locator("[role=grid]").focus()
    page.keyboard.press("End")
    grid = page.locator("[role=grid]")
    last = page.locator(".run-lines [role=row]").last.get_attribute("id")
    wait_for_page(page, lambda: grid.get_attribute("aria-activedescendant") == last)
    page.keyboard.press("Home")  # the first group
    page.keyboard.press("j")
    page.keyboard.press("c")
    page.get_by_role("dialog", name="Colour").wait_for()
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    assert "next x axis" not in page.get_by_role("dialog", name="Keys").inner_text()
    page.keyboard.press("Escape")
    page.keyboard.press("1")
    wait_for_page(page, lambda: "/sweep/charts" in page.url)


def test_enter_opens_the_focused_run(site: Site, page: Page) -> None:
    show(page, site.at())
    page.locator("[role=grid]").focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    wait_for_page(page, lambda: f"/p/sweep/r/{site.ids['muon-7']}" in page.url)
    page.go_back()
    wait_for_page(page, lambda: len(names_of(page)) == 9)


def test_names_that_look_like_markup_stay_text(site: Site, page: Page) -> None:
    show(page, site.at().replace("sweep", "odd"))
    assert set(names_of(page)) == {HOSTILE, RIGHT_TO_LEFT, LONG}
    assert page.locator("#app img").count() == 0
    page.get_by_role("button", name="Columns").click()
    page.get_by_label("Find a column").fill("onerror")
    page.locator(".column-chooser ul button").first.click()
    page.keyboard.press("Escape")
    page.get_by_role("columnheader", name="onerror").wait_for()
    page.goto(site.at("charts").replace("sweep", "odd"))
    page.locator(".chart-card").first.wait_for()
    assert page.locator("#app img").count() == 0
    assert page.evaluate("window.hit") is None
    assert page.evaluate("document.documentElement.scrollWidth") <= 1280, "a long name does not widen the page"


def test_an_unknown_project_is_told_in_a_sentence_with_a_way_back(
    site: Site, page: Page, complaints: list[str]
) -> None:
    page.goto(f"{site.served.url}#/p/nowhere")
    page.get_by_role("alert").filter(has_text="nowhere").wait_for()
    page.get_by_role("link", name="All projects").click()
    page.get_by_role("link", name="sweep").wait_for()
    complaints.clear()  # the browser tells of the answer's status 404


def test_of_thousands_of_runs_only_those_in_sight_are_in_the_page(page: Page, tmp_path: Path) -> None:
    store = tmp_path / "store"
    count = 2000
    copy_runs(store, count)
    with serving(store) as served:
        show(page, f"{served.url}#/p/many/table")
        grid = page.locator("[role=grid]")
        wait_for_page(page, lambda: grid.get_attribute("aria-rowcount") == str(count + 1))
        assert page.locator("[role=row]").count() < 80
        grid.focus()
        page.keyboard.press("End")
        wait_for_page(page, lambda: names_of(page)[-1:] == ["run-0"])
        assert page.locator("[role=row]").count() < 80
        page.keyboard.press("PageUp")
        focused = page.locator(".run-line.focused")
        wait_for_page(page, lambda: focused.count() == 1 and int(focused.get_attribute("aria-rowindex") or 0) < count)
        # What one looks at stays where it is when a run is begun above it.
        page.keyboard.press("PageUp")
        watched = page.locator(".run-line.focused")
        place = watched.bounding_box()
        name = watched.locator("a.name").inner_text()
        run = lossbook.init(store=store, project="many", name="newcomer", console=False)
        run.finish()
        wait_for_page(page, lambda: grid.get_attribute("aria-rowcount") == str(count + 2))
        assert watched.locator("a.name").inner_text() == name
        assert watched.bounding_box() == place
        count += 1
        page.get_by_label("Search runs").fill("run-1999")
        wait_for_page(page, lambda: names_of(page) == ["run-1999"])
        page.get_by_role("button", name="Draw all").click()
        wait_for_page(page, lambda: f"1 of {count:,} runs, 1 drawn" in page.locator(".count").inner_text())


def copy_runs(store: Path, count: int) -> None:
    """Many runs made of one: their folders as the journal and the summary leave them."""
    import orjson

    from lossbook.paths import RunFolder, new_run_id, run_folder
    from lossbook.storage.summary import LiveSummary

    run = lossbook.init(store=store, project="many", name="run-0", config={"lr": 1.0}, console=False)
    run.log({"val/loss": 1.0}, step=0)
    run.finish()
    first = RunFolder(run.path)
    LiveSummary(first).write()
    identity = orjson.loads(Path(first.run_json).read_bytes())
    summary = Path(first.summary_json).read_bytes()
    for number in range(1, count):
        folder = run_folder(str(store), "many", new_run_id())
        Path(folder.journal).mkdir(parents=True)
        made = {"id": Path(folder.path).name, "name": f"run-{number}", "created": identity["created"] + number}
        Path(folder.run_json).write_bytes(orjson.dumps(identity | made))
        Path(folder.summary_json).write_bytes(summary)


def test_what_was_shown_stays_when_the_server_goes(page: Page, tmp_path: Path, complaints: list[str]) -> None:
    run = lossbook.init(store=tmp_path / "store", project="sweep", name="alone", console=False)
    run.log({"loss": 1.0}, step=0)
    run.finish()
    with serving(tmp_path / "store") as served:
        show(page, f"{served.url}#/p/sweep/table")
    page.get_by_text("no answer from the server").wait_for()
    assert names_of(page) == ["alone"]
    complaints.clear()  # the browser tells that nobody answered


def test_only_a_server_that_may_change_runs_offers_it(page: Page, tmp_path: Path, site: Site) -> None:
    show(page, site.at())
    assert page.get_by_role("button", name="Change").count() == 0
    store = tmp_path / "store"
    for name in ("one", "two"):
        run: Any = lossbook.init(store=store, project="sweep", name=name, tags=["old"], console=False)
        run.log({"loss": 1.0}, step=0)
        run.finish()
    with serving(store, editable=True) as served:
        show(page, f"{served.url}#/p/sweep/table")
        page.get_by_role("button", name="Change").click()
        page.get_by_label("Add tags").fill("new, better")
        page.get_by_label("Remove tags").fill("old")
        page.get_by_role("button", name="Save").click()
        wait_for_page(page, lambda: column(page, "Tags") == ["newbetter", "newbetter"])
        assert [row["tags"] for row in served.get("/api/runs", project="sweep")["rows"]] == [["new", "better"]] * 2
        page.keyboard.press("j")
        page.keyboard.press("e")
        page.get_by_label("Name", exact=True).fill("renamed <b>")
        page.get_by_label("Group", exact=True).fill("mine")
        page.get_by_role("button", name="Save").click()
        wait_for_page(page, lambda: names_of(page) == ["renamed <b>", "one"])
        assert served.get("/api/runs", project="sweep")["rows"][0]["group"] == "mine"
