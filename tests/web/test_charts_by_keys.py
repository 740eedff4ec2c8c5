"""Charts without a mouse and without eyes: values, marks and tables by the keyboard and in words."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from serving import Served, serving

import lossbook

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A run that was resumed and warned, and twenty that differ by a little."""
    store = tmp_path_factory.mktemp("keys")
    run = lossbook.init("marked", name="one", store=store)
    for step in range(200):
        run.log({"loss": 4.0 - step / 100}, step=step)
    run.finish()
    with lossbook.init("marked", id=run.id, resume="must", store=store) as again:
        for step in range(200, 300):
            again.log({"loss": 1.0}, step=step)
        again.alert("look here", text="<b>bold</b>", level="warning")
    for number in range(20):
        with lossbook.init("many", name=f"run {number:02d}", store=store) as run:
            for step in range(5):
                run.log({"loss": number + step / 100}, step=step)
    with serving(store) as server:
        yield server


def _chart(page: Page, server: Served, project: str, lines: int, settings: str = "") -> Locator:
    page.goto(f"{server.url}#/p/{project}/charts?{settings}")
    chart = page.locator(f"figure.curve-chart[data-drawn='{lines}']:not([data-loading])").first
    chart.scroll_into_view_if_needed()
    return chart


def test_keys_step_from_row_to_row_and_the_value_is_said(told: Served, page: Page) -> None:
    chart = _chart(page, told, "marked", 1, "marks=0&range=100,110")
    said = chart.get_by_role("status")
    assert said.inner_text() == "", "nothing is said that nobody asked for"
    chart.focus()
    page.keyboard.press(".")
    said.get_by_text("step 100: one 3", exact=True).wait_for(state="attached")
    page.keyboard.press(".")
    said.get_by_text("step 101: one 2.99", exact=True).wait_for(state="attached")
    assert chart.locator(".chart-tip").is_visible()
    page.keyboard.press(",")
    said.get_by_text("step 100: one 3", exact=True).wait_for(state="attached")
    page.keyboard.press(">")
    said.get_by_text("step 110: one 2.9", exact=True).wait_for(state="attached")
    page.keyboard.press("Escape")
    chart.locator(".chart-tip").wait_for(state="detached")
    assert said.inner_text() == ""


def test_keys_go_from_mark_to_mark(told: Served, page: Page) -> None:
    chart = _chart(page, told, "marked", 1)
    flags = chart.get_by_role("group", name="Marks").get_by_role("button")
    flags.first.wait_for()
    chart.focus()
    page.keyboard.press("m")
    names = [flag.get_attribute("aria-label") for flag in flags.all()]
    assert page.evaluate("document.activeElement.ariaLabel") == names[0]
    page.keyboard.press("Shift+M")
    assert page.evaluate("document.activeElement.ariaLabel") == names[-1]
    at = next(place for place, name in enumerate(names) if name and name.startswith("look here"))
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.tagName") == "FIGURE"
    for _ in range(at + 1):
        page.keyboard.press("m")
    tip = chart.get_by_role("tooltip")
    assert tip.get_by_text("<b>bold</b>").is_visible(), "what somebody wrote stays text"
    assert flags.nth(at).get_attribute("aria-describedby") == tip.get_attribute("id")
    box = tip.bounding_box()
    assert box is not None
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 1280
    assert [flag.get_attribute("tabindex") for flag in flags.all()].count("0") == 1, (
        "Tab passes a chart's marks at once"
    )


def test_the_table_tells_the_marks_too(told: Served, page: Page) -> None:
    chart = _chart(page, told, "marked", 1)
    chart.locator(".flag").first.wait_for()
    chart.get_by_role("button", name=re.compile("^More for")).click()
    chart.get_by_role("menuitem", name="Show as a table").click()
    row = chart.get_by_role("table", name="Marks of loss").get_by_role("row", name=re.compile("look here"))
    cells = row.get_by_role("cell").all_inner_texts()
    assert cells[1] == "one"
    assert cells[4] == "<b>bold</b>"


@pytest.mark.parametrize(("part", "size"), [(0.95, (1280, 800)), (0.2, (1280, 800)), (0.5, (420, 700))])
def test_a_tip_stays_in_the_window_and_off_its_point(
    told: Served, page: Page, part: float, size: tuple[int, int]
) -> None:
    page.set_viewport_size({"width": size[0], "height": size[1]})
    ids = ",".join(row["id"] for row in told.get("/api/runs", project="many")["rows"])
    chart = _chart(page, told, "many", 20, f"marks=0&runs={ids}")
    plot = chart.locator(".plot").bounding_box()
    assert plot is not None
    x = plot["x"] + 60 + part * (plot["width"] - 80)
    y = plot["y"] + plot["height"] - 60  # low in the plot: the smallest values
    page.mouse.move(x, y)
    tip = chart.locator(".chart-tip")
    box = tip.bounding_box()
    assert box is not None
    assert box["x"] >= 0
    assert box["y"] >= 0
    assert box["x"] + box["width"] <= size[0]
    assert box["y"] + box["height"] <= size[1]
    assert not (box["x"] <= x <= box["x"] + box["width"] and box["y"] <= y <= box["y"] + box["height"])
    # Of twenty lines those around the pointer are told, the nearest one stands out.
    rows = tip.locator("tbody tr")
    assert rows.count() == 16
    assert tip.locator("tr.nearest, tr.standing").count() == 1
    near = int(tip.locator("tr.nearest, tr.standing").locator("td").first.inner_text().strip().removeprefix("run "))
    assert near < 8
    page.mouse.click(x, y)
    assert rows.count() == 20
    assert tip.locator("tr.nearest, tr.standing").is_visible()


def test_the_colours_follow_the_theme_at_once(told: Served, page: Page) -> None:
    chart = _chart(page, told, "marked", 1, "marks=0")
    corner = """(plot) => {
      const canvas = plot.querySelector("canvas");
      return [...canvas.getContext("2d").getImageData(canvas.width - 20, 12, 1, 1).data].slice(0, 3);
    }"""
    dark = "dark" if page.evaluate("document.documentElement.dataset.theme") == "light" else "light"
    before = chart.locator(".plot").evaluate(corner)
    for _ in range(3):
        if page.evaluate("document.documentElement.dataset.theme") == dark:
            break
        page.keyboard.press("t")
    page.wait_for_function(
        f"([plot, before]) => {{const colour = ({corner})(plot); return Math.abs(colour[0] - before[0]) > 100; }}",
        arg=[chart.locator(".plot").element_handle(), before],
    )


def test_charts_stand_on_paper_too(told: Served, page: Page) -> None:
    chart = _chart(page, told, "marked", 1)
    page.emulate_media(media="print")
    assert chart.locator(".plot canvas").first.is_visible()
    assert chart.get_by_role("list", name="Legend").is_visible()
    assert not chart.get_by_role("button", name=re.compile("^More for")).is_visible()
