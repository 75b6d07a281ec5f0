"""
The database, behind Deferreds: one that writes, some that read.

What is kept there is elsewhere: `wschat.stream`, `wschat.history`,
`wschat.users`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, Protocol, TypeVar

import sqlalchemy as sa
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads

from wschat import dialects, wire
from wschat.threads import Threads

Result = TypeVar("Result")

_READERS: Final = 2


class DiskFull(Exception):
    """The database has no room: nothing was stored.  Every write can fail with it."""


class Executor(Protocol):
    """Runs a function where blocking is allowed."""

    def __call__(self, function: Callable[..., Result], *args: Any) -> Deferred[Result]: ...


class Store:
    """
    The database, and where it may be waited for.

    Functions given to `write` run one after the other, in the order of the
    calls; those given to `read` run beside them.  The Deferred of a write fires
    when what was written is on disk, and fails with the database's error
    when it is not.
    """

    def __init__(self, engine: sa.Engine, write: Executor, read: Executor) -> None:
        self.write = write
        self.read = read
        self.dialect = dialects.dialect(engine)
        self._engine = engine

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sa.Connection]:
        """A transaction of the only writer.  Raises `DiskFull` when there is no room for it."""
        with self._no_room_told(), self.dialect.transaction() as connection:
            yield connection

    def insert_alone(self, batch: Sequence[wire.Message], now: float) -> Sequence[int] | None:
        """The dialect's, which raises `DiskFull` when there is no room."""
        with self._no_room_told():
            return self.dialect.insert_alone(batch, now)

    @contextlib.contextmanager
    def _no_room_told(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            if self.dialect.disk_full(error):
                raise DiskFull from None
            raise

    def connect(self) -> sa.Connection:
        """A connection to read with."""
        return self._engine.connect()

    def size(self) -> Deferred[int]:
        """How large the database is, in bytes; it answers, so it is there."""
        return self.read(self._size)

    def _size(self) -> int:
        with self.connect() as connection:
            return self.dialect.size(connection)

    def close(self) -> None:
        """Let go of the database.  Blocks."""
        self.dialect.close()
        self._engine.dispose()


class ThreadedStore(Store):
    """A store whose database is used by threads of its own: one that writes, a few that read."""

    def __init__(self, engine: sa.Engine, reactor: IReactorFromThreads) -> None:
        self._writer = Threads(reactor, "wschat-store-writer")
        self._readers = Threads(reactor, "wschat-store-reader", _READERS)
        super().__init__(engine, self._writer, self._readers)

    def close(self) -> None:
        """Finish what was begun, and let go of the database.  Blocks for that long."""
        self._writer.stop()
        self._readers.stop()
        super().close()
