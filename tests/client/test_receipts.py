"""Tests of `wschat.client.receipts`."""

from __future__ import annotations

from twisted.internet.defer import CancelledError
from twisted.trial.unittest import SynchronousTestCase

from wschat.client.receipts import (
    UNDELIVERED,
    ChatClosed,
    DeliveryUnknown,
    MessageRefused,
    Once,
    Receipts,
    Sent,
)


class OnceTests(SynchronousTestCase):
    """Something that happens once."""

    def test_happens(self) -> None:
        """All who wait are told, those who come later as well, and only of the first time."""
        once: Once[int] = Once()
        waiting = [once.wait(), once.wait()]
        self.assertFalse(once.happened)
        once.happen(7)
        once.happen(8)
        once.fail(ZeroDivisionError())
        self.assertTrue(once.happened)
        results = [self.successResultOf(each) for each in (*waiting, once.wait())]
        self.assertEqual(results, [7, 7, 7])

    def test_fails(self) -> None:
        """It may fail; when nobody waits, nobody is told."""
        once: Once[int] = Once()
        once.fail(ZeroDivisionError())
        self.failureResultOf(once.wait(), ZeroDivisionError)

    def test_cancelled(self) -> None:
        """One who does not wait any longer leaves the others waiting."""
        once: Once[int] = Once()
        one, other = once.wait(), once.wait()
        one.cancel()
        self.failureResultOf(one, CancelledError)
        once.happen(7)
        self.assertEqual(self.successResultOf(other), 7)

    def test_error_as_result(self) -> None:
        """An exception that is a result is one."""
        once: Once[Exception] = Once()
        once.happen(ZeroDivisionError())
        self.assertIsInstance(self.successResultOf(once.wait()), ZeroDivisionError)


class ReceiptsTests(SynchronousTestCase):
    """What becomes of messages."""

    def setUp(self) -> None:
        self.receipts = Receipts()

    def test_stored_and_delivered(self) -> None:
        """A message is stored, then delivered; what is not known is no matter."""
        stored = self.receipts.expect("a").wait()
        self.assertEqual(len(self.receipts), 1)
        self.receipts.stored("a", 7)
        self.assertEqual((self.successResultOf(stored), len(self.receipts)), (7, 0))
        sent = Sent("a", 7, self.receipts.delivery("a").wait)
        delivered = sent.delivered
        self.receipts.delivered("a")
        self.successResultOf(delivered)
        self.receipts.stored("a", 7)
        self.receipts.delivered("a")
        self.receipts.refused("a", "no")

    def test_refused(self) -> None:
        """A message is refused, with the reason."""
        stored = self.receipts.expect("a").wait()
        self.receipts.refused("a", "Unknown recipient.")
        refused = self.failureResultOf(stored, MessageRefused)
        self.assertEqual(str(refused.value), "Unknown recipient.")

    def test_settled(self) -> None:
        """A classic server tells no ids."""
        stored = self.receipts.expect("a").wait()
        self.receipts.settled()
        self.assertEqual(self.successResultOf(stored), 0)

    def test_forgotten(self) -> None:
        """What was not sent is not waited for."""
        self.receipts.expect("a")
        self.receipts.forget("a")
        self.assertEqual(len(self.receipts), 0)

    def test_bounded(self) -> None:
        """The oldest of too many is waited for no more."""
        first = self.receipts.delivery("first")
        for number in range(UNDELIVERED - 1):
            self.receipts.delivery(str(number))
        self.assertFalse(first.happened)
        self.receipts.delivery("one more")
        self.failureResultOf(first.wait(), DeliveryUnknown)

    def test_close(self) -> None:
        """At the end everything that is not known fails."""
        waiting = [self.receipts.expect("a").wait(), self.receipts.delivery("b").wait()]
        self.receipts.close(ChatClosed("gone"))
        for each in waiting:
            self.failureResultOf(each, ChatClosed)
