"""Children that may die of what happens to them: forked from a process that has imported everything, so each costs little."""

from __future__ import annotations

import gc
import os
import pickle
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

Answer = TypeVar("Answer")
#: No promise of speed: it ends an attack whose victim hangs, and reports that.
LONGEST_SECONDS = 120
#: The system's own: a run that is left by `os._exit` is ended, and these children are to die of it.
die = os._exit


@dataclass(frozen=True)
class Outcome(Generic[Answer]):
    """How a child ended.

    Attributes:
        answer: what its function returned; None when it raised or was killed.
        raised: the exception's kind and first line, and where it was raised.
        signal: what killed it.
        said: all that it printed.
    """

    answer: Answer | None
    raised: str = ""
    signal: int = 0
    said: str = ""

    def must_be_well(self) -> None:
        """Raises RuntimeError where it raised or was killed: something that nobody disturbed."""
        if self.raised or self.signal:
            raise RuntimeError(f"an undisturbed run failed: {self.raised or f'signal {self.signal}'}\n{self.said}")


def in_child(work: Callable[[], Answer]) -> Outcome[Answer]:
    """Call a function in a child and tell how it went; the answer must be picklable."""
    with tempfile.TemporaryFile() as output:
        receive, send = os.pipe()
        pid = os.fork()
        if pid == 0:
            _be_child(work, send, output.fileno())
        os.close(send)
        with open(receive, "rb") as pipe:
            sent = pipe.read()
        _, status = os.waitpid(pid, 0)
        output.seek(0)
        said = output.read().decode(errors="replace")
    if not sent:
        number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
        return Outcome(None, "" if number else f"it ended with status {os.WEXITSTATUS(status)}", number, said)
    answer, raised = pickle.loads(sent)
    return Outcome(answer, raised, 0, said)


def _be_child(work: Callable[[], Answer], send: int, output: int) -> None:
    status = 0
    try:
        gc.disable()
        signal.alarm(LONGEST_SECONDS)
        os.dup2(output, 1)
        os.dup2(output, 2)
        try:
            sent = pickle.dumps((work(), ""))
        except BaseException as error:
            sent = pickle.dumps((None, describe(error)))
        sys.stdout.flush()
        sys.stderr.flush()
        with open(send, "wb") as pipe:
            pipe.write(sent)
    except BaseException:
        status = 1
    finally:
        die(status)


def describe(error: BaseException) -> str:
    """An exception in one line: its kind, what it says, and the way it came."""
    way = " < ".join(
        f"{os.path.basename(at.filename)}:{at.lineno}" for at in traceback.extract_tb(error.__traceback__)[:-5:-1]
    )
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]} ({way})"
