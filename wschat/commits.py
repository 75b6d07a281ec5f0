"""
Group commit: what waits to be stored, and the transaction that stores all of it.

Everything that arrives while a commit runs goes into the next one.  What is
not stored itself (a command, a question) rides along, so that it is answered
after what its sender sent before.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Container, Sequence
from typing import Final

from twisted.internet.defer import Deferred, DeferredList
from twisted.logger import Logger
from twisted.python.failure import Failure

from wschat import v1, wire
from wschat.codes import ErrorCode, Refused
from wschat.hub import Session
from wschat.meters import Meters
from wschat.stream import Appended, Place, Stream

#: What may wait to be stored, in bytes on the wire; past that senders are refused.
QUEUE_BYTES: Final = 64 * 1024 * 1024

#: The bytes of how many commits may wait to be stored, before what senders send is read no further.
_COMMITS_AHEAD: Final = 4

#: How many messages and questions go into one commit.
_BATCH: Final = 2000

#: How many commits of a drain may bring it no further before it gives up on the store.
_DRAIN_FAILURES: Final = 5

#: What a session wants done, in its turn.
Work = wire.Message | v1.Question

Entry = tuple[Session, Work]

#: An entry with its size on the wire, in bytes.
_Queued = tuple[Session, Work, int]

log = Logger(namespace="wschat.commits")


def storable(work: Work) -> bool:
    """Whether something is to be stored: a message that is no command."""
    return isinstance(work, wire.Message) and work.topic != wire.SERVER


class Commits:
    """The queue before the store, and everybody's place until it is saved."""

    def __init__(
        self,
        stream: Stream,
        wall: Callable[[], float],
        there: Container[str],
        *,
        clock: Callable[[], float],
        meters: Meters,
        stored: Callable[[Sequence[Entry], Appended], None],
        failed: Callable[[Sequence[Entry], Failure], None],
        saved: Callable[[dict[Place, int]], None],
        out_of_turn: Callable[[Session, wire.Message], None],
        batch_bytes: int,
    ) -> None:
        """
        `there` holds the users who are connected; `clock` is a steady one, for
        how long a commit takes, which `meters` count.  The other callables are told of
        each batch, stored or not; of the places that were saved; and of
        messages that follow one that was refused.  `batch_bytes` is how much
        goes into one commit, and so into outboxes at once.
        """
        self._stream = stream
        self._wall = wall
        self._there = there
        self._clock = clock
        self._meters = meters
        self._told_stored = stored
        self._told_failed = failed
        self._told_saved = saved
        self._out_of_turn = out_of_turn
        self._batch_bytes = batch_bytes
        self._queue: deque[_Queued] = deque()
        self._queued_bytes = 0
        self._waiting: deque[Callable[[], None]] = deque()  # for room
        self._letting_go_on = False
        self._committing: Deferred[None] | None = None
        self._places: dict[Place, int] = {}  # that are not saved yet
        self._places_due = False  # whether they go into the next commit
        self._saving: dict[Place, int] = {}  # … and those in the commit that is under way

    def put(self, session: Session, work: Work, size: int) -> None:
        """
        Have something done after all that came before.

        `size` is what it has on the wire, in bytes.  Raises `Refused` when too
        much waits.
        """
        if self._queued_bytes + size > QUEUE_BYTES:
            raise Refused(ErrorCode.BUSY)
        self._queue.append((session, work, size))
        self._queued_bytes += size
        self._begin()

    @property
    def queued_bytes(self) -> int:
        """What waits to be stored, in bytes on the wire."""
        return self._queued_bytes

    @property
    def has_room(self) -> bool:
        """Whether no more waits than some commits take; else who sends is to wait as well."""
        return self._queued_bytes < _COMMITS_AHEAD * self._batch_bytes

    def when_room(self, go_on: Callable[[], None]) -> None:
        """
        Call `go_on`, which raises nothing, when there is room; who has waited longer is first.

        For who has found that there is none: then a commit is under way, after which it is seen
        to.
        """
        self._waiting.append(go_on)

    def _let_go_on(self) -> None:
        """Whoever goes on may put something here at once, which may be done with at once."""
        if self._letting_go_on:
            return  # whoever does goes on
        self._letting_go_on = True
        try:
            while self._waiting and self.has_room:
                self._waiting.popleft()()
        finally:
            self._letting_go_on = False

    def move(self, place: Place, position: int) -> None:
        """Somebody has everything up to `position`; it is saved when `commit` is called."""
        if position > self._places.get(place, -1):
            self._places[place] = position

    def place(self, place: Place) -> int:
        """The place of somebody as far as it is not in the store yet; 0 when it is."""
        return max(places.get(place, 0) for places in (self._places, self._saving))

    def commit(self) -> None:
        """
        Store all that waits, and save everybody's place.

        Where a commit is under way, it is in the next one.
        """
        self._places_due = True
        self._begin()

    def _begin(self) -> None:
        """Begin a commit, unless one is under way; a place that nobody waits for can wait."""
        while self._committing is None and self._begin_next():
            pass
        self._let_go_on()

    def _begin_next(self) -> bool:
        """Begin one, or do at once what needs none; whether there was anything to do."""
        if self._places_due:
            self._saving, self._places = self._places, {}
            self._places_due = False
        if not (self._queue or self._saving):
            return False
        batch = self._next_batch()
        storing = [work for _, work in batch if isinstance(work, wire.Message) and storable(work)]
        if storing or self._saving:
            recipients = {message.topic for message in storing} - {wire.BROADCAST}
            away = {user_id for user_id in recipients if user_id not in self._there}
            began = self._clock()
            stored = self._stream.append(storing, self._saving, away, self._wall())
            self._committing = Deferred()
            stored.addCallback(self._counted, storing, began)
            stored.addCallbacks(self._stored, self._failed, (batch,), {}, (batch,))
            stored.addErrback(lambda failure: log.failure("the turn of a commit failed", failure))
            stored.addBoth(self._committed)
        else:
            self._committing = Deferred()
            try:
                self._stored(Appended(range(0)), batch)
            except Exception:
                log.failure("the turn of a commit failed")
            self._ended()
        return True

    def _next_batch(self) -> list[Entry]:
        """What is stored and then delivered at once: no more than quick readers can take."""
        batch: list[Entry] = []
        size = 0
        while self._queue and size < self._batch_bytes and len(batch) < _BATCH:
            session, work, bytes_ = self._queue.popleft()
            self._queued_bytes -= bytes_
            if isinstance(work, wire.Message) and not session.in_turn(work):
                self._out_of_turn(session, work)
                continue
            batch.append((session, work))
            size += bytes_
        return batch

    def _counted(self, appended: Appended, storing: list[wire.Message], began: float) -> Appended:
        repeated: list[wire.Message] = []
        if appended.repeats or appended.full or appended.held_up:
            repeated = [storing[index] for index in appended.repeats]
            old = {*appended.repeats, *appended.full, *appended.held_up}
            storing = [message for index, message in enumerate(storing) if index not in old]
        self._meters.committed(storing, repeated, self._clock() - began)
        return appended

    def _stored(self, appended: Appended, batch: list[Entry]) -> None:
        saved, self._saving = self._saving, {}
        self._told_stored(batch, appended)
        self._told_saved(saved)

    def _failed(self, failure: Failure, batch: list[Entry]) -> None:
        for place, position in self._saving.items():
            self.move(place, position)
        self._saving = {}
        self._meters.failed_commits += 1
        self._told_failed(batch, failure)

    def _committed(self, _: object) -> None:
        self._ended()
        self._begin()

    def _ended(self) -> None:
        committing, self._committing = self._committing, None
        if committing is not None:
            committing.callback(None)

    async def drain(self) -> None:
        """Wait until all that was put here is stored and every place saved."""
        failures = 0
        while failures < _DRAIN_FAILURES:  # one may be under way, and leave more for the next
            before = len(self._queue)
            self.commit()
            if self._committing is None:
                return
            await DeferredList([self._committing])
            failures += len(self._queue) >= before
