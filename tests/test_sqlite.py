"""Tests of `wschat.sqlite`: what the contract of the store does not reach."""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from twisted.trial.unittest import SynchronousTestCase

from tests.stores import OnFile, StoreTests, engine, file_engine, named
from tests.support import NOW, make_message
from wschat import database
from wschat.sqlite import SQLite
from wschat.stream import Place

_WRITTEN: Final = Path("/proc/self/io")


class DiskFullTests(SynchronousTestCase):
    """Which of the driver's errors say that there is no room."""

    def test_disk_full(self) -> None:
        """SQLITE_FULL, and nothing else."""
        dialect = SQLite(engine(self, "sqlite://"))
        error = sqlite3.OperationalError("database or disk is full")
        self.assertFalse(dialect.disk_full(error))
        error.sqlite_errorcode = sqlite3.SQLITE_FULL
        self.assertTrue(dialect.disk_full(error))
        error.sqlite_errorcode = sqlite3.SQLITE_BUSY
        self.assertFalse(dialect.disk_full(error))
        self.assertFalse(dialect.disk_full(None))


class WrittenTests(SynchronousTestCase):
    """What is written for a batch of messages."""

    if not _WRITTEN.exists():
        skip = "only Linux tells what a process writes"

    def written(self) -> int:
        """What this process has written to files of whatever kind, in bytes."""
        return int(re.findall(r"wchar: (\d+)", _WRITTEN.read_text())[0])

    def test_once(self) -> None:
        """Pages go to the write-ahead log, and no copy of what they were goes anywhere."""
        made = file_engine(self)
        database.migrate(made)
        dialect = SQLite(made)
        self.addCleanup(dialect.close)
        log = Path(f"{made.url.database}-wal")
        for number in range(30):
            batch = [make_message(f"user{n % 50}", f"user{n % 49}", "x" * 300) for n in range(200)]
            for n, message in enumerate(batch):
                message.client_id = f"{number}-{n}"
            with dialect.transaction() as connection:
                connection.exec_driver_sql("PRAGMA wal_autocheckpoint=0")
                before, size = self.written(), log.stat().st_size
                dialect.insert(connection, batch, NOW)
            grown = log.stat().st_size - size
            self.assertGreater(grown, 200 * 300)
            self.assertLess(self.written() - before, 1.01 * grown)


class TransactionTests(SynchronousTestCase):
    """SQLite's transactions."""

    def setUp(self) -> None:
        self.engine = file_engine(self)
        database.migrate(self.engine)
        self.dialect = SQLite(self.engine)
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

    def test_begins_as_the_only_writer(self) -> None:
        """Where ids go on is looked at when nobody else can give any."""
        said: list[str] = []

        def connected(driver: sqlite3.Connection, _record: object) -> None:
            driver.set_trace_callback(said.append)

        self.engine.dispose()
        sa.event.listen(self.engine, "connect", connected)
        with self.dialect.transaction():
            pass
        words = [statement.split()[0] for statement in said]
        self.assertLess(words.index("BEGIN"), words.index("SELECT"))


class AloneTests(StoreTests):
    """A few messages that are all new."""

    def driver(self) -> sqlite3.Connection:
        """What writes."""
        with self.store.dialect.transaction() as connection:
            driver: Any = connection.connection.driver_connection
        assert isinstance(driver, sqlite3.Connection)
        return driver

    def said(
        self, count: int, *again: str, places: dict[Place, int] | None = None, away: str = ""
    ) -> list[str]:
        """The first words of what is said to store new messages, and some that may be known."""
        said: list[str] = []
        driver = self.driver()
        head = self.fill(1)[0]
        batch = [named(f"{head} {n}") for n in range(count)] + [named(name) for name in again]
        driver.set_trace_callback(lambda statement: said.append(statement.split()[0]))
        try:
            self.append(*batch, places=places, away=away.split())
        finally:
            driver.set_trace_callback(None)
        return said

    def test_one_statement(self) -> None:
        """They are stored by one statement, as many as it takes."""
        self.assertEqual(self.said(1), ["INSERT"])
        self.assertEqual(self.said(50), ["INSERT"])
        self.assertEqual(self.said(51), ["BEGIN", "INSERT", "INSERT", "COMMIT"])

    def test_transactions(self) -> None:
        """What has more to it takes a transaction, and stores nothing before it."""
        self.add_users("bob")
        self.append(named("known"))
        for said in (
            self.said(1, places={("bob", None): 1}),
            self.said(1, away="bob"),
            self.said(1, "known")[1:],
            self.said(1, "twice", "twice")[1:],
        ):
            self.assertEqual((said[0], said[-1]), ("BEGIN", "COMMIT"))

    def test_failure_after_a_repeat(self) -> None:
        """When it cannot be told which messages were known, none of them is stored."""
        self.append(named("known"))

        def fails(*_: object) -> None:
            raise sqlite3.OperationalError("disk I/O error")

        patch = self.patch(self.store.dialect, "first_ids", fails)
        failed = self.store.stream.append([named("known"), named("new")], {}, (), NOW)
        self.failureResultOf(failed, sqlite3.OperationalError)
        patch.restore()
        self.assertEqual(len(self.contents("bob")), 1)
        self.assertEqual(set(self.append(named("known"), named("new")).repeats), {0})


class AloneFileTests(OnFile, AloneTests):
    def test_locked(self) -> None:
        """Another writer that does not end is an error, and later there is none."""
        self.driver().execute("PRAGMA busy_timeout=0")
        with self.store.engine.execution_options(writes=True).begin():
            failed = self.store.stream.append([named("x")], {}, (), NOW)
            self.failureResultOf(failed, sqlite3.OperationalError)
        self.assertEqual(self.append(named("x")).repeats, ())


class SharedConnectionTests(StoreTests):
    """A database in memory, whose only connection is everybody's."""

    def test_somebody_reads(self) -> None:
        """Nothing is stored in a transaction that somebody else may take back."""
        self.fill(1)
        with self.store.engine.connect() as connection:
            connection.execute(sa.select(database.users)).all()
            failed = self.store.stream.append([named("x")], {}, (), NOW)
            self.failureResultOf(failed, sa.exc.OperationalError)
        self.append(named("x"))
        self.assertEqual(len(self.contents("bob")), 2)
