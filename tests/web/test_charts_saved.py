"""Charts as files, and what a page that follows runs keeps."""

from __future__ import annotations

import base64
import csv
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import pytest

import lossbook

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

SVG = "{http://www.w3.org/2000/svg}"


def _chart(page: Page, url: str, project: str, lines: int, settings: str = "") -> Locator:
    page.goto(f"{url}#/p/{project}/charts?{settings}")
    chart = page.locator(f"figure.curve-chart[data-drawn='{lines}']:not([data-loading])").first
    chart.scroll_into_view_if_needed()
    return chart


def _save(page: Page, chart: Locator, what: str) -> bytes:
    chart.get_by_role("button", name=re.compile("^More for")).click()
    with page.expect_download() as download:
        chart.get_by_role("menuitem", name=what).click()
    return Path(download.value.path()).read_bytes()


def _size(page: Page, kind: str, content: bytes) -> tuple[int, int]:
    """Of a picture, as the browser itself reads it."""
    found = page.evaluate(
        """async (address) => {
          const image = new Image();
          image.src = address;
          await image.decode();
          return [image.naturalWidth, image.naturalHeight];
        }""",
        f"data:{kind};base64,{base64.b64encode(content).decode()}",
    )
    return found[0], found[1]


def test_a_drawing_has_the_signs_and_dots_of_the_picture(
    served: Callable[..., Any], page: Page, tmp_path: Path
) -> None:
    with lossbook.init("signs", name="one", store=tmp_path) as run:
        for step, value in enumerate([3.0, math.nan, 2.0, math.inf, 1.5, -math.inf, 1.0, 1.0, 1.0, 1.0]):
            run.log({"loss": value}, step=step)
    chart = _chart(page, served(tmp_path).url, "signs", 1, "marks=0")
    saved = _save(page, chart, "Save as SVG")
    drawing = ElementTree.fromstring(saved)
    signs = [path.attrib["d"] for path in drawing.iter(f"{SVG}path") if path.get("class") == "sign"]
    crosses = [sign for sign in signs if "m0 -6" in sign]
    assert (len(signs), len(crosses)) == (3, 1), "a cross, an arrow up and one down"
    assert len(list(drawing.iter(f"{SVG}circle"))) == 7, "each finite row is a dot"
    width, height = _size(page, "image/svg+xml", saved)
    assert _size(page, "image/png", _save(page, chart, "Save as PNG")) == (2 * width, 2 * height)


def test_far_outliers_are_left_out_and_a_steep_beginning_is_not(
    served: Callable[..., Any], page: Page, tmp_path: Path
) -> None:
    with lossbook.init("ranges", name="one", store=tmp_path) as run:
        for step in range(400):
            tremble = 0.05 * math.sin(12.9898 * step)
            run.log({"loss": 2 + 8 * math.exp(-step / 10) + tremble + (500 if step in (200, 300) else 0)}, step=step)
    chart = _chart(page, served(tmp_path).url, "ranges", 1, "marks=0&outliers=robust")
    told = chart.get_by_text(re.compile("above the view"))
    assert "2 points above the view (highest 502" in told.inner_text()
    drawing = ElementTree.fromstring(_save(page, chart, "Save as SVG"))
    labels = [text.text or "" for text in drawing.iter(f"{SVG}text") if text.get("text-anchor") == "end"]
    highest = max(float(label) for label in labels if re.fullmatch(r"[\d.]+", label))
    assert 6 <= highest <= 12, "the loss's first values are in view"
    arrows = [path for path in drawing.iter(f"{SVG}path") if path.get("class") == "sign"]
    assert len(arrows) == 2, "what is left out is told at the edge"


def test_a_smoothed_chart_is_saved_with_what_was_logged(served: Callable[..., Any], page: Page, tmp_path: Path) -> None:
    with lossbook.init("smooth", name="one", store=tmp_path) as run:
        for step in range(50):
            run.log({"loss": 5.0 + (-1) ** step}, step=step)
    chart = _chart(page, served(tmp_path).url, "smooth", 1, "marks=0&smooth=ema:0.9")
    rows = list(csv.DictReader(_save(page, chart, "Save as CSV").decode().splitlines()))
    (recorded,) = lossbook.open(tmp_path).runs()
    expected = recorded.curve("loss", smoothing="ema:0.9", points=2000).mean
    assert [float(row["mean"]) for row in rows] == [5.0 + (-1) ** step for step in range(50)]
    assert [float(row["smoothed"]) for row in rows] == pytest.approx(expected.tolist())


def test_smoothed_curves_come_after_the_others_and_few_at_a_time(
    served: Callable[..., Any], page: Page, tmp_path: Path
) -> None:
    for number in range(9):
        with lossbook.init("order", name=f"run {number}", store=tmp_path) as run:
            for step in range(20):
                run.log({"loss": 1.0 / (1 + step)}, step=step)
    asked: list[Any] = []
    page.on("request", lambda one: asked.append(one.post_data_json) if one.url.endswith("/api/curves") else None)
    _chart(page, served(tmp_path).url, "order", 9, "marks=0&smooth=ema:0.9")
    drawn = [one for one in asked if one["points"] > 64]
    assert drawn[0]["smoothing"] is None
    smoothed = [len(one["series"]) for one in drawn if one["smoothing"] is not None]
    assert sum(smoothed) == 9
    assert max(smoothed) <= 4


def test_a_page_that_follows_a_run_keeps_no_more_than_it_draws(
    served: Callable[..., Any], page: Page, tmp_path: Path
) -> None:
    run = lossbook.init("live", name="now", store=tmp_path)
    run.log({"loss": 1.0}, step=0)
    _chart(page, served(tmp_path).url, "live", 1)
    devtools = page.context.new_cdp_session(page)

    def kept() -> float:
        """Bytes of the page's objects and arrays, after its garbage was collected."""
        devtools.send("HeapProfiler.collectGarbage")
        usage = devtools.send("Runtime.getHeapUsage")
        return float(usage["usedSize"] + usage.get("backingStorageSize", 0))

    def follow(first: int, count: int) -> float:
        """Log rows while the page asks for them, and wait until it has drawn the last."""
        for step in range(first, first + count):
            run.log({"loss": float(step)}, step=step)
            if step % 500 == 0:
                with page.expect_response(re.compile("/api/curves")):
                    pass
        last = f"{first + count - 1:,}".replace(",", ",?")
        page.locator("figure.curve-chart .legend b", has_text=re.compile(f"^{last}$")).wait_for()
        return kept()

    early = follow(1, 3000)
    late = follow(3001, 6000)
    run.finish()
    # Twice as many rows again, and no more than what a collector leaves lying: each of them kept would be half a megabyte.
    assert late - early < 300_000
