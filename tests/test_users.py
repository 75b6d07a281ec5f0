"""Tests of `wschat.users`: who is registered, and who was there."""

from __future__ import annotations

import msgspec

from tests.stores import OnFile, OnPostgreSQL, StoreTests
from tests.support import NOW, make_user
from wschat import stream, users
from wschat.identity import User

DAY = 86400.0


class UserTests(StoreTests):
    """Registered users."""

    def test_kept(self) -> None:
        """Users come back as they were, one without an X25519 key too."""
        alice, bob = make_user("alice", created_at=NOW + 0.123456), make_user("b" * 64)
        bob = User(bob.user_id, "B\u00f6b \U0001f600", bob.public_key, None, bob.created_at)
        for user in (alice, bob):
            self.successResultOf(self.store.users.add(user))
        self.assertEqual(sorted(self.store.users.all(), key=lambda u: u.user_id), [alice, bob])

    def test_rotated(self) -> None:
        """A user's keys are replaced, if they are the ones that were thought of; nobody else's."""
        alice, bob = make_user("alice"), make_user("bob")
        for user in (alice, bob):
            self.successResultOf(self.store.users.add(user))
        other = make_user("alice")
        keys = {"public_key": other.public_key, "x25519_public_key": other.x25519_public_key}
        new = msgspec.structs.replace(alice, **keys, rotations="[]")
        self.successResultOf(self.store.users.rotate(new, alice.public_key))
        self.assertEqual(sorted(self.store.users.all(), key=lambda u: u.user_id), [new, bob])
        for old in (alice.public_key, bob.public_key):
            self.failureResultOf(self.store.users.rotate(alice, old), users.KeyReplaced)
        self.assertEqual(sorted(self.store.users.all(), key=lambda u: u.user_id), [new, bob])

    def test_taken(self) -> None:
        """A taken id fails with `UserExists`, and the first user stays."""
        first = make_user("alice")
        self.successResultOf(self.store.users.add(first))
        failure = self.failureResultOf(self.store.users.add(make_user("alice")), users.UserExists)
        self.assertEqual(str(failure.value), "alice")
        self.assertEqual(self.store.users.all(), [first])

    def test_taken_keeps_the_place(self) -> None:
        """A refused registration does not move the cursor of the user who is there."""
        self.add_users("alice")
        self.fill(3)
        self.failureResultOf(self.store.users.add(make_user("alice")), users.UserExists)
        self.assertEqual(self.cursor("alice"), 0)

    def test_last_seen(self) -> None:
        """Of users it is known when they were last there, once they were."""
        self.add_users("alice", "bob", "charlie")
        self.assertEqual(self.store.users.last_seen(), {})
        self.successResultOf(self.store.users.seen({"alice": NOW, "bob": NOW + 0.5, "ghost": NOW}))
        self.successResultOf(self.store.users.seen({"alice": NOW + 2}))
        self.assertEqual(self.store.users.last_seen(), {"alice": NOW + 2, "bob": NOW + 0.5})

    def test_nobody_seen(self) -> None:
        """To have seen nobody is no error."""
        self.successResultOf(self.store.users.seen({}))
        self.assertEqual(self.store.users.last_seen(), {})


class UserFileTests(OnFile, UserTests):
    pass


class UserPostgreSQLTests(OnPostgreSQL, UserTests):
    pass


class SessionTests(StoreTests):
    """Sessions that are remembered."""

    def setUp(self) -> None:
        super().setUp()
        self.add_users("alice", "bob")

    def test_seen(self) -> None:
        """A session that is there is seen; so is its user, when the server asks at its start."""
        self.move("bob", 0, "phone", now=NOW)
        places = [("bob", "phone"), ("bob", None), ("bob", "unknown")]
        self.successResultOf(self.store.users.see_sessions(places, NOW + DAY))
        self.assertEqual(self.store.users.last_seen(), {"bob": NOW + DAY})
        self.successResultOf(self.store.users.seen({"bob": NOW + 2 * DAY, "alice": NOW}))
        self.assertEqual(self.store.users.last_seen(), {"bob": NOW + 2 * DAY, "alice": NOW})

    def test_remembered(self) -> None:
        """A session is remembered however long it is away, and told when it missed something."""
        self.fill(3)
        self.move("bob", 1, "phone", now=NOW)
        self.move("bob", 3, now=NOW + DAY)
        self.successResultOf(self.store.users.forget_sessions())
        self.expire(NOW + DAY)
        self.assertEqual(self.start("bob", "phone"), stream.Start(1, False, 3))

    def test_too_many_sessions(self) -> None:
        """Of a user with too many sessions the longest unseen are forgotten; others' stay."""
        self.patch(users, "SESSIONS_PER_USER", 2)
        self.fill(3)
        self.move("alice", 1, "old", now=NOW)
        for n, name in enumerate(("c", "a", "d", "b")):
            self.move("bob", 1, name, now=NOW + n)
        for user_id in ("alice", "bob"):
            self.move(user_id, 3)
        self.successResultOf(self.store.users.forget_sessions())
        places = {name: self.start("bob", name).position for name in "abcd"}
        self.assertEqual(places, {"c": 3, "a": 3, "d": 1, "b": 1})
        self.assertEqual(self.start("alice", "old").position, 1)


class SessionFileTests(OnFile, SessionTests):
    pass


class SessionPostgreSQLTests(OnPostgreSQL, SessionTests):
    pass
