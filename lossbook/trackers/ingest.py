"""Bringing a foreign run into a run folder: each row exactly once, in bounded memory, resumable wherever it was cut off.

What is brought is written beside the run (`followers/import/`) and moved into it as a whole: nobody ever sees, seals or
delivers the half of an import. The folder is a run like any other afterwards.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import shutil
import time
from collections.abc import Callable
from typing import Any

from lossbook.errors import LossbookError, StoreError
from lossbook.journal.attempt_row import AttemptRow
from lossbook.journal.line import encode_number
from lossbook.journal.reader import journal_segments
from lossbook.journal.segment_numbers import next_segment
from lossbook.journal.writer import Journal
from lossbook.paths import (
    FORMAT,
    RunFolder,
    folder_lock,
    fsync_folder,
    make_folder,
    read_json,
    replace_file,
    run_folder,
    safe_name,
    update_run_json,
    write_json,
)
from lossbook.redaction import mask_config
from lossbook.run_info import Attempt
from lossbook.storage.compaction import seal_run
from lossbook.storage.resume_point import next_row
from lossbook.storage.summary import LiveSummary
from lossbook.trackers.source import ForeignRow, ForeignRun, Source

#: Rows between two cursors: what an import that was killed does again is no more than that.
BATCH_ROWS = 5000
_LARGEST = (1 << 63) - 1


class DatedJournal(Journal):
    """A journal whose rows are as old as those that it was made of."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.time_us = 0

    def _now_us(self) -> int:
        return self.time_us


class StagedFolder(RunFolder):
    """A run's folder, with what is not to be seen yet written elsewhere in it."""

    @property
    def stage(self) -> str:
        return os.path.join(self.followers, "import")

    @property
    def journal(self) -> str:
        return os.path.join(self.stage, "journal")

    @property
    def console(self) -> str:
        return os.path.join(self.stage, "console")


def bring_identity(store: str, source: Source, run: ForeignRun, *, project: str | None = None) -> RunFolder:
    """Make the run's folder, or bring what is known of the run in it up to date; its rows are not looked at.

    Raises:
        StoreError, OSError: the store cannot be written.
    """
    folder, known = _claim(store, source, run, project or run.project)
    origin = _plain(run.origin)
    identity = {
        "format": FORMAT,
        "id": os.path.basename(folder.path),
        "name": run.name,
        "project": project or run.project,
        "created": int(run.created * 1e6),
        "config": mask_config(_plain(run.config)),
        "tags": list(run.tags),
        "group": run.group,
        "notes": run.notes,
        "git": origin.get("git"),
        "host": {"name": origin.get("host")},
        "argv": origin.get("argv") or [],
        "mode": "online",
        "mirrors": [],
        "parent": None,
        "system_metrics": False,
        "source": {
            **origin,
            "kind": source.kind,
            "location": source.location,
            "id": run.id,
            "project": run.project,
            "url": run.url,
        },
        "attempts": [{"number": 0, "started": int(run.created * 1e6), "host": origin.get("host"), "imported": True}],
    }
    # What was changed here since (a note, a tag, a new name) is kept.
    if known is None:
        write_json(folder.run_json, identity)
        known = identity
    else:
        fresh = dict(known)
        _refresh(fresh, identity)
        if fresh != known:
            known = update_run_json(folder, lambda now: _refresh(now, identity))
    make_folder(folder.followers)
    _watch(folder, run, known)
    summary = read_json(folder.summary_json) or {}
    if not is_brought(folder, run) and summary.get("version") != run.version:
        brought = summary if os.path.exists(_cursor_path(folder)) else {}
        write_json(folder.summary_json, _overlaid(brought, _summary_of(run)), durable=False)
    return folder


def bring_rows(
    folder: RunFolder, source: Source, run: ForeignRun, progress: Callable[[int], None] | None = None
) -> int:
    """Bring the rows that the folder does not have yet; returns how many.

    Args:
        progress: called with a number of rows now and then.

    Raises:
        StoreError: the source or the store cannot be read or written further; the next call goes on.
        Rewritten: the source does not have the rows any more that are here; what is here stays.
    """
    with folder_lock(folder, "import", seconds=600.0) as held:
        if not held:
            raise StoreError(f"{folder.path} is being imported by another process that does not come to an end")
        cursor = read_json(_cursor_path(folder)) or {}
        if cursor.get("publishing"):
            cursor = _publish(folder, run, cursor)
        if cursor.get("complete") and cursor.get("version") == run.version:
            return 0
        if journal_segments(folder.journal):
            # Row and segment numbers are counted on from what is sealed.
            seal_run(folder, finished=True)
        brought = _Import(folder, run, cursor).bring(source, progress)
        _publish(folder, run, read_json(_cursor_path(folder)) or {})
        seal_run(folder, finished=True)
        LiveSummary(folder).write()
        return brought


def is_brought(folder: RunFolder, run: ForeignRun) -> bool:
    """Whether the folder has every row that the source had when `run` was read."""
    cursor = _cursor(folder)
    return bool(cursor.get("complete")) and not cursor.get("publishing") and cursor.get("version") == run.version


def rows_brought(folder: RunFolder) -> int:
    """How many rows of the source are in the folder, those of an import that was cut off included."""
    return int(_cursor(folder).get("rows") or 0)


def _cursor(folder: RunFolder) -> dict[str, Any]:
    try:
        return read_json(_cursor_path(folder)) or {}
    except LossbookError:
        return {}


# -- one import -------------------------------------------------------------------------------------------------------


class _Import:
    """One reading of a source's rows into the stage, on from the last cursor."""

    def __init__(self, folder: RunFolder, run: ForeignRun, cursor: dict[str, Any]) -> None:
        self.folder = StagedFolder(folder.path)
        self.run = run
        self.rows = int(cursor.get("rows") or 0)
        self.place = cursor.get("place")
        self.attempts: list[dict[str, Any]] = list(cursor.get("attempts") or [])
        self.steps: dict[str, int] = dict(cursor.get("steps") or {})
        self.summary: dict[str, Any] = dict(cursor.get("summary") or {})
        self.consoles: dict[str, int] = {}
        self._journals: dict[int, DatedJournal] = {}
        if cursor.get("complete") is False:
            self._cut_back(cursor)
        else:
            shutil.rmtree(self.folder.stage, ignore_errors=True)
        os.makedirs(self.folder.journal, exist_ok=True)
        os.makedirs(self.folder.console, exist_ok=True)

    def bring(self, source: Source, progress: Callable[[int], None] | None) -> int:
        """Write every row that the source has behind the cursor; returns how many."""
        brought = 0
        try:
            for row in source.rows(dataclasses.replace(self.run, after=self.place), self.rows):
                self._write(row)
                self.rows += 1
                brought += 1
                self.place = row.place
                if brought % BATCH_ROWS == 0:
                    self._note(complete=False)
                    if progress is not None:
                        progress(BATCH_ROWS)
            summary = _plain(self.run.summary)
            if summary and summary != self.summary:
                journal = self._journal(0)
                journal.time_us = max(journal.time_us, int((self.run.ended or self.run.created) * 1e6))
                journal.append_event("summary", summary)
                self.summary = summary
            self._note(complete=True)
        finally:
            for journal in self._journals.values():
                journal.close()
        if progress is not None:
            progress(brought % BATCH_ROWS)
        return brought

    def _write(self, row: ForeignRow) -> None:
        if row.kind == "attempt":
            self._begin_attempt(row)
            return
        if row.kind == "console":
            self._print(f"r{row.rank}.log", str(row.body.get("text") or ""))
            return
        journal = self._journal(row.rank)
        journal.time_us = row.time_us
        step = None if row.step is None else max(-_LARGEST, min(_LARGEST, int(row.step)))
        if row.kind is None:
            # A row without a step stands where its neighbours do.
            step = self.steps.get(f"r{row.rank}", 0) if step is None else step
            self.steps[f"r{row.rank}"] = step
            scalars = {_text(key): float(value) for key, value in row.body.items()}
            journal.append_scalars(scalars, step, time_us=row.time_us)
            return
        body = dict(row.body)
        contents = body.pop("contents", None)
        if row.kind == "file":
            name = "/".join(safe_name(part) for part in str(body["name"]).split("/") if part not in ("", ".", ".."))
            kept = os.path.join("files", name or "file")
            _keep_file(os.path.join(self.folder.path, kept), contents)
            body = {"path": str(body["name"]), "file": kept, "bytes": len(contents)}
        elif contents is not None:
            ending = str(body.pop("ending", ".bin"))
            body["file"] = f"media/{hashlib.sha256(contents).hexdigest()}{safe_name('x' + ending)[1:]}"
            journal.put_file(os.path.join(self.folder.path, body["file"]), contents)
        journal.append_event(row.kind, _plain(body), key=None if row.key is None else _text(row.key), step=step)

    def _begin_attempt(self, row: ForeignRow) -> None:
        self.attempts.append(
            {
                "number": len(self.attempts) + 1,
                "started": row.time_us,
                "resume_step": row.body.get("resume_step"),
                "imported": True,
            }
        )
        for journal in self._journals.values():
            journal.sync()
            journal.close()
        self._journals = {}
        self._journal(row.rank).time_us = row.time_us

    def _journal(self, rank: int) -> DatedJournal:
        journal = self._journals.get(rank)
        if journal is not None:
            return journal
        last: dict[str, Any] = self.attempts[-1] if self.attempts else {"number": 0, "resume_step": None}
        attempt = AttemptRow(
            Attempt(number=last["number"], world_size=1, resume_step=last["resume_step"]),
            rank,
            continues=self.steps.get(f"r{rank}-attempt") == last["number"] and next_segment(self.folder, rank) > 1,
            imported=True,
        )
        journal = DatedJournal(self.folder, rank, attempt, row=next_row(self.folder, rank), warn=_refuse)
        self.steps[f"r{rank}-attempt"] = last["number"]
        journal.time_us = last.get("started") or int(self.run.created * 1e6)
        if not journal.begin_segment():
            raise StoreError(f"{self.folder.path} cannot be written: make room, and import again")
        self._journals[rank] = journal
        return journal

    def _print(self, name: str, text: str) -> None:
        with open(os.path.join(self.folder.console, name), "ab") as file:
            file.write(text.encode("utf-8", "replace"))
            self.consoles[name] = file.tell()

    def _note(self, *, complete: bool) -> None:
        """Write down how far it has come, and where each file ends there."""
        parts = {}
        for rank, journal in self._journals.items():
            if not journal.sync():
                _refuse(f"{journal.path} cannot be made durable")
            parts[f"r{rank}"] = [journal.segment, os.path.getsize(journal.path)]
        for segment in journal_segments(self.folder.journal):
            # A writer that was left behind when another attempt began.
            parts.setdefault(f"r{segment.name.rank}", [segment.name.last, segment.size_bytes()])
            if segment.name.last > parts[f"r{segment.name.rank}"][0]:
                parts[f"r{segment.name.rank}"] = [segment.name.last, segment.size_bytes()]
        cursor: dict[str, Any] = {
            "version": self.run.version,
            "rows": self.rows,
            "place": self.place,
            "complete": complete,
            "attempts": self.attempts,
            "steps": self.steps,
            "summary": self.summary,
            "parts": parts,
            "consoles": self.consoles,
        }
        if complete:
            cursor["publishing"] = {
                name: _size(os.path.join(RunFolder(self.folder.path).console, name)) for name in self.consoles
            }
            cursor["publishing"][""] = 0  # there is something to publish even without a console
        write_json(_cursor_path(self.folder), cursor)

    def _cut_back(self, cursor: dict[str, Any]) -> None:
        """Remove what an import that was killed wrote behind its last note."""
        parts = {int(rank[1:]): part for rank, part in (cursor.get("parts") or {}).items()}
        for segment in journal_segments(self.folder.journal):
            part = parts.get(segment.name.rank)
            if part is None or segment.name.first > int(part[0]):
                os.unlink(segment.path)
            elif segment.name.first == int(part[0]):
                os.truncate(segment.path, int(part[1]))
        self.consoles = dict(cursor.get("consoles") or {})
        for name in _names(self.folder.console):
            os.truncate(os.path.join(self.folder.console, name), int(self.consoles.get(name, 0)))


def _keep_file(path: str, contents: bytes) -> None:
    """Write a file that belongs to the run, in place of what the source had under that name before."""
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        replace_file(path, contents, durable=False)
    except OSError as error:
        _refuse(f"{path} cannot be written ({error.strerror or error})")


def _refuse(sentence: str) -> None:
    raise StoreError(f"{sentence}; the import goes on where it stopped when it is called again")


def _publish(folder: RunFolder, run: ForeignRun, cursor: dict[str, Any]) -> dict[str, Any]:
    """Move what was staged into the run; killed anywhere, it is called again and ends the same."""
    stage = StagedFolder(folder.path)
    later = cursor.get("attempts") or []
    if later:
        first: Callable[[dict[str, Any]], list[dict[str, Any]]] = lambda now: (now.get("attempts") or [])[:1]  # noqa: E731
        identity = update_run_json(folder, lambda now: now.update(attempts=[*first(now), *later]))
        _watch(folder, run, identity)
    for name in _names(stage.console):
        make_folder(folder.console)
        before = int(cursor["publishing"].get(name, 0))
        with (
            open(os.path.join(stage.console, name), "rb") as read,
            open(os.path.join(folder.console, name), "ab") as written,
        ):
            written.truncate(before)
            shutil.copyfileobj(read, written, 1 << 20)
            written.flush()
            os.fsync(written.fileno())
    os.makedirs(folder.journal, exist_ok=True)
    for segment in journal_segments(stage.journal):
        os.replace(segment.path, os.path.join(folder.journal, os.path.basename(segment.path)))
    fsync_folder(folder.journal)
    cursor = {**cursor, "publishing": None, "parts": {}, "consoles": {}}
    write_json(_cursor_path(folder), cursor)
    shutil.rmtree(stage.stage, ignore_errors=True)
    return cursor


def _cursor_path(folder: RunFolder) -> str:
    return os.path.join(folder.followers, "import.json")


def _names(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def _size(path: str) -> int:
    try:
        return os.path.getsize(path)
    except OSError:
        return 0


# -- the folder -------------------------------------------------------------------------------------------------------


def _claim(store: str, source: Source, run: ForeignRun, project: str) -> tuple[RunFolder, dict[str, Any] | None]:
    """The folder of a foreign run and what is known there: that of its id, unless another run has it."""
    run_id = safe_name(run.id)
    digest = hashlib.sha256(f"{source.kind} {source.address} {run.project} {run.id}".encode()).hexdigest()[:6]
    for candidate in (run_id, f"{run_id[:70]}-{digest}"):
        folder = run_folder(store, project, candidate)
        os.makedirs(folder.journal, exist_ok=True)
        try:
            known = read_json(folder.run_json)
        except LossbookError:
            continue
        if known is None and journal_segments(folder.journal):
            continue  # a run whose identity was lost
        origin = (known or {}).get("source") or {}
        named = origin.get("kind"), origin.get("id"), origin.get("project", run.project)
        if known is None or named == (source.kind, run.id, run.project):
            return folder, known
    raise StoreError(
        f"two other runs have the ids {run_id} and {run_id[:70]}-{digest} in {os.path.dirname(folder.path)}"
    )


def _refresh(known: dict[str, Any], identity: dict[str, Any]) -> None:
    """What the source says anew; what people may have changed here since is theirs."""
    for field in ("config", "source", "git", "host", "argv"):
        known[field] = identity[field]
    known["attempts"] = [*identity["attempts"], *(known.get("attempts") or [])[1:]]
    known["tags"] = list(dict.fromkeys([*(known.get("tags") or []), *identity["tags"]]))


def _watch(folder: RunFolder, run: ForeignRun, identity: dict[str, Any]) -> None:
    """Say how the run stands, as a follower would."""
    number = ((identity.get("attempts") or [{}])[-1]).get("number", 0)
    ended = int(run.ended * 1e6) if run.ended else None
    watched = {"attempt": number, "state": run.state, "error": run.error, "ended": ended}
    path = os.path.join(folder.followers, "watch.json")
    try:
        same = read_json(path) == watched
    except LossbookError:
        same = False
    if not same:
        write_json(path, watched, durable=False)


def _summary_of(run: ForeignRun) -> dict[str, Any]:
    """A `summary.json` for a run whose rows have not been brought: the last values that the source says."""
    summary = _plain(run.summary)
    last = {
        key: value
        for key, value in summary.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool) and not key.startswith("_")
    }
    metrics = {
        key: {
            "last": value,
            "last_step": summary.get("_step"),
            "min": None,
            "min_step": None,
            "max": None,
            "max_step": None,
            "mean": None,
            "count": 0,
            "nonfinite": 0,
        }
        for key, value in sorted(last.items())
    }
    return {
        "format": FORMAT,
        "state": run.state,
        "error": run.error,
        "started": int(run.created * 1e6),
        "ended": int(run.ended * 1e6) if run.ended else None,
        "updated": time.time_ns() // 1000,
        "rows": 0,
        "last_step": summary.get("_step") if isinstance(summary.get("_step"), int) else None,
        "last_time": None,
        "config": {},
        "summary": summary,
        "define": [],
        "metrics": metrics,
        "alerts": 0,
        "problems": [],
        "cursor": {},
        "version": run.version,
    }


def _overlaid(brought: dict[str, Any], said: dict[str, Any]) -> dict[str, Any]:
    """What is known of the rows that were brought, with the state and the last values that the source says by now."""
    if not brought:
        return said
    metrics = dict(said["metrics"])
    for key, known in (brought.get("metrics") or {}).items():
        newer = {
            name: value for name, value in metrics.get(key, {}).items() if name.startswith("last") and value is not None
        }
        metrics[key] = {**known, **newer}
    own = {name: said[name] for name in ("state", "error", "started", "ended", "version")}
    return {**brought, **own, "summary": {**(brought.get("summary") or {}), **said["summary"]}, "metrics": metrics}


def _plain(value: Any) -> Any:
    """`value` in the types that JSON has."""
    if isinstance(value, dict):
        return {_text(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    if isinstance(value, (set, frozenset)):
        return sorted((_plain(inner) for inner in value), key=str)
    if isinstance(value, float):
        return encode_number(value)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if -(1 << 63) <= value < 1 << 64 else _text(value)
    return _text(value)


def _text(value: Any) -> str:
    # A name that came from a file system may have lone surrogates, which UTF-8 does not.
    return str(value).encode("utf-8", "replace").decode()
