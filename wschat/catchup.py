"""What a user missed: from the store to one session, page by page, until it is live."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from wschat import v1
from wschat.codes import CloseCode
from wschat.commits import Commits
from wschat.hub import Session
from wschat.meters import Meters
from wschat.outbox import Closed, Outbox
from wschat.receipts import Receipts
from wschat.stream import Page, Stream

#: Bytes of messages that are written of one session before the others have their turn.
_TURN_BYTES: Final = 128 * 1024

log = Logger(namespace="wschat.catchup")


class CatchUp:
    """The sessions that are catching up."""

    def __init__(
        self,
        stream: Stream,
        commits: Commits,
        receipts: Receipts,
        next_turn: Callable[[], Deferred[None]],
        limits: tuple[float, float],
        *,
        meters: Meters,
    ) -> None:
        """
        `next_turn` fires when the others have had theirs; `limits` are a
        user's, in messages a second and at once.
        """
        self._stream = stream
        self._commits = commits
        self._receipts = receipts
        self._next_turn = next_turn
        self.limits = limits
        self._meters = meters
        self._running: set[Deferred[None]] = set()

    def begin(self, session: Session, outbox: Outbox, after: int | None = None) -> None:
        """
        Send a session what its user missed, then let it have what comes.

        `after` is what its client says that it has handled.
        """
        running = Deferred.fromCoroutine(self._catch_up(session, outbox, after))
        self._running.add(running)

        def ended(result: Failure | None) -> None:
            self._running.discard(running)
            if isinstance(result, Failure) and not result.check(Closed, CancelledError):
                log.failure("could not read what a user missed", result)
                session.close(CloseCode.INTERNAL)

        running.addBoth(ended)

    def cancel(self) -> None:
        """Send no more of what was missed: it stays in the store."""
        for running in list(self._running):
            running.cancel()

    async def _catch_up(self, session: Session, outbox: Outbox, after: int | None) -> None:
        place, everywhere = (session.user_id, session.name), (session.user_id, None)
        unsaved, unsaved_anywhere = self._commits.place(place), self._commits.place(everywhere)
        session.start_page()
        start = await self._stream.start(place, after)
        position = max(unsaved, start.position)
        if not start.known:
            position = max(position, unsaved_anywhere)
        session.position = session.confirmed = position
        if session.name is not None:
            self._commits.move(place, session.position)  # so that a new one is remembered
            resumed = v1.Resumed(session.name, session.position, start.complete, *self.limits)
            session.send(v1.frame(resumed))
            read = max(start.read, self._commits.place((session.user_id, None)))
            if session.position > read:
                await self._handled(session, read)
        # Who has missed nothing needs no page: what has come since then was held.
        live = session.position >= start.head and session.finish_page(start.head)
        while not live:
            session.start_page()
            page = await self._stream.page(session.user_id, session.position)
            await self._replay(session, outbox, page, start.read)
            live = page.complete and session.finish_page(page.head)
        if session.name is not None:
            session.send(v1.frame(v1.CaughtUp(session.position)))

    async def _handled(self, session: Session, read: int) -> None:
        """
        A client had handled more than we heard of: what was acknowledged on a lost connection.

        For the senders it is an acknowledgement as any other.
        """
        position = session.position
        while read < position:
            page = await self._stream.page(session.user_id, read)
            for message in page.messages:
                if message.id <= position:
                    self._receipts.sent(message)
            read = position if page.complete else page.messages[-1].id
        self._commits.move((session.user_id, None), position)
        self._commits.commit()

    async def _replay(self, session: Session, outbox: Outbox, page: Page, read: int) -> None:
        """What a user missed may be far more than an outbox holds: wait while it has no room."""
        written = 0
        for message in page.messages:
            frame = session.dialect.delivery(message)
            if not outbox.has_room(len(frame)):
                await outbox.drained()
                written = 0
            elif written > _TURN_BYTES:
                await self._next_turn()
                written = 0
            session.replay(frame, message.id)
            written += len(frame)
            if message.id > read:
                self._receipts.sent(message)
        self._meters.replays += len(page.messages)
