"""The user's own signal handlers work as they do without a run: what they raise reaches the training loop."""

from __future__ import annotations

import functools
import gc
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import pytest
from programs import journal_rows, only_run, recorded, run

import lossbook
from lossbook.handlers import is_of_handler

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are no timers that send signals")
TRIES = 40


class Preempted(Exception):
    pass


class Number:
    """A number of some library: it takes the careful path."""

    def __float__(self) -> float:
        return 0.5


class Unreadable:
    def __float__(self) -> float:
        raise TimeoutError("the device does not answer")

    __str__ = __repr__ = __float__  # type: ignore[assignment]


TABLE = [[number, "x" * 50] for number in range(300)]
LOGGED: dict[str, Callable[[], object]] = {
    "scalars": lambda: 0.5,
    "number": Number,
    "table": lambda: lossbook.Table(["number", "text"], TABLE),
    "text": lambda: lossbook.Text("once upon a time"),
    "unreadable": Unreadable,
}


@pytest.fixture
def alarm() -> Iterator[Callable[[type[Exception]], None]]:
    """Has SIGALRM raise an exception."""
    before = signal.getsignal(signal.SIGALRM)

    def put_in(error: type[Exception]) -> None:
        def handler(number: int, frame: FrameType | None) -> None:
            raise error("save a checkpoint now")

        signal.signal(signal.SIGALRM, handler)

    # What a handler raises while one of these runs (Hypothesis times the collector with one) reaches nobody: Python drops it.
    held = gc.callbacks[:]
    gc.callbacks.clear()
    yield put_in
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)
    gc.callbacks.extend(held)


@pytest.mark.parametrize("error", [Preempted, TimeoutError, ValueError], ids=lambda error: error.__name__)
@pytest.mark.parametrize("kind", LOGGED)
def test_what_a_handler_raises_reaches_the_loop_and_no_row_is_lost(
    store: Path, alarm: Callable[[type[Exception]], None], kind: str, error: type[Exception]
) -> None:
    alarm(error)
    one = lossbook.init(store=store, project="p", console=False)
    seen = returned = 0
    for number in range(TRIES):
        until = time.monotonic() + 1.0
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.0004 + 0.00011 * number)
            while time.monotonic() < until:
                one.log({"loss": LOGGED[kind]()})
                returned += 1
        except error:
            seen += 1
    one.log({"last": 1.0})
    one.finish()
    assert seen == TRIES
    rows = journal_rows(only_run(store))
    assert [row.i for row in rows] == list(range(len(rows)))
    assert returned <= len([row for row in rows if row.kind not in ("attempt", "finish")]) - 1
    assert recorded(only_run(store)).problems() == []


class Handlers:
    """Handlers of every form that Python calls."""

    def method(self, number: int, frame: FrameType | None) -> None:
        raise Preempted

    def __call__(self, *arguments: object) -> None:
        raise Preempted


def logged(path: str, number: int, frame: FrameType | None) -> None:
    raise Preempted(path)


def decorated(handler: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(handler)
    def wrapper(*arguments: object, **named: object) -> None:
        handler(*arguments, **named)

    return wrapper


@pytest.mark.parametrize(
    "handler",
    [Handlers().method, Handlers(), functools.partial(logged, "here"), decorated(functools.partial(logged, "here"))],
    ids=["method", "object", "partial", "decorated"],
)
def test_a_handler_of_any_form_is_known_by_what_it_is_called_with(handler: Callable[..., None]) -> None:
    before = signal.signal(signal.SIGUSR1, handler)
    try:
        signal.raise_signal(signal.SIGUSR1)
    except Preempted as error:
        assert is_of_handler(error)
    else:
        pytest.fail("the handler was not called")
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_an_exception_of_a_value_is_none_of_a_handler() -> None:
    try:
        float(Unreadable())
    except TimeoutError as error:
        assert not is_of_handler(error)


def test_a_handler_that_raises_while_the_run_ends_is_heard_and_the_run_ends_later(store: Path) -> None:
    code = """
        class Preempted(Exception):
            pass

        def handler(number, frame):
            raise Preempted

        signal.signal(signal.SIGALRM, handler)
        run = lossbook.init(store=store, project="p", console=False)
        run.log({"loss": 1})
        sync = run.sync
        def slow_sync():
            signal.raise_signal(signal.SIGALRM)
            return sync()
        run.sync = slow_sync
        try:
            run.finish()
        except Preempted:
            print("heard")
    """
    done = run(code, store)
    assert (done.returncode, done.stdout, done.stderr) == (0, "heard\n", "")
    assert recorded(only_run(store)).state == "finished"


def test_a_handler_for_preemption_saves_and_the_run_goes_on(store: Path) -> None:
    code = """
        import faulthandler
        faulthandler.enable()
        saved = []
        signal.signal(signal.SIGUSR1, lambda number, frame: saved.append(run.step))
        run = lossbook.init(store=store, project="p", console=False)
        signal.signal(signal.SIGUSR2, lambda number, frame: run.log({"saved": 1.0}))
        for step in range(100):
            os.kill(os.getpid(), signal.SIGUSR1 if step % 2 else signal.SIGUSR2)
            run.log({"loss": step})
        print(len(saved), faulthandler.is_enabled())
    """
    done = run(code, store)
    assert (done.returncode, done.stdout) == (0, "50 True\n")
    found = recorded(only_run(store))
    assert (found.state, found.metrics["loss"]["count"], found.metrics["saved"]["count"]) == ("finished", 100, 50)
