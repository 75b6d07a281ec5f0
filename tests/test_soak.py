"""`./just soak`: that it finds what it looks for, and that a short run finds nothing."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase, TestCase

from scripts.soak.ledger import BROADCAST, Ledger
from scripts.soak.plot import plot
from scripts.soak.verdict import growth, judge, percentile
from tests.endtoend import ROOT, run

GOOD = {"lost": 0, "repeated": 0, "foreign": 0, "unsettled": 0}


class LedgerTests(SynchronousTestCase):
    """Who should have heard what."""

    def setUp(self) -> None:
        self.ledger = Ledger()

    def lost(self) -> int:
        return self.ledger.lost(["alice", "bob", "charlie"])

    def test_direct(self) -> None:
        """A message is lost until it is heard, whichever is known first."""
        self.ledger.was_stored("a1", "alice", "bob", 1)
        self.assertEqual(self.lost(), 1)
        self.ledger.was_heard("bob", "a1", 1, broadcast=False)
        self.ledger.was_heard("bob", "a2", 2, broadcast=False)
        self.ledger.was_stored("a2", "alice", "bob", 2)
        self.assertEqual((self.lost(), self.ledger.foreign), (0, 0))
        self.assertEqual((self.ledger.stored, self.ledger.heard), (2, 2))

    def test_foreign(self) -> None:
        """A message that reaches another is foreign, whichever is known first."""
        self.ledger.was_stored("a1", "alice", "bob", 1)
        self.ledger.was_heard("charlie", "a1", 1, broadcast=False)
        self.ledger.was_heard("charlie", "a2", 2, broadcast=False)
        self.ledger.was_stored("a2", "alice", "bob", 2)
        self.assertEqual(self.ledger.foreign, 2)

    def test_broadcast(self) -> None:
        """A broadcast is lost for each who has not heard it; its sender need not."""
        for number, sender in ((1, "alice"), (2, "bob")):
            self.ledger.was_stored(f"b{number}", sender, BROADCAST, number)
        self.assertEqual(self.lost(), 3)
        for reader, message_id in (("bob", 1), ("alice", 2), ("charlie", 1)):
            self.ledger.was_heard(reader, f"b{message_id}", message_id, broadcast=True)
        self.assertEqual(self.lost(), 1)
        self.ledger.was_heard("charlie", "b2", 2, broadcast=True)
        self.assertEqual(self.lost(), 0)


class VerdictTests(SynchronousTestCase):
    """What counts as growing without end."""

    def faults(self, memory: list[float], answers: list[list[float]], **counts: int) -> str:
        return "; ".join(judge(memory, answers, {**GOOD, **counts}).faults)

    def test_good(self) -> None:
        """Flat memory and prompt answers."""
        memory = [100.0, 104.0, 99.0, 107.0, 103.0] * 10
        self.assertEqual(self.faults(memory, [[2.0, 5.0]] * 50), "")

    def test_counts(self) -> None:
        """Anything lost, repeated, foreign or without an answer is a fault."""
        for name, told in (("lost", "lost: 1"), ("repeated", "repeated: 1"), ("foreign", "for")):
            self.assertIn(told, self.faults([100.0], [[1.0]], **{name: 1}))
        self.assertIn("no answer", self.faults([100.0], [[1.0]], unsettled=1))

    def test_memory(self) -> None:
        """Memory that grows by more than a tenth."""
        grows = [100.0 + number for number in range(100)]
        self.assertIn("memory grew from 110 to 190 MiB", self.faults(grows, [[1.0]] * 100))
        self.assertEqual(growth([100.0]), (100.0, 100.0))

    def test_slow(self) -> None:
        """More than one in a hundred answers takes longer than 100 ms."""
        self.assertIn("within 150 ms", self.faults([100.0], [[1.0] * 98 + [150.0] * 2]))
        self.assertEqual(self.faults([100.0], [[1.0] * 99 + [150.0]]), "")

    def test_slower(self) -> None:
        """Answers take ever longer, although not yet too long."""
        answers = [[1.0]] * 60 + [[90.0]] * 30
        self.assertIn("became slower", self.faults([100.0], answers))

    def test_nothing(self) -> None:
        """What was not measured was not shown."""
        self.assertEqual(self.faults([], []), "nothing was measured")
        self.assertEqual(self.faults([100.0], [[]]), "nothing was measured")

    @given(st.lists(st.floats(0, 1000), min_size=1), st.floats(0.01, 1))
    def test_percentile(self, values: list[float], share: float) -> None:
        """It is one of the values; at least that share of all are no greater, less are smaller."""
        found = percentile(values, share)
        self.assertIn(found, values)
        self.assertGreaterEqual(sum(v <= found for v in values) + 1e-9, share * len(values))
        self.assertLess(sum(v < found for v in values), share * len(values) + 1e-9)

    def test_percentile_of_none(self) -> None:
        """Of no values there is none."""
        self.assertEqual(percentile([], 0.99), 0.0)


class PlotTests(SynchronousTestCase):
    """A curve, of characters."""

    def test_plot(self) -> None:
        """The highest value fills its column, half of it the lower half."""
        expected = "Up\n8.0 MiB │  █\n        │  █\n        │ ██\n  0 MiB │ ██"
        self.assertEqual(plot("Up", [0.0, 4.0, 8.0], "MiB", rows=4), expected)

    def test_many(self) -> None:
        """A column is the highest of its stretch, and there are not too many."""
        values = [0.0] * 1000
        values[500] = 1.0
        lines = plot("Peak", values, "ms", columns=10, rows=2).splitlines()
        self.assertEqual([line.partition("│")[2] for line in lines[1:]], ["     █    "] * 2)

    def test_nothing(self) -> None:
        """Without values there is no curve."""
        self.assertEqual(plot("Up", [], "MiB"), "Up: nothing was measured")
        self.assertIn("│ ", plot("Flat", [0.0], "MiB"))


class SoakTests(TestCase):
    """A short run."""

    timeout = 240

    def test_nothing_is_lost(self) -> Deferred[None]:
        """A few seconds with a small crowd lose nothing; how prompt it was is not asked."""
        return deferToThread(self._short_run)

    def _short_run(self) -> None:
        command = [str(ROOT / "just"), "soak", "--minutes", "0.25", "--clients", "20"]
        done = run(command, {}, ROOT, patience=200)
        faults = re.findall(r"^FAULT (.*)$", done.stdout, re.M)
        self.assertEqual([f for f in faults if "pings" not in f and "slower" not in f], [])
        self.assertRegex(done.stdout, r"(?m)^ +[1-9][0-9,]* stored$", done.stdout + done.stderr)
        for name in ("lost", "repeated", "foreign", "unsettled"):
            self.assertRegex(done.stdout, rf"(?m)^ +0 {name}$")
