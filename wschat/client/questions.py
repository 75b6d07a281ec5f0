"""What a server is asked: commands, and questions of `wschat.v1`, until they are answered."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred

from wschat import v1, wire
from wschat.client.accounts import ConnectionProblem, RequestRefused
from wschat.client.listener import SessionOver
from wschat.client.session import Session
from wschat.client.session_events import Answered, Told


class Questions:
    """Who waits for which answer.  A connection that is lost takes its questions with it."""

    def __init__(
        self, session: Session, flush: Callable[[], None], wall: Callable[[], float]
    ) -> None:
        """`flush` sends what the session has to send."""
        self._session = session
        self._flush = flush
        self._wall = wall
        self._answers: dict[str, Deferred[Any]] = {}
        self._wants_connection: list[Deferred[None]] | None = []  # None: there has been one

    def __len__(self) -> int:
        """How many answers are waited for."""
        return len(self._answers)

    def command(self, name: str, params: object = None) -> Deferred[wire.CommandAnswer]:
        """The answer to a command; fails with `ConnectionProblem` when the connection is lost."""
        return self._asked(self._session.command(name, self._wall(), params))

    async def ask(self, question: v1.AskHistory | v1.AskPresence) -> Any:
        """
        The answer to a question; it waits for the first connection.

        Before that nobody knows whom it would ask.  Raises `ValueError` when
        the server cannot answer it, `RequestRefused` when it does not,
        `ConnectionProblem` when the connection is lost, `QueueFull`.
        """
        if self._wants_connection is not None:
            connection: Deferred[None] = Deferred()
            self._wants_connection.append(connection)
            await connection
        told = await self._asked(self._session.ask(question))
        if isinstance(told, v1.Error):
            raise RequestRefused(told.reason)
        return told

    def _asked(self, request_id: str) -> Deferred[Any]:
        answer: Deferred[Any] = Deferred(lambda _: self._forget(request_id))
        self._answers[request_id] = answer
        self._flush()
        return answer

    def _forget(self, request_id: str) -> None:
        """Nobody waits for an answer any more: what was not sent yet is not sent."""
        self._answers.pop(request_id, None)
        self._session.forget({request_id})

    def opened(self) -> None:
        """There is a connection."""
        wanted, self._wants_connection = self._wants_connection, None
        for connection in wanted or ():
            connection.callback(None)

    def answered(self, event: Answered | Told) -> None:
        """An answer has come, perhaps one that nobody waits for any more."""
        answer = self._answers.pop(event.request_id, None)
        if answer is not None:
            answer.callback(event.answer)

    def lost(self, problem: ConnectionProblem | SessionOver) -> None:
        """The connection is gone, and with it what was asked."""
        answers, self._answers = self._answers, {}
        self._session.forget(answers)
        for answer in answers.values():
            answer.errback(problem)
