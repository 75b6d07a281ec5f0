"""
Whose request it is: addresses as they are compared, networks, and proxies that speak for others.

Pure.  An address is its text as `normal` gives it; "" is that of a peer that
has none, as behind a Unix socket.
"""

from __future__ import annotations

import functools
import ipaddress
import re
from collections.abc import Iterable
from typing import Final

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

#: The word for peers that have no address.
_UNIX: Final = "unix"

_WITH_PORT: Final = re.compile(r"\[(?P<v6>[0-9A-Fa-f:.]+)\](?::\d{1,5})?|(?P<v4>[\d.]+):\d{1,5}")


#: The longest text that can be an address, with an interface.
_LONGEST: Final = 64


@functools.lru_cache(maxsize=4096)  # an address connects again and again
def _parse(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    if len(text) > _LONGEST:
        raise ValueError
    return ipaddress.ip_address(text)


def normal(host: str) -> str:
    """An address as it is compared: IPv4 the same however it came in, and without an interface."""
    try:
        parsed = _parse(host.partition("%")[0])
    except ValueError:
        return host
    return str(getattr(parsed, "ipv4_mapped", None) or parsed)


def one_host(address: str) -> str:
    """What one host has at the least: an IPv4 address, or an IPv6 network of 64 bits."""
    return str(ipaddress.ip_network(f"{address}/64", strict=False)) if ":" in address else address


def counted(address: str) -> str | None:
    """
    What an address's connections are counted for: its host; None when they are not.

    Of this host and of Unix sockets they are not: whoever sits there can do worse.
    """
    return one_host(address) if address and address not in LOOPBACK else None


class Networks:
    """Some networks, and perhaps the peers of Unix sockets."""

    def __init__(self, networks: Iterable[Network] = (), *, unix: bool = False) -> None:
        self._networks = frozenset(networks)
        self._unix = unix

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Networks):
            return NotImplemented
        return (self._networks, self._unix) == (other._networks, other._unix)

    def __hash__(self) -> int:
        return hash((self._networks, self._unix))

    def __bool__(self) -> bool:
        return bool(self._networks) or self._unix

    @property
    def everybody(self) -> bool:
        """Whether all addresses are in them, of IPv4 or of IPv6."""
        return any(network.prefixlen == 0 for network in self._networks)

    def __contains__(self, address: str) -> bool:
        if not address:
            return self._unix
        if not self._networks:
            return False
        try:
            parsed = _parse(address)
        except ValueError:
            return False
        return any(parsed in network for network in self._networks)

    @classmethod
    def parse(cls, text: str) -> Networks:
        """Addresses, networks and `unix`, separated by commas.  Raises `ValueError`."""
        names = {name.strip() for name in text.split(",")} - {""}
        return cls(map(ipaddress.ip_network, names - {_UNIX}), unix=_UNIX in names)


LOOPBACK: Final = Networks.parse("127.0.0.0/8,::1")


def client(peer: str, forwarded: Iterable[str], trusted: Networks) -> str:
    """
    The address that a request came from.

    `peer` is the connection's.  `forwarded` are the request's
    `X-Forwarded-For` lines; each proxy adds at the end whom it heard, so they
    count as far back as proxies are trusted, and what is no address not at all.
    """
    address = normal(peer)
    if address not in trusted:
        return address
    hops = [hop.strip() for line in forwarded for hop in line.split(",")]
    while hops and address in trusted:
        hop = hops.pop()
        match = _WITH_PORT.fullmatch(hop)
        host = normal(match["v6"] or match["v4"] if match else hop)
        try:
            _parse(host)
        except ValueError:
            break
        address = host
    return address
