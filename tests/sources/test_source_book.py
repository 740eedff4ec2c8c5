"""A source that is held open for hours, as the dashboard holds it: kept runs and a live table of another tracker's runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import lossbook
from lossbook.reading.listing import Listing, RunKey
from lossbook.trackers.source_book import SourceBook

pytestmark = pytest.mark.slow

WaitUntil = Callable[..., None]

WRITE = """
import sys
from tensorboardX import SummaryWriter
start, end = int(sys.argv[2]), int(sys.argv[3])
with SummaryWriter(sys.argv[1], filename_suffix=f".{start}") as writer:
    for step in range(start, end):
        writer.add_scalar("loss", float(step), step)
"""


@pytest.fixture
def write(tmp_path: Path, program: Callable[..., str]) -> Callable[[str, int, int], None]:
    """`write(name, start, end)`: have tensorboardX log `loss` of those steps into a folder of `logs/`."""
    pytest.importorskip("tensorboardX")
    return lambda name, start, end: print(program(WRITE, str(tmp_path / "logs" / name), str(start), str(end)))


@pytest.fixture
def book(write: Callable[[str, int, int], None], tmp_path: Path) -> SourceBook:
    write("first", 0, 20)
    write("second", 0, 5)
    book = lossbook.open(tmp_path / "logs")
    assert isinstance(book, SourceBook)
    return book


def steps(listing: Listing) -> dict[str, int | None]:
    """How far each run has come, by name, after another look."""
    listing.look()
    return dict(zip(listing.column("name"), listing.column("last_step"), strict=True))


def key_of(book: SourceBook, name: str) -> RunKey:
    listing = book.listing()
    listing.look()
    return next(key for key in listing.keys(None) if listing.record(key).name == name)


def test_a_kept_run_of_a_source_is_the_same_object_and_draws(book: SourceBook) -> None:
    key = key_of(book, "first")
    kept = book.kept_run(*key)
    assert kept is book.kept_run(*key)
    assert kept.curve("loss").last.tolist() == [float(step) for step in range(20)]
    assert kept.metrics["loss"]["count"] == 20
    assert kept.problems() == []


def test_a_listing_of_a_source_shows_how_far_its_runs_have_come(book: SourceBook, wait_until: WaitUntil) -> None:
    listing = book.listing()
    wait_until(lambda: steps(listing) == {"first": 19, "second": 4})
    assert [listing.record(key).name for key in listing.sorted("loss", descending=True)] == ["first", "second"]


def test_a_kept_run_and_a_listing_see_what_the_source_has_after_a_refresh(
    book: SourceBook, write: Callable[[str, int, int], None], wait_until: WaitUntil
) -> None:
    key = key_of(book, "first")
    listing = book.listing()
    listing.look()
    kept = book.kept_run(*key)
    assert len(kept.curve("loss")) == 20
    write("first", 20, 30)
    write("third", 0, 3)
    book.refresh()
    assert book.kept_run(*key) is kept
    assert kept.curve("loss").last.tolist() == [float(step) for step in range(30)]
    changes = listing.look(everything=True)
    assert [listing.record(one).name for one in changes.added] == ["third"]
    assert key in changes.changed
    wait_until(lambda: steps(listing) == {"first": 29, "second": 4, "third": 2})


def test_a_run_that_the_source_has_no_more_leaves_the_listing(book: SourceBook, tmp_path: Path) -> None:
    import shutil

    key = key_of(book, "second")
    listing = book.listing()
    listing.look()
    book.kept_run(*key).curve("loss")
    shutil.rmtree(tmp_path / "logs" / "second")
    book.refresh()
    assert listing.look().removed == (key,)
    with pytest.raises(lossbook.errors.UnknownRun):
        book.kept_run(*key)
