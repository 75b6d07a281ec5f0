"""Tests of `wschat.outbox`."""

from __future__ import annotations

import functools
import weakref

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from wschat.outbox import Closed, Outbox, Turn

LIMIT = 1000


class OutboxTests(SynchronousTestCase):
    """What waits to be written to one connection."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.turn = Turn(functools.partial(self.clock.callLater, 0))
        self.written: list[bytes] = []
        self.overflows = 0
        self.outbox = self.make()

    def make(self, limit: int = LIMIT) -> Outbox:
        return Outbox(self.turn, limit, self.written.append, self.overflow)

    def overflow(self) -> None:
        self.overflows += 1

    def end_turn(self) -> None:
        self.clock.advance(0)

    def test_interface(self) -> None:
        """An outbox is a push producer."""
        self.assertTrue(verifyObject(IPushProducer, self.outbox))

    def test_one_write_a_turn(self) -> None:
        """Frames of one turn are one write, in order, when the turn is over."""
        for frame in (b"a", b"b", b"c"):
            self.outbox.write(frame, 0)
        self.assertEqual(self.written, [])
        self.end_turn()
        self.assertEqual(self.written, [b"abc"])

    def test_alone(self) -> None:
        """A frame that is alone is written as it is: all recipients of a broadcast share it."""
        frame = bytes(range(100))
        self.outbox.write(frame, 7)
        self.end_turn()
        self.assertIs(self.written[0], frame)
        self.assertEqual((self.outbox.position, self.outbox.size), (7, 0))

    def test_write_through(self) -> None:
        """A frame is written at once, as it is, where nothing waits before it."""
        frame = bytes(range(100))
        self.outbox.write_through(frame, 7)
        self.outbox.write_through(b"b", 8)
        self.assertEqual(self.written, [frame, b"b"])
        self.assertIs(self.written[0], frame)
        self.assertEqual((self.outbox.position, self.outbox.size), (8, 0))

    def test_write_through_in_order(self) -> None:
        """… and waits for its turn behind what waits, and while the transport has enough."""
        self.outbox.write(b"a", 1)
        self.outbox.write_through(b"b", 2)
        self.assertEqual((self.written, self.outbox.position), ([], 0))
        self.end_turn()
        self.outbox.pauseProducing()
        self.outbox.write_through(b"c", 3)
        self.end_turn()
        self.assertEqual((self.written, self.outbox.position), ([b"ab"], 2))
        self.outbox.resumeProducing()
        self.assertEqual((self.written, self.outbox.position), ([b"ab", b"c"], 3))

    def test_write_through_overflow(self) -> None:
        """… and counts to the limit when it waits; nothing goes to one that is closed."""
        self.outbox.pauseProducing()
        self.outbox.write_through(b"x" * LIMIT, 1)
        self.outbox.write_through(b"y", 2)
        self.assertEqual(self.overflows, 1)
        self.outbox.resumeProducing()
        self.outbox.write_through(b"z", 3)
        self.end_turn()
        self.assertEqual(self.written, [])

    def test_next_turn(self) -> None:
        """What comes in the next turn is the next write."""
        self.outbox.write(b"a", 0)
        self.end_turn()
        self.outbox.write(b"b", 0)
        self.end_turn()
        self.assertEqual(self.written, [b"a", b"b"])

    def test_one_call_for_all(self) -> None:
        """Many outboxes are flushed by one delayed call."""
        for letter in (b"a", b"b", b"c"):
            outbox = self.make()
            outbox.write(letter, 0)
            outbox.write(letter, 0)
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.end_turn()
        self.assertEqual(self.written, [b"aa", b"bb", b"cc"])

    def test_pause(self) -> None:
        """Nothing is written to a transport that has enough; then it is, in order."""
        self.outbox.write(b"a", 0)
        self.outbox.pauseProducing()
        self.outbox.write(b"b", 0)
        self.end_turn()
        self.assertEqual(self.written, [])
        self.outbox.resumeProducing()
        self.assertEqual(self.written, [b"ab"])

    def test_pause_between_chunks(self) -> None:
        """When the transport has enough after a write, the rest waits."""
        outbox = Outbox(self.turn, 1 << 20, self.take_one, self.overflow)
        self.pausing = outbox
        for number in range(3):
            outbox.write(bytes([number]) * 60_000, number + 1)
        self.end_turn()
        self.assertEqual(([len(data) for data in self.written], outbox.position), ([60_000], 1))
        outbox.resumeProducing()
        self.assertEqual(([len(data) for data in self.written], outbox.position), ([60_000] * 2, 2))

    def take_one(self, data: bytes) -> None:
        self.written.append(data)
        self.pausing.pauseProducing()

    def test_chunks(self) -> None:
        """What is joined has a limit, so that a long queue is several writes; none is split."""
        outbox = self.make(1 << 20)
        frames = [bytes([number]) * 30_000 for number in range(5)]
        for frame in frames:
            outbox.write(frame, 0)
        self.end_turn()
        self.assertEqual([len(data) for data in self.written], [60_000, 60_000, 30_000])
        self.assertEqual(b"".join(self.written), b"".join(frames))

    def test_long_frame(self) -> None:
        """A frame longer than everything is taken when nothing else waits."""
        self.outbox.pauseProducing()
        self.outbox.write(b"x" * 100_000, 0)
        self.outbox.resumeProducing()
        self.assertEqual([len(data) for data in self.written], [100_000])
        self.assertEqual(self.overflows, 0)

    def test_up_to_the_limit(self) -> None:
        """As many bytes wait as the limit says."""
        self.outbox.pauseProducing()
        for _ in range(10):
            self.outbox.write(b"x" * 100, 0)
        self.assertEqual(self.overflows, 0)
        self.outbox.resumeProducing()
        self.assertEqual(sum(map(len, self.written)), LIMIT)

    def test_overflow(self) -> None:
        """One byte more, and the outbox says so once, forgets what waits and takes no more."""
        self.outbox.pauseProducing()
        self.outbox.write(b"x" * LIMIT, 1)
        self.outbox.write(b"y", 2)
        self.outbox.write(b"z", 3)
        self.assertEqual(self.overflows, 1)
        self.outbox.resumeProducing()
        self.end_turn()
        self.assertEqual(self.written, [])
        self.assertEqual(self.outbox.position, 0)

    def test_room_comes_back(self) -> None:
        """What was written no longer counts against the limit."""
        for _ in range(5):
            self.outbox.write(b"x" * 900, 0)
            self.end_turn()
        self.assertEqual(self.overflows, 0)

    def test_fast_reader_is_not_slow(self) -> None:
        """Much in one turn is no overflow while the transport takes everything."""
        for _ in range(30):
            self.outbox.write(b"x" * 100, 0)
        self.end_turn()
        self.assertEqual(self.overflows, 0)
        self.assertEqual(sum(map(len, self.written)), 3000)

    def test_position(self) -> None:
        """The position is the highest id that the transport has, not what waits."""
        self.outbox.write(b"a", 7)
        self.outbox.write(b"b", 0)
        self.assertEqual(self.outbox.position, 0)
        self.end_turn()
        self.assertEqual(self.outbox.position, 7)
        self.outbox.write(b"error", 0)
        self.end_turn()
        self.assertEqual(self.outbox.position, 7)

    def test_flush(self) -> None:
        """A flush before the turn ends writes at once, and nothing twice."""
        self.outbox.write(b"a", 1)
        self.outbox.flush()
        self.assertEqual(self.written, [b"a"])
        self.end_turn()
        self.assertEqual(self.written, [b"a"])

    def test_has_room(self) -> None:
        """There is room while less than half of the limit waits, or nothing does."""
        self.outbox.pauseProducing()
        self.assertTrue(self.outbox.has_room(10 * LIMIT))
        self.outbox.write(b"x" * 400, 0)
        self.assertTrue(self.outbox.has_room(100))
        self.assertFalse(self.outbox.has_room(101))
        self.outbox.close()
        self.assertFalse(self.outbox.has_room(1))

    def test_drained_at_once(self) -> None:
        """An outbox in which nothing waits is drained."""
        self.assertIsNone(self.successResultOf(self.outbox.drained()))

    def test_drained(self) -> None:
        """Everybody who waits is told when nothing waits any more, and not before."""
        self.outbox.pauseProducing()
        self.outbox.write(b"a", 0)
        waiting = [self.outbox.drained() for _ in range(2)]
        self.end_turn()
        for deferred in waiting:
            self.assertNoResult(deferred)
        self.outbox.resumeProducing()
        for deferred in waiting:
            self.assertIsNone(self.successResultOf(deferred))

    def test_write_when_drained(self) -> None:
        """Who is told that it is drained can write more at once."""
        self.outbox.write(b"a", 0)
        drained: Deferred[None] = self.outbox.drained()
        drained.addCallback(lambda _: self.outbox.write(b"b", 0))
        self.end_turn()
        self.successResultOf(drained)
        self.assertEqual(self.written, [b"a", b"b"])

    def test_close(self) -> None:
        """A closed outbox forgets what waits, takes nothing, and tells who waits."""
        self.outbox.write(b"a", 1)
        waiting = self.outbox.drained()
        self.outbox.close()
        self.failureResultOf(waiting, Closed)
        self.outbox.write(b"b", 2)
        self.end_turn()
        self.assertEqual((self.written, self.outbox.position), ([], 0))
        self.failureResultOf(self.outbox.drained(), Closed)
        self.assertEqual(self.overflows, 0)

    def test_lets_go(self) -> None:
        """A closed outbox keeps no transport: its session may outlive the connection."""

        class Transport:
            def write(self, data: bytes) -> None: ...

        transport = Transport()
        gone = weakref.ref(transport)
        outbox = Outbox(self.turn, LIMIT, transport.write, self.overflow)
        del transport
        self.assertIsNotNone(gone())
        outbox.close()
        self.assertIsNone(gone())

    def test_connection_gone(self) -> None:
        """The transport's end closes the outbox."""
        self.outbox.write(b"a", 1)
        self.outbox.stopProducing()
        self.end_turn()
        self.assertEqual(self.written, [])
        self.failureResultOf(self.outbox.drained(), Closed)

    def test_one_broken_transport(self) -> None:
        """A transport that fails costs nobody else their frames, now or later."""

        def broken(data: bytes) -> None:
            raise OSError("broken")

        Outbox(self.turn, LIMIT, broken, self.overflow).write(b"a", 0)
        self.outbox.write(b"b", 0)
        for _ in range(2):
            try:
                self.end_turn()
            except OSError:
                self.flushLoggedErrors(OSError)
            self.outbox.write(b"c", 0)
        self.flushLoggedErrors(OSError)
        self.assertEqual(b"".join(self.written)[:2], b"bc")
