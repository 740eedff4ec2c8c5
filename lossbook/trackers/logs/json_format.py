"""Logs in JSON: one value with a history in it, or an object a line."""

from __future__ import annotations

import itertools
from collections.abc import Generator
from typing import ClassVar

import orjson

from lossbook.json_shapes import Json, JsonMapping, JsonObject, object_or_empty, text_or_none
from lossbook.trackers.log_options import LogOptions
from lossbook.trackers.logs.format import LogFormat, lines_before
from lossbook.trackers.logs.log import About, Entry, Log
from lossbook.trackers.logs.values import moment_of, number_of

#: Where a JSON value keeps its rows.
_HISTORIES = ("metrics_history", "log_history", "history")
#: What an experiment's log may say about the whole run.
_SUMMARY = (
    "best_train_loss", "best_val_loss", "final_train_loss", "final_val_loss", "duration_seconds", "best_metric",
    "best_model_checkpoint", "total_flos",
)  # fmt: skip


class JsonLines(LogFormat):
    """An object a line."""

    kind: ClassVar[str] = "lines"
    title: ClassVar[str] = "JSON Lines"
    endings: ClassVar[tuple[str, ...]] = (".jsonl", ".ndjson")

    def look(self, path: str, options: LogOptions) -> Log | None:
        with open(path, "rb") as file:
            head = file.read(4096).lstrip(b"\xef\xbb\xbf \r\n\t")
        return self.with_columns(Log(path, self.kind, options=options)) if head.startswith(b"{") else None

    def entries(self, log: Log, start: int, remarks: list[str]) -> Generator[Entry, None, None]:
        offset = start
        others, first_other = 0, 0
        with open(log.path, "rb") as file:
            file.seek(start)
            for number, line in enumerate(file, lines_before(log.path, start) + 1):
                offset += len(line)
                if not line.strip():
                    continue
                try:
                    entry = orjson.loads(line.lstrip(b"\xef\xbb\xbf"))
                except orjson.JSONDecodeError:
                    if not line.endswith(b"\n"):
                        return  # torn: it is not there yet
                    entry = _json_with_nan(line)
                if isinstance(entry, str):
                    yield Entry({}, number, offset, problem=f"line {number}: {entry}")
                elif isinstance(entry, dict):
                    yield Entry(entry, number, offset)
                else:
                    others, first_other = others + 1, first_other or number
        if others:
            remarks.append(f"{others} lines are no objects and were passed over, the first is line {first_other}")


class JsonFile(LogFormat):
    """One JSON value: a list of objects, or an object with a history in it. JSON Lines under that ending are such."""

    kind: ClassVar[str] = "json"
    title: ClassVar[str] = "JSON"
    endings: ClassVar[tuple[str, ...]] = (".json",)

    def look(self, path: str, options: LogOptions) -> Log | None:
        with open(path, "rb") as file:
            head = file.read(4096).lstrip(b"\xef\xbb\xbf \r\n\t")
            if not head.startswith((b"{", b"[")):
                return None
            contents = head + file.read() if len(head) < 4096 else b""
        if not contents:
            with open(path, "rb") as file:
                contents = file.read()
        problem = None
        try:
            values = orjson.loads(contents)
        except orjson.JSONDecodeError:
            from lossbook.json_repair import parse, salvage

            text = contents.decode("utf-8", "replace").lstrip("\ufeff")
            try:
                values = parse(text)
            except (ValueError, RecursionError):
                lines = JsonLines().look(path, options)
                if lines is not None:
                    return lines
                values, problem = salvage(text)
        if isinstance(values, list):
            about = About(error=problem, state="crashed") if problem else About()
            return self.with_columns(Log(path, self.kind, options=options, entries=values, about=about))
        if not isinstance(values, dict):
            return None
        named = (name for name in _HISTORIES if isinstance(values.get(name), list))
        entries = values.get(next(named, ""))
        if entries is None:
            is_one_line = contents.count(b"\n") > 0 and b"\n" not in contents.strip()
            return JsonLines().look(path, options) if is_one_line else None
        log = Log(path, self.kind, options=options, entries=entries, about=_about(values, problem))
        # An experiment that logged nothing is a run all the same.
        return self.with_columns(log) or (log if "metrics_history" in values else None)

    def entries(self, log: Log, start: int, remarks: list[str]) -> Generator[Entry, None, None]:
        others = 0
        for number, entry in enumerate(itertools.islice(log.entries or [], start, None), start + 1):
            if isinstance(entry, dict):
                yield Entry(entry, number, number)
            else:
                others += 1
        if others:
            remarks.append(f"{others} entries are no objects and were passed over")


def _json_with_nan(line: bytes) -> Json:
    # Python's own writer leaves NaN and Infinity as bare words.
    from lossbook.json_repair import parse

    try:
        entry: Json = parse(line.decode("utf-8", "replace"))
        return entry
    except (ValueError, RecursionError):
        return f"a line of the log is damaged and was passed over: {line[:80].decode('utf-8', 'replace').strip()}"


def _about(values: JsonMapping, problem: str | None) -> About:
    """What an experiment's log says beside its history."""
    config = dict(object_or_empty(values.get("config")))
    ended = moment_of(values.get("end_time"))
    summary: JsonObject = {}
    for name in _SUMMARY:
        value = values.get(name)
        if isinstance(value, (int, float, str)) and not isinstance(value, bool):
            number = number_of(value) if isinstance(value, str) else None
            summary[name] = value if number is None else number
    cut_off = problem is not None or ("start_time" in values and ended is None)
    tags = config.get("tags")
    return About(
        name=text_or_none(config.get("experiment_name")),
        created=moment_of(values.get("start_time")),
        ended=ended,
        state="crashed" if cut_off else "finished",
        error=(f"line {problem}" if problem else "the log has no end_time") if cut_off else None,
        notes=text_or_none(values.get("notes")) or None,
        tags=tuple(str(one) for one in tags) if isinstance(tags, list) else (),
        config=config,
        summary=summary,
    )
