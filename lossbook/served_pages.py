"""Which stores have a page on this machine: each `lossbook serve` without a token notes its address in the cache."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from lossbook.errors import LossbookError
from lossbook.paths import cache_folder, file_names, read_json, write_json
from lossbook.processes import boot_id, is_alive, process_start


def _folder() -> str:
    return os.path.join(cache_folder(), "pages")


@contextmanager
def noted(address: str, store: str) -> Iterator[None]:
    """Note that a store's page stands at an address, as long as this process serves it."""
    pid = os.getpid()
    path = os.path.join(_folder(), f"{pid}.json")
    value = {"address": address, "store": os.path.realpath(store), "start": process_start(pid), "boot": boot_id()}
    try:
        os.makedirs(_folder(), exist_ok=True)
        write_json(path, value, durable=False)
    except (OSError, LossbookError):  # the page is served all the same; notebooks have no link to it
        pass
    try:
        yield
    finally:
        try:
            os.unlink(path)
        except OSError:
            pass


def served_at(store: str) -> str | None:
    """The address of a store's page on this machine; None where nobody serves it."""
    for name in file_names(_folder()):
        pid = name.removesuffix(".json")
        try:
            note = read_json(os.path.join(_folder(), name)) or {}
        except LossbookError:
            continue
        start, boot, address = note.get("start"), note.get("boot"), note.get("address")
        if (
            pid.isdecimal()
            and note.get("store") == os.path.realpath(store)
            and isinstance(address, str)
            and address.startswith("http://")
            and is_alive(
                int(pid), start if isinstance(start, (int, float)) else None, boot if isinstance(boot, str) else None
            )
        ):
            return address
    return None
