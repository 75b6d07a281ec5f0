"""
The service: what connections do, and what the clock does to them.

    received -> commits (the queue, one commit for all that waited) -> delivery -> outboxes
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall, deferLater

from wschat import v1, wire
from wschat.accounts import Accounts
from wschat.attendance import Attendance
from wschat.catchup import CatchUp
from wschat.codes import CloseCode, ErrorCode, Refused
from wschat.commits import Commits
from wschat.delivery import Delivery
from wschat.drain import Farewell
from wschat.expiry import Expiry
from wschat.history import History
from wschat.hub import Hub, Session
from wschat.logins import Logins
from wschat.meters import Meters
from wschat.outbox import Outbox
from wschat.presence import Presence
from wschat.questions import Questions
from wschat.receipts import Receipts
from wschat.runner import Runner
from wschat.stream import Place, Stream
from wschat.timeouts import Timeouts
from wschat.users import Users
from wschat.watch import Watch

#: How often places in the stream are saved when no message is, in seconds.
_SAVE_INTERVAL: Final = 1.0

#: How long a client of `wschat.v1` may take to say which session it is, in seconds.
RESUME_LIMIT: Final = 10.0


class ChatService(Service):
    """Runs what the hub decides, against the clock and the store."""

    def __init__(
        self,
        hub: Hub,
        accounts: Accounts,
        stream: Stream,
        clock: IReactorTime,
        wall: Callable[[], float],
        *,
        users: Users,
        history: History,
        commands: Runner,
        batch_bytes: int,
        retention: float,
        meters: Meters,
    ) -> None:
        """
        `clock` is for timers; `wall` gives seconds since the epoch, for what is written.

        `batch_bytes` is how much content goes into one commit, and so into
        outboxes at once.  `retention` is in seconds.
        """
        self.hub = hub
        accounts.rotated = self._tell_rotated
        self._clock = clock
        self._wall = wall
        self._commands = commands
        self._receipts = Receipts()
        self._presence: Presence[Session] = Presence(users.last_seen())
        self._attendance = Attendance(users, self._presence, clock)
        self._outboxes: dict[Session, Outbox] = {}
        self._delivery = Delivery(
            hub,
            accounts,
            self._receipts,
            Questions(history, hub.registry, self._presence, self._outboxes),
            commands,
            wall=wall,
            meters=meters,
        )
        self._commits = Commits(
            stream,
            wall,
            hub.registry,
            clock=clock.seconds,
            meters=meters,
            stored=self._delivery.stored,
            failed=self._delivery.not_stored,
            saved=self._delivery.saved,
            out_of_turn=self._delivery.out_of_turn,
            batch_bytes=batch_bytes,
        )
        self._catch_up = CatchUp(
            stream,
            self._commits,
            self._receipts,
            self._next_turn,
            (hub.message_rate, hub.message_burst),
            meters=meters,
        )
        self._expiry = Expiry(stream, users, clock, wall, retention=retention, there=self._there)
        self._logins = Logins(accounts, wall)
        self._unresumed: Timeouts[Session] = Timeouts(RESUME_LIMIT)
        self._probing: set[Session] = set()  # whose peers have yet to show that they are there
        self._watch = Watch(users, accounts, hub.registry)
        self._farewell: Farewell | None = None
        self._beat = LoopingCall(self._tick)
        self._beat.clock = clock

    def set_limits(
        self, message_rate: float, message_burst: float, byte_rate: float | None
    ) -> None:
        """What a user may send a second, and at once, from now on; who connects is told."""
        self.hub.set_limits(message_rate, message_burst, byte_rate)
        self._catch_up.limits = (message_rate, message_burst)

    def startService(self) -> None:
        super().startService()
        self._beat.start(_SAVE_INTERVAL, now=False)
        self._expiry.start()

    @property
    def outbox_bytes(self) -> int:
        """What waits for readers, in bytes."""
        return sum(outbox.size for outbox in self._outboxes.values())

    @property
    def queued_bytes(self) -> int:
        """What waits to be stored, in bytes."""
        return self._commits.queued_bytes

    def say_farewell(self) -> Deferred[None]:
        """Tell sessions that the server ends; fires when all that they sent before has come."""
        self._farewell = Farewell(self.hub.registry)
        return self._farewell.heard

    async def settle(self) -> None:
        """Wait until all that has come is stored, delivered and answered."""
        await self._commits.drain()

    async def drain(self) -> None:
        """Stop timers and commands, and wait until all that was received is stored."""
        if self._beat.running:
            self._beat.stop()
        self._attendance.stop()
        self._expiry.stop()
        self._catch_up.cancel()
        self._commands.stop()
        await self._commits.drain()
        await self._attendance.save()

    def _tick(self) -> None:
        self._commits.commit()
        for session in self._unresumed.expired(self._clock.seconds()):
            session.close(CloseCode.STALE)
        self._logins.look()
        self._watch.look()
        Deferred.fromCoroutine(self._attendance.save())

    def _there(self) -> list[Place]:
        """The places of all sessions that are connected."""
        return [(session.user_id, session.name) for session in self.hub.registry]

    def _next_turn(self) -> Deferred[None]:
        return deferLater(self._clock, 0)

    # What connections call.

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
        """
        A user has connected: they are on line, and get what they missed.

        Their token is good `until` then, in seconds since the epoch.
        """
        session = Session(user_id, outbox, close, dialect, probe)
        if user_id not in self.hub.registry:
            self._attendance.came(user_id)
        self.hub.registry.add(session)
        self._outboxes[session] = outbox
        self._logins.opened(session, until)
        if dialect is v1.DIALECT:
            self._unresumed.add(session, self._clock.seconds())  # … once they say where they are
        else:
            self._catch_up.begin(session, outbox)
        return session

    def received(self, session: Session, payload: bytes) -> bool:
        """A frame has come from a user; whether there is room for more, or they `wait_for_room`."""
        try:
            if session.dialect is v1.DIALECT:
                request = self._decode(session, payload)
                if isinstance(request, v1.Ack):
                    self._acknowledged(session, request.id)
                    return True  # which needs none
                self._request(session, request, len(payload))
            else:
                now = self._wall()
                self.hub.count(session.user_id, now, len(payload))
                message = wire.decode_submission(payload, session.user_id, now)
                self._send(session, message, len(payload))
        except Refused as error:
            names = v1.names_of(payload) if session.dialect is v1.DIALECT else (None, None)
            self._delivery.refuse(session, error, *names)
        return self._commits.has_room

    def wait_for_room(self, go_on: Callable[[], None]) -> None:
        """Call `go_on` when there is room for what a user sends, in the order of these calls."""
        self._commits.when_room(go_on)

    def confirmed(self, session: Session, position: int) -> None:
        """A user has everything up to `position`."""
        if not session.confirm(position):
            return
        self._commits.move((session.user_id, None), position)
        if session.name is not None:
            self._commits.move((session.user_id, session.name), position)
        if self._receipts.waits_for(session.user_id, position):
            self._commits.commit()

    def closed(self, session: Session) -> None:
        """A connection has ended."""
        user_id = session.user_id
        self.hub.registry.discard(session)
        self._outboxes.pop(session, None)
        self._logins.closed(session)
        self._unresumed.discard(session)
        self._probing.discard(session)
        if self._farewell is not None:
            self._farewell.gone(session)
        self._presence.unwatch(session)
        self._commits.commit()  # the place of one who goes is saved at once
        if user_id not in self.hub.registry:
            self._receipts.left(user_id, self._commits.place((user_id, None)))
            self._attendance.went(user_id, self._wall())

    # What `wschat.v1` asks for.

    def _decode(self, session: Session, payload: bytes) -> v1.Request:
        """Read a frame; one that is none counts as well.  Raises `Refused`."""
        try:
            return v1.decode_request(payload)
        except wire.Malformed:
            self.hub.count(session.user_id, self._wall())
            raise

    def _request(
        self,
        session: Session,
        request: v1.Resume | v1.Submission | v1.Renew | v1.Question,
        size: int,
    ) -> None:
        """Do what a frame of so many bytes asks for, now or in its turn.  Raises `Refused`."""
        if isinstance(request, v1.Resume) and session.name is None:
            self._resume(session, request)  # free, as the connection was
            return
        now = self._wall()
        self.hub.count(session.user_id, now, size)
        if isinstance(request, v1.Resume) or session.name is None:
            raise Refused(ErrorCode.NOT_RESUMED)
        if isinstance(request, v1.Submission):
            self._send(session, v1.submitted(request, session.user_id, now), size)
        elif isinstance(request, v1.Renew):
            self._logins.renew(session, request.token)
        else:
            self._commits.put(session, request, size)

    def _acknowledged(self, session: Session, position: int) -> None:
        """Acks that say something new are free: there are no more of them than messages."""
        if session.confirmed < position <= session.position:
            self.confirmed(session, position)
            return
        self.hub.count(session.user_id, self._wall())
        if session.name is None:
            raise Refused(ErrorCode.NOT_RESUMED)
        if position > session.position:
            raise wire.Malformed("Nothing that far has been sent to this session.")

    def _resume(self, session: Session, resume: v1.Resume) -> None:
        """
        From now on the session has a name, and another connection of that name is over.

        That is, once this one has shown that somebody is there: what a client
        sent on a connection that it has given up may arrive after all.
        """
        session.name = resume.session
        if any(self.hub.registry.namesakes(session)):
            self._probing.add(session)
            session.probe(lambda: self._take_over(session, resume.after))
        else:
            self._take_over(session, resume.after)

    def _take_over(self, session: Session, after: int | None) -> None:
        outbox = self._outboxes.get(session)
        if outbox is None:
            return  # it has been closed meanwhile
        self._unresumed.discard(session)
        self._probing.discard(session)
        earlier, later = self.hub.registry.namesakes(session)
        if any(other not in self._probing for other in later):
            session.close(CloseCode.REPLACED)  # its answer comes from a connection given up
            return
        for other in earlier:
            other.close(CloseCode.REPLACED)
        self._catch_up.begin(session, outbox, after)

    def _send(self, session: Session, message: wire.Message, size: int) -> None:
        self.hub.admit(message)
        self._commits.put(session, message, size)

    def _tell_rotated(self, user_id: str) -> None:
        """
        A user has new keys: everybody who is there may hold on to the old ones.

        Whoever is there as that user may know no more than the old key, which may be
        why there is a new one.
        """
        for session in self.hub.registry.of(user_id):
            session.close(CloseCode.NEW_KEYS)
        frame = v1.frame(v1.KeyRotated(user_id))
        for session in self.hub.registry:
            if session.dialect is v1.DIALECT and session.name is not None:
                session.send(frame)
