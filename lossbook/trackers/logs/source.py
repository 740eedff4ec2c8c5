"""Logs: every file that has steps and numbers is a run.

    experiment_*.json       the JSON log of an experiment, as `lossbook.lm` and others write it (metrics_history)
    trainer_state.json      Hugging Face's Trainer (log_history)
    *.json                  a list of objects
    *.jsonl, *.ndjson       an object a line
    *.csv, *.tsv            a heading, then a line a row; TensorBoard's downloads as well
    *.log, *.out, *.txt     what a trainer printed, in one of the shapes of `line_formats`

`formats.FORMATS` is the registry of formats. A row's step is a column such as `step`, `iteration` or `epoch`; where none is,
the row's number counts, and that is said. A file to which lines are added is read on from where it ended; what a crash or a
hand has damaged costs its own line; what was passed over is a remark.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import time
from collections.abc import Iterator, Sequence
from typing import ClassVar

from lossbook.errors import StoreError
from lossbook.json_shapes import JsonObject
from lossbook.paths import safe_name
from lossbook.trackers.log_options import LogOptions
from lossbook.trackers.logs.columns import flat, moment_in
from lossbook.trackers.logs.format import QUIET_SECONDS
from lossbook.trackers.logs.formats import ENDINGS, TABLE_ENDINGS, look, read_entries
from lossbook.trackers.logs.log import Log
from lossbook.trackers.logs.rows import Reading, rows_of
from lossbook.trackers.source import ForeignRow, ForeignRun, Source, is_run_folder, is_trackers_own, scheme_of

#: Names that say nothing: the run is called after its folder.
_COMMON = frozenset(
    (
        "metrics",
        "log",
        "logs",
        "train",
        "history",
        "progress",
        "results",
        "trainer_state",
        "trainer_log",
        "metric",
        "main",
    )
)
#: Names of files that were passed over, in a sentence about them.
_MOST_NAMES = 5
HELP = (
    "`lossbook import FILE --step COLUMN` names the step of another table, and --pattern 'step (?P<step>\\d+) loss "
    "(?P<loss>\\S+)' reads lines of another shape"
)


class LogFiles(Source):
    """A folder of logs, or one file.

    Args:
        options: what a person says of the logs that nothing else tells.
    """

    kind: ClassVar[str] = "logs"
    title: ClassVar[str] = "JSON, CSV and text logs"
    is_general: ClassVar[bool] = True
    gpu_advice: ClassVar[str] = (
        "a log has what was written into it: log gpu/compute_util_avg and gpu/memory_used_total_gb, or record with "
        "lossbook.init()"
    )
    tells_last_values: ClassVar[bool] = False
    lacks: ClassVar[tuple[str, ...]] = (
        "Texts among the numbers of a row are passed over.",
        "A log of a run that ended without its end_time counts as crashed; others count as finished.",
    )

    @classmethod
    def matches(cls, location: str) -> bool:
        return scheme_of(location) == cls.kind or (location.endswith(ENDINGS) and os.path.isfile(location))

    @classmethod
    def is_meant_beside(cls, location: str) -> bool:
        # Trackers leave files of text that are no logs of a training; a table that is none is worth a remark.
        files = list(_files(location, everything=False)) if os.path.isdir(location) else []
        return any(path.endswith(TABLE_ENDINGS) for path in files) or any(_is_log(path) for path in files)

    def __init__(self, location: str, options: LogOptions | None = None) -> None:
        super().__init__(location)
        self.path = os.path.abspath(location.removeprefix("logs://"))
        self.options = options or LogOptions()
        self._remarks: list[str] = []
        self._readings: dict[str, Reading] = {}
        if not os.path.exists(self.path):
            raise StoreError(
                f"there are no logs at {self.path}: name a folder, or a JSON, JSON Lines, CSV or text file"
            )

    @property
    def address(self) -> str:
        return self.path

    def runs(self) -> Iterator[ForeignRun]:
        whole = os.path.isfile(self.path)
        root = os.path.dirname(self.path) if whole else self.path
        made, passed = list[ForeignRun](), list[str]()
        self._remarks = []
        for path in [self.path] if whole else _files(self.path, everything=self.options.pattern is not None):
            run = self._make_run(root, path, by_ending=not whole)
            if run is not None:
                made.append(run)
            elif path.endswith(TABLE_ENDINGS):
                passed.append(os.path.relpath(path, root))
        if not made and self._remarks:
            raise StoreError("; ".join(self._remarks[:_MOST_NAMES]))
        if not made:
            raise StoreError(
                f"there is no log in {self.path}: a row needs a column such as step, iteration or epoch, and numbers, and a "
                f"printed line one of the shapes of {_titles()}; {HELP}"
            )
        if passed:
            some = ", ".join(passed[:_MOST_NAMES]) + (
                f" and {len(passed) - _MOST_NAMES} more" if len(passed) > _MOST_NAMES else ""
            )
            self._remarks.append(f"no rows of a training are in {some}: passed over")
        yield from sorted(made, key=lambda run: run.created, reverse=True)

    def rows(self, run: ForeignRun, start: int = 0) -> Iterator[ForeignRow]:
        assert isinstance(run.place, Log)
        reading = self._readings[run.id] = Reading(remarks=list(run.place.columns.remarks))
        found = rows_of(run.place, run, reading)
        return itertools.islice(found, start, None) if run.after is None else found

    def remarks(self, run: ForeignRun | None = None) -> Sequence[str]:
        if run is None:
            return self._remarks
        reading = self._readings.get(run.id)
        return reading.remarks if reading is not None and reading.rows else ()

    def _make_run(self, root: str, path: str, *, by_ending: bool) -> ForeignRun | None:
        """What a file says of its run; None where it is no log."""
        try:
            status = os.stat(path)
            if _is_wide(path):
                self._remarks.append(
                    f"{path} is UTF-16, which is not read: `iconv -f UTF-16 -t UTF-8` makes UTF-8 of it"
                )
                return None
            log = look(path, self.options, by_ending=by_ending)
        except OSError as error:
            raise StoreError(f"{path} cannot be read ({error.strerror}); check who owns it") from error
        if log is None:
            return None
        about = log.about
        stem = os.path.splitext(os.path.relpath(path, root))[0]
        outer, base = os.path.split(stem)
        name = about.name or (outer if base.lower() in _COMMON and outer else stem).replace(os.sep, "/")
        quiet = time.time() - status.st_mtime > QUIET_SECONDS
        digest = hashlib.sha256(os.fsencode(os.path.abspath(path))).hexdigest()[:8]
        options = f"-{self.options.digest}" if self.options.digest else ""
        return ForeignRun(
            id=f"{safe_name(name.replace('/', '-'))[:60]}-{digest}",
            name=name,
            project=os.path.basename(root) or "logs",
            created=about.created or _first_time(log) or status.st_mtime,
            version=f"{status.st_size}-{status.st_mtime_ns}-{quiet or log.form != 'csv'}{options}",
            state=about.state,
            ended=about.ended,
            error=about.error,
            config=about.config or _config_beside(path),
            summary=about.summary,
            tags=about.tags,
            notes=about.notes,
            origin={"file": path},
            place=log,
        )


def _is_wide(path: str) -> bool:
    """Whether a file begins as PowerShell's `>` writes text."""
    with open(path, "rb") as file:
        return file.read(2) in (b"\xff\xfe", b"\xfe\xff")


def _is_log(path: str) -> bool:
    try:
        return look(path, LogOptions()) is not None
    except OSError:
        return False


def _titles() -> str:
    return "nanoGPT, llm.c, Megatron, NeMo, torchtitan, fairseq, Hugging Face's Trainer"


def _first_time(log: Log) -> float | None:
    """When the first row of a log was written, if one of the first says so (Unix seconds)."""
    for entry in itertools.islice(read_entries(log, 0, []), 5):
        moment = entry.time if entry.time is not None else moment_in(dict(flat(entry.values)))
        if moment is not None:
            return moment
    return None


def _files(folder: str, *, everything: bool) -> Iterator[str]:
    """The files in a folder that may be logs; none of a run, and none of what is another tracker's."""
    for root, folders, names in os.walk(folder):
        if is_run_folder(names, folders) or is_trackers_own(names, folders):
            folders[:] = []
            continue
        folders[:] = sorted(one for one in folders if not one.startswith("."))
        for name in sorted(names):
            if (everything or name.endswith(ENDINGS)) and not name.startswith("."):
                yield os.path.join(root, name)


def _config_beside(path: str) -> JsonObject:
    """The configuration that Lightning's CSV logger keeps beside its metrics."""
    beside = os.path.join(os.path.dirname(path), "hparams.yaml")
    if not os.path.isfile(beside):
        return {}
    import yaml

    try:
        with open(beside, encoding="utf-8") as file:
            values = yaml.safe_load(file)
    except (OSError, yaml.YAMLError, UnicodeDecodeError):
        return {}
    return {str(key): value for key, value in values.items()} if isinstance(values, dict) else {}
