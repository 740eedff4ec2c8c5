"""A diff of git's, secrets masked: nothing inside a binary patch, which a changed letter would break."""

from __future__ import annotations

import base64
import re
import zlib
from collections.abc import Iterator

from lossbook.redaction import mask_text

_BINARY_PATCH = re.compile(r"^GIT binary patch\n(?:(?:literal|delta) \d+\n(?:[A-Za-z][!-~]+\n)*\n?){1,2}", re.MULTILINE)
_BINARY_HALF = re.compile(r"^(?:literal|delta) \d+\n((?:[A-Za-z][!-~]+\n)*)", re.MULTILINE)


def mask_diff(text: str, *, largest_bytes: int) -> str:
    """Mask secrets; a binary change that holds what looks like one is taken out.

    Args:
        largest_bytes: of a binary file, so much is looked at.
    """
    parts: list[str] = []
    end = 0
    for found in _BINARY_PATCH.finditer(text):
        parts.append(mask_text(text[end : found.start()]))
        parts.append("Binary files differ\n" if _holds_secret(found[0], largest_bytes) else found[0])
        end = found.end()
    parts.append(mask_text(text[end:]))
    return "".join(parts)


def _holds_secret(patch: str, largest_bytes: int) -> bool:
    for contents in _binary_contents(patch, largest_bytes):
        for text in (contents.decode("latin-1"), contents.decode("utf-16-le", "replace")):
            if mask_text(text) != text:
                return True
    return False


def _binary_contents(patch: str, largest_bytes: int) -> Iterator[bytes]:
    """The bytes of each half of a binary patch: the new contents, or what is put between pieces of the old ones."""
    for half in _BINARY_HALF.finditer(patch):
        packed = b"".join(_line_bytes(line) for line in half[1].split("\n") if line)
        try:
            yield zlib.decompressobj().decompress(packed, largest_bytes)
        except zlib.error:  # the diff was cut in it
            continue


def _line_bytes(line: str) -> bytes:
    """Up to 52 bytes: a letter for their number, then base 85."""
    count = ord(line[0]) - (ord("A") - 1 if line[0] <= "Z" else ord("a") - 27)
    try:
        return base64.b85decode(line[1:])[:count]
    except ValueError:
        return b""
