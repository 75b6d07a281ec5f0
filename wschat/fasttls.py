"""
The endpoint `fasttls:`: TLS by aiofastnet, for reactors that run on asyncio's loop.

It takes what Twisted's `ssl:` takes: `fasttls:8443:privateKey=K:certKey=C`,
and `interface`, `backlog`, `extraCertChain`.  Connections are let in a few at
a time, so that thousands at once leave those that are there their turn.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from twisted.internet import defer, tcp
from twisted.internet.interfaces import (
    IListeningPort,
    IProtocolFactory,
    IProtocolNegotiationFactory,
    IReactorCore,
    IStreamServerEndpoint,
    IStreamServerEndpointStringParser,
)
from twisted.logger import Logger
from twisted.plugin import IPlugin
from zope.interface import implementer

from wschat import addresses
from wschat.limits import Occupancy
from wschat.transport import FastTransport

#: How long a peer may take to shake hands, and to answer the end of TLS; seconds.
HANDSHAKE_TIMEOUT: Final = 10.0
SHUTDOWN_TIMEOUT: Final = 15.0

#: How many peers may be shaking hands, or wait to be let in; others wait in the kernel.
UNFINISHED: Final = 512

#: How many are accepted, and how many let in, before the connections that are there have a turn.
_A_TURN: Final = 2

#: What waits in the kernel to be accepted: as much as it takes.
_BACKLOG: Final = 4096

#: TLS buffers of a connection in and out, in bytes.  All of it stays in memory, so that what comes
#: in, mostly short, is read in small steps, and what goes out, often joined, a record at once.
_IN_BYTES: Final = 4096
_OUT_BYTES: Final = 16384

#: Which part of them may be one address's, so that whoever connects and says nothing, again and
#: again, keeps nobody else out.
_SHARE: Final = 4

#: How long nothing is accepted when there is no descriptor for it, in seconds.
_BREATH: Final = 1.0

#: What `accept` says of a connection that is not there any more; there may be others.
_GONE: Final = frozenset({errno.ECONNABORTED, errno.EPERM, errno.EINTR})

log = Logger(namespace="wschat.fasttls")


def available(reactor: object) -> bool:
    """Whether this can listen: the reactor has an asyncio loop, and aiofastnet works here."""
    if getattr(reactor, "_asyncioEventloop", None) is None:
        return False
    try:
        from aiofastnet import ssl_transport  # type: ignore[attr-defined]  # noqa: PLC0415
    except ImportError:
        return False
    return ssl_transport.SSLEngineDirect is not None  # it may not find Python's own OpenSSL


def server_context(private_key: str, certificate: str) -> ssl.SSLContext:
    """TLS 1.2 and 1.3 with these PEM files.  Raises `OSError`, of which `ssl.SSLError` is one."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.num_tickets = 1  # who comes back needs no more
    context.load_cert_chain(certificate, private_key)
    return context


@implementer(IPlugin, IStreamServerEndpointStringParser)
class FastTLSParser:
    """What Twisted finds of this module (twisted/plugins)."""

    prefix = "fasttls"

    def parseStreamServer(
        self, reactor: IReactorCore, *args: Any, **kwargs: Any
    ) -> IStreamServerEndpoint:
        """Make the endpoint.  Raises `ValueError` where it cannot be, `OSError` for its keys."""
        return self._parse(reactor, *args, **kwargs)

    def _parse(
        self,
        reactor: IReactorCore,
        port: str,
        *,
        privateKey: str = "server.pem",
        certKey: str | None = None,
        interface: str = "",
        backlog: str = str(_BACKLOG),
    ) -> FastTLSEndpoint:
        if not available(reactor):
            raise ValueError("fasttls: needs aiofastnet, and a reactor on asyncio's loop")
        context = server_context(privateKey, certKey or privateKey)
        return FastTLSEndpoint(
            reactor, int(port), context, interface=interface, backlog=int(backlog)
        )


@implementer(IStreamServerEndpoint)
class FastTLSEndpoint:
    """Listens on a TCP port, with TLS."""

    def __init__(
        self,
        reactor: Any,
        port: int,
        context: ssl.SSLContext,
        *,
        interface: str = "",
        backlog: int = _BACKLOG,
        unfinished: int = UNFINISHED,
    ) -> None:
        """`unfinished` is how many connections may be neither let in nor refused."""
        self._reactor = reactor
        self._port = port
        self._context = context
        self._interface = interface
        self._backlog = backlog
        self._unfinished = unfinished
        self._offered: list[str] = []
        self._listening: list[FastTLSPort] = []

    def show(self, certificate: Path, private_key: Path) -> None:
        """Show this certificate to who connects from now on.  Raises `OSError`, of its files."""
        # In the same context it would be beside the old one, if their keys are of two kinds.
        self._context = server_context(str(private_key), str(certificate))
        self._offer()

    def _offer(self) -> None:
        if self._offered:
            self._context.set_alpn_protocols(self._offered)
        for port in self._listening:
            port.context = self._context

    def listen(self, protocolFactory: IProtocolFactory) -> defer.Deferred[IListeningPort]:
        """Listen; fails with `CannotListenError`."""
        return defer.execute(self._listen, protocolFactory)

    def _listen(self, factory: IProtocolFactory) -> IListeningPort:
        if IProtocolNegotiationFactory.providedBy(factory):
            self._offered = [protocol.decode() for protocol in factory.acceptableProtocols()]
        port = FastTLSPort(self._port, factory, self._backlog, self._interface, self._reactor)
        port.unfinished = self._unfinished
        self._listening.append(port)
        self._offer()
        port.startListening()
        return port


class _Handshake:
    """Whom aiofastnet tells that a handshake has ended, well or not: as much of a future."""

    __slots__ = ("_ended", "host", "transport")

    transport: Any

    def __init__(self, ended: Callable[[_Handshake], None], host: str | None) -> None:
        """`host` is what it counts for; None for this host."""
        self._ended = ended
        self.host = host

    def done(self) -> bool:
        return False

    def set_result(self, result: object) -> None:
        self._ended(self)

    def set_exception(self, error: object) -> None:
        self._ended(self)


class FastTLSPort(tcp.Port):
    """
    Twisted's port, that accepts for aiofastnet.

    A connection is accepted, shakes hands, waits for its turn, and is given to
    a protocol.
    """

    context: ssl.SSLContext
    unfinished: int
    reactor: Any
    _type = "TLS"

    def startListening(self) -> None:
        # Not by aiofastnet's own functions: their least buffers are four times what is read.
        from aiofastnet import ssl_transport  # type: ignore[attr-defined]  # noqa: PLC0415

        self._loop: asyncio.AbstractEventLoop = self.reactor._asyncioEventloop
        self._connection = ssl_transport.SSLTransport_Socket
        self._shaking: set[_Handshake] = set()
        self._places = Occupancy(max(1, self.unfinished // _SHARE), self.unfinished)
        self._waiting: deque[FastTransport] = deque()
        self._resting = False
        super().startListening()

    def doRead(self) -> None:
        """Accept a few; what more there is has its turn after those who are connected."""
        for _ in range(_A_TURN):
            if len(self._shaking) + len(self._waiting) >= self.unfinished:
                self._rest()
                return
            try:
                accepted, address = self.socket.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _GONE:
                    continue
                log.error("cannot accept: {error}", error=error)
                self._rest()
                self.reactor.callLater(_BREATH, self._accept_again)
                return
            host = addresses.counted(addresses.normal(address[0]))
            if self._places.room(host):
                self._shake_hands(accepted, host)
            else:
                accepted.close()

    def _rest(self) -> None:
        self._resting = True
        self.stopReading()

    def _accept_again(self) -> None:
        if self._resting and self.connected and not self.disconnecting:
            self._resting = False
            self.startReading()

    def _shake_hands(self, accepted: socket.socket, host: str | None) -> None:
        accepted.setblocking(False)
        handshake = _Handshake(self._shaken, host)
        try:
            handshake.transport = self._connection(
                self._loop,
                FastTransport(self._wait),
                self.context,
                True,
                HANDSHAKE_TIMEOUT,
                SHUTDOWN_TIMEOUT,
                _IN_BYTES,
                _OUT_BYTES,
                accepted,
                handshake,
            )
        except OSError as error:  # it has gone already
            log.debug("a handshake failed: {error}", error=error)
            accepted.close()
        else:
            self._shaking.add(handshake)
            self._places.enter(host)

    def _shaken(self, handshake: _Handshake) -> None:
        if handshake in self._shaking:
            self._shaking.discard(handshake)
            self._places.leave(handshake.host)
            del handshake.transport  # which keeps the handshake as long as it lives
        self._accept_again()

    def _wait(self, transport: FastTransport) -> None:
        """A handshake is done: the connection has to wait for its turn."""
        if not self._waiting:
            self._loop.call_soon(self._let_in)
        self._waiting.append(transport)

    def _let_in(self) -> None:
        for _ in range(min(_A_TURN, len(self._waiting))):
            transport = self._waiting.popleft()
            if transport.connected:
                self._start(transport)
        if self._waiting:
            self._loop.call_soon(self._let_in)
        self._accept_again()

    def _start(self, transport: FastTransport) -> None:
        try:
            protocol = self.factory.buildProtocol(transport.getPeer())  # type: ignore[union-attr]
            if protocol is None:
                transport.abortConnection()
            else:
                transport.start(protocol)
        except Exception:
            log.failure("a connection could not be started")
            transport.abortConnection()

    def connectionLost(self, reason: Any) -> None:
        """The port is closed, and with it what was not let in."""
        for handshake in self._shaking:
            handshake.transport.abort()
        self._shaking.clear()
        for transport in self._waiting:
            transport.abortConnection()
        self._waiting.clear()
        super().connectionLost(reason)
