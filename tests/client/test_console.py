"""Tests of `wschat.client.console`: what a typed line means, and how a message is shown."""

from __future__ import annotations

import os
import time
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from wschat.client import console
from wschat.client.console import Broadcast, Direct, NotUnderstood, Slash
from wschat.envelope import Authenticity
from wschat.wire import Message

TIME = "2026-11-22T10:00:00.5Z"


NONE = Authenticity.NONE


class ParseTests(SynchronousTestCase):
    """Typed lines."""

    def test_meanings(self) -> None:
        """`@USER TEXT`, `!TEXT` and `/name`, with space around them that does not count."""
        for line, meaning in (
            ("@bob hello", Direct("bob", "hello")),
            ("  @bob   hello  there \r", Direct("bob", "hello  there")),
            ("@bob @charlie !x", Direct("bob", "@charlie !x")),
            ("!hello", Broadcast("hello")),
            ("! hello you ", Broadcast("hello you")),
            ("/users", Slash("users")),
            ("/quit now", Slash("quit", "now")),
            ("/history  bob 5 ", Slash("history", "bob 5")),
            ("/", Slash("")),
        ):
            self.assertEqual(console.parse(line), meaning)

    def test_empty(self) -> None:
        """An empty line means nothing, and is no mistake."""
        for line in ("", "   ", "\r"):
            self.assertIsNone(console.parse(line))

    def test_not_understood(self) -> None:
        """What means nothing is answered with what would."""
        for line, hint in (
            ("hello", "/help"),
            ("@", "@USER TEXT"),
            ("@ hello", "@USER TEXT"),
            ("@broadcast hello", "@USER TEXT"),
            ("@a/b hello", "@USER TEXT"),
            ("@bob", "@bob TEXT"),
            ("@bob  ", "@bob TEXT"),
            ("!", "!TEXT"),
            ("!  ", "!TEXT"),
        ):
            self.assertIn(hint, str(self.assertRaises(NotUnderstood, console.parse, line)))


class HistoryTests(SynchronousTestCase):
    """What is behind `/history`."""

    def test_meanings(self) -> None:
        """A user, with an @ or without, or ! for the broadcasts; and how many, if not twenty."""
        for rest, meaning in (
            ("bob", ("bob", 20)),
            ("@bob", ("bob", 20)),
            ("bob 5", ("bob", 5)),
            ("@bob  1000", ("bob", 1000)),
            ("!", ("broadcast", 20)),
            ("! 3", ("broadcast", 3)),
            ("broadcast 1", ("broadcast", 1)),
        ):
            self.assertEqual(console.parse_history(rest), meaning)

    def test_not_understood(self) -> None:
        """Anything else is answered with what would mean something."""
        for rest in (
            "",
            "@",
            "a/b",
            "server",
            "bob 0",
            "bob 1001",
            "bob -1",
            "bob five",
            "bob 5 6",
            f"bob {chr(0x665)}",  # an Arabic five
            "bob 1000000000001",
        ):
            error = self.assertRaises(NotUnderstood, console.parse_history, rest)
            self.assertIn("/history USER [1 to 1000]", str(error))


class UserTests(SynchronousTestCase):
    """What is behind commands that are about one user."""

    def test_user(self) -> None:
        """A user id, with an @ or without; anything else is answered with what would do."""
        for rest in ("bob", "@bob"):
            self.assertEqual(console.parse_user(Slash("whois", rest)), "bob")
        for rest in ("", "a/b", "bob charlie", "server"):
            error = self.assertRaises(NotUnderstood, console.parse_user, Slash("whois", rest))
            self.assertIn("/whois USER", str(error))

    def test_trust(self) -> None:
        """A user, and perhaps the digits of a fingerprint, in any groups."""
        for rest, meaning in (
            ("bob", ("bob", "")),
            ("@bob 12 345", ("bob", "12345")),
            ("bob  00001", ("bob", "00001")),
        ):
            self.assertEqual(console.parse_trust(rest), meaning)
        for rest in ("", "a/b", "bob yes", f"bob {chr(0x665)}"):
            self.assertRaises(NotUnderstood, console.parse_trust, rest)

    def test_help(self) -> None:
        """The help names every command, in lines that fit a terminal."""
        for name in console.COMMANDS:
            self.assertTrue([line for line in console.HELP if line.startswith(f"/{name} ")], name)
        self.assertLessEqual(max(map(len, console.HELP)), 79)


class LabelTests(SynchronousTestCase):
    """A message of one's own, as its receipts name it."""

    def test_short(self) -> None:
        """It is what was typed, with what would control the terminal spelt out."""
        self.assertEqual(console.sent_label("bob", "hello"), "@bob hello")
        self.assertEqual(console.sent_label("broadcast", "hello"), "!hello")
        self.assertEqual(console.sent_label("bob", "a\x1bb"), r"@bob a\x1bb")

    def test_long(self) -> None:
        """Of a long one the first forty characters are shown, the last of them an ellipsis."""
        self.assertEqual(console.sent_label("bob", "x" * 40), "@bob " + "x" * 40)
        self.assertEqual(console.sent_label("bob", "x" * 41), "@bob " + "x" * 39 + "…")


class VisibleTests(SynchronousTestCase):
    """What is shown of what somebody wrote."""

    def test_plain(self) -> None:
        """Text of any language is shown as it is."""
        text = "Gr\u00fc\u00dfe, \u65e5\u672c, \u0639\u0631\u0628\u064a, \U0001f600 \\ '"
        self.assertEqual(console.visible(text), text)

    def test_invisible(self) -> None:
        """What takes no place at all is spelt out, but for what joins letters and emoji."""
        for character in "\u00ad\u180e\u200b\u2060\u2064\ufeff\ud800":
            shown = console.visible(f"bo{character}b")
            self.assertEqual(shown, "bo" + character.encode("unicode_escape").decode() + "b")
            shown.encode()
        for text in (
            "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
            "\U0001f468\u200d\U0001f467",
        ):
            self.assertEqual(console.visible(text), text)

    def test_control(self) -> None:
        """Every control character, C0 and C1, is spelt out."""
        for code in (*range(32), *range(127, 160)):
            shown = console.visible(chr(code))
            self.assertTrue(shown.startswith("\\"), code)
            self.assertTrue(shown.isprintable() and shown.isascii(), code)
        self.assertEqual(console.visible("a\x1b[2Jb\n"), r"a\x1b[2Jb\n")

    def test_direction(self) -> None:
        """Characters that turn the direction of text, and separators of lines, are spelt out."""
        marks = (
            "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u2028\u2029"
        )
        for mark in marks:
            self.assertEqual(console.visible(mark), f"\\u{ord(mark):04x}")


class ClockTests(SynchronousTestCase):
    """The local time of a message."""

    def zone(self, name: str) -> None:
        """Be in a time zone."""
        self.addCleanup(time.tzset)
        before = os.environ.get("TZ")
        self.addCleanup(self._restore, before)
        os.environ["TZ"] = name
        time.tzset()

    def _restore(self, before: str | None) -> None:
        if before is None:
            os.environ.pop("TZ", None)
        else:
            os.environ["TZ"] = before

    def test_local(self) -> None:
        """Times of any offset and fraction are shown in the reader's own zone."""
        self.zone("UTC-1")  # POSIX: an hour east
        for text in (
            "2026-11-22T10:00:00Z",
            "2026-11-22T10:00:00.123456789Z",
            "2026-11-22T12:30:00.5+02:30",
            "2026-11-22T08:00:00-02:00",
        ):
            self.assertEqual(console.clock(text), "11:00:00")

    def test_none(self) -> None:
        """What is no time has dashes."""
        for text in ("", "yesterday", "2026-13-01T00:00:00Z", "2026-11-22T10:00:00"):
            self.assertEqual(console.clock(text), "--:--:--")

    def test_day(self) -> None:
        """A time's day is the reader's own; what is no time has none."""
        self.zone("UTC-1")
        self.assertEqual(console.day("2026-11-22T23:30:00Z"), "Monday 2026-11-23")
        self.assertEqual(console.day("yesterday"), "")

    def test_edges(self) -> None:
        """The first and the last year are shown without a fault."""
        for zone in ("UTC-12", "UTC+12"):
            self.zone(zone)
            for text in ("0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"):
                self.assertRegex(console.clock(text), r"\A\d\d:\d\d:\d\d\Z")


class LineTests(SynchronousTestCase):
    """`[HH:MM:SS] from -> to [VERIFIED] [ENCRYPTED]: text`."""

    def line(self, text: str | None, worth: Authenticity = NONE, **given: Any) -> str:
        message = Message("alice", given.pop("topic", "bob"), "x", TIME, **given)
        return console.received_line(message, text, worth)

    def test_name_like_a_line(self) -> None:
        """Whatever a server says that somebody is called, it does not look like a message."""
        message = Message("bob -> alice [VERIFIED]: pay\u3000\u200b\x1b", "\u00e9 d", "x", "")
        line = console.received_line(message, "x", NONE)
        sender = r"bob\x20-\x3e\x20alice\x20\x5bVERIFIED\x5d\x3a\x20pay\u3000\u200b\x1b"
        self.assertEqual(line, f"[--:--:--] {sender} -> \u00e9\\x20d: x")

    def test_marks(self) -> None:
        """The line says what is known of the message."""
        start = r"\A\[\d\d:\d\d:00\] alice -> bob"
        self.assertRegex(self.line("hi"), start + r": hi\Z")
        for worth in (Authenticity.ENVELOPE, Authenticity.CONTENT):
            self.assertRegex(self.line("hi", worth), start + r" \[VERIFIED\]: hi\Z")
        sealed: dict[str, Any] = {"encrypted_key": "k", "encryption_nonce": "n"}
        self.assertRegex(self.line("hi", **sealed), start + r" \[ENCRYPTED\]: hi\Z")
        both = start + r" \[VERIFIED\] \[ENCRYPTED\]: hi\Z"
        self.assertRegex(self.line("hi", Authenticity.ENVELOPE, **sealed), both)

    def test_invalid(self) -> None:
        """A bad signature is a warning that nobody can miss, and never passes for a good one."""
        line = self.line("hi", Authenticity.INVALID)
        self.assertIn("[!!! NOT FROM THEM, OR CHANGED, OR SAID AGAIN !!!]: hi", line)
        self.assertNotIn("VERIFIED", line)

    def test_unopened(self) -> None:
        """What cannot be opened is shown as that, and never as its ciphertext."""
        line = self.line(None, encrypted_key="k")
        self.assertTrue(line.endswith("[ENCRYPTED]: (cannot be opened)"), line)

    def test_broadcast(self) -> None:
        """A broadcast shows where it went."""
        self.assertIn("alice -> broadcast: hi", self.line("hi", topic="broadcast"))

    def test_escaped(self) -> None:
        """Names and text of a hostile server cannot control the terminal."""
        message = Message("ev\x1bil\u202e", "b\nob", "x", "\x1b[2J")
        line = console.received_line(message, "one\r\x9btwo", NONE)
        self.assertEqual(line, r"[--:--:--] ev\x1bil\u202e -> b\nob: one\r\x9btwo")

    def test_alarm(self) -> None:
        """What is not from whom it says has a loud mark, and stands out in colours."""
        line = self.line("hi", Authenticity.INVALID)
        self.assertIn("alice -> bob [!!! NOT FROM THEM, OR CHANGED, OR SAID AGAIN !!!]: hi", line)
        self.assertEqual(
            console.alarming(line, Authenticity.INVALID), f"\x1b[1;97;41m{line}\x1b[0m"
        )
        self.assertEqual(console.alarming(line, Authenticity.ENVELOPE), line)

    def test_keys(self) -> None:
        """What is said of changed keys has both fingerprints, and how to take the new one."""
        lines = console.key_changed_lines("bob", "111 222", "333\x1b 444")
        self.assertIn("111 222", "".join(lines))
        self.assertEqual(lines[-1], r"  /trust bob 333\x1b 444")
        self.assertIn("333", console.key_rotated_line("bob", "333"))
