"""`/ws`: who may open a WebSocket, and the step from HTTP to it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final

from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request

from wschat import addresses
from wschat.accounts import AccountError, Accounts
from wschat.codes import CloseCode
from wschat.http import (
    Answer,
    ChatSite,
    address,
    bearer,
    hand_over,
    header,
    listed,
    peer,
    respond,
)
from wschat.hub import Registry
from wschat.limits import Occupancy
from wschat.opening import KEY, Opening, take
from wschat.security import Security
from wschat.websocket import ChatFactory, ChatProtocol, Entry

#: How long those should wait for whom there is no room, in seconds.
_WAIT: Final = 10


class Full(Answer):
    """There is too much of something: which limit that is, and when to come again."""

    def __init__(
        self, limit: str, text: str, status: HTTPStatus = HTTPStatus.TOO_MANY_REQUESTS
    ) -> None:
        text = f"{text} Please try again in {_WAIT} s."
        super().__init__(text, status, retry_after=str(_WAIT))
        self.limit = limit


class Admission:
    """Who may open a WebSocket: the right page, a valid token, and room for one more."""

    def __init__(
        self,
        accounts: Accounts,
        registry: Registry,
        wall: Callable[[], float],
        *,
        allowed_origins: frozenset[str],
        places: Occupancy,
        max_sessions_per_user: int,
    ) -> None:
        """`places` has room for so many connections, of all and of one address."""
        self._accounts = accounts
        self._registry = registry
        self._wall = wall
        self.allowed_origins = allowed_origins
        self._places = places
        self.max_sessions_per_user = max_sessions_per_user

    def __call__(self, origin: str | None, token: str, address: str) -> Entry | Answer:
        """
        Whom to let in, or what they get instead: `Full` where there is too much of something.

        `origin` is the page's, if there is one; `address` is the client's.
        """
        if origin is not None and not listed(origin, self.allowed_origins):
            return Answer("Pages of this origin may not connect.", HTTPStatus.FORBIDDEN)
        try:
            user, until = self._accounts.check(token, self._wall())
        except AccountError as error:
            return Answer(error.text, error.status)
        counted = addresses.counted(address)
        if not self._places.room(None):
            text, status = "The server is full.", HTTPStatus.SERVICE_UNAVAILABLE
            return Full("connections", text, status)
        if not self._places.room(counted):
            return Full("connections", "Too many connections of this address.")
        if self._registry.sessions(user.user_id) >= self.max_sessions_per_user:
            return Full("sessions", "Too many connections of this user.")
        return Entry(user.user_id, until, counted)


#: What says whom to let in: an `Admission`.
Admit = Callable[[str | None, str, str], Entry | Answer]


def _token(request: Request) -> str:
    """The request's token: `?token=` or `Authorization: Bearer`; empty when there is none."""
    given: bytes = request.args.get(b"token", [b""])[0]
    return given.decode("ascii", "replace") if given else bearer(request)


class Gate(Resource):
    """`/ws`: refuses what may not come in, and hands the rest to Autobahn."""

    isLeaf = True

    def __init__(self, factory: ChatFactory, admit: Admit, security: Security) -> None:
        super().__init__()
        self._factory = factory
        self._admit = admit
        self._security = security

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
        entry = self._admit(header(request, b"origin"), _token(request), address(request))
        if isinstance(entry, Answer):
            meters = self._factory.meters
            meters.refused[entry.status] += 1
            if isinstance(entry, Full):
                meters.limited[entry.limit] += 1
            self._security.refused("websocket", str(entry.body), address(request))
            return entry
        if self._factory.connections.shutting_down:
            reason = CloseCode.SHUTDOWN.reason
            return Answer(reason, HTTPStatus.SERVICE_UNAVAILABLE, retry_after="1")
        wrong = _handshake_fault(request)
        if wrong is not None:
            return wrong
        _take_over(request, self._factory.connection(entry))
        return None

    def begin(self, site: ChatSite) -> Beginning:
        """What sees the first bytes of a connection to `site`."""
        return Beginning(self._factory, self._admit, site)


class Beginning(Protocol):
    """
    A connection of which nothing has come yet.

    Most are WebSockets, whose handshake comes whole and as it should be.  Whatever is
    unusual, and whoever is not to be let in, is for HTTP to answer.
    """

    transport: Any

    def __init__(self, factory: ChatFactory, admit: Admit, site: ChatSite) -> None:
        self._factory = factory
        self._admit = admit
        self._site = site
        self._place: tuple[str | None] | None = None

    def connectionMade(self) -> None:
        """Wait for something to come, unless too many do already."""
        self._peer = peer(self.transport.getPeer())
        self._place = self._site.enter(self._peer)
        if self._place is None:
            self.transport.abortConnection()
            return
        self._began = self._site.reactor.seconds()
        self._factory.connections.silent.add(self, self._began)
        if self._peer:  # TCP: a short answer is not to wait for the peer's acknowledgement
            with contextlib.suppress(OSError):  # … who may have gone
                self.transport.setTcpNoDelay(True)

    def dataReceived(self, data: bytes) -> None:
        """Give the connection to who speaks what has come."""
        place, self._place = self._place, None
        if place is None:
            return
        connections = self._factory.connections
        connections.silent.discard(self)
        opening = take(data)
        entry = None if opening is None or connections.shutting_down else self._entry(opening)
        if opening is None or not isinstance(entry, Entry):
            channel = self._site.channel()
            channel.go_on(place, self.transport, self._site.reactor.seconds() - self._began)
            channel.dataReceived(data)
        else:
            self._site.places.leave(*place)
            protocol = self._factory.connection(entry)
            hand_over(self.transport, protocol)
            protocol.opened(opening)

    def _entry(self, opening: Opening) -> Entry | Answer:
        forwarded = [] if opening.forwarded is None else [opening.forwarded]
        address = addresses.client(self._peer, forwarded, self._site.trusted_proxies)
        return self._admit(opening.origin, opening.token, address)

    def abort(self) -> None:
        """Nothing has come for too long."""
        self.transport.abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._factory.connections.silent.discard(self)
        if self._place is not None:
            self._site.places.leave(*self._place)
            self._place = None


def _handshake_fault(request: Request) -> Answer | None:
    """What is wrong with an opening handshake (RFC 6455 section 4.2.1), as an answer."""
    if request.clientproto != b"HTTP/1.1" or not _asks_for_websocket(request):
        return Answer("This is a WebSocket.", HTTPStatus.UPGRADE_REQUIRED, upgrade="websocket")
    if header(request, b"sec-websocket-version") != "13":
        text = "Only version 13 of the WebSocket protocol is spoken."
        return Answer(text, HTTPStatus.UPGRADE_REQUIRED, sec_websocket_version="13")
    if not KEY.fullmatch(header(request, b"sec-websocket-key") or ""):
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
    channel.left()
    transport, channel.transport = channel.transport, None
    transport.unregisterProducer()  # the HTTP channel
    hand_over(transport, protocol)
    transport.resumeProducing()
    lines = [b"GET %b HTTP/1.1" % request.uri]
    for name, values in request.requestHeaders.getAllRawHeaders():
        lines.extend(b"%b: %b" % (name, value) for value in values)
    protocol.dataReceived(b"\r\n".join(lines) + b"\r\n\r\n")
    early = b"".join(channel._dataBuffer) + channel._buffer  # frames that came in the same packet
    channel._buffer = b""
    channel.requests.clear()  # which know the channel
    if early:
        protocol.dataReceived(early)
