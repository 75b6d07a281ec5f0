"""What clients of `wschat.v1` ask: what became of messages, what was said, and who is there."""

from __future__ import annotations

from collections.abc import Mapping

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from wschat import v1
from wschat.codes import ErrorCode, Refused
from wschat.history import History
from wschat.hub import Registry, Session
from wschat.outbox import Closed, Outbox
from wschat.presence import Presence

log = Logger(namespace="wschat.questions")


class Questions:
    """Answers each question to the session that asked it, as soon as there is an answer."""

    def __init__(
        self,
        history: History,
        registry: Registry,
        presence: Presence[Session],
        outboxes: Mapping[Session, Outbox],
    ) -> None:
        """`outboxes` are those of all who are connected."""
        self._history = history
        self._registry = registry
        self._presence = presence
        self._outboxes = outboxes
        self._reading: set[Session] = set()  # sessions that wait for a page of history

    def answer(self, session: Session, asked: v1.Question) -> None:
        """Answer one, unless the session's connection has ended meanwhile."""
        outbox = self._outboxes.get(session)
        if outbox is None:
            return
        if isinstance(asked, v1.AskPresence):
            self._answer_presence(session, asked)
            return
        if isinstance(asked, v1.AskStatus):
            work = Deferred.fromCoroutine(self._answer_status(session, asked))
        elif session in self._reading:
            busy = Refused(ErrorCode.BUSY, "One page of history at a time, please.")
            session.send(v1.frame(v1.error(busy, request_id=asked.request_id)))
            return
        else:
            self._reading.add(session)
            work = Deferred.fromCoroutine(self._answer_history(session, outbox, asked))
            work.addBoth(self._read, session)
        work.addErrback(self._not_answered, session, asked)

    def _read(self, result: Failure | None, session: Session) -> Failure | None:
        self._reading.discard(session)
        return result

    def _not_answered(
        self, failure: Failure, session: Session, asked: v1.AskStatus | v1.AskHistory
    ) -> None:
        if failure.check(Closed):
            return
        log.failure("could not answer a question", failure)
        request_id = asked.request_id if isinstance(asked, v1.AskHistory) else None
        session.send(v1.frame(v1.error(Refused(ErrorCode.INTERNAL), request_id=request_id)))

    async def _answer_status(self, session: Session, asked: v1.AskStatus) -> None:
        wanted = [client_id for client_id in asked.client_ids if v1.valid_client_id(client_id)]
        fates = await self._history.fates(session.user_id, wanted)
        for client_id in asked.client_ids:
            fate = fates.get(client_id)
            if fate is None:
                session.send(v1.frame(v1.unknown(client_id)))
                continue
            session.send(v1.frame(v1.Stored(client_id, fate.id)))
            if fate.delivered:
                session.send(v1.frame(v1.Delivered(client_id, fate.id)))

    async def _answer_history(self, session: Session, outbox: Outbox, asked: v1.AskHistory) -> None:
        page = await self._history.page(
            session.user_id, asked.peer, asked.before, asked.after, asked.limit
        )
        history = v1.history(asked, session.user_id, page.messages, page.more, page.next)
        frame = v1.frame(history)
        while not outbox.has_room(len(frame)):
            await outbox.drained()
        session.send(frame)

    def _answer_presence(self, session: Session, asked: v1.AskPresence) -> None:
        there = self._registry.users
        away: dict[str, float] = {}
        if asked.users is not None:
            wanted = frozenset(asked.users)
            there = [user_id for user_id in there if user_id in wanted]
            seen = self._presence.last_seen
            away = {u: seen[u] for u in wanted - set(there) if u in seen}
        if asked.watch:
            self._presence.watch(session, asked.users)
        else:
            self._presence.unwatch(session)
        answer = v1.Presence(sorted(there), v1.times(away), asked.request_id)
        session.send(v1.frame(answer))  # at once, as the news that follow it
