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

if TYPE_CHECKING:
    from lossbook.reading.run import RecordedRun

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
    try:
        identity = run.identity
    except LossbookError:
        identity = {}
    nodes = {int(found[1]) for key in run.record["metrics"] if (found := _NODE.search(key)) is not None}
    sections = () if brief else _sections(run, identity)
    host = str((identity.get("host") or {}).get("name") or "")
    return Overview(run.name, run.id, run.state, run.error, host, (0, *sorted(nodes - {0})), sections)


def _sections(run: RecordedRun, identity: dict[str, Any]) -> tuple[Section, ...]:
    sections = [Section("run", tuple(_facts(run, identity)))]
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
    metrics = run.record["metrics"]
    keys = sorted(metrics, key=lambda key: (importance_of(key), key))
    if keys:
        sections.append(Section("metrics", tuple((key, _statistics(metrics[key])) for key in keys)))
    problems = [*run.record["problems"]]
    if problems:
        sections.append(Section("problems", tuple(("", str(one)) for one in problems)))
    return tuple(sections)


def _facts(run: RecordedRun, identity: dict[str, Any]) -> list[tuple[str, str]]:
    took = "running for" if run.state == "running" else "took"
    facts = [
        ("project", run.project),
        ("id", run.id),
        ("started", f"{clock(run.created)}, {took} {duration(run.duration)}"),
    ]
    if run.ended is not None:
        facts.append(("ended", age(run.ended)))
    git = identity.get("git") or {}
    host = identity.get("host") or {}
    argv = identity.get("argv") or []
    attempts = identity.get("attempts") or []
    for title, text in (
        ("group", run.group),
        ("tags", ", ".join(str(tag) for tag in run.tags)),
        ("attempts", str(len(attempts)) if len(attempts) > 1 else ""),
        ("host", str(host.get("name") or "")),
        ("command", " ".join(str(word) for word in argv)),
        ("git", str(git.get("commit") or "")[:12] + (f" on {git['branch']}" if git.get("branch") else "")),
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


def _statistics(one: dict[str, Any]) -> str:
    odd = f", {one['nonfinite']} not finite" if one.get("nonfinite") else ""
    return f"{_number(one['last'])}   min {_number(one['min'])}  max {_number(one['max'])}  of {one['count']}{odd}"


def _number(value: Any) -> str:
    return value if isinstance(value, str) else number(value)
