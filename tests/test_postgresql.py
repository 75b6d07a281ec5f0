"""Tests of `wschat.postgresql`: what the contract of the store does not reach."""

from __future__ import annotations

from typing import Final

import psycopg
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.stores import engine
from wschat.postgresql import PostgreSQL

#: Nobody connects to it.
POSTGRESQL: Final = "postgresql+psycopg://nobody@127.0.0.1:1/none"


class TextTests(SynchronousTestCase):
    """Texts as PostgreSQL stores them."""

    def setUp(self) -> None:
        self.dialect = PostgreSQL(engine(self, POSTGRESQL))

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
    """Which of the driver's errors say that there is no room."""

    def test_disk_full(self) -> None:
        """SQLSTATE 53100, and nothing else."""
        dialect = PostgreSQL(engine(self, POSTGRESQL))
        self.assertTrue(dialect.disk_full(psycopg.errors.DiskFull()))
        self.assertFalse(dialect.disk_full(psycopg.errors.OutOfMemory()))
        self.assertFalse(dialect.disk_full(psycopg.OperationalError("no connection")))
        self.assertFalse(dialect.disk_full(None))
