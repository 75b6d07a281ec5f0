"""Which keys messages are sealed with: the server is asked while they wait for that."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, Final

from twisted.internet.defer import Deferred

from wschat.client import background
from wschat.client.accounts import ConnectionProblem, RequestRefused
from wschat.client.people import People
from wschat.client.session import Session
from wschat.client.session_events import Delayed

#: How soon a server is asked again for somebody's keys that it did not tell, in seconds.
_AGAIN: Final = 0.5


class Sealing:
    """Finds out what a session wants to know of its users' keys."""

    def __init__(
        self,
        session: Session,
        people: People,
        *,
        flush: Callable[[], None],
        flush_within: Callable[[float], None],
        delayed: Callable[[Delayed], None],
    ) -> None:
        """
        `flush` sends what the session has to send; `flush_within` does that in so many seconds.

        `delayed` is told of a message that waits, once, when the server does not
        say what it waits for.
        """
        self._session = session
        self._people = people
        self._flush = flush
        self._flush_within = flush_within
        self._delayed = delayed
        self._told = ""  # the message that `delayed` was told of last
        self._finding: dict[str, Deferred[Any]] = {}

    def find(self) -> None:
        """Ask for all keys that messages wait for now, and are not asked for yet."""
        for user_id in self._session.wanted - self._finding.keys():
            finding = background.run(self._find(user_id))
            if not finding.called:
                self._finding[user_id] = finding

    def stop(self) -> None:
        """Nothing is to be sealed any more."""
        for finding in list(self._finding.values()):
            finding.cancel()

    async def _find(self, user_id: str) -> None:
        key = None
        try:
            with contextlib.suppress(ConnectionProblem, RequestRefused):
                key = await self._people.sealing_key(user_id)
        finally:
            self._finding.pop(user_id, None)
        if key is None:
            self._ask_again(user_id)
        else:
            self._session.know(user_id, key)
            self._flush()

    def _ask_again(self, user_id: str) -> None:
        if self._told != self._session.held:
            self._told = self._session.held
            text = f"The server does not say which keys {user_id} has: it is asked again."
            self._delayed(Delayed(text, self._told))
        self._flush_within(_AGAIN)
