"""The store as a whole: where it is, and its projects."""

from __future__ import annotations

from collections import Counter

from lossbook.trackers import SourceBook
from lossbook.web import schemas
from lossbook.web.routing import Nothing, get
from lossbook.web.session import Session


def store(session: Session, question: Nothing) -> schemas.Store:
    """Where the store is and what projects it has, those with the newest runs first."""
    import lossbook

    listing = session.listing()
    keys = listing.keys()
    runs, running, newest = Counter[str](), Counter[str](), dict[str, float]()
    for name, state, created in zip(*listing.columns(("project", "state", "created"), keys).values(), strict=True):
        if name is not None:
            runs[name] += 1
            running[name] += state == "running"
            newest[name] = max(newest.get(name, 0.0), created)
    source = session.book.source if isinstance(session.book, SourceBook) else None
    return schemas.Store(
        location=source.location if source is not None else session.book.store,
        source=source.kind if source is not None else None,
        version=lossbook.__version__,
        editable=session.editable,
        projects=[
            schemas.Project(str(name), runs[name], running[name], newest[name])
            for name in sorted(runs, key=lambda name: (-newest[name], name))
        ],
        unreadable=listing.unreadable(),
    )


ROUTES = [get("/api/store", Nothing, store)]
