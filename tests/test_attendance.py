"""Tests of `wschat.attendance`: who watches is told who comes and goes, and that is kept."""

from __future__ import annotations

from tests.test_questions import PresenceCase
from wschat.store import DiskFull


class NewsTests(PresenceCase):
    """What those who watch are told."""

    def test_news(self) -> None:
        """Who comes and who goes is told to who asked, once, soon."""
        self.ask()
        bob = self.server.connect("bob")
        self.assertEqual(self.alice.frames(), [])
        self.assertEqual(self.news(), [self.changed(["bob"], {})])
        bob.wire.lose()  # at 10:00:02
        left = {"bob": "2026-11-22T10:00:02.000000Z"}
        self.assertEqual(self.news(), [self.changed([], left)])
        self.assertEqual(self.news(), [])

    def test_many_at_once(self) -> None:
        """All that happens close together is one frame."""
        bob = self.server.connect("bob")
        self.later()
        self.ask()
        self.server.connect("charlie")
        bob.wire.lose()
        left = {"bob": "2026-11-22T10:00:02.000000Z"}
        self.assertEqual(self.news(), [self.changed(["charlie"], left)])

    def test_comes_back(self) -> None:
        """Who loses their connection and is back at once was never gone."""
        bob = self.server.connect("bob")
        self.later()
        self.ask()
        bob.wire.lose()
        self.server.connect("bob")
        self.assertEqual(self.news(), [])

    def test_second_session(self) -> None:
        """A user's second session, and its end, are no news."""
        self.server.connect("bob")
        self.later()
        self.ask()
        self.server.connect_v1("bob").wire.lose()
        self.assertEqual(self.news(), [])

    def test_stopping(self) -> None:
        """News that were not told when the server stops are dropped, and no timer is left."""
        self.ask()
        self.server.connect("bob")
        self.server.stop()
        self.assertEqual(self.server.clock.getDelayedCalls(), [])


class LastSeenTests(PresenceCase):
    """When users were last there."""

    def test_outlasts_the_server(self) -> None:
        """When somebody was last there is known after a restart."""
        self.server.connect("bob").wire.lose()  # at 10:00:01
        self.server.advance(2)
        alice = self.server.after_crash().connect_v1("alice")
        answer = self.ask(alice, users=["bob"])
        self.assertEqual(answer["last_seen"], {"bob": "2026-11-22T10:00:01.000000Z"})

    def test_saved_on_stopping(self) -> None:
        """… of those who were there until the end, too."""
        self.server.connect("bob")
        alice = self.server.restart().connect_v1("alice")
        answer = self.ask(alice, users=["bob"])
        self.assertEqual(answer["last_seen"], {"bob": "2026-11-22T10:00:01.000000Z"})

    def test_saved_later(self) -> None:
        """… and when the store failed at first."""
        writer = self.server.store.writer
        writer.held = True
        self.server.connect("bob").wire.lose()
        self.server.advance(1)
        while len(writer):
            writer.fail(OSError("disk gone"))
        writer.held = False
        self.flushLoggedErrors(OSError)
        self.server.advance(2)
        alice = self.server.after_crash().connect_v1("alice")
        self.assertEqual(list(self.ask(alice, users=["bob"])["last_seen"]), ["bob"])

    def test_disk_full(self) -> None:
        """… and when there is room on the disk, which is no fault until then."""
        writer = self.server.store.writer
        writer.held = True
        self.server.connect("bob").wire.lose()
        self.server.advance(1)
        while len(writer):
            writer.fail(DiskFull())
        self.assertEqual(self.flushLoggedErrors(), [])
        writer.held = False
        self.server.advance(1)
        self.assertIn("bob", self.server.store.users.last_seen())
