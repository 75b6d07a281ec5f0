"""How the two databases differ: what each of them can be told to do."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import sqlalchemy as sa

from wschat import wire
from wschat.postgresql import PostgreSQL
from wschat.sqlite import SQLite


class Dialect(Protocol):
    """What SQLite and PostgreSQL do differently."""

    def transaction(self) -> contextlib.AbstractContextManager[sa.Connection]:
        """Be the only writer until the transaction ends, so that ids appear in their order."""

    def close(self) -> None:
        """Let go of what is held between transactions."""

    def start(self, user_id: str, session: str | None) -> Sequence[Any]:
        """The columns of `SELECT_START`."""

    def insert(
        self, connection: sa.Connection, batch: Sequence[wire.Message], now: float
    ) -> Sequence[int]:
        """Store messages; the id of each, and 0 of those whose client id was there before."""

    def insert_alone(self, batch: Sequence[wire.Message], now: float) -> Sequence[int] | None:
        """Store messages that are all new, in a transaction of their own; None: do it otherwise."""

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


def dialect(engine: sa.Engine) -> Dialect:
    """How an engine's database is spoken to."""
    return PostgreSQL(engine) if engine.dialect.name == "postgresql" else SQLite(engine)
