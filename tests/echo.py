"""A WebSocket that sends back what it gets: our protocol, without a service behind it."""

from __future__ import annotations

import math
from collections.abc import Callable

from twisted.internet.interfaces import IAddress, IProtocolNegotiationFactory, IReactorTime
from zope.interface import implementer

from wschat import wire
from wschat.codes import CloseCode
from wschat.hub import Session
from wschat.limits import Occupancy
from wschat.meters import Meters
from wschat.outbox import Outbox
from wschat.websocket import ChatFactory, ChatProtocol, Entry

#: How a client opens one (RFC 6455 section 1.2).
REQUEST = (
    b"GET /ws HTTP/1.1\r\nHost: server.example.com\r\nUpgrade: websocket\r\n"
    b"Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    b"Sec-WebSocket-Version: 13\r\n\r\n"
)


def entry(user_id: str) -> Entry:
    """Somebody who was let in, for good."""
    return Entry(user_id, math.inf, None)


class Nobody:
    """A service that does nothing; `came` is what it got."""

    def __init__(self) -> None:
        self.came: list[bytes] = []

    def opened(
        self,
        user_id: str,
        outbox: Outbox,
        close: Callable[[CloseCode], None],
        dialect: wire.Dialect,
        probe: Callable[[Callable[[], None]], None],
        *,
        until: float,
    ) -> Session:
        return Session(user_id, outbox, close, dialect, probe)

    def received(self, session: Session, payload: bytes) -> bool:
        self.came.append(payload)
        return True

    def wait_for_room(self, go_on: Callable[[], None]) -> None:
        raise AssertionError("there is always room")

    def confirmed(self, session: Session, position: int) -> None:
        pass

    def closed(self, session: Session) -> None:
        pass


def make_factory(nobody: Nobody, clock: IReactorTime, max_message_size: int) -> ChatFactory:
    """A factory for connections to it."""
    return ChatFactory(
        nobody,
        clock,
        max_message_size,
        1 << 20,
        meters=Meters(),
        places=Occupancy(10_000, 10_000),
    )


class Echo(ChatProtocol):
    """Sends each message back as it was, binary ones too."""

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        if self.state == self.STATE_OPEN and self._outbox is not None:
            frame = wire.text_frame(payload)
            self._outbox.write(b"\x82" + frame[1:] if isBinary else frame, 0)


@implementer(IProtocolNegotiationFactory)
class EchoFactory(ChatFactory):
    """Makes them."""

    def __init__(self, reactor: IReactorTime, max_message_size: int) -> None:
        super().__init__(
            Nobody(),
            reactor,
            max_message_size,
            8 * max_message_size,
            meters=Meters(),
            places=Occupancy(10_000, 10_000),
        )
        self.made: list[ChatProtocol] = []

    def acceptableProtocols(self) -> list[bytes]:
        return [b"http/1.1"]

    def buildProtocol(self, addr: IAddress | None) -> ChatProtocol:
        protocol = self.connection(entry("alice"), Echo)
        self.made.append(protocol)
        return protocol
