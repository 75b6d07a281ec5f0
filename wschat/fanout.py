"""
The broadcasts of one turn, on their way to everybody: joined once for all.

Pure.  A session that sent one of them, or that gets something else in
between, is given its own, one by one; all others get the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from wschat import wire
from wschat.hub import Session

#: The most that is joined, in bytes, unless one frame is longer: as much as one write takes.
_JOINED_BYTES: Final = 65536


class Fanout:
    """
    What is to be broadcast, in the order of the ids.

    `failed` is told, in the `except` block, of a message that one session
    could not be given; that costs no other session anything.
    """

    def __init__(
        self,
        sessions: Callable[[], Iterable[Session]],
        sessions_of: Callable[[str], Iterable[Session]],
        failed: Callable[[int], None],
    ) -> None:
        """`sessions` gives all that listen to broadcasts, `sessions_of` those of a user."""
        #: How many messages sessions were given, all counted.
        self.deliveries = 0
        self._sessions = sessions
        self._sessions_of = sessions_of
        self._failed = failed
        self._messages: list[wire.Message] = []
        self._senders: set[str] = set()
        self._frames: dict[wire.Dialect, list[bytes]] = {}
        self._given: dict[Session, int] = {}  # how many of them single sessions have had

    def add(self, message: wire.Message) -> None:
        """Broadcast a message that has its id."""
        self._messages.append(message)
        self._senders.add(message.sender)

    def bring(self, session: Session) -> None:
        """Give a session all until now: what comes next for it is not among the broadcasts."""
        if self._messages:
            self._give(session)

    def finish(self) -> None:
        """Give everybody what they have not had."""
        if not self._messages:
            return
        first, last = self._messages[0].id, self._messages[-1].id
        given = self._given
        for user_id in self._senders:  # nobody gets their own
            for session in self._sessions_of(user_id):
                given.setdefault(session, 0)
        joined: dict[wire.Dialect, list[tuple[bytes, int]]] = {}
        for session in self._sessions():  # for thousands: as little as can be is done for each
            if session in given or not session.live or session.position >= first:
                self._give(session)
                continue
            pieces = joined.get(session.dialect)
            if pieces is None:
                pieces = joined[session.dialect] = self._join(session.dialect)
            session.position = last
            try:
                for piece, message_id in pieces:
                    session.outbox.write_through(piece, message_id)
                self.deliveries += len(self._messages)
            except Exception:
                self._failed(last)

    def _give(self, session: Session) -> None:
        """Give one session the messages of others that it has not had, each as it is."""
        frames = self._encoded(session.dialect)
        for number in range(self._given.get(session, 0), len(self._messages)):
            message = self._messages[number]
            if message.sender != session.user_id:
                try:
                    session.deliver(frames[number], message.id)
                    self.deliveries += 1
                except Exception:
                    self._failed(message.id)
        self._given[session] = len(self._messages)

    def _encoded(self, dialect: wire.Dialect) -> list[bytes]:
        frames = self._frames.setdefault(dialect, [])
        frames.extend(map(dialect.delivery, self._messages[len(frames) :]))
        return frames

    def _join(self, dialect: wire.Dialect) -> list[tuple[bytes, int]]:
        pieces: list[tuple[bytes, int]] = []
        waiting: list[bytes] = []
        size = last = 0
        for message, frame in zip(self._messages, self._encoded(dialect), strict=True):
            if waiting and size + len(frame) > _JOINED_BYTES:
                pieces.append((b"".join(waiting), last))
                waiting, size = [], 0
            waiting.append(frame)
            size += len(frame)
            last = message.id
        pieces.append((b"".join(waiting), last))
        return pieces
