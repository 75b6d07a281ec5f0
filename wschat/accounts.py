"""
Accounts: registration, login by challenge, tokens.

Every method takes `now`, in seconds since the epoch.  Refusals are
`AccountError`s, each with an HTTP status and a line for the peer.
"""

from __future__ import annotations

import base64
import contextlib
import hmac
import secrets
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from http import HTTPStatus
from typing import Any, Final

import jwt
import msgspec
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from wschat import identity, rotation, wire
from wschat.identity import User
from wschat.users import KeyReplaced, UserExists, Users

#: How long a challenge can be answered, in seconds.
CHALLENGE_LIFETIME: Final = 60.0

#: How far the time of a rotation may be from the server's, in seconds.
ROTATION_SKEW: Final = 300.0

_CHALLENGE_BYTES: Final = 32
_MAX_ROTATIONS: Final = rotation.MOST
_CHALLENGES_PER_USER: Final = 64
_ALGORITHM: Final = "HS256"


class _Claims(msgspec.Struct, forbid_unknown_fields=True):
    """What our tokens claim, and no more."""

    user_id: str
    key: str
    iat: int
    exp: int


_CLAIMS: Final = msgspec.json.Decoder(_Claims)


class AccountError(Exception):
    """A refusal: an HTTP status, and one line that says why."""

    def __init__(self, status: HTTPStatus, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


class Registration(msgspec.Struct):
    """What a client sends to register (docs/protocol.md, "Accounts")."""

    user_id: str
    public_key: str
    username: str = ""
    x25519_public_key: str | None = None


class Token(msgspec.Struct, frozen=True):
    """A login: the JWT, and when it ends, as RFC 3339."""

    token: str
    expires_at: str


class Challenges:
    """
    What users were asked to sign: random, for one user, once, for a minute.

    A user may have a few outstanding, so that nobody who asks for a challenge
    in another's name takes away the one that the other is about to answer.
    """

    def __init__(self) -> None:
        # By age: every challenge lives equally long, so the oldest end first.
        self._issued: OrderedDict[bytes, tuple[str, float]] = OrderedDict()
        self._by_user: dict[str, list[bytes]] = {}

    def issue(self, user_id: str, now: float) -> bytes:
        """A new challenge for a user: 32 random bytes."""
        self._expire(now)
        challenge = secrets.token_bytes(_CHALLENGE_BYTES)
        outstanding = self._by_user.get(user_id, [])
        if len(outstanding) >= _CHALLENGES_PER_USER:
            self._forget(outstanding[0])
        self._issued[challenge] = (user_id, now + CHALLENGE_LIFETIME)
        self._by_user.setdefault(user_id, []).append(challenge)
        return challenge

    def outstanding(self, user_id: str, now: float) -> list[bytes]:
        """The challenges a user can still answer."""
        self._expire(now)
        issued = self._by_user.get(user_id, ())
        # Set back a little, the clock lets one that was issued later end earlier.
        return [challenge for challenge in issued if self._alive(challenge, now)]

    def _alive(self, challenge: bytes, now: float) -> bool:
        _, expires = self._issued[challenge]
        return now < expires <= now + CHALLENGE_LIFETIME

    def use(self, challenge: bytes) -> None:
        """A challenge was answered; it cannot be answered again."""
        self._forget(challenge)

    def _expire(self, now: float) -> None:
        while self._issued:
            challenge = next(iter(self._issued))
            if self._alive(challenge, now):
                return
            self._forget(challenge)

    def _forget(self, challenge: bytes) -> None:
        user_id, _ = self._issued.pop(challenge)
        outstanding = self._by_user[user_id]
        outstanding.remove(challenge)
        if not outstanding:
            del self._by_user[user_id]


class Accounts:
    """Who has an account, and who proved to be whom."""

    def __init__(
        self,
        kept: Users,
        jwt_secret: str,
        token_lifetime: float,
        registration_open: bool,
        administrators: frozenset[str] = frozenset(),
    ) -> None:
        """`kept` has the users on disk; nobody can take the `administrators`' ids from outside."""
        self._kept = kept
        self.administrators = administrators
        # A text is looked at each time: it may be a key of another kind. This is known to be none.
        self._secret = jwt_secret.encode()
        encoded = _base64(self._secret).decode()
        self._key = jwt.PyJWK({"kty": "oct", "k": encoded}, _ALGORITHM)
        self._header = jwt.encode({}, self._key, _ALGORITHM).partition(".")[0] + "."
        self._lifetime = token_lifetime
        self.registration_open = registration_open
        self._challenges = Challenges()
        #: Every registered user, by id: asked about on the way of each message.
        self.users: dict[str, User] = {}
        #: Told of users who have new keys.
        self.rotated: Callable[[str], None] = lambda user_id: None

    def load(self, users: Iterable[User]) -> None:
        """Take the users that the store has; before anything else is asked."""
        self.users.update({user.user_id: user for user in users})

    def changed(self, user_id: str, user: User | None) -> None:
        """An operator has changed a user, or removed them."""
        if user is None:
            self.users.pop(user_id, None)
        else:
            self.users[user_id] = user

    def user(self, user_id: str) -> User:
        """A registered user.  Raises `AccountError` (404)."""
        user = self.users.get(user_id)
        if user is None:
            raise AccountError(HTTPStatus.NOT_FOUND, "User not found.")
        return user

    def register(self, wanted: Registration, now: float) -> Deferred[User]:
        """
        Make an account.

        Raises `AccountError`: 403 when registration is closed, and for an
        administrator's id, 400 for a name
        or key that is none; the Deferred fails with it (409) for a taken id.
        """
        if not self.registration_open:
            raise AccountError(HTTPStatus.FORBIDDEN, "Registration is closed.")
        user = _checked(wanted, now)
        if user.user_id in self.users:
            raise _taken(user.user_id)
        if user.user_id in self.administrators:  # or the first to come would be one
            raise AccountError(HTTPStatus.FORBIDDEN, "This user id is an administrator's.")
        return self._kept.add(user).addCallbacks(
            self._registered, _registration_failed, callbackArgs=(user,)
        )

    def _registered(self, _: None, user: User) -> User:
        self.users[user.user_id] = user
        return user

    def rotate(self, wanted: rotation.Request, now: float) -> Deferred[User]:
        """
        Give a user new keys, which their old one vouches for.

        Raises `AccountError`: 401 for an unknown user or a wrong signature,
        400 for keys that are none or were theirs before, and for a time that
        is not now; the Deferred fails with it (409) when the old key is
        theirs no more.
        """
        user = self.users.get(wanted.user_id)
        if user is None:
            raise AccountError(HTTPStatus.UNAUTHORIZED, "Unknown user.")
        renewed = _renewed(user, wanted.step, now)
        return self._kept.rotate(renewed, wanted.step.old_public_key).addCallbacks(
            self._replaced, _rotation_failed, callbackArgs=(renewed,)
        )

    def _replaced(self, _: None, user: User) -> User:
        known = self.users.get(user.user_id)
        if known is None:  # an operator was quicker
            raise AccountError(HTTPStatus.UNAUTHORIZED, "Unknown user.")
        theirs = {"disabled_at": known.disabled_at, "signed_out_at": known.signed_out_at}
        user = self.users[user.user_id] = msgspec.structs.replace(user, **theirs)
        self.rotated(user.user_id)
        return user

    def challenge(self, user_id: str, now: float) -> bytes:
        """
        A challenge for a user to sign.

        Raises `AccountError`: 401 for an unknown one, 403 for one who is
        disabled.
        """
        user = self.users.get(user_id)
        if user is None:
            raise AccountError(HTTPStatus.UNAUTHORIZED, "Unknown user.")
        _check_enabled(user)
        return self._challenges.issue(user_id, now)

    def login(self, user_id: str, signature: str, now: float) -> Token:
        """
        A token for the user who signed one of their outstanding challenges.

        Raises `AccountError`: 401 for an unknown user or a wrong signature,
        403 for one who is disabled, 400 when there is nothing to answer.
        """
        user = self.users.get(user_id)
        if user is None:
            raise AccountError(HTTPStatus.UNAUTHORIZED, "Unknown user.")
        outstanding = self._challenges.outstanding(user_id, now)
        if not outstanding:
            raise AccountError(
                HTTPStatus.BAD_REQUEST, "No challenge outstanding: ask for one, then answer it."
            )
        for challenge in reversed(outstanding):
            if identity.verify(user.public_key, challenge, signature):
                self._challenges.use(challenge)
                _check_enabled(user)
                return self.token(user, now)
        raise AccountError(HTTPStatus.UNAUTHORIZED, "The signature does not fit the challenge.")

    def administrator(self, token: str, now: float) -> User:
        """The administrator whose token this is.  Raises what `check` does, and 403 for others."""
        user = self.authenticate(token, now)
        if user.user_id not in self.administrators:
            raise AccountError(HTTPStatus.FORBIDDEN, "This is for administrators.")
        return user

    def token(self, user: User, now: float) -> Token:
        """A token for a user, whatever they proved."""
        expires = int(now + self._lifetime)
        claims = {
            "user_id": user.user_id,
            "key": user.public_key,
            "iat": int(now),
            "exp": expires,
        }
        return Token(jwt.encode(claims, self._key, algorithm=_ALGORITHM), wire.format_time(expires))

    def authenticate(self, token: str, now: float) -> User:
        """The user whose token this is.  Raises what `check` does."""
        return self.check(token, now)[0]

    def check(self, token: str, now: float) -> tuple[User, float]:
        """
        The user whose token this is, and when it ends.

        Raises `AccountError` (401) for a token that is wrong or has ended,
        for one that was given for an earlier key or for a login that an
        operator has ended, and when the user is gone; 403 for one who is
        disabled.
        """
        try:
            claims = self._claims(token)
            expires, user_id = float(claims["exp"]), claims["user_id"]
            issued = float(claims.get("iat", 0))
        except (jwt.PyJWTError, KeyError, TypeError, ArithmeticError, ValueError, RecursionError):
            raise AccountError(HTTPStatus.UNAUTHORIZED, "The token is not valid.") from None
        if expires <= now:
            raise AccountError(HTTPStatus.UNAUTHORIZED, "The token has ended: log in again.")
        user = self.users.get(user_id) if isinstance(user_id, str) else None
        if user is None:
            raise AccountError(HTTPStatus.UNAUTHORIZED, "The token's user is gone.")
        first = user.public_key if user.rotations is None else None
        if claims.get("key", first) != user.public_key:
            raise AccountError(HTTPStatus.UNAUTHORIZED, "The token is of an earlier key: log in.")
        # A token knows its second alone: one of the same second may be of before.
        if user.signed_out_at is not None and issued <= int(user.signed_out_at):
            raise AccountError(HTTPStatus.UNAUTHORIZED, "The login was ended: log in again.")
        _check_enabled(user)
        return user, expires

    def _claims(self, token: str) -> Mapping[str, Any]:
        """What a token claims.  Raises what PyJWT does for one that is not valid."""
        signed, _, signature = token.rpartition(".")
        if signed.startswith(self._header):  # as we make them: it takes no more to know it
            expected = hmac.digest(self._secret, signed.encode(), "sha256")
            if hmac.compare_digest(_base64(expected), signature.encode()):
                payload = signed[len(self._header) :]
                padded = payload + "=" * (-len(payload) % 4)
                with contextlib.suppress(ValueError, msgspec.DecodeError):
                    return msgspec.structs.asdict(_CLAIMS.decode(base64.urlsafe_b64decode(padded)))
        return jwt.decode(
            token,
            self._key,
            algorithms=[_ALGORITHM],
            # The times are compared here, against the one clock of the server.
            options={"require": ["exp"], "verify_exp": False, "verify_iat": False},
        )


def _base64(data: bytes) -> bytes:
    """As tokens and keys have it: URL-safe, without padding (RFC 7515 section 2)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def _check_enabled(user: User) -> None:
    if user.disabled_at is not None:
        raise AccountError(HTTPStatus.FORBIDDEN, "The account is disabled.")


def _renewed(user: User, step: rotation.Rotation, now: float) -> User:
    """A user with the keys that a step leads to."""
    if step.old_public_key != user.public_key:
        raise AccountError(HTTPStatus.CONFLICT, "The old key is not this user's, or no more.")
    if not rotation.valid(user.user_id, step):
        raise AccountError(HTTPStatus.UNAUTHORIZED, "The signatures do not fit the new keys.")
    steps = [*rotation.chain(user.rotations), step]
    try:
        identity.check_public_key(step.public_key)
        identity.check_x25519_public_key(step.x25519_public_key)
    except identity.BadKey as error:
        raise AccountError(HTTPStatus.BAD_REQUEST, str(error)) from None
    if step.public_key in {known.old_public_key for known in steps}:
        raise AccountError(HTTPStatus.BAD_REQUEST, "The new key was this user's before.")
    if not wire.valid_timestamp(step.time) or abs(_seconds(step.time) - now) > ROTATION_SKEW:
        raise AccountError(HTTPStatus.BAD_REQUEST, "The time is not now: is a clock wrong?")
    if len(steps) > _MAX_ROTATIONS:
        raise AccountError(HTTPStatus.BAD_REQUEST, "The user has had too many keys.")
    return msgspec.structs.replace(
        user,
        public_key=step.public_key,
        x25519_public_key=step.x25519_public_key,
        rotations=msgspec.json.encode(steps).decode(),
    )


def _seconds(timestamp: str) -> float:
    return datetime.fromisoformat(timestamp).timestamp()


def _rotation_failed(failure: Failure) -> User:
    failure.trap(KeyReplaced)
    raise AccountError(HTTPStatus.CONFLICT, "The old key is not this user's any more.")


def _checked(wanted: Registration, now: float) -> User:
    if not wire.valid_user_id(wanted.user_id):
        raise AccountError(
            HTTPStatus.BAD_REQUEST,
            "user_id must be 1 to 64 characters of A-Z a-z 0-9 . _ - and not a reserved name.",
        )
    try:
        identity.check_username(wanted.username)
        identity.check_public_key(wanted.public_key)
        if wanted.x25519_public_key:
            identity.check_x25519_public_key(wanted.x25519_public_key)
    except (identity.BadName, identity.BadKey) as error:
        raise AccountError(HTTPStatus.BAD_REQUEST, str(error)) from None
    return User(
        wanted.user_id,
        wanted.username or wanted.user_id,
        wanted.public_key,
        wanted.x25519_public_key or None,
        now,
    )


def _taken(user_id: str) -> AccountError:
    return AccountError(HTTPStatus.CONFLICT, f"The user id {user_id} is taken.")


def _registration_failed(failure: Failure) -> User:
    failure.trap(UserExists)
    raise _taken(str(failure.value))
