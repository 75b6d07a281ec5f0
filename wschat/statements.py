"""
What is said to the database, whichever it is.

What every commit says is in `wschat.sql`.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, Final

import msgspec
import sqlalchemy as sa

from wschat import wire
from wschat.database import cursors, messages, sessions, user_changes, users
from wschat.identity import User

#: More than any message's id.
NEWEST: Final = 2**63 - 1

_user: sa.BindParameter[str] = sa.bindparam("user")

#: The newest message there is, and the newest there was.
SELECT_HEAD: Final = "SELECT (SELECT max(id) FROM messages), (SELECT max(through) FROM expired)"

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

SEE_USER: Final = (
    sa.update(cursors).where(cursors.c.user_id == _user).values(seen_at=sa.bindparam("now"))
)

_this_session = (sessions.c.user_id == _user) & (sessions.c.name == sa.bindparam("session"))

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

#: Where a session goes on, as one row: its user's place and first message, its own place, the
#: newest message of all that are for the user and not kept any more, and the head's two halves.
SELECT_START: Final = sa.text(
    "SELECT (SELECT position FROM cursors WHERE user_id = :user) AS read,"
    ' (SELECT start FROM cursors WHERE user_id = :user) AS "start",'
    " (SELECT position FROM sessions WHERE user_id = :user AND name = :session) AS known,"
    " (SELECT max(through) FROM expired WHERE topic IN (:user, :everybody)) AS expired,"
    " (SELECT max(id) FROM messages) AS stored, (SELECT max(through) FROM expired) AS gone"
).bindparams(everybody=wire.BROADCAST)

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
    return newest(*connection.exec_driver_sql(SELECT_HEAD).one())


def newest(stored: int | None, gone: int | None) -> int:
    """The head, of its two halves; there may be neither."""
    return max(stored or 0, gone or 0)


def until(connection: sa.Connection, before: float) -> int:
    """
    The last message stored earlier than `before`, as far as ids ascend with time.

    Looked for by halves, so that no index on the time is paid for by every
    message.  Where the clock was set back it is off by as much.
    """
    low, high = 0, head(connection)
    while low < high:
        middle = (low + high + 1) // 2
        row = connection.execute(SELECT_FROM, {"id": middle}).one_or_none()
        if row is None or row.stored_at >= before:
            high = middle - 1
        else:
            low = row.id
    return low


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
