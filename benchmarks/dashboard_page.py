"""A headless Chromium that looks at a dashboard as an eye would: what is on the screen, when, and how often it changes.

Nothing in here knows whose page it is but the place of the chart. A curve is on the screen when a screenshot of the
chart's rectangle has colour in it; a chart has changed when its canvas holds other pixels than a frame ago.
"""

from __future__ import annotations

import base64
import io
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.sync_api import Browser, CDPSession, Page

FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update",
    # Nothing but this machine, without a look at each request, which would cost the page time.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1",
)  # fmt: skip
WIDTH, HEIGHT = 1440, 900
#: A pixel whose channels differ so much is of a curve: backgrounds, grids and letters are grey.
COLOUR = 40
#: So many coloured pixels are a curve.
FEWEST_PIXELS = 60
#: A picture that stays so long is the whole chart.
STILL_SECONDS = 1.0
#: Of the pixels, at the most, by which two pictures of one chart differ.
ALIKE = 0.003

_BOX = """selector => {
  const element = document.querySelector(selector);
  if (element === null) return null;
  const {x, y, width, height} = element.getBoundingClientRect();
  return width > 20 && height > 20 ? {x, y, width, height} : null;
}"""

# Called once a frame: whether the chart's canvas holds what it held a frame ago.
_COUNT = """selector => {
  const small = new OffscreenCanvas(240, 120);
  const context = small.getContext("2d", {willReadFrequently: true});
  context.imageSmoothingEnabled = false;
  const count = {on: true, frames: 0, changed: 0, begun: performance.now(), last: 0};
  window.frameCount = count;
  let before = null;
  const look = () => {
    if (!count.on) return;
    const canvas = document.querySelector(selector);
    if (canvas !== null && canvas.width > 0) {
      context.clearRect(0, 0, 240, 120);
      context.drawImage(canvas, 0, 0, 240, 120);
      const now = new Uint32Array(context.getImageData(0, 0, 240, 120).data.buffer);
      if (before !== null && now.some((pixel, at) => pixel !== before[at])) {
        count.changed += 1;
        count.last = performance.now();
      }
      before = now;
    }
    count.frames += 1;
    requestAnimationFrame(look);
  };
  requestAnimationFrame(look);
}"""


@dataclass(frozen=True)
class Seen:
    """When a chart came on the screen.

    Attributes:
        begun_seconds: from the navigation's start to the first picture with half the colour that it has in the end.
        whole_seconds: to the first picture that is as it stays.
        gap_seconds: how long before that the last picture without it was taken.
    """

    begun_seconds: float
    whole_seconds: float
    gap_seconds: float


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


@contextmanager
def browsing() -> Iterator[Browser]:
    """A running Chromium that reaches nothing but this machine."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=_chromium(), args=list(FLAGS))
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def new_page(browser: Browser, script: str = "") -> Iterator[Screen]:
    """A page with nothing in its cache.

    Args:
        script: what the page runs before its own.
    """
    context = browser.new_context(viewport={"width": WIDTH, "height": HEIGHT})
    try:
        if script:
            context.add_init_script(script)
        page = context.new_page()
        yield Screen(page, context.new_cdp_session(page))
    finally:
        context.close()


class Screen:
    """One page and what is seen of it."""

    def __init__(self, page: Page, session: CDPSession) -> None:
        self.page = page
        self._session = session

    def open(self, address: str, chart: str, patience_seconds: float) -> Seen | None:
        """Open an address and watch its chart until it stays as it is; None where no curve was seen in time."""
        from playwright.sync_api import Error

        begin = time.monotonic()
        try:
            self.page.goto(address, wait_until="commit", timeout=1e3 * patience_seconds)
        except Error:
            return None
        taken: list[tuple[float, Any, int]] = []
        still = time.monotonic()
        while time.monotonic() - begin < patience_seconds:
            picture = self.picture(chart)
            now = time.time()
            if picture is None:
                time.sleep(0.005)
                continue
            colour = coloured(picture)
            if not taken or differs(picture, taken[-1][1]):
                still = time.monotonic()
            taken.append((now, picture, colour))
            if colour >= FEWEST_PIXELS and time.monotonic() - still > STILL_SECONDS:
                break
        if not taken or taken[-1][2] < FEWEST_PIXELS:
            return None
        origin = self.page.evaluate("performance.timeOrigin") / 1e3
        _, last, most = taken[-1]
        begun = next(at for at, (_, _, colour) in enumerate(taken) if colour >= most / 2)
        whole = next(at for at, (_, picture, _) in enumerate(taken) if not differs(picture, last))
        before = taken[begun - 1][0] if begun > 0 else origin
        return Seen(taken[begun][0] - origin, taken[max(begun, whole)][0] - origin, taken[begun][0] - before)

    def picture(self, chart: str) -> Any:
        """The chart's rectangle, shape (height, width, 3), uint8; None where it is not there or not to be had now."""
        import numpy
        from PIL import Image
        from playwright.sync_api import Error

        try:
            box = self.page.evaluate(_BOX, chart)
            if box is None:
                return None
            # A page that comes in place of another has no pictures for a moment.
            answer = self._session.send(
                "Page.captureScreenshot",
                {"format": "png", "optimizeForSpeed": True, "clip": {**box, "scale": 1}},
            )
        except Error:
            return None
        return numpy.asarray(Image.open(io.BytesIO(base64.b64decode(answer["data"]))).convert("RGB"))

    def await_change(self, chart: str, before: Any, patience_seconds: float) -> float | None:
        """The moment (Unix seconds) at which the chart was seen to be another than `before`; None: not in time."""
        deadline = time.monotonic() + patience_seconds
        while time.monotonic() < deadline:
            picture = self.picture(chart)
            if picture is not None and differs(picture, before):
                return time.time()
        return None

    def await_stillness(self, chart: str, patience_seconds: float = 20.0) -> Any:
        """The chart's picture when it has not changed for a while."""
        deadline = time.monotonic() + patience_seconds
        before, since = self.picture(chart), time.monotonic()
        while time.monotonic() < deadline and time.monotonic() - since < STILL_SECONDS:
            time.sleep(0.1)
            picture = self.picture(chart)
            if picture is None or before is None or differs(picture, before):
                before, since = picture, time.monotonic()
        return before

    def frames_per_second(self, canvas: str, gesture: Callable[[], None]) -> float:
        """How many frames a second showed the chart otherwise than the one before while `gesture` was made."""
        self.page.evaluate(_COUNT, canvas)
        gesture()
        # What the last movement led to belongs to it.
        self.page.wait_for_timeout(50)
        count = self.page.evaluate("() => ({...window.frameCount, end: performance.now()})")
        self.page.evaluate("() => { window.frameCount.on = false }")
        return float(1e3 * count["changed"] / (count["end"] - 50 - count["begun"]))

    def drag(self, chart: str, seconds: float, *, key: str | None = None, far: float = 0.3) -> None:
        """Press in the middle of the chart and move to and fro."""
        x, y, width = self._middle(chart)
        mouse = self.page.mouse
        mouse.move(x, y)
        if key is not None:
            self.page.keyboard.down(key)
        mouse.down()
        deadline, place = time.monotonic() + seconds, 0.0
        # Each movement is sent when the page has taken the one before it.
        step = 2.0
        while time.monotonic() < deadline:
            for _ in range(8):
                if abs(place + step) > far * width:
                    step = -step
                place += step
                mouse.move(x + place, y)
        mouse.up()
        if key is not None:
            self.page.keyboard.up(key)

    def wheel(self, chart: str, seconds: float, *, key: str, turn: float) -> None:
        """Turn the wheel over the middle of the chart, in and out again by turns of a dozen."""
        x, y, _ = self._middle(chart)
        self.page.mouse.move(x, y)
        self.page.keyboard.down(key)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for direction in (-1, 1):
                for _ in range(12):
                    self.page.mouse.wheel(0, direction * turn)
                    if time.monotonic() > deadline:
                        break
        self.page.keyboard.up(key)

    def zoom_in(self, chart: str, *, key: str, turn: float, turns: int) -> None:
        x, y, _ = self._middle(chart)
        self.page.mouse.move(x, y)
        self.page.keyboard.down(key)
        for _ in range(turns):
            self.page.mouse.wheel(0, -turn)
        self.page.keyboard.up(key)

    def _middle(self, chart: str) -> tuple[float, float, float]:
        box = self.page.evaluate(_BOX, chart)
        if box is None:
            raise RuntimeError(f"{chart} is not on the page")
        return box["x"] + 0.55 * box["width"], box["y"] + 0.45 * box["height"], box["width"]


def coloured(picture: Any) -> int:
    """How many pixels are no grey."""
    return int(((picture.max(axis=2).astype(int) - picture.min(axis=2)) > COLOUR).sum())


def differs(picture: Any, other: Any) -> bool:
    """Whether two pictures differ by more than a few pixels."""
    if picture.shape != other.shape:
        return True
    changed = (abs(picture.astype(int) - other) > 24).any(axis=2)
    return bool(changed.mean() > ALIKE)


def _chromium() -> str | None:
    for name in ("chromium", "chromium-browser", "google-chrome"):
        found = shutil.which(name)
        if found is not None:
            return found
    return "/usr/bin/chromium" if os.access("/usr/bin/chromium", os.X_OK) else None
