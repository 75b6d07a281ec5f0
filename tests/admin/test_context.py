"""Tests of `wschat.admin.context`."""

from __future__ import annotations

import time

import sqlalchemy as sa

from tests.admin.support import AdminTests
from wschat import database
from wschat.admin.context import Context, Failed
from wschat.datadir import DataDirectory


class ContextTests(AdminTests):
    """A configuration, and what it names."""

    def context(self, **options: str) -> Context:
        given: dict[str, str | None] = {"data-dir": str(self.data_dir), **options}
        return Context(given, {}, time.time())

    def test_schema(self) -> None:
        """A database of another version is left alone."""
        self.data_dir.mkdir()
        engine = database.make_engine(f"sqlite:///{self.data_dir / 'wschat.sqlite3'}")
        self.addCleanup(engine.dispose)
        for revision in ("0004", "9999"):
            if revision == "0004":
                database.migrate(engine, revision)
            else:
                with engine.begin() as connection:
                    connection.execute(sa.text("UPDATE alembic_version SET version_num='9999'"))
            error = self.assertRaises(Failed, self.context().administration)
            self.assertIn(revision, str(error))
            self.assertEqual(database.revisions(engine)[0], revision)

    def test_runs(self) -> None:
        """A server that runs on the directory is noticed; one elsewhere cannot be."""
        self.assertFalse(self.context().runs())
        with DataDirectory(self.data_dir).hold():
            self.assertTrue(self.context().runs())
        self.assertFalse(self.context().runs())
        self.assertTrue(self.context(database="postgresql+psycopg:///chat").runs())

    def test_database_file(self) -> None:
        """Where SQLite's file is; PostgreSQL has none."""
        self.assertEqual(self.context().database_file, self.data_dir / "wschat.sqlite3")
        self.assertIsNone(self.context(database="postgresql+psycopg:///chat").database_file)
