"""Who may ask: the only door of the server. What it lets through has the right host, origin and token.

- The `Host` must be one that this server is known by, so that no other site's name can be pointed at it (DNS rebinding).
- A browser says where a request comes from (`Sec-Fetch-Site`, `Origin`): only the dashboard's own page may ask.
- With a token, whoever has none gets nothing. It comes once in the address of the page, and is then a cookie that no
  script can read and that no other site's request carries; programs send it as `Authorization: Bearer`.
- Every answer, a refusal too, has the headers that keep a browser from running what a run recorded.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import ipaddress
import urllib.parse
from collections.abc import Iterable
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie

import orjson
from starlette.types import ASGIApp, Message, Receive, Scope, Send

METHODS = ("GET", "HEAD", "POST")
LOOPBACK_NAMES = frozenset({"localhost", "localhost.localdomain", "ip6-localhost"})
#: What the page itself may load: its own script and style, pictures of runs, answers of this server.
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "font-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
#: What anything else may do that a browser is made to show as a page: nothing.
CLOSED_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
)


@dataclass(frozen=True)
class Refusal:
    """Why a request goes no further."""

    status: int
    sentence: str
    headers: tuple[tuple[bytes, bytes], ...] = ()


class Guard:
    """Stands before an ASGI application.

    Args:
        hosts: names under which the server may be asked for, without a port.
        any_address: also under any numeric address (a server that listens on all of them); a name can be pointed at
            this machine by a stranger, an address cannot.
        token: what must be known to ask anything; None for a server that this machine alone reaches.
    """

    def __init__(
        self, application: ASGIApp, hosts: Iterable[str], *, any_address: bool = False, token: str | None = None
    ) -> None:
        self._application = application
        self._hosts = LOOPBACK_NAMES | {host.lower().strip("[]").rstrip(".") for host in hosts}
        self._any_address = any_address
        self._token = token.encode() if token else None
        # The cookie is made from the token, so that any token can be one and a stolen jar does not show it.
        self._cookie = hashlib.sha256(b"lossbook cookie " + self._token).hexdigest() if self._token else ""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})
            return
        sent = _Headers(scope["headers"])
        refusal = self._refuse_stranger(scope, sent)
        if refusal is None and self._token is not None and not self._knows_token(sent):
            if scope["path"] == "/" and scope["method"] in ("GET", "HEAD"):
                await self._admit(scope, sent, send)
                return
            refusal = Refusal(
                401,
                "this dashboard asks for its token: open the address that `lossbook serve` printed",
                ((b"www-authenticate", b'Bearer realm="lossbook"'),),
            )
        if refusal is not None:
            body = orjson.dumps({"error": refusal.sentence})
            headers = [(b"content-type", b"application/json"), (b"cache-control", b"no-store"), *refusal.headers]
            await _answer(send, refusal.status, headers, body if scope["method"] != "HEAD" else b"")
            return
        if self._token is not None and scope["path"] == "/" and _is_entrance(scope["query_string"]):
            await self._admit(scope, sent, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = guarded(message.get("headers", ()))
            await send(message)

        await self._application(scope, receive, send_guarded)

    # -- strangers --------------------------------------------------------------------------------------------------

    def _refuse_stranger(self, scope: Scope, sent: _Headers) -> Refusal | None:
        if scope["method"] not in METHODS:
            return Refusal(405, "only GET, HEAD and POST are answered here", ((b"allow", b"GET, HEAD, POST"),))
        hosts = sent.all(b"host")
        host = split_host(hosts[0]) if len(hosts) == 1 else None
        if host is None or not self._is_ours(host[0]):
            return Refusal(
                421,
                f"this dashboard is not known by the name {_quoted(host[0] if host else ', '.join(hosts))}: "
                "start it with --allowed-host NAME",
            )
        navigates = sent.one(b"sec-fetch-mode") == "navigate" and sent.one(b"sec-fetch-dest") == "document"
        opens_page = navigates and scope["method"] in ("GET", "HEAD") and not scope["path"].startswith("/api/")
        site = sent.one(b"sec-fetch-site")
        if site not in (None, "same-origin", "none") and not opens_page:
            return Refusal(403, "another site's page asked this, and it gets no answer")
        origin = sent.one(b"origin")
        if origin is not None and not _same_origin(origin, hosts[0]):
            return Refusal(403, f"a page of {_quoted(origin)} asked this, and it gets no answer")
        if len(sent.all(b"origin")) > 1 or len(sent.all(b"sec-fetch-site")) > 1:
            return Refusal(400, "a header that comes once came twice")
        if scope["method"] == "POST":
            kind = (sent.one(b"content-type") or "").split(";")[0].strip().lower()
            if kind != "application/json":
                return Refusal(415, "what is posted here is JSON: send Content-Type: application/json")
        return None

    def _is_ours(self, host: str) -> bool:
        if host in self._hosts:
            return True
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return False
        return address.is_loopback or self._any_address

    # -- the token --------------------------------------------------------------------------------------------------

    def _knows_token(self, sent: _Headers) -> bool:
        assert self._token is not None
        bearer = sent.one(b"authorization")
        if bearer is not None:
            scheme, _, given = bearer.partition(" ")
            return scheme.lower() == "bearer" and hmac.compare_digest(_bytes(given.strip()), self._token)
        name = _cookie_name(sent)
        for line in sent.all(b"cookie"):
            try:
                held = SimpleCookie(line).get(name)
            except CookieError:
                continue
            if held is not None and hmac.compare_digest(_bytes(held.value), self._cookie.encode()):
                return True
        return False

    async def _admit(self, scope: Scope, sent: _Headers, send: Send) -> None:
        """Turn the token in the page's address into a cookie, or say that one is needed."""
        assert self._token is not None
        query = scope["query_string"].decode("latin-1")
        given = urllib.parse.parse_qs(query, keep_blank_values=True, max_num_fields=100).get("token") if query else None
        if not given and self._knows_token(sent):
            headers = [(b"location", b"./"), (b"cache-control", b"no-store")]
            await _answer(send, 303, headers, b"")
            return
        if given and len(given) == 1 and hmac.compare_digest(_bytes(given[0]), self._token):
            cookie = f"{_cookie_name(sent)}={self._cookie}; Path=/; HttpOnly; SameSite=Strict"
            # A relative address, because the page may be reached through a proxy under another path.
            headers = [(b"location", b"./"), (b"set-cookie", cookie.encode()), (b"cache-control", b"no-store")]
            await _answer(send, 303, headers, b"")
            return
        # The cookie does not come with a link on another site; asked for by a page of this one, it does.
        from_elsewhere = sent.one(b"sec-fetch-site") in ("cross-site", "same-site") and not given
        page = _ASK.format(wrong=_WRONG if given else "", script=f"<script>{_AGAIN}</script>" if from_elsewhere else "")
        headers = [(b"content-type", b"text/html; charset=utf-8"), (b"cache-control", b"no-store")]
        if from_elsewhere:
            headers.append((b"content-security-policy", f"{CLOSED_POLICY}; script-src '{_AGAIN_DIGEST}'".encode()))
        else:
            headers.append((b"www-authenticate", b'Bearer realm="lossbook"'))
        await _answer(
            send, 200 if from_elsewhere else 401, headers, page.encode() if scope["method"] != "HEAD" else b""
        )


_WRONG = "That is not the token."
#: The part behind the # is known to the browser alone, and holds the whole view.
_AGAIN = 'location.replace("./?again" + location.hash)'
_AGAIN_DIGEST = f"sha256-{base64.b64encode(hashlib.sha256(_AGAIN.encode()).digest()).decode()}"
_ASK = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Lossbook</title>
<style>
:root {{ color-scheme: light dark }}
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 32rem; margin: 20vh auto 0; padding: 0 1rem }}
input, button {{ font: inherit; padding: .3rem .6rem }}
</style>
<h1>Lossbook</h1>
<p>This dashboard asks for its token. Open the whole address that <code>lossbook serve</code> printed, or give the token here.</p>
<form method="get" action="./"><label>Token <input name="token" type="password" autocomplete="off" autofocus required></label>
<button>Open</button></form>
<p role="alert">{wrong}</p>
{script}
</html>
"""


def _is_entrance(query: bytes) -> bool:
    """Whether an address of the page has something in it that should not stay there."""
    return query == b"again" or b"token=" in query


def guarded(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Headers of an answer with those that every answer has; a policy of its own is kept."""
    found = list(headers)
    present = {name.lower() for name, _ in found}
    found += [(name, value) for name, value in HEADERS if name not in present]
    if b"content-security-policy" not in present:
        found.append((b"content-security-policy", CLOSED_POLICY.encode()))
    return found


def split_host(header: str) -> tuple[str, str] | None:
    """The name or address and the port of a `Host` header; None where it is no such thing."""
    text = header.strip().lower()
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            return None
        port = rest[1:]
    else:
        host, _, port = text.partition(":")
    if not host or (port and not (port.isascii() and port.isdigit())):
        return None
    return host.rstrip("."), port


def _same_origin(origin: str, host: str) -> bool:
    scheme, separator, rest = origin.lower().partition("://")
    if not separator or scheme not in ("http", "https"):
        return False
    default = {"http": "80", "https": "443"}[scheme]
    one, other = split_host(rest), split_host(host)
    return one is not None and other is not None and (one[0], one[1] or default) == (other[0], other[1] or default)


def _cookie_name(sent: _Headers) -> str:
    # Cookies are shared by all ports of a host, dashboards are not.
    host = split_host(sent.one(b"host") or "")
    return f"lossbook-{host[1] or '80'}" if host else "lossbook"


def _quoted(text: str) -> str:
    return repr(text[:80])


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


class _Headers:
    """The headers of a request."""

    def __init__(self, raw: Iterable[tuple[bytes, bytes]]) -> None:
        self._raw = list(raw)

    def all(self, name: bytes) -> list[str]:
        return [value.decode("latin-1") for header, value in self._raw if header.lower() == name]

    def one(self, name: bytes) -> str | None:
        found = self.all(name)
        return found[0] if found else None


async def _answer(send: Send, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
    whole = guarded([*headers, (b"content-length", str(len(body)).encode())])
    await send({"type": "http.response.start", "status": status, "headers": whole})
    await send({"type": "http.response.body", "body": body})
