"""A training script pays for what it uses: the reading side and foreign libraries are loaded when they are needed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HEAVY = ("duckdb", "numpy", "torch", "psutil", "click", "pandas", "polars", "pyarrow", "asyncio", "multiprocessing")

#: The packages of the reading side and of the processes beside the training.
READING = tuple(
    f"lossbook.{name}"
    for name in ("book", "analysis", "reading", "curves", "storage", "trackers", "follower", "web", "terminal", "cli")
)


def loaded_by(code: str, *arguments: object) -> set[str]:
    """Which heavy libraries, and which rooms of ours, a fresh interpreter has loaded after that code."""
    report = f"{code}\nimport sys\nprint(*(name for name in sys.modules if name in {HEAVY!r} or name.startswith('lossbook')))"
    done = subprocess.run(
        [sys.executable, "-c", report, *map(str, arguments)], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def test_importing_loads_neither_foreign_libraries_nor_the_reading_side() -> None:
    loaded = loaded_by("import lossbook")
    assert not loaded & set(HEAVY)
    assert not [name for name in loaded if name.startswith(READING)]
    assert not [name for name in loaded if name.startswith("lossbook.compat")]


def test_a_whole_run_loads_no_more_than_that(store: Path) -> None:
    loaded = loaded_by(
        "import sys, lossbook\n"
        "run = lossbook.init(store=sys.argv[1], project='p', config={'lr': 1})\n"
        "run.log({'loss': 1.0, 'bad': 'x', 'nan': float('nan'), 'nested': {'a': 1}})\n"
        "run.note('x')\n"
        "run.finish()",
        store,
    )
    assert not loaded & set(HEAVY)
    assert not [name for name in loaded if name.startswith("lossbook.compat")], "it has no word of W&B's"


def test_reading_loads_what_it_takes(store: Path) -> None:
    store.mkdir()
    loaded = loaded_by("import sys, lossbook; lossbook.open(sys.argv[1]).runs()", store)
    assert "lossbook.book" in loaded
    assert not loaded & {"torch", "pandas", "polars", "pyarrow", "click"}
