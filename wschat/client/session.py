"""
A client's conversation with a server, without any I/O: bytes in, events out.

What is sent waits here until the connection is open and the server's rate
limit leaves room.  It speaks `wschat.v1`, and what the classic server speaks
where that is all there is.  Times are seconds since the epoch, and given.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Container
from typing import Any, Final

import msgspec

from wschat import envelope, identity, v1, wire
from wschat.client.outgoing import QUEUE_MESSAGES, Item, Outgoing, QueueFull
from wschat.client.session_events import (
    Answered,
    Delayed,
    Delivered,
    Event,
    Incomplete,
    KeyRotated,
    Leaving,
    PresenceChanged,
    Received,
    Refused,
    Stored,
    TokenEnding,
    Told,
)
from wschat.client.settings import Encryption
from wschat.codes import ErrorCode

__all__ = ["QUEUE_MESSAGES", "QueueFull", "Session"]

#: The longest frame that a server takes by default, in bytes.
_MAX_FRAME: Final = 65536

#: What a frame may grow by when it is sent: client ids and signatures …
_NAMES: Final = 400

#: … and when it is sealed: two keys and a nonce, and its content is base64.
_SEALING: Final = 400
_BASE64: Final = 4 / 3

_REMEMBERED: Final = 10_000

#: How long a server that ends can have its clients stay away, in seconds.
_LONGEST_LEAVE: Final = 60.0

#: Messages whose delivery is waited for; past that the oldest are waited for no more.
_UNDELIVERED: Final = 500


class SealingKey(msgspec.Struct, frozen=True):
    """
    The X25519 key (base64) to seal for somebody with; None when they have none.

    `refusal` says why nothing is to be sent to them at all.
    """

    key: str | None = None
    refusal: str = ""


class Session:
    """What one user says and hears, across connections."""

    def __init__(
        self,
        user_id: str,
        key: identity.PrivateKey,
        name: str = "",
        after: int | None = None,
        encryption: Encryption = Encryption.DISABLED,
    ) -> None:
        """
        `name` is the session's; one that is made up gets what no other of the
        user's sessions has read.  `after` is the last message that is known
        to have been handled.
        """
        self._encryption = encryption
        self._sealing_keys: dict[str, SealingKey] = {}
        #: Users whose keys have to be known before more is sent; see `know`.
        self.wanted: set[str] = set()
        #: The client id of what waits for that first.
        self.held = ""
        self._refusals: list[Refused] = []
        self.user_id = user_id
        self.name = name or secrets.token_hex(8)
        self._key = key
        self._outgoing = Outgoing(self._prepare)
        self._is_v1 = False
        self._resume: v1.Resume | None = None  # to be sent
        self._resumed = False  # the server has said where this goes on; nothing is sent before
        self._position = after or 0  # the last message that came
        self._handled = after  # … that was handled
        self._offered = after or 0  # … that the server has sent on this connection, or known of
        self._acknowledged = after or 0  # … that the server knows to be handled
        self._undelivered: dict[str, None] = {}
        self._seen: dict[object, None] = {}
        self._handlers: dict[type, Callable[[Any], Event | None]] = {
            v1.Delivery: self._received,
            v1.Stored: self._stored,
            v1.Delivered: self._delivered,
            v1.History: self._told,
            v1.Presence: self._told,
            v1.PresenceChanged: self._presence_changed,
            v1.KeyRotated: self._key_rotated,
            v1.TokenEnding: lambda event: TokenEnding(),
        }
        self.received = 0
        self.refused = 0

    @property
    def is_v1(self) -> bool:
        """Whether the server speaks `wschat.v1`; false while that is not known."""
        return self._is_v1

    @property
    def sent(self) -> int:
        """How many messages were sent; one that is sent again counts again."""
        return self._outgoing.sent

    @property
    def waiting(self) -> int:
        """How many messages have not been sent yet."""
        return self._outgoing.waiting

    @property
    def has_room(self) -> bool:
        """Whether half of what may be kept, to be sent or sent again, is free."""
        return self._outgoing.held_here <= QUEUE_MESSAGES // 2

    @property
    def unanswered(self) -> int:
        """How many messages were sent of which it is not known whether they arrived."""
        return self._outgoing.unanswered

    @property
    def unsettled(self) -> int:
        """How many messages were not sent yet, or may not have arrived."""
        return self._outgoing.unsettled

    @property
    def unasked(self) -> bool:
        """Whether a message was sent to a classic server that no command followed."""
        return self._outgoing.unasked

    def send(self, to: str, text: str, now: float, client_id: str = "") -> str:
        """
        Say something to a user, or to `wire.BROADCAST`; it is signed.

        Returns its client id, which is `client_id` if that is given: what is
        sent under the same one again is the same message.  Raises
        `ValueError` for a name that no user can have, a client id that is
        none and a text that is too long or cannot be encoded, `TypeError`
        for what is no text, `QueueFull`.
        """
        if not (isinstance(to, str) and isinstance(text, str)):
            raise TypeError("Whom to say something to, and what, are strings.")
        try:
            text.encode()
        except UnicodeEncodeError:  # half of a character, as of input in another encoding
            raise ValueError("The text has what is no character, and cannot be sent.") from None
        if client_id and not v1.valid_client_id(client_id):
            raise ValueError(f"{client_id!r} is not a client id.")
        if client_id and self._outgoing.knows(client_id):
            return client_id
        if to != wire.BROADCAST and not wire.valid_user_id(to):
            raise ValueError(f"{to} is not a user id.")
        name = client_id or secrets.token_hex(12)
        message = wire.Message(self.user_id, to, text, wire.format_time(now), client_id=name)
        sealed = to != wire.BROADCAST and self._encryption is not Encryption.DISABLED
        self._put(Item(name, message), sealed=sealed)
        return name

    def rekey(self, key: identity.PrivateKey) -> None:
        """Sign with another key from now on."""
        self._key = key

    def know(self, user_id: str, key: SealingKey) -> None:
        """
        What to seal with for a user: what waited for that can be sent.

        A refusal counts for the next message alone; then it is asked anew.
        """
        self.wanted.discard(user_id)
        self._sealing_keys[user_id] = key

    def forget_key(self, user_id: str) -> None:
        """What was known of a user's key may be so no more: ask again."""
        self._sealing_keys.pop(user_id, None)

    def refusals(self) -> list[Refused]:
        """What was refused here, before it was sent, since this was last asked."""
        refusals, self._refusals = self._refusals, []
        return refusals

    def _prepare(self, item: Item) -> bool | None:
        """
        Seal a message if it is to be, and sign it.

        False when its recipient's key is missing, None when it is refused.
        Once: what is sent again has to be the same for the server.
        """
        message = item.what
        assert isinstance(message, wire.Message)  # noqa: S101  # questions are always ready
        if item.direct and self._encryption is not Encryption.DISABLED:
            known = self._sealing_keys.get(message.topic)
            if known is None:
                self.wanted.add(message.topic)
                self.held = item.name
                return False
            if known.refusal or (known.key is None and self._encryption is Encryption.REQUIRED):
                text = known.refusal or f"{message.topic} has no key to encrypt for: not sent."
                del self._sealing_keys[message.topic]
                self.refused += 1
                self._refusals.append(Refused(text, item.name))
                return None
            if known.key is not None:
                own = self._key.x25519_public_key if self._is_v1 else None
                sealed = identity.seal(message.content, known.key, own)
                message.content = sealed.content
                message.encrypted_key = sealed.encrypted_key
                message.encryption_nonce = sealed.encryption_nonce
                message.sender_key = sealed.sender_key
        envelope.sign(self._key, message)
        item.ready = True
        return True

    def command(self, name: str, now: float, params: object = None) -> str:
        """
        Ask the server to do something; its `Answered` has the request id that this returns.

        The server answers in order, so an answer also says that all that was
        sent earlier has been dealt with.  Raises `QueueFull`.
        """
        request_id = secrets.token_hex(8)
        content = wire.encode_command(name, request_id, params)
        signature = self._key.sign(content.encode())
        timestamp = wire.format_time(now)
        message = wire.Message(
            self.user_id, wire.SERVER, content, timestamp, signature, client_id=request_id
        )
        self._put(Item(request_id, message, command=True))
        return request_id

    def ask(self, question: v1.AskHistory | v1.AskPresence) -> str:
        """
        Ask a server that speaks `wschat.v1`; `Told` has the request id that this returns.

        Raises `QueueFull`, and `ValueError` when the server speaks it not, or
        when it would not take the question.
        """
        if not self._is_v1:
            raise ValueError("The server cannot answer that.")
        request_id = secrets.token_hex(8)
        question.request_id = request_id
        try:
            v1.decode_request(v1.encode(question))
        except wire.Malformed as error:
            raise ValueError(error.text) from None
        self._outgoing.put(Item(request_id, question))
        return request_id

    def renew(self, token: str) -> None:
        """Let the connection stay as long as this token."""
        self._outgoing.put(Item("", v1.Renew(token)), bounded=False)

    def _put(self, item: Item, *, sealed: bool = False) -> None:
        size = len(item.frame(is_v1=False)) + _NAMES
        if sealed:
            size = int(size * _BASE64) + _SEALING
        if size > _MAX_FRAME:
            raise ValueError(f"Too long: {size} bytes with all that belongs to it.")
        self._outgoing.put(item)

    def opened(self, *, is_v1: bool) -> None:
        """A connection is open, with `wschat.v1` or without; keys are asked for anew on it."""
        self._sealing_keys.clear()
        self._is_v1 = is_v1
        self._outgoing.opened(is_v1=is_v1)
        if is_v1:
            self._greet()
            # Of what is sent again we may have missed the one receipt and the other.
            again = [item.name for item in self._outgoing.sent_again if item.direct]
            self._ask_status([*self._undelivered, *again])

    def _ask_status(self, client_ids: list[str]) -> None:
        """Ask what became of messages, after all that is sent again."""
        for start in range(0, len(client_ids), v1.MAX_NAMES):
            asked = v1.AskStatus(client_ids[start : start + v1.MAX_NAMES])
            self._outgoing.put(Item("", asked), bounded=False)

    def _greet(self) -> None:
        """Say who this is."""
        self._resume = v1.Resume(self.name, self._handled)
        self._resumed = False
        self._offered = self._acknowledged = self._handled or 0

    def lost(self) -> int:
        """The connection is gone; of how many messages is it not known whether they arrived?"""
        self._resume = None
        unknown = self._outgoing.lost()
        self._outgoing.forget({""})
        return unknown

    def forget(self, request_ids: Container[str]) -> None:
        """Do not send these commands and questions: nobody waits for an answer any more."""
        self._outgoing.forget(request_ids)

    def handled(self, message: wire.Message) -> None:
        """A message was handled; the server is told with what is sent next."""
        if self._is_v1:
            self._handled = max(self._handled or 0, message.id)

    @property
    def _acknowledgeable(self) -> int:
        """A server takes no acknowledgement of what it has not sent on this connection (yet)."""
        return min(self._handled or 0, self._offered)

    @property
    def unacknowledged(self) -> bool:
        """Whether messages were handled of which the server does not know it."""
        return self._is_v1 and self._acknowledgeable > self._acknowledged

    @property
    def all_acknowledged(self) -> bool:
        """Whether the server was told of all that was handled; a classic one is told nothing."""
        return not self._is_v1 or (self._resumed and self._acknowledged >= (self._handled or 0))

    def data_to_send(self, now: float) -> list[bytes]:
        """The frames that may be sent now."""
        if self._resume is not None and not self._outgoing.held(now):
            resume, self._resume = self._resume, None
            self._outgoing.count(now)
            return [v1.encode(resume)]
        if self._is_v1 and not self._resumed:
            return []
        frames = []
        if self.unacknowledged:
            self._acknowledged = self._acknowledgeable
            frames.append(v1.encode(v1.Ack(self._acknowledged)))
        return frames + self._outgoing.take(now)

    def wait(self, now: float) -> float | None:
        """Seconds until `data_to_send` has more; None when it is not a matter of time."""
        if self._resume is not None:
            return self._outgoing.held(now)
        if self._is_v1 and not self._resumed:
            return None
        return self._outgoing.wait(now)

    def receive(self, payload: bytes, now: float) -> Event | None:
        """A frame has come.  None when it says nothing new.  Raises `wire.Malformed`."""
        if self._is_v1:
            return self._receive(v1.decode_event(payload), now)
        message = wire.decode_delivery(payload)
        if message.sender == wire.SYSTEM and message.status is wire.Status.ERROR:
            self.refused += 1
            if message.content == ErrorCode.RATE_LIMITED.advice.reason:
                self._outgoing.slow_down()
            return Refused(message.content)
        if message.sender == wire.SERVER:
            return self._answered(message.content)
        # Ids ascend on our servers but not on classic ones, which may even start anew.
        mark = (message.id, message.sender, message.timestamp, message.content)
        if message.id and mark in self._seen:
            return None
        self._seen[mark] = None
        if len(self._seen) > _REMEMBERED:
            del self._seen[next(iter(self._seen))]
        self.received += 1
        return Received(message)

    def _receive(self, event: v1.Event, now: float) -> Event | None:
        if isinstance(event, v1.Error):
            return self._refused(event, now)
        if isinstance(event, v1.Resumed):
            return self._went_on(event, now)
        if isinstance(event, v1.Draining):
            return self._draining(event, now)
        handler: Callable[[Any], Event | None] | None = self._handlers.get(type(event))
        return handler(event) if handler is not None else None

    def _received(self, frame: v1.Delivery) -> Event | None:
        message = v1.delivered(frame)
        if message.sender == wire.SERVER and not message.id:
            return self._answered(message.content)
        self._offered = max(self._offered, message.id)
        if message.id <= self._position:
            return None  # it came on an earlier connection, and is being handled
        self._position = message.id
        self.received += 1
        return Received(message)

    def _stored(self, event: v1.Stored) -> Event | None:
        item = self._outgoing.stored(event.client_id)
        if item is None:
            return None
        if item.direct:
            self._undelivered[event.client_id] = None
            if len(self._undelivered) > _UNDELIVERED:
                del self._undelivered[next(iter(self._undelivered))]
        return Stored(event.client_id, event.id)

    def _delivered(self, event: v1.Delivered) -> Event | None:
        if event.client_id not in self._undelivered:
            return None
        del self._undelivered[event.client_id]
        return Delivered(event.client_id, event.id)

    @staticmethod
    def _told(event: v1.History | v1.Presence) -> Event:
        return Told(str(event.request_id), event)

    @staticmethod
    def _presence_changed(event: v1.PresenceChanged) -> Event:
        return PresenceChanged(event.joined, event.left)

    def _key_rotated(self, event: v1.KeyRotated) -> Event:
        self.forget_key(event.user_id)
        return KeyRotated(event.user_id)

    def _draining(self, event: v1.Draining, now: float) -> Event:
        wait = min(max(0, event.retry_after_ms) / 1000, _LONGEST_LEAVE)
        self._outgoing.hold(wait, now)  # what waits is for the next connection
        return Leaving(wait)

    def _went_on(self, event: v1.Resumed, now: float) -> Event | None:
        self._resumed = True
        self._outgoing.pace(event.rate, event.burst, now)
        if event.position < self._offered:  # it has another database, or an older one
            self._position = self._handled = self._offered = self._acknowledged = event.position
        return None if event.complete else Incomplete()

    def _refused(self, error: v1.Error, now: float) -> Event | None:
        if error.request_id is not None:
            return Told(str(error.request_id), error)
        client_id = error.client_id
        wait = (error.retry_after_ms or 0) / 1000
        if client_id is not None and error.code in _SENT_AGAIN:
            known = self._outgoing.refused_for_now(client_id, wait, now)
            failed = known and error.code == ErrorCode.NOT_STORED
            return Delayed(error.reason, client_id) if failed else None
        if client_id is not None and error.code == ErrorCode.UNKNOWN_CLIENT_ID:
            self._undelivered.pop(client_id, None)
            return None
        if client_id is None and error.code in _SENT_AGAIN:  # it is of what has no name
            self._outgoing.hold(wait, now)
            if not self._resumed:
                self._greet()
            elif self._undelivered:
                self._ask_status(list(self._undelivered))
            return None
        self.refused += 1
        if client_id is not None:
            self._outgoing.settled(client_id)
        return Refused(error.reason, client_id)

    def _answered(self, content: str) -> Answered | None:
        answer = wire.decode_answer(content)
        if not isinstance(answer.request_id, str):
            return None
        self._outgoing.answered(answer.request_id)
        return Answered(answer.request_id, answer)


#: Refusals after which a message is sent again, by itself and in its order.
_SENT_AGAIN: Final = frozenset(
    {
        ErrorCode.RATE_LIMITED,
        ErrorCode.TOO_MANY_BYTES,
        ErrorCode.BUSY,
        ErrorCode.NOT_STORED,
        ErrorCode.OUT_OF_TURN,
    }
)
