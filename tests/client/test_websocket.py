"""Tests of `wschat.client.websocket`: Autobahn's side, in memory."""

from __future__ import annotations

from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from wschat.client.websocket import MAX_MESSAGE, Connection, ConnectionFactory


class Remembering:
    """An owner that remembers what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []

    def opened(self, connection: Connection) -> None:
        self.told.append(("opened", connection))

    def received(self, payload: bytes) -> None:
        self.told.append(("received", payload))

    def lost(self, code: int | None, reason: str, status: int | None) -> None:
        self.told.append(("lost", code, reason, status))


class ConnectionTests(SynchronousTestCase):
    """What a connection tells its owner."""

    def setUp(self) -> None:
        self.owner = Remembering()
        self.factory = ConnectionFactory(self.owner, "wss://localhost:8443/ws?token=t", (25, 30))
        self.connection = self.factory.buildProtocol(None)

    def test_offers(self) -> None:
        """The upgrade asks for `wschat.v1`, and for the page that it was given."""
        transport = StringTransport()
        self.connection.makeConnection(transport)
        timeout: Any = self.connection.openHandshakeTimeoutCall
        timeout.cancel()
        request, *headers = transport.value().decode().split("\r\n")
        self.assertEqual(request, "GET /ws?token=t HTTP/1.1")
        self.assertIn("Sec-WebSocket-Protocol: wschat.v1", headers)

    def test_options(self) -> None:
        """A server is pinged as often as was said, and may send a page of history."""
        self.assertEqual((self.factory.autoPingInterval, self.factory.autoPingTimeout), (25, 30))
        self.assertEqual(self.factory.maxMessagePayloadSize, MAX_MESSAGE)
        self.assertFalse(self.factory.failByDrop)

    def test_can_send(self) -> None:
        """Only an open connection takes something: none that begins, closes, or is closed."""
        connection = self.connection
        for state in ("CONNECTING", "OPEN", "CLOSING", "CLOSED"):
            connection.state = getattr(connection, f"STATE_{state}")
            self.assertEqual(connection.can_send, state == "OPEN")

    def test_opened(self) -> None:
        """It is open; a frame has come."""
        self.connection.state = self.connection.STATE_CONNECTING
        self.connection.onOpen()
        self.connection.onMessage(b"{}", False)
        self.assertEqual(self.owner.told, [("opened", self.connection), ("received", b"{}")])

    def test_lost(self) -> None:
        """It is closed, with a code and a reason, or with neither."""
        self.connection.onClose(True, 4001, "going down")
        self.connection.onClose(False, None, None)
        self.assertEqual(
            self.owner.told, [("lost", 4001, "going down", None), ("lost", None, "", None)]
        )

    def test_no_answer(self) -> None:
        """A server that answers what is no HTTP at all has not opened it, and nothing is raised."""
        for answer in (b"HTTP/1.1 101 \xff", b"HTTP/1.1 " + b"9" * 5000, b"\xff", b"9" * 5000):
            connection = self.factory.buildProtocol(None)
            transport: Any = StringTransport(lenient=True)
            transport.abortConnection = transport.loseConnection
            transport.unregisterProducer = lambda: None  # without one it is no error
            connection.makeConnection(transport)
            connection.dataReceived(answer + b"\r\n\r\n")
            self.assertEqual(connection.state, connection.STATE_CLOSED)
            connection.connectionLost(Failure(ConnectionDone()))
            self.assertEqual(self.owner.told.pop()[0], "lost")

    def test_refused(self) -> None:
        """It was never open: the status of the answer is told, if that had one."""
        for line in ("HTTP/1.1 401 Unauthorized", "HTTP/1.1", "HTTP/1.1 nonsense"):
            self.connection.http_status_line = line
            self.connection.onClose(False, 1006, "x")
        self.assertEqual([told[-1] for told in self.owner.told], [401, None, None])
