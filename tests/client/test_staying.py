"""Tests of `wschat.client.staying`: when a client comes back."""

from __future__ import annotations

import random
from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from wschat.client.accounts import ConnectionProblem, RequestRefused
from wschat.client.listener import Listener, SessionOver, State
from wschat.client.staying import Staying

Gone = Deferred[ConnectionProblem | SessionOver]


class Heard(Listener):
    """What a listener was told, and what it does then."""

    def __init__(self) -> None:
        self.states: list[State] = []
        self.then: Callable[[], None] = lambda: None

    def changed(self, state: State, error: Exception | None) -> None:
        self.states.append(state)
        self.then()


class StayingTests(SynchronousTestCase):
    """A client that is connected, cut off, and refused."""

    def setUp(self) -> None:
        self.patch(random, "uniform", lambda low, high: high)  # the longest that it may be
        self.clock = Clock()
        self.listener = Heard()
        self.wanted = True
        self.refusals = 0  # connections that do not come about
        self.gone: list[Gone] = []
        self.staying = Staying(self.clock, self.connect, self.listener)
        self.running: Deferred[None] | None = None

    async def connect(self) -> Gone:
        if self.refusals:
            self.refusals -= 1
            raise RequestRefused("not now")
        self.gone.append(Deferred())
        self.staying.opened()
        return self.gone[-1]

    def start(self) -> None:
        self.running = Deferred.fromCoroutine(self.staying.run(lambda: self.wanted))

    def lose(self) -> None:
        self.gone[-1].callback(ConnectionProblem("gone"))

    def waits(self) -> float:
        """How long it stays away now, in seconds."""
        (call,) = self.clock.getDelayedCalls()
        return call.getTime() - self.clock.seconds()

    def ended(self) -> bool:
        return self.running is not None and self.running.called

    def test_lost(self) -> None:
        """It comes back soon, and says so."""
        self.start()
        self.lose()
        self.assertEqual(self.waits(), 0.5)
        self.clock.advance(0.5)
        self.assertEqual(
            self.listener.states,
            [
                State.CONNECTING,
                State.CONNECTED,
                State.DISCONNECTED,
                State.RECONNECTING,
                State.CONNECTED,
            ],
        )
        self.assertEqual(self.staying.connections, 2)

    def test_refused(self) -> None:
        """The longer it finds nobody, the longer it stays away, up to a bound."""
        self.refusals = 8
        self.start()
        waits = []
        while self.refusals:
            waits.append(self.waits())
            self.clock.advance(waits[-1])
        waits.append(self.waits())
        self.assertEqual(waits, [1, 2, 4, 8, 16, 20, 20, 20])
        self.clock.advance(20)
        self.lose()
        self.assertEqual(self.waits(), 0.5)

    def test_chance(self) -> None:
        """How long exactly is chance, between nothing and that."""
        asked: list[tuple[float, float]] = []

        def uniform(low: float, high: float) -> float:
            asked.append((low, high))
            return high / 2

        self.patch(random, "uniform", uniform)
        self.start()
        self.lose()
        self.assertEqual((asked, self.waits()), ([(0, 0.5)], 0.25))

    def test_leave(self) -> None:
        """A server that ends says when to come back, once."""
        self.start()
        self.staying.leave(7)
        self.clock.advance(3)
        self.lose()
        self.assertEqual(self.waits(), 4)
        self.clock.advance(4)
        self.lose()
        self.assertEqual(self.waits(), 0.5)

    def test_left_late(self) -> None:
        """When it is gone only later than that, it is looked for at once."""
        self.start()
        self.staying.leave(1)
        self.clock.advance(3)
        self.lose()
        self.assertEqual(self.waits(), 0)

    def test_over(self) -> None:
        """There is no connection after one that is over."""
        self.start()
        self.staying.over = True
        self.lose()
        self.assertTrue(self.ended())
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(self.listener.states[-1], State.DISCONNECTED)

    def test_not_wanted(self) -> None:
        """It ends when it is not wanted any more, and says nothing of that."""
        self.start()
        self.wanted = False
        self.lose()
        self.assertTrue(self.ended())
        self.assertEqual(self.listener.states, [State.CONNECTING, State.CONNECTED])

    def test_listener_has_enough(self) -> None:
        """A listener that ends it when it is told that it begins is believed."""

        def end() -> None:
            self.wanted = False

        self.listener.then = end
        self.start()
        self.assertTrue(self.ended())
        self.assertEqual(self.gone, [])
