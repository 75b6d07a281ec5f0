"""Tests of `wschat.store`: its size, full disks, restarts, and many who use it at once."""

from __future__ import annotations

import sqlite3
from typing import Any, cast

import sqlalchemy as sa
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.trial.unittest import TestCase

from tests import postgresql
from tests.stores import (
    OnFile,
    OnPostgreSQL,
    StoreTests,
    engine,
    file_engine,
    named,
    postgresql_engine,
)
from tests.support import NOW, MemoryStore, make_message, make_user
from wschat import database, statements, store
from wschat.identity import User
from wschat.stream import Appended, Start, Stream
from wschat.users import UserExists, Users


class SizeTests(StoreTests):
    """How large the database is."""

    def size(self) -> int:
        return self.successResultOf(self.store.size())

    def test_grows(self) -> None:
        """It is more than nothing, and grows by what is stored."""
        self.add_users("alice", "bob")
        before = self.size()
        self.assertGreater(before, 4096)
        self.append(*(named(f"c{n}", "x" * 10_000) for n in range(100)))
        self.assertGreater(self.size(), before + 500_000)


class SizePostgreSQLTests(OnPostgreSQL, SizeTests):
    """The same over PostgreSQL, which may compress what repeats itself."""

    def test_grows(self) -> None:
        """It is there, and is no smaller than an empty one."""
        self.assertGreater(self.size(), 1_000_000)


class DiskFullTests(StoreTests):
    """A disk without room."""

    def setUp(self) -> None:
        super().setUp()
        self.pages = 1_000_000
        sa.event.listen(self.store.engine, "checkout", self._bound)

    def _bound(self, driver: Any, _record: object, _pooled: object) -> None:
        if isinstance(driver, sqlite3.Connection):  # it holds for a connection
            driver.execute(f"PRAGMA max_page_count={self.pages}")

    def fill_disk(self) -> None:
        with self.store.engine.connect() as connection:
            self.pages = 2 + connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        self.store.dialect.close()  # the next transaction has the bound

    def empty_disk(self) -> None:
        self.pages = 1_000_000
        self.store.dialect.close()

    def test_full_and_room_again(self) -> None:
        """Without room nothing of a batch is stored, and it is said; then the store goes on."""
        self.add_users("bob")
        self.fill(2)
        self.fill_disk()
        big = [named(str(n), "x" * 30_000) for n in range(3)]
        for _ in range(3):
            failed = self.store.stream.append(big, {("bob", None): 1}, (), NOW)
            self.failureResultOf(failed, store.DiskFull)
        self.assertEqual(self.contents("bob"), ["0", "1"])
        self.assertEqual(self.cursor("bob"), 0)
        self.empty_disk()
        appended = self.append(*big, places={("bob", None): 1})
        self.assertEqual((list(appended.ids), len(appended.repeats)), ([3, 4, 5], 0))
        self.assertEqual(self.cursor("bob"), 1)
        self.assertEqual(len(self.contents("bob")), 5)

    def test_a_few_messages_alone(self) -> None:
        """Nor of a batch that a single statement stores."""
        self.fill(1)
        self.fill_disk()
        big = [named(str(n), "x" * 30_000) for n in range(3)]
        failed = self.store.stream.append(big, {}, (), NOW)
        self.failureResultOf(failed, store.DiskFull)
        self.assertEqual(self.contents("bob"), ["0"])
        self.empty_disk()
        self.assertEqual(self.append(*big).repeats, ())
        self.assertEqual(len(self.contents("bob")), 4)

    def test_registration(self) -> None:
        """Without room nobody is registered, and it is said; with room they are."""
        bob = User("bob", "Bob" * 20_000, make_user("bob").public_key, None, NOW)
        self.fill_disk()
        self.failureResultOf(self.store.users.add(bob), store.DiskFull)
        self.assertEqual(self.store.users.all(), [])
        self.empty_disk()
        self.successResultOf(self.store.users.add(bob))
        self.assertEqual(self.store.users.all(), [bob])


class DiskFullFileTests(OnFile, DiskFullTests):
    pass


class DiskFullPostgreSQLTests(OnPostgreSQL, DiskFullTests):
    """The server's error for it is raised by triggers."""

    def run_sql(self, *statements: str) -> None:
        with self.store.engine.begin() as connection:
            for sql in statements:
                connection.exec_driver_sql(sql)

    def fill_disk(self) -> None:
        self.run_sql(
            "CREATE FUNCTION no_room() RETURNS trigger LANGUAGE plpgsql AS"
            " $$BEGIN RAISE EXCEPTION USING ERRCODE = '53100'; END$$",
            "CREATE TRIGGER no_room BEFORE INSERT ON messages EXECUTE FUNCTION no_room()",
            "CREATE TRIGGER no_room BEFORE INSERT ON users EXECUTE FUNCTION no_room()",
        )

    def empty_disk(self) -> None:
        self.run_sql("DROP FUNCTION no_room CASCADE")


class ReopenedFileTests(OnFile):
    """A database that is opened again."""

    def test_survives_a_restart(self) -> None:
        """Messages, places, ids and client ids go on where they were."""
        self.add_users("bob")
        self.append(named("x", "hello"), places={("bob", None): 1, ("bob", "phone"): 1})
        self.store.engine.dispose()
        self.store = MemoryStore(engine(self, self.store.engine.url))
        self.assertEqual(self.start("bob", "phone"), Start(1, True, 1))
        self.assertEqual(self.contents("bob"), ["hello"])
        appended = self.append(named("x"), named("y"))
        self.assertEqual((list(appended.ids), set(appended.repeats)), ([1, 3], {0}))

    def test_after_a_gap(self) -> None:
        """Ids go on after those that are gone: also where the database only remembers them."""
        with self.store.engine.begin() as connection:
            row = {"topic": "server", "through": 1000}
            connection.execute(statements.UPSERT_EXPIRED, row)
        self.assertEqual(self.fill(2), [1001, 1002])
        self.store.close()
        self.store = MemoryStore(engine(self, self.store.engine.url))
        with self.store.engine.begin() as connection:
            connection.execute(statements.UPSERT_EXPIRED, row | {"through": 2000})
        self.assertEqual(self.fill(2), [2001, 2002])


class ReopenedPostgreSQLTests(OnPostgreSQL, ReopenedFileTests):
    def test_server_restarts(self) -> None:
        """While PostgreSQL is away nothing is stored; a server that is back is found again."""
        self.fill(1)
        cluster = postgresql.cluster()
        cluster.stop()
        try:
            failed = self.store.stream.append([make_message("alice", "bob", "lost")], {}, (), NOW)
            self.failureResultOf(failed, sa.exc.OperationalError)
            self.failureResultOf(self.store.stream.page("bob", 0), sa.exc.OperationalError)
        finally:
            cluster.start()
        self.assertEqual(self.fill(1), [2])
        self.assertEqual(self.contents("bob"), ["0", "0"])


class ThreadedTests(TestCase):
    """The store with threads of its own."""

    def make_engine(self) -> sa.Engine:
        return file_engine(self)

    def setUp(self) -> None:
        self.engine = self.make_engine()
        database.migrate(self.engine)
        self.store = self.open()
        self.stream = Stream(self.store, offline_limit=1000)

    def open(self) -> store.ThreadedStore:
        opened = store.ThreadedStore(engine(self, self.engine.url), cast(Any, reactor))
        self.addCleanup(opened.close)
        return opened

    def append(self, writer: Stream, *contents: str) -> Deferred[Appended]:
        batch = [make_message("alice", "bob", content) for content in contents]
        return writer.append(batch, {}, (), NOW)

    async def test_concurrent_use(self) -> None:
        """Many writes and reads at once: every message has its own id, in the order of calls."""
        contents = [[f"{n}.{part}" for part in range(3)] for n in range(40)]
        writes, reads = [], []
        for three in contents:
            writes.append(self.append(self.stream, *three))
            reads.append(self.stream.page("bob", 0, 1000))
        ids = [number for appended in await gatherResults(writes) for number in appended.ids]
        self.assertEqual(ids, list(range(1, 121)))
        for page in await gatherResults(reads):
            # A page never shows half of a commit, nor a later one without an earlier one.
            self.assertEqual([m.id for m in page.messages], list(range(1, page.head + 1)))
            self.assertEqual(page.head % 3, 0)
        page = await self.stream.page("bob", 0, 1000)
        expected = [content for three in contents for content in three]
        self.assertEqual([message.content for message in page.messages], expected)

    async def test_two_servers(self) -> None:
        """Two servers that write at once give no id twice, and hide none behind a later one."""
        other = Stream(self.open(), offline_limit=1000)
        writes, reads = [], []
        for n in range(20):
            for name, writer in (("one", self.stream), ("other", other)):
                writes.append(self.append(writer, f"{name} {n}", f"{name} {n}"))
                reads.append(writer.page("bob", 0, 1000))
        ids = [number for appended in await gatherResults(writes) for number in appended.ids]
        self.assertEqual(sorted(ids), list(range(1, 81)))
        for page in await gatherResults(reads):
            self.assertEqual([m.id for m in page.messages], list(range(1, page.head + 1)))

    async def test_one_of_two_registrations(self) -> None:
        """Of two registrations of one id at once, the first wins and the other is told."""
        users = Users(self.store)
        first, second = make_user("alice"), make_user("alice")
        added = users.add(first)
        refused = self.assertFailure(users.add(second), UserExists)
        await added
        await refused
        self.assertEqual(users.all(), [first])

    async def test_close_finishes(self) -> None:
        """What was begun before `close` is stored."""
        closing = store.ThreadedStore(engine(self, self.engine.url), cast(Any, reactor))
        written = self.append(Stream(closing, offline_limit=1000), "last")
        closing.close()
        self.assertEqual(list((await written).ids), [1])


class ThreadedPostgreSQLTests(ThreadedTests):
    """The same over PostgreSQL."""

    def make_engine(self) -> sa.Engine:
        return postgresql_engine(self)
