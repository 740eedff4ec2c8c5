"""The page in a terminal that Textual plays: a person who presses keys, and looks until something is there."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

import lossbook
from lossbook.paths import default_store

pytest.importorskip("textual")

Look = Callable[[str], bool]


class Person:
    """Somebody in front of the page."""

    def __init__(self, app: Any, pilot: Any) -> None:
        self.app, self.pilot = app, pilot

    @property
    def screen(self) -> str:
        return str(self.app.canvas.text)

    async def press(self, *keys: str) -> None:
        await self.pilot.press(*keys)

    async def type(self, text: str) -> None:
        await self.pilot.press(*({" ": "space", "/": "slash"}.get(one, one) for one in text))

    async def see(self, *texts: str, without: str | None = None, seconds: float = 20.0) -> str:
        """Wait until all of `texts` are on the screen, and return it."""
        deadline = time.monotonic() + seconds
        while True:
            screen = self.screen
            if all(text in screen for text in texts) and (without is None or without not in screen):
                return screen
            missing = [text for text in texts if text not in screen]
            assert time.monotonic() < deadline, f"never seen: {missing or without!r}\n{screen}"
            await self.pilot.pause(0.02)


Watch = Callable[..., None]


@pytest.fixture
def watch(store: Path, monkeypatch: pytest.MonkeyPatch) -> Watch:
    """`watch(script, size=(80, 24), **model)`: run the async `script(person)` on a page of the test's store."""

    def run(
        script: Callable[[Person], Awaitable[None]],
        size: tuple[int, int] = (80, 24),
        project: str | None = None,
        **model: Any,
    ) -> None:
        from lossbook.terminal.app import Watch as WatchApp
        from lossbook.terminal.model import Model

        async def play() -> None:
            book = lossbook.open(default_store())
            app = WatchApp(book, Model(**model), store="a-store", project=project, frames=30.0, interval_seconds=0.1)
            async with app.run_test(size=size) as pilot:
                await script(Person(app, pilot))

        asyncio.run(play())

    os.makedirs(store, exist_ok=True)
    monkeypatch.setenv("LOSSBOOK_STORE", str(store))
    return run


@pytest.fixture
def record(store: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """`record(name, rows, **init)`: a finished run in the test's store; `finish=False` leaves it running."""
    os.makedirs(store, exist_ok=True)
    monkeypatch.setenv("LOSSBOOK_STORE", str(store))

    def make(
        name: str, rows: list[dict[str, float]] | None = None, *, printed: str = "", finish: bool = True, **words: Any
    ) -> Any:
        run = lossbook.init(project=words.pop("project", "demo"), name=name, **words)
        for step, row in enumerate(
            rows if rows is not None else [{"train/loss": 3.0 - step / 20} for step in range(40)]
        ):
            run.log(row, step=step)
        if printed:
            print(printed, flush=True)
        if finish:
            run.finish()
        return run

    return make
