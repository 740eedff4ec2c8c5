"""Where MLflow keeps a run: its tracking address as seen from the training's working directory, and its database."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterator

from lossbook.trackers.mirror import MirrorSettings, MirrorUnavailable

INSTALL = "pip install 'lossbook[mlflow]'"
LATER = "`lossbook sync RUN --to mlflow` delivers the run later"


def ready_database(path: str, run_id: str, settings: MirrorSettings) -> None:
    """Have MLflow's database there, whole: two processes that make it at once, or one that is killed, tear it.

    MLflow takes a second to make one, a hundred changes of tables one after the other.
    """
    if os.path.exists(path):
        # MLflow tries a database that cannot be opened again and again, for more than a minute.
        with contextlib.closing(sqlite3.connect(path, timeout=5.0)) as database:
            database.execute("pragma schema_version")
        return
    from mlflow.tracking import MlflowClient

    partial = f"{path}.{run_id}.tmp"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(partial)
    # A file that cannot be made is said at once, for the same reason.
    open(partial, "wb").close()
    try:
        with at_home(settings):
            MlflowClient(f"sqlite:///{partial}").search_experiments(max_results=1)
        try:
            os.link(partial, path)
        except FileExistsError:
            pass  # another run's mirror was faster
        except OSError:  # a file system without hard links
            if not os.path.exists(path):
                os.rename(partial, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(partial)


def tracking_address(default: Callable[[], object], settings: MirrorSettings) -> str:
    """MLflow's own tracking URI as seen from the training's working directory, made absolute."""
    chosen = os.environ.get("MLFLOW_TRACKING_URI")
    if not chosen and settings.folder is not None:
        os.makedirs(settings.folder, exist_ok=True)
        return f"sqlite:///{os.path.abspath(os.path.join(settings.folder, 'mlflow.db'))}"
    with at_home(settings):
        address = str(default())
        path = address.removeprefix("sqlite:///")
        if path != address and not path.startswith((":", "/")):
            return f"sqlite:///{os.path.abspath(path)}"
        if "://" not in address and not address.startswith(("databricks", "file:")):
            return f"file://{os.path.abspath(address)}"
    return address


@contextlib.contextmanager
def at_home(settings: MirrorSettings) -> Iterator[None]:
    """Work in the folder from which MLflow's relative paths are meant.

    Raises:
        MirrorUnavailable: it is gone.
    """
    home = settings.folder or settings.cwd
    if not os.path.isdir(home):
        raise MirrorUnavailable(
            f"the run's working directory {home}, where MLflow keeps its runs, is gone: set MLFLOW_TRACKING_URI; {LATER}",
            may_pass=False,
        )
    with contextlib.chdir(home):
        yield
