"""Tests of `wschat.store`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import sqlalchemy as sa
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.trial.unittest import SynchronousTestCase, TestCase

from tests.support import NOW, MemoryStore, make_message, make_user
from wschat import store
from wschat.identity import User
from wschat.wire import Message


def _broken(content: str = "broken") -> Message:
    """A message that the database does not take."""
    message = make_message("alice", "bob", content)
    message.timestamp = None  # type: ignore[assignment]  # so that a column that needs one fails
    return message


class _MemoryTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.store = MemoryStore()

    def append(self, *batch: Message, **positions: int) -> range:
        return self.successResultOf(self.store.append(batch, positions, NOW))

    def fill(self, count: int, sender: str = "alice", topic: str = "bob") -> range:
        return self.append(*(make_message(sender, topic, str(n)) for n in range(count)))

    def page(self, user_id: str, after: int = 0, limit: int = 100) -> store.Page:
        return self.successResultOf(self.store.page(user_id, after, limit))

    def contents(self, user_id: str, after: int = 0) -> list[str]:
        return [message.content for message in self.page(user_id, after).messages]

    def cursor(self, user_id: str) -> int:
        return self.successResultOf(self.store.cursor(user_id))

    def add_user(self, user_id: str) -> None:
        self.successResultOf(self.store.add_user(make_user(user_id)))


class AppendTests(_MemoryTests):
    """Storing messages."""

    def test_ids_ascend(self) -> None:
        """Ids begin at 1, are consecutive within a batch, and go on in the next."""
        self.assertEqual(list(self.fill(3)), [1, 2, 3])
        self.assertEqual(list(self.fill(1)), [4])
        self.assertEqual(list(self.fill(2)), [5, 6])

    def test_ids_fit_the_messages(self) -> None:
        """The n-th id is the n-th message's."""
        ids = self.fill(3)
        kept = {message.id: message.content for message in self.page("bob").messages}
        self.assertEqual(kept, dict(zip(ids, ["0", "1", "2"], strict=True)))

    def test_nothing(self) -> None:
        """An empty batch has no ids."""
        self.assertEqual(list(self.append()), [])

    def test_everything_is_kept(self) -> None:
        """A message comes back as it was, signature and encryption fields included."""
        message = Message(
            "alice", "bob", "\u2028 <\U0001f600>", "2026-11-22T10:00:00.123456789+05:30",
            "signature", "wrapped key", "nonce",
        )  # fmt: skip
        self.append(message)
        (kept,) = self.page("bob").messages
        message.id = 1
        self.assertEqual(kept, message)

    def test_all_or_nothing(self) -> None:
        """When one message cannot be stored, none is, and no cursor moves."""
        self.add_user("bob")
        batch = [make_message("alice", "bob", "good"), _broken()]
        failed = self.store.append(batch, {"bob": 7}, NOW)
        self.failureResultOf(failed, sa.exc.IntegrityError)
        self.assertEqual(self.page("bob").messages, [])
        self.assertEqual(self.cursor("bob"), 0)

    def test_goes_on_after_failure(self) -> None:
        """After a batch that failed, the next one is stored."""
        self.failureResultOf(self.store.append([_broken()], {}, NOW))
        self.fill(1)
        self.assertEqual(self.contents("bob"), ["0"])

    def test_ids_are_never_given_again(self) -> None:
        """The id of a message that was deleted, even the newest, is not used for another."""
        self.fill(3)
        with self.store.engine.begin() as connection:
            connection.execute(sa.delete(store.messages))
        self.assertEqual(list(self.fill(1)), [4])


class CursorTests(_MemoryTests):
    """Everybody's place in the stream."""

    def test_unknown_user(self) -> None:
        """Who is not registered has position 0, and does not get one."""
        self.append(ghost=5)
        self.assertEqual(self.cursor("ghost"), 0)

    def test_moves_forward_only(self) -> None:
        """A cursor that is told to go back stays."""
        self.add_user("alice")
        for position, expected in ((5, 5), (3, 5), (5, 5), (9, 9)):
            self.append(alice=position)
            self.assertEqual(self.cursor("alice"), expected)

    def test_each_has_their_own(self) -> None:
        """Several cursors move in one commit, each to its own place."""
        self.add_user("alice")
        self.add_user("bob")
        self.append(make_message("alice", "bob", "hi"), alice=1, bob=4)
        self.assertEqual((self.cursor("alice"), self.cursor("bob")), (1, 4))

    def test_registration_is_after_what_is_stored(self) -> None:
        """Who registers has no part in what was said before."""
        self.fill(3, topic="broadcast")
        self.add_user("bob")
        self.assertEqual(self.cursor("bob"), 3)


class PageTests(_MemoryTests):
    """What a user has not had yet."""

    def test_inbox_and_broadcasts_in_order(self) -> None:
        """A user's direct messages and others' broadcasts come together, by id."""
        self.append(
            make_message("alice", "bob", "1"),
            make_message("alice", "broadcast", "2"),
            make_message("carol", "bob", "3"),
            make_message("carol", "broadcast", "4"),
        )
        self.assertEqual(self.contents("bob"), ["1", "2", "3", "4"])

    def test_nobody_elses(self) -> None:
        """Neither others' direct messages nor a user's own broadcasts are in it."""
        self.append(
            make_message("bob", "broadcast", "own broadcast"),
            make_message("alice", "carol", "for carol"),
            make_message("bob", "alice", "for alice"),
        )
        self.assertEqual(self.contents("bob"), [])

    def test_own_direct_message(self) -> None:
        """A message to oneself is in one's inbox."""
        self.append(make_message("bob", "bob", "note"))
        self.assertEqual(self.contents("bob"), ["note"])

    def test_after(self) -> None:
        """Only what comes after the position is read."""
        self.fill(4)
        self.assertEqual(self.contents("bob", after=2), ["2", "3"])
        self.assertEqual(self.contents("bob", after=4), [])

    def test_pages_follow_each_other(self) -> None:
        """Page after page, a user gets everything once, in order, across both topics."""
        self.append(
            *(make_message("alice", ("bob", "broadcast")[n % 3 == 0], str(n)) for n in range(10))
        )
        seen, after, sizes = [], 0, []
        for _ in range(4):
            page = self.page("bob", after, limit=3)
            seen += [message.content for message in page.messages]
            sizes.append((len(page.messages), page.complete))
            after = page.messages[-1].id
        self.assertEqual(seen, [str(n) for n in range(10)])
        self.assertEqual(sizes, [(3, False), (3, False), (3, False), (1, True)])

    def test_full_page_is_not_complete(self) -> None:
        """A page that is full may not be the last; the one after it is empty and complete."""
        self.fill(3)
        self.assertFalse(self.page("bob", limit=3).complete)
        self.assertEqual(self.page("bob", after=3, limit=3), store.Page([], 3, True))

    def test_head(self) -> None:
        """The head is the newest message of all, whoever it is for."""
        self.assertEqual(self.page("bob"), store.Page([], 0, True))
        self.fill(2, topic="carol")
        self.assertEqual(self.page("bob"), store.Page([], 2, True))

    def test_default_limit(self) -> None:
        """A page has at most `PAGE_MESSAGES` messages unless told."""
        self.fill(store.PAGE_MESSAGES + 1)
        page = self.successResultOf(self.store.page("bob", 0))
        self.assertEqual(len(page.messages), store.PAGE_MESSAGES)


class UserTests(_MemoryTests):
    """Registered users."""

    def test_kept(self) -> None:
        """Users come back as they were, one without an X25519 key too."""
        alice, bob = make_user("alice"), make_user("bob")
        bob = User(bob.user_id, bob.username, bob.public_key, None, bob.created_at)
        for user in (alice, bob):
            self.successResultOf(self.store.add_user(user))
        self.assertEqual(sorted(self.store.all_users(), key=lambda u: u.user_id), [alice, bob])

    def test_taken(self) -> None:
        """A taken id fails with `UserExists`, and the first user stays."""
        first = make_user("alice")
        self.successResultOf(self.store.add_user(first))
        failure = self.failureResultOf(self.store.add_user(make_user("alice")), store.UserExists)
        self.assertEqual(str(failure.value), "alice")
        self.assertEqual(self.store.all_users(), [first])

    def test_taken_keeps_the_place(self) -> None:
        """A refused registration does not move the cursor of the user who is there."""
        self.add_user("alice")
        self.fill(3)
        self.failureResultOf(self.store.add_user(make_user("alice")), store.UserExists)
        self.assertEqual(self.cursor("alice"), 0)


class FileTests(SynchronousTestCase):
    """Databases in files."""

    def engine(self, url: str) -> sa.Engine:
        engine = store.make_engine(url)
        self.addCleanup(engine.dispose)
        return engine

    def file_engine(self) -> sa.Engine:
        return self.engine(f"sqlite:///{self.mktemp()}")

    def pragma(self, engine: sa.Engine, name: str) -> Any:
        with engine.connect() as connection:
            return connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()

    def test_durability(self) -> None:
        """Every connection has a write-ahead log and full synchronisation (2 is FULL)."""
        engine = self.file_engine()
        with engine.connect() as held, engine.connect() as other:
            for connection in (held, other):
                found = [
                    connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
                    for name in ("journal_mode", "synchronous")
                ]
                self.assertEqual(found, ["wal", 2])
        self.assertGreaterEqual(self.pragma(engine, "busy_timeout"), 1000)

    def schema(self, engine: sa.Engine) -> dict[str, Any]:
        """Tables, columns, types, keys and indexes, as the database tells them."""
        inspector = sa.inspect(engine)
        return {
            name: {
                "columns": [
                    (
                        c["name"],
                        str(c["type"]),
                        c["nullable"],
                        c["default"],
                        str(c.get("primary_key")),
                    )
                    for c in inspector.get_columns(name)
                ],
                "indexes": inspector.get_indexes(name),
                "key": inspector.get_pk_constraint(name),
                "unique": inspector.get_unique_constraints(name),
                "autoincrement": "AUTOINCREMENT" in self.created(engine, name),
            }
            for name in sorted(inspector.get_table_names())
            if name != "alembic_version"
        }

    def created(self, engine: sa.Engine, name: str) -> str:
        with engine.connect() as connection:
            sql = connection.exec_driver_sql(
                "SELECT sql FROM sqlite_master WHERE name = ?", (name,)
            )
            return str(sql.scalar_one())

    def test_migrations_make_what_is_declared(self) -> None:
        """A database made by the migrations equals one made from the declared tables."""
        migrated, declared = self.file_engine(), self.file_engine()
        store.migrate(migrated)
        store.metadata.create_all(declared)
        self.assertEqual(self.schema(migrated), self.schema(declared))
        self.assertEqual(sorted(self.schema(migrated)), ["cursors", "messages", "users"])

    def test_migrate_twice(self) -> None:
        """A database that is up to date keeps what is in it."""
        engine = self.file_engine()
        store.migrate(engine)
        first = MemoryStore(engine)
        self.successResultOf(first.add_user(make_user("alice")))
        store.migrate(engine)
        self.assertEqual([user.user_id for user in first.all_users()], ["alice"])

    def test_survives_a_restart(self) -> None:
        """Messages, cursors and ids go on where they were in a database that is opened again."""
        path = self.mktemp()
        first = MemoryStore(self.engine(f"sqlite:///{path}"))
        store.migrate(first.engine)
        self.successResultOf(first.add_user(make_user("bob")))
        hello = make_message("alice", "bob", "hello")
        self.successResultOf(first.append([hello], {"bob": 1}, NOW))
        first.engine.dispose()
        second = MemoryStore(self.engine(f"sqlite:///{path}"))
        self.assertEqual(self.successResultOf(second.cursor("bob")), 1)
        ids = self.successResultOf(second.append([hello], {}, NOW))
        self.assertEqual(list(ids), [2])

    def test_url(self) -> None:
        """A database is a path, a URL, or by default in the data directory."""
        home = Path("/var/lib/wschat")
        for given, url in (
            ("", "sqlite:////var/lib/wschat/wschat.sqlite3"),
            ("chat.db", "sqlite:///chat.db"),
            ("/data/chat.db", "sqlite:////data/chat.db"),
            ("sqlite:////data/chat.db", "sqlite:////data/chat.db"),
        ):
            self.assertEqual(str(store.database_url(given, home)), url)


class ThreadedTests(TestCase):
    """The store with threads of its own."""

    def setUp(self) -> None:
        engine = store.make_engine(f"sqlite:///{self.mktemp()}")
        store.migrate(engine)
        self.store = store.ThreadedStore(engine, cast(Any, reactor))
        self.addCleanup(self.store.close)

    async def test_concurrent_use(self) -> None:
        """Many writes and reads at once: every message has its own id, in the order of calls."""
        writes: list[Deferred[range]] = []
        reads: list[Deferred[store.Page]] = []
        for n in range(40):
            batch = [make_message("alice", "bob", f"{n}.{part}") for part in range(3)]
            writes.append(self.store.append(batch, {}, NOW))
            reads.append(self.store.page("bob", 0, 1000))
        ids = [number for batch in await gatherResults(writes) for number in batch]
        self.assertEqual(ids, list(range(1, 121)))
        for page in await gatherResults(reads):
            # A page never shows half of a commit, nor a later one without an earlier one.
            self.assertEqual([m.id for m in page.messages], list(range(1, page.head + 1)))
            self.assertEqual(page.head % 3, 0)
        page = await self.store.page("bob", 0, 1000)
        expected = [f"{n}.{part}" for n in range(40) for part in range(3)]
        self.assertEqual([message.content for message in page.messages], expected)

    async def test_one_of_two_registrations(self) -> None:
        """Of two registrations of one id at once, the first wins and the other is told."""
        first, second = make_user("alice"), make_user("alice")
        added = self.store.add_user(first)
        refused = self.assertFailure(self.store.add_user(second), store.UserExists)
        await added
        await refused
        self.assertEqual(self.store.all_users(), [first])

    async def test_close_finishes(self) -> None:
        """What was begun before `close` is stored."""
        path = self.mktemp()
        engine = store.make_engine(f"sqlite:///{path}")
        store.migrate(engine)
        closing = store.ThreadedStore(engine, cast(Any, reactor))
        written = closing.append([make_message("alice", "bob", "last")], {}, NOW)
        closing.close()
        self.assertEqual(list(await written), [1])
