"""The rows of a run that is being imported: written beside the run, cut back after a kill, moved into it as a whole.

`followers/import/` has what is not published yet; `followers/import.json` says how far it has come. Nobody sees, seals or
delivers the half of an import.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field

from lossbook.errors import StoreError
from lossbook.journal import AttemptRow, Journal, encode_number, journal_segments, next_segment
from lossbook.json_shapes import (
    Json,
    JsonMapping,
    JsonObject,
    counts_of,
    object_or_empty,
    text_or_none,
    whole_or_none,
)
from lossbook.paths import (
    RunFolder,
    file_names,
    fsync_folder,
    make_folder,
    read_json,
    replace_file,
    safe_name,
    write_json,
)
from lossbook.redaction import mask_config
from lossbook.run_info import Attempt, edit_run_info, parse_attempt
from lossbook.storage import next_row
from lossbook.trackers.source import ForeignRow, ForeignRun, Source

#: Rows between two cursors: what an import that was killed does again is no more than that.
BATCH_ROWS = 5000
_LARGEST = (1 << 63) - 1


class StagedFolder(RunFolder):
    """A run's folder whose journal and console are written to the stage."""

    @property
    def stage(self) -> str:
        return os.path.join(self.followers, "import")

    @property
    def journal(self) -> str:
        return os.path.join(self.stage, "journal")

    @property
    def console(self) -> str:
        return os.path.join(self.stage, "console")


class DatedJournal(Journal):
    """A journal whose rows are as old as those that it was made of: `time_us` is the time of the next one."""

    def __init__(self, folder: RunFolder, rank: int, attempt: AttemptRow) -> None:
        super().__init__(folder, rank, attempt, row=next_row(folder, rank), warn=_refuse)
        self.time_us = 0

    def now_us(self) -> int:
        return self.time_us


@dataclass
class ImportCursor:
    """How far the import of a run has come.

    Attributes:
        version: of the source's run, when its rows were read.
        rows: of the source, that have been read.
        place: of the last of them, as the source said it.
        complete: whether all were read; None where no import has begun.
        attempts: those that began after the first one.
        steps: the last step of each rank ("r0"), and the attempt that its journal has begun ("r0-attempt").
        ends: where each rank's last segment ends: its number and its bytes.
        consoles: where each console file ends, in bytes.
        publishing: where each console file ended before, while rows are being moved into the run; else None.
    """

    version: str | None = None
    rows: int = 0
    place: Json = None
    complete: bool | None = None
    attempts: list[JsonObject] = field(default_factory=list)
    steps: dict[str, int] = field(default_factory=dict)
    summary: JsonObject = field(default_factory=dict)
    ends: dict[str, tuple[int, int]] = field(default_factory=dict)
    consoles: dict[str, int] = field(default_factory=dict)
    publishing: dict[str, int] | None = None

    @staticmethod
    def path(folder: RunFolder) -> str:
        return os.path.join(folder.followers, "import.json")

    @classmethod
    def load(cls, folder: RunFolder) -> ImportCursor:
        """The run's; an empty one where it has none.

        Raises:
            DamagedFile, StoreError: it cannot be read.
        """
        values: JsonMapping = read_json(cls.path(folder)) or {}
        attempts, complete = values.get("attempts"), values.get("complete")
        return cls(
            version=text_or_none(values.get("version")),
            rows=whole_or_none(values.get("rows")) or 0,
            place=values.get("place"),
            complete=complete if isinstance(complete, bool) else None,
            attempts=[one for one in attempts if isinstance(one, dict)] if isinstance(attempts, list) else [],
            steps=counts_of(values.get("steps")),
            summary=object_or_empty(values.get("summary")),
            ends={
                rank: (end[0], end[1])
                for rank, end in object_or_empty(values.get("parts")).items()
                if isinstance(end, list) and len(end) == 2 and isinstance(end[0], int) and isinstance(end[1], int)
            },
            consoles=counts_of(values.get("consoles")),
            publishing=counts_of(values["publishing"]) if values.get("publishing") else None,
        )

    def save(self, folder: RunFolder) -> None:
        """Write it down, so that it survives power loss.

        Raises:
            OSError: the run's folder cannot be written.
        """
        values = dataclasses.asdict(self)
        values["parts"] = {rank: list(end) for rank, end in values.pop("ends").items()}
        write_json(self.path(folder), values)


class Staging:
    """One reading of a source's rows into the stage, on from the last cursor."""

    def __init__(self, folder: RunFolder, run: ForeignRun, cursor: ImportCursor) -> None:
        self.folder = StagedFolder(folder.path)
        self.run = run
        self.cursor = cursor
        self._journals: dict[int, DatedJournal] = {}
        if cursor.complete is False:
            self._cut_back()
        else:
            cursor.consoles = {}
            shutil.rmtree(self.folder.stage, ignore_errors=True)
        os.makedirs(self.folder.journal, exist_ok=True)
        os.makedirs(self.folder.console, exist_ok=True)

    def read(
        self,
        source: Source,
        progress: Callable[[int], None] | None = None,
        warn: Callable[[str], None] | None = None,
    ) -> int:
        """Write every row that the source has behind the cursor; returns how many.

        Raises:
            StoreError: the source cannot be read further, or the store cannot be written.
            Rewritten: the source has other rows now.
        """
        count = 0
        try:
            for row in source.rows(dataclasses.replace(self.run, after=self.cursor.place), self.cursor.rows):
                self._write(row)
                if warn is not None and row.kind == "warning":
                    warn(str(row.body.get("message") or ""))
                self.cursor.rows += 1
                count += 1
                self.cursor.place = row.place
                if count % BATCH_ROWS == 0:
                    self._note(complete=False)
                    if progress is not None:
                        progress(BATCH_ROWS)
            summary: JsonObject = mask_config(plain_object(self.run.summary))
            if summary and summary != self.cursor.summary:
                journal = self._journal(0)
                journal.time_us = max(journal.time_us, int((self.run.ended or self.run.created) * 1e6))
                journal.append_event("summary", summary)
                self.cursor.summary = summary
            self._note(complete=True)
        finally:
            for journal in self._journals.values():
                journal.close()
        if progress is not None:
            progress(count % BATCH_ROWS)
        return count

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
            step = self.cursor.steps.get(f"r{row.rank}", 0) if step is None else step
            self.cursor.steps[f"r{row.rank}"] = step
            scalars = {_text(key): _number(value) for key, value in row.body.items()}
            journal.append_scalars(scalars, step, time_us=row.time_us)
            return
        body = dict(row.body)
        contents = body.pop("contents", None)
        if isinstance(contents, bytes):
            body = self._keep(row.kind, body, contents, journal)
        key = None if row.key is None else _text(row.key)
        recorded = plain_object(body)
        if row.kind in ("config", "summary"):
            recorded = mask_config(recorded)
        journal.append_event(row.kind, recorded, key=key, step=step)

    def _keep(self, kind: str, body: dict[str, object], contents: bytes, journal: Journal) -> dict[str, object]:
        """Write the file that a row has; returns the row's body with the file's path in place of the contents."""
        if kind == "file":
            name = "/".join(safe_name(part) for part in str(body["name"]).split("/") if part not in ("", ".", ".."))
            kept = os.path.join("files", name or "file")
            _replace(os.path.join(self.folder.path, kept), contents)
            return {"path": str(body["name"]), "file": kept, "bytes": len(contents)}
        ending = str(body.pop("ending", ".bin"))
        body["file"] = file = f"media/{hashlib.sha256(contents).hexdigest()}{safe_name('x' + ending)[1:]}"
        journal.put_file(file, contents)
        return body

    def _begin_attempt(self, row: ForeignRow) -> None:
        self.cursor.attempts.append(
            {
                "number": len(self.cursor.attempts) + 1,
                "started": row.time_us,
                "resume_step": whole_or_none(row.body.get("resume_step")),
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
        last = parse_attempt(self.cursor.attempts[-1] if self.cursor.attempts else {})
        begun = f"r{rank}-attempt"
        attempt = AttemptRow(
            Attempt(number=last.number, world_size=1, resume_step=last.resume_step),
            rank,
            continues=self.cursor.steps.get(begun) == last.number and next_segment(self.folder, rank) > 1,
            imported=True,
        )
        self.cursor.steps[begun] = last.number
        journal = DatedJournal(self.folder, rank, attempt)
        journal.time_us = last.started or int(self.run.created * 1e6)
        if not journal.begin_segment():
            raise StoreError(f"{self.folder.path} cannot be written: make room, and import again")
        self._journals[rank] = journal
        return journal

    def _print(self, name: str, text: str) -> None:
        with open(os.path.join(self.folder.console, name), "ab") as file:
            file.write(text.encode("utf-8", "replace"))
            self.cursor.consoles[name] = file.tell()

    def _note(self, *, complete: bool) -> None:
        """Write down how far it has come, and where each file ends there."""
        cursor = self.cursor
        ends: dict[str, tuple[int, int]] = {}
        for rank, journal in self._journals.items():
            if not journal.sync():
                _refuse(f"{journal.path} cannot be made durable")
            ends[f"r{rank}"] = (journal.segment, os.path.getsize(journal.path))
        for segment in journal_segments(self.folder.journal):
            # A writer that was left behind when another attempt began.
            name = f"r{segment.name.rank}"
            if name not in ends or segment.name.last > ends[name][0]:
                ends[name] = (segment.name.last, segment.size_bytes())
        cursor.version, cursor.complete, cursor.ends, cursor.publishing = self.run.version, complete, ends, None
        if complete:
            run_console = RunFolder(self.folder.path).console
            cursor.publishing = {name: _size_bytes(os.path.join(run_console, name)) for name in cursor.consoles}
            cursor.publishing[""] = 0  # there is something to publish even without a console
        cursor.save(self.folder)

    def _cut_back(self) -> None:
        """Remove what an import that was killed wrote behind its last note."""
        ends = self.cursor.ends
        for segment in journal_segments(self.folder.journal):
            end = ends.get(f"r{segment.name.rank}")
            if end is None or segment.name.first > end[0]:
                os.unlink(segment.path)
            elif segment.name.first == end[0]:
                os.truncate(segment.path, end[1])
        for name in file_names(self.folder.console):
            os.truncate(os.path.join(self.folder.console, name), self.cursor.consoles.get(name, 0))


def publish(folder: RunFolder, cursor: ImportCursor) -> bool:
    """Move what was staged into the run; killed anywhere, it is called again and ends the same.

    Returns:
        Whether the run has attempts that it did not have before.
    """
    stage = StagedFolder(folder.path)
    later = tuple(parse_attempt(one) for one in cursor.attempts)
    if later:
        edit_run_info(folder, lambda now: now._replace(attempts=(*now.attempts[:1], *later)))
    for name in file_names(stage.console):
        make_folder(folder.console)
        before = (cursor.publishing or {}).get(name, 0)
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
    cursor.publishing, cursor.ends, cursor.consoles = None, {}, {}
    cursor.save(folder)
    shutil.rmtree(stage.stage, ignore_errors=True)
    return bool(later)


def _replace(path: str, contents: bytes) -> None:
    """Write a file that belongs to the run, in place of what the source had under that name before."""
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        replace_file(path, contents, durable=False)
    except OSError as error:
        _refuse(f"{path} cannot be written ({error.strerror or error})")


def _refuse(sentence: str) -> None:
    raise StoreError(f"{sentence}; the import goes on where it stopped when it is called again")


def _size_bytes(path: str) -> int:
    try:
        return os.path.getsize(path)
    except OSError:
        return 0


def _number(value: object) -> float:
    return float(value) if isinstance(value, (int, float)) else float(str(value))


# -- values as JSON has them ------------------------------------------------------------------------------------------


def plain_object(values: object) -> JsonObject:
    """A mapping of a source in the types that JSON has; empty for anything else."""
    return object_or_empty(plain(values))


def plain(value: object) -> Json:
    """A value of a source in the types that JSON has."""
    if isinstance(value, dict):
        return {_text(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return {_text(name): plain(inner) for name, inner in zip(value._fields, value, strict=False)}
    if isinstance(value, (list, tuple)):
        return [plain(inner) for inner in value]
    if isinstance(value, (set, frozenset)):
        return sorted((plain(inner) for inner in value), key=str)
    if isinstance(value, float):
        return encode_number(value)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if -(1 << 63) <= value < 1 << 64 else _text(value)
    return _text(value)


def _text(value: object) -> str:
    # A name that came from a file system may have lone surrogates, which UTF-8 does not.
    return str(value).encode("utf-8", "replace").decode()
