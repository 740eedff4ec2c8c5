"""How a run ends when nobody called `finish()`: at exit, by an exception, by a signal; and what a fork inherits.

Hooks are put in by the first run and pass everything on to what was there before them. What cannot be noticed
from inside (SIGKILL, a segmentation fault) is noticed by the follower.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
from types import TracebackType
from typing import NoReturn, Protocol

from lossbook.run.exit_status import exit_status, note_exit_status
from lossbook.run.scheduler import how_terminated
from lossbook.run.termination import end_runs_at_sigterm, leave_sigterm_to_child
from lossbook.run.text import shown

#: Lines of a traceback kept with a failed run.
TRACEBACK_LINES = 20
#: `os._exit` is held up no longer than that.
LEAVING_SECONDS = 2.0


class Endable(Protocol):
    """What this module asks of a run."""

    @property
    def path(self) -> str: ...

    def end(self, state: str, error: str | None) -> None: ...

    def enter_child(self) -> None: ...


#: Held here too: a run whose last other reference has gone is still to be ended.
_live: set[Endable] = set()
_installed_in: int | None = None
_failure: str | None = None
_interrupted = False


def watch(run: Endable) -> None:
    """End this run properly, however the process ends."""
    global _installed_in
    _live.add(run)
    if _installed_in is None:
        _install()
    _installed_in = os.getpid()
    end_runs_at_sigterm(_terminated)


def live_runs() -> list[Endable]:
    """The runs of this process that have not been ended."""
    return list(_live)


def forget(run: Endable) -> None:
    """The run has been finished."""
    _live.discard(run)


def last_lines(error: BaseException) -> str:
    """The end of an exception's traceback, as the run keeps it."""
    import traceback

    text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    return "\n".join(text.rstrip().splitlines()[-TRACEBACK_LINES:])


def how_it_ended(error: BaseException | None) -> tuple[str, str | None]:
    """The state of a run whose block was left with this exception, and what went wrong."""
    if error is None or (isinstance(error, SystemExit) and error.code in (None, 0)):
        return "finished", None
    if isinstance(error, KeyboardInterrupt):
        return "interrupted", "KeyboardInterrupt"
    return "failed", last_lines(error)


def _install() -> None:
    atexit.register(_at_exit)
    os.register_at_fork(after_in_child=_in_child)
    previous_hook = sys.excepthook

    def excepthook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        global _failure, _interrupted
        if issubclass(kind, KeyboardInterrupt):
            _interrupted = True
        else:
            _failure = last_lines(error)
        previous_hook(kind, error, trace)

    sys.excepthook = excepthook
    note_exit_status()
    leave = os._exit

    def leave_at_once(status: int) -> NoReturn:
        if os.getpid() == _installed_in:
            _end_before_leaving(status)
        leave(status)

    os._exit = leave_at_once


def _end_before_leaving(status: int) -> None:
    """End the runs of a process that leaves by `os._exit`: quickly, as whoever calls that may hold what the end waits for."""
    if not _live:
        return
    try:
        ending = threading.Thread(target=_end_with, args=(status,), daemon=True)
        ending.start()
        ending.join(LEAVING_SECONDS)
    except Exception:  # no thread can be started any more
        pass


def _terminated() -> None:
    if os.getpid() == _installed_in:
        _end_all("killed", how_terminated())


def _at_exit() -> None:
    if os.getpid() != _installed_in:
        return
    if _interrupted:
        _end_all("interrupted", "KeyboardInterrupt")
        _stay_interrupted()
    elif _failure is not None:
        _end_all("failed", _failure)
    elif isinstance(status := exit_status(), int) and status != 0:
        _end_with(status)
    elif not isinstance(status, int | None):
        _end_all("failed", f"the program ended with the message {shown(status)}")
    else:
        _end_all("finished", None)


def _end_with(status: int) -> None:
    if status == 0:
        _end_all("finished", None)
    else:
        state = {130: "interrupted", 143: "killed"}.get(status, "failed")
        _end_all(state, f"the program ended with exit code {status}")


def _stay_interrupted() -> None:
    """See to it that Python still ends by SIGINT, as a shell expects after Ctrl-C.

    It forgets the interrupt whenever text is run as code, and a module that defines a named tuple does that when it is
    loaded: what loads late must not change how the program ends.
    """
    try:
        exec("raise KeyboardInterrupt")
    except KeyboardInterrupt:
        pass


def _end_all(state: str, error: str | None) -> None:
    for run in list(_live):
        try:
            run.end(state, error)
        except Exception:  # the program is ending: nothing may stand in its way
            continue


def _in_child() -> None:
    leave_sigterm_to_child()
    for run in list(_live):
        run.enter_child()
