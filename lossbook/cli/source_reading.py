"""What commands do for another tracker's runs: read rows before figures are shown, and say what was not read."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from lossbook.cli.format import plural, printable

if TYPE_CHECKING:
    from lossbook.book import Book

#: So long a table of runs waits for rows that were never read; one run is read in any case.
READ_SECONDS = 3.0
#: What stands in a table for a figure that only the rows tell, while they are not read.
NOT_READ = "not read"
_MOST_SENTENCES = 5


def read_before_listing(book: Book, *, everything: bool) -> frozenset[str]:
    """Read the rows of a source's runs, for a few seconds or all of them; what was passed over is said.

    Returns:
        The folders of runs whose rows are not read; none for a store.
    """
    from lossbook.trackers import SourceBook

    if not isinstance(book, SourceBook):
        return frozenset()
    book.import_some(math.inf if everything else READ_SECONDS, steps=True)
    say_remarks(book.source.remarks())
    return frozenset(run.path for run in book.runs() if not book.is_imported(run.path))


def say_remarks(sentences: Iterable[str], *, count: int | None = None) -> None:
    """Say what a person has to know of a reading on standard error: the first sentences, and how many more there are.

    Args:
        count: how many there are where `sentences` are only the first.
    """
    said = list(dict.fromkeys(sentences))
    for sentence in said[:_MOST_SENTENCES]:
        click.echo(f"lossbook: {printable(sentence)}", err=True)
    more = max(len(said), count or 0) - _MOST_SENTENCES
    if more > 0:
        click.echo(f"lossbook: and {plural(more, 'more remark')} of this kind", err=True)
