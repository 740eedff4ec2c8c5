"""Text as tokens: tokenised once, by several processes, then memory-mapped."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import multiprocessing
import os
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from trainers.datasets import Corpus, Part, TextError, find_corpus

__all__ = ["TOKENIZERS", "Text", "TextError", "cache_folder", "load_text"]

TOKENIZERS = ("bytes", "chars", "bpe", "gpt2")
GPT2_REPOSITORY = "openai-community/gpt2"
SPLITS = ("train", "validation")
_END = "<|endoftext|>"
#: Characters handed to the tokenizer at once: one Python integer a token takes 50 times what is kept of it.
PIECE_CHARACTERS = 1 << 20
#: Characters that wait for the tokenizer, which takes many pieces at a time over its threads.
_WAITING = 4 << 20
#: Characters that a BPE is trained on, from all parts alike: more of them change few of its tokens.
_BPE_SAMPLE = 256 << 20
#: Bytes of text from which several processes are worth the seconds they take to start.
WORTH_PROCESSES_BYTES = 64 << 20

Tokens = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Text:
    """A tokenised text: two arrays of token numbers, shape (tokens,), uint16 or uint32, and the way back to text.

    `digest` names exactly these tokens: what was trained on one text is not resumed on another unnoticed.
    """

    name: str
    train: Tokens
    validation: Tokens
    vocabulary: int
    digest: str
    encode: Callable[[str], list[int]]
    decode: Callable[[list[int]], str]


class Job(NamedTuple):
    """The tokenising of one part, as it is handed to another process."""

    number: int
    part: Part
    #: Splits whose first document is in this part: nothing separates it from what comes before.
    begins: frozenset[str]
    tokenizer: str
    meta: dict[str, Any]
    folder: Path


def cache_folder() -> Path:
    """Where tokenised texts are kept; it can be deleted at any time."""
    named = os.environ.get("LOSSBOOK_DATASETS")
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(named) if named else base / "lossbook" / "datasets"


def load_text(
    dataset: str,
    tokenizer: str = "bytes",
    vocabulary: int = 4096,
    cache: Path | None = None,
    *,
    data_root: Path | None = None,
    processes: int | None = None,
) -> Text:
    """Load a text, tokenising it the first time.

    Args:
        dataset: one of `trainers.datasets.DATASETS`, a text file, or a folder.
        tokenizer: "bytes" (256 tokens), "chars" (those that occur), "bpe" (trained on the training part), or "gpt2"
            (GPT-2's own 50,257 tokens, from the hub or `data_root`).
        vocabulary: tokens of the BPE, at the most.
        cache: folder for what is tokenised; default `cache_folder()`.
        data_root: folder with copies of the hub's repositories; nothing is downloaded then.
        processes: how many tokenise a large text; default one for each CPU that this process may use.

    Raises:
        TextError: there is no such text, nothing in it, or no room for its tokens.
    """
    if tokenizer not in TOKENIZERS:
        raise TextError(f"the tokenizer {tokenizer!r} is not known: use one of {', '.join(TOKENIZERS)}")
    if tokenizer in ("bpe", "gpt2") and importlib.util.find_spec("tokenizers") is None:
        raise TextError(f"--tokenizer {tokenizer} needs the package tokenizers: pip install 'lossbook[train]'")
    corpus = find_corpus(dataset, data_root)
    cache = cache or cache_folder()
    folder = cache / _key(corpus, tokenizer, vocabulary)
    cached = _read_cached(folder, tokenizer, corpus.name)
    if cached is not None:
        return cached
    try:
        _tokenise(corpus, tokenizer, vocabulary, folder, data_root, processes or _usable_cpus())
    except OSError as error:
        raise TextError(
            f"the tokens of {dataset} cannot be kept in {cache} ({error.strerror or error}): "
            "name another folder with --cache or LOSSBOOK_DATASETS"
        ) from None
    cached = _read_cached(folder, tokenizer, corpus.name)
    if cached is None:
        raise TextError(f"the tokens just written to {folder} cannot be read back: delete that folder and try again")
    return cached


def _read_cached(folder: Path, tokenizer: str, name: str) -> Text | None:
    """What was tokenised before; None when it was not, or when parts of it are gone or damaged."""
    try:
        meta = json.loads((folder / "meta.json").read_text("utf-8"))
        train, validation = (np.load(folder / f"{split}.npy", mmap_mode="r") for split in SPLITS)
        if [len(train), len(validation)] != meta["tokens"]:
            return None
        encode, decode = _coder(tokenizer, folder, meta)
        return Text(name, train, validation, meta["vocabulary"], meta["digest"], encode, decode)
    except Exception:  # numpy, json and the tokenizer each have errors of their own for a damaged file
        return None


def _key(corpus: Corpus, tokenizer: str, vocabulary: int) -> str:
    found = [(part, Path(part.path)) for part in corpus.parts]
    # A text is split by its files' names alone; what else is for validation belongs to what was tokenised.
    seen = [
        f"{path.resolve()}:{path.stat().st_size}:{path.stat().st_mtime_ns}"
        + (f":{part.role}:{part.every}" if part.kind != "text" else "")
        for part, path in found
    ]
    settings = f"3:{tokenizer}:{vocabulary if tokenizer == 'bpe' else 0}"
    digest = hashlib.sha256("\n".join([settings, *seen]).encode("utf-8", "surrogateescape")).hexdigest()[:16]
    return f"{corpus.name[:40]}-{tokenizer}-{digest}"


def _tokenise(
    corpus: Corpus, tokenizer: str, vocabulary: int, folder: Path, data_root: Path | None, processes: int
) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.with_name(f"{folder.name}.{os.getpid()}-{time.time_ns()}.tmp")
    partial.mkdir()
    try:
        meta = _make_tokenizer(corpus, tokenizer, vocabulary, partial, data_root)
        jobs, begun = [], set[str]()
        for number, part in enumerate(corpus.parts):
            splits = frozenset(SPLITS if part.role == "both" else (part.role,))
            jobs.append(Job(number, part, splits - begun, tokenizer, meta, partial))
            begun |= splits
        processes = min(processes, len(jobs))
        if processes > 1 and corpus.size_bytes() >= WORTH_PROCESSES_BYTES:
            print(f"tokenising {corpus.name}: {len(jobs)} files, {processes} processes", flush=True)
            _in_processes(jobs, processes)
        else:
            for job in jobs:
                _tokenise_part(job)
        digest = hashlib.sha256()
        meta["tokens"] = [_join(partial, split, len(jobs), _token_type(meta), digest) for split in SPLITS]
        if 0 in meta["tokens"]:
            first = Path(corpus.parts[0].path)
            where = first if len(corpus.parts) == 1 else first.parent
            raise TextError(f"{where} is too short to be split: use a longer text")
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


def _usable_cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _in_processes(jobs: list[Job], processes: int) -> None:
    # Spawned: a fork of a process that has threads (PyTorch's, the tokenizer's) may wait for one that is not there.
    context = multiprocessing.get_context("spawn")
    threads = max(1, _usable_cpus() // processes)
    try:
        with ProcessPoolExecutor(processes, context, _limit_threads, (threads,)) as pool:
            for done, _ in enumerate(pool.map(_tokenise_part, jobs), 1):
                if done % max(1, len(jobs) // 10) == 0:
                    print(f"tokenised {done} of {len(jobs)} files", flush=True)
    except BrokenProcessPool:
        raise TextError(
            "a process that tokenised was killed, most likely for want of memory: free some, or use a smaller set"
        ) from None


def _limit_threads(threads: int) -> None:
    os.environ["RAYON_NUM_THREADS"] = str(threads)
    os.environ["TOKENIZERS_PARALLELISM"] = "true" if threads > 1 else "false"


def _token_type(meta: dict[str, Any]) -> Any:
    return np.uint16 if meta["vocabulary"] <= 1 << 16 else np.uint32


def _tokenise_part(job: Job) -> None:
    """Write the tokens of a part, one file for each split that it has."""
    encode = _many_coder(job.tokenizer, job.folder, job.meta)
    separator = _END if job.tokenizer in ("bpe", "gpt2") else "\n\n"
    kind, begins = _token_type(job.meta), set(job.begins)
    files = {split: _piece_file(job.folder, split, job.number).open("wb") for split in SPLITS}
    waiting: dict[str, list[str]] = {split: [] for split in SPLITS}
    held = 0

    def write() -> None:
        for split, texts in waiting.items():
            for tokens in encode(texts) if texts else ():
                files[split].write(np.asarray(tokens, dtype=kind).data)
            texts.clear()

    try:
        for split, text, starts_document in job.part.pieces(PIECE_CHARACTERS):
            if split in begins:
                begins.remove(split)
            elif starts_document:
                text = separator + text
            waiting[split].append(text)
            held += len(text)
            if held >= _WAITING:
                write()
                held = 0
        write()
    finally:
        for file in files.values():
            file.close()


def _piece_file(folder: Path, split: str, number: int) -> Path:
    return folder / f"{split}-{number:05d}.tokens"


def _join(folder: Path, split: str, count: int, kind: Any, digest: Any) -> int:
    """Put the parts' tokens into one array, in the order of the parts; how many there are."""
    paths = [_piece_file(folder, split, number) for number in range(count)]
    total = sum(path.stat().st_size for path in paths) // np.dtype(kind).itemsize
    if total == 0:
        return 0
    whole = np.lib.format.open_memmap(folder / f"{split}.npy", mode="w+", dtype=kind, shape=(total,))
    at = 0
    for path in paths:
        with path.open("rb") as file:
            while read := file.read(1 << 24):
                tokens = np.frombuffer(read, dtype=kind)
                digest.update(tokens)
                whole[at : at + len(tokens)] = tokens
                at += len(tokens)
        path.unlink()  # as they are taken over: else both would need room at once
    whole.flush()
    return total


def _make_tokenizer(
    corpus: Corpus, tokenizer: str, vocabulary: int, folder: Path, data_root: Path | None
) -> dict[str, Any]:
    """Make what the tokenizer needs, its file in `folder` included, and say how many tokens it has."""
    if tokenizer == "chars":
        points = np.array([ord("\n")], dtype=np.uint32)
        for part in corpus.parts:
            for _, text, _ in part.pieces(PIECE_CHARACTERS):
                points = np.union1d(points, _code_points(text))
        return {"vocabulary": len(points), "characters": "".join(map(chr, points.tolist()))}
    if tokenizer == "bpe":
        return {"vocabulary": _train_bpe(_sample(corpus), vocabulary, folder / "tokenizer.json")}
    if tokenizer == "gpt2":
        return {"vocabulary": _fetch_gpt2(folder / "tokenizer.json", data_root)}
    return {"vocabulary": 256}


def _sample(corpus: Corpus) -> Iterator[str]:
    parts = [part for part in corpus.parts if part.role != "validation"]
    for part in parts:
        left = _BPE_SAMPLE // len(parts)
        for split, text, _ in part.pieces(PIECE_CHARACTERS):
            if split == "train" and left > 0:
                yield text
                left -= len(text)
            elif left <= 0:
                break


def _train_bpe(texts: Iterator[str], vocabulary: int, path: Path) -> int:
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


def _fetch_gpt2(path: Path, data_root: Path | None) -> int:
    from tokenizers import Tokenizer

    source = f"the hub's {GPT2_REPOSITORY}"
    try:
        if data_root is not None:
            file = data_root.expanduser() / GPT2_REPOSITORY / "tokenizer.json"
            source = str(file)
            tokenizer = Tokenizer.from_file(str(file))
        else:
            tokenizer = Tokenizer.from_pretrained(GPT2_REPOSITORY)
    except Exception as error:  # the tokenizer's errors are plain ones
        first = str(error).strip().splitlines()
        raise TextError(
            f"GPT-2's tokens cannot be read from {source} ({first[0][:200] if first else type(error).__name__}): copy "
            f"tokenizer.json of {GPT2_REPOSITORY} to FOLDER/{GPT2_REPOSITORY}, and name FOLDER with --data-root"
        ) from None
    tokenizer.save(str(path))
    return int(tokenizer.get_vocab_size())


def _code_points(text: str) -> Tokens:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)


def _many_coder(tokenizer: str, folder: Path, meta: dict[str, Any]) -> Callable[[list[str]], Iterator[Any]]:
    """Tokens of many texts at a time: what tokenising a whole corpus uses."""
    if tokenizer == "bytes":
        return lambda texts: (np.frombuffer(text.encode("utf-8"), dtype=np.uint8) for text in texts)
    if tokenizer == "chars":
        known = _code_points(meta["characters"])  # ascending
        return lambda texts: (np.searchsorted(known, _code_points(text)) for text in texts)
    from tokenizers import Tokenizer

    trained = Tokenizer.from_file(str(folder / "tokenizer.json"))
    return lambda texts: (encoded.ids for encoded in trained.encode_batch_fast(texts))


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
