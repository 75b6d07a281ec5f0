"""What is kept no longer."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.support import NOW, Limits, MemoryStore, ServerTests, make_message, make_user
from tests.test_service_v1 import ids
from wschat import users
from wschat.expiry import INTERVAL, Expiry
from wschat.store import DiskFull
from wschat.stream import EXPIRY_BATCH, Place

DAY = 86400.0


class ExpiryTests(SynchronousTestCase):
    """A background job over a store, in small steps."""

    def setUp(self) -> None:
        self.store = MemoryStore()
        for user_id in ("alice", "bob"):
            self.store.users._add(make_user(user_id))
        self.clock = Clock()
        self.there: list[Place] = []
        self.expiry = Expiry(
            self.store.stream,
            self.store.users,
            self.clock,
            self.wall,
            retention=30 * DAY,
            there=lambda: self.there,
        )

    def wall(self) -> float:
        return NOW + self.clock.seconds()

    def store_messages(self, count: int, days_ago: float) -> None:
        """Messages to bob that he has acknowledged."""
        batch = [make_message("alice", "bob", "hi") for _ in range(count)]
        appended = self.store.stream._append(batch, {}, frozenset(), NOW - days_ago * DAY)
        self.store.stream._append([], {("bob", None): appended.ids[-1]}, frozenset(), NOW)

    def kept(self) -> int:
        """How many messages there are, the latest thousands."""
        return len(self.store.stream._page("bob", 0, 10_000).messages)

    def test_old(self) -> None:
        """What is older than the retention and was acknowledged goes, at the start already."""
        self.store_messages(2, days_ago=31)
        self.store_messages(3, days_ago=29)
        self.expiry.start()
        self.assertEqual(self.kept(), 3)

    def test_again(self) -> None:
        """… and every ten minutes what has become so old since."""
        self.store_messages(2, days_ago=30 - 0.01)  # 864 seconds from being too old
        self.expiry.start()
        self.clock.advance(INTERVAL)
        self.assertEqual((INTERVAL, self.kept()), (600.0, 2))
        self.clock.advance(INTERVAL)
        self.assertEqual(self.kept(), 0)

    def test_steps(self) -> None:
        """Many go in several transactions, between which others have their turn."""
        self.store_messages(2 * EXPIRY_BATCH + 1, days_ago=31)
        self.store.writer.held = True
        self.expiry.start()
        left = []
        while len(self.store.writer):
            self.store.writer.release()
            left.append(self.kept())
        self.assertEqual(left, [EXPIRY_BATCH + 1, 1, 0])

    def test_sessions_that_are_there(self) -> None:
        """Who is connected is seen, however quiet; of too many, others are forgotten."""
        self.patch(users, "SESSIONS_PER_USER", 1)
        for seen, name in enumerate(("quiet", "other")):
            self.store.stream._append([], {("bob", name): 0}, frozenset(), NOW + seen)
        self.there = [("bob", "quiet"), ("alice", None)]
        self.clock.advance(60)
        self.expiry.start()
        self.assertEqual(self.store.stream._start(("bob", "quiet"), None).known, True)
        self.assertEqual(self.store.stream._start(("bob", "other"), None).known, False)

    def test_exactly_a_step(self) -> None:
        """When a step was full it looks once more, and then ends."""
        self.store_messages(EXPIRY_BATCH, days_ago=31)
        finished = self.expiry.run()
        self.successResultOf(finished)
        self.assertEqual(self.kept(), 0)

    def test_failure(self) -> None:
        """A failure is logged, and the next time is another."""
        self.store_messages(2, days_ago=31)
        self.store.writer.held = True
        self.expiry.start()
        self.store.writer.fail(OSError("disk gone"))
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)
        self.store.writer.held = False
        self.clock.advance(INTERVAL)
        self.assertEqual(self.kept(), 0)

    def test_disk_full(self) -> None:
        """A disk without room even for that is a line in the log, and no traceback."""
        self.store_messages(EXPIRY_BATCH, days_ago=31)
        self.store.writer.held = True
        self.expiry.start()
        self.store.writer.fail(DiskFull())
        self.assertEqual((len(self.store.writer), self.flushLoggedErrors(DiskFull)), (0, []))
        self.store.writer.held = False
        self.clock.advance(INTERVAL)
        self.assertEqual(self.kept(), 0)

    def test_slow(self) -> None:
        """While a step is under way no other begins, however long that takes."""
        self.store_messages(2, days_ago=31)
        self.store.writer.held = True
        self.expiry.start()
        self.clock.pump([INTERVAL] * 3)
        self.assertEqual(len(self.store.writer), 1)

    def test_stop(self) -> None:
        """After a stop no step begins, though there is more; the one under way ends well."""
        self.store_messages(EXPIRY_BATCH + 1, days_ago=31)
        self.store.writer.held = True
        self.expiry.start()
        self.expiry.stop()
        self.store.writer.release()
        self.assertEqual((len(self.store.writer), self.kept()), (0, 1))
        self.clock.pump([INTERVAL] * 3)
        self.assertEqual((len(self.store.writer), self.clock.getDelayedCalls()), (0, []))
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_stop_without_a_start(self) -> None:
        """Stopping what does not run, twice even, is no error."""
        self.expiry.stop()
        self.expiry.stop()


class RetentionTests(ServerTests):
    """The service runs it."""

    limits = Limits(retention=3600)

    def test_acknowledged(self) -> None:
        """When it is an hour old, a message goes that was acknowledged; not before."""
        self.server.add_users("alice", "bob")
        alice, bob = self.server.connect_v1("alice"), self.server.connect_v1("bob")
        alice.submit("bob", "1", "m-1")
        alice.submit("bob", "2", "m-2")
        bob.ack(1)
        self.server.advance(1)
        self.server.clock.pump([INTERVAL] * 5)
        self.assertEqual(self.kept(), [1, 2])
        self.server.clock.advance(INTERVAL)
        self.assertEqual(self.kept(), [2])  # which bob has not acknowledged
        bob = self.server.connect_v1("bob", after=1)
        (resumed,) = bob.frames("resumed")
        self.assertTrue(resumed["complete"])

    def test_too_old_to_be_complete(self) -> None:
        """A session whose messages are gone is told so, and goes on with those that are kept."""
        self.server.add_users("alice", "bob")
        alice = self.server.connect_v1("alice")
        self.server.connect_v1("bob", "phone").wire.lose()
        laptop = self.server.connect_v1("bob", "laptop")
        alice.submit("bob", "1", "m-1")
        laptop.ack(1)
        self.server.clock.pump([INTERVAL] * 7)
        self.assertEqual(self.kept(), [])
        self.server.connect_v1("alice").submit("bob", "2", "m-2")
        phone = self.server.connect_v1("bob", "phone", after=0)
        self.assertEqual(ids(phone), [2])

    def test_not_after_stopping(self) -> None:
        """When the service stops, so does this."""
        self.server.stop()
        self.assertEqual(self.server.clock.getDelayedCalls(), [])

    def kept(self) -> list[int]:
        return [message.id for message in self.server.store.stream._page("bob", 0, 100).messages]
