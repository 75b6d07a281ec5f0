"""Tests of `wschat.client.renewal`: tokens that end while a client is connected."""

from __future__ import annotations

import random

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from wschat.client.accounts import ConnectionProblem
from wschat.client.renewal import Renewal
from wschat.codes import CloseCode
from wschat.testing import Limits, World


class RenewalTests(SynchronousTestCase):
    """Another token, asked for when chance has it."""

    def setUp(self) -> None:
        self.patch(random, "uniform", lambda low, high: high)  # the longest that it may be
        self.clock = Clock()
        self.tokens: list[str] = []
        self.asked = 0
        self.got: list[str] = []
        self.renewal = Renewal(self.clock, self.ask, self.got.append)

    async def ask(self) -> str:
        self.asked += 1
        if not self.tokens:
            raise ConnectionProblem("nobody there")
        return self.tokens.pop()

    def test_renewed(self) -> None:
        """One is asked for within a minute, once."""
        self.tokens = ["token"]
        self.renewal.begin()
        self.clock.advance(59)
        self.assertEqual(self.asked, 0)
        self.clock.advance(1)
        self.assertEqual((self.asked, self.got), (1, ["token"]))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_again(self) -> None:
        """As long as there is none, it is asked for again and again."""
        self.renewal.begin()
        self.clock.pump([60, 60, 60])
        self.tokens = ["token"]
        self.clock.advance(60)
        self.assertEqual((self.asked, self.got), (4, ["token"]))

    def test_cancelled(self) -> None:
        """Nobody is asked when the connection has ended."""
        self.renewal.cancel()
        self.renewal.begin()
        self.renewal.cancel()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_twice(self) -> None:
        """Who is told twice that it ends asks once."""
        self.tokens = ["second", "first"]
        self.renewal.begin()
        self.renewal.begin()
        self.clock.advance(60)
        self.assertEqual(self.got, ["first"])


class TokenTests(SynchronousTestCase):
    """Half an hour of a token, in no time."""

    def setUp(self) -> None:
        self.world = World(Limits(token_lifetime=1800))
        self.addCleanup(self.world.close)
        self.alice = self.world.chat("alice")
        self.bob = self.world.chat("bob")

    def test_renewed(self) -> None:
        """A client gets another token before its own ends, and stays connected for hours."""
        self.world.advance(4 * 3600)
        self.assertEqual(self.world.server.meters.closed, {})
        self.assertEqual(self.alice.metrics.reconnects, 0)
        self.world.run(self.alice.send("bob", "still here"))

    def test_not_renewed(self) -> None:
        """When there is none, it is closed at the end, and comes back as soon as there is one."""
        accounts = self.world.server.accounts
        users = dict(accounts.users)
        self.world.advance(1400)
        accounts.users.clear()  # nobody can log in
        self.world.advance(380)
        self.assertEqual(self.world.server.meters.closed, {})
        self.world.advance(30)
        self.assertEqual(self.world.server.meters.closed, {CloseCode.TOKEN_ENDED: 2})
        accounts.load(users.values())
        self.world.advance(60)
        self.assertEqual(sorted(self.world.server.hub.registry.users), ["alice", "bob"])
