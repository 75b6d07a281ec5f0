"""What was stored, and who has heard it: bounded by what is on its way.  Pure."""

from __future__ import annotations

from collections import defaultdict

BROADCAST = "broadcast"


class Ledger:
    """
    Of direct messages, those of which one half is known; of broadcasts, a count and a sum a user.

    Everybody hears in the order of ids, each once, so that equal counts and
    sums mean that the same broadcasts were heard.
    """

    def __init__(self) -> None:
        self.stored = 0
        self.heard = 0
        #: Messages that came a second time, or behind a later one.
        self.repeated = 0
        #: Messages that reached somebody whom they were not for.
        self.foreign = 0
        self._unheard: dict[str, str] = {}  # recipients, by client id
        self._early: dict[str, str] = {}  # heard before the receipt
        self._broadcasts: dict[str, tuple[str, int]] = {}  # sender and id, by client id
        self._heard: dict[str, tuple[int, int]] = defaultdict(lambda: (0, 0))

    def was_stored(self, client_id: str, sender: str, to: str, message_id: int) -> None:
        """A message of `sender` has a receipt; told once of each."""
        self.stored += 1
        if to == BROADCAST:
            self._broadcasts[client_id] = sender, message_id
            return
        early = self._early.pop(client_id, None)
        if early is None:
            self._unheard[client_id] = to
        else:
            self.foreign += early != to

    def was_heard(self, reader: str, client_id: str, message_id: int, *, broadcast: bool) -> None:
        """A message that is new to `reader` has come."""
        self.heard += 1
        if broadcast:
            count, total = self._heard[reader]
            self._heard[reader] = count + 1, total + message_id
            return
        to = self._unheard.pop(client_id, None)
        if to is None:
            self._early[client_id] = reader
        else:
            self.foreign += to != reader

    def lost(self, readers: list[str]) -> int:
        """How many deliveries are missing; of broadcasts, how many readers have not all of them."""
        count, total = len(self._broadcasts), sum(i for _, i in self._broadcasts.values())
        own: dict[str, tuple[int, int]] = defaultdict(lambda: (0, 0))
        for sender, message_id in self._broadcasts.values():
            number, ids = own[sender]
            own[sender] = number + 1, ids + message_id
        lacking = sum(
            self._heard[reader] != (count - own[reader][0], total - own[reader][1])
            for reader in readers
        )
        return len(self._unheard) + lacking
