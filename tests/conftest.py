"""What every test gets: an environment of its own, a store, and a way to wait for what happens elsewhere."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import waiting
from hypothesis import settings

# A timing never fails a test, nor does that of one example.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

# A shell that starts a job in the background has it ignore Ctrl-C, and so do that job's children: here it is tested.
signal.signal(signal.SIGINT, signal.default_int_handler)

HERE = Path(__file__).resolve().parent

WaitUntil = Callable[..., None]

#: Variables by which a launcher says which process of which job this is: ours are none.
_LAUNCHERS = (
    "RANK",
    "LOCAL_RANK",
    "WORLD_SIZE",
    "LOCAL_WORLD_SIZE",
    "MASTER_",
    "TORCHELASTIC_",
    "SLURM_",
    "OMPI_",
    "PMI",
)


#: Folders whose tests start trainings, followers or other people's clients. `make test-fast` does not even import them.
SLOW_FOLDERS = frozenset(
    ("examples", "faults", "install", "integrations", "kconfig", "peers", "plugins", "scripts", "trainers")
)
#: What a test asks for that drives a browser.
_BROWSER = frozenset(("page", "browser"))


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    if config.option.markexpr == "not slow" and collection_path.parent == HERE and collection_path.name in SLOW_FOLDERS:
        return True
    return None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests in a slow folder or in a browser are slow; elsewhere a file or a test says so itself."""
    for item in items:
        folder = item.path.relative_to(HERE).parts[0] if item.path.is_relative_to(HERE) else ""
        if folder in SLOW_FOLDERS or not _BROWSER.isdisjoint(getattr(item, "fixturenames", ())):
            item.add_marker("slow")
        # Before sys.monitoring (Python 3.12), counting lines doubles what Python code takes: there the fast tests count.
        if sys.version_info < (3, 12) and item.get_closest_marker("slow"):
            item.add_marker("no_cover")


@pytest.fixture(autouse=True)
def isolated_environment(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """No LOSSBOOK_ or WANDB_ variable of the user's, a cache of the test's own, no follower unless the test asks for it."""
    for name in list(os.environ):
        if name.startswith(("LOSSBOOK_", "WANDB_", *_LAUNCHERS)):
            monkeypatch.delenv(name)
    monkeypatch.setenv("LOSSBOOK_CACHE", str(tmp_path / "cache"))
    # What the machine under the tests spends is no part of the runs that they are about: tests/monitor turns it on.
    monkeypatch.setenv("LOSSBOOK_SYSTEM_INTERVAL", "off")
    # The command line is tested on runs as users have them, followed.
    if "follower" not in request.fixturenames and request.path.parent.name != "cli":
        monkeypatch.setenv("LOSSBOOK_FOLLOWER", "off")
    yield
    import lossbook

    lossbook.finish()


@pytest.fixture
def follower(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of this test have a real follower beside them."""
    monkeypatch.delenv("LOSSBOOK_FOLLOWER", raising=False)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """The path of a store that is not there yet."""
    return tmp_path / "store"


@pytest.fixture
def wait_until() -> WaitUntil:
    """`wait_until(condition, seconds=60)`: `waiting.wait_until`, for tests that take it as a fixture."""
    return waiting.wait_until
