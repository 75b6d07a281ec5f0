"""Tests of `wschat.fasttls`: who is let in, and when; tests/test_transport.py has the rest."""

from __future__ import annotations

import contextlib
import datetime
import socket
import ssl
import sys
import time
from pathlib import Path
from typing import Any
from unittest import mock

from aiofastnet import ssl_transport  # type: ignore[attr-defined]
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from OpenSSL import SSL
from twisted.internet import defer, reactor
from twisted.internet.error import CannotListenError, ConnectionDone
from twisted.internet.interfaces import IStreamServerEndpointStringParser
from twisted.internet.task import deferLater
from twisted.internet.testing import MemoryReactorClock
from twisted.plugin import getPlugins
from twisted.trial.unittest import SynchronousTestCase, TestCase

from tests.conformance import FAST, EndpointTests, OnUvloop, Peer, Recorder, aside, client_context
from tests.support import left_to_collect
from wschat import addresses, fasttls
from wschat.transport import FastTransport


class ParserTests(SynchronousTestCase):
    """Where there is no asyncio, there is no such endpoint."""

    def test_another_reactor(self) -> None:
        """On a reactor without asyncio's loop it is a ValueError, and is not available."""
        memory: Any = MemoryReactorClock()
        self.assertFalse(fasttls.available(memory))
        self.assertRaises(ValueError, fasttls.FastTLSParser().parseStreamServer, memory, "0")

    def test_without_aiofastnet(self) -> None:
        """Without the library it is not available."""
        memory: Any = MemoryReactorClock()
        memory._asyncioEventloop = object()
        self.assertTrue(fasttls.available(memory))
        with mock.patch.dict(sys.modules, {"aiofastnet": None}):
            self.assertFalse(fasttls.available(memory))

    def test_without_its_openssl(self) -> None:
        """Where it cannot use the OpenSSL that Python has, it is not available either."""
        memory: Any = MemoryReactorClock()
        memory._asyncioEventloop = object()
        self.patch(ssl_transport, "SSLEngineDirect", None)
        self.assertFalse(fasttls.available(memory))

    def test_plugin(self) -> None:
        """Twisted finds it by its name."""
        found = [p for p in getPlugins(IStreamServerEndpointStringParser) if p.prefix == "fasttls"]
        self.assertEqual([type(parser) for parser in found], [fasttls.FastTLSParser])


class UvloopTests(OnUvloop, TestCase):
    """The endpoint needs a reactor of its own."""

    module = "tests.test_fasttls"


def silent(address: tuple[str, int]) -> socket.socket:
    """A peer that connects, and says nothing."""
    return socket.create_connection(address, timeout=30)


def ended(connection: socket.socket) -> bool:
    """Wait until the server ends the connection; whether it did."""
    with contextlib.suppress(ConnectionResetError):
        return connection.recv(1) == b""
    return True


def port_of(listening: Any) -> int:
    """The number of a port."""
    number: int = listening.getHost().port
    return number


def echo(server: Recorder) -> None:
    """Let a recorder answer with what it gets."""

    def answer(data: bytes) -> None:
        server.transport.write(data)

    server.on_data = answer


def own_certificate(pem: Path, key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> int:
    """Write a certificate that vouches for itself, and its key, to a file; its serial number."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "alice")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    encoding = serialization.Encoding.PEM
    pem.write_bytes(
        certificate.public_bytes(encoding)
        + key.private_bytes(
            encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return certificate.serial_number


if FAST:

    class HandshakeTests(EndpointTests):
        """Before a protocol sees a connection."""

        kind = "fasttls"

        async def limited(self, unfinished: int) -> tuple[str, int]:
            """The address of another port, at which only so many may be unfinished."""
            context = fasttls.server_context(str(self.key), str(self.certificate))
            endpoint = fasttls.FastTLSEndpoint(
                reactor, 0, context, interface="127.0.0.1", unfinished=unfinished
            )
            port = await endpoint.listen(self.factory)
            self.addCleanup(port.stopListening)
            return "127.0.0.1", port_of(port)

        async def test_tickets(self) -> None:
            """Whoever comes back with a ticket shakes hands the short way, by TLS 1.2 and 1.3."""
            for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
                context = client_context(version, version)

                def come(session: Any, context: ssl.SSLContext = context) -> tuple[Any, bool]:
                    with socket.create_connection(self.address, timeout=30) as plain:
                        tls = context.wrap_socket(plain, session=session)
                        tls.sendall(b"x")
                        tls.recv(1)  # the ticket has come by then
                        return tls.session, bool(tls.session_reused)

                self.factory.setting_up = echo
                session, reused = await aside(come, None)
                self.assertFalse(reused)
                self.assertEqual((await aside(come, session))[1], True, version)

        async def test_another_certificate(self) -> None:
            """One that takes its place is shown whatever the kinds of their keys, and no other."""
            context = fasttls.server_context(str(self.key), str(self.certificate))
            endpoint = fasttls.FastTLSEndpoint(reactor, 0, context, interface="127.0.0.1")
            port = await endpoint.listen(self.factory)
            self.addCleanup(port.stopListening)
            address = "127.0.0.1", port_of(port)
            keys = rsa.generate_private_key(65537, 2048), ec.generate_private_key(ec.SECP256R1())
            for key in keys:
                pem = Path(self.mktemp())
                serial = own_certificate(pem, key)
                endpoint.show(pem, pem)
                peer = await aside(Peer, address, client_context())
                self.peers.append(peer)
                tls: Any = peer.socket
                shown = x509.load_der_x509_certificate(tls.getpeercert(True))
                self.assertEqual(shown.serial_number, serial)
                self.assertEqual(tls.selected_alpn_protocol(), "http/1.1")

        async def test_no_renegotiation(self) -> None:
            """A peer cannot make us shake hands again and again."""
            address = self.address

            def ask() -> None:
                context = SSL.Context(SSL.TLSv1_2_METHOD)
                plain = socket.create_connection(address, timeout=30)
                connection = SSL.Connection(context, plain)
                connection.set_connect_state()
                plain.setblocking(True)
                connection.do_handshake()
                connection.renegotiate()
                try:
                    connection.do_handshake()
                finally:
                    plain.close()

            with self.assertRaises(SSL.Error):
                await aside(ask)

        async def test_writes_after_the_end(self) -> None:
            """Once a connection is ended, whatever comes in between, nothing is given to TLS."""
            await deferLater(reactor, 0)  # now the loop runs, which an abort asks for
            for ends in (
                ("abortConnection",),
                ("abortConnection", "eof_received"),
                ("loseConnection", "abortConnection"),
                ("eof_received", "loseConnection"),
                ("loseConnection", "unregisterProducer"),
            ):
                ended = FastTransport(lambda _: None)
                tls = mock.Mock()
                ended.connection_made(tls)
                ended.registerProducer(mock.Mock(), True)
                ended.write(b"before")
                for end in ends:
                    getattr(ended, end)()
                ended.write(b"after")
                self.assertEqual(tls.write.mock_calls, [mock.call(b"before")], ends)

        async def test_nothing_to_collect(self) -> None:
            """Nothing of a connection that has ended waits for the garbage collector."""
            for number, end in enumerate((Peer.close, Peer.vanish)):
                left_to_collect()
                peer = await aside(Peer, self.address, client_context())
                server = await self.factory.connection(number)
                await aside(peer.send, b"x")
                await server.received(1)
                await aside(end, peer)
                await server.ending()
                self.factory.made[number] = None
                del server, peer
                await deferLater(reactor, 0)
                self.assertEqual(left_to_collect(), set(), end)

        async def test_peer_certificate(self) -> None:
            """What a peer that is asked for a certificate shows can be read."""
            pem = Path(self.mktemp())
            serial = own_certificate(pem, ec.generate_private_key(ec.SECP256R1()))
            context = fasttls.server_context(str(self.key), str(self.certificate))
            context.load_verify_locations(pem)
            context.verify_mode = ssl.CERT_REQUIRED
            endpoint = fasttls.FastTLSEndpoint(reactor, 0, context, interface="127.0.0.1")
            port = await endpoint.listen(self.factory)
            self.addCleanup(port.stopListening)
            shown = client_context()
            shown.load_cert_chain(pem)
            self.peers.append(await aside(Peer, ("127.0.0.1", port_of(port)), shown))
            server = await self.factory.connection()
            self.assertEqual(server.transport.getPeerCertificate().get_serial_number(), serial)

        async def test_timeout(self) -> None:
            """Who does not shake hands in time is let go."""
            self.patch(fasttls, "HANDSHAKE_TIMEOUT", 0.1)
            address = await self.limited(10)
            with await aside(silent, address) as peer:
                self.assertTrue(await aside(ended, peer))
            self.assertEqual(self.factory.made, [])

        async def test_unfinished_of_an_address(self) -> None:
            """One address cannot have all the places of the unfinished."""
            self.patch(fasttls, "HANDSHAKE_TIMEOUT", 600.0)
            self.patch(addresses, "counted", lambda address: "everybody's")
            address = await self.limited(8)
            first = await aside(silent, address)
            second = await aside(silent, address)
            refused = await aside(silent, address)
            self.assertTrue(await aside(ended, refused))
            first.close()
            await self.let_in(address)
            self.patch(addresses, "counted", lambda address: None)  # this host
            others = [await aside(silent, address) for _ in range(4)]
            await self.let_in(address)
            for peer in (second, refused, *others):
                peer.close()

        async def let_in(self, address: tuple[str, int]) -> None:
            """Somebody who shakes hands comes in, if need be when who was there is gone."""
            while True:
                try:
                    peer = await aside(Peer, address, client_context())
                except OSError:
                    continue
                self.peers.append(peer)
                await self.factory.connection()
                return

        async def test_unfinished(self) -> None:
            """Only so many may be unfinished: the next one is let in when one of them goes."""
            address = await self.limited(3)
            idle = [await aside(silent, address) for _ in range(3)]
            coming = aside(Peer, address, client_context())
            await defer.maybeDeferred(lambda: aside(time.sleep, 0.2))
            self.assertFalse(coming.called)
            idle[0].close()
            self.peers.append(await coming)
            await self.factory.connection()
            for peer in idle[1:]:
                peer.close()

        async def test_stop(self) -> None:
            """A port that is closed takes with it what had not shaken hands."""
            address = self.address
            peer = await aside(silent, address)
            _, server = await self.connected()
            await self.port.stopListening()
            self.assertTrue(await aside(ended, peer))
            server.transport.write(b"still here")
            self.assertEqual(await aside(self.peers[0].read, 10), b"still here")
            with self.assertRaises(OSError):
                await aside(silent, address)

        async def test_nobody_home(self) -> None:
            """A factory may refuse a connection."""
            self.factory.buildProtocol = lambda addr: None  # type: ignore[method-assign]
            peer = await self.peer()
            with contextlib.suppress(OSError):
                self.assertEqual(await aside(peer.read_all), b"")

        async def test_fault(self) -> None:
            """A factory's fault costs one connection."""
            with mock.patch.object(self.factory, "buildProtocol", side_effect=ZeroDivisionError):
                peer = await self.peer()
                with contextlib.suppress(OSError):
                    self.assertEqual(await aside(peer.read_all), b"")
            self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
            peer, server = await self.connected()
            await aside(peer.close)
            self.assertIsInstance(await server.ending(), ConnectionDone)

        async def test_taken(self) -> None:
            """A port that is taken is a CannotListenError."""
            context = fasttls.server_context(str(self.key), str(self.certificate))
            endpoint = fasttls.FastTLSEndpoint(
                reactor, self.port.getHost().port, context, interface="127.0.0.1"
            )
            await self.assertFailure(endpoint.listen(self.factory), CannotListenError)

    class StormTests(EndpointTests):
        """Many at once."""

        kind = "fasttls"
        crowd = 300

        async def test_storm(self) -> None:
            """
            While a crowd is let in, who is connected goes on talking.

            A round trip of theirs takes no longer than letting a few in does,
            and all of the crowd get in.
            """
            self.factory.setting_up = echo
            peer, _ = await self.connected()
            context = client_context()
            address = self.address

            def crowd(size: int) -> list[ssl.SSLSocket]:
                plain = [socket.create_connection(address, timeout=30) for _ in range(size)]
                return [context.wrap_socket(each) for each in plain]

            def talk(until: defer.Deferred[Any]) -> list[float]:
                trips = []
                while not until.called:
                    start = time.perf_counter()
                    peer.send(b"?")
                    peer.read(1)
                    trips.append(time.perf_counter() - start)
                return trips

            start = time.perf_counter()
            coming = aside(crowd, self.crowd)
            trips = await aside(talk, coming)
            each = (time.perf_counter() - start) / self.crowd
            for connection in await coming:
                connection.close()
            self.assertEqual(len(self.factory.made), self.crowd + 1)
            self.assertLess(sorted(trips)[len(trips) * 95 // 100], 20 * each)
