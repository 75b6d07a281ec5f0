"""Tests of `wschat.endpoint`."""

from __future__ import annotations

import datetime
import socket
from pathlib import Path
from typing import Any

from OpenSSL import SSL
from twisted.internet.defer import Deferred, succeed
from twisted.internet.endpoints import quoteStringArgument
from twisted.internet.interfaces import (
    IListeningPort,
    IStreamServerEndpoint,
)
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.trial.unittest import SynchronousTestCase

from wschat import endpoint, fasttls
from wschat.certificate import Certificate
from wschat.datadir import DataDirectory

NOW = datetime.datetime(2026, 11, 22, 10, tzinfo=datetime.UTC)


class _EndpointTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor: Any = MemoryReactorClock()
        self.factory = Factory.forProtocol(Protocol)
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

    def test_backlog(self) -> None:
        """Thousands may come at once, and none of them has to try again."""
        self.listening(endpoint.plain_endpoint(self.reactor, ":8080"))
        self.assertEqual([backlog for _, _, backlog, _ in self.reactor.tcpServers], [4096])

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


class Shown(Certificate):
    """A certificate that knows who has shown it."""

    def __init__(self, *files: Path) -> None:
        super().__init__(*files)
        self.shown: list[object] = []

    def serverConnectionForTLS(self, tlsProtocol: Any) -> SSL.Connection:
        self.shown.append(tlsProtocol.factory)
        return super().serverConnectionForTLS(tlsProtocol)


class TLSTests(_EndpointTests):
    """`--listen`."""

    def setUp(self) -> None:
        super().setUp()
        self.certificate = Shown(*DataDirectory(Path(self.mktemp())).certificate(NOW))

    def tls(self, text: str) -> None:
        self.listening(endpoint.tls_endpoint(self.reactor, text, self.certificate))

    def listens(self, text: str) -> tuple[int, str]:
        """The port and the interface on which that listens, with TLS and the server's keys."""
        self.tls(text)
        port, factory, _, interface = self.reactor.tcpServers.pop()
        self.assertIsInstance(factory, TLSMemoryBIOFactory)
        self.assertIs(factory.wrappedFactory, self.factory)
        factory.buildProtocol(None).makeConnection(StringTransport())
        self.assertEqual(self.certificate.shown.pop(), factory)
        return port, interface

    def test_addresses(self) -> None:
        """Host and port listen with TLS and the server's own keys."""
        for text, expected in (
            (":8443", (8443, "::")),
            ("127.0.0.1:443", (443, "127.0.0.1")),
            ("[::1]:443", (443, "::1")),
        ):
            self.assertEqual(self.listens(text), expected)
        self.assertEqual(self.reactor.tcpServers + self.reactor.sslServers, [])

    def test_ssl_without_keys(self) -> None:
        """An ssl: endpoint that names no keys gets the server's."""
        found = self.listens("ssl:8443:interface=10.0.0.1")
        self.assertEqual(found, (8443, "10.0.0.1"))

    def test_short_strings(self) -> None:
        """The shortest of Twisted's strings are not hosts called ssl and tcp."""
        self.assertEqual(self.listens("ssl:8443"), (8443, ""))
        self.tls("tcp:8080")
        self.assertEqual(self.reactor.tcpServers[0][0], 8080)

    def test_ssl_with_keys(self) -> None:
        """One that names its own keeps them."""
        # A colon and an equals sign, which mean something in an endpoint string.
        own = DataDirectory(Path(self.mktemp()) / "a:b=c").certificate(NOW)
        chain, key = (quoteStringArgument(str(path)) for path in own)
        self.tls(f"ssl:8443:privateKey={key}:certKey={chain}")
        ((_, factory, context, _, _),) = self.reactor.sslServers
        self.assertIs(factory, self.factory)
        context.getContext().check_privatekey()

    def test_something_that_ends_tls(self) -> None:
        """A tcp: endpoint has no TLS: what is in front of the server has."""
        self.tls("tcp:8443:interface=127.0.0.1")
        ((_, factory, _, _),) = self.reactor.tcpServers
        self.assertIs(factory, self.factory)

    def test_open_already(self) -> None:
        """A socket that systemd has opened is spoken TLS on."""
        adopted: list[Any] = []

        class Below:
            def listen(self, factory: Any) -> Deferred[None]:
                adopted.append(factory)
                return succeed(None)

        def parse(reactor: Any, description: str) -> Below:
            self.assertEqual(description, "systemd:domain=INET6:name=https")
            return Below()

        self.patch(endpoint, "serverFromString", parse)
        self.tls("systemd:domain=INET6:name=https")
        self.assertIs(adopted[0].wrappedFactory, self.factory)

    def test_no_endpoint(self) -> None:
        """What is none is a ValueError."""
        for text in ("nonsense:one", "ssl:x", "junk"):
            self.assertRaises(ValueError, self.tls, text)

    def test_fast(self) -> None:
        """On the uvloop reactor, an address is of the fast endpoint, with the server's keys."""
        self.reactor._asyncioEventloop = type("Loop", (), {"__module__": "uvloop.loop"})()
        for text in (":8443", "fasttls:8443"):
            where = endpoint.tls_endpoint(self.reactor, text, self.certificate)
            self.assertIsInstance(where, fasttls.FastTLSEndpoint)
        self.assertEqual(self.listens("ssl:8443"), (8443, ""))

    def test_plain_asyncio(self) -> None:
        """On asyncio's own loop it is Twisted's, unless the other one is named."""
        self.reactor._asyncioEventloop = type("Loop", (), {"__module__": "asyncio.events"})()
        self.assertEqual(self.listens(":8443"), (8443, "::"))
        where = endpoint.tls_endpoint(self.reactor, "fasttls:8443", self.certificate)
        self.assertIsInstance(where, fasttls.FastTLSEndpoint)
