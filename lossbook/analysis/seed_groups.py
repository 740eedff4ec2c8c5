"""Puts runs into groups that differ in their seed alone: equal settings but for seeds, places and names of one run."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, TypeAlias

from lossbook.analysis.compare import differing_settings, flatten_settings
from lossbook.errors import BadArgument, UnknownRun
from lossbook.formatting import number
from lossbook.json_shapes import Json, JsonObject
from lossbook.metrics import nearest
from lossbook.reading import bare, compile_value, refuse_unknown

if TYPE_CHECKING:
    from lossbook.reading import RecordedRun

#: The last part of a setting's name that is a seed.
_SEED = re.compile(r"(?:.*_)?seed(?:_.*)?|random_state", re.IGNORECASE)
#: The last part of a setting's name that is a place or a name of one run. `data_dir` is none: data make a difference.
PLACES = frozenset(
    [
        "output_dir",
        "out_dir",
        "outdir",
        "output_path",
        "output_file",
        "save_dir",
        "save_path",
        "log_dir",
        "logdir",
        "logging_dir",
        "log_path",
        "log_file",
        "run_dir",
        "work_dir",
        "working_dir",
        "checkpoint_dir",
        "checkpoint_path",
        "ckpt_dir",
        "ckpt_path",
        "result_dir",
        "results_dir",
        "exp_dir",
        "tensorboard_dir",
        "run_name",
        "run_id",
        "wandb_run_name",
        "wandb_name",
        "wandb_run_id",
        "experiment_name",
        "exp_name",
        "exp_id",
        "trial_name",
        "trial_id",
        "job_name",
        "job_id",
        "slurm_job_id",
        "timestamp",
        "hostname",
    ]
)

_Same: TypeAlias = "tuple[str, object]"


@dataclass(frozen=True)
class RunGroup:
    """Runs of one recipe.

    Attributes:
        project: theirs; empty where they are of several.
        settings: what tells this group from the others, by dotted name.
        runs: in the order in which they were given.
    """

    project: str
    settings: JsonObject
    runs: tuple[RecordedRun, ...]

    @property
    def label(self) -> str:
        """The settings in one line, such as `optimizer=adamw, lr=0.001`; `all` where nothing differs."""
        return ", ".join(f"{name}={setting_text(value)}" for name, value in self.settings.items()) or "all"


@dataclass(frozen=True)
class Grouping:
    """Groups, and what was left out to make them.

    Attributes:
        groups: in the order of their first runs.
        names: of the settings that tell the groups apart.
        left_out: the settings that were not looked at because they are a seed, a place or a name, or were to be ignored.
        remarks: what the one who asked should know, a sentence each.
    """

    groups: tuple[RunGroup, ...]
    names: tuple[str, ...]
    left_out: tuple[str, ...]
    remarks: tuple[str, ...] = ()


def is_seed(name: str) -> bool:
    """Whether a setting, by its dotted name, is a seed: `seed`, `data_seed`, `seed_everything`, `random_state`."""
    return _SEED.fullmatch(name.rpartition(".")[2]) is not None


def seed_of(run: RecordedRun) -> tuple[_Same, ...]:
    """The seeds of a run; empty where its configuration has none."""
    return tuple(sorted((name, _same(value)) for name, value in flatten_settings(run.config) if is_seed(name)))


def group_runs(
    runs: Sequence[RecordedRun], by: str | Sequence[str] | None = None, ignore: Iterable[str] = ()
) -> Grouping:
    """Group runs by their project and by all settings but seeds, places and names; or by some names alone.

    Args:
        by: names as `where` has them (`config.lr`, `group`): runs that agree in all of them are one group.
        ignore: further settings to leave out, by dotted name, by its last part or by a pattern (`*.num_workers`).

    Raises:
        UnknownRun: there are no runs.
        BadArgument: no run has a setting that is to be ignored; or both `by` and `ignore` are given.
        BadQuery: no run has a name of `by`.
    """
    if not runs:
        raise UnknownRun("there is no run to summarize; `lossbook ls` lists the runs that there are")
    ignored = [ignore] if isinstance(ignore, str) else list(ignore)
    if by is not None:
        if ignored:
            raise BadArgument("by names the settings that count, ignore those that do not: give one of the two")
        return _group_by(runs, [by] if isinstance(by, str) else list(by))
    flat = [dict(flatten_settings(run.config)) for run in runs]
    every = {name for settings in flat for name in settings}
    _refuse_unknown_settings(ignored, every)
    left_out = {name for name in every if is_seed(name) or _is_place(name) or _is_ignored(name, ignored)}
    kept = [{name: value for name, value in settings.items() if name not in left_out} for settings in flat]
    found: dict[tuple[object, ...], list[int]] = {}
    for at, (run, settings) in enumerate(zip(runs, kept, strict=True)):
        same = tuple(sorted((name, _same(value)) for name, value in settings.items()))
        found.setdefault((run.project, same), []).append(at)
    firsts = [members[0] for members in found.values()]
    names = differing_settings([kept[at] for at in firsts])
    groups = tuple(
        RunGroup(
            runs[members[0]].project,
            {name: kept[members[0]].get(name) for name in names},
            tuple(runs[at] for at in members),
        )
        for members in found.values()
    )
    shown = differing_settings([_only(settings, left_out) for settings in flat])
    remarks = []
    if len(groups) == len(runs) > 1:
        alone = [name for name in names if len({_same(settings.get(name)) for settings in kept}) == len(runs)]
        hint = f"; {', '.join(alone[:5])} is another in each: ignore it, or group by some names" if alone else ""
        remarks.append(f"no two of {len(runs)} runs have the same settings{hint}")
    remarks += _repeated_seeds(groups)
    return Grouping(groups, tuple(names), tuple(shown), tuple(remarks))


def _group_by(runs: Sequence[RecordedRun], names: list[str]) -> Grouping:
    wanted = [bare(name) for name in names if name.strip()]
    if not wanted:
        raise BadArgument("by names nothing to group by: give a name as `where` has it, such as config.lr")
    records = [run.record for run in runs]
    remarks = [remark for name in wanted if (remark := refuse_unknown(name, records, "by")) is not None]
    values_of = [compile_value(name) for name in names if name.strip()]
    found: dict[tuple[object, ...], tuple[JsonObject, list[RecordedRun]]] = {}
    for run in runs:
        values = [value_of(run.record) for value_of in values_of]
        settings: JsonObject = dict(zip(wanted, values, strict=True))
        found.setdefault(tuple(map(_same, values)), (settings, []))[1].append(run)
    groups = []
    for settings, members in found.values():
        projects = {run.project for run in members}
        groups.append(RunGroup(members[0].project if len(projects) == 1 else "", settings, tuple(members)))
    if mixed := _mixed_settings(groups):
        shown = ", ".join(mixed[:5]) + (f" and {len(mixed) - 5} more" if len(mixed) > 5 else "")
        remarks.append(f"runs of one group differ in more than their seed: {shown}")
    remarks += _repeated_seeds(groups)
    return Grouping(tuple(groups), tuple(wanted), (), tuple(remarks))


def _mixed_settings(groups: Iterable[RunGroup]) -> list[str]:
    """The settings in which runs of one group differ, but for seeds, places and names."""
    mixed: dict[str, None] = {}
    for group in groups:
        for name in differing_settings([run.config for run in group.runs]):
            if not is_seed(name) and not _is_place(name):
                mixed[name] = None
    return list(mixed)


def _repeated_seeds(groups: Iterable[RunGroup]) -> list[str]:
    """What is said of runs of one group that have one seed: they may be one experiment that counts twice."""
    said = []
    for group in groups:
        by_seed: dict[tuple[object, ...], list[str]] = {}
        for run in group.runs:
            settings = [(name, value) for name, value in flatten_settings(run.config) if not _is_place(name)]
            if any(is_seed(name) for name, _ in settings):
                by_seed.setdefault(tuple(sorted((name, _same(value)) for name, value in settings)), []).append(run.name)
        repeated = [names for names in by_seed.values() if len(names) > 1]
        said += [f"the same settings and seed count {len(names)} times: {', '.join(names[:5])}" for names in repeated]
    return [*said[:5], f"and so do {len(said) - 5} more sets of runs"] if len(said) > 6 else said


def _only(settings: JsonObject, names: set[str]) -> JsonObject:
    return {name: value for name, value in settings.items() if name in names}


def _is_place(name: str) -> bool:
    return name.rpartition(".")[2].lower() in PLACES


def _is_ignored(name: str, ignored: Sequence[str]) -> bool:
    last = name.rpartition(".")[2]
    return any(
        one in (name, last) or name.startswith(f"{one}.") or fnmatchcase(name, one) for one in map(_plain, ignored)
    )


def _plain(name: str) -> str:
    return bare(name).removeprefix("config.")


def _refuse_unknown_settings(ignored: Sequence[str], every: set[str]) -> None:
    for name in ignored:
        if not any(_is_ignored(one, [name]) for one in every):
            close = nearest(_plain(name), every, 3)
            hint = (
                f"the nearest are {', '.join(close)}" if close else "`lossbook compare` shows the settings that differ"
            )
            raise BadArgument(f"ignore: no run has a setting {name!r}; {hint}")


def _same(value: object) -> _Same:
    """What two values have in common that are the same: 1 and 1.0 are, 1 and true are not."""
    if isinstance(value, bool) or value is None:
        return "constant", str(value)
    if isinstance(value, (int, float)):
        return "number", repr(float(value)) if abs(value) < 2**53 else repr(value)
    if isinstance(value, (list, tuple)):
        return "list", tuple(map(_same, value))
    if isinstance(value, dict):
        return "object", tuple(sorted((str(key), _same(one)) for key, one in value.items()))
    return "text", str(value)


def setting_text(value: Json) -> str:
    """A setting in one line."""
    if isinstance(value, (list, dict)):
        import orjson

        return orjson.dumps(value, default=str).decode()
    return number(value, 9)
