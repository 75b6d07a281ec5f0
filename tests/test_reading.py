"""Tests of `wschat.reading`: pings that ask, and what is believed of the pongs."""

from __future__ import annotations

import struct

from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from tests.support import CLOSE, PING, PONG, TEXT, ServerTests, client_frame, take_frame
from wschat import reading
from wschat.codes import CloseCode
from wschat.outbox import Outbox, Turn
from wschat.reading import Reading


class ConfirmationTests(ServerTests):
    """A pong says that everything before its ping was read."""

    def setUp(self) -> None:
        super().setUp()
        self.alice, self.bob = self.connect("alice", "bob")

    def position(self) -> int:
        """The place in the stream that the server has saved for bob."""
        self.server.advance(2)
        return self.server.cursor("bob")

    def again(self) -> list[str]:
        """What bob gets when his connection breaks and he comes back."""
        self.bob.wire.lose()
        self.bob = self.server.connect("bob")
        return self.bob.contents()

    def test_pong(self) -> None:
        """After the pong, the messages before the ping do not come again."""
        self.alice.say("bob", "1")
        self.alice.say("bob", "2")
        self.bob.pong()
        self.server.advance(1)
        self.bob.pong()
        self.assertEqual(self.position(), 2)
        self.assertEqual(self.again(), [])

    def test_ping_goes_with_the_message(self) -> None:
        """The ping is in the same write as the message, right behind it."""
        before = len(self.bob.wire.writes)
        self.alice.say("bob", "1")
        (data,) = self.bob.wire.writes[before:]
        frame = take_frame(data)
        assert frame is not None
        follower = take_frame(frame[2])
        assert follower is not None
        self.assertEqual((frame[0], follower[0], follower[2]), (TEXT, PING, b""))

    def test_pings_are_rationed(self) -> None:
        """A ping goes with so many writes; after that there is one more with each answer."""
        for n in range(19):
            self.alice.say("bob", str(n))
        self.bob.texts()
        self.assertEqual(len(self.bob.pings), 16)
        self.bob.send(PONG, self.bob.pings[0])  # which brings one about all that went without
        self.assertEqual(self.bob.texts(), [])
        self.assertEqual(self.bob.pings[16:], [struct.pack("!Q", 19)])
        self.assertEqual(self.position(), 1)
        self.bob.pong()
        self.assertEqual(self.position(), 19)

    def test_dropped_pongs(self) -> None:
        """A peer that dropped its pongs is asked again, once in a while."""
        for n in range(18):
            self.alice.say("bob", str(n))
        self.bob.texts()
        self.bob.pings.clear()
        self.server.advance(54)
        self.bob.texts()
        self.assertEqual(self.bob.pings, [struct.pack("!Q", 18)])
        self.bob.pong()
        self.assertEqual(self.position(), 18)
        self.server.advance(54)
        self.bob.texts()
        self.assertEqual(self.bob.pings, [b""])

    def test_last_pong_is_enough(self) -> None:
        """A peer may answer the last of several pings only (RFC 6455 section 5.5.3)."""
        for n in range(18):
            self.alice.say("bob", str(n))
        self.bob.texts()
        self.bob.send(PONG, self.bob.pings[-1])
        self.assertEqual(self.position(), 16)
        self.bob.texts()
        self.alice.say("bob", "18")
        self.bob.texts()
        self.assertEqual([struct.unpack("!Q", ping)[0] for ping in self.bob.pings[16:]], [18, 19])

    def test_quiet_again(self) -> None:
        """When everything is confirmed, no more pings come until there are messages."""
        self.alice.say("bob", "1")
        self.bob.pong()
        self.server.advance(10)
        self.bob.texts()
        self.assertEqual(self.bob.pings, [])
        self.alice.say("bob", "2")
        self.bob.texts()
        self.assertEqual(len(self.bob.pings), 1)

    def test_no_pong(self) -> None:
        """Without a pong, what was written comes again: it may never have arrived."""
        self.alice.say("bob", "1")
        self.assertEqual(self.bob.contents(), ["1"])
        self.assertEqual(self.again(), ["1"])

    def test_wrong_pongs(self) -> None:
        """Pongs that nobody asked for, of any payload, confirm nothing."""
        self.alice.say("bob", "1")
        self.bob.texts()
        for payload in (b"", b"junk", struct.pack("!Q", 2**63), struct.pack("!Q", 0)):
            self.bob.send(PONG, payload)
        self.assertEqual(self.position(), 0)

    def test_repeated_pong(self) -> None:
        """A pong counts once, and takes nothing back."""
        self.alice.say("bob", "1")
        self.alice.say("bob", "2")
        self.bob.texts()
        first, second = self.bob.pings
        for payload in (second, first, second):
            self.bob.send(PONG, payload)
        self.assertEqual(self.position(), 2)

    def test_later_message_is_not_confirmed(self) -> None:
        """A pong confirms what was written before its ping, not what came after it."""
        self.alice.say("bob", "1")
        self.bob.texts()
        self.alice.say("bob", "2")
        self.bob.send(PONG, self.bob.pings[0])
        self.assertEqual(self.again(), ["2"])

    def test_waiting_message_is_not_confirmed(self) -> None:
        """What the transport did not take is not confirmed by a close."""
        self.alice.say("bob", "1")
        self.bob.pong()
        self.bob.wire.stall()
        self.alice.say("bob", "2")
        self.bob.goodbye()
        self.bob = self.server.connect("bob")
        self.assertEqual(self.bob.contents(), ["2"])

    def test_goodbye(self) -> None:
        """A peer that closes without a pong may not have read what it was sent: it comes again."""
        self.alice.say("bob", "1")
        self.bob.goodbye()
        self.assertEqual(self.position(), 0)

    def test_goodbye_after_pong(self) -> None:
        """What the pong confirmed before the peer closed does not come again."""
        self.alice.say("bob", "1")
        self.alice.say("bob", "2")
        self.bob.pong()
        self.bob.goodbye()
        self.assertEqual(self.position(), 2)

    def test_answered_close(self) -> None:
        """An answer to the server's close confirms what was sent before it."""
        self.alice.say("bob", "1")
        self.server.factory.connections.close_all(CloseCode.SHUTDOWN)
        self.bob.goodbye(CloseCode.SHUTDOWN)
        self.assertEqual(self.position(), 1)

    def test_crossing_closes(self) -> None:
        """A goodbye of the peer's own, which crosses the server's close, confirms nothing."""
        self.alice.say("bob", "1")
        self.server.factory.connections.close_all(CloseCode.SHUTDOWN)
        self.bob.goodbye(1000)
        self.assertEqual(self.position(), 0)

    def test_unanswered_close(self) -> None:
        """A close of the server's that is not answered confirms nothing."""
        self.alice.say("bob", "1")
        self.server.factory.connections.close_all(CloseCode.SHUTDOWN)
        self.server.advance(10)
        self.assertFalse(self.bob.wire.connected)
        self.assertEqual(self.position(), 0)

    def test_unclean_end(self) -> None:
        """A connection that breaks confirms nothing."""
        self.alice.say("bob", "1")
        self.bob.wire.lose()
        self.assertEqual(self.position(), 0)

    def test_malformed_close(self) -> None:
        """A close frame that is against the protocol is no answer to anything."""
        for frame in (
            client_frame(CLOSE, b"\x03"),
            client_frame(CLOSE, b"\x03\xe8", mask=None),
            client_frame(CLOSE, b"\x03\xe8\xff"),
        ):
            self.alice.say("bob", "kept")
            self.bob.send_raw(frame)
            self.assertIn("kept", self.again(), frame)

    def test_pong_before_answered_close(self) -> None:
        """A pong that comes after the server began to close still counts."""
        self.alice.say("bob", "1")
        self.bob.texts()
        self.server.factory.connections.close_all(CloseCode.SHUTDOWN)
        self.bob.pong()
        self.bob.wire.lose()
        self.assertEqual(self.position(), 1)


class StopTests(SynchronousTestCase):
    """A connection that is closing."""

    def setUp(self) -> None:
        self.patch(reading, "_UNANSWERED", 1)
        self.transport = StringTransport()
        self.reading = Reading(self.transport)
        turn = Turn(lambda flush: None)
        self.outbox = Outbox(turn, 1000, self.reading.write, lambda: None)
        self.reading.outbox = self.outbox
        for message_id in (1, 2):
            self.outbox.write(b"frame", message_id)
            self.outbox.flush()
        self.transport.clear()

    def test_asks_no_more(self) -> None:
        """A pong brings no ping after it has stopped, but counts."""
        self.reading.stop()
        self.assertTrue(self.reading.heard(struct.pack("!Q", 1)))
        self.assertEqual((self.reading.read, self.transport.value()), (1, b""))

    def test_goes_on(self) -> None:
        """Before that a pong brings the next ping, about all that was written since."""
        self.assertTrue(self.reading.heard(struct.pack("!Q", 1)))
        self.assertEqual(self.transport.value(), b"\x89\x08" + struct.pack("!Q", 2))

    def test_heard_all(self) -> None:
        """What was read to the end is news once, whatever was asked."""
        self.assertTrue(self.reading.heard_all())
        self.assertFalse(self.reading.heard_all())
        self.assertFalse(self.reading.heard(struct.pack("!Q", 1)))
        self.assertEqual(self.reading.read, 2)
