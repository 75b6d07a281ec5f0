"""
Which direct messages their recipients have yet to acknowledge, and who is to be told.

Pure.  It remembers what is on its way to users who are connected; what waits
for the others is in the store, and comes here when it is sent to them.
"""

from __future__ import annotations

import bisect
import operator
from typing import Final, NamedTuple

from wschat import wire

#: Messages on their way to one user whose senders are told of their arrival.
REMEMBERED: Final = 10_000


class Awaited(NamedTuple):
    """A message whose sender waits to hear that it was acknowledged."""

    id: int
    sender: str
    client_id: str


_id = operator.attrgetter("id")


class Receipts:
    """The messages on their way, by recipient, in order of their ids."""

    def __init__(self) -> None:
        self._awaited: dict[str, list[Awaited]] = {}

    def __len__(self) -> int:
        """How many recipients somebody waits for."""
        return len(self._awaited)

    def sent(self, message: wire.Message) -> None:
        """A message was handed to its recipient; one that was handed over before is no news."""
        if message.client_id is None or message.topic in wire.SHARED:
            return
        awaited = self._awaited.setdefault(message.topic, [])
        index = len(awaited)
        if awaited and message.id <= awaited[-1].id:  # read from the store, while others came
            index = bisect.bisect_left(awaited, message.id, key=_id)
            if awaited[index].id == message.id:
                return
        awaited.insert(index, Awaited(message.id, message.sender, message.client_id))
        if len(awaited) > REMEMBERED:
            del awaited[0]

    def waits_for(self, user_id: str, position: int) -> bool:
        """Whether somebody waits for a user to get as far as `position`."""
        awaited = self._awaited.get(user_id, [])
        return bool(awaited) and awaited[0].id <= position

    def arrived(self, user_id: str, position: int) -> list[Awaited]:
        """A user has acknowledged all up to `position`: take out what that is, in order."""
        awaited = self._awaited.pop(user_id, [])
        index = bisect.bisect_right(awaited, position, key=_id)
        if index < len(awaited):
            self._awaited[user_id] = awaited[index:]
        return awaited[:index]

    def left(self, user_id: str, position: int) -> None:
        """
        A user is gone: what was on its way to them is in the store.

        All up to `position` was acknowledged, which is yet to be saved.
        """
        acknowledged = self.arrived(user_id, position)
        self._awaited.pop(user_id, None)
        if acknowledged:
            self._awaited[user_id] = acknowledged
