"""Tests of `wschat.client.events`."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from wschat import wire
from wschat.client.events import Events
from wschat.client.listener import Heard, Listener, State
from wschat.client.receipts import Receipts
from wschat.envelope import Authenticity

#: Everything that a client tells, but for messages.
TOLD: tuple[tuple[str, tuple[Any, ...]], ...] = (
    ("changed", (State.CONNECTED, None)),
    ("stored", ("a", 7)),
    ("delivered", ("a", 7)),
    ("refused", ("no", "b")),
    ("refused", ("no", None)),
    ("delayed", ("later", "a")),
    ("incomplete", ()),
    ("presence_changed", (["bob"], {"charlie": ""})),
    ("key_changed", ("bob", "1", "2")),
    ("key_rotated", ("bob", "1", "2")),
)


class Remembering(Listener):
    """A listener that remembers, and fails."""

    def __init__(self) -> None:
        self.told: list[tuple[str, tuple[Any, ...]]] = []
        for name in {name for name, _ in TOLD}:
            setattr(self, name, self.remember(name))

    def remember(self, name: str) -> Any:
        def told(*args: Any) -> None:
            self.told.append((name, args))
            raise ZeroDivisionError

        return told


class EventsTests(SynchronousTestCase):
    """What is passed on, and to whom."""

    def setUp(self) -> None:
        self.receipts = Receipts()
        self.listener = Remembering()
        self.changes: list[Any] = []
        self.events = Events(
            self.receipts, self.listener, self.heard, lambda *args: self.changes.append(args)
        )

    def heard(self, heard: Heard) -> Deferred[None] | None:
        self.changes.append(heard)
        return None

    def test_all(self) -> None:
        """A listener is told of everything; its faults are counted, and stop nothing."""
        for name, args in TOLD:
            getattr(self.events, name)(*args)
        self.assertEqual(self.listener.told, list(TOLD))
        self.assertEqual(self.events.failures, len(TOLD))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), len(TOLD))
        self.assertEqual(self.changes, [(State.CONNECTED, None)])

    def test_all_there_is(self) -> None:
        """Nothing that a listener can be told is forgotten here."""
        methods = {name for name in vars(Listener) if not name.startswith("_")}
        self.assertEqual(methods - vars(Events).keys(), set())

    def test_callbacks(self) -> None:
        """Functions are called with states and presence."""
        events = Events(self.receipts, None, self.heard, lambda *args: None)
        told: list[Any] = []
        events.state_callbacks.append(lambda *args: told.append(args))
        events.presence_callbacks.append(lambda *args: told.append(args))
        events.changed(State.CONNECTED, None)
        events.presence_changed(["bob"], {})
        self.assertEqual(told, [(State.CONNECTED, None), (["bob"], {})])

    def test_messages(self) -> None:
        """Messages go to the chat."""
        heard = Heard(wire.Message("bob", "alice", "x", ""), "x", Authenticity.NONE)
        self.assertIsNone(self.events.heard(heard))
        self.assertEqual(self.changes, [heard])

    def test_receipts(self) -> None:
        """Receipts are told what became of messages."""
        events = Events(self.receipts, None, self.heard, lambda *args: None)
        stored, refused = self.receipts.expect("a").wait(), self.receipts.expect("b").wait()
        events.stored("a", 7)
        events.refused("no", "b")
        delivered = self.receipts.delivery("a").wait()
        events.delivered("a", 7)
        self.assertEqual(self.successResultOf(stored), 7)
        self.failureResultOf(refused)
        self.successResultOf(delivered)
