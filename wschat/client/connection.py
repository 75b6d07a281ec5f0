"""
A client that stays connected: log in, open the socket, come back when it is lost.

`Client` is a Twisted service.  It tells its `Listener` what happens and
counts what it did.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from wschat import identity, v1, wire
from wschat.client import background, session_events
from wschat.client.accounts import Accounts, ConnectionProblem, RequestRefused
from wschat.client.acknowledging import Acknowledging
from wschat.client.delivery import Deliveries
from wschat.client.dialler import Dialler
from wschat.client.keyring import Replacement
from wschat.client.listener import Counters, Heard, History, Listener, SessionOver
from wschat.client.people import People
from wschat.client.questions import Questions
from wschat.client.renewal import Renewal
from wschat.client.sealing import Sealing
from wschat.client.session import QUEUE_MESSAGES, Session
from wschat.client.settings import Settings
from wschat.client.staying import Staying
from wschat.client.trust import Whois
from wschat.client.websocket import Connection

#: How long a classic server has to answer by itself before it is asked what it has dealt with, in
#: seconds.
_ASK_AFTER: Final = 1.0

#: How often a server is pinged, and how long it may take to answer, in seconds.
KEEPALIVE: Final = (25.0, 30.0)

log = Logger(namespace="wschat.client")


class Client(Service):
    """One user's connection to a server, for as long as the service runs."""

    def __init__(
        self,
        reactor: Any,
        settings: Settings,
        key: identity.PrivateKey,
        listener: Listener,
        wall: Callable[[], float] = time.time,
        *,
        after: int | None = None,
        keepalive: tuple[float, float] = KEEPALIVE,
        accounts: Accounts | None = None,
        dial: Callable[..., Dialler] = Dialler,
    ) -> None:
        """
        `after` is the last message that is known to have been handled, for
        who keeps that; `settings.session` then has to be the same as before.
        `keepalive` says how often to ping, and how long the answer may take.
        `accounts` and `dial` are other ways to a server (wschat.testing).
        """
        self._reactor = reactor
        self._settings = settings
        self._key = key
        self._listener = listener
        self._wall = wall
        self._session = Session(settings.user_id, key, settings.session, after, settings.encryption)
        self._flushing = self._flush_again = self._rotating = False
        self.accounts = accounts or Accounts(reactor, settings, key)
        self._people = People(settings, key, self.accounts, listener, wall)
        self._dialler = dial(reactor, settings, self.accounts, self, wall=wall, keepalive=keepalive)
        self._protocol: Connection | None = None
        self._questions = Questions(self._session, self._flush, wall)
        self._staying = Staying(reactor, self._dialler.connect, listener)
        self._renewal = Renewal(reactor, self._dialler.renew, self._renewed)
        self._sealing = Sealing(
            self._session,
            self._people,
            flush=self._flush,
            flush_within=self._flush_within,
            delayed=self._tell,
        )
        self._acknowledging = Acknowledging(
            reactor,
            self._session,
            self._people,
            wall,
            connected=lambda: self.connected,
            flush=self._flush,
        )
        self._deliveries = Deliveries(
            self._people.read, self._hear, self._acknowledging.handled, self.regulate
        )
        self._missing = False  # messages were dropped that came on this connection
        self._unopened = 0
        self._bytes = (0, 0)  # of earlier connections, sent and received
        self._round_trip: float | None = None
        self._sending: IDelayedCall | None = None
        self._asking: IDelayedCall | None = None
        self._deaf = False
        self._wants_settled: list[Deferred[None]] = []
        self._running: list[Deferred[None]] = []
        self._wants_room: list[tuple[int, Deferred[None]]] = []

    # What a program calls.

    def startService(self) -> None:
        super().startService()
        works = (self._stay_connected(), self._deliveries.run())
        self._running = [background.run(work) for work in works]

    async def stop(self) -> None:
        """
        Say goodbye, and end.

        What has come is handled and acknowledged before.  Of a classic server
        is heard what still comes until it has said goodbye, too.
        """
        super().stopService()
        staying, delivering = self._running
        staying.cancel()
        self._renewal.cancel()
        background.cancel(self._sending, self._asking)
        self._acknowledging.stop()
        self._sealing.stop()
        if self._protocol is not None and self._session.is_v1:
            await self.handled()
            self._acknowledging.acknowledge()
            self._deaf = True  # what comes now is not acknowledged, and comes next time
        protocol = self._protocol
        if protocol is not None:
            protocol.sendClose(protocol.CLOSE_STATUS_CODE_NORMAL)
            await protocol.is_closed
            self._people.unsure()  # at once: that it is lost is told later
        await self.handled()
        delivering.cancel()
        if protocol is not None and protocol.has_parted and self._session.all_acknowledged:
            self._people.sure()
        self._people.save()

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
        session, protocol = self._session, self._protocol
        sent, received = self._bytes
        round_trip = self._round_trip
        if protocol is not None:
            sent, received = sent + protocol.bytes_sent, received + protocol.bytes_received
            if protocol.round_trip is not None:
                round_trip = protocol.round_trip
        return Counters(
            session.sent,
            session.received,
            session.refused,
            max(0, self._staying.connections - 1),
            sent,
            received,
            round_trip,
            self._unopened,
        )

    def send(self, to: str, text: str, client_id: str = "") -> str:
        """
        Say something to a user; it waits while there is no connection.

        Returns the message's client id, by which the listener is told of it;
        `client_id` if that is given.  Raises `ValueError` for a name that no
        user can have and for a text that is too long or cannot be sent,
        `TypeError` for what is none, `QueueFull`.
        """
        client_id = self._session.send(to, text, self._wall(), client_id)
        self._flush()
        return client_id

    @property
    def unsettled(self) -> int:
        """How many messages the server has not been sent, or has not answered for yet."""
        return self._session.unsettled

    def room(self, waiting: int = QUEUE_MESSAGES // 2) -> Deferred[None]:
        """Fires when at most so many messages wait to be sent, and there is room for more."""
        room: Deferred[None] = Deferred()
        self._wants_room.append((waiting, room))
        self._flush()
        return room

    def broadcast(self, text: str) -> str:
        """Say something to everybody; see `send`."""
        return self.send(wire.BROADCAST, text)

    @property
    def gives_receipts(self) -> bool:
        """Whether the server says of each message what became of it."""
        return self._session.is_v1

    def settled(self) -> Deferred[None]:
        """
        Fires when nothing waits, and the server has dealt with all that was said (with v1).

        It waits until commands and questions are sent, too, though they are never `unsettled`.
        """
        settled: Deferred[None] = Deferred()
        self._wants_settled.append(settled)
        self._tell_settled()
        return settled

    def _tell_settled(self) -> None:
        if not (self._session.waiting or self._session.unanswered):
            wanted, self._wants_settled = self._wants_settled, []
            for settled in wanted:
                settled.callback(None)

    async def history(
        self, peer: str, limit: int = v1.HISTORY_LIMIT, *, before: int | None = None
    ) -> History:
        """
        The newest messages of a conversation with a user, or of the broadcasts.

        Of those earlier than `before`, if that is given.  It waits for the
        first connection.  Raises `ValueError` when the server cannot,
        `RequestRefused` when it does not, `ConnectionProblem` when the
        connection is lost, `QueueFull`.
        """
        messages: list[wire.Message] = []
        more = True
        while more and len(messages) < limit:
            wanted = min(limit - len(messages), v1.MAX_HISTORY_LIMIT)
            page = await self._questions.ask(v1.AskHistory(peer, before, None, wanted))
            messages = [v1.delivered(message) for message in page.messages] + messages
            more, before = page.more, page.next
        return History(await self._people.recall(messages, peer), more, before or 0)

    async def whois(self, user_id: str) -> Whois:
        """
        Somebody's account, and what is known of their key.

        Raises `RequestRefused` when there is none, `ConnectionProblem`.
        """
        return await self._people.whois(user_id)

    async def fingerprint(self, user_id: str) -> str:
        """
        A code that two people can compare aloud: for both it is the same.

        It is of the keys that the server has for them now.  Raises what
        `whois` does.
        """
        return await self._people.fingerprint(user_id)

    async def trust(self, user_id: str) -> tuple[str, str]:
        """
        Believe in the keys that the listener was told of; returns the old and new fingerprint.

        Raises what `whois` does, and `RequestRefused` for keys that nobody
        has been told of before.
        """
        fingerprints = await self._people.trust(user_id)
        self._session.forget_key(user_id)
        self._flush()
        return fingerprints

    async def presence(self, users: list[str] | None = None, *, watch: bool = True) -> v1.Presence:
        """
        Who is there, of `users` or of all; the listener is told of changes if they are watched.

        Raises what `history` does.
        """
        presence: v1.Presence = await self._questions.ask(v1.AskPresence(watch, users))
        return presence

    async def rotate(self) -> None:
        """
        Replace the user's key by a new one, which the old one vouches for.

        The key file has it as soon as the server does, and the old one to
        open what was sealed for that.  Raises `ValueError` when the key is in
        no file, `KeyringError`, and when the server does not take the new key
        `RequestRefused`; `ConnectionProblem` when it may have, or may yet:
        then the next call goes on with the same key.
        """
        path = self._settings.key_file
        if path is None:
            raise ValueError("The private key is not in a file.")
        new = identity.PrivateKey.generate((self._key, *self._key.former))
        replacement = Replacement(path, new, self._settings.key_passphrase)
        new = replacement.key
        self._rotating = True  # nothing is signed now: nobody knows with which key it would be
        try:
            await self.accounts.rotate(new, self._wall())
            self._key = new
            self._session.rekey(new)
            self._people.rekey(new)
        except RequestRefused:
            replacement.void()
            raise
        finally:
            self._rotating = False
            self._flush()
        replacement.done()

    def command(self, name: str, params: object = None) -> Deferred[wire.CommandAnswer]:
        """
        Ask the server something.

        The answer also says that the server has dealt with all that was sent
        before.  Fails with `ConnectionProblem` when the connection is lost.
        """
        return self._questions.command(name, params)

    # What the dialler tells.

    def opened(self, protocol: Connection) -> None:
        """The socket is open."""
        self._protocol = protocol
        is_v1 = protocol.websocket_protocol_in_use == v1.SUBPROTOCOL
        self._people.forget()
        self._session.opened(is_v1=is_v1)
        self._staying.opened()
        self._flush()
        self._questions.opened()

    def received(self, payload: bytes) -> None:
        """A frame has come."""
        if self._is_too_much(payload):
            return
        try:
            event = self._session.receive(payload, self._wall())
        except wire.Malformed as error:
            log.warn("the server sent what cannot be read: {error}", error=error)
            return
        if isinstance(event, session_events.Received):
            if not self._deaf:
                self._deliveries.put(event.message)
        elif isinstance(event, session_events.Answered | session_events.Told):
            self._questions.answered(event)
        elif isinstance(event, session_events.Leaving):
            self._staying.leave(event.wait)
            self._acknowledging.acknowledge()  # what is handled; there may be no later
        elif event is not None:
            self._tell(event)
        if not isinstance(event, session_events.Received):
            self._flush()  # what was refused for now is sent again
            self._tell_settled()
        self.regulate()

    def _tell(self, event: session_events.Event) -> None:
        try:
            if isinstance(event, session_events.Stored):
                self._listener.stored(event.client_id, event.id)
            elif isinstance(event, session_events.Delivered):
                self._listener.delivered(event.client_id, event.id)
            elif isinstance(event, session_events.Refused):
                self._listener.refused(event.text, event.client_id)
            elif isinstance(event, session_events.Delayed):
                self._listener.delayed(event.text, event.client_id)
            elif isinstance(event, session_events.PresenceChanged):
                self._listener.presence_changed(event.joined, event.left)
            elif isinstance(event, session_events.Incomplete):
                self._listener.incomplete()
            elif isinstance(event, session_events.KeyRotated):
                self._people.forget(event.user_id)
            elif isinstance(event, session_events.TokenEnding):
                self._renewal.begin()
        except Exception:
            log.failure("a listener failed")

    def _renewed(self, token: str) -> None:
        self._session.renew(token)
        self._flush()

    def lost(self, problem: ConnectionProblem | SessionOver) -> None:
        """The socket is closed, or was never opened."""
        if self._protocol is not None:
            counters = self.counters
            self._bytes = counters.bytes_sent, counters.bytes_received
            self._round_trip = counters.round_trip
        self._people.unsure()
        self._protocol = None
        self._renewal.cancel()
        self._missing = False
        unknown = self._session.lost()
        if unknown and self.running:
            text = f"The connection was lost: the last {unknown} messages may not have arrived."
            self._listener.refused(text, None)
        self._staying.over = isinstance(problem, SessionOver)
        self._questions.lost(problem)

    async def _stay_connected(self) -> None:
        await self._staying.run(lambda: bool(self.running))
        if self._staying.over:
            self.running = 0

    # What goes out, and what comes in.

    def _flush(self) -> None:
        """Send what may be sent now, and come back when more may."""
        self._flush_again = True
        if self._flushing:
            return  # whoever is at it goes on
        self._flushing = True
        try:
            while self._flush_again:
                self._flush_again = False
                self._flush_once()
        finally:
            self._flushing = False
        self.regulate()

    def _flush_once(self) -> None:
        can_send = self._protocol is not None and self._protocol.can_send and not self._rotating
        if self._protocol is not None and can_send:
            for frame in self._session.data_to_send(self._wall()):
                self._protocol.sendMessage(frame)
            self._acknowledging.sent()
            if self._session.unasked and not background.pending(self._asking):
                self._asking = self._reactor.callLater(_ASK_AFTER, self._ask_for_answer)
            self._sealing.find()
            for refused in self._session.refusals():
                self._tell(refused)
            self._tell_settled()
        if self._session.has_room:
            waiting, wanted = self._session.waiting, self._wants_room
            self._wants_room = [each for each in wanted if waiting > each[0]]
            for at_most, room in wanted:
                if waiting <= at_most:
                    room.callback(None)
        wait = self._session.wait(self._wall()) if can_send else None
        if wait is not None:
            self._flush_within(wait)

    def _flush_within(self, seconds: float) -> None:
        if self.running and not background.pending(self._sending):
            self._sending = self._reactor.callLater(seconds, self._flush)

    def _ask_for_answer(self) -> None:
        """Have a classic server say that it has dealt with what was sent."""
        if self._protocol is not None and self._session.unasked and not self._session.waiting:
            self.command("ping").addErrback(lambda failure: failure.trap(ConnectionProblem))

    def _hear(self, heard: Heard) -> Deferred[None] | None:
        self._unopened += heard.text is None
        return self._listener.heard(heard)

    @property
    def _awaits(self) -> bool:
        """Whether the server has yet to answer something: to hear that, it has to be read."""
        return len(self._questions) > 0 or self.unsettled > 0 or self._listener.awaits()

    def regulate(self) -> None:
        """
        Read on, or not, by how much waits for the listener; to be called when it awaits more.

        A listener may be waiting itself, for what comes behind all that it has
        not handled yet.  Then messages are dropped, unacknowledged, to get to
        that, and come again on another connection once there is room for them.
        """
        protocol = self._protocol
        if protocol is None:
            return
        if not self._deliveries.many:
            protocol.go_on()
            if self._missing and self.running:
                protocol.abort()
        elif self._awaits:
            protocol.go_on()
        else:
            protocol.hold()

    def _is_too_much(self, payload: bytes) -> bool:
        """Whether a frame is a message that there is no room for, or behind such a one."""
        if not (self._session.is_v1 and (self._missing or self._deliveries.too_many)):
            return False
        try:
            event = v1.decode_event(payload)
        except wire.Malformed:
            return False
        is_message = isinstance(event, v1.Delivery) and event.id > 0
        self._missing = self._missing or is_message
        return is_message

    def handled(self) -> Deferred[None]:
        """Fires when the listener has handled every message that came until now."""
        return self._deliveries.quiet()

    def give_up(self) -> None:
        """Wait for the listener no more: what it has not handled comes again next time."""
        self._deliveries.give_up()
