"""Many time-outs of the same length, for the price of a queue.  Pure; times are seconds."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Final, Generic, TypeVar

#: How long a connection may take until its next request is complete, in seconds.
REQUEST_TIMEOUT: Final = 10

Item = TypeVar("Item", bound=Hashable)


class Timeouts(Generic[Item]):
    """Since all wait equally long, the one that was added first is due first."""

    def __init__(self, delay: float) -> None:
        self._delay = delay
        self._due: dict[Item, float] = {}

    def __len__(self) -> int:
        return len(self._due)

    def add(self, item: Item, now: float) -> None:
        """Wait for `item` from now on; one that waits already starts anew."""
        self._due.pop(item, None)
        self._due[item] = now + self._delay

    def discard(self, item: Item) -> None:
        """Wait no longer for `item`; one that is not waited for is no error."""
        self._due.pop(item, None)

    def expired(self, now: float) -> Iterator[Item]:
        """Take out, one by one, the items whose time is up; they may be added again meanwhile."""
        while self._due:
            item, due = next(iter(self._due.items()))
            if due > now:
                return
            del self._due[item]
            yield item
