"""What people say about a run: its name, its tags, its group and its notes, kept in its `run.json`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from lossbook.errors import BadArgument, StoreError
from lossbook.paths import RunFolder, read_json, update_run_json


def change_identity(path: str, change: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Change a run's `run.json` and return it.

    Two who change different things at the same moment both have their way; what `change` raises leaves all as it was.

    Raises:
        StoreError: it is missing, or its folder cannot be written.
    """
    folder = RunFolder(path)
    if read_json(folder.run_json) is None:
        raise StoreError(f"{folder.run_json} is missing, so there is nothing to write a name, a tag or a note into")
    try:
        return update_run_json(folder, change)
    except StoreError:
        raise
    except OSError as error:
        raise StoreError(f"{folder.run_json} cannot be written ({error.strerror or error})") from error


def writable(text: str) -> str:
    """`text` as JSON can hold it: bytes that are no UTF-8 become question marks."""
    return text.encode("utf-8", "replace").decode()


def name_of(text: str) -> str:
    """A run's name, as it is kept.

    Raises:
        BadArgument: it is empty.
    """
    name = writable(text.strip())
    if not name:
        raise BadArgument("a name cannot be empty")
    return name


def tags_of(texts: Iterable[str]) -> list[str]:
    """A run's tags, as they are kept: each once.

    Raises:
        BadArgument: one is empty.
    """
    tags = [writable(text.strip()) for text in texts]
    if not all(tags):
        raise BadArgument("a tag cannot be empty")
    return list(dict.fromkeys(tags))


def set_name(path: str, name: str) -> str:
    """Give a run another name, and return it; its id and its folder stay.

    Raises:
        BadArgument, StoreError: as `name_of` and `change_identity`.
    """
    return str(set_labels(path, name=name)["name"])


def set_notes(path: str, write: Callable[[str], str | None]) -> str:
    """Put what `write` makes of a run's notes in their place, and return them.

    Raises:
        StoreError: as `change_identity`.
    """

    def change(identity: dict[str, Any]) -> None:
        identity["notes"] = write(str(identity.get("notes") or ""))

    return str(change_identity(path, change)["notes"] or "")


def set_labels(
    path: str,
    *,
    name: str | None = None,
    notes: str | None = None,
    tags: Iterable[str] | None = None,
    group: str | None = None,
) -> dict[str, Any]:
    """Set what is given in one step, and return the run's `run.json`.

    Args:
        notes, group: empty for none.

    Raises:
        BadArgument: a name or a tag that cannot be; nothing is changed then.
        StoreError: as `change_identity`.
    """
    changes: dict[str, Any] = {}
    if name is not None:
        changes["name"] = name_of(name)
    if notes is not None:
        changes["notes"] = writable(notes.strip()) or None
    if tags is not None:
        changes["tags"] = tags_of(tags)
    if group is not None:
        changes["group"] = writable(group.strip()) or None
    return change_identity(path, lambda identity: identity.update(changes))
