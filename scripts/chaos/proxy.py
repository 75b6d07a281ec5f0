"""What is between the clients and the server: a network that fails on demand."""

from __future__ import annotations

import random
import socket
from typing import Any

from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

#: What the kernel may hold for a reader who does not read, in bytes: little, but a segment.
_BUFFER = 131072


class _End(Protocol):
    """One end of a connection that goes through the proxy."""

    transport: Any

    def __init__(self, pair: _Pair) -> None:
        self._pair = pair
        self.peer: _End | None = None
        self.deaf = False  # what comes from here is lost
        self.pending: list[bytes] = []

    def dataReceived(self, data: bytes) -> None:
        if self.deaf:
            return
        if self.peer is None:
            self.pending.append(data)
        else:
            self.peer.transport.write(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._pair.ended(self)


class _Pair:
    """A client's connection and the one to the server behind it."""

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        self.client = _End(self)
        self.server: _End | None = None

    def joined(self, server: _End) -> None:
        self.server = server
        server.transport.setTcpNoDelay(True)
        for end, buffer in ((server, socket.SO_RCVBUF), (self.client, socket.SO_SNDBUF)):
            end.transport.getHandle().setsockopt(socket.SOL_SOCKET, buffer, _BUFFER)
        server.peer, self.client.peer = self.client, server
        for end, other in ((self.client, server), (server, self.client)):
            end.transport.registerProducer(other.transport, True)
        for data in self.client.pending:
            server.transport.write(data)

    def failed(self, _: Failure) -> None:
        self.cut()

    def ended(self, end: _End) -> None:
        """One end is gone; the other is told, unless the network is silent."""
        self._proxy.pairs.discard(self)
        if end.peer is not None and not (end.deaf and end.peer.deaf):
            end.peer.transport.abortConnection()

    def cut(self) -> None:
        """End both connections without a close."""
        for end in (self.client, self.server):
            if end is not None and end.transport is not None:
                end.transport.abortConnection()

    def lose(self, *, up: bool, down: bool) -> None:
        """From now on nothing arrives at the server, or at the client, or both; nobody is told."""
        self.client.deaf |= up
        if self.server is not None:
            self.server.deaf |= down

    def stall(self) -> None:
        """The client reads nothing more: what is for it stays where it is."""
        if self.server is not None:
            self.server.transport.pauseProducing()

    def flow(self) -> None:
        """The client reads again."""
        if self.server is not None:
            self.server.transport.resumeProducing()


class Proxy(Factory):
    """A listener that leads to a port of this host."""

    noisy = False

    def __init__(self, reactor: Any, port: int) -> None:
        self._reactor = reactor
        self._port = port
        self.pairs: set[_Pair] = set()

    def buildProtocol(self, addr: object) -> _End:
        pair = _Pair(self)
        self.pairs.add(pair)
        factory = Factory.forProtocol(lambda: _End(pair))
        factory.noisy = False
        joining = TCP4ClientEndpoint(self._reactor, "127.0.0.1", self._port).connect(factory)
        joining.addCallbacks(pair.joined, pair.failed)
        return pair.client

    def any(self) -> _Pair | None:
        """One connection, by chance."""
        pairs = [pair for pair in self.pairs if pair.server is not None]
        return random.choice(pairs) if pairs else None
