"""`serve`: the dashboard in the browser."""

from __future__ import annotations

import errno
import ipaddress
import os
import secrets
import socket
import sys
import threading
import time
import urllib.parse
from contextlib import nullcontext
from typing import NamedTuple

import click

from lossbook.cli.app import Settings, common_options
from lossbook.cli.format import printable, to_json
from lossbook.errors import BadArgument, StoreError
from lossbook.served_pages import noted

DEFAULT_PORT = 8765
#: Ports that are tried where none was named.
_PORTS_TRIED = 100
#: A token of one's own that is shorter can be guessed.
_SHORTEST_TOKEN = 12
#: What the server keeps of the store in memory, beside the libraries.
_MEMORY_BYTES = 80 << 20


class Place(NamedTuple):
    """Where the dashboard is reached."""

    name: str  # as it stands in an address
    port: int
    token: str | None

    @property
    def url(self) -> str:
        return f"http://{self.name}:{self.port}/"

    @property
    def whole_url(self) -> str:
        """The address with its token, to be opened once."""
        return self.url if self.token is None else f"{self.url}?{urllib.parse.urlencode({'token': self.token})}"


@click.command(
    "serve",
    epilog="""\b
Examples:
  lossbook serve
  lossbook serve --store /data/lossbook-runs --edit
  lossbook --store wandb://ENTITY/PROJECT serve
  lossbook serve --host 0.0.0.0             others may look too: with the token that it prints""",
)
@click.option("--host", default="127.0.0.1", show_default=True, metavar="ADDRESS", help="The address to listen on.")
@click.option(
    "--port", type=click.IntRange(0, 65535), metavar="N", help="The port [default: 8765, or the next that is free]."
)
@click.option(
    "--token",
    envvar="LOSSBOOK_TOKEN",
    metavar="TEXT",
    help="What one must know to look [default: LOSSBOOK_TOKEN; else none on this machine alone, a random one beyond].",
)
@click.option(
    "--allowed-host", "allowed", multiple=True, metavar="NAME", help="Another name that it is reached by; repeatable."
)
@click.option("--edit", is_flag=True, help="Let the page change names, notes and tags.")
@click.option("--open/--no-open", "opens", default=None, help="Open a browser [default: where there is a screen].")
@common_options(project=False)
@click.pass_obj
def serve_command(
    settings: Settings,
    host: str,
    port: int | None,
    token: str | None,
    allowed: tuple[str, ...],
    edit: bool,
    opens: bool | None,
) -> None:
    """Look at runs in the browser, live, until Ctrl-C.

    It only reads, unless --edit is given. On the default address only this machine can ask; anywhere else a token is
    needed, which is part of the address that is printed.
    """
    if token and len(token) < _SHORTEST_TOKEN:
        raise BadArgument(
            f"a token of {len(token)} characters can be guessed: use {_SHORTEST_TOKEN} or more, or leave it out and a "
            "random one is made"
        )
    book = settings.book(memory_bytes=_MEMORY_BYTES)
    if edit:
        settings.own_store()
    with listen(host, port) as listener:
        here, taken = listener.getsockname()[0], listener.getsockname()[1]
        is_local = ipaddress.ip_address(here.partition("%")[0]).is_loopback
        if token is None and not is_local:
            token = secrets.token_urlsafe(24)
        is_anywhere = here in ("0.0.0.0", "::")
        place = Place(_named(host, is_anywhere), taken, token)
        names = {host, *allowed, *(_own_names() if not is_local else ())}

        from lossbook.web import Server, make_app

        app = make_app(book, editable=edit, token=token, hosts=names, any_address=is_anywhere)

        def say() -> None:
            if settings.json:
                told = {"url": place.url, "token": token, "pid": os.getpid(), "store": settings.location}
                click.echo(to_json(told, indent=False))
            else:
                moved = None if port is not None or taken == DEFAULT_PORT else DEFAULT_PORT
                click.echo("\n".join(greeting(settings.location, place, is_local, edit, moved)))
            sys.stdout.flush()
            if opens if opens is not None else _has_screen():
                _open_browser(place.whole_url)

        with noted(place.url, settings.location) if is_local and token is None else nullcontext():
            Server(app, say).run(sockets=[listener])
    _end_at_once()


def listen(host: str, port: int | None) -> socket.socket:
    """A bound socket; where no port was named, on the first that is free.

    Raises:
        StoreError: the port that was named is taken, or the address is none of this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    tried = range(DEFAULT_PORT, DEFAULT_PORT + _PORTS_TRIED) if port is None else (port,)
    for one in tried:
        try:
            return socket.create_server((host.strip("[]"), one), family=family, backlog=128)
        except OSError as error:
            if error.errno == errno.EADDRINUSE and one != tried[-1]:
                continue
            if error.errno is not None and error.errno < 0:  # one of getaddrinfo's
                raise BadArgument(
                    f"there is no address {host!r}: use one of this machine's, or 127.0.0.1, which it alone can reach"
                ) from None
            why = os.strerror(error.errno) if error.errno else str(error)
            raise StoreError(
                f"no port of {host} from {tried[0]} to {one} is free: name another one with --port"
                if len(tried) > 1 and error.errno == errno.EADDRINUSE
                else f"the dashboard cannot be served at port {one} of {host} ({why}): "
                "name another one with --port, or another address with --host"
            ) from None
    raise AssertionError("no port was tried")


def _named(host: str, is_anywhere: bool) -> str:
    name = socket.gethostname() if is_anywhere else host.strip("[]")
    return f"[{name}]" if ":" in name else name


def _own_names() -> tuple[str, ...]:
    """What this machine is called; its name is not asked of the network, which may not answer."""
    name = socket.gethostname()
    return name, name.partition(".")[0], f"{name.partition('.')[0]}.local"


def greeting(store: str, place: Place, is_local: bool, edit: bool, moved_from: int | None) -> list[str]:
    """What is said when requests are answered."""
    may = ", and can be changed (names, notes, tags)" if edit else ""
    lines = [f"{printable(store)} is shown{may}:", "", f"  {place.whole_url}", ""]
    if moved_from is not None:
        lines.append(f"Port {moved_from} is taken, so it is {place.port}.")
    if is_local:
        here = f"{_user()}{socket.gethostname()}"
        lines.append("From another machine, open the same address there after")
        lines.append(f"  ssh -N -L {place.port}:{place.name}:{place.port} {here}")
    else:
        lines.append(
            "Whoever knows the token can look. What is sent is not encrypted: on a network that is not yours, leave"
        )
        lines.append(f"--host out and use `ssh -N -L {place.port}:127.0.0.1:{place.port} {socket.gethostname()}`.")
    return [*lines, "Ctrl-C ends it."]


def _user() -> str:
    import getpass

    try:
        return f"{getpass.getuser()}@"
    except (OSError, KeyError):
        return ""


def _has_screen() -> bool:
    """Whether a browser that is opened here is seen by whoever typed the command."""
    if not sys.stdout.isatty() or any(os.environ.get(name) for name in ("SSH_CONNECTION", "SSH_TTY", "CI")):
        return False
    return sys.platform == "darwin" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def _open_browser(url: str) -> None:
    import webbrowser

    # Finding and starting one takes a while, and the address is printed in any case.
    threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()


def _end_at_once() -> None:
    """Let no reading hold up the end that nobody waits for any more; there is nothing to be written."""
    deadline = time.monotonic() + 0.3
    while any(thread.name.startswith("lossbook-") for thread in threading.enumerate()):
        if time.monotonic() > deadline:
            sys.stdout.flush()
            os._exit(0)
        time.sleep(0.01)
