"""Tests of `wschat.frames`: the short way says what Autobahn says, whatever comes."""

from __future__ import annotations

import itertools
import struct

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.echo import REQUEST, Nobody, entry, make_factory
from tests.support import ADDRESS, PING, PONG, TEXT, Wire, client_frame
from wschat import frames
from wschat.websocket import ChatProtocol

LONGEST = 400


class TakeTests(SynchronousTestCase):
    """One frame."""

    def test_whole(self) -> None:
        """A whole text frame is taken, wherever it begins, and what follows it is left."""
        for size in (0, 1, 3, 4, 5, 125, 126, 127, 399, 400):
            payload = bytes(97 + n % 26 for n in range(size))
            frame = client_frame(TEXT, payload)
            found = frames.take_text(b"before" + frame + b"after", 6, LONGEST)
            self.assertEqual(found, (payload, 6 + len(frame)))

    def test_characters(self) -> None:
        """Text of any script is text."""
        payload = "Grüße, κόσμε, 😀".encode()
        frame = client_frame(TEXT, payload)
        self.assertEqual(frames.take_text(frame, 0, LONGEST), (payload, len(frame)))

    def test_not_whole(self) -> None:
        """A frame of which anything is missing is left."""
        for size in (0, 20, 300):
            frame = client_frame(TEXT, b"x" * size)
            for end in range(len(frame)):
                self.assertIsNone(frames.take_text(frame[:end], 0, LONGEST))

    def test_others(self) -> None:
        """All that is not just such a frame is left."""
        good = client_frame(TEXT, b"text")
        for frame in (
            client_frame(TEXT, b"x" * (LONGEST + 1)),
            client_frame(TEXT, b"text", fin=False),
            client_frame(TEXT, b"text", mask=None) + b"more",
            client_frame(TEXT, b"\xff"),
            client_frame(TEXT, "é".encode()[:1]),
            client_frame(TEXT, b"\xed\xa0\x80"),  # a surrogate
            client_frame(TEXT, b"x" * 65536),
            *(bytes([good[0] | bit]) + good[1:] for bit in (0x10, 0x20, 0x40)),
            *(client_frame(opcode, b"text") for opcode in range(16) if opcode != TEXT),
            b"\x81\xfe\x00\x04" + good[2:],  # not the shortest form
            b"\x81\xff" + struct.pack("!Q", 4) + good[2:],
        ):
            self.assertIsNone(frames.take_text(frame, 0, LONGEST), frame[:20])


class PongTests(SynchronousTestCase):
    """One pong."""

    def test_whole(self) -> None:
        """A whole pong is taken, wherever it begins, and what follows it is left."""
        for size in (0, 1, 4, 8, 125):
            payload = bytes(range(size))
            frame = client_frame(PONG, payload)
            found = frames.take_pong(b"before" + frame + b"after", 6)
            self.assertEqual(found, (payload, 6 + len(frame)))

    def test_not_whole(self) -> None:
        """A pong of which anything is missing is left."""
        for size in (0, 8):
            frame = client_frame(PONG, b"x" * size)
            for end in range(len(frame)):
                self.assertIsNone(frames.take_pong(frame[:end], 0))

    def test_others(self) -> None:
        """All that is not just such a frame is left."""
        good = client_frame(PONG, b"pong")
        for frame in (
            client_frame(PONG, b"x" * 126),
            client_frame(PONG, b"pong", fin=False),
            client_frame(PONG, b"pong", mask=None) + b"more",
            *(bytes([good[0] | bit]) + good[1:] for bit in (0x10, 0x20, 0x40)),
            *(client_frame(opcode, b"pong") for opcode in range(16) if opcode != PONG),
            b"\x8a\xfe\x00\x04" + good[2:],  # not the shortest form
        ):
            self.assertIsNone(frames.take_pong(frame, 0), frame[:20])


class _Fast(ChatProtocol):
    """What came includes pongs, in their order among the messages; no text begins as they do."""

    def onPong(self, payload: bytes) -> None:
        self.factory.messages.received(self.session, b"\x8a" + payload)


class _Slow(_Fast):
    """Autobahn alone reads."""

    def _take_usual(self, most: int) -> int:
        return 0


def _played(kind: type[ChatProtocol], chunks: list[bytes]) -> tuple[object, ...]:
    """What a protocol makes of bytes that come in these pieces: messages, answers, its state."""
    clock, nobody = Clock(), Nobody()
    factory = make_factory(nobody, clock, LONGEST)
    protocol = factory.connection(entry("alice"), kind)
    wire = Wire(clock, ADDRESS)
    wire.protocol = protocol
    protocol.makeConnection(wire)
    wire.feed(REQUEST)
    told = []
    for chunk in chunks:
        wire.feed(chunk)
        while clock.getDelayedCalls():
            clock.advance(0)
        told.append((len(nobody.came), b"".join(wire.writes)))  # … by then, and not later
    return told, nobody.came, protocol.state, wire.connected, protocol.data


_texts = st.one_of(
    st.text(max_size=20).map(str.encode),
    st.sampled_from([b"", b"a" * 125, b"b" * 126, b"c" * 127, b"d" * LONGEST]),
    st.just("ü".encode() * 150),
)
_payloads = st.one_of(
    _texts,
    st.binary(max_size=130),
    st.sampled_from(
        [b"e" * (LONGEST + 1), b"\xff", b"ok\xc3", b"\xed\xa0\x80", b"\xf4\x90\x80\x80"]
    ),
)
_masks = st.binary(min_size=4, max_size=4)


@st.composite
def _anything(draw: st.DrawFn) -> bytes:
    """A frame of any kind, right or wrong."""
    payload = draw(_payloads)
    first = draw(st.sampled_from([0x81, 0x81, 0x01, 0x00, 0x80, 0x82, 0x89, 0x8A, 0x88, 0x09]))
    first |= draw(st.sampled_from([0, 0, 0, 0, 0, 0x10, 0x20, 0x40]))
    if draw(st.integers(0, 20)) == 0:
        first = draw(st.integers(0, 255))
    mask = draw(st.one_of(_masks, _masks, _masks, st.none()))
    frame = client_frame(0, payload, mask=mask or None)
    if mask == bytes(4):
        frame = client_frame(0, payload)
    if draw(st.integers(0, 15)) == 0:  # a longer form than the length needs
        form = struct.pack("!BQ", 127, len(payload))
        frame = bytes([0, form[0] | 0x80]) + form[1:] + b"\1\2\3\4" + payload
    return bytes([first]) + frame[1:]


_good = st.builds(lambda payload, mask: client_frame(TEXT, payload, mask=mask), _texts, _masks)
_pongs = st.builds(
    lambda payload, mask: client_frame(PONG, payload, mask=mask), st.binary(max_size=125), _masks
)
_streams = st.lists(st.one_of(_good, _good, _pongs, _anything()), max_size=12).map(b"".join)


class SameTests(SynchronousTestCase):
    """With the short way and without it, a connection does the same."""

    @settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
    @given(_streams, st.lists(st.integers(0, 3000), max_size=8), st.integers(0, 30))
    def test_same(self, stream: bytes, cuts: list[int], missing: int) -> None:
        """… whatever comes, in whatever pieces, and wherever it stops."""
        stream = stream[: len(stream) - missing] if missing < 10 else stream
        edges = [0, *sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]
        chunks = [stream[a:b] for a, b in itertools.pairwise(edges) if a < b]
        self.assertEqual(_played(_Fast, chunks), _played(_Slow, chunks))

    @settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
    @given(_streams)
    def test_each_byte(self, stream: bytes) -> None:
        """… byte by byte, too."""
        chunks = [bytes([byte]) for byte in stream[:1500]]
        self.assertEqual(_played(_Fast, chunks), _played(_Slow, chunks))

    def test_inside_a_message(self) -> None:
        """Between the frames of one message a pong may come, and a text may not."""
        begin, end = client_frame(TEXT, b"be", fin=False), client_frame(0, b"gun")
        for between in (PONG, TEXT):
            chunks = [begin + client_frame(between, b"between") + end, client_frame(TEXT, b"next")]
            for pieces in (chunks, [b"".join(chunks)]):
                self.assertEqual(_played(_Fast, pieces), _played(_Slow, pieces))

    def test_many(self) -> None:
        """More than one turn has room for, with a ping in the middle and a bad end."""
        good = [client_frame(TEXT, b"%d" % n) for n in range(130)]
        stream = b"".join([*good[:70], client_frame(PING, b"?"), *good[70:]])
        chunks = [stream + client_frame(TEXT, b"\xff")]
        fast = _played(_Fast, chunks)
        self.assertEqual(fast, _played(_Slow, chunks))
        self.assertEqual(fast[1], [b"%d" % n for n in range(130)])
