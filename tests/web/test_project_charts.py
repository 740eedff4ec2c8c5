"""The charts of a project, used as a person uses them: sections, the toolbar, and what stands in the link."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from serving import serving
from test_project import Site, make_runs, quiet_runs, settings_of
from waiting import wait_for_page

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("charts")
    with quiet_runs(folder / "cache"):
        ids = make_runs(folder / "store")
        with serving(folder / "store") as served:
            yield Site(served, folder / "store", ids)


def show(page: Page, address: str) -> None:
    page.goto("about:blank")
    page.goto(address)
    page.locator(".chart-card").first.wait_for()


def charts_of(page: Page) -> list[str]:
    found: list[str] = page.locator(".chart-card").evaluate_all("cards => cards.map(card => card.dataset.metric)")
    return found


def test_losses_come_first_the_machine_last_and_layers_stand_in_one_line(site: Site, page: Page) -> None:
    show(page, site.at("charts"))
    wait_for_page(
        page, lambda: charts_of(page) == ["train/loss", "val/loss", "grad_norm"]
    )  # train_loss is no chart of its own
    sections = [text.split()[0] for text in page.locator(".board h2 button").all_inner_texts()]
    names = [re.sub(r"[^a-z]", "", text) for text in page.locator(".board h2 bdi").all_inner_texts()]
    assert names == ["loss", "metrics", "gradient", "machine"], sections
    machine = page.locator(".board h2 button").last
    assert machine.get_attribute("aria-expanded") == "false"
    layers = page.locator(".families li")
    assert "gradient/h.*.attn" in layers.inner_text()
    assert "12 series of layers" in layers.inner_text()
    assert f"/p/sweep/r/{site.ids['sgd-8']}/layers" in (layers.get_by_role("link").get_attribute("href") or "")
    machine.click()
    wait_for_page(page, lambda: charts_of(page)[-1:] == ["gpu_0_utilization_percent"])
    assert "sections=machine" in settings_of(page)


def test_charts_are_found_by_words_and_by_regular_expressions(site: Site, page: Page) -> None:
    show(page, site.at("charts"))
    field = page.get_by_label("Find charts")
    field.fill("loss val")
    wait_for_page(page, lambda: charts_of(page) == ["val/loss"])
    field.fill("/^gradient.h.(3|11)[.]/")
    wait_for_page(page, lambda: charts_of(page) == ["gradient/h.3.attn", "gradient/h.11.attn"])
    field.fill("/(/")
    page.get_by_text("is no regular expression").wait_for()
    field.fill("nothing like this")
    page.get_by_text("No metric of the drawn runs").wait_for()
    field.press("Escape")
    wait_for_page(page, lambda: "val/loss" in charts_of(page))


def test_only_metrics_that_the_drawn_runs_have_are_charts(site: Site, page: Page) -> None:
    show(page, site.at("charts", runs=site.ids["sgd-8"]))  # the one without a validation loss
    wait_for_page(page, lambda: charts_of(page) == ["train/loss", "grad_norm"])
    page.get_by_role("checkbox", name="Draw sgd-5").click()
    wait_for_page(page, lambda: "val/loss" in charts_of(page))
    page.get_by_role("button", name="None").click()
    page.get_by_text("No run is drawn").wait_for()


def test_a_section_is_folded_and_the_link_says_so(site: Site, browser: Browser, page: Page) -> None:
    show(page, site.at("charts"))
    page.get_by_role("button", name="loss 2").click()
    wait_for_page(page, lambda: "train/loss" not in charts_of(page))
    page.get_by_label("X axis").select_option("wallclock")
    page.get_by_label("Charts in a row").select_option("2")
    page.get_by_role("button", name="log y").click()
    wait_for_page(
        page, lambda: all(part in settings_of(page) for part in ("sections=loss", "x=wallclock", "size=2", "logy=1"))
    )
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    try:
        other = context.new_page()
        show(other, page.url)
        wait_for_page(other, lambda: charts_of(other) == charts_of(page))
        assert other.get_by_label("X axis").input_value() == "wallclock"
        assert other.get_by_role("button", name="log y").get_attribute("aria-pressed") == "true"
        assert other.locator(".board").get_attribute("data-size") == "2"
    finally:
        context.close()


def test_keys_change_how_charts_are_drawn_but_not_while_one_types(site: Site, page: Page) -> None:
    show(page, site.at("charts"))
    page.keyboard.press("x")
    wait_for_page(page, lambda: "x=wallclock" in settings_of(page))
    for key, setting in (("l", "logy=1"), ("Shift+L", "logx=1"), ("]", "smooth=ema:0.6")):
        page.keyboard.press(key)
        wait_for_page(page, lambda setting=setting: setting in settings_of(page))
    page.keyboard.press("]")
    wait_for_page(page, lambda: "smooth=ema:0.9" in settings_of(page))
    page.get_by_label("Strength of smoothing").fill("100")
    wait_for_page(page, lambda: "smooth=ema:0.999" in settings_of(page))
    page.get_by_label("Kind of smoothing").select_option("median")
    wait_for_page(page, lambda: "smooth=median:50" in settings_of(page))
    page.get_by_label("Find charts").fill("")
    page.get_by_label("Find charts").press_sequentially("lx")
    wait_for_page(page, lambda: "find=lx" in settings_of(page))
    assert "logy=1" in settings_of(page)
    assert "x=wallclock" in settings_of(page)


def test_a_zoom_in_the_link_is_taken_back_with_one_button(site: Site, page: Page) -> None:
    show(page, site.at("charts", range="5,10"))
    page.get_by_role("toolbar").get_by_role("button", name="Reset zoom").click()
    wait_for_page(page, lambda: "range=" not in settings_of(page))
    wait_for_page(page, lambda: page.get_by_role("button", name="Reset zoom").count() == 0)


def test_enter_shows_a_chart_large_and_escape_puts_it_back(site: Site, page: Page) -> None:
    show(page, site.at("charts"))
    card = page.locator(".chart-card[data-metric='val/loss']")
    card.focus()
    page.keyboard.press("Enter")
    page.get_by_role("dialog", name="val/loss").wait_for()
    assert "large=val/loss" in settings_of(page)
    page.keyboard.press("Escape")
    wait_for_page(page, lambda: "large=" not in settings_of(page))
    wait_for_page(page, lambda: card.evaluate("it => it === document.activeElement"))  # the focus is where it was


def test_the_list_is_hidden_and_comes_back(site: Site, page: Page) -> None:
    show(page, site.at("charts"))
    page.keyboard.press("\\")
    wait_for_page(page, lambda: page.locator("[role=grid]").count() == 0)
    page.reload()
    page.locator(".chart-card").first.wait_for()
    assert page.locator("[role=grid]").count() == 0, "this browser remembers it"
    page.get_by_role("button", name="Show the list of runs").click()
    page.locator("[role=grid]").wait_for()


def test_bands_are_offered_for_groups_alone(site: Site, page: Page) -> None:
    show(page, site.at("charts", group="config.optimizer"))
    bands = page.get_by_role("button", name="Bands", exact=True)
    bands.click()
    wait_for_page(page, lambda: "bands=1" in settings_of(page))
    assert bands.get_attribute("aria-pressed") == "true"


@pytest.mark.parametrize("width", [900, 600])
def test_a_narrow_window_shows_everything(site: Site, page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    show(page, site.at("charts"))
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.locator("[role=grid]").wait_for()
    assert page.locator(".chart-card").first.is_visible()
