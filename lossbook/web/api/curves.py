"""Curves, bands of seeds and the marks on them: many in one question, each failing alone."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from lossbook.errors import BadArgument, LossbookError
from lossbook.json_shapes import JsonObject
from lossbook.web import schemas
from lossbook.web.api.events import pages_of
from lossbook.web.binary import Array, Frame
from lossbook.web.routing import is_awaited, post
from lossbook.web.session import Session

if TYPE_CHECKING:
    from lossbook.reading import RecordedRun

FIELDS = ("x", "x_end", "first", "last", "min", "max", "min_x", "max_x", "mean", "count", "nonfinite")
BAND_FIELDS = ("x", "mean", "low", "high", "count")
MOST_SERIES = 2000
MOST_POINTS = 20_000
#: So many points has one answer (88 bytes each), whatever was asked for: more series have fewer each.
MOST_DRAWN = 250_000
#: Marks of one kind of one run: beyond that they are spread evenly over its steps.
MOST_MARKS = 200
_MARKED = ("checkpoint", "stage", "alert", "note")

_log = logging.getLogger("lossbook.web")
Asked = TypeVar("Asked")
Drawn = TypeVar("Drawn")


def curves(session: Session, question: schemas.CurvesRequest) -> Frame:
    """Draw many series on one axis; of `start` and `end`, only rows between them."""
    points = _points(question, len(question.series))

    def draw(series: schemas.SeriesRequest) -> tuple[schemas.CurveHeader, list[Array]]:
        attempts, state = 0, ""
        try:
            run = session.run(series.project, series.run)
            attempts, state = run.record.attempts, run.state
            starts = [one for one in (question.start, series.start) if one is not None]
            curve = run.curve(
                series.key,
                x=question.x,
                points=points,
                start=max(starts, default=None),
                end=question.end,
                attempt=series.attempt,
                smoothing=question.smoothing,
            )
        except Exception as error:
            sentence = _sentence(error, series.key)
            return schemas.CurveHeader(series.project, series.run, series.key, None, 0, attempts, state, sentence), []
        header = schemas.CurveHeader(series.project, series.run, series.key, curve.key, len(curve), attempts, state)
        return header, [getattr(curve, name) for name in FIELDS]

    drawn = _drawn_together(session, draw, question.series)
    header = schemas.CurvesHeader(list(FIELDS), question.x, [one for one, _ in drawn])
    return Frame(header, [array for _, arrays in drawn for array in arrays])


def bands(session: Session, question: schemas.BandsRequest) -> Frame:
    """Mean and range over the runs of each group."""
    from lossbook.analysis import seed_band

    if sum(len(group.runs) for group in question.groups) > MOST_SERIES:
        raise BadArgument(f"the groups have more than {MOST_SERIES:,} runs together: choose fewer")
    points = _points(question, len(question.groups))

    def draw(group: schemas.BandGroup) -> tuple[schemas.BandHeader, list[Array]]:
        try:
            band = seed_band(
                [session.run(group.project, run) for run in group.runs],
                question.key,
                x=question.x,
                points=points,
                start=question.start,
                end=question.end,
                smoothing=question.smoothing,
                confidence=None,  # the page draws the range alone
            )
        except Exception as error:
            return schemas.BandHeader(group.name, 0, len(group.runs), _sentence(error, question.key)), []
        return schemas.BandHeader(group.name, len(band), len(group.runs)), [getattr(band, name) for name in BAND_FIELDS]

    drawn = _drawn_together(session, draw, question.groups)
    header = schemas.BandsHeader(list(BAND_FIELDS), question.x, [one for one, _ in drawn])
    return Frame(header, [array for _, arrays in drawn for array in arrays])


def _points(question: schemas.CurvesRequest | schemas.BandsRequest, lines: int) -> int:
    """How many points each line gets.

    Raises:
        BadArgument: there are too many lines or points, or the range or the smoothing cannot be meant.
    """
    from lossbook.curves import parse_smoothing

    if lines > MOST_SERIES:
        raise BadArgument(f"{lines:,} series are too many at once: {MOST_SERIES:,} are the most")
    if not 1 <= question.points <= MOST_POINTS:
        raise BadArgument(f"points={question.points}: a curve has 1 to {MOST_POINTS:,} points here")
    if question.start is not None and question.end is not None and question.start > question.end:
        raise BadArgument(f"start={question.start} is beyond end={question.end}")
    parse_smoothing(question.smoothing)
    return max(1, min(question.points, MOST_DRAWN // max(1, lines)))


def _drawn_together(session: Session, draw: Callable[[Asked], Drawn], asked: Sequence[Asked]) -> list[Drawn]:
    """Draw on the session's threads, in order; for nobody when whoever asked has gone."""
    if len(asked) == 1:
        return [draw(asked[0])]
    awaited = is_awaited()

    def draw_if_awaited(one: Asked) -> Drawn:
        if not awaited():
            raise BadArgument("nobody waits for these curves any more")
        return draw(one)

    return list(session.drawers.map(draw_if_awaited, asked))


def _sentence(error: Exception, key: str) -> str:
    if isinstance(error, LossbookError):
        return str(error)
    if isinstance(error, MemoryError):
        return "there is not enough memory to draw it: ask for fewer series at once"
    _log.error("%s could not be drawn", key, exc_info=error)
    return f"something went wrong inside Lossbook ({type(error).__name__}: {error})"


# -- marks --------------------------------------------------------------------------------------------------------


def marks(session: Session, question: schemas.MarksRequest) -> schemas.Marks:
    """What happened in some runs, at its place on the axis of a curve; a run without that curve has no marks."""
    if len(question.runs) > MOST_SERIES:
        raise BadArgument(f"{len(question.runs):,} runs are too many at once: {MOST_SERIES:,} are the most")

    def find(id: str) -> list[schemas.Mark]:
        try:
            run = session.run(question.project, id)
            return _marks_of(session, run, question.key, question.x)
        except LossbookError:
            return []

    found = _drawn_together(session, find, question.runs)
    return schemas.Marks([mark for marks in found for mark in marks])


def _marks_of(session: Session, run: RecordedRun, key: str, x: str) -> list[schemas.Mark]:
    events = [*_beginnings(run)]
    pages = pages_of(session, run)
    counts = pages.count_kinds()
    few = [kind for kind in _MARKED if 0 < counts.get(kind, 0) <= MOST_MARKS]
    many = [kind for kind in _MARKED if counts.get(kind, 0) > MOST_MARKS]
    for kinds in ([few] if few else []) + [[kind] for kind in many]:
        events += pages.choose(kinds, limit=MOST_MARKS * len(kinds), thin=True).events
    if not events:
        return []
    places = run.place_events(events, key, x)
    return [
        _mark(run.id, event, float(place)) for event, place in zip(events, places, strict=True) if math.isfinite(place)
    ]


def _beginnings(run: RecordedRun) -> Iterable[dict[str, Any]]:
    """Where the run was forked off, and where its later attempts began, as events."""
    info = run.info
    if info.parent is not None:
        step = info.parent.step or 0
        text = f"of {info.parent.run} at step {step:,}"
        yield _event("fork", step, run.created, 0, {"title": "fork", "text": text})
    for attempt in info.attempts:
        if attempt.number == 0:
            continue
        step_then = attempt.resume_step
        text = "begun again" if step_then is None else f"resumed from step {step_then:,}"
        value: JsonObject = {"title": f"attempt {attempt.number + 1}", "text": text}
        yield _event("attempt", step_then, (attempt.started or 0) / 1e6, attempt.number, value)


def _event(kind: str, step: int | None, time: float, attempt: int, value: JsonObject) -> dict[str, Any]:
    return {"kind": kind, "step": step, "time": time, "attempt": attempt, "value": value}


def _mark(run: str, event: dict[str, Any], x: float) -> schemas.Mark:
    kind, value = event["kind"], event["value"] if isinstance(event["value"], dict) else {}
    title, text, level = str(value.get("title", "")), str(value.get("text", "")), "info"
    if kind == "checkpoint":
        title, text = "best checkpoint" if value.get("is_best") else "checkpoint", str(value.get("path", ""))
    elif kind == "stage":
        title = str(value.get("name", ""))
    elif kind == "note":
        title = "note"
    elif kind == "alert":
        level = str(value.get("level") or "warning")
    return schemas.Mark(run, kind, x, event["step"], float(event["time"]), title, text, level)


ROUTES = [
    post("/api/curves", schemas.CurvesRequest, curves),
    post("/api/bands", schemas.BandsRequest, bands),
    post("/api/marks", schemas.MarksRequest, marks),
]
