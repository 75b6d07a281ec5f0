"""Tests of `wschat.client.connection`: tokens that end while it is connected."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from wschat.codes import CloseCode
from wschat.testing import Limits, World


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
