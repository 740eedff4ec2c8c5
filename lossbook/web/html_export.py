"""A copy: the page, and all that it would ask about some runs, in one HTML file that needs nobody to answer.

The answers are those of `lossbook.web.api`, so a copy shows what the served page shows. They are packed as a frame
(`lossbook.web.binary`): a header of JSON answers, then the arrays of all curves, each array kept once; gzip, base64.
`ui/src/html_export.ts` is the other half. What leaves the machine is what the page shows: no path of the store, no file but
pictures.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import os
import re
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from lossbook.errors import BadArgument, LossbookError, StoreError
from lossbook.run_files import read_run_file
from lossbook.web import schemas
from lossbook.web.api.code import CodeQuestion, code
from lossbook.web.api.comparing import compare
from lossbook.web.api.console import ConsoleQuestion, console
from lossbook.web.api.curves import FIELDS, marks
from lossbook.web.api.events import EventsQuestion, TableQuestion, events, table
from lossbook.web.api.gpus import GpusQuestion, gpus
from lossbook.web.api.matrix import FamiliesQuestion, families
from lossbook.web.api.project import NamesQuestion, RunsQuestion, names, runs
from lossbook.web.api.run import RunQuestion, run_page
from lossbook.web.routing import json_of
from lossbook.web.session import Session
from lossbook.web.static import STATIC

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from lossbook.book import Book
    from lossbook.reading import RecordedRun

#: Points of each curve where nobody says otherwise.
POINTS = 1000
#: Numbers in all curves together: what a browser opens without a thought.
MOST_NUMBERS = 16_000_000
#: A run with more series than that is drawn against its steps alone.
_MOST_ON_ALL_AXES = 200
_MOST_CONSOLE_LINES = 2_000
_MOST_CONSOLES = 8
_MOST_EVENTS = 2_000
_MOST_TABLES = 50
_MOST_TABLE_LINES = 1_000
_MOST_COLUMNS = 150
_MATRIX_COLUMNS = 120
_MOST_CELLS = 600_000
#: Pictures of all runs together.
MOST_MEDIA_BYTES = 24 << 20
_PICTURES = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".gif": "image/gif",
    ".webp": "image/webp",
}


@dataclass(frozen=True)
class HtmlPage:
    """What a copy holds, and a sentence for each thing that was left out of it."""

    text: bytes
    runs: int
    curves: int
    left_out: list[str]


@dataclass
class _Arrays:
    """The arrays of a copy, one behind the other; equal ones once."""

    parts: list[bytes] = field(default_factory=list)
    places: dict[bytes, int] = field(default_factory=dict)
    numbers: int = 0

    def add(self, array: ArrayLike) -> int:
        """Where the array begins, counted in numbers."""
        import numpy

        body = numpy.ascontiguousarray(array, dtype="<f8").tobytes()
        digest = hashlib.blake2b(body, digest_size=16).digest()
        place = self.places.get(digest)
        if place is None:
            place = self.places[digest] = self.numbers
            self.parts.append(body)
            self.numbers += len(body) // 8
        return place


def make_html_page(
    book: Book, chosen: Sequence[RecordedRun], *, keys: Sequence[str] | None = None, points: int = POINTS
) -> HtmlPage:
    """Make the page of some runs.

    Args:
        chosen: one run or more, of any projects.
        keys: only these metrics; None for all.
        points: of each curve at the most.

    Raises:
        BadArgument: there would be more numbers than a page can hold.
        StoreError: the page was not built.
    """
    script, style = _page_parts()
    session = Session(book)
    try:
        return _PageBuilder(session, chosen, keys, points).pack(script, style)
    finally:
        session.close()


class _PageBuilder:
    """One copy while it is made."""

    def __init__(
        self, session: Session, chosen: Sequence[RecordedRun], keys: Sequence[str] | None, points: int
    ) -> None:
        self.session, self.keys, self.points = session, keys, points
        self.arrays = _Arrays()
        self.curves: dict[str, dict[str, object]] = {}
        self.left_out: list[str] = []
        self.media_bytes = 0
        self.files: dict[str, str] = {}
        self.answers: dict[str, dict[str, object]] = {}
        self.projects: dict[str, list[str]] = {}
        for run in chosen:
            self.projects.setdefault(os.path.basename(os.path.dirname(run.path)), []).append(run.id)

    def pack(self, script: str, style: str) -> HtmlPage:
        tables: dict[str, schemas.Runs] = {}
        every_name: dict[str, schemas.Names] = {}
        compared: dict[str, schemas.Compared] = {}
        marked: dict[str, schemas.Marks] = {}
        pages: dict[str, schemas.RunPage] = {}
        matrices: dict[str, dict[str, object]] = {}
        metrics: dict[str, list[str]] = {}
        for folder, ids in self.projects.items():
            for id in ids:
                page = run_page(self.session, RunQuestion(folder, id))
                pages[id] = replace(page, path=page.row.id, followers=[], cwd=None)
                wanted = self._wanted(metric.key for metric in page.metrics)
                metrics[id] = wanted
                self._draw(folder, id, wanted, page.axes)
                marked |= self._mark(folder, id, wanted, page.axes)
                self._answer(folder, id, page)
                matrices |= self._layers(folder, id)
            # The page calls a project by the name that its runs give it.
            project = pages[ids[0]].project
            for name in {project, folder}:
                every_name[name] = self._names(folder, ids)
                tables[name] = self._table(folder, ids, every_name[name])
                compared |= self._compare(name, folder, ids)
        header = {
            "store": self._store(tables, pages),
            "runs": tables,
            "names": every_name,
            "metrics": metrics,
            "compared": compared,
            "curves": self.curves,
            "marks": marked,
            "pages": pages,
            "answers": self.answers,
            "files": self.files,
            "matrices": matrices,
        }
        text = json_of(header)
        text += b" " * (-(4 + len(text)) % 8)
        body = b"".join([struct.pack("<I", len(text)), text, *self.arrays.parts])
        packed = base64.b64encode(gzip.compress(body, 6, mtime=0)).decode()
        title = next(iter(pages.values())).row.name if len(pages) == 1 else f"{len(pages)} runs"
        return HtmlPage(_html(title, script, style, packed), len(pages), len(self.curves), self.left_out)

    # -- the project ------------------------------------------------------------------------------------------------

    def _store(self, tables: dict[str, schemas.Runs], pages: dict[str, schemas.RunPage]) -> schemas.Store:
        from lossbook import __version__

        projects = [
            schemas.Project(name, len(tables[name].rows), 0, max(row.created for row in tables[name].rows))
            for name in dict.fromkeys(page.project for page in pages.values())
        ]
        return schemas.Store("a copy", None, __version__, False, projects)

    def _names(self, project: str, ids: list[str]) -> schemas.Names:
        found = names(self.session, NamesQuestion(project, ids))
        if self.keys is None:
            return found
        wanted = set(self._wanted(metric.name for metric in found.metrics))
        return replace(found, metrics=[metric for metric in found.metrics if metric.name in wanted])

    def _table(self, project: str, ids: list[str], known: schemas.Names) -> schemas.Runs:
        metrics = [metric.name for metric in known.metrics[:_MOST_COLUMNS]]
        columns = [one.name for one in [*known.config, *known.summary]][: 4 * _MOST_COLUMNS]
        columns += [name for metric in metrics for name in (metric, f"{metric}.min", f"{metric}.max")]
        whole: dict[str, list[schemas.Value]] = {}
        for first in range(0, len(columns) or 1, _MOST_COLUMNS):
            asked = columns[first : first + _MOST_COLUMNS]
            found = runs(self.session, RunsQuestion(project, column=asked, run=ids))
            whole |= found.columns
        return replace(found, revision="copy", whole=True, columns=whole)

    def _compare(self, name: str, project: str, ids: list[str]) -> dict[str, schemas.Compared]:
        try:
            found = compare(self.session, schemas.CompareRequest(project, ids))
        except LossbookError:
            return {}  # runs that logged nothing have nothing to compare
        rows = [{column: value for column, value in run.items() if column != "path"} for run in found.runs]
        return {name: replace(found, runs=rows, columns=[one for one in found.columns if one.name != "path"])}

    # -- a run ------------------------------------------------------------------------------------------------------

    def _wanted(self, present: Iterable[str]) -> list[str]:
        from lossbook.metrics import find_key

        known = sorted(present)
        if self.keys is None:
            return known
        found = (find_key(key, set(known)) for key in self.keys)
        return list(dict.fromkeys(key for key in found if key is not None))

    def _draw(self, project: str, id: str, wanted: list[str], axes: list[str]) -> None:
        run = self.session.run(project, id)
        drawn = axes if len(wanted) <= _MOST_ON_ALL_AXES else axes[:1]
        for x in drawn:
            for key in wanted:
                try:
                    curve = run.curve(key, x=x, points=self.points)
                except LossbookError as error:
                    if x == axes[0]:
                        self.left_out.append(f"{run.name}: {error}")
                    continue
                self.curves[f"{id}\n{key}\n{x}"] = {
                    "found": curve.key,
                    "length": len(curve),
                    "attempts": run.record.attempts,
                    "arrays": [self.arrays.add(getattr(curve, name)) for name in FIELDS],
                }
                if self.arrays.numbers > MOST_NUMBERS:
                    raise BadArgument(
                        f"the curves have more than {MOST_NUMBERS:,} numbers, more than one page should: name fewer runs, "
                        "some metrics with --keys, or fewer points with --points"
                    )

    def _mark(self, project: str, id: str, wanted: list[str], axes: list[str]) -> dict[str, schemas.Marks]:
        if not wanted:
            return {}
        from lossbook.metrics import usual_keys

        key = (usual_keys(wanted) or wanted)[0]
        return {f"{id} {x}": marks(self.session, schemas.MarksRequest(project, [id], key, x)) for x in axes}

    def _answer(self, project: str, id: str, page: schemas.RunPage) -> None:
        kinds = [kind for kind in page.event_kinds if kind not in ("attempt", "finish", "config", "summary", "define")]
        happened = events(self.session, EventsQuestion(project, id, kind=kinds, limit=_MOST_EVENTS, thin=True))
        self._keep("/api/run/events", id, happened)
        if happened.left_out:
            self.left_out.append(f"{page.row.name}: {happened.left_out:,} of {happened.total:,} events")
        self._keep_media(project, id, happened.events)
        self._keep("/api/run/gpus", id, gpus(self.session, GpusQuestion(project, id)))
        self._keep("/api/run/code", id, code(self.session, CodeQuestion(project, id)))
        self._keep("/api/run/files", id, schemas.Files([]))
        self._keep("/api/run/families", id, families(self.session, FamiliesQuestion(project, id)))
        for rank in page.console_ranks[:_MOST_CONSOLES]:
            printed = console(self.session, ConsoleQuestion(project, id, rank, limit=_MOST_CONSOLE_LINES))
            self._keep("/api/run/console", f"{id} {rank}", printed)
        tables = [one for one in happened.events if one.kind == "table"]
        for one in tables[-_MOST_TABLES:]:
            try:
                lines = table(self.session, TableQuestion(project, id, one.row, one.rank, limit=_MOST_TABLE_LINES))
            except LossbookError as error:
                self.left_out.append(f"{page.row.name}: {error}")
                continue
            self._keep("/api/run/table", f"{id} {one.rank} {one.row}", lines)

    def _keep(self, path: str, name: str, answer: object) -> None:
        self.answers.setdefault(path, {})[name] = answer

    def _keep_media(self, project: str, id: str, happened: list[schemas.Event]) -> None:
        run = self.session.run(project, id)
        missing = 0
        # The newest first: where they do not all fit, those are missed most.
        for name in dict.fromkeys(name for event in reversed(happened) for name in _files_in(event.value)):
            kind = _PICTURES.get(os.path.splitext(name)[1].lower())
            if kind is None:
                continue
            inside = name if "/" in name else f"media/{name}"
            try:
                body = read_run_file(run.path, inside, most_bytes=MOST_MEDIA_BYTES - self.media_bytes)
            except OSError:
                missing += 1
                continue
            self.media_bytes += len(body)
            address = f"data:{kind};base64,{base64.b64encode(body).decode()}"
            self.files[f"{id} {inside}"] = address
        if missing:
            self.left_out.append(f"{run.name}: {missing:,} pictures")

    def _layers(self, project: str, id: str) -> dict[str, dict[str, object]]:
        known = families(self.session, FamiliesQuestion(project, id))
        keys = list(dict.fromkeys(key for family in known.families for key in family.keys))
        keys = [key for key in keys if f"{id}\n{key}\nstep" in self.curves]
        if not keys:
            return {}
        if len(keys) * _MATRIX_COLUMNS > _MOST_CELLS:
            self.left_out.append(f"{id}: the heat map of {len(keys):,} layers")
            return {}
        found = self.session.run(project, id).matrix(keys, columns=_MATRIX_COLUMNS)
        arrays = [found.edges, found.mean, found.min, found.max, found.count, found.nonfinite]
        return {
            id: {
                "keys": list(found.keys),
                "columns": len(found.edges) - 1,
                "beyond": found.beyond,
                "arrays": [self.arrays.add(array.reshape(-1)) for array in arrays],
            }
        }


def _files_in(value: object) -> Iterable[str]:
    """Names of files in a value, however deep: of a picture, or of the pictures in a table's cells."""
    if isinstance(value, dict):
        name = value.get("file")
        if isinstance(name, str):
            yield name
        for one in value.values():
            yield from _files_in(one)
    elif isinstance(value, list):
        for one in value:
            yield from _files_in(one)


# -- the file -------------------------------------------------------------------------------------------------------


def _page_parts() -> tuple[str, str]:
    """The script and the style sheet of the built page."""
    try:
        with open(os.path.join(STATIC, "assets", "app.js"), encoding="utf-8") as file:
            script = file.read()
        with open(os.path.join(STATIC, "assets", "app.css"), encoding="utf-8") as file:
            style = file.read()
    except FileNotFoundError as error:
        raise StoreError(
            f"the page has not been built ({error.filename} is missing): `make ui` does so in a checkout"
        ) from None
    return script, style


def _html(title: str, script: str, style: str, packed: str) -> bytes:
    import html

    # Within <script>, only its own end ends it; the same text with a backslash means the same to JavaScript.
    script = re.sub(r"</(script)", r"<\\/\1", script, flags=re.IGNORECASE).replace("<!--", "<\\!--")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )
    style = re.sub(r"</(style)", r"<\\/\1", style, flags=re.IGNORECASE)
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">',
            f"<title>{html.escape(title)} · Lossbook</title>",
            f"<style>{style}</style>",
            "</head><body>",
            '<div id="app"></div>',
            "<noscript>This page draws curves with JavaScript.</noscript>",
            f'<script type="text/plain" id="lossbook-copy">{packed}</script>',
            f'<script type="module">{script}</script>',
            "</body></html>\n",
        ]
    ).encode()
