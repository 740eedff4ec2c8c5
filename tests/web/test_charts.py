"""Charts as people use them: what is drawn, read, zoomed and saved is what was logged."""

from __future__ import annotations

import csv
import math
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit
from xml.etree import ElementTree

import pytest
from waiting import wait_for_page

import lossbook

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

pytest.importorskip("playwright.sync_api")
from playwright.sync_api import expect

HOSTILE = '=<img src=x onerror="window.hurt=1">,"&\''
ROWS = 3000

# Colours of a column that is neither grey nor background, from the top down: how far down the first and how many.
COLUMNS = """
(plot) => {
  const canvas = plot.querySelector("canvas");
  const { width, height } = canvas;
  const { data } = canvas.getContext("2d").getImageData(0, 0, width, height);
  const columns = [];
  for (let x = 0; x < width; x += 1) {
    let [count, first] = [0, height];
    for (let y = 0; y < height; y += 1) {
      const [r, g, b] = data.subarray(4 * (y * width + x));
      if (Math.max(r, g, b) - Math.min(r, g, b) > 70) { count += 1; first = Math.min(first, y); }
    }
    columns.push([count, first]);
  }
  return { columns, height };
}
"""


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three runs of one group, one with a spike, one with NaN, one with a hostile name."""
    store = tmp_path_factory.mktemp("charts")
    for seed, name in enumerate(["plain", "spiky", HOSTILE]):
        chance = random.Random(seed)
        run = lossbook.init("curves", name=name, group="seeds" if seed < 2 else None, store=store)
        for step in range(ROWS):
            loss = 2 + 8 * math.exp(-step / 400) + 0.05 * chance.gauss(0, 1)
            if name == "spiky" and step == 1777:
                loss = 30.0
            if name == HOSTILE and 1200 <= step < 1260:
                loss = math.nan
            row = {"train/loss": loss, "lr": 1e-3 * (1 - step / ROWS)}
            if step % 100 == 0:
                row["balance"] = float(step - 300)
            run.log(row, step=step)
        run.finish()
    return store


def _open(page: Page, url: str, settings: str = "", project: str = "curves") -> None:
    page.goto(f"{url}#/p/{project}/charts?{settings}")
    page.reload()


def _chart(page: Page, title: str, lines: int | None = None) -> Locator:
    """A chart that has all that it asked for."""
    drawn = "" if lines is None else f"[data-drawn='{lines}']"
    chart = page.locator(f"figure.curve-chart{drawn}:not([data-loading])").filter(
        has=page.locator("figcaption .cut", has_text=re.compile(rf"^{re.escape(title)}\b"))
    )
    chart.scroll_into_view_if_needed()
    return chart


def _save(page: Page, chart: Locator, what: str) -> bytes:
    chart.get_by_role("button", name=re.compile("^More for")).click()
    with page.expect_download() as download:
        chart.get_by_role("menuitem", name=what).click()
    return Path(download.value.path()).read_bytes()


def _rows(page: Page, chart: Locator) -> list[dict[str, str]]:
    return list(csv.DictReader(_save(page, chart, "Save as CSV").decode().splitlines()))


def _point_at(page: Page, chart: Locator, part: float) -> None:
    box = chart.locator(".plot").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + part * box["width"], box["y"] + box["height"] / 2)


def test_a_spike_of_one_row_and_values_that_are_not_finite_are_seen(
    served: Callable[..., Any], page: Page, recorded: Path
) -> None:
    _open(page, served(recorded).url, "marks=0")
    chart = _chart(page, "train/loss", 3)
    found = chart.locator(".plot").evaluate(COLUMNS)
    tall = [at for at, (count, first) in enumerate(found["columns"]) if first < 40 and count > 0.4 * found["height"]]
    assert tall, "no column is filled as far up as the spike reaches"
    width = len(found["columns"])
    assert abs(tall[0] / width - 1777 / ROWS) < 0.05
    assert chart.get_by_text("✕60").is_visible()
    # A line is broken where nothing is finite: the place is told by crosses at the bottom.
    assert "3 lines" in (chart.get_attribute("aria-label") or "")


def test_a_spike_is_seen_among_fifty_runs(
    served: Callable[..., Any], page: Page, tmp_path_factory: pytest.TempPathFactory
) -> None:
    store = tmp_path_factory.mktemp("fifty")
    for number in range(50):
        run = lossbook.init("fifty", name=f"run {number}", store=store)
        for step in range(1000):
            run.log(
                {"value": 1.0 + number / 100 + (step % 7) / 50 + (9 if number == 25 and step == 500 else 0)}, step=step
            )
        run.finish()
    ids = ",".join(run.id for run in lossbook.open(store).runs())
    _open(page, served(store).url, f"marks=0&runs={ids}", "fifty")
    chart = _chart(page, "value", 50)
    found = chart.locator(".plot").evaluate(COLUMNS)
    tall = [at for at, (count, first) in enumerate(found["columns"]) if first < 40 and count > 0.3 * found["height"]]
    assert 1 <= len(tall) <= 6
    chart.get_by_role("button", name="42 more").click()
    assert chart.get_by_role("list", name="Legend").get_by_text("run 7", exact=True).is_visible()


def test_what_is_saved_is_what_the_book_has(served: Callable[..., Any], page: Page, recorded: Path) -> None:
    book = lossbook.open(recorded)
    plain = next(run for run in book.runs() if run.name == "plain")
    _open(page, served(recorded).url, "range=1000,1040&marks=0")
    chart = _chart(page, "train/loss", 3)
    rows = [row for row in _rows(page, chart) if row["run"] == "plain"]
    assert [float(row["x"]) for row in rows] == list(range(1000, 1041)), "a zoom goes down to the rows"
    assert {row["count"] for row in rows} == {"1"}
    curve = plain.curve("train/loss", points=2000, start=1000, end=1040)
    assert [float(row["mean"]) for row in rows] == curve.mean.tolist()
    names = {row["run"] for row in _rows(page, chart)}
    assert f"'{HOSTILE}" in names, "no spreadsheet takes a name for a formula"
    picture = ElementTree.fromstring(_save(page, chart, "Save as SVG"))
    texts = [element.text for element in picture.iter("{http://www.w3.org/2000/svg}text")]
    assert any(text and text.startswith(HOSTILE) for text in texts)
    assert "train/loss" in texts
    assert "step" in texts
    assert len([path for path in picture.iter("{http://www.w3.org/2000/svg}path") if "M" in path.attrib["d"]]) > 6
    assert not list(picture.iter("{http://www.w3.org/2000/svg}img"))
    assert _save(page, chart, "Save as PNG").startswith(b"\x89PNG")
    assert page.evaluate("window.hurt") is None


def test_the_cursor_tells_every_runs_value_in_every_chart(
    served: Callable[..., Any], page: Page, recorded: Path
) -> None:
    book = lossbook.open(recorded)
    runs = {run.name: run for run in book.runs()}
    _open(page, served(recorded).url, "range=1000,1010&marks=0")
    loss, rate = _chart(page, "train/loss", 3), _chart(page, "lr", 3)
    loss.scroll_into_view_if_needed()
    _point_at(page, loss, 0.5)
    tip = loss.locator(".chart-tip")
    step = int(re.sub(r"\D", "", tip.locator("header b").inner_text()))
    told = {
        row.locator("td").nth(0).inner_text().strip(): row.locator("td").nth(1).inner_text()
        for row in tip.locator("tbody tr").all()
    }
    assert set(told) == {"plain", "spiky", HOSTILE}
    values = []
    for name, text in told.items():
        curve = runs[name].curve("train/loss", start=step, end=step)
        assert float(text) == pytest.approx(float(curve.mean[0]), rel=1e-4)
        values.append(float(text))
    assert values == sorted(values), "the best stands first"
    expected = 1e-3 * (1 - step / ROWS)
    shown = float(rate.locator(".legend li b").first.inner_text())
    assert shown == pytest.approx(expected, rel=1e-3), "the other charts follow the pointer"
    # A click pins the values, with links to the runs; Escape lets them go.
    box = loss.locator(".plot").bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    assert tip.get_by_role("link", name="plain").is_visible()
    page.keyboard.press("Escape")
    tip.wait_for(state="detached")


def test_hands_and_keys_zoom_and_come_back(served: Callable[..., Any], page: Page, recorded: Path) -> None:
    _open(page, served(recorded).url, "marks=0")
    chart = _chart(page, "train/loss", 3)
    box = chart.locator(".plot").bounding_box()
    assert box is not None
    middle = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + 0.4 * box["width"], middle)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.6 * box["width"], middle, steps=4)
    page.mouse.up()
    low, high = _rests(page, lambda found: found is not None)
    assert 900 < low < high < 2100
    assert max(float(row["x"]) for row in _rows(page, chart)) <= high, "the other charts and the file follow"
    chart.focus()
    page.keyboard.press("ArrowRight")
    moved = _rests(page, lambda found: found[0] > low + 1)
    assert moved[1] - moved[0] == pytest.approx(high - low)
    page.keyboard.press("+")
    _rests(page, lambda found: found[1] - found[0] < 0.9 * (high - low))
    page.keyboard.press("0")
    _rests(page, lambda found: found is None)
    # Upwards, the zoom is this chart's own.
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 0.5 * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 0.7 * box["height"], steps=4)
    page.mouse.up()
    chart.get_by_role("button", name="Reset zoom").wait_for()
    assert "range=" not in page.url
    page.mouse.dblclick(box["x"] + box["width"] / 2, middle)
    chart.get_by_role("button", name="Reset zoom").wait_for(state="detached")


def _rests(page: Page, condition: Callable[[Any], bool]) -> Any:
    """The zoom in the link, when it has become what is expected."""

    def zoom() -> Any:
        text = parse_qs(urlsplit(page.evaluate("location.href")).fragment.partition("?")[2]).get("range")
        return None if text is None else tuple(float(part) for part in text[0].split(","))

    wait_for_page(page, lambda: condition(zoom()))
    return zoom()


def test_nothing_is_left_out_in_silence(served: Callable[..., Any], page: Page, recorded: Path) -> None:
    url = served(recorded).url
    _open(page, url, "outliers=robust&marks=0")
    chart = _chart(page, "train/loss", 3)
    # Counted by buckets of several rows, and the loss's own beginning is kept.
    told = chart.get_by_text(re.compile(r"^at least 1 point above the view \(highest 30 at step 1,777\)$"))
    assert told.is_visible()
    chart.get_by_role("button", name="show all").click()
    chart.get_by_role("button", name="leave out outliers").wait_for()
    _open(page, url, "logy=1&marks=0")
    chart = _chart(page, "balance", 3)
    assert chart.get_by_text("12 values ≤ 0 are not shown on a log axis").is_visible()
    _open(page, url, "logy=1&logx=1&marks=0")
    chart = _chart(page, "balance", 3)
    assert chart.get_by_text("rows at step ≤ 0 are not shown on a log axis").is_visible()


def test_smoothing_and_bands(served: Callable[..., Any], page: Page, recorded: Path) -> None:
    book = lossbook.open(recorded)
    plain = next(run for run in book.runs() if run.name == "plain")
    url = served(recorded).url
    _open(page, url, "smooth=ema:0.99&marks=0&range=2900,2999")
    chart = _chart(page, "train/loss", 3)
    smoothed = plain.curve("train/loss", smoothing="ema:0.99", points=2000).mean[-1]
    line = chart.get_by_role("list", name="Legend").locator("li", has_text="plain").locator("b")
    assert float(line.inner_text()) == pytest.approx(float(smoothed), rel=1e-3)
    _point_at(page, chart, 0.5)
    assert chart.locator(".chart-tip th", has_text="smoothed").is_visible()
    assert chart.locator(".chart-tip th", has_text="raw").is_visible()
    _open(page, url, "bands=1&marks=0")
    chart = _chart(page, "lr", 2)
    legend = chart.get_by_role("list", name="Legend")
    assert legend.get_by_text("seeds (2 runs)").is_visible()
    assert legend.get_by_text(HOSTILE).is_visible(), "a run without a group is drawn alone"


def test_a_chart_reads_as_a_table_and_says_what_is_missing(
    served: Callable[..., Any], page: Page, tmp_path: Path
) -> None:
    with lossbook.init("odd", name="one", store=tmp_path) as run:
        for step in range(5):
            run.log({"loss": 5.0 - step, "other": 1.0}, step=step)
    with lossbook.init("odd", name="two", store=tmp_path) as run:
        run.log({"loss": 3.0}, step=0)
    _open(page, served(tmp_path).url, project="odd")
    chart = _chart(page, "loss", 2)
    chart.get_by_role("button", name="More for loss").press("Enter")
    items = chart.get_by_role("menuitem")
    expect(items.first).to_be_focused()
    page.keyboard.press("ArrowUp")
    expect(items.last).to_be_focused()
    page.keyboard.press("Enter")
    row = chart.get_by_role("row", name=re.compile("^one"))
    expect(row.get_by_role("cell")).to_have_text(["one", "1", "4", "1", "4", "5", "0"])
    other = _chart(page, "other", 1)
    other.get_by_role("button", name="1 run without it").click()
    expect(other.get_by_text("two", exact=True)).to_be_visible()


def test_alerts_and_resumes_stand_at_their_place(served: Callable[..., Any], page: Page, tmp_path: Path) -> None:
    run = lossbook.init("marked", name="one", store=tmp_path)
    for step in range(200):
        run.log({"loss": 2.0}, step=step)
    run.finish()
    with lossbook.init("marked", id=run.id, resume="must", store=tmp_path) as again:
        for step in range(150, 300):
            again.log({"loss": 1.0}, step=step)
        again.alert("look here", text="<b>bold</b>", level="warning")
    url = served(tmp_path).url
    _open(page, url, project="marked")
    chart = _chart(page, "loss", 1)
    flag = chart.get_by_role("button", name=re.compile("^look here at step"))
    flag.hover()
    assert flag.get_by_text("<b>bold</b>").is_visible(), "what somebody wrote stays text"
    chart.locator(".flag.attempt").first.wait_for()
    # Rows that the second attempt took anew are drawn when asked for.
    chart.get_by_label("replaced rows").check()
    _chart(page, "loss", 2).get_by_text("one, attempt 1").wait_for()
    _open(page, url, "marks=0", project="marked")
    assert _chart(page, "loss", 1).locator(".flag").count() == 0
