"""
The service: carries each message from where it came in to where the hub says it goes.

    received -> queue -> store (one commit for all that waited) -> outboxes

Nothing is delivered, and no command answered, before what its sender sent
earlier is on disk.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Final

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from wschat import wire
from wschat.accounts import Accounts
from wschat.commands import Command, Commands
from wschat.hub import Hub, Refused, Session
from wschat.outbox import Closed, Outbox
from wschat.store import Page, Store

#: What may wait to be stored, in bytes of content; past that senders are refused.
QUEUE_BYTES: Final = 64 * 1024 * 1024

#: How often places in the stream are saved when no message is, in seconds.
_SAVE_INTERVAL: Final = 1.0

#: How many commits of a drain may bring it no further before it gives up on the store.
_DRAIN_FAILURES: Final = 5

log = Logger(namespace="wschat.service")


class ChatService(Service):
    """Runs what the hub decides, against the clock and the store."""

    def __init__(
        self,
        hub: Hub,
        accounts: Accounts,
        store: Store,
        clock: IReactorTime,
        wall: Callable[[], float],
        *,
        commands: Mapping[str, Command],
        batch_bytes: int,
    ) -> None:
        """
        `clock` is for timers; `wall` gives seconds since the epoch, for what is written.

        `commands` are the operator's, by name.  `batch_bytes` is how much
        content goes into one commit, and so into outboxes at once.
        """
        self.hub = hub
        self._accounts = accounts
        self._store = store
        self._wall = wall
        self._commands = Commands(
            lambda: len(hub.registry.users),
            commands,
            lambda name: log.failure("the command {name} failed", name=name),
        )
        self._queue: deque[tuple[Session, wire.Message]] = deque()
        self._queued_bytes = 0
        self._batch_bytes = batch_bytes
        self._committing: Deferred[None] | None = None
        self._confirmed: dict[str, int] = {}  # users' places that are not saved yet
        self._saving: dict[str, int] = {}  # … and those in the commit that is under way
        self._catching_up: set[Deferred[None]] = set()
        self._saver = LoopingCall(self._commit)
        self._saver.clock = clock

    def startService(self) -> None:
        super().startService()
        self._saver.start(_SAVE_INTERVAL, now=False)

    async def drain(self) -> None:
        """Stop the timers, and wait until all that was received is stored and every place saved."""
        if self._saver.running:
            self._saver.stop()
        for catching_up in list(self._catching_up):
            catching_up.cancel()
        failures = 0
        while failures < _DRAIN_FAILURES:  # one may be under way, and leave more for the next
            before = len(self._queue)
            self._commit()
            if self._committing is None:
                return
            await _fired(self._committing)
            failures += len(self._queue) >= before

    # What connections call.

    def opened(
        self, user_id: str, outbox: Outbox, close: Callable[[wire.CloseCode], None]
    ) -> Session:
        """A user has connected: they are on line, and get what they missed."""
        session = Session(user_id, outbox.write)
        self.hub.registry.add(session)
        catching_up = Deferred.fromCoroutine(self._catch_up(session, outbox))
        self._catching_up.add(catching_up)

        def caught_up(result: Failure | None) -> None:
            self._catching_up.discard(catching_up)
            if isinstance(result, Failure) and not result.check(Closed, CancelledError):
                log.failure("could not read what a user missed", result)
                close(wire.CloseCode.INTERNAL)

        catching_up.addBoth(caught_up)
        return session

    def received(self, session: Session, payload: bytes) -> None:
        """A frame has come from a user."""
        now = self._wall()
        if not self.hub.within_rate(session.user_id, now):
            self._refuse(session, wire.RATE_LIMITED)
            return
        try:
            message = wire.decode_submission(payload, session.user_id, now)
            self.hub.admit(message)
        except (wire.Malformed, Refused) as error:
            self._refuse(session, str(error))
            return
        if self._queued_bytes + len(message.content) > QUEUE_BYTES:
            self._refuse(session, "The server is busy. Please try again.")
            return
        self._queue.append((session, message))
        self._queued_bytes += len(message.content)
        self._commit()

    def confirmed(self, session: Session, position: int) -> None:
        """A user has everything up to `position`."""
        if position > self._confirmed.get(session.user_id, 0):
            self._confirmed[session.user_id] = position

    def closed(self, session: Session) -> None:
        """A connection has ended."""
        self.hub.registry.discard(session)

    # From the queue to the outboxes.

    def _commit(self) -> None:
        """Store all that waits, unless a commit is under way: then it is in the next one."""
        if self._committing is not None or not (self._queue or self._confirmed):
            return
        batch = self._next_batch()
        self._saving, self._confirmed = self._confirmed, {}
        storing = [message for _, message in batch if message.topic != wire.SERVER]
        if storing or self._saving:
            stored = self._store.append(storing, self._saving, self._wall())
        else:
            stored = Deferred()
            stored.callback(range(0))
        self._committing = Deferred()
        stored.addCallbacks(self._stored, self._not_stored, (batch,), {}, (batch,))
        stored.addErrback(lambda failure: log.failure("the turn of a commit failed", failure))
        stored.addBoth(self._committed)

    def _next_batch(self) -> list[tuple[Session, wire.Message]]:
        """What is stored and then delivered at once: no more than quick readers can take."""
        batch = []
        size = 0
        while self._queue and size < self._batch_bytes:
            session, message = self._queue.popleft()
            batch.append((session, message))
            size += len(message.content)
        self._queued_bytes -= size
        return batch

    def _committed(self, _: object) -> None:
        committing, self._committing = self._committing, None
        self._saving = {}
        if self._queue:
            self._commit()
        if committing is not None:
            committing.callback(None)

    def _stored(self, ids: range, batch: list[tuple[Session, wire.Message]]) -> None:
        numbers = iter(ids)
        for session, message in batch:
            try:
                if message.topic == wire.SERVER:
                    self._answer(session, message)
                else:
                    message.id = next(numbers)
                    self._deliver(message)
            except Exception:  # one message's fault costs no other message
                log.failure("could not deliver message {id}", id=message.id)

    def _deliver(self, message: wire.Message) -> None:
        recipients = self.hub.recipients(message)
        if not recipients:
            return
        frame = wire.text_frame(wire.encode_delivery(message))
        for session in recipients:
            try:
                session.deliver(frame, message.id)
            except Exception:  # one recipient's fault costs no other recipient
                log.failure("could not deliver message {id}", id=message.id)

    def _answer(self, session: Session, message: wire.Message) -> None:
        sender = self._accounts.user(session.user_id)
        answer = self._commands.answer(message, sender, self._wall())
        session.answer(wire.text_frame(wire.encode_delivery(answer)))

    def _not_stored(self, failure: Failure, batch: list[tuple[Session, wire.Message]]) -> None:
        log.failure("{count} messages could not be stored", failure, count=len(batch))
        for user_id, position in self._saving.items():
            self._confirmed[user_id] = max(position, self._confirmed.get(user_id, 0))
        for session, message in batch:
            if message.topic == wire.SERVER:
                self._answer(session, message)
            else:
                self._refuse(session, "The message could not be stored. Please try again.")

    def _refuse(self, session: Session, text: str) -> None:
        error = wire.error_message(session.user_id, text, self._wall())
        session.send(wire.text_frame(wire.encode_delivery(error)))

    # From the store to one user.

    async def _catch_up(self, session: Session, outbox: Outbox) -> None:
        """Send a user what they missed, then let them have what comes."""
        places = (self._confirmed, self._saving)
        known = max(place.get(session.user_id, 0) for place in places)
        session.position = max(known, await self._store.cursor(session.user_id))
        live = False
        while not live:
            session.start_page()
            page = await self._store.page(session.user_id, session.position)
            await self._replay(session, outbox, page)
            live = page.complete and session.finish_page(page.head)

    async def _replay(self, session: Session, outbox: Outbox, page: Page) -> None:
        """What a user missed may be far more than an outbox holds: wait while it has no room."""
        for message in page.messages:
            frame = wire.text_frame(wire.encode_delivery(message))
            if not outbox.has_room(len(frame)):
                await outbox.drained()
            session.replay(frame, message.id)


def _fired(deferred: Deferred[None]) -> Deferred[list[tuple[bool, None]]]:
    """Fires when `deferred` does, and leaves its result to others."""
    return DeferredList([deferred])
