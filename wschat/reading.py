"""
What a classic peer has read: pings that ask, and pongs that say.

A pong is a classic client's only way to say so, and it does not even know:
that it answers a ping says that it has read all that came before it.
"""

from __future__ import annotations

import struct
from typing import Final

from twisted.internet.interfaces import ITransport

from wschat.outbox import Outbox

#: Pings that ask what was read: so many may be unanswered at once, and so many more a beat.
_ASKS: Final = 100
_ASKS_A_BEAT: Final = 10

_POSITION: Final = struct.Struct("!Q")


class Reading:
    """
    How far one peer has read of what it was sent; `write` is what its outbox writes with.

    `read` is the last message that the peer is known to have read.
    """

    __slots__ = ("_asked", "_asks", "_restless", "_stopped", "_transport", "outbox", "read")

    outbox: Outbox

    def __init__(self, transport: ITransport, restless: set[Reading]) -> None:
        """
        Those in `restless` are to `settle` at each beat.

        The outbox, which is made with `write`, is to be told before it writes.
        """
        self._transport = transport
        self._restless = restless
        self._asked = 0  # the position that the last ping asked about
        self._asks = _ASKS  # how many more may go out at once with messages
        self._stopped = False
        self.read = 0

    def write(self, data: bytes) -> None:
        """Write joined frames, and ask the peer to say when it has read them."""
        asked = self._asked
        if self.outbox.position > asked and (self._asks or self.read >= asked):
            self._asks = max(0, self._asks - 1)
            data += self._ask()
        self._transport.write(data)

    def _ask(self) -> bytes:
        """A ping whose pong says that all before it was read."""
        self._restless.add(self)
        self._asked = self.outbox.position
        return b"\x89\x08" + _POSITION.pack(self._asked)

    def settle(self) -> None:
        """At a beat: ask about what was sent without asking, and allow some more asking."""
        if not self._stopped and self.outbox.position > self._asked:
            self._transport.write(self._ask())
        self._asks += _ASKS_A_BEAT
        if self._asks >= _ASKS:
            self._asks = _ASKS
            self._restless.discard(self)

    def heard(self, pong: bytes) -> bool:
        """Take a pong's payload; whether more is known to have been read than before."""
        if len(pong) != _POSITION.size:
            return False
        position: int = _POSITION.unpack(pong)[0]
        news = self.read < position <= self._asked
        if news:
            self.read = position
        if position == self._asked < self.outbox.position and not (self._asks or self._stopped):
            self._transport.write(self._ask())
        return news

    def heard_all(self) -> bool:
        """The peer has read all that was sent; whether more is known by that than before."""
        news = self.read < self.outbox.position
        if news:
            self.read = self.outbox.position
        return news

    def stop(self) -> None:
        """Ask no more, after a close; pongs to what was asked still count."""
        self._stopped = True
        self._restless.discard(self)

    def forget(self) -> None:
        """The connection is gone: outbox and transport are let go of."""
        del self.outbox, self._transport
