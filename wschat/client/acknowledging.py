"""What was handled: the server is told of it soon, and later programs some time after that."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from twisted.internet.interfaces import IDelayedCall

from wschat import wire
from wschat.client import background
from wschat.client.people import People
from wschat.client.replays import LATER
from wschat.client.session import Session

#: How long acknowledgements are collected before they are sent, in seconds: the sender of a direct
#: message waits for it, and nobody does for a broadcast's.
_AFTER: Final = 0.05
_BROADCAST_AFTER: Final = 1.0


class Acknowledging:
    """Keeps account of messages that were handled, for the server and for programs to come."""

    def __init__(
        self,
        reactor: Any,
        session: Session,
        people: People,
        wall: Callable[[], float],
        *,
        connected: Callable[[], bool],
        flush: Callable[[], None],
    ) -> None:
        """`flush` sends what the session has to send, acknowledgements among it."""
        self._reactor = reactor
        self._session = session
        self._people = people
        self._wall = wall
        self._connected = connected
        self._flush = flush
        self._acknowledging: IDelayedCall | None = None
        self._saving: IDelayedCall | None = None
        self._stopped = False

    def handled(self, message: wire.Message) -> None:
        """The program has done with a message."""
        self._session.handled(message)
        self._people.handled(message)
        self.sent()
        self._save_later()
        if self._session.unacknowledged and not self._stopped:
            everybody = message.topic == wire.BROADCAST
            self._acknowledge_within(_BROADCAST_AFTER if everybody else _AFTER)

    def acknowledge(self) -> None:
        """Tell the server now, if there is something to tell it."""
        if self._connected() and self._session.unacknowledged:
            self._flush()

    def sent(self) -> None:
        """What a server was told of it does not deliver again, to no program."""
        if self._connected() and self._session.all_acknowledged:
            self._people.sure()

    def stop(self) -> None:
        """From now on nothing happens later: who stops has to `acknowledge`, and save."""
        self._stopped = True
        background.cancel(self._acknowledging, self._saving)

    def _acknowledge_within(self, seconds: float) -> None:
        due = self._acknowledging
        if not background.pending(due):
            self._acknowledging = self._reactor.callLater(seconds, self.acknowledge)
        elif due.getTime() - self._reactor.seconds() > seconds:
            due.reset(seconds)

    def _save_later(self) -> None:
        if not (self._stopped or background.pending(self._saving)):
            self._saving = self._reactor.callLater(2 * LATER, self._save)

    def _save(self) -> None:
        if self._people.save(self._wall()):
            self._save_later()
