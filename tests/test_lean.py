"""Tests of `wschat.lean`: what connections have in common, and what each has for itself."""

from __future__ import annotations

from autobahn.twisted.websocket import WebSocketServerProtocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from tests.echo import Nobody, entry, make_factory


class StateTests(SynchronousTestCase):
    """What connections have in common."""

    def test_as_autobahn(self) -> None:
        """A connection begins with what Autobahn's own begins with, by the factory's options."""
        factory = make_factory(Nobody(), Clock(), 1234)
        ours, autobahns = factory.connection(entry("alice")), WebSocketServerProtocol()
        autobahns.factory = factory
        for protocol in (ours, autobahns):
            protocol.makeConnection(StringTransport())
        self.assertEqual(factory.countConnections, 2)
        own = {"trafficStats", "send_queue", "utf8validator", "is_open", "is_closed"}
        own |= {"transport", "peer", "_transport_details"}
        for name in vars(autobahns).keys() - own:
            self.assertEqual(getattr(ours, name), getattr(autobahns, name), name)
        self.assertEqual(getattr(ours, "maxMessagePayloadSize", None), 1234)

    def test_own_validator(self) -> None:
        """Text in parts is looked at by each connection for itself."""
        factory = make_factory(Nobody(), Clock(), 1234)
        one, other = factory.connection(entry("alice")), factory.connection(entry("bob"))
        self.assertIs(one.utf8validator, one.utf8validator)
        self.assertIsNot(one.utf8validator, other.utf8validator)
