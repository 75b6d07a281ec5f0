"""
What operators do to users, as a server that runs gets to know it.

They change the database (wschat.administration), which is the one thing that
they and every server have in common anyway: nothing listens for orders, so
there is nothing to guard but the database, and what is done while no server
runs, or on another machine, is noticed as well.  It costs a server one look at
an index a second.
"""

from __future__ import annotations

from twisted.logger import Logger
from twisted.python.failure import Failure

from wschat.accounts import Accounts
from wschat.codes import CloseCode
from wschat.hub import Registry
from wschat.identity import User
from wschat.security import log as security
from wschat.users import Changes, Users

log = Logger(namespace="wschat.watch")


class Watch:
    """Looks for users who were changed, and closes the connections of those who may not stay."""

    def __init__(self, users: Users, accounts: Accounts, registry: Registry) -> None:
        self._users = users
        self._accounts = accounts
        self._registry = registry
        self._last = 0  # the first look sees what was changed while this server started
        self._looking = False
        self._failing = False

    def look(self) -> None:
        """Look once, unless that is under way; what goes wrong is said once, and tried again."""
        if self._looking:
            return
        self._looking = True
        looked = self._users.changes(self._last).addCallbacks(self._changed, self._failed)
        looked.addErrback(lambda failure: log.failure("could not follow a change", failure))
        looked.addBoth(self._looked)

    def _changed(self, changes: Changes) -> None:
        self._failing = False
        self._last = changes.last
        for user_id, user in changes.users.items():
            before = self._accounts.users.get(user_id)
            code = _end(before, user)
            self._accounts.changed(user_id, user)
            if code is None:
                continue
            sessions = self._registry.of(user_id)
            if sessions or user != before:  # or it was written down before
                text, event = "{event}: {user_id}: {reason}", code.name.lower()
                security.warn(text, event=event, user_id=user_id, reason=code.reason)
            for session in sessions:
                session.close(code)

    def _failed(self, failure: Failure) -> None:
        if not self._failing:
            log.failure("could not look for changed users", failure)
        self._failing = True

    def _looked(self, _: object) -> None:
        self._looking = False


def _end(before: User | None, now: User | None) -> CloseCode | None:
    """Why the connections of a user end who was changed, if they do."""
    if now is None or now.disabled_at is not None:
        return CloseCode.DISABLED
    if before is None:
        return None
    if now.public_key != before.public_key:
        return CloseCode.NEW_KEYS
    return None if now.signed_out_at == before.signed_out_at else CloseCode.SIGNED_OUT
