"""Writes the JSON log of an experiment from its run's rows; memory does not grow with the run."""

from __future__ import annotations

import datetime
import math
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import orjson

from lossbook.errors import LossbookError
from lossbook.journal import encode_number
from lossbook.json_shapes import Json, JsonObject
from lossbook.lm.snapshots import MetricsSnapshot, snapshots_of
from lossbook.paths import read_json, replace_file, replacing


@dataclass(frozen=True)
class LogHeading:
    """What a log says beside its history.

    Attributes:
        started, ended: Unix seconds; `ended` is None while the experiment runs.
        best, final: losses by "train" and "val"; what is missing is taken from the history.
        run: id, project and folder of the run; empty where there is none.
    """

    config: Mapping[str, object]
    started: float
    ended: float | None
    duration_seconds: float
    best: Mapping[str, float]
    final: Mapping[str, float | None]
    notes: str
    run: JsonObject


def claim_path(folder: Path, name: str, started: float) -> Path:
    """A path `experiment_{name}_{timestamp}.json` that no other experiment has: the file is made here, empty.

    Raises:
        OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    number = 1
    while True:
        path = path_of_log(folder, name, started, number)
        try:
            path.open("x").close()
            return path
        except FileExistsError:
            number += 1


def path_of_log(folder: Path, name: str, started: float, number: int = 1) -> Path:
    """`experiment_{name}_{timestamp}.json`; the `number`th of that name and second."""
    stamp = datetime.datetime.fromtimestamp(started).strftime("%Y%m%d_%H%M%S")
    return folder / f"experiment_{file_name(name)}_{stamp}{'' if number == 1 else f'-{number}'}.json"


def file_name(name: str) -> str:
    """An experiment's name as part of a file's, on every file system."""
    return (re.sub(r"[^A-Za-z0-9_.\-+=@]+", "_", name).strip(".") or "experiment")[:150]


def write_log(path: Path, heading: LogHeading, *, folder: str | None) -> None:
    """Write a log, replacing the one at `path` in one step.

    Args:
        heading: everything but the history.
        folder: of the run whose rows become the history; None for none.

    Raises:
        StoreError, OSError: the run cannot be read or the log not written; what was there stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=path.parent) as history:
        found = _write_history(history, snapshots_of(folder) if folder else iter(()))
        best, final = heading.best, heading.final
        head = {
            "config": heading.config,
            "start_time": _iso(heading.started),
            "end_time": _iso(heading.ended),
            "duration_seconds": heading.duration_seconds,
            "best_train_loss": best.get("train", found.get("best_train_loss")),
            "best_val_loss": best.get("val", found.get("best_val_loss")),
            "final_train_loss": final.get("train", found.get("final_train_loss")),
            "final_val_loss": final.get("val", found.get("final_val_loss")),
        }
        tail = {"notes": heading.notes, "run": heading.run}
        before = orjson.dumps(plain_json(head), option=orjson.OPT_INDENT_2)[:-2]  # without the closing brace
        after = orjson.dumps(plain_json(tail), option=orjson.OPT_INDENT_2)[2:]
        history.seek(0)
        with replacing(os.fspath(path)) as partial, open(partial, "wb") as file:
            file.write(before + b',\n  "metrics_history": [')
            shutil.copyfileobj(history, file, 1 << 20)
            file.write(b"\n  ],\n" + after + b"\n")
            file.flush()
            os.fsync(file.fileno())


def _write_history(file: IO[bytes], snapshots: Iterator[MetricsSnapshot]) -> dict[str, float]:
    """Write the entries of the history; returns best and final losses as they went by."""
    found: dict[str, float] = {}
    between = b"\n    "
    for one in snapshots:
        values = one._asdict()
        for name in ("train_loss", "val_loss"):
            value = values[name]
            if value is not None:
                found[f"final_{name}"] = value
                if math.isfinite(value):
                    found[f"best_{name}"] = min(value, found.get(f"best_{name}", math.inf))
        for name, value in values.items():
            if isinstance(value, float) and not math.isfinite(value):
                values[name] = encode_number(value)
        file.write(between + orjson.dumps(values))
        between = b",\n    "
    return found


def write_summary(folder: Path, name: str, value: Mapping[str, object], run_id: str) -> Path:
    """Write `{name}_summary.json`, or `{name}_{run id}_summary.json` where another run has that name."""
    safe = file_name(name)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{safe}_summary.json"
    try:
        other = read_json(str(path))
    except LossbookError:
        other = {}
    if other is not None and other.get("run_id") != run_id:
        path = folder / f"{safe}_{run_id}_summary.json"
    replace_file(str(path), orjson.dumps(plain_json(value), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    return path


def plain_json(value: object) -> Json:
    """A value as JSON can hold it; what it has no form for becomes a text."""
    if isinstance(value, Mapping):
        return {_plain_text(str(key)): plain_json(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain_json(inner) for inner in value]
    if isinstance(value, float):
        return encode_number(value)
    if value is None or isinstance(value, bool) or (isinstance(value, int) and -(2**63) <= value < 2**64):
        return value
    return _plain_text(str(value))


def _plain_text(text: str) -> str:
    # A name that came from a file system may have lone surrogates, which UTF-8 does not.
    return text.encode("utf-8", "replace").decode()


def _iso(seconds: float | None) -> str | None:
    return datetime.datetime.fromtimestamp(seconds).isoformat() if seconds else None
