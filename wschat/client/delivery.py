"""
Messages on their way from a connection to a listener, in their order.

A listener may take its time over each.  Only what it has done, and everything
before that, counts as handled, and so is acknowledged to the server; how much
may wait is bounded by whoever puts it in, who asks `many` and `too_many`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final

from twisted.internet.defer import CancelledError, Deferred, DeferredQueue
from twisted.logger import Logger
from twisted.python.failure import Failure

from wschat import wire
from wschat.client.listener import Heard

#: So much may wait: then no more is read of the connection, until half of it is done.
#: While an answer is waited for twice as much may wait.
MESSAGES: Final = 500
BYTES: Final = 4 * 1024 * 1024

log = Logger(namespace="wschat.client")


class _Entry:
    """One message that a listener has."""

    __slots__ = ("done", "given_up", "message")

    def __init__(self, message: wire.Message) -> None:
        self.message = message
        self.done = False
        self.given_up = False


class Deliveries:
    """What has come and is not handled yet."""

    def __init__(
        self,
        read: Callable[[wire.Message], Awaitable[Heard]],
        hand: Callable[[Heard], Deferred[None] | None],
        handled: Callable[[wire.Message], None],
        changed: Callable[[], None],
    ) -> None:
        """
        `read` finds out what a message is worth, and `hand` gives it to the
        listener: see `Listener.heard`.  `handled` is called in the order in
        which messages came, `changed` when fewer wait.
        """
        self._read = read
        self._hand = hand
        self._handled = handled
        self._changed = changed
        self._incoming: DeferredQueue[wire.Message] = DeferredQueue()
        self._handed: deque[_Entry] = deque()
        self._wants_quiet: list[Deferred[None]] = []
        self._bytes = 0
        self._gap = False  # something was given up: nothing behind it can be acknowledged
        self._many = False
        self.waiting = 0

    def put(self, message: wire.Message) -> None:
        """A message has come."""
        self.waiting += 1
        self._bytes += len(message.content)
        self._incoming.put(message)

    @property
    def many(self) -> bool:
        """Whether enough waits; true until half of it is done."""
        self._many = self._waits(0.5 if self._many else 1)
        return self._many

    @property
    def too_many(self) -> bool:
        """Whether no more may come, whatever is waited for."""
        return self._waits(2)

    def _waits(self, times: float) -> bool:
        return self.waiting >= times * MESSAGES or self._bytes >= times * BYTES

    async def run(self) -> None:
        """Hand over what comes, until this is cancelled."""
        while True:
            message = await self._incoming.get()
            heard = None if self._gap else await self._read(message)
            if heard is None or self._gap:
                self._settle(message)  # it comes again, to whoever is there then
            else:
                self._hand_over(heard)

    def _hand_over(self, heard: Heard) -> None:
        entry = _Entry(heard.message)
        self._handed.append(entry)
        try:
            result = self._hand(heard)
        except Exception:  # a listener's fault costs it this message, and no other
            log.failure("a message could not be handled")
            result = None
        if result is None:
            self._done(None, entry)
        else:
            result.addBoth(self._done, entry)

    def quiet(self) -> Deferred[None]:
        """Fires when everything that came until now is handled, or given up."""
        quiet: Deferred[None] = Deferred()
        self._wants_quiet.append(quiet)
        self._tell_quiet()
        return quiet

    def give_up(self) -> None:
        """Wait for nobody any more: what is not handled now never counts as handled."""
        self._gap = True
        while self._handed:
            self._settle(self._handed.popleft().message)

    def _done(self, result: object, entry: _Entry) -> None:
        entry.done = True
        if isinstance(result, Failure):
            entry.given_up = result.check(CancelledError) is not None
            if not entry.given_up:
                log.failure("a message could not be handled", result)
        while self._handed and self._handed[0].done:
            first = self._handed.popleft()
            self._gap = self._gap or first.given_up
            if not self._gap:
                self._handled(first.message)
            self._settle(first.message)

    def _settle(self, message: wire.Message) -> None:
        self.waiting -= 1
        self._bytes -= len(message.content)
        self._changed()
        self._tell_quiet()

    def _tell_quiet(self) -> None:
        if not self.waiting:
            wanted, self._wants_quiet = self._wants_quiet, []
            for quiet in wanted:
                quiet.callback(None)
