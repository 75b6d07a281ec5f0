"""
What the tests of what is kept share: a store over each kind of database.

A test class is over SQLite in memory; `OnFile` and `OnPostgreSQL`, put before
it, make it one over a SQLite file and over PostgreSQL.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import msgspec
import sqlalchemy as sa
from twisted.trial.unittest import SynchronousTestCase

from tests import postgresql
from tests.support import NOW, MemoryStore, make_message, make_user
from wschat import database, stream
from wschat.wire import Message


def engine(case: SynchronousTestCase, url: str | sa.URL) -> sa.Engine:
    """An engine that a test lets go of in the end."""
    made = database.make_engine(url)
    case.addCleanup(made.dispose)
    return made


def file_engine(case: SynchronousTestCase) -> sa.Engine:
    """A SQLite file that does not exist yet."""
    return engine(case, f"sqlite:///{case.mktemp()}")


def postgresql_engine(case: SynchronousTestCase) -> sa.Engine:
    """An empty PostgreSQL database.  Raises `SkipTest` where there is no PostgreSQL."""
    cluster = postgresql.cluster()
    url = cluster.lend()
    case.addCleanup(cluster.give_back, url)
    return engine(case, url)


def named(
    client_id: str, content: str = "hi", sender: str = "alice", topic: str = "bob"
) -> Message:
    """A message with a client id."""
    message = make_message(sender, topic, content)
    message.client_id = client_id
    return message


class StoreTests(SynchronousTestCase):
    """Tests of a store, in memory unless a subclass says otherwise."""

    offline_limit = 1000

    def make_engine(self) -> sa.Engine:
        """A database that has its tables."""
        made = engine(self, "sqlite://")
        database.metadata.create_all(made)  # as migrations do: see tests.test_database
        return made

    def setUp(self) -> None:
        self.store = MemoryStore(self.make_engine(), offline_limit=self.offline_limit)

    def append(
        self,
        *batch: Message,
        places: Mapping[stream.Place, int] | None = None,
        away: Collection[str] = (),
        now: float = NOW,
    ) -> stream.Appended:
        return self.successResultOf(self.store.stream.append(batch, places or {}, away, now))

    def fill(
        self, count: int, sender: str = "alice", topic: str = "bob", now: float = NOW
    ) -> list[int]:
        """Store messages whose contents are their numbers, from 0; their ids."""
        batch = [make_message(sender, topic, str(n)) for n in range(count)]
        return list(self.append(*batch, now=now).ids)

    def move(self, user_id: str, position: int, *names: str, now: float = NOW) -> None:
        """A user, and some sessions of theirs, have everything up to a position."""
        places: dict[stream.Place, int] = {(user_id, name): position for name in (None, *names)}
        self.append(places=places, now=now)

    def page(self, user_id: str, after: int = 0, limit: int = 1000) -> stream.Page:
        return self.successResultOf(self.store.stream.page(user_id, after, limit))

    def contents(self, user_id: str, after: int = 0) -> list[str]:
        return [message.content for message in self.page(user_id, after).messages]

    def start(
        self, user_id: str, name: str | None = None, after: int | None = None
    ) -> stream.Start:
        """Where a session goes on; `head` is looked at by itself, as `self.head`."""
        start = self.successResultOf(self.store.stream.start((user_id, name), after))
        self.head = start.head
        return msgspec.structs.replace(start, head=0)

    def cursor(self, user_id: str) -> int:
        """How far a user has come with any session."""
        return self.start(user_id).read

    def add_users(self, *user_ids: str) -> None:
        for user_id in user_ids:
            self.successResultOf(self.store.users.add(make_user(user_id)))

    def expire(self, before: float, after: int = 0) -> int:
        """Expire a batch; how many messages were removed."""
        return self.successResultOf(self.store.stream.expire(before, after)).removed


class OnFile(StoreTests):
    """The same over a SQLite file."""

    def make_engine(self) -> sa.Engine:
        made = file_engine(self)
        database.metadata.create_all(made)
        return made


class OnPostgreSQL(StoreTests):
    """The same over PostgreSQL."""

    def make_engine(self) -> sa.Engine:
        made = postgresql_engine(self)
        database.metadata.create_all(made)
        return made
