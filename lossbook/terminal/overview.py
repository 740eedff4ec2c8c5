"""What there is to say about one run: facts, configuration, summary, metrics, alerts, notes, problems; as text.

Texts are as they were written by people and programs; whoever shows them makes them harmless.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lossbook.errors import LossbookError
from lossbook.formatting import age, clock, duration, flatten, number
from lossbook.metrics import importance_of
from lossbook.run_info import Git

if TYPE_CHECKING:
    from lossbook.reading import RecordedRun
    from lossbook.run_info import RunInfo
    from lossbook.storage import MetricStatistics

_SHOWN_EVENTS = 200
_NODE = re.compile(r"/node_(\d+)$")


@dataclass(frozen=True)
class Section:
    """A heading and lines of a name and a text."""

    title: str
    entries: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Overview:
    """One run in words.

    Attributes:
        host: of rank 0's node, empty where it is not known.
        node_ranks: the first rank of each node that wrote series of its own, rank 0's included.
    """

    name: str
    id: str
    state: str
    error: str | None
    host: str
    node_ranks: tuple[int, ...]
    sections: tuple[Section, ...]


def read_overview(run: RecordedRun, *, brief: bool = False) -> Overview:
    """Read what is known of a run as it stands now.

    Args:
        brief: without the sections.
    """
    info = run.known_info
    nodes = {int(found[1]) for key in run.record.metrics if (found := _NODE.search(key)) is not None}
    sections = () if brief else _sections(run, info)
    host = info.host.name or ""
    return Overview(run.name, run.id, run.state, run.error, host, (0, *sorted(nodes - {0})), sections)


def _sections(run: RecordedRun, info: RunInfo) -> tuple[Section, ...]:
    sections = [Section("run", tuple(_facts(run, info)))]
    if run.notes:
        sections.append(Section("notes", tuple(("", line) for line in str(run.notes).splitlines())))
    try:
        events = run.events()
    except LossbookError:
        events = []
    for kind, title in (
        ("alert", "alerts"),
        ("note", "remarks"),
        ("checkpoint", "checkpoints"),
        ("warning", "warnings"),
    ):
        these = [one for one in events if one["kind"] == kind][-_SHOWN_EVENTS:]
        if these:
            sections.append(Section(title, tuple((_when(one), _event_text(kind, one)) for one in reversed(these))))
    for title, values in (("config", run.config), ("summary", run.summary)):
        entries = tuple((key, _text(value)) for key, value in flatten(values))
        if entries:
            sections.append(Section(title, entries))
    metrics = run.record.metrics
    keys = sorted(metrics, key=lambda key: (importance_of(key), key))
    if keys:
        sections.append(Section("metrics", tuple((key, _statistics(metrics[key])) for key in keys)))
    problems = run.record.problems
    if problems:
        sections.append(Section("problems", tuple(("", one) for one in problems)))
    return tuple(sections)


def _facts(run: RecordedRun, info: RunInfo) -> list[tuple[str, str]]:
    took = "running for" if run.state == "running" else "took"
    facts = [
        ("project", run.project),
        ("id", run.id),
        ("started", f"{clock(run.created)}, {took} {duration(run.duration)}"),
    ]
    if run.ended is not None:
        facts.append(("ended", age(run.ended)))
    git = info.git or Git()
    for title, text in (
        ("group", run.group),
        ("tags", ", ".join(str(tag) for tag in run.tags)),
        ("attempts", str(len(info.attempts)) if len(info.attempts) > 1 else ""),
        ("host", info.host.name or ""),
        ("command", " ".join(info.argv)),
        ("git", (git.commit or "")[:12] + (f" on {git.branch}" if git.branch else "")),
        ("folder", run.path),
    ):
        if text:
            facts.append((title, str(text)))
    return facts


def _when(event: dict[str, Any]) -> str:
    return f"step {event['step']}" if event.get("step") is not None else clock(event.get("time"))


def _event_text(kind: str, event: dict[str, Any]) -> str:
    value = event.get("value") or {}
    if kind == "checkpoint":
        return f"{value.get('path')}{'  (best)' if value.get('is_best') else ''}"
    if kind == "alert":
        text = f": {value['text']}" if value.get("text") else ""
        return f"{value.get('level') or 'warning'}: {value.get('title')}{text}"
    return str(value.get("text") or value.get("message") or "")


def _text(value: Any) -> str:
    return str(value) if isinstance(value, (list, tuple, dict)) else number(value, 9)


def _statistics(one: MetricStatistics) -> str:
    odd = f", {one.nonfinite} not finite" if one.nonfinite else ""
    return f"{number(one.last)}   min {number(one.min)}  max {number(one.max)}  of {one.count}{odd}"
