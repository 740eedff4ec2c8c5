"""The process between a training's standard output and where that leads: passes everything on, and keeps a copy.

`python start.py lossbook.run.console_pump`, with nothing in its command line. What it reads is passed on at once, byte for
byte; a thread keeps the copy, and when the store does not answer, what was printed is left out of the copy and counted.
So the training never waits for the store. It lives until nobody can write to it any more: child processes that outlive
the training go on printing to where they did.

| descriptor | |
| --- | --- |
| 0 | what standard output (or both) prints: a pipe, or the controlling end of a pseudo-terminal |
| 1, 2 | where standard output and standard error lead |
| 3 | from the training: the run's folder and its file, a NUL behind each; then `S`: keep no more; its end: the training is over |
| 4 | one byte: who reads it is the one who passes on |
| 5 | to the training: `D` when all is passed on and kept, `B` when nobody takes it any more; its end: this process is over |
| 6 | what standard error prints, where it leads elsewhere than standard output |
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import signal
import sys
import termios
import threading
import time
from collections import deque
from itertools import groupby

SOURCE, CONTROL, TOKEN, ANSWER, SECOND_SOURCE = 0, 3, 4, 5, 6
CHUNK_BYTES = 1 << 16
#: Held at the most of what could not be kept yet.
QUEUE_BYTES = 32 << 20
#: A line without its end is kept after so many seconds without more of it, so that a secret is looked for in one piece.
QUIET_SECONDS = 0.25
#: Between two looks at what is to be kept: each costs the training's machine something.
PAUSE_SECONDS = 0.05
#: A progress bar that stands still is looked at so often.
BAR_SECONDS = 2.0
#: How long the end of a run waits for the copy.
KEEP_SECONDS = 2.0
#: The output of children that outlive their training is kept for so long.
LATE_SECONDS = 60.0
_LONGEST_LINE = 1 << 16
_LONGEST_KEY = 1 << 14


class Copy:
    """Keeps what is passed on, in a thread of its own.

    Args:
        run: the run's folder.
        name: the file in it.
    """

    def __init__(self, run: str, name: str) -> None:
        self._path = os.path.join(run, name)
        self._name = name
        self._folder = _open_folder(run)
        self._queue: deque[tuple[int, bytes]] = deque()
        self._bytes = 0
        self._left_out = 0
        self._changed = threading.Condition()
        self._is_ended = self._is_waiting = False
        self._is_done = threading.Event()
        # Of each source: a line, and a character, may be in two pieces with another source's between them.
        self._lines = {SOURCE: "", SECOND_SOURCE: ""}
        threading.Thread(target=self._work, daemon=True).start()

    def add(self, source: int, chunk: bytes) -> None:
        """Keep a chunk; never waits."""
        with self._changed:
            if self._is_ended:
                return
            if self._bytes > QUEUE_BYTES:
                self._left_out += len(chunk)
                return
            self._queue.append((source, chunk))
            self._bytes += len(chunk)
            if self._is_waiting:
                self._changed.notify()

    def end(self, seconds: float) -> None:
        """Take nothing more, and wait until all is kept, for so long at the most."""
        with self._changed:
            self._is_ended = True
            self._changed.notify()
        self._is_done.wait(seconds)

    def _work(self) -> None:
        # Loaded here: what is printed is passed on from the first moment.
        from codecs import getincrementaldecoder

        from lossbook.journal import append_bounded
        from lossbook.redaction import mask_lines
        from lossbook.run.console_text import ConsoleText

        self._append, self._mask, self._text = append_bounded, mask_lines, ConsoleText()
        self._decoders = {source: getincrementaldecoder("utf-8")("replace") for source in self._lines}
        is_over = False
        while not is_over:
            with self._changed:
                # Not woken by each line: a program that prints much has its processor for itself.
                self._changed.wait_for(lambda: self._is_ended, PAUSE_SECONDS)
                is_open = any(self._lines.values())
                waits = QUIET_SECONDS if is_open else BAR_SECONDS if self._text.is_held else None
                self._is_waiting = True
                has_more = self._changed.wait_for(lambda: self._queue or self._is_ended, waits)
                self._is_waiting = False
                chunks = list(self._queue)
                left_out, self._left_out = self._left_out, 0
                self._queue.clear()
                self._bytes = 0
                is_over = self._is_ended
            try:
                self._keep(chunks, left_out, is_quiet=not has_more, is_last=is_over)
            except Exception:  # what cannot be kept must not keep the training from printing
                continue
        self._is_done.set()

    def _keep(self, chunks: list[tuple[int, bytes]], left_out: int, *, is_quiet: bool, is_last: bool) -> None:
        pieces = []
        for source, run in groupby(chunks, key=lambda one: one[0]):
            text = self._lines[source] + self._decoders[source].decode(b"".join(chunk for _, chunk in run))
            whole = _end_of_whole(text)
            pieces.append(text[:whole])
            self._lines[source] = text[whole:]
        if left_out:
            pieces.append(f"\n[lossbook: {left_out} bytes were printed faster than they could be kept]\n")
        if is_quiet or is_last:
            for line in filter(None, self._lines.values()):
                pieces.append(f"\n{line}" if pieces and pieces[-1] and not pieces[-1].endswith(("\n", "\r")) else line)
            self._lines = dict.fromkeys(self._lines, "")
        text = "".join(pieces)
        kept = self._text.take(self._mask(text)) if text else ""
        if is_last:
            kept += self._text.end()
        elif is_quiet:
            kept += self._text.settle()
        if kept:
            self._write(kept.encode("utf-8", "replace"))

    def _write(self, text: bytes) -> None:
        try:
            # From the folder that is open, which may have been moved since.
            if self._folder >= 0:
                self._append(self._name, text, folder_fd=self._folder)
                return
        except FileNotFoundError:
            try:
                os.mkdir(os.path.dirname(self._name), dir_fd=self._folder)
                self._append(self._name, text, folder_fd=self._folder)
                return
            except FileNotFoundError:  # the folder was removed
                pass
        os.makedirs(os.path.dirname(self._path), exist_ok=True)
        self._append(self._path, text)


def _open_folder(path: str) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return -1


def _end_of_whole(text: str) -> int:
    """Up to where lines are whole; all of it where a line is too long to wait for."""
    end = max(text.rfind("\n"), text.rfind("\r")) + 1
    key = text.rfind("-----BEGIN ", max(0, end - _LONGEST_KEY))
    if 0 <= key < end and "-----END " not in text[key:]:
        end = key  # a private key is masked as a whole
    return len(text) if len(text) - end > _LONGEST_LINE else end


class Pump:
    """Passes on what is printed, until nobody can print any more."""

    def __init__(self, copy: Copy) -> None:
        self._copy = copy
        self._targets = {SOURCE: 1}
        if _is_open(SECOND_SOURCE):
            self._targets[SECOND_SOURCE] = 2
        self._is_terminal = os.isatty(SOURCE)
        self._size = b""
        self._broken: set[int] = set()
        self._stop_at: float | None = None

    def work(self) -> None:
        """Pass on until the last writer has gone."""
        poll = select.poll()
        for source in (*self._targets, CONTROL):
            poll.register(source, select.POLLIN)
        while self._targets:
            wait = None if self._stop_at is None else max(0.0, (self._stop_at - time.monotonic()) * 1000)
            ready = [fd for fd, _ in poll.poll(wait)]
            if self._is_terminal:
                self._take_over_size()
            for source in [fd for fd in ready if fd in self._targets]:
                if not self._pass_on(source):
                    poll.unregister(source)
                    del self._targets[source]
            if CONTROL in ready and not self._hear():
                poll.unregister(CONTROL)
            if self._stop_at is not None and time.monotonic() >= self._stop_at:
                self._copy.end(0)
                self._stop_at = None
        self._copy.end(LATE_SECONDS)

    def _pass_on(self, source: int) -> bool:
        """Pass on one chunk; False when nobody can write to the source any more."""
        try:
            chunk = os.read(source, CHUNK_BYTES)
        except BlockingIOError:
            return True
        except OSError:  # the other end of the pseudo-terminal is closed
            return False
        if not chunk:
            return False
        self._write(self._targets[source], chunk)
        self._copy.add(source, chunk)
        return True

    def _write(self, target: int, chunk: bytes) -> None:
        left = memoryview(chunk)
        while left and target not in self._broken:
            try:
                left = left[os.write(target, left) :]
            except BlockingIOError:
                select.select([], [target], [])
            except OSError:
                # The training is to learn of it as it would have without us: it writes there itself again.
                self._broken.add(target)
                _answer(b"B")

    def _hear(self) -> bool:
        """Do what the training says; False when it is over."""
        try:
            word = os.read(CONTROL, 1)
        except OSError:
            word = b""
        if not word:
            self._stop_at = time.monotonic() + LATE_SECONDS
            return False
        self._drain()
        self._copy.end(KEEP_SECONDS)
        _answer(b"D")
        return True

    def _drain(self) -> None:
        """Pass on all that has been printed by now."""
        poll = select.poll()
        for source in self._targets:
            poll.register(source, select.POLLIN)
        # A pseudo-terminal hands over what was written a moment later.
        while ready := [fd for fd, events in poll.poll(20 if self._is_terminal else 0) if events & select.POLLIN]:
            for source in ready:
                self._pass_on(source)

    def _take_over_size(self) -> None:
        """Have the pseudo-terminal as large as the terminal."""
        try:
            size = fcntl.ioctl(1, termios.TIOCGWINSZ, b"\0" * 8)
            if size != self._size:
                fcntl.ioctl(SOURCE, termios.TIOCSWINSZ, size)
                self._size = size
        except OSError:
            pass


def _answer(word: bytes) -> None:
    try:
        os.write(ANSWER, word)
    except OSError:  # the training is over
        pass


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def main() -> None:
    """Run the process; it ends without a word."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE, signal.SIGQUIT, signal.SIGTSTP):
        signal.signal(number, signal.SIG_IGN)  # it ends after the last writer, whatever ends that
    os.chdir("/")
    try:
        if not os.read(TOKEN, 1):
            return
    except OSError:  # the run has ended before this process had begun
        return
    os.closerange(7, 65_536)
    sys.setswitchinterval(0.0005)
    words = b""
    while words.count(b"\0") < 2:
        piece = os.read(CONTROL, 1)
        if not piece:
            return
        words += piece
    run, name = (os.fsdecode(word) for word in words.split(b"\0")[:2])
    Pump(Copy(run, name)).work()


if __name__ == "__main__":
    try:
        main()
    except OSError as error:
        os._exit(error.errno or errno.EIO)
    os._exit(0)
