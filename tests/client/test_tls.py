"""Tests of `wschat.client.tls`: what is said to the server before anything else."""

from __future__ import annotations

from typing import Any

from OpenSSL import SSL
from twisted.internet.ssl import optionsForClientTLS
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.iweb import IPolicyForHTTPS
from zope.interface.verify import verifyObject

from wschat.client import tls


class TlsTests(SynchronousTestCase):
    """Connections before their handshake."""

    def connection(self, host: str, insecure: bool) -> SSL.Connection:
        creator: Any = tls.connection_creator(host, insecure)
        connection: SSL.Connection = creator.clientConnectionForTLS(object())
        return connection

    def test_insecure_name(self) -> None:
        """The server is told which name is meant, as DNS has it, though nobody checks it."""
        for host, name in (("chat.example", b"chat.example"), ("b\u00fccher.example", None)):
            expected = name or b"xn--bcher-kva.example"
            self.assertEqual(self.connection(host, True).get_servername(), expected)

    def test_insecure_address(self) -> None:
        """An address is no name (RFC 6066), and is not told."""
        for host in ("127.0.0.1", "::1"):
            self.assertIsNone(self.connection(host, True).get_servername())

    def test_verifies(self) -> None:
        """Only who insists is spared the check."""
        policy: Any = tls.Policy(False)
        verifyObject(IPolicyForHTTPS, policy)
        checked = policy.creatorForNetloc(b"chat.example", 443)
        self.assertEqual(type(checked), type(optionsForClientTLS("chat.example")))
        unchecked: Any = tls.Policy(True).creatorForNetloc(b"chat.example", 443)
        connection = unchecked.clientConnectionForTLS(None)
        self.assertEqual(connection.get_context().get_verify_mode(), SSL.VERIFY_NONE)
