"""
The certificate that a TLS listener shows, which can be another while it listens.

A connection keeps the one with which it began.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL import SSL
from OpenSSL.crypto import X509, PKey
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.internet.ssl import CertificateOptions
from zope.interface import implementer


def check(chain: Path, key: Path) -> None:
    """Raise `OSError` or `ValueError` unless both files are PEM, and belong together."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    for path in (key, chain):
        path.read_bytes()  # the error of a missing file names it
    try:
        context.load_cert_chain(chain, key, password="")  # so that nobody is asked
    except (ssl.SSLError, ValueError) as error:
        reason = getattr(error, "reason", None) or str(error)
        raise ValueError(f"not a PEM certificate and its key ({reason})") from None


@implementer(IOpenSSLServerConnectionCreator)
class Certificate:
    """Two PEM files: a certificate with the chain behind it, and its private key."""

    def __init__(self, chain: Path, key: Path) -> None:
        """Read the files.  Raises `OSError`, `ValueError`."""
        self.chain = chain
        self.key = key
        self._others: list[Callable[[Path, Path], object]] = []
        #: When it ends, in seconds since the epoch.
        self.ends = 0.0
        self.load()

    def load(self) -> None:
        """Read the files anew.  Raises `OSError`, `ValueError`, and then all is as it was."""
        check(self.chain, self.key)
        chain = self.chain.read_bytes()
        options = _options(chain, self.key.read_bytes())
        for adopt in self._others:
            adopt(self.chain, self.key)
        self._options = options
        self.ends = x509.load_pem_x509_certificate(chain).not_valid_after_utc.timestamp()

    def followed_by(self, adopt: Callable[[Path, Path], object]) -> None:
        """
        Have another TLS implementation take the files, now and whenever they are read anew.

        `wschat.fasttls.FastTLSEndpoint.show` is such a callable.
        """
        adopt(self.chain, self.key)
        self._others.append(adopt)

    def serverConnectionForTLS(self, tlsProtocol: Any) -> SSL.Connection:
        """A connection that is about to begin (`IOpenSSLServerConnectionCreator`)."""
        return self._options.serverConnectionForTLS(tlsProtocol)


def _options(chain: bytes, key: bytes) -> CertificateOptions:
    """Twisted's own settings, with what comes behind the certificate as well."""
    first, *rest = (X509.from_cryptography(c) for c in x509.load_pem_x509_certificates(chain))
    private: Any = load_pem_private_key(key, None)
    options = CertificateOptions(
        privateKey=PKey.from_cryptography_key(private), certificate=first, extraCertChain=rest
    )
    options.getContext()  # it is kept: what is wrong with the files shows now, and not later
    return options
