"""A client that stays connected: how it comes back, and when."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from wschat.client.accounts import ConnectionProblem, RequestRefused
from wschat.client.listener import Listener, SessionOver, State

#: How long a client stays away after a connection that was lost, in seconds, and at most after
#: some that never came about.
_FIRST_DELAY: Final = 0.5
_LONGEST_DELAY: Final = 20.0


class Staying:
    """
    Connects again and again, and tells a listener.

    `connections` is how many there have been.  Who sets `over`, when one is
    lost, says that there is to be no other.
    """

    def __init__(
        self,
        reactor: Any,
        connect: Callable[[], Awaitable[Deferred[ConnectionProblem | SessionOver]]],
        listener: Listener,
    ) -> None:
        """`connect` is a dialler's."""
        self._reactor = reactor
        self._connect = connect
        self._listener = listener
        self._back_at: float | None = None  # when a server that ends asked us to come back
        self.connections = 0
        self.over = False

    def opened(self) -> None:
        """There is a connection."""
        self.connections += 1
        self._listener.changed(State.CONNECTED, None)

    def leave(self, seconds: float) -> None:
        """The server asks to be left alone for so long, when the connection is gone."""
        self._back_at = self._reactor.seconds() + seconds

    async def run(self, wanted: Callable[[], bool]) -> None:
        """Stay connected as long as that is `wanted`, and the session not over."""
        delay = _FIRST_DELAY
        while wanted():
            again = self.connections > 0
            self._listener.changed(State.RECONNECTING if again else State.CONNECTING, None)
            if not wanted():
                return  # the listener has had enough
            error: Exception
            try:
                gone = await self._connect()
                delay = _FIRST_DELAY
                error = await gone
            except (ConnectionProblem, RequestRefused) as refusal:
                delay = min(2 * delay, _LONGEST_DELAY)
                error = refusal
            if wanted():
                self._listener.changed(State.DISCONNECTED, error)
            if self.over or not wanted():
                return
            await deferLater(self._reactor, self._pause(delay))

    def _pause(self, delay: float) -> float:
        """How long to wait before the next connection, in seconds."""
        back_at, self._back_at = self._back_at, None
        if back_at is not None:
            now: float = self._reactor.seconds()
            return max(0.0, back_at - now)
        # All of it is chance, so that many who were cut off do not come back at once.
        return random.uniform(0, delay)  # noqa: S311  # no secret
