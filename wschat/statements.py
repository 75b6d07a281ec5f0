"""
What `wschat.store` says to the database, and how the two databases differ.

The way of a message goes through statements that are written out, because
they run for every commit; the rest is SQLAlchemy's.
"""

from __future__ import annotations

import functools
import sqlite3
from collections.abc import Sequence
from typing import Any, Final, Protocol

import msgspec
import sqlalchemy as sa

from wschat import wire
from wschat.database import cursors, expired, messages, sessions, user_changes, users
from wschat.identity import User

#: More than any message's id.
NEWEST: Final = 2**63 - 1

#: Who holds it is the only writer, whatever the number of servers (PostgreSQL).
_WRITERS_LOCK: Final = 7_748_428

#: How many values one statement is given: both databases have a bound, of 32766 and 65535.
_PARAMETERS: Final = 10_000

_user: sa.BindParameter[str] = sa.bindparam("user")

SELECT_HEAD: Final = sa.select(sa.func.max(messages.c.id))

SELECT_CURSOR: Final = sa.select(cursors.c.position, cursors.c.start).where(
    cursors.c.user_id == _user
)

_all_seen = sa.union_all(
    sa.select(cursors.c.user_id, cursors.c.seen_at).where(cursors.c.seen_at.is_not(None)),
    sa.select(sessions.c.user_id, sessions.c.seen_at),
).subquery()

#: When users were last there: when they went, or when one of their sessions was seen since.
SELECT_SEEN: Final = sa.select(
    _all_seen.c.user_id, sa.func.max(_all_seen.c.seen_at).label("seen_at")
).group_by(_all_seen.c.user_id)

INSERT_CURSOR: Final = sa.insert(cursors)

MOVE_CURSOR: Final = (
    sa.update(cursors)
    .where(cursors.c.user_id == _user)
    .where(cursors.c.position < sa.bindparam("to"))
    .values(position=sa.bindparam("to"))
)

SEE_USER: Final = (
    sa.update(cursors).where(cursors.c.user_id == _user).values(seen_at=sa.bindparam("now"))
)

_this_session = (sessions.c.user_id == _user) & (sessions.c.name == sa.bindparam("session"))

SELECT_SESSION: Final = sa.select(sessions.c.position).where(_this_session)

#: A session that is new is remembered with its first place.
MOVE_SESSION: Final = sa.text(
    "INSERT INTO sessions (user_id, name, position, seen_at) VALUES (:user, :name, :to, :now)"
    " ON CONFLICT (user_id, name) DO UPDATE"
    " SET position = excluded.position, seen_at = excluded.seen_at"
    " WHERE sessions.position <= excluded.position"
)

_ranked = sa.select(
    sessions.c.user_id,
    sessions.c.name,
    sa.func.row_number()
    .over(partition_by=sessions.c.user_id, order_by=[sessions.c.seen_at.desc(), sessions.c.name])
    .label("rank"),
).subquery()

#: Too many sessions of one user: the longest unseen.
SELECT_SURPLUS: Final = (
    sa.select(_ranked.c.user_id, _ranked.c.name)
    .where(_ranked.c.rank > sa.bindparam("keep"))
    .limit(sa.bindparam("limit"))
)

FORGET_SESSION: Final = sa.delete(sessions).where(_this_session)

SEE_SESSION: Final = sa.update(sessions).where(_this_session).values(seen_at=sa.bindparam("now"))

#: The newest message, of all that are for a user, that is not kept any more.
SELECT_EXPIRED: Final = sa.select(sa.func.max(expired.c.through)).where(
    expired.c.topic.in_([_user, sa.literal(wire.BROADCAST)])
)

#: How many direct messages wait for a user, up to a limit.
COUNT_WAITING: Final = sa.select(sa.func.count()).select_from(
    sa.select(messages.c.id)
    .where(messages.c.topic == _user)
    .where(
        messages.c.id
        > sa.select(cursors.c.position).where(cursors.c.user_id == _user).scalar_subquery()
    )
    .limit(sa.bindparam("limit"))
    .subquery()
)


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


SELECT_PAGE: Final = (
    sa.union_all(
        _topic_part(messages.c.topic == _user),
        _topic_part((messages.c.topic == wire.BROADCAST) & (messages.c.sender != _user)),
    )
    .order_by(sa.text("id"))
    .limit(sa.bindparam("limit"))
)


@functools.cache
def history_edge(forward: bool) -> sa.Select[Any]:
    """The message of a topic that is so many away from where a history page begins."""
    return (
        sa.select(messages.c.id)
        .where(messages.c.topic == sa.bindparam("topic"))
        .where(messages.c.id > sa.bindparam("after"))
        .where(messages.c.id < sa.bindparam("before"))
        .order_by(messages.c.id if forward else messages.c.id.desc())
        .offset(sa.bindparam("skip"))
        .limit(1)
    )


@functools.cache
def history(broadcasts: bool, forward: bool) -> sa.Select[Any]:
    """
    The broadcasts between two ids, or what two users said to each other, from one end.

    An inbox is read as it comes, whoever the sender, up to an edge: no index
    is paid for by every message for the sake of this.
    """
    peer: sa.BindParameter[str] = sa.bindparam("peer")
    if broadcasts:
        wanted = messages.c.topic == wire.BROADCAST
    else:
        wanted = ((messages.c.topic == _user) & (messages.c.sender == peer)) | (
            (messages.c.topic == peer) & (messages.c.sender == _user)
        )
    return (
        sa.select(messages)
        .where(wanted)
        .where(messages.c.id > sa.bindparam("after"))
        .where(messages.c.id < sa.bindparam("before"))
        .order_by(messages.c.id if forward else messages.c.id.desc())
        .limit(sa.bindparam("limit"))
    )


SELECT_FATES: Final = (
    sa.select(messages.c.client_id, messages.c.id, cursors.c.position)
    .select_from(messages.outerjoin(cursors, cursors.c.user_id == messages.c.topic))
    .where(messages.c.sender == sa.bindparam("sender"))
    .where(messages.c.client_id.in_(sa.bindparam("client_ids", expanding=True)))
)

#: The oldest of the newest broadcasts that are kept for whoever is away.
SELECT_KEPT_BROADCAST: Final = (
    sa.select(messages.c.id)
    .where(messages.c.topic == wire.BROADCAST)
    .order_by(messages.c.id.desc())
    .offset(sa.bindparam("skip"))
    .limit(1)
)

#: The two users who are furthest behind: nobody waits for the sender of a broadcast.
SELECT_FURTHEST_BEHIND: Final = (
    sa.select(cursors.c.user_id, cursors.c.position).order_by(cursors.c.position).limit(2)
)

_everybody_has = messages.c.id <= sa.case(
    (messages.c.sender == sa.bindparam("last_user"), sa.bindparam("next_to_last")),
    else_=sa.bindparam("last"),
)
_recipient_has = (
    messages.c.id
    <= sa.select(cursors.c.position).where(cursors.c.user_id == messages.c.topic).scalar_subquery()
)

SELECT_EXPIRABLE: Final = (
    sa.select(messages.c.id)
    .where(messages.c.id > sa.bindparam("after"))
    .where(messages.c.id <= sa.bindparam("through"))
    .where(messages.c.stored_at < sa.bindparam("before"))
    .where(
        sa.case(
            (
                messages.c.topic == wire.BROADCAST,
                _everybody_has | (messages.c.id < sa.bindparam("kept")),
            ),
            else_=_recipient_has,
        )
    )
    .order_by(messages.c.id)
    .limit(sa.bindparam("limit"))
)

#: The first message from an id on.
SELECT_FROM: Final = (
    sa.select(messages.c.id, messages.c.stored_at)
    .where(messages.c.id >= sa.bindparam("id"))
    .order_by(messages.c.id)
    .limit(1)
)

SELECT_NEWEST_CHANGE: Final = sa.select(sa.func.max(user_changes.c.id))

SELECT_CHANGES: Final = (
    sa.select(user_changes.c.id, user_changes.c.user_id)
    .where(user_changes.c.id > sa.bindparam("after"))
    .order_by(user_changes.c.id)
)

SELECT_NEWEST: Final = (
    sa.select(messages.c.topic, sa.func.max(messages.c.id).label("newest"))
    .where(messages.c.id.in_(sa.bindparam("ids", expanding=True)))
    .group_by(messages.c.topic)
)

UPSERT_EXPIRED: Final = sa.text(
    "INSERT INTO expired (topic, through) VALUES (:topic, :through)"
    " ON CONFLICT (topic) DO UPDATE SET through = excluded.through"
    " WHERE expired.through < excluded.through"
)


def head(connection: sa.Connection) -> int:
    """The newest message there is, or was."""
    stored = connection.execute(SELECT_HEAD).scalar() or 0
    gone = connection.execute(sa.select(sa.func.max(expired.c.through))).scalar() or 0
    return max(stored, gone)


def add_user(connection: sa.Connection, user: User) -> None:
    """Add a user, whose place is after all that is stored.  An IntegrityError: the id is taken."""
    connection.execute(sa.insert(users), msgspec.structs.asdict(user))
    newest = head(connection)
    row = {"user_id": user.user_id, "position": newest, "start": newest}
    connection.execute(INSERT_CURSOR, row)


def remove(connection: sa.Connection, ids: Sequence[int]) -> None:
    """Remove messages, and remember how far they went."""
    for row in connection.execute(SELECT_NEWEST, {"ids": ids}).all():
        connection.execute(UPSERT_EXPIRED, {"topic": row.topic, "through": row.newest})
    connection.execute(sa.delete(messages).where(messages.c.id.in_(ids)))


_COLUMNS: Final = (
    "id, topic, sender, timestamp, content, signature, encrypted_key, encryption_nonce,"
    " stored_at, client_id, envelope_signature, sender_key"
)


class Dialect(Protocol):
    """What SQLite and PostgreSQL do differently."""

    def lock(self, connection: sa.Connection) -> None:
        """Be the only writer until the transaction ends, so that ids appear in their order."""

    def insert(
        self, connection: sa.Connection, rows: Sequence[tuple[wire.Message, int]], now: float
    ) -> int:
        """Store messages under ids, but for those whose client id is known; how many it were."""

    def first_ids(
        self, connection: sa.Connection, batch: Sequence[wire.Message]
    ) -> dict[tuple[str, str | None], int]:
        """The ids of the messages with the senders and client ids of a batch."""

    def load(self, text: Any) -> Any:
        """A text as it was before it was stored."""

    def disk_full(self, error: BaseException | None) -> bool:
        """Whether a driver's error says that there is no room."""

    def size(self, connection: sa.Connection) -> int:
        """How large the database is, in bytes."""


class _Dialect:
    """What both do alike, with the parameters' mark that each driver wants."""

    mark = "?"

    def __init__(self) -> None:
        marks = ", ".join([self.mark] * 12)
        self._insert = f"INSERT INTO messages ({_COLUMNS}) VALUES ({marks}) ON CONFLICT DO NOTHING"  # noqa: S608  # constants

    def lock(self, connection: sa.Connection) -> None:
        """SQLite: the transaction has begun as the only one that writes."""

    def store(self, text: str | None) -> str | None:
        """A text as it is stored."""
        return text

    def load(self, text: Any) -> Any:
        """A text as it was before it was stored."""
        return text

    def insert(
        self, connection: sa.Connection, rows: Sequence[tuple[wire.Message, int]], now: float
    ) -> int:
        """Store messages under ids, but for those whose client id is known; how many it were."""
        store = self.store
        values = [
            (
                message_id,
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
            for message, message_id in rows
        ]
        return connection.exec_driver_sql(self._insert, values).rowcount

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
                rows = connection.execute(SELECT_FATES, part)
                found.update({(sender, row.client_id): row.id for row in rows})
        return found

    def disk_full(self, error: BaseException | None) -> bool:
        """Whether a driver's error says that there is no room."""
        return getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL

    def size(self, connection: sa.Connection) -> int:
        """How large the database is, in bytes; without what is in the write-ahead log alone."""
        pages = "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size"
        size: int = connection.exec_driver_sql(pages).scalar_one()
        return size


_ESCAPE: Final = "\ue000"


class _PostgreSQL(_Dialect):
    """PostgreSQL: many may write, and a text cannot hold U+0000."""

    mark = "%s"

    def lock(self, connection: sa.Connection) -> None:
        """Wait until no other server writes."""
        connection.exec_driver_sql("SELECT pg_advisory_xact_lock(%s)", (_WRITERS_LOCK,))

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
        return getattr(error, "sqlstate", None) == "53100"

    def size(self, connection: sa.Connection) -> int:
        """How large the database is, in bytes."""
        size: int = connection.exec_driver_sql(
            "SELECT pg_database_size(current_database())"
        ).scalar_one()
        return size


def dialect(engine: sa.Engine) -> Dialect:
    """How an engine's database is spoken to."""
    return _PostgreSQL() if engine.dialect.name == "postgresql" else _Dialect()
