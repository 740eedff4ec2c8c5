"""The heat map of a run's layers, as a person looks at it."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

import pytest
from serving import Served, serving
from waiting import wait_for_page, wait_until

import lossbook

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

LAYERS = 8
MANY = 900
HOSTILE = "<b>x</b>"


@dataclass(frozen=True)
class Site:
    served: Served
    store: Path
    ids: dict[str, str]

    def at(self, run: str, **settings: str) -> str:
        query = "&".join(f"{name}={value}" for name, value in settings.items())
        return f"{self.served.url}#/p/net/r/{self.ids[run]}/layers?{query}"


def begin(store: Path, name: str) -> lossbook.Run:
    return lossbook.init(store=store, project="net", name=name, console=False)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A run of eight layers, one of them NaN for a while; one of very many with a single spike; one without layers."""
    folder = tmp_path_factory.mktemp("layers")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOSSBOOK_SYSTEM_INTERVAL", "off")
        patch.setenv("LOSSBOOK_FOLLOWER", "off")
        patch.setenv("LOSSBOOK_CACHE", str(folder / "cache"))
        store = folder / "store"
        layered = begin(store, "layered")
        for step in range(0, 100, 10):
            row = {f"layers/{layer}/grad_norm": (layer + 1) / (step + 10) for layer in range(LAYERS)}
            row |= {f"{HOSTILE}/{layer}": float(layer) for layer in range(3)}
            if step == 50:
                row["layers/3/grad_norm"] = math.nan
            layered.log(row | {"train/loss": 1.0}, step=step)
        layered.finish()
        many = begin(store, "many")
        for step in range(3):
            many.log(
                {f"layers/{layer}/norm": 1.0 for layer in range(MANY)}
                | ({"layers/431/norm": 100.0} if step == 1 else {}),
                step=step,
            )
        many.finish()
        bare = begin(store, "bare")
        bare.log({"train/loss": 1.0}, step=0)
        bare.finish()
        ids = {run.name: run.id for run in (layered, many, bare)}
        with serving(store) as served:
            yield Site(served, store, ids)


def show(page: Page, address: str) -> Locator:
    page.goto("about:blank")
    page.goto(address)
    cells = page.locator(".cells")
    cells.wait_for()
    return cells


def settings_of(page: Page) -> str:
    return unquote(page.evaluate("location.hash"))


def cell_of(page: Page) -> str:
    return page.locator("#heat-cell").text_content() or ""


def test_cells_are_read_with_arrows_and_a_layer_shows_its_curve(site: Site, page: Page) -> None:
    cells = show(page, site.at("layered"))
    wait_for_page(page, lambda: cells.get_attribute("data-columns") == "10")  # as many as steps were logged
    assert cells.get_attribute("data-rows") == str(LAYERS)
    cells.focus()
    for key in ("ArrowDown", "ArrowDown", "ArrowDown", "ArrowDown"):
        page.keyboard.press(key)
    assert re.match(r"3, step 0 to 9\b.*: mean 0.4, min 0.4, max 0.4, 1 rows$", cell_of(page))
    page.keyboard.press("Home")
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    assert "1 not finite" in cell_of(page)
    page.keyboard.press("Enter")
    page.get_by_role("region", name="Curves of the chosen layers").locator(".curve-chart").wait_for()
    assert "layer=layers/3/grad_norm" in settings_of(page)
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Enter")
    wait_for_page(page, lambda: "layer=layers/3/grad_norm,layers/2/grad_norm" in settings_of(page))
    wait_for_page(page, lambda: page.locator(".layers-curves .curve-chart").get_attribute("data-drawn") == "2")
    page.keyboard.press("Enter")
    wait_for_page(page, lambda: "layers/2/grad_norm" not in settings_of(page))


def test_a_drag_zooms_into_steps_and_layers_and_a_double_click_shows_all(site: Site, page: Page) -> None:
    cells = show(page, site.at("layered"))
    wait_for_page(page, lambda: cells.get_attribute("data-columns") == "10")
    box = cells.bounding_box()
    assert box is not None
    left, width = box["x"] + 60, box["width"] - 80
    row = (box["height"] - 44) / LAYERS
    page.mouse.move(left + width * 0.25, box["y"] + 6 + 2.5 * row)
    page.mouse.down()
    page.mouse.move(left + width * 0.5, box["y"] + 6 + 4 * row)
    page.mouse.move(left + width * 0.75, box["y"] + 6 + 5.5 * row)
    page.mouse.up()
    wait_for_page(page, lambda: "rows=2,5" in settings_of(page))
    assert "range=" in settings_of(page)
    wait_for_page(page, lambda: cells.get_attribute("data-rows") == "4" and cells.get_attribute("data-columns") != "10")
    page.reload()
    cells.wait_for()
    assert cells.get_attribute("data-rows") == "4"
    cells.dblclick(position={"x": 400, "y": 40})
    wait_for_page(page, lambda: cells.get_attribute("data-rows") == str(LAYERS) and "range=" not in settings_of(page))
    # The double click was two clicks on a row as well: chosen, and taken back.
    assert "layer=" not in settings_of(page)


def test_families_scales_and_rows_are_chosen_and_stay_in_the_link(site: Site, page: Page) -> None:
    show(page, site.at("layered"))
    page.get_by_role("button", name=re.compile("^Layers:")).click()
    page.keyboard.type("<b>")
    page.keyboard.press("Enter")
    cells = page.locator(".cells")
    wait_for_page(page, lambda: cells.get_attribute("data-rows") == "3")
    assert (cells.get_attribute("aria-label") or "").startswith(f"{HOSTILE}/*: 3 layers by step")
    page.get_by_label("Normalise each row").select_option("z")
    page.get_by_label("Statistic").select_option("max")
    page.get_by_label("Range of the colours").select_option("all")
    legend = page.locator(".heat-legend")
    wait_for_page(page, lambda: "maximum, z-score of its row" in legend.inner_text())
    page.get_by_label("Colour scale", exact=True).select_option("symlog")
    wait_for_page(page, lambda: "symmetric logarithmic" in legend.inner_text())
    for part in ("lnorm=z", "lstat=max", "lrange=all", "lscale=symlog", f"family={HOSTILE}/*"):
        assert part in settings_of(page).replace("+", " ")
    page.reload()
    wait_for_page(page, lambda: "maximum, z-score of its row, symmetric logarithmic" in legend.inner_text())


def test_one_spike_among_more_rows_than_pixels_is_seen(site: Site, page: Page) -> None:
    cells = show(page, site.at("many", lrange="all", lscale="linear"))
    wait_for_page(page, lambda: cells.get_attribute("data-columns") == "3")
    assert "rows on" in page.locator(".heat-map .foot").inner_text()
    brightest = page.locator(".cells canvas").evaluate(
        """canvas => {
            const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
            let count = 0;
            for (let at = 0; at < data.length; at += 4) if (data[at] === 253 && data[at + 1] === 231 && data[at + 2] === 37) count += 1;
            return count;
        }"""
    )
    assert brightest > 100, "the brightest colour stands for the one high value"


def test_the_picture_and_the_numbers_are_saved(site: Site, page: Page) -> None:
    cells = show(page, site.at("layered"))
    wait_for_page(page, lambda: cells.get_attribute("data-columns") == "10")
    with page.expect_download() as download:
        page.get_by_role("button", name="Save CSV").click()
    with open(download.value.path(), encoding="utf-8", newline="") as written:
        rows = list(csv.DictReader(written))
    matrix = (
        lossbook.open(site.store)
        .run(site.ids["layered"])
        .matrix([f"layers/{n}/grad_norm" for n in range(LAYERS)], columns=10)
    )
    assert len(rows) == LAYERS * 10
    for at, row in enumerate(rows):
        layer, column = divmod(at, 10)
        assert row["key"] == f"layers/{layer}/grad_norm"
        assert float(row["mean"]) == matrix.mean[layer, column] or (
            math.isnan(matrix.mean[layer, column]) and row["mean"] == "NaN"
        )
        assert int(row["nonfinite"]) == matrix.nonfinite[layer, column]
    with page.expect_download() as download:
        page.get_by_role("button", name="Save PNG").click()
    assert Path(download.value.path()).read_bytes().startswith(b"\x89PNG")


def test_a_run_without_layers_is_told_how_to_have_them(site: Site, page: Page) -> None:
    page.goto(site.at("bare"))
    page.get_by_text("ExperimentTracker").wait_for()
    assert "layers/{i}/grad_norm" in page.locator(".empty").inner_text()


def test_the_map_grows_while_the_run_goes_on(site: Site, page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOSSBOOK_SYSTEM_INTERVAL", "off")
    monkeypatch.setenv("LOSSBOOK_FOLLOWER", "off")
    run = begin(site.store, "live")
    try:
        site.ids["live"] = run.id
        for step in range(5):
            run.log({f"layers/{layer}/norm": 1.0 for layer in range(3)}, step=step)
        wait_until(lambda: site.served.get("/api/run/families", project="net", run=run.id)["families"])
        cells = show(page, site.at("live"))
        wait_for_page(page, lambda: "from 0 to 4." in (cells.get_attribute("aria-label") or ""))
        run.log({f"layers/{layer}/norm": 1.0 for layer in range(3)}, step=9)
        wait_for_page(page, lambda: "from 0 to 9." in (cells.get_attribute("aria-label") or ""))
    finally:
        run.finish()
