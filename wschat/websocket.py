"""
One connection of a user: an Autobahn protocol, and its factory.

No business rule is here: what arrives goes to the service, and what the
service writes goes out.  HTTP, time-outs and refusals before the upgrade are
twisted.web's and the gate's, so that Autobahn sees only good requests.
"""

from __future__ import annotations

import functools
import math
import secrets
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, Protocol

from autobahn.twisted.websocket import WebSocketServerFactory
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

import wschat
from wschat import v1, wire
from wschat.codes import CloseCode
from wschat.connections import Connections
from wschat.frames import take_pong, take_text
from wschat.hub import Session
from wschat.lean import SILENCE, LeanProtocol, initial_state
from wschat.limits import Occupancy
from wschat.meters import Meters
from wschat.opening import Opening, answer
from wschat.outbox import Outbox, Turn
from wschat.reading import Reading

#: Frames that are read of one connection before the others have their turn.
_FRAMES_A_TURN: Final = 50

#: Of what is said about a bad handshake, in characters.
_LONGEST_REASON: Final = 200

_OUR_CODES: Final = frozenset(code.value for code in CloseCode)

#: What a ping has in it whose answer is waited for, in bytes.
_NONCE: Final = 8

log = Logger(namespace="wschat.websocket")


class Messages(Protocol):
    """What a connection needs of the service."""

    def opened(
        self,
        user_id: str,
        outbox: Outbox,
        close: Callable[[CloseCode], None],
        dialect: wire.Dialect,
        probe: Callable[[Callable[[], None]], None],
        *,
        until: float,
    ) -> Session: ...
    def received(self, session: Session, payload: bytes) -> bool: ...
    def wait_for_room(self, go_on: Callable[[], None]) -> None: ...
    def confirmed(self, session: Session, position: int) -> None: ...
    def closed(self, session: Session) -> None: ...


class Entry(NamedTuple):
    """
    Who was let in: a user, until when, and the address that they count for.

    `until` is in seconds since the epoch; the address is None when it is not
    counted.
    """

    user_id: str
    until: float
    address: str | None


class ChatProtocol(LeanProtocol):
    """One WebSocket of one authenticated user."""

    transport: Any

    def __init__(self, factory: ChatFactory, entry: Entry) -> None:
        super().__init__()
        self.factory = factory
        self.connections = factory.connections
        self.entry = entry
        self.user_id = entry.user_id
        #: When anything last came from the peer, by the coarse clock of all; infinite while nothing
        #: is read.
        self.heard = 0.0
        self.session: Session | None = None
        self._dialect: wire.Dialect = wire.CLASSIC
        self._outbox: Outbox | None = None
        self._reading: Reading | None = None  # a classic peer's
        self._probed: tuple[bytes, Callable[[], None]] | None = None
        self._has_room = True  # for what we read, where it goes
        self._resting = False
        self._ended = False

    def opened(self, opening: Opening) -> None:
        """Be open, for a handshake that Autobahn does not need to see."""
        subprotocol = self._subprotocol(opening.subprotocols)
        self.transport.write(answer(opening.key, subprotocol))
        self.websocket_protocol_in_use = subprotocol
        self.state = self.STATE_OPEN
        self.onOpen()
        if opening.rest:
            self.dataReceived(opening.rest)

    def onConnect(self, request: Any) -> str | None:
        return self._subprotocol(request.protocols)

    def _subprotocol(self, offered: Sequence[str]) -> str | None:
        """Ours, if it is offered; who offers it not is a classic client."""
        if v1.SUBPROTOCOL not in offered:
            return None
        self._dialect = v1.DIALECT
        return v1.SUBPROTOCOL

    def onOpen(self) -> None:
        write = self.transport.write  # not by way of us: each object touched costs a broadcast
        if self._dialect is wire.CLASSIC:
            self._reading = Reading(self.transport)
            write = self._reading.write
        outbox = Outbox(self.factory.turn, self.factory.outbox_bytes, write, self._too_slow)
        self._outbox = outbox
        if self._reading is not None:
            self._reading.outbox = outbox
        self.registerProducer(outbox, True)
        self.connections.add(self, self.entry.address)
        messages = self.factory.messages
        self.session = messages.opened(
            self.user_id, outbox, self.close, self._dialect, self._probe, until=self.entry.until
        )

    def dataReceived(self, data: bytes) -> None:
        if self._has_room:
            self.heard = self.connections.now
        self.data += data  # Autobahn's own would format a log line, and count what nobody asks for
        self.consumeData()

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        if self.session is None or self.state != self.STATE_OPEN:
            return
        if isBinary:
            code = CloseCode.UNSUPPORTED_DATA
            self._fail_connection(code, code.reason)
        else:
            self._has_room = self.factory.messages.received(self.session, payload)

    def consumeData(self) -> None:
        """
        Read no more than so many frames at once, and none for which there is no room.

        Whoever floods us waits for the others, and for what has to be stored;
        but not for that when the connection is closing, as it stores nothing more.
        """
        if self.state not in (self.STATE_OPEN, self.STATE_CLOSING):
            super().consumeData()
            return
        if self._resting:
            return
        left = _FRAMES_A_TURN
        more = True
        while more and left and self._has_room:
            left -= self._take_usual(left)
            more = bool(self.data) or self.current_frame is not None
            if more and left:
                more = self.processData()
                left -= 1
        if self.state == self.STATE_CLOSED or (self._has_room and not more):
            return
        self._resting = True
        self.transport.pauseProducing()
        if self._has_room:
            self.factory.next_turn(self._go_on)
        else:
            self.heard = math.inf  # it cannot be silent while nobody listens
            self.factory.messages.wait_for_room(self._go_on)

    def _take_usual(self, most: int) -> int:
        """Read frames that need no more than that, without Autobahn; how many."""
        if self.current_frame is not None or self.inside_message or self._perMessageCompress:
            return 0
        data, position, taken = self.data, 0, 0
        end, longest = len(data), self.factory.max_message_size
        while position < end and taken < most and self._has_room and self.state == self.STATE_OPEN:
            if (text := take_text(data, position, longest)) is not None:
                payload, position = text
                self.onMessage(payload, False)
            elif (pong := take_pong(data, position)) is not None:
                payload, position = pong
                self.onPong(payload)
            else:
                break
            taken += 1
        if position:
            self.data = data[position:]
        return taken

    def _go_on(self) -> None:
        self._resting, self._has_room = False, True
        if self.state == self.STATE_CLOSED:
            return
        self.heard = self.connections.now
        try:
            self.transport.resumeProducing()
            self.consumeData()
        except Exception:
            log.failure("a connection could not be read on")
            self.abort()

    def ping(self) -> None:
        """Ask whether the peer is there, and a classic one what it has read, if that is unknown."""
        if self._reading is None or not self._reading.ask_again():
            self.sendPing()

    def onPing(self, payload: bytes) -> None:
        """Answered through the outbox, so that one who pings and does not read is too slow."""
        if self._outbox is not None and self.state == self.STATE_OPEN:
            self._outbox.write(b"\x8a%c%b" % (len(payload), payload), 0)

    def _probe(self, answered: Callable[[], None]) -> None:
        """Ping a peer of `wschat.v1` behind what waits; `answered` is called when it answers."""
        nonce = secrets.token_bytes(_NONCE)
        self._probed = (nonce, answered)
        if self._outbox is not None:
            self._outbox.write(b"\x89%c%b" % (_NONCE, nonce), 0)

    def onPong(self, payload: bytes) -> None:
        if self._probed is not None and payload == self._probed[0]:
            (_, answered), self._probed = self._probed, None
            answered()
        if self._reading is not None and self._reading.heard(payload):
            self._confirm(self._reading)

    def _confirm(self, reading: Reading) -> None:
        if self.session is not None:
            self.factory.messages.confirmed(self.session, reading.read)

    def _too_slow(self) -> None:
        log.info("{user_id} reads too slowly", user_id=self.user_id)
        self.close(CloseCode.SLOW)

    def close(self, code: CloseCode) -> None:
        """Close the connection, after what the transport will take of the outbox."""
        if self.state == self.STATE_OPEN:
            self.factory.meters.closed[code] += 1
            self.sendClose(int(code), code.reason)

    def sendCloseFrame(
        self, code: int | None = None, reasonUtf8: bytes | None = None, isReply: bool = False
    ) -> None:
        """Every close comes through here: ours, Autobahn's for bad frames, and replies."""
        if self._outbox is not None:
            self._outbox.flush()
        super().sendCloseFrame(code, reasonUtf8, isReply)
        self._end()
        slow = code == CloseCode.SLOW
        closing = self.connections.closing_slowly if slow else self.connections.closing
        closing.add(self, self.connections.now)

    def failHandshake(self, reason: str, *args: Any, **kwargs: Any) -> None:
        """
        Refuse; a peer may keep its end open after that, and does not keep ours.

        Autobahn's reason has the peer's own words in it: they are to control nothing.
        """
        self.connections.closing.add(self, self.connections.now)
        shown = "".join(c if " " <= c <= "~" else "?" for c in reason[:_LONGEST_REASON])
        super().failHandshake(shown, *args, **kwargs)

    def onCloseFrame(self, code: int, reasonRaw: bytes) -> Any:
        """A peer that answers our close, with our code, has read all that was sent before it."""
        reading = self._reading
        ours = code in _OUR_CODES and code == self.localCloseCode
        answered = self.state == self.STATE_CLOSING and ours
        if answered and reading is not None and reading.heard_all():
            self._confirm(reading)
        return super().onCloseFrame(code, reasonRaw)

    def _closeConnection(self, abort: bool = False) -> None:
        """After a close that was answered the peer gets an end, and no reset."""
        super()._closeConnection(abort and not self.wasClean)

    def abort(self) -> None:
        """End the connection now."""
        self.transport.abortConnection()

    def _end(self) -> None:
        """Nothing more goes to the peer, and nothing that it says counts."""
        if self._outbox is not None:
            self._outbox.close()
        if self._reading is not None:
            self._reading.stop()
        if not self._has_room:
            self.factory.next_turn(self._go_on)
        if self.session is not None and not self._ended:
            self._ended = True
            self.factory.messages.closed(self.session)

    def onClose(self, wasClean: bool, code: Any, reason: Any) -> None:
        self._end()
        self.connections.discard(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        Autobahn's, and what keeps us is let go of.

        Nothing of a connection that has ended is to wait for the garbage collector.
        """
        super().connectionLost(reason)
        if self._reading is not None:
            self._reading.forget()
        self.data = b""
        self.session = self._outbox = self._reading = self._probed = None
        self.transport = self.is_open = self.is_closed = None


class ChatFactory(WebSocketServerFactory):
    """What all connections share: limits, the end of the turn, and who looks after them."""

    log = SILENCE
    noisy = False

    def __init__(
        self,
        messages: Messages,
        reactor: IReactorTime,
        max_message_size: int,
        outbox_bytes: int,
        *,
        meters: Meters,
        places: Occupancy,
    ) -> None:
        """`meters` count, and `places` has room for so many connections of an address."""
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
            allowNullOrigin=True,
        )
        self._state = initial_state(self)
        self._kinds: dict[type[ChatProtocol], type[ChatProtocol]] = {}
        self.messages = messages
        self.meters = meters
        self.max_message_size = max_message_size
        #: Does something when the others have had their turn.
        self.next_turn = getattr(reactor, "soon", functools.partial(reactor.callLater, 0))
        self.turn = Turn(self.next_turn)
        self.outbox_bytes = outbox_bytes
        self.connections: Connections[ChatProtocol] = Connections(reactor, places)

    def connection(self, entry: Entry, kind: type[ChatProtocol] = ChatProtocol) -> ChatProtocol:
        """A protocol for one connection of who was let in."""
        if kind not in self._kinds:
            self._kinds[kind] = type(kind.__name__, (kind,), self._state)
        return self._kinds[kind](self, entry)
