"""The files of a run's folder: which there are, and one of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from lossbook.run_files import walk_run_files
from lossbook.web import schemas
from lossbook.web.file_response import SentFile, open_inside, written
from lossbook.web.routing import get
from lossbook.web.session import Session

MOST_FILES = 10_000
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
    path = session.run(question.project, question.run).path
    found = list(islice(_files(path), MOST_FILES + 1))
    return schemas.Files(files=found[:MOST_FILES], whole=len(found) <= MOST_FILES)


def _files(path: str) -> Iterator[schemas.File]:
    for one in walk_run_files(
        path, links_inside=True, most_entries=2 * MOST_FILES, order=lambda name: _ORDER.get(name, 8)
    ):
        picture = one.name.lower().endswith(_PICTURES)
        yield schemas.File(written(one.name), one.size_bytes, one.changed_ns / 1e9, picture)


def file(session: Session, question: FileQuestion) -> SentFile:
    """One file of a run's folder as it stands now, one that is being written included."""
    run = session.run(question.project, question.run)
    return SentFile(open_inside(run.path, question.path), question.path, question.text)


ROUTES = [
    get("/api/run/files", FilesQuestion, files),
    get("/api/run/file", FileQuestion, file),
]
