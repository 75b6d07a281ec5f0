"""Tests of `wschat.watch`."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.support import NOW, MemoryStore, Taken, make_user
from wschat.accounts import Accounts
from wschat.administration import Administration
from wschat.codes import CloseCode
from wschat.hub import Registry, Session
from wschat.identity import PrivateKey
from wschat.watch import Watch


class WatchTests(SynchronousTestCase):
    """A server's users, and connections, follow the database."""

    def setUp(self) -> None:
        self.store = MemoryStore()
        self.administration = Administration(self.store.engine)
        for user_id in ("alice", "bob"):
            self.successResultOf(self.store.users.add(make_user(user_id)))
        self.accounts = Accounts(self.store.users, "s" * 32, 3600, registration_open=True)
        self.accounts.load(self.store.users.all())
        self.registry = Registry()
        self.closed: list[tuple[str, CloseCode]] = []
        for user_id in ("alice", "alice", "bob"):
            self.connect(user_id)
        self.watch = Watch(self.store.users, self.accounts, self.registry)

    def connect(self, user_id: str) -> None:
        def close(code: CloseCode) -> None:
            self.closed.append((user_id, code))

        self.registry.add(Session(user_id, Taken(), close))

    def test_nothing(self) -> None:
        """Nothing happens when nothing was changed."""
        self.watch.look()
        self.assertEqual(self.closed, [])

    def test_disabled(self) -> None:
        """All connections of a user who is disabled are closed, once, and nobody else's."""
        self.administration.disable("alice", NOW)
        self.watch.look()
        self.watch.look()
        self.assertEqual(self.closed, [("alice", CloseCode.DISABLED)] * 2)
        self.assertEqual(self.accounts.users["alice"].disabled_at, NOW)

    def test_enabled(self) -> None:
        """Who is enabled again keeps the connections that they have."""
        self.administration.disable("alice", NOW)
        self.administration.enable("alice", NOW)
        self.watch.look()
        self.assertEqual(self.closed, [])
        self.assertIsNone(self.accounts.users["alice"].disabled_at)

    def test_signed_out(self) -> None:
        """Who is signed out, or has another key, is told to log in again."""
        self.administration.sign_out("alice", NOW)
        self.administration.reset_key("bob", PrivateKey.generate().public_key, None, NOW)
        self.watch.look()
        expected = [("alice", CloseCode.SIGNED_OUT)] * 2 + [("bob", CloseCode.NEW_KEYS)]
        self.assertEqual(self.closed, expected)

    def test_gone(self) -> None:
        """Who is removed is a user no more."""
        self.administration.remove_user("bob", NOW)
        self.watch.look()
        self.assertEqual(self.closed, [("bob", CloseCode.DISABLED)])
        self.assertEqual(list(self.accounts.users), ["alice"])

    def test_added(self) -> None:
        """Who is added is a user."""
        charlie = make_user("charlie")
        self.administration.add(charlie, NOW)
        self.watch.look()
        self.assertEqual(self.accounts.users["charlie"], charlie)
        self.assertEqual(self.closed, [])

    def test_one_look_at_a_time(self) -> None:
        """A database that is slow is not asked more and more."""
        self.store.reader.held = True
        for _ in range(3):
            self.watch.look()
        self.assertEqual(len(self.store.reader), 1)
        self.store.reader.held = False
        self.administration.disable("bob", NOW)
        self.store.reader.release()
        self.assertEqual(self.closed, [("bob", CloseCode.DISABLED)])

    def test_failure(self) -> None:
        """A database that fails is said once, and asked again; nothing is missed."""
        self.store.reader.held = True
        self.administration.disable("bob", NOW)
        for _ in range(3):
            self.watch.look()
            self.store.reader.fail(OSError("gone"))
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)
        self.store.reader.held = False
        self.watch.look()
        self.assertEqual(self.closed, [("bob", CloseCode.DISABLED)])

    def test_a_rotation_is_not_undone(self) -> None:
        """A user's own new keys, stored after a look has begun, stay."""
        alice = self.accounts.users["alice"]
        renewed = make_user("alice")
        self.administration.enable("alice", NOW)
        self.store.writer.held = True
        rotated = self.store.users.rotate(renewed, alice.public_key)
        rotated.addCallback(lambda _: self.accounts.changed("alice", renewed))
        self.watch.look()
        self.store.writer.release()
        self.assertEqual(self.accounts.users["alice"].public_key, renewed.public_key)
