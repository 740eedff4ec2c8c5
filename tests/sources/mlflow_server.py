"""A stand-in for MLflow's server: the REST calls that its client reads runs with, answered from an SQLite store.

The real server needs more than `mlflow-skinny`; the client that asks, and the store that answers, are MLflow's own.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlparse


@contextmanager
def serving(uri: str, *, page: int = 7) -> Iterator[tuple[str, list[str]]]:
    """Serve a store; yields the server's address and the list of the paths that were asked for.

    Args:
        page: no answer has more points or runs than that, whatever was asked for.
    """
    from mlflow.tracking._tracking_service.utils import _get_store
    from mlflow.utils.proto_json_utils import message_to_json

    store = _get_store(uri)
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *arguments: Any) -> None:
            """Silent."""

        def do_GET(self) -> None:
            parsed = urlparse(self.path)
            self._answer(parsed.path, {key: values[0] for key, values in parse_qs(parsed.query).items()})

        def do_POST(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            self._answer(urlparse(self.path).path, json.loads(self.rfile.read(length) or b"{}"))

        def _answer(self, path: str, given: dict[str, Any]) -> None:
            asked.append(path)
            try:
                answer = answers(path.rpartition("/mlflow/")[2] or path, given)
            except Exception as error:
                self._send(500, {"error_code": "INTERNAL_ERROR", "message": f"{type(error).__name__}: {error}"})
                return
            self._send(404 if answer is None else 200, answer or {"error_code": "ENDPOINT_NOT_FOUND", "message": path})

        def _send(self, status: int, answer: dict[str, Any]) -> None:
            body = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    def next_page(found: Any) -> str:
        # What a real server turns into text on its way into the answer.
        return found.token.decode() if isinstance(found.token, bytes) else found.token or ""

    def plain(entity: Any) -> Any:
        return json.loads(message_to_json(entity.to_proto()))

    def answers(path: str, given: dict[str, Any]) -> dict[str, Any] | None:
        token = given.get("page_token") or None
        if path == "experiments/search":
            found = store.search_experiments(max_results=page, page_token=token)
            return {"experiments": [plain(one) for one in found], "next_page_token": next_page(found)}
        if path == "runs/search":
            found = store.search_runs(given["experiment_ids"], None, 1, max_results=page, page_token=token)
            return {"runs": [plain(one) for one in found], "next_page_token": next_page(found)}
        if path == "runs/get":
            return {"run": plain(store.get_run(given["run_id"]))}
        if path == "metrics/get-history":
            found = store.get_metric_history(given["run_id"], given["metric_key"], max_results=page, page_token=token)
            return {"metrics": [plain(one) for one in found], "next_page_token": next_page(found)}
        return None

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
