"""Files that lie beside a journal in the run's folder: media, whose name tells their contents."""

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
