"""Tests of `wschat.drain`."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.support import ServerTests
from wschat.drain import waits, within


class WaitsTests(SynchronousTestCase):
    """When sessions are to come back."""

    def test_spread(self) -> None:
        """Evenly, 250 a second, from a second on; eight seconds at most, however many they are."""
        self.assertEqual(waits(0), [])
        self.assertEqual(waits(1), [1000])
        self.assertEqual(waits(4), [1000, 1004, 1008, 1012])
        many = waits(100_000)
        self.assertEqual((len(many), min(many), many[50_000]), (100_000, 1000, 5000))
        self.assertLessEqual(max(many), 9000)


class WithinTests(SynchronousTestCase):
    """Waiting for something, but not for ever."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.work: Deferred[None] = Deferred()
        self.waiting = Deferred.fromCoroutine(within(self.clock, 5, self.work))

    def test_in_time(self) -> None:
        """It goes on as soon as the work is done, and leaves no timer behind."""
        self.clock.advance(4.9)
        self.assertNoResult(self.waiting)
        self.work.callback(None)
        self.assertTrue(self.successResultOf(self.waiting))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_late(self) -> None:
        """It goes on when the time is over, and the work may end later."""
        self.clock.advance(5)
        self.assertFalse(self.successResultOf(self.waiting))
        self.work.callback(None)

    def test_done_before(self) -> None:
        """What is done already is not waited for, even when there is no time."""
        done: Deferred[None] = Deferred()
        done.callback(None)
        self.assertTrue(self.successResultOf(Deferred.fromCoroutine(within(self.clock, -1, done))))


class FarewellTests(ServerTests):
    """What sessions are told, and what is waited for."""

    def setUp(self) -> None:
        super().setUp()
        self.server.add_users("alice", "bob", "charlie")

    def farewell(self) -> Deferred[None]:
        heard = self.server.chat.say_farewell()
        self.server.turn()
        return heard

    def test_told(self) -> None:
        """Sessions of wschat.v1 are told when to come back, each another time; others nothing."""
        phone = self.server.connect_v1("alice", "phone")
        laptop = self.server.connect_v1("alice", "laptop")
        unnamed = self.server.connect_v1("bob", None)
        classic = self.server.connect("charlie")
        for client in (phone, laptop, unnamed, classic):
            client.frames()
        heard = self.farewell()
        told = [frame for client in (phone, laptop) for frame in client.frames()]
        self.assertEqual([frame["type"] for frame in told], ["draining", "draining"])
        self.assertEqual(sorted(frame["retry_after_ms"] for frame in told), [1000, 1004])
        self.assertEqual(unnamed.frames() + classic.frames(), [])
        self.assertNoResult(heard)

    def test_heard(self) -> None:
        """All that a client sent before it read the frame is in before it is done."""
        alice = self.server.connect_v1("alice")
        heard = self.farewell()
        alice.say("bob", "just before")
        self.assertNoResult(heard)
        alice.pong()
        self.successResultOf(heard)

    def test_gone(self) -> None:
        """Who goes without an answer is not waited for."""
        alice = self.server.connect_v1("alice")
        bob = self.server.connect_v1("bob")
        heard = self.farewell()
        bob.pong()
        self.assertNoResult(heard)
        alice.wire.lose()
        self.successResultOf(heard)

    def test_nobody(self) -> None:
        """With nobody there it is done at once."""
        self.successResultOf(self.farewell())
