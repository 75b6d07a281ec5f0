"""The HTTP side of a client: register, log in, ask who is there and whose key is whose."""

from __future__ import annotations

from collections import OrderedDict
from io import BytesIO
from typing import Annotated, Any, Final, NoReturn, TypeVar
from urllib.parse import quote

import msgspec
from OpenSSL import SSL
from service_identity import VerificationError
from twisted.internet import defer
from twisted.internet import error as errors
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import (
    Agent,
    FileBodyProducer,
    ResponseDone,
    ResponseFailed,
    ResponseNeverReceived,
)
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import IResponse

from wschat import wire
from wschat.client import tls
from wschat.client.settings import Settings
from wschat.identity import (
    BadKey,
    PrivateKey,
    check_public_key,
    check_x25519_public_key,
    decode_base64,
)
from wschat.rotation import MOST, Request, Rotation, rotate

#: How long the server may take to answer, in seconds.
TIMEOUT: Final = 10.0

_MAX_BODY: Final = 8 * 1024 * 1024
_REMEMBERED: Final = 10_000
_CHALLENGE_BYTES: Final = 32

Body = TypeVar("Body")


class ConnectionProblem(Exception):
    """The server cannot be reached, or is not trusted; one line says which, and what to do."""


class RequestRefused(Exception):
    """The server does not do what was asked of it; one line says why."""


class NotFound(RequestRefused):
    """There is no such thing."""


class _Exists(msgspec.Struct):
    exists: bool


class _Challenge(msgspec.Struct):
    challenge: str


class _Token(msgspec.Struct):
    token: str


class User(msgspec.Struct):
    """Somebody with an account, as the server tells of them; keys are base64."""

    user_id: str
    public_key: str
    username: str = ""
    x25519_public_key: str | None = None
    created_at: str = ""
    #: The steps from their first key to this one.
    rotations: Annotated[list[Rotation], msgspec.Meta(max_length=MOST)] = msgspec.field(
        default_factory=list
    )


class ActiveUsers(msgspec.Struct):
    """Who is connected, and who has an account and is not."""

    online: list[str]
    offline: list[str]


class Accounts:
    """One server's accounts, as one user sees them."""

    def __init__(self, reactor: Any, settings: Settings, key: PrivateKey) -> None:
        self._settings = settings
        self._key = key
        self._reactor = reactor
        self._agent = Agent(reactor, tls.Policy(settings.insecure_tls), connectTimeout=TIMEOUT)
        self._users: OrderedDict[str, User] = OrderedDict()

    async def login(self) -> str:
        """A token for the user, who is registered when the server does not know them.

        Raises `RequestRefused`, `ConnectionProblem`.
        """
        user_id = self._settings.user_id
        exists = await self._get(f"/auth/check-userid/{quote(user_id)}", _Exists)
        if not exists.exists:
            await self._register()
        wanted: dict[str, str] = {"user_id": user_id}
        challenge = (await self._post("/auth/login", wanted, _Challenge)).challenge
        signature = self._key.sign(_challenge(challenge))
        answer = {"user_id": user_id, "signature": signature, "challenge": challenge}
        return (await self._post("/auth/login?verify=true", answer, _Token)).token

    async def _register(self) -> None:
        registration = {
            "user_id": self._settings.user_id,
            "username": self._settings.username,
            "public_key": self._key.public_key,
            "x25519_public_key": self._key.x25519_public_key,
        }
        status, body = await self._request("POST", "/auth/register", registration)
        if status not in (201, 409):  # somebody else may have come first: the login will tell
            raise RequestRefused(_line(body) or f"The server answered {status}.")

    async def rotate(self, new: PrivateKey, now: float) -> None:
        """
        Have new keys.

        When that was refused, or nobody knows, the server is asked which keys
        it has.  Raises `RequestRefused` when it does not take them, and
        `ConnectionProblem` when it may have, or may yet.
        """
        user_id = self._settings.user_id
        step = rotate(user_id, self._key, new, wire.format_time(now))
        failure: ConnectionProblem | RequestRefused | None = None
        try:
            status, body = await self._request("POST", "/auth/rotate", Request(user_id, step))
            if status != 200:
                failure = RequestRefused(_line(body) or f"The server answered {status}.")
        except ConnectionProblem as problem:
            failure = problem
        self.forget(user_id)
        if failure is not None:
            user = await self.user(user_id)
            self.forget(user_id)
            if user is None or user.public_key != new.public_key:
                raise failure
        self._key = new

    async def active_users(self) -> ActiveUsers:
        """Who is there.  Raises `ConnectionProblem`."""
        return await self._get("/active-users", ActiveUsers)

    async def user(self, user_id: str) -> User | None:
        """Somebody's account; None when there is none.  Raises `ConnectionProblem`."""
        if not wire.valid_user_id(user_id):
            return None
        if user_id not in self._users:
            try:
                user = await self._get(f"/auth/users/{quote(user_id)}", User)
            except NotFound:
                return None  # they may have one soon
            _check_keys(user)
            self._users[user_id] = user
            if len(self._users) > _REMEMBERED:
                self._users.popitem(last=False)
        return self._users[user_id]

    def forget(self, user_id: str | None) -> None:
        """Ask the server again when somebody asks for a user, or (None) for anybody."""
        if user_id is None:
            self._users.clear()
        else:
            self._users.pop(user_id, None)

    async def _get(self, path: str, body_type: type[Body]) -> Body:
        return _read(body_type, *await self._request("GET", path))

    async def _post(self, path: str, json: dict[str, str], body_type: type[Body]) -> Body:
        return _read(body_type, *await self._request("POST", path, json))

    async def _request(self, method: str, path: str, json: object = None) -> tuple[int, bytes]:
        where = self._settings.authority
        headers = Headers({"content-type": ["application/json"]})
        body = None if json is None else FileBodyProducer(BytesIO(msgspec.json.encode(json)))
        uri = f"https://{where}{path}".encode("ascii")
        try:
            asked = self._agent.request(method.encode("ascii"), uri, headers, body)
            response: IResponse = await asked.addTimeout(TIMEOUT, self._reactor, _too_late)
            answer = _Body()
            response.deliverBody(answer)
            content = await answer.whole.addTimeout(TIMEOUT, self._reactor, _too_late)
        except (CancelledError, errors.ConnectingCancelledError):
            raise CancelledError from None
        except Exception as error:
            raise problem(where, error) from None
        return response.code, content


def _too_late(value: object, timeout: float) -> NoReturn:
    """What a time-out makes of a request, wherever it was."""
    raise defer.TimeoutError(timeout)


class _Body(Protocol):
    """Collects an answer's body, if that is not too long."""

    def __init__(self) -> None:
        self.whole: Deferred[bytes] = Deferred()
        self._received = bytearray()

    def dataReceived(self, data: bytes) -> None:
        self._received += data
        if len(self._received) > _MAX_BODY and self.transport is not None:
            self.transport.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if len(self._received) > _MAX_BODY:
            self.whole.errback(ConnectionProblem("The server's answer is too long."))
        elif reason.check(ResponseDone, PotentialDataLoss):
            self.whole.callback(bytes(self._received))
        else:
            self.whole.errback(reason)


def _read(body_type: type[Body], status: int, body: bytes) -> Body:
    if status == 404:
        raise NotFound(_line(body))
    if status != 200:
        raise RequestRefused(_line(body) or f"The server answered {status}.")
    try:
        return wire.decode(msgspec.json.Decoder(body_type), body)
    except wire.Malformed:
        raise ConnectionProblem("The server's answer cannot be read.") from None


def _challenge(text: str) -> bytes:
    """
    The random bytes that a server wants to have signed.

    A message, a command or new keys that it had signed in their place would
    be the user's for everybody.  None of those that are so short is anything
    but JSON, which no random bytes are.
    """
    try:
        challenge = decode_base64(text, _CHALLENGE_BYTES)
        wire.decode(_anything, challenge)
    except wire.Malformed:
        return challenge
    except ValueError:
        pass
    raise ConnectionProblem("The server sent a challenge that is none.")


_anything: Final = msgspec.json.Decoder()


def _check_keys(user: User) -> None:
    try:
        check_public_key(user.public_key)
        if user.x25519_public_key is not None:
            check_x25519_public_key(user.x25519_public_key)
    except BadKey as error:
        raise ConnectionProblem(f"The server's answer cannot be used: {error}") from None


def _line(body: bytes) -> str:
    """The first line of an answer."""
    return body.decode("utf-8", "replace").strip().partition("\n")[0][:300]


def problem(where: str, error: Exception) -> ConnectionProblem:
    """What went wrong on the way to a server, for its user to read."""
    if isinstance(error, ConnectionProblem):
        return error
    reasons: list[BaseException | None] = [error]
    if isinstance(error, ResponseNeverReceived | ResponseFailed):
        reasons = [failure.value for failure in error.reasons]
    return ConnectionProblem(f"{where}: {_reason(reasons)}")


def _reason(causes: list[BaseException | None]) -> str:
    for error in causes:
        for family, reason in _REASONS.items():
            if isinstance(error, family):
                return reason
        if isinstance(error, SSL.Error):
            untrusted = "certificate verify failed" in str(error)
            return _UNTRUSTED if untrusted else "does not speak TLS as it should."
    return f"{_line(str(causes[0]).encode()) or 'the connection was lost'}"


_UNTRUSTED: Final = (
    "the certificate is not trusted.  Name a file that vouches for it in "
    "SSL_CERT_FILE, or set INSECURE_TLS=true to skip the check."
)

_REASONS: Final[dict[type[BaseException], str]] = {
    VerificationError: (
        "the certificate is for another name.  Connect by a name that it has, "
        "or set INSECURE_TLS=true to skip the check."
    ),
    errors.DNSLookupError: "no such host.",
    errors.ConnectionRefusedError: "nobody listens there: the connection was refused.",
    errors.NoRouteError: "no way leads there.",
    defer.TimeoutError: f"no answer within {TIMEOUT:.0f} s.",
    errors.TimeoutError: f"no answer within {TIMEOUT:.0f} s.",
}
