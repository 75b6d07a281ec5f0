"""
What is kept: users, messages, and everybody's place in the stream.

A message is in exactly one topic (a user's inbox, or the broadcasts) and its
id orders it among all messages.  A cursor is one number: the last message
that somebody is known to have.  Delivery is never a row per recipient.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

import alembic.command
import alembic.config
import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects import sqlite
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

from wschat import wire
from wschat.identity import User

Result = TypeVar("Result")

#: How many messages are read for one session at a time.
PAGE_MESSAGES: Final = 100

_READERS: Final = 2

metadata = sa.MetaData()

users = sa.Table(
    "users",
    metadata,
    sa.Column("user_id", sa.String(64), primary_key=True),
    sa.Column("username", sa.Text, nullable=False),
    sa.Column("public_key", sa.String(44), nullable=False),
    sa.Column("x25519_public_key", sa.String(44)),
    sa.Column("created_at", sa.Double, nullable=False),
)

messages = sa.Table(
    "messages",
    metadata,
    sa.Column(
        "id",
        sa.BigInteger().with_variant(sqlite.INTEGER(), "sqlite"),
        primary_key=True,
        autoincrement=True,
    ),
    sa.Column("topic", sa.String(64), nullable=False),
    sa.Column("sender", sa.String(64), nullable=False),
    sa.Column("timestamp", sa.Text, nullable=False),
    sa.Column("content", sa.Text, nullable=False),
    sa.Column("signature", sa.Text),
    sa.Column("encrypted_key", sa.Text),
    sa.Column("encryption_nonce", sa.Text),
    sa.Column("stored_at", sa.Double, nullable=False),
    sa.Index("messages_by_topic", "topic", "id"),
    sqlite_autoincrement=True,  # the id of a message that is gone is never given again
)

cursors = sa.Table(
    "cursors",
    metadata,
    sa.Column("user_id", sa.String(64), primary_key=True),
    sa.Column("position", sa.BigInteger, nullable=False),
)


class UserExists(Exception):
    """The user id is taken."""


class Page(msgspec.Struct, frozen=True):
    """
    Part of what a user has not had yet, in order.

    A `complete` page is the last one: there is nothing more for this user up
    to message `head`, the newest of all when the page was read.
    """

    messages: list[wire.Message]
    head: int
    complete: bool


class Executor(Protocol):
    """Runs a function where blocking is allowed."""

    def __call__(self, function: Callable[..., Result], *args: Any) -> Deferred[Result]: ...


class Store:
    """
    The database, behind Deferreds.

    Writes run one after the other, in the order of the calls.  A Deferred of
    a write fires when what was written is on disk, and fails with the
    database's error when it is not.
    """

    def __init__(self, engine: sa.Engine, write: Executor, read: Executor) -> None:
        self._engine = engine
        self._write = write
        self._read = read

    def append(
        self, batch: Sequence[wire.Message], positions: Mapping[str, int], now: float
    ) -> Deferred[range]:
        """
        Store messages and move cursors, all of it or nothing, in one commit.

        Fires with the messages' ids, which ascend in the order given.
        """
        return self._write(self._append, batch, dict(positions), now)

    def _append(
        self, batch: Sequence[wire.Message], positions: Mapping[str, int], now: float
    ) -> range:
        with self._engine.begin() as connection:
            if positions:
                connection.execute(
                    _move_cursor,
                    [{"user": user, "to": position} for user, position in positions.items()],
                )
            if not batch:
                return range(0)
            connection.exec_driver_sql(
                _INSERT_MESSAGE,
                [
                    (
                        message.topic,
                        message.sender,
                        message.timestamp,
                        message.content,
                        message.signature,
                        message.encrypted_key,
                        message.encryption_nonce,
                        now,
                    )
                    for message in batch
                ],
            )
            # One writer, inside one transaction: the ids of a batch are consecutive.
            last = connection.exec_driver_sql("SELECT last_insert_rowid()").scalar_one()
        return range(last - len(batch) + 1, last + 1)

    def page(self, user_id: str, after: int, limit: int = PAGE_MESSAGES) -> Deferred[Page]:
        """What `user_id` should have after message `after`: their inbox, others' broadcasts."""
        return self._read(self._page, user_id, after, limit)

    def _page(self, user_id: str, after: int, limit: int) -> Page:
        with self._engine.connect() as connection:
            head = connection.execute(_select_head).scalar_one() or 0
            rows = connection.execute(
                _select_page, {"user": user_id, "after": after, "head": head, "limit": limit}
            ).all()
        return Page([_message(row) for row in rows], head, len(rows) < limit)

    def cursor(self, user_id: str) -> Deferred[int]:
        """The last message that a user is known to have; 0 for a user who is not there."""
        return self._read(self._cursor, user_id)

    def _cursor(self, user_id: str) -> int:
        with self._engine.connect() as connection:
            return connection.execute(_select_cursor, {"user": user_id}).scalar() or 0

    def add_user(self, user: User) -> Deferred[None]:
        """Register a user, whose place is after all that is stored.  Fails with `UserExists`."""
        return self._write(self._add_user, user)

    def _add_user(self, user: User) -> None:
        try:
            with self._engine.begin() as connection:
                connection.execute(sa.insert(users), msgspec.structs.asdict(user))
                head = connection.execute(_select_head).scalar_one() or 0
                connection.execute(sa.insert(cursors), {"user_id": user.user_id, "position": head})
        except sa.exc.IntegrityError:
            raise UserExists(user.user_id) from None

    def all_users(self) -> list[User]:
        """Every registered user.  Blocks: for the start, before the reactor runs."""
        with self._engine.connect() as connection:
            return [User(*row) for row in connection.execute(sa.select(users))]


_INSERT_MESSAGE: Final = (
    "INSERT INTO messages (topic, sender, timestamp, content, signature,"
    " encrypted_key, encryption_nonce, stored_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
)

_move_cursor = (
    sa.update(cursors)
    .where(cursors.c.user_id == sa.bindparam("user"))
    .where(cursors.c.position < sa.bindparam("to"))
    .values(position=sa.bindparam("to"))
)

_select_cursor = sa.select(cursors.c.position).where(cursors.c.user_id == sa.bindparam("user"))

_select_head = sa.select(sa.func.max(messages.c.id))


def _topic_part(condition: sa.ColumnElement[bool]) -> sa.Select[Any]:
    """The first messages of one topic within a page, so that each index is read once, in order."""
    part = (
        sa.select(messages)
        .where(condition)
        .where(messages.c.id > sa.bindparam("after"))
        .where(messages.c.id <= sa.bindparam("head"))
        .order_by(messages.c.id)
        .limit(sa.bindparam("limit"))
    )
    return sa.select(part.subquery())


_inbox = _topic_part(messages.c.topic == sa.bindparam("user"))
_broadcasts = _topic_part(
    (messages.c.topic == wire.BROADCAST) & (messages.c.sender != sa.bindparam("user"))
)
_select_page = (
    sa.union_all(_inbox, _broadcasts).order_by(sa.text("id")).limit(sa.bindparam("limit"))
)


def _message(row: sa.Row[Any]) -> wire.Message:
    return wire.Message(
        row.sender,
        row.topic,
        row.content,
        row.timestamp,
        row.signature,
        row.encrypted_key,
        row.encryption_nonce,
        id=row.id,
    )


def _on_connect(connection: Any, _record: Any) -> None:
    """Every SQLite connection: durable commits, readers that never wait for the writer."""
    connection.isolation_level = None  # the transactions are begun by _on_begin
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=10000"):
        connection.execute(f"PRAGMA {pragma}").close()


def make_engine(url: str | sa.URL) -> sa.Engine:
    """An engine for `sqlite://` (in memory) or `sqlite:///PATH`; the file is made when missing."""
    in_memory = url == "sqlite://"
    if not in_memory:
        _make_private(sa.make_url(url).database)
    engine = sa.create_engine(
        url,
        poolclass=sa.StaticPool if in_memory else None,
        connect_args={"check_same_thread": False},
        hide_parameters=True,  # errors are logged, contents are not
    )
    sa.event.listen(engine, "connect", _on_connect)
    sa.event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))
    return engine


def _make_private(path: str | None) -> None:
    """Make a missing database file such that only its owner can read it."""
    if path:
        with contextlib.suppress(FileExistsError):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))


def database_url(database: str, data_dir: Path) -> sa.URL:
    """The URL of a `--database` value: a path, a URL, or nothing for the data directory's own."""
    if database.startswith("sqlite:///"):
        return sa.make_url(database)
    path = Path(database).expanduser() if database else data_dir / "wschat.sqlite3"
    return sa.URL.create("sqlite", database=str(path))


def migrate(engine: sa.Engine) -> None:
    """Bring the database's schema to the newest revision; a new database gets all of it."""
    config = alembic.config.Config()
    config.set_main_option("script_location", "wschat:migrations")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        alembic.command.upgrade(config, "head")


class ThreadedStore(Store):
    """A store whose database is used by threads of its own: one that writes, a few that read."""

    def __init__(self, engine: sa.Engine, reactor: IReactorFromThreads) -> None:
        self._pools = (
            ThreadPool(1, 1, name="wschat-store-writer"),
            ThreadPool(0, _READERS, name="wschat-store-reader"),
        )
        write, read = (
            lambda function, *args, pool=pool: deferToThreadPool(reactor, pool, function, *args)
            for pool in self._pools
        )
        super().__init__(engine, write, read)
        for pool in self._pools:
            pool.start()

    def close(self) -> None:
        """Finish what was begun, and let go of the database.  Blocks for that long."""
        for pool in self._pools:
            pool.stop()
        self._engine.dispose()
