"""Tests of `wschat.dialects`: what the contract of the store does not reach."""

from __future__ import annotations

import sqlite3
from typing import Any, cast

import psycopg
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.stores import OnFile, OnPostgreSQL, StoreTests, engine, file_engine, named
from wschat import database, dialects

#: No connection is made: the dialect is chosen by the URL.
POSTGRESQL = "postgresql+psycopg://nobody@127.0.0.1:1/none"


class TextTests(SynchronousTestCase):
    """Texts as PostgreSQL stores them."""

    def setUp(self) -> None:
        self.dialect = cast(Any, dialects.dialect(engine(self, POSTGRESQL)))

    @settings(deadline=None)  # a busy machine is no failure
    @given(st.text(st.sampled_from("\0\ue0000e1 ")) | st.text())
    def test_round_trip(self, text: str) -> None:
        """Every text comes back as it was, and has no U+0000 while it is stored."""
        stored = self.dialect.store(text)
        self.assertNotIn("\0", stored)
        self.assertEqual(self.dialect.load(stored), text)

    def test_as_it_is(self) -> None:
        """A text without U+0000 and U+E000, and no text at all, is stored as it is."""
        for text in ("plain \u20ac", "", None):
            self.assertIs(self.dialect.store(text), text)
            self.assertIs(self.dialect.load(text), text)


class DiskFullTests(SynchronousTestCase):
    """Which of the drivers' errors say that there is no room."""

    def test_sqlite(self) -> None:
        """SQLITE_FULL, and nothing else."""
        dialect = dialects.dialect(engine(self, "sqlite://"))
        error = sqlite3.OperationalError("database or disk is full")
        self.assertFalse(dialect.disk_full(error))
        error.sqlite_errorcode = sqlite3.SQLITE_FULL
        self.assertTrue(dialect.disk_full(error))
        error.sqlite_errorcode = sqlite3.SQLITE_BUSY
        self.assertFalse(dialect.disk_full(error))
        self.assertFalse(dialect.disk_full(None))

    def test_postgresql(self) -> None:
        """SQLSTATE 53100, and nothing else."""
        dialect = dialects.dialect(engine(self, POSTGRESQL))
        self.assertTrue(dialect.disk_full(psycopg.errors.DiskFull()))
        self.assertFalse(dialect.disk_full(psycopg.errors.OutOfMemory()))
        self.assertFalse(dialect.disk_full(psycopg.OperationalError("no connection")))
        self.assertFalse(dialect.disk_full(None))


class TransactionTests(SynchronousTestCase):
    """SQLite's transactions."""

    def setUp(self) -> None:
        self.engine = file_engine(self)
        database.migrate(self.engine)
        self.dialect = dialects.dialect(self.engine)
        self.addCleanup(self.dialect.close)

    def users(self) -> int:
        with self.engine.connect() as connection:
            return len(connection.execute(sa.select(database.users.c.user_id)).all())

    def test_all_or_nothing(self) -> None:
        """What is done in a transaction that fails, by whatever way, was never done."""
        added = {"user_id": "alice", "username": "alice", "public_key": "k", "created_at": 1.0}
        for fails in (True, False):
            try:
                with self.dialect.transaction() as connection:
                    connection.execute(sa.insert(database.users), added)
                    self.assertEqual(self.users(), 0)
                    if fails:
                        raise ZeroDivisionError
            except ZeroDivisionError:
                self.assertEqual(self.users(), 0)
        self.assertEqual(self.users(), 1)

    def test_locked(self) -> None:
        """Another writer that does not end is an error as SQLAlchemy's, and later there is none."""
        with self.dialect.transaction() as connection:
            connection.exec_driver_sql("PRAGMA busy_timeout=0")
        locked = self.assertRaisesRegex(sa.exc.OperationalError, "locked")
        other = self.engine.execution_options(writes=True).begin()
        with other, locked, self.dialect.transaction():
            self.fail("two write at once")
        with self.dialect.transaction():
            self.assertEqual(self.users(), 0)


class ManyTests(StoreTests):
    """More values than one statement takes."""

    def test_many_repeats(self) -> None:
        """A batch with more of one sender's client ids than a statement takes is looked up."""
        self.patch(dialects, "_PARAMETERS", 3)
        names = [f"{n}" for n in range(10)]
        self.append(*(named(name) for name in names))
        appended = self.append(*(named(name) for name in [*names, "new"]))
        self.assertEqual(list(appended.ids), [*range(1, 11), 21])
        self.assertEqual(set(appended.repeats), set(range(10)))

    def test_bound(self) -> None:
        """So many values in one statement are no error, in SQLite as it is built by default."""
        batch = [named(f"{n}") for n in range(dialects._PARAMETERS + 1)]
        with self.store.engine.connect() as connection:
            raw = connection.connection.driver_connection
            if isinstance(raw, sqlite3.Connection):
                raw.setlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, 32_766)
            dialect = dialects.dialect(self.store.engine)
            self.assertEqual(dialect.first_ids(connection, batch), {})


class ManyPostgreSQLTests(OnPostgreSQL, ManyTests):
    pass


class RowsTests(StoreTests):
    """Many messages in one commit."""

    def test_many(self) -> None:
        """However many statements that takes, all are stored in order, once, or none is."""
        for count in (1, 49, 50, 51, 100, 123):
            before = len(self.page("bob", limit=1000).messages)
            batch = [named(f"{count}.{n}", f"{count}.{n}") for n in range(count)]
            appended = self.append(*batch, batch[0])
            self.assertEqual(appended.repeats, {count})
            stored = self.page("bob", limit=1000).messages[before:]
            self.assertEqual([message.content for message in stored], [m.content for m in batch])
            self.assertEqual([message.id for message in stored], list(appended.ids)[:count])

    def test_all_or_nothing(self) -> None:
        """A value that cannot be stored, far behind, leaves nothing of the batch."""
        batch = [named(f"{n}") for n in range(120)]
        batch[110].timestamp = cast(Any, object())
        self.failureResultOf(self.store.stream.append(batch, {}, (), 1.0))
        self.assertEqual(self.page("bob").messages, [])
        self.append(named("after"))
        self.assertEqual([message.client_id for message in self.page("bob").messages], ["after"])


class RowsFileTests(OnFile, RowsTests):
    pass


class RowsPostgreSQLTests(OnPostgreSQL, RowsTests):
    pass


class PlacesTests(StoreTests):
    """Many places in one commit."""

    def test_many(self) -> None:
        """However many statements that takes, all come forward, and none goes back."""
        counts = (1, 49, 50, 51, 100, 123)
        everybody = [f"u{n}" for n in range(max(counts))]
        self.add_users(*everybody)
        self.fill(2 * len(counts))
        for position, count in enumerate(counts, 1):
            users = everybody[:count]
            for to in (2 * position, 2 * position - 1):
                self.append(places={(user, name): to for user in users for name in (None, "s")})
            self.assertEqual({self.cursor(user) for user in users}, {2 * position})
            known = {self.start(user, "s").position for user in users}
            self.assertEqual(known, {2 * position})
        self.assertEqual(self.cursor("nobody"), 0)

    def test_all_or_nothing(self) -> None:
        """A place that cannot be saved, far behind, leaves all as they were."""
        everybody = [f"u{n}" for n in range(60)]
        self.add_users(*everybody)
        self.fill(1)
        places = {(user, None): 1 for user in everybody} | {("u59", None): cast(Any, object())}
        self.failureResultOf(self.store.stream.append([], places, (), 1.0))
        self.assertEqual({self.cursor(user) for user in everybody}, {0})


class PlacesFileTests(OnFile, PlacesTests):
    pass


class PlacesPostgreSQLTests(OnPostgreSQL, PlacesTests):
    pass
