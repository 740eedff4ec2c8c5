"""What a tracker that has no place for it shows as text: the run, its configuration, tables, the console's end."""

from __future__ import annotations

import datetime
import os
from collections.abc import Mapping, Sequence

import orjson

from lossbook.json_shapes import JsonObject
from lossbook.paths import RunFolder
from lossbook.run_files import open_run_file
from lossbook.trackers.mirror import Subject

#: A table is shown up to here.
MOST_ROWS = 1000
#: So much of the console's end is shown.
CONSOLE_BYTES = 64 << 10


def is_system(key: str) -> bool:
    """Whether a metric describes the machine and not the training."""
    return key.startswith(("system.", "system/"))


def flattened(config: Mapping[str, object], prefix: str = "") -> JsonObject:
    """A nested configuration as one level, keys joined by "/"; what is no number, boolean or text becomes JSON."""
    flat: JsonObject = {}
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            flat.update(flattened(value, f"{prefix}{key}/"))
        elif value is None or isinstance(value, (bool, int, float, str)):
            flat[f"{prefix}{key}"] = value
        else:
            flat[f"{prefix}{key}"] = orjson.dumps(value, default=str).decode()
    return flat


def table_of(columns: Sequence[object], rows: Sequence[Sequence[object]]) -> str:
    """A table in Markdown; of a longer one than `MOST_ROWS` the beginning."""
    lines = [_table_line(columns), _table_line(["---"] * len(columns))]
    lines += [_table_line(row) for row in rows[:MOST_ROWS]]
    if len(rows) > MOST_ROWS:
        lines.append(f"\n{len(rows) - MOST_ROWS} more rows are in Lossbook.")
    return "\n".join(lines)


def config_table(config: Mapping[str, object]) -> str:
    """A configuration, or a summary, as a table in Markdown."""
    return table_of(["key", "value"], list(flattened(config).items()))


def overview(subject: Subject) -> str:
    """Who and what a run is, as a table in Markdown."""
    known = {
        "name": subject.name,
        "project": subject.project,
        "id": subject.id,
        "created": datetime.datetime.fromtimestamp(subject.created, datetime.UTC).isoformat(),
        "tags": ", ".join(subject.tags),
        "group": subject.group,
        "notes": subject.notes,
        "host": subject.info.host.name,
        "git": subject.git.commit,
        "command": " ".join(subject.info.argv),
        "folder": subject.folder.path,
    }
    return config_table({key: value for key, value in known.items() if value})


def console_end(folder: RunFolder) -> str:
    """The end of what rank 0 printed, as a code block in Markdown; empty where nothing was captured."""
    try:
        with open(open_run_file(folder.path, "console/r0.log"), "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - CONSOLE_BYTES))
            printed = file.read().decode("utf-8", "replace")
    except OSError:
        return ""
    # Of a progress bar that redraws its line only what stood there at last.
    lines = [line.rstrip("\r").rpartition("\r")[2] for line in printed.split("\n")]
    return "\n".join(f"    {line}" for line in lines)


def _table_line(cells: Sequence[object]) -> str:
    return "| " + " | ".join(_cell(cell) for cell in cells) + " |"


def _cell(cell: object) -> str:
    return str("" if cell is None else cell).replace("\\", "\\\\").replace("|", "\\|").replace("\n", "<br>")
