"""
What tests of both TLS endpoints share: a listening port, and a blocking peer to talk to it.

Tests are a mixin that is run with `ssl:` on whatever reactor there is, and
with `fasttls:` on uvloop's: `on_uvloop` runs a module again where that is not
the reactor.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import re
import select
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Final, TypeVar, cast

from twisted.internet import reactor
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IAddress, IProtocolNegotiationFactory
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.threads import deferToThread
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from tests.support import NOW
from wschat import endpoint
from wschat.datadir import make_certificate

Result = TypeVar("Result")

#: How long one thing may take, in seconds; far more than it does.
PATIENCE: Final = 30.0

#: Whether this is the process in which `fasttls:` can be tested.
FAST: Final = endpoint.fast(reactor)

_RAN = re.compile(r"^Ran (\d+) tests", re.MULTILINE)


def on_uvloop(module: str) -> int:
    """Run a module's tests on the uvloop reactor; how many there were.  Raises `AssertionError`."""
    with tempfile.TemporaryDirectory() as directory:
        done = subprocess.run(
            [
                *(sys.executable, "-m", "twisted.trial", "--reactor=uvloop"),
                *(f"--temp-directory={directory}/trial", module),
            ],
            env=dict(os.environ),
            capture_output=True,
            text=True,
            timeout=20 * PATIENCE,
            check=False,
        )
    ran = _RAN.search(done.stdout)
    assert done.returncode == 0 and ran is not None, done.stdout + done.stderr
    return int(ran[1])


class OnUvloop:
    """Mixed into a test case of a module: its tests pass on the uvloop reactor as well."""

    module: ClassVar[str]

    def test_on_uvloop(self: Any) -> Deferred[None] | None:
        """All of this module, in a process whose reactor is uvloop's, unless this is one."""
        if FAST:
            return None
        return deferToThread(on_uvloop, self.module).addCallback(self.assertGreater, 1)


class Recorder(Protocol):
    """The server's side: what happened to it, and what is to be done when it does."""

    transport: Any

    def __init__(self) -> None:
        self.data = b""
        self.lost: Deferred[Exception] = Deferred()
        self.on_data: Callable[[bytes], object] = lambda data: None
        self._waiting: list[tuple[int, Deferred[bytes]]] = []

    def dataReceived(self, data: bytes) -> None:
        self.data += data
        self.on_data(data)
        for waiting in [w for w in self._waiting if len(self.data) >= w[0]]:
            self._waiting.remove(waiting)
            waiting[1].callback(self.data)

    async def received(self, size: int) -> bytes:
        """What came, once it is as much as that."""
        if len(self.data) < size:
            waiting: Deferred[bytes] = Deferred()
            self._waiting.append((size, waiting))
            await waiting.addTimeout(PATIENCE, reactor)
        return self.data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        assert isinstance(reason.value, Exception)
        self.lost.callback(reason.value)

    async def ending(self) -> Exception:
        """Why the connection ended, once it has."""
        return await self.lost.addTimeout(PATIENCE, reactor)


@implementer(IProtocolNegotiationFactory)
class Recorders(Factory):
    """Makes them; `made` has them in order, and `setting_up` sees each before it connects."""

    noisy = False

    def __init__(self, protocol: Callable[[], Any] = Recorder) -> None:
        self.make = protocol
        self.made: list[Any] = []
        self.setting_up: Callable[[Any], object] = lambda protocol: None
        self._waiting: list[tuple[int, Deferred[Any]]] = []

    def acceptableProtocols(self) -> list[bytes]:
        return [b"http/1.1"]

    def buildProtocol(self, addr: IAddress | None) -> Any:
        protocol = self.make()
        self.setting_up(protocol)
        self.made.append(protocol)
        reactor.callLater(0, self._tell)
        return protocol

    def _tell(self) -> None:
        for waiting in [w for w in self._waiting if len(self.made) > w[0]]:
            self._waiting.remove(waiting)
            waiting[1].callback(None)

    async def connection(self, number: int = 0) -> Any:
        """The connection of that number, once it is there."""
        if len(self.made) <= number:
            waiting: Deferred[Any] = Deferred()
            self._waiting.append((number, waiting))
            await waiting.addTimeout(PATIENCE, reactor)
        return self.made[number]


class Peer:
    """The other side: a socket that blocks, so to be used `aside`."""

    def __init__(self, address: tuple[str, int], context: ssl.SSLContext | None) -> None:
        """Connect, and shake hands unless there is no `context`."""
        self.socket = socket.create_connection(address, timeout=PATIENCE)
        if context is not None:
            # Read and written by TLS only when it must be, so that an end can be left out.
            self.socket = context.wrap_socket(self.socket, suppress_ragged_eofs=False)

    def read(self, size: int) -> bytes:
        """So many bytes, or fewer when the server ended before."""
        data = b""
        while len(data) < size:
            came = self.socket.recv(min(65536, size - len(data)))
            if not came:
                break
            data += came
        return data

    def read_all(self) -> bytes:
        """All up to the end; the end was announced, or this raises `OSError`."""
        return self.read(1 << 40)

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def exchange(self, data: bytes) -> bytes:
        """Send all that, and read as much, both at once; in one thread, as TLS takes no two."""
        came, left = bytearray(), memoryview(data)
        self.socket.settimeout(0)
        while len(came) < len(data):
            select.select([self.socket], [self.socket] if left else [], [], PATIENCE)
            with contextlib.suppress(BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                while left:
                    left = left[self.socket.send(left[:65536]) :]
            with contextlib.suppress(BlockingIOError, ssl.SSLWantReadError):
                while some := self.socket.recv(65536):
                    came += some
                break  # the server ended before
        self.socket.settimeout(PATIENCE)
        return bytes(came)

    def push(self) -> int:
        """Send until nothing more is taken for a while; how much that was."""
        sent, data = 0, b"x" * 65536
        self.socket.settimeout(0.5)
        try:
            while sent < 1 << 30:
                sent += self.socket.send(data)
        except (TimeoutError, ssl.SSLWantWriteError):
            pass
        finally:
            self.socket.settimeout(PATIENCE)
        return sent

    def close(self) -> None:
        """Announce the end, see the server's, and close."""
        if isinstance(self.socket, ssl.SSLSocket):
            self.socket.unwrap().close()
        else:
            self.socket.close()

    def announce(self) -> None:
        """Announce the end, and read nothing more."""
        self.socket.settimeout(0.2)
        with contextlib.suppress(TimeoutError, ssl.SSLError):
            cast("ssl.SSLSocket", self.socket).unwrap()

    def vanish(self) -> None:
        """End without having announced it."""
        while isinstance(self.socket, ssl.SSLSocket):  # what waits to be read would be a reset
            self.socket.settimeout(0.05)
            try:
                self.socket.recv(65536)
            except OSError:
                break
        self.socket.close()

    def reset(self) -> None:
        """Break the connection."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()


def aside(work: Callable[..., Result], *args: Any) -> Deferred[Result]:
    """Do what blocks in a thread."""
    return deferToThread(work, *args)


def client_context(
    lowest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2,
    highest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
    ciphers: str = "DEFAULT",
) -> ssl.SSLContext:
    """What a peer shakes hands with: any server is good."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_ciphers(ciphers)
    context.minimum_version, context.maximum_version = lowest, highest
    context.set_alpn_protocols(["http/1.1"])
    return context


class EndpointTests(TestCase):
    """A port of the endpoint under test, with a factory of recorders behind it."""

    kind: ClassVar[str]
    interface: ClassVar[str] = "127.0.0.1"
    timeout = 4 * PATIENCE

    def make_factory(self) -> Recorders:
        return Recorders()

    async def setUp(self) -> None:  # type: ignore[override]  # trial waits for it
        directory = Path(self.mktemp())
        directory.mkdir()
        self.certificate, self.key = make_certificate(
            directory, datetime.datetime.fromtimestamp(NOW, datetime.UTC)
        )
        self.factory = self.make_factory()
        self.peers: list[Peer] = []
        interface = self.interface.replace(":", "\\:")
        self.port = await serverFromString(
            reactor,
            f"{self.kind}:0:privateKey={self.key}:certKey={self.certificate}:interface={interface}",
        ).listen(self.factory)
        self.addCleanup(self.tear_down)

    async def tear_down(self) -> None:
        for peer in self.peers:
            peer.socket.close()
        await maybeDeferred(self.port.stopListening)
        for protocol in self.factory.made:
            transport = getattr(protocol, "transport", None)
            if transport is not None and not protocol.lost.called:
                transport.abortConnection()
                await protocol.ending()

    @property
    def address(self) -> tuple[str, int]:
        return self.interface, self.port.getHost().port

    async def peer(self, context: ssl.SSLContext | None = None, tls: bool = True) -> Peer:
        """A peer that has shaken hands, unless it is without TLS."""
        chosen = (context or client_context()) if tls else None
        peer = await aside(Peer, self.address, chosen)
        self.peers.append(peer)
        return peer

    async def connected(self, context: ssl.SSLContext | None = None) -> tuple[Peer, Any]:
        """A peer, and the server's side of the same connection."""
        number = len(self.factory.made)
        peer = await self.peer(context)
        server = await self.factory.connection(number)
        await aside(peer.send, b"!")  # Twisted shows a connection before hands were shaken
        await server.received(1)
        server.data = b""
        return peer, server
