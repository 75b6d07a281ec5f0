"""
RFC 6455, case by case, as the Autobahn test suite has them, over both TLS endpoints.

Each case is what a peer sends, and what has to come back from a WebSocket that
sends everything back; numbers are those of the suite.  Sizes of part 9 are
smaller.  The frames are made and read by hand.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.trial.unittest import TestCase

from tests.conformance import FAST, EndpointTests, OnUvloop, Peer, aside, client_context
from tests.echo import REQUEST, EchoFactory
from tests.support import BINARY, CLOSE, PING, PONG, TEXT, client_frame, take_frame
from wschat.codes import CloseCode

MORE: Final = 0  # a continuation
LONGEST: Final = 1 << 20

Frame = tuple[int, bytes]


class Case(NamedTuple):
    """
    `chop` is how many bytes go at once (0: all); `code` is what the server closes with.

    `then` goes when all that is to come has come, or the server has closed.
    """

    name: str
    sends: bytes
    comes: list[Frame]
    code: int = 1000
    chop: int = 0
    then: bytes = b""


def close(code: int = 1000, reason: bytes = b"") -> bytes:
    return client_frame(CLOSE, struct.pack("!H", code) + reason)


def part(opcode: int, payload: bytes, fin: bool = False) -> bytes:
    return client_frame(opcode, payload, fin=fin)


def text(payload: bytes) -> bytes:
    return client_frame(TEXT, payload)


def framing() -> Iterator[Case]:
    """1: text and binary messages of all lengths."""
    for opcode in (TEXT, BINARY):
        for size in (0, 125, 126, 127, 128, 65535, 65536):
            data = b"*" * size
            frame = client_frame(opcode, data)
            yield Case(f"1.{opcode}.{size}", frame + close(), [(opcode, data)])
        yield Case(f"1.{opcode}.8", frame + close(), [(opcode, data)], chop=997)


def pings() -> Iterator[Case]:
    """2: pings and pongs."""
    for number, payload in enumerate(
        (b"", b"Hello", b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff", b"\xfe" * 125)
    ):
        yield Case(f"2.{number + 1}", client_frame(PING, payload) + close(), [(PONG, payload)])
    yield Case("2.5", client_frame(PING, b"\xfe" * 126), [], 1002)
    yield Case("2.6", client_frame(PING, b"\xfe" * 125) + close(), [(PONG, b"\xfe" * 125)], chop=1)
    yield Case("2.7", client_frame(PONG, b"") + close(), [])
    yield Case("2.8", client_frame(PONG, b"unsolicited") + close(), [])
    both = client_frame(PONG, b"unsolicited") + client_frame(PING, b"ping")
    yield Case("2.9", both + close(), [(PONG, b"ping")])
    ten = [b"payload-%d" % n for n in range(10)]
    sent = b"".join(client_frame(PING, each) for each in ten)
    yield Case("2.10", sent + close(), [(PONG, each) for each in ten])
    yield Case("2.11", sent + close(), [(PONG, each) for each in ten], chop=1)


def reserved_bits() -> Iterator[Case]:
    """3: bits that no extension uses."""
    good, hello = text(b"Hello"), [(TEXT, b"Hello")]

    def marked(frame: bytes, bits: int) -> bytes:
        return bytes([frame[0] | bits << 4]) + frame[1:]

    yield Case("3.1", marked(good, 1), [], 1002)
    for number, bits, chop in ((2, 2, 0), (3, 3, 0), (4, 4, 1)):
        ping = client_frame(PING, b"")
        yield Case(f"3.{number}", good + marked(good, bits) + ping, hello, 1002, chop)
    yield Case("3.5", marked(client_frame(BINARY, b"\x00\xff"), 5), [], 1002)
    yield Case("3.6", marked(client_frame(PING, b"Hello"), 6), [], 1002)
    yield Case("3.7", marked(close(), 7), [], 1002)


def opcodes() -> Iterator[Case]:
    """4: opcodes that mean nothing yet."""
    good, hello = text(b"Hello"), [(TEXT, b"Hello")]
    for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15):
        payload = b"reserved" if opcode % 2 else b""
        yield Case(f"4.{opcode}", client_frame(opcode, payload), [], 1002)
        after = good + client_frame(opcode, payload) + client_frame(PING, b"")
        yield Case(f"4.{opcode}.after", after, hello, 1002)
        yield Case(f"4.{opcode}.chopped", after, hello, 1002, chop=1)


def fragments() -> Iterator[Case]:
    """5: messages in parts."""
    one, two = b"fragment1", b"fragment2"
    ping, pong = client_frame(PING, b"ping"), [(PONG, b"ping")]
    joined = [(TEXT, one + two)]
    yield Case("5.1", client_frame(PING, one, fin=False) + part(MORE, two, True), [], 1002)
    yield Case("5.2", client_frame(PONG, one, fin=False) + part(MORE, two, True), [], 1002)
    for number, middle, answers in ((3, b"", []), (6, ping, pong)):
        sent = part(TEXT, one) + middle + part(MORE, two, True) + close()
        for offset, chop in enumerate((0, 1, 7)):
            yield Case(f"5.{number + offset}", sent, answers + joined, chop=chop)
    for opcode in (9, 12):
        for fin, chop in ((True, 0), (False, 0), (True, 1)):
            stray = part(MORE, b"non-continuation", fin) + text(b"Hello")
            yield Case(f"5.{opcode}.{fin}.{chop}", stray, [], 1002, chop)
    for first in (True, False):
        sent = part(TEXT, one) + part(MORE, two, True) + part(MORE, one, first) + text(b"Hello")
        yield Case(f"5.15.{first}", sent, joined, 1002)
        again = part(MORE, one, first) + part(TEXT, two) + part(MORE, two, True)
        yield Case(f"5.16.{first}", again, [], 1002)
    yield Case("5.18", part(TEXT, one) + part(TEXT, two, True), [], 1002)
    pieces = [b"fragment%d" % n for n in range(1, 6)]
    p1, p2 = client_frame(PING, b"pongme 1!"), client_frame(PING, b"pongme 2!")
    sent = part(TEXT, pieces[0]) + part(MORE, pieces[1]) + p1
    sent += part(MORE, pieces[2]) + part(MORE, pieces[3]) + p2 + part(MORE, pieces[4], True)
    comes = [(PONG, b"pongme 1!"), (PONG, b"pongme 2!"), (TEXT, b"".join(pieces))]
    yield Case("5.19", sent + close(), comes)
    yield Case("5.20", sent + close(), comes, chop=3)


#: Text that is text, of each length of a character and at the edges (6.2, 6.5 to 6.22).
GOOD_TEXT: Final = (
    "Hello-µ@ßöäüàá-UTF-8!!",
    "κόσμε",
    "\x00",
    "\x7f",
    "\x80",
    "\u07ff",
    "\u0800",
    "\ud7ff",
    "\ue000",
    "\ufffd",
    "\ufffe",
    "\uffff",
    "\U00010000",
    "\U0001fffe",
    "\U0010ffff",
)

#: Bytes that are none: cut off, too long for what they say, surrogates, too high (6.3 to 6.21).
BAD_TEXT: Final = tuple(
    bytes.fromhex(digits)
    for digits in (
        "cebae1bdb9cf83cebcceb5eda080656469746564",
        "80 8080 bf bfbf",
        "c3",
        "e0a0",
        "f0908080f0",
        "f8888080 80",
        "fc8480808080",
        "fe",
        "ff",
        "c020",
        "c0af",
        "e080af",
        "f08080af",
        "c1bf",
        "e09fbf",
        "f08fbfbf",
        "eda080",
        "edbfbf",
        "edad bfedb080",
        "f4908080",
        "f7bfbfbf",
    )
)


def utf8() -> Iterator[Case]:
    """6: text is UTF-8, and what is none ends the connection as soon as that is seen."""
    for parts in ([b"", b"", b""], [b"", b"middle frame payload", b""]):
        sent = part(TEXT, parts[0]) + part(MORE, parts[1]) + part(MORE, parts[2], True)
        yield Case(f"6.1.{len(parts[1])}", sent + close(), [(TEXT, parts[1])])
    for number, good in enumerate(GOOD_TEXT):
        data = good.encode()
        yield Case(f"6.2.{number}", text(data) + close(), [(TEXT, data)])
        letters = [part(MORE if n else TEXT, data[n : n + 1]) for n in range(len(data))]
        sent = b"".join(letters) + part(MORE, b"", True)
        yield Case(f"6.2.{number}.letters", sent + close(), [(TEXT, data)])
        yield Case(f"6.2.{number}.chopped", text(data) + close(), [(TEXT, data)], chop=1)
    for number, bad in enumerate(BAD_TEXT):
        for where, frame in (("", text(bad)), ("mixed", text(b"fine" + bad + b"x"))):
            yield Case(f"6.3.{number}{where}", text(b"ok") + frame, [(TEXT, b"ok")], 1007)
        letters = [part(MORE if n else TEXT, bad[n : n + 1]) for n in range(len(bad))]
        yield Case(f"6.3.{number}.letters", b"".join(letters) + part(MORE, b"", True), [], 1007)
    # Fail fast: the message goes on for ever, but is refused for what has come of it.
    yield Case("6.4.1", part(TEXT, b"\xce\xba") + part(MORE, b"\xf4\x90\x80\x80"), [], 1007)
    yield Case("6.4.2", part(TEXT, b"\xce\xba\xf4") + part(MORE, b"\x90"), [], 1007)
    long = text(b"fine\xf4\x90\x80\x80" + b"x" * 1000)
    yield Case("6.4.3", long[:16], [], 1007, then=long[16:])
    yield Case("6.4.4", long[:16], [], 1007, chop=1, then=long[16:])


def closing() -> Iterator[Case]:
    """7: how a connection is closed."""
    yield Case("7.1.1", text(b"Hello") + close(), [(TEXT, b"Hello")])
    yield Case("7.1.2", close() + close(), [])
    yield Case("7.1.3", close() + client_frame(PING, b""), [])
    yield Case("7.1.4", close() + text(b"after"), [])
    yield Case("7.1.5", part(TEXT, b"part") + close() + part(MORE, b"rest", True), [])
    much = b"x" * 200_000
    both = [(TEXT, much), (TEXT, b"y")]
    yield Case("7.1.6", text(much) + text(b"y"), both, then=close())
    yield Case("7.3.1", client_frame(CLOSE, b""), [], 1000)
    yield Case("7.3.2", client_frame(CLOSE, b"a"), [], 1002)
    yield Case("7.3.3", close(1000), [])
    yield Case("7.3.4", close(1000, b"Hello World!"), [])
    yield Case("7.3.5", close(1000, b"*" * 123), [])
    yield Case("7.3.6", close(1000, b"*" * 124), [], 1002)
    yield Case("7.5.1", close(1000, b"\xce\xba\xed\xa0\x80"), [], 1007)
    for code in (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999):
        yield Case(f"7.7.{code}", close(code), [], 1000)
    for code in (0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999, 5000, 65535):
        yield Case(f"7.9.{code}", close(code), [], 1002)


def limits() -> Iterator[Case]:
    """9 and 10: much at once, much in a row, and the longest."""
    for opcode in (TEXT, BINARY):
        for size in (1 << 16, 1 << 18, LONGEST):
            data = b"*" * size
            frame = client_frame(opcode, data)
            yield Case(f"9.{opcode}.{size}", frame, [(opcode, data)], then=close())
        data = b"*" * (1 << 18)
        for step in (64, 1024, 65536):
            parts = [data[n : n + step] for n in range(0, len(data), step)]
            sent = b"".join(part(MORE if n else opcode, each) for n, each in enumerate(parts))
            sent += part(MORE, b"", True)
            yield Case(f"9.{opcode}.by{step}", sent, [(opcode, data)], then=close())
            sent, chop = client_frame(opcode, data), max(step, 512)
            yield Case(f"9.{opcode}.chop{step}", sent, [(opcode, data)], chop=chop, then=close())
        for size in (0, 16, 64, 256, 1024):
            sent = client_frame(opcode, b"#" * size) * 500
            comes = [(opcode, b"#" * size)] * 500
            yield Case(f"9.{opcode}.x500.{size}", sent, comes, then=close())
        yield Case(f"9.{opcode}.over", client_frame(opcode, b"*" * (LONGEST + 1)), [], 1009)
        halves = part(opcode, b"*" * LONGEST) + part(MORE, b"*", True)
        yield Case(f"9.{opcode}.parts", halves, [], 1009)
    data = b"*" * 65536
    parts = [data[n : n + 1300] for n in range(0, len(data), 1300)]
    sent = b"".join(part(MORE if n else TEXT, each) for n, each in enumerate(parts))
    yield Case("10.1.1", sent + part(MORE, b"", True), [(TEXT, data)], then=close())


def masks() -> Iterator[Case]:
    """Section 5.1: what a client sends is masked."""
    yield Case("unmasked", client_frame(TEXT, b"Hello", mask=None), [], 1002)
    sent = text(b"Hello") + client_frame(TEXT, b"", mask=None)
    yield Case("unmasked.after", sent, [(TEXT, b"Hello")], 1002)
    zeros = b"\x81\x85\0\0\0\0Hello"
    yield Case("mask.zeros", zeros + close(), [(TEXT, b"Hello")])
    for form in (b"\x81\xfe\x00\x05", b"\x81\xff" + struct.pack("!Q", 5)):
        yield Case(f"long.form.{len(form)}", form + b"\0\0\0\0Hello", [], 1002)


class UvloopTests(OnUvloop, TestCase):
    """Our endpoint needs a reactor of its own."""

    module = "tests.test_rfc6455"


class EchoTests(EndpointTests):
    """Every case, over the endpoint that is standard on this reactor."""

    kind = "fasttls" if FAST else "ssl"

    def make_factory(self) -> Any:
        return EchoFactory(reactor, LONGEST)

    async def tear_down(self) -> None:
        self.factory.made = []  # they are the factory's to end
        await self.factory.connections.close_all(CloseCode.SHUTDOWN)  # type: ignore[attr-defined]
        await super().tear_down()

    def play(self, case: Case) -> str | None:
        """Play a case; what went wrong, if anything did.  It blocks."""
        peer = Peer(self.address, client_context())
        try:
            peer.send(REQUEST)
            data = b""
            while b"\r\n\r\n" not in data:
                data += peer.socket.recv(65536)
            comes, code = self.talk(peer, case, data.partition(b"\r\n\r\n")[2])
        except OSError as error:
            return f"{case.name}: {error!r}"
        finally:
            peer.socket.close()
        if (comes, code) != (case.comes, case.code):
            shown = [(opcode, payload[:20], len(payload)) for opcode, payload in comes[:5]]
            return f"{case.name}: {len(comes)} frames, {code}: {shown}"
        return None

    def talk(self, peer: Peer, case: Case, data: bytes) -> tuple[list[Frame], int]:
        """Send what a case says, and read to the end: the frames, and the code of the close."""
        step = case.chop or max(1, len(case.sends))
        for start in range(0, len(case.sends), step):
            peer.send(case.sends[start : start + step])
        comes: list[Frame] = []
        code, then = 0, case.then
        while True:
            if then and case.code == 1000 and len(comes) == len(case.comes):
                peer.send(then)
                then = b""
            frame = take_frame(data)
            if frame is None:
                came = peer.socket.recv(1 << 20)
                if not came:
                    return comes, code
                data += came
            elif frame[0] == CLOSE:
                code = struct.unpack("!H", frame[1][:2])[0] if frame[1] else 1005
                data = frame[2]
                if case.code != 1000:  # the answer, after which the server ends
                    peer.send(then + close(code))
                    then = b""
            else:
                comes.append(frame[:2])
                data = frame[2]

    async def check(self, cases: Iterator[Case]) -> None:
        """Play cases, a few at a time; all that went wrong is told."""
        wrong: list[str] = []

        async def one_by_one() -> None:
            for case in cases:
                fault = await aside(self.play, case)
                if fault is not None:
                    wrong.append(fault)

        await gatherResults([Deferred.fromCoroutine(one_by_one()) for _ in range(4)])
        self.assertEqual(wrong, [])

    def test_framing(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self.check(framing()))

    def test_pings(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self.check(pings()))

    def test_reserved_bits(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self.check(reserved_bits()))

    def test_opcodes(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self.check(opcodes()))

    def test_fragments(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self.check(fragments()))

    def test_utf8(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self.check(utf8()))

    def test_closing(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self.check(closing()))

    def test_limits(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self.check(limits()))

    def test_masks(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self.check(masks()))
