"""
The stream: messages, and everybody's place in it.

A message is in exactly one topic (a user's inbox, or the broadcasts) and its
id orders it among all messages.  A cursor is one number: the last message
that somebody is known to have.  Delivery is never a row per recipient.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final

import msgspec
import sqlalchemy as sa
from twisted.internet.defer import Deferred

from wschat import statements, wire
from wschat.store import Store

#: How many messages are read for one session at a time.
PAGE_MESSAGES: Final = 100

#: How many messages are removed in one transaction, so that no commit waits for long.
EXPIRY_BATCH: Final = 500

#: Who asks: a user, and the name of their session, which a classic client has not.
Place = tuple[str, str | None]


class Page(msgspec.Struct, frozen=True):
    """
    Part of what a user has not had yet, in order.

    A `complete` page is the last one: there is nothing more for this user up
    to message `head`, the newest of all when the page was read.
    """

    messages: list[wire.Message]
    head: int
    complete: bool


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


class Stream:
    """
    The messages that are kept, and how far everybody has come.

    What it writes is in the order of the calls, as `Store` has it.
    """

    def __init__(self, store: Store, offline_limit: int) -> None:
        """`offline_limit` is how many direct messages may wait for a user who is away."""
        self._store = store
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
        return self._store.write(self._append, batch, dict(places), frozenset(away), now)

    def _append(
        self,
        batch: Sequence[wire.Message],
        places: Mapping[Place, int],
        away: frozenset[str],
        now: float,
    ) -> Appended:
        if batch and not (places or away):
            ids = self._store.insert_alone(batch, now)
            if ids is not None:
                return Appended(ids)
        with self._store.transaction() as connection:
            if places:
                self._store.dialect.move(connection, places, now)
            if not batch:
                return Appended(range(0))
            return self._insert(connection, batch, away, now)

    def _insert(
        self,
        connection: sa.Connection,
        batch: Sequence[wire.Message],
        away: frozenset[str],
        now: float,
    ) -> Appended:
        dialect = self._store.dialect
        full, held_up = self._without_room(connection, batch, away, ())
        if full:  # what is sent again takes no room
            known = dialect.first_ids(connection, batch)
            full, held_up = self._without_room(connection, batch, away, known)
        left_out = full | held_up
        fresh = [index for index in range(len(batch)) if index not in left_out]
        given = dialect.insert(connection, [batch[index] for index in fresh], now)
        found = [0] * len(batch)
        for index, message_id in zip(fresh, given, strict=True):
            found[index] = message_id
        missing = [index for index, message_id in enumerate(found) if not message_id]
        if not missing:
            return Appended(found)
        first = dialect.first_ids(connection, [batch[index] for index in missing])
        for index in missing:
            found[index] = first.get((batch[index].sender, batch[index].client_id), 0)
        repeats = {index for index in missing if found[index]}
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
        return self._store.read(self._start, place, after)

    def _start(self, place: Place, after: int | None) -> Start:
        user_id, name = place
        read, first, known, expired, stored, gone = self._store.dialect.start(user_id, name)
        read, first, head = read or 0, first or 0, statements.newest(stored, gone)
        true = after is None or after <= head  # or the database has been set back since
        given = [place for place in (known, after if true else None) if place is not None]
        position = max(min(max(given, default=read), head), first)
        complete = true and (expired or 0) <= position
        return Start(position, complete, read, bool(given), head)

    def page(self, user_id: str, after: int, limit: int = PAGE_MESSAGES) -> Deferred[Page]:
        """What `user_id` should have after message `after`: their inbox, others' broadcasts."""
        return self._store.read(self._page, user_id, after, limit)

    def _page(self, user_id: str, after: int, limit: int) -> Page:
        with self._store.connect() as connection:
            head = statements.head(connection)
            rows = connection.execute(
                statements.SELECT_PAGE,
                {"user": user_id, "after": after, "head": head, "limit": limit},
            ).all()
        return Page([self._store.dialect.message(row) for row in rows], head, len(rows) < limit)

    # What is kept no longer.

    def expire(self, before: float, after: int = 0) -> Deferred[Expired]:
        """
        Remove a batch of what was stored earlier than `before` and is needed no more.

        That is, of the messages after `after`: direct messages that were
        acknowledged, and broadcasts that everybody else has acknowledged or
        that are not among the newest, as many as may wait for a user.
        """
        found = self._store.read(self._expirable, before, after)
        return found.addCallback(lambda ids: self._store.write(self._expire, ids))

    def _expirable(self, before: float, after: int) -> list[int]:
        with self._store.connect() as connection:
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
        with self._store.transaction() as connection:
            statements.remove(connection, ids)
        return Expired(len(ids), ids[-1], len(ids) == EXPIRY_BATCH)
