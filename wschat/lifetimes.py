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
        self._tickets: dict[Guest, int] = {}
        self._current: dict[int, tuple[Guest, float]] = {}
        self._order = itertools.count()
        # Tickets that were replaced, or whose guest is gone, stay here until there are many:
        # numbers alone, so that nobody who is gone is kept in memory for it.
        self._heap: list[tuple[float, int]] = []

    def __len__(self) -> int:
        return len(self._tickets)

    def stay(self, guest: Guest, ends: float, now: float) -> None:
        """Somebody may stay until `ends`; that replaces what was said before."""
        known = self._tickets.get(guest)
        if known is not None:
            if self._current[known][1] == ends:
                return
            del self._current[known]
        ticket = next(self._order)
        self._tickets[guest] = ticket
        self._current[ticket] = guest, ends
        notice = ends - NOTICE
        self._push(notice if notice > now else ends, ticket)

    def leave(self, guest: Guest) -> None:
        """Somebody is gone; a stranger is no error."""
        ticket = self._tickets.pop(guest, None)
        if ticket is not None:
            del self._current[ticket]

    def due(self, now: float) -> Due[Guest]:
        """Whose token has ended, who are forgotten by this, and whose token ends soon."""
        due: Due[Guest] = Due([], [])
        while self._heap and self._heap[0][0] <= now:
            _, ticket = heapq.heappop(self._heap)
            if ticket not in self._current:
                continue
            guest, ends = self._current[ticket]
            if ends <= now:
                self.leave(guest)
                due.ended.append(guest)
            else:
                due.ending.append((guest, ends))
                self._push(ends, ticket)
        return due

    def _push(self, when: float, ticket: int) -> None:
        heapq.heappush(self._heap, (when, ticket))
        if len(self._heap) > 2 * len(self._tickets) + _SURPLUS:
            self._heap = [entry for entry in self._heap if entry[1] in self._current]
            heapq.heapify(self._heap)
