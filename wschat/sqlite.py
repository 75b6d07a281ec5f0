"""SQLite, and what is said to it."""

from __future__ import annotations

import contextlib
import functools
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, cast

import sqlalchemy as sa

from wschat import statements, wire
from wschat.sql import COLUMNS, ROWS, SQL, UNLESS_KNOWN, rows_of

_START: Final = str(statements.SELECT_START)

#: What messages have that are neither signed nor sealed.
_PLAIN_COLUMNS: Final = "topic, sender, timestamp, content, stored_at, client_id"

#: The last messages that were stored, the newest first, in the transaction that stored them.
_SELECT_LAST: Final = (
    "SELECT id, sender, client_id FROM messages WHERE id <= ? ORDER BY id DESC LIMIT ?"
)


class SQLite(SQL):
    """
    SQLite: one connection writes, and is kept.

    What every commit says goes to the driver itself, and as few times as can
    be: each time it lets go of the interpreter, and has to wait for it.
    """

    mark = "?"

    def __init__(self, engine: sa.Engine) -> None:
        super().__init__(engine)
        self._connection: sa.Connection | None = None

    def _connected(self) -> sa.Connection:
        if self._connection is None:
            self._connection = self._engine.connect().execution_options(begun=True)
            _go_on(_driver(self._connection))
        return self._connection

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sa.Connection]:
        """
        Be the only writer until the transaction ends, so that ids appear in their order.

        It ends with the block: nothing in it may commit or roll back.
        """
        try:
            connection = self._connected()
            driver = _driver(connection)
            _tell(driver, "BEGIN IMMEDIATE")
            yield connection
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
        parts = (batch[at : at + ROWS] for at in range(0, len(batch), ROWS))
        return [message_id for part in parts for message_id in self._insert(driver, part, now)]

    def _insert(
        self, driver: sqlite3.Connection, part: Sequence[wire.Message], now: float
    ) -> Sequence[int]:
        statement, given = self._insertion(part, now)
        done = driver.execute(statement + UNLESS_KNOWN, given)
        if done.rowcount == len(part):
            return _last(done)
        # Of those that were stored the ids ascend, with gaps where the others are.
        stored = driver.execute(_SELECT_LAST, (done.lastrowid, done.rowcount)).fetchall()
        ids = []
        for message in part:
            fresh = stored and stored[-1][1:] == (message.sender, message.client_id)
            ids.append(stored.pop()[0] if fresh else 0)
        return ids

    def insert_alone(self, batch: Sequence[wire.Message], now: float) -> Sequence[int] | None:
        """
        Store a few messages by one statement, which is a transaction by itself.

        When it is done nothing can fail any more.  None, and nothing is
        stored, when they are too many, when the database refuses one of
        them (it is known, mostly), and when the connection is in somebody
        else's transaction.
        """
        if len(batch) > ROWS:
            return None
        try:
            driver = _driver(self._connected())
            if driver.in_transaction:  # somebody else's, who shares the connection
                return None
            return _last(driver.execute(*self._insertion(batch, now)))
        except sqlite3.IntegrityError:
            return None
        except BaseException:
            self.close()
            raise

    def _insertion(self, part: Sequence[wire.Message], now: float) -> tuple[str, list[Any]]:
        """
        The statement that stores messages, and what it is given.

        Plain messages are given no None for what they have not: one takes the driver
        as long as two texts.
        """
        if all(map(_is_plain, part)):
            rows = [(m.topic, m.sender, m.timestamp, m.content, now, m.client_id) for m in part]
            columns = _PLAIN_COLUMNS
        else:
            rows = [self._values(message, now) for message in part]
            columns = COLUMNS
        return _insert_messages(len(part), columns), [value for row in rows for value in row]

    def _say(
        self, connection: sa.Connection, statement: str, given: Sequence[tuple[Any, ...]]
    ) -> None:
        _driver(connection).executemany(statement, given)

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
    _tell(driver, "BEGIN IMMEDIATE")
    head = statements.newest(*_tell(driver, statements.SELECT_HEAD).fetchone())
    given = _tell(driver, "SELECT seq FROM sqlite_sequence WHERE name = 'messages'").fetchone()
    if head > (given[0] if given else 0):
        _tell(driver, "DELETE FROM sqlite_sequence WHERE name = 'messages'")
        _tell(driver, f"INSERT INTO sqlite_sequence (name, seq) VALUES ('messages', {head:d})")  # noqa: S608
    _tell(driver, "COMMIT")


def _last(done: sqlite3.Cursor) -> Sequence[int]:
    """The ids of the rows that a statement inserted, all of them."""
    last = done.lastrowid or 0
    return range(last + 1 - done.rowcount, last + 1)


def _is_plain(message: wire.Message) -> bool:
    return (
        message.signature is None
        and message.encrypted_key is None
        and message.encryption_nonce is None
        and message.envelope_signature is None
        and message.sender_key is None
    )


@functools.cache
def _insert_messages(rows: int, columns: str) -> str:
    """
    When one row is refused, the transaction is over.

    A statement that could be undone alone has SQLite keep the pages that it
    changes as they were, in a file that it writes more to than to the log.
    """
    values = rows_of("?", columns.count(",") + 1, rows)
    return f"INSERT OR ROLLBACK INTO messages ({columns}) VALUES {values}"  # noqa: S608


def _driver(connection: sa.Connection) -> sqlite3.Connection:
    return _raw(connection.connection)


def _raw(pooled: sa.PoolProxiedConnection) -> sqlite3.Connection:
    return cast(sqlite3.Connection, pooled.driver_connection)
