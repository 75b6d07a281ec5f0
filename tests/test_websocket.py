"""Tests of `wschat.websocket`: frames, writes and closes."""

from __future__ import annotations

import gc
import itertools
from collections.abc import Callable

from tests.support import (
    BINARY,
    CLOSE,
    PING,
    PONG,
    TEXT,
    Client,
    Limits,
    ServerTests,
    client_frame,
    encode,
    left_to_collect,
    submission,
    take_frame,
)
from wschat.codes import CloseCode


class FrameTests(ServerTests):
    """What peers send."""

    limits = Limits(max_message_size=2000)

    def setUp(self) -> None:
        super().setUp()
        self.alice, self.bob = self.connect("alice", "bob")

    def test_message(self) -> None:
        """A masked text frame is a message."""
        self.alice.say("bob", "hello")
        self.assertEqual(self.bob.contents(), ["hello"])

    def test_pieces(self) -> None:
        """However the bytes arrive, they are the same messages."""
        frames = client_frame(TEXT, submission("bob", "1")) + client_frame(
            TEXT, submission("bob", "2" * 300)
        )
        for byte in frames:
            self.alice.send_raw(bytes([byte]))
        self.alice.send_raw(frames)
        self.assertEqual(self.bob.contents(), ["1", "2" * 300] * 2)

    def test_fragments(self) -> None:
        """A message may come in several frames, with a ping between them."""
        data = submission("bob", "in parts")
        self.alice.send_raw(client_frame(TEXT, data[:20], fin=False))
        self.alice.send(PING, b"still there?")
        self.alice.send_raw(client_frame(0, data[20:]))
        self.assertEqual(self.bob.contents(), ["in parts"])

    def test_ping(self) -> None:
        """A ping is answered with its payload."""
        before = len(self.alice.wire.writes)
        self.alice.send(PING, b"payload")
        frame = take_frame(b"".join(self.alice.wire.writes[before:]))
        self.assertEqual(frame, (PONG, b"payload", b""))

    def test_long_messages_out(self) -> None:
        """A message longer than 65535 bytes is one frame, too."""
        server = type(self.server)(Limits(max_message_size=1 << 20))
        server.add_users("alice", "bob")
        alice, bob = server.connect("alice"), server.connect("bob")
        alice.say("bob", "x" * 70_000)
        self.assertEqual(bob.contents(), ["x" * 70_000])

    def refused(self, data: bytes, code: int) -> None:
        """These bytes close the connection with that code, and nothing after them counts."""
        self.alice.send_raw(data)
        self.assertEqual(self.alice.closed_with(), code)
        self.assertEqual(self.alice.messages(), [])
        self.alice.send_raw(client_frame(TEXT, submission("bob", "afterwards")))
        self.assertEqual(self.bob.messages(), [])
        self.assertNotIn("alice", self.server.hub.registry)
        self.alice.goodbye(code)
        self.assertFalse(self.alice.wire.connected)

    def test_binary(self) -> None:
        """A binary frame is a 1003: text frames only."""
        self.refused(client_frame(BINARY, submission("bob", "binary")), 1003)

    def test_oversize(self) -> None:
        """A message longer than the limit is a 1009, whole or in parts."""
        self.refused(client_frame(TEXT, submission("bob", "x" * 2000)), 1009)

    def test_oversize_in_parts(self) -> None:
        """A message longer than the limit is a 1009 in parts, too."""
        parts = [b"x" * 1500, b"x" * 600]
        self.refused(client_frame(TEXT, parts[0], fin=False) + client_frame(0, parts[1]), 1009)

    def test_bad_utf8(self) -> None:
        """Text that is not UTF-8 is a 1007."""
        self.refused(client_frame(TEXT, b"\xff\xfe"), 1007)

    def test_truncated_utf8(self) -> None:
        """Text that ends within a character is a 1007."""
        self.refused(client_frame(TEXT, "é".encode()[:1]), 1007)

    def test_unmasked(self) -> None:
        """A frame that is not masked is a 1002."""
        self.refused(client_frame(TEXT, submission("bob", "plain"), mask=None), 1002)

    def test_reserved_bits(self) -> None:
        """A frame that claims an extension nobody agreed on is a 1002."""
        frame = client_frame(TEXT, submission("bob", "x"))
        self.refused(bytes([frame[0] | 0x40]) + frame[1:], 1002)

    def test_largest(self) -> None:
        """A message of just the limit is a message."""
        data = submission("bob", "")
        data = submission("bob", "x" * (2000 - len(data)))
        self.assertEqual(len(data), 2000)
        self.alice.send(TEXT, data)
        self.assertEqual(len(self.bob.messages()), 1)


class RoomTests(ServerTests):
    """More comes than can be stored now: who sends it is read no further."""

    limits = Limits(outbox_bytes=8000)

    def setUp(self) -> None:
        super().setUp()
        self.alice, self.bob, self.charlie = self.connect("alice", "bob", "charlie")
        self.writer = self.server.store.writer
        self.writer.held = True

    def said(self, count: int) -> list[bytes]:
        """Messages of some 700 bytes each: there is room for six, when one is being stored."""
        return [submission("bob", f"{n:600}") for n in range(count)]

    def say(self, count: int) -> None:
        """Alice sends so many at once."""
        self.alice.send_raw(b"".join(client_frame(TEXT, message) for message in self.said(count)))

    @staticmethod
    def in_two(message: bytes) -> bytes:
        """Two frames, which only Autobahn reads."""
        return client_frame(TEXT, message[:9], fin=False) + client_frame(0, message[9:])

    def release(self, times: int) -> None:
        for _ in range(times):
            self.writer.release()
            self.server.turn()

    def numbers(self) -> list[int]:
        return [int(content) for content in self.bob.contents()]

    def test_waits(self) -> None:
        """What there is no room for is read after a commit, and nothing of it is refused."""
        self.say(20)
        self.assertEqual(self.alice.wire.producerState, "paused")
        waits = self.server.chat.queued_bytes
        self.server.advance(5)
        self.assertEqual(self.server.chat.queued_bytes, waits)
        self.assertLess(waits, 5000)
        self.release(20)
        self.assertEqual(self.numbers(), list(range(20)))
        self.assertEqual((self.alice.messages(), self.alice.wire.producerState), ([], "producing"))

    def test_in_pieces(self) -> None:
        """So is what only Autobahn reads, whole at once or byte for byte."""
        stream = b"".join(map(self.in_two, self.said(12)))
        self.alice.send_raw(stream[:5000])
        for at in range(5000, len(stream), 50):
            while self.alice.wire.producerState == "paused":
                self.release(1)
            self.alice.send_raw(stream[at : at + 50])
        self.release(20)
        self.assertEqual(self.numbers(), list(range(12)))

    def test_mixed(self) -> None:
        """Nor does Autobahn read on where the short way found no room."""
        *usual, last = self.said(8)
        frames = [client_frame(TEXT, message) for message in usual]
        self.alice.send_raw(b"".join(frames) + self.in_two(last))
        self.assertEqual(self.server.chat.queued_bytes, sum(map(len, usual[1:])))
        self.release(20)
        self.assertEqual(self.numbers(), list(range(8)))

    def test_one_by_one(self) -> None:
        """What fills the room waits, also when nothing came behind it; what comes later is read."""
        *before, later = map(self.in_two, self.said(8))
        for frames in before:
            self.alice.send_raw(frames)
        self.assertEqual(self.alice.wire.producerState, "paused")
        self.release(20)
        self.writer.held = False
        self.alice.send_raw(later)
        self.assertEqual(self.numbers(), list(range(8)))

    def test_others(self) -> None:
        """Who sends nothing that is to be stored is read as ever, acknowledgements too."""
        self.writer.held = False
        reader = self.server.connect_v1("charlie")
        self.alice.say("charlie", "one")
        self.writer.held = True
        self.say(20)
        reader.ack(1)
        self.assertEqual(reader.wire.producerState, "producing")
        before = len(self.charlie.wire.writes)
        self.charlie.send(PING, b"still there?")
        frame = take_frame(b"".join(self.charlie.wire.writes[before:]))
        self.assertEqual(frame, (PONG, b"still there?", b""))

    def test_not_silent(self) -> None:
        """While nobody reads, nobody is taken for silent; after that, silence counts."""
        self.say(20)
        self.alice.send_raw(b"")  # from a transport that was about to when it was paused
        for _ in range(13):
            self.server.advance(10)
            self.bob.pong()
            self.charlie.pong()
        self.assertTrue(self.alice.wire.connected)
        self.assertIn("alice", self.server.hub.registry)
        self.release(20)
        self.server.advance(130)
        self.assertEqual(self.alice.closed_with(), CloseCode.NO_PONG)

    def test_gone(self) -> None:
        """Who breaks off meanwhile is waited for no more; what they had said before is stored."""
        self.say(20)
        (protocol,) = (p for p in self.server.factory.connections if p.user_id == "alice")
        self.alice.wire.lose()
        self.assertEqual(protocol.data, b"")
        self.release(20)
        self.assertEqual(self.numbers(), list(range(7)))

    def test_closing(self) -> None:
        """Who is closed meanwhile can say goodbye; what they had said before is thrown away."""
        self.say(20)
        self.server.factory.connections.close_all(CloseCode.SHUTDOWN)
        self.server.turn()
        self.alice.goodbye(CloseCode.SHUTDOWN)
        self.assertEqual(self.alice.closed_with(), CloseCode.SHUTDOWN)
        self.assertFalse(self.alice.wire.connected)
        self.assertFalse(self.alice.wire.aborted)

    def test_fault(self) -> None:
        """Who cannot be read on is cut off, and holds up nobody else."""
        self.say(20)
        self.charlie.send(TEXT, submission("bob", "100"))
        (protocol,) = (p for p in self.server.factory.connections if p.user_id == "alice")
        self.patch(protocol, "consumeData", lambda: 1 / 0)
        self.release(20)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertTrue(self.alice.wire.aborted)
        self.assertEqual(self.numbers(), [*range(7), 100])


class WriteTests(ServerTests):
    """What the server writes."""

    def test_one_write_a_turn(self) -> None:
        """All that goes to a peer in one turn is one write."""
        alice, bob = self.connect("alice", "bob")
        before = len(bob.wire.writes)
        frames = [client_frame(TEXT, submission("bob", str(n))) for n in range(10)]
        alice.send_raw(b"".join(frames))
        self.assertEqual(len(bob.wire.writes) - before, 1)
        self.assertEqual(bob.contents(), [str(n) for n in range(10)])

    def test_answers_before_a_close(self) -> None:
        """What a peer is owed in the turn in which it closes comes before the close."""
        (alice,) = self.connect("alice")
        alice.send_raw(client_frame(PING, b"?") + client_frame(CLOSE, b"\x03\xe8"))
        pong, close = client_frame(PONG, b"?", mask=None), b"\x88\x02\x03\xe8"
        self.assertEqual(b"".join(alice.wire.writes[-2:]), pong + close)

    def test_slow_reader(self) -> None:
        """Who does not read is closed with 4008, gets the rest later, and costs nobody else."""
        self.server = type(self.server)(Limits(outbox_bytes=3000))
        alice, bob, charlie = self.connect("alice", "bob", "charlie")
        bob.wire.stall()
        for n in range(10):
            alice.say("broadcast", f"{n}" * 500)
        self.assertEqual(bob.closed_with(), CloseCode.SLOW)
        self.assertEqual(int(CloseCode.SLOW), 4008)
        everything = [f"{n}" * 500 for n in range(10)]
        self.assertEqual(charlie.contents(), everything)
        bob.wire.lose()
        self.assertEqual(self.server.connect("bob").contents(), everything)

    def test_waits_for_the_transport(self) -> None:
        """What the transport does not take yet comes when it does."""
        alice, bob = self.connect("alice", "bob")
        bob.wire.stall()
        alice.say("bob", "patience")
        self.assertEqual(bob.messages(), [])
        bob.wire.flow()
        self.assertEqual(bob.contents(), ["patience"])

    def test_failed_handshake(self) -> None:
        """A request that Autobahn does not take is answered, and nobody is on line for it."""
        self.server.add_user("alice")
        wire, response = self.server.upgrade(
            f"/ws?token={self.server.token('alice')}", sec_websocket_protocol="chat, chat"
        )
        self.assertEqual(response.status, 400)
        self.server.turn()
        self.assertFalse(wire.connected)
        self.assertEqual(len(self.server.hub.registry), 0)

    def test_failed_handshake_says_nothing_odd(self) -> None:
        """What the peer wrote may be in the answer, and cannot be more of it than text."""
        self.server.add_user("alice")
        path = f"/ws?token={self.server.token('alice')}"
        connection = "\x01\x1b[2J\x85" + "y" * 5000
        wire, response = self.server.upgrade(path, connection=connection)
        self.assertEqual(response.status, 400)
        (line,) = b"".join(wire.writes).removesuffix(b"\r\n\r\n").split(b"\r\n")
        self.assertRegex(line, rb"\A[ -~]{20,250}\Z")

    def test_failed_handshake_held(self) -> None:
        """A peer that keeps its end open after such an answer does not keep the server's."""
        self.server.add_user("alice")
        token = self.server.token("alice")
        self.server.peers_hold = True
        wire, response = self.server.upgrade(
            f"/ws?token={token}", sec_websocket_protocol="chat, chat"
        )
        self.assertEqual((response.status, wire.connected), (400, True))
        self.server.advance(7)
        self.assertTrue(wire.aborted)


class EndTests(ServerTests):
    """What is left of a connection that has ended."""

    def test_nothing_to_collect(self) -> None:
        """Whatever way it ended, nothing of it waits for the garbage collector."""
        self.server.add_users("alice", "bob")
        ends: tuple[Callable[[Client], object], ...] = (
            lambda client: client.wire.lose(),
            lambda client: client.send(CLOSE, b"\x03\xe8"),
            lambda client: client.send(TEXT, b"\xff"),
        )
        for connect, end in itertools.product((self.server.connect, self.server.connect_v1), ends):
            gc.collect()
            client = connect("alice")
            client.send(PING, b"still there?")
            end(client)
            client.wire.lose()
            del client
            self.server.advance(100)
            self.assertEqual(left_to_collect(), set())


class CloseTests(ServerTests):
    """Closing."""

    def test_peers_close(self) -> None:
        """A peer's close is answered, and the user goes off line."""
        (alice,) = self.connect("alice")
        alice.goodbye()
        self.assertEqual(alice.closed_with(), 1000)
        self.assertFalse(alice.wire.connected)
        self.assertNotIn("alice", self.server.hub.registry)

    def test_lost(self) -> None:
        """A connection that breaks leaves nothing behind."""
        (alice,) = self.connect("alice")
        alice.wire.lose()
        self.assertNotIn("alice", self.server.hub.registry)
        self.assertEqual(list(self.server.factory.connections), [])

    def test_close_comes_last(self) -> None:
        """What was about to be written comes before the close."""
        alice, bob = self.connect("alice", "bob")
        alice.wire.feed(client_frame(TEXT, submission("bob", "just in time")))
        self.server.factory.connections.close_all(CloseCode.SHUTDOWN)
        self.assertEqual(bob.contents(), ["just in time"])
        self.assertEqual(bob.closed_with(), 4001)

    def test_nothing_after_close(self) -> None:
        """After the server's close, what a peer says is not taken."""
        alice, bob = self.connect("alice", "bob")
        closing = self.server.factory.connections.close_all(CloseCode.SHUTDOWN)
        alice.send(TEXT, submission("bob", "too late"))
        for client in (alice, bob):
            client.goodbye(4001)
        self.successResultOf(closing)
        page = self.successResultOf(self.server.store.stream.page("bob", 0))
        self.assertEqual(page.messages, [])

    def test_reasons_fit(self) -> None:
        """Every close code has a reason short enough for a close frame (RFC 6455 section 5.5)."""
        for code in CloseCode:
            self.assertLessEqual(len(code.reason.encode()), 123)


class GarbageTests(ServerTests):
    """Messages that are none are answered; the connection stays."""

    def test_error(self) -> None:
        """Every sort of junk gets an error from `system`, and a good message after it works."""
        alice, bob = self.connect("alice", "bob")
        for junk in (b"", b"junk", b"[]", b"{}", encode({"header": {"to": "bob"}}), b"[" * 9000):
            alice.send(TEXT, junk)
            (error,) = alice.messages()
            self.assertEqual(error["header"]["from"], "system")
            self.assertEqual(error["status"], "error")
        alice.say("bob", "fine")
        self.assertEqual(bob.contents(), ["fine"])
