"""When tokens end, and who hears of it before."""

from __future__ import annotations

import gc
import weakref

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from wschat.lifetimes import NOTICE, Lifetimes

#: Who, whether they stay, leave or only time passes, until how much later, and how much passes.
STEPS = st.tuples(
    st.integers(0, 3),
    st.sampled_from(["stay", "leave", "wait"]),
    st.integers(0, 900),
    st.integers(0, 400),
)


class LifetimesTests(SynchronousTestCase):
    """Each token is heard of twice: soon before its end, and at its end."""

    def setUp(self) -> None:
        self.lifetimes: Lifetimes[str] = Lifetimes()

    def due(self, now: float) -> tuple[list[str], list[tuple[str, float]]]:
        due = self.lifetimes.due(now)
        return due.ended, due.ending

    def test_notice_and_end(self) -> None:
        """Five minutes before, to the second, and at the end; each once."""
        self.lifetimes.stay("alice", 1000.0, 0.0)
        self.assertEqual(self.due(699.0), ([], []))
        self.assertEqual(self.due(700.0), ([], [("alice", 1000.0)]))
        self.assertEqual(self.due(999.0), ([], []))
        self.assertEqual(self.due(1000.0), (["alice"], []))
        self.assertEqual(self.due(2000.0), ([], []))
        self.assertEqual(len(self.lifetimes), 0)

    def test_near_already(self) -> None:
        """A token that is near its end when it comes is heard of at its end alone."""
        self.lifetimes.stay("alice", NOTICE, 0.0)
        self.assertEqual(self.due(NOTICE - 1), ([], []))
        self.assertEqual(self.due(NOTICE), (["alice"], []))

    def test_both_at_once(self) -> None:
        """When time has jumped over both, it is the end."""
        self.lifetimes.stay("alice", 1000.0, 0.0)
        self.assertEqual(self.due(5000.0), (["alice"], []))

    def test_renewed(self) -> None:
        """Another token takes the place of the one before, also when it is shorter."""
        self.lifetimes.stay("alice", 1000.0, 0.0)
        self.due(700.0)
        self.lifetimes.stay("alice", 5000.0, 700.0)
        self.assertEqual(self.due(4699.0), ([], []))
        self.lifetimes.stay("alice", 4750.0, 4699.0)
        self.assertEqual(self.due(4750.0), (["alice"], []))
        self.assertEqual(self.due(9999.0), ([], []))

    def test_the_same_again(self) -> None:
        """A token that is given twice is heard of as often as any other."""
        self.lifetimes.stay("alice", 1000.0, 0.0)
        self.lifetimes.stay("alice", 1000.0, 1.0)
        self.assertEqual(self.due(700.0), ([], [("alice", 1000.0)]))
        self.assertEqual(self.due(1000.0), (["alice"], []))

    def test_gone(self) -> None:
        """Who has left is heard of no more; a stranger who leaves is no error."""
        self.lifetimes.stay("alice", 1000.0, 0.0)
        for name in ("alice", "bob"):
            self.lifetimes.leave(name)
        self.assertEqual(self.due(1000.0), ([], []))

    def test_coming_and_going(self) -> None:
        """However many come and go within a token's life, nothing is kept of them."""
        self.lifetimes.stay("alice", 90_000.0, 0.0)
        for number in range(10_000):
            self.lifetimes.stay(f"user{number}", 86_400.0, 0.0)
            self.lifetimes.leave(f"user{number}")
        self.assertLess(len(self.lifetimes._heap), 100)
        self.assertEqual(self.due(89_999.0)[1], [("alice", 90_000.0)])

    def test_forgotten(self) -> None:
        """Who has left is not kept in memory until their token would have ended."""

        class Guest:
            """Somebody."""

        lifetimes: Lifetimes[Guest] = Lifetimes()
        guest = Guest()
        gone = weakref.ref(guest)
        lifetimes.stay(guest, 1000.0, 0.0)
        lifetimes.leave(guest)
        del guest
        gc.collect()
        self.assertIsNone(gone())

    @settings(deadline=None)
    @given(st.lists(STEPS, max_size=60))
    def test_model(self, steps: list[tuple[int, str, int, int]]) -> None:
        """It says what looking at everybody at every step would say."""
        lifetimes: Lifetimes[int] = Lifetimes()
        ends: dict[int, int] = {}
        told: set[int] = set()
        now = 0
        for who, action, later, passes in steps:
            if action == "stay" and ends.get(who) != now + later:
                ends[who] = now + later
                told.discard(who)
                if later <= NOTICE:
                    told.add(who)
            if action == "stay":
                lifetimes.stay(who, now + later, now)
            elif action == "leave":
                ends.pop(who, None)
                lifetimes.leave(who)
            now += passes
            due = lifetimes.due(now)
            ended = {who for who, end in ends.items() if end <= now}
            ending = {w for w, e in ends.items() if now < e <= now + NOTICE and w not in told}
            self.assertEqual(set(due.ended), ended)
            self.assertEqual({who for who, _ in due.ending}, ending)
            self.assertEqual(len(due.ended) + len(due.ending), len(ended) + len(ending))
            ends = {who: end for who, end in ends.items() if who not in ended}
            told |= ending
