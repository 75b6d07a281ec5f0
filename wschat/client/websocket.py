"""The client's end of a WebSocket: Autobahn's side of it, and nothing else."""

from __future__ import annotations

from typing import Any, Final, Protocol

from autobahn.twisted.websocket import WebSocketClientFactory, WebSocketClientProtocol
from twisted.logger import ILogObserver, Logger
from zope.interface import provider

from wschat import v1
from wschat.client.accounts import TIMEOUT

#: The longest message that a client takes, in bytes.
MAX_MESSAGE: Final = 1024 * 1024


class Owner(Protocol):
    """What a connection tells."""

    def opened(self, connection: Connection) -> None: ...
    def received(self, payload: bytes) -> None: ...
    def lost(self, code: int | None, reason: str, status: int | None) -> None: ...


@provider(ILogObserver)
def _discard(event: Any) -> None:
    """Autobahn logs requests, tokens included; nothing of that is for anybody."""


class Connection(WebSocketClientProtocol):
    """Autobahn's side: bytes to and from the session."""

    log = Logger(namespace="wschat.autobahn", observer=_discard)
    client: Owner

    @property
    def can_send(self) -> bool:
        """Whether something can be sent; not any more, when a close has begun."""
        return bool(self.state == self.STATE_OPEN)

    def onOpen(self) -> None:
        self.client.opened(self)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        self.client.received(payload)

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        line = getattr(self, "http_status_line", "").split()
        status = int(line[1]) if len(line) > 1 and line[1].isdecimal() else None
        self.client.lost(code, reason or "", status)


class ConnectionFactory(WebSocketClientFactory):
    log = Connection.log
    noisy = False

    def __init__(self, client: Owner, url: str, keepalive: tuple[float, float]) -> None:
        super().__init__(url, protocols=[v1.SUBPROTOCOL])
        self._client = client
        self.setProtocolOptions(
            maxMessagePayloadSize=MAX_MESSAGE,
            maxFramePayloadSize=MAX_MESSAGE,
            failByDrop=False,
            openHandshakeTimeout=TIMEOUT,
            autoPingInterval=keepalive[0],
            autoPingTimeout=keepalive[1],
        )

    def buildProtocol(self, addr: object) -> Connection:
        protocol = Connection()
        protocol.factory = self
        protocol.client = self._client
        return protocol
