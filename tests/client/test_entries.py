"""Tests of `wschat.client.entries`: a message in lines."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from wschat.client.cells import width
from wschat.client.entries import Entry, Fragments, Kind

TIME = "2026-11-22T10:00:00Z"


def texts(lines: list[Fragments]) -> list[str]:
    """Lines without their styles."""
    return ["".join(text for _, text in line) for line in lines]


class EntryTests(SynchronousTestCase):
    """Lines of an entry."""

    def test_head(self) -> None:
        """A message has a head, unless it follows one with the same, and its text with a time."""
        entry = Entry(Kind.HEARD, "bob -> alice [VERIFIED]", "hello", TIME)
        head, text = texts(entry.lines(40, False))
        self.assertEqual(head, "bob -> alice [VERIFIED]")
        self.assertRegex(text, r"\A \d\d:\d\d:00 hello\Z")
        self.assertEqual(texts(entry.lines(40, True)), [text])

    def test_wrapped(self) -> None:
        """A long text goes on below itself, and no line is too long."""
        lines = texts(Entry(Kind.NOTE, "", "one two three four", TIME).lines(20, False))
        self.assertEqual([line[10:] for line in lines], ["one two", "three four"])
        self.assertEqual(lines[1][:10], " " * 10)

    def test_mark(self) -> None:
        """The mark of one's own message is behind its end, or below when there is no room."""
        entry = Entry(Kind.OWN, "", "ten cells.", TIME, "✓✓")
        self.assertEqual(len(entry.lines(23, True)), 1)
        self.assertTrue(texts(entry.lines(23, True))[0].endswith("ten cells. ✓✓"))
        for cells in (20, 21, 22):
            lines = texts(entry.lines(cells, True))
            self.assertEqual((len(lines), lines[1].strip()), (2, "✓✓"))
            self.assertLessEqual(max(map(width, lines)), cells)

    def test_alarm(self) -> None:
        """Head and text of what is not from whom it says are in the loudest style."""
        lines = Entry(Kind.ALARM, "bob -> alice", "hi", TIME).lines(40, False)
        self.assertEqual([line[-1][0] for line in lines], ["class:alarm"] * 2)

    def test_answer(self) -> None:
        """The lines of an answer have no time, and the room for it."""
        self.assertEqual(texts(Entry(Kind.ANSWER, "", "x", TIME).lines(40, False)), [" x"])

    def test_narrow(self) -> None:
        """However narrow it is, it is shown somehow."""
        for cells in range(12):
            self.assertTrue(Entry(Kind.OWN, "a -> b", "text", TIME, "✓").lines(cells, False))
