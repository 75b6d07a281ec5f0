"""Tests of `wschat.client.acknowledging`: what a server, and later programs, are told."""

from __future__ import annotations

from typing import Any, cast

from twisted.internet.task import Clock

from tests.client.test_session_v1 import V1Tests
from tests.support import NOW
from wschat import wire
from wschat.client.acknowledging import Acknowledging
from wschat.client.people import People
from wschat.client.replays import LATER


class Remembering:
    """What `People` is told; `left` is whether a save leaves something for another time."""

    def __init__(self) -> None:
        self.handled_ids: list[int] = []
        self.sure_after: list[int] = []
        self.saves: list[float] = []
        self.left = False

    def handled(self, message: wire.Message) -> None:
        self.handled_ids.append(message.id)

    def sure(self) -> None:
        self.sure_after.append(len(self.handled_ids))

    def save(self, now: float) -> bool:
        self.saves.append(now)
        return self.left


class AcknowledgingTests(V1Tests):
    """A session that is open, and what was handled on it."""

    def setUp(self) -> None:
        super().setUp()
        self.clock = Clock()
        self.people = Remembering()
        self.connected = True
        self.sent: list[dict[str, Any]] = []
        self.acknowledging = Acknowledging(
            self.clock,
            self.session,
            cast(People, self.people),
            lambda: NOW,
            connected=lambda: self.connected,
            flush=self.flush,
        )
        self.open()

    def flush(self) -> None:
        self.sent += self.frames()
        self.acknowledging.sent()

    def handle(self, message_id: int, topic: str = "alice") -> None:
        """A message has come, and was handled."""
        self.comes(message_id)
        message = wire.Message("bob", topic, "text", "2026-11-22T10:00:00Z", id=message_id)
        self.acknowledging.handled(message)

    def acks(self, seconds: float) -> list[int]:
        """What is acknowledged in so many seconds from now."""
        self.sent.clear()
        self.clock.advance(seconds)
        return [frame["id"] for frame in self.sent if frame["type"] == "ack"]

    def test_direct(self) -> None:
        """Direct messages are acknowledged soon, those of a moment together."""
        self.handle(1)
        self.assertEqual(self.acks(0.04), [])
        self.handle(2)
        self.assertEqual(self.acks(0.02), [2])
        self.assertEqual(self.acks(10), [])

    def test_broadcast(self) -> None:
        """Broadcasts are acknowledged within a second, …"""
        self.handle(1, wire.BROADCAST)
        self.assertEqual(self.acks(0.9), [])
        self.handle(2, wire.BROADCAST)
        self.assertEqual(self.acks(0.2), [2])

    def test_both(self) -> None:
        """… and no later than a direct message after them."""
        self.handle(1, wire.BROADCAST)
        self.handle(2)
        self.assertEqual(self.acks(0.06), [2])
        self.assertEqual(self.acks(10), [])

    def test_now(self) -> None:
        """Who cannot wait acknowledges at once, when there is something to acknowledge."""
        self.acknowledging.acknowledge()
        self.assertEqual(self.sent, [])
        self.handle(1)
        self.acknowledging.acknowledge()
        self.assertEqual([frame["id"] for frame in self.sent], [1])

    def test_sure(self) -> None:
        """What the server was told of is sure; what it was not told of is not."""
        self.handle(1)
        self.assertEqual(self.people.sure_after, [])
        self.acks(1)
        self.assertEqual((self.people.handled_ids, self.people.sure_after), ([1], [1]))

    def test_lost(self) -> None:
        """Without a connection nobody is told, and nothing is sure."""
        self.handle(1)
        self.connected = False
        self.assertEqual(self.acks(1), [])
        self.acknowledging.sent()
        self.assertEqual(self.people.sure_after, [])

    def test_saved(self) -> None:
        """What was handled is written down some time later, until nothing is left to write."""
        self.people.left = True
        self.handle(1)
        self.clock.advance(2 * LATER - 0.1)
        self.assertEqual(self.people.saves, [])
        self.clock.advance(0.2)
        self.people.left = False
        self.clock.advance(2 * LATER)
        self.assertEqual(self.people.saves, [NOW, NOW])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_stopped(self) -> None:
        """Nothing comes later when it has stopped, also of what is handled then."""
        self.handle(1)
        self.acknowledging.stop()
        self.handle(2)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(self.people.handled_ids, [1, 2])
