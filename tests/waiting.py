"""Waits for what happens in another process, thread or page: the one place where a test polls.

A test waits for an event (a file is there, a row is read, a process has ended), never for a time to pass. Where a pause is
what the test is about (a step that takes a while, a signal at a random moment), it sleeps, and a comment says so.
"""

from __future__ import annotations

import inspect
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from playwright.sync_api import Page

Found = TypeVar("Found")

#: Between two looks. Short, because a suite waits some thousands of times; not zero, because what is waited for needs the core.
POLL_SECONDS = 0.01


def wait_until(
    condition: Callable[[], Found],
    seconds: float = 60.0,
    *,
    what: str | Callable[[], object] | None = None,
    pause: Callable[[float], object] = time.sleep,
) -> Found:
    """Calls `condition` until it holds and returns what it answered; fails the test when it never does.

    Args:
        condition: holds when its answer is true.
        seconds: the longest wait. No promise of speed: it only ends a test that would hang.
        what: what was waited for, or a function that says how things stand; the condition's own source without it.
        pause: waits between two looks; a page's own keeps its events coming.
    """
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() >= deadline:
            said = what() if callable(what) else what or _source(condition)
            raise AssertionError(f"it did not happen within {seconds:g} seconds: {said}")
        pause(POLL_SECONDS)
    return found


@contextmanager
def ends_after(seconds: int, what: str) -> Iterator[None]:
    """Fails what hangs in a system call, by an alarm, so that it ends one test instead of the whole suite."""

    def too_late(*_: object) -> None:
        raise TimeoutError(what)

    before = signal.signal(signal.SIGALRM, too_late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def wait_for_page(page: Page, condition: Callable[[], Found], seconds: float = 60.0) -> Found:
    """`wait_until` for what a page in the browser shows; a failure quotes the page's text."""

    def shown() -> str:
        return f"{_source(condition)}\n{page.locator('body').inner_text()[:2000]}"

    return wait_until(condition, seconds, what=shown, pause=lambda pause: page.wait_for_timeout(pause * 1000))


def _source(condition: Callable[[], object]) -> str:
    try:
        return inspect.getsource(condition).strip()
    except (OSError, TypeError):
        return repr(condition)
