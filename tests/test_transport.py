"""Tests of `wschat.transport`: the contract of a transport, over Twisted's endpoint and ours."""

from __future__ import annotations

import contextlib
import hashlib
import socket
import ssl
from typing import Any

from twisted.internet import reactor
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import (
    IConsumer,
    INegotiated,
    IPushProducer,
    ISSLTransport,
    ISystemHandle,
    ITCPTransport,
)
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase
from zope.interface.verify import verifyObject

from tests.conformance import (
    FAST,
    EndpointTests,
    OnUvloop,
    Peer,
    Recorder,
    aside,
    client_context,
)
from wschat.transport import FastTransport

#: More than sockets and buffers hold, so that who writes it has to wait.
MUCH = 16 * 1024 * 1024


def turns(count: int = 1) -> Deferred[None]:
    """So many turns of the reactor."""
    return deferLater(reactor, 0.01 * count, lambda: None)


class Producer:
    """A producer that writes pieces, and counts what it is told."""

    def __init__(self, transport: Any, size: int, streaming: bool) -> None:
        self.transport = transport
        self.left = size
        self.streaming = streaming
        self.pauses = 0
        self.resumes = 0
        self.stopped = False
        self.paused = False
        self.done: Deferred[None] = Deferred()

    def start(self) -> None:
        self.transport.registerProducer(self, self.streaming)
        if self.streaming:
            self._produce()

    def _produce(self) -> None:
        while self.left and not self.paused and not self.stopped:
            self._piece()

    def _piece(self) -> None:
        size = min(self.left, 16000)
        self.left -= size
        self.transport.write(b"p" * size)
        if not self.left:
            self.transport.unregisterProducer()
            self.done.callback(None)

    def pauseProducing(self) -> None:
        self.pauses += 1
        self.paused = True

    def resumeProducing(self) -> None:
        self.resumes += 1
        self.paused = False
        if self.streaming:
            self._produce()
        elif self.left:
            self._piece()

    def stopProducing(self) -> None:
        self.stopped = True


class TransportTests:
    """What protocols may rely on.  `self` is an `EndpointTests`."""

    #: What a producer writes after `loseConnection`; Twisted's own drops the end of much more.
    by_producer = 10_000

    #: What an abort is called; Twisted's own is a loss when TLS was in the middle of something.
    aborted: Any = (ConnectionAborted, ConnectionLost)

    async def test_interfaces(self: Any) -> None:
        """It is all that Twisted's transport is."""
        _, server = await self.connected()
        for interface in (ITCPTransport, ISSLTransport, ISystemHandle, INegotiated):
            self.assertTrue(interface.providedBy(server.transport), interface)
            verifyObject(interface, server.transport)
        for also in (IConsumer, IPushProducer):
            verifyObject(also, server.transport, tentative=True)

    async def test_addresses(self: Any) -> None:
        """It knows where it is, and who is at the other end."""
        peer, server = await self.connected()
        here, there = server.transport.getHost(), server.transport.getPeer()
        kind = IPv6Address if ":" in self.interface else IPv4Address
        self.assertIsInstance(here, kind)
        self.assertIsInstance(there, kind)
        self.assertEqual((here.type, here.host, here.port), ("TCP", *self.address))
        name = await aside(peer.socket.getsockname)
        self.assertEqual((there.type, there.host, there.port), ("TCP", *name[:2]))

    async def test_both_ways(self: Any) -> None:
        """What is sent arrives, all of it and in order, both ways at once."""
        peer, server = await self.connected()
        data = b"".join(hashlib.sha256(b"%d" % n).digest() for n in range(100_000))
        server.on_data = server.transport.write
        echoed = await aside(peer.exchange, data)
        self.assertTrue(echoed == data and server.data == data)

    async def test_write_sequence(self: Any) -> None:
        """Pieces are written one after the other."""
        peer, server = await self.connected()
        server.transport.writeSequence([b"one ", b"two ", b"", b"three"])
        server.transport.write(b"")
        server.transport.write(b"!")
        self.assertEqual(await aside(peer.read, 14), b"one two three!")

    async def test_text_is_no_data(self: Any) -> None:
        """Only bytes can be written."""
        _, server = await self.connected()
        self.assertRaises(TypeError, server.transport.write, "text")

    async def test_lose(self: Any) -> None:
        """Closing sends what was written before, and nothing that is written after it."""
        peer, server = await self.connected()
        server.transport.write(b"a" * MUCH)
        server.transport.loseConnection()
        server.transport.write(b"too late")
        server.transport.writeSequence([b"too late"])
        data = await aside(peer.read_all)
        self.assertEqual((len(data), data.strip(b"a")), (MUCH, b""))
        await aside(peer.close)
        self.assertIsInstance(await server.ending(), ConnectionDone)

    async def test_lose_is_announced(self: Any) -> None:
        """Who closes says so, within TLS: the peer knows that nothing was cut off."""
        peer, server = await self.connected()
        server.transport.loseConnection()
        server.transport.loseConnection()
        self.assertEqual(await aside(peer.read_all), b"")
        await aside(peer.close)
        self.assertIsInstance(await server.ending(), ConnectionDone)

    async def test_abort(self: Any) -> None:
        """Aborting ends it now, whatever was written."""
        peer, server = await self.connected()
        server.transport.write(b"a" * MUCH)
        server.transport.abortConnection()
        server.transport.abortConnection()
        server.transport.write(b"too late")
        self.assertIsInstance(await server.ending(), self.aborted)
        with contextlib.suppress(OSError):
            self.assertLess(len(await aside(peer.read_all)), MUCH)

    async def test_abort_while_closing(self: Any) -> None:
        """A close that the peer does not answer can be made an end."""
        _, server = await self.connected()
        server.transport.write(b"a" * MUCH)
        server.transport.loseConnection()
        server.transport.abortConnection()
        self.assertIsInstance(await server.ending(), self.aborted)

    async def test_peer_closes(self: Any) -> None:
        """The end that a peer announces is a clean one, and after all that it sent."""
        peer, server = await self.connected()
        await aside(peer.send, b"last words")
        await aside(peer.close)
        self.assertIsInstance(await server.ending(), ConnectionDone)
        self.assertEqual(server.data, b"last words")

    async def test_peer_closes_half(self: Any) -> None:
        """Whoever sends nothing more can still read what was on its way."""
        peer, server = await self.connected()
        server.on_data = lambda data: server.transport.write(b"answer" * 1000)

        def last() -> bytes:
            peer.send(b"question")
            got: bytes = peer.read(1)
            with_end = peer.socket.unwrap  # announces, and waits for the answer
            got += peer.read(5999)
            with_end()
            return got

        self.assertEqual(await aside(last), b"answer" * 1000)
        self.assertIsInstance(await server.ending(), ConnectionDone)

    async def test_peer_vanishes(self: Any) -> None:
        """An end that was not announced may have cut something off: the connection is lost."""
        peer, server = await self.connected()
        await aside(peer.vanish)
        self.assertIsInstance(await server.ending(), ConnectionLost)

    async def test_peer_resets(self: Any) -> None:
        """A connection that breaks is lost, in whatever state it was."""

        def idle(server: Any) -> None:
            pass

        def writing(server: Any) -> None:
            server.transport.write(b"a" * MUCH)

        def producing(server: Any) -> None:
            Producer(server.transport, MUCH, True).start()

        def pulled(server: Any) -> None:
            Producer(server.transport, MUCH, False).start()

        for state in (idle, writing, producing, pulled):
            peer, server = await self.connected()
            state(server)
            await turns(3)
            await aside(peer.reset)
            self.assertIsInstance(await server.ending(), ConnectionLost, state)

    async def test_many_resets(self: Any) -> None:
        """Connections that break together are all lost, and descriptors can be used again."""
        for _ in range(3):
            pairs = [await self.connected() for _ in range(20)]
            for number, (_, server) in enumerate(pairs):
                if number % 2:
                    server.transport.write(b"a" * MUCH)
            await turns(3)
            for peer, _ in pairs:
                peer.reset()
            for _, server in pairs:
                self.assertIsInstance(await server.ending(), ConnectionLost)
        peer, server = await self.connected()
        server.transport.write(b"still here")
        self.assertEqual(await aside(peer.read, 10), b"still here")

    async def test_after_the_end(self: Any) -> None:
        """Whatever is called after the end does nothing."""
        peer, server = await self.connected()
        await aside(peer.close)
        await server.ending()
        for _ in range(10):  # aiofastnet would complain from the fifth on
            server.transport.write(b"late")
        server.transport.writeSequence([b"late"])
        server.transport.loseConnection()
        late = Producer(server.transport, 1, True)
        server.transport.registerProducer(late, True)
        self.assertTrue(late.stopped)

    async def test_push_producer(self: Any) -> None:
        """A producer is paused while the peer does not read, and goes on when it does."""
        peer, server = await self.connected()
        producer = Producer(server.transport, MUCH, True)
        producer.start()
        await turns(20)
        self.assertEqual(producer.pauses, producer.resumes + 1)
        self.assertGreater(producer.left, 0)
        self.assertEqual(len(await aside(peer.read, MUCH)), MUCH)
        await producer.done
        self.assertGreater(producer.resumes, 0)

    async def test_pull_producer(self: Any) -> None:
        """One that is asked for each piece is asked as fast as the peer reads."""
        peer, server = await self.connected()
        producer = Producer(server.transport, MUCH, False)
        producer.start()
        self.assertRaises(RuntimeError, server.transport.registerProducer, producer, True)
        await turns(20)
        self.assertGreater(producer.left, 0)
        self.assertEqual(len(await aside(peer.read, MUCH)), MUCH)
        await producer.done

    async def test_producer_of_a_full_connection(self: Any) -> None:
        """One that is registered when the peer has enough already has to wait."""
        peer, server = await self.connected()
        server.transport.write(b"a" * MUCH)
        producer = Producer(server.transport, 100_000, True)
        producer.start()
        self.assertTrue(producer.paused)
        self.assertEqual(len(await aside(peer.read, MUCH + 100_000)), MUCH + 100_000)
        await producer.done

    async def test_producer_is_stopped(self: Any) -> None:
        """When the connection ends, its producer is told."""
        peer, server = await self.connected()
        producer = Producer(server.transport, MUCH, True)
        producer.start()
        await turns(3)
        await aside(peer.reset)
        await server.ending()
        self.assertTrue(producer.stopped)

    async def test_lose_with_producer(self: Any) -> None:
        """A connection is closed only when its producer has written everything."""
        peer, server = await self.connected()
        producer = Producer(server.transport, self.by_producer, True)
        producer.start()
        server.transport.loseConnection()
        self.assertEqual(len(await aside(peer.read_all)), self.by_producer)
        await aside(peer.close)
        self.assertIsInstance(await server.ending(), ConnectionDone)

    async def test_pause(self: Any) -> None:
        """While the protocol wants nothing, it gets little, and the peer cannot send much more."""
        peer, server = await self.connected()
        server.transport.pauseProducing()
        sent = await aside(peer.push)
        self.assertLess(len(server.data), 1 << 20)
        server.transport.resumeProducing()
        await server.received(sent)

    async def test_pause_in_between(self: Any) -> None:
        """A protocol may pause whenever something comes, and loses nothing by that."""
        peer, server = await self.connected()

        def pause(data: bytes) -> None:
            server.transport.pauseProducing()
            reactor.callLater(0.001, server.transport.resumeProducing)

        server.on_data = pause
        data = b"".join(b"%07d " % n for n in range(50_000))
        await aside(peer.send, data)
        self.assertTrue(await server.received(len(data)) == data)
        await turns(2)

    async def test_pause_and_end(self: Any) -> None:
        """What was sent before a clean end comes before it, to a protocol that has paused too."""
        peer, server = await self.connected()
        server.transport.pauseProducing()
        closing = aside(lambda: (peer.send(b"x" * 5000), peer.close()))
        await turns(10)
        server.transport.resumeProducing()
        await closing
        self.assertIsInstance(await server.ending(), ConnectionDone)
        self.assertEqual(len(server.data), 5000)

    async def test_fault(self: Any) -> None:
        """A protocol's fault ends its own connection, and no other."""
        peer, server = await self.connected()
        other_peer, other = await self.connected()
        server.on_data = lambda data: 1 / 0
        await aside(peer.send, b"x")
        self.assertNotIsInstance(await server.ending(), ConnectionDone)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        other.transport.write(b"fine")
        self.assertEqual(await aside(other_peer.read, 4), b"fine")

    async def test_versions(self: Any) -> None:
        """TLS 1.2 and 1.3 are spoken, and nothing older."""
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            peer, server = await self.connected(client_context(version, version))
            self.assertEqual(peer.socket.version(), version.name.replace("_", "."))
            server.transport.write(b"!")
            self.assertEqual(await aside(peer.read, 1), b"!")
        old = ssl.TLSVersion.TLSv1_1
        with self.assertRaises(OSError):
            await self.peer(client_context(old, old, "DEFAULT:@SECLEVEL=0"))

    async def test_details(self: Any) -> None:
        """It tells what was agreed on; who was not asked for a certificate has shown none."""
        peer, server = await self.connected()
        self.assertEqual(server.transport.negotiatedProtocol, b"http/1.1")
        self.assertEqual(peer.socket.selected_alpn_protocol(), "http/1.1")
        self.assertIsNone(server.transport.getPeerCertificate())
        self.assertIsNone(peer.socket.compression())

    async def test_options(self: Any) -> None:
        """Options of TCP can be set."""
        _, server = await self.connected()
        for enabled in (True, False, True):
            server.transport.setTcpNoDelay(enabled)
            server.transport.setTcpKeepAlive(enabled)
            self.assertEqual(server.transport.getTcpNoDelay(), enabled)
            self.assertEqual(server.transport.getTcpKeepAlive(), enabled)

    async def test_no_tls(self: Any) -> None:
        """What is no TLS ends, and costs nobody else anything."""
        peer = await self.peer(tls=False)
        await aside(peer.send, b"GET / HTTP/1.1\r\n\r\n")
        with contextlib.suppress(OSError):
            await aside(peer.read_all)
        good, server = await self.connected()
        server.transport.write(b"fine")
        self.assertEqual(await aside(good.read, 4), b"fine")


if not FAST:

    class TwistedTests(TransportTests, EndpointTests):
        """Twisted's endpoint, which sets the standard."""

        kind = "ssl"


class UvloopTests(OnUvloop, TestCase):
    """Our endpoint needs a reactor of its own."""

    module = "tests.test_transport"


if FAST:

    class FastTests(TransportTests, EndpointTests):
        """Our endpoint; what only it does is here as well."""

        kind = "fasttls"
        by_producer = MUCH
        aborted = ConnectionAborted

        async def test_kind(self) -> None:
            """It is what is tested here."""
            _, server = await self.connected()
            self.assertIsInstance(server.transport, FastTransport)

        async def test_lose_while_paused(self) -> None:
            """A connection that reads nothing can be closed as well."""
            peer, server = await self.connected()
            server.transport.pauseProducing()
            await aside(peer.send, b"unread")
            await turns(5)
            server.transport.loseConnection()
            self.assertEqual(await aside(peer.read_all), b"")
            await aside(peer.close)
            self.assertIsInstance(await server.ending(), ConnectionDone)

        async def test_pause_at_once(self) -> None:
            """What comes right behind the handshake is there when the protocol goes on."""

            def pause(server: Recorder) -> None:
                def made() -> None:
                    server.transport.pauseProducing()

                server.connectionMade = made  # type: ignore[method-assign]

            self.factory.setting_up = pause

            def talk() -> Peer:
                peer = Peer(self.address, client_context())
                peer.send(b"hello")
                return peer

            self.peers.append(await aside(talk))
            server = await self.factory.connection()
            await turns(10)
            server.transport.resumeProducing()
            self.assertEqual(await server.received(5), b"hello")

        async def test_abort_after_the_end(self) -> None:
            """There is nothing to abort after the end."""
            peer, server = await self.connected()
            await aside(peer.close)
            self.assertIsInstance(await server.ending(), ConnectionDone)
            server.transport.abortConnection()
            server.transport.pauseProducing()
            server.transport.resumeProducing()

        async def test_producer_of_one_who_ends(self) -> None:
            """
            A producer is told as soon as the peer has announced its end, though it has not come.

            It may have kept our `write`, of which aiofastnet complains from then on.
            """
            peer, server = await self.connected()
            server.transport.write(b"a" * MUCH)
            producer = Producer(server.transport, MUCH, True)
            producer.start()
            await aside(peer.announce)
            await turns(3)
            self.assertTrue(producer.stopped)
            self.assertTrue(server.transport.connected)
            await aside(peer.reset)
            await server.ending()

        async def test_producer_of_an_aborted_one(self) -> None:
            """A producer is told at once when the connection is aborted."""
            _, server = await self.connected()
            producer = Producer(server.transport, MUCH, True)
            producer.start()
            server.transport.abortConnection()
            self.assertTrue(producer.stopped)
            await server.ending()

        async def test_aborted_hears_nothing(self) -> None:
            """A protocol that has aborted gets nothing more."""
            peer, server = await self.connected()
            server.on_data = lambda data: server.transport.abortConnection()
            with contextlib.suppress(OSError):
                await aside(peer.send, b"x" * 100_000)
            self.assertIsInstance(await server.ending(), ConnectionAborted)
            self.assertLess(len(server.data), 100_000)

    if socket.has_ipv6:

        class FastIPv6Tests(EndpointTests):
            """IPv6 alike."""

            kind = "fasttls"
            interface = "::1"
            test_addresses = TransportTests.test_addresses
