"""Tests of `wschat.database`."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import alembic.autogenerate
import alembic.config
import alembic.migration
import alembic.script
import sqlalchemy as sa
from twisted.trial.unittest import SynchronousTestCase

from tests.stores import engine, file_engine, postgresql_engine
from tests.support import NOW, MemoryStore, make_message, make_user
from wschat import database, stream

ROOT = Path(__file__).parent.parent


def revisions() -> list[str]:
    """All revisions of the schema, from the first."""
    config = alembic.config.Config()
    config.set_main_option("script_location", "wschat:migrations")
    scripts = alembic.script.ScriptDirectory.from_config(config)
    return [script.revision for script in scripts.walk_revisions()][::-1]


class UrlTests(SynchronousTestCase):
    """What `--database` means."""

    def test_url(self) -> None:
        """A database is a path, a URL, or by default in the data directory."""
        home = Path("/var/lib/wschat")
        for given, url in (
            ("", "sqlite:////var/lib/wschat/wschat.sqlite3"),
            ("chat.db", "sqlite:///chat.db"),
            ("/data/chat.db", "sqlite:////data/chat.db"),
            ("~/chat.db", f"sqlite:///{Path.home()}/chat.db"),
            ("sqlite:////data/chat.db", "sqlite:////data/chat.db"),
            ("postgresql+psycopg://me:pw@db/chat", "postgresql+psycopg://me:pw@db/chat"),
        ):
            found = database.database_url(given, home)
            self.assertEqual(found.render_as_string(hide_password=False), url)
        self.assertEqual(database.database_url("/data/100%?.db", home).database, "/data/100%?.db")


class SqliteTests(SynchronousTestCase):
    """SQLite's engines."""

    def pragma(self, connection: sa.Connection, name: str) -> Any:
        return connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()

    def mode(self, path: str) -> int:
        return stat.S_IMODE(os.stat(path).st_mode)

    def test_durability(self) -> None:
        """Every connection has a write-ahead log and full synchronisation (2 is FULL)."""
        made = file_engine(self)
        with made.connect() as held, made.connect() as other:
            for connection in (held, other):
                found = [self.pragma(connection, name) for name in ("journal_mode", "synchronous")]
                self.assertEqual(found, ["wal", 2])
                self.assertGreaterEqual(self.pragma(connection, "busy_timeout"), 1000)

    def test_private(self) -> None:
        """Only its owner can read a database that was made, nor the files beside it."""
        self.addCleanup(os.umask, os.umask(0))
        path = self.mktemp()
        made = engine(self, f"sqlite:///{path}")
        database.migrate(made)
        with made.connect() as connection:
            connection.exec_driver_sql("SELECT * FROM users")
            modes = {suffix: self.mode(path + suffix) for suffix in ("", "-wal", "-shm")}
        self.assertEqual(modes, {"": 0o600, "-wal": 0o600, "-shm": 0o600})

    def test_existing_file(self) -> None:
        """A database that is there keeps its mode: somebody may have chosen it."""
        path = self.mktemp()
        Path(path).touch()
        os.chmod(path, 0o640)
        database.migrate(engine(self, f"sqlite:///{path}"))
        self.assertEqual(self.mode(path), 0o640)

    def test_no_directory(self) -> None:
        """A database in a directory that is not there is the caller's error, at once."""
        with self.assertRaises(OSError):
            database.make_engine(f"sqlite:///{self.mktemp()}/chat.db")

    def test_in_memory(self) -> None:
        """All connections of an engine in memory see one database, and no file is made."""
        made = engine(self, "sqlite://")
        database.migrate(made)
        with made.connect() as connection:
            self.assertEqual(connection.execute(sa.select(database.users)).all(), [])

    def test_writers_wait_for_each_other(self) -> None:
        """Who means to write has the database to themselves from the beginning; readers read on."""
        made = file_engine(self)
        database.migrate(made)
        with made.execution_options(writes=True).begin(), made.connect() as other:
            other.execute(sa.select(database.users))
            other.rollback()
            other.exec_driver_sql("PRAGMA busy_timeout=0")
            with self.assertRaisesRegex(sa.exc.OperationalError, "locked"):
                other.execute(sa.delete(database.users))
            other.rollback()

    def test_old(self) -> None:
        """One that does not know all that is said to it is refused, and no file is made."""
        path = Path(self.mktemp())
        self.patch(sqlite3, "sqlite_version_info", (3, 34, 1))
        with self.assertRaisesRegex(database.Unusable, "needs 3.35 or later"):
            database.make_engine(f"sqlite:///{path}")
        self.assertFalse(path.exists())
        database.make_engine("postgresql+psycopg://localhost/chat").dispose()
        self.patch(sqlite3, "sqlite_version_info", (3, 35, 0))
        database.migrate(engine(self, f"sqlite:///{path}"))


class PostgreSQLTests(SynchronousTestCase):
    """PostgreSQL's engines."""

    def test_unreachable(self) -> None:
        """A server that is not there is an error that does not tell the password."""
        url = "postgresql+psycopg://wschat:quokka@127.0.0.1:1/chat"
        with self.assertRaises(sa.exc.OperationalError) as caught:
            database.migrate(engine(self, url))
        self.assertNotIn("quokka", str(caught.exception))

    def test_durability(self) -> None:
        """Commits are on disk, in the server of the tests as in others."""
        with postgresql_engine(self).connect() as connection:
            for name in ("fsync", "synchronous_commit"):
                found = connection.exec_driver_sql(f"SHOW {name}").scalar_one()
                self.assertEqual(found, "on", name)

    def test_migrate_at_once(self) -> None:
        """Several servers that start at once on a new database all find its tables."""
        url = postgresql_engine(self).url.render_as_string(hide_password=False)
        code = f"from wschat import database as d; d.migrate(d.make_engine({url!r}))"
        started = [
            subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stderr=subprocess.PIPE)
            for _ in range(3)
        ]
        for process in started:
            _, said = process.communicate(timeout=60)
            self.assertEqual(process.returncode, 0, said.decode())


class MigrationTests(SynchronousTestCase):
    """What the migrations make, in SQLite."""

    def empty(self) -> sa.Engine:
        """A database without tables."""
        return file_engine(self)

    def autoincrements(self, made: sa.Engine, name: str) -> bool:
        """Whether a table never gives an id again."""
        with made.connect() as connection:
            sql = connection.exec_driver_sql(
                "SELECT sql FROM sqlite_master WHERE name = ?", (name,)
            )
            return "AUTOINCREMENT" in str(sql.scalar_one())

    def schema(self, made: sa.Engine) -> dict[str, Any]:
        """Tables, columns, types, defaults, keys and indexes, as the database tells them."""
        inspector = sa.inspect(made)
        return {
            name: {
                "columns": [
                    (c["name"], repr(c["type"]), c["nullable"], c["default"])
                    for c in inspector.get_columns(name)
                ],
                "indexes": [
                    {
                        **index,
                        "dialect_options": {
                            key: str(value)
                            for key, value in index.get("dialect_options", {}).items()
                        },
                    }
                    for index in sorted(inspector.get_indexes(name), key=lambda i: str(i["name"]))
                ],
                "key": inspector.get_pk_constraint(name),
                "unique": inspector.get_unique_constraints(name),
                "foreign": inspector.get_foreign_keys(name),
                "checks": inspector.get_check_constraints(name),
                "autoincrements": self.autoincrements(made, name),
            }
            for name in sorted(inspector.get_table_names())
            if name != "alembic_version"
        }

    def fresh(self) -> sa.Engine:
        made = self.empty()
        database.migrate(made)
        return made

    def put_rows(self, made: sa.Engine) -> dict[str, int]:
        """Two rows into each table there is, whatever its columns; the numbers of rows."""
        tables = sa.MetaData()
        with made.begin() as connection:
            tables.reflect(connection)
            for name in tables.tables.keys() - {"alembic_version"}:
                table = tables.tables[name]
                for n in (1, 2):
                    row = {
                        c.name: str(n) if isinstance(c.type, sa.String) else n
                        for c in table.columns
                    }
                    connection.execute(sa.insert(table), row)
        return dict.fromkeys(tables.tables.keys() - {"alembic_version"}, 2)

    def test_declared(self) -> None:
        """A database made by the migrations equals one made from the declared tables."""
        declared = self.empty()
        database.metadata.create_all(declared)
        found = self.schema(self.fresh())
        self.assertEqual(found, self.schema(declared))
        self.assertEqual(set(found), set(database.metadata.tables))

    def test_nothing_to_generate(self) -> None:
        """Alembic itself sees no difference between the migrations and what is declared."""
        with self.fresh().connect() as connection:
            context = alembic.migration.MigrationContext.configure(
                connection, opts={"compare_type": True, "compare_server_default": True}
            )
            found = alembic.autogenerate.compare_metadata(context, database.metadata)
            self.assertEqual(found, [])

    def test_indexes(self) -> None:
        """A sender's client ids are unique, where there are any; a topic is read in order."""
        found = {i["name"]: i for i in self.schema(self.fresh())["messages"]["indexes"]}
        unique = found["messages_by_client_id"]
        self.assertTrue(unique["unique"])
        self.assertEqual(unique["column_names"], ["sender", "client_id"])
        (where,) = (v for k, v in unique["dialect_options"].items() if k.endswith("_where"))
        self.assertIn("client_id IS NOT NULL", where)
        self.assertEqual(found["messages_by_topic"]["column_names"], ["topic", "id"])

    def test_upgraded(self) -> None:
        """A database of any earlier revision, with rows, becomes equal to a new one; they stay."""
        expected = self.schema(self.fresh())
        earlier = revisions()[:-1]
        self.assertIn("0001", earlier)
        for revision in earlier:
            made = self.empty()
            database.migrate(made, revision)
            self.assertNotEqual(self.schema(made), expected, revision)
            rows = self.put_rows(made)
            database.migrate(made)
            self.assertEqual(self.schema(made), expected, revision)
            with made.connect() as connection:
                for name, count in rows.items():
                    table = database.metadata.tables[name]
                    self.assertEqual(len(connection.execute(sa.select(table)).all()), count, name)

    def test_upgraded_in_steps(self) -> None:
        """Revision after revision leads to the same as all at once."""
        made = self.empty()
        for revision in revisions():
            database.migrate(made, revision)
        self.assertEqual(self.schema(made), self.schema(self.fresh()))

    def test_goes_on_from_the_first(self) -> None:
        """Users, messages and places of the first revision are there for the store."""
        made = self.empty()
        database.migrate(made, "0001")
        alice = make_user("alice")
        user = f"'alice', 'Alice', '{alice.public_key}', NULL, {NOW}"
        message = f"7, 'alice', 'bob', '2026-11-22T10:00:00Z', 'hello', NULL, NULL, NULL, {NOW}"
        with made.begin() as connection:
            connection.exec_driver_sql(f"INSERT INTO users VALUES ({user})")
            connection.exec_driver_sql(f"INSERT INTO messages VALUES ({message})")
            connection.exec_driver_sql("INSERT INTO cursors VALUES ('alice', 6)")
        database.migrate(made)
        kept = MemoryStore(made)
        self.assertEqual([user.user_id for user in kept.users.all()], ["alice"])
        start = self.successResultOf(kept.stream.start(("alice", None), None))
        self.assertEqual(start, stream.Start(6, True, 6, known=False, head=7))
        (hello,) = self.successResultOf(kept.stream.page("alice", 6)).messages
        self.assertEqual((hello.id, hello.content, hello.client_id), (7, "hello", None))
        appended = self.successResultOf(
            kept.stream.append([make_message("bob", "alice", "new")], {}, (), NOW)
        )
        self.assertEqual(list(appended.ids), [8])

    def test_starts(self) -> None:
        """What was broadcast before somebody registered is not theirs after an upgrade, either."""
        made = self.empty()
        database.migrate(made, "0001")
        with made.begin() as connection:
            for number, name in enumerate(("first", "second", "third")):
                user = make_user(name)
                values = f"'{name}', 'X', '{user.public_key}', NULL, {NOW + number * 10}"
                connection.exec_driver_sql(f"INSERT INTO users VALUES ({values})")
                connection.exec_driver_sql(f"INSERT INTO cursors VALUES ('{name}', 4)")
            for number in range(1, 5):  # at 5, 10, 15 and 20 seconds; ids with gaps
                values = f"{2 * number}, 'first', 'broadcast', 't', 'x', NULL, NULL, NULL"
                stored = f"{values}, {NOW + 5 * number}"
                connection.exec_driver_sql(f"INSERT INTO messages VALUES ({stored})")
        database.migrate(made)
        with made.connect() as connection:
            columns = database.cursors.c.user_id, database.cursors.c.start
            found = dict(connection.execute(sa.select(*columns)).tuples().all())
        self.assertEqual(found, {"first": 0, "second": 2, "third": 4})  # 6, but they have read 4

    def test_twice(self) -> None:
        """A database that is up to date keeps what is in it."""
        made = self.fresh()
        self.put_rows(made)
        database.migrate(made)
        with made.connect() as connection:
            self.assertEqual(len(connection.execute(sa.select(database.users)).all()), 2)

    def test_newer(self) -> None:
        """A database of a later version is left alone, and that is said."""
        made = self.fresh()
        with made.begin() as connection:
            connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
        before = self.schema(made)
        error = self.assertRaises(database.NewerSchema, database.migrate, made)
        self.assertIn("newer version of wschat", str(error))
        self.assertEqual(self.schema(made), before)

    def test_all_or_nothing(self) -> None:
        """A migration that fails half way leaves the database as it was."""
        made = self.empty()
        database.migrate(made, "0001")
        before = self.schema(made)
        with made.begin() as connection:
            connection.exec_driver_sql("CREATE TABLE expired (topic INTEGER)")
        with self.assertRaises(sa.exc.DBAPIError):
            database.migrate(made)
        with made.begin() as connection:
            connection.exec_driver_sql("DROP TABLE expired")
        self.assertEqual(self.schema(made), before)
        database.migrate(made)
        self.assertEqual(self.schema(made), self.schema(self.fresh()))


class PostgreSQLMigrationTests(MigrationTests):
    """What the migrations make, in PostgreSQL."""

    def empty(self) -> sa.Engine:
        return postgresql_engine(self)

    def autoincrements(self, made: sa.Engine, name: str) -> bool:
        """The default of an id says it here."""
        return False
