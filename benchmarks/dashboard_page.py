"""A headless Chromium that looks at a dashboard as an eye would: when curves are there, and how often they change.

Nothing in here knows whose page it is but the place of the chart. A script of ours, the same for all pages, looks at
the chart's canvas once a frame: a curve is there when the canvas has colour in it, and a chart has changed when it holds
other pixels than a frame ago. What the canvas holds at one frame was on the screen with the frame before, or is with
this one, so moments are known to about 17 ms. A screenshot in the end makes sure that it is really seen. Screenshots all
the time, or Chromium's screencast, would take most of a small machine from the page that is measured.
"""

from __future__ import annotations

import asyncio
import base64
import io
import json
import os
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.async_api import Browser, CDPSession, Page

FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update",
    # Nothing but this machine, without a look at each request, which would cost the page time.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1",
)  # fmt: skip
WIDTH, HEIGHT = 1440, 900
#: So often a mouse says where it is.
REPORTS_A_SECOND = 125
#: A pixel whose channels differ so much is of a curve: backgrounds, grids and letters are grey.
COLOUR = 28
#: So many coloured pixels are a curve.
FEWEST_PIXELS = 40
#: A chart that stays as it is for so long is the whole chart.
STILL_SECONDS = 1.5

#: Called with the chart's canvas as `selector`. `seen` has [ms of the page's clock, share of the pixels that changed,
#: coloured pixels] for each frame that was other than the one before.
_WATCH = """(selector, colour) => {
  const [widest, highest] = [400, 240];
  const copy = new OffscreenCanvas(widest, highest);
  const context = copy.getContext("2d", {willReadFrequently: true});
  context.imageSmoothingEnabled = false;
  const watch = {frames: 0, seen: []};
  window.chartWatch = watch;
  let before = null;
  const look = (now) => {
    requestAnimationFrame(look);
    watch.frames += 1;
    const canvas = document.querySelector(selector);
    if (canvas === null || canvas.width < 20 || canvas.height < 20) return;
    const [width, height] = [Math.min(widest, canvas.width), Math.min(highest, canvas.height)];
    context.clearRect(0, 0, widest, highest);
    context.drawImage(canvas, 0, 0, width, height);
    const pixels = new Uint32Array(context.getImageData(0, 0, width, height).data.buffer);
    let changed = pixels.length;
    if (before !== null && before.length === pixels.length) {
      changed = 0;
      for (let at = 0; at < pixels.length; at += 1) if (pixels[at] !== before[at]) changed += 1;
      if (changed === 0) return;
    }
    before = pixels;
    let coloured = 0;
    for (const pixel of pixels) {
      const [red, green, blue] = [pixel & 255, (pixel >> 8) & 255, (pixel >> 16) & 255];
      if (Math.max(red, green, blue) - Math.min(red, green, blue) > colour) coloured += 1;
    }
    watch.seen.push([now, changed / pixels.length, coloured]);
  };
  requestAnimationFrame(look);
}"""

_BOX = """selector => {
  const element = document.querySelector(selector);
  if (element === null) return null;
  const {x, y, width, height} = element.getBoundingClientRect();
  return width > 20 && height > 20 ? {x, y, width, height} : null;
}"""


@dataclass(frozen=True)
class Seen:
    """When a chart came on the screen.

    Attributes:
        begun_seconds: from the navigation's start to the first frame with half the colour that it has in the end.
        whole_seconds: to the frame after which it stays as it is.
    """

    begun_seconds: float
    whole_seconds: float


def missing() -> str | None:
    """What is missing to look at dashboards, in a sentence; None where nothing is."""
    import importlib.util

    if importlib.util.find_spec("playwright") is None:
        return "The dashboards were left out: playwright is not installed here (pip install playwright)."
    if importlib.util.find_spec("PIL") is None:
        return "The dashboards were left out: Pillow is not installed here (pip install pillow)."
    if _chromium() is None:
        return "The dashboards were left out: there is no Chromium here (apt-get install chromium)."
    return None


@asynccontextmanager
async def browsing() -> AsyncIterator[Browser]:
    """A running Chromium that reaches nothing but this machine."""
    from playwright.async_api import async_playwright

    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=_chromium(), args=list(FLAGS))
        try:
            yield browser
        finally:
            await browser.close()


@asynccontextmanager
async def new_page(browser: Browser, chart: str, script: str = "") -> AsyncIterator[Screen]:
    """A page with nothing in its cache, whose chart is watched from its beginning.

    Args:
        chart: a selector of the chart's canvas.
        script: what the page runs before its own.
    """
    context = await browser.new_context(viewport={"width": WIDTH, "height": HEIGHT})
    try:
        await context.add_init_script(f"({_WATCH})({json.dumps(chart)}, {COLOUR});{script}")
        page = await context.new_page()
        yield Screen(page, await context.new_cdp_session(page), chart)
    finally:
        await context.close()


class Screen:
    """One page and what is seen of its chart."""

    def __init__(self, page: Page, session: CDPSession, chart: str) -> None:
        self.page = page
        self._session = session
        self._chart = chart

    async def open(self, address: str, patience_seconds: float) -> Seen | None:
        """Open an address and watch its chart until it stays as it is; None where no curve was seen in time."""
        from playwright.async_api import Error

        deadline = time.monotonic() + patience_seconds
        try:
            await self.page.goto(address, wait_until="commit", timeout=1e3 * patience_seconds)
        except Error:
            return None
        while True:
            await asyncio.sleep(0.1)
            seen, now_ms = await self._seen()
            if seen and seen[-1][2] >= FEWEST_PIXELS and now_ms - seen[-1][0] > 1e3 * STILL_SECONDS:
                break
            if time.monotonic() > deadline:
                return None
        if coloured(await self.picture()) < FEWEST_PIXELS:
            raise RuntimeError(f"{self._chart} has a curve, but it is not on the screen")
        most = seen[-1][2]
        begun_ms = next(at for at, _, colour in seen if colour >= most / 2)
        return Seen(begun_ms / 1e3, seen[-1][0] / 1e3)

    async def picture(self) -> Any:
        """What the screen shows where the chart is, shape (height, width, 3), uint8."""
        import numpy
        from PIL import Image

        clip = {**(await self._box()), "scale": 1}
        answer = await self._session.send("Page.captureScreenshot", {"format": "png", "clip": clip})
        return numpy.asarray(Image.open(io.BytesIO(base64.b64decode(answer["data"]))).convert("RGB"))

    async def await_stillness(self, patience_seconds: float = 20.0) -> int:
        """Wait until the chart has not changed for a while; returns how often it has changed so far."""
        deadline = time.monotonic() + patience_seconds
        while True:
            seen, now_ms = await self._seen()
            if not seen or now_ms - seen[-1][0] > 1e3 * STILL_SECONDS or time.monotonic() > deadline:
                return len(seen)
            await asyncio.sleep(0.1)

    async def await_change(self, known: int, patience_seconds: float) -> float | None:
        """The moment (Unix seconds) of the first change after `known` ones; None: there was none in time."""
        deadline = time.monotonic() + patience_seconds
        while time.monotonic() < deadline:
            await asyncio.sleep(0.05)
            seen, _ = await self._seen()
            if len(seen) > known:
                origin_ms = await self.page.evaluate("performance.timeOrigin")
                return float(origin_ms + seen[known][0]) / 1e3
        return None

    async def changes_per_second(self, gesture: Callable[[], Awaitable[None]]) -> float:
        """How many frames a second showed the chart otherwise than the one before while `gesture` was made."""
        seen, begin_ms = await self._seen()
        known = len(seen)
        await gesture()
        seen, end_ms = await self._seen()
        return 1e3 * (len(seen) - known) / (end_ms - begin_ms)

    async def _seen(self) -> tuple[list[tuple[float, float, int]], float]:
        """The frames in which the chart changed, and the page's clock in ms."""
        seen, now_ms = await self.page.evaluate("() => [window.chartWatch?.seen ?? [], performance.now()]")
        return seen, now_ms

    async def drag(self, seconds: float, *, key: str | None = None, far: float = 0.3) -> None:
        """Press in the middle of the chart and move to and fro."""
        x, y, width = await self._middle()
        mouse = self.page.mouse
        await mouse.move(x, y)
        async with self._held(key):
            await mouse.down()
            place, step = 0.0, 2.0

            def move() -> Awaitable[None]:
                nonlocal place, step
                if abs(place + step) > far * width:
                    step = -step
                place += step
                return mouse.move(x + place, y)

            await _again(seconds, move)
            await mouse.up()

    async def wheel(self, seconds: float, *, key: str, turn: float) -> None:
        """Turn the wheel over the middle of the chart, in and out again by turns of thirty."""
        x, y, _ = await self._middle()
        mouse = self.page.mouse
        await mouse.move(x, y)
        turns = 0

        def roll() -> Awaitable[None]:
            nonlocal turns
            turns += 1
            return mouse.wheel(0, turn if turns // 30 % 2 else -turn)

        async with self._held(key):
            await _again(seconds, roll)

    async def zoom_in(self, *, key: str, turn: float, turns: int) -> None:
        x, y, _ = await self._middle()
        await self.page.mouse.move(x, y)
        async with self._held(key):
            for _ in range(turns):
                await self.page.mouse.wheel(0, -turn)

    @asynccontextmanager
    async def _held(self, key: str | None) -> AsyncIterator[None]:
        if key is not None:
            await self.page.keyboard.down(key)
        yield
        if key is not None:
            await self.page.keyboard.up(key)

    async def _box(self) -> dict[str, float]:
        box: dict[str, float] | None = await self.page.evaluate(_BOX, self._chart)
        if box is None:
            raise RuntimeError(f"{self._chart} is not on the page")
        return box

    async def _middle(self) -> tuple[float, float, float]:
        """A place within the chart's plot, and how wide the chart is."""
        box = await self._box()
        return box["x"] + 0.55 * box["width"], box["y"] + 0.45 * box["height"], box["width"]


async def _again(seconds: float, act: Callable[[], Awaitable[None]]) -> None:
    """Begin `act` as often as a mouse reports, whether or not the page has taken what came before."""
    deadline = time.monotonic() + seconds
    begun: set[asyncio.Future[None]] = set()
    while time.monotonic() < deadline:
        # A page that does not keep up is not buried: what it has not taken within half a second holds the hand back.
        if len(begun) < REPORTS_A_SECOND // 2:
            one = asyncio.ensure_future(act())
            begun.add(one)
            one.add_done_callback(begun.discard)
        await asyncio.sleep(1 / REPORTS_A_SECOND)
    if begun:
        await asyncio.wait(begun, timeout=30)


def coloured(picture: Any) -> int:
    """How many pixels are no grey."""
    return int(((picture.max(axis=2).astype(int) - picture.min(axis=2)) > COLOUR).sum())


def _chromium() -> str | None:
    for name in ("chromium", "chromium-browser", "google-chrome"):
        found = shutil.which(name)
        if found is not None:
            return found
    return "/usr/bin/chromium" if os.access("/usr/bin/chromium", os.X_OK) else None
