"""The client's end of a WebSocket: Autobahn's side of it, and nothing else."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final, Protocol

from autobahn.twisted.websocket import WebSocketClientFactory, WebSocketClientProtocol
from twisted.logger import ILogObserver, Logger
from zope.interface import provider

from wschat import v1
from wschat.client.accounts import TIMEOUT

#: The longest message that a client takes, in bytes.
MAX_MESSAGE: Final = 1024 * 1024

#: How long a server may take to answer a goodbye, in seconds.  Autobahn rounds the end of it down
#: to a whole second: its own one second may be none, and then what went before may not arrive.
_GOODBYE: Final = 3.0


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
    transport: Any

    def __init__(self) -> None:
        super().__init__()
        #: Of the last ping that was answered, in seconds.
        self.round_trip: float | None = None
        self._pinged: tuple[bytes | None, float] | None = None
        self._held = False

    @property
    def can_send(self) -> bool:
        """Whether something can be sent; not any more, when a close has begun."""
        return bool(self.state == self.STATE_OPEN)

    @property
    def has_parted(self) -> bool:
        """Whether the server has answered our goodbye: then it has had all that came before."""
        return bool(self.wasClean) and self.remoteCloseCode == self.CLOSE_STATUS_CODE_NORMAL

    @property
    def bytes_sent(self) -> int:
        """How many bytes went out since it was opened."""
        return int(self.trafficStats.outgoingOctetsWireLevel)

    @property
    def bytes_received(self) -> int:
        return int(self.trafficStats.incomingOctetsWireLevel)

    def hold(self) -> None:
        """Read nothing for now: what comes stays where it is, and the server notices in the end."""
        if not self._held:
            self._held = True
            self._pinged = None  # its answer would tell how long this lasts
            self.transport.pauseProducing()

    def go_on(self) -> None:
        """Read again."""
        if self._held:
            self._held = False
            self.transport.resumeProducing()

    def abort(self) -> None:
        """End the connection now, without a goodbye."""
        self.transport.abortConnection()

    def sendPing(self, payload: bytes | None = None) -> None:
        self._pinged = None if self._held else (payload, self.factory.seconds())
        super().sendPing(payload)

    def onPong(self, payload: bytes) -> None:
        if self._pinged is not None and payload == self._pinged[0]:
            self.round_trip = self.factory.seconds() - self._pinged[1]
            self._pinged = None

    def onAutoPingTimeout(self) -> None:
        """A server that is not read cannot be heard to answer; it is still to hear from us."""
        if self._held:
            self._sendAutoPing()
        else:
            super().onAutoPingTimeout()

    def processHandshake(self) -> None:
        """What is no HTTP at all is no answer either: Autobahn reads it as if it were."""
        try:
            super().processHandshake()
        except ValueError:  # no UTF-8, or a number beyond all
            if self.state != self.STATE_CONNECTING:
                raise
            self.failHandshake("This is no HTTP.")

    def onOpen(self) -> None:
        self.client.opened(self)
        self.sendPing(b"wschat")

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        self.client.received(payload)

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        line = getattr(self, "http_status_line", "").split()
        code_given = len(line) > 1 and len(line[1]) == 3 and line[1].isdecimal()
        status = int(line[1]) if code_given else None
        self.client.lost(code, reason or "", status)


class ConnectionFactory(WebSocketClientFactory):
    log = Connection.log
    noisy = False

    def __init__(
        self,
        client: Owner,
        url: str,
        keepalive: tuple[float, float],
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(url, protocols=[v1.SUBPROTOCOL])
        self.seconds = seconds
        self._client = client
        self.setProtocolOptions(
            maxMessagePayloadSize=MAX_MESSAGE,
            maxFramePayloadSize=MAX_MESSAGE,
            failByDrop=False,
            openHandshakeTimeout=TIMEOUT,
            closeHandshakeTimeout=_GOODBYE,
            autoPingInterval=keepalive[0],
            autoPingTimeout=keepalive[1],
        )

    def buildProtocol(self, addr: object) -> Connection:
        protocol = Connection()
        protocol.factory = self
        protocol.client = self._client
        return protocol
