"""Tests of `wschat.client.narrator`: lines for people."""

from __future__ import annotations

from typing import Any

from tests.client.support import StreamTests, settings
from wschat import wire
from wschat.client.console import Broadcast, Direct, NotUnderstood, Slash
from wschat.client.listener import Heard
from wschat.client.narrator import Narrator, recipient
from wschat.client.slash import Reply
from wschat.envelope import Authenticity


def heard(worth: Authenticity) -> Heard:
    """A message that is worth something."""
    return Heard(wire.Message("bob", "alice", "hi", "2026-11-22T10:00:00Z"), "hi", worth)


class NarratorTests(StreamTests):
    """What is written where; the rest is in tests/client/test_terminal.py."""

    def setUp(self) -> None:
        super().setUp()
        self.lines: list[str] = []

    def narrator(self, **given: Any) -> Narrator:
        return Narrator(settings(1), self.lines.append, **given)

    def test_alarm(self) -> None:
        """A message that is not from whom it says has a mark, and colours on a terminal."""
        self.narrator().heard(heard(Authenticity.INVALID))
        self.narrator(coloured=True).heard(heard(Authenticity.INVALID))
        self.narrator(coloured=True).heard(heard(Authenticity.ENVELOPE))
        plain, loud, good = self.lines
        self.assertIn("[!!! NOT FROM THEM", plain)
        self.assertEqual(loud, f"\x1b[1;97;41m{plain}\x1b[0m")
        self.assertNotIn("\x1b", plain + good)

    def test_keys(self) -> None:
        """Keys that changed are a warning with both fingerprints; rotated ones a notice."""
        self.narrator().key_changed("bob", "111", "222")
        self.assertIn("* !!! The server has other keys for bob", self.notes)
        self.assertIn("/trust bob 222\n", self.notes)
        self.narrator().key_rotated("charlie", "333", "444")
        self.assertIn("444", self.notes)
        self.assertEqual(self.lines, [])

    def test_answers(self) -> None:
        """The answer and its messages go to standard output, what there is to say to error."""
        said = Reply({}, ("one",), ("note\x1b",), [heard(Authenticity.NONE)])
        self.narrator().answered(Slash("x"), said)
        self.assertEqual((self.lines[0], len(self.lines)), ("one", 2))
        self.assertEqual(self.notes, "* note\\x1b\n")

    def test_faults(self) -> None:
        """What could not be done, and what means nothing, is a note."""
        narrator = self.narrator()
        narrator.failed(Slash("x"), "a\x1b")
        narrator.misread(NotUnderstood("b"))
        narrator.noted("c")
        narrator.refused("d", None)
        self.assertEqual(self.notes, "* a\\x1b\n* b\n* c\n* d\n")

    def test_recipient(self) -> None:
        """A broadcast has the name of everybody."""
        self.assertEqual(recipient(Direct("bob", "x")), "bob")
        self.assertEqual(recipient(Broadcast("x")), "broadcast")
        self.assertEqual(self.narrator().client_id(Broadcast("x")), "")
