"""`RunInfo`: a run's `run.json`. Parses, checks, writes and edits it; nothing else names its fields.

What has not the type that it should have is left out with a sentence. Fields that this version does not know are kept
and written back as they were, so that an older Lossbook does not take them away from a newer one.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

from lossbook.errors import LossbookError
from lossbook.json_shapes import (
    JsonMapping,
    JsonObject,
    Shape,
    check_fields,
    is_attempt_number,
    is_count,
    is_flag,
    is_list_of,
    is_number,
    is_object,
    is_object_with,
    is_pid,
    is_step,
    is_text,
    is_texts,
    is_time,
    number_or_none,
    object_or_empty,
    text_or_none,
    texts_of,
    whole_or_none,
)
from lossbook.paths import FORMAT, RunFolder, folder_lock, is_safe_name, read_json_file, write_json

#: A plain dictionary, because a run is pickled for its child processes; nobody changes it in place.
_NOTHING: JsonMapping = {}
#: The field that keeps what was said of a `run.json` that was not as it was written, beyond the next change of it.
_DOUBT = "doubt"


class Host(NamedTuple):
    """The machine on which the first attempt began; None for what is not known."""

    name: str | None = None
    user: str | None = None
    os: str | None = None
    python: str | None = None
    cpus: int | None = None
    more: JsonMapping = _NOTHING

    def to_json(self) -> JsonObject:
        """As it stands in `run.json`."""
        return _written_without_nulls(self)


class Git(NamedTuple):
    """The commit that was checked out; None for what is not known."""

    commit: str | None = None
    branch: str | None = None
    dirty: bool | None = None
    remote: str | None = None
    more: JsonMapping = _NOTHING

    def to_json(self) -> JsonObject:
        """As it stands in `run.json`."""
        return _written(self)


class Parent(NamedTuple):
    """The run whose history this one continues, up to `step`; None where the step was not recorded.

    `created` is the parent's: a run that was recorded under its id later on is another one. None in forks of earlier versions.
    """

    project: str
    run: str
    step: int | None = None
    created: int | None = None
    more: JsonMapping = _NOTHING

    def to_json(self) -> JsonObject:
        """As it stands in `run.json`."""
        written = _written(self)
        if self.created is None:
            del written["created"]
        return written


class Origin(NamedTuple):
    """Where an imported run comes from: the kind of tracker, its location, and the run's id and project there."""

    kind: str | None = None
    location: str | None = None
    id: str | None = None
    project: str | None = None
    url: str | None = None
    more: JsonMapping = _NOTHING

    def to_json(self) -> JsonObject:
        """As it stands in `run.json`."""
        return _written_without_nulls(self)


class Attempt(NamedTuple):
    """One process, or one launch of several, that wrote the run.

    Attributes:
        number: its index: 0 for the first attempt.
        started: µs since 1970, UTC.
        resume_step: the checkpoint's step that it resumed from; None where it did not say.
        process_start: clock ticks since boot, as in `/proc/<pid>/stat`.
        boot: the boot's id.
        pid_namespace: of the process; None off Linux, and in runs of earlier versions.
        launch: equal for all ranks of one launch; empty for a process by itself.
    """

    number: int = 0
    world_size: int | None = None
    resume_step: int | None = None
    host: str | None = None
    pid: int | None = None
    process_start: float | None = None
    boot: str | None = None
    pid_namespace: str | None = None
    launch: str | None = None
    started: int | None = None
    argv: tuple[str, ...] = ()
    git: Git | None = None
    more: JsonMapping = _NOTHING


class RunInfo(NamedTuple):
    """Who a run is and what exactly was started: the contents of its `run.json`.

    Attributes:
        format: of the files; a larger one than `paths.FORMAT` is not known here.
        created: µs since 1970, UTC; 0 where it is not known.
        config: as given to `init()`; later changes are rows.
        mirrors: what was asked for, as `kind` or `kind:options`.
        attempts: in order; none where `run.json` is damaged or another program's.
        more: fields that this version does not know, kept as they are.
    """

    id: str
    name: str
    project: str
    format: int = FORMAT
    created: int = 0
    config: JsonObject = {}  # noqa: RUF012  # nobody changes a configuration in place
    tags: tuple[str, ...] = ()
    group: str | None = None
    notes: str | None = None
    git: Git | None = None
    host: Host = Host()
    argv: tuple[str, ...] = ()
    cwd: str | None = None
    mode: str | None = None
    mirrors: tuple[str, ...] = ()
    parent: Parent | None = None
    system_metrics: bool | None = None
    script: str | None = None
    entity: str | None = None
    job_type: str | None = None
    source: Origin | None = None
    attempts: tuple[Attempt, ...] = ()
    more: JsonMapping = _NOTHING

    @property
    def last_attempt(self) -> Attempt:
        """The attempt that wrote last; an empty one where none is known."""
        return self.attempts[-1] if self.attempts else Attempt()

    @property
    def identity(self) -> tuple[str, int, int | None]:
        """What tells the run from one that was recorded under the same id later on."""
        return self.id, self.created, self.attempts[0].started if self.attempts else None

    def resume_steps(self) -> dict[int, int | None]:
        """The step that each attempt resumed from, by attempt number; None where it did not say."""
        return {one.number: one.resume_step for one in self.attempts}

    def to_json(self) -> JsonObject:
        """As it stands in `run.json`."""
        written: JsonObject = {
            "format": self.format,
            "id": self.id,
            "name": self.name,
            "project": self.project,
            "created": self.created,
            "config": self.config,
            "tags": list(self.tags),
            "group": self.group,
            "notes": self.notes,
            "git": None if self.git is None else self.git.to_json(),
            "host": self.host.to_json(),
            "argv": list(self.argv),
            "cwd": self.cwd,
            "mode": self.mode,
            "mirrors": list(self.mirrors),
            "parent": None if self.parent is None else self.parent.to_json(),
            "system_metrics": self.system_metrics,
            "script": self.script,
        }
        for name in ("entity", "job_type"):
            if (label := getattr(self, name)) is not None:
                written[name] = label
        if self.source is not None:
            written["source"] = self.source.to_json()
        written.update(self.more)
        written["attempts"] = [_written_attempt(one) for one in self.attempts]
        return written


# -- reading, writing, editing ----------------------------------------------------------------------------------------


def read_run_info(folder: RunFolder) -> tuple[RunInfo, list[str]]:
    """A run's `run.json`, as far as it can be read, and a sentence for each thing that is wrong with it."""
    path = folder.run_json
    try:
        found = read_json_file(path)
    except LossbookError as error:
        return parse_run_info({}, folder)[0], [str(error)]
    if found is None or not found.values:
        return parse_run_info({}, folder)[0], [f"{path} is missing: the run's name and configuration are not known"]
    info, wrong = parse_run_info(found.values, folder)
    said = [f"{path} is damaged: {one}; it is left out" for one in wrong]
    if doubt := found.doubt or text_or_none(info.more.get(_DOUBT)):
        said.append(f"{doubt}: it was changed by hand, or is damaged")
    return info, said


def load_run_info(folder: RunFolder) -> RunInfo | None:
    """A run's `run.json`, without what has the wrong type; None when there is none.

    Raises:
        DamagedFile: it holds something else than one JSON object.
        StoreError: it is there and cannot be read.
    """
    found = read_json_file(folder.run_json)
    if found is None or not found.values:
        return None
    info = parse_run_info(found.values, folder)[0]
    # It is written down with the next change, whose checksum is right again.
    return info._replace(more={**info.more, _DOUBT: found.doubt}) if found.doubt is not None else info


def write_run_info(folder: RunFolder, info: RunInfo, *, durable: bool = True) -> None:
    """Replace a run's `run.json` in one step; `durable` also survives power loss.

    Raises:
        OSError: it cannot be written; the old one is untouched.
    """
    write_json(folder.run_json, info.to_json(), durable=durable)


def edit_run_info(folder: RunFolder, change: Callable[[RunInfo], RunInfo], *, durable: bool = True) -> RunInfo:
    """Read, change and replace `run.json` while nobody else does the same through here; returns it as it is now.

    Raises:
        StoreError, DamagedFile: it cannot be read; nothing is written then.
        OSError: it cannot be written.
    """
    with folder_lock(folder, "run"):
        changed = change(load_run_info(folder) or parse_run_info({}, folder)[0])
        write_run_info(folder, changed, durable=durable)
    return changed


def parse_run_info(values: JsonObject, folder: RunFolder) -> tuple[RunInfo, list[str]]:
    """What `run.json` says.

    Args:
        values: its contents.
        folder: the run's; its name stands in for an id, a name or a project that is missing.

    Returns:
        The run, and what each field that was left out should be: `"tags" is not a list of texts`.
    """
    good, wrong = check_fields(values, _RUN)
    parent = object_or_empty(good.get("parent"))
    git, source = good.get("git"), good.get("source")
    attempts = good.get("attempts")
    info = RunInfo(
        id=text_or_none(good.get("id")) or os.path.basename(folder.path),
        name=text_or_none(good.get("name")) or os.path.basename(folder.path),
        project=text_or_none(good.get("project")) or os.path.basename(os.path.dirname(folder.path)),
        format=whole_or_none(good.get("format")) or FORMAT,
        created=whole_or_none(good.get("created")) or 0,
        config=object_or_empty(good.get("config")),
        tags=texts_of(good.get("tags")),
        group=text_or_none(good.get("group")),
        notes=text_or_none(good.get("notes")),
        git=None if git is None else _parse_git(object_or_empty(git)),
        host=_parse_host(object_or_empty(good.get("host"))),
        argv=texts_of(good.get("argv")),
        cwd=text_or_none(good.get("cwd")),
        mode=text_or_none(good.get("mode")),
        mirrors=texts_of(good.get("mirrors")),
        parent=Parent(
            str(parent["project"]),
            str(parent["run"]),
            whole_or_none(parent.get("step")),
            whole_or_none(parent.get("created")),
            _more(parent, Parent),
        )
        if parent
        else None,
        system_metrics=None if good.get("system_metrics") is None else bool(good["system_metrics"]),
        script=text_or_none(good.get("script")),
        entity=text_or_none(good.get("entity")),
        job_type=text_or_none(good.get("job_type")),
        source=None if source is None else _parse_origin(object_or_empty(source)),
        attempts=tuple(
            parse_attempt(object_or_empty(one), position)
            for position, one in enumerate(attempts if isinstance(attempts, list) else ())
        ),
        more=_more(good, RunInfo),
    )
    return info, wrong


def missing_fields(values: JsonMapping) -> list[str]:
    """The fields that every `run.json` has and this one lacks."""
    return [name for name in _REQUIRED if values.get(name) is None]


def parse_attempt(values: JsonMapping, position: int = 0) -> Attempt:
    """One attempt, as `run.json` and the first row of a journal segment have it; `position`: its place in the list."""
    number, git = whole_or_none(values.get("number")), values.get("git")
    return Attempt(
        number=position if number is None else number,
        started=whole_or_none(values.get("started")),
        resume_step=whole_or_none(values.get("resume_step")),
        host=text_or_none(values.get("host")),
        pid=whole_or_none(values.get("pid")),
        process_start=number_or_none(values.get("process_start")),
        boot=text_or_none(values.get("boot")),
        pid_namespace=text_or_none(values.get("pid_namespace")),
        world_size=whole_or_none(values.get("world_size")),
        launch=text_or_none(values.get("launch")),
        argv=texts_of(values.get("argv")),
        git=None if git is None else _parse_git(object_or_empty(git)),
        more=_more(values, Attempt),
    )


def with_attempt(info: RunInfo, number: int, **changes: object) -> RunInfo:
    """The run with some fields of the attempt of that number changed; as it is where there is no such attempt."""
    return info._replace(
        attempts=tuple(
            one._replace(**changes) if one.number == number else one  # type: ignore[arg-type]
            for one in info.attempts
        ),
    )


def _parse_host(values: JsonMapping) -> Host:
    return Host(
        name=text_or_none(values.get("name")),
        user=text_or_none(values.get("user")),
        os=text_or_none(values.get("os")),
        python=text_or_none(values.get("python")),
        cpus=whole_or_none(values.get("cpus")),
        more=_more(values, Host),
    )


def _parse_git(values: JsonMapping) -> Git:
    dirty = values.get("dirty")
    return Git(
        commit=text_or_none(values.get("commit")),
        branch=text_or_none(values.get("branch")),
        dirty=dirty if isinstance(dirty, bool) else None,
        remote=text_or_none(values.get("remote")),
        more=_more(values, Git),
    )


def _parse_origin(values: JsonMapping) -> Origin:
    return Origin(
        kind=text_or_none(values.get("kind")),
        location=text_or_none(values.get("location")),
        id=text_or_none(values.get("id")),
        project=text_or_none(values.get("project")),
        url=text_or_none(values.get("url")),
        more=_more(values, Origin),
    )


def _written(part: Host | Git | Parent | Origin) -> JsonObject:
    written: JsonObject = part._asdict()
    del written["more"]
    return {**written, **part.more}


def _written_without_nulls(part: Host | Origin) -> JsonObject:
    """What is not known of a host or a source was never written as null."""
    return {name: value for name, value in _written(part).items() if value is not None or name in part.more}


def _more(values: JsonMapping, kind: type[NamedTuple]) -> JsonMapping:
    known = _known(kind)
    return _NOTHING if values.keys() <= known else {name: one for name, one in values.items() if name not in known}


@cache
def _known(kind: type[NamedTuple]) -> frozenset[str]:
    return frozenset(kind._fields)


def _written_attempt(attempt: Attempt) -> JsonObject:
    written: JsonObject = {}
    for name, value in attempt._asdict().items():
        if name == "git":
            if value is not None:
                written["git"] = value.to_json()
        elif name == "argv":
            written["argv"] = list(value)
        elif name != "more" and (value is not None or name == "resume_step"):
            written[name] = value
    written.update(attempt.more)
    return written


_GIT = is_object_with({"commit": is_text, "branch": is_text, "remote": is_text})
_ATTEMPT = is_object_with(
    {
        "number": is_attempt_number,
        "started": is_time,
        "resume_step": is_step,
        "host": is_text,
        "pid": is_pid,
        "process_start": is_number,
        "boot": is_text,
        "pid_namespace": is_text,
        "world_size": is_count,
        "launch": is_text,
        "argv": is_texts,
    }
)
_REQUIRED = ("format", "id", "name", "project", "created", "config", "attempts")
_RUN: Shape = {
    "format": (is_count, "a number"),
    "id": (is_safe_name, "a folder's name"),
    "name": (is_text, "a text"),
    "project": (is_text, "a text"),
    "created": (is_time, "a time in microseconds"),
    "config": (is_object, "an object"),
    "tags": (is_texts, "a list of texts"),
    "group": (is_text, "a text"),
    "notes": (is_text, "a text"),
    "git": (_GIT, "a commit, a branch and a remote"),
    "host": (is_object_with({"name": is_text, "user": is_text}), "an object"),
    "argv": (is_texts, "a list of texts"),
    "cwd": (is_text, "a text"),
    "mode": (is_text, "a text"),
    "mirrors": (is_texts, "a list of texts"),
    "parent": (
        is_object_with({"project": is_text, "run": is_text, "step": is_step, "created": is_time}, ("project", "run")),
        "a project, a run and a step",
    ),
    "system_metrics": (is_flag, "true or false"),
    "script": (is_text, "a text"),
    "source": (is_object_with({"kind": is_text, "id": is_text}), "a kind and an id"),
    "attempts": (is_list_of(_ATTEMPT), "a list of attempts"),
}
