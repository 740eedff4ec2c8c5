"""The built page: its files, sent as they are, to be asked for again only when they changed.

Files are found by name among those that stand in the folder, so no path that is sent can lead elsewhere.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Awaitable, Callable

import orjson
from starlette.requests import Request
from starlette.responses import Response

from lossbook.web.auth import PAGE_POLICY

STATIC = os.path.join(os.path.dirname(os.path.abspath(__file__)), "static")
#: No file of the page is larger.
MOST_FILE_BYTES = 16 << 20
_TYPES = {
    ".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml", ".png": "image/png", ".ico": "image/x-icon", ".woff2": "font/woff2",
    ".txt": "text/plain; charset=utf-8", ".json": "application/json",
}  # fmt: skip
_NOT_BUILT = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Lossbook</title>
<style>
:root { color-scheme: light dark }
body { font: 15px/1.5 system-ui, sans-serif; margin: 20vh auto 0; max-width: 34rem; padding: 0 1rem }
</style>
<h1>The page has not been built</h1>
<p>This copy of Lossbook comes from a checkout in which the dashboard was not built yet. Run <code>make ui</code> there and
load this page again. What is asked under <code>/api/</code> is answered all the same, and <code>lossbook watch</code> draws
curves in a terminal.</p>
</html>
"""


def serve_page(static: str) -> Callable[[Request], Awaitable[Response]]:
    """An endpoint for everything that is no question.

    Args:
        static: the folder of the built page; looked at with each request, so that a build is seen at once.
    """

    async def page(request: Request) -> Response:
        path = request.path_params["path"] or "index.html"
        found = None if path.startswith("api/") else await asyncio.to_thread(_read, static, path)
        if found is None:
            if path == "index.html":
                headers = {"cache-control": "no-store"}
                return Response(_NOT_BUILT, 503, media_type="text/html", headers=headers)
            body = orjson.dumps({"error": f"there is no /{path[:80]} here"})
            return Response(body, 404, media_type="application/json", headers={"cache-control": "no-store"})
        tag = f'"{hashlib.blake2b(found, digest_size=12).hexdigest()}"'
        headers = {"cache-control": "no-cache", "etag": tag, "content-security-policy": PAGE_POLICY}
        if tag in (one.strip() for one in request.headers.get("if-none-match", "").split(",")):
            return Response(status_code=304, headers=headers)
        kind = _TYPES.get(os.path.splitext(path)[1], "application/octet-stream")
        return Response(found, media_type=kind, headers=headers)

    return page


def _read(static: str, path: str) -> bytes | None:
    """A file of the page; None where the folder has no such file."""
    for folder, _, names in os.walk(static):
        for name in names:
            whole = os.path.join(folder, name)
            if os.path.relpath(whole, static).replace(os.sep, "/") == path and not os.path.islink(whole):
                try:
                    with open(whole, "rb") as file:
                        return file.read(MOST_FILE_BYTES)
                except OSError:
                    return None
    return None
