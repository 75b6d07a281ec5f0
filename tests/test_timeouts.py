"""Time-outs of one length."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from wschat.timeouts import Timeouts

#: What to do, with which item, and how much later.
ACTIONS = st.tuples(
    st.sampled_from(["add", "discard", "expired"]), st.integers(0, 5), st.integers(0, 4)
)


class TimeoutsTests(SynchronousTestCase):
    """The earliest added is the first due."""

    def setUp(self) -> None:
        self.timeouts: Timeouts[str] = Timeouts(10.0)

    def test_nothing(self) -> None:
        """Nothing waits at first, and nothing expires."""
        self.assertEqual((len(self.timeouts), list(self.timeouts.expired(1e9))), (0, []))

    def test_due(self) -> None:
        """An item is due after the delay, to the moment, and once."""
        self.timeouts.add("a", 5.0)
        found = [list(self.timeouts.expired(now)) for now in (5.0, 14.875, 15.0, 15.0)]
        self.assertEqual(found, [[], [], ["a"], []])

    def test_order(self) -> None:
        """Those added first expire first; the rest stay."""
        for number, item in enumerate("cab"):
            self.timeouts.add(item, float(number))
        self.assertEqual(list(self.timeouts.expired(11.0)), ["c", "a"])
        self.assertEqual(len(self.timeouts), 1)

    def test_anew(self) -> None:
        """An item that is added again waits again, behind those that were added meanwhile."""
        self.timeouts.add("a", 0.0)
        self.timeouts.add("b", 1.0)
        self.timeouts.add("a", 2.0)
        self.assertEqual(len(self.timeouts), 2)
        self.assertEqual(list(self.timeouts.expired(11.0)), ["b"])
        self.assertEqual(list(self.timeouts.expired(12.0)), ["a"])

    def test_discard(self) -> None:
        """What is discarded does not expire; discarding a stranger is no error."""
        self.timeouts.add("a", 0.0)
        self.timeouts.add("b", 0.0)
        self.timeouts.discard("a")
        self.timeouts.discard("nobody")
        self.assertEqual(list(self.timeouts.expired(10.0)), ["b"])

    def test_meanwhile(self) -> None:
        """While those that expired are gone through, they may come back and others may go."""
        for item in "abc":
            self.timeouts.add(item, 0.0)
        found = []
        for item in self.timeouts.expired(10.0):
            found.append(item)
            self.timeouts.add(item, 10.0)
            self.timeouts.discard("b")
        self.assertEqual(found, ["a", "c"])
        self.assertEqual(list(self.timeouts.expired(20.0)), ["a", "c"])

    def test_stopped(self) -> None:
        """Those that nobody took out still wait."""
        self.timeouts.add("a", 0.0)
        self.timeouts.add("b", 0.0)
        self.assertEqual(next(self.timeouts.expired(10.0)), "a")
        self.assertEqual(list(self.timeouts.expired(10.0)), ["b"])

    @settings(deadline=None)
    @given(st.lists(ACTIONS, max_size=60))
    def test_model(self, actions: list[tuple[str, int, int]]) -> None:
        """It does what sorting all deadlines at every step would do."""
        timeouts: Timeouts[int] = Timeouts(6.0)
        waiting: list[tuple[float, int]] = []  # in the order of adding
        now = 0.0
        for action, item, step in actions:
            now += step
            if action != "expired":
                waiting = [entry for entry in waiting if entry[1] != item]
            if action == "add":
                waiting.append((now + 6.0, item))
                timeouts.add(item, now)
            elif action == "discard":
                timeouts.discard(item)
            else:
                due = [entry for entry in sorted(waiting, key=lambda e: e[0]) if entry[0] <= now]
                waiting = [entry for entry in waiting if entry not in due]
                self.assertEqual(list(timeouts.expired(now)), [entry[1] for entry in due])
            self.assertEqual(len(timeouts), len(waiting))
