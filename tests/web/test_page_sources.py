"""The page's sources: what Python owns is generated, and no name of a metric is written in them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from lossbook.metrics import TABLE

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ROOT / "lossbook" / "web" / "ui" / "src"
GENERATED = {"types.ts", "constants.ts"}

#: Words that are a metric's alias and something else as well: an axis, a column of a comparison, a loss to be reached.
_OTHER_MEANINGS = {"tokens", "gradient_step", "flops", "loss", "epoch"}
_NAMES = {name for metric in TABLE for name in metric.names} - _OTHER_MEANINGS
_TEXT = re.compile(r"""(["'`])((?:(?!\1|\n).)*)\1""")
#: A pattern that recognises metrics or series of the machine by their words.
_PATTERN = re.compile(
    r"/[^/\n]*(?:mfu|perplexity|\bppl\b|system\\?\.|_percent|per_sec|[|(_/]loss)[^/\n]*/[a-z]*\.(?:test|exec)"
)


def _sources() -> list[tuple[str, str]]:
    """Each source's name and its text without comments."""
    comment = re.compile(r"/\*[\s\S]*?\*/|(?<!:)//.*")
    return [
        (str(path.relative_to(SOURCES)), comment.sub("", path.read_text()))
        for path in sorted(SOURCES.rglob("*.ts*"))
        if path.name not in GENERATED
    ]


def test_generated_sources_are_what_python_says() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "web_types.py", "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_no_source_of_the_page_names_a_metric() -> None:
    found = [
        f"{name}: {text}"
        for name, source in _sources()
        for _, text in _TEXT.findall(source)
        if not _NAMES.isdisjoint((text, *re.findall(r"\w+/\w+", text)))
    ]
    assert found == [], "metrics.py owns the names of metrics: the page has `role`, `unit` and `goal` with each"


def test_no_source_of_the_page_recognises_a_metric_by_its_words() -> None:
    found = [f"{name}: {one}" for name, source in _sources() for one in _PATTERN.findall(source)]
    assert found == []
