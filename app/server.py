"""Serving the page to this machine alone, and to whoever knows its address."""

from __future__ import annotations

import contextlib
import hmac
import importlib.util
import os
import secrets
import socket
import sys
import tempfile
import threading
import time
import webbrowser
from collections.abc import Awaitable, Callable, Mapping
from multiprocessing import get_context
from typing import Any, Final, Literal

from ..errors import ConfigError, SetupError
from .desk import Desk

LOOPBACK: Final = "127.0.0.1"
#: Names by which a browser on this machine may call it. Any other name was made to lead here by somebody else.
_HOSTS: Final = (LOOPBACK, "localhost")
_NO_EXTRA: Final = (
    "The window needs the package {name!r}, which is not installed. Install it with the extra: "
    'pip install "bitterant[app]"'
)
#: Nothing from elsewhere, whatever a page may ask for. Vue compiles its templates in the browser.
_POLICY: Final = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; base-uri 'self'; form-action 'none'; "
    "frame-ancestors 'none'"
)
_HEADERS: Final = (
    (b"content-security-policy", _POLICY.encode()),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
)

Show = Literal["window", "browser", "nothing", "auto"]
Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
Application = Callable[[Any, Receive, Send], Awaitable[None]]


def new_token() -> str:
    """A secret that nobody guesses, as a part of an address."""
    return secrets.token_urlsafe(24)


def listening_socket(port: int) -> socket.socket:
    """A socket that only this machine reaches.

    Args:
        port: 0 lets the system choose a free one.

    Raises:
        ConfigError: the port is taken, or not allowed.
    """
    if not 0 <= port < 1 << 16:
        raise ConfigError(f"--port {port} is outside 0..65535. Leave it out to have a free one chosen.")
    found = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        if os.name != "nt":  # a port whose last user has just left; on Windows it would allow two at once
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind((LOOPBACK, port))
    except OSError as error:
        found.close()
        raise ConfigError(
            f"Port {port} of this machine cannot be used: {error.strerror or error}. "
            "Name another with --port, or leave it out to have a free one chosen."
        ) from error
    return found


class Guard:
    """Lets nothing through, page or websocket, whose address lacks the token, or that came by another site.

    Args:
        inner: the application behind it, which sees the whole path.
        token: first part of every path.
        port: where it listens.
    """

    def __init__(self, inner: Application, token: str, port: int) -> None:
        self.inner, self._token, self._invitation = inner, token.encode(), b""
        self._hosts = frozenset(f"{host}:{port}" for host in _HOSTS)
        self._origins = frozenset(f"http://{host}" for host in self._hosts)

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):  # the server's own start and end
            await self.inner(scope, receive, send)
            return
        if self._welcome(scope, self._token):
            await self.inner(scope, receive, _with_headers(send))
        elif scope["type"] == "http" and self._invitation and self._welcome(scope, self._invitation):
            self._invitation = b""
            headers = [(b"location", b"/%s/" % self._token), (b"cache-control", b"no-store"), *_HEADERS]
            await send({"type": "http.response.start", "status": 303, "headers": headers})
            await send({"type": "http.response.body", "body": b""})
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            body = b"This page needs its whole address, as the command printed it.\n"
            headers = [(b"content-type", b"text/plain; charset=utf-8"), *_HEADERS]
            await send({"type": "http.response.start", "status": 403, "headers": headers})
            await send({"type": "http.response.body", "body": body})

    def invite(self) -> str:
        """A path that leads to the page once, and then no more."""
        invitation = new_token()
        self._invitation = invitation.encode()
        return invitation

    def _welcome(self, scope: Scope, token: bytes) -> bool:
        first, *rest = scope["path"].encode("utf-8", "surrogateescape").split(b"/")
        if first or not rest or not hmac.compare_digest(rest[0], token):
            return False
        headers: dict[bytes, list[str]] = {}
        for name, value in scope["headers"]:
            headers.setdefault(name.lower(), []).append(value.decode("latin-1").lower())
        # A page of another site can make a browser send requests here, under a name of its own or with its origin.
        hosts, origins = headers.get(b"host", []), headers.get(b"origin", [])
        return len(hosts) == 1 and hosts[0] in self._hosts and all(origin in self._origins for origin in origins)


def _with_headers(send: Send) -> Send:
    async def sending(message: Any) -> None:
        if message["type"] == "http.response.start":
            own = {name for name, _ in _HEADERS}
            rest = [(name, value) for name, value in message.get("headers", ()) if name.lower() not in own]
            message = {**message, "headers": [*rest, *_HEADERS]}
        await send(message)

    return sending


def serve(
    *,
    port: int = 0,
    show: Show = "auto",
    verify: dict[str, Any] | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> None:
    """Show the page until Ctrl-C, or until its window is closed while no work is under way.

    Work that is under way when it ends is stopped so that it can go on. A script that calls this needs the usual
    ``if __name__ == "__main__":``, since the work has a process of its own. Once a process.

    Args:
        port: of this machine; 0 takes a free one.
        show: open a ``"window"`` (needs pywebview and a display), the ``"browser"``, ``"nothing"``, or what there is.
        verify: options of :func:`bitterant.verify_folder` beyond those that the page offers.
        say: told where the page is, and what happens to work at the end.

    Raises:
        ConfigError: the port cannot be used.
        SetupError: NiceGUI is not installed, or a window was asked for and cannot be opened.
        KeyboardInterrupt: as it came, after everything has been stopped.
    """
    if importlib.util.find_spec("nicegui") is None:
        raise SetupError(_NO_EXTRA.format(name="nicegui"))
    with_window = _wants_window(show)
    with listening_socket(port) as listening, _storage_elsewhere():
        port = listening.getsockname()[1]
        token = new_token()
        address = f"http://{LOOPBACK}:{port}/{token}/"
        desk = Desk(verify=verify)
        server, thread, guard = _start(desk, listening, token, port)
        try:
            say(f"The page is open at {address}")
            say("Nobody else can open it without this address. Ctrl-C here ends it; work can go on later.")
            if with_window and _window(address, desk, say):
                return
            if show == "window":
                raise SetupError("pywebview could not open a window; it says why above. Take --browser instead.")
            if show != "nothing":
                # A browser's command line can be read by other users of this machine: what stands there works once.
                webbrowser.open(f"http://{LOOPBACK}:{port}/{guard.invite()}")
            _wait_for(thread)
        finally:
            if desk.busy is not None:
                say("Stopping as soon as the files in hand are whole.")
            desk.close()
            server.should_exit = server.force_exit = True
            thread.join(10)


def _wants_window(show: Show) -> bool:
    """Whether to open a window; says why not where it was asked for.

    Raises:
        SetupError: it was asked for and cannot be.
    """
    if show not in ("window", "auto"):
        return False
    if importlib.util.find_spec("webview") is None:
        problem = 'A window needs the package pywebview. Install it (pip install pywebview), or take "--browser".'
    elif sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        problem = 'A window needs a display, and this session has none. Take "--browser", or "--no-browser".'
    else:
        return True
    if show == "window":
        raise SetupError(problem)
    return False


@contextlib.contextmanager
def _storage_elsewhere() -> Any:
    """NiceGUI reads and keeps files in the current folder unless told otherwise; that may be full of pictures."""
    with tempfile.TemporaryDirectory(prefix="bitterant-app-") as place:
        os.environ["NICEGUI_STORAGE_PATH"] = place
        yield


def _start(desk: Desk, listening: socket.socket, token: str, port: int) -> tuple[Any, threading.Thread, Guard]:
    """The server, in a thread of its own, so that Ctrl-C is heard here."""
    import uvicorn

    from .page import application

    guarded = Guard(application(desk, f"/{token}"), token, port)
    config = uvicorn.Config(
        guarded, log_level="error", access_log=False, lifespan="on", timeout_graceful_shutdown=1, proxy_headers=False,
        server_header=False,
    )  # fmt: skip
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    while not server.started and thread.is_alive():
        time.sleep(0.01)
    if not server.started:
        raise SetupError("The page could not be served. Run the command again with --debug to see why.")
    return server, thread, guarded


def _wait_for(thread: threading.Thread) -> None:
    while thread.is_alive():
        thread.join(0.5)  # without a limit Ctrl-C would wait on some systems


def _window(address: str, desk: Desk, say: Callable[[str], None]) -> bool:
    """A window of its own, in a process of its own: windows want the main thread.

    Returns:
        Whether it could be opened.
    """
    process = get_context("spawn").Process(target=_open_window, args=(address,), name="bitterant-window")
    process.start()
    try:
        while process.is_alive():
            process.join(0.5)  # without a limit Ctrl-C would wait on some systems
        if process.exitcode:
            return False
        if desk.busy is not None:
            say(f"The window is closed, and the work goes on. Open {address} to see it, or stop it with Ctrl-C.")
        while desk.busy is not None:
            time.sleep(0.5)
        return True
    finally:
        if process.is_alive():
            process.terminate()


def _open_window(address: str) -> None:
    import webview  # pyright: ignore[reportMissingImports]

    webview.create_window("bitterant", address, width=1100, height=900, min_size=(375, 600))
    webview.start()
