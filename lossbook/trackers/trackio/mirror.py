"""The Trackio mirror: a run of its own in Trackio's project, each row under an id that is taken once.

`trackio show --project PROJECT` shows it. Trackio shortens names of projects to letters, digits, "_" and "-", and
takes two runs of one name for the same: where that would merge two of Lossbook's, the id goes behind the name.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import ClassVar

import orjson

from lossbook.journal import merge_config
from lossbook.json_shapes import Json, JsonObject, list_or_empty, object_or_empty, text_or_none, whole_or_none
from lossbook.paths import safe_name
from lossbook.run_files import NoSuchRunFile, read_run_file, run_file_path
from lossbook.trackers.mirror import Ending, LoggedRow, Mirror
from lossbook.trackers.mirror_text import console_end, is_system
from lossbook.trackers.trackio.places import Entries, Place, place_of, timestamp

#: So many entries are written at once.
MOST_ENTRIES = 2000
#: Keys that Trackio puts into each row itself; a metric of that name gets two underscores, as in Trackio's own `log`.
RESERVED = frozenset(("project", "run", "timestamp", "step", "time", "metrics"))
_LEVELS = {"info": "info", "warning": "warn", "error": "error"}


class TrackioMirror(Mirror):
    """A run as Trackio has it."""

    kind: ClassVar[str] = "trackio"
    title: ClassVar[str] = "Trackio"
    packages: ClassVar[tuple[str, ...]] = ("trackio",)
    library: ClassVar[str] = "trackio: pip install 'lossbook[trackio]'"
    has_offline: ClassVar[bool] = True
    lacks: ClassVar[tuple[str, ...]] = (
        "Tags, notes, the summary and how the run ended stand in its configuration: Trackio has no place of their own for them.",
        "Rows that a resumed attempt replaced stay beside the new ones.",
        "The x axis is the step or the time; another one named by define_metric, its goal and its unit are left out.",
        "A metric called project, run, timestamp, step, time or metrics gets two underscores before its name.",
        "A row without a step gets the last one; a row sent to a server or a Space has the time of its arrival.",
        "Of the console only the end is there, as a report, once the run has ended.",
        "Two columns of a table with the same name become two names.",
        "Files and artifacts that were kept with the run stay in it.",
    )

    def open(self, delivered: dict[int, int]) -> dict[int, int]:
        self._place = place_of(self.settings)
        remote = self.remote
        if remote.get("place") != self._place.name:
            remote.clear()
        if "project" not in remote:
            self._said: list[Json] = []
            remote["said"] = self._said
            remote["project"] = self._choose_project(self._place)
            remote["run"] = self._choose_run(self._place, str(remote["project"]))
            remote["place"] = self._place.name
        self._said = list_or_empty(remote.get("said"))
        self._project, self._run = str(remote["project"]), str(remote["run"])
        self._waiting = Entries()
        self._config = object_or_empty(remote.get("config", self.subject.config))
        self._last_step = whole_or_none(remote.get("last_step")) or 0
        self._last_log = text_or_none(remote.get("last_log"))
        # What the engine calls delivered may have been removed with the project, or never have been written here.
        lost = self._last_log is not None and not self._place.holds(self._project, self._last_log)
        if lost or (self._last_log is None and delivered):
            self._last_log = None
            delivered = {}
        self._config_is_new = True
        return delivered

    def deliver(self, rows: Sequence[LoggedRow]) -> None:
        for row in rows:
            self._row(row)
            if len(self._waiting) >= MOST_ENTRIES:
                self._write()

    def flush(self) -> None:
        self._write()
        self.remote.update(last_step=self._last_step, last_log=self._last_log, config=self._config)

    def close(self, ending: Ending | None) -> None:
        if ending is not None:
            self._end(ending)
        self.flush()

    @property
    def url(self) -> str | None:
        return self._place.url(self._project)

    # -- names --------------------------------------------------------------------------------------------------

    def _choose_project(self, place: Place) -> str:
        """The name of the project at Trackio: the run's own, as far as no other is kept under its short form."""
        from trackio.sqlite_storage import SQLiteStorage
        from trackio.utils import REGISTRY_PROJECT_PREFIX, canonical_project_name

        wanted = self.subject.project
        short = str(canonical_project_name(wanted))
        why = f"Trackio may keep another project as {short!r}"
        try:
            SQLiteStorage.validate_project_name(wanted)
        except ValueError:
            why = f"Trackio keeps {short!r} for itself"
        else:
            # A project without a note of ours is its users', who see it under exactly this name.
            mine = ("", wanted, None) if short == wanted else ("", wanted)
            if short == wanted or place.keeps_notes:
                owner = place.owner(short)
                if owner in mine:
                    if owner != wanted:
                        place.claim(short, wanted)
                    return short
        chosen = f"{short}-{sha256(wanted.encode()).hexdigest()[:8]}"
        if chosen.startswith(REGISTRY_PROJECT_PREFIX):
            chosen = f"project-{chosen}"
        place.claim(chosen, wanted)
        self._said.append(f"{why}: the project {wanted!r} is called {chosen!r} there")
        return chosen

    def _choose_run(self, place: Place, project: str) -> str:
        subject = self.subject
        known = place.runs(project)
        if subject.id in known:
            return known[subject.id]
        if subject.name not in known.values():
            return subject.name
        chosen = f"{subject.name}-{subject.id}"
        self._said.append(
            f"Trackio has a run {subject.name!r} in {project!r} already, and would add to it: this one is called {chosen!r} there"
        )
        return chosen

    # -- rows ---------------------------------------------------------------------------------------------------

    def _row(self, row: LoggedRow) -> None:
        suffix = f"/rank_{row.rank}" if row.rank > 0 else ""
        if row.kind is None:
            system = {key + suffix: value for key, value in row.body.items() if is_system(key)}
            metrics = {_allowed(key + suffix): value for key, value in row.body.items() if not is_system(key)}
            if system:
                self._waiting.system.append(self._entry(row, metrics=system))
            if metrics:
                self._log(row, metrics)
        elif row.kind == "config":
            self._config = merge_config(self._config, row.body)
            self._config_is_new = True
        elif row.kind == "alert":
            alert = self._entry(
                row,
                title=row.body.get("title", ""),
                text=row.body.get("text"),
                step=row.step,
                level=_LEVELS.get(row.body.get("level", "info"), "info"),
            )
            alert["alert_id"] = alert.pop("log_id")
            self._waiting.alerts.append(alert)
        else:
            value = self._value(row)
            if value is not None:
                key, what = value
                self._log(row, {_allowed(key + suffix): what})

    def _value(self, row: LoggedRow) -> tuple[str, JsonObject] | None:
        body, key = row.body, row.key or row.kind or ""
        if row.kind == "text":
            return key, _report(body.get("text", ""))
        if row.kind == "histogram":
            found = {"_type": "trackio.histogram", "bins": body["edges"], "values": body["counts"]}
            return key, found | ({"nonfinite": body["nonfinite"]} if body.get("nonfinite") else {})
        if row.kind == "image":
            return key, self._image(row)
        if row.kind == "table":
            return key, self._table(body)
        if row.kind == "checkpoint":
            return "lossbook/checkpoints", _report(f"{body.get('path', '')}{' (best)' if body.get('is_best') else ''}")
        if row.kind == "stage":
            return "lossbook/stages", _report(body.get("name", ""))
        if row.kind == "note":
            return "lossbook/notes", _report(body.get("text", ""))
        if row.kind == "warning":
            return "lossbook/warnings", _report(body.get("message", ""))
        return None

    def _image(self, row: LoggedRow) -> JsonObject:
        try:
            path = run_file_path(self.subject.folder.path, str(row.body.get("file")))
        except NoSuchRunFile:
            return _report(f"{row.body.get('file')} is not there any more")
        # Trackio makes a folder of the run's name; one that is no folder name would end up elsewhere.
        folder = self._run if safe_name(self._run) == self._run else self.subject.id
        kept = self._place.keep_file(path, self._project, folder, self._step(row), self.subject.id)
        return {"_type": "trackio.image", "file_path": kept, "caption": row.body.get("caption")}

    def _table(self, body: JsonObject) -> JsonObject:
        if "file" in body:
            try:
                body = object_or_empty(orjson.loads(read_run_file(self.subject.folder.path, str(body["file"]))))
            except (OSError, ValueError) as error:
                return _report(f"{body.get('file')} could not be read: {error}")
        columns: list[str] = []
        for column in map(str, list_or_empty(body.get("columns"))):
            columns.append(column if column not in columns else f"{column} ({len(columns) + 1})")
        rows = [row for row in list_or_empty(body.get("rows")) if isinstance(row, list)]
        return {"_type": "trackio.table", "_value": [dict(zip(columns, row, strict=False)) for row in rows]}

    def _log(self, row: LoggedRow, metrics: JsonObject) -> None:
        self._waiting.logs.append(self._entry(row, metrics=metrics, step=self._step(row)))

    def _step(self, row: LoggedRow) -> int:
        if row.step is not None:
            self._last_step = row.step
        return self._last_step

    def _entry(self, row: LoggedRow, **fields: Json) -> JsonObject:
        return self._named(f"{self.subject.id}/{row.rank}/{row.i}", row.time_us, **fields)

    def _named(self, log_id: str, time_us: int, **fields: Json) -> JsonObject:
        return {
            "project": self._project,
            "run": self._run,
            "run_id": self.subject.id,
            "timestamp": timestamp(time_us),
            "log_id": log_id,
            **fields,
        }

    def _write(self) -> None:
        """Hand over what waits, the configuration with it when it has changed."""
        entries, self._waiting = self._waiting, Entries()
        if entries.logs and self._config_is_new:
            # Trackio takes a configuration with a row only; it replaces the one that was there.
            entries.logs[0]["config"] = self._whole_config()
            self._config_is_new = False
        if entries:
            self._place.write(entries)
        if entries.logs:
            self._last_log = str(entries.logs[-1]["log_id"])

    # -- the run ------------------------------------------------------------------------------------------------

    def _whole_config(self, ending: Ending | None = None) -> JsonObject:
        """The run's configuration, and behind it what Trackio has no other place for."""
        subject = self.subject
        extra: JsonObject = {"tags": list(subject.tags), "notes": subject.notes}
        if ending is not None:
            extra.update(state=ending.state, error=ending.error, summary=ending.summary)
        extra["lossbook"] = {
            "id": subject.id,
            "name": subject.name,
            "project": subject.project,
            "command": list(subject.info.argv),
            "git": subject.git.commit,
            "host": subject.info.host.name,
            "said": self._said,
        }
        config = dict(self._config)
        for key, value in extra.items():
            if value not in (None, "", [], {}):
                config[key if key not in self._config else f"lossbook_{key}"] = value
        # The three that Trackio's own `init` sets: the dashboard groups runs by the first.
        config["_Group"] = subject.group
        config["_Username"] = subject.info.host.user
        config["_Created"] = timestamp(round(subject.created * 1e6))
        return config

    def _end(self, ending: Ending) -> None:
        time_us = round(ending.ended * 1e6)
        state = ending.state if ending.error is None else f"{ending.state}\n\n    {ending.error}"
        metrics: JsonObject = {"lossbook/state": _report(state)}
        console = console_end(self.subject.folder)
        if console:
            metrics["lossbook/console"] = _report(console)
        self._write()
        # By its time, for a run that was resumed ends again. It also brings a run on Trackio's list that logged nothing.
        log_id = f"{self.subject.id}/end/{time_us}"
        row = self._named(log_id, time_us, metrics=metrics, step=self._last_step, config=self._whole_config(ending))
        self._place.write(Entries(logs=[row]))
        self._last_log = log_id


def _allowed(key: str) -> str:
    return f"__{key}" if key in RESERVED or key.startswith("__") else key


def _report(markdown: str) -> JsonObject:
    return {"_type": "trackio.markdown", "_value": markdown}
