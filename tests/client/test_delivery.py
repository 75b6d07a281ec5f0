"""Tests of `wschat.client.delivery`: pure; what a flood does is in test_delivery_flood."""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from wschat import wire
from wschat.client.delivery import BYTES, MESSAGES, Deliveries
from wschat.client.listener import Heard
from wschat.envelope import Authenticity


class DeliveriesTests(SynchronousTestCase):
    """What waits for a listener, and what of it counts as handled."""

    def setUp(self) -> None:
        self.given: list[Deferred[None]] = []
        self.handled: list[str] = []
        self.changes = 0
        self.reading: list[Deferred[None]] = []
        self.read_at_once = True
        self.deliveries = Deliveries(self.read, self.hand, self.was_handled, self.changed)
        self.running = Deferred.fromCoroutine(self.deliveries.run())
        self.addCleanup(self.stop)

    def stop(self) -> None:
        self.running.cancel()
        self.failureResultOf(self.running, CancelledError)

    async def read(self, message: wire.Message) -> Heard:
        if not self.read_at_once:
            read: Deferred[None] = Deferred()
            self.reading.append(read)
            await read
        return Heard(message, message.content, Authenticity.NONE)

    def hand(self, heard: Heard) -> Deferred[None] | None:
        if heard.text == "at once":
            return None
        if heard.text == "fault":
            raise ZeroDivisionError
        self.given.append(Deferred())
        return self.given[-1]

    def was_handled(self, message: wire.Message) -> None:
        self.handled.append(message.content)

    def changed(self) -> None:
        self.changes += 1

    def put(self, *contents: str) -> None:
        for content in contents:
            self.deliveries.put(wire.Message("bob", "alice", content, ""))

    def test_in_order(self) -> None:
        """What is done counts when everything before it is done."""
        self.put("one", "two", "at once", "three")
        self.assertEqual((len(self.given), self.deliveries.waiting), (3, 4))
        self.given[1].callback(None)
        self.assertEqual(self.handled, [])
        self.given[0].callback(None)
        self.assertEqual(self.handled, ["one", "two", "at once"])
        self.assertEqual((self.deliveries.waiting, self.changes), (1, 3))

    def test_fault(self) -> None:
        """What a listener fails on is logged, and done."""
        self.put("fault", "one")
        self.given[0].errback(ZeroDivisionError())
        self.assertEqual(self.handled, ["fault", "one"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 2)

    def test_quiet(self) -> None:
        """Quiet is when nothing waits."""
        self.successResultOf(self.deliveries.quiet())
        self.put("one")
        quiet = self.deliveries.quiet()
        self.assertNoResult(quiet)
        self.given[0].callback(None)
        self.successResultOf(quiet)

    def test_given_up(self) -> None:
        """What a listener gives up does not count, nor does anything behind it."""
        self.put("one", "two", "three")
        self.given[2].callback(None)
        self.given[1].errback(CancelledError())
        self.given[0].callback(None)
        self.put("four")
        self.assertEqual(self.handled, ["one"])
        self.assertEqual((self.deliveries.waiting, len(self.given)), (0, 3))

    def test_give_up(self) -> None:
        """Nobody is waited for any more; what they do later counts no more."""
        self.put("one", "two")
        quiet = self.deliveries.quiet()
        self.deliveries.give_up()
        self.successResultOf(quiet)
        self.given[0].callback(None)
        self.assertEqual((self.handled, self.deliveries.waiting), ([], 0))

    def test_give_up_what_is_read(self) -> None:
        """What is still being read then is handed to nobody."""
        self.read_at_once = False
        self.put("one")
        self.deliveries.give_up()
        self.reading[0].callback(None)
        self.assertEqual((self.given, self.deliveries.waiting), ([], 0))

    def test_many(self) -> None:
        """From 500 on it is enough, until half of that is done; twice that is too much."""
        self.put(*["x"] * (MESSAGES - 1))
        self.assertFalse(self.deliveries.many)
        self.put("x")
        self.assertTrue(self.deliveries.many)
        for done in self.given[: MESSAGES // 2]:
            done.callback(None)
            self.assertTrue(self.deliveries.many)
        self.given[MESSAGES // 2].callback(None)
        self.assertFalse(self.deliveries.many)
        self.put(*["x"] * (MESSAGES + MESSAGES // 2))
        self.assertFalse(self.deliveries.too_many)
        self.put("x")
        self.assertTrue(self.deliveries.too_many)

    def test_bytes(self) -> None:
        """Bytes are bounded as well."""
        self.put("x" * (BYTES - 1))
        self.assertFalse(self.deliveries.many)
        self.put("x")
        self.assertEqual((self.deliveries.many, self.deliveries.too_many), (True, False))
        self.put("x" * BYTES)
        self.assertTrue(self.deliveries.too_many)
        for done in self.given:
            done.callback(None)
        self.assertFalse(self.deliveries.many)
