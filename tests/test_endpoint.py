"""Tests of `wschat.endpoint`."""

from __future__ import annotations

import datetime
import socket
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IListeningPort, IStreamServerEndpoint
from twisted.internet.protocol import Factory
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from wschat import endpoint, fasttls
from wschat.datadir import DataDirectory

NOW = datetime.datetime(2026, 11, 22, 10, tzinfo=datetime.UTC)


class _EndpointTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor: Any = MemoryReactorClock()
        self.factory = Factory()
        self.ipv6(True)

    def ipv6(self, there: bool) -> None:
        """Whether this host has IPv6."""

        class Probe:
            def __init__(self, family: int) -> None:
                pass

            def __enter__(self) -> Probe:
                return self

            def __exit__(self, *args: object) -> None:
                pass

            def bind(self, address: Any) -> None:
                if not there:
                    raise OSError("no IPv6")

        self.patch(socket, "socket", Probe)

    def listening(self, where: IStreamServerEndpoint) -> Deferred[IListeningPort]:
        listening: Deferred[IListeningPort] = where.listen(self.factory)
        self.successResultOf(listening)
        return listening


class PlainTests(_EndpointTests):
    """`--http`."""

    def listens(self, text: str) -> list[tuple[int, str]]:
        """The (port, interface)s on which that listens without TLS."""
        self.reactor.tcpServers.clear()
        self.listening(endpoint.plain_endpoint(self.reactor, text))
        self.assertEqual(self.reactor.sslServers, [])
        return [(port, interface) for port, _, _, interface in self.reactor.tcpServers]

    def test_port(self) -> None:
        """A port alone is on all interfaces, of IPv6 and IPv4."""
        self.assertEqual(self.listens(":8080"), [(8080, "::")])

    def test_port_without_ipv6(self) -> None:
        """Where there is no IPv6, it is on all of IPv4."""
        self.ipv6(False)
        self.assertEqual(self.listens(":8080"), [(8080, "")])

    def test_host(self) -> None:
        """A host before the port is the interface, in brackets when it has colons."""
        for text, expected in (
            ("127.0.0.1:80", (80, "127.0.0.1")),
            ("[::1]:80", (80, "::1")),
            ("localhost:0", (0, "localhost")),
        ):
            self.assertEqual(self.listens(text), [expected])

    def test_string(self) -> None:
        """A Twisted endpoint string is taken as it is."""
        self.assertEqual(self.listens("tcp:81:interface=10.0.0.1"), [(81, "10.0.0.1")])

    def test_short_string(self) -> None:
        """The shortest of Twisted's strings is one, and not a host called tcp."""
        self.assertEqual(self.listens("tcp:81"), [(81, "")])

    def test_unix(self) -> None:
        """One of another kind, too."""
        self.listening(endpoint.plain_endpoint(self.reactor, "unix:/run/wschat"))
        self.assertEqual(self.reactor.unixServers[0][0], "/run/wschat")

    def test_no_endpoint(self) -> None:
        """What is none is a ValueError."""
        for text in ("nonsense:one", "tcp:eighty", "junk", ":99999"):
            self.assertRaises(ValueError, endpoint.plain_endpoint, self.reactor, text)


class TLSTests(_EndpointTests):
    """`--listen`."""

    def setUp(self) -> None:
        super().setUp()
        # A colon and an equals sign, which mean something in an endpoint string.
        self.keys = DataDirectory(Path(self.mktemp()) / "a:b=c").certificate(NOW)

    def tls(self, text: str) -> None:
        self.listening(endpoint.tls_endpoint(self.reactor, text, *self.keys))

    def test_addresses(self) -> None:
        """Host and port listen with TLS and the server's own keys."""
        for text, expected in (
            (":8443", (8443, "::")),
            ("127.0.0.1:443", (443, "127.0.0.1")),
            ("[::1]:443", (443, "::1")),
        ):
            self.tls(text)
            port, factory, context, _, interface = self.reactor.sslServers.pop()
            self.assertEqual(((port, interface), factory), (expected, self.factory))
            context.getContext().check_privatekey()
        self.assertEqual(self.reactor.tcpServers, [])

    def test_ssl_without_keys(self) -> None:
        """An ssl: endpoint that names no keys gets the server's."""
        self.tls("ssl:8443:interface=10.0.0.1")
        port, _, context, _, interface = self.reactor.sslServers.pop()
        self.assertEqual((port, interface), (8443, "10.0.0.1"))
        context.getContext().check_privatekey()

    def test_short_strings(self) -> None:
        """The shortest of Twisted's strings are not hosts called ssl and tcp."""
        self.tls("ssl:8443")
        self.assertEqual(self.reactor.sslServers[0][4], "")
        self.tls("tcp:8080")
        self.assertEqual(self.reactor.tcpServers[0][0], 8080)

    def test_ssl_with_keys(self) -> None:
        """One that names its own keeps them."""
        own = DataDirectory(Path(self.mktemp())).certificate(NOW)
        self.keys = (Path("/nowhere"), Path("/nowhere"))
        self.tls(f"ssl:8443:privateKey={own[1]}:certKey={own[0]}")
        self.assertEqual(len(self.reactor.sslServers), 1)

    def test_something_that_ends_tls(self) -> None:
        """A tcp: endpoint has no TLS: what is in front of the server has."""
        self.tls("tcp:8443:interface=127.0.0.1")
        self.assertEqual((len(self.reactor.tcpServers), self.reactor.sslServers), (1, []))

    def test_no_endpoint(self) -> None:
        """What is none is a ValueError."""
        for text in ("nonsense:one", "ssl:x", "junk"):
            self.assertRaises(ValueError, self.tls, text)

    def test_fast(self) -> None:
        """On the uvloop reactor, an address is of the fast endpoint, with the server's keys."""
        self.reactor._asyncioEventloop = type("Loop", (), {"__module__": "uvloop.loop"})()
        for text in (":8443", "fasttls:8443"):
            where = endpoint.tls_endpoint(self.reactor, text, *self.keys)
            self.assertIsInstance(where, fasttls.FastTLSEndpoint)
        self.tls("ssl:8443")
        self.assertEqual(len(self.reactor.sslServers), 1)

    def test_plain_asyncio(self) -> None:
        """On asyncio's own loop it is Twisted's, unless the other one is named."""
        self.reactor._asyncioEventloop = type("Loop", (), {"__module__": "asyncio.events"})()
        self.tls(":8443")
        self.assertEqual(len(self.reactor.sslServers), 1)
        where = endpoint.tls_endpoint(self.reactor, "fasttls:8443", *self.keys)
        self.assertIsInstance(where, fasttls.FastTLSEndpoint)

    def test_missing_keys(self) -> None:
        """Keys that are not there are an error that is one of the caught ones."""
        self.keys = (Path("/nowhere/certificate"), Path("/nowhere/key"))
        error = self.assertRaises(OSError, self.tls, ":8443")
        self.assertIn("/nowhere", str(error))
