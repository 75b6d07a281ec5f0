"""Tests of `wschat.certificate`."""

from __future__ import annotations

import contextlib
import datetime
import ssl
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from OpenSSL import SSL
from twisted.internet.address import IPv4Address
from twisted.internet.protocol import Factory, Protocol
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.trial.unittest import SynchronousTestCase

from wschat.certificate import Certificate, check
from wschat.datadir import self_signed

NOW = datetime.datetime.now(datetime.UTC)

PEM = serialization.Encoding.PEM


def signed_by_another() -> tuple[bytes, bytes, bytes]:
    """A certificate for localhost, the one that signed it, and the first one's key; PEM."""
    above_pem, above_key = self_signed(["above.example"], NOW)
    above = x509.load_pem_x509_certificate(above_pem)
    signer = serialization.load_pem_private_key(above_key, None)
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(above.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - datetime.timedelta(hours=1))
        .not_valid_after(NOW + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=True)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
        )
        .sign(signer, hashes.SHA256())
    )
    private = key.private_bytes(
        PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return certificate.public_bytes(PEM), above_pem, private


def connection(certificate: Certificate) -> SSL.Connection:
    """The server's end of a TLS connection that is about to begin."""
    factory = TLSMemoryBIOFactory(certificate, False, Factory.forProtocol(Protocol))
    protocol = factory.buildProtocol(IPv4Address("TCP", "127.0.0.1", 1))
    return certificate.serverConnectionForTLS(protocol)


class Peer:
    """The client's end of a TLS connection, in memory."""

    def __init__(self, certificate: Certificate) -> None:
        """Begin one with what a server shows now."""
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        self._client = SSL.Connection(context, None)
        self._client.set_connect_state()
        self._server = connection(certificate)
        self._server.set_accept_state()

    def shake_hands(self) -> None:
        """Both ends, until both are done."""
        done = {self._client: False, self._server: False}
        while not all(done.values()):
            for one, other in ((self._client, self._server), (self._server, self._client)):
                try:
                    one.do_handshake()
                    done[one] = True
                except SSL.WantReadError:
                    pass
                with contextlib.suppress(SSL.WantReadError):
                    other.bio_write(one.bio_read(65536))

    def chain(self) -> list[bytes]:
        """What the server has shown, PEM."""
        shown = self._client.get_peer_cert_chain(as_cryptography=True) or []
        return [certificate.public_bytes(PEM) for certificate in shown]

    def talks(self) -> bool:
        """Whether what the server says arrives."""
        self._server.send(b"hello")
        self._client.bio_write(self._server.bio_read(65536))
        return self._client.recv(5) == b"hello"


class _CertificateTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        self.chain, self.key = self.directory / "chain.pem", self.directory / "key.pem"

    def put(self, *names: str) -> bytes:
        """A new certificate for those names in the files; its PEM."""
        chain, key = self_signed(names, NOW)
        self.chain.write_bytes(chain)
        self.key.write_bytes(key)
        return chain


class CertificateTests(_CertificateTests):
    """What is shown."""

    def shown(self, certificate: Certificate) -> list[bytes]:
        peer = Peer(certificate)
        peer.shake_hands()
        return peer.chain()

    def test_shown(self) -> None:
        """The certificate is the one of the file."""
        pem = self.put("localhost")
        self.assertEqual(self.shown(Certificate(self.chain, self.key)), [pem])

    def test_chain(self) -> None:
        """What is behind the certificate in the file is shown as well."""
        leaf, above, key = signed_by_another()
        self.chain.write_bytes(leaf + above)
        self.key.write_bytes(key)
        self.assertEqual(self.shown(Certificate(self.chain, self.key)), [leaf, above])

    def test_replaced(self) -> None:
        """The next connection sees the new one; one that is open, or opening, goes on."""
        first = self.put("localhost")
        certificate = Certificate(self.chain, self.key)
        before, opening = Peer(certificate), Peer(certificate)
        before.shake_hands()
        second = self.put("localhost")
        certificate.load()
        self.assertEqual(self.shown(certificate), [second])
        opening.shake_hands()
        self.assertEqual((before.chain(), opening.chain()), ([first], [first]))
        self.assertTrue(before.talks())
        self.assertTrue(opening.talks())

    def test_broken(self) -> None:
        """With files that are no pair, the old one stays, everywhere."""
        first = self.put("localhost")
        certificate = Certificate(self.chain, self.key)
        told: list[Sequence[Path]] = []
        certificate.followed_by(lambda *files: told.append(files))
        other_key = self_signed(["localhost"], NOW)[1]
        for chain, key in (
            (b"", self.key.read_bytes()),
            (b"junk", b"junk"),
            (first, other_key),
            (first[:-100], self.key.read_bytes()),
            (first, b""),
        ):
            self.chain.write_bytes(chain)
            self.key.write_bytes(key)
            error = self.assertRaises(ValueError, certificate.load)
            self.assertNotIn("\n", str(error))
            self.assertEqual(self.shown(certificate), [first])
        self.key.unlink()
        self.assertIn(str(self.key), str(self.assertRaises(OSError, certificate.load)))
        self.assertEqual(self.shown(certificate), [first])
        self.assertEqual(told, [(self.chain, self.key)])

    def test_passphrase(self) -> None:
        """A key under a passphrase is refused, and nobody is asked for it."""
        self.put("localhost")
        key = serialization.load_pem_private_key(self.key.read_bytes(), None)
        under = serialization.BestAvailableEncryption(b"quokka")
        self.key.write_bytes(key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, under))
        self.assertRaises(ValueError, check, self.chain, self.key)

    def test_followed(self) -> None:
        """Another TLS implementation has the new one as well: an `ssl.SSLContext`, say."""
        self.put("localhost")
        certificate = Certificate(self.chain, self.key)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate.followed_by(context.load_cert_chain)
        second = self.put("localhost")
        certificate.load()
        self.assertEqual(_shown_by(context), ssl.PEM_cert_to_DER_cert(second.decode()))

    def test_old_versions(self) -> None:
        """Nothing older than TLS 1.2 is spoken."""
        self.put("localhost")
        options = Certificate(self.chain, self.key)._options.getContext().set_options(0)
        for old in (SSL.OP_NO_SSLv3, SSL.OP_NO_TLSv1, SSL.OP_NO_TLSv1_1):
            self.assertTrue(options & old)
        self.assertFalse(options & (SSL.OP_NO_TLSv1_2 | SSL.OP_NO_TLSv1_3))


def _shown_by(context: ssl.SSLContext) -> bytes | None:
    """The certificate that the standard library's TLS shows, DER."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(down, up),
        context.wrap_bio(up, down, server_side=True),
    ]
    waiting = list(ends)
    while waiting:
        for end in list(waiting):
            try:
                end.do_handshake()
                waiting.remove(end)
            except ssl.SSLWantReadError:
                pass
    return ends[0].getpeercert(binary_form=True)
