"""Where the server listens: from an option's text to a Twisted endpoint."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path

from twisted.internet.endpoints import quoteStringArgument, serverFromString
from twisted.internet.interfaces import IReactorCore, IStreamServerEndpoint

from wschat import fasttls
from wschat.config import split_address


def fast(reactor: object) -> bool:
    """Whether TLS is by `fasttls:` unless another endpoint is named: on the uvloop reactor."""
    loop = getattr(reactor, "_asyncioEventloop", None)
    return type(loop).__module__.partition(".")[0] == "uvloop" and fasttls.available(reactor)


def check_certificate(certificate: Path, private_key: Path) -> None:
    """Raise `OSError` or `ValueError` unless both files are PEM, and belong together."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate, private_key)
    except ssl.SSLError as error:
        raise ValueError(f"not a PEM certificate and its key ({error.reason})") from None


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
    return f"tcp:{port}:interface={quoteStringArgument(host or _any_interface())}"


def _endpoint(reactor: IReactorCore, string: str) -> IStreamServerEndpoint:
    made: IStreamServerEndpoint = serverFromString(reactor, string)
    return made


def plain_endpoint(reactor: IReactorCore, text: str) -> IStreamServerEndpoint:
    """The endpoint of `--http`.  Raises `ValueError` for a string that is none."""
    return _endpoint(reactor, _tcp(text))


def tls_endpoint(
    reactor: IReactorCore, text: str, certificate: Path, private_key: Path
) -> IStreamServerEndpoint:
    """
    The endpoint of `--listen`, with the server's keys unless it names its own.

    A Twisted string of another kind is taken as it is: `tcp:` for a server
    behind something that ends TLS, `systemd:` for a socket that is open
    already.  Raises `ValueError` for a string that is none.
    """
    string = _tcp(text)
    if string != text:
        string = string.replace("tcp:", "fasttls:" if fast(reactor) else "ssl:", 1)
    if string.startswith(("ssl:", "fasttls:")) and "Key=" not in string:
        key, chain = (quoteStringArgument(str(path)) for path in (private_key, certificate))
        string += f":privateKey={key}:certKey={chain}"
    return _endpoint(reactor, string)
