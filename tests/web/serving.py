"""A real server, in a thread of the tests' process, and what one needs to ask it."""

from __future__ import annotations

import http.client
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

import orjson

import lossbook
from lossbook.web.binary import decode_frame, split_arrays


@dataclass(frozen=True)
class Reply:
    """What a server answered."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)


@dataclass
class Served:
    """A running server."""

    host: str
    port: int
    headers: dict[str, str] = field(default_factory=dict)  # sent with every request

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}/"

    def raw(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Reply:
        """Any request; `headers` with `_` for `-`."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=60)
        try:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body=body, headers=self.headers | named)
            answer = connection.getresponse()
            read = answer.read()
            return Reply(answer.status, {name.lower(): value for name, value in answer.getheaders()}, read)
        finally:
            connection.close()

    def ask(self, path: str, **parameters: Any) -> Reply:
        """A GET; a list is a parameter that comes several times, None one that does not come."""
        given = {name: value for name, value in parameters.items() if value is not None}
        return self.raw("GET", f"{path}?{urlencode(given, doseq=True)}" if given else path)

    def send(self, path: str, body: Any) -> Reply:
        """A POST of JSON."""
        return self.raw("POST", path, orjson.dumps(body), content_type="application/json")

    def get(self, path: str, **parameters: Any) -> Any:
        """The JSON of a GET that is answered."""
        answer = self.ask(path, **parameters)
        assert answer.status == 200, answer.body.decode()
        return answer.json

    def post(self, path: str, body: Any) -> Any:
        """The JSON of a POST that is answered."""
        answer = self.send(path, body)
        assert answer.status == 200, answer.body.decode()
        return answer.json

    def frame(self, path: str, body: Any, parts: str = "curves") -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """The header of a binary answer, and for each of its `parts` a dictionary of arrays."""
        answer = self.send(path, body)
        assert answer.status == 200, answer.body.decode()
        header, values = decode_frame(answer.body)
        fields = header["fields"]
        arrays = split_arrays(values, [one["length"] for one in header[parts] for _ in fields])
        return header, [{name: next(arrays) for name in fields} for _ in header[parts]]


@contextmanager
def serving(store: str | os.PathLike[str] | lossbook.Book, **options: Any) -> Iterator[Served]:
    """Serve a store or a book, as `lossbook serve` does: for a module's fixture, or within a test.

    Args:
        options: of `make_app`: `editable`, `token`, `hosts`, `any_address`, `static`.
    """
    from lossbook.web.server import Server, make_app

    book = store if isinstance(store, lossbook.Book) else lossbook.open(store)
    started = threading.Event()
    server = Server(make_app(book, **options), started.set)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            assert started.wait(30), "the server did not start"
            yield Served("127.0.0.1", listener.getsockname()[1])
        finally:
            server.stop()
            thread.join(30)
            assert not thread.is_alive(), "the server did not end"
