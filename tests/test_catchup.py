"""From the store to one session, page by page, until it is live."""

from __future__ import annotations

import functools
import json

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.support import NOW, TEXT, MemoryStore, make_message, make_user, take_frame
from wschat import catchup, v1, wire
from wschat.catchup import CatchUp
from wschat.codes import CloseCode
from wschat.commits import Commits
from wschat.hub import Session
from wschat.meters import Meters
from wschat.outbox import Outbox, Turn
from wschat.receipts import Receipts
from wschat.stream import PAGE_MESSAGES, Place


class CatchUpTests(SynchronousTestCase):
    """A session, an outbox, and a store that answers when it is told to."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.store = MemoryStore()
        for user_id in ("alice", "bob"):
            self.store.users._add(make_user(user_id))
        self.saved: list[dict[Place, int]] = []
        self.commits = Commits(
            self.store.stream,
            lambda: NOW,
            set(),
            clock=lambda: NOW,
            meters=Meters(),
            stored=lambda batch, appended: None,
            failed=lambda batch, failure: None,
            saved=lambda places: self.saved.append(dict(places)),
            out_of_turn=lambda session, message: None,
            batch_bytes=1000,
        )
        self.receipts = Receipts()
        self.turns: list[Deferred[None]] = []
        self.catch_up = CatchUp(
            self.store.stream,
            self.commits,
            self.receipts,
            self.next_turn,
            (10.0, 20.0),
            meters=Meters(),
        )
        self.written: list[bytes] = []
        self.closed: list[CloseCode] = []
        self.outbox = self.make_outbox(1024 * 1024)

    def next_turn(self) -> Deferred[None]:
        turn: Deferred[None] = Deferred()
        self.turns.append(turn)
        return turn

    def make_outbox(self, limit: int) -> Outbox:
        return Outbox(
            Turn(functools.partial(self.clock.callLater, 0)),
            limit,
            self.written.append,
            lambda: None,
        )

    def session(self, name: str | None = "phone") -> Session:
        dialect = wire.CLASSIC if name is None else v1.DIALECT
        session = Session("bob", self.outbox, self.closed.append, dialect)
        session.name = name
        return session

    def keep(self, count: int, size: int = 1, client_id: str = "m") -> None:
        """Messages for bob, whose contents are their ids."""
        head = len(self.store.stream._page("bob", 0, 10_000).messages)
        batch = []
        for number in range(head + 1, head + count + 1):
            message = make_message("alice", "bob", str(number).rjust(size))
            message.client_id = f"{client_id}-{number}"
            batch.append(message)
        self.store.stream._append(batch, {}, frozenset(), NOW)

    def frames(self) -> list[tuple[str, int]]:
        """What was written since the last time: the types, and the ids or places."""
        self.clock.advance(0)
        data, frames = b"".join(self.written), []
        self.written.clear()
        while (frame := take_frame(data)) is not None:
            opcode, payload, data = frame
            self.assertEqual(opcode, TEXT)
            read = json.loads(payload)
            number = read["position"] if read.get("type") == "resumed" else read["id"]
            frames.append((read.get("type", "classic"), number))
        self.assertEqual(data, b"")
        return frames

    def messages(self, *ids: int, kind: str = "message") -> list[tuple[str, int]]:
        return [(kind, number) for number in ids]

    def test_missed(self) -> None:
        """What is new since the place, between `resumed` and `caught_up`; then it is live."""
        self.keep(3)
        session = self.session()
        self.catch_up.begin(session, self.outbox, 1)
        self.assertEqual(self.frames(), [("resumed", 1), *self.messages(2, 3), ("caught_up", 3)])
        self.assertEqual((session.live, session.position, session.confirmed), (True, 3, 1))

    def test_classic(self) -> None:
        """A classic client gets the messages and nothing else, and no place of its own."""
        self.keep(2)
        self.catch_up.begin(self.session(None), self.outbox)
        self.assertEqual(self.frames(), self.messages(1, 2, kind="classic"))
        self.commits.commit()
        self.assertEqual(self.saved, [])

    def test_place_not_saved_yet(self) -> None:
        """A place that is known, but not in the store yet, counts."""
        self.keep(3)
        for name in ("phone", None):
            self.commits.move(("bob", name), 2)
            self.catch_up.begin(self.session(name), self.outbox)
        frames = [frame for frame in self.frames() if frame[0] in ("message", "classic")]
        self.assertEqual(frames, [("message", 3), ("classic", 3)])

    def test_new_session(self) -> None:
        """A new session's place is saved, so that it is remembered."""
        self.keep(1)
        self.catch_up.begin(self.session(), self.outbox)
        self.commits.commit()
        self.assertEqual(self.saved, [{("bob", "phone"): 0}])

    def test_pages(self) -> None:
        """Page after page, each message once."""
        count = 2 * PAGE_MESSAGES + 1
        self.keep(count)
        self.catch_up.begin(self.session(), self.outbox)
        self.assertEqual(self.frames()[1:-1], self.messages(*range(1, count + 1)))

    def test_receipts(self) -> None:
        """Who sent what was missed waits for it to be acknowledged, if the user had not."""
        self.keep(3)
        self.store.stream._append([], {("bob", None): 1}, frozenset(), NOW)
        self.catch_up.begin(self.session("new here"), self.outbox, 0)
        self.assertEqual(self.frames()[1:-1], self.messages(1, 2, 3))
        self.assertEqual([awaited.id for awaited in self.receipts.arrived("bob", 9)], [2, 3])

    def test_handled(self) -> None:
        """What a client has handled, more than was heard of, is an acknowledgement."""
        self.keep(3)
        self.catch_up.begin(self.session(), self.outbox, 2)
        self.assertEqual(self.saved, [{("bob", "phone"): 2, ("bob", None): 2}])
        self.assertEqual([awaited.id for awaited in self.receipts.arrived("bob", 2)], [1, 2])

    def test_handled_and_known(self) -> None:
        """What was heard of already is not read again."""
        self.keep(2)
        self.commits.move(("bob", None), 2)
        self.commits.move(("bob", "phone"), 2)
        self.catch_up.begin(self.session(), self.outbox, 2)
        self.assertEqual((len(self.receipts), self.saved), (0, []))

    def test_room(self) -> None:
        """When half of the outbox is taken it waits until that is empty, and goes on."""
        self.keep(8, size=300)
        self.outbox = self.make_outbox(2048)
        self.outbox.pauseProducing()
        session = self.session()
        self.catch_up.begin(session, self.outbox)
        had = 0
        rounds = 0
        while had < 8:
            self.assertLess(rounds, 10)
            self.outbox.resumeProducing()
            self.outbox.pauseProducing()
            new = [number for kind, number in self.frames() if kind == "message"]
            self.assertEqual(new, list(range(had + 1, had + len(new) + 1)))
            had, rounds = had + len(new), rounds + 1
        self.assertGreater(rounds, 2)
        self.assertEqual((had, session.live), (8, True))

    def test_turns(self) -> None:
        """After so many bytes, the others have their turn."""
        self.patch(catchup, "_TURN_BYTES", 1000)
        self.keep(10, size=400)
        self.catch_up.begin(self.session(), self.outbox)
        came = []
        while self.turns:
            came.append(len([kind for kind, _ in self.frames() if kind == "message"]))
            self.turns.pop().callback(None)
        self.assertEqual(came, [2, 2, 2, 2])
        self.assertEqual(self.frames(), [*self.messages(9, 10), ("caught_up", 10)])

    def test_connection_ends(self) -> None:
        """When the connection ends it ends as well, without a word."""
        self.keep(8, size=300)
        self.outbox = self.make_outbox(1024)
        self.outbox.pauseProducing()
        self.catch_up.begin(self.session(), self.outbox)
        self.outbox.close()
        self.assertEqual((self.closed, self.flushLoggedErrors()), ([], []))
        self.assertEqual(len(self.catch_up._running), 0)

    def test_store_fails(self) -> None:
        """When the store cannot be read the session is closed, and the fault logged."""
        self.keep(1, size=10)
        self.store.reader.held = True
        for stage in range(2):  # the place, the page
            self.catch_up.begin(self.session(), self.outbox)
            for _ in range(stage):
                self.store.reader.release()
            self.store.reader.fail(OSError("disk gone"))
            self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)
            self.assertEqual(self.closed, [CloseCode.INTERNAL] * (stage + 1))

    def test_nothing_missed(self) -> None:
        """Who has missed nothing is there after one look, with what came meanwhile."""
        self.store.reader.held = True
        session = self.session()
        self.catch_up.begin(session, self.outbox)
        self.store.reader.run()
        session.deliver(b"meanwhile", 1)
        calls = self.store.reader.calls
        self.store.reader.report()
        self.assertEqual((session.live, self.store.reader.calls), (True, calls))
        self.assertEqual(session.position, 1)

    def test_cancel(self) -> None:
        """Whoever stops it closes nothing, and logs nothing; twice is no error."""
        self.store.reader.held = True
        session = self.session()
        self.catch_up.begin(session, self.outbox)
        self.catch_up.cancel()
        self.catch_up.cancel()
        self.assertEqual((self.closed, self.flushLoggedErrors()), ([], []))
        self.assertFalse(session.live)
