"""
From the queue to the outboxes: what was stored goes where the hub says, and its sender is told.

Nothing is delivered, and no receipt sent and no command answered, before what
its sender sent earlier is on disk.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from twisted.logger import Logger
from twisted.python.failure import Failure

from wschat import v1, wire
from wschat.accounts import Accounts
from wschat.codes import DISK_FULL, ErrorCode, Refused
from wschat.commits import Entry, storable
from wschat.fanout import Fanout
from wschat.hub import Hub, Session
from wschat.meters import ANSWERED, ANY, Meters
from wschat.questions import Questions
from wschat.receipts import Receipts
from wschat.runner import Runner
from wschat.store import DiskFull
from wschat.stream import Appended, Place

log = Logger(namespace="wschat.delivery")


def _undelivered(message_id: int) -> None:
    log.failure("could not deliver message {id}", id=message_id)


class Delivery:
    """Does what a batch is for, once it is known what became of it."""

    def __init__(
        self,
        hub: Hub,
        accounts: Accounts,
        receipts: Receipts,
        questions: Questions,
        commands: Runner,
        *,
        wall: Callable[[], float],
        meters: Meters,
    ) -> None:
        """`wall` gives seconds since the epoch."""
        self._hub = hub
        self._accounts = accounts
        self._receipts = receipts
        self._questions = questions
        self._commands = commands
        self._wall = wall
        self._meters = meters
        self._failing = False  # whether the last commit failed

    def stored(self, batch: Sequence[Entry], appended: Appended) -> None:
        """A batch is on disk: deliver and answer, in its order."""
        if self._failing and len(appended.ids) > len(appended.repeats) + len(appended.full):
            log.info("messages are stored again")
            self._failing = False
        index = 0
        registry = self._hub.registry
        fanout = Fanout(lambda: registry.subscribers(wire.BROADCAST), registry.of, _undelivered)
        for session, work in batch:
            try:
                if not isinstance(work, wire.Message):
                    fanout.bring(session)
                    self._questions.answer(session, work)
                elif work.topic == wire.SERVER:
                    fanout.bring(session)
                    self._answer(session, work)
                else:
                    work.id = appended.ids[index]
                    self._settle(session, work, appended, index, fanout)
            except Exception:  # one message's fault costs no other message
                log.failure("could not deliver what {user_id} sent", user_id=session.user_id)
            if storable(work):
                index += 1
        try:
            fanout.finish()
        except Exception:
            log.failure("could not deliver broadcasts")
        self._meters.deliveries += fanout.deliveries

    def _settle(
        self,
        session: Session,
        message: wire.Message,
        appended: Appended,
        index: int,
        fanout: Fanout,
    ) -> None:
        """Deliver a message that was stored, once, and tell its sender."""
        if index in appended.full:
            self._refuse_message(session, Refused(ErrorCode.RECIPIENT_FULL), message)
            return
        if index in appended.held_up:
            self.out_of_turn(session, message)
            return
        if message.client_id is not None:
            self._meters.receipts["stored"] += 1
            session.send(v1.frame(v1.Stored(message.client_id, message.id)))
        if index in appended.repeats:
            return
        if message.topic == wire.BROADCAST:
            fanout.add(message)
        else:
            self._deliver(message, fanout)

    def _deliver(self, message: wire.Message, fanout: Fanout) -> None:
        recipients = self._hub.recipients(message)
        if not recipients:
            return
        self._meters.deliveries += len(recipients)
        frames: dict[wire.Dialect, bytes] = {}  # encoded once, however many read it
        for session in recipients:
            frame = frames.get(session.dialect)
            if frame is None:
                frame = frames[session.dialect] = session.dialect.delivery(message)
            try:
                fanout.bring(session)
                session.deliver(frame, message.id)
            except Exception:  # one recipient's fault costs no other recipient
                _undelivered(message.id)
        self._receipts.sent(message)

    def _answer(self, session: Session, message: wire.Message) -> None:
        sender = self._accounts.user(session.user_id)
        self._meters.messages[wire.Kind.SERVER, ANSWERED] += 1
        self._commands.answer(
            message, sender, lambda answer: session.answer(session.dialect.delivery(answer))
        )

    def not_stored(self, batch: Sequence[Entry], failure: Failure) -> None:
        """The commit of a batch failed: tell its senders, and answer what needs no disk."""
        disk_full = failure.check(DiskFull) is not None
        error = Refused(ErrorCode.NOT_STORED, DISK_FULL if disk_full else "")
        if not self._failing:  # … once, however long it lasts
            self._failing = True
            if disk_full:
                log.error("the disk is full: nothing is stored until there is room")
            else:
                log.failure("messages cannot be stored", failure)
        for session, work in batch:
            if not isinstance(work, wire.Message):
                self._questions.answer(session, work)
            elif work.topic == wire.SERVER:
                self._answer(session, work)
            else:
                self._refuse_message(session, error, work)

    def saved(self, places: Mapping[Place, int]) -> None:
        """Places are on disk: tell the senders whose messages have arrived there."""
        for (user_id, name), position in places.items():
            if name is not None:
                continue
            for message in self._receipts.arrived(user_id, position):
                self._tell_delivered(message.sender, message.client_id, message.id)

    def _tell_delivered(self, sender: str, client_id: str, message_id: int) -> None:
        frame = b""
        for session in self._hub.registry.of(sender):
            if session.dialect is v1.DIALECT and session.name is not None:
                frame = frame or v1.frame(v1.Delivered(client_id, message_id))
                self._meters.receipts["delivered"] += 1
                session.send(frame)

    # What goes no further.

    def out_of_turn(self, session: Session, message: wire.Message) -> None:
        """A message follows one that was refused."""
        self._refuse_message(session, Refused(ErrorCode.OUT_OF_TURN), message)

    def refuse(
        self,
        session: Session,
        error: Refused,
        client_id: str | None = None,
        request_id: str | int | None = None,
        kind: str = ANY,
    ) -> None:
        """
        A frame goes nowhere: tell its sender, by whatever names it gave to what it asked for.

        What follows a message that was refused waits until they know it.
        """
        self._meters.refused_message(kind, error.code)
        if client_id is not None:
            session.refused(client_id)
        session.send(
            session.dialect.refusal(
                session.user_id, error, self._wall(), client_id=client_id, request_id=request_id
            )
        )

    def _refuse_message(self, session: Session, error: Refused, message: wire.Message) -> None:
        self.refuse(session, error, message.client_id, kind=message.kind)
