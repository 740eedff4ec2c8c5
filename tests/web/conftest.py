"""A real server on real runs, and a real browser that looks at it."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, NoReturn

import pytest
from serving import Served, serving

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM_FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update",
)  # fmt: skip


@pytest.fixture
def served() -> Iterator[Callable[..., Served]]:
    """`served(store, editable=..., token=...)`: a server on a store or a book, for as long as the test runs."""
    with ExitStack() as running:
        yield lambda store, **options: running.enter_context(serving(store, **options))


# -- the browser --------------------------------------------------------------------------------------------------


def _missing(what: str) -> NoReturn:
    if os.environ.get("CI") == "true":
        pytest.fail(f"{what}: the dashboard's tests need it")
    pytest.skip(what)


@pytest.fixture(scope="session")
def _browser_and_loop() -> Iterator[tuple[Browser, Any]]:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        _missing("there is no Chromium here (Debian: apt-get install chromium)")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        _missing("there is no Playwright here (pip install playwright)")
    playwright = sync_playwright().start()
    browser = playwright.chromium.launch(executable_path=chromium, args=list(CHROMIUM_FLAGS))
    loop = asyncio.get_running_loop()
    # Playwright leaves its loop standing in this thread, where tests that have nothing to do with it run next.
    asyncio._set_running_loop(None)
    yield browser, loop
    asyncio._set_running_loop(loop)
    browser.close()
    playwright.stop()


@pytest.fixture
def browser(_browser_and_loop: tuple[Browser, Any]) -> Iterator[Browser]:
    """Chromium, one for all tests; a test that wants several pages makes contexts of its own and closes them."""
    browser, loop = _browser_and_loop
    asyncio._set_running_loop(loop)
    yield browser
    asyncio._set_running_loop(None)


@pytest.fixture
def complaints() -> list[str]:
    """What the page's console complained of so far; a test that provokes it clears it."""
    return []


@pytest.fixture
def page(browser: Browser, complaints: list[str]) -> Iterator[Page]:
    """A page of its own (1280×800); the test fails if the console shows an error, a CSP violation, or a lost rejection."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    context.set_default_timeout(20_000)
    page = context.new_page()
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(f"{error}"))
    yield page
    context.close()
    assert not complaints, "the page complained:\n" + "\n".join(complaints)
