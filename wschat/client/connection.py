"""
A client that stays connected: log in, open the socket, come back when it is lost.

`Client` is a Twisted service.  It tells its `Listener` what happens and
counts what it did.
"""

from __future__ import annotations

import enum
import random
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final, Protocol
from urllib.parse import quote

import msgspec
from autobahn.twisted.websocket import WebSocketClientFactory, WebSocketClientProtocol
from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, DeferredQueue
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.error import ConnectingCancelledError
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import deferLater
from twisted.logger import ILogObserver, Logger
from twisted.python.failure import Failure
from zope.interface import provider

from wschat import identity, wire
from wschat.client import tls
from wschat.client.accounts import TIMEOUT, Accounts, ConnectionProblem, RequestRefused, problem
from wschat.client.session import QUEUE_MESSAGES, Answered, Received, Refused, Session
from wschat.client.settings import Settings

#: The longest message that a client takes, in bytes.
MAX_MESSAGE: Final = 1024 * 1024

_FIRST_DELAY: Final = 0.5
_LONGEST_DELAY: Final = 20.0
_ASK_AFTER: Final = 1.0
_TOKEN_LIFETIME: Final = 23 * 3600.0

log = Logger(namespace="wschat.client")


class State(enum.StrEnum):
    """What a client is doing about its connection."""

    DISCONNECTED = "disconnected"
    CONNECTING = "connecting"
    CONNECTED = "connected"
    RECONNECTING = "reconnecting"


class Heard(msgspec.Struct, frozen=True):
    """
    A message for the user.

    `text` is what the sender wrote, or None when it is sealed and cannot be
    opened.  `verified` says that the sender's registered key signed it.
    """

    message: wire.Message
    text: str | None
    verified: bool


class Listener(Protocol):
    """
    Told what happens, in the order in which it happens.

    `changed` to disconnected comes with the reason: a `ConnectionProblem` or
    a `RequestRefused`.
    """

    def heard(self, heard: Heard) -> None: ...
    def refused(self, text: str) -> None: ...
    def changed(self, state: State, error: Exception | None) -> None: ...


class Counters(msgspec.Struct):
    """What a client has done so far."""

    sent: int
    received: int
    refused: int
    reconnects: int


@provider(ILogObserver)
def _discard(event: Any) -> None:
    """Autobahn logs requests, tokens included; nothing of that is for anybody."""


class _Protocol(WebSocketClientProtocol):
    """Autobahn's side: bytes to and from the session."""

    log = Logger(namespace="wschat.autobahn", observer=_discard)
    client: Client

    def onOpen(self) -> None:
        self.client.opened(self)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        self.client.received(payload)

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        line = getattr(self, "http_status_line", "").split()
        status = int(line[1]) if len(line) > 1 and line[1].isdecimal() else None
        self.client.lost(code, reason or "", status)


class _Factory(WebSocketClientFactory):
    log = _Protocol.log
    noisy = False

    def __init__(self, client: Client, url: str) -> None:
        super().__init__(url)
        self._client = client
        self.setProtocolOptions(
            maxMessagePayloadSize=MAX_MESSAGE,
            maxFramePayloadSize=MAX_MESSAGE,
            failByDrop=False,
            openHandshakeTimeout=TIMEOUT,
            autoPingInterval=25,
            autoPingTimeout=30,
        )

    def buildProtocol(self, addr: object) -> _Protocol:
        protocol = _Protocol()
        protocol.factory = self
        protocol.client = self._client
        return protocol


class Client(Service):
    """One user's connection to a server, for as long as the service runs."""

    def __init__(
        self,
        reactor: Any,
        settings: Settings,
        key: identity.PrivateKey,
        listener: Listener,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._reactor = reactor
        self._settings = settings
        self._key = key
        self._listener = listener
        self._wall = wall
        self._session = Session(settings.user_id, key)
        self.accounts = Accounts(reactor, settings, key)
        self._token: tuple[str, float] | None = None
        self._protocol: _Protocol | None = None
        self._opening: Deferred[None] = Deferred()
        self._gone: Deferred[ConnectionProblem] = Deferred()
        self._answers: dict[str, Deferred[wire.CommandAnswer]] = {}
        self._incoming: DeferredQueue[wire.Message] = DeferredQueue()
        self._unhandled = 0
        self._wants_quiet: list[Deferred[None]] = []
        self._sending: IDelayedCall | None = None
        self._asking: IDelayedCall | None = None
        self._running: list[Deferred[None]] = []
        self._connections = 0
        self._wants_room: list[tuple[int, Deferred[None]]] = []

    # What a program calls.

    def startService(self) -> None:
        super().startService()
        for work in (self._stay_connected(), self._deliver()):
            running = Deferred.fromCoroutine(work)
            running.addErrback(_log_unless_cancelled)
            self._running.append(running)

    async def stop(self) -> None:
        """Say goodbye, hear what still comes until the server has said it too, and end."""
        super().stopService()
        staying, delivering = self._running
        staying.cancel()
        for call in (self._sending, self._asking):
            if call is not None and call.active():
                call.cancel()
        if self._protocol is not None:
            closed = self._protocol.is_closed
            self._protocol.sendClose(1000)
            await closed
        await self.handled()
        delivering.cancel()

    def stopService(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self.stop())

    @property
    def connected(self) -> bool:
        return self._protocol is not None

    @property
    def waiting(self) -> int:
        """How many messages have not been sent yet."""
        return self._session.waiting

    @property
    def counters(self) -> Counters:
        session = self._session
        return Counters(
            session.sent, session.received, session.refused, max(0, self._connections - 1)
        )

    def send(self, to: str, text: str) -> None:
        """
        Say something to a user; it waits while there is no connection.

        Raises `ValueError` for a name that no user can have and for a text
        that is too long, `QueueFull`.
        """
        self._session.send(to, text, self._wall())
        self._flush()

    @property
    def unsettled(self) -> int:
        """How many messages the server has not been sent, or has not answered for yet."""
        return self._session.waiting + self._session.unanswered

    def room(self, waiting: int = QUEUE_MESSAGES // 2) -> Deferred[None]:
        """Fires when at most so many messages wait to be sent."""
        room: Deferred[None] = Deferred()
        self._wants_room.append((waiting, room))
        self._flush()
        return room

    def broadcast(self, text: str) -> None:
        """Say something to everybody.  Raises `QueueFull`."""
        self.send(wire.BROADCAST, text)

    def command(self, name: str, params: object = None) -> Deferred[wire.CommandAnswer]:
        """
        Ask the server something.

        The answer also says that the server has dealt with all that was sent
        before.  Fails with `ConnectionProblem` when the connection is lost.
        """
        request_id = self._session.command(name, self._wall(), params)
        answer: Deferred[wire.CommandAnswer] = Deferred()
        self._answers[request_id] = answer
        self._flush()
        return answer

    # What the protocol tells.

    def opened(self, protocol: _Protocol) -> None:
        """The socket is open."""
        self._protocol = protocol
        self._connections += 1
        self._session.opened()
        self._listener.changed(State.CONNECTED, None)
        self._flush()
        self._opening.callback(None)

    def received(self, payload: bytes) -> None:
        """A frame has come."""
        try:
            event = self._session.receive(payload)
        except wire.Malformed as error:
            log.warn("the server sent what cannot be read: {error}", error=error)
            return
        if isinstance(event, Received):
            self._unhandled += 1
            self._incoming.put(event.message)
        elif isinstance(event, Refused):
            self._listener.refused(event.text)
        elif isinstance(event, Answered):
            answer = self._answers.pop(event.request_id, None)
            if answer is not None:
                answer.callback(event.answer)

    def lost(self, code: int | None, reason: str, status: int | None) -> None:
        """The socket is closed, or was never opened; `status` is what the upgrade was answered."""
        self._protocol = None
        unknown = self._session.lost()
        if unknown and self.running:
            self._listener.refused(
                f"The connection was lost: the last {unknown} messages may not have arrived."
            )
        problem = ConnectionProblem(_why(code, reason))
        answers, self._answers = self._answers, {}
        self._session.forget(answers)
        for answer in answers.values():
            answer.errback(problem)
        if self._opening.called:
            self._gone.callback(problem)
        else:
            self._opening.errback(_refusal(status))

    # The connection, kept.

    async def _stay_connected(self) -> None:
        delay = _FIRST_DELAY
        while self.running:
            again = self._connections > 0
            self._listener.changed(State.RECONNECTING if again else State.CONNECTING, None)
            error: Exception
            try:
                await self._connect()
                delay = _FIRST_DELAY
                error = await self._gone
            except (ConnectionProblem, RequestRefused) as refusal:
                delay = min(2 * delay, _LONGEST_DELAY)
                error = refusal
            if self.running:
                self._listener.changed(State.DISCONNECTED, error)
            if not self.running:
                return
            # All of it is chance, so that many who were cut off do not come back at once.
            await deferLater(self._reactor, random.uniform(0, delay))  # noqa: S311  # no secret

    async def _connect(self) -> None:
        """Log in unless that was done, and open the socket."""
        try:
            await self._open(await self._valid_token())
        except _TokenRefused:  # it has ended, or the server has another secret now
            self._token = None
            await self._open(await self._valid_token())

    async def _open(self, token: str) -> None:
        settings = self._settings
        factory = _Factory(self, f"wss://{settings.authority}/ws?token={quote(token)}")
        endpoint = wrapClientTLS(
            tls.connection_creator(settings.host, settings.insecure_tls),
            HostnameEndpoint(self._reactor, settings.host.encode("idna"), settings.port),
        )
        self._opening, self._gone = Deferred(), Deferred()
        try:
            protocol: Any = await endpoint.connect(factory)
        except (CancelledError, ConnectingCancelledError):
            raise CancelledError from None
        except Exception as error:
            raise problem(settings.authority, error) from None
        try:
            await self._opening
        except CancelledError:
            protocol.transport.abortConnection()
            raise

    async def _valid_token(self) -> str:
        now = self._wall()
        if self._token is None or self._token[1] <= now:
            self._token = (await self.accounts.login(), now + _TOKEN_LIFETIME)
        return self._token[0]

    # What goes out, and what comes in.

    def _flush(self) -> None:
        """Send what may be sent now, and come back when more may."""
        if self._protocol is not None:
            for frame in self._session.data_to_send(self._wall()):
                self._protocol.sendMessage(frame)
            if self._session.unasked and not _pending(self._asking):
                self._asking = self._reactor.callLater(_ASK_AFTER, self._ask)
        waiting = self._session.waiting
        ready = [room for at_most, room in self._wants_room if waiting <= at_most]
        self._wants_room = [wanted for wanted in self._wants_room if waiting > wanted[0]]
        for room in ready:
            room.callback(None)
        wait = self._session.wait(self._wall())
        if self.running and wait is not None and not _pending(self._sending):
            self._sending = self._reactor.callLater(wait, self._flush)

    def _ask(self) -> None:
        """Have the server say that it has dealt with what was sent."""
        if self._protocol is not None and self._session.unasked and not self._session.waiting:
            self.command("ping").addErrback(lambda failure: failure.trap(ConnectionProblem))

    async def _deliver(self) -> None:
        """Hand over messages in their order, each with what is known of its sender."""
        while True:
            message = await self._incoming.get()
            public_key = await self.accounts.public_key(message.sender)
            try:
                self._listener.heard(self._examine(message, public_key))
            except Exception:  # a listener's fault costs it this message, and no other
                log.failure("a message could not be handled")
            self._unhandled -= 1
            self._tell_quiet()

    def handled(self) -> Deferred[None]:
        """Fires when the listener has heard every message that came until now."""
        quiet: Deferred[None] = Deferred()
        self._wants_quiet.append(quiet)
        self._tell_quiet()
        return quiet

    def _tell_quiet(self) -> None:
        if not self._unhandled:
            wanted, self._wants_quiet = self._wants_quiet, []
            for quiet in wanted:
                quiet.callback(None)

    def _examine(self, message: wire.Message, public_key: str | None) -> Heard:
        verified = (
            public_key is not None
            and message.signature is not None
            and identity.verify_content(public_key, message.content, message.signature)
        )
        if not message.encrypted:
            return Heard(message, message.content, verified)
        sealed = identity.Sealed(
            message.content, message.encrypted_key or "", message.encryption_nonce or ""
        )
        try:
            return Heard(message, self._key.open(sealed), verified)
        except identity.Unsealable:
            return Heard(message, None, verified)


class _TokenRefused(ConnectionProblem):
    """The server does not take the token; a new one may help."""


def _refusal(status: int | None) -> ConnectionProblem | RequestRefused:
    """Why a server that was reached did not open the socket."""
    if status == HTTPStatus.UNAUTHORIZED:
        return _TokenRefused("The server does not take the token.")
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return RequestRefused("Too many connections of this user.")
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        return ConnectionProblem("The server is full, or about to end.")
    shown = "nothing" if status is None else status
    return ConnectionProblem(f"The server did not open the WebSocket: it answered {shown}.")


def _why(code: int | None, reason: str) -> str:
    if code is None or code == WebSocketClientProtocol.CLOSE_STATUS_CODE_ABNORMAL_CLOSE:
        return "The connection was lost."
    return f"The server closed the connection: {reason or 'for no reason'} ({code})."


def _pending(call: IDelayedCall | None) -> bool:
    return call is not None and bool(call.active())


def _log_unless_cancelled(failure: Failure) -> None:
    if not failure.check(CancelledError):
        log.failure("the client has a fault", failure)
