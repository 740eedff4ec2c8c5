"""Where Trackio keeps runs: its database here, its inbox on a network file system, or a server that has the database.

All three take the same entries, and each entry has an id of its own that the database holds at most once: what is
written again is passed over. Trackio's `Run` is not used: it queues rows on threads, swallows failures, and asks the
network for the user's name.
"""

from __future__ import annotations

import datetime
import inspect
import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from lossbook.json_shapes import JsonObject
from lossbook.trackers.mirror import MirrorSettings, MirrorUnavailable

#: An answer of a server is waited for that long.
TIMEOUT_SECONDS = 30.0
#: In a project's metadata: the Lossbook project whose name Trackio shortened to this one.
CLAIM = "lossbook_project"
#: Answers after which trying again changes nothing: Trackio's server says 400 to a wrong token.
REFUSALS = frozenset((400, 401, 403))


@dataclass
class Entries:
    """What is to be written: dictionaries in the form of Trackio's LogEntry, SystemLogEntry and AlertEntry."""

    logs: list[JsonObject] = field(default_factory=list)
    system: list[JsonObject] = field(default_factory=list)
    alerts: list[JsonObject] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.logs) + len(self.system) + len(self.alerts)


class Place(ABC):
    """Takes entries. `name` tells one place from another.

    Every method raises MirrorUnavailable when the place cannot be reached, read or written.
    """

    name: str
    #: Whether a project's owner can be noted with it.
    keeps_notes = False

    @abstractmethod
    def runs(self, project: str) -> dict[str, str]:
        """The name of each run of a project, by its id."""

    @abstractmethod
    def owner(self, project: str) -> str | None:
        """The Lossbook project that this one was made for; None where nobody noted it, "" where it is not there yet."""

    @abstractmethod
    def claim(self, project: str, owner: str) -> None:
        """Note for whom a project is, where `keeps_notes`."""

    @abstractmethod
    def holds(self, project: str, log_id: str) -> bool:
        """Whether a row was written, as far as the place can tell."""

    @abstractmethod
    def write(self, entries: Entries) -> None:
        """Write entries that all are of one run; those that are there already stay as they are."""

    @abstractmethod
    def keep_file(self, path: str, project: str, folder: str, step: int, run_id: str) -> str:
        """Keep a file of the run; returns the path by which a row names it."""

    def url(self, project: str) -> str | None:
        """Where a person looks at a project."""
        return None


def place_of(settings: MirrorSettings) -> Place:
    """The place that the user's settings name: `TRACKIO_SPACE_ID`, `TRACKIO_SERVER_URL`, else `TRACKIO_DIR`.

    Raises:
        MirrorUnavailable: Trackio is not installed or too old, or the server cannot be reached.
    """
    folder = settings.folder or os.environ.get("TRACKIO_DIR")
    if folder:
        # Trackio reads it once, when it is imported, and takes it from the directory of this process.
        os.environ["TRACKIO_DIR"] = os.path.abspath(os.path.join(settings.cwd, folder))
    try:
        from trackio import utils
        from trackio.sqlite_storage import SQLiteStorage
    except ImportError as error:
        raise MirrorUnavailable(
            f"Trackio is not installed ({error}): pip install 'lossbook[trackio]'", may_pass=False
        ) from error
    if not {"run_id", "log_ids", "timestamps"} <= set(inspect.signature(SQLiteStorage.bulk_log).parameters):
        raise MirrorUnavailable("this Trackio is too old for Lossbook: pip install -U trackio", may_pass=False)
    if settings.mode != "offline":
        space = settings.options.get("space_id")
        server = settings.options.get("server_url")
        space, server = utils.resolve_space_id_and_server_url(space, server)
        if space or server:
            return ServerPlace(space or server, is_space=bool(space))
    if utils.get_storage_mode() == "jsonl":
        return InboxPlace()
    return DatabasePlace()


# -- here -------------------------------------------------------------------------------------------------------


class DatabasePlace(Place):
    """The project's SQLite database in Trackio's folder."""

    keeps_notes = True

    def __init__(self) -> None:
        from trackio import utils

        self.name = str(utils.TRACKIO_DIR)

    def runs(self, project: str) -> dict[str, str]:
        from trackio.sqlite_storage import SQLiteStorage

        with _local_failures(self.name):
            return {str(record["id"]): str(record["name"]) for record in SQLiteStorage.get_run_records(project)}

    def owner(self, project: str) -> str | None:
        from trackio.sqlite_storage import SQLiteStorage

        with _local_failures(self.name):
            if not SQLiteStorage.get_project_db_path(project).exists():
                return ""
            owner: str | None = SQLiteStorage.get_project_metadata(project, CLAIM)
            return owner

    def claim(self, project: str, owner: str) -> None:
        from trackio.sqlite_storage import SQLiteStorage

        with _local_failures(self.name):
            SQLiteStorage.set_project_metadata(project, CLAIM, owner)

    def holds(self, project: str, log_id: str) -> bool:
        from trackio.sqlite_storage import SQLiteStorage

        quoted = log_id.replace("'", "''")
        with _local_failures(self.name):
            if not SQLiteStorage.get_project_db_path(project).exists():
                return False
            found = SQLiteStorage.query_project(project, f"select 1 from metrics where log_id = '{quoted}'")
            return bool(found["rows"])

    def write(self, entries: Entries) -> None:
        from trackio.sqlite_storage import SQLiteStorage

        with _local_failures(self.name):
            if entries.logs:
                SQLiteStorage.bulk_log(
                    **_who(entries.logs),
                    metrics_list=[entry["metrics"] for entry in entries.logs],
                    steps=[entry["step"] for entry in entries.logs],
                    timestamps=[entry["timestamp"] for entry in entries.logs],
                    log_ids=[entry["log_id"] for entry in entries.logs],
                    config=next((entry["config"] for entry in entries.logs if entry.get("config")), None),
                )
            if entries.system:
                SQLiteStorage.bulk_log_system(
                    **_who(entries.system),
                    metrics_list=[entry["metrics"] for entry in entries.system],
                    timestamps=[entry["timestamp"] for entry in entries.system],
                    log_ids=[entry["log_id"] for entry in entries.system],
                )
            if entries.alerts:
                SQLiteStorage.bulk_alert(
                    **_who(entries.alerts),
                    titles=[entry["title"] for entry in entries.alerts],
                    texts=[entry["text"] for entry in entries.alerts],
                    levels=[entry["level"] for entry in entries.alerts],
                    steps=[entry["step"] for entry in entries.alerts],
                    timestamps=[entry["timestamp"] for entry in entries.alerts],
                    alert_ids=[entry["alert_id"] for entry in entries.alerts],
                )

    def keep_file(self, path: str, project: str, folder: str, step: int, run_id: str) -> str:
        from trackio.media.utils import get_project_media_path
        from trackio.utils import MEDIA_DIR

        with _local_failures(self.name):
            kept = get_project_media_path(project, folder, step) / os.path.basename(path)
            if not kept.exists():
                # Never a half one under its name: a process that is killed here leaves the other.
                partial = kept.with_name(f".{kept.name}.partial")
                shutil.copyfile(path, partial)
                partial.replace(kept)
            return str(kept.relative_to(MEDIA_DIR))


class InboxPlace(DatabasePlace):
    """The inbox of JSON lines that Trackio's dashboard imports, where its folder is on a network file system.

    Trackio holds SQLite to be unsafe there. What was imported is in the database; what was not is not looked for.
    """

    keeps_notes = False  # the database is the dashboard's to make

    def __init__(self) -> None:
        super().__init__()
        from trackio.fragments import FragmentWriter

        self._writer = FragmentWriter()

    def owner(self, project: str) -> str | None:
        return None

    def claim(self, project: str, owner: str) -> None:
        pass

    def holds(self, project: str, log_id: str) -> bool:
        return True

    def write(self, entries: Entries) -> None:
        from trackio import fragments

        records = [fragments.metric_record(entry) for entry in entries.logs]
        records += [fragments.system_metric_record(entry) for entry in entries.system]
        records += [fragments.alert_record(entry) for entry in entries.alerts]
        with _local_failures(self.name):
            self._writer.write_local(records)


def _who(entries: list[JsonObject]) -> Mapping[str, object]:
    first = entries[0]
    return {"project": first["project"], "run": first["run"], "run_id": first["run_id"]}


@contextmanager
def _local_failures(name: str) -> Iterator[None]:
    import sqlite3

    try:
        yield
    except (OSError, sqlite3.Error) as error:
        raise MirrorUnavailable(
            f"Trackio's folder {name} cannot be written ({error}); `lossbook sync RUN --to trackio` delivers the run later"
        ) from error


# -- elsewhere --------------------------------------------------------------------------------------------------


class ServerPlace(Place):
    """A Trackio server, or a Space that runs one.

    Args:
        address: a Space's id, or a URL which may carry the server's `write_token`.
    """

    def __init__(self, address: str, *, is_space: bool) -> None:
        import huggingface_hub
        from trackio import utils
        from trackio.remote_client import RemoteClient

        token = None
        self._hf_token = huggingface_hub.utils.get_token() if is_space else None
        if not is_space:
            address, token = utils.parse_trackio_server_url(address)
            token = token or os.environ.get("TRACKIO_WRITE_TOKEN")
            if not token:
                raise MirrorUnavailable(
                    f"the Trackio server {address} takes runs with a write token only: set TRACKIO_WRITE_TOKEN, "
                    "and `lossbook sync RUN --to trackio` delivers the run",
                    may_pass=False,
                )
        self.name = address
        self._is_space = is_space
        with self._failures():
            self._client = RemoteClient(
                address, hf_token=self._hf_token, write_token=token, httpx_kwargs={"timeout": TIMEOUT_SECONDS}
            )

    def runs(self, project: str) -> dict[str, str]:
        with self._failures():
            records = self._client.predict(project=project, api_name="/get_runs_for_project") or []
        return {str(record["id"]): str(record["name"]) for record in records if isinstance(record, dict)}

    def owner(self, project: str) -> str | None:
        return None

    def claim(self, project: str, owner: str) -> None:
        pass

    def holds(self, project: str, log_id: str) -> bool:
        return True

    def write(self, entries: Entries) -> None:
        for path, keyword, batch in (
            ("/bulk_log", "logs", entries.logs),
            ("/bulk_log_system", "logs", entries.system),
            ("/bulk_alert", "alerts", entries.alerts),
        ):
            if batch:
                with self._failures():
                    self._client.predict(api_name=path, hf_token=self._hf_token, **{keyword: _sendable(batch)})

    def keep_file(self, path: str, project: str, folder: str, step: int, run_id: str) -> str:
        from gradio_client import handle_file
        from trackio.utils import canonical_project_name

        upload = {
            "project": project,
            "run": folder,
            "run_id": run_id,
            "step": step,
            "relative_path": None,
            "uploaded_file": handle_file(path),
        }
        with self._failures():
            self._client.predict(api_name="/bulk_upload_media", uploads=[upload], hf_token=self._hf_token)
        return f"{canonical_project_name(project)}/{folder}/{step}/{os.path.basename(path)}"

    def url(self, project: str) -> str | None:
        if not self._is_space:
            return f"{self.name.rstrip('/')}/?project={project}"
        return f"https://huggingface.co/spaces/{self.name}"

    @contextmanager
    def _failures(self) -> Iterator[None]:
        import httpx

        try:
            yield
        except MirrorUnavailable:
            raise
        except Exception as error:
            refused = isinstance(error, httpx.HTTPStatusError) and error.response.status_code in REFUSALS
            reason = _said_by(error.response) if isinstance(error, httpx.HTTPStatusError) else ""
            reason = reason or next(iter(str(error).splitlines()), "") or type(error).__name__
            what = f"the Space {self.name}" if self._is_space else f"the Trackio server {self.name}"
            raise MirrorUnavailable(
                f"{what} {'refuses the run' if refused else 'cannot be reached'} ({reason}); "
                "`lossbook sync RUN --to trackio` delivers it later",
                may_pass=not refused,
            ) from error


def _said_by(response: Any) -> str:
    """What a server gives as its reason; empty where it gives none."""
    try:
        return str(response.json()["error"])
    except (ValueError, KeyError, TypeError):
        return ""


def _sendable(entries: list[JsonObject]) -> list[JsonObject]:
    """Entries as JSON can hold them: values that are not finite by name."""
    from trackio.utils import serialize_values

    return [serialize_values(entry) for entry in entries]


def timestamp(time_us: int) -> str:
    """A time as Trackio's tables have it: ISO 8601, UTC, to the microsecond."""
    seconds, microseconds = divmod(time_us, 1_000_000)
    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC).replace(microsecond=microseconds)
    # Always with six digits: Trackio sorts rows by this text.
    return moment.isoformat(timespec="microseconds")
