"""
The HTTP resources: accounts, active users, health, and what operators look at.

docs/protocol.md, "HTTP", has them all.
"""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Callable, Iterator, Mapping
from http import HTTPStatus
from typing import Any, Final

import msgspec
from twisted.web.resource import IResource, Resource
from twisted.web.server import Request

import wschat
from wschat import addresses, rotation, wire
from wschat.accounts import AccountError, Accounts, Registration
from wschat.addresses import LOOPBACK, Networks
from wschat.http import Answer, ByUser, Endpoint, Tree, address, header, read, within
from wschat.hub import Registry
from wschat.identity import User, encode_base64
from wschat.limits import KeyedLimiter
from wschat.meters import Meters
from wschat.monitoring import Monitoring
from wschat.security import Security

_HOST: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::\d{1,5})?")


class _Verify(msgspec.Struct):
    user_id: str
    signature: str


class _Login(msgspec.Struct):
    user_id: str


#: Whose list is always as of now, and how long that of more is kept, in seconds for each of them.
_FEW_USERS: Final = 5000
_LISTED_FOR: Final = 20e-6


class Web:
    """What the HTTP resources answer with."""

    def __init__(
        self,
        accounts: Accounts,
        registry: Registry,
        wall: Callable[[], float],
        login_rate: float,
        registration_rate: float,
        *,
        meters: Meters,
        security: Security,
        monitoring: Monitoring,
        analytics: IResource,
    ) -> None:
        """`wall` gives seconds since the epoch; the rates are by address and minute."""
        self._accounts = accounts
        self._registry = registry
        self._wall = wall
        self._meters = meters
        self._security = security
        self._monitoring = monitoring
        self._analytics = analytics
        self._listed, self._listed_at = b"", -math.inf
        # A login is two requests, so each half is counted by itself.
        self._challenges = KeyedLimiter(login_rate / 60, max(1.0, login_rate))
        self._verifications = KeyedLimiter(login_rate / 60, max(1.0, login_rate))
        self._registrations = KeyedLimiter(registration_rate / 60, max(1.0, registration_rate))

    def set_limits(self, login_rate: float, registration_rate: float) -> None:
        """Other rates, by address and minute, from now on."""
        for limiter in (self._challenges, self._verifications):
            limiter.set(login_rate / 60, max(1.0, login_rate))
        self._registrations.set(registration_rate / 60, max(1.0, registration_rate))

    def secure(self, websocket: IResource) -> Resource:
        """The resources of the TLS listener."""
        user = ByUser(self._user)
        exists = ByUser(self._exists)
        auth = Tree(
            {
                "register": Endpoint(POST=self._register),
                "login": Endpoint(POST=self._login),
                "rotate": Endpoint(POST=self._rotate),
                "check-userid": exists,
                "users": user,
            }
        )
        return Tree(
            {
                "health": Endpoint(GET=self._health),
                "ready": Endpoint(GET=self._monitoring.ready),
                "active-users": Endpoint(GET=self._active_users),
                "auth": auth,
                "metrics": Endpoint(GET=self._monitoring.metrics),
                "analytics": self._analytics,
                "ws": websocket,
            }
        )

    def plain(self, tls_port: Callable[[], int]) -> Resource:
        """The resources of the plain listener, each for some networks; the rest leads to TLS."""
        monitoring = self._monitoring
        return _Plain(
            {
                b"/health": (Endpoint(GET=self._health), None),
                b"/ready": (Endpoint(GET=monitoring.ready), None),
                b"/active-users": (Endpoint(GET=self._active_users), LOOPBACK),
                b"/metrics": (Endpoint(GET=monitoring.metrics), monitoring.readers),
            },
            tls_port,
        )

    def _health(self, request: Request) -> Answer:
        return Answer({"status": "healthy", "service": "wschat", "version": wschat.__version__})

    def _active_users(self, request: Request) -> Answer:
        """Anybody may ask, so what takes long for many users is made anew only now and then."""
        now = self._wall()
        age = now - self._listed_at
        users = len(self._accounts.users)
        if users < _FEW_USERS or not 0 <= age < users * _LISTED_FOR:
            online = sorted(self._registry.users)
            offline = sorted(self._accounts.users.keys() - set(online))
            self._listed = msgspec.json.encode({"online": online, "offline": offline})
            self._listed_at = now
        return Answer(self._listed, content_type="application/json")

    def _exists(self, user_id: str) -> Answer:
        return Answer({"exists": user_id in self._accounts.users})

    def _user(self, user_id: str) -> Answer:
        return Answer(_public(self._accounts.user(user_id)))

    def _within(self, limit: str, limiter: KeyedLimiter, request: Request) -> None:
        host, now = addresses.one_host(address(request)), self._wall()
        if not limiter.allow(host, now):
            self._meters.limited[limit] += 1
            wait = math.ceil(limiter.wait(host, now))
            raise Answer(
                f"Too many requests. Please try again in {wait} s.",
                HTTPStatus.TOO_MANY_REQUESTS,
                retry_after=str(wait),
            )

    @contextlib.contextmanager
    def _noted(self, event: str, request: Request) -> Iterator[_Note]:
        """Write down how it ended, and count it."""
        note, whence = _Note(), address(request)
        counts = self._meters.registrations if event == "registration" else self._meters.logins
        try:
            yield note
        except (AccountError, Answer) as refusal:
            text = refusal.text if isinstance(refusal, AccountError) else str(refusal.body)
            counts["failure"] += event != "rotation"
            self._security.refused(event, text, whence, note.user_id)
            raise
        if note.done:
            counts["success"] += event != "rotation"
            self._security.accepted(event, note.user_id, whence)

    async def _register(self, request: Request) -> Answer:
        with self._noted("registration", request) as note:
            self._within("registrations", self._registrations, request)
            wanted = read(Registration, request)
            note.user_id = wanted.user_id
            user = await self._accounts.register(wanted, self._wall())
            note.done = True
        return Answer(f"User {user.user_id} registered.", HTTPStatus.CREATED)

    async def _rotate(self, request: Request) -> Answer:
        with self._noted("rotation", request) as note:
            self._within("logins", self._verifications, request)
            wanted = read(rotation.Request, request)
            note.user_id = wanted.user_id
            user = await self._accounts.rotate(wanted, self._wall())
            note.done = True
        return Answer(f"User {user.user_id} has new keys.")

    def _login(self, request: Request) -> Answer:
        now = self._wall()
        with self._noted("login", request) as note:
            if request.args.get(b"verify") == [b"true"]:
                self._within("logins", self._verifications, request)
                verify = read(_Verify, request)
                note.user_id = verify.user_id
                token = self._accounts.login(verify.user_id, verify.signature, now)
                note.done = True
                return Answer(token)
            self._within("logins", self._challenges, request)
            note.user_id = read(_Login, request).user_id
            challenge = self._accounts.challenge(note.user_id, now)
            return Answer({"challenge": encode_base64(challenge)})


class _Note:
    """What is known of a request that is to be written down."""

    user_id = ""
    done = False


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

    def __init__(
        self,
        here: Mapping[bytes, tuple[IResource, Networks | None]],
        tls_port: Callable[[], int],
    ) -> None:
        super().__init__()
        self._here = here
        self._redirect = _Redirect(tls_port)

    def render(self, request: Request) -> Any:
        here, networks = self._here.get(request.path, (self._redirect, None))
        if networks is not None and not within(request, networks):
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
