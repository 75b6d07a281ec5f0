"""
Tests of `wschat.client.session` with a classic server: what is sent, and what a frame means.

Those with `wschat.v1` are in test_session_v1 and test_session_faults.
"""

from __future__ import annotations

import json
from typing import Any

from nacl.signing import VerifyKey
from twisted.trial.unittest import SynchronousTestCase

from tests.support import NOW
from wschat import identity, wire
from wschat.client import session, session_events
from wschat.client.session import QueueFull, Session
from wschat.client.session_events import Answered, Received, Refused

SEED = bytes(range(32))


def delivery(content: str, **given: Any) -> bytes:
    """A frame as a server writes it."""
    header = {
        "from": given.pop("sender", "bob"),
        "to": given.pop("to", "alice"),
        "message_type": "direct",
        "timestamp": "2026-11-22T10:00:00Z",
        **given.pop("header", {}),
    }
    frame = {"header": header, "body": {"content": content}, "status": "delivered", **given}
    return json.dumps(frame).encode()


def answer(request_id: Any, **given: Any) -> bytes:
    """The server's answer to a command."""
    content = {"success": True, "request_id": request_id, "result": {"message": "pong"}, **given}
    return delivery(json.dumps(content), sender="server")


class _SessionTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.key = identity.PrivateKey(SEED)
        self.session = Session("alice", self.key)

    def open(self) -> Session:
        self.session.opened(is_v1=False)
        return self.session

    def frames(self, now: float = NOW) -> list[Any]:
        return [json.loads(frame) for frame in self.session.data_to_send(now)]

    def receive(self, payload: bytes) -> session_events.Event | None:
        return self.session.receive(payload, NOW)

    def contents(self, now: float = NOW) -> list[str]:
        return [frame["body"]["content"] for frame in self.frames(now)]

    def verify(self, data: bytes, signature: str) -> None:
        """Raises unless the user signed."""
        key = VerifyKey(identity.decode_base64(self.key.public_key))
        key.verify(data, identity.decode_base64(signature))


class SendingTests(_SessionTests):
    """What goes out."""

    def test_direct(self) -> None:
        """A direct message is a classic frame, signed over its content as Go encodes it."""
        self.open().send("bob", 'a <b> & "c"\u2028', NOW)
        (frame,) = self.frames()
        header = frame["header"]
        self.verify(rb'"a \u003cb\u003e \u0026 \"c\"\u2028"', header.pop("signature"))
        self.assertTrue(wire.valid_timestamp(header.pop("timestamp")))
        self.assertEqual(header, {"from": "alice", "to": "bob", "message_type": "direct"})
        self.assertEqual(frame["body"], {"content": 'a <b> & "c"\u2028'})
        self.assertEqual(frame.keys(), {"header", "body"})

    def test_broadcast(self) -> None:
        """A broadcast says so in both spellings, and has its time."""
        self.open().send("broadcast", "all", NOW)
        (frame,) = self.frames()
        header = frame["header"]
        self.assertEqual((header["to"], header["message_type"]), ("broadcast", "broadcast"))
        self.assertIs(header["is_broadcast"], True)
        self.assertEqual(header["timestamp"], "2026-11-22T10:00:00.000000Z")

    def test_command(self) -> None:
        """A command's content names it, its parameters and its id; the text itself is signed."""
        request_id = self.open().command("echo", NOW, {"a": [1]})
        (frame,) = self.frames()
        self.assertEqual((frame["header"]["to"], frame["header"]["message_type"]), ("server",) * 2)
        content = frame["body"]["content"]
        self.verify(content.encode(), frame["header"]["signature"])
        expected = {"command": "echo", "params": {"a": [1]}, "request_id": request_id}
        self.assertEqual(json.loads(content), expected)

    def test_names(self) -> None:
        """A name that no user can have is refused, and nothing waits."""
        for name in ("", "server", "system", "a b", "..", "\u00e4", "x" * 65):
            self.assertRaises(ValueError, self.session.send, name, "text", NOW)
        self.assertEqual(self.session.waiting, 0)

    def test_too_long(self) -> None:
        """A text is too long when its frame would be, with the names that it may get."""
        self.assertRaises(ValueError, self.session.send, "bob", "x" * 65_536, NOW)
        error = self.assertRaises(ValueError, self.session.send, "bob", '"' * 32_700, NOW)
        self.assertIn("Too long", str(error))
        self.session.send("bob", "x" * 64_900, NOW)
        self.assertEqual(self.session.waiting, 1)

    def test_waits_for_connection(self) -> None:
        """What is said without a connection waits, in its order."""
        self.session.send("bob", "one", NOW)
        self.session.send("bob", "two", NOW)
        self.assertEqual(self.frames(), [])
        self.assertIsNone(self.session.wait(NOW))
        self.assertEqual((self.session.waiting, self.session.sent), (2, 0))
        self.open()
        self.assertEqual(self.session.wait(NOW), 0)
        self.assertEqual(self.contents(), ["one", "two"])
        self.assertEqual((self.session.waiting, self.session.sent), (0, 2))

    def test_closed_again(self) -> None:
        """When the connection is gone, nothing is given out until there is another."""
        self.open()
        self.session.lost()
        self.session.send("bob", "later", NOW)
        self.assertEqual(self.frames(), [])
        self.open()
        self.assertEqual(self.contents(), ["later"])

    def test_paced(self) -> None:
        """Frames come at most at the seed's rate: 20 at once, and 10 a second afterwards."""
        self.open()
        for number in range(60):
            self.session.send("bob", str(number), NOW)
        given: list[tuple[float, str]] = []
        now = NOW
        while self.session.waiting:
            given += [(now, content) for content in self.contents(now)]
            now += (self.session.wait(now) or 0.0) + 1e-6  # a float's rounding, at this date
        self.assertEqual([content for _, content in given], [str(n) for n in range(60)])
        tokens, last = 20.0, NOW
        for moment, _ in given:
            tokens, last = min(20.0, tokens + (moment - last) * 10) - 1, moment
            self.assertGreaterEqual(tokens, 0)
        self.assertLess(now - NOW, 6)

    def test_wait(self) -> None:
        """While the rate leaves no room, `wait` is the time until it does; then it is None."""
        self.open()
        for _ in range(18):
            self.session.send("bob", "x", NOW)
        self.assertEqual((len(self.frames()), self.session.waiting), (17, 1))
        wait = self.session.wait(NOW)
        assert wait is not None
        self.assertEqual(self.frames(NOW + wait / 2), [])
        self.assertEqual(len(self.frames(NOW + wait + 1e-6)), 1)
        self.assertIsNone(self.session.wait(NOW + 1))

    def test_rate_survives_reconnecting(self) -> None:
        """A new connection is no new allowance: the server counts by user."""
        self.open()
        for _ in range(40):
            self.session.send("bob", "x", NOW)
        self.frames()
        self.session.lost()
        self.open()
        self.assertEqual(self.frames(), [])

    def test_bound(self) -> None:
        """No more than a thousand wait; one more is refused, be it message or command."""
        for number in range(session.QUEUE_MESSAGES):
            self.session.send("bob", str(number), NOW)
        self.assertRaises(QueueFull, self.session.send, "bob", "more", NOW)
        self.assertRaises(QueueFull, self.session.command, "ping", NOW)
        self.assertEqual(self.session.waiting, session.QUEUE_MESSAGES)
        self.open()
        self.frames()
        self.session.send("bob", "again", NOW)


class CommandTests(_SessionTests):
    """Answers, and what they say of what was sent earlier."""

    def test_answered(self) -> None:
        """An answer has the id that the command was given."""
        request_id = self.open().command("ping", NOW)
        self.frames()
        event = self.receive(answer(request_id))
        assert isinstance(event, Answered)
        self.assertEqual(event.request_id, request_id)
        self.assertEqual((event.answer.success, event.answer.result), (True, {"message": "pong"}))

    def test_failed(self) -> None:
        """An answer may say that the command failed, and why."""
        request_id = self.open().command("nonsense", NOW)
        self.frames()
        event = self.receive(answer(request_id, success=False, error="Unknown command."))
        assert isinstance(event, Answered)
        self.assertEqual((event.answer.success, event.answer.error), (False, "Unknown command."))

    def test_covers(self) -> None:
        """The server answers in order, so an answer covers all that was sent before it."""
        self.open().send("bob", "one", NOW)
        first = self.session.command("ping", NOW)
        self.session.send("bob", "two", NOW)
        second = self.session.command("ping", NOW)
        self.session.send("bob", "three", NOW)
        self.assertEqual((self.session.unanswered, self.session.unasked), (0, False))
        self.frames()
        self.assertEqual((self.session.unanswered, self.session.unasked), (3, True))
        self.receive(answer(first))
        self.assertEqual(self.session.unanswered, 2)
        self.receive(answer(second))
        self.assertEqual(self.session.unanswered, 1)
        self.assertEqual(self.session.lost(), 1)

    def test_later_answer(self) -> None:
        """An answer covers earlier commands as well, whose own answers may then come."""
        self.open().send("bob", "one", NOW)
        first = self.session.command("ping", NOW)
        self.session.send("bob", "two", NOW)
        second = self.session.command("ping", NOW)
        self.frames()
        self.receive(answer(second))
        self.assertEqual(self.session.unanswered, 0)
        event = self.receive(answer(first))
        assert isinstance(event, Answered)
        self.assertEqual(event.request_id, first)

    def test_asked(self) -> None:
        """A command after the last message leaves nothing unasked."""
        self.open().send("bob", "one", NOW)
        self.frames()
        self.assertTrue(self.session.unasked)
        self.session.command("ping", NOW)
        self.frames()
        self.assertFalse(self.session.unasked)

    def test_foreign_answer(self) -> None:
        """An answer to nothing that was asked says nothing of what was sent."""
        self.open().send("bob", "one", NOW)
        self.frames()
        self.receive(answer("elsewhere"))
        self.assertEqual(self.session.unanswered, 1)

    def test_answer_without_id(self) -> None:
        """An answer without an id of ours (absent, null, a number) is no event."""
        for content in ('{"success":true}', '{"success":true,"request_id":null}'):
            self.assertIsNone(self.receive(delivery(content, sender="server")))
        self.assertIsNone(self.receive(answer(7)))

    def test_lost(self) -> None:
        """A lost connection counts what was sent and not covered, once; the queue is not of it."""
        self.open().send("bob", "one", NOW)
        self.session.command("ping", NOW)
        self.session.send("bob", "two", NOW)
        self.frames()
        self.session.send("bob", "waits", NOW)
        self.assertEqual(self.session.lost(), 2)
        self.assertEqual((self.session.lost(), self.session.unanswered), (0, 0))
        self.assertEqual(self.session.waiting, 1)

    def test_nothing_lost(self) -> None:
        """When the server answered after the last message, nothing is unknown."""
        self.open().send("bob", "one", NOW)
        request_id = self.session.command("ping", NOW)
        self.frames()
        self.receive(answer(request_id))
        self.assertEqual(self.session.lost(), 0)


class ReceivingTests(_SessionTests):
    """What comes in."""

    def test_message(self) -> None:
        """A message is an event, with all that its frame says."""
        event = self.receive(delivery("hello", id=17, header={"signature": "c2ln"}))
        assert isinstance(event, Received)
        message = event.message
        self.assertEqual((message.sender, message.topic, message.id), ("bob", "alice", 17))
        self.assertEqual((message.content, message.signature), ("hello", "c2ln"))
        self.assertEqual(self.session.received, 1)

    def test_same_id_once(self) -> None:
        """The same message with the same id, sent again, is heard once."""
        self.assertIsInstance(self.receive(delivery("hello", id=17)), Received)
        self.assertIsNone(self.receive(delivery("hello", id=17)))
        self.assertEqual(self.session.received, 1)

    def test_other_message_with_same_id(self) -> None:
        """A classic server that starts anew counts from 1: another message is another message."""
        self.receive(delivery("hello", id=1))
        self.assertIsInstance(self.receive(delivery("goodbye", id=1)), Received)

    def test_without_id(self) -> None:
        """Without an id (a classic server's live messages) equal messages are as many."""
        for _ in range(2):
            self.assertIsInstance(self.receive(delivery("hello")), Received)
        self.assertEqual(self.session.received, 2)

    def test_remembers_enough(self) -> None:
        """Ten thousand messages are remembered; the oldest are forgotten first."""
        for number in range(1, 10_002):
            self.receive(delivery("x", id=number))
        self.assertIsNone(self.receive(delivery("x", id=2)))
        self.assertIsInstance(self.receive(delivery("x", id=1)), Received)

    def test_refused(self) -> None:
        """An error of the system is a refusal, with the server's text."""
        text = "Rate limit exceeded. Please slow down."
        event = self.receive(delivery(text, sender="system", status="error"))
        self.assertEqual(event, Refused(text))
        self.assertEqual((self.session.refused, self.session.received), (1, 0))

    def test_slows_down(self) -> None:
        """A server that takes fewer messages gets fewer; another refusal changes nothing."""
        self.open()
        for number in range(30):
            self.session.send("bob", str(number), NOW)
        self.frames()
        self.receive(delivery("Unknown recipient: bob.", sender="system", status="error"))
        self.assertEqual(len(self.frames(NOW + 1)), 9)
        text = "Rate limit exceeded. Please slow down."
        self.receive(delivery(text, sender="system", status="error"))
        self.assertEqual(len(self.frames(NOW + 2)), 1)

    def test_system_notice(self) -> None:
        """What the system says without an error is a message like any."""
        self.assertIsInstance(self.receive(delivery("hi", sender="system")), Received)
        self.assertEqual(self.session.refused, 0)

    def test_malformed(self) -> None:
        """Frames and answers that cannot be read are malformed, and count as nothing."""
        frames = (
            b"",
            b"{",
            b"[]",
            b"\xff",
            b'{"header":{},"body":{}}',
            b'{"header":{"from":7},"body":{"content":"x"}}',
            delivery("x", id="17"),
            delivery("not JSON", sender="server"),
            delivery('{"result":1}', sender="server"),
        )
        for frame in frames:
            self.assertRaises(wire.Malformed, self.receive, frame)
        counted = (self.session.sent, self.session.received, self.session.refused)
        self.assertEqual(counted, (0, 0, 0))
