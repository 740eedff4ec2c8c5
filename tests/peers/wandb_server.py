"""A stand-in for the W&B cloud on loopback: so much of its API that the real client delivers to it and reads from it.

It keeps what a run's own streams hold, by the offsets that the client sends, as the cloud does: a line that is sent
again for the same place takes the place of the first. It is told to refuse, to stall or to break off.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any
from urllib.parse import unquote

API_KEY = "0123456789abcdef" * 2 + "01234567"
ENTITY = "team"


@dataclass
class StoredRun:
    """A run as the server has it."""

    name: str
    project: str
    fields: dict[str, Any] = field(default_factory=dict)  # what upsertBucket set last
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    streams: dict[str, dict[int, str]] = field(default_factory=dict)  # by file: line by its number
    files: dict[str, bytes] = field(default_factory=dict)
    state: str = "running"
    inserted: int = 0

    def lines(self, stream: str) -> list[str]:
        numbered = self.streams.get(stream, {})
        return [numbered[number] for number in sorted(numbered)]

    @property
    def history(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines("wandb-history.jsonl")]

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines("wandb-events.jsonl")]


def _strict(line: str) -> str:
    """JSON as the cloud gives it out: what is not finite as strings."""
    return json.dumps(json.loads(line, parse_constant=str))


class _Http(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # a client that was killed


class WandbServer:
    """Runs while it is entered.

    Attributes:
        runs: by project and name of the run.
        alerts: each notification asked for, in order.
        requests: what was asked, in order.
        unknown: what was asked and is not known here.
        most_samples: of the system stream at one time; more are thinned out, as the cloud does.
        before: called with each request's path and GraphQL operation; it returns a status to refuse with, 0 to
            break the connection off, or None to go on. It may wait.
    """

    def __init__(self) -> None:
        self.runs: dict[tuple[str, str], StoredRun] = {}
        self.alerts: list[dict[str, Any]] = []
        self.requests: list[str] = []
        self.unknown: list[str] = []
        self.most_samples: int | None = None
        self.before: Callable[[str, str], int | None] = lambda path, operation: None
        self._lock = threading.Lock()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, format: str, *arguments: Any) -> None:
                pass

            def _answer(self) -> None:
                server.serve(self)

            do_GET = do_POST = do_PUT = _answer

        self._http = _Http(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"

    @property
    def environment(self) -> dict[str, str]:
        """What a client needs to come here."""
        return {"WANDB_BASE_URL": self.url, "WANDB_API_KEY": API_KEY, "WANDB_ENTITY": ENTITY}

    def run(self, project: str | None = None) -> StoredRun:
        """The only run, of a project where one is named."""
        (run,) = (run for key, run in self.runs.items() if project in (None, key[0]))
        return run

    def __enter__(self) -> WandbServer:
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.before = lambda path, operation: 503
        self._http.shutdown()
        self._http.server_close()

    # -- HTTP -----------------------------------------------------------------------------------------------------

    def serve(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        if handler.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        path = handler.path
        asked: dict[str, Any] = {}
        if path.startswith("/graphql"):
            asked = json.loads(body)
            if not asked.get("operationName"):
                found = re.search(r"(?:query|mutation)\s+(\w+)", asked.get("query", ""))
                asked["operationName"] = found[1] if found else ""
        operation = str(asked.get("operationName") or "")
        with self._lock:
            self.requests.append(operation or path)
        status = self.before(path, operation)
        if status == 0:
            handler.close_connection = True
            return
        answer: Any = {"error": f"the server answers {status}"}
        if status is None:
            status = 200
            with self._lock:
                if asked:
                    answer = self._graphql(operation, asked)
                elif path.endswith("/file_stream"):
                    answer = self._file_stream(path, json.loads(body))
                elif path.startswith("/stored/"):
                    answer = self._stored(handler.command, path, body)
                elif path.startswith("/sdk/otel/"):
                    answer = {}  # how the client itself fares: nobody asked
                else:
                    self.unknown.append(f"{handler.command} {path}")
        contents = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        try:
            handler.send_response(status)
            handler.send_header("Content-Type", "application/json")
            handler.send_header("Content-Length", str(len(contents)))
            handler.end_headers()
            handler.wfile.write(contents)
        except OSError:
            handler.close_connection = True  # a client that was killed, or did not wait

    def _file_stream(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        _, _, _, project, name, _ = (unquote(part) for part in path.split("/"))
        run = self.runs[project, name]
        for file, chunk in (body.get("files") or {}).items():
            numbered = run.streams.setdefault(file, {})
            numbered.update(enumerate(chunk["content"], int(chunk["offset"])))
            if file == "wandb-summary.json":
                run.summary = json.loads(chunk["content"][-1])
        if body.get("complete"):
            run.state = "finished" if body.get("exitcode") == 0 else "failed"
        return {"exitcode": None, "limits": {}}

    def _stored(self, method: str, path: str, body: bytes) -> bytes:
        _, _, project, name, file = unquote(path).split("/", 4)
        run = self.runs[project, name]
        if method == "PUT":
            run.files[file] = body
            return b""
        return run.files.get(file, b"")

    # -- GraphQL --------------------------------------------------------------------------------------------------

    def _graphql(self, operation: str, asked: dict[str, Any]) -> dict[str, Any]:
        known: dict[str, Callable[[dict[str, Any]], dict[str, Any] | None]] = {
            "UpsertBucket": self._upsert,
            "NotifyScriptableRunAlert": self._alert,
            "CreateRunFiles": self._create_files,
        }
        variables = asked.get("variables") or {}
        if operation in known:
            return {"data": known[operation](variables)}
        query = asked.get("query", "")
        answer: dict[str, Any] = {}
        if "serverInfo" in query:
            answer["serverInfo"] = {"features": [], "cliVersionInfo": {"max_cli_version": "9.0.0"}}
        if "viewer" in query:
            answer["viewer"] = {
                "id": "u",
                "entity": ENTITY,
                "username": "user",
                "name": "user",
                "email": "u@localhost",
                "admin": False,
                "flags": "{}",
                "teams": {"edges": [{"node": {"id": "t", "name": ENTITY}}]},
                "apiKeys": {"edges": []},
            }
        if "project(" in query or "model(" in query:
            project = str(variables.get("project") or variables.get("projectName"))
            name = str(variables.get("name") or variables.get("runName") or variables.get("run"))
            run = self.runs.get((project, name))
            mine = [one for key, one in self.runs.items() if key[0] == project]
            described = {
                "id": project,
                "internalId": 1,
                "name": project,
                "entityName": ENTITY,
                "readOnly": False,
                "run": self._describe(run, variables) if run else None,
                "bucket": self._describe(run, variables) if run else None,
                "runs": {
                    "totalCount": len(mine),
                    **self._page(
                        [self._describe(one, variables) for one in mine],
                        variables.get("perPage"),
                        variables.get("cursor"),
                    ),
                },
                "runCount": len(mine),
            }
            answer["project"] = answer["model"] = described if mine else None
        if not answer:
            self.unknown.append(f"{operation}: {query}")
            return {"data": None, "errors": [{"message": f"the stand-in does not know {operation}"}]}
        return {"data": answer}

    @staticmethod
    def _page(nodes: list[dict[str, Any]], count: int | None, after: str | None) -> dict[str, Any]:
        """A page of a listing behind a place in it."""
        first = int(after) if after else 0
        end = len(nodes) if count is None else min(first + count, len(nodes))
        return {
            "pageInfo": {"endCursor": str(end), "hasNextPage": end < len(nodes)},
            "edges": [{"node": nodes[number], "cursor": str(number + 1)} for number in range(first, end)],
        }

    def _upsert(self, variables: dict[str, Any]) -> dict[str, Any]:
        project, name = str(variables.get("project") or "uncategorized"), str(variables.get("name") or "")
        if not name:
            (project, name) = next(key for key, run in self.runs.items() if variables.get("id") == run.name)
        run = self.runs.get((project, name))
        inserted = run is None
        if run is None:
            run = self.runs[project, name] = StoredRun(name, project)
        run.fields.update({key: value for key, value in variables.items() if value is not None})
        if variables.get("config"):
            run.config = json.loads(variables["config"])
        if variables.get("summaryMetrics"):
            run.summary = json.loads(variables["summaryMetrics"])
        run.state = str(variables.get("state") or "running")
        return {"upsertBucket": {"bucket": self._describe(run, variables), "inserted": inserted}}

    def _alert(self, variables: dict[str, Any]) -> dict[str, Any]:
        self.alerts.append(variables)
        return {"notifyScriptableRunAlert": {"success": True}}

    def _create_files(self, variables: dict[str, Any]) -> dict[str, Any]:
        project, name = str(variables["project"]), str(variables["run"])
        files = [
            {"name": file, "uploadUrl": f"{self.url}/stored/{project}/{name}/{file}"} for file in variables["files"]
        ]
        return {"createRunFiles": {"runID": name, "uploadHeaders": [], "files": files}}

    def _describe(self, run: StoredRun, variables: dict[str, Any]) -> dict[str, Any]:
        history, events = (
            [_strict(line) for line in run.lines(stream)] for stream in ("wandb-history.jsonl", "wandb-events.jsonl")
        )
        first, stop = variables.get("minStep"), variables.get("maxStep")
        page = [line for line in history if first is None or first <= json.loads(line)["_step"] < stop]
        fields = run.fields
        if self.most_samples is not None and variables.get("samples"):
            sampled = events[:: max(1, -(-len(events) // self.most_samples))]
        else:
            sampled = events
        printed = [
            {"number": number, "timestamp": line[:26], "level": "", "label": "", "line": line[27:]}
            for number, line in enumerate(run.lines("output.log"))
        ]
        asked = variables.get("fileNames") or []
        stored = [
            {
                "id": name,
                "name": name,
                "url": f"{self.url}/stored/{run.project}/{run.name}/{name}",
                "sizeBytes": len(contents),
                "directUrl": None,
                "mimetype": "",
                "updatedAt": None,
                "md5": hashlib.md5(contents).hexdigest(),
            }
            for name, contents in run.files.items()
            if not asked or name in asked
        ]
        return {
            "files": self._page(stored, variables.get("fileLimit"), variables.get("fileCursor")),
            "logLines": self._page(printed, variables.get("first"), variables.get("after")),
            "id": run.name,
            "name": run.name,
            "projectId": 1,
            "internalId": run.name,
            "displayName": fields.get("displayName"),
            "description": None,
            "notes": fields.get("notes"),
            "group": fields.get("groupName"),
            "groupName": fields.get("groupName"),
            "jobType": fields.get("jobType"),
            "tags": fields.get("tags") or [],
            "state": run.state,
            "commit": fields.get("commit"),
            "host": fields.get("host"),
            "config": json.dumps(run.config),
            "rawconfig": json.dumps(run.config),
            "sweepName": None,
            "readOnly": False,
            "summaryMetrics": _strict(json.dumps(run.summary)),
            "createdAt": "2026-01-01T00:00:00",
            "heartbeatAt": f"2026-01-01T00:00:{len(history) % 60:02}",
            "user": {"name": "user", "username": "user"},
            "historyLineCount": len(history),
            "eventsLineCount": len(events),
            "historyKeys": {"lastStep": json.loads(history[-1])["_step"] if history else -1, "keys": {}},
            "systemMetrics": events[-1] if events else "{}",
            "history": page[: variables.get("pageSize") or len(page)],
            "events": sampled,
            "logLineCount": len(run.lines("output.log")),
            "eventsTail": json.dumps(events[-1:]),
            "historyTail": json.dumps(history[-1:]),
            "fileCount": len(run.files),
            "parquetHistory": {"parquetUrls": [], "liveData": []},
            "sampledHistory": [[json.loads(line) for line in history]],
            "project": {"id": run.project, "name": run.project, "entity": {"id": ENTITY, "name": ENTITY}},
        }
