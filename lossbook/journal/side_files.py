"""Files that lie beside a journal in the run's folder: media, whose name tells their contents, and texts that grow."""

from __future__ import annotations

import os

from lossbook.paths import make_folder, replace_file


def write_once(path: str, contents: bytes) -> None:
    """Write a content-addressed file: present means complete.

    Raises:
        OSError: it cannot be written.
    """
    if os.path.exists(path):
        return
    make_folder(os.path.dirname(path))
    replace_file(path, contents, durable=False)


def open_to_append(path: str, *, make_its_folder: bool = False) -> int:
    """Open a file for raw bytes at its end; returns the descriptor.

    Raises:
        OSError: it cannot be opened.
    """
    if make_its_folder:
        make_folder(os.path.dirname(path))
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
