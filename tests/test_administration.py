"""Tests of `wschat.administration`."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa

from tests.stores import OnFile, OnPostgreSQL, StoreTests, file_engine, named
from tests.support import NOW, make_user
from wschat import database, users
from wschat.administration import Administration, NoSuchUser, Refused
from wschat.identity import PrivateKey, User
from wschat.wire import BROADCAST


class AdministrationTests(StoreTests):
    """Users, and what the store is told of them, over SQLite in memory."""

    def setUp(self) -> None:
        super().setUp()
        self.administration = Administration(self.store.engine)
        self.add_users("alice", "bob")

    def changes(self, after: int = 0) -> users.Changes:
        return self.successResultOf(self.store.users.changes(after))

    def user(self, user_id: str) -> User:
        """As the store has them."""
        return {user.user_id: user for user in self.store.users.all()}[user_id]

    def test_nothing_changed(self) -> None:
        """Who registers, and who gives themselves new keys, is no change of an operator's."""
        self.assertEqual(self.changes(), users.Changes(0, {}))

    def test_add(self) -> None:
        """A user who is added is one like any other, from here on in the stream."""
        self.append(named("a1", topic=BROADCAST))
        charlie = make_user("charlie")
        self.administration.add(charlie, NOW)
        self.assertEqual(self.user("charlie"), charlie)
        self.assertEqual(self.changes().users, {"charlie": charlie})
        self.assertEqual(self.contents("charlie", self.cursor("charlie")), [])

    def test_add_is_refused(self) -> None:
        """A taken id, a name that is none and keys that are none are refused; nothing is stored."""
        good = make_user("charlie")
        low = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
        for user in (
            make_user("alice"),
            make_user("no body"),
            make_user("Broadcast"),
            User("charlie", "C", "junk", None, NOW),
            User("charlie", "C", low, None, NOW),
            User("charlie", "C", good.public_key, "junk", NOW),
        ):
            self.assertRaises(Refused, self.administration.add, user, NOW)
        self.assertEqual([user.user_id for user in self.store.users.all()], ["alice", "bob"])
        self.assertEqual(self.changes().users, {})

    def test_disable_and_enable(self) -> None:
        """Each is noted in the account, and each is a change to be seen."""
        alice = self.user("alice")
        self.administration.disable("alice", NOW)
        first = self.changes()
        self.assertEqual(self.user("alice").disabled_at, NOW)
        self.assertEqual(first.users, {"alice": self.user("alice")})
        self.administration.enable("alice", NOW + 1)
        second = self.changes(first.last)
        self.assertGreater(second.last, first.last)
        self.assertEqual(second.users, {"alice": alice})
        self.assertEqual(self.changes(second.last), users.Changes(second.last, {}))

    def test_sign_out(self) -> None:
        """When logins ended is noted, and nothing else."""
        alice = self.user("alice")
        self.administration.sign_out("alice", NOW)
        changed = self.user("alice")
        self.assertEqual(changed.signed_out_at, NOW)
        self.assertEqual(changed.public_key, alice.public_key)

    def test_reset_key(self) -> None:
        """The keys are the new ones, no steps lead to them, and logins have ended."""
        key = PrivateKey.generate()
        self.administration.reset_key("alice", key.public_key, None, NOW)
        changed = self.user("alice")
        self.assertEqual((changed.public_key, changed.x25519_public_key), (key.public_key, None))
        self.assertIsNone(changed.rotations)
        self.assertEqual(changed.signed_out_at, NOW)
        refused = self.administration.reset_key
        self.assertRaises(Refused, refused, "alice", "junk", None, NOW)
        self.assertEqual(self.user("alice"), changed)

    def test_own_rotation_keeps_what_an_operator_did(self) -> None:
        """New keys, from a server that has not seen it yet, undo no disabling."""
        alice = self.user("alice")
        self.administration.disable("alice", NOW)
        renewed = make_user("alice")
        self.successResultOf(self.store.users.rotate(renewed, alice.public_key))
        self.assertEqual(self.user("alice").public_key, renewed.public_key)
        self.assertEqual(self.user("alice").disabled_at, NOW)

    def test_nobody(self) -> None:
        """Who is not there cannot be changed, and that is no change."""
        key = PrivateKey.generate().public_key
        do = self.administration
        for change in (do.disable, do.enable, do.sign_out, do.remove_user):
            self.assertRaises(NoSuchUser, change, "nobody", NOW)
        self.assertRaises(NoSuchUser, do.reset_key, "nobody", key, None, NOW)
        self.assertRaises(NoSuchUser, do.user, "nobody")
        self.assertRaises(NoSuchUser, list, do.export("nobody"))
        self.assertEqual(self.changes().users, {})

    def test_old_changes_go(self) -> None:
        """The list of changes does not grow for ever; its numbers go on."""
        self.administration.disable("alice", NOW)
        last = self.changes().last
        self.administration.disable("bob", NOW + 2 * 86400)
        with self.store.engine.connect() as connection:
            rows = connection.execute(sa.select(database.user_changes)).all()
        self.assertEqual([row.user_id for row in rows], ["bob"])
        self.assertEqual(list(self.changes(last).users), ["bob"])

    def test_export(self) -> None:
        """All of a user's, once, in order, and nobody else's; texts as they were sent."""
        batch = [
            named("a1", "to bob\0\ue000"),
            named("b1", "to alice", "bob", "alice"),
            named("b2", "to all", "bob", BROADCAST),
            named("a2", "to all", "alice", BROADCAST),
            named("b3", "to myself", "bob", "bob"),
        ]
        self.append(*batch)
        self.move("alice", 2, "phone")
        found = list(self.administration.export("alice"))
        self.assertEqual(
            [item["type"] for item in found], ["user", "place", "session", *["message"] * 3]
        )
        user, place, session, *messages = found
        self.assertEqual(user["public_key"], self.user("alice").public_key)
        self.assertEqual((place["position"], session["name"]), (2, "phone"))
        contents = [(m["sender"], m["client_id"], m["content"]) for m in messages]
        self.assertEqual(
            contents,
            [
                ("alice", "a1", "to bob\0\ue000"),
                ("bob", "b1", "to alice"),
                ("alice", "a2", "to all"),
            ],
        )

    def test_export_is_paged(self) -> None:
        """More messages than are read at once come once each, in order."""
        ids = self.fill(1203)
        found = [item["id"] for item in self.administration.export("alice") if "content" in item]
        self.assertEqual(found, ids)

    def test_remove(self) -> None:
        """A user's account, places and messages go; the rest stays, and no id comes again."""
        self.append(
            named("b1", "kept", "bob", "bob"),
            named("a1"),
            named("b2", "x", "bob", "alice"),
            named("b3", "kept", "bob", BROADCAST),
        )
        last = self.fill(1001)[-1]
        self.move("alice", 2, "phone")
        self.assertEqual(self.administration.remove_messages("alice"), 1003)
        self.administration.remove_user("alice", NOW)
        self.assertEqual(self.changes().users, {"alice": None})
        self.assertEqual([user.user_id for user in self.store.users.all()], ["bob"])
        self.assertEqual(self.contents("bob"), ["kept"])
        with self.store.engine.connect() as connection:
            for table in (database.cursors, database.sessions):
                rows = connection.execute(sa.select(table.c.user_id)).scalars()
                self.assertNotIn("alice", list(rows))
        self.assertEqual(list(self.append(named("b4", "x", "bob", "bob")).ids), [last + 1])

    def test_messages_without_a_user(self) -> None:
        """What a server still took for somebody who is gone can be removed."""
        self.administration.remove_user("alice", NOW)
        self.append(named("b1", "late", "bob", "alice"))
        self.assertEqual(self.administration.remove_messages("alice"), 1)
        self.assertEqual(self.administration.remove_messages("alice"), 0)


class FileTests(OnFile, AdministrationTests):
    """The same over a SQLite file."""


class PostgreSQLTests(OnPostgreSQL, AdministrationTests):
    """The same over PostgreSQL."""


class SecureTests(StoreTests):
    """What is removed of a SQLite file is not in it any more."""

    def make_engine(self) -> sa.Engine:
        made = file_engine(self)
        database.migrate(made)
        return made

    def test_zeroed(self) -> None:
        """The bytes of messages and accounts that were removed are in no file of the database."""
        self.add_users("alice", "bob")
        key = self.key_of("alice")
        self.append(named("a1", "quokka" * 100))
        administration = Administration(self.store.engine)
        administration.remove_messages("alice")
        administration.remove_user("alice", NOW)
        self.assertTrue(administration.empty_log())
        path = Path(str(self.store.engine.url.database))
        files = list(path.parent.glob(f"{path.name}*"))
        self.assertIn(path, files)
        for file in files:
            for removed in (b"quokka", key):
                self.assertNotIn(removed, file.read_bytes(), file)

    def key_of(self, user_id: str) -> bytes:
        (user,) = (u for u in self.store.users.all() if u.user_id == user_id)
        return user.public_key.encode()

    def test_somebody_reads(self) -> None:
        """Who reads what was there before keeps it in the log, and that is said."""
        self.patch(database, "_BUSY", 1)
        engine = database.make_engine(self.store.engine.url)
        self.addCleanup(engine.dispose)
        self.add_users("alice", "bob")
        with self.store.engine.connect() as reader:
            reader.execute(sa.select(database.users)).all()
            administration = Administration(engine)
            administration.remove_user("alice", NOW)
            self.assertFalse(administration.empty_log())
        self.assertTrue(administration.empty_log())
