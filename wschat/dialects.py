"""
How the two databases differ, and what every commit says to them.

The way of a message goes through statements that are written out, because
they run for every commit.
"""

from __future__ import annotations

import contextlib
import functools
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, Protocol, cast

import sqlalchemy as sa

from wschat import statements, wire

#: Who holds it is the only writer, whatever the number of servers (PostgreSQL).
_WRITERS_LOCK: Final = 7_748_428

#: How many values one statement is given: both databases have a bound, of 32766 and 65535.
_PARAMETERS: Final = 10_000

#: How many messages one statement stores in SQLite, or how many cursors it moves.
_ROWS: Final = 50

_START: Final = str(statements.SELECT_START)

#: What all messages have, but for the id.
_COLUMNS: Final = (
    "topic, sender, timestamp, content, signature, encrypted_key, encryption_nonce,"
    " stored_at, client_id, envelope_signature, sender_key"
)

_INSERT_MESSAGE: Final = (
    f"INSERT INTO messages (id, {_COLUMNS}) VALUES (%s{', %s' * 11}) ON CONFLICT DO NOTHING"  # noqa: S608
)

#: The last messages that were stored, the newest first.
_SELECT_LAST: Final = (
    "SELECT id, sender, client_id FROM messages WHERE id <= ? ORDER BY id DESC LIMIT ?"
)


class Dialect(Protocol):
    """What SQLite and PostgreSQL do differently."""

    #: How many messages can be stored in a transaction of a single statement.
    at_once: int

    def transaction(
        self, *, single: bool = False
    ) -> contextlib.AbstractContextManager[sa.Connection]:
        """
        Be the only writer until the transaction ends, so that ids appear in their order.

        With `single`, one statement is all that writes in it.
        """

    def close(self) -> None:
        """Let go of what is held between transactions."""

    def start(self, user_id: str, session: str | None) -> Sequence[Any]:
        """The columns of `SELECT_START`."""

    def insert(
        self, connection: sa.Connection, batch: Sequence[wire.Message], now: float
    ) -> Sequence[int]:
        """Store messages; the id of each, and 0 of those whose client id was there before."""

    def first_ids(
        self, connection: sa.Connection, batch: Sequence[wire.Message]
    ) -> dict[tuple[str, str | None], int]:
        """The ids of the messages with the senders and client ids of a batch."""

    def move(
        self, connection: sa.Connection, places: Mapping[tuple[str, str | None], int], now: float
    ) -> None:
        """Move cursors forward: of users, and of their sessions that have a name."""

    def load(self, text: Any) -> Any:
        """A text as it was before it was stored."""

    def message(self, row: sa.Row[Any]) -> wire.Message:
        """A row of messages as what was stored."""

    def disk_full(self, error: BaseException | None) -> bool:
        """Whether an error, SQLAlchemy's or the driver's, says that there is no room."""

    def size(self, connection: sa.Connection) -> int:
        """How large the database is, in bytes."""


class _SQL:
    """What both say alike."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def close(self) -> None:
        """Let go of what is held between transactions."""

    def start(self, user_id: str, session: str | None) -> Sequence[Any]:
        """The columns of `SELECT_START`."""
        with self._engine.connect() as connection:
            given = {"user": user_id, "session": session}
            return connection.execute(statements.SELECT_START, given).one()

    def store(self, text: str | None) -> str | None:
        """A text as it is stored."""
        return text

    def load(self, text: Any) -> Any:
        """A text as it was before it was stored."""
        return text

    def _values(self, message: wire.Message, now: float) -> tuple[Any, ...]:
        """A message as the values of a row, but for its id."""
        store = self.store
        return (
            message.topic,
            message.sender,
            message.timestamp,
            store(message.content),
            store(message.signature),
            store(message.encrypted_key),
            store(message.encryption_nonce),
            now,
            message.client_id,
            store(message.envelope_signature),
            store(message.sender_key),
        )

    def message(self, row: sa.Row[Any]) -> wire.Message:
        """A row of messages as what was stored."""
        load = self.load
        return wire.Message(
            row.sender,
            row.topic,
            load(row.content),
            row.timestamp,
            load(row.signature),
            load(row.encrypted_key),
            load(row.encryption_nonce),
            id=row.id,
            client_id=row.client_id,
            envelope_signature=load(row.envelope_signature),
            sender_key=load(row.sender_key),
        )

    def first_ids(
        self, connection: sa.Connection, batch: Sequence[wire.Message]
    ) -> dict[tuple[str, str | None], int]:
        """The ids of the messages with the senders and client ids of a batch."""
        by_sender: dict[str, set[str]] = {}
        for message in batch:
            if message.client_id is not None:
                by_sender.setdefault(message.sender, set()).add(message.client_id)
        found: dict[tuple[str, str | None], int] = {}
        for sender, client_ids in by_sender.items():
            wanted = sorted(client_ids)
            for at in range(0, len(wanted), _PARAMETERS):
                part = {"sender": sender, "client_ids": wanted[at : at + _PARAMETERS]}
                rows = connection.execute(statements.SELECT_FATES, part)
                found.update({(sender, row.client_id): row.id for row in rows})
        return found

    def move(
        self, connection: sa.Connection, places: Mapping[tuple[str, str | None], int], now: float
    ) -> None:
        """Move cursors forward: of users, and of their sessions that have a name."""
        users_to, sessions_to = [], []
        for (user_id, name), position in places.items():
            if name is None:
                users_to.append({"user": user_id, "to": position})
            else:
                place = {"user": user_id, "name": name, "to": position, "now": now}
                sessions_to.append(place)
        if users_to:
            connection.execute(statements.MOVE_CURSOR, users_to)
        if sessions_to:
            connection.execute(statements.MOVE_SESSION, sessions_to)


class _SQLite(_SQL):
    """
    SQLite: one connection writes, and is kept.

    What every commit says goes to the driver itself, and as few times as can
    be: each time it lets go of the interpreter, and has to wait for it.
    """

    at_once = _ROWS

    def __init__(self, engine: sa.Engine) -> None:
        super().__init__(engine)
        self._connection: sa.Connection | None = None

    @contextlib.contextmanager
    def transaction(self, *, single: bool = False) -> Iterator[sa.Connection]:
        """
        Be the only writer until the transaction ends, so that ids appear in their order.

        It ends with the block: nothing in it may commit or roll back.  A
        `single` statement is a transaction by itself.
        """
        try:
            if self._connection is None:
                self._connection = self._engine.connect().execution_options(begun=True)
                _go_on(_driver(self._connection))
            connection = self._connection
            driver = _driver(connection)
            if not single:
                _tell(driver, "BEGIN IMMEDIATE")
            yield connection
            if not single:
                _tell(driver, "COMMIT")
            if connection.in_transaction():  # SQLAlchemy's own account of it
                connection.rollback()
        except BaseException:
            self.close()  # whatever it was, the next one begins anew
            raise

    def close(self) -> None:
        """Let go of what is held between transactions."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def start(self, user_id: str, session: str | None) -> Sequence[Any]:
        """The columns of `SELECT_START`, without a transaction: it is one statement."""
        pooled = self._engine.raw_connection()
        try:
            given = {"user": user_id, "session": session, "everybody": wire.BROADCAST}
            row: Sequence[Any] = _tell(_raw(pooled), _START, given).fetchone()
            return row
        finally:
            pooled.close()

    def insert(
        self, connection: sa.Connection, batch: Sequence[wire.Message], now: float
    ) -> Sequence[int]:
        """Store messages; the id of each, and 0 of those whose client id was there before."""
        driver = _driver(connection)
        if 0 < len(batch) <= _ROWS:
            return self._insert(driver, batch, now)
        parts = (batch[at : at + _ROWS] for at in range(0, len(batch), _ROWS))
        return [message_id for part in parts for message_id in self._insert(driver, part, now)]

    def _insert(
        self, driver: sqlite3.Connection, part: Sequence[wire.Message], now: float
    ) -> Sequence[int]:
        values = [value for message in part for value in self._values(message, now)]
        done = driver.execute(_insert_messages(len(part)), values)
        count, last = done.rowcount, done.lastrowid or 0
        if count == len(part):
            return range(last + 1 - count, last + 1)
        # Of those that were stored the ids ascend, with gaps where the others are.
        stored = driver.execute(_SELECT_LAST, (last, count)).fetchall()
        ids = []
        for message in part:
            fresh = stored and stored[-1][1:] == (message.sender, message.client_id)
            ids.append(stored.pop()[0] if fresh else 0)
        return ids

    def move(
        self, connection: sa.Connection, places: Mapping[tuple[str, str | None], int], now: float
    ) -> None:
        """Move cursors forward: of users, and of their sessions that have a name."""
        driver = _driver(connection)
        users_to: list[tuple[Any, ...]] = []
        sessions_to: list[tuple[Any, ...]] = []
        for (user_id, name), position in places.items():
            if name is None:
                users_to.append((user_id, position))
            else:
                sessions_to.append((user_id, name, position, now))
        _lumps(driver, _move_cursors, users_to)
        _lumps(driver, _move_sessions, sessions_to)

    def disk_full(self, error: BaseException | None) -> bool:
        """Whether an error, SQLAlchemy's or the driver's, says that there is no room."""
        code = getattr(getattr(error, "orig", error), "sqlite_errorcode", None)
        return bool(code == sqlite3.SQLITE_FULL)

    def size(self, connection: sa.Connection) -> int:
        """How large the database is, in bytes; without what is in the write-ahead log alone."""
        pages = "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size"
        size: int = connection.exec_driver_sql(pages).scalar_one()
        return size


def _tell(
    driver: sqlite3.Connection, statement: str, given: Mapping[str, Any] | None = None
) -> sqlite3.Cursor:
    """Say something whose failure is told as SQLAlchemy tells it."""
    try:
        return driver.execute(statement, given or {})
    except sqlite3.Error as error:
        raise sa.exc.OperationalError(statement, None, error) from error


def _go_on(driver: sqlite3.Connection) -> None:
    """See that the next id is after all that there are, or were: a restored database has a gap."""
    head = statements.newest(*_tell(driver, statements.SELECT_HEAD).fetchone())
    given = _tell(driver, "SELECT seq FROM sqlite_sequence WHERE name = 'messages'").fetchone()
    if head > (given[0] if given else 0):
        _tell(driver, "BEGIN IMMEDIATE")
        _tell(driver, "DELETE FROM sqlite_sequence WHERE name = 'messages'")
        _tell(driver, f"INSERT INTO sqlite_sequence (name, seq) VALUES ('messages', {head:d})")  # noqa: S608
        _tell(driver, "COMMIT")


def _lumps(
    driver: sqlite3.Connection, statement: Callable[[int], str], rows: list[tuple[Any, ...]]
) -> None:
    """Give rows to a statement that takes several; what is left over, to one that takes one."""
    whole = len(rows) - len(rows) % _ROWS
    for at in range(0, whole, _ROWS):
        values = [value for row in rows[at : at + _ROWS] for value in row]
        driver.execute(statement(_ROWS), values)
    driver.executemany(statement(1), rows[whole:])


@functools.cache
def _insert_messages(rows: int) -> str:
    columns = _COLUMNS.count(",") + 1
    values = ", ".join([f"({', '.join(['?'] * columns)})"] * rows)
    return f"INSERT INTO messages ({_COLUMNS}) VALUES {values} ON CONFLICT DO NOTHING"  # noqa: S608


@functools.cache
def _move_cursors(rows: int) -> str:
    values = ", ".join(["(?, ?)"] * rows)
    return (
        f"UPDATE cursors SET position = place.column2 FROM (VALUES {values}) AS place"  # noqa: S608
        " WHERE cursors.user_id = place.column1 AND cursors.position < place.column2"
    )


@functools.cache
def _move_sessions(rows: int) -> str:
    return statements.move_sessions(["(?, ?, ?, ?)"] * rows)


def _driver(connection: sa.Connection) -> sqlite3.Connection:
    return _raw(connection.connection)


def _raw(pooled: sa.PoolProxiedConnection) -> sqlite3.Connection:
    return cast(sqlite3.Connection, pooled.driver_connection)


_ESCAPE: Final = "\ue000"


class _PostgreSQL(_SQL):
    """PostgreSQL: many may write, and a text cannot hold U+0000."""

    at_once = 0  # the lock is a statement as well

    @contextlib.contextmanager
    def transaction(self, *, single: bool = False) -> Iterator[sa.Connection]:
        """Be the only writer until the transaction ends: wait until no other server writes."""
        with self._engine.begin() as connection:
            connection.exec_driver_sql("SELECT pg_advisory_xact_lock(%s)", (_WRITERS_LOCK,))
            yield connection

    def insert(
        self, connection: sa.Connection, batch: Sequence[wire.Message], now: float
    ) -> Sequence[int]:
        """Store messages; the id of each, and 0 of those whose client id was there before."""
        if not batch:
            return ()
        head = statements.head(connection)
        ids = range(head + 1, head + 1 + len(batch))
        rows = [
            (message_id, *self._values(message, now))
            for message_id, message in zip(ids, batch, strict=True)
        ]
        if connection.exec_driver_sql(_INSERT_MESSAGE, rows).rowcount == len(batch):
            return ids
        first = self.first_ids(connection, batch)  # whose id is another was there before
        return [
            message_id * (first.get((message.sender, message.client_id), message_id) == message_id)
            for message_id, message in zip(ids, batch, strict=True)
        ]

    def store(self, text: str | None) -> str | None:
        """U+0000 as an escape, and the escape as another."""
        if text is None or not ("\0" in text or _ESCAPE in text):
            return text
        return text.replace(_ESCAPE, _ESCAPE + "e").replace("\0", _ESCAPE + "0")

    def load(self, text: Any) -> Any:
        """What `store` was given."""
        if text is None or _ESCAPE not in text:
            return text
        return text.replace(_ESCAPE + "0", "\0").replace(_ESCAPE + "e", _ESCAPE)

    def disk_full(self, error: BaseException | None) -> bool:
        """SQLSTATE 53100 (PostgreSQL, Appendix A)."""
        return bool(getattr(getattr(error, "orig", error), "sqlstate", None) == "53100")

    def size(self, connection: sa.Connection) -> int:
        """How large the database is, in bytes."""
        size: int = connection.exec_driver_sql(
            "SELECT pg_database_size(current_database())"
        ).scalar_one()
        return size


def dialect(engine: sa.Engine) -> Dialect:
    """How an engine's database is spoken to."""
    return _PostgreSQL(engine) if engine.dialect.name == "postgresql" else _SQLite(engine)
