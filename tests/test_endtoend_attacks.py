"""What strangers try on a server's ports, with a real server and real TLS."""

from __future__ import annotations

import socket
import ssl
import warnings
from collections.abc import Sequence

from OpenSSL import SSL

from scripts.processes import Server
from tests.endtoend import PATIENCE, EndToEnd

GOOD = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"


def context(version: ssl.TLSVersion | None = None) -> ssl.SSLContext:
    """A client that believes every certificate, and speaks one version alone if that is named."""
    made = ssl.create_default_context()
    made.check_hostname = False
    made.verify_mode = ssl.CERT_NONE
    if version is not None:
        made.set_ciphers("ALL:@SECLEVEL=0")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            made.minimum_version = made.maximum_version = version
    return made


def tls(server: Server, version: ssl.TLSVersion | None = None) -> ssl.SSLSocket:
    """A TLS connection to a server."""
    plain = socket.create_connection(("localhost", server.tls_port), PATIENCE)
    try:
        return context(version).wrap_socket(plain)
    except OSError:
        plain.close()
        raise


def answered(server: Server, pieces: Sequence[bytes]) -> bytes:
    """All that a server writes to who sends these, each a TLS record, until it ends that."""
    got = b""
    with tls(server) as connection:
        for piece in pieces:
            connection.sendall(piece)
        try:
            while data := connection.recv(65536):
                got += data
        except ConnectionError:
            pass
    return got


def renegotiated(server: Server) -> str:
    """What becomes of a client that wants to negotiate anew (TLS 1.2), and then to be served."""
    made = SSL.Context(SSL.TLSv1_2_METHOD)
    plain = socket.create_connection(("localhost", server.tls_port), PATIENCE)
    plain.setblocking(True)
    connection = SSL.Connection(made, plain)
    connection.set_connect_state()
    connection.do_handshake()
    try:
        connection.renegotiate()
        connection.do_handshake()
        connection.sendall(GOOD)
        connection.recv(4096)
    except SSL.Error as error:
        return str(error)
    finally:
        plain.close()
    return f"{connection.total_renegotiations()} times"


class StrangerTests(EndToEnd):
    """Who has no account."""

    async def test_versions(self) -> None:
        """TLS 1.2 and 1.3 are spoken, and nothing older."""
        server = await self.serve()
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            connection = await self.in_thread(tls, server, version)
            self.assertEqual(connection.version(), version.name.replace("_", "."))
            connection.close()
        for version in (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1):
            with self.assertRaises(ssl.SSLError):
                await self.in_thread(tls, server, version)

    async def test_renegotiation(self) -> None:
        """Nobody negotiates a connection's keys twice."""
        server = await self.serve()
        self.assertIn("no renegotiation", await self.in_thread(renegotiated, server))

    async def test_smuggling(self) -> None:
        """A request of which it is not sure where it ends is the last one of its connection."""
        server = await self.serve()
        head = b"POST /auth/login HTTP/1.1\r\nHost: x\r\n"
        for doubtful in (
            b"Content-Length: 2\r\nContent-Length: 40\r\n\r\n{}",
            b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
            b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            b"Content-Length: +2\r\n\r\n{}",
            b"Content-Length: 2, 2\r\n\r\n{}",
            b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
            b"Transfer-Encoding: chunked\r\n\r\n-1\r\n\r\n",
            b"Content-Length : 2\r\n\r\n{}",
        ):
            got = await self.in_thread(answered, server, [head + doubtful + GOOD, GOOD])
            self.assertTrue(got.startswith(b"HTTP/1.1 400 "), (doubtful, got))
            self.assertEqual(got.count(b"HTTP/1.1 "), 1, (doubtful, got))

    async def test_bad_requests(self) -> None:
        """What is no request is refused, in whatever pieces it comes, and logs no traceback."""
        server = await self.serve()
        for pieces in (
            [b"PRI * HTTP/2.0\r\n", b"A: b\r\n\r\n", GOOD],
            [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"],
            [b"GET /health\r\n", b"\r\n", b"\r\n"],
        ):
            got = await self.in_thread(answered, server, pieces)
            self.assertEqual(got, b"HTTP/1.1 400 Bad Request\r\n\r\n")
        endless = b"GET /health HTTP/1.1\r\nA: " + b"x" * 20_000
        self.assertEqual(await self.in_thread(answered, server, [endless]), b"")


class StrangerUvloopTests(StrangerTests):
    """… on uvloop."""

    server_reactor = "uvloop"
