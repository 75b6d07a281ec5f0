"""How late the reactor is, by a clock that is."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from wschat.lag import INTERVAL, Lag


class LagTests(SynchronousTestCase):
    """A turn that was asked for, and when it came."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.lags: list[float] = []
        self.lag = Lag(self.clock, self.lags.append)
        self.lag.start()

    def test_in_time(self) -> None:
        """A reactor with nothing to do is never late."""
        self.clock.pump([INTERVAL] * 4)
        self.assertEqual(self.lags, [0, 0, 0, 0])

    def test_late(self) -> None:
        """Whatever keeps it is seen, once; after that it is in time again."""
        self.clock.advance(INTERVAL + 0.5)
        self.clock.advance(INTERVAL)
        self.assertEqual(self.lags, [0.5, 0])

    def test_stopped(self) -> None:
        """Stopped, it leaves no call behind; stopping twice is no error."""
        for _ in range(2):
            self.lag.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.clock.advance(10)
        self.assertEqual(self.lags, [])
