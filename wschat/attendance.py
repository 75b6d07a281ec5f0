"""Who comes and who goes: told to those who watch, soon, and saved."""

from __future__ import annotations

from typing import Final

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from wschat import v1
from wschat.hub import Session
from wschat.presence import Presence
from wschat.store import DiskFull
from wschat.users import Users

#: How long it is collected before it is told, in seconds.
_DELAY: Final = 0.25

log = Logger(namespace="wschat.attendance")


class Attendance:
    """Keeps account of the users who are there."""

    def __init__(self, users: Users, presence: Presence[Session], clock: IReactorTime) -> None:
        """`presence` decides what is news, and to whom."""
        self._users = users
        self._presence = presence
        self._clock = clock
        self._seen: dict[str, float] = {}  # users who went, that are not saved yet
        self._telling: IDelayedCall | None = None

    def came(self, user_id: str) -> None:
        """A user's first session is there."""
        if self._presence.came(user_id):
            self._tell_soon()

    def went(self, user_id: str, now: float) -> None:
        """A user's last session is gone."""
        self._seen[user_id] = now
        if self._presence.went(user_id, now):
            self._tell_soon()

    def stop(self) -> None:
        """Tell no more; what is not saved yet can still be."""
        if self._telling is not None and self._telling.active():
            self._telling.cancel()

    async def save(self) -> None:
        """Save when users were last there; what cannot be saved now is, another time."""
        seen, self._seen = self._seen, {}
        if seen:
            try:
                await self._users.seen(seen)
            except DiskFull:
                self._seen = seen | self._seen
            except Exception:
                self._seen = seen | self._seen
                log.failure("could not save when users were last there")

    def _tell_soon(self) -> None:
        self._telling = self._clock.callLater(_DELAY, self._tell)

    def _tell(self) -> None:
        for change, sessions in self._presence.changes():
            frame = v1.frame(v1.PresenceChanged(change.joined, v1.times(change.left)))
            for session in sessions:
                session.send(frame)
