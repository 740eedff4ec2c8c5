"""`Artifact`: named, versioned sets of files. What one holds, how it is filled and how it is read.

Contents are copied when they are added, so a temporary folder may be gone before the artifact is logged.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, Any, Protocol

from lossbook.compat.wandb.artifact_contents import ContentStore, current_contents
from lossbook.compat.wandb.artifact_entry import ArtifactEntry, inside, sha256_of
from lossbook.errors import BadArgument, StoreError
from lossbook.paths import replacing
from lossbook.run import Image, Table, current_run, say_once

_NAME = re.compile(r"[A-Za-z0-9_.\-]{1,128}\Z")


class VersionStore(Protocol):
    """What a logged artifact asks of the store that keeps its version."""

    def write_down(self, artifact: Artifact) -> None: ...

    def remove(self, artifact: Artifact) -> None: ...


class Artifact:
    """A named set of files: a data set, a model. `run.log_artifact(artifact)` makes it a version that stays.

    Args:
        name: letters, digits, "-", "_" and "."; its versions are `name:v0`, `name:v1`, …
        type: what it is ("dataset", "model").
        description, metadata: kept with it.
        others: what else W&B's artifact takes; it has no meaning here.

    Raises:
        BadArgument: the name cannot be one.
    """

    def __init__(
        self,
        name: str,
        type: str,
        description: str | None = None,
        metadata: Mapping[str, object] | None = None,
        *others: object,
        **named: object,
    ) -> None:
        if not _NAME.match(str(name)):
            raise BadArgument(f"{name!r} cannot be an artifact's name: use letters, digits, '-', '_' and '.'")
        self.base_name = str(name)
        self.type = str(type)
        self.description = description
        self.metadata: dict[str, object] = dict(metadata or {})
        self.aliases: list[str] = []
        self.tags: list[str] = []
        self.project = ""
        self.created_at: float | None = None
        self.logged_run: str | None = None
        self.number: int | None = None
        self.contents: ContentStore | None = None
        self.versions: VersionStore | None = None
        self._entries: dict[str, ArtifactEntry] = {}

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        from lossbook.compat.wandb.artifact_words import find_word

        return find_word(self, name)

    # -- what it is ---------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The name; with its version once it has one."""
        return self.base_name if self.number is None else f"{self.base_name}:v{self.number}"

    @property
    def version(self) -> str | None:
        """ "v0", "v1", …; None before it is logged."""
        return None if self.number is None else f"v{self.number}"

    @property
    def source_name(self) -> str:
        """`name`, as W&B calls it too."""
        return self.name

    @property
    def qualified_name(self) -> str:
        """The name behind its project."""
        return f"{self.project}/{self.name}" if self.project else self.name

    @property
    def id(self) -> str | None:
        """What no other version of any artifact is called; None before it is logged."""
        return None if self.number is None else self.qualified_name

    @property
    def state(self) -> str:
        """ "COMMITTED" once it is logged, "PENDING" before."""
        return "PENDING" if self.number is None else "COMMITTED"

    def is_draft(self) -> bool:
        """Whether it has not been logged."""
        return self.number is None

    @property
    def digest(self) -> str:
        """SHA-256 over the paths and contents of all entries: equal for equal artifacts."""
        import hashlib

        hashing = hashlib.sha256()
        for path, entry in sorted(self._entries.items()):
            hashing.update(f"{path}\0{entry.digest or entry.ref or entry.source}\n".encode("utf-8", "surrogatepass"))
        return hashing.hexdigest()

    commit_hash = digest

    @property
    def size(self) -> int:
        """Bytes of all its files."""
        return sum(entry.size for entry in self._entries.values())

    @property
    def file_count(self) -> int:
        """How many files it has, references included."""
        return len(self._entries)

    @property
    def manifest(self) -> Artifact:
        """Itself: `artifact.manifest.entries` are its files."""
        return self

    @property
    def entries(self) -> dict[str, ArtifactEntry]:
        """Its files, by their path inside it."""
        return self._entries

    # -- filling it ---------------------------------------------------------------------------------------------

    def add_file(
        self,
        local_path: str | os.PathLike[str],
        name: str | None = None,
        is_tmp: bool | None = False,
        skip_cache: bool | None = False,
        policy: str | None = "mutable",
        overwrite: bool = True,
    ) -> ArtifactEntry:
        """Add one file; its contents as they are now.

        Args:
            name: its path inside the artifact; default its own name.
            is_tmp, skip_cache, policy, overwrite: taken as W&B takes them; contents are always copied.

        Raises:
            BadArgument: it is no file, or the artifact is logged already.
        """
        path = os.fspath(local_path)
        if not os.path.isfile(path):
            raise BadArgument(f"{path} is no file, so it cannot be added to the artifact {self.base_name}")
        return self._add(ArtifactEntry(inside(name or os.path.basename(path)), source=os.path.abspath(path)))

    def add_dir(self, local_path: str | os.PathLike[str], name: str | None = None, *_: object, **__: object) -> None:
        """Add all files below a folder, under `name` inside the artifact.

        Raises:
            BadArgument: it is no folder, or the artifact is logged already.
        """
        top = os.fspath(local_path)
        if not os.path.isdir(top):
            raise BadArgument(f"{top} is no folder, so it cannot be added to the artifact {self.base_name}")
        for folder, folders, names in os.walk(top):
            folders.sort()
            for one in sorted(names):
                path = os.path.join(folder, one)
                if os.path.isfile(path):
                    self.add_file(path, os.path.join(name or "", os.path.relpath(path, top)))

    def add_reference(
        self, uri: object, name: str | None = None, checksum: bool = True, max_objects: int | None = None
    ) -> Sequence[ArtifactEntry]:
        """Add the address of something that stays where it is; nothing is copied or fetched.

        Args:
            uri: "s3://…", "https://…", "file:///…", or an entry of another artifact.
            name: its path inside the artifact; default the address' last part.
            checksum: whether a local file's contents count for the artifact's digest.

        Raises:
            BadArgument: it is no address, or the artifact is logged already.
        """
        if isinstance(uri, ArtifactEntry):
            origin = uri.artifact.qualified_name if uri.artifact is not None else ""
            entry = ArtifactEntry(
                inside(name or uri.path), uri.digest, uri.size, ref=f"lossbook-artifact://{origin}/{uri.path}"
            )
            return [self._add(entry)]
        address = str(uri)
        scheme, separator, rest = address.partition("://")
        if not separator:
            raise BadArgument(f"{address!r} is no address: write file:///path, s3://bucket/key or another URL")
        entry = ArtifactEntry(inside(name or rest.rstrip("/").rsplit("/", 1)[-1] or scheme), ref=address)
        if scheme == "file" and os.path.isfile(rest):
            entry.size = os.path.getsize(rest)
            entry.digest = sha256_of(rest) if checksum else ""
        return [self._add(entry)]

    @contextlib.contextmanager
    def new_file(
        self, name: str, mode: str = "x", encoding: str | None = None, policy: str = "mutable"
    ) -> Iterator[IO[Any]]:
        """Write a file of the artifact: `with artifact.new_file("a.txt") as file: file.write(…)`."""
        import tempfile

        with tempfile.TemporaryDirectory(prefix="lossbook-artifact-") as folder:
            path = os.path.join(folder, "contents")
            binary = "b" in mode
            with open(path, mode, encoding=None if binary else encoding or "utf-8") as file:
                yield file
            self.add_file(path, name)

    def add(self, obj: object, name: str, overwrite: bool = False) -> ArtifactEntry:
        """Add a `Table` (as JSON) or an `Image`.

        Raises:
            BadArgument: it is neither.
        """
        if isinstance(obj, Table):
            import orjson

            text = orjson.dumps({"columns": obj.columns, "data": obj.rows}, str, orjson.OPT_SERIALIZE_NUMPY)
            return self._add_contents(text, name if name.endswith(".table.json") else f"{name}.table.json")
        if isinstance(obj, Image):
            file = obj.event(name).file
            assert file is not None
            ending = os.path.splitext(file.path)[1]
            return self._add_contents(file.contents, name if name.endswith(ending) else f"{name}{ending}")
        raise BadArgument(f"an artifact takes a Table or an Image, not {type(obj).__name__}; add_file() takes files")

    def remove(self, item: object) -> None:
        """Take a file or a folder out again.

        Raises:
            BadArgument: there is none of that path, or the artifact is logged already.
        """
        self._check_draft()
        path = item.path if isinstance(item, ArtifactEntry) else inside(item)
        found = [one for one in self._entries if one == path or one.startswith(f"{path}/")]
        if not found:
            raise BadArgument(f"there is no {path!r} in the artifact {self.base_name}")
        for one in found:
            del self._entries[one]

    def _add_contents(self, contents: bytes, name: str) -> ArtifactEntry:
        with self.new_file(name, "wb") as file:
            file.write(contents)
        return self._entries[inside(name)]

    def _add(self, entry: ArtifactEntry) -> ArtifactEntry:
        self._check_draft()
        entry.artifact = self
        self._take_contents(entry)
        self._entries[entry.path] = entry
        return entry

    def _take_contents(self, entry: ArtifactEntry) -> None:
        """Copy what was added now, because its file may be gone or changed when it is logged."""
        contents = current_contents() if entry.source is not None and entry.ref is None else None
        if contents is None or entry.source is None:
            return
        try:
            entry.digest, entry.size = contents.take(entry.source)
        except OSError:
            return  # tried again when it is logged, where the run says so
        self.contents = self.contents or contents

    def _check_draft(self) -> None:
        if self.number is not None:
            raise BadArgument(f"{self.name} is logged and stays as it is: make another Artifact of that name")

    # -- reading it ---------------------------------------------------------------------------------------------

    @property
    def default_root(self) -> str:
        """Where `download()` puts it: `./artifacts/name:v0`."""
        return os.path.join("artifacts", self.name)

    def get_entry(self, name: object) -> ArtifactEntry:
        """One file, by its path inside the artifact.

        Raises:
            KeyError: there is none of that path.
        """
        path = inside(name)
        if path not in self._entries:
            raise KeyError(f"there is no {path!r} in the artifact {self.name}")
        return self._entries[path]

    get_path = get_entry

    def get(self, name: str) -> Table | Image | None:
        """A `Table` or an `Image` that was added with `add`; None where there is none of that name."""
        for path in (name, f"{name}.table.json", *(f"{name}.{ending}" for ending in ("png", "jpg", "jpeg", "gif"))):
            if path not in self._entries:
                continue
            file = self._entries[path].download()
            if not path.endswith(".table.json"):
                return Image(file)
            import orjson

            with open(file, "rb") as reading:
                found = orjson.loads(reading.read())
            return Table(columns=found["columns"], rows=found["data"])
        return None

    def files(self, names: Sequence[str] | None = None, *_: object, **__: object) -> list[ArtifactEntry]:
        """Its files, or those of these paths."""
        return [entry for path, entry in self._entries.items() if names is None or path in names]

    def download(
        self,
        root: str | os.PathLike[str] | None = None,
        allow_missing_references: bool = False,
        skip_cache: bool | None = None,
        path_prefix: str | os.PathLike[str] | None = None,
        multipart: bool | None = None,
    ) -> str:
        """Copy its files into a folder.

        Args:
            root: the folder; default `./artifacts/name:v0`.
            path_prefix: only files whose path begins so.
            allow_missing_references, skip_cache, multipart: taken as W&B takes them, without a meaning here.

        Returns:
            The folder.

        Raises:
            StoreError: its contents are not in the store (any more).
        """
        target = os.fspath(root) if root is not None else self.default_root
        os.makedirs(target, exist_ok=True)
        for path, entry in self._entries.items():
            if path_prefix is None or path.startswith(os.fspath(path_prefix)):
                self.copy_entry(entry, target)
        return target

    checkout = download

    def file(self, root: str | os.PathLike[str] | None = None) -> str:
        """Its only file, copied as `download` does.

        Raises:
            BadArgument: it has none, or several.
        """
        if len(self._entries) != 1:
            raise BadArgument(f"{self.name} has {len(self._entries)} files, not one: download() takes them all")
        return next(iter(self._entries.values())).download(None if root is None else os.fspath(root))

    def copy_entry(self, entry: ArtifactEntry, root: str) -> None:
        """Copy one file below `root`, unless it is there already."""
        import shutil

        source = self.contents.object_path(entry.digest) if self.contents is not None and entry.digest else entry.source
        if entry.ref is not None:
            source = entry.ref.removeprefix("file://") if entry.ref.startswith("file://") else source
            if source is None or not os.path.isfile(source):
                say_once(f"references such as {entry.ref} are not fetched")
                return
        if source is None or not os.path.isfile(source):
            raise StoreError(f"the contents of {entry.path} in {self.name} are not in the store any more ({source})")
        target = os.path.join(root, *inside(entry.path).split("/"))
        os.makedirs(os.path.dirname(target) or ".", exist_ok=True)
        with replacing(target) as partial:
            shutil.copyfile(source, partial)

    def verify(self, root: str | os.PathLike[str] | None = None) -> None:
        """Compare a downloaded folder with what was logged.

        Raises:
            ValueError: a file is missing or has other contents.
        """
        top = os.fspath(root) if root is not None else self.default_root
        for path, entry in self._entries.items():
            file = os.path.join(top, *path.split("/"))
            if entry.digest and (not os.path.isfile(file) or sha256_of(file) != entry.digest):
                raise ValueError(f"{file} is not what {self.name} holds")

    # -- what is done with it -----------------------------------------------------------------------------------

    def save(self, project: str | None = None, settings: object = None) -> None:
        """Log it with the current run; once it is logged, write down changed aliases, metadata and description."""
        if self.versions is not None and self.number is not None:
            self.versions.write_down(self)
            return
        run = current_run()
        if run is None:
            say_once("an artifact is saved by a run: call init() first")
        else:
            run.log_artifact(self)

    def wait(self, timeout: int | None = None) -> Artifact:
        """Nothing to wait for: it is in the store when `log_artifact` returns."""
        return self

    def finalize(self) -> None:
        """Nothing to do: it is complete when it is logged."""

    def link(self, target_path: str, aliases: Sequence[str] | None = None) -> Artifact:
        """Not supported: says so once."""
        say_once("link() is not supported: there is no model registry here; give the artifact an alias")
        return self

    def delete(self, delete_aliases: bool = False) -> None:
        """Remove this version; contents that it has alone stay in the store until somebody deletes them."""
        if self.versions is not None and self.number is not None:
            self.versions.remove(self)

    def __repr__(self) -> str:
        return f"<lossbook artifact {self.name} ({self.type}), {self.file_count} files>"
