"""What a server reads from strangers (HTTP), and from its users (WebSocket frames)."""

from __future__ import annotations

from itertools import count
from typing import Any, Final

from scripts.fuzz.engine import Fault
from scripts.fuzz.transport import Frame, Transport, answers, chunks, frames, json_of
from wschat import wire
from wschat.accounts import Registration
from wschat.codes import CloseCode
from wschat.identity import PrivateKey
from wschat.testing import Limits, MemoryServer

#: Always the same, so that kept inputs can hold what was signed.
_KEYS: Final = {
    "alice": PrivateKey(bytes(range(32))),
    "bob": PrivateKey(bytes(32)),
    "charlie": PrivateKey(b"\1" * 32),  # who may have new keys
}

_STRANGER: Final = "203.0.113.5"
_ORIGIN: Final = "https://chat.example"

#: After so many inputs there is a new server; the old one's database was only in memory.
_LIFE: Final = 500

#: What an input stands for with a word: what is only known when it is read, or is too long to keep.
_BIG: Final = b"x" * 70_000


class House:
    """A server with alice and bob."""

    def __init__(self) -> None:
        limits = Limits(allowed_origins=frozenset({_ORIGIN}), max_message_size=8192)
        self.server = MemoryServer(limits)
        self.clock = self.server.clock
        for name, key in _KEYS.items():
            self.server.accounts.register(
                Registration(name, key.public_key, "", key.x25519_public_key), self.server.wall()
            )
        self._staying = 0
        self.stay()

    def stay(self) -> None:
        """Who is there now stays: only what comes on top of that has to go again."""
        self.clock.pump([1.0] * 2)  # presence is told late
        self._staying = len(self.server.factory.connections)
        self._at_rest = len(self.clock.getDelayedCalls())

    def _signed(self, name: str) -> str:
        """A fresh challenge of somebody's, signed by them."""
        return _KEYS[name].sign(self.server.accounts.challenge(name, self.server.wall()))

    def token(self, name: str) -> bytes:
        """A token of somebody's."""
        accounts = self.server.accounts
        return accounts.login(name, self._signed(name), self.server.wall()).token.encode()

    def filled(self, data: bytes) -> bytes:
        """An input with what its words stand for."""
        if b"$" not in data:
            return data
        if b"$SIGNATURE" in data:
            data = data.replace(b"$SIGNATURE", self._signed("alice").encode())
        if b"$TOKEN" in data:
            data = data.replace(b"$TOKEN", self.token("alice"))
        return data.replace(b"$BIG", _BIG, 2)

    def connect(self, host: str, *, plain: bool = False) -> Transport:
        """A connection to one of its listeners."""
        transport = Transport(self.clock, host)
        site = self.server.plain if plain else self.server.secure
        protocol: Any = site.buildProtocol(transport.getPeer())
        transport.protocol = protocol
        protocol.makeConnection(transport)
        return transport

    def close(self) -> None:
        """Every connection is gone; nothing of theirs may be left."""
        self.clock.advance(0)
        registry = self.server.hub.registry
        if not len(self.server.factory.connections) == len(registry) == self._staying:
            raise Fault("a connection is gone and not forgotten")
        self.clock.pump([1.0] * 2)
        if len(self.clock.getDelayedCalls()) > self._at_rest:
            raise Fault(f"timers are left: {self.clock.getDelayedCalls()}")

    def tick(self, seconds: int) -> None:
        self.clock.pump([1.0] * seconds)


class Http:
    """
    Reads an input as what comes in on one connection to a listener.

    Its first byte says how: in which pieces, to which listener, from where,
    and whether the peer then waits or goes away.
    """

    def __init__(self) -> None:
        self._house = House()
        self._inputs = count()

    def __call__(self, data: bytes) -> None:
        house = self._house
        how, data = (data[0] if data else 0), house.filled(data[1:])
        host = "127.0.0.1" if how & 0x10 else _STRANGER
        transport = house.connect(host, plain=bool(how & 0x08))
        transport.feed(chunks(data, how & 0x07))
        house.clock.advance(0)
        statuses, rest = answers(transport.written())
        if 101 in statuses:
            frames(rest)
        elif how & 0x20:
            house.tick(61)
            if transport.connected:
                raise Fault("a connection that says nothing is kept")
        if any(status >= 500 and status != 505 for status in statuses):
            raise Fault(f"a fault of the server's: {statuses}")
        transport.lose()
        house.close()
        if next(self._inputs) % _LIFE == _LIFE - 1:
            self._house = House()


_UPGRADE: Final = (
    b"GET /ws HTTP/1.1\r\nHost: chat.example\r\nAuthorization: Bearer %b\r\n"
    b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n%b\r\n"
)
_V1: Final = b"Sec-WebSocket-Protocol: wschat.v1\r\n"
_RESUME: Final = b'{"type":"resume"}'


def masked(opcode: int, payload: bytes) -> bytes:
    """A frame as clients send it, under a mask of zeros, so that inputs can be read."""
    size = len(payload)
    if size < 126:
        return b"%c%c\0\0\0\0%b" % (0x80 | opcode, 0x80 | size, payload)
    if size < 65536:
        return b"%c\xfe%b\0\0\0\0%b" % (0x80 | opcode, size.to_bytes(2, "big"), payload)
    return b"%c\xff%b\0\0\0\0%b" % (0x80 | opcode, size.to_bytes(8, "big"), payload)


class Frames:
    """
    Reads an input as what alice sends on an open WebSocket, while bob listens.

    The first byte says in which pieces, in which dialect, and whether the
    input is the frames themselves, or the payload of one on each line.
    """

    def __init__(self) -> None:
        self._inputs = count()
        self._begin()

    def _begin(self) -> None:
        self._house = House()
        self._token = self._house.token("alice")
        self._bob = self._open(self._house.token("bob"), b"")
        self._house.stay()

    def _open(self, token: bytes, offers: bytes) -> Transport:
        transport = self._house.connect(_STRANGER)
        transport.feed(iter([_UPGRADE % (token, offers)]))
        statuses, rest = answers(transport.written())
        if statuses != [101]:
            raise Fault(f"not let in: {statuses}")
        frames(rest)
        return transport

    def __call__(self, data: bytes) -> None:
        house = self._house
        how, data = (data[0] if data else 0), house.filled(data[1:])
        is_v1 = bool(how & 0x08)
        transport = self._open(self._token, _V1 if is_v1 else b"")
        if how & 0x10:
            data = b"".join(masked(0x1, line) for line in data.split(b"\n"))
        if is_v1 and how & 0x20:
            data = masked(0x1, _RESUME) + data
        transport.feed(chunks(data, how & 0x07))
        house.clock.advance(0)
        said = frames(transport.written())
        for frame in said:
            self._check(frame)
        if transport.ended and not (said and said[-1].opcode == 0x8):
            raise Fault("ended without a close")
        for _ in range(12 if how & 0x40 else 1):
            self._let_bob_read()
            house.tick(1)
        frames(transport.written())
        transport.lose()
        house.close()
        if next(self._inputs) % _LIFE == _LIFE - 1:
            self._begin()

    def _check(self, frame: Frame) -> None:
        """Whatever alice wrote, what she hears is from herself, bob, or the server."""
        if frame.opcode == 0x8 and frame.payload:
            code = int.from_bytes(frame.payload[:2], "big")
            if code in (CloseCode.INTERNAL, 1011):
                raise Fault("closed for a fault of the server's")
        if frame.opcode != 0x1:
            return
        message = json_of(frame.payload)
        sender = message.get("header", {}).get("from")
        if sender not in (None, "alice", wire.SERVER, wire.SYSTEM):
            raise Fault(f"a message from {sender!r}")

    def _let_bob_read(self) -> None:
        """Bob is a classic client: his library answers pings, which says that he has read."""
        for frame in frames(self._bob.written()):
            if frame.opcode == 0x9:
                self._bob.feed(iter([masked(0xA, frame.payload)]))
            elif frame.opcode != 0x1:
                raise Fault(f"bob was sent {frame}")
            elif json_of(frame.payload)["header"]["from"] != "alice":
                raise Fault(f"bob heard somebody else: {frame.payload!r}")
