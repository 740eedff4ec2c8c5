"""The hub's sets by name: from a local copy or through the package `datasets`, tokenised by several processes."""

from __future__ import annotations

import importlib.util
import types
from collections.abc import Callable
from pathlib import Path

import duckdb
import numpy as np
import pytest

import trainers.text
from gpt2 import train as trainer
from trainers import datasets
from trainers.datasets import HUB_SETS, TextError, find_corpus
from trainers.text import load_text

LINES = ["", " = Robin = \n", "", " The robin sings in the morning . \n", " It is small . \n"] * 40


def write_parquet(path: Path, rows: list[str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with duckdb.connect() as connection:
        connection.execute("CREATE TABLE rows (id INTEGER, text VARCHAR)")
        connection.executemany("INSERT INTO rows VALUES (?, ?)", list(enumerate(rows)))
        connection.execute(f"COPY (SELECT text FROM rows ORDER BY id) TO '{path}' (FORMAT parquet)")
    return path


def decoded(text: trainers.text.Text) -> tuple[str, str]:
    return text.decode(text.train.tolist()), text.decode(text.validation.tolist())


@pytest.mark.parametrize("place", ["Salesforce/wikitext", "wikitext", "datasets--Salesforce--wikitext/snapshots/a1b2"])
def test_a_copy_in_the_hub_s_layout_is_found(place: str, tmp_path: Path) -> None:
    folder = tmp_path / place / "wikitext-2-v1"
    write_parquet(folder / "train-00000-of-00001.parquet", LINES)
    write_parquet(folder / "validation-00000-of-00001.parquet", LINES[:10])
    write_parquet(folder / "test-00000-of-00001.parquet", ["nobody trains on this"])
    text = load_text("wikitext-2-v1", cache=tmp_path / "cache", data_root=tmp_path)
    # Lines of one text: nothing between them, and the blank ones as they were before the hub emptied them.
    train, validation = decoded(text)
    assert train == "".join(line or " \n" for line in LINES)
    assert validation == train[: len(validation)]
    assert text.name == "wikitext-2-v1"


def test_shakespeare_is_validated_on_its_last_tenth_as_nanogpt_does(tmp_path: Path) -> None:
    folder = tmp_path / "karpathy" / "tiny_shakespeare" / "default"
    for split, words in (("train", "First Citizen:\n" * 9), ("validation", "Speak.\n"), ("test", "Proceed.\n")):
        write_parquet(folder / split / "0000.parquet", [words])
    text = load_text("shakespeare", "chars", cache=tmp_path / "cache", data_root=tmp_path)
    assert decoded(text) == ("First Citizen:\n" * 9, "Speak.\nProceed.\n")


def test_documents_are_held_out_where_the_hub_has_no_validation_split(tmp_path: Path) -> None:
    stories = [f"<{number:03d}> once upon a time." for number in range(100)]
    folder = tmp_path / "HuggingFaceFW" / "fineweb-edu" / "sample" / "10BT"
    write_parquet(folder / "000_00000.parquet", stories[:60])
    write_parquet(folder / "001_00000.parquet", stories[60:])
    train, validation = decoded(load_text("finewebedu", cache=tmp_path / "cache", data_root=tmp_path))
    assert sorted((train + "\n\n" + validation).split("\n\n")) == stories
    assert len(validation.split("\n\n")) == 10
    # More files move no document from one side to the other.
    alone = tmp_path / "alone" / "HuggingFaceFW" / "fineweb-edu" / "sample" / "10BT"
    write_parquet(alone / "000_00000.parquet", stories[:60])
    _, of_the_first = decoded(load_text("finewebedu", cache=tmp_path / "cache", data_root=tmp_path / "alone"))
    assert validation.startswith(of_the_first)


@pytest.mark.parametrize("tokenizer", ["bytes", "chars", "bpe"])
def test_several_processes_make_the_tokens_of_one(
    tokenizer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "roneneldan" / "TinyStories" / "data"
    for number in range(3):
        rows = [f"Story {number}.{row}: the dog and the fox are friends." for row in range(50)]
        write_parquet(folder / f"train-0000{number}-of-00003-abc.parquet", rows)
    write_parquet(folder / "validation-00000-of-00001-def.parquet", ["One more story of the dog."] * 9)
    load = {"tokenizer": tokenizer, "vocabulary": 300, "data_root": tmp_path}
    one = load_text("tinystories", cache=tmp_path / "one", processes=1, **load)
    monkeypatch.setattr(trainers.text, "WORTH_PROCESSES_BYTES", 0)
    two = load_text("tinystories", cache=tmp_path / "two", processes=2, **load)
    assert "4 files, 2 processes" in capsys.readouterr().out
    assert two.digest == one.digest
    assert (two.train == one.train).all()
    assert isinstance(two.train, np.memmap)
    assert two.train.dtype == np.uint16
    # A document begins with what says so, but for the first.
    mark = "\n\n" if tokenizer != "bpe" else ""
    assert decoded(two)[1] == mark.join(["One more story of the dog."] * 9)


def test_gpt2_s_own_tokens_come_from_a_local_copy(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    # A stand-in for the 50,257: GPT-2's kind of tokenizer with the bytes and the end alone.
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE(vocab={one: at for at, one in enumerate(alphabet)}, merges=[]))
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    made.add_special_tokens(["<|endoftext|>"])
    home = tmp_path / "openai-community" / "gpt2"
    home.mkdir(parents=True)
    made.save(str(home / "tokenizer.json"))
    write_parquet(
        tmp_path / "Skylion007" / "openwebtext" / "plain_text" / "train-00000-of-00001.parquet", ["a cat"] * 20
    )
    text = load_text("openwebtext", "gpt2", cache=tmp_path / "cache", data_root=tmp_path)
    assert text.vocabulary == 257
    assert list(text.validation).count(256) == 1  # two documents, one end between them
    assert text.encode("a cat") == list(text.validation[:5])
    with pytest.raises(TextError, match=r"copy tokenizer\.json of openai-community/gpt2"):
        load_text("openwebtext", "gpt2", cache=tmp_path / "other", data_root=_without_tokenizer(tmp_path))


def _without_tokenizer(root: Path) -> Path:
    (root / "openai-community" / "gpt2" / "tokenizer.json").unlink()
    return root


@pytest.mark.parametrize("name", HUB_SETS)
def test_a_set_that_is_not_there_says_what_to_copy_where(name: str, tmp_path: Path) -> None:
    with pytest.raises(
        TextError, match=f"copy the Parquet files of the hub's {HUB_SETS[name].repository} to {tmp_path}"
    ):
        find_corpus(name, tmp_path)


def test_without_the_package_datasets_the_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        return None

    monkeypatch.setattr(importlib.util, "find_spec", missing)
    with pytest.raises(TextError, match="pip install datasets, or copy the Parquet files of roneneldan/TinyStories"):
        find_corpus("tinystories")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """A stand-in for the package `datasets`: what `load_dataset` answers."""

    def answer(load_dataset: Callable[..., object]) -> None:
        found = types.SimpleNamespace(load_dataset=load_dataset)
        monkeypatch.setitem(__import__("sys").modules, "datasets", found)
        monkeypatch.setattr(datasets.importlib.util, "find_spec", lambda name: name)

    return answer


def test_no_network_gets_one_sentence_and_no_run(
    hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:  # type: ignore[no-untyped-def]
    def unreachable(*_: object, **__: object) -> None:
        raise ConnectionError("Couldn't reach the Hub\nand a long story")

    hub(unreachable)
    monkeypatch.chdir(tmp_path)
    assert trainer.main(["--dataset", "wikitext-2-v1"]) == 2
    (sentence,) = capsys.readouterr().err.strip().splitlines()
    assert "cannot be downloaded (ConnectionError: Couldn't reach the Hub): mend the connection, or copy" in sentence
    assert not list(tmp_path.iterdir())


def test_a_set_that_the_hub_keeps_as_a_program_is_read_from_its_parquet_copy(hub, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    asked: list[str | None] = []
    pyarrow = pytest.importorskip("pyarrow")

    class Rows(list[str]):
        cache_files: tuple[dict[str, str], ...] = ()

    def split(name: str, rows: list[str]) -> Rows:
        path = tmp_path / f"{name}.arrow"
        table = pyarrow.table({"text": rows})
        with pyarrow.OSFile(str(path), "wb") as file, pyarrow.ipc.new_stream(file, table.schema) as stream:
            stream.write_table(table)
        made = Rows(rows)
        made.cache_files = ({"filename": str(path)},)
        return made

    def load_dataset(repository: str, configuration: str | None, revision: str | None = None) -> dict[str, Rows]:
        asked.append(revision)
        if revision is None:
            raise RuntimeError("Dataset scripts are no longer supported, but found tiny_shakespeare.py")
        return {
            "train": split("train", ["To be\n"] * 30),
            "validation": split("validation", ["or "]),
            "test": split("test", ["not"]),
        }

    hub(load_dataset)
    text = load_text("shakespeare", cache=tmp_path / "cache")
    assert asked == [None, "refs/convert/parquet"]
    assert decoded(text) == ("To be\n" * 30, "or not")


def test_what_the_package_datasets_has_in_its_cache_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = pytest.importorskip("datasets")
    train = write_parquet(tmp_path / "train.parquet", ["A story.", "Another one."] * 20)
    validation = write_parquet(tmp_path / "validation.parquet", ["The last story."])
    real = library.load_dataset

    def local(repository: str, configuration: str | None) -> object:
        assert repository == "roneneldan/TinyStories"
        files = {"train": str(train), "validation": str(validation)}
        return real("parquet", data_files=files, cache_dir=str(tmp_path / "hub"))

    monkeypatch.setattr(library, "load_dataset", local)
    text = load_text("tinystories", cache=tmp_path / "cache")
    assert decoded(text) == ("\n\n".join(["A story.", "Another one."] * 20), "The last story.")


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "roneneldan" / "TinyStories"
    path = write_parquet(folder / "train-0.parquet", ["a"] * 9)
    write_parquet(folder / "validation-0.parquet", ["b"])
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(TextError, match=r"train-0\.parquet cannot be read .*: copy or download it anew"):
        load_text("tinystories", cache=tmp_path / "cache", data_root=tmp_path)
    assert not any((tmp_path / "cache").iterdir())
