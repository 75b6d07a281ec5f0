"""
What is kept: users, messages, and everybody's place in the stream.

A message is in exactly one topic (a user's inbox, or the broadcasts) and its
id orders it among all messages.  A cursor is one number: the last message
that somebody is known to have.  Delivery is never a row per recipient.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, Final, Protocol, TypeVar

import msgspec
import sqlalchemy as sa
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorFromThreads

from wschat import dialects, statements, wire
from wschat.database import users
from wschat.identity import User
from wschat.threads import Threads

Result = TypeVar("Result")

#: How many messages are read for one session at a time.
PAGE_MESSAGES: Final = 100

#: How many messages of a topic one history page looks at, and how much content it has, in bytes.
HISTORY_SCAN: Final = 5000
HISTORY_BYTES: Final = 256 * 1024

#: What a message has on the wire beside its content, in bytes, at most but for keys.
_HEADER_BYTES: Final = 1024

#: How many messages are removed in one transaction, so that no commit waits for long.
EXPIRY_BATCH: Final = 500

#: How many sessions are remembered of one user; past that the longest unseen is forgotten.
SESSIONS_PER_USER: Final = 100

_READERS: Final = 2

#: What a rotation changes of a user.
_KEYS: Final = ("public_key", "x25519_public_key", "rotations")

#: Who asks: a user, and the name of their session, which a classic client has not.
Place = tuple[str, str | None]


class DiskFull(Exception):
    """The database has no room: nothing was stored.  Every write can fail with it."""


class UserExists(Exception):
    """The user id is taken."""


class KeyReplaced(Exception):
    """A user's key is another by now; `str()` is the user's id."""


class Page(msgspec.Struct, frozen=True):
    """
    Part of what a user has not had yet, in order.

    A `complete` page is the last one: there is nothing more for this user up
    to message `head`, the newest of all when the page was read.
    """

    messages: list[wire.Message]
    head: int
    complete: bool


class HistoryPage(msgspec.Struct, frozen=True):
    """Part of a conversation, in order; when there may be `more`, it goes on from `next`."""

    messages: list[wire.Message]
    more: bool
    next: int


class Appended(msgspec.Struct, frozen=True):
    """
    What became of a batch.

    `ids` has one for each message, in order; of a message that was stored
    before (`repeats`, by index), the first one's; of one that its recipient
    has no room for (`full`), or that follows such a one (`held_up`), 0.
    """

    ids: Sequence[int]
    repeats: Collection[int] = ()
    full: Collection[int] = ()
    held_up: Collection[int] = ()


class Expired(msgspec.Struct, frozen=True):
    """How many messages were removed; up to message `through` there is nothing more to remove."""

    removed: int
    through: int
    more: bool


class Start(msgspec.Struct, frozen=True):
    """
    Where a session goes on.

    Not `complete`: of the messages after `position`, some are not kept any
    more.  `read` is how far the user has come with any of their sessions, and
    where one begins that is not `known` and does not say where it is.  `head` is
    the newest message of all: who is there has missed nothing.
    """

    position: int
    complete: bool
    read: int
    known: bool = True
    head: int = 0


class Changes(msgspec.Struct, frozen=True):
    """Users whom an operator has changed, None for one who is gone; `last` is the last change."""

    last: int
    users: Mapping[str, User | None]


class Fate(msgspec.Struct, frozen=True):
    """What became of a message: its id, and whether its recipient has acknowledged it."""

    id: int
    delivered: bool


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

    def __init__(
        self, engine: sa.Engine, write: Executor, read: Executor, *, offline_limit: int = 1000
    ) -> None:
        """`offline_limit` is how many direct messages may wait for a user who is away."""
        self._engine = engine
        self._dialect = dialects.dialect(engine)
        self._write = write
        self._read = read
        self._offline_limit = offline_limit

    # Messages in.

    def append(
        self,
        batch: Sequence[wire.Message],
        places: Mapping[Place, int],
        away: Collection[str],
        now: float,
    ) -> Deferred[Appended]:
        """
        Store messages and move cursors, all of it or nothing, in one commit.

        The messages' ids ascend in the order given.  `away` are the
        recipients who are not connected, whose inboxes are bounded.  Fails
        with `DiskFull` when there is no room.
        """
        return self._write(self._append, batch, dict(places), frozenset(away), now)

    def _append(
        self,
        batch: Sequence[wire.Message],
        places: Mapping[Place, int],
        away: frozenset[str],
        now: float,
    ) -> Appended:
        with self._transaction() as connection:
            if places:
                _move(connection, places, now)
            if not batch:
                return Appended(range(0))
            return self._insert(connection, batch, away, now)

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sa.Connection]:
        """A transaction of the only writer.  Raises `DiskFull` when there is no room for it."""
        try:
            with self._dialect.transaction() as connection:
                yield connection
        except Exception as error:
            if self._dialect.disk_full(error):
                raise DiskFull from None
            raise

    def _insert(
        self,
        connection: sa.Connection,
        batch: Sequence[wire.Message],
        away: frozenset[str],
        now: float,
    ) -> Appended:
        head = self._dialect.head(connection)
        full, held_up = self._without_room(connection, batch, away, ())
        if full:  # what is sent again takes no room
            known = self._dialect.first_ids(connection, batch)
            full, held_up = self._without_room(connection, batch, away, known)
        left_out = full | held_up
        ids: Sequence[int] = range(head + 1, head + 1 + len(batch))
        fresh = [
            (message, message_id)
            for index, (message, message_id) in enumerate(zip(batch, ids, strict=True))
            if index not in left_out
        ]
        inserted = self._dialect.insert(connection, fresh, now) if fresh else 0
        if inserted == len(batch):
            return Appended(ids)
        if inserted == len(fresh):  # nothing came twice, but perhaps of what was left out
            first = self._dialect.first_ids(connection, [batch[index] for index in left_out])
        else:  # whose id differs from the one here was there before
            first = self._dialect.first_ids(connection, batch)
        found = [
            first.get((message.sender, message.client_id), 0 if index in left_out else ids[index])
            for index, message in enumerate(batch)
        ]
        repeats = {index for index, known in enumerate(found) if known and known != ids[index]}
        return Appended(found, repeats, full - repeats, held_up - repeats)

    def _without_room(
        self,
        connection: sa.Connection,
        batch: Sequence[wire.Message],
        away: frozenset[str],
        known: Collection[tuple[str, str | None]],
    ) -> tuple[set[int], set[int]]:
        """
        The messages that are too many for recipients who are away, and those that follow them.

        By index.  `known` are senders and client ids of messages that are
        stored.
        """
        room: dict[str, int] = {}
        taken = set(known)
        refused: set[tuple[str, str | None]] = set()
        full, held_up = set(), set()
        for index, message in enumerate(batch):
            topic = message.topic
            named = (message.sender, message.client_id)
            if named in taken:
                continue
            if message.follows is not None and (message.sender, message.follows) in refused:
                held_up.add(index)
                refused.add(named)
                continue
            if topic not in away:
                continue
            if topic not in room:
                waiting = connection.execute(
                    statements.COUNT_WAITING, {"user": topic, "limit": self._offline_limit}
                ).scalar_one()
                room[topic] = self._offline_limit - waiting
            if room[topic] <= 0:
                full.add(index)
                refused.add(named)
                continue
            room[topic] -= 1
            if message.client_id is not None:
                taken.add(named)
        return full, held_up

    # Messages out.

    def start(self, place: Place, after: int | None) -> Deferred[Start]:
        """
        Where a session goes on.

        `after` is what the client says that it has handled, None when it does
        not say.  A session that is new here begins with what its user has not
        read anywhere.
        """
        return self._read(self._start, place, after)

    def _start(self, place: Place, after: int | None) -> Start:
        user_id, name = place
        read, first, known, expired, stored, gone = self._dialect.start(user_id, name)
        read, first, head = read or 0, first or 0, statements.newest(stored, gone)
        true = after is None or after <= head  # or the database has been set back since
        given = [place for place in (known, after if true else None) if place is not None]
        position = max(min(max(given, default=read), head), first)
        complete = true and (expired or 0) <= position
        return Start(position, complete, read, bool(given), head)

    def page(self, user_id: str, after: int, limit: int = PAGE_MESSAGES) -> Deferred[Page]:
        """What `user_id` should have after message `after`: their inbox, others' broadcasts."""
        return self._read(self._page, user_id, after, limit)

    def _page(self, user_id: str, after: int, limit: int) -> Page:
        with self._engine.connect() as connection:
            head = statements.head(connection)
            rows = connection.execute(
                statements.SELECT_PAGE,
                {"user": user_id, "after": after, "head": head, "limit": limit},
            ).all()
        return Page([self._dialect.message(row) for row in rows], head, len(rows) < limit)

    def history(
        self, user_id: str, peer: str, before: int | None, after: int | None, limit: int
    ) -> Deferred[HistoryPage]:
        """
        A page of what `user_id` and `peer` said to each other, or of the broadcasts.

        The newest messages `before` an id, or the oldest `after` one; without
        either, the newest.  It may have fewer than there are, and say that
        there are more.
        """
        return self._read(self._history, user_id, peer, before, after, limit)

    def _history(
        self, user_id: str, peer: str, before: int | None, after: int | None, limit: int
    ) -> HistoryPage:
        forward = after is not None
        topics = [wire.BROADCAST] if peer == wire.BROADCAST else sorted({user_id, peer})
        with self._engine.connect() as connection:
            row = connection.execute(statements.SELECT_CURSOR, {"user": user_id}).one_or_none()
            first = row.start if row is not None and peer == wire.BROADCAST else 0
            low = max(after or 0, first)
            high = statements.NEWEST if before is None else before
            edges = [
                connection.execute(
                    statements.history_edge(forward),
                    {"topic": topic, "after": low, "before": high, "skip": HISTORY_SCAN},
                ).scalar()
                for topic in topics
            ]
            found = [edge for edge in edges if edge is not None]
            if found and forward:
                high = min(found)
            elif found:
                low = max(found)
            rows = connection.execute(
                statements.history(peer == wire.BROADCAST, forward),
                {"user": user_id, "peer": peer, "after": low, "before": high, "limit": limit},
            ).all()
        page = self._fitting(rows)
        more = len(page) == limit or len(page) < len(rows)
        if page and (more or not found):
            last = page[-1].id
        elif found:  # nothing else is within the edge; what is beyond it has not been looked at
            more, last = True, high - 1 if forward else low + 1
        else:  # there is nothing; whoever asks again, later, asks from here
            last = (after or 0) if forward else (before or 0)
        return HistoryPage(page if forward else page[::-1], more, last)

    def _fitting(self, rows: Sequence[sa.Row[Any]]) -> list[wire.Message]:
        """As many as one frame can hold, but one at least."""
        fitting: list[wire.Message] = []
        room = HISTORY_BYTES
        for row in rows:
            message = self._dialect.message(row)
            room -= len(msgspec.json.encode(message.content)) + _HEADER_BYTES
            if fitting and room < 0:
                break
            fitting.append(message)
        return fitting

    def fates(self, sender: str, client_ids: Collection[str]) -> Deferred[dict[str, Fate]]:
        """What became of a sender's messages, by client id; without those that are not stored."""
        return self._read(self._fates, sender, list(client_ids))

    def _fates(self, sender: str, client_ids: list[str]) -> dict[str, Fate]:
        with self._engine.connect() as connection:
            rows = connection.execute(
                statements.SELECT_FATES, {"sender": sender, "client_ids": client_ids}
            )
            return {row.client_id: Fate(row.id, row.id <= (row.position or 0)) for row in rows}

    # Users.

    def add_user(self, user: User) -> Deferred[None]:
        """Register a user, whose place is after all that is stored.  Fails with `UserExists`."""
        return self._write(self._add_user, user)

    def _add_user(self, user: User) -> None:
        try:
            with self._transaction() as connection:
                statements.add_user(connection, user)
        except sa.exc.IntegrityError:
            raise UserExists(user.user_id) from None

    def rotate(self, user: User, old_public_key: str) -> Deferred[None]:
        """Give a user other keys.  Fails with `KeyReplaced` when the old one is theirs no more."""
        return self._write(self._rotate, user, old_public_key)

    def _rotate(self, user: User, old_public_key: str) -> None:
        theirs = (users.c.user_id == user.user_id) & (users.c.public_key == old_public_key)
        with self._transaction() as connection:
            keys = {name: getattr(user, name) for name in _KEYS}
            changed = sa.update(users).where(theirs).values(keys)
            if not connection.execute(changed).rowcount:
                raise KeyReplaced(user.user_id)

    def all_users(self) -> list[User]:
        """Every registered user.  Blocks: for the start, before the reactor runs."""
        with self._engine.connect() as connection:
            return [User(*row) for row in connection.execute(sa.select(users))]

    def changes(self, after: int) -> Deferred[Changes]:
        """Whom an operator has changed after a change, as they are now."""
        newest = self._read(self._newest_change)
        # In the writer's turn, so that what else was changed of a user is told in its order.
        return newest.addCallback(
            lambda last: (
                self._write(self._changes, after) if last > after else succeed(Changes(after, {}))
            )
        )

    def _newest_change(self) -> int:
        with self._engine.connect() as connection:
            return connection.execute(statements.SELECT_NEWEST_CHANGE).scalar() or 0

    def _changes(self, after: int) -> Changes:
        with self._engine.connect() as connection:
            rows = connection.execute(statements.SELECT_CHANGES, {"after": after}).all()
            changed: dict[str, User | None] = dict.fromkeys(row.user_id for row in rows)
            for user_id in changed:
                theirs = sa.select(users).where(users.c.user_id == user_id)
                row = connection.execute(theirs).one_or_none()
                changed[user_id] = None if row is None else User(*row)
        return Changes(max((row.id for row in rows), default=after), changed)

    def last_seen(self) -> dict[str, float]:
        """When each user was last there, in seconds since the epoch.  Blocks: for the start."""
        with self._engine.connect() as connection:
            rows = connection.execute(statements.SELECT_SEEN).all()
        return {row.user_id: row.seen_at for row in rows}

    def seen(self, times: Mapping[str, float]) -> Deferred[None]:
        """Remember when users were last there."""
        return self._write(self._seen, dict(times))

    def _seen(self, times: Mapping[str, float]) -> None:
        rows = [{"user": user_id, "now": seen} for user_id, seen in times.items()]
        if not rows:
            return
        with self._transaction() as connection:
            connection.execute(statements.SEE_USER, rows)

    # What operators look at.

    def read(self, function: Callable[[sa.Connection], Result]) -> Deferred[Result]:
        """What a function reads, where blocking is allowed."""
        return self._read(self._run_reader, function)

    def _run_reader(self, function: Callable[[sa.Connection], Result]) -> Result:
        with self._engine.connect() as connection:
            return function(connection)

    def size(self) -> Deferred[int]:
        """How large the database is, in bytes; it answers, so it is there."""
        return self.read(self._dialect.size)

    # What is kept no longer.

    def expire(self, before: float, after: int = 0) -> Deferred[Expired]:
        """
        Remove a batch of what was stored earlier than `before` and is needed no more.

        That is, of the messages after `after`: direct messages that were
        acknowledged, and broadcasts that everybody else has acknowledged or
        that are not among the newest, as many as may wait for a user.
        """
        found = self._read(self._expirable, before, after)
        return found.addCallback(lambda ids: self._write(self._expire, ids))

    def _expirable(self, before: float, after: int) -> list[int]:
        with self._engine.connect() as connection:
            kept = connection.execute(
                statements.SELECT_KEPT_BROADCAST, {"skip": self._offline_limit - 1}
            ).scalar()
            behind = connection.execute(statements.SELECT_FURTHEST_BEHIND).all()
            last, next_to_last = ([row.position for row in behind] + [statements.NEWEST] * 2)[:2]
            bounds = {
                "before": before,
                "kept": kept or 0,
                "after": after,
                "through": statements.until(connection, before),
                "last_user": behind[0].user_id if behind else "",
                "last": last,
                "next_to_last": next_to_last,
            }
            rows = connection.execute(
                statements.SELECT_EXPIRABLE, {**bounds, "limit": EXPIRY_BATCH}
            )
            return list(rows.scalars())

    def _expire(self, ids: list[int]) -> Expired:
        if not ids:
            return Expired(0, 0, more=False)
        with self._transaction() as connection:
            statements.remove(connection, ids)
        return Expired(len(ids), ids[-1], len(ids) == EXPIRY_BATCH)

    def see_sessions(self, places: Collection[Place], now: float) -> Deferred[None]:
        """Remember that sessions are there; those without a name are nobody's."""
        rows = [
            {"user": user_id, "session": name, "now": now}
            for user_id, name in places
            if name is not None
        ]
        return self._write(self._run, statements.SEE_SESSION, rows) if rows else succeed(None)

    def _run(self, statement: sa.Update | sa.Delete, rows: list[dict[str, Any]]) -> None:
        with self._transaction() as connection:
            connection.execute(statement, rows)

    def forget_sessions(self) -> Deferred[None]:
        """Forget the longest unseen of users who have more than `SESSIONS_PER_USER`."""
        found = self._read(self._too_many_sessions)
        return found.addCallback(
            lambda rows: self._write(self._run, statements.FORGET_SESSION, rows) if rows else None
        )

    def _too_many_sessions(self) -> list[dict[str, Any]]:
        with self._engine.connect() as connection:
            rows = connection.execute(
                statements.SELECT_SURPLUS, {"keep": SESSIONS_PER_USER, "limit": EXPIRY_BATCH}
            )
            return [{"user": row.user_id, "session": row.name} for row in rows]


def _move(connection: sa.Connection, places: Mapping[Place, int], now: float) -> None:
    """Move cursors forward."""
    users_to = [
        {"user": user_id, "to": position}
        for (user_id, name), position in places.items()
        if name is None
    ]
    sessions_to = [
        {"user": user_id, "name": name, "to": position, "now": now}
        for (user_id, name), position in places.items()
        if name is not None
    ]
    if users_to:
        connection.execute(statements.MOVE_CURSOR, users_to)
    if sessions_to:
        connection.execute(statements.MOVE_SESSION, sessions_to)


class ThreadedStore(Store):
    """A store whose database is used by threads of its own: one that writes, a few that read."""

    def __init__(
        self, engine: sa.Engine, reactor: IReactorFromThreads, *, offline_limit: int = 1000
    ) -> None:
        self._writer = Threads(reactor, "wschat-store-writer")
        self._readers = Threads(reactor, "wschat-store-reader", _READERS)
        super().__init__(engine, self._writer, self._readers, offline_limit=offline_limit)

    def close(self) -> None:
        """Finish what was begun, and let go of the database.  Blocks for that long."""
        self._writer.stop()
        self._readers.stop()
        self._dialect.close()
        self._engine.dispose()
