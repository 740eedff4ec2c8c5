"""Attacks on the server: strangers' names and pages, missing tokens, paths that lead out, requests that do not end."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from serving import Served, serving
from waiting import wait_until

import lossbook
from lossbook.web import pacing, server as server_module
from lossbook.web.auth import split_host

TOKEN = "correct-horse-battery"
STORE = "/api/store"


@pytest.fixture(scope="module")
def static(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page that shows what the server answers it."""
    folder = tmp_path_factory.mktemp("static")
    (folder / "assets").mkdir()
    (folder / "index.html").write_text(
        # A page without an icon has the browser ask for one whenever it likes, and complain of the answer.
        '<!doctype html><title>Lossbook</title><link rel="icon" href="data:,">'
        '<p id="told">nothing</p><script src="./assets/app.js"></script>'
    )
    (folder / "assets" / "app.js").write_text(
        "fetch('./api/store').then(answer => answer.json())"
        ".then(store => { document.getElementById('told').textContent = store.projects[0].name + location.hash })"
    )
    (folder.parent / "secret.txt").write_text("secret")
    (folder / "link.txt").symlink_to(folder.parent / "secret.txt")
    return folder


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("guard") / "store"


@pytest.fixture(scope="module")
def opened(store: Path, static: Path) -> Iterator[Served]:
    """A server on this machine alone, without a token."""
    store.mkdir()
    with serving(store, static=str(static)) as served:
        yield served


@pytest.fixture(scope="module")
def locked(opened: Served, store: Path, static: Path) -> Iterator[Served]:
    """A server that asks for a token."""
    with serving(store, static=str(static), token=TOKEN) as served:
        yield served


def send(served: Served, request: bytes, *, whole: bool = True) -> bytes:
    """What comes back for bytes that are no proper request, perhaps; not `whole`: and no more will come."""
    with socket.create_connection((served.host, served.port), timeout=20) as connection:
        connection.sendall(request)
        if not whole:
            connection.shutdown(socket.SHUT_WR)
        answer = b""
        while part := connection.recv(65536):
            answer += part
        return answer


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


# -- names --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "LOCALHOST.", "[::1]", "127.8.9.1", "localhost:9999"])
def test_the_machine_itself_is_answered(opened: Served, host: str) -> None:
    assert opened.raw("GET", STORE, host=host).status == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "0.0.0.0", "192.168.1.5", "127.0.0.1@evil",
     "evil:80:80", "[::1", "", "localhost:evil", "2130706433"],
)  # fmt: skip
def test_a_name_that_was_pointed_at_this_machine_is_not_answered(opened: Served, host: str) -> None:
    answer = send(opened, f"GET {STORE} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
    assert status(answer) in (400, 421)
    assert b"projects" not in answer


def test_without_a_host_nothing_is_answered(opened: Served) -> None:
    assert status(send(opened, f"GET {STORE} HTTP/1.0\r\n\r\n".encode())) == 421
    assert (
        status(
            send(opened, f"GET {STORE} HTTP/1.1\r\nHost: localhost\r\nHost: evil\r\nConnection: close\r\n\r\n".encode())
        )
        == 400
    )


def test_another_name_can_be_allowed(store: Path, opened: Served) -> None:
    with serving(store, hosts=["gpu-7.cluster"]) as served:
        assert served.raw("GET", STORE, host="GPU-7.cluster:8080").status == 200
        assert served.raw("GET", STORE, host="gpu-8.cluster").status == 421


def test_a_server_for_all_addresses_is_asked_by_any_of_them_but_by_no_strange_name(store: Path, opened: Served) -> None:
    with serving(store, any_address=True, token=TOKEN) as served:
        asked = {"authorization": f"Bearer {TOKEN}"}
        assert served.raw("GET", STORE, host="192.168.1.5:8765", **asked).status == 200
        assert served.raw("GET", STORE, host="[fd00::7]:8765", **asked).status == 200
        assert served.raw("GET", STORE, host="evil.example", **asked).status == 421


@pytest.mark.parametrize(
    ("header", "host"),
    [("a:1", ("a", "1")), ("A.", ("a", "")), ("[::1]:8", ("::1", "8")), ("::1", None), ("[::1]x", None), (":80", None)],
)
def test_hosts_are_split(header: str, host: tuple[str, str] | None) -> None:
    assert split_host(header) == host


# -- other sites --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("site", ["cross-site", "same-site", "nonsense"])
def test_what_another_sites_page_asks_is_not_answered(opened: Served, site: str) -> None:
    for mode, destination in (
        ("cors", "empty"),
        ("no-cors", "image"),
        ("no-cors", "script"),
        ("navigate", "iframe"),
        ("navigate", "document"),
    ):
        answer = opened.raw("GET", STORE, sec_fetch_site=site, sec_fetch_mode=mode, sec_fetch_dest=destination)
        assert answer.status == 403
        assert b"projects" not in answer.body


def test_a_link_on_another_site_opens_the_page(opened: Served) -> None:
    link = {"sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate"}
    assert opened.raw("GET", "/", sec_fetch_dest="document", **link).status == 200
    assert opened.raw("GET", "/", sec_fetch_dest="iframe", **link).status == 403


def test_origins_are_compared(opened: Served) -> None:
    own = f"http://127.0.0.1:{opened.port}"
    assert opened.raw("GET", STORE, origin=own).status == 200
    for other in (
        "https://evil.example",
        "null",
        f"http://127.0.0.1:{opened.port + 1}",
        f"http://localhost:{opened.port}",
        f"{own}.evil.example",
        "file://",
        f"ftp://127.0.0.1:{opened.port}",
    ):
        assert opened.raw("GET", STORE, origin=other).status == 403, other


def test_what_a_form_can_post_is_refused(opened: Served) -> None:
    body = b'{"series": []}'
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""):
        assert opened.raw("POST", "/api/curves", body, content_type=kind).status == 415
    assert opened.raw("POST", "/api/curves", body, content_type="application/json; charset=utf-8").status == 200


def test_no_answer_allows_another_site_to_read_it(opened: Served) -> None:
    for answer in (
        opened.ask(STORE),
        opened.ask("/api/nothing"),
        opened.raw("GET", "/"),
        opened.raw("GET", "/assets/app.js"),
        opened.raw("GET", STORE, host="evil.example"),
        opened.raw("OPTIONS", STORE, origin="https://evil.example", access_control_request_method="POST"),
    ):
        assert not [name for name in answer.headers if name.startswith("access-control")]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe-eval" not in policy
        assert "script-src 'self'" in policy or "script-src" not in policy


@pytest.mark.parametrize("method", ["OPTIONS", "PUT", "DELETE", "PATCH", "TRACE", "CONNECT", "PROPFIND"])
def test_other_methods_are_refused(opened: Served, method: str) -> None:
    answer = send(opened, f"{method} {STORE} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    assert status(answer) == 405


# -- the token ----------------------------------------------------------------------------------------------------


def test_without_the_token_nothing_is_told(locked: Served) -> None:
    for path in (STORE, "/assets/app.js", "/api/nothing", "/index.html", "/?", "//"):
        answer = locked.raw("GET", path)
        assert answer.status == 401, path
        assert b"projects" not in answer.body
    assert locked.send("/api/curves", {"series": []}).status == 401
    assert b"password" in locked.raw("GET", "/").body  # a field to give it in


def test_a_program_sends_the_token_as_a_header(locked: Served) -> None:
    assert locked.raw("GET", STORE, authorization=f"Bearer {TOKEN}").status == 200
    assert locked.raw("GET", STORE, authorization=f"bearer  {TOKEN} ").status == 200
    for wrong in (f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", "Bearer ", "Bearer", f"Basic {TOKEN}", TOKEN, "Bearer é"):
        answer = send(
            locked,
            f"GET {STORE} HTTP/1.1\r\nHost: localhost\r\nAuthorization: {wrong}\r\nConnection: close\r\n\r\n".encode(),
        )
        assert status(answer) in (400, 401), wrong


def test_the_token_in_the_address_becomes_a_cookie_and_leaves_the_address(locked: Served) -> None:
    answer = locked.raw("GET", f"/?token={TOKEN}")
    assert (answer.status, answer.headers["location"]) == (303, "./")
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert TOKEN not in cookie
    held = cookie.split(";")[0]
    assert locked.raw("GET", STORE, cookie=held).status == 200
    assert locked.raw("GET", STORE, cookie=f"a=b; {held}; c=d").status == 200
    assert locked.raw("GET", "/", cookie=held).status == 200
    # It leaves the address of whoever has the cookie already, too.
    assert locked.raw("GET", f"/?token={TOKEN}", cookie=held).status == 303
    for wrong in (
        held[:-1],
        f"{held}0",
        held.replace("=", "=="),
        f"lossbook-{locked.port}={TOKEN}",
        "lossbook",
        ";;=;",
    ):
        assert locked.raw("GET", STORE, cookie=wrong).status == 401, wrong


@pytest.mark.parametrize(
    "query",
    ["token=wrong-wrong-wrong", "token=", "token", f"token={TOKEN}&token={TOKEN}", f"TOKEN={TOKEN}", f"token=%00{TOKEN}",
     "token=%ff%fe", f"token={TOKEN}%0d%0aSet-Cookie:x=y"],
)  # fmt: skip
def test_a_wrong_token_in_the_address_is_refused(locked: Served, query: str) -> None:
    answer = locked.raw("GET", f"/?{query}")
    assert answer.status == 401
    assert "set-cookie" not in answer.headers


def test_the_token_counts_in_the_address_of_the_page_alone(locked: Served) -> None:
    assert locked.raw("GET", f"{STORE}?token={TOKEN}").status == 401
    assert locked.raw("GET", f"/assets/app.js?token={TOKEN}").status == 401
    assert locked.raw("POST", f"/api/curves?token={TOKEN}", b"{}", content_type="application/json").status == 401


def test_a_browser_is_let_in_by_the_printed_address_and_by_links_from_then_on(
    locked: Served, store: Path, page: Any, complaints: list[str]
) -> None:
    lossbook.init(store=store, project="tiny", console=False).finish()
    # The server looks at its store a few times a second, and this page asks once.
    wait_until(lambda: b"tiny" in locked.raw("GET", STORE, authorization=f"Bearer {TOKEN}").body)
    page.goto(f"{locked.url}?token={TOKEN}#a=1")
    page.get_by_text("tiny#a=1", exact=True).wait_for()
    assert page.url == f"{locked.url}#a=1"
    # From a page of another site (localhost is one to 127.0.0.1) the cookie does not come along at first.
    page.goto(locked.url.replace("127.0.0.1", "localhost"))
    assert page.get_by_label("Token").is_visible()
    page.evaluate("url => { location.href = url }", f"{locked.url}#b=2")
    page.get_by_text("tiny#b=2", exact=True).wait_for()
    assert page.url == f"{locked.url}#b=2"
    # The form does as the address does.
    page.goto(locked.url.replace("127.0.0.1", "localhost"))
    page.get_by_label("Token").fill("not the token at all")
    page.get_by_role("button").click()
    page.get_by_text("That is not the token").wait_for()
    page.get_by_label("Token").fill(TOKEN)
    page.get_by_role("button").click()
    page.get_by_text("tiny", exact=True).wait_for()
    # The page for those without a token has that status, and the browser asks for an icon that this page has not.
    page.wait_for_load_state("networkidle")  # the answer about the icon may come last of all
    page.close()
    assert all("401" in one or "404" in one for one in complaints), complaints
    complaints.clear()


def test_another_sites_page_cannot_read_or_post(opened: Served, static: Path, page: Any, complaints: list[str]) -> None:
    # localhost is another site to 127.0.0.1: what it is served is a page of a stranger's.
    page.goto(opened.url.replace("127.0.0.1", "localhost"))
    result = page.evaluate(
        """async url => {
            const tried = [];
            for (const options of [{}, {mode: 'no-cors'}, {method: 'POST', mode: 'no-cors', body: '{}'}])
                try { const answer = await fetch(url, options); tried.push(answer.type + answer.status) }
                catch (error) { tried.push('refused') }
            return tried
        }""",
        f"{opened.url}api/store",
    )
    assert result == ["refused", "refused", "refused"]
    complaints.clear()


# -- paths --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    ["/../secret.txt", "/assets/../../secret.txt", "/%2e%2e/secret.txt", "/..%2fsecret.txt", "/%2e%2e%2fsecret.txt",
     "/assets/%2e%2e/%2e%2e/secret.txt", "/..\\secret.txt", "/%00", "/index.html%00.txt", "//etc/passwd", "/%2fetc%2fpasswd",
     "/~root", "/.", "/..", "/assets", "/assets/", "/index.html/", "/INDEX.HTML", "/%ff%fe", "/api", "/api/", "/api/../index.html",
     "/%c0%ae%c0%ae/secret.txt", "/static/index.html", "/file:///etc/passwd"],
)  # fmt: skip
def test_paths_lead_nowhere_else(opened: Served, path: str) -> None:
    answer = send(opened, b"GET " + path.encode() + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    assert status(answer) in (400, 404)
    assert b"secret\n" not in answer
    assert b"root:" not in answer


def test_a_link_in_the_pages_folder_is_no_way_out(opened: Served) -> None:
    assert opened.raw("GET", "/link.txt").status == 404


def test_an_address_of_another_server_is_not_fetched(opened: Served) -> None:
    answer = send(opened, b"GET http://evil.example/api/store HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    assert status(answer) == 404


# -- sizes and times ----------------------------------------------------------------------------------------------


def test_a_long_question_is_refused_before_it_is_read(opened: Served) -> None:
    head = "POST /api/curves HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\n"
    told = send(opened, f"{head}Content-Length: 99999999999\r\n\r\n".encode() + b"{" * 1000)
    assert status(told) == 413
    untold = send(opened, f"{head}Transfer-Encoding: chunked\r\n\r\n100001\r\n".encode() + b" " * ((1 << 20) + 1))
    assert status(untold) == 413


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 200_000 + b"\r\n\r\n",
        b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"A: b\r\n" * 20_000 + b"\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /api/curves HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n",
        b"POST /api/curves HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcde",
        b"\x00" * 1000,
        b"\r\n\r\n",
    ],
)
def test_what_is_no_request_harms_nobody(opened: Served, request_bytes: bytes) -> None:
    try:
        answer = send(opened, request_bytes, whole=False)
        assert not answer or status(answer) >= 400
    except OSError:  # it was closed before all of it was sent
        pass
    assert opened.ask(STORE).status == 200


def test_a_question_that_does_not_come_is_not_waited_for(
    store: Path, opened: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "QUESTION_SECONDS", 0.2)
    with serving(store) as served:
        with socket.create_connection((served.host, served.port), timeout=20) as silent:
            assert silent.recv(100) == b""
        head = b"POST /api/curves HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n"
        with socket.create_connection((served.host, served.port), timeout=20) as slow:
            slow.sendall(head + b"{")
            assert b" 408 " in slow.recv(1000)


def test_an_answer_that_nobody_takes_is_dropped(
    store: Path, opened: Served, static: Path, monkeypatch: pytest.MonkeyPatch, wait_until: Callable[..., None]
) -> None:
    monkeypatch.setattr(pacing, "CHUNK_SECONDS", 0.3)
    run = lossbook.init(store=store, project="long", console=False)
    for step in range(20_000):
        run.log({"loss": float(step)}, step=step)
    run.finish()
    body = b'{"points":20000,"series":[%s]}' % b",".join(
        [b'{"project":"long","run":"%s","key":"loss"}' % run.id.encode()] * 10
    )
    with serving(store) as served, socket.socket() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.connect((served.host, served.port))
        slow.settimeout(20)
        slow.sendall(
            b"POST /api/curves HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
        )
        whole = served.raw("POST", "/api/curves", body, content_type="application/json")
        assert whole.status == 200

        def ended() -> bool:
            try:
                return slow.send(b" ") == 0
            except OSError:
                return True

        wait_until(ended)


def test_a_file_that_nobody_takes_is_dropped_and_one_that_is_taken_comes_whole(
    store: Path, monkeypatch: pytest.MonkeyPatch, wait_until: Callable[..., None]
) -> None:
    monkeypatch.setattr(pacing, "CHUNK_SECONDS", 0.5)
    with lossbook.init(store=store, project="large", id="one", console=False) as run:
        Path(run.dir).mkdir(exist_ok=True)
        (Path(run.dir) / "model.bin").write_bytes(bytes(range(256)) * (64 << 10))
    path = "/api/run/file?project=large&run=one&path=files/model.bin"
    with serving(store) as served, socket.socket() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.connect((served.host, served.port))
        slow.settimeout(20)
        slow.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        whole = served.raw("GET", path)
        assert (whole.status, len(whole.body)) == (200, 16 << 20)

        def ended() -> bool:
            try:
                return slow.send(b" ") == 0
            except OSError:
                return True

        wait_until(ended)
