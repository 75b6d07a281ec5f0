"""`./just chaos`: that it finds what it looks for, and that a short run finds nothing."""

from __future__ import annotations

import re
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase, TestCase

from scripts.chaos.journal import Journal, Reader, Record
from scripts.chaos.verdict import Verdict, judge
from tests.endtoend import ROOT, run


def record(*lines: str) -> Record:
    """What a journal of these lines says."""
    made = Record()
    for line in lines:
        made.add(line)
    return made


class VerdictTests(SynchronousTestCase):
    """What counts as what."""

    def judge(
        self, *alice: str, bob: tuple[str, ...] = (), charlie: tuple[str, ...] = ()
    ) -> Verdict:
        return judge({"alice": record(*alice), "bob": record(*bob), "charlie": record(*charlie)})

    def test_good(self) -> None:
        """Everything was stored, and heard once and in order by those whom it was for."""
        verdict = self.judge(
            *("sent 1 bob", "sent 2 broadcast", "stored 1 11", "stored 2 12"),
            bob=("got 11 alice 1", "got 12 alice 2"),
            charlie=("got 12 alice 2",),
        )
        self.assertEqual(verdict, Verdict(sent=2, stored=2, delivered=3))
        self.assertTrue(verdict.good)

    def test_lost(self) -> None:
        """A message with a receipt did not reach one of its recipients."""
        verdict = self.judge("sent 1 broadcast", "stored 1 11", bob=("got 11 alice 1",))
        self.assertEqual((verdict.lost, verdict.complete, verdict.good), (1, False, False))

    def test_unknown(self) -> None:
        """A message without any answer is not lost, but it is not known what became of it."""
        verdict = self.judge("sent 1 bob")
        self.assertEqual((verdict.lost, verdict.unknown), (0, 1))
        self.assertFalse(verdict.good)

    def test_refused(self) -> None:
        """A message that was refused has an answer, and reaches nobody."""
        verdict = self.judge("sent 1 bob", "refused 1 no")
        self.assertEqual((verdict.refused, verdict.good), (1, True))

    def test_duplicate(self) -> None:
        """A message was heard twice."""
        heard = ("got 11 alice 1", "got 11 alice 1")
        verdict = self.judge("sent 1 bob", "stored 1 11", bob=heard)
        self.assertEqual((verdict.duplicates, verdict.delivered, verdict.good), (1, 1, False))

    def test_out_of_order(self) -> None:
        """A message was heard after a later one of its sender."""
        said = ("sent 1 bob", "sent 2 bob", "stored 1 12", "stored 2 11")
        verdict = self.judge(*said, bob=("got 11 alice 2", "got 12 alice 1"))
        self.assertEqual((verdict.out_of_order, verdict.good), (1, False))

    def test_foreign(self) -> None:
        """Somebody heard what was for another, what nobody said, and their own broadcast."""
        verdict = self.judge(
            *("sent 1 bob", "stored 1 11", "sent 2 broadcast", "got 12 alice 2"),
            bob=("got 11 alice 1", "got 13 alice 3", "got 12 alice 2"),
            charlie=("got 11 alice 1", "got 12 alice 2"),
        )
        self.assertEqual((verdict.foreign, verdict.good), (3, False))


class JournalTests(SynchronousTestCase):
    """What a client writes is what is read, as far as it goes."""

    def test_round_trip(self) -> None:
        """A reader follows a writer, whole lines at a time."""
        path = Path(self.mktemp())
        reader = Reader(path)
        self.assertEqual(reader.read().record, Record())
        journal = Journal(path)
        journal.write("connected")
        journal.write("sent", 1, "bob")
        self.assertEqual(list(reader.read().record.unsettled), [1])
        journal.write("stored", 1, 17)
        journal.write("got", 18, "bob", 3)
        with path.open("a") as file:
            file.write("got 19 bo")
        found = reader.read().record
        self.assertEqual((found.connected, list(found.unsettled)), (True, []))
        self.assertEqual((found.got, found.last_id), ([("bob", 3)], 18))


class ChaosTests(TestCase):
    """A short run."""

    timeout = 240

    def test_nothing_is_lost(self) -> Deferred[None]:
        """Half a minute of every fault costs no message, and none comes twice or out of order."""
        return deferToThread(self._short_run)

    def _short_run(self) -> None:
        command = [str(ROOT / "just"), "chaos", "--minutes", "0.4", "--clients", "4"]
        done = run(command, {}, ROOT, patience=200)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        counts = {
            name: int(n) for n, name in re.findall(r"^ *(\d+) ([a-z -]+)$", done.stdout, re.M)
        }
        self.assertGreater(counts["server kills"], 0)
        self.assertRegex(done.stdout, r"delivered +[1-9]")
