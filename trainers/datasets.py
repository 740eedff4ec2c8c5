"""Where a text lies and how it is split: a file, a folder, the standard library, or one of the hub's sets by name.

A corpus is a list of parts. A part is a file that one process can read by itself, in pieces of bounded length, so that
a text of a hundred gigabytes needs no more memory than a small one. Nothing is tokenised here.
"""

from __future__ import annotations

import hashlib
import importlib.util
import re
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TEXT_ENDINGS = {".c", ".cpp", ".h", ".js", ".json", ".md", ".py", ".rst", ".text", ".ts", ".tsv", ".txt"}
#: One file of ten is for validation; of a single file its last tenth.
VALIDATION_SHARE = 10
#: Of a large set without a validation split one document of a thousand: ten million tokens of it are plenty.
LARGE_VALIDATION_SHARE, LARGE_ROWS = 1000, 20_000
#: Folders of the standard library that are data for tests rather than code to learn from.
_NOT_LIBRARY = {"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__", "lib2to3", "turtledemo"}
#: The hub's own rule for what a file is for, from its path: words between separators.
_SPLIT_WORD = re.compile(r"(?:^|[/._ -])(train|validation|valid|val|dev|test)(?=[/._ \-0-9]|$)")
_ROWS_AT_ONCE = 1000

Piece = tuple[str, str, bool]


class TextError(Exception):
    """A text that cannot be trained on; the message says why and what to do."""


@dataclass(frozen=True)
class HubSet:
    """A set of the Hugging Face hub: its repository, and where in it lies what the name here means."""

    repository: str
    configuration: str | None = None
    folder: str = ""
    #: The hub's splits that are validated on; none: some of the documents are held out.
    validation: tuple[str, ...] = ()
    #: Rows are lines of one text, not documents of their own.
    lines: bool = False


HUB_SETS = {
    "finewebedu": HubSet("HuggingFaceFW/fineweb-edu", "sample-10BT", "sample/10BT"),
    "openwebtext": HubSet("Skylion007/openwebtext"),
    "tinystories": HubSet("roneneldan/TinyStories", validation=("validation",)),
    "wikitext-2-v1": HubSet("Salesforce/wikitext", "wikitext-2-v1", "wikitext-2-v1", ("validation",), True),
    "wikitext-103-v1": HubSet("Salesforce/wikitext", "wikitext-103-v1", "wikitext-103-v1", ("validation",), True),
    # Both of its small splits: together they are the last tenth of the text, which nanoGPT validates on.
    "shakespeare": HubSet("karpathy/tiny_shakespeare", validation=("validation", "test"), lines=True),
}
DATASETS = ("python-stdlib", *HUB_SETS)


@dataclass(frozen=True)
class Part:
    """One file of a corpus, and for what its documents are.

    Attributes:
        kind: "text" (one document), "parquet" or "arrow" (a document, or a line, in each row of the column `text`).
        role: "train", "validation", or "both": split here.
        every: with "both", one row of so many is for validation; of a text its last tenth.
    """

    path: str
    kind: str = "text"
    role: str = "both"
    every: int = VALIDATION_SHARE
    lines: bool = False

    def pieces(self, length: int) -> Iterator[Piece]:
        """Yield (split, text, whether a document begins here), texts of at most about `length` characters.

        Raises:
            TextError: the file cannot be read.
        """
        for split, document in self._documents():
            at = 0
            while at < len(document):
                end = at + length
                if end < len(document):
                    end = document.rfind("\n", at, end) + 1 or end
                yield split, document[at:end], at == 0 and not self.lines
                at = end

    def _documents(self) -> Iterator[tuple[str, str]]:
        if self.kind == "text":
            text = _read(self.path)
            if self.role != "both":
                yield self.role, text
                return
            if "\0" in text or text.count("\ufffd") > len(text) // 100:
                raise TextError(f"{self.path} is no text in UTF-8: convert it first, for example with iconv")
            cut = len(text) - len(text) // VALIDATION_SHARE
            yield "train", text[:cut]
            yield "validation", text[cut:]
            return
        number = 0
        for rows in _parquet_rows(self.path) if self.kind == "parquet" else _arrow_rows(self.path):
            if self.lines:
                # The hub has emptied the blank lines, which are a space and a line end in the original.
                yield self.role, "".join(row or " \n" for row in rows)
                continue
            for row in rows:
                held_out = self.role == "both" and number % self.every == self.every - 1
                yield ("validation" if held_out else "train") if self.role == "both" else self.role, row or ""
                number += 1


@dataclass(frozen=True)
class Corpus:
    """A text as it lies on the disk: its name, and its parts in their order."""

    name: str
    parts: tuple[Part, ...]

    def size_bytes(self) -> int:
        return sum(Path(part.path).stat().st_size for part in self.parts)


def find_corpus(dataset: str, data_root: Path | None = None) -> Corpus:
    """Find a text.

    Args:
        dataset: one of `DATASETS`, a text file, or a folder of such.
        data_root: folder with copies of the hub's repositories (`Salesforce/wikitext/wikitext-2-v1/*.parquet`, or the
            hub's own cache); without it the package `datasets` downloads a hub's set into its cache.

    Raises:
        TextError: there is no such text; for a hub's set the message says what to install or to copy, and where.
    """
    if dataset in HUB_SETS:
        hub = HUB_SETS[dataset]
        return Corpus(dataset, _copied(dataset, hub, data_root) if data_root else _downloaded(dataset, hub))
    files = _files(dataset)
    name = dataset if dataset == "python-stdlib" else Path(dataset).resolve().stem
    if len(files) == 1:
        return Corpus(name, (Part(str(files[0])),))
    # A file goes where its name falls, so that more files move none.
    held_out = [hashlib.sha256(path.name.encode("utf-8", "surrogateescape")).digest()[0] < 26 for path in files]
    if all(held_out) or not any(held_out):
        held_out = [
            number % VALIDATION_SHARE == VALIDATION_SHARE - 1 or len(files) == number + 1
            for number in range(len(files))
        ]
    return Corpus(
        name,
        tuple(
            Part(str(path), role="validation" if out else "train") for path, out in zip(files, held_out, strict=True)
        ),
    )


def _files(dataset: str) -> list[Path]:
    if dataset == "python-stdlib":
        root = Path(sysconfig.get_path("stdlib"))
        found = [
            path
            for path in sorted(root.rglob("*.py"))
            if not _NOT_LIBRARY.intersection(path.relative_to(root).parts) and path.stat().st_size > 200
        ]
        if not found:
            raise TextError(f"this Python keeps no source of its standard library in {root}: name a file or a folder")
        return found
    path = Path(dataset).expanduser()
    if path.is_file():
        return [path]
    if path.is_dir():
        found = [
            one
            for one in sorted(path.rglob("*"))
            # A folder such as .git or .venv in a project is not the project's text.
            if one.suffix.lower() in TEXT_ENDINGS
            and one.is_file()
            and not any(part.startswith(".") for part in one.relative_to(path).parts)
        ]
        if not found:
            raise TextError(f"the folder {dataset} holds no text ({', '.join(sorted(TEXT_ENDINGS))})")
        return found
    raise TextError(
        f"there is no dataset {dataset!r}: use one of {', '.join(DATASETS)}, or name a text file or a folder that exists"
    )


def _copied(name: str, hub: HubSet, data_root: Path) -> tuple[Part, ...]:
    """Parts of a copy of the hub's repository, as it was cloned or as the hub's own client keeps it."""
    root = data_root.expanduser()
    cached = f"datasets--{hub.repository.replace('/', '--')}"
    snapshots = [one for folder in (root, root / "hub") for one in folder.glob(f"{cached}/snapshots/*")]
    snapshots.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    for base in (root / hub.repository, root / hub.repository.split("/")[1], *snapshots):
        folder = base / hub.folder
        files = [(str(path), _split_of(path.relative_to(folder))) for path in sorted(folder.rglob("*.parquet"))]
        if files:
            rows = 0 if hub.validation else sum(_parquet_row_count(path) for path, _ in files)
            if parts := _roles(files, hub, "parquet", rows):
                return parts
    raise TextError(
        f"--data-root {data_root} holds no copy of the set {name}: copy the Parquet files of the hub's {hub.repository} to "
        f"{root / hub.repository / hub.folder}, or leave --data-root out to download them"
    )


def _downloaded(name: str, hub: HubSet) -> tuple[Part, ...]:
    """Parts of what the package `datasets` has in its cache, downloaded the first time."""
    copy = f"copy the Parquet files of {hub.repository} to a machine's folder and name that with --data-root"
    if importlib.util.find_spec("datasets") is None:
        raise TextError(f"the set {name} is downloaded by the package datasets: pip install datasets, or {copy}")
    try:
        splits = _load_from_hub(hub)
    except Exception as error:  # of the network, the hub, the disk: a dozen libraries' own kinds
        why = str(error).strip().splitlines()
        raise TextError(
            f"the set {name} cannot be downloaded ({type(error).__name__}: {why[0][:200] if why else ''}): "
            f"mend the connection, or {copy}"
        ) from None
    files = [(file["filename"], split) for split, rows in splits.items() for file in rows.cache_files]
    return _roles(files, hub, "arrow", sum(len(rows) for rows in splits.values()))


def _load_from_hub(hub: HubSet) -> dict[str, Any]:
    import datasets

    try:
        loaded = datasets.load_dataset(hub.repository, hub.configuration)
    except RuntimeError as error:
        # Of a repository that is still a program, the hub itself keeps a copy as Parquet.
        if "script" not in str(error):
            raise
        loaded = datasets.load_dataset(hub.repository, hub.configuration, revision="refs/convert/parquet")
    return dict(loaded)


def _split_of(path: Path) -> str:
    found = _SPLIT_WORD.findall(str(path).lower())
    return (
        {"valid": "validation", "val": "validation", "dev": "validation"}.get(found[-1], found[-1])
        if found
        else "train"
    )


def _roles(files: list[tuple[str, str]], hub: HubSet, kind: str, rows: int) -> tuple[Part, ...]:
    """Parts of the files that are trained or validated on; a test split that is neither is left alone."""
    if not hub.validation:
        every = LARGE_VALIDATION_SHARE if rows >= LARGE_ROWS else VALIDATION_SHARE
        return tuple(Part(path, kind, "both", every, hub.lines) for path, split in files if split == "train")
    train = [Part(path, kind, "train", lines=hub.lines) for path, split in files if split == "train"]
    validation = [
        Part(path, kind, "validation", lines=hub.lines)
        for wanted in hub.validation  # in this order: they may follow one another in one text
        for path, split in files
        if split == wanted
    ]
    return (*train, *validation) if train and validation else ()


def _read(path: str) -> str:
    try:
        return Path(path).read_bytes().decode("utf-8", "replace")
    except OSError as error:
        raise TextError(f"{path} cannot be read ({error.strerror}): mend that, or name another text") from None


def _parquet_row_count(path: str) -> int:
    import duckdb

    try:
        row = duckdb.connect().execute("SELECT num_rows FROM parquet_file_metadata(?)", [path]).fetchone()
    except duckdb.Error as error:
        raise _damaged(path, error) from None
    return int(row[0]) if row else 0


def _parquet_rows(path: str) -> Iterator[list[str]]:
    import duckdb

    try:
        with duckdb.connect() as connection:
            # The order of the rows is kept over threads; one is enough beside the tokenizer.
            connection.execute("SET threads = 1")
            rows = connection.execute("SELECT text FROM read_parquet(?)", [path])
            while found := rows.fetchmany(_ROWS_AT_ONCE):
                yield [row[0] for row in found]
    except duckdb.Error as error:
        raise _damaged(path, error) from None


def _arrow_rows(path: str) -> Iterator[list[str]]:
    import pyarrow

    try:
        with pyarrow.memory_map(path) as file, pyarrow.ipc.open_stream(file) as batches:
            for batch in batches:
                for at in range(0, len(batch), _ROWS_AT_ONCE):
                    yield batch.column("text").slice(at, _ROWS_AT_ONCE).to_pylist()
    except (OSError, KeyError, pyarrow.ArrowException) as error:
        raise _damaged(path, error) from None


def _damaged(path: str, error: Exception) -> TextError:
    first = (str(error).strip() or type(error).__name__).splitlines()[0]
    return TextError(f"{path} cannot be read ({first[:200]}): copy or download it anew")
