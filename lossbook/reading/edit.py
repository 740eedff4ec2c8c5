"""Changes what people say of a run: its name, tags, group and notes, kept in its `run.json`."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from lossbook.access import refusal
from lossbook.errors import BadArgument, StoreError
from lossbook.paths import RunFolder
from lossbook.run_info import RunInfo, edit_run_info, load_run_info


def edit_run(path: str, change: Callable[[RunInfo], RunInfo]) -> RunInfo:
    """Change the `run.json` of the run in a folder and return what it says now.

    Two who change different things at the same moment both have their way; what `change` raises leaves all as it was.

    Raises:
        StoreError: it is missing, or its folder cannot be written.
    """
    folder = RunFolder(path)
    if load_run_info(folder) is None:
        raise StoreError(f"{folder.run_json} is missing, so there is nothing to write a name, a tag or a note into")
    try:
        return edit_run_info(folder, change)
    except StoreError:
        raise
    except OSError as error:
        raise StoreError(f"{folder.run_json} cannot be written ({refusal(error)})") from error


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


def tags_of(texts: Iterable[str]) -> tuple[str, ...]:
    """A run's tags, as they are kept: each once.

    Raises:
        BadArgument: one is empty.
    """
    tags = [writable(text.strip()) for text in texts]
    if not all(tags):
        raise BadArgument("a tag cannot be empty")
    return tuple(dict.fromkeys(tags))


def set_name(path: str, name: str) -> str:
    """Give a run another name, and return it; its id and its folder stay.

    Raises:
        BadArgument, StoreError: as `name_of` and `edit_run`.
    """
    return set_labels(path, name=name).name


def set_notes(path: str, write: Callable[[str], str | None]) -> str:
    """Put what `write` makes of a run's notes in their place, and return them.

    Raises:
        StoreError: as `edit_run`.
    """
    return edit_run(path, lambda info: info._replace(notes=write(info.notes or ""))).notes or ""


def set_labels(
    path: str,
    *,
    name: str | None = None,
    notes: str | None = None,
    tags: Iterable[str] | None = None,
    group: str | None = None,
) -> RunInfo:
    """Set what is given in one step, and return what `run.json` says now.

    Args:
        notes, group: empty for none.

    Raises:
        BadArgument: a name or a tag that cannot be; nothing is changed then.
        StoreError: as `edit_run`.
    """
    new_name = None if name is None else name_of(name)
    new_tags = None if tags is None else tags_of(tags)

    def change(info: RunInfo) -> RunInfo:
        return info._replace(
            name=info.name if new_name is None else new_name,
            notes=info.notes if notes is None else writable(notes.strip()) or None,
            tags=info.tags if new_tags is None else new_tags,
            group=info.group if group is None else writable(group.strip()) or None,
        )

    return edit_run(path, change)
