"""Tests of `wschat.connections`: peers that are silent, and the end of all."""

from __future__ import annotations

from tests.support import Client, ServerTests
from wschat.codes import CloseCode


class KeepaliveTests(ServerTests):
    """Peers that are silent."""

    def setUp(self) -> None:
        super().setUp()
        (self.alice,) = self.connect("alice")

    def test_ping_every_54_seconds(self) -> None:
        """The server pings after 54 seconds, and every 54 seconds after that."""
        times = []
        for second in range(1, 170):
            self.server.advance(1)
            self.alice.texts()
            if self.alice.pings:
                times.append(second)
            self.alice.pong()
        self.assertEqual(times, [54, 108, 162])

    def test_silent_peer(self) -> None:
        """A peer that says nothing for 60 seconds is closed with 4012, then dropped."""
        self.server.advance(59)
        self.assertIsNone(self.alice.closed_with())
        self.server.advance(1)
        self.assertEqual(self.alice.closed_with(), CloseCode.NO_PONG)
        self.assertEqual(int(CloseCode.NO_PONG), 4012)
        self.assertNotIn("alice", self.server.hub.registry)
        self.server.advance(6)
        self.assertTrue(self.alice.wire.aborted)
        self.assertEqual(list(self.server.factory.connections), [])

    def test_answering_peer(self) -> None:
        """A peer that answers pings stays."""
        for _ in range(300):
            self.server.advance(1)
            self.alice.pong()
        self.assertIsNone(self.alice.closed_with())

    def test_talking_peer(self) -> None:
        """A peer that talks stays, even if it never answers a ping."""
        for _ in range(30):
            self.server.advance(10)
            self.alice.say("alice", "talking")
        self.assertIsNone(self.alice.closed_with())
        self.assertIn("alice", self.server.hub.registry)

    def test_falls_silent(self) -> None:
        """A peer that talked is dropped when it falls silent, seconds after its minute."""
        self.server.advance(20)
        self.alice.say("alice", "last words")
        self.server.advance(59)
        self.assertIsNone(self.alice.closed_with())
        self.server.advance(8)
        self.assertEqual(self.alice.closed_with(), 4012)


class CloseAllTests(ServerTests):
    """Closing every connection."""

    def test_close_all(self) -> None:
        """Everybody is told 4001, and it is over when all have answered."""
        clients = self.connect("alice", "bob")
        closing = self.server.factory.connections.close_all(CloseCode.SHUTDOWN)
        for client in clients:
            self.assertNoResult(closing)
            self.assertEqual(client.closed_with(), 4001)
            client.goodbye(4001)
        self.successResultOf(closing)

    def test_close_all_of_nobody(self) -> None:
        """With nobody connected it is over at once."""
        self.successResultOf(self.server.factory.connections.close_all(CloseCode.SHUTDOWN))

    def test_close_all_twice(self) -> None:
        """Both who wait are told."""
        (alice,) = self.connect("alice")
        both = [self.server.factory.connections.close_all(CloseCode.SHUTDOWN) for _ in range(2)]
        alice.goodbye(4001)
        for closing in both:
            self.successResultOf(closing)

    def test_close_all_takes_five_seconds(self) -> None:
        """A peer that does not answer a close is dropped after five seconds."""
        (alice,) = self.connect("alice")
        closing = self.server.factory.connections.close_all(CloseCode.SHUTDOWN)
        self.server.advance(4)
        self.assertNoResult(closing)
        self.server.advance(2)
        self.successResultOf(closing)
        self.assertTrue(alice.wire.aborted)

    def test_stopped(self) -> None:
        """After `stop` the factory has no timer, and pings nobody."""
        clients: list[Client] = self.connect("alice")
        self.server.factory.connections.stop()
        self.server.advance(100)
        clients[0].texts()
        self.assertEqual(clients[0].pings, [])
