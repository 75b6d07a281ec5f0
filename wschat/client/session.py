"""
A client's conversation with a server, without any I/O: bytes in, events out.

What is sent waits here until the connection is open and the server's rate
limit leaves room.  Times are seconds since the epoch, and given.
"""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Container
from typing import Final

import msgspec

from wschat import identity, wire
from wschat.limits import TokenBucket

#: A little below the server's default limit: what is sent evenly may arrive in bursts.
MESSAGE_RATE: Final = 9.0
MESSAGE_BURST: Final = 17.0

#: Messages that may wait to be sent.
QUEUE_MESSAGES: Final = 1000

#: So that a clock that has moved on by a wait shows another time.
_SHORTEST_WAIT: Final = 0.001

#: Messages a second, for a server that takes fewer than `MESSAGE_RATE`.
_SLOWEST: Final = 0.5

#: The longest frame that a server takes by default, in bytes.
_MAX_FRAME: Final = 65536

_REMEMBERED: Final = 10_000


class QueueFull(Exception):
    """Too many messages wait to be sent."""


class Received(msgspec.Struct, frozen=True):
    """A message came from somebody."""

    message: wire.Message


class Refused(msgspec.Struct, frozen=True):
    """The server did not take something; it does not say what."""

    text: str


class Answered(msgspec.Struct, frozen=True):
    """The server answered a command."""

    request_id: str
    answer: wire.CommandAnswer


Event = Received | Refused | Answered


class Session:
    """What one user says and hears, across connections."""

    def __init__(self, user_id: str, key: identity.PrivateKey) -> None:
        self.user_id = user_id
        self._key = key
        self._queue: deque[tuple[bytes, str]] = deque()  # a frame, and a command's request id
        self._rate = MESSAGE_RATE
        self._bucket = TokenBucket(MESSAGE_RATE, MESSAGE_BURST)
        self._open = False
        self._since = 0  # messages sent after the last command was
        self._commands: deque[tuple[str, int]] = deque()  # … and before each, not yet answered
        self._seen: dict[object, None] = {}
        self.sent = 0
        self.received = 0
        self.refused = 0

    @property
    def waiting(self) -> int:
        """How many messages have not been sent yet."""
        return len(self._queue)

    @property
    def unanswered(self) -> int:
        """How many messages were sent that no later answer of the server covers."""
        return self._since + sum(messages for _, messages in self._commands)

    @property
    def unasked(self) -> bool:
        """Whether a message was sent that no command followed."""
        return self._since > 0

    def send(self, to: str, text: str, now: float) -> None:
        """
        Say something to a user, or to `wire.BROADCAST`; it is signed.

        Raises `ValueError` for a name that no user can have and for a text
        that is too long, `QueueFull`.
        """
        if to != wire.BROADCAST and not wire.valid_user_id(to):
            raise ValueError(f"{to} is not a user id.")
        signature = identity.sign_content(self._key, text)
        self._put(wire.Message(self.user_id, to, text, wire.format_time(now), signature))

    def command(self, name: str, now: float, params: object = None) -> str:
        """
        Ask the server something; its `Answered` has the request id that this returns.

        The server answers in order, so an answer also says that all that was
        sent earlier has been dealt with.  Raises `QueueFull`.
        """
        request_id = secrets.token_hex(8)
        content = wire.encode_command(name, request_id, params)
        signature = self._key.sign(content.encode())
        timestamp = wire.format_time(now)
        message = wire.Message(self.user_id, wire.SERVER, content, timestamp, signature)
        self._put(message, request_id)
        return request_id

    def _put(self, message: wire.Message, request_id: str = "") -> None:
        if len(self._queue) >= QUEUE_MESSAGES:
            raise QueueFull(f"{QUEUE_MESSAGES} messages wait to be sent already.")
        frame = wire.encode_submission(message)
        if len(frame) > _MAX_FRAME:
            raise ValueError(f"Too long: {len(frame)} bytes with all that belongs to it.")
        self._queue.append((frame, request_id))

    def opened(self) -> None:
        """A connection is open."""
        self._open = True

    def lost(self) -> int:
        """The connection is gone; of how many messages is it not known whether they arrived?"""
        self._open = False
        unknown, self._since = self.unanswered, 0
        self._commands.clear()
        return unknown

    def forget(self, request_ids: Container[str]) -> None:
        """Do not send these commands, if they have not been sent: nobody waits for an answer."""
        self._queue = deque(queued for queued in self._queue if queued[1] not in request_ids)

    def data_to_send(self, now: float) -> list[bytes]:
        """The frames that may be sent now."""
        frames = []
        while self._open and self._queue and self._bucket.allow(now):
            frame, request_id = self._queue.popleft()
            frames.append(frame)
            self.sent += 1
            if request_id:
                self._commands.append((request_id, self._since))
                self._since = 0
            else:
                self._since += 1
        return frames

    def wait(self, now: float) -> float | None:
        """Seconds until `data_to_send` has more; None when it is not a matter of time."""
        if not (self._open and self._queue):
            return None
        wait = self._bucket.wait(now)
        return max(_SHORTEST_WAIT, wait) if wait else 0.0

    def receive(self, payload: bytes) -> Event | None:
        """A frame has come.  None when it says nothing new.  Raises `wire.Malformed`."""
        message = wire.decode_delivery(payload)
        if message.sender == wire.SYSTEM and message.status is wire.Status.ERROR:
            self.refused += 1
            if message.content == wire.RATE_LIMITED:
                self._slow_down()
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

    def _slow_down(self) -> None:
        """The server's limit is lower than thought, or somebody else uses it up."""
        self._rate = max(_SLOWEST, self._rate / 2)
        self._bucket = TokenBucket(self._rate, 1)

    def _answered(self, content: str) -> Answered | None:
        answer = wire.decode_answer(content)
        if not isinstance(answer.request_id, str):
            return None
        if any(request_id == answer.request_id for request_id, _ in self._commands):
            while self._commands.popleft()[0] != answer.request_id:
                pass
        return Answered(answer.request_id, answer)
