"""
All WebSockets together: who is open, pinged when quiet, dropped when silent, closed at the end.

One timer looks after all of them, once a second.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Any, Final, Generic, Protocol, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from wschat.codes import CloseCode
from wschat.limits import Occupancy
from wschat.timeouts import REQUEST_TIMEOUT, Timeouts

#: A ping this often, and a peer that is silent for so long is dropped; seconds (docs/protocol.md).
PING_INTERVAL: Final = 54.0
SILENCE_LIMIT: Final = 60.0

#: How long a peer may take to answer a close, in seconds; a slow one has to read up to it first.
CLOSE_TIMEOUT: Final = 5.0
SLOW_CLOSE_TIMEOUT: Final = 30.0

_BEAT: Final = 1.0

log = Logger(namespace="wschat.connections")


class Connection(Hashable, Protocol):
    """
    What is asked of each.

    `heard` is when anything last came from its peer, by `now`; infinite while
    nothing is read of it.
    """

    heard: float

    def ping(self) -> None: ...
    def close(self, code: CloseCode) -> None: ...
    def abort(self) -> None: ...


Member = TypeVar("Member", bound=Connection)


class Connections(Generic[Member]):
    """Those that are open, and what is waited for of them; `now` is the time of the last beat."""

    def __init__(self, reactor: IReactorTime, places: Occupancy) -> None:
        """`places` has room for so many connections of an address."""
        self._reactor = reactor
        self._places = places
        self._open: dict[Member, str | None] = {}
        #: Those whose peers are to answer a close.
        self.closing: Timeouts[Member] = Timeouts(CLOSE_TIMEOUT)
        self.closing_slowly: Timeouts[Member] = Timeouts(SLOW_CLOSE_TIMEOUT)
        #: Connections of which nothing has come yet.
        self.silent: Timeouts[Any] = Timeouts(REQUEST_TIMEOUT)
        self._to_ping: Timeouts[Member] = Timeouts(PING_INTERVAL)
        self._to_check: Timeouts[Member] = Timeouts(SILENCE_LIMIT - PING_INTERVAL)
        self._idle: list[Deferred[None]] = []
        self.now = reactor.seconds()
        self._shutting_down = False
        self._beat = LoopingCall(self.beat)
        self._beat.clock = reactor

    def __len__(self) -> int:
        return len(self._open)

    def __iter__(self) -> Iterator[Member]:
        return iter(self._open)

    @property
    def shutting_down(self) -> bool:
        """Whether nobody is let in any more."""
        return self._shutting_down

    def start(self) -> None:
        """Begin to look after the connections, once a second."""
        self._beat.start(_BEAT, now=False)

    def stop(self) -> None:
        """Look after nobody any more."""
        if self._beat.running:
            self._beat.stop()

    def add(self, connection: Member, address: str | None) -> None:
        """One is open; the address that it counts for is None when it is not counted."""
        connection.heard = self.now
        self._open[connection] = address
        self._places.enter(address)
        self._to_ping.add(connection, self.now)

    def discard(self, connection: Member) -> None:
        """One has ended, whether it was open or not."""
        if connection in self._open:
            self._places.leave(self._open.pop(connection))
        for timeouts in (self.closing, self.closing_slowly, self._to_ping, self._to_check):
            timeouts.discard(connection)
        if not self._open:
            idle, self._idle = self._idle, []
            for deferred in idle:
                deferred.callback(None)

    def beat(self) -> None:
        """Ping the quiet, drop the silent, and end closes that nobody answers."""
        self.now = now = self._reactor.seconds()
        try:
            self._beat_once(now)
        except Exception:  # a fault here must not end the beat for everybody
            log.failure("a beat failed")

    def _beat_once(self, now: float) -> None:
        for ending in (self.closing, self.closing_slowly, self.silent):
            for ended in ending.expired(now):
                ended.abort()
        for connection in self._to_check.expired(now):
            silence = now - connection.heard
            if silence >= SILENCE_LIMIT:
                connection.close(CloseCode.NO_PONG)
            elif silence > SILENCE_LIMIT - PING_INTERVAL:
                self._to_check.add(connection, now)
        for connection in self._to_ping.expired(now):
            connection.ping()
            self._to_ping.add(connection, now)
            self._to_check.add(connection, now)

    def let_nobody_in(self) -> None:
        """From now on the gate refuses whoever comes."""
        self._shutting_down = True

    def close_all(self, code: CloseCode, patience: float = CLOSE_TIMEOUT) -> Deferred[None]:
        """
        Let nobody in, and close every connection; fires when all are gone.

        Who has not answered after `patience` seconds is cut off.
        """
        self.let_nobody_in()
        idle: Deferred[None] = Deferred()
        if not self._open:
            idle.callback(None)
            return idle
        self._idle.append(idle)
        for connection in list(self._open):
            connection.close(code)
        cutting = self._reactor.callLater(min(patience, CLOSE_TIMEOUT), self._abort_all)

        def gone(result: None) -> None:
            if cutting.active():
                cutting.cancel()

        return idle.addCallback(gone)

    def _abort_all(self) -> None:
        for connection in list(self._open):
            connection.abort()
