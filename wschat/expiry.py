"""What is kept no longer: a background job, in small steps between the commits of messages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from wschat.store import DiskFull
from wschat.stream import Expired, Place, Stream
from wschat.users import Users

#: How often it is looked for, in seconds.
INTERVAL: Final = 600.0

log = Logger(namespace="wschat.expiry")


class Expiry:
    """Removes what is older than the retention, and acknowledged."""

    def __init__(
        self,
        stream: Stream,
        users: Users,
        clock: IReactorTime,
        wall: Callable[[], float],
        *,
        retention: float,
        there: Callable[[], Sequence[Place]],
    ) -> None:
        """`retention` is in seconds; `there` gives the places of who is connected."""
        self._stream = stream
        self._users = users
        self._wall = wall
        self._retention = retention
        self._there = there
        self._job = LoopingCall(self.run)
        self._job.clock = clock
        self._stopped = False

    def start(self) -> None:
        """Begin, now and again and again."""
        self._job.start(INTERVAL)

    def stop(self) -> None:
        """Begin no other step."""
        self._stopped = True
        if self._job.running:
            self._job.stop()

    def run(self) -> Deferred[None]:
        """Remove all that can be removed now; a failure is logged, and costs only this run."""
        running = Deferred.fromCoroutine(self._run())
        return running.addErrback(lambda failure: log.failure("could not expire", failure))

    async def _run(self) -> None:
        total = 0
        try:
            await self._users.see_sessions(self._there(), self._wall())
            await self._users.forget_sessions()
            step = Expired(0, 0, more=True)
            while step.more and not self._stopped:
                step = await self._stream.expire(self._wall() - self._retention, step.through)
                total += step.removed
        except DiskFull:
            log.error("the disk is full: nothing can be removed, either")
        if total:
            log.info("removed {total} messages that are older than the retention", total=total)
