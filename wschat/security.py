"""
The security log: who came in, who was refused, why, and from where.

Each event has the namespace `wschat.security` and says which `event` it is;
`wschat.logs` writes them to a file of their own.  Whatever a peer wrote is in
it only where it can be nothing but a user id.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from twisted.logger import Logger

from wschat import addresses, wire
from wschat.limits import KeyedLimiter

#: Refusals of one address that are written down: so many at once, and so many a second.
_REFUSALS: Final = 30
_REFUSALS_RATE: Final = 0.5

log = Logger(namespace="wschat.security")


class Security:
    """Writes down what happens; of one address not without end."""

    def __init__(self, wall: Callable[[], float]) -> None:
        self._wall = wall
        self._refusals = KeyedLimiter(_REFUSALS_RATE, _REFUSALS)

    def accepted(self, event: str, user_id: str, address: str) -> None:
        """Somebody did what they may."""
        log.info(
            "{event}: {user_id}, from {address}", event=event, user_id=user_id, address=address
        )

    def refused(self, event: str, reason: str, address: str, user_id: str = "") -> None:
        """Somebody did not come in; `reason` is what they were told, `user_id` who they say."""
        if not self._refusals.allow(addresses.one_host(address), self._wall()):
            return
        who = user_id if wire.valid_user_id(user_id) else ""
        log.warn(
            "{event} refused: {reason} {user_id}, from {address}",
            event=event,
            reason=reason,
            user_id=who,
            address=address,
        )
