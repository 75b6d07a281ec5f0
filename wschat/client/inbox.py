"""Messages for `async for`: each waits until the loop has come to it, and is done with it."""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

from twisted.internet.defer import CancelledError, Deferred

from wschat.client.handlers import Message


class _Entry(NamedTuple):
    message: Message
    done: Deferred[None]
    shared: bool  # others have it as well


class Inbox:
    """The messages that nobody has looked at; all loops take from it."""

    def __init__(self, reactor: Any, left: Callable[[], None] = lambda: None) -> None:
        """`left` is called when there is no loop any more."""
        self._reactor = reactor
        self._left = left
        self._entries: deque[_Entry] = deque()
        self._in_hand: set[Deferred[None]] = set()
        self._wakes: list[Deferred[None]] = []
        self._closed = False
        self._error: Exception | None = None
        #: How many loops there are.
        self.readers = 0

    def __len__(self) -> int:
        return len(self._entries)

    def put(self, message: Message, *, shared: bool = False) -> Deferred[None]:
        """
        A message came; the Deferred fires when a loop is done with it.

        One that is `shared` with others waits for no loop that is yet to come.
        """
        done: Deferred[None] = Deferred()
        if self._closed:
            done.errback(CancelledError())
            return done
        self._entries.append(_Entry(message, done, shared))
        self._wake()
        return done

    def drain(self) -> list[tuple[Message, Deferred[None]]]:
        """Take everything, for somebody else."""
        entries = [(message, done) for message, done, _ in self._entries]
        self._entries.clear()
        return entries

    def reader(self) -> Messages:
        """Another loop; it counts until nothing refers to it any more."""
        hand: list[Deferred[None]] = []
        messages = Messages(self, hand)
        self.readers += 1
        # It may be any thread that finds out.
        gone = weakref.finalize(messages, self._reactor.callFromThread, self._gone, hand)
        gone.atexit = False
        return messages

    def close(self, error: Exception | None = None) -> None:
        """
        Loops end, or fail with an error.

        What a loop has in hand is done; what waits behind it is given up.
        """
        self._closed = True
        self._error = error
        for done in list(self._in_hand):
            self.release([done])
        for _, done in self.drain():
            done.errback(CancelledError())
        self._wake()

    async def take(self, hand: list[Deferred[None]]) -> Message:
        """The next message; raises `StopAsyncIteration` when there will be none."""
        while not self._entries:
            if self._closed:
                raise self._error or StopAsyncIteration
            wake: Deferred[None] = Deferred()
            self._wakes.append(wake)
            await wake
        message, done, _ = self._entries.popleft()
        hand.append(done)
        self._in_hand.add(done)
        return message

    def release(self, hand: list[Deferred[None]]) -> None:
        """A loop is done with what it had in hand."""
        while hand:
            done = hand.pop()
            self._in_hand.discard(done)
            if not done.called:
                done.callback(None)

    def _gone(self, hand: list[Deferred[None]]) -> None:
        self.readers -= 1
        self.release(hand)
        if not self.readers:
            shared = [entry for entry in self._entries if entry.shared]
            self._entries = deque(entry for entry in self._entries if not entry.shared)
            for entry in shared:
                entry.done.callback(None)
            self._left()

    def _wake(self) -> None:
        wakes, self._wakes = self._wakes, []
        for wake in wakes:
            wake.callback(None)


class Messages:
    """
    The messages that come, for `async for`; see `Chat.messages`.

    A message is done, and acknowledged, when the loop asks for the next one
    or is left.
    """

    def __init__(self, inbox: Inbox, hand: list[Deferred[None]]) -> None:
        self._inbox = inbox
        self._hand = hand

    def __aiter__(self) -> Messages:
        return self

    async def __anext__(self) -> Message:
        self._inbox.release(self._hand)
        return await self._inbox.take(self._hand)
