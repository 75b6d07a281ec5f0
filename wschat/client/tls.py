"""TLS to the server: verified, unless somebody insists that it is not."""

from __future__ import annotations

import ipaddress
from typing import Any

from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.ssl import CertificateOptions, optionsForClientTLS
from twisted.web.iweb import IPolicyForHTTPS
from zope.interface import implementer


def connection_creator(host: str, insecure: bool) -> IOpenSSLClientConnectionCreator:
    """
    Makes TLS connections to `host`, whose certificate must be valid for that name.

    Whom it trusts is the platform's say, and that of `SSL_CERT_FILE`.
    """
    creator: IOpenSSLClientConnectionCreator = (
        _Unverified(host) if insecure else optionsForClientTLS(host)
    )
    return creator


@implementer(IOpenSSLClientConnectionCreator)
class _Unverified:
    """`INSECURE_TLS`: encrypts, and asks nobody who the server is."""

    def __init__(self, host: str) -> None:
        self._host = host
        self._context = CertificateOptions().getContext()

    def clientConnectionForTLS(self, tlsProtocol: Any) -> SSL.Connection:
        connection = SSL.Connection(self._context, None)
        if not _is_address(self._host):
            connection.set_tlsext_host_name(self._host.encode("idna"))
        return connection


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


@implementer(IPolicyForHTTPS)
class Policy:
    """The same, for twisted.web's agent."""

    def __init__(self, insecure: bool) -> None:
        self._insecure = insecure

    def creatorForNetloc(self, hostname: bytes, port: int) -> IOpenSSLClientConnectionCreator:
        return connection_creator(hostname.decode("ascii"), self._insecure)
