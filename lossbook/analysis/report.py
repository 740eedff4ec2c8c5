"""Writes and refreshes `EXPERIMENT_LOG.md`: generated results, and what a person writes between them.

A generated part stands between two lines of its own, `<!-- lossbook:begin NAME ... -->` and
`<!-- lossbook:end NAME -->`. A refresh replaces what is between them and leaves every other byte of the file as it
is, wherever a person moved the parts. Experiments that are new are put above the line `<!-- lossbook:next ... -->`.
"""

from __future__ import annotations

import math
import os
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import quote

from lossbook.errors import DamagedFile, LossbookError, StoreError
from lossbook.formatting import duration, number, printable
from lossbook.json_shapes import JsonMapping, number_or_none
from lossbook.metrics import goal_of

if TYPE_CHECKING:
    from lossbook.reading import RecordedRun

_MARKER = re.compile(r"\s*<!--\s*lossbook:(?P<verb>[a-z]*)(?:[ \t]+(?P<key>[^\s<>]+))?(?P<rest>.*?)-->\s*\Z")
_LOOKS_LIKE_MARKER = re.compile(r"\s*<!--\s*lossbook:")
_RESULTS = "results"
_NEXT = "<!-- lossbook:next (new experiments are put above this line) -->"
_PLACE = "<!-- Write here what you think of this experiment: a refresh leaves it alone. -->"
_GONE = "*Not among the experiments of the last refresh: what stands here is from an earlier one.*"
_PLACES = (
    ("Observations", "What was seen, and what it may mean."),
    ("Findings", "What is known now that was not known before."),
    ("Planned experiments", "What to try next, and why."),
)
#: Settings of the table of results at the most: a name or the like says nothing about why one is better.
_MOST_SETTINGS = 8
_NEVER_IN_TABLE = ("experiment_name", "name", "run_name", "timestamp", "notes", "tags")
_TRIES = 3


@dataclass(frozen=True)
class ReportEntry:
    """One experiment of a report.

    Attributes:
        name: its heading.
        started, ended: Unix seconds; None where that is not known, or it has not ended.
        state: such as "finished" or "running".
        duration_seconds: how long it trained, None where that is not known.
        config: what it was run with; only what differs between the experiments is shown.
        results: figures by their name, in their order; None where there is none.
        notes: what was noted about it, lines of plain text.
        link: the run's folder or the log's file; its last two parts tell the experiment from others of its name.
    """

    name: str
    started: float | None
    ended: float | None
    state: str
    duration_seconds: float | None
    config: JsonMapping = field(default_factory=dict)
    results: dict[str, float | None] = field(default_factory=dict)
    notes: str = ""
    link: str = ""


def entries_of_runs(runs: Iterable[RecordedRun]) -> list[ReportEntry]:
    """What a report says of recorded runs: their losses, speed, time, and what was noted while they trained."""
    from lossbook.analysis.compare import compare_runs

    chosen = list(runs)
    compared = {row["path"]: row for row in compare_runs(chosen).rows} if chosen else {}
    return [_entry(run, compared[run.path]) for run in chosen]


def _entry(run: RecordedRun, row: JsonMapping) -> ReportEntry:
    names = {
        "best val loss": "best_val_loss",
        "final val loss": "final_val_loss",
        "best train loss": "best_train_loss",
        "final train loss": "final_train_loss",
        "tokens/s": "tokens_per_second",
        "gradient steps": "gradient_steps",
        "tokens": "tokens_seen",
    }
    try:
        remarks = [str((one["value"] or {}).get("text") or "") for one in run.events("note")]
    except LossbookError:
        # A damaged run is reported by `lossbook verify`; its figures still belong in the log.
        remarks = []
    return ReportEntry(
        name=run.name,
        started=run.created,
        ended=run.ended,
        state=run.state,
        duration_seconds=number_or_none(row["wallclock_seconds"]),
        config=run.config,
        results={title: number_or_none(row[name]) for title, name in names.items()},
        notes="\n".join(one for one in [run.notes or "", *remarks] if one.strip()),
        link=run.path,
    )


def write_report(entries: Sequence[ReportEntry], path: str | os.PathLike[str] = "EXPERIMENT_LOG.md") -> str:
    """Write an experiment log, or refresh the generated parts of the one that is there.

    Experiments stand in the order in which they began; those that the file has keep their place, and those that are
    not among `entries` any more keep what the file says of them. A file that would not change is not written. The
    file is replaced in one step.

    Returns:
        The path of the file.

    Raises:
        DamagedFile: a marker line of the file is damaged; the message has its number, and nothing was written.
        StoreError: the file cannot be read or written, or somebody else keeps changing it.
    """
    from lossbook.paths import replace_file

    shown = os.fspath(path)
    # The file that a symbolic link names is replaced, not the link.
    target = os.path.realpath(shown)
    if os.path.exists(target) and not os.path.isfile(target):
        raise StoreError(f"{shown} is no ordinary file: name another one for the report")
    for _ in range(_TRIES):
        before = _read(target, shown)
        contents = refreshed(before, entries, shown)
        if contents == before:
            return shown
        # An editor may have saved in the meantime: what a person wrote is not overwritten.
        if _read(target, shown) != before:
            continue
        try:
            replace_file(target, contents)
        except OSError as error:
            raise StoreError(f"{shown} cannot be written ({error.strerror or error})") from None
        return shown
    raise StoreError(f"{shown} is being changed by somebody else: save it there, then refresh it again")


def _read(target: str, shown: str) -> bytes | None:
    try:
        with open(target, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreError(f"{shown} cannot be read ({error.strerror or error})") from None


# -- the file -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Part:
    """A generated part: its key, and where its lines begin and end (the marker lines included)."""

    key: str
    first: int
    last: int


def refreshed(before: bytes | None, entries: Sequence[ReportEntry], shown: str) -> bytes:
    folder = os.path.dirname(os.path.abspath(shown))
    keyed = _keyed(sorted(entries, key=lambda entry: entry.started or 0.0))
    generated = {_RESULTS: _results_table(keyed)}
    generated.update(_sections(keyed, folder))
    if before is None:
        return ("\n".join(_new_file(generated)) + "\n").encode("utf-8", "replace")
    try:
        text = before.decode("utf-8")
    except UnicodeDecodeError as error:
        line = before[: error.start].count(b"\n") + 1
        raise DamagedFile(f"{shown} line {line}: this is no UTF-8 text; save the file as UTF-8") from None
    # Split at "\n" alone: a line of the file keeps its own end, whatever it is.
    lines = text.split("\n")
    parts, place = _find_parts(lines, shown)
    end = "\r" if lines[0].endswith("\r") else ""
    ours = {key: [line + end for line in body] for key, body in generated.items()}
    return "\n".join(_replaced(lines, parts, place, ours, end)).encode("utf-8", "replace")


def _new_file(generated: Mapping[str, Sequence[str]]) -> list[str]:
    lines = ["# Experiment log", "", "## Results", "", *_block(_RESULTS, generated[_RESULTS]), ""]
    for title, what in _PLACES:
        lines += [f"## {title}", "", f"<!-- {what} -->", ""]
    lines += ["## Experiments", ""]
    for key, body in generated.items():
        if key != _RESULTS:
            lines += _new_section(key, body)
    return [*lines, _NEXT]


def _new_section(key: str, body: Sequence[str]) -> list[str]:
    return [*_block(key, body), "", _PLACE, ""]


def _block(key: str, body: Sequence[str]) -> list[str]:
    return [f"<!-- lossbook:begin {key} (generated: write outside of it) -->", *body, f"<!-- lossbook:end {key} -->"]


def _find_parts(lines: Sequence[str], shown: str) -> tuple[list[_Part], int | None]:
    """The generated parts of a file in their order, and the line above which new experiments go."""
    parts: dict[str, _Part] = {}
    opened: tuple[str, int] | None = None
    place: int | None = None

    def damaged(at: int, what: str) -> DamagedFile:
        return DamagedFile(f"{shown} line {at + 1}: {what}; nothing was changed, mend or delete that line first")

    for at, line in enumerate(lines):
        if not _LOOKS_LIKE_MARKER.match(line):
            continue
        marker = _MARKER.match(line)
        verb, key = (marker["verb"], marker["key"]) if marker is not None else ("", None)
        if verb == "next":
            if opened is not None:
                raise damaged(at, f"this marker stands inside the generated part {opened[0]!r}")
            if place is not None:
                raise damaged(at, f"this marker stands in line {place + 1} already")
            place = at
        elif verb == "begin" and key:
            if opened is not None:
                raise damaged(opened[1], f"the generated part {opened[0]!r} begins here and does not end")
            if key in parts:
                raise damaged(at, f"the generated part {key!r} stands in line {parts[key].first + 1} already")
            opened = key, at
        elif verb == "end" and key:
            if opened is None or opened[0] != key:
                raise damaged(at, f"the generated part {key!r} ends here and does not begin")
            parts[key] = _Part(key, opened[1], at)
            opened = None
        else:
            raise damaged(at, "this marker of a generated part is damaged")
    if opened is not None:
        raise damaged(opened[1], f"the generated part {opened[0]!r} begins here and does not end")
    return list(parts.values()), place


def _replaced(
    lines: Sequence[str], parts: Sequence[_Part], place: int | None, generated: Mapping[str, Sequence[str]], end: str
) -> list[str]:
    """The lines of the file with its parts made anew; `end` is what our own lines end with."""
    known = {part.key for part in parts}
    new: list[str] = []
    for key, body in generated.items():
        if key not in known | {_RESULTS}:
            new += [line if line.endswith(end) else line + end for line in _new_section(key, body)]
    starts = {part.first: part for part in parts}
    result: list[str] = []
    at = 0
    while at < len(lines):
        part = starts.get(at)
        if part is not None:
            body = generated.get(part.key) or _as_gone(lines[part.first + 1 : part.last], end)
            result += [lines[part.first], *body, lines[part.last]]
            at = part.last + 1
            continue
        if at == place:
            result += new
        result.append(lines[at])
        at += 1
    if place is None and new:
        last = result.pop()
        result += [*([last + end] if last else []), end, *new, _NEXT + end, ""]
    if _RESULTS in known:
        return result
    table = [line if line.endswith(end) else line + end for line in _block(_RESULTS, generated[_RESULTS])]
    # Below the title of a file that has one.
    title = next((at + 1 for at, line in enumerate(result[:20]) if line.startswith("# ")), 0)
    return [*result[:title], *([end] if title else []), f"## Results{end}", end, *table, end, *result[title:]]


def _as_gone(body: Sequence[str], end: str) -> list[str]:
    if not body or any(line.strip() == _GONE for line in body):
        return list(body)
    return [body[0], end, _GONE + end, *body[1:]]


# -- what is generated --------------------------------------------------------------------------------------------


def _keyed(entries: Sequence[ReportEntry]) -> dict[str, ReportEntry]:
    """Each experiment under a key that stays the same when it is renamed or the whole folder is moved."""
    keyed: dict[str, ReportEntry] = {}
    for entry in entries:
        parts = [part for part in entry.link.replace("\\", "/").split("/") if part not in ("", ".", "..")]
        begun = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(entry.started)) if entry.started is not None else ""
        key = base = quote("/".join(parts[-2:]) or f"{entry.name} {begun}".strip(), safe="/:._-").replace("--", "-%2D")
        count = 1
        while key in keyed or key == _RESULTS:
            count += 1
            key = f"{base}#{count}"
        keyed[key] = entry
    return keyed


def _results_table(keyed: Mapping[str, ReportEntry]) -> list[str]:
    """The table of all results, sorted by the first of them, the best first where that is known."""
    from lossbook.analysis.compare import differing_settings, flatten_settings
    from lossbook.analysis.comparison import show_value
    from lossbook.analysis.table_formats import Cells, markdown

    entries = list(keyed.values())
    if not entries:
        return ["No experiment has been recorded yet."]
    names = [name for name in _result_names(entries) if any(_known(entry.results.get(name)) for entry in entries)]
    settings = differing_settings([entry.config for entry in entries])
    settings = [name for name in settings if name not in _NEVER_IN_TABLE][:_MOST_SETTINGS]
    if names:
        goal = goal_of(names[0].replace(" ", "_"))
        known = [entry for entry in entries if _known(entry.results.get(names[0]))]
        rest = [entry for entry in entries if not _known(entry.results.get(names[0]))]
        if goal is not None:
            known.sort(key=lambda entry: float(entry.results[names[0]] or 0.0), reverse=goal == "maximize")
        entries = known + rest
    rows = []
    for entry in entries:
        flat = dict(flatten_settings(entry.config))
        shown = [show_value(flat.get(name), "setting") for name in settings]
        shown += [show_value(entry.results.get(name), _kind(name)) for name in names]
        rows.append((printable(entry.name), entry.state, *shown, duration(entry.duration_seconds)))
    titles = ("experiment", "state", *settings, *names, "duration")
    right = (False, False, *(False,) * len(settings), *(True,) * len(names), True)
    return markdown(Cells(titles, right, (5,) * len(titles), tuple(rows))).splitlines()


def _result_names(entries: Iterable[ReportEntry]) -> list[str]:
    return list(dict.fromkeys(name for entry in entries for name in entry.results))


def _known(value: float | None) -> bool:
    return value is not None and not math.isnan(value)


def _kind(name: str) -> str:
    lowered = name.lower()
    if "second" in lowered and "per" not in lowered:
        return "seconds"
    return "rate" if any(word in lowered for word in ("token", "step")) else "value"


def _sections(keyed: Mapping[str, ReportEntry], folder: str) -> dict[str, list[str]]:
    from lossbook.analysis.compare import differing_settings

    differing = set(differing_settings([entry.config for entry in keyed.values()])) if len(keyed) > 1 else None
    return {key: _section(entry, differing, folder) for key, entry in keyed.items()}


def _section(entry: ReportEntry, differing: set[str] | None, folder: str) -> list[str]:
    """What is generated about one experiment; `differing` None where there is no other one."""
    from lossbook.analysis.compare import flatten_settings
    from lossbook.analysis.comparison import show_value

    begun = _moment(entry.started)
    facts = [entry.state]
    if begun:
        facts.append(f"began {begun}")
    if entry.ended is not None:
        facts.append(f"ended {_moment(entry.ended)}")
    if entry.duration_seconds is not None:
        facts.append(f"took {duration(entry.duration_seconds)}")
    lines = [f"### {_inline(entry.name)}", "", f"{', '.join(facts)}."]
    if entry.link:
        lines[-1] += f" Recorded in `{printable(_shown_link(entry.link, folder)).replace('`', '')}`."
    settings = [
        (name, value) for name, value in flatten_settings(entry.config) if differing is None or name in differing
    ]
    for title, pairs in (
        (
            "Configuration" if differing is None else "Configuration that differs",
            [(name, show_value(value, "setting")) for name, value in settings],
        ),
        ("Results", [(name, number(value, 7)) for name, value in entry.results.items() if value is not None]),
    ):
        if pairs:
            lines += ["", f"{title}:", "", *(f"- {_inline(name)}: {_inline(text)}" for name, text in pairs)]
    noted = [printable(line) for line in entry.notes.splitlines()]
    if any(line.strip() for line in noted):
        lines += ["", "Notes:", "", *(f"> {line.replace('<!--', '&lt;!--')}".rstrip() for line in noted)]
    return lines


def _moment(seconds: float | None) -> str:
    """A moment in UTC: a log that is kept in version control must not depend on who refreshes it."""
    if seconds is None:
        return ""
    if seconds == 0:
        return "unknown"
    try:
        return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(seconds))
    except (OverflowError, ValueError, OSError):
        return number(seconds)


def _shown_link(link: str, folder: str) -> str:
    return os.path.relpath(link, folder) if os.path.isabs(link) else link


def _inline(text: str) -> str:
    from lossbook.analysis.table_formats import markdown_text

    return markdown_text(printable(text))
