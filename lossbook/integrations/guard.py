"""Keeps what goes wrong in an integration out of the training that it watches."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from lossbook.run import Run, describe, say

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")
failed: set[str] = set()


def harmless(method: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result | None]:
    """Decorate a hook: an error in it is said once for each hook, and the hook returns None."""

    @functools.wraps(method)
    def guarded(*arguments: _Arguments.args, **named: _Arguments.kwargs) -> _Result | None:
        try:
            return method(*arguments, **named)
        except Exception as error:
            if method.__qualname__ not in failed:
                # The words of an error may change from step to step, and must not fill the terminal.
                failed.add(method.__qualname__)
                say(f"{method.__qualname__} could not record something ({describe(error)}); training goes on")
            return None

    return guarded


def is_over(run: Run | None) -> bool:
    """Whether a run was ended: rows for it would be warnings."""
    return run is None or run.is_finished
