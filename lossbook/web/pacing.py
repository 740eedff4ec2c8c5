"""Answers that go out as fast as their readers take them: what waits in memory is bounded, and so is the time."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.concurrency import iterate_in_threadpool
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from lossbook.web.file_response import Reply

#: So much of an answer is given to a connection at once, and has to be taken within so long.
CHUNK_BYTES = 256 << 10
CHUNK_SECONDS = 60.0
#: No further question is begun while answers of so many bytes wait for their readers; whoever waits too long is told.
MOST_WAITING_BYTES = 48 << 20
TURN_SECONDS = 30.0


async def watch_for_departure(receive: Receive, gone: threading.Event) -> None:
    """Notice that whoever asked has gone: a page that zooms on drops the questions of the view before."""
    while (await receive())["type"] != "http.disconnect":
        pass
    gone.set()


class Traffic:
    """How many bytes of answers wait for their readers."""

    def __init__(self) -> None:
        self._bytes = 0
        self._less = asyncio.Condition()

    async def has_room(self) -> bool:
        """Wait until another question may be begun; False where that takes too long."""
        if self._bytes < MOST_WAITING_BYTES:
            return True
        async with self._less:
            try:
                async with asyncio.timeout(TURN_SECONDS):
                    await self._less.wait_for(lambda: self._bytes < MOST_WAITING_BYTES)
            except TimeoutError:
                return False
        return True

    @asynccontextmanager
    async def carrying(self, size: int) -> AsyncIterator[None]:
        self._bytes += size
        try:
            yield
        finally:
            self._bytes -= size
            async with self._less:
                self._less.notify_all()


class PacedResponse(Response):
    """An answer that is given away piece by piece, and dropped when its reader does not take it."""

    def __init__(self, answer: Response, traffic: Traffic) -> None:
        self.status_code, self.raw_headers, self.body = answer.status_code, answer.raw_headers, answer.body
        self.background = None
        self._traffic = traffic

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = memoryview(self.body)
        async with self._traffic.carrying(len(body)):
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            for at in range(0, max(1, len(body)), CHUNK_BYTES):
                more = at + CHUNK_BYTES < len(body)
                try:
                    async with asyncio.timeout(CHUNK_SECONDS):
                        chunk = bytes(body[at : at + CHUNK_BYTES])
                        await send({"type": "http.response.body", "body": chunk, "more_body": more})
                except TimeoutError:
                    # Closed in good order, the connection would wait for what its reader does not take.
                    scope["state"]["abort"]()
                    return


class PacedFile(Response):
    """A file that is read as its reader takes it, piece by piece, and dropped when it does not."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(status_code=reply.status)
        # Its length is the file's, or not told; that of no body would be nought.
        self.raw_headers = [(name.lower().encode(), value.encode("latin-1")) for name, value in reply.headers.items()]
        self._chunks = reply.chunks

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        gone = threading.Event()
        watching = asyncio.get_running_loop().create_task(watch_for_departure(receive, gone))
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            async for chunk in iterate_in_threadpool(self._chunks):
                if gone.is_set():
                    return
                async with asyncio.timeout(CHUNK_SECONDS):
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        except TimeoutError:
            scope["state"]["abort"]()
        finally:
            watching.cancel()
