"""Tests of `wschat.client.background`: what nobody waits for."""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from wschat.client import background


class RunTests(SynchronousTestCase):
    """Work that ends in one way or another."""

    def setUp(self) -> None:
        self.step: Deferred[None] = Deferred()
        self.done = False

    async def work(self) -> None:
        await self.step
        self.done = True

    def test_done(self) -> None:
        """It begins at once, and goes on to its end."""
        running = background.run(self.work())
        self.assertNoResult(running)
        self.step.callback(None)
        self.successResultOf(running)
        self.assertTrue(self.done)

    def test_fault(self) -> None:
        """A fault is logged, and is nobody else's."""
        running = background.run(self.work())
        self.step.errback(ZeroDivisionError())
        self.successResultOf(running)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_cancelled(self) -> None:
        """To be cancelled is no fault."""
        running = background.run(self.work())
        running.cancel()
        self.successResultOf(running)
        self.assertEqual(self.flushLoggedErrors(CancelledError), [])
        self.assertFalse(self.done)


class LaterTests(SynchronousTestCase):
    """What is to be called later."""

    def test_pending(self) -> None:
        """It is pending until it was called."""
        clock = Clock()
        call = clock.callLater(1, lambda: None)
        self.assertEqual((background.pending(None), background.pending(call)), (False, True))
        clock.advance(1)
        self.assertFalse(background.pending(call))

    def test_cancel(self) -> None:
        """What is pending is not called, and what was called is left alone."""
        clock = Clock()
        came: list[int] = []
        calls = [clock.callLater(seconds, came.append, seconds) for seconds in (1, 2, 3)]
        clock.advance(1)
        background.cancel(None, *calls)
        clock.advance(10)
        self.assertEqual(came, [1])
