"""An answer that lacks rows says so: what a damaged file held is left out, and standard error names the file."""

from __future__ import annotations

from pathlib import Path

import pytest

import lossbook
from lossbook.cli.app import main
from lossbook.paths import RunFolder
from lossbook.storage import seal_run


def flip(path: Path) -> None:
    contents = bytearray(path.read_bytes())
    contents[len(contents) // 2] ^= 4
    path.write_bytes(contents)


@pytest.fixture
def run(store: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LOSSBOOK_FOLLOWER", "off")
    monkeypatch.setenv("LOSSBOOK_STORE", str(store))
    with lossbook.init(store=store, project="p", id="r", console=False) as written:
        for step in range(500):
            written.log({"loss": 1.0 / (step + 1)})
    return Path(written.path)


ASKING = [["curve", "r", "loss", "--csv"], ["export", "r", "-o", "-"], ["sql", "select count(*) from metrics"]]


@pytest.mark.parametrize("words", ASKING, ids=lambda words: words[0])
def test_rows_of_a_damaged_sealed_file_are_said_to_be_left_out(
    run: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    seal_run(RunFolder(str(run)), finished=True)
    assert main(words) == 0
    assert capsys.readouterr().err == ""
    (damaged,) = (path for path in (run / "metrics").glob("*.parquet") if ".rollup." not in path.name)
    flip(damaged)
    for _ in range(2):
        main(words)
        said = capsys.readouterr().err
        assert f"{damaged} is not what was written" in said
        assert said.count("\n") == 1


@pytest.mark.parametrize("words", ASKING, ids=lambda words: words[0])
def test_lines_of_a_damaged_journal_are_said_to_be_left_out(
    run: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    journal = run / "journal" / "r0-000001.jsonl"
    flip(journal)
    main(words)
    assert f"{journal}: its bytes" in capsys.readouterr().err
