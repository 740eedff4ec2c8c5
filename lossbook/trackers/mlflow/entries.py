"""A row as MLflow can take it: names that it allows, points that it tells apart, files for what it has no type for.

Everything here is a pure function of the rows, in order, so a row that is delivered a second time after a kill
becomes the very same entries. Nothing here imports MLflow.
"""

from __future__ import annotations

import hashlib
import json
import os
import posixpath
import re
import uuid
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from lossbook.json_shapes import Json, JsonMapping, JsonObject, list_or_empty, object_or_empty, whole_or_none
from lossbook.run_files import NoSuchRunFile, read_run_file, run_file_path
from lossbook.trackers.mirror import LoggedRow

#: MLflow's limits (`mlflow.utils.validation`), in characters. A changed key is kept shorter, because its note is a
#: tag whose own key is `lossbook.key.` and the changed key.
LONGEST_KEY = 250
LONGEST_CHANGED_KEY = 230
LONGEST_PARAMETER = 6000
LONGEST_TAG = 8000
#: What MLflow's pages show under "System metrics" begins so.
SYSTEM = "system/"
#: How far back (ms) points are remembered to tell equal ones apart: rows come in the order of time, or nearly.
REMEMBERED_MS = 5

# `\w` is Python's here and at MLflow: letters of every alphabet are allowed.
_FORBIDDEN = re.compile(r"[^/\w.\- :]")
_FORBIDDEN_IN_PATH = re.compile(r"[^A-Za-z0-9_.\-~ ]")


class Point(NamedTuple):
    """One metric's value, with MLflow's time: whole milliseconds."""

    key: str
    value: float
    time_ms: int
    step: int


class Artifact(NamedTuple):
    """One file of the remote run: its path there, and its bytes or the local file to copy."""

    path: str
    contents: bytes | None
    source: str | None = None


def safe_key(key: str) -> str:
    """`key` itself where MLflow allows it, else a readable form with 8 hex digits of its SHA-256, so none collide.

    MLflow allows letters, digits and `_ - . : /` and spaces, 250 in all, and no key that is not its own normal form
    as a path (`a//b`, `/a`, `a/../b`).
    """
    kept = _FORBIDDEN.sub("_", key)
    normal = posixpath.normpath(key) == key and key != "." and not key.startswith(("/", ".."))
    if kept == key and normal and len(key) <= LONGEST_KEY:
        return key
    digest = hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    parts = "/".join(part for part in kept.split("/") if part not in ("", ".", ".."))
    stem = parts[: LONGEST_CHANGED_KEY - 9].rstrip("/")
    return f"{stem}-{digest}" if stem else digest


def metric_name(key: str, rank: int) -> str:
    """The metric's name before it is made safe: system metrics where MLflow shows them, other ranks apart."""
    if key.startswith("system."):
        key = SYSTEM + key[len("system.") :]
    return f"{key}/rank_{rank}" if rank > 0 else key


class DistinctTimes:
    """Moves a point by whole milliseconds where MLflow would otherwise take two rows for one.

    The primary key of MLflow's metrics is key, millisecond, step, run and value: rows that agree in all of them are
    one point there, and the second is dropped in silence. The same rows in the same order give the same times.
    """

    def __init__(self, remembered: JsonMapping | None = None) -> None:
        """
        Args:
            remembered: what `to_json` gave at the last flush.
        """
        known = remembered or {}
        self._newest_ms = whole_or_none(known.get("newest_ms")) or 0
        self._last_ms: dict[tuple[str, int, str], int] = {}
        for point in list_or_empty(known.get("points")):
            match point:
                case [str(key), int(step), str(value), int(last)]:
                    self._last_ms[key, step, value] = last

    def place(self, key: str, value: float, time_ms: int, step: int) -> Point:
        if time_ms > self._newest_ms + REMEMBERED_MS:
            self._forget(time_ms)
        self._newest_ms = max(self._newest_ms, time_ms)
        identity = (key, step, repr(value))
        last = self._last_ms.get(identity)
        # What has been forgotten must not count, or the result would depend on when the forgetting was done.
        if last is not None and last >= time_ms and last >= self._newest_ms - REMEMBERED_MS:
            time_ms = last + 1
        self._last_ms[identity] = time_ms
        return Point(key, value, time_ms, step)

    def _forget(self, now_ms: int) -> None:
        self._last_ms = {one: last for one, last in self._last_ms.items() if last >= now_ms - REMEMBERED_MS}

    def to_json(self) -> JsonObject:
        points: list[Json] = [
            [key, step, value, last]
            for (key, step, value), last in self._last_ms.items()
            if last >= self._newest_ms - REMEMBERED_MS
        ]
        return {"newest_ms": self._newest_ms, "points": points}


def flat_config(config: Mapping[str, object]) -> dict[str, str]:
    """A configuration as MLflow's parameters: nested keys joined by dots, values as `mlflow.log_params` has them."""
    return dict(_flatten(config, ""))


def _flatten(config: Mapping[str, object], prefix: str) -> Iterator[tuple[str, str]]:
    for name, value in config.items():
        key = f"{prefix}{name}"
        if isinstance(value, Mapping) and value:
            yield from _flatten(value, f"{key}.")
        else:
            # `str` as MLflow does it (`True`, `None`, `0.0003`), but JSON for what has an inside.
            inside = isinstance(value, (list, tuple, Mapping))
            yield key, json.dumps(value, ensure_ascii=False) if inside else str(value)


def summary_points(body: Mapping[str, object]) -> Iterator[tuple[str, float | str]]:
    """The summary's values: numbers as floats, anything else as text."""
    for name, value in body.items():
        if isinstance(value, Mapping):
            for inner, one in summary_points(value):
                yield f"{name}/{inner}", one
        elif isinstance(value, (int, float)) or value in ("NaN", "Infinity", "-Infinity"):
            yield str(name), float(value)
        else:
            yield str(name), value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


#: Kinds of row that become a JSON file each, and in which folder of the remote run.
_AS_JSON = {
    "histogram": "histograms", "alert": "alerts", "checkpoint": "checkpoints", "stage": "stages",
    "warning": "warnings", "attempt": "attempts", "define": "definitions",
}  # fmt: skip


def artifacts_of(row: LoggedRow, run_path: str) -> Iterable[Artifact]:
    """The files that hold a row for which MLflow has no type; none for kinds that it has one for.

    Args:
        run_path: the run's folder, which media rows name their files in.
    """
    if row.kind == "image":
        return _image(row, run_path)
    name = _place_of(row)
    if row.kind in ("text", "note"):
        folder = "text" if row.kind == "text" else "notes"
        return [Artifact(f"{folder}/{name}.txt", str(row.body.get("text", "")).encode("utf-8", "replace"))]
    if row.kind == "table":
        return [_table(row, run_path, f"tables/{name}.json")]
    if row.kind in _AS_JSON:
        return [Artifact(f"{_AS_JSON[row.kind]}/{name}.json", _json({**_about(row), **row.body}))]
    return []


def _about(row: LoggedRow) -> JsonObject:
    about = {"key": row.key, "step": row.step, "time": row.time_us / 1e6, "rank": row.rank}
    return {name: value for name, value in about.items() if value is not None}


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, indent=1).encode("utf-8", "replace")


def _place_of(row: LoggedRow) -> str:
    """A path that no other row of the run has, the same whenever it is asked for."""
    parts = [_path_part(part) for part in (row.key or "").split("/")]
    step = "" if row.step is None else f"step{row.step}-"
    return "/".join([*filter(None, parts), f"{step}r{row.rank}-{row.i}"])


def _path_part(part: str) -> str:
    kept = _FORBIDDEN_IN_PATH.sub("_", part)[:80].strip()
    return "" if kept in ("", ".", "..") else kept


def _missing(path: str, file: str) -> Artifact:
    sentence = f"the file {file} of this row was not in the run's folder when the row was delivered\n"
    return Artifact(f"{path}.missing.txt", sentence.encode())


def _table(row: LoggedRow, run_path: str, path: str) -> Artifact:
    """As `MlflowClient.log_table` writes one (pandas' orient="split"), so `load_table` reads it."""
    body = row.body
    if "rows" not in body:
        try:
            body = object_or_empty(json.loads(read_run_file(run_path, str(body.get("file")))))
        except (OSError, ValueError, RecursionError):
            return _missing(path, str(body.get("file")))
    return Artifact(path, _json({"columns": body.get("columns", []), "data": body.get("rows", [])}))


def _image(row: LoggedRow, run_path: str) -> list[Artifact]:
    """Under the name that `MlflowClient.log_image` gives a picture with a step, so MLflow's image grid shows it.

    MLflow draws a random number for each picture; here it comes from the row, so a second delivery overwrites.
    """
    file = str(row.body.get("file", ""))
    key = _FORBIDDEN_IN_PATH.sub("_", (row.key or "image").replace("/", "~"))[:150]
    number = uuid.uuid5(uuid.NAMESPACE_URL, f"lossbook:{file}:{row.rank}:{row.i}")
    stem = f"images/{key}+step+{row.step or 0}+timestamp+{row.time_us // 1000}+{number}"
    ending = os.path.splitext(file)[1] or ".png"
    try:
        source = run_file_path(run_path, file)
    except NoSuchRunFile:
        return [_missing(stem, file)]
    result = [Artifact(f"{stem}{ending}", None, source), _thumbnail(f"{stem}+compressed", source, ending)]
    if row.body.get("caption"):
        result.append(Artifact(f"{stem}.caption.txt", str(row.body["caption"]).encode("utf-8", "replace")))
    return result


def _thumbnail(stem: str, source: str, ending: str) -> Artifact:
    """The small picture that the grid loads: 256 pixels at the most; without Pillow the picture itself."""
    try:
        import io

        from PIL import Image

        with Image.open(source) as picture:
            small = picture.convert("RGBA")
        small.thumbnail((256, 256))
        buffer = io.BytesIO()
        small.save(buffer, format="WEBP")
        return Artifact(f"{stem}.webp", buffer.getvalue())
    except Exception:  # no Pillow, no WebP in it, or a picture that it cannot read
        return Artifact(f"{stem}{ending}", None, source)
