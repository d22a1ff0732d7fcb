"""Who gets in: this machine, with the whole address, and nobody whom another site sends."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from bitterant.app.server import Guard, listening_socket, new_token
from bitterant.errors import ConfigError

TOKEN, PORT = "s3cret-_token", 8765
HOST = (b"host", b"127.0.0.1:8765")


def ask(
    path: str, *headers: tuple[bytes, bytes], kind: str = "http", guard: Guard | None = None
) -> tuple[bool, list[dict[str, Any]]]:
    """Whether the application behind the guard was reached, and what was sent back."""
    reached, sent = [], []

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        reached.append(scope["path"])
        await send({"type": "http.response.start", "status": 200, "headers": [(b"Referrer-Policy", b"unsafe-url")]})

    async def receive() -> None:
        return None

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {"type": kind, "path": path, "headers": list(headers)}
    guard = guard or Guard(inner, TOKEN, PORT)
    guard.inner = inner
    asyncio.run(guard(scope, receive, send))
    return bool(reached), sent


@pytest.mark.parametrize("path", [f"/{TOKEN}/", f"/{TOKEN}", f"/{TOKEN}/_nicegui_ws/socket.io/"])
@pytest.mark.parametrize("host", [b"127.0.0.1:8765", b"localhost:8765", b"LOCALHOST:8765"])
@pytest.mark.parametrize("kind", ["http", "websocket"])
def test_the_whole_address_gets_in(path: str, host: bytes, kind: str) -> None:
    assert ask(path, (b"host", host), (b"origin", b"http://" + host), kind=kind)[0]


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "",
        "/_nicegui_ws/socket.io/",
        f"/{TOKEN[:-1]}/",
        f"/{TOKEN}x/",
        f"/{TOKEN.upper()}/",
        f"//{TOKEN}/",
        f"/x/../{TOKEN}/",
        f"/?token={TOKEN}",
        "/\udcff/",
        "/\u00e9/",
    ],
)
@pytest.mark.parametrize("kind", ["http", "websocket"])
def test_any_other_address_does_not(path: str, kind: str) -> None:
    reached, sent = ask(path, HOST, kind=kind)
    assert not reached
    if kind == "http":
        assert sent[0]["status"] == 403
        assert TOKEN.encode() not in sent[1]["body"]
    else:
        assert [message["type"] for message in sent] == ["websocket.close"]


@pytest.mark.parametrize(
    "headers",
    [
        (),
        ((b"host", b"evil.example:8765"),),
        ((b"host", b"127.0.0.1:8766"),),
        ((b"host", b"127.0.0.1"),),
        (HOST, (b"host", b"evil.example")),
        (HOST, (b"origin", b"http://evil.example")),
        (HOST, (b"origin", b"null")),
        (HOST, (b"Origin", b"https://127.0.0.1:8765")),
        (HOST, (b"origin", b"http://127.0.0.1:8765"), (b"origin", b"http://evil.example")),
    ],
)
@pytest.mark.parametrize("kind", ["http", "websocket"])
def test_nobody_comes_by_another_site(headers: tuple[tuple[bytes, bytes], ...], kind: str) -> None:
    assert not ask(f"/{TOKEN}/", *headers, kind=kind)[0]


def nothing(scope: Any, receive: Any, send: Any) -> Any:
    raise AssertionError


def test_an_invitation_leads_to_the_page_once() -> None:
    guard = Guard(nothing, TOKEN, PORT)
    path = f"/{guard.invite()}"
    assert not ask(path, HOST, kind="websocket", guard=guard)[0]
    for headers in ((), ((b"host", b"evil.example"),), (HOST, (b"origin", b"http://evil.example"))):
        assert ask(path, *headers, guard=guard)[1][0]["status"] == 403
    reached, sent = ask(path, HOST, guard=guard)
    assert not reached
    assert (sent[0]["status"], dict(sent[0]["headers"])[b"location"]) == (303, f"/{TOKEN}/".encode())
    for again in (path, "/", ""):
        assert ask(again, HOST, guard=guard)[1][0]["status"] == 403


def test_every_answer_forbids_what_comes_from_outside() -> None:
    for path in (f"/{TOKEN}/", "/"):
        headers = ask(path, HOST)[1][0]["headers"]
        told = {name.lower(): value.decode() for name, value in headers}
        assert len(told) == len(headers)
        assert "default-src 'self'" in told[b"content-security-policy"]
        assert "http" not in told[b"content-security-policy"]
        assert told[b"referrer-policy"] == "no-referrer"


def test_tokens_differ_and_stand_in_an_address_as_they_are() -> None:
    tokens = {new_token() for _ in range(50)}
    assert len(tokens) == 50
    assert all(len(token) >= 32 and set(token) <= set(SAFE) for token in tokens)


SAFE = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


def test_only_this_machine_is_listened_to() -> None:
    with listening_socket(0) as found:
        address, port = found.getsockname()
        assert address == "127.0.0.1"
        found.listen()
        with pytest.raises(ConfigError, match=rf"Port {port} .*--port"):
            listening_socket(port)


@pytest.mark.parametrize("port", [-1, 65536])
def test_a_port_that_cannot_be(port: int) -> None:
    with pytest.raises(ConfigError, match="65535"):
        listening_socket(port)


def test_the_socket_is_closed_where_it_cannot_be_used() -> None:
    taken = socket.socket()
    taken.bind(("127.0.0.1", 0))
    taken.listen()
    with taken, pytest.raises(ConfigError):
        listening_socket(taken.getsockname()[1])
