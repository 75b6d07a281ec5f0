"""Tests of `wschat.statements`: what the contract of the store does not reach."""

from __future__ import annotations

import sqlite3
from typing import Any, cast

import psycopg
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.stores import OnPostgreSQL, StoreTests, engine, named
from wschat import statements

#: No connection is made: the dialect is chosen by the URL.
POSTGRESQL = "postgresql+psycopg://nobody@127.0.0.1:1/none"


class TextTests(SynchronousTestCase):
    """Texts as PostgreSQL stores them."""

    def setUp(self) -> None:
        self.dialect = cast(Any, statements.dialect(engine(self, POSTGRESQL)))

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
        dialect = statements.dialect(engine(self, "sqlite://"))
        error = sqlite3.OperationalError("database or disk is full")
        self.assertFalse(dialect.disk_full(error))
        error.sqlite_errorcode = sqlite3.SQLITE_FULL
        self.assertTrue(dialect.disk_full(error))
        error.sqlite_errorcode = sqlite3.SQLITE_BUSY
        self.assertFalse(dialect.disk_full(error))
        self.assertFalse(dialect.disk_full(None))

    def test_postgresql(self) -> None:
        """SQLSTATE 53100, and nothing else."""
        dialect = statements.dialect(engine(self, POSTGRESQL))
        self.assertTrue(dialect.disk_full(psycopg.errors.DiskFull()))
        self.assertFalse(dialect.disk_full(psycopg.errors.OutOfMemory()))
        self.assertFalse(dialect.disk_full(psycopg.OperationalError("no connection")))
        self.assertFalse(dialect.disk_full(None))


class ManyTests(StoreTests):
    """More values than one statement takes."""

    def test_many_repeats(self) -> None:
        """A batch with more of one sender's client ids than a statement takes is looked up."""
        self.patch(statements, "_PARAMETERS", 3)
        names = [f"{n}" for n in range(10)]
        self.append(*(named(name) for name in names))
        appended = self.append(*(named(name) for name in [*names, "new"]))
        self.assertEqual(list(appended.ids), [*range(1, 11), 21])
        self.assertEqual(set(appended.repeats), set(range(10)))

    def test_bound(self) -> None:
        """So many values in one statement are no error, in SQLite as it is built by default."""
        batch = [named(f"{n}") for n in range(statements._PARAMETERS + 1)]
        with self.store.engine.connect() as connection:
            raw = connection.connection.driver_connection
            if isinstance(raw, sqlite3.Connection):
                raw.setlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, 32_766)
            dialect = statements.dialect(self.store.engine)
            self.assertEqual(dialect.first_ids(connection, batch), {})


class ManyPostgreSQLTests(OnPostgreSQL, ManyTests):
    pass


class PlanTests(StoreTests):
    """How SQLite finds what is asked for."""

    def plans(self) -> list[str]:
        """The steps of the plans of all that is run from here on; look when it has run."""
        steps: list[str] = []

        def explain(
            _connection: sa.Connection, cursor: Any, sql: str, values: Any, _: Any, many: bool
        ) -> None:
            raw = cursor.connection
            rows = raw.execute(f"EXPLAIN QUERY PLAN {sql}", values[0] if many else values)
            steps.extend(row[-1] for row in rows)

        sa.event.listen(self.store.engine, "before_cursor_execute", explain)
        return steps

    def test_no_scans(self) -> None:
        """Nothing that is done for a message, a session or a question goes through the table."""
        self.add_users("alice", "bob")
        plans = self.plans()
        self.append(named("x"), named("x"), places={("bob", None): 1, ("bob", "phone"): 1})
        self.append(named("y"), away=["bob"])
        self.start("bob", "phone")
        self.page("bob")
        for peer in ("alice", "broadcast"):
            for before, after in ((None, None), (5, None), (None, 1)):
                self.successResultOf(self.store.history("bob", peer, before, after, 10))
        self.successResultOf(self.store.fates("alice", ["x"]))
        self.successResultOf(self.store.seen({"bob": 1.0}))
        searches = [step for step in plans if step.startswith("SEARCH messages")]
        self.assertGreater(len(searches), 10)
        self.assertEqual([step for step in plans if step.startswith("SCAN messages")], [])
        self.assertEqual([step for step in plans if step.startswith("SCAN cursors")], [])
