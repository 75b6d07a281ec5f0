"""
What is said to either database for every commit.

The way of a message goes through statements that are written out, because
they run for every commit.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import sqlalchemy as sa

from wschat import statements, wire

#: How many values one statement is given: both databases have a bound, of 32766 and 65535.
_PARAMETERS: Final = 10_000

#: How many rows one statement is given at once.
ROWS: Final = 50

#: What all messages have, but for the id.
COLUMNS: Final = (
    "topic, sender, timestamp, content, signature, encrypted_key, encryption_nonce,"
    " stored_at, client_id, envelope_signature, sender_key"
)

UNLESS_KNOWN: Final = " ON CONFLICT DO NOTHING"


class SQL:
    """What both say alike, with the parameters' mark that each driver wants."""

    mark: str

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

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
        users_to: list[tuple[Any, ...]] = []
        sessions_to: list[tuple[Any, ...]] = []
        for (user_id, name), position in places.items():
            if name is None:
                users_to.append((user_id, position))
            else:
                sessions_to.append((user_id, name, position, now))
        self._say_in_lumps(connection, _move_cursors, users_to)
        self._say_in_lumps(connection, _move_sessions, sessions_to)

    def _say_in_lumps(
        self,
        connection: sa.Connection,
        statement: Callable[[str, int], str],
        rows: list[tuple[Any, ...]],
    ) -> None:
        """Give rows to a statement that takes many, and those that are left over to one for one."""
        whole = len(rows) - len(rows) % ROWS
        lumps = [
            tuple(value for row in rows[at : at + ROWS] for value in row)
            for at in range(0, whole, ROWS)
        ]
        for size, given in ((ROWS, lumps), (1, rows[whole:])):
            if given:
                self._say(connection, statement(self.mark, size), given)

    def _say(
        self, connection: sa.Connection, statement: str, given: Sequence[tuple[Any, ...]]
    ) -> None:
        """Have the driver run a statement with each of these parameters, in one go if it can."""
        raise NotImplementedError


def rows_of(mark: str, columns: int, rows: int) -> str:
    """So many rows of parameters."""
    return ", ".join([f"({', '.join([mark] * columns)})"] * rows)


@functools.cache
def _move_cursors(mark: str, rows: int) -> str:
    return (
        f"UPDATE cursors SET position = place.column2 FROM (VALUES {rows_of(mark, 2, rows)})"  # noqa: S608
        " AS place WHERE cursors.user_id = place.column1 AND cursors.position < place.column2"
    )


@functools.cache
def _move_sessions(mark: str, rows: int) -> str:
    """One that is new is remembered with its first place."""
    return (
        f"INSERT INTO sessions (user_id, name, position, seen_at) VALUES {rows_of(mark, 4, rows)}"  # noqa: S608
        " ON CONFLICT (user_id, name) DO UPDATE"
        " SET position = excluded.position, seen_at = excluded.seen_at"
        " WHERE sessions.position <= excluded.position"
    )
