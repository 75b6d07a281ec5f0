"""Connections in memory: between two protocols, without a socket, by a `task.Clock`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from twisted.internet import error
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IProtocolFactory, IStreamClientEndpoint, ITransport
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

#: What one read gives at most, and what may wait to be read before its writer is paused, in bytes.
READ: Final = 65536

_CLIENT: Final = IPv4Address("TCP", "203.0.113.5", 50000)
_SERVER: Final = IPv4Address("TCP", "203.0.113.1", 443)


@implementer(IStreamClientEndpoint)
class Endpoint:
    """The way to a server that is in memory, too."""

    def __init__(
        self, clock: Clock, server: IProtocolFactory, reachable: Callable[[], bool]
    ) -> None:
        """`server` makes the other end of each connection, while it is `reachable`."""
        self._clock = clock
        self._server = server
        self._reachable = reachable

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[Any]:
        if not self._reachable():
            return fail(error.ConnectionRefusedError())
        ends = End(self._clock), End(self._clock)
        ends[0].peer, ends[1].peer = ends[1], ends[0]
        protocols: list[Any] = [
            factory.buildProtocol(_CLIENT) for factory in (protocolFactory, self._server)
        ]
        for end, protocol in zip(ends, protocols, strict=True):
            end.protocol = protocol
        for end, protocol in reversed(list(zip(ends, protocols, strict=True))):
            protocol.makeConnection(end)
        return succeed(protocols[0])


@implementer(ITransport)
class End:
    """One end of a connection."""

    peer: End
    protocol: Any

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._came = bytearray()
        self._end: Exception | None = None  # what comes behind that
        self._producer: Any = None
        self._producer_paused = False
        self._paused = False
        self._scheduled = False
        self.connected = True
        self.disconnecting = False

    def write(self, data: bytes) -> None:
        if not self.connected or self.disconnecting:
            return
        self.peer._came += data
        self.peer._schedule()
        if len(self.peer._came) > READ and self._producer and not self._producer_paused:
            self._producer_paused = True
            self._producer.pauseProducing()

    def writeSequence(self, data: Iterable[bytes]) -> None:
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        if not self.disconnecting:
            self.disconnecting = True
            self.peer._end = error.ConnectionDone()
            self.peer._schedule()
            self._clock.callLater(0, self._lost, error.ConnectionDone())

    def abortConnection(self) -> None:
        self.disconnecting = True
        self._clock.callLater(0, self._lost, error.ConnectionAborted())
        self._clock.callLater(0, self.peer._lost, error.ConnectionLost())

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        self._producer = producer

    def unregisterProducer(self) -> None:
        self._producer = None
        self._producer_paused = False

    def pauseProducing(self) -> None:
        self._paused = True

    def resumeProducing(self) -> None:
        self._paused = False
        self._schedule()

    def stopProducing(self) -> None:
        self.loseConnection()

    def getPeer(self) -> IPv4Address:
        return _CLIENT

    def getHost(self) -> IPv4Address:
        return _SERVER

    def setTcpNoDelay(self, enabled: bool) -> None:
        pass

    def setTcpKeepAlive(self, enabled: bool) -> None:
        pass

    def _schedule(self) -> None:
        if not self._scheduled and (self._came or self._end):
            self._scheduled = True
            self._clock.callLater(0, self._read)

    def _read(self) -> None:
        self._scheduled = False
        if self._paused or not self.connected:
            return
        if self._came:
            data = bytes(self._came[:READ])
            del self._came[:READ]
            self.protocol.dataReceived(data)
            self.peer._flow()
        elif self._end is not None:
            self._lost(self._end)
        self._schedule()

    def _flow(self) -> None:
        if self._producer_paused and self._producer and len(self.peer._came) <= READ:
            self._producer_paused = False
            self._producer.resumeProducing()

    def _lost(self, reason: Exception) -> None:
        if self.connected:
            self.connected = False
            self.disconnecting = True
            if self._producer is not None:
                self._producer.stopProducing()
            self.protocol.connectionLost(Failure(reason))
