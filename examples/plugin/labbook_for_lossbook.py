"""Labbook, a team's own tracker, for Lossbook: a mirror, a source, a detector, an alert sink and a command.

Labbook keeps a run in one file of JSON lines, `labbook/<project>/<run id>.labbook`:

    {"run": {"id": ..., "name": ..., "project": ..., "created": ..., "config": {...}, "tags": [...]}}
    {"step": 0, "time": 1763688000.1, "metrics": {"train/loss": 4.2}}      one line a row
    {"end": {"state": "finished", "ended": 1763688090.5}}

pip install ./examples/plugin
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar

import click

from lossbook.cli import Settings, common_options
from lossbook.diagnosis import Detector, Evidence, Finding, Take
from lossbook.follower.sinks import Alert, AlertSink
from lossbook.paths import safe_name
from lossbook.trackers.mirror import Ending, LoggedRow, Mirror, MirrorUnavailable
from lossbook.trackers.source import ForeignRow, ForeignRun, Source, scheme_of

ENDING = ".labbook"


# -- mirror: lossbook.init(mirrors="labbook"), lossbook sync RUN --to labbook ------------------------------------------


class LabbookMirror(Mirror):
    """Writes a run to Labbook's file."""

    kind: ClassVar[str] = "labbook"
    title: ClassVar[str] = "Labbook"
    library: ClassVar[str] = "nothing: it writes a file"
    lacks: ClassVar[tuple[str, ...]] = ("Only numbers are kept: media, tables and the console stay in Lossbook.",)

    def open(self, delivered: dict[int, int]) -> dict[int, int]:
        self._path = Path(
            self.settings.cwd, "labbook", safe_name(self.subject.project), safe_name(self.subject.id) + ENDING
        )
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(self._path, "ab")  # noqa: SIM115  (`close` closes it)
        except OSError as error:
            raise MirrorUnavailable(f"{self._path} cannot be written ({error.strerror})") from error
        # What stands behind the last `flush` is cut off: the engine does not know of it, and delivers it again.
        known = self.remote.get("bytes", 0)
        if self._file.tell() < known:
            known = 0  # somebody removed the file
        self._file.truncate(known)
        if known == 0:
            self._write(
                run={
                    "id": self.subject.id,
                    "name": self.subject.name,
                    "project": self.subject.project,
                    "created": self.subject.created,
                    "config": self.subject.config,
                    "tags": list(self.subject.tags),
                }
            )
            self.flush()
            return {}
        return delivered

    def deliver(self, rows: Sequence[LoggedRow]) -> None:
        for row in rows:
            if row.kind is None:  # a row of numbers
                self._write(step=row.step, time=row.time_us / 1e6, metrics=row.body)

    def flush(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())
        self.remote["bytes"] = os.fstat(self._file.fileno()).st_size

    def close(self, ending: Ending | None) -> None:
        if ending is not None:
            self._write(end={"state": ending.state, "ended": ending.ended})
        self._file.close()

    @property
    def url(self) -> str | None:
        return self._path.as_uri()

    def _write(self, **line: object) -> None:
        self._file.write(json.dumps(line).encode() + b"\n")


# -- source: lossbook ls --store labbook://, lossbook import labbook/lab ------------------------------------------------


class LabbookSource(Source):
    """Labbook's files: `labbook://` is ./labbook, `labbook://FOLDER` another one; a folder or a file by its path."""

    kind: ClassVar[str] = "labbook"
    title: ClassVar[str] = "Labbook"
    tells_last_values: ClassVar[bool] = False
    lacks: ClassVar[tuple[str, ...]] = ("Labbook has no text, no media and no console.",)

    @classmethod
    def matches(cls, location: str) -> bool:
        return scheme_of(location) == cls.kind or location.endswith(ENDING)

    def runs(self) -> Iterator[ForeignRun]:
        root = Path(self.location.removeprefix("labbook://") or "labbook")
        for path in [root] if root.is_file() else sorted(root.rglob(f"*{ENDING}")):
            with open(path) as file:
                run = json.loads(file.readline())["run"]
                ends = [line["end"] for line in map(json.loads, file) if "end" in line]
            yield ForeignRun(
                id=run["id"],
                name=run["name"],
                project=run["project"],
                created=run["created"],
                version=str(path.stat().st_size),
                state=ends[-1]["state"] if ends else "running",
                ended=ends[-1]["ended"] if ends else None,
                config=run["config"],
                tags=tuple(run["tags"]),
                place=path,
            )

    def rows(self, run: ForeignRun, start: int = 0) -> Iterator[ForeignRow]:
        assert isinstance(run.place, Path)
        with open(run.place) as file:
            rows = (line for line in map(json.loads, file) if "metrics" in line)
            for number, row in enumerate(rows):
                if number >= start:
                    yield ForeignRow(round(row["time"] * 1e6), row["step"], None, None, row["metrics"])


# -- detector: lossbook check, and an alert while the run is written ----------------------------------------------------


class ZeroRate(Detector):
    """The learning rate is zero, and the training goes on."""

    kind: ClassVar[str] = "zero_rate"
    title: ClassVar[str] = "learning rate is zero"

    #: A warm-up may begin at zero; so many rows in a row are no warm-up.
    LEAST_ROWS: ClassVar[int] = 10

    def watch(self, key: str, rank: int) -> Take | None:
        if key not in ("lr", "learning_rate", "train/lr"):
            return None
        first: Evidence | None = None
        rows = 0

        def take(value: float, step: int, time_us: int) -> None:
            nonlocal first, rows
            if value != 0:
                first, rows = None, 0
                return
            one = Evidence(key, step, value, time_us, rank)
            first, rows = first or one, rows + 1
            if rows >= self.LEAST_ROWS:
                sentence = f"{key} has been 0 since step {first.step}: nothing is learned any more"
                self.report(Finding(self.kind, "warning", key, first.step, step, 0.0, 0.0, sentence, (first, one)))

        return take


# -- alert sink: LOSSBOOK_ALERT_FILE=alerts.jsonl -----------------------------------------------------------------------


class AlertFile(AlertSink):
    """Adds each alert to a file, a JSON object a line."""

    kind: ClassVar[str] = "file"
    title: ClassVar[str] = "a file of JSON lines"

    def send(self, alert: Alert) -> None:
        with open(self.setting, "a") as file:
            file.write(json.dumps({"run": self.run.name, "level": alert.level, "text": alert.text}) + "\n")


# -- command: lossbook last KEY -----------------------------------------------------------------------------------------


@click.command("last")
@click.argument("key")
@common_options()
@click.pass_obj
def last_command(settings: Settings, key: str) -> None:
    """Print the last value of a metric in every run that has it."""
    runs = settings.book().runs(project=settings.project)
    found = {run.name: run.metrics[key]["last"] for run in runs if key in run.metrics}
    click.echo(json.dumps(found) if settings.json else "\n".join(f"{name}  {value:g}" for name, value in found.items()))
