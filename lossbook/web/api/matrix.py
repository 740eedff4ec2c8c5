"""The same quantity of many layers at once: which series belong together, and all of them as one picture."""

from __future__ import annotations

from dataclasses import dataclass

from lossbook.curves import layer_families
from lossbook.errors import BadArgument
from lossbook.web import schemas
from lossbook.web.binary import Frame
from lossbook.web.routing import get, post
from lossbook.web.session import Session

MOST_KEYS = 5_000
MOST_CELLS = 1_000_000


@dataclass(frozen=True)
class FamiliesQuestion:
    project: str
    run: str


def families(session: Session, question: FamiliesQuestion) -> schemas.Families:
    """Series that are the same quantity of different layers or parameters."""
    run = session.run(question.project, question.run)
    return schemas.Families(
        [
            schemas.Family(
                pattern=family.pattern,
                keys=[member.key for member in family.members],
                labels=[member.label for member in family.members],
            )
            for family in layer_families(run.keys())
        ]
    )


def matrix(session: Session, question: schemas.MatrixRequest) -> Frame:
    """Many series on one axis, each cut into the same columns.

    Raises:
        BadArgument: too many cells, or none.
        UnknownKey: the run never logged one of the keys.
    """
    keys = list(dict.fromkeys(question.keys))
    if not 1 <= len(keys) <= MOST_KEYS:
        raise BadArgument(f"{len(keys):,} keys: a picture of layers has 1 to {MOST_KEYS:,} rows")
    if question.columns < 1 or len(keys) * question.columns > MOST_CELLS:
        raise BadArgument(f"{len(keys):,} keys in {question.columns:,} columns: {MOST_CELLS:,} cells are the most")
    run = session.run(question.project, question.run)
    found = run.matrix(keys, x=question.x, columns=question.columns, start=question.start, end=question.end)
    header = schemas.MatrixHeader(
        keys=list(found.keys), columns=len(found.edges) - 1, x=question.x, beyond=found.beyond
    )
    return Frame(header, [found.edges, found.mean, found.min, found.max, found.count, found.nonfinite])


ROUTES = [
    get("/api/run/families", FamiliesQuestion, families),
    post("/api/run/matrix", schemas.MatrixRequest, matrix),
]
