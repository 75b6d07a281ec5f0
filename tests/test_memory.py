"""Tests of `wschat.memory`."""

from __future__ import annotations

from typing import Any

from twisted.internet import error
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from wschat.memory import READ, Endpoint


class Remembering(Protocol):
    """A protocol that remembers what comes."""

    transport: Any

    def __init__(self) -> None:
        self.came: list[bytes] = []
        self.end: type[BaseException] | None = None

    def dataReceived(self, data: bytes) -> None:
        self.came.append(data)

    def connectionLost(self, reason: Failure | None = None) -> None:
        assert reason is not None
        self.end = reason.type


class Producer:
    """Who writes, and is told when that is too much."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def pauseProducing(self) -> None:
        self.told.append("pause")

    def resumeProducing(self) -> None:
        self.told.append("resume")

    def stopProducing(self) -> None:
        self.told.append("stop")


class ConnectionTests(SynchronousTestCase):
    """Two protocols, and what is between them."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.reachable = True
        self.far: list[Remembering] = []
        server = Factory.forProtocol(self.answer)
        self.endpoint = Endpoint(self.clock, server, lambda: self.reachable)

    def answer(self) -> Remembering:
        """The other end."""
        self.far.append(Remembering())
        return self.far[-1]

    def connect(self) -> tuple[Any, Remembering]:
        """Both ends of a new connection."""
        near = self.successResultOf(self.endpoint.connect(Factory.forProtocol(Remembering)))
        return near, self.far[-1]

    def test_both_ways(self) -> None:
        """What is written comes in another turn, in order, at most so much at a time."""
        near, far = self.connect()
        near.transport.write(b"a" * READ)
        near.transport.writeSequence([b"b", b"c"])
        far.transport.write(b"d")
        self.assertEqual(far.came, [])
        self.clock.pump([0, 0])
        self.assertEqual((far.came, near.came), ([b"a" * READ, b"bc"], [b"d"]))

    def test_unreachable(self) -> None:
        """Nobody is there."""
        self.reachable = False
        connecting = self.endpoint.connect(Factory.forProtocol(Remembering))
        self.failureResultOf(connecting, error.ConnectionRefusedError)

    def test_closed(self) -> None:
        """A close comes behind what was written, and nothing goes out after it."""
        near, far = self.connect()
        near.transport.write(b"last")
        near.transport.loseConnection()
        near.transport.write(b"late")
        self.clock.pump([0, 0, 0])
        self.assertEqual((far.came, far.end, near.end), ([b"last"], ConnectionDone, ConnectionDone))

    def test_aborted(self) -> None:
        """An abort comes at once."""
        near, far = self.connect()
        far.transport.pauseProducing()
        near.transport.write(b"lost")
        near.transport.abortConnection()
        self.clock.pump([0, 0])
        self.assertEqual((far.came, far.end, near.end), ([], ConnectionLost, ConnectionAborted))

    def test_pressure(self) -> None:
        """Who does not read holds up who writes, until they do."""
        near, far = self.connect()
        producer = Producer()
        near.transport.registerProducer(producer, True)
        far.transport.pauseProducing()
        near.transport.write(b"x" * READ)
        self.assertEqual(producer.told, [])
        near.transport.write(b"y")
        self.clock.pump([0, 0])
        self.assertEqual((producer.told, far.came), (["pause"], []))
        far.transport.resumeProducing()
        self.clock.pump([0, 0])
        self.assertEqual((producer.told, far.came), (["pause", "resume"], [b"x" * READ, b"y"]))
