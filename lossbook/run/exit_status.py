"""The status that a program ends with, however it says so: `sys.exit(3)`, `exit(3)`, `raise SystemExit("no data")`.

Python tells nobody: no hook sees a `SystemExit`, and when the functions of `atexit` run, it is gone. But it asks the
exception for its `code` when nobody has caught it, and that question comes from no frame of Python's. So `SystemExit.code`
becomes a property that answers as before, and notes what it was asked then.
"""

from __future__ import annotations

import gc
import sys
import warnings
from typing import Any, NoReturn

_status: object = None
_is_noted = False


def exit_status() -> object:
    """What the program has ended with: None where it came to its end."""
    return _status


def note_exit_status() -> None:
    """Have `exit_status()` know it; called before any function of `atexit` runs."""
    global _is_noted
    if _is_noted:
        return
    _is_noted = True
    try:
        _watch_code()
    except Exception:  # an interpreter that is built otherwise: only what `sys.exit` was given is not known then
        pass
    leave = sys.exit

    def exit(status: str | int | None = None, /) -> NoReturn:
        try:
            leave(status)
        except SystemExit:
            # Python 3.11 makes the exception only for somebody who catches it, and asks a mere status for nothing.
            raise

    sys.exit = exit


def _watch_code() -> None:
    members: dict[str, Any] = gc.get_referents(SystemExit.__dict__)[0]
    code = members["code"]

    def asked(leaving: SystemExit) -> object:
        global _status
        status: object = code.__get__(leaving)
        try:
            sys._getframe(1)
        except ValueError:  # nobody has called: the interpreter is about to end
            _status = status
        return status

    members["code"] = property(asked, code.__set__, code.__delete__, code.__doc__)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sys._clear_type_cache()  # it knows the member as it was
