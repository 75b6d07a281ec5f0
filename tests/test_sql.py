"""Tests of `wschat.sql`: batches of more than one statement."""

from __future__ import annotations

import sqlite3
from typing import Any, cast

from tests.stores import OnFile, OnPostgreSQL, StoreTests, named
from wschat import sql


class ManyTests(StoreTests):
    """More values than one statement takes."""

    def test_many_repeats(self) -> None:
        """A batch with more of one sender's client ids than a statement takes is looked up."""
        self.patch(sql, "_PARAMETERS", 3)
        names = [f"{n}" for n in range(10)]
        self.append(*(named(name) for name in names))
        appended = self.append(*(named(name) for name in [*names, "new"]))
        self.assertEqual(list(appended.ids), [*range(1, 11), 21])
        self.assertEqual(set(appended.repeats), set(range(10)))

    def test_bound(self) -> None:
        """So many values in one statement are no error, in SQLite as it is built by default."""
        batch = [named(f"{n}") for n in range(sql._PARAMETERS + 1)]
        with self.store.engine.connect() as connection:
            raw = connection.connection.driver_connection
            if isinstance(raw, sqlite3.Connection):
                raw.setlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, 32_766)
            self.assertEqual(self.store.dialect.first_ids(connection, batch), {})


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
