"""
The end of a server, as its sessions see it: told, heard to the last frame, then closed.

A session of `wschat.v1` is told when to come back, and pinged behind that.
Its client sends nothing after it has read the one, so its answer to the other
says that all it sent has arrived.
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterable
from typing import Final

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from wschat import v1
from wschat.codes import CloseCode
from wschat.hub import Session

#: How many sessions are asked back in a second, and over how many seconds at most.
_BACK_A_SECOND: Final = 250
_LONGEST_SPREAD: Final = 8.0


def waits(sessions: int) -> list[int]:
    """When each of so many sessions is to come back, in milliseconds: evenly spread."""
    soonest = CloseCode.SHUTDOWN.advice.wait or 0
    spread = min(_LONGEST_SPREAD, sessions / _BACK_A_SECOND) * 1000
    return [soonest + round(spread * number / sessions) for number in range(sessions)]


async def within(clock: IReactorTime, seconds: float, work: Awaitable[object]) -> bool:
    """Wait for something, but for so many seconds at most; whether it was done by then."""

    async def finish() -> None:
        await work

    done = Deferred.fromCoroutine(finish())
    late: Deferred[None] = deferLater(clock, max(0.0, seconds))
    await DeferredList([done, late], fireOnOneCallback=True, consumeErrors=True)
    in_time = done.called
    late.cancel()
    return in_time


class Farewell:
    """Tells sessions that the server ends, and knows who has heard it."""

    def __init__(self, sessions: Iterable[Session]) -> None:
        #: Fires when everybody has heard it, or is gone.
        self.heard: Deferred[None] = Deferred()
        told = [s for s in sessions if s.dialect is v1.DIALECT and s.name is not None]
        self._waiting = set(told)
        for session, wait in zip(told, waits(len(told)), strict=True):
            session.send(v1.frame(v1.Draining(wait)))
            session.probe(lambda session=session: self.gone(session))  # type: ignore[misc]
        self._look()

    def gone(self, session: Session) -> None:
        """A session has heard it, or has ended."""
        self._waiting.discard(session)
        self._look()

    def _look(self) -> None:
        if not (self._waiting or self.heard.called):
            self.heard.callback(None)
