"""Text to train on: where it is, how it is split, how it becomes tokens. Tokenised once, then memory-mapped."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
import sysconfig
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

TEXT_ENDINGS = {".c", ".cpp", ".h", ".js", ".json", ".md", ".py", ".rst", ".text", ".ts", ".tsv", ".txt"}
TOKENIZERS = ("bytes", "chars", "bpe")
#: One file of ten is for validation; of a single file its last tenth.
VALIDATION_SHARE = 10
#: Folders of the standard library that are data for tests rather than code to learn from.
_NOT_LIBRARY = {"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__", "lib2to3", "turtledemo"}
_END = "<|endoftext|>"
#: Characters handed to the tokenizer at once: one Python integer a token takes 50 times what is kept of it.
_PIECE = 1 << 20


class TextError(Exception):
    """A text that cannot be trained on; the message says why and what to do."""


@dataclass(frozen=True)
class Text:
    """A tokenised text: two arrays of token numbers, shape (tokens,), uint16 or uint32, and the way back to text.

    `digest` names exactly these tokens: what was trained on one text is not resumed on another unnoticed.
    """

    name: str
    train: np.ndarray[Any, Any]
    validation: np.ndarray[Any, Any]
    vocabulary: int
    digest: str
    encode: Callable[[str], list[int]]
    decode: Callable[[list[int]], str]


def cache_folder() -> Path:
    """Where tokenised texts are kept; it can be deleted at any time."""
    named = os.environ.get("LOSSBOOK_DATASETS")
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(named) if named else base / "lossbook" / "datasets"


def load_text(dataset: str, tokenizer: str = "bytes", vocabulary: int = 4096, cache: Path | None = None) -> Text:
    """Load a text, tokenising it the first time.

    Args:
        dataset: "python-stdlib" (the source of this interpreter's standard library), a text file, or a folder.
        tokenizer: "bytes" (256 tokens), "chars" (those that occur), or "bpe" (trained on the training part).
        vocabulary: tokens of the BPE, at the most.
        cache: folder for what is tokenised; default `cache_folder()`.

    Raises:
        TextError: there is no such text, nothing in it, or no room for its tokens.
    """
    if tokenizer not in TOKENIZERS:
        raise TextError(f"the tokenizer {tokenizer!r} is not known: use one of {', '.join(TOKENIZERS)}")
    if tokenizer == "bpe" and importlib.util.find_spec("tokenizers") is None:
        raise TextError("--tokenizer bpe needs the package tokenizers: pip install 'lossbook[train]'")
    files = _files(dataset)
    cache = cache or cache_folder()
    folder = cache / _key(dataset, files, tokenizer, vocabulary)
    name = dataset if dataset == "python-stdlib" else Path(dataset).resolve().stem
    cached = _read_cached(folder, tokenizer, name)
    if cached is not None:
        return cached
    try:
        _tokenise(files, tokenizer, vocabulary, folder)
    except OSError as error:
        raise TextError(
            f"the tokens of {dataset} cannot be kept in {cache} ({error.strerror or error}): "
            "name another folder with --cache or LOSSBOOK_DATASETS"
        ) from None
    cached = _read_cached(folder, tokenizer, name)
    if cached is None:
        raise TextError(f"the tokens just written to {folder} cannot be read back: delete that folder and try again")
    return cached


def _read_cached(folder: Path, tokenizer: str, name: str) -> Text | None:
    """What was tokenised before; None when it was not, or when parts of it are gone or damaged."""
    try:
        meta = json.loads((folder / "meta.json").read_text("utf-8"))
        train, validation = (np.load(folder / f"{part}.npy", mmap_mode="r") for part in ("train", "validation"))
        if [len(train), len(validation)] != meta["tokens"]:
            return None
        encode, decode = _coder(tokenizer, folder, meta)
        return Text(name, train, validation, meta["vocabulary"], meta["digest"], encode, decode)
    except Exception:  # numpy, json and the tokenizer each have errors of their own for a damaged file
        return None


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
    raise TextError(f"there is no dataset {dataset!r}: use python-stdlib, or name a text file or a folder that exists")


def _key(dataset: str, files: list[Path], tokenizer: str, vocabulary: int) -> str:
    seen = [f"{path.resolve()}:{path.stat().st_size}:{path.stat().st_mtime_ns}" for path in files]
    settings = f"2:{tokenizer}:{vocabulary if tokenizer == 'bpe' else 0}"
    digest = hashlib.sha256("\n".join([settings, *seen]).encode("utf-8", "surrogateescape")).hexdigest()[:16]
    return f"{Path(dataset).resolve().stem[:40]}-{tokenizer}-{digest}"


def _split(files: list[Path]) -> tuple[list[str], list[str]]:
    """Texts for training and for validation. A file goes where its name falls, so that more files move none."""
    try:
        contents = [path.read_bytes() for path in files]
    except OSError as error:
        raise TextError(
            f"{error.filename} cannot be read ({error.strerror}): mend that, or name another text"
        ) from None
    texts = [content.decode("utf-8", "replace") for content in contents]
    if len(files) == 1:
        if "\0" in texts[0] or texts[0].count("\ufffd") > len(texts[0]) // 100:
            raise TextError(f"{files[0]} is no text in UTF-8: convert it first, for example with iconv")
        cut = len(texts[0]) - len(texts[0]) // VALIDATION_SHARE
        return [texts[0][:cut]], [texts[0][cut:]]
    held_out = [hashlib.sha256(path.name.encode("utf-8", "surrogateescape")).digest()[0] < 26 for path in files]
    if all(held_out) or not any(held_out):
        held_out = [
            number % VALIDATION_SHARE == VALIDATION_SHARE - 1 or len(files) == number + 1
            for number in range(len(files))
        ]
    train = [text for text, out in zip(texts, held_out, strict=True) if not out]
    return train, [text for text, out in zip(texts, held_out, strict=True) if out]


def _tokenise(files: list[Path], tokenizer: str, vocabulary: int, folder: Path) -> None:
    train, validation = _split(files)
    if not any(train) or not any(validation):
        raise TextError(
            f"{files[0] if len(files) == 1 else files[0].parent} is too short to be split: use a longer text"
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.with_name(f"{folder.name}.{os.getpid()}-{time.time_ns()}.tmp")
    partial.mkdir()
    try:
        meta: dict[str, Any] = {"vocabulary": 256}
        if tokenizer == "chars":
            characters = sorted(set().union(*train, *validation, "\n"))
            meta = {"vocabulary": len(characters), "characters": "".join(characters)}
        elif tokenizer == "bpe":
            meta = {"vocabulary": _train_bpe(train, vocabulary, partial / "tokenizer.json")}
        encode, _ = _coder(tokenizer, partial, meta)
        kind = np.uint16 if meta["vocabulary"] <= 1 << 16 else np.uint32
        digest = hashlib.sha256()
        meta["tokens"] = []
        for part, texts in (("train", train), ("validation", validation)):
            pieces = [_numbers(text, tokenizer, encode, kind) for text in _pieces(_with_ends(texts, tokenizer))]
            tokens = np.concatenate(pieces)
            digest.update(tokens)
            meta["tokens"].append(len(tokens))
            np.save(partial / f"{part}.npy", tokens)
        meta["digest"] = digest.hexdigest()
        (partial / "meta.json").write_text(json.dumps(meta), "utf-8")
        try:
            partial.rename(folder)
        except OSError:
            # Somebody else has tokenised it meanwhile, or what lies there is damaged.
            if _read_cached(folder, tokenizer, "") is None:
                shutil.rmtree(folder)
                partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _numbers(text: str, tokenizer: str, encode: Callable[[str], list[int]], kind: Any) -> np.ndarray[Any, Any]:
    if tokenizer == "bytes":
        return np.frombuffer(text.encode("utf-8"), dtype=np.uint8).astype(kind)
    return np.array(encode(text), dtype=kind)


def _pieces(texts: Iterator[str]) -> Iterator[str]:
    """Texts in parts of bounded length that end with a line where they can."""
    for text in texts:
        at = 0
        while at < len(text):
            end = at + _PIECE
            if end < len(text):
                end = text.rfind("\n", at, end) + 1 or end
            yield text[at:end]
            at = end


def _with_ends(texts: list[str], tokenizer: str) -> Iterator[str]:
    for number, text in enumerate(texts):
        yield text if number == 0 else (_END if tokenizer == "bpe" else "\n\n") + text


def _train_bpe(texts: list[str], vocabulary: int, path: Path) -> int:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    if vocabulary < len(alphabet) + 1:
        raise TextError(f"--vocab-size {vocabulary} is too small for bytes and an end: use {len(alphabet) + 1} or more")
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=[_END], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.save(str(path))
    return int(tokenizer.get_vocab_size())


def _coder(
    tokenizer: str, folder: Path, meta: dict[str, Any]
) -> tuple[Callable[[str], list[int]], Callable[[list[int]], str]]:
    if tokenizer == "bytes":
        return lambda text: list(text.encode("utf-8")), lambda tokens: bytes(tokens).decode("utf-8", "replace")
    if tokenizer == "chars":
        characters: str = meta["characters"]
        number = {character: at for at, character in enumerate(characters)}
        return (
            lambda text: [number[character] for character in text if character in number],
            lambda tokens: "".join(characters[token] for token in tokens),
        )
    from tokenizers import Tokenizer

    trained = Tokenizer.from_file(str(folder / "tokenizer.json"))
    return lambda text: list(trained.encode(text).ids), lambda tokens: str(trained.decode(tokens))
