"""
Property tests of `wschat.client.session` with `wschat.v1`: what goes wrong comes right.

The server is a model, written from docs/protocol.md and no code of ours. It
drops connections with all that is under way, refuses as it likes, and serves
what an old connection had brought while a new one is there already.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.support import NOW
from wschat import identity, wire
from wschat.client.session import Session
from wschat.client.session_events import Answered, Received, Refused, Stored

KEY: Final = identity.PrivateKey(bytes(range(32)))

#: What becomes of a frame: done, or refused with a code.
DONE, LIMITED, BUSY, NOT_STORED = 0, 120, 121, 123


class Connection:
    """The server's end of a connection: what came, what is to go, and what was refused on it."""

    def __init__(self) -> None:
        self.inbox: list[dict[str, Any]] = []
        self.outbox: list[dict[str, Any]] = []
        self.refused: set[str] = set()
        self.resumed = False
        self.position = 0

    def tell(self, kind: str, **given: Any) -> None:
        self.outbox.append({"type": kind, **given})

    def refuse(self, code: int, client_id: str | None) -> None:
        """Refuse something; a message that follows it is refused as well until it is accepted."""
        if client_id is not None:
            self.refused.add(client_id)
        named = {} if client_id is None else {"client_id": client_id}
        self.tell("error", code=code, reason="no", again=True, retry_after_ms=300, **named)


class Model:
    """A server with one user's messages, and one user's stream."""

    def __init__(self, outcomes: list[int]) -> None:
        self.stored: list[str] = []
        self.stream = 0
        self.acknowledged = 0
        self._outcomes: Iterator[int] = iter(outcomes)

    def behind(self, connection: Connection) -> bool:
        """Whether there is a message that this connection has not got."""
        return connection.resumed and connection.position < self.stream

    def deliver(self, connection: Connection) -> None:
        """Hand out the next message of the stream."""
        connection.position += 1
        header = {"from": "bob", "to": "alice"}
        body = {"content": str(connection.position)}
        number = connection.position
        connection.tell("message", id=number, header=header, body=body, status="delivered")

    def serve(self, connection: Connection) -> None:
        """Deal with the next frame."""
        frame = connection.inbox.pop(0)
        if frame["type"] == "ack":
            assert frame["id"] <= connection.position, "an ack of what was not sent"
            self.acknowledged = max(self.acknowledged, frame["id"])
            return
        outcome = next(self._outcomes, DONE)
        header = frame.get("header", {})
        client_id = header.get("client_id")
        if outcome == LIMITED:
            connection.refuse(LIMITED, client_id)
        elif frame["type"] == "resume":
            self._resume(connection, frame.get("after", 0))
        elif not connection.resumed:
            connection.refuse(101, client_id)
        elif frame["type"] == "status":
            self._tell_status(connection, frame["client_ids"])
        elif header["to"] == "nobody":
            connection.refuse(110, client_id)
        elif outcome == BUSY:
            connection.refuse(BUSY, client_id)
        elif header.get("follows") in connection.refused:
            connection.refuse(124, client_id)
        elif outcome == NOT_STORED and header["to"] != "server":
            connection.refuse(NOT_STORED, client_id)
        else:
            connection.refused.discard(client_id)
            self._accept(connection, header["to"], client_id)

    def _resume(self, connection: Connection, after: int) -> None:
        assert not connection.resumed, "a second resume"
        connection.resumed = True
        connection.position = self.acknowledged = max(self.acknowledged, after)
        place = {"session": "desk", "position": connection.position, "complete": True}
        connection.tell("resumed", **place, rate=10.0, burst=20.0)

    def _accept(self, connection: Connection, to: str, client_id: str) -> None:
        if to == "server":
            content = json.dumps({"success": True, "request_id": client_id, "result": None})
            header = {"from": "server", "to": "alice"}
            body = {"content": content}
            connection.tell("message", id=0, header=header, body=body, status="delivered")
            return
        if client_id not in self.stored:
            self.stored.append(client_id)
        connection.tell("stored", client_id=client_id, id=self.stored.index(client_id) + 1)

    def _tell_status(self, connection: Connection, client_ids: list[str]) -> None:
        for client_id in client_ids:
            if client_id in self.stored:
                number = self.stored.index(client_id) + 1
                connection.tell("stored", client_id=client_id, id=number)
            else:
                connection.tell("error", code=111, reason="no", again=True, client_id=client_id)


class World:
    """A session, a server, and what is between them."""

    def __init__(self, outcomes: list[int]) -> None:
        self.now = NOW
        self.model = Model(outcomes)
        self.session = Session("alice", KEY, "desk")
        self.connection: Connection | None = None
        self.old: list[Connection] = []
        self.said: list[str] = []
        self.receipts: list[str] = []
        self.refusals: list[str | None] = []
        self.questions: set[str] = set()
        self.heard: list[wire.Message] = []
        self.handled = 0

    def live(self, happened: Round) -> None:
        """One round."""
        self.connect()
        for number in happened.says:
            self.say(number)
        if happened.asks:
            self.ask()
        self.model.stream += happened.sends
        for served, read in (
            (happened.served, happened.read),
            (happened.served_later, happened.read_later),
        ):
            self.write()
            self.serve(served)
            self.read(read)
        self.handle(happened.handled)
        self.write()
        self.now += happened.waits / 4
        if happened.cut is not None:
            self.cut(happened.cut)

    # What may happen; `number` says how much of it, or to whom.

    def say(self, number: int) -> None:
        to = ("bob", "broadcast", "nobody")[number % 3]
        client_id = self.session.send(to, "text", self.now)
        if to != "nobody":
            self.said.append(client_id)

    def ask(self) -> None:
        self.questions.add(self.session.command("ping", self.now))

    def write(self) -> None:
        """The client sends what it may."""
        if self.connection is not None:
            frames = self.session.data_to_send(self.now)
            self.connection.inbox += [json.loads(frame) for frame in frames]

    def serve(self, number: int) -> None:
        """The server deals with some frames, those of old connections among them."""
        connections = [*self.old, *([self.connection] if self.connection else [])]
        for step in range(number):
            waiting = [c for c in connections if c.inbox or self.model.behind(c)]
            if not waiting:
                return
            connection = waiting[(number + step) % len(waiting)]
            if self.model.behind(connection) and (step % 2 or not connection.inbox):
                self.model.deliver(connection)
            else:
                self.model.serve(connection)

    def read(self, number: int) -> None:
        """The client hears some of what was told."""
        for _ in range(number):
            if self.connection is None or not self.connection.outbox:
                return
            payload = json.dumps(self.connection.outbox.pop(0)).encode()
            event = self.session.receive(payload, self.now)
            if isinstance(event, Stored):
                self.receipts.append(event.client_id)
            elif isinstance(event, Refused):
                self.refusals.append(event.client_id)
            elif isinstance(event, Received):
                self.heard.append(event.message)
            elif isinstance(event, Answered):
                self.questions.discard(event.request_id)

    def handle(self, number: int) -> None:
        """The client's user deals with some of what came."""
        for message in self.heard[self.handled : self.handled + number]:
            self.session.handled(message)
            self.handled += 1

    def cut(self, number: int) -> None:
        """The connection is gone; the first of what was under way still arrives."""
        if self.connection is not None:
            del self.connection.inbox[number:]
            self.old.append(self.connection)
            self.connection = None
            self.session.lost()
            self.session.forget(self.questions)
            self.questions.clear()

    def connect(self) -> None:
        if self.connection is None:
            self.connection = Connection()
            self.session.opened(is_v1=True)

    def calm_down(self) -> None:
        """Nothing goes wrong any more, until all is said and handled."""
        self.model._outcomes = iter(())
        self.connect()
        for _ in range(50):
            self.write()
            for happen in (self.serve, self.read, self.handle):
                happen(100)
            self.now += 1


class Round(NamedTuple):
    """What happens before the next lot of it."""

    says: list[int]
    asks: bool
    sends: int
    served: int
    read: int
    served_later: int
    read_later: int
    handled: int
    cut: int | None
    waits: int


few: Final = st.integers(min_value=0, max_value=6)
outcome: Final = st.sampled_from((DONE, DONE, DONE, LIMITED, BUSY, NOT_STORED))
rounds: Final = st.lists(
    st.builds(
        Round,
        says=st.lists(few, max_size=4),
        asks=st.booleans(),
        sends=few,
        served=few,
        read=few,
        served_later=few,
        read_later=few,
        handled=few,
        cut=st.one_of(st.none(), few),
        waits=few,
    ),
    max_size=12,
)


class FaultTests(SynchronousTestCase):
    """A session and a server that have much to bear."""

    @settings(max_examples=300, deadline=None)
    @given(rounds, st.lists(outcome, max_size=100))
    def test_all_is_well(self, rounds: list[Round], outcomes: list[int]) -> None:
        """All is stored once, in its order, and receipted once; all that comes is heard once."""
        world = World(outcomes)
        for happened in rounds:
            world.live(happened)
        world.calm_down()
        self.assertEqual(world.model.stored, world.said)
        # … which may be told of some by the answer to `status`, and so in another order.
        self.assertCountEqual(world.receipts, world.said)
        self.assertEqual((world.session.waiting, world.session.unanswered), (0, 0))
        stream = [str(number + 1) for number in range(world.model.stream)]
        self.assertEqual([message.content for message in world.heard], stream)
        self.assertEqual(world.model.acknowledged, world.model.stream)
        self.assertEqual(world.refusals.count(None), 0)
        self.assertEqual(len(world.refusals), len(set(world.refusals)))
