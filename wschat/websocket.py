"""
The WebSocket side: an Autobahn protocol, its factory, and the resource at `/ws`.

No business rule is here: what arrives goes to the service, and what the
service writes goes out.  HTTP, time-outs and refusals before the upgrade are
twisted.web's and the resource's, so that Autobahn sees only good requests.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final, Protocol

from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import ILogObserver, Logger
from twisted.protocols.policies import ProtocolWrapper
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request
from zope.interface import provider

import wschat
from wschat import wire
from wschat.hub import Session
from wschat.outbox import Outbox, Turn
from wschat.timeouts import Timeouts

#: A ping this often, and a peer that is silent for so long is dropped; seconds (docs/protocol.md).
PING_INTERVAL: Final = 54.0
SILENCE_LIMIT: Final = 60.0

#: How long a peer may take to answer a close, in seconds.
CLOSE_TIMEOUT: Final = 5.0

_BEAT: Final = 1.0
_POSITION: Final = struct.Struct("!Q")


class Messages(Protocol):
    """What a connection needs of the service."""

    def opened(
        self, user_id: str, outbox: Outbox, close: Callable[[wire.CloseCode], None]
    ) -> Session: ...
    def received(self, session: Session, payload: bytes) -> None: ...
    def confirmed(self, session: Session, position: int) -> None: ...
    def closed(self, session: Session) -> None: ...


@provider(ILogObserver)
def _discard(event: Any) -> None:
    """Autobahn logs requests, tokens included; nothing of that is for anybody."""


class ChatProtocol(WebSocketServerProtocol):
    """One WebSocket of one authenticated user."""

    transport: Any
    log = Logger(namespace="wschat.autobahn", observer=_discard)

    def __init__(self, factory: ChatFactory, user_id: str) -> None:
        super().__init__()
        self.factory = factory
        self.user_id = user_id
        #: When anything last came from the peer, by the factory's coarse clock.
        self.heard = 0.0
        self.session: Session | None = None
        self._outbox: Outbox | None = None
        self._asked = 0  # the position that the outstanding ping asks about; 0: none is
        self._confirmed = 0  # the position that the peer is known to have read
        self._calm = True  # whether a ping may go out at once with the next messages
        self._ended = False

    def onConnect(self, request: Any) -> None:
        """No subprotocol yet: every client is a classic one."""

    def onOpen(self) -> None:
        outbox = Outbox(self.factory.turn, self.factory.outbox_bytes, self._write, self._too_slow)
        self._outbox = outbox
        self.registerProducer(outbox, True)
        self.factory.connected(self)
        self.session = self.factory.messages.opened(self.user_id, outbox, self.close)

    def dataReceived(self, data: bytes) -> None:
        self.heard = self.factory.now
        self._dataReceived(data)  # Autobahn's own would format a log line for every read

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        if self.session is None or self.state != self.STATE_OPEN:
            return
        if isBinary:
            code = wire.CloseCode.UNSUPPORTED_DATA
            self._fail_connection(code, code.reason)
        else:
            self.factory.messages.received(self.session, payload)

    def _write(self, data: bytes) -> None:
        """Write joined frames, and with them ask the peer to say when it has read them."""
        if self._calm and self._unconfirmed:
            data += self._ask()
        self.transport.write(data)

    @property
    def _unconfirmed(self) -> bool:
        return self._position > self._confirmed

    @property
    def _position(self) -> int:
        """The last message that the transport has."""
        return 0 if self._outbox is None else self._outbox.position

    def _ask(self) -> bytes:
        """
        A ping whose pong says that all before it was read.

        A pong is a classic client's only way to say so, and it does not even know.
        """
        self._calm = False
        self.factory.restless.add(self)
        self._asked = self._position
        return b"\x89\x08" + _POSITION.pack(self._asked)

    def settle(self) -> None:
        """At a beat: ask about what was sent since the last time, if that was answered."""
        if self._asked or self.state != self.STATE_OPEN:
            return
        if self._unconfirmed:
            self.transport.write(self._ask())
        else:
            self._calm = True
            self.factory.restless.discard(self)

    def onPong(self, payload: bytes) -> None:
        if self._asked and payload == _POSITION.pack(self._asked):
            self._confirm(self._asked)
            self._asked = 0

    def _confirm(self, position: int) -> None:
        if position > self._confirmed and self.session is not None:
            self._confirmed = position
            self.factory.messages.confirmed(self.session, position)

    def _too_slow(self) -> None:
        self.close(wire.CloseCode.SLOW)

    def close(self, code: wire.CloseCode) -> None:
        """Close the connection, after what the transport will take of the outbox."""
        if self.state == self.STATE_OPEN:
            if self._outbox is not None:
                self._outbox.flush()
            self.sendClose(code, code.reason)

    def sendCloseFrame(
        self,
        code: int | None = None,
        reasonUtf8: bytes | None = None,
        isReply: bool = False,
    ) -> None:
        """Every close that is ours comes through here: Autobahn's own for bad frames, too."""
        super().sendCloseFrame(code, reasonUtf8, isReply)
        if not isReply:
            self._end()
            self.factory.closing.add(self, self.factory.now)

    def onCloseFrame(self, code: int, reasonRaw: bytes) -> Any:
        """The peer has read all that was sent before our close, or says a proper goodbye."""
        answered = self.state == self.STATE_CLOSING
        goodbye = self.state == self.STATE_OPEN
        outbox = self._outbox
        if outbox is not None and (answered or (goodbye and not outbox.paused)):
            self._confirm(self._position)
        return super().onCloseFrame(code, reasonRaw)

    def _end(self) -> None:
        """Nothing more goes to the peer, and nothing that it says counts."""
        if self._outbox is not None:
            self._outbox.close()
        if self.session is not None and not self._ended:
            self._ended = True
            self.factory.messages.closed(self.session)

    def onClose(self, wasClean: bool, code: Any, reason: Any) -> None:
        self._end()
        self.factory.disconnected(self)


class ChatFactory(WebSocketServerFactory):
    """What all connections share: limits, the end of the turn, and one timer for everybody."""

    log = ChatProtocol.log
    noisy = False

    def __init__(
        self,
        messages: Messages,
        reactor: IReactorTime,
        max_message_size: int,
        outbox_bytes: int,
    ) -> None:
        super().__init__(server=f"wschat/{wschat.__version__}")
        self.setProtocolOptions(
            maxMessagePayloadSize=max_message_size,
            maxFramePayloadSize=max_message_size,
            failByDrop=False,
            openHandshakeTimeout=0,
            closeHandshakeTimeout=0,
            autoPingInterval=0,
            perMessageCompressionAccept=lambda _: None,
            allowedOrigins=["*"],  # the resource has decided already
        )
        self.messages = messages
        self.turn = Turn(reactor)
        self.outbox_bytes = outbox_bytes
        self.connections: set[ChatProtocol] = set()
        self.restless: set[ChatProtocol] = set()
        self.closing: Timeouts[ChatProtocol] = Timeouts(CLOSE_TIMEOUT)
        self._to_ping: Timeouts[ChatProtocol] = Timeouts(PING_INTERVAL)
        self._to_check: Timeouts[ChatProtocol] = Timeouts(SILENCE_LIMIT - PING_INTERVAL)
        self._reactor = reactor
        self._idle: list[Deferred[None]] = []
        self.now = reactor.seconds()
        self._beat = LoopingCall(self.beat)
        self._beat.clock = reactor

    def start(self) -> None:
        """Begin to look after the connections, once a second."""
        self._beat.start(_BEAT, now=False)

    def stop(self) -> None:
        self._beat.stop()

    def connected(self, protocol: ChatProtocol) -> None:
        protocol.heard = self.now
        self.connections.add(protocol)
        self._to_ping.add(protocol, self.now)

    def disconnected(self, protocol: ChatProtocol) -> None:
        self.connections.discard(protocol)
        self.restless.discard(protocol)
        for timeouts in (self.closing, self._to_ping, self._to_check):
            timeouts.discard(protocol)
        if not self.connections:
            idle, self._idle = self._idle, []
            for deferred in idle:
                deferred.callback(None)

    def beat(self) -> None:
        """Ping the quiet, drop the silent, and end closes that nobody answers."""
        self.now = now = self._reactor.seconds()
        for protocol in list(self.restless):
            protocol.settle()
        for protocol in self.closing.expired(now):
            protocol.dropConnection(abort=True)
        for protocol in self._to_check.expired(now):
            silence = now - protocol.heard
            if silence >= SILENCE_LIMIT:
                protocol.close(wire.CloseCode.NO_PONG)
            elif silence > SILENCE_LIMIT - PING_INTERVAL:
                self._to_check.add(protocol, now)
        for protocol in self._to_ping.expired(now):
            protocol.sendPing()
            self._to_ping.add(protocol, now)
            self._to_check.add(protocol, now)

    def close_all(self, code: wire.CloseCode) -> Deferred[None]:
        """Close every connection; fires when all are gone, which takes `CLOSE_TIMEOUT` at most."""
        idle: Deferred[None] = Deferred()
        self._idle.append(idle)
        for protocol in list(self.connections):
            protocol.close(code)
        if not self.connections:
            self._idle.remove(idle)
            idle.callback(None)
        return idle


class Gate(Resource):
    """`/ws`: refuses what may not come in, and hands the rest to Autobahn."""

    isLeaf = True

    def __init__(
        self, factory: ChatFactory, admit: Callable[[Request], tuple[HTTPStatus, str] | str]
    ) -> None:
        """`admit` gives the user's id, or the status and the line of a refusal."""
        super().__init__()
        self._factory = factory
        self._admit = admit

    def render_GET(self, request: Request) -> bytes | int:
        admitted = self._admit(request)
        if not isinstance(admitted, str):
            status, text = admitted
            return _refuse(request, status, text)
        if (request.getHeader("upgrade") or "").lower() != "websocket":
            request.setHeader("upgrade", "websocket")
            return _refuse(request, HTTPStatus.UPGRADE_REQUIRED, "This is a WebSocket.")
        _take_over(request, ChatProtocol(self._factory, admitted))
        return NOT_DONE_YET


def _refuse(request: Request, status: HTTPStatus, text: str) -> bytes:
    request.setResponseCode(status, status.phrase.encode())
    request.setHeader("content-type", "text/plain; charset=utf-8")
    return text.encode() + b"\n"


def _take_over(request: Request, protocol: ChatProtocol) -> None:
    """Give the request's connection to `protocol`, which reads the request once more."""
    channel: Any = request.channel
    transport, channel.transport = channel.transport, None
    transport.unregisterProducer()  # the HTTP channel
    if isinstance(transport, ProtocolWrapper):  # TLS
        transport.wrappedProtocol = protocol
    else:
        transport.protocol = protocol
    protocol.makeConnection(transport)
    transport.resumeProducing()
    lines = [b"GET %b HTTP/1.1" % request.uri]
    for name, values in request.requestHeaders.getAllRawHeaders():
        lines.extend(b"%b: %b" % (name, value) for value in values)
    protocol.dataReceived(b"\r\n".join(lines) + b"\r\n\r\n")
