"""scripts.processes: lines that are waited for, without a process."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessDone, ProcessTerminated
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from scripts.processes import Missing, Process


class ProcessTests(SynchronousTestCase):
    """A process that is fed by hand."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.shown: list[tuple[str, str]] = []
        self.process = Process("ann", lambda name, line: self.shown.append((name, line)))

    def sees(self, text: str) -> Deferred[str]:
        return Deferred.fromCoroutine(self.process.sees(text, self.clock, 5))

    def will_see(self, text: str) -> Deferred[str]:
        return Deferred.fromCoroutine(self.process.will_see(text, self.clock, 5))

    def ends(self, error: Any = None) -> None:
        self.process.processEnded(Failure(error or ProcessDone(0)))

    def test_lines(self) -> None:
        """Bytes of both streams become lines, each whole, and are shown as they come."""
        self.process.outReceived(b"one\ntw")
        self.process.errReceived(b"from errors\n")
        self.process.outReceived("o \N{SNOWMAN}".encode()[:-1])
        self.process.outReceived("\N{SNOWMAN}".encode()[-1:] + b"\n\xff\n")
        lines = ["one", "from errors", "two \N{SNOWMAN}", "\ufffd"]
        self.assertEqual(self.process.lines, lines)
        self.assertEqual(self.shown, [("ann", line) for line in lines])

    def test_last_line(self) -> None:
        """A last line counts, though it has no end."""
        wanted = self.sees("last")
        self.process.outReceived(b"the last")
        self.assertNoResult(wanted)
        self.ends()
        self.assertEqual(self.successResultOf(wanted), "the last")

    def test_past_and_future(self) -> None:
        """`sees` takes a line that came, `will_see` only one to come."""
        self.process.outReceived(b"a word\n")
        self.assertEqual(self.successResultOf(self.sees("word")), "a word")
        later = self.will_see("word")
        self.process.outReceived(b"other\n")
        self.assertNoResult(later)
        self.process.outReceived(b"new word\nnewer word\n")
        self.assertEqual(self.successResultOf(later), "new word")

    def test_impatience(self) -> None:
        """Who waits too long reads what was missing, and what came instead."""
        wanted = self.sees("word")
        self.process.outReceived(b"other\n")
        self.clock.advance(5)
        failure = self.failureResultOf(wanted, Missing)
        text = "ann never saw: word  (not within 5 s)\n    other"
        self.assertEqual(failure.getErrorMessage(), text)
        self.process.outReceived(b"word\n")  # too late, and no error

    def test_end(self) -> None:
        """A process that ends says no more: who waits, and who asks later, are told at once."""
        wanted = self.sees("word")
        status = Deferred.fromCoroutine(self.process.wait())
        self.ends(ProcessTerminated(3))
        message = self.failureResultOf(wanted, Missing).getErrorMessage()
        self.assertIn("ann ended with 3", message)
        message = self.failureResultOf(self.will_see("word"), Missing).getErrorMessage()
        self.assertIn("it had ended with 3", message)
        self.assertEqual(self.successResultOf(status), 3)
        self.assertEqual(self.successResultOf(Deferred.fromCoroutine(self.process.wait())), 3)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_signal(self) -> None:
        """A process that a signal ended has its negative number for a status."""
        self.ends(ProcessTerminated(None, 9))
        self.assertEqual(self.successResultOf(Deferred.fromCoroutine(self.process.wait())), -9)
