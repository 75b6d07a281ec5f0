"""
The HTTP side: accounts, active users, health (docs/protocol.md, "HTTP").

Each resource is a dict of methods; one place reads bodies and writes
answers, and turns every refusal into a status and one readable line.
"""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any, Final, TypeVar, cast

import msgspec
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel
from twisted.web.resource import IResource, Resource
from twisted.web.server import NOT_DONE_YET, Request, Site

import wschat
from wschat import rotation, wire
from wschat.accounts import AccountError, Accounts, Registration, security
from wschat.hub import Registry
from wschat.identity import User, encode_base64
from wschat.limits import KeyedLimiter
from wschat.store import DiskFull

#: The longest request body, in bytes.
MAX_BODY: Final = 64 * 1024

#: How long a connection may say nothing before its request is complete, in seconds.
IDLE_TIMEOUT: Final = 10

_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::\d{1,5})?")

Body = TypeVar("Body")

log = Logger(namespace="wschat.web")


class Answer(Exception):
    """What a request gets: a status, and a body that is JSON unless it is text."""

    def __init__(self, body: object, status: HTTPStatus = HTTPStatus.OK, **headers: str) -> None:
        super().__init__(status)
        self.status = status
        self.body = body
        self.headers = headers


Handler = Callable[[Request], "Answer | Awaitable[Answer]"]


class _Verify(msgspec.Struct):
    user_id: str
    signature: str


class _Login(msgspec.Struct):
    user_id: str


def address(request: Request) -> str:
    """The peer's address, the same for IPv4 however it came in."""
    host = getattr(request.getClientAddress(), "host", "")
    try:
        parsed = ipaddress.ip_address(host)
    except ValueError:
        return host
    return str(getattr(parsed, "ipv4_mapped", None) or parsed)


def _limited(request: Request) -> str:
    """What a rate is counted for: an IPv4 address, or the network that one host of IPv6 has."""
    peer = address(request)
    return str(ipaddress.ip_network(f"{peer}/64", strict=False)) if ":" in peer else peer


def header(request: Request, name: bytes) -> str | None:
    """A header of a request as text, whatever bytes it has; the first one of that name."""
    values = request.requestHeaders.getRawHeaders(name, [])
    return values[0].decode("latin-1") if values else None


def _loopback(request: Request) -> bool:
    try:
        return ipaddress.ip_address(address(request)).is_loopback
    except ValueError:
        return False


def _read(body_type: type[Body], request: Request) -> Body:
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
    if isinstance(answer.body, str):
        content_type, body = "text/plain; charset=utf-8", answer.body.encode() + b"\n"
    else:
        content_type, body = "application/json", msgspec.json.encode(answer.body)
    if answer.status is not HTTPStatus.NO_CONTENT:
        request.setHeader("content-type", content_type)
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


class _Tree(Resource):
    """A path that only leads to others."""

    def __init__(self, children: Mapping[str, IResource]) -> None:
        super().__init__()
        for name, child in children.items():
            self.putChild(name.encode(), child)

    def getChild(self, path: bytes, request: Request) -> IResource:
        return _NotFound()

    def render(self, request: Request) -> int:
        return _NotFound().render(request)


class _ByUser(Resource):
    """A path whose next part is a user's id."""

    def __init__(self, answer: Callable[[str], Answer]) -> None:
        super().__init__()
        self._answer = answer

    def getChild(self, path: bytes, request: Request) -> IResource:
        user_id = path.decode("utf-8", "replace")
        return Endpoint(GET=lambda _: self._answer(user_id))

    def render(self, request: Request) -> int:
        return _NotFound().render(request)


class Web:
    """What the HTTP resources answer with."""

    def __init__(
        self,
        accounts: Accounts,
        registry: Registry,
        wall: Callable[[], float],
        login_rate: float,
        registration_rate: float,
    ) -> None:
        """`wall` gives seconds since the epoch; the rates are by address and minute."""
        self._accounts = accounts
        self._registry = registry
        self._wall = wall
        # A login is two requests, so each half is counted by itself.
        self._challenges = KeyedLimiter(login_rate / 60, max(1.0, login_rate))
        self._verifications = KeyedLimiter(login_rate / 60, max(1.0, login_rate))
        self._registrations = KeyedLimiter(registration_rate / 60, max(1.0, registration_rate))

    def secure(self, websocket: IResource) -> Resource:
        """The resources of the TLS listener."""
        user = _ByUser(self._user)
        exists = _ByUser(self._exists)
        auth = _Tree(
            {
                "register": Endpoint(POST=self._register),
                "login": Endpoint(POST=self._login),
                "rotate": Endpoint(POST=self._rotate),
                "check-userid": exists,
                "users": user,
            }
        )
        return _Tree(
            {
                "health": Endpoint(GET=self._health),
                "active-users": Endpoint(GET=self._active_users),
                "auth": auth,
                "ws": websocket,
            }
        )

    def plain(self, tls_port: Callable[[], int]) -> Resource:
        """The resources of the plain listener; all but health and loopback's leads to TLS."""
        return _Plain(
            {
                b"/health": Endpoint(GET=self._health),
                b"/active-users": Endpoint(GET=self._active_users),
            },
            tls_port,
        )

    def _health(self, request: Request) -> Answer:
        return Answer({"status": "healthy", "service": "wschat", "version": wschat.__version__})

    def _active_users(self, request: Request) -> Answer:
        online = sorted(self._registry.users)
        offline = sorted(self._accounts.users.keys() - set(online))
        return Answer({"online": online, "offline": offline})

    def _exists(self, user_id: str) -> Answer:
        return Answer({"exists": user_id in self._accounts.users})

    def _user(self, user_id: str) -> Answer:
        return Answer(_public(self._accounts.user(user_id)))

    def _within(self, limiter: KeyedLimiter, request: Request) -> None:
        peer, now = _limited(request), self._wall()
        if not limiter.allow(peer, now):
            security.warn("too many requests from {address}", address=peer)
            wait = math.ceil(limiter.wait(peer, now))
            raise Answer(
                f"Too many requests. Please try again in {wait} s.",
                HTTPStatus.TOO_MANY_REQUESTS,
                retry_after=str(wait),
            )

    async def _register(self, request: Request) -> Answer:
        self._within(self._registrations, request)
        user = await self._accounts.register(_read(Registration, request), self._wall())
        return Answer(f"User {user.user_id} registered.", HTTPStatus.CREATED)

    async def _rotate(self, request: Request) -> Answer:
        self._within(self._verifications, request)
        user = await self._accounts.rotate(_read(rotation.Request, request), self._wall())
        return Answer(f"User {user.user_id} has new keys.")

    def _login(self, request: Request) -> Answer:
        now = self._wall()
        if request.args.get(b"verify") == [b"true"]:
            self._within(self._verifications, request)
            verify = _read(_Verify, request)
            return Answer(self._accounts.login(verify.user_id, verify.signature, now))
        self._within(self._challenges, request)
        challenge = self._accounts.challenge(_read(_Login, request).user_id, now)
        return Answer({"challenge": encode_base64(challenge)})


def _public(user: User) -> dict[str, Any]:
    """What everybody may know of a user."""
    public: dict[str, Any] = {
        "user_id": user.user_id,
        "username": user.username,
        "public_key": user.public_key,
        "created_at": wire.format_time(user.created_at),
    }
    if user.x25519_public_key is not None:
        public["x25519_public_key"] = user.x25519_public_key
    if user.rotations is not None:
        public["rotations"] = msgspec.Raw(user.rotations.encode())
    return public


class _Plain(Resource):
    """The plain listener: a few answers, and a redirect for the rest."""

    isLeaf = True

    def __init__(self, here: Mapping[bytes, IResource], tls_port: Callable[[], int]) -> None:
        super().__init__()
        self._here = here
        self._redirect = _Redirect(tls_port)

    def render(self, request: Request) -> Any:
        here = self._here.get(request.path)
        if here is None or (request.path != b"/health" and not _loopback(request)):
            here = self._redirect
        request.postpath = []
        return here.render(request)


class _Redirect(Endpoint):
    """308 to the same path on https, whatever the method (RFC 9110 section 15.4.9)."""

    def __init__(self, tls_port: Callable[[], int]) -> None:
        super().__init__()
        self._tls_port = tls_port

    async def _answer(self, request: Request) -> Answer:
        host = _HOST.fullmatch(header(request, b"host") or "")
        if host is None:
            return Answer("The Host header is missing or wrong.", HTTPStatus.BAD_REQUEST)
        port = self._tls_port()
        authority = host[1] if port == 443 else f"{host[1]}:{port}"
        target = request.uri.decode("ascii", "replace")
        if not target.startswith("/"):
            target = "/"
        return Answer(
            "This is on https.",
            HTTPStatus.PERMANENT_REDIRECT,
            location=f"https://{authority}{target}",
        )


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
        elif self._body_size > self._PATIENCE:
            self.channel.loseConnection()

    def render(self, resrc: IResource) -> None:
        """Set what every answer has, and answer what no resource needs to see."""
        self.setHeader("server", f"wschat/{wschat.__version__}")
        self.setHeader("x-content-type-options", "nosniff")
        self.setHeader("cache-control", "no-store")
        origin, site = header(self, b"origin"), cast("ChatSite", self.site)
        if origin is not None and listed(origin, site.allowed_origins):
            self.setHeader("access-control-allow-origin", origin)
            self.setHeader("vary", "origin")
            if self.method == b"OPTIONS":
                self.setHeader("access-control-allow-methods", "GET, POST")
                self.setHeader("access-control-allow-headers", "authorization, content-type")
                respond(self, Answer("", HTTPStatus.NO_CONTENT))
                return
        if self._body_size > MAX_BODY:
            text = f"The body is longer than {MAX_BODY} bytes."
            respond(self, Answer(text, HTTPStatus.REQUEST_ENTITY_TOO_LARGE))
            return
        super().render(resrc)


class _Channel(HTTPChannel):
    """HTTP on one connection; nothing that comes after the server has ended it counts."""

    def loseConnection(self) -> None:
        """End it.  Over TLS what the peer sends until then would still be handed on."""
        super().loseConnection()
        self.dataReceived = lambda data: None  # type: ignore[method-assign]

    def lineLengthExceeded(self, line: bytes) -> None:
        """A line that may have no end is read no further; Twisted would, as long as it comes."""
        self.loseConnection()


class ChatSite(Site):
    """A listener's resources, without twisted.web's access log: its lines would hold tokens."""

    noisy = False
    protocol = _Channel  # type: ignore[assignment]  # Twisted's own is a choice with HTTP/2

    def __init__(self, root: IResource, allowed_origins: frozenset[str] = frozenset()) -> None:
        super().__init__(root, requestFactory=ChatRequest, timeout=IDLE_TIMEOUT)
        self.allowed_origins = allowed_origins

    def acceptableProtocols(self) -> list[bytes]:
        """HTTP/1.1 alone: a WebSocket is an upgrade of it."""
        return [b"http/1.1"]

    def log(self, request: object) -> None:
        """Nothing."""
