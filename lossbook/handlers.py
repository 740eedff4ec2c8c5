"""Tells an exception that the user's own signal handler has raised from those of the work that it has interrupted.

A handler runs between any two steps of the main thread, so its exception comes out of whatever Lossbook is at. It is the
training loop's: every clause that catches what may go wrong in a user's values or on a disk lets it pass.
"""

from __future__ import annotations

from types import FrameType


def is_of_handler(error: BaseException) -> bool:
    """Whether an exception comes out of a handler of a signal.

    Such a handler is known by what it is called with: the frame that it has interrupted, which is the one below its own.
    """
    # The first frame is that of the clause that asks.
    trace = error.__traceback__ and error.__traceback__.tb_next
    while trace is not None:
        if _is_handler(trace.tb_frame):
            return True
        trace = trace.tb_next
    return False


def _is_handler(frame: FrameType) -> bool:
    code, interrupted = frame.f_code, frame.f_back
    takes_more = bool(code.co_flags & 0x04)  # *arguments
    if interrupted is None or (code.co_argcount < 2 and not takes_more):
        return False
    if str(frame.f_globals.get("__name__")).startswith("lossbook."):
        return False
    held = frame.f_locals
    if any(held.get(name) is interrupted for name in code.co_varnames[: code.co_argcount]):
        return True
    more = held.get(code.co_varnames[code.co_argcount + code.co_kwonlyargcount]) if takes_more else None
    return isinstance(more, tuple) and any(one is interrupted for one in more)
