"""What no client should send, and what some do."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable
from typing import Final

from websockets.exceptions import WebSocketException

from scripts.soak.person import Account, Place

#: How long a babbler stays with a connection that the server does not end, in seconds.
_PATIENCE: Final = 15.0

_FRAMES: Final = (
    "{}",
    "[]",
    "null",
    '{"type": "resume", "session": 5}',
    '{"type": "resume"}{"type": "resume"}',
    '{"type": "message", "header": {"to": "\\u0000"}, "body": {"content": 1}}',
    '{"type": "ack", "id": 9223372036854775807}',
    '{"type": "history", "with": "broadcast", "limit": -1}',
    '{"header": {"to": "server"}, "body": {"content": "{}"}}',
    "[" * 5000,
    '{"a":' * 5000,
    '"' + "\\ud800" * 5000 + '"',
)

_REQUESTS: Final = (
    b"GET / HTTP/1.1\r\n",  # … and no end
    b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
    b"POST /auth/login HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n{",
    b"POST /auth/register HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n[]",
    b"POST /auth/rotate HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
    b"\x00" * 4096,
    b"GET /active-users HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 2000 + b"\r\n",
)


async def babble(place: Place, account: Account, count: Callable[[str], None]) -> None:
    """One thing after another, as fast as the server puts up with it; it never ends by itself."""
    kinds: tuple[tuple[str, Callable[[], Awaitable[None]]], ...] = (
        ("bytes that are no TLS", lambda: _raw(place, None, random.randbytes(2000))),
        ("silence in place of TLS", lambda: _raw(place, None, b"")),
        ("requests that are none", lambda: _raw(place, place, random.choice(_REQUESTS))),
        ("frames that are none", lambda: _frames(place, account)),
        ("messages that are too long", lambda: _long(place, account)),
        ("messages without end", lambda: _fragments(place, account)),
        ("pings without end", lambda: _pings(place, account)),
    )
    while True:
        name, kind = random.choice(kinds)
        count(name)
        with contextlib.suppress(OSError, WebSocketException, TimeoutError, EOFError):
            await asyncio.wait_for(kind(), _PATIENCE)
        await asyncio.sleep(random.uniform(0, 1))


async def _raw(place: Place, tls: Place | None, data: bytes) -> None:
    reader, writer = await asyncio.open_connection(
        "localhost", place.port, ssl=None if tls is None else tls.context
    )
    try:
        writer.write(data)
        while await reader.read(65536):
            pass
    finally:
        writer.transport.abort()


async def _frames(place: Place, account: Account) -> None:
    v1 = random.random() < 0.5
    async with place.connect(account.token, subprotocols=["wschat.v1"] if v1 else None) as socket:
        for _ in range(50):
            frame = random.choice(_FRAMES)
            await socket.send(frame if random.random() < 0.95 else random.randbytes(50))


async def _long(place: Place, account: Account) -> None:
    async with place.connect(account.token) as socket:
        await socket.send("x" * random.choice((65537, 1 << 20)))
        await socket.recv()


async def _fragments(place: Place, account: Account) -> None:
    async with place.connect(account.token) as socket:
        await socket.send(["x" * 100] * 2000)
        await socket.recv()


async def _pings(place: Place, account: Account) -> None:
    async with place.connect(account.token) as socket:
        for _ in range(2000):
            await socket.ping()
        await socket.recv()
