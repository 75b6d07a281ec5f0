"""The security log: what is said of whom, and how often."""

from __future__ import annotations

from typing import cast

from twisted.logger import ILogObserver, LogEvent, LogLevel, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from wschat.security import Security


class SecurityTests(SynchronousTestCase):
    """Events, as any observer gets them."""

    def setUp(self) -> None:
        self.events: list[LogEvent] = []
        observer = cast(ILogObserver, self.events.append)
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        self.now = 1000.0
        self.security = Security(lambda: self.now)

    def texts(self) -> list[str]:
        return [formatEvent(event) for event in self.events]

    def test_accepted(self) -> None:
        """Who did what, from where."""
        self.security.accepted("login", "alice", "203.0.113.5")
        (event,) = self.events
        self.assertEqual(formatEvent(event), "login: alice, from 203.0.113.5")
        self.assertEqual(event["log_namespace"], "wschat.security")
        self.assertEqual(event["log_level"], LogLevel.info)
        self.assertEqual((event["event"], event["user_id"]), ("login", "alice"))

    def test_refused(self) -> None:
        """Who was not let in, from where, and what they were told."""
        self.security.refused("login", "Unknown user.", "203.0.113.5", "bob")
        (event,) = self.events
        self.assertEqual(event["log_level"], LogLevel.warn)
        self.assertEqual(formatEvent(event), "login refused: Unknown user. bob, from 203.0.113.5")

    def test_no_user_id(self) -> None:
        """What can be no user id is not repeated: it may be anything, a forged line, or a key."""
        for text in ("x\n2026 login: alice", "a b", "x" * 65, "\x1b[31m", "broadcast"):
            self.security.refused("login", "Unknown user.", "203.0.113.5", text)
        self.assertEqual({event["user_id"] for event in self.events}, {""})
        self.assertEqual([text for text in self.texts() if "\n" in text], [])

    def test_floods(self) -> None:
        """One address that is refused without end does not fill the disk, nor hide another."""
        for _ in range(1000):
            self.security.refused("websocket", "The token is not valid.", "203.0.113.5")
        self.assertEqual(len(self.events), 30)
        self.security.refused("websocket", "The token is not valid.", "203.0.113.6")
        self.security.accepted("login", "alice", "203.0.113.5")
        self.assertEqual(len(self.events), 32)
        self.now += 2
        self.security.refused("websocket", "The token is not valid.", "203.0.113.5")
        self.assertEqual(len(self.events), 33)

    def test_floods_of_a_network(self) -> None:
        """Nor do the addresses of IPv6 that one host has; who comes by a Unix socket has none."""
        for number in range(1000):
            self.security.refused("login", "Unknown user.", f"2001:db8::{number:x}")
        self.assertEqual(len(self.events), 30)
        self.security.refused("login", "Unknown user.", "")
        self.assertEqual(len(self.events), 31)
