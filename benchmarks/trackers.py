"""The trackers that are compared: for each how a run begins, logs, ends, and how its own tools read it back.

Each is used as its documentation shows, without network, at its default settings. `start` returns the callable
that the loop calls with `(row, step)`; nothing of ours stands between the clock and the tracker.
"""

from __future__ import annotations

import glob
import importlib.metadata
import importlib.util
import os
import struct
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.work import Row

Log = Callable[[Row, int], Any]
PROJECT = "bench"
OURS = "lossbook"
PEERS = ("wandb", "trackio", "tensorboardX")


class Tracker(ABC):
    """One tracker; it writes below `folder` only, which the environment of the process already names."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    @abstractmethod
    def start(self, name: str = "run") -> Log:
        """Begin a run; returns what logs one row."""

    @abstractmethod
    def finish(self) -> None:
        """End the run as a script does."""

    @abstractmethod
    def read(self, key: str) -> tuple[list[int], list[float]]:
        """Every step and value of one series of the run in `folder`, with the tracker's own reader."""


class Lossbook(Tracker):
    def start(self, name: str = "run") -> Log:
        import lossbook

        self.run = lossbook.init(project=PROJECT, name=name, store=os.path.join(self.folder, "lossbook"))
        return self.run.log

    def finish(self) -> None:
        self.run.finish()

    def read(self, key: str) -> tuple[list[int], list[float]]:
        import lossbook

        history = lossbook.open(os.path.join(self.folder, "lossbook")).run("latest").history([key]).numpy()
        return history["step"].tolist(), history[key].tolist()


class Wandb(Tracker):
    def start(self, name: str = "run") -> Log:
        import wandb

        self.run = wandb.init(project=PROJECT, name=name, mode="offline", dir=self.folder)
        log: Log = self.run.log
        return log

    def finish(self) -> None:
        self.run.finish()

    def read(self, key: str) -> tuple[list[int], list[float]]:
        # wandb has no reader of its offline files; this is the least that gets a series out of one.
        from wandb.proto.wandb_internal_pb2 import Record

        steps, values = [], []
        for path in glob.glob(os.path.join(self.folder, "wandb", "offline-run-*", "*.wandb")):
            for text in _leveldb_records(path):
                record = Record()
                record.ParseFromString(text)
                if record.WhichOneof("record_type") != "history":
                    continue
                for item in record.history.item:
                    if item.key == key or "/".join(item.nested_key) == key:
                        steps.append(record.history.step.num)
                        values.append(float(item.value_json))
        return steps, values


class Trackio(Tracker):
    def start(self, name: str = "run") -> Log:
        import trackio

        self.run = trackio.init(project=PROJECT, name=name, embed=False)
        log: Log = self.run.log
        return log

    def finish(self) -> None:
        self.run.finish()

    def read(self, key: str) -> tuple[list[int], list[float]]:
        from trackio.sqlite_storage import SQLiteStorage

        found = SQLiteStorage.get_metric_values(PROJECT, "run", key)
        return [row["step"] for row in found], [float(row["value"]) for row in found]


class TensorBoardX(Tracker):
    def start(self, name: str = "run") -> Log:
        from tensorboardX import SummaryWriter

        self.writer = SummaryWriter(os.path.join(self.folder, "tensorboard", name))
        add_scalar = self.writer.add_scalar

        def log(row: Row, step: int) -> None:
            for key, value in row.items():
                add_scalar(key, value, step)

        return log

    def finish(self) -> None:
        self.writer.close()

    def read(self, key: str) -> tuple[list[int], list[float]]:
        from tensorboard.backend.event_processing.event_accumulator import SCALARS, EventAccumulator

        accumulator = EventAccumulator(os.path.join(self.folder, "tensorboard", "run"), size_guidance={SCALARS: 0})
        events = accumulator.Reload().Scalars(key)
        return [event.step for event in events], [event.value for event in events]


class Nothing(Tracker):
    """No tracker: what a loop costs by itself, and how much two measurements of the same differ."""

    def start(self, name: str = "run") -> Log:
        return lambda row, step: None

    def finish(self) -> None:
        pass

    def read(self, key: str) -> tuple[list[int], list[float]]:
        return [], []


TRACKERS: dict[str, type[Tracker]] = {
    OURS: Lossbook,
    "wandb": Wandb,
    "trackio": Trackio,
    "tensorboardX": TensorBoardX,
    "nothing": Nothing,
}


def installed(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


def version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        module = __import__(name)
        return str(getattr(module, "__version__", "unknown"))


def environment(folder: str) -> dict[str, str]:
    """The variables that keep every tracker inside `folder` and off the network."""
    inside = {
        "HOME": folder,
        "LOSSBOOK_STORE": os.path.join(folder, "lossbook"),
        "LOSSBOOK_CACHE": os.path.join(folder, "cache"),
        "WANDB_MODE": "offline",
        "WANDB_SILENT": "true",
        "WANDB_DIR": folder,
        "TRACKIO_DIR": os.path.join(folder, "trackio"),
        "HF_HUB_OFFLINE": "1",
        "GRADIO_ANALYTICS_ENABLED": "False",
        # One thread for the matrix products of the stand-in step: more would fight with what is measured.
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
    }
    outside = {name: value for name, value in os.environ.items() if not name.startswith(("LOSSBOOK_", "WANDB_"))}
    # Without byte code on disk every import would be a compilation, for all of them.
    outside.pop("PYTHONDONTWRITEBYTECODE", None)
    return outside | inside


def recorded_in(name: str, folder: str) -> str:
    """Where under `folder` a tracker keeps its runs."""
    return os.path.join(folder, {"tensorboardX": "tensorboard"}.get(name, name))


def _leveldb_records(path: str) -> Iterator[bytes]:
    """The records of a `.wandb` file (LevelDB's log format behind a header of 7 bytes), up to a torn one."""
    block_bytes = 32768
    with open(path, "rb") as file:
        text = file.read()
    position = 7
    parts = b""
    while position + 7 <= len(text):
        left = block_bytes - position % block_bytes
        if left < 7:
            position += left
            continue
        _, length, kind = struct.unpack_from("<IHB", text, position)
        body = text[position + 7 : position + 7 + length]
        if len(body) < length or kind == 0:
            return
        position += 7 + length
        parts = body if kind in (1, 2) else parts + body
        if kind in (1, 4):
            yield parts
