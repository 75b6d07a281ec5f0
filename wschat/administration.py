"""
What an operator does to users, in the database itself.

Nothing here needs a server: whoever may open the database may do it.  Each
change is written down in `user_changes` in its own transaction, where every
server that runs on the database finds it within a second (wschat.watch).
Everything blocks: it is for programs of their own (wschat.admin).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Final

import msgspec
import sqlalchemy as sa

from wschat import database, dialects, identity, statements, wire
from wschat.identity import User

#: How long a change is kept for servers to see, in seconds.
_CHANGES_KEPT: Final = 86400.0

#: How many messages are removed in one transaction, so that no server waits for long.
_BATCH: Final = 500


class NoSuchUser(Exception):
    """There is no user of that id; `str()` says so in one line."""

    def __init__(self, user_id: str) -> None:
        super().__init__(f"There is no user {user_id!r}.")


class Refused(Exception):
    """Something cannot be done; `str()` is one line that says why."""


class Administration:
    """The users of a database; times are in seconds since the epoch."""

    def __init__(self, engine: sa.Engine) -> None:
        """`engine` is of a database whose schema is of this version."""
        self.engine = engine
        self._dialect = dialects.dialect(engine)

    @contextlib.contextmanager
    def _change(self, user_id: str, now: float) -> Iterator[sa.Connection]:
        """A transaction in which a user is changed, and servers are told of it."""
        users, changes = database.users, database.user_changes
        with self._removing() as connection:
            theirs = sa.select(users.c.user_id).where(users.c.user_id == user_id)
            if connection.execute(theirs).one_or_none() is None:
                raise NoSuchUser(user_id)
            yield connection
            _note(connection, user_id, now)
            connection.execute(sa.delete(changes).where(changes.c.changed_at < now - _CHANGES_KEPT))

    def _set(self, user_id: str, now: float, **values: Any) -> None:
        users = database.users
        with self._change(user_id, now) as connection:
            connection.execute(sa.update(users).where(users.c.user_id == user_id).values(values))

    def users(self) -> list[User]:
        """All of them, by their ids."""
        with self.engine.connect() as connection:
            rows = connection.execute(sa.select(database.users).order_by(database.users.c.user_id))
            return [User(*row) for row in rows]

    def last_seen(self) -> dict[str, float]:
        """When users were last there, of those who ever were."""
        with self.engine.connect() as connection:
            rows = connection.execute(statements.SELECT_SEEN).all()
        return {row.user_id: row.seen_at for row in rows}

    def user(self, user_id: str) -> User:
        """Raises `NoSuchUser`."""
        users = database.users
        with self.engine.connect() as connection:
            row = connection.execute(
                sa.select(users).where(users.c.user_id == user_id)
            ).one_or_none()
        if row is None:
            raise NoSuchUser(user_id)
        return User(*row)

    def add(self, user: User, now: float) -> None:
        """Make an account.  Raises `Refused` for names and keys that are none, or a taken id."""
        if not wire.valid_user_id(user.user_id):
            raise Refused(
                f"{user.user_id!r} cannot be a user id: 1 to 64 characters of A-Z a-z 0-9 . _ -, "
                "and no reserved name."
            )
        try:
            identity.check_username(user.username)
        except identity.BadName as error:
            raise Refused(str(error)) from None
        _check_keys(user.public_key, user.x25519_public_key)
        try:
            with self._dialect.transaction() as connection:
                statements.add_user(connection, user)
                _note(connection, user.user_id, now)
        except sa.exc.IntegrityError:
            raise Refused(f"The user id {user.user_id} is taken.") from None

    def disable(self, user_id: str, now: float) -> None:
        """Let a user log in no more, and close their connections.  Raises `NoSuchUser`."""
        self._set(user_id, now, disabled_at=now)

    def enable(self, user_id: str, now: float) -> None:
        """Let a user log in again.  Raises `NoSuchUser`."""
        self._set(user_id, now, disabled_at=None)

    def sign_out(self, user_id: str, now: float) -> None:
        """End a user's logins: no token of theirs is good any more.  Raises `NoSuchUser`."""
        self._set(user_id, now, signed_out_at=now)

    def reset_key(
        self, user_id: str, public_key: str, x25519_public_key: str | None, now: float
    ) -> None:
        """
        Give a user whose key is lost another one, which nothing vouches for.

        Who remembers the earlier key is warned.  Raises `NoSuchUser`, and
        `Refused` for a key that is none.
        """
        _check_keys(public_key, x25519_public_key)
        self._set(
            user_id,
            now,
            public_key=public_key,
            x25519_public_key=x25519_public_key,
            rotations=None,
            signed_out_at=now,
        )

    # A user's data.

    def export(self, user_id: str) -> Iterator[dict[str, Any]]:
        """
        All that is kept of a user, one object after the other, each with its `type`.

        The account, the sessions, and the messages that they sent and got,
        in order; broadcasts of others are not theirs.  Raises `NoSuchUser`.
        """
        account = {"type": "user", **msgspec.structs.asdict(self.user(user_id))}
        cursors, sessions, messages = database.cursors, database.sessions, database.messages
        yield account
        mine = sa.or_(messages.c.topic == user_id, messages.c.sender == user_id)
        with self.engine.connect() as connection:
            for kind, table in (("place", cursors), ("session", sessions)):
                rows = connection.execute(sa.select(table).where(table.c.user_id == user_id))
                for row in rows.mappings():
                    yield {"type": kind, **row}
        load, last = self._dialect.load, 0
        while True:  # page by page, so that neither memory nor a snapshot grows with the user
            page = (
                sa.select(messages).where(mine, messages.c.id > last).order_by(messages.c.id)
            ).limit(_BATCH)
            with self.engine.connect() as connection:
                found = connection.execute(page).mappings().all()
            for message in found:
                last = message["id"]
                texts = {k: load(v) if isinstance(v, str) else v for k, v in message.items()}
                yield {"type": "message", **texts}
            if len(found) < _BATCH:
                return

    def remove_messages(self, user_id: str) -> int:
        """Remove every message that somebody sent or got, user or not any more; how many."""
        messages = database.messages
        mine = sa.or_(messages.c.topic == user_id, messages.c.sender == user_id)
        some = sa.select(messages.c.id).where(mine).order_by(messages.c.id).limit(_BATCH)
        removed, more = 0, True
        while more:
            with self._removing() as connection:
                ids = list(connection.execute(some).scalars())
                if ids:
                    statements.remove(connection, ids)
            removed += len(ids)
            more = len(ids) == _BATCH
        return removed

    def remove_user(self, user_id: str, now: float) -> None:
        """
        Remove an account, with its places.  Raises `NoSuchUser`.

        A server takes messages to and from them until it sees that they are
        gone: disable them before, and remove their messages afterwards.
        """
        with self._change(user_id, now) as connection:
            for table in (database.sessions, database.cursors, database.users):
                connection.execute(sa.delete(table).where(table.c.user_id == user_id))

    def empty_log(self) -> bool:
        """
        Have SQLite carry its log out, which has what was removed; whether it is empty now.

        It is not while somebody reads what was there before.  PostgreSQL sees
        to its own.
        """
        if self.engine.dialect.name != "sqlite":
            return True
        with self.engine.connect() as connection:
            row = connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").one()
        return not row[0]

    @contextlib.contextmanager
    def _removing(self) -> Iterator[sa.Connection]:
        """A transaction whose removals leave nothing to be read in the file."""
        with self._dialect.transaction() as connection:
            if self.engine.dialect.name == "sqlite":
                connection.exec_driver_sql("PRAGMA secure_delete=ON")
            yield connection


def _note(connection: sa.Connection, user_id: str, now: float) -> None:
    """Tell servers of a user who is changed in this transaction."""
    row = {"user_id": user_id, "changed_at": now}
    connection.execute(sa.insert(database.user_changes), row)


def _check_keys(public_key: str, x25519_public_key: str | None) -> None:
    try:
        identity.check_public_key(public_key)
        if x25519_public_key is not None:
            identity.check_x25519_public_key(x25519_public_key)
    except identity.BadKey as error:
        raise Refused(str(error)) from None
