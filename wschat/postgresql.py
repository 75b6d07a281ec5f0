"""PostgreSQL, and what is said to it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, Final

import sqlalchemy as sa

from wschat import statements, wire
from wschat.sql import COLUMNS, SQL, UNLESS_KNOWN, rows_of

#: Who holds it is the only writer, whatever the number of servers.
_WRITERS_LOCK: Final = 7_748_428

_ESCAPE: Final = "\ue000"


class PostgreSQL(SQL):
    """PostgreSQL: many may write, and a text cannot hold U+0000."""

    mark = "%s"

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sa.Connection]:
        """Be the only writer until the transaction ends: wait until no other server writes."""
        with self._engine.begin() as connection:
            connection.exec_driver_sql("SELECT pg_advisory_xact_lock(%s)", (_WRITERS_LOCK,))
            yield connection

    def close(self) -> None:
        """Nothing is held between transactions."""

    def start(self, user_id: str, session: str | None) -> Sequence[Any]:
        """The columns of `SELECT_START`."""
        with self._engine.connect() as connection:
            given = {"user": user_id, "session": session}
            return connection.execute(statements.SELECT_START, given).one()

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
        columns = f"id, {COLUMNS}"
        values = rows_of(self.mark, columns.count(",") + 1, 1)
        insert = f"INSERT INTO messages ({columns}) VALUES {values}" + UNLESS_KNOWN  # noqa: S608
        if connection.exec_driver_sql(insert, rows).rowcount == len(batch):
            return ids
        first = self.first_ids(connection, batch)  # whose id is another was there before
        found = (
            first.get((message.sender, message.client_id), message_id)
            for message_id, message in zip(ids, batch, strict=True)
        )
        return [
            message_id if message_id == known else 0
            for message_id, known in zip(ids, found, strict=True)
        ]

    def insert_alone(self, batch: Sequence[wire.Message], now: float) -> Sequence[int] | None:
        """Never: the lock is a statement as well."""
        return None

    def _say(
        self, connection: sa.Connection, statement: str, given: Sequence[tuple[Any, ...]]
    ) -> None:
        connection.exec_driver_sql(statement, list(given))

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
