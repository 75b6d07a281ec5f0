"""
What is kept of users: who they are, and when they and their sessions were last there.

Who may be one, and with which keys, `wschat.accounts` says.  What operators
change (wschat.administration) is read here.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from twisted.internet.defer import Deferred, succeed

from wschat import statements
from wschat.database import users
from wschat.identity import User
from wschat.store import Store
from wschat.stream import Place

#: How many sessions are remembered of one user; past that the longest unseen is forgotten.
SESSIONS_PER_USER: Final = 100

#: How many sessions are forgotten in one transaction, so that no commit waits for long.
_FORGET_BATCH: Final = 500

#: What a rotation changes of a user.
_KEYS: Final = ("public_key", "x25519_public_key", "rotations")


class UserExists(Exception):
    """The user id is taken."""


class KeyReplaced(Exception):
    """A user's key is another by now; `str()` is the user's id."""


class Changes(msgspec.Struct, frozen=True):
    """Users whom an operator has changed, None for one who is gone; `last` is the last change."""

    last: int
    users: Mapping[str, User | None]


class Users:
    """
    The users that are registered.

    What it writes is in the order of the calls, as `Store` has it.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def add(self, user: User) -> Deferred[None]:
        """Register a user, whose place is after all that is stored.  Fails with `UserExists`."""
        return self._store.write(self._add, user)

    def _add(self, user: User) -> None:
        try:
            with self._store.transaction() as connection:
                statements.add_user(connection, user)
        except sa.exc.IntegrityError:
            raise UserExists(user.user_id) from None

    def rotate(self, user: User, old_public_key: str) -> Deferred[None]:
        """Give a user other keys.  Fails with `KeyReplaced` when the old one is theirs no more."""
        return self._store.write(self._rotate, user, old_public_key)

    def _rotate(self, user: User, old_public_key: str) -> None:
        theirs = (users.c.user_id == user.user_id) & (users.c.public_key == old_public_key)
        with self._store.transaction() as connection:
            keys = {name: getattr(user, name) for name in _KEYS}
            changed = sa.update(users).where(theirs).values(keys)
            if not connection.execute(changed).rowcount:
                raise KeyReplaced(user.user_id)

    def all(self) -> list[User]:
        """Every registered user.  Blocks: for the start, before the reactor runs."""
        with self._store.connect() as connection:
            return [User(*row) for row in connection.execute(sa.select(users))]

    def changes(self, after: int) -> Deferred[Changes]:
        """Whom an operator has changed after a change, as they are now."""
        newest = self._store.read(self._newest_change)
        # In the writer's turn, so that what else was changed of a user is told in its order.
        return newest.addCallback(
            lambda last: (
                self._store.write(self._changes, after)
                if last > after
                else succeed(Changes(after, {}))
            )
        )

    def _newest_change(self) -> int:
        with self._store.connect() as connection:
            return connection.execute(statements.SELECT_NEWEST_CHANGE).scalar() or 0

    def _changes(self, after: int) -> Changes:
        with self._store.connect() as connection:
            rows = connection.execute(statements.SELECT_CHANGES, {"after": after}).all()
            changed: dict[str, User | None] = dict.fromkeys(row.user_id for row in rows)
            for user_id in changed:
                theirs = sa.select(users).where(users.c.user_id == user_id)
                row = connection.execute(theirs).one_or_none()
                changed[user_id] = None if row is None else User(*row)
        return Changes(max((row.id for row in rows), default=after), changed)

    def last_seen(self) -> dict[str, float]:
        """When each user was last there, in seconds since the epoch.  Blocks: for the start."""
        with self._store.connect() as connection:
            rows = connection.execute(statements.SELECT_SEEN).all()
        return {row.user_id: row.seen_at for row in rows}

    def seen(self, times: Mapping[str, float]) -> Deferred[None]:
        """Remember when users were last there."""
        return self._store.write(self._seen, dict(times))

    def _seen(self, times: Mapping[str, float]) -> None:
        rows = [{"user": user_id, "now": seen} for user_id, seen in times.items()]
        if not rows:
            return
        with self._store.transaction() as connection:
            connection.execute(statements.SEE_USER, rows)

    def see_sessions(self, places: Collection[Place], now: float) -> Deferred[None]:
        """Remember that sessions are there; those without a name are nobody's."""
        rows = [
            {"user": user_id, "session": name, "now": now}
            for user_id, name in places
            if name is not None
        ]
        return self._store.write(self._run, statements.SEE_SESSION, rows) if rows else succeed(None)

    def _run(self, statement: sa.Update | sa.Delete, rows: list[dict[str, Any]]) -> None:
        with self._store.transaction() as connection:
            connection.execute(statement, rows)

    def forget_sessions(self) -> Deferred[None]:
        """Forget the longest unseen of users who have more than `SESSIONS_PER_USER`."""
        found = self._store.read(self._too_many_sessions)
        return found.addCallback(
            lambda rows: (
                self._store.write(self._run, statements.FORGET_SESSION, rows) if rows else None
            )
        )

    def _too_many_sessions(self) -> list[dict[str, Any]]:
        with self._store.connect() as connection:
            rows = connection.execute(
                statements.SELECT_SURPLUS, {"keep": SESSIONS_PER_USER, "limit": _FORGET_BATCH}
            )
            return [{"user": row.user_id, "session": row.name} for row in rows]
