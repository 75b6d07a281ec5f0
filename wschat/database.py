"""
The database itself: its tables, its engines, its migrations.

SQLite by default, PostgreSQL where many want to look at it; what differs
between the two is here, and in `wschat.dialects`.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path
from typing import Any, Final

import alembic.command
import alembic.config
import alembic.migration
import alembic.script
import sqlalchemy as sa
from sqlalchemy.dialects import sqlite

#: The oldest SQLite that knows all that is said to it: a migration drops a column.
_OLDEST_SQLITE: Final = (3, 35)

#: How long SQLite waits for another process that writes, in milliseconds.
_BUSY: Final = 10_000

#: How long a PostgreSQL server may take to answer a connection, in seconds.
_CONNECT_TIMEOUT: Final = 10

#: Who holds it is the only one that changes the schema (PostgreSQL).
_MIGRATION_LOCK: Final = 7_748_429

metadata = sa.MetaData()

_id_type = sa.BigInteger().with_variant(sqlite.INTEGER(), "sqlite")

users = sa.Table(
    "users",
    metadata,
    sa.Column("user_id", sa.String(64), primary_key=True),
    sa.Column("username", sa.Text, nullable=False),
    sa.Column("public_key", sa.String(44), nullable=False),
    sa.Column("x25519_public_key", sa.String(44)),
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("rotations", sa.Text),
    sa.Column("disabled_at", sa.Double),
    sa.Column("signed_out_at", sa.Double),
)

#: Users whom an operator has changed, the latest last: what a server that runs looks at.
user_changes = sa.Table(
    "user_changes",
    metadata,
    sa.Column("id", _id_type, primary_key=True, autoincrement=True),
    sa.Column("user_id", sa.String(64), nullable=False),
    sa.Column("changed_at", sa.Double, nullable=False),
    sqlite_autoincrement=True,
)

#: The messages.  A sender's client id names one message of theirs, however often it is sent.
messages = sa.Table(
    "messages",
    metadata,
    sa.Column("id", _id_type, primary_key=True, autoincrement=True),
    sa.Column("topic", sa.String(64), nullable=False),
    sa.Column("sender", sa.String(64), nullable=False),
    sa.Column("timestamp", sa.Text, nullable=False),
    sa.Column("content", sa.Text, nullable=False),
    sa.Column("signature", sa.Text),
    sa.Column("encrypted_key", sa.Text),
    sa.Column("encryption_nonce", sa.Text),
    sa.Column("stored_at", sa.Double, nullable=False),
    sa.Column("client_id", sa.String(64)),
    sa.Column("envelope_signature", sa.Text),
    sa.Column("sender_key", sa.Text),
    sa.Index("messages_by_topic", "topic", "id"),
    sa.Index(
        "messages_by_client_id",
        "sender",
        "client_id",
        unique=True,
        sqlite_where=sa.text("client_id IS NOT NULL"),
        postgresql_where=sa.text("client_id IS NOT NULL"),
    ),
    sqlite_autoincrement=True,  # the id of a message that is gone is never given again
)

#: How far each user has come: `position` with any session; `start`, when they registered.
cursors = sa.Table(
    "cursors",
    metadata,
    sa.Column("user_id", sa.String(64), primary_key=True),
    sa.Column("position", sa.BigInteger, nullable=False),
    sa.Column("start", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("seen_at", sa.Double),
)

#: How far each named session of a user has come.
sessions = sa.Table(
    "sessions",
    metadata,
    sa.Column("user_id", sa.String(64), primary_key=True),
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("position", sa.BigInteger, nullable=False),
    sa.Column("seen_at", sa.Double, nullable=False),
)

#: Of each topic, the newest message that is not kept any more.
expired = sa.Table(
    "expired",
    metadata,
    sa.Column("topic", sa.String(64), primary_key=True),
    sa.Column("through", sa.BigInteger, nullable=False),
    sa.Index("expired_by_through", "through"),  # the head is asked for by every page
)


class Unusable(Exception):
    """Why this version cannot work with a database."""


class NewerSchema(Unusable):
    """The database's schema is one that this version does not know."""


def _on_connect(connection: Any, _record: Any) -> None:
    """Every SQLite connection: durable commits, readers that never wait for the writer."""
    connection.isolation_level = None  # the transactions are begun by _on_begin
    for pragma in ("journal_mode=WAL", "synchronous=FULL", f"busy_timeout={_BUSY}"):
        connection.execute(f"PRAGMA {pragma}").close()


def _on_begin(connection: sa.Connection) -> None:
    """Who means to write says so first: an upgrade of a reader's snapshot can fail."""
    options = connection.get_execution_options()
    if options.get("begun"):
        return  # by its owner, as are its ends
    writes = options.get("writes")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def make_engine(url: str | sa.URL) -> sa.Engine:
    """
    An engine for `sqlite://` (in memory), `sqlite:///PATH` or `postgresql+psycopg://...`.

    A SQLite file is made when missing, and nobody else can read it.  Raises
    `Unusable` for a SQLite that is too old.
    """
    url = sa.make_url(url)
    if url.get_backend_name() != "sqlite":
        return sa.create_engine(
            url,
            hide_parameters=True,  # errors are logged, contents are not
            pool_pre_ping=True,  # so that a server that was restarted is found again
            isolation_level="READ COMMITTED",  # what is read after the lock is what is there then
            connect_args={
                "connect_timeout": _CONNECT_TIMEOUT,
                "tcp_user_timeout": _CONNECT_TIMEOUT * 1000,  # for one that says nothing any more
            },
        )
    if sqlite3.sqlite_version_info < _OLDEST_SQLITE:
        needed = ".".join(map(str, _OLDEST_SQLITE))
        raise Unusable(
            f"this Python has SQLite {sqlite3.sqlite_version}, and wschat needs {needed} or"
            " later: use another SQLite, or PostgreSQL"
        )
    if url.database:
        _make_private(url.database)
    engine = sa.create_engine(
        url,
        poolclass=None if url.database else sa.StaticPool,
        connect_args={"check_same_thread": False},
        hide_parameters=True,
    )
    sa.event.listen(engine, "connect", _on_connect)
    sa.event.listen(engine, "begin", _on_begin)
    return engine


def _make_private(path: str) -> None:
    """Make a missing database file such that only its owner can read it."""
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))


def database_url(database: str, data_dir: Path) -> sa.URL:
    """The URL of a `--database` value: a path, a URL, or nothing for the data directory's own."""
    if "://" in database:
        return sa.make_url(database)
    path = Path(database).expanduser() if database else data_dir / "wschat.sqlite3"
    return sa.URL.create("sqlite", database=str(path))


def revisions(engine: sa.Engine) -> tuple[str | None, str]:
    """The revision of a database's schema, None when it has none, and the one of this version."""
    script = _script(_alembic())
    with engine.connect() as connection:
        context = alembic.migration.MigrationContext.configure(connection)
        return context.get_current_revision(), str(script.get_current_head())


def _script(config: alembic.config.Config) -> alembic.script.ScriptDirectory:
    return alembic.script.ScriptDirectory.from_config(config)


def _alembic() -> alembic.config.Config:
    config = alembic.config.Config()
    config.set_main_option("script_location", "wschat:migrations")
    return config


def migrate(engine: sa.Engine, revision: str = "head") -> None:
    """
    Bring the database's schema up to a revision; a new database gets all of it.

    Raises `NewerSchema`.
    """
    config = _alembic()
    with engine.execution_options(writes=True).begin() as connection:
        if engine.dialect.name == "postgresql":  # several servers may start at once
            connection.exec_driver_sql("SELECT pg_advisory_xact_lock(%s)", (_MIGRATION_LOCK,))
        config.attributes["connection"] = connection
        found = alembic.migration.MigrationContext.configure(connection).get_current_revision()
        known = {each.revision for each in _script(config).walk_revisions()}
        if found is not None and found not in known:
            raise NewerSchema("the database is of a newer version of wschat than this one")
        alembic.command.upgrade(config, revision)
