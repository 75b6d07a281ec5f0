"""Group commit: what waits, what goes into one transaction, and what is told of it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tests.support import NOW, MemoryStore, Taken, make_user
from wschat import commits, v1
from wschat.codes import ErrorCode, Refused
from wschat.commits import Commits, storable
from wschat.hub import Session
from wschat.meters import Meters
from wschat.store import DiskFull
from wschat.stream import Appended, Place
from wschat.wire import Message


def message(
    content: str, topic: str = "bob", client_id: str | None = None, follows: str | None = None
) -> Message:
    time = "2026-11-22T10:00:00Z"
    return Message("alice", topic, content, time, client_id=client_id, follows=follows)


class StorableTests(SynchronousTestCase):
    """What is stored, and what only rides along."""

    def test_messages(self) -> None:
        """Messages are, to whomever; commands and questions are not."""
        found = [storable(message("hi", topic)) for topic in ("bob", "broadcast", "server")]
        self.assertEqual(found, [True, True, False])
        asked = (v1.AskStatus([]), v1.AskHistory("bob"), v1.AskPresence())
        self.assertEqual([storable(work) for work in asked], [False] * 3)


class CommitsCase(SynchronousTestCase):
    """Commits over a store whose writer is held."""

    def setUp(self) -> None:
        self.store = MemoryStore()
        for user_id in ("alice", "bob", "charlie"):
            self.store.users._add(make_user(user_id))
        self.writer = self.store.writer
        self.writer.held = True
        self.there = {"alice", "bob"}
        self.meters = Meters()
        #: What was told, in order.
        self.told: list[tuple[str, Any]] = []
        self.session = Session("alice", Taken(), lambda code: None)
        self.commits = self.make()

    def make(self, batch_bytes: int = 1000) -> Commits:
        return Commits(
            self.store.stream,
            lambda: NOW,
            self.there,
            clock=lambda: NOW,
            meters=self.meters,
            stored=self.stored,
            failed=self.failed,
            saved=lambda places: self.told.append(("saved", places)),
            out_of_turn=lambda session, refused: self.told.append(("out of turn", refused.content)),
            batch_bytes=batch_bytes,
        )

    def names(self, batch: Any) -> list[str]:
        return [w.content if isinstance(w, Message) else type(w).__name__ for _, w in batch]

    def stored(self, batch: Any, appended: Appended) -> None:
        self.told.append(("stored", (self.names(batch), list(appended.ids))))

    def failed(self, batch: Any, failure: Failure) -> None:
        self.told.append(("failed", (self.names(batch), failure.type)))

    def put(self, *contents: str) -> None:
        for content in contents:
            self.commits.put(self.session, message(content), len(content))

    def stored_batches(self) -> list[tuple[list[str], list[int]]]:
        return [what for how, what in self.told if how == "stored"]

    def release(self) -> None:
        self.writer.release()

    def cursor(self, user_id: str) -> int:
        return self.store.stream._start((user_id, None), None).position


class CommitsTests(CommitsCase):
    """Everything that arrives while a commit runs goes into the next one."""

    def test_group(self) -> None:
        """The first goes at once; all that comes meanwhile goes together."""
        self.put("1", "2", "3")
        self.assertEqual((len(self.writer), self.told), (1, []))
        self.release()
        self.assertEqual(self.stored_batches(), [(["1"], [1])])
        self.assertEqual(len(self.writer), 1)
        self.release()
        self.assertEqual(self.stored_batches(), [(["1"], [1]), (["2", "3"], [2, 3])])
        self.assertEqual(len(self.writer), 0)

    def test_nothing_waits(self) -> None:
        """Without anything to be stored or saved there is no commit."""
        self.commits.commit()
        self.assertEqual(self.writer.calls, 0)

    def test_batch_bytes(self) -> None:
        """One commit has no more content than is said, by a message at most; the rest is next."""
        self.commits = self.make(batch_bytes=10)
        self.put("first", *("x" * 6 for _ in range(5)))
        for _ in range(4):
            self.release()
        self.assertEqual([len(names) for names, _ in self.stored_batches()], [1, 2, 2, 1])

    def test_questions_ride_along(self) -> None:
        """What is not stored is told in its place, and takes no id."""
        self.put("first", "1")
        self.commits.put(self.session, v1.AskPresence(), 0)
        self.commits.put(self.session, message("{}", "server"), 1)
        self.put("2")
        self.release()
        self.release()
        self.assertEqual(self.stored_batches()[1], (["1", "AskPresence", "{}", "2"], [2, 3]))

    def test_questions_alone(self) -> None:
        """With nothing to be stored before it, a question is told at once."""
        self.commits.put(self.session, v1.AskPresence(), 0)
        self.assertEqual(self.told, [("stored", (["AskPresence"], [])), ("saved", {})])
        self.assertEqual(self.writer.calls, 0)

    def test_away(self) -> None:
        """Only those who are not there have a bounded inbox."""
        self.store.stream._offline_limit = 1
        for topic in ("bob", "charlie", "broadcast"):
            for number in (1, 2):
                self.commits.put(self.session, message(f"{topic} {number}", topic), 1)
        self.release()
        self.release()
        found = dict(zip(*self.stored_batches()[1], strict=True))
        self.assertEqual([name for name, known in found.items() if not known], ["charlie 2"])

    def test_too_much_waits(self) -> None:
        """Past a number of bytes nothing more is taken, until that is less again."""
        self.patch(commits, "QUEUE_BYTES", 10)
        self.put("first", "x" * 10)
        error = self.assertRaises(Refused, self.put, "y")
        self.assertEqual(error.code, ErrorCode.BUSY)
        self.commits.put(self.session, v1.AskPresence(), 0)  # which has no content
        self.release()
        self.put("z" * 10)
        self.release()
        self.release()
        self.assertEqual(
            [names for names, _ in self.stored_batches()],
            [["first"], ["x" * 10, "AskPresence"], ["z" * 10]],
        )

    def test_room(self) -> None:
        """There is room for some commits' worth; who waits goes on after one, in their order."""
        self.commits = self.make(batch_bytes=10)
        went: list[str] = []

        def go_on(name: str) -> Callable[[], None]:
            def put() -> None:
                went.append(name)
                self.put(name * 40)

            return put

        self.put("first", "x" * 39)
        self.assertTrue(self.commits.has_room)
        self.put("y")
        self.assertFalse(self.commits.has_room)
        for name in ("a", "b"):
            self.commits.when_room(go_on(name))
        self.assertEqual(went, [])
        self.release()
        self.assertEqual((went, self.commits.has_room), (["a"], False))
        self.release()
        self.assertEqual((went, self.commits.has_room), (["a", "b"], False))
        for _ in range(2):
            self.release()
        self.assertEqual(
            [names for names, _ in self.stored_batches()],
            [["first"], ["x" * 39], ["y", "a" * 40], ["b" * 40]],
        )

    def test_many_questions(self) -> None:
        """However many commits of nothing but questions are due at once, all are answered."""
        self.commits = self.make(batch_bytes=1)
        self.put("first")
        for _ in range(3000):
            self.commits.put(self.session, v1.AskPresence(), 1)
        self.release()
        self.put("next")
        self.release()
        found = [names for names, _ in self.stored_batches()]
        self.assertEqual(found, [["first"], *[["AskPresence"]] * 3000, ["next"]])

    def test_room_for_questions(self) -> None:
        """However many wait, who goes on with what needs no commit is not in another's way."""
        self.commits = self.make(batch_bytes=10)
        depths: list[int] = []

        def asks() -> None:
            depths.append(len(inspect.stack(0)))
            self.commits.put(self.session, v1.AskPresence(), 1)

        self.put("first", "x" * 40)
        for _ in range(500):
            self.commits.when_room(asks)
        self.release()
        self.release()
        self.assertEqual(len(depths), 500)
        self.assertLess(max(depths) - min(depths), 20)

    def test_room_after_a_failure(self) -> None:
        """What cannot be stored makes room, too."""
        self.commits = self.make(batch_bytes=10)
        went: list[str] = []
        self.put("first", "x" * 40)
        self.commits.when_room(lambda: went.append("next"))
        self.writer.fail(OSError("gone"))
        self.assertEqual(went, ["next"])

    def test_places(self) -> None:
        """Places are saved when that is asked for, with what waits, and told after it."""
        self.commits.move(("bob", None), 5)
        self.commits.move(("bob", "phone"), 4)
        self.put("1", "2")
        self.commits.commit()
        self.release()
        self.assertEqual(self.told, [("stored", (["1"], [1])), ("saved", {})])
        self.release()
        places: dict[Place, int] = {("bob", None): 5, ("bob", "phone"): 4}
        self.assertEqual(self.told[2:], [("stored", (["2"], [2])), ("saved", places)])
        self.assertEqual(self.cursor("bob"), 2)  # as far as there are messages

    def test_places_alone(self) -> None:
        """… also when nothing else does, and not before: no message pays for places."""
        self.commits.move(("bob", None), 5)
        self.put("1")
        self.release()
        self.assertEqual(self.told, [("stored", (["1"], [1])), ("saved", {})])
        self.commits.commit()
        self.release()
        self.assertEqual(self.told[2:], [("stored", ([], [])), ("saved", {("bob", None): 5})])
        self.commits.commit()
        self.assertEqual(len(self.writer), 0)

    def test_place(self) -> None:
        """A place is known until it is saved, and never goes back."""
        place = ("bob", None)
        self.assertEqual(self.commits.place(place), 0)
        self.commits.move(place, 5)
        self.commits.move(place, 3)
        self.assertEqual(self.commits.place(place), 5)
        self.commits.commit()
        self.assertEqual(self.commits.place(place), 5)
        self.commits.move(place, 7)
        self.assertEqual(self.commits.place(place), 7)
        self.release()
        self.assertEqual(self.commits.place(place), 7)
        self.assertEqual(
            [self.commits.place(("bob", "x")), self.commits.place(("x", None))], [0, 0]
        )

    def test_asked_for_during_a_commit(self) -> None:
        """A commit that is asked for while one is under way comes right after it."""
        self.put("1")
        self.commits.move(("bob", None), 1)
        self.commits.commit()
        self.release()
        self.assertEqual(len(self.writer), 1)
        self.release()
        self.assertEqual(self.cursor("bob"), 1)
        self.assertEqual(len(self.writer), 0)

    def test_not_asked_for(self) -> None:
        """Places alone are not worth a commit that nobody asked for."""
        self.put("1")
        self.commits.move(("bob", None), 1)
        self.release()
        self.assertEqual((len(self.writer), self.writer.calls), (0, 1))

    def test_failure(self) -> None:
        """A commit that failed is told with the error; its places are saved with a later one."""
        self.commits.move(("bob", None), 1)
        self.put("1")
        self.commits.move(("bob", None), 2)
        self.commits.move(("alice", None), 1)
        self.writer.fail(DiskFull())
        self.assertEqual(self.told, [("failed", (["1"], DiskFull))])
        self.assertEqual(self.commits.place(("bob", None)), 2)
        self.commits.commit()
        self.writer.fail(DiskFull())
        self.assertEqual(self.told[1:], [("failed", ([], DiskFull))])
        self.commits.commit()
        self.release()
        places: dict[Place, int] = {("bob", None): 2, ("alice", None): 1}
        self.assertEqual(self.told[2:], [("stored", ([], [])), ("saved", places)])

    def test_out_of_turn(self) -> None:
        """What follows a refused message is not stored, which is told; what is behind it is."""
        self.put("first")
        self.session.refused("m-1")
        self.commits.put(self.session, message("2", client_id="m-2", follows="m-1"), 1)
        self.put("3")
        self.release()
        self.release()
        self.assertIn(("out of turn", "2"), self.told)
        self.assertEqual(self.stored_batches(), [(["first"], [1]), (["3"], [2])])

    def test_all_out_of_turn(self) -> None:
        """When nothing is left of a batch, nothing is stored, and life goes on."""
        self.session.refused("m-1")
        self.commits.put(self.session, message("2", client_id="m-2", follows="m-1"), 1)
        self.assertEqual((self.told[0], self.writer.calls), (("out of turn", "2"), 0))
        self.put("3")
        self.release()
        self.assertEqual(self.stored_batches()[-1], (["3"], [1]))

    def test_refused_while_it_waits(self) -> None:
        """Whether something is in turn is seen when its commit begins, not when it came."""
        self.put("first")
        self.commits.put(self.session, message("2", client_id="m-2", follows="m-1"), 1)
        self.session.refused("m-1")
        self.commits.put(self.session, message("1", client_id="m-1"), 1)
        self.commits.put(self.session, message("2", client_id="m-2", follows="m-1"), 1)
        self.release()
        self.release()
        self.assertIn(("out of turn", "2"), self.told)
        self.assertEqual(self.stored_batches()[1], (["1", "2"], [2, 3]))

    def test_a_fault_of_whoever_is_told(self) -> None:
        """It is logged, and the next commit comes all the same."""

        def faulty(batch: Any, appended: Appended) -> None:
            raise ZeroDivisionError

        self.commits._told_stored = faulty
        self.put("1", "2")
        self.release()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(len(self.writer), 1)


class DrainTests(CommitsCase):
    """Stopping: all is stored and saved, and it ends."""

    def drain(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self.commits.drain())

    def test_idle(self) -> None:
        """With nothing to do it is over at once."""
        self.successResultOf(self.drain())

    def test_all(self) -> None:
        """It waits for the commit under way, the ones after it, and all places."""
        self.commits = self.make(batch_bytes=1)
        self.put("1", "2", "3")
        self.commits.move(("bob", None), 3)
        draining = self.drain()
        for _ in range(3):
            self.assertNoResult(draining)
            self.release()
        self.successResultOf(draining)
        self.assertEqual((len(self.stored_batches()), self.cursor("bob")), (3, 3))

    def test_store_fails(self) -> None:
        """A store that fails is tried a few times, and given up."""
        self.commits.move(("bob", None), 1)
        draining = self.drain()
        for _ in range(5):
            self.assertNoResult(draining)
            self.writer.fail(OSError("disk gone"))
        self.successResultOf(draining)
