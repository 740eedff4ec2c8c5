"""Runs compared, as a person does it: what differs, how good they became, what goes together."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import unquote

import pytest
from serving import Served, serving
from waiting import wait_for_page

import lossbook

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

HOSTILE = '<img src=x onerror="window.hit=1">'
RUNS = 12


@dataclass(frozen=True)
class Site:
    """A server on a store with a project `sweep`; `ids` of its runs by their names."""

    served: Served
    ids: dict[str, str]

    def at(self, view: str, **settings: str) -> str:
        query = "&".join(f"{name}={value}" for name, value in {"compare": view, **settings}.items())
        return f"{self.served.url}#/p/sweep/compare?{query}"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Twelve runs whose loss falls with their learning rate; the last has a configuration and a name of its own kind."""
    folder = tmp_path_factory.mktemp("compare")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOSSBOOK_SYSTEM_INTERVAL", "off")
        patch.setenv("LOSSBOOK_FOLLOWER", "off")
        patch.setenv("LOSSBOOK_CACHE", str(folder / "cache"))
        ids = {}
        for number in range(RUNS):
            is_last = number == RUNS - 1
            config = {
                "lr": 10.0 ** (number - RUNS),
                "optimizer": "muon" if number == 5 else "adamw",
                "same": 7,
                "model": {"width": 64 * (number % 3 + 1)},
            }
            if is_last:
                config["odd"] = HOSTILE
            name = HOSTILE if is_last else f"run-{number}"
            run = lossbook.init(store=folder / "store", project="sweep", name=name, config=config, console=False)
            for step in range(10):
                row = {"train/loss": 9.0 - step / 2 - number / 10, "time/tokens_seen": 1000.0 * step}
                if not is_last:
                    row["val/loss"] = 9.0 - step / 2 - number / 10
                run.log(row, step=step)
            run.finish()
            ids[name] = run.id
            time.sleep(0.002)  # one after the other in the table
        with serving(folder / "store") as served:
            yield Site(served, ids)


def show(page: Page, address: str, what: str) -> None:
    page.goto("about:blank")
    page.goto(address)
    page.locator(what).first.wait_for()


def settings_of(page: Page) -> str:
    return unquote(page.evaluate("location.hash"))


def lines(page: Page) -> list[str]:
    """The first cell of each line."""
    return page.locator(".grid-line [role=rowheader]").all_inner_texts()


def column(page: Page, title: str) -> list[str]:
    """What stands in a column, from the top; nothing where there is none."""
    found: list[str] = page.locator(".compare-grid").evaluate(
        """(grid, title) => {
            const heads = [...grid.querySelectorAll(".grid-head [role=columnheader]")];
            const place = heads.findIndex((head) => head.innerText.replace(/[↑↓\\n ]+$/, "") === title);
            return place < 0 ? [] : [...grid.querySelectorAll(".grid-line")].map((line) => line.children[place].innerText);
        }""",
        title,
    )
    return found


def choose(page: Page, button: str, name: str) -> None:
    """Choose a name from a searched list."""
    page.get_by_role("button", name=re.compile(f"^{re.escape(button)}")).click()
    page.keyboard.type(name)
    page.keyboard.press("Enter")


# -- configuration -------------------------------------------------------------------------------------------------


def test_only_what_differs_is_shown_and_the_odd_one_out_stands_out(site: Site, page: Page) -> None:
    show(page, site.at("config", of="shown"), ".grid-line")
    assert lines(page) == ["lr", "optimizer", "model.width", "odd"]
    optimizer = page.locator(".grid-line").filter(has=page.locator("[role=rowheader]", has_text="optimizer"))
    assert optimizer.locator(".odd").all_inner_texts() == ["muon"]
    odd = page.locator(".grid-line").filter(has=page.locator("[role=rowheader]", has_text=re.compile("^odd$")))
    assert odd.locator(".odd").all_inner_texts() == [HOSTILE]
    assert page.evaluate("window.hit") is None, "a name became markup"
    page.get_by_role("button", name="All settings").click()
    wait_for_page(page, lambda: lines(page) == ["lr", "optimizer", "same", "model.width", "odd"])
    page.get_by_label("Find settings").fill("muon")  # a value
    wait_for_page(page, lambda: lines(page) == ["optimizer"])
    assert "every=1" in settings_of(page)
    assert "find=muon" in settings_of(page)
    page.get_by_label("Find settings").fill("")
    page.get_by_role("button", name="Runs as rows").click()
    wait_for_page(page, lambda: len(lines(page)) == RUNS and column(page, "optimizer").count("muon") == 1)
    assert HOSTILE in lines(page)


def test_a_pinned_baseline_is_what_others_are_held_against(site: Site, page: Page) -> None:
    show(page, site.at("config", baseline=site.ids["run-5"]), ".grid-head .held")
    assert page.locator(".grid-head .held").inner_text() == "run-5"
    optimizer = page.locator(".grid-line").filter(has=page.locator("[role=rowheader]", has_text="optimizer"))
    assert set(optimizer.locator(".odd").all_inner_texts()) == {"adamw"}
    page.get_by_role("button", name="No baseline").click()
    wait_for_page(page, lambda: optimizer.locator(".odd").all_inner_texts() == ["muon"])


def test_the_table_is_copied_saved_and_walked_through_with_arrows(site: Site, page: Page) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    runs = ",".join(site.ids[f"run-{number}"] for number in (4, 5))
    show(page, site.at("config", runs=runs), ".grid-line")
    page.get_by_role("button", name="Copy Markdown").click()
    page.get_by_text("✓").wait_for()
    copied = page.evaluate("navigator.clipboard.readText()").splitlines()
    assert copied[0] == "| setting | run-5 | run-4 |"  # the better first
    assert "| optimizer | muon | adamw |" in copied
    with page.expect_download() as download:
        page.get_by_role("button", name="Save CSV").click()
    with open(download.value.path(), encoding="utf-8") as written:
        assert "optimizer,muon,adamw" in written.read().splitlines()
    page.get_by_role("grid").focus()
    for key in ("ArrowDown", "ArrowDown", "ArrowRight"):
        page.keyboard.press(key)
    assert page.locator("#grid-cursor").inner_text() == "muon"
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="run-5").wait_for()
    assert f"/r/{site.ids['run-5']}" in settings_of(page)


# -- metrics -------------------------------------------------------------------------------------------------------


def test_the_best_is_marked_and_losses_say_who_reached_them(site: Site, page: Page) -> None:
    show(page, site.at("metrics", of="shown"), ".grid-line")
    assert lines(page)[0] == "run-10"
    best = page.locator(".grid-line").first.locator(".best").first
    assert best.inner_text() == "best3.5"
    page.get_by_label("Values of val/loss to be reached").fill("4.05 8,5")
    page.get_by_role("button", name="Show").click()
    page.get_by_role("columnheader", name="tokens to 4.05").wait_for(state="attached")
    assert "losses=4.05" in settings_of(page)
    reached = page.evaluate(
        """() => [...document.querySelectorAll('.grid-line')].map((line) => [...line.children].map((cell) => cell.title)).flat()
               .filter((title) => title.includes('tokens to 4.05'))"""
    )
    if not reached:  # beyond the window's edge
        page.get_by_role("grid").evaluate("grid => grid.scrollLeft = 10000")
        page.locator("[title*='tokens to 4.05']").first.wait_for()
        reached = page.locator("[title*='tokens to 4.05']").evaluate_all("cells => cells.map((cell) => cell.title)")
    assert "run-3: tokens to 4.05: not reached" in reached  # its least is 4.2
    assert any(title.startswith("tokens to 4.05: 9,000") for title in reached)
    page.get_by_label("Values of val/loss to be reached").fill("soon")
    page.get_by_text("up to 10 numbers").wait_for()
    assert page.get_by_role("button", name="Show").is_disabled()


def test_metrics_are_sorted_and_told_as_changes_from_the_baseline(site: Site, page: Page) -> None:
    show(page, site.at("metrics", of="shown", baseline=site.ids["run-0"]), ".grid-line.held")
    assert lines(page)[0] == "run-0", "the baseline first"
    best = page.locator(".grid-line").nth(1).locator("[title^='best val loss']")
    assert best.inner_text().endswith("−1")
    assert best.locator(".good").count() == 1
    header = page.get_by_role("columnheader", name="best train loss")
    header.get_by_role("button").click()
    wait_for_page(page, lambda: header.get_attribute("aria-sort") == "ascending")
    assert lines(page)[:2] == ["run-0", HOSTILE], "and the others after it, in the order asked for"
    header.get_by_role("button").click()
    wait_for_page(page, lambda: lines(page)[:2] == ["run-0", "run-1"])
    assert "order=-best_train_loss" in settings_of(page)


# -- scatter -------------------------------------------------------------------------------------------------------


def test_points_are_chosen_read_opened_and_drawn(site: Site, page: Page) -> None:
    show(page, site.at("scatter"), ".scatter[data-points]")
    plot = page.locator(".scatter")
    assert plot.get_attribute("data-points") == "11"
    foot = page.locator(".compare-foot")
    assert "ρ = −1.00 over 11 runs" in foot.inner_text()
    assert "1 of 12 runs are not shown: 1 without val/loss min" in foot.inner_text()
    choose(page, "Colour", "optimizer")
    page.get_by_role("group", name="Colours of optimizer").wait_for()
    assert "sc=config.optimizer" in settings_of(page)
    plot.focus()
    page.keyboard.press("ArrowRight")
    assert page.locator(".scatter-tip b").inner_text() == "run-0", "the least learning rate"
    page.keyboard.press("ArrowRight")
    assert "muon" not in page.locator(".scatter-tip").inner_text()
    page.keyboard.press(" ")
    page.get_by_text("run selected").wait_for()
    page.get_by_role("button", name="Draw these runs").click()
    wait_for_page(page, lambda: f"runs={site.ids['run-1']}" in settings_of(page))
    page.get_by_role("link", name="See their charts").wait_for()
    choose(page, "Horizontal axis", "optimizer")
    page.get_by_text("No correlation: one of the two is a text.").wait_for()
    with page.expect_download() as download:
        page.get_by_role("button", name="Save PNG").click()
    with open(download.value.path(), "rb") as picture:
        assert picture.read(4) == b"\x89PNG"
    page.get_by_role("button", name="As a table").click()
    wait_for_page(page, lambda: len(lines(page)) == 11 and column(page, "optimizer").count("muon") == 1)


def test_a_drag_selects_points_and_a_click_opens_one(site: Site, page: Page) -> None:
    show(page, site.at("scatter"), ".scatter[data-points]")
    box = page.locator(".scatter").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 70, box["y"] + 14)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 100)
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] - 50)
    page.mouse.up()
    selected = page.locator(".draw-these b")
    selected.wait_for()
    assert 3 <= int(selected.inner_text()) <= 7, "the left half of eleven"
    page.get_by_role("button", name="Clear").click()
    page.locator(".scatter").focus()
    page.keyboard.press("ArrowLeft")  # the last
    ring = page.locator(".scatter-ring").bounding_box()
    assert ring is not None
    page.mouse.click(ring["x"] + 7, ring["y"] + 7)
    page.get_by_role("heading", name="run-10").wait_for()


# -- parallel coordinates ------------------------------------------------------------------------------------------


def heads(page: Page) -> list[str]:
    """The axes from left to right."""
    placed = page.locator(".axis-head").evaluate_all(
        "heads => heads.map((head) => [head.getBoundingClientRect().x, head.innerText.split('\\n')[0]])"
    )
    return [name for _, name in sorted(placed)]


def axis(page: Page, name: str) -> Locator:
    return page.get_by_role("button", name=re.compile(f"^Axis {re.escape(name)}$"))


def test_a_drag_on_an_axis_lets_some_runs_through_and_the_link_keeps_it(site: Site, page: Page) -> None:
    show(page, site.at("parallel"), ".axis-head")
    wait_for_page(page, lambda: "val/loss min" in heads(page))
    assert heads(page)[0] == "lr"
    where = axis(page, "lr").bounding_box()
    box = page.locator(".parallel").bounding_box()
    assert where is not None
    assert box is not None
    x = where["x"] + where["width"] / 2
    page.mouse.move(x, box["y"] + 39)
    page.mouse.down()
    page.mouse.move(x, box["y"] + 90)
    page.mouse.move(x, box["y"] + box["height"] / 2)
    page.mouse.up()
    passing = page.locator(".compare-foot [role=status]")
    wait_for_page(page, lambda: "of 12 runs pass" in passing.inner_text())
    count = int(passing.inner_text().split()[0])
    assert 3 <= count <= 9, "about half"
    page.reload()
    wait_for_page(page, lambda: passing.inner_text() == f"{count} of 12 runs pass")
    page.get_by_role("button", name="Draw these runs").click()
    wait_for_page(page, lambda: len(settings_of(page).split("runs=")[-1].split("&")[0].split(",")) == count)
    page.get_by_role("button", name="Clear").click()
    wait_for_page(page, lambda: passing.inner_text() == "12 runs")


def test_axes_are_moved_filtered_and_made_logarithmic_by_keyboard(site: Site, page: Page) -> None:
    show(page, site.at("parallel"), ".axis-head")
    wait_for_page(page, lambda: "val/loss min" in heads(page))
    axis(page, "lr").focus()
    page.keyboard.press("ArrowRight")
    wait_for_page(page, lambda: heads(page).index("lr") == 1)
    assert "pc=" in settings_of(page)
    axis(page, "optimizer").press("Enter")
    page.get_by_label("From of optimizer").select_option("muon")
    page.get_by_label("To of optimizer").select_option("muon")
    page.keyboard.press("Escape")
    wait_for_page(page, lambda: page.locator(".compare-foot [role=status]").inner_text() == "1 of 12 runs pass")
    axis(page, "lr").press("Enter")
    page.get_by_role("button", name="Linear").click()
    wait_for_page(page, lambda: "pl=!config.lr" in settings_of(page))
    axis(page, "optimizer").press("Enter")
    page.get_by_role("button", name="Remove").click()
    wait_for_page(page, lambda: "optimizer" not in heads(page))
    correlations = page.get_by_role("region", name="Correlation of settings with the metric")
    assert re.search(r"lr\s+−1.00\s+11 runs", correlations.inner_text())
    assert "none of it is a cause" in correlations.inner_text()
