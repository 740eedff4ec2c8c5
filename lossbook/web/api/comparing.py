"""Runs side by side."""

from __future__ import annotations

from lossbook.analysis import differing_settings, flatten_settings
from lossbook.errors import BadArgument
from lossbook.metrics import goal_of, role_of
from lossbook.web import schemas
from lossbook.web.routing import post
from lossbook.web.session import Session

MOST_RUNS = 1_000
MOST_LOSSES = 10


def compare(session: Session, question: schemas.CompareRequest) -> schemas.Compared:
    """Hold runs against one another, the best first.

    Raises:
        BadArgument: there are more than `MOST_RUNS`, or more than `MOST_LOSSES` losses to be reached.
    """
    if len(question.runs) > MOST_RUNS:
        raise BadArgument(
            f"{len(question.runs):,} runs: at most {MOST_RUNS:,} are compared at once; choose some of them"
        )
    if len(question.losses) > MOST_LOSSES:
        raise BadArgument(f"{len(question.losses)} losses to be reached: at most {MOST_LOSSES} are looked for at once")
    runs = [session.run(question.project, run) for run in question.runs]
    baseline = session.run(question.project, question.baseline) if question.baseline is not None else None
    found = session.book.compare(
        runs, metric=question.metric, losses=question.losses, columns=question.columns, baseline=baseline
    )
    held = {run.id: run for run in ([baseline] if baseline is not None else []) + runs}
    order = [held[str(row["id"])] for row in found.rows]
    flat = [dict(flatten_settings(run.config)) for run in order]
    if question.every_setting:
        settings = list(dict.fromkeys(name for one in flat for name in one))
    else:
        settings = differing_settings([run.config for run in order])
    return schemas.Compared(
        metric=found.metric,
        goal=found.goal,
        baseline=found.baseline,
        columns=[
            schemas.ComparedColumn(name=one.name, title=one.title, kind=one.kind, goal=_goal(one.name, found.goal))
            for one in found.columns
        ],
        runs=[{**row} for row in found.run_rows()],
        settings=settings,
        config=[{name: one[name] for name in settings if name in one} for one in flat],
    )


def _goal(column: str, decided: str | None) -> str | None:
    """Which way a column is better; None where neither is."""
    if column in ("best", "final"):
        return decided
    if column.startswith(("seconds_to_", "tokens_to_", "step_of_")):
        return "minimize"
    # A clock or a counter tells nothing of how good a run is, whatever its name ends in.
    return goal_of(column) if role_of(column) is not None else None


ROUTES = [post("/api/compare", schemas.CompareRequest, compare)]
