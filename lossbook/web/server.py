"""The server: routes of `lossbook.web.api` answered over HTTP, and the page that asks them. Reads, and keeps no state.

The one place that knows HTTP beside the guard. A question is parsed strictly, answered by a small pool of threads and
encoded there; the event loop only waits. What is on its way to slow readers is bounded, and so is the time that they may
take. Nothing runs while nobody asks.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import logging
import signal
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import orjson
import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route as Address
from uvicorn.protocols.http.h11_impl import H11Protocol

from lossbook.errors import LossbookError, StoreError, UnknownKey, UnknownRun
from lossbook.reading import Question
from lossbook.web import api
from lossbook.web.auth import Guard
from lossbook.web.binary import MEDIA_TYPE, Frame, encode_frame
from lossbook.web.file_response import SentFile, TooLarge, UnknownFile
from lossbook.web.pacing import PacedFile, PacedResponse, Traffic, watch_for_departure
from lossbook.web.routing import (
    Forbidden,
    Route,
    awaited_while,
    json_of,
    question_of_body,
    question_of_parameters,
)
from lossbook.web.session import Session
from lossbook.web.static import STATIC, serve_page

if TYPE_CHECKING:
    from lossbook.book import Book

MOST_BODY_BYTES = 1 << 20
MOST_CONNECTIONS = 512
#: JSON of more than that is compressed: a table of ten thousand runs becomes a tenth of its size in a few milliseconds.
#: Curves are not: float64 of a noisy series hardly gets smaller, and takes longer to compress than to draw.
COMPRESSED_BYTES = 8 << 10
#: A connection has to ask something, and a question has to be here, within so long.
QUESTION_SECONDS = 20.0
#: So long nobody is told that requests are answered, while what the first of them needs is read.
WARM_SECONDS = 1.0
#: A question that is not answered after so long is ended, and whoever asked is told so.
ANSWER_SECONDS = 60.0
#: Threads for what is asked with GET, and as many for what is drawn: a chart never holds up the table.
ANSWERERS = 3

_log = logging.getLogger("lossbook.web")


def make_app(
    book: Book,
    *,
    editable: bool = False,
    token: str | None = None,
    hosts: Iterable[str] = (),
    any_address: bool = False,
    static: str = STATIC,
) -> Starlette:
    """Make the ASGI application.

    Args:
        book: what is shown; whoever opened it closes it.
        editable: whether names, notes and tags may be changed.
        token: what a request must know; None where this machine alone can ask.
        hosts: names beside those of the loopback that a request may ask for.
        any_address: also any numeric address.
        static: the folder of the built page.
    """
    session = Session(book, editable=editable)
    pools = {
        "GET": ThreadPoolExecutor(ANSWERERS, thread_name_prefix="lossbook-answer"),
        "POST": ThreadPoolExecutor(ANSWERERS, thread_name_prefix="lossbook-plot"),
    }
    traffic = Traffic()
    routes = [
        Address(route.path, _endpoint(route, session, pools[route.method], traffic), methods=[route.method])
        for route in api.routes()
    ]
    routes.append(Address("/{path:path}", serve_page(static), methods=["GET"]))

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        warming = asyncio.wrap_future(pools["GET"].submit(session.warm))
        # A page that is opened as soon as the address is told finds everything ready, unless that takes long.
        await asyncio.wait([warming], timeout=WARM_SECONDS)
        yield
        for pool in pools.values():
            pool.shutdown(wait=False, cancel_futures=True)
        session.close()

    guard = Middleware(Guard, hosts=tuple(hosts), any_address=any_address, token=token)
    return Starlette(routes=routes, middleware=[guard], lifespan=lifespan)


def _endpoint(
    route: Route, session: Session, pool: ThreadPoolExecutor, traffic: Traffic
) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        try:
            body = await _read_body(request) if route.method == "POST" else b""
        except TimeoutError:
            return _failure(408, f"the question was not here after {QUESTION_SECONDS:g} seconds")
        except ClientDisconnect:
            return Response(status_code=400)
        if body is None:
            return _failure(413, f"the question is longer than {MOST_BODY_BYTES:,} bytes")
        asked = _Asked(
            request.method,
            body,
            tuple(request.query_params.multi_items()),
            {name: value for name, value in request.headers.items() if name in _HEEDED},
        )
        if not await traffic.has_room():
            return _failure(503, "answers wait for readers that are slow to take them: ask again in a while")
        loop, gone = asyncio.get_running_loop(), threading.Event()
        watching = loop.create_task(watch_for_departure(request.receive, gone))
        try:
            work = Question()
            answering = loop.run_in_executor(pool, _answer, route, session, asked, gone, work)
            done, _ = await asyncio.wait([answering], timeout=ANSWER_SECONDS)
            if not done:
                gone.set()
                loop.create_task(_end(work, answering))
                return _failure(503, f"that took longer than {ANSWER_SECONDS:g} seconds and was given up: ask for less")
            answer = answering.result()
        except RuntimeError:
            return _failure(503, "the server is being stopped")
        finally:
            watching.cancel()
        return PacedResponse(answer, traffic) if getattr(answer, "body", b"") else answer

    return endpoint


async def _read_body(request: Request) -> bytes | None:
    """The body; None where it is too long, which is known before all of it is here."""
    told = request.headers.get("content-length") or "0"
    if not told.isdigit() or int(told) > MOST_BODY_BYTES:
        return None
    parts: list[bytes] = []
    length = 0
    async with asyncio.timeout(QUESTION_SECONDS):
        async for part in request.stream():
            length += len(part)
            if length > MOST_BODY_BYTES:
                return None
            parts.append(part)
    return b"".join(parts)


# -- answering ----------------------------------------------------------------------------------------------------

#: Headers of a request that bear on its answer.
_HEEDED = ("accept-encoding", "if-none-match", "range", "if-range")


@dataclass(frozen=True)
class _Asked:
    """What of a request bears on its answer."""

    method: str
    body: bytes
    parameters: Sequence[tuple[str, str]]
    headers: dict[str, str]


async def _end(work: Question, answering: asyncio.Future[Response]) -> None:
    """End what is asked of DuckDB for a question, and what is asked after that."""
    while not answering.done():
        work.end()
        await asyncio.wait([answering], timeout=0.5)


def _answer(route: Route, session: Session, asked: _Asked, gone: threading.Event, work: Question) -> Response:
    """Answer one request; run by a thread of the pool."""
    if gone.is_set():
        return Response(status_code=400)
    try:
        if route.edits and not session.editable:
            raise Forbidden("this dashboard only reads: start it with `lossbook serve --edit` to change runs")
        if route.method == "POST":
            question: object = question_of_body(route.question, asked.body)
        else:
            question = question_of_parameters(route.question, asked.parameters)
        with work.asked(), awaited_while(lambda: not gone.is_set()):
            answer = route.answer(session, question)
        if isinstance(answer, SentFile):
            return PacedFile(answer.reply(asked.method, asked.headers))
        if isinstance(answer, Frame):
            return Response(encode_frame(answer), media_type=MEDIA_TYPE, headers={"cache-control": "no-store"})
        return _json(json_of(answer), asked)
    except LossbookError as error:
        return _failure(status_of(error), str(error))
    except MemoryError:
        return _failure(507, "there is not enough memory for that: ask for fewer series or points")
    except Exception as error:
        _log.exception("%s could not be answered", route.path)
        return _failure(500, f"something went wrong inside Lossbook ({type(error).__name__}: {error})")


def status_of(error: LossbookError) -> int:
    """The HTTP status that says the same as an error."""
    if isinstance(error, Forbidden):
        return 403
    if isinstance(error, (UnknownRun, UnknownKey, UnknownFile)):
        return 404
    if isinstance(error, TooLarge):
        return 413
    if isinstance(error, StoreError):
        return 500
    return 400


def _json(body: bytes, asked: _Asked) -> Response:
    headers = {"cache-control": "no-store"}
    if asked.method != "POST":
        tag = f'W/"{hashlib.blake2b(body, digest_size=12).hexdigest()}"'
        headers = {"cache-control": "private, no-cache", "etag": tag, "vary": "accept-encoding"}
        if tag in (one.strip() for one in asked.headers.get("if-none-match", "").split(",")):
            return Response(status_code=304, headers=headers)
    if len(body) > COMPRESSED_BYTES and "gzip" in asked.headers.get("accept-encoding", ""):
        body = gzip.compress(body, 1, mtime=0)
        headers["content-encoding"] = "gzip"
    return Response(body, media_type="application/json", headers=headers)


def _failure(status: int, sentence: str) -> Response:
    body = orjson.dumps({"error": " ".join(sentence.split())})
    return Response(body, status, media_type="application/json", headers={"cache-control": "no-store"})


# -- running it ---------------------------------------------------------------------------------------------------


class _Protocol(H11Protocol):
    """HTTP/1.1, for connections that ask something."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        # asyncio does so for sockets that name their protocol; without it a small answer waits 40 ms for the kernel.
        connection = transport.get_extra_info("socket")
        if connection is not None and connection.family in (socket.AF_INET, socket.AF_INET6):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.app_state = {**self.app_state, "abort": transport.abort}
        self.loop.call_later(QUESTION_SECONDS, self._give_up)

    def _give_up(self) -> None:
        if self.cycle is None and not self.transport.is_closing():
            self.transport.abort()


class Server(uvicorn.Server):
    """Runs until it is told to end: by Ctrl-C, by SIGTERM, or by `stop` from any thread.

    Args:
        started: called once requests are answered.
    """

    def __init__(self, app: Starlette, started: Callable[[], None]) -> None:
        # What it says of broken requests is for nobody; what goes wrong here is told by `lossbook.web`.
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL + 1)
        super().__init__(
            uvicorn.Config(
                app,
                http=_Protocol,
                loop="asyncio",
                ws="none",
                lifespan="on",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                date_header=False,
                limit_concurrency=MOST_CONNECTIONS,
                timeout_keep_alive=30,
                timeout_graceful_shutdown=1,
            )
        )
        self._started = started
        self._stopped = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    def stop(self) -> None:
        """End soon."""
        self.should_exit = True
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._stopped.set)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._loop = asyncio.get_running_loop()
        if not self.should_exit:
            self._started()

    async def main_loop(self) -> None:
        # In place of a look ten times a second whether it is time to end.
        if not self.should_exit:
            await self._stopped.wait()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        loop = asyncio.get_running_loop()
        self._loop = loop
        for one in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(one, self._end)
        try:
            yield
        finally:
            for one in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(one)

    def _end(self) -> None:
        # Told twice, it does not wait for answers that are on their way.
        self.force_exit = self.should_exit
        self.stop()
