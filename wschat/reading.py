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

#: How many pings that ask may be unanswered: some clients end a connection with sixty (Node's ws).
_UNANSWERED: Final = 16

_POSITION: Final = struct.Struct("!Q")


class Reading:
    """
    How far one peer has read of what it was sent; `write` is what its outbox writes with.

    `read` is the last message that the peer is known to have read.
    """

    __slots__ = ("_asked", "_stopped", "_transport", "_unanswered", "outbox", "read")

    outbox: Outbox

    def __init__(self, transport: ITransport) -> None:
        """The outbox, which is made with `write`, is to be told before it writes."""
        self._transport = transport
        self._asked = 0  # the position that the last ping asked about
        self._unanswered: tuple[int, ...] = ()  # … and those that no pong has answered yet
        self._stopped = False
        self.read = 0

    def write(self, data: bytes) -> None:
        """Write joined frames, and ask the peer to say when it has read them."""
        if self.outbox.position > self._asked and len(self._unanswered) < _UNANSWERED:
            data += self._ask()
        self._transport.write(data)

    def _ask(self) -> bytes:
        """A ping whose pong says that all before it was read."""
        position = self._asked = self.outbox.position
        self._unanswered += (position,)
        return b"\x89\x08" + _POSITION.pack(position)

    def ask_again(self) -> bool:
        """
        Ask about all that was written, whatever is unanswered; False when there is no need.

        A peer that cannot write may drop its pongs: those that were not answered never will be.
        """
        if self._stopped or self.outbox.position <= self.read:
            return False
        self._unanswered = ()
        self._transport.write(self._ask())
        return True

    def heard(self, pong: bytes) -> bool:
        """Take a pong's payload; whether more is known to have been read than before."""
        if len(pong) != _POSITION.size:
            return False
        position: int = _POSITION.unpack(pong)[0]
        if position not in self._unanswered:
            return False
        self.read = position
        self._unanswered = tuple(later for later in self._unanswered if later > position)
        if self.outbox.position > self._asked and not self._stopped:
            self._transport.write(self._ask())  # about all that went without
        return True

    def heard_all(self) -> bool:
        """The peer has read all that was sent; whether more is known by that than before."""
        self._unanswered = ()
        news = self.read < self.outbox.position
        self.read = self.outbox.position
        return news

    def stop(self) -> None:
        """Ask no more, after a close; pongs to what was asked still count."""
        self._stopped = True

    def forget(self) -> None:
        """The connection is gone: outbox and transport are let go of."""
        del self.outbox, self._transport
