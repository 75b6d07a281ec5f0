"""
Who others are to one user: whether to believe a message, and what to seal with.

It compares what the server says of people's keys with what is pinned
(wschat.client.trust): the server is asked, and not believed.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Final, Protocol

import msgspec
from twisted.logger import Logger

from wschat import envelope, identity, rotation, wire
from wschat.client import trust
from wschat.client.accounts import Accounts, ConnectionProblem, RequestRefused, User
from wschat.client.listener import Heard
from wschat.client.replays import Replays
from wschat.client.session import SealingKey
from wschat.client.settings import Settings
from wschat.client.trust import Former, Keys, KnownUsers, Pin, TrustError, Whois
from wschat.envelope import Authenticity

#: Users of whom it is remembered when they were asked about.
_REMEMBERED: Final = 10_000

#: How often the server is asked again about somebody whose messages are not good, in seconds.
_ASK_AGAIN: Final = 10.0

log = Logger(namespace="wschat.client")


class Told(Protocol):
    """Who is told of keys; see `wschat.client.Listener`."""

    def key_changed(self, user_id: str, old: str, new: str) -> None: ...

    def key_rotated(self, user_id: str, old: str, new: str) -> None: ...


class People:
    """Everybody else, as one user knows them."""

    def __init__(
        self,
        settings: Settings,
        key: identity.PrivateKey,
        accounts: Accounts,
        told: Told,
        wall: Callable[[], float],
    ) -> None:
        self._user_id = settings.user_id
        self._key = key
        self._accounts = accounts
        self._known = KnownUsers(settings.authority, settings.known_users)
        self._told = told
        self._wall = wall
        #: What the server has for whom, instead of what is pinned.
        self._offered: dict[str, Keys] = {}
        self._asked: OrderedDict[str, float] = OrderedDict()
        self._replays = Replays(settings.heard)

    # What a program asks.

    async def whois(self, user_id: str) -> Whois:
        """Somebody's account.  Raises `RequestRefused`, `ConnectionProblem`."""
        pinned = user_id == self._user_id or self._pinned(user_id) is not None
        user, keys = await self._look(user_id)
        return Whois(
            user_id,
            user.username,
            self._fingerprint(user_id, keys),
            user_id == self._user_id or user_id not in self._offered,
            pinned,
            user.created_at,
        )

    async def fingerprint(self, user_id: str) -> str:
        """The code of the keys that the server has for somebody now; raises what `whois` does."""
        _, keys = await self._look(user_id)
        return self._fingerprint(user_id, keys)

    async def trust(self, user_id: str) -> tuple[str, str]:
        """
        Believe in the keys that were told of last; returns the old and the new fingerprint.

        Signatures of contents alone count again as well, until the next one
        of a whole message.  Raises what `whois` does, and `RequestRefused`
        for keys that nobody has been told of yet.
        """
        keys = self._offered.get(user_id)
        if keys is None:
            _, keys = await self._look(user_id)
            if user_id in self._offered:
                raise RequestRefused(
                    f"The keys of {user_id} have changed just now: "
                    "compare fingerprints, and say it again."
                )
        pin = self._pinned(user_id) or Pin(keys)
        trusted = Pin(keys, former=pin.former if pin.keys == keys else ())
        self._update(user_id, lambda _: trusted)
        self._offered.pop(user_id, None)
        old = keys if user_id == self._user_id else pin.keys
        return self._fingerprint(user_id, old), self._fingerprint(user_id, keys)

    async def _look(self, user_id: str) -> tuple[User, Keys]:
        """Ask the server now."""
        self._accounts.forget(user_id)
        found = await self._check(user_id)
        if found is None:
            raise RequestRefused(f"Unknown user: {user_id}.")
        user, pin = found
        if user_id == self._user_id:
            return user, self._own_keys
        return user, self._offered.get(user_id, pin.keys)

    @property
    def _own(self) -> tuple[identity.PrivateKey, ...]:
        return self._key, *self._key.former

    @property
    def _own_keys(self) -> Keys:
        return Keys(self._key.public_key, self._key.x25519_public_key)

    def _fingerprint(self, user_id: str, keys: Keys) -> str:
        return trust.fingerprint(self._user_id, self._own_keys, user_id, keys)

    # What a client asks.

    def forget(self, user_id: str | None = None) -> None:
        """Ask the server again about a user, or about all, when that is next needed."""
        self._accounts.forget(user_id)
        if user_id is None:
            self._asked.clear()
        else:
            self._asked.pop(user_id, None)

    def rekey(self, key: identity.PrivateKey) -> None:
        """The user has another key from now on."""
        self._key = key

    async def sealing_key(self, user_id: str) -> SealingKey:
        """What to seal with for somebody.  Raises `RequestRefused`, `ConnectionProblem`."""
        if user_id == self._user_id:
            return SealingKey(self._key.x25519_public_key)
        try:
            found = await self._check(user_id)
        except TrustError as error:
            return SealingKey(refusal=f"Not sent: {error}")
        if found is None:
            return SealingKey(refusal=f"Unknown recipient: {user_id}.")
        if user_id in self._offered:
            return SealingKey(
                refusal=f"Not sent: the server has other keys for {user_id} than before. Compare "
                f"fingerprints with {user_id}, and trust the new ones if they are theirs."
            )
        return SealingKey(found[1].keys.x25519_public_key)

    async def read(self, message: wire.Message) -> Heard:
        """A message that has just come: opened, and judged; what has come before is no news."""
        meant = message.topic in (self._user_id, wire.BROADCAST)
        return await self._examine(message, meant, self._replays)

    async def recall(self, messages: Iterable[wire.Message], peer: str) -> list[Heard]:
        """Messages of a conversation, or of the broadcasts; each of them was said once."""
        replays = Replays()
        ways = {(self._user_id, peer), (peer, self._user_id)}
        heard = []
        for message in messages:
            way = message.sender, message.topic
            meant = way in ways or message.topic == peer == wire.BROADCAST
            heard.append(await self._examine(message, meant, replays))
        return heard

    def handled(self, message: wire.Message) -> None:
        """A message that was read counts as handled."""
        self._replays.handled(message)

    def unsure(self) -> None:
        """The connection is lost, and with it perhaps what was acknowledged just now."""
        self._replays.unsure(self._wall())

    def sure(self) -> None:
        """The server was told of all that was handled."""
        self._replays.sure(self._wall())

    def save(self, now: float = float("inf")) -> bool:
        """Have programs to come remember; returns whether something is left for another time."""
        return self._replays.save(now)

    async def _examine(self, message: wire.Message, meant: bool, replays: Replays) -> Heard:
        """Open and judge a message; `meant` says whether it belongs where it has come."""
        mine = message.sender == self._user_id
        authenticity = await self._worth(message)
        authenticity = replays.judged(message, authenticity) if meant else Authenticity.INVALID
        if not message.encrypted:
            return Heard(message, message.content, authenticity)
        wrapped = message.sender_key if mine and message.sender_key else message.encrypted_key
        sealed = identity.Sealed(message.content, wrapped or "", message.encryption_nonce or "")
        try:
            return Heard(message, self._key.open(sealed), authenticity)
        except identity.Unsealable:
            return Heard(message, None, authenticity)

    # What a message is worth.

    async def _worth(self, message: wire.Message) -> Authenticity:
        """What a message's signatures are worth, by its sender's keys."""
        try:
            if message.sender == self._user_id:
                return self._own_worth(message)
            return await self._others_worth(message)
        except TrustError as error:
            log.warn("{error}", error=error)
            return Authenticity.NONE

    def _own_worth(self, message: wire.Message) -> Authenticity:
        worths = [envelope.authenticity(message, key.public_key) for key in self._own]
        worth = next((good for good in worths if good is not Authenticity.INVALID), worths[0])
        pin = self._pinned(self._user_id) or Pin(self._own_keys)
        self._note_envelope(message, pin, worth)
        return _enough(worth, pin)

    async def _others_worth(self, message: wire.Message) -> Authenticity:
        sender = message.sender
        pin = self._pinned(sender) or await self._pin_now(sender)
        if pin is None:
            return Authenticity.NONE
        worth = _by_pin(message, pin)
        if worth is Authenticity.INVALID and self._may_ask_again(sender):
            self._accounts.forget(sender)  # their keys may have changed, in a good way or not
            worth = _by_pin(message, await self._pin_now(sender) or pin)
        self._note_envelope(message, pin, worth)
        return worth

    def _note_envelope(self, message: wire.Message, pin: Pin, worth: Authenticity) -> None:
        """From the first whole message on that its sender has signed nothing less counts."""
        if worth is Authenticity.ENVELOPE and not pin.envelopes:
            self._update(
                message.sender,
                lambda found: msgspec.structs.replace(found or pin, envelopes=True),
            )

    def _may_ask_again(self, user_id: str) -> bool:
        """Whether the server was not asked a moment ago: nobody's bad messages cause many."""
        now = self._wall()
        if abs(now - self._asked.get(user_id, 0.0)) < _ASK_AGAIN:
            return False
        self._asked[user_id] = now
        if len(self._asked) > _REMEMBERED:
            self._asked.popitem(last=False)
        return True

    async def _pin_now(self, user_id: str) -> Pin | None:
        """What is pinned for a user after the server was asked; None when it does not say."""
        try:
            found = await self._check(user_id)
        except (ConnectionProblem, RequestRefused):
            return None
        return None if found is None else found[1]

    async def _check(self, user_id: str) -> tuple[User, Pin] | None:
        """Hold what the server says of a user against their pin; None for who has no account."""
        user = await self._accounts.user(user_id)
        if user is None or user_id == self._user_id:
            return None if user is None else (user, Pin(self._own_keys))
        keys = Keys(user.public_key, user.x25519_public_key)
        before = self._update(user_id, lambda pin: pin or _first_pin(user_id, user))
        pin = before
        if keys != before.keys and _rotated(user_id, before, user) != before:
            pin = self._update(user_id, lambda pin: _rotated(user_id, pin or before, user))
        old, new = self._fingerprint(user_id, before.keys), self._fingerprint(user_id, keys)
        if pin.keys == keys:
            self._offered.pop(user_id, None)
            if before.keys != keys:
                _tell(self._told.key_rotated, user_id, old, new)
        elif self._offered.get(user_id) != keys:
            self._offered[user_id] = keys
            _tell(self._told.key_changed, user_id, old, new)
        return user, pin

    def _pinned(self, user_id: str) -> Pin | None:
        return self._known.pin(user_id)

    def _update(self, user_id: str, change: Callable[[Pin | None], Pin]) -> Pin:
        return self._known.update(user_id, change)


def _by_pin(message: wire.Message, pin: Pin) -> Authenticity:
    worth = envelope.authenticity(message, pin.keys.public_key)
    if worth is Authenticity.INVALID and any(_said_with(message, key) for key in pin.former):
        return Authenticity.ENVELOPE
    return _enough(worth, pin)


def _enough(worth: Authenticity, pin: Pin) -> Authenticity:
    less = worth in (Authenticity.CONTENT, Authenticity.NONE)
    return Authenticity.INVALID if pin.envelopes and less else worth


def _said_with(message: wire.Message, former: Former) -> bool:
    """Whether an earlier key of the sender signed all of a message, in its time."""
    whole = envelope.authenticity(message, former.public_key) is Authenticity.ENVELOPE
    return whole and envelope.seconds(message.timestamp) <= former.until


def _tell(told: Callable[[str, str, str], None], user_id: str, old: str, new: str) -> None:
    """A listener's fault costs nobody a message."""
    try:
        told(user_id, old, new)
    except Exception:
        log.failure("a listener failed")


def _rotated(user_id: str, pin: Pin, user: User) -> Pin:
    """The pin after its owner's steps to the keys that the server has now; else as it is."""
    way = rotation.follow(user_id, pin.keys.public_key, user.rotations)
    keys = Keys(user.public_key, user.x25519_public_key)
    if not way or Keys(way[-1].public_key, way[-1].x25519_public_key) != keys:
        return pin
    return Pin(keys, pin.envelopes, (*pin.former, *_former(way))[-rotation.MOST :])


def _first_pin(user_id: str, user: User) -> Pin:
    """The keys that the server has for somebody, and those before that they vouch for."""
    keys = Keys(user.public_key, user.x25519_public_key)
    return Pin(keys, former=_former(rotation.behind(user_id, keys.public_key, user.rotations)))


def _former(way: Iterable[rotation.Rotation]) -> tuple[Former, ...]:
    return tuple(Former(step.old_public_key, envelope.seconds(step.time)) for step in way)
