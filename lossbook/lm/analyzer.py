"""`ExperimentAnalyzer`: experiments side by side, from JSON logs or from a store."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lossbook.errors import BadArgument, LossbookError
from lossbook.lm.comparison_table import SHAPE, comparison_table, short
from lossbook.lm.log import ExperimentLog, load_experiment_log
from lossbook.lm.log_writer import file_name
from lossbook.lm.snapshots import MetricsSnapshot, write_csv
from lossbook.lm.stored_logs import logs_of_store
from lossbook.lm.summary import format_seconds, summary_lines
from lossbook.metrics import goal_of, nearest

_STATISTICS = ("train_loss", "val_loss", "learning_rate", "tokens_per_sec", "iter_time_ms")
#: So many are printed when a folder is loaded.
_PROBLEMS_SAID = 20
_AXES = ("iteration", "gradient_step", "wallclock_time")


class Trajectory(NamedTuple):
    """One curve; `x` and `y` are of equal length, rows without a value left out."""

    x: list[float]
    y: list[float]


class LossTrajectories(NamedTuple):
    """Training and validation loss, each against its own x."""

    train: Trajectory
    val: Trajectory


class ExperimentAnalyzer:
    """Loads experiments and compares them.

    Args:
        log_dir: the folder of JSON logs.
        store: read the runs of a Lossbook store instead.

    Attributes:
        logs: by experiment name the log; where several have one name the latest has it, and earlier ones are called
            `name@start time`.
        problems: what could not be read, a sentence each.
    """

    def __init__(
        self, log_dir: str | os.PathLike[str] = "experiment_logs", *, store: str | os.PathLike[str] | None = None
    ) -> None:
        self.log_dir = Path(log_dir)
        self._store = store
        self.logs: dict[str, ExperimentLog] = {}
        self.problems: list[str] = []

    # -- loading ----------------------------------------------------------------------------------------------------

    def load_all(self) -> dict[str, ExperimentLog]:
        """Load every experiment there is; a log that cannot be read is named in `problems`, and said once.

        Raises:
            BadArgument: there is no such folder.
        """
        self.problems = []
        self.logs = {}
        if self._store is not None:
            return self._add(logs_of_store(self._store))
        if not self.log_dir.is_dir():
            raise BadArgument(
                f"there is no folder {self.log_dir} of experiment logs: train with log_dir={str(self.log_dir)!r} first"
            )
        found = []
        for path in sorted(self.log_dir.glob("*.json")):
            try:
                found.append(load_experiment_log(path))
            except LossbookError as error:
                self.problems.append(str(error))
        self._add(found)
        for problem in self.problems[:_PROBLEMS_SAID]:
            print(f"lossbook: {problem}", flush=True)
        if len(self.problems) > _PROBLEMS_SAID:
            print(f"lossbook: and {len(self.problems) - _PROBLEMS_SAID} more; `problems` has them all", flush=True)
        return self.logs

    def load_specific(self, path: str | os.PathLike[str]) -> ExperimentLog:
        """Load one experiment: a log's path, or its file name or experiment name in `log_dir`.

        Raises:
            BadArgument: there is none.
            DamagedFile: it cannot be read.
        """
        for candidate in (Path(path), self.log_dir / path, self.log_dir / f"{os.fspath(path)}.json"):
            if candidate.is_file():
                log = load_experiment_log(candidate)
                self._add([log])
                return log
        named = sorted(self.log_dir.glob(f"experiment_{os.fspath(path)}_*.json"))
        if named:
            log = load_experiment_log(named[-1])
            self._add([log])
            return log
        raise BadArgument(f"there is no experiment log {os.fspath(path)!r} in {self.log_dir}")

    def _add(self, found: Iterable[ExperimentLog]) -> dict[str, ExperimentLog]:
        by_path = {log.path: log for log in self.logs.values()}
        for log in found:
            by_path[log.path] = log
            self.problems += [problem for problem in log.problems if problem not in self.problems]
        logs = sorted(by_path.values(), key=lambda one: one.started or 0.0)
        latest = {log.name: log for log in logs}
        self.logs = {}
        for number, log in enumerate(logs):
            name = log.name
            if latest[name] is not log:
                name = f"{name}@{log.start_time or number}"
                while name in self.logs or name in latest:
                    name += "'"
            self.logs[name] = log
        return self.logs

    # -- asking -----------------------------------------------------------------------------------------------------

    def get(self, name: str) -> ExperimentLog:
        """The log of an experiment.

        Raises:
            BadArgument: there is none of that name; the message names the nearest.
        """
        if name not in self.logs:
            close = nearest(name, self.logs) or list(self.logs)[:5]
            known = f"there are {', '.join(close)}" if close else "load_all() found none"
            raise BadArgument(f"there is no experiment {name!r}; {known}")
        return self.logs[name]

    def get_comparison_table(self, *, sort: str = "val_loss") -> str:
        """All experiments as a text table, the best first.

        Args:
            sort: "val_loss", "train_loss", "name" or "start".
        """
        if not self.logs:
            return f"no experiments in {self._store or self.log_dir}"
        return comparison_table(self._ordered(sort))

    def _ordered(self, sort: str) -> list[tuple[str, ExperimentLog]]:
        items = list(self.logs.items())
        if sort == "name":
            return sorted(items)
        if sort == "start":
            return sorted(items, key=lambda item: item[1].started or 0.0)
        if sort not in ("val_loss", "train_loss"):
            raise BadArgument(f"sort={sort!r} is not known: use val_loss, train_loss, name or start")
        field = f"best_{sort}"
        other = "best_train_loss" if sort == "val_loss" else "best_val_loss"
        return sorted(
            items, key=lambda item: (_or_infinity(getattr(item[1], field)), _or_infinity(getattr(item[1], other)))
        )

    def get_best_experiment(self, metric: str = "val_loss") -> tuple[str, float]:
        """The best experiment by a metric, and what it reached.

        Args:
            metric: a column of the history ("val_loss", "tokens_per_sec"), or a field such as "final_val_loss" or
                "duration_seconds". Losses and times are better low, throughput is better high.

        Raises:
            BadArgument: no experiment has that metric.
        """
        higher = goal_of(metric) == "maximize"
        found: list[tuple[float, str]] = []
        for name, log in self.logs.items():
            value = self._value(log, metric, higher)
            if value is not None and math.isfinite(value):
                found.append((value, name))
        if not found:
            known = [
                *_STATISTICS,
                "best_val_loss",
                "final_val_loss",
                "best_train_loss",
                "final_train_loss",
                "duration_seconds",
            ]
            raise BadArgument(f"no experiment has a {metric!r}; ask for one of {', '.join(known)}")
        value, name = max(found) if higher else min(found)
        return name, value

    @staticmethod
    def _value(log: ExperimentLog, metric: str, higher: bool) -> float | None:
        direct = getattr(log, f"best_{metric}", getattr(log, metric, None))
        if isinstance(direct, (int, float)) and not isinstance(direct, bool):
            return float(direct)
        if metric not in MetricsSnapshot._fields:
            return None
        values: list[float] = [
            value for one in log.metrics_history if (value := getattr(one, metric)) is not None and math.isfinite(value)
        ]
        if not values:
            return None
        return max(values) if higher else min(values)

    def get_summary_stats(self, name: str) -> dict[str, Any]:
        """What an experiment came to: losses, steps, seconds, and of each column its count, mean, minimum, maximum."""
        log = self.get(name)
        last = log.metrics_history[-1] if log.metrics_history else None
        statistics: dict[str, Any] = {
            "experiment_name": name,
            "start_time": log.start_time,
            "end_time": log.end_time,
            "duration_seconds": log.duration_seconds,
            "best_train_loss": log.best_train_loss,
            "best_val_loss": log.best_val_loss,
            "final_train_loss": log.final_train_loss,
            "final_val_loss": log.final_val_loss,
            "total_iterations": last.iteration + 1 if last else 0,
            "total_gradient_steps": last.gradient_step if last else 0,
            "num_snapshots": len(log.metrics_history),
            "notes": log.notes,
            "problems": list(log.problems),
        }
        for column in _STATISTICS:
            values = [value for one in log.metrics_history if (value := getattr(one, column)) is not None]
            finite = [value for value in values if math.isfinite(value)]
            if values:
                statistics[column] = {
                    "count": len(values),
                    "not_finite": len(values) - len(finite),
                    "last": values[-1],
                    "mean": math.fsum(finite) / len(finite) if finite else None,
                    "min": min(finite, default=None),
                    "max": max(finite, default=None),
                }
        return statistics

    def compare_experiments(self, names: Sequence[str] | None = None) -> dict[str, dict[str, Any]]:
        """By experiment, its statistics and the configuration in which it differs from the others.

        Raises:
            BadArgument: an experiment that is not there.
        """
        chosen = list(self.logs) if names is None else list(names)
        configs = {name: self.get(name).config.to_dict() for name in chosen}
        fields = dict.fromkeys(field for config in configs.values() for field in config)
        differing = [
            field
            for field in fields
            if field != "experiment_name" and len({repr(config.get(field)) for config in configs.values()}) > 1
        ]
        return {
            name: {**self.get_summary_stats(name), "differs": {field: configs[name].get(field) for field in differing}}
            for name in chosen
        }

    # -- curves -----------------------------------------------------------------------------------------------------

    def get_loss_trajectories(
        self, names: str | Sequence[str] | None = None, *, x: str = "iteration"
    ) -> dict[str, LossTrajectories]:
        """By experiment its losses against "iteration", "gradient_step" or "wallclock_time" (seconds)."""
        return {
            name: LossTrajectories(self._trajectory(name, "train_loss", x), self._trajectory(name, "val_loss", x))
            for name in self._chosen(names)
        }

    def get_throughput_trajectories(
        self, names: str | Sequence[str] | None = None, *, x: str = "iteration"
    ) -> dict[str, Trajectory]:
        """By experiment its tokens per second."""
        return {name: self._trajectory(name, "tokens_per_sec", x) for name in self._chosen(names)}

    def get_learning_rate_trajectories(
        self, names: str | Sequence[str] | None = None, *, x: str = "iteration"
    ) -> dict[str, Trajectory]:
        """By experiment its learning rate."""
        return {name: self._trajectory(name, "learning_rate", x) for name in self._chosen(names)}

    def _chosen(self, names: str | Sequence[str] | None) -> list[str]:
        if names is None:
            return list(self.logs)
        return [names] if isinstance(names, str) else list(names)

    def _trajectory(self, name: str, column: str, x: str) -> Trajectory:
        if x not in _AXES:
            raise BadArgument(f"x={x!r} is not known: use one of {', '.join(_AXES)}")
        rows = [
            (getattr(one, x), value)
            for one in self.get(name).metrics_history
            if (value := getattr(one, column)) is not None
        ]
        return Trajectory([place for place, _ in rows], [value for _, value in rows])

    # -- out --------------------------------------------------------------------------------------------------------

    def print_summary(self, name: str) -> None:
        """Print what an experiment came to.

        Raises:
            BadArgument: there is none of that name.
        """
        log, statistics = self.get(name), self.get_summary_stats(name)
        shape = ", ".join(
            f"{field} {short(value)}" for field, _ in SHAPE if (value := getattr(log.config, field)) is not None
        )
        rate = (statistics.get("tokens_per_sec") or {}).get("mean")
        facts = [
            ("configuration", shape),
            ("started", log.start_time),
            ("ended", log.end_time),
            ("wallclock", format_seconds(log.duration_seconds)),
            ("iterations", f"{statistics['total_iterations']:,}"),
            ("gradient steps", f"{statistics['total_gradient_steps']:,}"),
            ("best training loss", log.best_train_loss),
            ("best validation loss", log.best_val_loss),
            ("final training loss", log.final_train_loss),
            ("final validation loss", log.final_val_loss),
            ("tokens per second", f"{rate:,.0f}" if rate else ""),
            ("notes", log.notes),
            *(("problem", problem) for problem in log.problems),
        ]
        print("\n".join(summary_lines(name, facts)), flush=True)

    def export_csv(self, name: str, path: str | os.PathLike[str] | None = None) -> Path:
        """Write an experiment's history as CSV; default `{log_dir}/{name}_metrics.csv`.

        Raises:
            BadArgument: there is none of that name.
        """
        log = self.get(name)
        where = Path(path) if path is not None else self.log_dir / f"{file_name(name)}_metrics.csv"
        write_csv(where, log.metrics_history)
        return where

    def write_report(self, path: str | os.PathLike[str] = "EXPERIMENT_LOG.md") -> Path:
        """Write or refresh `EXPERIMENT_LOG.md`; what was written into it by hand stays.

        Raises:
            DamagedFile: a marker in the file was damaged; nothing is changed then.
        """
        from lossbook.analysis import ReportEntry, write_report
        from lossbook.json_shapes import object_or_empty

        entries = [
            ReportEntry(
                name=name,
                started=log.started or 0.0,
                ended=None,
                state="finished" if log.end_time else "unfinished",
                duration_seconds=log.duration_seconds or 0.0,
                config=object_or_empty(log.config.to_dict()),
                results={
                    "best training loss": log.best_train_loss,
                    "best validation loss": log.best_val_loss,
                    "final training loss": log.final_train_loss,
                    "final validation loss": log.final_val_loss,
                },
                notes=log.notes,
                link=log.path,
            )
            for name, log in self._ordered("start")
        ]
        write_report(entries, path)
        return Path(path)


def print_experiment_summary(log_dir: str | os.PathLike[str] = "experiment_logs") -> None:
    """Print the table of all experiments, and which of them is the best."""
    analyzer = ExperimentAnalyzer(log_dir)
    analyzer.load_all()
    print(analyzer.get_comparison_table())
    for metric in ("val_loss", "train_loss"):
        try:
            name, value = analyzer.get_best_experiment(metric)
        except BadArgument:
            continue
        print(f"best {metric}: {name} with {value:.6f}", flush=True)
        break


def _or_infinity(value: float | None) -> float:
    return math.inf if value is None or value != value else value
