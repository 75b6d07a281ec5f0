"""Tests of `wschat.dialects`; what dialects do is in tests.test_sql, and in those of the stream."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.stores import engine
from tests.test_postgresql import POSTGRESQL
from wschat import dialects
from wschat.postgresql import PostgreSQL
from wschat.sqlite import SQLite


class DialectTests(SynchronousTestCase):
    """Which one is spoken."""

    def test_by_engine(self) -> None:
        """It is the engine's; no connection is made for that."""
        for url, spoken in (("sqlite://", SQLite), (POSTGRESQL, PostgreSQL)):
            self.assertIsInstance(dialects.dialect(engine(self, url)), spoken)
