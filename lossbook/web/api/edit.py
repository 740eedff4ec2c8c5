"""Name, notes, tags and group of a run, changed as `lossbook rename`, `note` and `tag` change them."""

from __future__ import annotations

from lossbook.errors import BadArgument
from lossbook.reading import set_labels
from lossbook.web import schemas
from lossbook.web.routing import Forbidden, post
from lossbook.web.session import Session, row_of

#: In characters; what is longer was meant for another field.
LONGEST_NAME = 500
LONGEST_NOTES = 100_000
LONGEST_TAG = 200
MOST_TAGS = 200


def edit(session: Session, question: schemas.Change) -> schemas.RunRow:
    """Set what is given; the run as the table has it then.

    Raises:
        Forbidden: the dashboard only reads, or the runs are another tracker's.
        BadArgument: a name or a tag that cannot be; nothing is changed then.
        StoreError: the run's folder cannot be written.
    """
    if not session.editable:
        raise Forbidden("this dashboard only reads: start it with `lossbook serve --edit` to change runs")
    source = getattr(session.book, "source", None)
    if source is not None:
        from lossbook.trackers import only_read

        raise Forbidden(only_read(source.location))
    _check(question)
    run = session.run(question.project, question.run)
    set_labels(run.path, name=question.name, notes=question.notes, tags=question.tags, group=question.group)
    session.touch(question.project, question.run)
    return row_of(session.run(question.project, question.run).record)


def _check(change: schemas.Change) -> None:
    if all(one is None for one in (change.name, change.notes, change.tags, change.group)):
        raise BadArgument("nothing is to be changed: give a name, notes, tags or a group")
    for what, text, longest in (
        ("a name", change.name, LONGEST_NAME),
        ("a group", change.group, LONGEST_NAME),
        ("notes", change.notes, LONGEST_NOTES),
        *(("a tag", tag, LONGEST_TAG) for tag in change.tags or ()),
    ):
        if text is not None and len(text) > longest:
            raise BadArgument(f"{what} of {len(text):,} characters is too long: {longest:,} are the most")
    if len(change.tags or ()) > MOST_TAGS:
        raise BadArgument(f"{len(change.tags or ()):,} tags are too many: {MOST_TAGS} are the most")


ROUTES = [post("/api/edit", schemas.Change, edit, edits=True)]
