"""W&B's own client, uploading a transaction log while it grows: in a process of its own, which a kill ends at once.

    python -m lossbook.trackers.wandb.upload PROJECT RUN     (JSON lines in and out; ends when its input does)

W&B's service does what `wandb beta sync --live` has it do. It puts the rows of a file behind those that the server
has of that run, also when they are the same: so the server is asked for their number first, and who starts the upload
leaves them out. It tells how it went in messages alone: after an upload that the server refused it marks the file as
synced all the same, so that mark is not believed here.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Protocol

from lossbook.json_shapes import Json, JsonMapping, JsonObject, whole_or_none

if TYPE_CHECKING:
    from wandb.proto.wandb_sync_pb2 import ServerSyncMessage
    from wandb.sdk.wandb_setup import _WandbSetup as WandbSetup

#: The first answer must come within this: the client starts in two, and the server must say who logs in.
CONNECT_SECONDS = 30.0
#: How often the client is asked how far it is.
_POLL_SECONDS = 0.2
#: A notification is tried so often, a second apart.
_ALERT_TRIES = 3
_ALERT = """mutation NotifyScriptableRunAlert($entityName: String!, $projectName: String!, $runName: String!,
  $title: String!, $text: String!, $severity: AlertSeverity = INFO, $waitDuration: Duration) {
  notifyScriptableRunAlert(input: {entityName: $entityName, projectName: $projectName, runName: $runName,
    title: $title, text: $text, severity: $severity, waitDuration: $waitDuration}) { success } }"""
_ROWS = """query RunRows($entity: String!, $project: String!, $run: String!) {
  project(name: $project, entityName: $entity) { run(name: $run) { historyLineCount } } }"""


class UploadFailed(Exception):
    """The client does not upload; `login` says whether a person must log in first."""

    def __init__(self, sentence: str, *, login: bool = False) -> None:
        super().__init__(sentence)
        self.login = login


class Upload:
    """The client, seen from the mirror. It is logged in when this returns, and uploads once it is told what.

    Args:
        folder: where its log goes.
        cwd: where the training ran: the client looks for settings of the user there.
        project: the project at W&B.
        run: the id of the run at W&B.
        program: the script that trains: the client would name itself.
        entity: whose project it is, where that is not left to the client's settings.

    Raises:
        UploadFailed: no login, or no server that answers in `CONNECT_SECONDS`.

    Attributes:
        entity: whose project it is.
        app_url: where W&B's pages are.
        rows: how many rows of the run's history the server has.
    """

    def __init__(
        self,
        folder: str,
        cwd: str,
        project: str,
        run: str,
        *,
        program: str = "",
        entity: str | None = None,
        connect_seconds: float = CONNECT_SECONDS,
        beat: Callable[[], None] = lambda: None,
    ) -> None:
        package = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
        # A service of the training's own W&B run must not be used, and this package must be found from anywhere.
        surroundings = {name: value for name, value in os.environ.items() if name != "WANDB_SERVICE"}
        surroundings["PYTHONPATH"] = os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH"))))
        surroundings["WANDB_PROGRAM"] = program
        if entity:
            surroundings["WANDB_ENTITY"] = entity
        log_path = os.path.join(folder, "upload.log")
        with open(log_path, "ab") as log:
            self._process = subprocess.Popen(
                # -P: the folder of a training may hold a random.py.
                [sys.executable, "-P", "-m", "lossbook.trackers.wandb.upload", project, run],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=surroundings,
                cwd=cwd if os.path.isdir(cwd) else None,
                start_new_session=True,
            )
        self._log_path = log_path
        self._beat = beat
        self._answers: queue.Queue[JsonObject] = queue.Queue()
        self._heard = time.monotonic()
        threading.Thread(target=self._listen, daemon=True).start()
        try:
            ready = self._await("ready", connect_seconds)
        except UploadFailed:
            self.kill()
            raise
        self.entity, self.app_url, self.rows = (
            str(ready["entity"]),
            str(ready["app_url"]),
            whole_or_none(ready["rows"]) or 0,
        )

    def start(self, path: str) -> None:
        """Upload a transaction log, which may grow until its exit record.

        Raises:
            UploadFailed: the client is gone.
        """
        self._say({"upload": path})

    def check(self) -> None:
        """Take note of what the client said since.

        Raises:
            UploadFailed: it gave up.
        """
        with contextlib.suppress(queue.Empty):
            while True:
                self._take(self._answers.get_nowait())

    def alert(self, variables: JsonObject, seconds: float) -> bool:
        """Have a notification sent; False when the server refuses it.

        Args:
            variables: project, run, title, text and severity, as W&B's API names them.

        Raises:
            UploadFailed: there is no answer within `seconds`.
        """
        self._say({"alert": {"entityName": self.entity, "waitDuration": 0, **variables}})
        return bool(self._await("alerted", seconds)["alerted"])

    def wait_for(self, rows: int, seconds: float) -> None:
        """Wait until the server has so many rows of the history; the upload goes on.

        Raises:
            UploadFailed: it has not, within `seconds`.
        """
        self._say({"rows": rows})
        self._await("arrived", seconds)

    def finish(self, seconds: float) -> None:
        """Wait until all is uploaded; the file has its exit record by now.

        Args:
            seconds: how long the client may make no progress.

        Raises:
            UploadFailed: it gave up, or came no further.
        """
        self._await("done", seconds)
        self.kill()

    def kill(self) -> None:
        """End the client and its service now; what was not uploaded stays in the file."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):
                assert pipe is not None
                pipe.close()

    def _await(self, word: str, seconds: float) -> JsonObject:
        self._heard = time.monotonic()
        while True:
            left = self._heard + seconds - time.monotonic()
            try:
                answer = self._answers.get(timeout=max(left, 0.001))
            except queue.Empty:
                raise UploadFailed(f"the W&B server did not answer within {seconds:g} seconds") from None
            self._take(answer)
            if word in answer:
                return answer

    def _take(self, answer: JsonObject) -> None:
        self._heard = time.monotonic()
        self._beat()
        if "failed" in answer:
            raise UploadFailed(str(answer["failed"]), login=bool(answer.get("login")))

    def _say(self, request: JsonObject) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
        except OSError:
            raise UploadFailed(f"W&B's client ended; {self._log_path} says why") from None

    def _listen(self) -> None:
        assert self._process.stdout is not None
        with contextlib.suppress(OSError, ValueError):
            for line in self._process.stdout:
                self._answers.put(json.loads(line))
        self._answers.put({"failed": f"W&B's client ended; {self._log_path} says why"})


# -- inside the client's process ----------------------------------------------------------------------------------


def _main(project: str, run: str) -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what W&B prints goes to the log, not between the answers

    one_at_a_time = threading.Lock()

    def answer(**words: Json) -> None:
        with one_at_a_time:
            answers.write(json.dumps(words) + "\n")
            answers.flush()

    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    try:
        _serve(project, run, answer)
    except Exception as error:  # whatever the library raises, the mirror gets a sentence
        answer(failed=_first_line(error) or type(error).__name__)
    # The service would go on for as long as it has something to send.
    os.killpg(os.getpgrp(), signal.SIGKILL)


def _end_with(parent: int) -> None:
    """End with the mirror: one that was killed closes its pipe, but who waits for a server does not read it."""
    while os.getppid() == parent:
        time.sleep(2.0)
    os.killpg(os.getpgrp(), signal.SIGKILL)


def _serve(project: str, run: str, answer: Callable[..., None]) -> None:
    """Log in, then do what the mirror asks for until it is gone."""
    from wandb.apis.public.service_api import ServiceApi
    from wandb.errors import AuthenticationError
    from wandb.sdk import wandb_setup
    from wandb.sdk.lib import wbauth

    singleton = wandb_setup.singleton()
    server = singleton.settings.base_url
    try:
        login = wbauth.authenticate_session(host=server, source="lossbook", prompt=False)
    except AuthenticationError as error:
        answer(failed=_first_line(error), login=True)
        return
    if login is None:
        answer(failed=f"nobody is logged in to {server}: `wandb login` does that", login=True)
        return
    api = ServiceApi(settings=singleton.settings, timeout=CONNECT_SECONDS)
    try:
        account = api.authenticate()
    except Exception as error:
        refused = any(word in str(error) for word in ("401", "403", "nauthorized", "orbidden", "nvalid"))
        doing = "refuses the login" if refused else "cannot be asked who logs in"
        answer(failed=f"{server} {doing} ({_first_line(error)})", login=refused)
        return
    entity = singleton.settings.entity or account.default_entity
    of = {"entity": entity, "project": project, "run": run}
    answer(ready=True, entity=entity, app_url=singleton.settings.app_url.rstrip("/"), rows=_settled_rows(api, of))
    for line in sys.stdin:
        request = json.loads(line)
        if "upload" in request:
            upload = (singleton, request["upload"], entity, answer)
            threading.Thread(target=_run_upload, args=upload, daemon=True).start()
        elif "alert" in request:
            answer(alerted=_alerted(api, request["alert"]))
        else:
            while not _has_rows(api, of, request["rows"]):
                time.sleep(1)
            answer(arrived=True)


def _run_upload(singleton: WandbSetup, path: str, entity: str, answer: Callable[..., None]) -> None:
    try:
        singleton.asyncer.run(lambda: _sync(singleton, path, entity, answer))
    except Exception as error:
        answer(failed=_first_line(error) or type(error).__name__)


async def _sync(singleton: WandbSetup, path: str, entity: str, answer: Callable[..., None]) -> None:
    """Have the service upload the file, and tell what it says on the way."""
    import asyncio
    import pathlib

    service = singleton.ensure_service()
    begun = await service.init_sync(
        {pathlib.Path(path)},
        singleton.settings,
        cwd=None,
        live=True,
        entity=entity,
        project="",
        run_id="",
        job_type="",
        tag_replacements={},
    )
    upload = (await begun.wait_async(timeout=30)).id
    ending = asyncio.ensure_future((await service.sync(upload, parallelism=1)).wait_async(timeout=None))
    said, wrong = "", ""
    while not ending.done():
        await asyncio.sleep(_POLL_SECONDS)
        status = await (await service.sync_status(upload)).wait_async(timeout=None)
        wrong = wrong or _wrong(status.new_messages)
        doing = "; ".join(operation.desc for stats in status.stats for operation in stats.operations)
        if wrong:
            break
        if doing != said:  # only progress counts as a sign of life
            said = doing
            answer(doing=doing)
    else:
        wrong = _wrong(ending.result().messages)
    if wrong:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{path}.synced")
        answer(failed=wrong)
    else:
        answer(done=True)


def _wrong(messages: Iterable[ServerSyncMessage]) -> str:
    """The first error among what the service says; empty when there is none."""
    from wandb.proto.wandb_sync_pb2 import ServerSyncMessage

    for message in messages:
        print(message.content, file=sys.stderr, flush=True)
        if message.severity >= ServerSyncMessage.Severity.SEVERITY_ERROR:
            # "[entity/project/run] What happened. What W&B's own users should do."
            sentence = str(message.content).rpartition("] ")[2].partition(". ")[0]
            return "the server refuses the run" if sentence in ("", "<no message>") else sentence
    return ""


class _Api(Protocol):
    """What is used of W&B's API: `execute_graphql` returns the answer's `data`."""

    def execute_graphql(self, query: str, variables: JsonMapping) -> dict[str, dict[str, dict[str, int]]]: ...


def _alerted(api: _Api, variables: JsonObject) -> bool:
    for _ in range(_ALERT_TRIES):
        try:
            api.execute_graphql(_ALERT, variables)
            return True
        except Exception as error:
            print(f"an alert was not taken: {error}", file=sys.stderr, flush=True)
            time.sleep(1)  # the run itself may not be there yet
    return False


def _rows(api: _Api, of: JsonObject) -> int:
    """How many rows of the run's history the server has; 0 when it does not know the run."""
    try:
        project = api.execute_graphql(_ROWS, of)["project"] or {}
    except Exception as error:
        if "not found" in str(error).lower():
            return 0
        raise
    return int((project.get("run") or {}).get("historyLineCount") or 0)


def _settled_rows(api: _Api, of: JsonObject) -> int:
    """As `_rows`, when the last that a killed predecessor sent has been taken in."""
    rows, before = _rows(api, of), 0
    while rows != before:
        time.sleep(1)
        rows, before = _rows(api, of), rows
    return rows


def _has_rows(api: _Api, of: JsonObject, rows: int) -> bool:
    try:
        return _rows(api, of) >= rows
    except Exception:
        return False  # out of reach for now: the mirror knows how long to wait


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [""])[0].rstrip(".")


if __name__ == "__main__":
    _main(sys.argv[1], sys.argv[2])
