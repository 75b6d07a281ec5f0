"""Tests of `wschat.client.background`: what nobody waits for."""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred
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
