"""
Who is connected, and where a message goes.

Pure: no clock, no I/O, no Twisted, no wire format.  A session is handed in
with what takes its encoded frames; the hub never looks inside one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Iterator
from typing import Protocol

from wschat import wire
from wschat.codes import CloseCode, ErrorCode, Refused
from wschat.limits import KeyedLimiter

#: Answers held for one session while it catches up; past that they come early.
HELD_ANSWERS = 16

#: Refused messages that one session is remembered to have to send again.
REMEMBERED_REFUSALS = 1000

#: Bytes held for one session while it catches up; past that it reads the store again.
HELD_BYTES = 256 * 1024


class FrameSink(Protocol):
    """Takes the frames for one peer, each with the id of its message (0: not of the stream)."""

    def write(self, frame: bytes, message_id: int) -> None:
        """Send a frame, with all others of this turn."""

    def write_through(self, frame: bytes, message_id: int) -> None:
        """Send a frame of the stream, after all others of it, at once unless something waits."""


class Session:
    """
    One connection of a user.

    `position` is the highest message id handed to it, and `confirmed` the
    highest that it is known to have handled.  Until it is `live` it is
    catching up from the store, and what is dispatched meanwhile is held.
    `name` is the client's own, the same after a lost connection; a classic
    client has none.  `dialect` is how the client is written to.
    """

    __slots__ = (
        "_answers",
        "_held",
        "_held_bytes",
        "_overflowed",
        "_refused",
        "close",
        "confirmed",
        "dialect",
        "live",
        "name",
        "outbox",
        "position",
        "probe",
        "user_id",
    )

    def __init__(
        self,
        user_id: str,
        outbox: FrameSink,
        close: Callable[[CloseCode], None],
        dialect: wire.Dialect = wire.CLASSIC,
        probe: Callable[[Callable[[], None]], None] = lambda answered: answered(),
    ) -> None:
        """`probe` calls back when the peer has shown that it is there."""
        self.user_id = user_id
        self.name: str | None = None
        self.dialect = dialect
        self.close = close
        self.probe = probe
        self.position = 0
        self.confirmed = 0
        self.live = False
        #: Where frames go; `deliver` says which may.
        self.outbox = outbox
        self._held: list[tuple[bytes, int]] = []
        self._held_bytes = 0
        self._overflowed = False
        self._answers: list[bytes] = []
        self._refused: dict[str, None] = {}

    def send(self, frame: bytes) -> None:
        """Send what is not part of the stream, at once: an error."""
        self.outbox.write(frame, 0)

    def answer(self, frame: bytes) -> None:
        """Send what a user asked for: after all that came before, what they missed included."""
        if self.live or len(self._answers) >= HELD_ANSWERS:
            self.outbox.write(frame, 0)
        else:
            self._answers.append(frame)

    def deliver(self, frame: bytes, message_id: int) -> None:
        """Send a message of the stream, once, and not before those it is catching up on."""
        if message_id <= self.position:
            return
        if self.live:
            self.position = message_id
            self.outbox.write(frame, message_id)
        elif self._held_bytes + len(frame) <= HELD_BYTES and not self._overflowed:
            self._held.append((frame, message_id))
            self._held_bytes += len(frame)
        else:
            self._overflowed = True

    def replay(self, frame: bytes, message_id: int) -> None:
        """Send a message that the store had kept."""
        self.position = message_id
        self.outbox.write(frame, message_id)

    def confirm(self, position: int) -> bool:
        """All up to `position` was handled; False when that says nothing new, or cannot be."""
        if not self.confirmed < position <= self.position:
            return False
        self.confirmed = position
        return True

    def refused(self, client_id: str) -> None:
        """A message of this session was refused: what follows it has to wait."""
        self._refused[client_id] = None
        if len(self._refused) > REMEMBERED_REFUSALS:
            del self._refused[next(iter(self._refused))]

    def in_turn(self, message: wire.Message) -> bool:
        """Whether a message follows none that was refused; then it is not refused itself."""
        if message.follows in self._refused:
            return False
        if message.client_id is not None:
            self._refused.pop(message.client_id, None)
        return True

    def start_page(self) -> None:
        """The store is about to be read, so what was held until now will be in the page."""
        self._held.clear()
        self._held_bytes = 0
        self._overflowed = False

    def finish_page(self, head: int) -> bool:
        """
        Everything up to message `head` was replayed.  Go live if that is possible.

        False when too much came meanwhile to be held: the next page has it.
        """
        self.position = max(self.position, head)
        if self._overflowed:
            return False
        self.live = True
        for frame, message_id in self._held:
            self.deliver(frame, message_id)
        self._held.clear()
        answers, self._answers = self._answers, []
        for frame in answers:
            self.answer(frame)
        return True


class Registry:
    """Who is connected, and who listens to which topic."""

    def __init__(self) -> None:
        self._count = 0
        self._by_user: dict[str, set[Session]] = {}
        self._by_topic: dict[str, dict[Session, None]] = {}

    def __len__(self) -> int:
        """How many sessions there are."""
        return self._count

    def __contains__(self, user_id: object) -> bool:
        return user_id in self._by_user

    def __iter__(self) -> Iterator[Session]:
        return iter([session for sessions in self._by_user.values() for session in sessions])

    @property
    def users(self) -> list[str]:
        """The ids of the users who have a session."""
        return list(self._by_user)

    def sessions(self, user_id: str) -> int:
        """How many sessions a user has."""
        return len(self._by_user.get(user_id, ()))

    def namesakes(self, session: Session) -> tuple[list[Session], list[Session]]:
        """A user's other connections that say that they are the same session: earlier, later."""
        same = [s for s in self.subscribers(session.user_id) if s.name == session.name]
        place = same.index(session)
        return same[:place], same[place + 1 :]

    def of(self, user_id: str) -> list[Session]:
        """A user's sessions."""
        return list(self._by_user.get(user_id, ()))

    def subscribers(self, topic: str) -> list[Session]:
        """The sessions that listen to a topic, the earliest first."""
        return list(self._by_topic.get(topic, ()))

    def add(self, session: Session) -> None:
        """Register a session, once: for its user's inbox and for broadcasts."""
        sessions = self._by_user.setdefault(session.user_id, set())
        if session in sessions:
            return
        sessions.add(session)
        self._count += 1
        for topic in (session.user_id, wire.BROADCAST):
            self._by_topic.setdefault(topic, {})[session] = None

    def discard(self, session: Session) -> None:
        """Forget a session; one that is not registered is no error."""
        sessions = self._by_user.get(session.user_id)
        if sessions is None or session not in sessions:
            return
        self._count -= 1
        sessions.remove(session)
        if not sessions:
            del self._by_user[session.user_id]
        for topic in (session.user_id, wire.BROADCAST):
            listeners = self._by_topic[topic]
            del listeners[session]
            if not listeners:
                del self._by_topic[topic]


class Hub:
    """Decides: may they, and where to."""

    def __init__(
        self,
        users: Container[str],
        message_rate: float,
        message_burst: float,
        byte_rate: float | None = None,
    ) -> None:
        """
        `users` holds the ids of the registered users; rates are by user.

        `byte_rate` is in bytes a second, of which ten seconds' may come at
        once; None when only messages are counted.
        """
        self._users = users
        self.message_rate = message_rate
        self.message_burst = message_burst
        self._limiter = KeyedLimiter(message_rate, message_burst)
        self._bytes: KeyedLimiter | None = None
        self._set_byte_rate(byte_rate)
        self.registry = Registry()

    def set_limits(
        self, message_rate: float, message_burst: float, byte_rate: float | None
    ) -> None:
        """Other rates, for every user, from now on."""
        self.message_rate = message_rate
        self.message_burst = message_burst
        self._limiter.set(message_rate, message_burst)
        self._set_byte_rate(byte_rate)

    def _set_byte_rate(self, byte_rate: float | None) -> None:
        if byte_rate is None:
            self._bytes = None
        elif self._bytes is None:
            self._bytes = KeyedLimiter(byte_rate, 10 * byte_rate)
        else:
            self._bytes.set(byte_rate, 10 * byte_rate)

    def count(self, user_id: str, now: float, size: int = 0) -> None:
        """
        Count one frame of a user, of so many bytes.

        Raises `Refused` when they may not send it now.
        """
        if not self._limiter.allow(user_id, now):
            wait = math.ceil(self._limiter.wait(user_id, now) * 1000)
            raise Refused(ErrorCode.RATE_LIMITED, wait=wait)
        if self._bytes is not None and not self._bytes.allow(user_id, now, size):
            wait = math.ceil(self._bytes.wait(user_id, now, size) * 1000)
            raise Refused(ErrorCode.TOO_MANY_BYTES, wait=wait)

    def admit(self, message: wire.Message) -> None:
        """Raise `Refused` unless the message has somewhere to go."""
        if message.topic not in self._users and message.topic not in wire.SHARED:
            raise Refused(ErrorCode.UNKNOWN_RECIPIENT, f"Unknown recipient: {message.topic}.")

    def recipients(self, message: wire.Message) -> list[Session]:
        """The sessions a message goes to: all that listen, but its sender's on a shared topic."""
        sessions = self.registry.subscribers(message.topic)
        if message.topic == message.sender:
            return sessions
        return [session for session in sessions if session.user_id != message.sender]
