"""Charts of runs that go on: new points come by themselves, and asking ends with the run."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lossbook

if TYPE_CHECKING:
    from playwright.sync_api import Page

DEADLINE_SECONDS = 30


def test_points_come_while_a_run_goes_on_and_asking_ends_with_it(
    served: Callable[..., Any], page: Page, tmp_path: Path
) -> None:
    run = lossbook.init("live", name="now", store=tmp_path)
    for step in range(20):
        run.log({"loss": 10.0}, step=step)
    server = served(tmp_path)
    asked: list[tuple[str, Any]] = []
    page.on(
        "request",
        lambda request: asked.append((request.url, request.post_data_json if request.method == "POST" else None)),
    )
    page.goto(f"{server.url}#/p/live/charts")
    value = page.locator("figure.curve-chart .legend b").first
    value.get_by_text("10", exact=True).wait_for()
    run.log({"loss": 7.25}, step=20)
    page.locator("figure.curve-chart .legend b", has_text=re.compile(r"^7\.25$")).wait_for()
    deltas = [body for url, body in asked if url.endswith("/api/curves") and body["series"][0].get("start") is not None]
    assert deltas, "new points were asked for by themselves"
    assert all(body["points"] <= 10 for body in deltas), "what is known is not asked for again"
    for step in range(21, 3000):
        run.log({"loss": step / 1000}, step=step)
    run.finish()
    page.locator("figure.curve-chart .legend b", has_text=re.compile(r"^2\.999$")).wait_for()
    # Both the list and the curves learn that it ended; from then on only the list is asked for.
    deadline = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < deadline:
        before = len(asked)
        with page.expect_request(re.compile("/api/runs")):
            pass
        with page.expect_request(re.compile("/api/runs")):
            pass
        if not any(url.endswith("/api/curves") for url, _ in asked[before:]):
            break
    else:
        raise AssertionError("a run that has ended is still asked for")


def test_a_page_that_shows_no_chart_asks_for_no_curve(served: Callable[..., Any], page: Page, tmp_path: Path) -> None:
    run = lossbook.init("live", name="now", store=tmp_path)
    run.log({"loss": 1.0}, step=0)
    server = served(tmp_path)
    page.goto(f"{server.url}#/p/live/charts")
    page.locator("figure.curve-chart[data-drawn='1']").first.wait_for()
    asked: list[str] = []
    page.evaluate("location.hash = '#/'")
    page.get_by_role("link", name="live").wait_for()
    page.on("request", lambda request: asked.append(request.url))
    for _ in range(2):
        with page.expect_request(re.compile("/api/store")):
            run.log({"loss": 2.0})
    assert not [url for url in asked if url.endswith("/api/curves")]
    run.finish()
