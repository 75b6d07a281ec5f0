"""Tests of `wschat.client.session` with `wschat.v1`: what comes, and what is asked."""

from __future__ import annotations

import json

from tests.client.test_session_v1 import V1Tests
from tests.support import NOW
from wschat import v1, wire
from wschat.client.session import SealingKey
from wschat.client.session_events import (
    Answered,
    KeyRotated,
    Leaving,
    PresenceChanged,
    Received,
    Told,
)


class AcknowledgementTests(V1Tests):
    """What has been handled, and what came."""

    def handle(self, *message_ids: int) -> None:
        for message_id in message_ids:
            self.session.handled(wire.Message("bob", "alice", "", "", id=message_id))

    def test_ack(self) -> None:
        """What was handled is told once, cumulatively, with what is sent next."""
        self.open()
        for message_id in (3, 5, 9):
            self.comes(message_id)
        self.assertFalse(self.session.unacknowledged)
        self.handle(3, 5)
        self.assertTrue(self.session.unacknowledged)
        self.session.send("bob", "text", NOW)
        ack, message = self.frames()
        self.assertEqual((ack, message["type"]), ({"type": "ack", "id": 5}, "message"))
        self.assertFalse(self.session.unacknowledged)
        self.assertEqual(self.frames(), [])
        self.assertEqual(self.session.received, 3)

    def test_out_of_order(self) -> None:
        """An earlier message that is handled later takes nothing back."""
        self.open()
        for message_id in (3, 5):
            self.comes(message_id)
        self.handle(5)
        self.frames()
        self.handle(3)
        self.assertEqual(self.frames(), [])

    def test_again(self) -> None:
        """What is being handled when the connection is lost comes again, and is heard once."""
        self.open()
        for message_id in (3, 5):
            self.comes(message_id)
        self.session.lost()
        self.session.opened(is_v1=True)
        self.frames()
        self.resumed(0)
        self.assertEqual([self.comes(3), self.comes(5)], [None, None])
        self.assertIsInstance(self.comes(6), Received)
        self.assertEqual(self.session.received, 3)

    def test_not_too_early(self) -> None:
        """What came on the last connection is acknowledged when it has come on this one."""
        self.open()
        for message_id in (3, 5):
            self.comes(message_id)
        self.session.lost()
        self.handle(3)
        self.session.opened(is_v1=True)
        self.assertEqual(self.frames(), [{"type": "resume", "session": "desk", "after": 3}])
        self.handle(5)  # … of which the server has not said anything yet, here
        self.assertEqual(self.frames(), [])
        self.resumed(3)
        self.comes(5)
        self.assertEqual(self.frames(), [{"type": "ack", "id": 5}])

    def test_all_acknowledged(self) -> None:
        """The server knows of all when it has said where this goes on, and was told the rest."""
        self.open()
        self.assertTrue(self.session.all_acknowledged)
        for message_id in (3, 5):
            self.comes(message_id)
        self.handle(3)
        self.assertFalse(self.session.all_acknowledged)
        self.frames()
        self.assertTrue(self.session.all_acknowledged)
        self.session.lost()
        self.session.opened(is_v1=True)
        self.frames()
        self.assertFalse(self.session.all_acknowledged)
        self.resumed(3)
        self.assertTrue(self.session.all_acknowledged)
        self.handle(5)  # … which came on the last connection alone
        self.frames()
        self.assertFalse(self.session.all_acknowledged)
        self.comes(5)
        self.frames()
        self.assertTrue(self.session.all_acknowledged)

    def test_closed(self) -> None:
        """Nothing is acknowledged to a classic server."""
        self.session.opened(is_v1=False)
        self.handle(3)
        self.assertTrue(self.session.all_acknowledged)
        self.assertFalse(self.session.unacknowledged)
        self.assertEqual(self.frames(), [])


class AskingTests(V1Tests):
    """Commands and questions."""

    def test_command(self) -> None:
        """A command is named by its request id, which its answer has."""
        request_id = self.open().command("ping", NOW)
        (frame,) = self.frames()
        self.assertEqual((frame["type"], frame["header"]["client_id"]), ("message", request_id))
        content = json.dumps({"success": True, "request_id": request_id, "result": 1})
        header = {"from": "server", "to": "alice"}
        event = self.receive("message", id=0, header=header, body={"content": content})
        assert isinstance(event, Answered)
        self.assertEqual((event.request_id, event.answer.result), (request_id, 1))

    def test_history(self) -> None:
        """A question has an id of its own, and its answer comes under that."""
        request_id = self.open().ask(v1.AskHistory("bob", before=40, limit=2))
        (frame,) = self.frames()
        expected = {"type": "history", "with": "bob", "before": 40, "limit": 2}
        self.assertEqual(frame, {**expected, "request_id": request_id})
        answer = {"with": "bob", "messages": [], "more": False, "next": 1}
        event = self.receive("history", **answer, request_id=request_id)
        assert isinstance(event, Told)
        assert isinstance(event.answer, v1.History)
        self.assertEqual((event.request_id, event.answer.next), (request_id, 1))

    def test_presence(self) -> None:
        """Who is there is answered, and who comes and goes is told."""
        request_id = self.open().ask(v1.AskPresence(True, ["bob"]))
        (frame,) = self.frames()
        self.assertEqual(frame, {"type": "presence", "users": ["bob"], "request_id": request_id})
        answer = {"online": ["bob"], "last_seen": {}}
        event = self.receive("presence", **answer, request_id=request_id)
        assert isinstance(event, Told)
        assert isinstance(event.answer, v1.Presence)
        self.assertEqual(event.answer.online, ["bob"])
        left = {"bob": "2026-11-22T10:00:00Z"}
        changed = self.receive("presence_changed", joined=["charlie"], left=left)
        self.assertEqual(changed, PresenceChanged(["charlie"], left))

    def test_key_rotated(self) -> None:
        """Who is said to have new keys is told, and what is sealed with is asked for anew."""
        self.open().know("bob", SealingKey())
        event = self.receive("key_rotated", user_id="bob")
        self.assertEqual(event, KeyRotated("bob"))
        self.assertEqual(self.session._sealing_keys, {})

    def test_draining(self) -> None:
        """A server that is about to end is sent nothing more; the next one gets it."""
        self.open()
        self.session.send("bob", "first", NOW)
        self.assertEqual(len(self.frames()), 1)
        self.assertEqual(self.receive("draining", retry_after_ms=2500), Leaving(2.5))
        self.session.send("bob", "second", NOW)
        self.assertEqual(self.frames(), [])
        self.session.lost()
        self.open()
        said = [frame["body"]["content"] for frame in self.frames() if frame["type"] == "message"]
        self.assertEqual(said, ["first", "second"])

    def test_draining_for_long(self) -> None:
        """A server cannot keep its clients away for ever, and no time is before now."""
        self.open()
        self.assertEqual(self.receive("draining", retry_after_ms=10**12), Leaving(60))
        self.assertEqual(self.receive("draining", retry_after_ms=-5), Leaving(0))

    def test_not_asked(self) -> None:
        """What the server cannot answer, or would not take, is not asked."""
        ask = self.session.ask
        self.assertRaises(ValueError, ask, v1.AskPresence())  # nobody knows what it speaks yet
        self.open()
        names = ["x"] * 101
        for question in (v1.AskHistory("a b"), v1.AskHistory("bob", limit=301)):
            self.assertRaises(ValueError, ask, question)
        self.assertRaises(ValueError, ask, v1.AskPresence(True, names))
        self.assertEqual(self.session.waiting, 0)

    def test_forgotten(self) -> None:
        """A question that nobody waits for any more is not asked on the next connection."""
        self.open()
        for _ in range(17):
            self.session.send("bob", "text", NOW)
        self.frames()
        request_id = self.session.ask(v1.AskPresence())
        self.session.lost()
        self.session.forget({request_id})
        self.reopen()
        kinds = {frame["type"] for later in (60, 120) for frame in self.frames(NOW + later)}
        self.assertEqual(kinds, {"message", "status"})
