"""Tests of `wschat.client.screen`: what a reader sees, and where in it they are."""

from __future__ import annotations

from typing import Any, cast

from twisted.trial.unittest import SynchronousTestCase

from tests.client.test_entries import texts
from wschat.client import screen as module
from wschat.client.cells import width
from wschat.client.listener import Counters, Heard, State
from wschat.client.screen import LONGEST, Screen, rule
from wschat.envelope import Authenticity
from wschat.wire import Message

TIME = "2026-11-22T10:00:00Z"
LATER = "2026-11-24T10:00:00Z"


def said(
    number: int,
    text: str | None = "hello",
    sender: str = "bob",
    to: str = "alice",
    *,
    worth: Authenticity = Authenticity.ENVELOPE,
    time: str = TIME,
    client_id: str | None = None,
) -> Heard:
    """A message as a client tells of it."""
    message = Message(sender, to, text or "", time, client_id=client_id)
    message.id = number
    return Heard(message, text, worth)


class _ScreenTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.screen = Screen("alice", "localhost:8443")

    def pane(self, cells: int = 60, height: int = 20) -> list[str]:
        """The lines of the pane that have something."""
        lines = texts(self.screen.pane(cells, height))
        self.assertEqual(len(lines), height)
        self.assertLessEqual(max(map(width, lines)), cells)
        return [line for line in lines if line]

    def bodies(self, height: int = 20) -> list[str]:
        """What is said in the lines of the pane."""
        return [line[10:] for line in self.pane(height=height) if line[3:4] == ":"]


class MessageTests(_ScreenTests):
    """Messages of all kinds."""

    def test_heard(self) -> None:
        """Messages of one conversation in a row have one head; a day has a line of its own."""
        for number, text in enumerate(("one", "two"), 1):
            self.screen.heard(said(number, text))
        self.screen.heard(said(3, "three", "charlie", "broadcast", worth=Authenticity.NONE))
        self.screen.heard(said(4, "four", "charlie", "broadcast", time=LATER))
        lines = self.pane()
        heads = [line for line in lines if " -> " in line]
        self.assertEqual(
            heads,
            [
                "bob -> alice [VERIFIED]",
                "charlie -> broadcast",
                "charlie -> broadcast [VERIFIED]",
            ],
        )
        self.assertEqual(len([line for line in lines if line.startswith("── Sunday")]), 1)
        self.assertEqual(len([line for line in lines if line.startswith("── Tuesday")]), 1)
        self.assertEqual(self.bodies(), ["one", "two", "three", "four"])

    def test_hostile(self) -> None:
        """Names and texts cannot control the terminal, wherever they are shown."""
        self.screen.heard(said(1, "a\x1b[2J\x9b\u202eb\r\nc", "ev\x1bil", "b\x07ob", time="\x1b"))
        self.screen.say("the server says \x1b[2J", TIME)
        self.screen.refused("no\x1b", None, TIME)
        self.screen.people(["ev\x1bil"], ["x\x9b"])
        shown = [*self.pane(), *texts(self.screen.sidebar(16, 10))]
        self.assertTrue(all(line.isprintable() for line in shown), shown)
        self.assertIn(r"a\x1b[2J\x9b\u202eb\r\nc", "".join(shown))

    def test_alarm(self) -> None:
        """What is not from whom it says is loud, and is not taken for one's own."""
        for sender in ("bob", "alice"):
            self.screen.heard(said(1, "x", sender, worth=Authenticity.INVALID))
        lines = self.screen.pane(80, 10)
        loud = [line for line in lines if ("class:alarm", "x") in line]
        self.assertEqual(len(loud), 2)
        self.assertNotIn("✓", "".join(texts(lines)))
        self.assertIn("!!! NOT FROM THEM", "".join(texts(lines)))

    def test_own(self) -> None:
        """One's own message has a mark: on its way, stored, arrived."""
        self.screen.sent("a1", "bob", "hi\x1b", TIME)
        marks = []
        for tell in (
            lambda: None,
            lambda: self.screen.stored("a1", 5),
            lambda: self.screen.delivered("a1"),
        ):
            tell()
            marks += self.bodies()
        self.assertEqual(marks, [r"hi\x1b …", r"hi\x1b ✓", r"hi\x1b ✓✓"])
        self.assertIn("alice -> bob", self.pane())

    def test_refused(self) -> None:
        """What was refused has a cross, and why below; what is not known is only said."""
        self.screen.sent("a1", "bob", "hi", TIME)
        self.screen.refused("Unknown recipient: bob.", "a1", TIME)
        self.screen.refused("no", "a9", TIME)
        self.screen.stored("a9", 1)
        self.screen.delivered("a9")
        self.assertEqual(self.bodies(), ["hi ✗", "Unknown recipient: bob.", "no"])

    def test_delayed(self) -> None:
        """Why something cannot be stored is said once, until something is."""
        for _ in range(2):
            self.screen.delayed("The disk is full.", TIME)
        self.screen.stored("a1", 1)
        self.screen.delayed("The disk is full.", TIME)
        self.assertEqual(len(self.bodies()), 2)

    def test_recalled(self) -> None:
        """What was said before stands above the rest, in order, and each message once."""
        self.screen.sent("a1", "bob", "mine", LATER)
        self.screen.heard(said(9, "new", time=LATER))
        before = [
            said(8, "mine", "alice", "bob", client_id="a1"),
            said(9, "new"),
            said(3, "second", "alice", "bob"),
            said(2, "first"),
        ]
        self.screen.recall(before)
        self.assertEqual(self.bodies(), ["first", "second ✓", "mine …", "new"])
        self.screen.heard(said(2, "first"))
        self.assertEqual((len(self.bodies()), self.screen.unread), (4, 2))
        self.screen.heard(said(2, "another"))  # a server that gives an id twice hides nothing
        self.assertEqual(self.bodies()[-1], "another")

    def test_shown(self) -> None:
        """What was asked for is shown below, though it is there already, and is not unread."""
        self.screen.recall([said(1, "one")])
        self.screen.show([said(1, "one"), said(2, None)])
        self.assertEqual(self.bodies(), ["one", "one", "(cannot be opened)"])
        self.assertEqual(self.screen.unread, 0)

    def test_bounded(self) -> None:
        """The oldest are forgotten, with all that is known of them."""
        self.patch(module, "KEPT", 3)
        self.screen.sent("a1", "bob", "mine", TIME)
        self.screen.heard(said(1, "first"))
        self.pane(height=2)
        self.screen.scroll(-9)
        for number in range(2, 6):
            self.screen.heard(said(number, f"n{number}"))
        self.screen.delivered("a1")
        self.assertEqual(self.bodies(), ["n3", "n4", "n5"])
        self.assertEqual((self.screen._own, len(self.screen._ids)), ({}, 3))

    def test_long(self) -> None:
        """Of a text that is very long the beginning is shown, and how much more there is."""
        self.screen.heard(said(1, "\x01" * 50_000))
        shown = "".join(line[10:] for line in self.pane(cells=200, height=1000))
        self.assertEqual(shown.count("\\x01"), LONGEST)
        self.assertIn("… (42000 more characters)", shown)

    def test_long_name(self) -> None:
        """A server can name nobody so that it fills the screen."""
        self.screen.heard(said(1, "hello", "b" * 50_000, "a" * 50_000))
        self.assertLess(sum(map(len, self.pane(height=100))), 400)

    def test_bounded_characters(self) -> None:
        """Entries are kept as far as they can be laid out in a moment, and one at least."""
        self.patch(module, "KEPT_CHARACTERS", 150)
        self.screen.heard(said(1, "first"))
        for number in range(2, 5):
            self.screen.heard(said(number, str(number) * 30))
        self.assertEqual([body[0] for body in self.bodies()], ["3", "4"])
        self.screen.heard(said(5, "5" * 300))
        self.assertEqual({body[0] for body in self.bodies() if body.strip()}, {"5"})
        self.screen.recall([said(0, "recalled")])
        self.assertNotIn("recalled", self.bodies())
        self.screen.heard(said(6, "last"))
        self.assertEqual(self.bodies(), ["last"])


class ReaderTests(_ScreenTests):
    """Where the reader is, and what they have read."""

    def test_unread(self) -> None:
        """What comes is unread, in the list and behind a line, until a key is pressed."""
        self.screen.heard(said(1, "old"))
        self.screen.attention()
        self.screen.people(["alice", "bob"])
        self.screen.heard(said(2, "new"))
        self.screen.heard(said(3, "newer"))
        lines = self.pane()
        at = next(n for n, line in enumerate(lines) if line.startswith("── new"))
        self.assertTrue(lines[at + 2].endswith(" new"), lines)
        self.assertIn("● bob          2", texts(self.screen.sidebar(16, 10)))
        self.screen.attention()
        self.assertEqual(self.screen.unread, 0)
        self.assertIn("  bob", [line.rstrip() for line in texts(self.screen.sidebar(16, 10))])
        self.screen.sent("a1", "bob", "yes", TIME)
        self.assertFalse([line for line in self.pane() if line.startswith("── new")])

    def test_own_elsewhere(self) -> None:
        """What the user said from elsewhere is nothing unread."""
        self.screen.heard(said(1, "x", "alice", "bob"))
        self.assertEqual((self.bodies(), self.screen.unread), (["x ✓"], 0))

    def fill(self, count: int = 30) -> None:
        for number in range(1, count + 1):
            self.screen.say(f"n{number}", TIME)

    def test_scroll(self) -> None:
        """Pages have a line in common; at both ends it stops."""
        self.fill()
        self.assertEqual(self.bodies(5)[-1], "n30")
        self.screen.scroll(-1)
        self.assertEqual(self.bodies(5), ["n22", "n23", "n24", "n25", "n26"])
        self.screen.scroll(-9)
        self.assertEqual(self.bodies(5), ["n1", "n2", "n3", "n4"])  # below the day
        self.screen.scroll(1)
        self.assertEqual(self.bodies(5)[0], "n4")
        self.assertFalse(self.screen.at_the_end)
        self.screen.scroll(9)
        self.assertTrue(self.screen.at_the_end)

    def test_stays(self) -> None:
        """Who has scrolled up stays there whatever comes, and it is unread until they are back."""
        self.fill()
        self.bodies(5)
        self.screen.scroll(-2)
        before = self.bodies(5)
        self.screen.heard(said(1, "news"))
        self.screen.recall([said(2, "from before")])
        self.screen.attention()
        self.assertEqual((self.bodies(5), self.screen.unread), (before, 1))
        self.assertIn("1 new below", texts([self.status()])[0])
        self.screen.to_the_end()
        self.assertEqual((self.bodies(5)[-1], self.screen.unread), ("news", 0))

    def test_resized(self) -> None:
        """In another size the same line is at the top, and the last one at the bottom."""
        self.fill()
        self.bodies(5)
        self.screen.scroll(-2)
        top = self.bodies(5)[0]
        self.assertEqual(self.bodies(8)[0], top)
        self.screen.to_the_end()
        for cells, height in ((10, 3), (200, 50), (1, 1)):
            self.assertEqual(len(self.screen.pane(cells, height)), height)

    def test_few(self) -> None:
        """A screen that is not full yet does not scroll."""
        self.screen.scroll(-1)
        self.fill(2)
        self.bodies()
        self.screen.scroll(-1)
        self.assertTrue(self.screen.at_the_end)

    def status(self, cells: int = 80, waiting: int = 0, **counted: float) -> list[tuple[str, str]]:
        counted = {"sent": 3, "received": 5, "refused": 0, "reconnects": 0, **counted}
        counters = cast(Any, Counters)(**counted)
        return self.screen.status(cells, counters, waiting)

    def test_status(self) -> None:
        """The line says who, where, how it is with the connection, and what was counted."""
        self.assertIn("○", texts([self.status()])[0])
        self.screen.state = State.CONNECTED
        line = texts([self.status(round_trip=0.0123)])[0]
        self.assertIn("● alice on localhost:8443 │ connected 12.3 ms │ ↑3 ↓5", line)
        self.assertTrue(line.endswith("/help "), line)
        self.assertNotIn("waiting", line)
        line = texts([self.status(120, 2, reconnects=4, refused=6)])[0]
        self.assertIn("2 waiting │ 4 times back │ 6 refused", line)
        self.screen.heard(said(1))
        self.assertTrue(texts([self.status()])[0].endswith("1 new "))
        for cells in range(3, 200):
            self.assertEqual(width(texts([self.status(cells, 9)])[0]), cells)


class PeopleTests(_ScreenTests):
    """Who is there."""

    def test_people(self) -> None:
        """Those who are there come first, then those who are not; each list has its title."""
        self.screen.people(["bob", "alice"], ["david", "bob"])
        self.screen.presence_changed(["charlie"], {"bob": TIME})
        lines = [line.rstrip() for line in texts(self.screen.sidebar(16, 10))]
        self.assertEqual(
            lines, ["on line 2", "  alice (you)", "  charlie", "", "away", "  bob", "  david"]
        )
        self.assertEqual(self.screen.names, ["charlie", "bob", "david"])

    def test_many(self) -> None:
        """When there are too many the last line says how many more there are."""
        self.screen.people([f"user{number:02}" for number in range(30)])
        lines = texts(self.screen.sidebar(16, 10))
        self.assertEqual((len(lines), lines[-1]), (10, "and 23 more"))

    def test_away(self) -> None:
        """Who wrote is in the list, though nobody has said that they are there."""
        self.screen.heard(said(1, "x", "charlie"))
        self.assertIn("● charlie      1", texts(self.screen.sidebar(16, 10)))
        self.assertLessEqual(max(map(width, texts(self.screen.sidebar(8, 10)))), 8)

    def test_rule(self) -> None:
        """A line across has exactly its cells."""
        for cells in (1, 5, 20):
            self.assertEqual(width(texts([rule("new", cells, "")])[0]), cells)
        self.assertEqual(texts([rule("", 5, "")]), ["─────"])
