"""
A connection of the fast TLS endpoint: Twisted's transport on aiofastnet's.

To Twisted's protocols it is what the `ssl:` endpoint gives them; the same
tests run over both (tests/conformance.py).  aiofastnet calls its asyncio side.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterable
from typing import Any, Final

from OpenSSL import crypto
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import (
    IConsumer,
    INegotiated,
    IProtocol,
    IPushProducer,
    ISSLTransport,
    ISystemHandle,
    ITCPTransport,
)
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

#: What is read of a connection at once, in bytes.
_READ_BYTES: Final = 65536

#: All connections read into this one: what is in it is taken out before the next one reads.
_buffer = memoryview(bytearray(_READ_BYTES))

log = Logger(namespace="wschat.transport")


def _drop(data: bytes) -> None:
    """Nobody is there to whom it could be sent."""


@implementer(ITCPTransport, ISSLTransport, ISystemHandle, INegotiated, IConsumer, IPushProducer)
class FastTransport(asyncio.BufferedProtocol):
    """
    One TLS connection, of which the handshake is done before a protocol sees it.

    `ready` is told, once, that it is.  The protocol comes with `start`; until
    then, and while it has paused us, what was read already is held.
    """

    __slots__ = (
        "_aborted",
        "_closing",
        "_held",
        "_pulling",
        "_read_paused",
        "_ready",
        "_streaming",
        "_transport",
        "_write_paused",
        "connected",
        "disconnecting",
        "producer",
        "protocol",
        "write",
    )

    #: Sends some bytes: aiofastnet's own, until nothing more can be sent.  Only a producer that is
    #: registered may keep it, as it is told when that is so.
    write: Callable[[bytes], None]
    protocol: IProtocol | None
    producer: Any
    _transport: Any

    def __init__(self, ready: Callable[[FastTransport], None]) -> None:
        self._ready: Callable[[FastTransport], None] | None = ready
        self._transport = None
        self.write = _drop
        self.protocol = None
        self.producer = None
        self.connected = False
        self.disconnecting = False
        self._aborted = False
        self._closing = False
        self._held = b""
        self._read_paused = True
        self._write_paused = False
        self._streaming = False
        self._pulling = False

    def start(self, protocol: IProtocol) -> None:
        """Give the connection to its protocol."""
        self.protocol = protocol
        self._read_paused = False
        protocol.makeConnection(self)
        self._go_on()

    # What aiofastnet calls.

    def connection_made(self, transport: Any) -> None:
        """The handshake is done."""
        self._transport = transport
        self.write = transport.write
        self.connected = True
        ready, self._ready = self._ready, None
        if ready is not None:
            ready(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        return _buffer

    def buffer_updated(self, nbytes: int) -> None:
        data = bytes(_buffer[:nbytes])
        if self._read_paused or self._held:
            self._held += data
            self._transport.pause_reading()
        elif not self._aborted and self.protocol is not None:
            try:
                self.protocol.dataReceived(data)
            except Exception:
                self._failed("dataReceived")

    def eof_received(self) -> None:
        """The peer has closed its side; aiofastnet answers, and ends the connection."""
        self._write_no_more()

    def pause_writing(self) -> None:
        self._write_paused = True
        if self.producer is not None and self._streaming:
            self.producer.pauseProducing()

    def resume_writing(self) -> None:
        self._write_paused = False
        if self.producer is None:
            return
        if self._streaming:
            self.producer.resumeProducing()
        else:
            self._pull_soon()

    def connection_lost(self, error: Exception | None) -> None:
        self.connected = False
        reason: Exception
        if self._aborted:
            reason = ConnectionAborted()
        elif error is None and self.disconnecting:
            reason = ConnectionDone()
        else:  # without an error it is an end that TLS did not announce: it may be cut short
            reason = ConnectionLost(*(() if error is None else (str(error),)))
        held, self._held = self._held, b""
        protocol, self.protocol = self.protocol, None
        self._write_no_more()
        if protocol is not None:
            if held and isinstance(reason, ConnectionDone):  # it has come before the end
                protocol.dataReceived(held)
            protocol.connectionLost(Failure(reason))

    def _write_no_more(self) -> None:
        """Nothing more can be sent: so it is told to who produces it."""
        self.disconnecting = True
        self.write = _drop
        producer, self.producer = self.producer, None
        try:
            if producer is not None:
                producer.stopProducing()
        except Exception:
            log.failure("a producer could not be stopped")

    # What protocols call.

    def writeSequence(self, data: Iterable[bytes]) -> None:
        """Send all that, as one."""
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        """Close, after what was written, and after what a producer that is registered writes."""
        if self.disconnecting or not self.connected:
            return
        self.disconnecting = True
        if self.producer is None:
            self._close()

    def abortConnection(self) -> None:
        """End the connection now: what was written may not arrive."""
        if self.connected and not self._aborted:
            self._aborted = True
            self._write_no_more()
            # aiofastnet may be reading, and would go on: it is told when it is done.
            self._transport.pause_reading()
            asyncio.get_running_loop().call_soon(self._transport.abort)

    def loseWriteConnection(self) -> None:
        """TLS has no half of a connection to close here: as `loseConnection`."""
        self.loseConnection()

    def _close(self) -> None:
        if not self._closing:
            self._closing = True
            self.write = _drop
            self._transport.resume_reading()  # the peer's answer is to be seen
            self._transport.close()

    def _failed(self, what: str) -> None:
        """A protocol's fault ends its own connection, as Twisted's reactors do."""
        log.failure("{what} failed", what=what)
        self.abortConnection()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Let `producer` write: until it is told to pause, or once each time that it is asked."""
        if self.producer is not None:
            raise RuntimeError("a producer is registered already")
        if not self.connected:
            producer.stopProducing()
            return
        self.producer = producer
        self._streaming = streaming
        if not streaming:
            self._pull_soon()
        elif self._write_paused:
            producer.pauseProducing()

    def unregisterProducer(self) -> None:
        """There is no producer any more, if there was one."""
        self.producer = None
        if self.disconnecting and self.connected and not self._aborted:
            self._close()

    def _pull_soon(self) -> None:
        if not self._pulling:
            self._pulling = True
            asyncio.get_running_loop().call_soon(self._pull)

    def _pull(self) -> None:
        self._pulling = False
        if self.producer is None or self._streaming or self._write_paused:
            return
        try:
            self.producer.resumeProducing()
        except Exception:
            self._failed("resumeProducing")
        else:
            self._pull_soon()

    def pauseProducing(self) -> None:
        """
        Give the protocol nothing until `resumeProducing`.

        aiofastnet is paused when something comes, and not before: it forgets
        what it has read when it is paused between the handshake and that.
        """
        self._read_paused = True

    def resumeProducing(self) -> None:
        """Give the protocol what comes."""
        if self._read_paused and self.connected:
            self._read_paused = False
            if self._held:
                asyncio.get_running_loop().call_soon(self._go_on)
            else:
                self._go_on()

    def stopProducing(self) -> None:
        self.loseConnection()

    def _go_on(self) -> None:
        if self._read_paused or not self.connected:
            return
        held, self._held = self._held, b""
        if held and not self._aborted and self.protocol is not None:
            try:
                self.protocol.dataReceived(held)
            except Exception:
                self._failed("dataReceived")
        if self.connected and not self._read_paused:
            self._transport.resume_reading()

    def getHost(self) -> IPv4Address | IPv6Address:
        return self._address("sockname")

    def getPeer(self) -> IPv4Address | IPv6Address:
        return self._address("peername")

    def _address(self, name: str) -> IPv4Address | IPv6Address:
        address = self._transport.get_extra_info(name)
        return (IPv4Address if len(address) == 2 else IPv6Address)("TCP", *address)

    def getPeerCertificate(self) -> crypto.X509 | None:
        """What the peer has shown; None when it was not asked to."""
        der = self.getHandle().getpeercert(True)
        return None if der is None else crypto.load_certificate(crypto.FILETYPE_ASN1, der)

    def getHandle(self) -> Any:
        """What tells of the connection's TLS: an `ssl.SSLObject`, as far as it only tells."""
        return self._transport.get_extra_info("ssl_object")

    @property
    def negotiatedProtocol(self) -> bytes | None:
        """What ALPN chose."""
        chosen = self.getHandle().selected_alpn_protocol()
        return None if chosen is None else chosen.encode()

    def getTcpNoDelay(self) -> bool:
        return self._option(socket.IPPROTO_TCP, socket.TCP_NODELAY)

    def setTcpNoDelay(self, enabled: bool) -> None:
        self._set_option(socket.IPPROTO_TCP, socket.TCP_NODELAY, enabled)

    def getTcpKeepAlive(self) -> bool:
        return self._option(socket.SOL_SOCKET, socket.SO_KEEPALIVE)

    def setTcpKeepAlive(self, enabled: bool) -> None:
        self._set_option(socket.SOL_SOCKET, socket.SO_KEEPALIVE, enabled)

    def _option(self, level: int, name: int) -> bool:
        return bool(self._transport.get_extra_info("socket").getsockopt(level, name))

    def _set_option(self, level: int, name: int, enabled: bool) -> None:
        self._transport.get_extra_info("socket").setsockopt(level, name, int(enabled))
