"""Imports a foreign run into a run folder: each row exactly once, in bounded memory, resumable wherever it was cut off.

The folder is a run like any other afterwards. `import_run` makes it with what is known of the run; `import_rows` adds the
rows that it does not have.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable

from lossbook.errors import LossbookError, StoreError
from lossbook.journal import journal_segments
from lossbook.json_shapes import Json, JsonMapping, JsonObject, object_or_empty, texts_of, whole_or_none
from lossbook.paths import FORMAT, RunFolder, folder_lock, make_folder, read_json, run_folder, safe_name, write_json
from lossbook.redaction import mask_arguments, mask_config, mask_text
from lossbook.run_info import RunInfo, edit_run_info, load_run_info, parse_run_info, write_run_info
from lossbook.storage import LiveSummary, seal_run
from lossbook.trackers.source import ForeignRun, Source
from lossbook.trackers.staging import ImportCursor, Staging, plain_object, publish


def import_run(store: str, source: Source, run: ForeignRun, *, project: str | None = None) -> RunFolder:
    """Make the run's folder, or update what it knows of the run; the rows are not looked at.

    Raises:
        StoreError, OSError: the store cannot be written.
    """
    folder, known = _claim(store, source, run, project or run.project)
    info = _info_of(folder, source, run, project or run.project)
    # What was changed here since (a note, a tag, a new name) is kept.
    if known is None:
        write_run_info(folder, info)
        known = info
    elif _refreshed(known, info) != known:
        known = edit_run_info(folder, lambda now: _refreshed(now, info))
    make_folder(folder.followers)
    _write_state(folder, run, known)
    summary: JsonMapping = read_json(folder.summary_json) or {}
    if not is_imported(folder, run) and summary.get("version") != run.version:
        imported = summary if os.path.exists(ImportCursor.path(folder)) else {}
        write_json(folder.summary_json, _overlaid(imported, _summary_of(run)), durable=False)
    return folder


def import_rows(
    folder: RunFolder,
    source: Source,
    run: ForeignRun,
    progress: Callable[[int], None] | None = None,
    *,
    warn: Callable[[str], None] | None = None,
) -> int:
    """Import the rows that the folder does not have yet; returns how many.

    Args:
        progress: called with a number of rows now and then.
        warn: called with each sentence that the source has about what of the run it could not read.

    Raises:
        StoreError: the source or the store cannot be read or written further; the next call goes on.
        Rewritten: the source does not have the rows any more that are here; what is here stays.
    """
    with folder_lock(folder, "import", seconds=600.0) as held:
        if not held:
            raise StoreError(f"{folder.path} is being imported by another process that does not come to an end")
        cursor = ImportCursor.load(folder)
        if cursor.publishing:
            _publish(folder, run, cursor)
        if cursor.complete and cursor.version == run.version:
            return 0
        if journal_segments(folder.journal):
            # Row and segment numbers are counted on from what is sealed.
            seal_run(folder, finished=True)
        count = Staging(folder, run, cursor).read(source, progress, warn)
        _publish(folder, run, cursor)
        seal_run(folder, finished=True)
        LiveSummary(folder).write()
        return count


def is_imported(folder: RunFolder, run: ForeignRun) -> bool:
    """Whether the folder has every row that the source had when `run` was read."""
    cursor = _cursor(folder)
    return bool(cursor.complete) and not cursor.publishing and cursor.version == run.version


def rows_imported(folder: RunFolder) -> int:
    """How many rows of the source are in the folder, those of an import that was cut off included."""
    return _cursor(folder).rows


def _cursor(folder: RunFolder) -> ImportCursor:
    try:
        return ImportCursor.load(folder)
    except LossbookError:
        return ImportCursor()


def _publish(folder: RunFolder, run: ForeignRun, cursor: ImportCursor) -> None:
    if publish(folder, cursor) and (info := load_run_info(folder)) is not None:
        _write_state(folder, run, info)


# -- the folder -------------------------------------------------------------------------------------------------------


def _claim(store: str, source: Source, run: ForeignRun, project: str) -> tuple[RunFolder, RunInfo | None]:
    """The folder of a foreign run and what is known there: that of its id, unless another run has it."""
    run_id = safe_name(run.id)
    digest = hashlib.sha256(f"{source.kind} {source.address} {run.project} {run.id}".encode()).hexdigest()[:6]
    for candidate in (run_id, f"{run_id[:70]}-{digest}"):
        folder = run_folder(store, project, candidate)
        os.makedirs(folder.journal, exist_ok=True)
        try:
            known = load_run_info(folder)
        except LossbookError:
            continue
        if known is None:
            if journal_segments(folder.journal):
                continue  # a run whose run.json was lost
            return folder, None
        origin = known.source
        named = None if origin is None else (origin.kind, origin.id, origin.project or run.project)
        if named == (source.kind, run.id, run.project):
            return folder, known
    raise StoreError(
        f"two other runs have the ids {run_id} and {run_id[:70]}-{digest} in {os.path.dirname(folder.path)}"
    )


def _info_of(folder: RunFolder, source: Source, run: ForeignRun, project: str) -> RunInfo:
    """What the source says of the run, as `run.json` has it."""
    origin: JsonObject = mask_config(plain_object(run.origin))
    created_us = int(run.created * 1e6)
    first_attempt: JsonObject = {"number": 0, "started": created_us, "host": origin.get("host"), "imported": True}
    tags: list[Json] = list(run.tags)
    values: JsonObject = {
        "format": FORMAT,
        "id": os.path.basename(folder.path),
        "name": run.name,
        "project": project,
        "created": created_us,
        "config": mask_config(plain_object(run.config)),
        "tags": tags,
        "group": run.group,
        "notes": run.notes,
        "git": origin.get("git"),
        "host": {"name": origin.get("host")},
        "argv": list(mask_arguments(list(texts_of(origin.get("argv"))))),
        "mode": "online",
        "system_metrics": False,
        "source": {
            **origin,
            "kind": source.kind,
            "location": mask_text(source.location) if isinstance(source.location, str) else source.location,
            "id": run.id,
            "project": run.project,
            "url": mask_text(run.url) if run.url else run.url,
        },
        "attempts": [first_attempt],
    }
    return parse_run_info(values, folder)[0]


def _refreshed(known: RunInfo, info: RunInfo) -> RunInfo:
    """What is known of the run, with what the source says anew; what people may have changed here is theirs."""
    return known._replace(
        config=info.config,
        source=info.source,
        git=info.git,
        host=info.host,
        argv=info.argv,
        attempts=(*info.attempts, *known.attempts[1:]),
        tags=tuple(dict.fromkeys((*known.tags, *info.tags))),
    )


def _write_state(folder: RunFolder, run: ForeignRun, info: RunInfo) -> None:
    """Say how the run stands, as a follower would."""
    ended = int(run.ended * 1e6) if run.ended else None
    state: JsonObject = {
        "attempt": info.last_attempt.number,
        "state": run.state,
        "error": run.error,
        "ended": ended,
    }
    path = os.path.join(folder.followers, "watch.json")
    try:
        same = read_json(path) == state
    except LossbookError:
        same = False
    if not same:
        write_json(path, state, durable=False)


# -- the summary before the rows are here -----------------------------------------------------------------------------


def _summary_of(run: ForeignRun) -> JsonObject:
    """A `summary.json` for a run whose rows have not been imported: the last values that the source says."""
    summary = plain_object(run.summary)
    step = whole_or_none(summary.get("_step"))
    metrics: JsonObject = {
        key: {
            "last": value,
            "last_step": step,
            "min": None,
            "min_step": None,
            "max": None,
            "max_step": None,
            "mean": None,
            "count": 0,
            "nonfinite": 0,
        }
        for key, value in sorted(summary.items())
        if isinstance(value, (int, float)) and not isinstance(value, bool) and not key.startswith("_")
    }
    return {
        "format": FORMAT,
        "state": run.state,
        "error": run.error,
        "started": int(run.created * 1e6),
        "ended": int(run.ended * 1e6) if run.ended else None,
        "updated": time.time_ns() // 1000,
        "rows": 0,
        "last_step": step,
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


def _overlaid(imported: JsonMapping, said: JsonObject) -> JsonObject:
    """What is known of the rows that were imported, with the state and the last values that the source says by now."""
    if not imported:
        return said
    metrics = object_or_empty(said["metrics"])
    for key, known in object_or_empty(imported.get("metrics")).items():
        newer = {
            name: value
            for name, value in object_or_empty(metrics.get(key)).items()
            if name.startswith("last") and value is not None
        }
        metrics[key] = {**object_or_empty(known), **newer}
    own = {name: said[name] for name in ("state", "error", "started", "ended", "version")}
    summary = {**object_or_empty(imported.get("summary")), **object_or_empty(said["summary"])}
    return {**imported, **own, "summary": summary, "metrics": metrics}
