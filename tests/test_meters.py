"""Plain numbers: what is counted where."""

from __future__ import annotations

import bisect

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.support import make_message
from wschat.codes import ErrorCode
from wschat.meters import Histogram, Meters


class HistogramTests(SynchronousTestCase):
    """Values, by bounds."""

    def test_bounds(self) -> None:
        """A value on a bound belongs to it, as Prometheus wants it; one beyond all is kept."""
        histogram = Histogram(1, 5)
        for value in (0, 1, 2, 5, 6, 100):
            histogram.observe(value)
        self.assertEqual((histogram.counts, histogram.sum), ([2, 2, 2], 114))

    @given(st.lists(st.integers(0, 100)))
    def test_any(self, values: list[int]) -> None:
        """There are as many up to each bound as there are."""
        histogram = Histogram(10, 20, 50)
        for value in values:
            histogram.observe(value)
        ordered = sorted(values)
        up_to = [bisect.bisect_right(ordered, bound) for bound in (10, 20, 50)]
        found = [sum(histogram.counts[: n + 1]) for n in range(4)]
        self.assertEqual(found, [*up_to, len(values)])


class MetersTests(SynchronousTestCase):
    """Messages and commits."""

    def setUp(self) -> None:
        self.meters = Meters()

    def test_committed(self) -> None:
        """Messages count by kind, those that were there before apart; a commit counts once."""
        direct, broadcast = make_message("a", "bob", "x"), make_message("a", "broadcast", "x")
        self.meters.committed([direct, broadcast, direct], [direct], 0.25)
        self.assertEqual(
            +self.meters.messages,
            {("direct", "stored"): 2, ("broadcast", "stored"): 1, ("direct", "repeated"): 1},
        )
        self.assertEqual(self.meters.commit_messages.sum, 4)
        self.assertEqual(self.meters.commit_seconds.sum, 0.25)

    def test_places_alone(self) -> None:
        """A commit without messages takes its time, and is no commit of 0 messages."""
        self.meters.committed([], [], 0.5)
        self.assertEqual(sum(self.meters.commit_seconds.counts), 1)
        self.assertEqual(sum(self.meters.commit_messages.counts), 0)

    def test_refused(self) -> None:
        """Refusals count by their code, and those that are too much by their limit as well."""
        for code in (ErrorCode.BUSY, ErrorCode.RATE_LIMITED, ErrorCode.TOO_MANY_BYTES):
            self.meters.refused_message("any", code)
        found = {outcome for _, outcome in self.meters.messages}
        self.assertEqual(found, {"busy", "rate_limited", "too_many_bytes"})
        self.assertEqual(self.meters.limited, {"messages": 1, "bytes": 1})
