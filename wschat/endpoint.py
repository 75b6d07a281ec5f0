"""Where the server listens: from an option's text to a Twisted endpoint."""

from __future__ import annotations

import socket
from typing import Any, Final, cast

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import quoteStringArgument, serverFromString
from twisted.internet.interfaces import (
    IListeningPort,
    IProtocolFactory,
    IReactorCore,
    IStreamServerEndpoint,
)
from twisted.protocols.tls import TLSMemoryBIOFactory
from zope.interface import implementer

from wschat import fasttls
from wschat.certificate import Certificate
from wschat.values import split_address

#: Connections that may wait to be accepted: Twisted's 50 have the rest of a crowd try again after
#: a second, and after three more.
_BACKLOG: Final = 4096

#: Sockets that somebody else has opened for the TLS listener.
_INHERITED: Final = ("systemd:", "fd:")


def fast(reactor: object) -> bool:
    """Whether TLS is by `fasttls:` unless another endpoint is named: on the uvloop reactor."""
    loop = getattr(reactor, "_asyncioEventloop", None)
    return type(loop).__module__.partition(".")[0] == "uvloop" and fasttls.available(reactor)


def _any_interface() -> str:
    """All interfaces, of IPv6 and IPv4 alike where there is IPv6."""
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return ""
    return "::"


def _tcp(text: str) -> str:
    """`HOST:PORT` or `:PORT` as the arguments of a Twisted endpoint; others as they are."""
    address = split_address(text)
    if address is None:
        return text
    host, port = address
    interface = quoteStringArgument(host or _any_interface())
    return f"tcp:{port}:interface={interface}:backlog={_BACKLOG}"


def _endpoint(reactor: IReactorCore, string: str) -> IStreamServerEndpoint:
    made: IStreamServerEndpoint = serverFromString(reactor, string)
    return made


def plain_endpoint(reactor: IReactorCore, text: str) -> IStreamServerEndpoint:
    """The endpoint of `--http`.  Raises `ValueError` for a string that is none."""
    return _endpoint(reactor, _tcp(text))


def tls_endpoint(
    reactor: IReactorCore, text: str, certificate: Certificate
) -> IStreamServerEndpoint:
    """
    The endpoint of `--listen`, with a certificate unless it names its own.

    It speaks TLS on `HOST:PORT`, on an `ssl:` endpoint and on a socket that
    is open already, `systemd:`.  A Twisted string of another kind is taken as
    it is: `tcp:` for a server behind something that ends TLS.  Raises
    `ValueError` for a string that is none.
    """
    string = _tcp(text)
    if string != text and fast(reactor):
        string = string.replace("tcp:", "fasttls:", 1)
    if string.startswith("fasttls:") and "Key=" not in string:
        return _fast_endpoint(reactor, string, certificate)
    if string == text and text.startswith("ssl:") and "Key=" not in text:
        string = text.replace("ssl:", "tcp:", 1)
    elif string == text and not text.startswith(_INHERITED):
        return _endpoint(reactor, string)
    return _OverTLS(_endpoint(reactor, string), certificate)


def _fast_endpoint(
    reactor: IReactorCore, string: str, certificate: Certificate
) -> IStreamServerEndpoint:
    key, chain = (quoteStringArgument(str(path)) for path in (certificate.key, certificate.chain))
    made: Any = _endpoint(reactor, f"{string}:privateKey={key}:certKey={chain}")
    certificate.followed_by(made.show)
    return cast("IStreamServerEndpoint", made)


@implementer(IStreamServerEndpoint)
class _OverTLS:
    """TLS on whatever an endpoint listens on."""

    def __init__(self, below: IStreamServerEndpoint, certificate: Certificate) -> None:
        self._below = below
        self._certificate = certificate

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:
        """`IStreamServerEndpoint`."""
        factory = TLSMemoryBIOFactory(self._certificate, False, protocolFactory)
        listening: Deferred[IListeningPort] = self._below.listen(factory)
        return listening
