"""Files of a run on their way to a browser: opened so that nothing outside the folder is read, sent in pieces.

A file is reached through the one door (`run_files`), after links that stay inside the folder were resolved, and it is the
open file that is looked at and sent: nobody can put another one in its place in between. Pictures that a browser draws
are told by their first bytes; everything else is something to save, or plain text, and never runs.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import quote

from lossbook.errors import BadArgument, StoreError
from lossbook.run_files import NoSuchRunFile, open_run_file, resolved_inside

#: A path of a question is no longer than this, in characters.
LONGEST_PATH = 4096
#: So much of a file is in memory while it is sent.
CHUNK_BYTES = 256 << 10
_HEAD_BYTES = 4096
_BY_CONTENT = re.compile(r"media/[0-9a-f]{64}\.[a-z0-9]{1,10}\Z")
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})\Z")
#: Nothing in a file may run, load or be framed, whatever a browser takes it for.
POLICY = "sandbox; default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"


class UnknownFile(StoreError, LookupError):
    """The run has no such file, or none that may be read."""


class TooLarge(BadArgument):
    """What was asked for is larger than one answer may be."""


class OpenFile:
    """A plain file that is open for reading; closed when nobody holds it any more."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor: int | None = descriptor
        found = os.fstat(descriptor)
        self.size_bytes = found.st_size
        self.changed_ns = found.st_mtime_ns
        self.inode = found.st_ino

    def read(self, start: int, length: int) -> bytes:
        """At most `length` bytes from `start` on."""
        assert self._descriptor is not None, "the file is closed"
        return os.pread(self._descriptor, length, start)

    def head(self, most_bytes: int) -> tuple[bytes, bool]:
        """The beginning of the file, and whether it was cut."""
        parts: list[bytes] = []
        taken = 0
        while taken <= most_bytes and (part := self.read(taken, min(CHUNK_BYTES, most_bytes + 1 - taken))):
            parts.append(part)
            taken += len(part)
        return b"".join(parts)[:most_bytes], taken > most_bytes

    def close(self) -> None:
        """Close the file; closing it again does nothing."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def __enter__(self) -> OpenFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()


def open_inside(folder: str, path: str) -> OpenFile:
    """Open a plain file of a folder.

    Args:
        path: within the folder, with forward slashes.

    Raises:
        UnknownFile: there is none of that name inside the folder, or it is no plain file, or it cannot be read.
        BadArgument: the text is no path within a folder.
    """
    parts = _named(folder, _parts(path))
    try:
        return OpenFile(open_run_file(folder, resolved_inside(folder, "/".join(parts))))
    except NoSuchRunFile as error:
        raise UnknownFile(str(error)) from None


def _parts(path: str) -> list[str]:
    if len(path) > LONGEST_PATH:
        raise BadArgument(f"the path is longer than {LONGEST_PATH:,} characters")
    if not path or "\0" in path or path.startswith("/"):
        raise BadArgument(f"{shown(path)} is no path within a run's folder")
    parts = path.split("/")
    if any(part in ("", ".", "..") for part in parts):
        raise BadArgument(f"{shown(path)} is no path within a run's folder: it may not lead out of it")
    return parts


def _named(root: str, parts: list[str]) -> list[str]:
    """The names as the folder has them: one that is no UTF-8 was listed with a mark in place of each odd byte."""
    if not any("\ufffd" in part for part in parts):
        return parts
    found: list[str] = []
    for part in parts:
        here = os.path.join(root, *found)
        if "\ufffd" in part and not os.path.lexists(os.path.join(here, part)):
            part = next((name for name in os.listdir(here) if written(name) == part), part)
        found.append(part)
    return found


def written(name: str) -> str:
    """A name as JSON can hold it: bytes that are no UTF-8 become U+FFFD each."""
    try:
        return os.fsencode(name).decode("utf-8", "replace")
    except UnicodeEncodeError:  # half a surrogate pair, which no file system gives
        return name.encode("utf-8", "replace").decode()


def shown(path: str) -> str:
    """A path for a sentence: short, on one line."""
    text = repr(written(path))
    return text if len(text) <= 120 else f"{text[:117]}...'"


# -- what it is ---------------------------------------------------------------------------------------------------


def picture_type(head: bytes) -> str | None:
    """The media type of a picture that every browser draws, by its first 12 bytes; None for anything else."""
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if head.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if head.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "image/webp"
    return None


def _is_text(head: bytes) -> bool:
    if b"\0" in head:
        return False
    try:
        head.decode("utf-8")
    except UnicodeDecodeError as error:
        # The beginning of a file may end within a character.
        return error.start >= len(head) - 3
    return True


# -- sending ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reply:
    """What goes to the browser."""

    status: int
    headers: dict[str, str]
    chunks: Iterator[bytes]


@dataclass(frozen=True)
class SentFile:
    """A file to be sent as it stands now: what is added to it meanwhile is not part of this answer.

    Attributes:
        path: within the run's folder; its last part is the name that it is saved under.
        as_text: show it as plain text rather than save it, if it is text.
    """

    file: OpenFile
    path: str
    as_text: bool = False

    def reply(self, method: str = "GET", headers: Mapping[str, str] | None = None) -> Reply:
        """Answer one request; closes the file when all is sent.

        Args:
            headers: the request's, with names in lower case: `range`, `if-range`, `if-none-match`.
        """
        asked = headers or {}
        size = self.file.size_bytes
        mark = f'"{size:x}-{self.file.changed_ns:x}-{self.file.inode:x}"'
        told = {
            "ETag": mark,
            "Accept-Ranges": "bytes",
            "X-Content-Type-Options": "nosniff",
            "Content-Security-Policy": POLICY,
            "Cross-Origin-Resource-Policy": "same-origin",
            # A file that is named by its content never changes.
            "Cache-Control": f"private, {'max-age=604800, immutable' if _BY_CONTENT.match(self.path) else 'no-cache'}",
        }
        if _names(asked.get("if-none-match"), mark):
            return self._nothing(304, told)
        head = self.file.read(0, _HEAD_BYTES)
        picture = picture_type(head)
        shows_text = picture is None and self.as_text and _is_text(head)
        told["Content-Type"] = picture or ("text/plain; charset=utf-8" if shows_text else "application/octet-stream")
        told["Content-Disposition"] = disposition(self.path, inline=picture is not None or shows_text)
        span = range_of(asked["range"], size) if asked.get("if-range", mark) == mark and "range" in asked else None
        if span is not None and span[0] == span[1]:
            return self._nothing(416, {**told, "Content-Range": f"bytes */{size}"})
        status, span = (200, (0, size)) if span is None else (206, span)
        if status == 206:
            told["Content-Range"] = f"bytes {span[0]}-{span[1] - 1}/{size}"
        told["Content-Length"] = str(span[1] - span[0])
        if method == "HEAD":
            self.file.close()
            return Reply(status, told, iter(()))
        return Reply(status, told, _chunks(self.file, *span))

    def _nothing(self, status: int, headers: dict[str, str]) -> Reply:
        self.file.close()
        return Reply(status, {**headers, "Content-Length": "0"} if status == 416 else headers, iter(()))


def range_of(text: str, size: int) -> tuple[int, int] | None:
    """The bytes that a `Range` header asks for, from and up to; an empty range where the file has none of them.

    None for the whole file: the header asks for several ranges, or cannot be understood (RFC 9110, 14.2).
    """
    matched = _RANGE.match(text.strip())
    if matched is None or matched[1] == matched[2] == "":
        return None
    if not matched[1]:
        return max(0, size - int(matched[2])), size
    start = int(matched[1])
    end = int(matched[2]) + 1 if matched[2] else size
    if matched[2] and end <= start:
        return None
    return (start, min(end, size)) if start < size else (size, size)


def disposition(path: str, *, inline: bool) -> str:
    """The `Content-Disposition` of a file: shown or saved, under its own name (RFC 6266)."""
    name = written(path.rsplit("/", 1)[-1])
    plain = re.sub(r"[^A-Za-z0-9._ -]", "_", name)
    return f"{'inline' if inline else 'attachment'}; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"


def _names(header: str | None, mark: str) -> bool:
    """Whether an `If-None-Match` header names the file as it is."""
    return header is not None and any(one.strip().removeprefix("W/") in (mark, "*") for one in header.split(","))


def _chunks(file: OpenFile, start: int, end: int) -> Iterator[bytes]:
    with file:
        while start < end and (chunk := file.read(start, min(CHUNK_BYTES, end - start))):
            yield chunk
            start += len(chunk)
