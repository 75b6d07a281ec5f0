"""The far end of a connection in memory, and what a server may write to it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IProtocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from scripts.fuzz.engine import Fault

#: Close codes of RFC 6455 that a server may send, or send back.
_CODES: Final = frozenset({*range(1000, 1004), *range(1007, 1012), *range(3000, 5000)})

#: How many pieces an input comes in at most: a long one comes in longer ones.
_MAX_PIECES: Final = 2000

_STATUS: Final = re.compile(rb"HTTP/1\.[01] (\d{3}) [ -~]*\r\n")
_FIELD: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+: ?[\x20-\x7e\x80-\xff]*\r\n")


class Transport(StringTransport):
    """
    What a protocol under test writes to; reads wait while it has paused them.

    As over TLS, what the peer sends is handed on until the connection is
    lost, though the protocol has ended it.
    """

    protocol: IProtocol

    def __init__(self, clock: Clock, host: str) -> None:
        super().__init__(peerAddress=IPv4Address("TCP", host, 50000), lenient=True)
        self.ended = False  # by the protocol under test
        self._aborted = False
        self._clock = clock
        self._waiting: list[bytes] = []

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Nothing waits here."""

    def unregisterProducer(self) -> None:
        """Without a producer it is no error, as for a real transport."""
        self.producer = None

    def feed(self, chunks: Iterator[bytes]) -> None:
        """Let the peer send, a read for each chunk, as far as the protocol reads."""
        self._waiting += chunks
        while self._waiting and self.connected:
            while self._waiting and self._reads():
                self.protocol.dataReceived(self._waiting.pop(0))
            self._clock.advance(0)
            if self._waiting and not self._reads():
                return  # it waits for something that takes time

    def _reads(self) -> bool:
        return self.connected and not self._aborted and self.producerState == "producing"

    def loseConnection(self) -> None:
        self._end()

    def abortConnection(self) -> None:
        self._aborted = True
        self._end()

    def _end(self) -> None:
        if not self.ended:
            self.ended = self.disconnecting = True
            self._clock.callLater(0, self._lost, ConnectionDone())

    def lose(self) -> None:
        """The connection breaks."""
        self.ended = True
        self._lost(ConnectionLost())

    def _lost(self, reason: Exception) -> None:
        if self.connected:
            self.connected = False
            if self.producer is not None:
                self.producer.stopProducing()
            self.protocol.connectionLost(Failure(reason))

    def written(self) -> bytes:
        """What was written since the last time."""
        data: bytes = self.value()
        self.clear()
        return data


def chunks(data: bytes, how: int) -> Iterator[bytes]:
    """`data` as it comes in: at once, a byte at a time, or in pieces of so many bytes."""
    size = (len(data), 1, 2, 3, 7, 16, 61, 256)[how % 8]
    size = max(size, 1, len(data) // _MAX_PIECES)
    return (data[at : at + size] for at in range(0, len(data), size))


class Frame(NamedTuple):
    """A frame of a server."""

    opcode: int
    payload: bytes


def frames(data: bytes) -> list[Frame]:
    """What a server wrote to a WebSocket.  Raises `Fault` for what it may not write."""
    found: list[Frame] = []
    while data:
        if found and found[-1].opcode == 0x8:
            raise Fault(f"written after a close: {data[:80]!r}")
        first, length = data[0], data[1] if len(data) > 1 else -1
        start = {126: 4, 127: 10}.get(length, 2)
        size = length if start == 2 else int.from_bytes(data[2:start], "big")
        if length < 0 or length > 127 or len(data) < start + size:
            raise Fault(f"not whole frames, or masked: {data[:80]!r}")
        frame = Frame(first & 0x0F, data[start : start + size])
        data = data[start + size :]
        _check_frame(first, frame)
        found.append(frame)
    return found


def _check_frame(first: int, frame: Frame) -> None:
    if first & 0xF0 != 0x80 or frame.opcode not in (0x1, 0x8, 0x9, 0xA):
        raise Fault(f"a frame that begins with {first:#x}")
    if frame.opcode == 0x1:
        json_of(frame.payload)
    elif len(frame.payload) > 125:
        raise Fault("a control frame of more than 125 bytes")
    elif frame.opcode == 0x8 and frame.payload:
        code = int.from_bytes(frame.payload[:2], "big")
        frame.payload[2:].decode()
        if len(frame.payload) < 2 or code not in _CODES:
            raise Fault(f"a close with {frame.payload!r}")


def json_of(payload: bytes) -> Any:
    """JSON, as strict as can be: no other numbers than JSON's, no key twice."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) != len(pairs):
            raise Fault(f"a key twice: {payload[:200]!r}")
        return dict(pairs)

    def none(text: str) -> Any:
        raise Fault(f"{text} is not JSON")

    return json.loads(payload.decode(), object_pairs_hook=once, parse_constant=none)


def answers(data: bytes) -> tuple[list[int], bytes]:
    """
    The statuses of a server's answers, and what it wrote behind a 101.

    Raises `Fault` for what is no HTTP/1.1 (RFC 9112).
    """
    statuses = []
    while data:
        status = _STATUS.match(data)
        if status is None:
            raise Fault(f"not an answer: {data[:200]!r}")
        head, mark, rest = data.partition(b"\r\n\r\n")
        lines = (head[status.end() :] + b"\r\n").splitlines(keepends=True)
        if not mark or (status.end() < len(head) and not all(map(_FIELD.fullmatch, lines))):
            raise Fault(f"bad headers: {head[:500]!r}")
        statuses.append(int(status[1]))
        if statuses[-1] == 101:
            return statuses, rest
        data = _behind_body(head, rest)
    return statuses, b""


def _behind_body(head: bytes, rest: bytes) -> bytes:
    """What follows an answer's body; there is none behind a HEAD, whatever its length."""
    lengths = re.findall(rb"(?i)\r\ncontent-length: (\d+)", head)
    if len(lengths) > 1:
        raise Fault("Content-Length twice")
    size = int(lengths[0]) if lengths else 0
    if not rest or (size and rest.startswith(b"HTTP/1.")):
        return rest
    if len(rest) < size:
        raise Fault(f"a body of {len(rest)} in place of {size} bytes")
    body = rest[:size]
    if b"application/json" in head:
        json_of(body)
    elif b"\n" in body[:-1]:
        raise Fault(f"not one line: {body!r}")
    return rest[size:]
