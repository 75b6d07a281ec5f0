"""Tests of `wschat.statements`: what the contract of the store does not reach."""

from __future__ import annotations

import sqlite3
from typing import cast

from tests.stores import StoreTests, named


class PlanTests(StoreTests):
    """How SQLite finds what is asked for."""

    def setUp(self) -> None:
        super().setUp()
        self.statements: list[str] = []
        with self.store.engine.connect() as connection:  # the one that there is, in memory
            self.driver = cast(sqlite3.Connection, connection.connection.driver_connection)

    def plans(self) -> list[str]:
        """The steps of the plans of all that was run since it was traced."""
        self.driver.set_trace_callback(None)
        said = {sql for sql in self.statements if sql.split()[0] in ("SELECT", "INSERT", "UPDATE")}
        return [row[-1] for sql in said for row in self.driver.execute(f"EXPLAIN QUERY PLAN {sql}")]

    def test_no_scans(self) -> None:
        """Nothing that is done for a message, a session or a question goes through the table."""
        self.add_users("alice", "bob")
        self.driver.set_trace_callback(self.statements.append)
        self.append(named("x"), named("x"), places={("bob", None): 1, ("bob", "phone"): 1})
        self.append(named("y"), away=["bob"])
        self.start("bob", "phone")
        self.page("bob")
        for peer in ("alice", "broadcast"):
            for before, after in ((None, None), (5, None), (None, 1)):
                self.successResultOf(self.store.history.page("bob", peer, before, after, 10))
        self.successResultOf(self.store.history.fates("alice", ["x"]))
        self.successResultOf(self.store.users.seen({"bob": 1.0}))
        plans = self.plans()
        searches = [step for step in plans if step.startswith("SEARCH messages")]
        self.assertGreater(len(searches), 10)
        self.assertEqual([step for step in plans if step.startswith("SCAN messages")], [])
        self.assertEqual([step for step in plans if step.startswith("SCAN cursors")], [])
