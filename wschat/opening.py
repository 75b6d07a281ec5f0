"""
The opening handshake of a WebSocket (RFC 6455 section 4.2), read and answered in one step.  Pure.

What nearly all clients send needs no more than this.  Everything else, and all
that is wrong in any way, is for twisted.web and Autobahn.
"""

from __future__ import annotations

import base64
import hashlib
import re
from typing import Final, NamedTuple

import wschat

#: 16 bytes in base64 (section 4.1).
KEY: Final = re.compile(r"[A-Za-z0-9+/]{22}==")

#: The longest that is read here, in bytes.
_LONGEST: Final = 8192

_REQUEST: Final = re.compile(
    rb"GET /ws(?:\?token=(?P<token>[A-Za-z0-9._~-]+))? HTTP/1\.1\r\n"
    rb"(?P<headers>(?:[A-Za-z0-9-]+:[\x20-\x7e]*\r\n)+)\r\n"
)
_HOST: Final = re.compile(r"(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
_ORIGIN: Final = re.compile(r"https?://[a-z0-9.-]+(?::[0-9]{1,4})?")
_SUBPROTOCOLS: Final = re.compile(r"[A-Za-z0-9._-]+(?:, ?[A-Za-z0-9._-]+)*")

#: Headers that say that there is more to read, or that more has to be known.
_MORE: Final = frozenset(
    {"content-length", "transfer-encoding", "expect", "forwarded", "sec-websocket-origin"}
)

#: What browsers and the usual libraries offer.  None of it is taken.
_EXTENSIONS: Final = frozenset(
    {
        None,
        "permessage-deflate",
        "permessage-deflate; client_max_window_bits",
        "permessage-deflate; client_no_context_takeover; client_max_window_bits",
    }
)

#: RFC 6455 section 1.3.
_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

_ANSWER: Final = (
    "HTTP/1.1 101 Switching Protocols\r\n"
    f"Server: wschat/{wschat.__version__}\r\n"
    "Upgrade: WebSocket\r\n"
    "Connection: Upgrade\r\n"
).encode()


class Opening(NamedTuple):
    """
    What an opening handshake says.

    The token is empty when there is none.  `rest` is what came after it, in
    the same packet.
    """

    token: str
    origin: str | None
    forwarded: str | None
    key: str
    subprotocols: tuple[str, ...]
    rest: bytes


def take(data: bytes) -> Opening | None:
    """The handshake at the beginning of `data`; None unless it is whole, usual and right."""
    match = _REQUEST.match(data, 0, _LONGEST)
    if match is None:
        return None
    headers: dict[str, str] = {}
    lines = match["headers"].decode("ascii").split("\r\n")
    for line in lines[:-1]:
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    if len(headers) + 1 < len(lines) or not _MORE.isdisjoint(headers) or not _right(headers):
        return None
    offered = headers.get("sec-websocket-protocol")
    subprotocols: list[str] = []
    if offered is not None:
        subprotocols = [name.strip() for name in offered.split(",")]
        if not _SUBPROTOCOLS.fullmatch(offered) or len(set(subprotocols)) < len(subprotocols):
            return None
    token = (match["token"] or b"").decode("ascii")
    authorization = headers.get("authorization", "")
    if not token and authorization.startswith("Bearer "):
        token = authorization[7:].strip()
    return Opening(
        token,
        headers.get("origin"),
        headers.get("x-forwarded-for"),
        headers["sec-websocket-key"],
        tuple(subprotocols),
        data[match.end() :],
    )


def _right(headers: dict[str, str]) -> bool:
    """Whether the headers are those of a handshake, as they usually are."""
    get = headers.get
    origin = get("origin")
    return (
        get("upgrade", "").lower() == "websocket"
        and "upgrade" in map(str.strip, get("connection", "").lower().split(","))
        and get("sec-websocket-version") == "13"
        and KEY.fullmatch(get("sec-websocket-key", "")) is not None
        and _HOST.fullmatch(get("host", "")) is not None
        and (origin is None or _ORIGIN.fullmatch(origin) is not None)
        and get("sec-websocket-extensions") in _EXTENSIONS
    )


def answer(key: str, subprotocol: str | None) -> bytes:
    """What a client with that key is told: it has its WebSocket."""
    accept = base64.b64encode(hashlib.sha1(key.encode() + _GUID, usedforsecurity=False).digest())
    spoken = f"Sec-WebSocket-Protocol: {subprotocol}\r\n".encode() if subprotocol else b""
    return b"%b%bSec-WebSocket-Accept: %b\r\n\r\n" % (_ANSWER, spoken, accept)
