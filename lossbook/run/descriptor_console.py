"""Keeps all that this process and its children print: standard output and standard error lead to a process that passes
everything on.

What C libraries print is kept, and what child processes do. Nothing is written, and nothing waited for, in the training:
the other process (`console_pump`) passes on and keeps. Should it be killed, a thread here takes its place: the descriptors
lead again where they did, and what was on its way is passed on.
"""

from __future__ import annotations

import fcntl
import os
import select
import sys
import termios
import threading
from collections.abc import Callable
from io import TextIOWrapper
from typing import NamedTuple, TextIO

from lossbook.handlers import is_of_handler
from lossbook.redaction import mask_text
from lossbook.run.console import Console
from lossbook.run.messages import say_once
from lossbook.start import python_command

#: How long the end of a run waits for what was printed to be passed on: a terminal may be stopped.
PASS_SECONDS = 3.0
#: Room in the pipe, in bytes, where the system grants it.
_PIPE_BYTES = 1 << 20
#: Numbers from here on, so that none of them is among those that the other process finds its own under.
_FIRST_NUMBER = 20
_Identity = tuple[int, int, int]
_running: DescriptorConsole | None = None


class _Line(NamedTuple):
    """One or both of the descriptors that lead to the same place.

    Attributes:
        numbers: 1, 2 or both.
        before: where they led.
        reads, identity: where what is printed can be read, and what the descriptors lead to meanwhile.
    """

    numbers: tuple[int, ...]
    before: int
    reads: int
    identity: _Identity


def can_capture_descriptors() -> bool:
    """Whether standard output and standard error are Python's own streams, with an interpreter to pass them on."""
    if not sys.executable or getattr(sys, "frozen", False) or _running is not None or not hasattr(os, "posix_spawn"):
        return False
    return _leads_to(sys.stdout, 1) and _leads_to(sys.stderr, 2)


def is_for_people() -> bool:
    """Whether somebody sits in front of this program: there is a terminal, or Python is asked line by line."""
    return hasattr(sys, "ps1") or bool(sys.flags.interactive) or os.isatty(1) or os.isatty(2)


def _leads_to(stream: TextIO | None, number: int) -> bool:
    try:
        return isinstance(stream, TextIOWrapper) and stream.fileno() == number and os.fstat(number) is not None
    except (OSError, ValueError):
        return False


class DescriptorConsole:
    """Keeps what is printed, until stopped.

    Args:
        run: the run's folder.
        name: the file in it.
        sink: takes what is to be kept while the other process is not there.
    """

    def __init__(self, run: str, name: str, sink: Callable[[bytes], None]) -> None:
        self._head = os.fsencode(run) + b"\0" + os.fsencode(name) + b"\0"
        self._sink = sink
        self._pid = os.getpid()
        self._lines: list[_Line] = []
        self._ours: list[int] = []
        self._control = self._answers = self._token = self._gives = -1
        self._pump = 0
        self._streams: list[tuple[TextIOWrapper, bool]] = []
        self._passed_on = threading.Event()
        self._is_stopped = False
        self._instead: Console | None = None

    def start(self) -> None:
        """Have everything that is printed kept.

        Raises:
            OSError, NotImplementedError, ValueError: it cannot be done; nothing has changed.
        """
        global _running
        writes: list[int] = []
        try:
            self._make_lines(writes)
            self._spawn()
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
            for line, write in zip(self._lines, writes, strict=True):
                for number in line.numbers:
                    os.dup2(write, number)
        except BaseException:
            self._restore()
            self._close()
            raise
        finally:
            _close_all(writes)
        _running = self
        # A line is on its way when `print` returns: what waits in a buffer is lost with a process that is killed.
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, TextIOWrapper):
                self._streams.append((stream, stream.line_buffering))
                stream.reconfigure(line_buffering=True)
        threading.Thread(target=self._look_after, name="lossbook-console", daemon=True).start()

    def renew(self) -> None:
        """Nothing to do: whoever puts another stream in the place of Python's prints to the same descriptors."""

    def copy(self, text: str) -> None:
        """Keep a text as if it had been printed; never raises."""
        try:
            self._sink(mask_text(text).encode("utf-8", "replace"))
        except Exception as error:  # as in Console.copy
            if is_of_handler(error):
                raise

    def stop(self) -> None:
        """Give the descriptors back, when all that was printed has been passed on and kept."""
        global _running
        if self._is_stopped:
            return
        self._is_stopped = True
        _running = None
        if self._instead is not None:
            self._instead.stop()
        _flush_c_stream()
        for stream, was_line_buffered in self._streams:
            try:
                stream.flush()
                stream.reconfigure(line_buffering=was_line_buffered)
            except (OSError, ValueError, RuntimeError):  # closed, or this is a signal handler that interrupted a print
                pass
        self._restore()
        if self._has_not_begun() and self._finish_alone():
            return
        try:
            os.write(self._control, b"S")
        except OSError:  # it was killed: the thread passes on what is left
            pass
        self._passed_on.wait(PASS_SECONDS)

    def enter_child(self, *, keeps: bool) -> None:
        """In a forked child: hold nothing open that somebody waits for; what it prints is kept as before."""
        del keeps  # it is the other process that waits for the store
        global _running
        _running = None
        self._is_stopped = True
        self._close()

    # -- beginning ---------------------------------------------------------------------------------------------------

    def _make_lines(self, writes: list[int]) -> None:
        """Make a pipe, or a pseudo-terminal in the place of a terminal, for each place that is printed to."""
        for numbers in ((1, 2),) if _identity(1) == _identity(2) else ((1,), (2,)):
            before = _high(os.dup(numbers[0]))
            self._ours.append(before)
            reads, write = _pseudo_terminal(before) if os.isatty(before) else _pipe()
            self._ours.append(reads)
            writes.append(write)
            self._lines.append(_Line(numbers, before, reads, _identity(write)))

    def _spawn(self) -> None:
        hears, self._control = map(_high, os.pipe())
        self._token, self._gives = map(_high, os.pipe())
        self._answers, answers = map(_high, os.pipe())
        self._ours += [self._control, self._token, self._gives, self._answers]
        try:
            os.set_blocking(self._token, False)
            os.write(self._gives, b"T")
            os.write(self._control, self._head)
            sources = {0: self._lines[0].reads, 1: self._lines[0].before, 2: self._lines[-1].before}
            sources |= {3: hears, 4: self._token, 5: answers}
            if len(self._lines) == 2:
                sources[6] = self._lines[1].reads
            actions = [(os.POSIX_SPAWN_DUP2, source, number) for number, source in sources.items()]
            command = python_command("lossbook.run.console_pump")
            # The less it loads the sooner it passes on, and it needs nothing that is installed.
            command[1:1] = ["-s", "-S"] if "PYTHONHOME" in os.environ else ["-s", "-S", "-E"]
            self._pump = os.posix_spawn(
                command[0], command, os.environ, file_actions=actions, setsid=True, setsigmask=()
            )
        finally:
            _close_all([hears, answers])

    # -- while it runs -----------------------------------------------------------------------------------------------

    def _look_after(self) -> None:
        """Wait for what the other process says; where it ends before its time, take its place."""
        while word := _read(self._answers, 1):
            if word == b"B":
                self._restore()
            else:
                self._passed_on.set()
        if not self._is_stopped:
            self._restore()
            self._instead = Console(self._sink)
            self._instead.start()
            say_once(
                "the process that keeps what is printed was ended: what C libraries and child processes print from now "
                "on may not be kept"
            )
        poll, sources = self._poll()
        while sources:
            for chunk in self._pass_on(poll, sources, None).values():
                self.copy(chunk.decode("utf-8", "replace"))
        self._passed_on.set()
        try:
            os.waitpid(self._pump, 0)
        except OSError:  # somebody else has asked how it ended
            pass
        self._close()

    def _has_not_begun(self) -> bool:
        """Whether the other process has not begun to pass on, and will not any more: the run was that short."""
        return _read(self._token, 1) == b"T"

    def _finish_alone(self) -> bool:
        """Pass on what was printed; False where child processes may still print."""
        poll, sources = self._poll()
        printed = dict.fromkeys(sources, b"")
        while sources and (chunks := self._pass_on(poll, sources, 0)):
            for source, chunk in chunks.items():
                printed[source] += chunk
        text = b""
        for piece in printed.values():
            text += (b"\n" if text and piece and not text.endswith(b"\n") else b"") + piece
        self.copy(text.decode("utf-8", "replace"))
        if not sources:
            return True
        os.write(self._gives, b"T")
        return False

    def _poll(self) -> tuple[select.poll, dict[int, int]]:
        poll = select.poll()
        sources = {line.reads: line.before for line in self._lines}
        for source in sources:
            poll.register(source, select.POLLIN)
        return poll, sources

    def _pass_on(self, poll: select.poll, sources: dict[int, int], wait: int | None) -> dict[int, bytes]:
        """Pass on what can be read now, and leave out of `sources` what nobody prints to any more.

        Returns:
            What was printed, by source; of one that nobody prints to any more nothing; empty where nothing could be read.
        """
        chunks: dict[int, bytes] = {}
        for source, _ in poll.poll(wait):
            chunk = chunks[source] = _read(source, 1 << 16)
            if chunk:
                _write_all(sources[source], chunk)
            else:
                poll.unregister(source)
                del sources[source]
        return chunks

    # -- the end -----------------------------------------------------------------------------------------------------

    def _restore(self) -> None:
        """Have the descriptors lead again where they did, unless somebody has turned them elsewhere."""
        for line in self._lines:
            for number in line.numbers:
                try:
                    if _identity(number) == line.identity:
                        os.dup2(line.before, number)
                except OSError:  # closed
                    continue

    def _close(self) -> None:
        ours, self._ours = self._ours, []
        self._control = self._answers = self._token = self._gives = -1
        _close_all(ours)


def _identity(fd: int) -> _Identity:
    found = os.fstat(fd)
    return found.st_dev, found.st_ino, found.st_rdev


def _high(fd: int) -> int:
    """The same under a number that the other process has no use for."""
    try:
        return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _FIRST_NUMBER)
    finally:
        os.close(fd)


def _pipe() -> tuple[int, int]:
    reads, writes = map(_high, os.pipe())
    try:
        fcntl.fcntl(writes, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    except (OSError, AttributeError):  # this user has many such pipes; macOS
        pass
    return reads, writes


def _pseudo_terminal(terminal: int) -> tuple[int, int]:
    """A pseudo-terminal like a terminal: its reading end, and the one that programs print to."""
    reads, writes = map(_high, os.openpty())
    try:
        attributes = termios.tcgetattr(terminal)
        # The real one makes line ends of newlines, and shows what is typed.
        attributes[1] &= ~termios.OPOST
        attributes[3] &= ~termios.ECHO
        termios.tcsetattr(writes, termios.TCSANOW, attributes)
        fcntl.ioctl(writes, termios.TIOCSWINSZ, fcntl.ioctl(terminal, termios.TIOCGWINSZ, b"\0" * 8))
    except (OSError, termios.error):
        pass
    return reads, writes


def _flush_c_stream() -> None:
    """Have C's own standard output written: it is kept in a buffer until the process ends otherwise."""
    try:
        import ctypes

        library = ctypes.CDLL(None)
        name = "__stdoutp" if sys.platform == "darwin" else "stdout"
        library.fflush(ctypes.c_void_p.in_dll(library, name))
    except Exception:  # an interpreter without ctypes, or a C library without that name
        pass


def _read(fd: int, most: int) -> bytes:
    """What can be read; empty at the end, and where nothing can be."""
    try:
        return os.read(fd, most)
    except OSError:
        return b""


def _write_all(fd: int, chunk: bytes) -> None:
    left = memoryview(chunk)
    while left:
        try:
            left = left[os.write(fd, left) :]
        except BlockingIOError:
            select.select([], [fd], [])
        except OSError:
            return


def _close_all(fds: list[int]) -> None:
    for fd in fds:
        try:
            os.close(fd)
        except OSError:
            continue
