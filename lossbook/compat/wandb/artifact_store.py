"""Keeps the versions of artifacts in a store.

    <store>/.artifacts/<project>/<name>/v<number>.json     a version: what it holds, who logged it
    <store>/.artifacts/<project>/<name>/digests/<sha256>   which version has that digest
    <store>/.artifacts/<project>/<name>/aliases/<alias>    which version has that alias

"latest" is the version with the highest number. Any number of processes may log at once: a version's number belongs
to the process that makes its file, and every other file is replaced in one step.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Sequence

from lossbook.compat.wandb.artifact import Artifact
from lossbook.compat.wandb.artifact_contents import ContentStore, store_of
from lossbook.compat.wandb.artifact_entry import ArtifactEntry
from lossbook.errors import BadArgument, StoreError
from lossbook.paths import read_json, replace_file, safe_name
from lossbook.run import Run, plain

FORMAT = 1
_VERSION = re.compile(r"v(\d+)\.json\Z")


class ArtifactStore:
    """The artifacts of one store."""

    def __init__(self, store: str) -> None:
        self.contents = ContentStore(store)
        self.path = self.contents.path

    def put(self, artifact: Artifact, run: Run, aliases: Sequence[str], tags: Sequence[str]) -> None:
        """Make the artifact a version, or the version that has the same contents already.

        Raises:
            OSError: the store cannot be written.
        """
        for entry in artifact.entries.values():
            if entry.ref is not None or (entry.digest and os.path.exists(self.contents.object_path(entry.digest))):
                continue
            before = artifact.contents
            copied = before.object_path(entry.digest) if before is not None and entry.digest else ""
            source = copied if os.path.exists(copied) else entry.source or copied
            entry.digest, entry.size = self.contents.take(source)
        folder = self._folder(run.project, artifact.base_name)
        for part in ("digests", "aliases"):
            os.makedirs(os.path.join(folder, part), exist_ok=True)
        digest = artifact.digest
        artifact.project, artifact.contents, artifact.versions = run.project, self.contents, self
        artifact.tags = list(dict.fromkeys([*artifact.tags, *tags]))
        known = _number_in(os.path.join(folder, "digests", digest))
        if known is None or not os.path.exists(os.path.join(folder, f"v{known}.json")):
            artifact.created_at, artifact.logged_run = time.time(), run.id
            known = self._claim(folder, artifact)
            replace_file(os.path.join(folder, "digests", digest), str(known).encode(), durable=False)
        artifact.number = known
        for alias in aliases:
            self._alias(folder, alias, known)
        artifact.aliases = self.aliases(run.project, artifact.base_name, known)

    def _claim(self, folder: str, artifact: Artifact) -> int:
        """Write the version's file under the next free number."""
        partial = os.path.join(folder, f"{os.getpid()}-{os.urandom(4).hex()}.tmp")
        number = max(self.versions(folder), default=-1) + 1
        while True:
            replace_file(partial, _describe(artifact, number))
            target = os.path.join(folder, f"v{number}.json")
            try:
                try:
                    os.link(partial, target)
                except (PermissionError, NotImplementedError) as error:
                    # A file system without hard links: an empty file claims the number, and is then replaced.
                    if isinstance(error, FileExistsError):
                        raise
                    os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
                    os.replace(partial, target)
                    return number
            except FileExistsError:
                number += 1
                continue
            finally:
                if os.path.exists(partial):
                    os.unlink(partial)
            return number

    def find(self, name: str, project: str) -> Artifact:
        """The version that "name", "name:v3", "name:alias" means, also behind "project/" or "entity/project/".

        Raises:
            StoreError: there is none; the message names what there is.
        """
        path, _, alias = str(name).partition(":")
        *before, base = path.split("/")
        project = before[-1] if before else project
        folder = self._folder(project, base)
        versions = self.versions(folder)
        if not versions:
            known = self._names(project)
            raise StoreError(
                f"there is no artifact {base!r} of the project {project!r} in {self.path}; it has {', '.join(known) or 'none'}"
            )
        number: int | None
        if alias in ("", "latest"):
            number = max(versions)
        elif re.fullmatch(r"v\d+", alias):
            number = int(alias[1:])
        else:
            number = _number_in(os.path.join(folder, "aliases", safe_name(alias)))
        fields = None if number is None else read_json(os.path.join(folder, f"v{number}.json"))
        if number is None or fields is None:
            raise StoreError(
                f"the artifact {base!r} has no version {alias!r}; it has {', '.join(f'v{one}' for one in sorted(versions))}"
            )
        artifact = Artifact(base, str(fields.get("type")), fields.get("description"), fields.get("metadata"))
        artifact.number, artifact.project = number, project
        artifact.contents, artifact.versions = self.contents, self
        artifact.created_at, artifact.logged_run = fields.get("created"), fields.get("run")
        artifact.tags = list(fields.get("tags") or ())
        artifact.aliases = self.aliases(project, base, number)
        for path, one in (fields.get("entries") or {}).items():
            entry = ArtifactEntry(path, one.get("digest", ""), int(one.get("size", 0)), ref=one.get("ref"))
            entry.artifact = artifact
            artifact.entries[path] = entry
        return artifact

    def aliases(self, project: str, name: str, number: int) -> list[str]:
        """What that version is called beside its number."""
        folder = self._folder(project, name)
        named = os.path.join(folder, "aliases")
        files = [os.path.join(named, one) for one in sorted(_list(named))]
        found = [_alias_in(file) for file in files if _number_in(file) == number]
        return [*found, "latest"] if number == max(self.versions(folder), default=-1) else found

    def write_down(self, artifact: Artifact) -> None:
        """Write changed aliases, metadata and description of a version."""
        assert artifact.number is not None
        folder = self._folder(artifact.project, artifact.base_name)
        replace_file(os.path.join(folder, f"v{artifact.number}.json"), _describe(artifact, artifact.number))
        for alias in self.aliases(artifact.project, artifact.base_name, artifact.number):
            if alias not in artifact.aliases and alias != "latest":
                os.unlink(os.path.join(folder, "aliases", safe_name(alias)))
        for alias in artifact.aliases:
            self._alias(folder, alias, artifact.number)

    def remove(self, artifact: Artifact) -> None:
        """Remove a version and its aliases; contents stay, because others may have them too."""
        assert artifact.number is not None
        folder = self._folder(artifact.project, artifact.base_name)
        for alias in self.aliases(artifact.project, artifact.base_name, artifact.number):
            if alias != "latest":
                os.unlink(os.path.join(folder, "aliases", safe_name(alias)))
        for path in (f"v{artifact.number}.json", os.path.join("digests", artifact.digest)):
            if os.path.exists(os.path.join(folder, path)):
                os.unlink(os.path.join(folder, path))

    def versions(self, folder: str) -> list[int]:
        """The numbers of the versions in an artifact's folder."""
        return [int(matched[1]) for name in _list(folder) if (matched := _VERSION.match(name))]

    def _alias(self, folder: str, alias: str, number: int) -> None:
        alias = str(alias)
        if alias != "latest":
            said = str(number) if safe_name(alias) == alias else f"{number}\n{alias}"
            replace_file(os.path.join(folder, "aliases", safe_name(alias)), said.encode(), durable=False)

    def _folder(self, project: str, name: str) -> str:
        return os.path.join(self.path, safe_name(project), safe_name(name))

    def _names(self, project: str) -> list[str]:
        return sorted(_list(os.path.join(self.path, safe_name(project))))


def _describe(artifact: Artifact, number: int) -> bytes:
    import orjson

    entries = {
        path: {"ref": entry.ref, "digest": entry.digest, "size": entry.size}
        if entry.ref is not None
        else {"digest": entry.digest, "size": entry.size}
        for path, entry in sorted(artifact.entries.items())
    }
    fields = {
        "format": FORMAT,
        "name": artifact.base_name,
        "version": number,
        "type": artifact.type,
        "description": artifact.description,
        "metadata": artifact.metadata,
        "tags": artifact.tags,
        "created": artifact.created_at,
        "project": artifact.project,
        "run": artifact.logged_run,
        "digest": artifact.digest,
        "entries": entries,
    }
    return orjson.dumps(plain(fields), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def _list(folder: str) -> list[str]:
    try:
        return [name for name in os.listdir(folder) if not name.startswith(".") and not name.endswith(".tmp")]
    except OSError:
        return []


def _number_in(path: str) -> int | None:
    try:
        with open(path, encoding="utf-8") as file:
            return int(file.readline())
    except (OSError, ValueError):
        return None


def _alias_in(path: str) -> str:
    """The alias of a file that has a number: its second line where it is no name for a file, as in "epoch 9"."""
    try:
        with open(path, encoding="utf-8") as file:
            return file.read().partition("\n")[2] or os.path.basename(path)
    except (OSError, ValueError):
        return os.path.basename(path)


def log_artifact(
    run: Run,
    artifact_or_path: Artifact | str | os.PathLike[str],
    *,
    name: str | None = None,
    type: str | None = None,
    aliases: Sequence[str] | None = None,
    tags: Sequence[str] | None = None,
) -> Artifact:
    """Keep a version of an artifact, or of a file or folder, and record it in the run."""
    if isinstance(artifact_or_path, Artifact):
        artifact = artifact_or_path
    else:
        path = os.fspath(artifact_or_path)
        label = re.sub(r"[^A-Za-z0-9_.\-]+", "-", os.path.basename(os.path.abspath(path)))
        artifact = Artifact(name or f"run-{run.id}-{label}", type or "unspecified")
        if os.path.isdir(path):
            artifact.add_dir(path)
        elif "://" in path:
            artifact.add_reference(path)
        else:
            artifact.add_file(path)
    store = store_of(run.path)
    if store is not None:
        names = [aliases] if isinstance(aliases, str) else list(aliases or ())
        ArtifactStore(store).put(artifact, run, names, list(tags or ()))
        _record(run, artifact, "output")
    return artifact


def use_artifact(run: Run, artifact_or_name: Artifact | str, *, type: str | None = None) -> Artifact:
    """Find an artifact and record that the run uses it.

    Raises:
        StoreError: there is no such artifact.
        BadArgument: it is of another type.
    """
    store = store_of(run.path)
    if isinstance(artifact_or_name, Artifact):
        artifact = artifact_or_name
        if artifact.number is None and store is not None:
            log_artifact(run, artifact)
    elif store is None:
        # Nothing is recorded, so nothing can be found either: what training may look at is empty.
        return Artifact(
            re.sub(r"[^A-Za-z0-9_.\-]+", "-", str(artifact_or_name).split(":")[0].split("/")[-1]), type or ""
        )
    else:
        artifact = ArtifactStore(store).find(str(artifact_or_name), run.project)
    if type is not None and artifact.type != type:
        raise BadArgument(f"the artifact {artifact.name} is a {artifact.type!r}, not a {type!r}")
    _record(run, artifact, "input")
    return artifact


def use_model(run: Run, name: str) -> str:
    """The path of a model's file, or of its folder where it has several."""
    artifact = use_artifact(run, name)
    return artifact.file() if artifact.file_count == 1 else artifact.download()


def _record(run: Run, artifact: Artifact, use: str) -> None:
    if not run.path:
        return
    run.record_event(
        "artifact",
        {
            "name": artifact.base_name,
            "project": artifact.project,
            "version": artifact.number,
            "type": artifact.type,
            "digest": artifact.digest,
            "aliases": artifact.aliases,
            "bytes": artifact.size,
            "use": use,
        },
        step=run.last_step,
    )
