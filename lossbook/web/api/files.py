"""The files of a run's folder: which there are, and one of them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from lossbook.web import schemas
from lossbook.web.file_response import SentFile, open_inside, written
from lossbook.web.routing import get
from lossbook.web.session import Session

MOST_FILES = 10_000
DEEPEST = 32
#: What a person looks for comes first; thousands of pictures come last, so that they crowd out nothing.
_ORDER = {"files": 1, "code": 2, "console": 3, "journal": 4, "metrics": 5, "events": 6, "followers": 7, "media": 9}
_PICTURES = (".png", ".jpg", ".jpeg", ".gif", ".webp")


@dataclass(frozen=True)
class FilesQuestion:
    project: str
    run: str


@dataclass(frozen=True)
class FileQuestion:
    """`text`: show it as plain text, if it is text; otherwise all but pictures is something to save."""

    project: str
    run: str
    path: str
    text: bool = False


def files(session: Session, question: FilesQuestion) -> schemas.Files:
    """The plain files of a run's folder, and of folders in it; links that lead out of it are not among them."""
    root = os.path.realpath(session.run(question.project, question.run).path)
    found = list(islice(_files(root, root, "", 0), MOST_FILES + 1))
    return schemas.Files(files=found[:MOST_FILES], whole=len(found) <= MOST_FILES)


def _files(root: str, folder: str, before: str, depth: int) -> Iterator[schemas.File]:
    try:
        with os.scandir(folder) as entries:
            # A folder of millions is not read to its end; what it has is sorted as far as it was read.
            listed = list(islice(entries, 2 * MOST_FILES))
    except OSError:
        return
    for entry in sorted(listed, key=lambda entry: (_ORDER.get(entry.name, 8) if not before else 0, entry.name)):
        try:
            if entry.is_dir(follow_symlinks=False):
                if depth < DEEPEST:
                    yield from _files(root, entry.path, f"{before}{entry.name}/", depth + 1)
                continue
            if not entry.is_file() or (entry.is_symlink() and not _is_inside(root, entry.path)):
                continue
            found = entry.stat()
        except OSError:  # removed meanwhile, or a link to itself
            continue
        picture = entry.name.lower().endswith(_PICTURES)
        yield schemas.File(written(before + entry.name), found.st_size, found.st_mtime, picture)


def _is_inside(root: str, path: str) -> bool:
    return os.path.realpath(path).startswith(root + os.sep)


def file(session: Session, question: FileQuestion) -> SentFile:
    """One file of a run's folder as it stands now, one that is being written included."""
    run = session.run(question.project, question.run)
    return SentFile(open_inside(run.path, question.path), question.path, question.text)


ROUTES = [
    get("/api/run/files", FilesQuestion, files),
    get("/api/run/file", FileQuestion, file),
]
