"""
What all HTTP has in common: requests, their limits, and answers (docs/protocol.md, "HTTP").

A resource is a dict of methods; one place reads bodies and writes answers,
and turns every refusal into a status and one readable line.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any, Final, TypeVar, cast

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IProtocol
from twisted.internet.protocol import connectionDone
from twisted.logger import ILogObserver, LogEvent, Logger
from twisted.protocols.policies import ProtocolWrapper
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel
from twisted.web.resource import IResource, Resource
from twisted.web.server import NOT_DONE_YET, Request, Site
from zope.interface import provider

import wschat
from wschat import addresses, wire
from wschat.accounts import AccountError
from wschat.addresses import Networks
from wschat.limits import Occupancy
from wschat.meters import Meters
from wschat.store import DiskFull
from wschat.timeouts import REQUEST_TIMEOUT

#: The longest request body, in bytes.
MAX_BODY: Final = 64 * 1024

#: What proxies put into the requests that they relay.
_RELAYED: Final = ("x-forwarded-for", "x-real-ip", "forwarded")

#: What browsers are told with every answer: nothing of this is a page, or part of one.
_SECURITY_HEADERS: Final = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}

Body = TypeVar("Body")

log = Logger(namespace="wschat.http")


class Answer(Exception):
    """What a request gets: a status, and a body that is JSON unless it is text or bytes."""

    def __init__(self, body: object, status: HTTPStatus = HTTPStatus.OK, **headers: str) -> None:
        super().__init__(status)
        self.status = status
        self.body = body
        self.headers = headers


Handler = Callable[[Request], "Answer | Awaitable[Answer]"]


def header(request: Request, name: bytes) -> str | None:
    """A header of a request as text, whatever bytes it has; the first one of that name."""
    values = request.requestHeaders.getRawHeaders(name, [])
    return values[0].decode("latin-1") if values else None


def bearer(request: Request) -> str:
    """The token in `Authorization: Bearer`; empty when there is none."""
    scheme, _, token = (header(request, b"authorization") or "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def peer(end: IAddress) -> str:
    """The address of a connection's other end; empty when it has none."""
    return addresses.normal(getattr(end, "host", ""))


def _peer(request: Request) -> str:
    return peer(request.getClientAddress())


def _trusted(request: Request) -> Networks:
    return cast("ChatSite", request.site).trusted_proxies


def address(request: Request) -> str:
    """The address that a request came from: the peer's, or what a trusted proxy says."""
    lines = request.requestHeaders.getRawHeaders(b"x-forwarded-for", [])
    forwarded = [line.decode("latin-1") for line in lines]
    return addresses.client(_peer(request), forwarded, _trusted(request))


def within(request: Request, networks: Networks) -> bool:
    """
    Whether a request came from some networks.

    One that says that it was relayed, by a proxy that is not trusted, came
    from anywhere.
    """
    relayed = any(map(request.requestHeaders.hasHeader, _RELAYED))
    if relayed and _peer(request) not in _trusted(request):
        return False
    return address(request) in networks


def read(body_type: type[Body], request: Request) -> Body:
    """A request's JSON body.  Raises `Answer` (400)."""
    try:
        return wire.decode(msgspec.json.Decoder(body_type), request.content.read())  # type: ignore[union-attr]  # a request that is processed has content
    except wire.Malformed as error:
        raise Answer(str(error), HTTPStatus.BAD_REQUEST) from None


def respond(request: Request, answer: Answer) -> None:
    """Answer a request, once."""
    request.setResponseCode(answer.status, answer.status.phrase.encode())
    for name, value in answer.headers.items():
        request.setHeader(name.replace("_", "-"), value)
    if isinstance(answer.body, bytes):
        content_type, body = "application/octet-stream", answer.body
    elif isinstance(answer.body, str):
        content_type, body = "text/plain; charset=utf-8", answer.body.encode() + b"\n"
    else:
        content_type, body = "application/json", msgspec.json.encode(answer.body)
    if answer.status is not HTTPStatus.NO_CONTENT:
        request.setHeader("content-type", answer.headers.get("content_type", content_type))
        request.setHeader("content-length", str(len(body)))
        request.write(b"" if request.method == b"HEAD" else body)
    request.finish()


class Endpoint(Resource):
    """One path: a handler for each method."""

    isLeaf = True

    def __init__(self, **handlers: Handler) -> None:
        super().__init__()
        if "GET" in handlers:
            handlers["HEAD"] = handlers["GET"]
        self._handlers = handlers

    def render(self, request: Request) -> int:
        """Answer, now or later; never with a traceback, and never twice."""
        gone: list[Failure] = []
        request.notifyFinish().addErrback(gone.append)
        answer = Deferred.fromCoroutine(self._answer(request))
        answer.addErrback(_refusal)
        answer.addCallback(lambda answer: None if gone else respond(request, answer))
        return NOT_DONE_YET

    async def _answer(self, request: Request) -> Answer:
        if request.postpath:
            raise Answer("Not found.", HTTPStatus.NOT_FOUND)
        handler = self._handlers.get(request.method.decode("ascii", "replace"))
        if handler is None:
            allowed = ", ".join(self._handlers)
            raise Answer("Method not allowed.", HTTPStatus.METHOD_NOT_ALLOWED, allow=allowed)
        answer = handler(request)
        return answer if isinstance(answer, Answer) else await answer


def _refusal(failure: Failure) -> Answer:
    if isinstance(failure.value, Answer):
        return failure.value
    if isinstance(failure.value, AccountError):
        return Answer(failure.value.text, failure.value.status)
    if failure.check(DiskFull):
        text = "The server's disk is full. Please try again later."
        return Answer(text, HTTPStatus.INSUFFICIENT_STORAGE)
    log.failure("a request failed", failure)
    return Answer("The server had a fault.", HTTPStatus.INTERNAL_SERVER_ERROR)


class _NotFound(Endpoint):
    """A path that leads nowhere, whatever the method."""

    async def _answer(self, request: Request) -> Answer:
        return Answer("Not found.", HTTPStatus.NOT_FOUND)


class Tree(Resource):
    """A path that only leads to others."""

    def __init__(self, children: Mapping[str, IResource]) -> None:
        super().__init__()
        for name, child in children.items():
            self.putChild(name.encode(), child)

    def getChild(self, path: bytes, request: Request) -> IResource:
        return _NotFound()

    def render(self, request: Request) -> int:
        return _NotFound().render(request)


class ByUser(Resource):
    """A path whose next part is a user's id."""

    def __init__(self, answer: Callable[[str], Answer]) -> None:
        super().__init__()
        self._answer = answer

    def getChild(self, path: bytes, request: Request) -> IResource:
        user_id = path.decode("utf-8", "replace")
        return Endpoint(GET=lambda _: self._answer(user_id))

    def render(self, request: Request) -> int:
        return _NotFound().render(request)


def listed(origin: str, origins: frozenset[str]) -> bool:
    """Whether pages of an origin are among those that may talk to the server."""
    return "*" in origins or origin.lower() in origins


class ChatRequest(Request):
    """A request whose body is bounded; pages that are listed may read the answer."""

    #: What is read, and thrown away, of a body that is too long, so that its sender sees why.
    _PATIENCE: Final = 16 * MAX_BODY

    _body_size = 0

    def handleContentChunk(self, data: bytes) -> None:
        self._body_size += len(data)
        if self._body_size <= MAX_BODY:
            super().handleContentChunk(data)
        elif self._body_size > self._PATIENCE:  # over TLS an end in good order is waited for
            cast("ChatChannel", self.channel).transport.abortConnection()

    def render(self, resrc: IResource) -> None:
        """Set what every answer has, and answer what no resource needs to see."""
        site = cast("ChatSite", self.site)
        for name, value in site.headers.items():
            self.setHeader(name, value)
        answer = self._answer(header(self, b"origin"), site.allowed_origins)
        if answer is None:
            super().render(resrc)
        else:
            respond(self, answer)

    def _answer(self, origin: str | None, origins: frozenset[str]) -> Answer | None:
        if origin is not None and listed(origin, origins):
            self.setHeader("access-control-allow-origin", origin)
            self.setHeader("vary", "origin")
            if self.method == b"OPTIONS":
                self.setHeader("access-control-allow-methods", "GET, POST")
                self.setHeader("access-control-allow-headers", "authorization, content-type")
                return Answer("", HTTPStatus.NO_CONTENT)
        elif origin is not None and self.method == b"POST":
            return Answer("Pages of this origin may not do that.", HTTPStatus.FORBIDDEN)
        if self._body_size > MAX_BODY:
            text = f"The body is longer than {MAX_BODY} bytes."
            return Answer(text, HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        return None


@provider(ILogObserver)
def _discard(event: LogEvent) -> None:
    """Nobody needs it."""


class ChatChannel(HTTPChannel):
    """One connection, as long as it speaks HTTP."""

    #: Twisted writes a line for each connection that is timed out: whoever floods us fills the log.
    _log = Logger(namespace="wschat.http", observer=_discard)

    site: ChatSite
    transport: Any
    _place: tuple[str | None] | None = None

    def connectionMade(self) -> None:
        """Begin, unless too many have begun already."""
        super().connectionMade()
        if self._place is None:
            self._place = self.site.enter(peer(self.transport.getPeer()))
        if self._place is None:
            self.transport.abortConnection()

    def go_on(self, place: tuple[str | None], transport: Any, waited: float) -> None:
        """Have a connection that has its place, and of which so many seconds are over."""
        self._place = place
        hand_over(transport, self)
        self.setTimeout(max(0.0, REQUEST_TIMEOUT - waited))
        self.timeOut = REQUEST_TIMEOUT  # of the requests that follow

    def left(self) -> None:
        """It speaks HTTP no more."""
        if self._place is not None:
            self.site.places.leave(*self._place)
            self._place = None

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.left()
        super().connectionLost(reason)
        self.requests.clear()  # they know the channel: only the garbage collector would find them

    def loseConnection(self) -> None:
        """End it.  Over TLS what the peer sends until then would still be handed on."""
        super().loseConnection()
        self.dataReceived = lambda data: None  # type: ignore[method-assign]

    def requestDone(self, request: Request) -> None:
        """Go on with the next one, unless nobody reads the answers: they would fill the memory."""
        if self._waitingForTransport and (self._dataBuffer or self._buffer):
            self.persistent = False
        super().requestDone(request)

    def lineLengthExceeded(self, line: bytes) -> None:
        """Nobody waits for a line that may have no end; Twisted would, as long as it comes."""
        self.transport.abortConnection()

    def resetTimeout(self) -> None:
        """Nothing: who sends a byte now and then does not get more time for a request."""


def hand_over(transport: Any, protocol: IProtocol) -> None:
    """Give a connection to another protocol."""
    if isinstance(transport, ProtocolWrapper):  # TLS
        transport.wrappedProtocol = protocol
    else:
        transport.protocol = protocol
    protocol.makeConnection(transport)


class ChatSite(Site):
    """A listener's resources, without twisted.web's access log: its lines would hold tokens."""

    noisy = False
    protocol: Callable[[], Any] = ChatChannel

    def __init__(
        self,
        root: IResource,
        *,
        allowed_origins: frozenset[str],
        trusted_proxies: Networks,
        places: Occupancy,
        meters: Meters,
        lasting_tls: bool = False,
        begin: Callable[[ChatSite], IProtocol] | None = None,
    ) -> None:
        """
        `begin` makes what sees a connection's first bytes, unless that is HTTP's own.

        `places` has room for so many connections that are no WebSockets (yet).

        With `lasting_tls` browsers are told that this host has TLS for good:
        its certificate is one that they believe in.
        """
        super().__init__(root, requestFactory=ChatRequest, timeout=REQUEST_TIMEOUT)
        self.allowed_origins = allowed_origins
        self.trusted_proxies = trusted_proxies
        self.places = places
        self.meters = meters
        self.begin = begin
        self.headers = {"server": f"wschat/{wschat.__version__}", **_SECURITY_HEADERS}
        if lasting_tls:
            self.headers["strict-transport-security"] = "max-age=31536000"

    def buildProtocol(self, addr: IAddress | None) -> Any:
        """What a connection begins with."""
        return self.channel(addr) if self.begin is None else self.begin(self)

    def channel(self, addr: IAddress | None = None) -> Any:
        """What speaks HTTP on a connection."""
        return super().buildProtocol(addr)

    def enter(self, peer: str) -> tuple[str | None] | None:
        """Give a connection of `peer` its place, for `places.leave`; None when there is none."""
        counted = None if peer in self.trusted_proxies else addresses.counted(peer)
        if not self.places.room(counted):
            self.meters.limited["connections"] += 1
            return None
        self.places.enter(counted)
        return (counted,)

    def acceptableProtocols(self) -> list[bytes]:
        """HTTP/1.1 alone: a WebSocket is an upgrade of it."""
        return [b"http/1.1"]

    def log(self, request: object) -> None:
        """Nothing."""
