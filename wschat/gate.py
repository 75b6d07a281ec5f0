"""`/ws`: who may open a WebSocket, and the step from HTTP to it."""

from __future__ import annotations

import re
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from twisted.protocols.policies import ProtocolWrapper
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request

from wschat.accounts import AccountError, Accounts, security
from wschat.codes import CloseCode
from wschat.hub import Registry
from wschat.web import Answer, address, header, listed, respond
from wschat.websocket import ChatFactory, ChatProtocol

#: 16 bytes in base64 (RFC 6455 section 4.1).
_KEY = re.compile(r"[A-Za-z0-9+/]{22}==")


class Admission:
    """Who may open a WebSocket: the right page, a valid token, and room for one more."""

    def __init__(
        self,
        accounts: Accounts,
        registry: Registry,
        wall: Callable[[], float],
        *,
        allowed_origins: frozenset[str],
        max_connections: int,
        max_sessions_per_user: int,
    ) -> None:
        self._accounts = accounts
        self._registry = registry
        self._wall = wall
        self._origins = allowed_origins
        self._max_connections = max_connections
        self._max_sessions_per_user = max_sessions_per_user

    def __call__(self, request: Request) -> tuple[HTTPStatus, str] | str:
        """The user's id, or the status and the line of a refusal."""
        origin = header(request, b"origin")
        if origin is not None and not listed(origin, self._origins):
            return HTTPStatus.FORBIDDEN, "Pages of this origin may not connect."
        try:
            user = self._accounts.authenticate(_token(request), self._wall())
        except AccountError as error:
            return error.status, error.text
        if len(self._registry) >= self._max_connections:
            return HTTPStatus.SERVICE_UNAVAILABLE, "The server is full. Please try again later."
        if self._registry.sessions(user.user_id) >= self._max_sessions_per_user:
            return HTTPStatus.TOO_MANY_REQUESTS, "Too many connections of this user."
        return user.user_id


def _token(request: Request) -> str:
    """The request's token: `?token=` or `Authorization: Bearer`; empty when there is none."""
    given: bytes = request.args.get(b"token", [b""])[0]
    if given:
        return given.decode("ascii", "replace")
    scheme, _, token = (header(request, b"authorization") or "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


class Gate(Resource):
    """`/ws`: refuses what may not come in, and hands the rest to Autobahn."""

    isLeaf = True

    def __init__(
        self, factory: ChatFactory, admit: Callable[[Request], tuple[HTTPStatus, str] | str]
    ) -> None:
        """`admit` gives the user's id, or the status and the line of a refusal."""
        super().__init__()
        self._factory = factory
        self._admit = admit

    def render(self, request: Request) -> int:
        """Refuse, in one line, or hand the connection over."""
        answer = self._let_in(request)
        if answer is not None:
            respond(request, answer)
        return NOT_DONE_YET

    def _let_in(self, request: Request) -> Answer | None:
        """None when the connection was handed over."""
        if request.postpath:
            return Answer("Not found.", HTTPStatus.NOT_FOUND)
        if request.method != b"GET":
            return Answer("Method not allowed.", HTTPStatus.METHOD_NOT_ALLOWED, allow="GET")
        admitted = self._admit(request)
        if not isinstance(admitted, str):
            status, text = admitted
            security.warn("refused a WebSocket: {reason}", reason=text, address=address(request))
            return Answer(text, status)
        if self._factory.shutting_down:
            return Answer(CloseCode.SHUTDOWN.reason, HTTPStatus.SERVICE_UNAVAILABLE)
        wrong = _handshake_fault(request)
        if wrong is not None:
            return wrong
        _take_over(request, self._factory.connection(admitted))
        return None


def _handshake_fault(request: Request) -> Answer | None:
    """What is wrong with an opening handshake (RFC 6455 section 4.2.1), as an answer."""
    if request.clientproto != b"HTTP/1.1" or not _asks_for_websocket(request):
        return Answer("This is a WebSocket.", HTTPStatus.UPGRADE_REQUIRED, upgrade="websocket")
    if header(request, b"sec-websocket-version") != "13":
        text = "Only version 13 of the WebSocket protocol is spoken."
        return Answer(text, HTTPStatus.UPGRADE_REQUIRED, sec_websocket_version="13")
    if not _KEY.fullmatch(header(request, b"sec-websocket-key") or ""):
        return Answer("The Sec-WebSocket-Key is missing or wrong.", HTTPStatus.BAD_REQUEST)
    return None


def _asks_for_websocket(request: Request) -> bool:
    offers = request.requestHeaders.getRawHeaders(b"upgrade", [])
    return any(
        offer.strip().lower() == b"websocket" for line in offers for offer in line.split(b",")
    )


def _take_over(request: Request, protocol: ChatProtocol) -> None:
    """Give the request's connection to `protocol`, which reads the request once more."""
    channel: Any = request.channel
    transport, channel.transport = channel.transport, None
    transport.unregisterProducer()  # the HTTP channel
    if isinstance(transport, ProtocolWrapper):  # TLS
        transport.wrappedProtocol = protocol
    else:
        transport.protocol = protocol
    protocol.makeConnection(transport)
    transport.resumeProducing()
    lines = [b"GET %b HTTP/1.1" % request.uri]
    for name, values in request.requestHeaders.getAllRawHeaders():
        lines.extend(b"%b: %b" % (name, value) for value in values)
    protocol.dataReceived(b"\r\n".join(lines) + b"\r\n\r\n")
    early = b"".join(channel._dataBuffer) + channel._buffer  # frames that came in the same packet
    channel._buffer = b""
    if early:
        protocol.dataReceived(early)
