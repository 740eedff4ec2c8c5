"""What this user may read and write of a store, and in which words that is said.

A list without a run, or a run without its rows, would look like a fact. So a folder that is gone, or is another user's,
is told from one that is empty: by an error where nothing can be read, by a sentence where the rest can. A sentence says
what is refused, why, and what mends it. Nothing here changes a store.
"""

from __future__ import annotations

import errno
import os

from lossbook.errors import StoreError
from lossbook.paths import RunFolder


def check_store(store: str) -> None:
    """Make sure that a store is still there, and may be listed: a list without a run would look like a fact.

    Raises:
        StoreError: it is not, or may not.
    """
    try:
        with os.scandir(store):
            pass
    except (FileNotFoundError, NotADirectoryError):
        raise StoreError(
            f"the store {store} is not there any more: was it removed or renamed, or is its disk not mounted?"
        ) from None
    except OSError as error:
        raise StoreError(f"the store {store} cannot be read ({error.strerror or error}); check who owns it") from error


def why_unreadable(folder: RunFolder) -> str | None:
    """Why a folder that may hold a run cannot be looked into; None where it can, or where there is none."""
    try:
        os.stat(folder.run_json)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        return error.strerror or str(error)
    return None


def may_read(path: str) -> bool:
    """Whether a file may be read; true of one that is not there."""
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))
    except OSError as error:
        return error.errno not in (errno.EACCES, errno.EPERM)
    return True


def unlisted_folders(folder: RunFolder) -> list[str]:
    """A sentence for each folder of a run's rows that may not be listed."""
    found = []
    for path in (folder.journal, folder.metrics, folder.events):
        try:
            with os.scandir(path):
                pass
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            found.append(
                f"{path} cannot be listed ({error.strerror or error}), so its rows are missing; check who owns it"
            )
    return found


def refusal(error: OSError) -> str:
    """Why a file of a store could not be written, in a few words; where it is another user's, also what mends that."""
    said = error.strerror or str(error)
    if error.errno not in (errno.EACCES, errno.EPERM) or not isinstance(error.filename, str):
        return said
    path = error.filename
    while path != os.path.dirname(path) and not os.path.lexists(path):
        path = os.path.dirname(path)
    try:
        owner = os.lstat(path).st_uid
    except OSError:
        return said
    if owner == os.geteuid():
        return said
    return f"{said}: it belongs to {_user_name(owner)}, and a store that several people write needs `umask 002` of each"


def _user_name(number: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:  # a container knows few of them
        return f"user {number}"
