"""
What waits to be written to one connection.

Frames of a reactor turn are joined into one write.  When the transport has
enough, they wait here; when too many bytes wait, their reader is too slow.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from twisted.logger import Logger
from zope.interface import implementer

#: The most that is joined into one write, in bytes, unless one frame is longer.
_WRITE_BYTES: Final = 65536


log = Logger(namespace="wschat.outbox")


def _drop(data: bytes) -> None:
    """Nothing more is to be sent; a session may outlive its connection."""


class Closed(Exception):
    """The connection ended before its outbox was empty."""


class Turn:
    """Flushes the outboxes that were written to, once, when the reactor turn is over."""

    def __init__(self, soon: Callable[[Callable[[], None]], object]) -> None:
        """`soon` calls something when the turn is over."""
        self._soon = soon
        self._outboxes: list[Outbox] = []

    def add(self, outbox: Outbox) -> None:
        """Flush `outbox` at the end of this turn."""
        if not self._outboxes:
            self._soon(self._flush)
        self._outboxes.append(outbox)

    def _flush(self) -> None:
        outboxes, self._outboxes = self._outboxes, []
        for outbox in outboxes:
            try:
                outbox.flush()
            except Exception:  # one connection's fault costs the others nothing
                log.failure("an outbox could not be flushed")


@implementer(IPushProducer)
class Outbox:
    """
    The frames on their way to one peer.

    `position` is the highest message id among the frames that the transport
    has taken.  `limit` is in bytes; a single frame is taken whatever its
    length.
    """

    __slots__ = (
        "_closed",
        "_drained",
        "_frames",
        "_limit",
        "_overflow",
        "_paused",
        "_scheduled",
        "_size",
        "_turn",
        "_write",
        "position",
    )

    def __init__(
        self,
        turn: Turn,
        limit: int,
        write: Callable[[bytes], None],
        overflow: Callable[[], None],
    ) -> None:
        """`write` is the transport's; `overflow` is called, once, instead of growing further."""
        self._turn = turn
        self._limit = limit
        self._write = write
        self._overflow = overflow
        self._frames: list[tuple[bytes, int]] = []  # no deque: an empty one has 600 bytes
        self._size = 0
        self._paused = False
        self._scheduled = False
        self._closed = False
        self._drained: list[Deferred[None]] = []
        self.position = 0

    @property
    def size(self) -> int:
        """What waits here, in bytes."""
        return self._size

    def write(self, frame: bytes, message_id: int) -> None:
        """Send a frame; `message_id` is 0 when it holds no message of the stream."""
        if self._closed:
            return
        if self._frames and self._size + len(frame) > self._limit:
            self.flush()  # a turn may hold more than an outbox: the reader may be quick enough
            if self._frames and self._size + len(frame) > self._limit:
                self.close()
                self._overflow()
                return
        self._frames.append((frame, message_id))
        self._size += len(frame)
        if not self._scheduled and not self._paused:
            self._scheduled = True
            self._turn.add(self)

    def write_through(self, frame: bytes, message_id: int) -> None:
        """
        Send a frame of the stream at once, unless something waits before it: then as `write`.

        `message_id` is after those of all frames before it.
        """
        if self._size or self._paused or self._closed:
            self.write(frame, message_id)
            return
        self.position = message_id
        self._write(frame)

    def flush(self) -> None:
        """Give the transport what waits, as far as it takes it."""
        self._scheduled = False
        while self._frames and not self._paused:
            self._write(b"".join(self._next_frames()))
        if self._drained and not self._frames:
            drained, self._drained = self._drained, []
            for deferred in drained:
                deferred.callback(None)

    def _next_frames(self) -> list[bytes]:
        joined: list[bytes] = []
        room = _WRITE_BYTES
        for frame, message_id in self._frames:
            if joined and len(frame) > room:
                break
            joined.append(frame)
            room -= len(frame)
            self._size -= len(frame)
            self.position = max(self.position, message_id)
        del self._frames[: len(joined)]
        return joined

    def has_room(self, size: int) -> bool:
        """Whether a frame of `size` bytes leaves half of the limit to others; never when closed."""
        if self._closed:
            return False
        return not self._frames or self._size + size <= self._limit // 2

    def drained(self) -> Deferred[None]:
        """Fires when nothing waits here; fails with `Closed` when that will not come."""
        deferred: Deferred[None] = Deferred()
        if self._closed:
            deferred.errback(Closed())
        elif not self._frames:
            deferred.callback(None)
        else:
            self._drained.append(deferred)
        return deferred

    def close(self) -> None:
        """Forget what waits, which stays in the store, and the transport."""
        self._closed = True
        self._write = _drop
        self._frames.clear()
        self._size = 0
        drained, self._drained = self._drained, []
        for deferred in drained:
            deferred.errback(Closed())

    def pauseProducing(self) -> None:
        """The transport has enough for now."""
        self._paused = True

    def resumeProducing(self) -> None:
        """The transport can take more."""
        self._paused = False
        self.flush()

    def stopProducing(self) -> None:
        """The connection is gone."""
        self.close()
