"""
Until when sessions may stay: as long as the token that let them in, or one given since.

Pure; times are in seconds since the epoch.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Hashable
from typing import Final, Generic, NamedTuple, TypeVar

#: How long before a token ends its session is told, in seconds.
NOTICE: Final = 300.0

#: Entries that may be there for nothing.
_SURPLUS: Final = 64

Guest = TypeVar("Guest", bound=Hashable)


class Due(NamedTuple, Generic[Guest]):
    """Whose token has ended, and whose ends soon, with the time when it does."""

    ended: list[Guest]
    ending: list[tuple[Guest, float]]


class Lifetimes(Generic[Guest]):
    """
    The ends of everybody's tokens, the soonest first.

    Each token is heard of once before its end, unless it is given so late
    that it is already near, and once at its end.
    """

    def __init__(self) -> None:
        self._ends: dict[Guest, float] = {}
        self._order = itertools.count()
        # Entries of tokens that were replaced, or whose session is gone, stay until there are many.
        self._heap: list[tuple[float, int, float, Guest]] = []

    def __len__(self) -> int:
        return len(self._ends)

    def stay(self, guest: Guest, ends: float, now: float) -> None:
        """Somebody may stay until `ends`; that replaces what was said before."""
        if self._ends.get(guest) == ends:
            return
        self._ends[guest] = ends
        notice = ends - NOTICE
        self._push(notice if notice > now else ends, ends, guest)

    def leave(self, guest: Guest) -> None:
        """Somebody is gone; a stranger is no error."""
        self._ends.pop(guest, None)

    def due(self, now: float) -> Due[Guest]:
        """Whose token has ended, who are forgotten by this, and whose token ends soon."""
        due: Due[Guest] = Due([], [])
        while self._heap and self._heap[0][0] <= now:
            _, _, ends, guest = heapq.heappop(self._heap)
            if not self._current(ends, guest):
                continue
            if ends <= now:
                del self._ends[guest]
                due.ended.append(guest)
            else:
                due.ending.append((guest, ends))
                self._push(ends, ends, guest)
        return due

    def _current(self, ends: float, guest: Guest) -> bool:
        return self._ends.get(guest) == ends

    def _push(self, when: float, ends: float, guest: Guest) -> None:
        heapq.heappush(self._heap, (when, next(self._order), ends, guest))
        if len(self._heap) > 2 * len(self._ends) + _SURPLUS:
            self._heap = [entry for entry in self._heap if self._current(*entry[2:])]
            heapq.heapify(self._heap)
