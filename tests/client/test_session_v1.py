"""
Tests of `wschat.client.session` with `wschat.v1`: how it goes on, and what becomes of what is sent.

What comes, and what is asked, is in test_session_v1_coming.
"""

from __future__ import annotations

import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.support import NOW
from wschat import identity, v1, wire
from wschat.client import session, session_events
from wschat.client.session import QueueFull, Session
from wschat.client.session_events import Delivered, Incomplete, Received, Refused, Stored, Told


class V1Tests(SynchronousTestCase):
    def setUp(self) -> None:
        self.key = identity.PrivateKey(bytes(range(32)))
        self.session = Session("alice", self.key, "desk")

    def open(self) -> Session:
        """A connection is open, and the server said where the session goes on."""
        self.session.opened(is_v1=True)
        self.frames()
        self.resumed()
        return self.session

    def reopen(self) -> list[Any]:
        """Lose the connection; what is said on the next one after the first frame."""
        self.session.lost()
        self.session.opened(is_v1=True)
        self.assertEqual([frame["type"] for frame in self.frames()], ["resume"])
        self.resumed()
        return self.frames()

    def resumed(self, position: int = 0, **given: Any) -> session_events.Event | None:
        answer = {"session": "desk", "position": position, "complete": True}
        return self.receive("resumed", **{**answer, "rate": 10.0, "burst": 20.0, **given})

    def receive(self, kind: str, **given: Any) -> session_events.Event | None:
        """A frame has come, as the server writes it."""
        if kind == "message":
            given["status"] = "delivered"
        return self.session.receive(json.dumps({"type": kind, **given}).encode(), NOW)

    def comes(self, message_id: int, sender: str = "bob") -> session_events.Event | None:
        """A message has come, whose content is its id."""
        header = {"from": sender, "to": "alice", "timestamp": "2026-11-22T10:00:00Z"}
        content = str(message_id)
        return self.receive("message", id=message_id, header=header, body={"content": content})

    def frames(self, now: float = NOW) -> list[Any]:
        return [json.loads(frame) for frame in self.session.data_to_send(now)]

    def contents(self, now: float = NOW) -> list[str]:
        """The client ids of what is sent now."""
        return [frame["header"]["client_id"] for frame in self.frames(now)]

    def error(self, code: int, **given: Any) -> session_events.Event | None:
        return self.receive("error", code=code, reason="no", again=True, **given)


class ResumeTests(V1Tests):
    """The first frame of a connection."""

    def test_new(self) -> None:
        """A session that has handled nothing names itself; what waits goes out when it goes on."""
        self.session.send("bob", "hello", NOW, "m")
        self.session.opened(is_v1=True)
        self.assertEqual(self.session.wait(NOW), 0.0)
        self.assertEqual(self.frames(), [{"type": "resume", "session": "desk"}])
        self.assertEqual((self.frames(), self.session.wait(NOW)), ([], None))
        self.resumed()
        (message,) = self.frames()
        self.assertEqual((message["type"], message["header"]["client_id"]), ("message", "m"))
        self.assertTrue(self.session.is_v1)

    def test_after(self) -> None:
        """One that is known to have handled something says so."""
        self.session = Session("alice", self.key, "desk", 17)
        self.session.opened(is_v1=True)
        self.assertEqual(self.frames(), [{"type": "resume", "session": "desk", "after": 17}])
        self.resumed(17)
        self.assertIsNone(self.comes(17))
        self.assertIsInstance(self.comes(18), Received)

    def test_handled(self) -> None:
        """After a lost connection it says what it has handled, and not what it has got."""
        self.open()
        for message_id in (3, 5):
            self.comes(message_id)
        self.session.handled(wire.Message("bob", "alice", "3", "", id=3))
        self.session.lost()
        self.session.opened(is_v1=True)
        self.assertEqual(self.frames(), [{"type": "resume", "session": "desk", "after": 3}])

    def test_names(self) -> None:
        """Sessions without a name have names of their own, which servers take."""
        names = {Session("alice", self.key).name for _ in range(100)}
        self.assertEqual(len(names), 100)
        self.assertTrue(all(map(v1.valid_client_id, names)))

    def test_counted(self) -> None:
        """The server counts this frame as well: with it there go out no more than it takes."""
        for number in range(20):
            self.session.send("bob", str(number), NOW)
        self.session.opened(is_v1=True)
        self.frames()
        self.resumed(rate=10.0, burst=10.0)
        self.assertEqual(len(self.frames()), 8)  # nine tenths, and one of them was the first

    def test_incomplete(self) -> None:
        """A server that has not kept everything says so, and the session goes on."""
        self.session.opened(is_v1=True)
        self.frames()
        self.assertEqual(self.resumed(40, complete=False), Incomplete())
        self.assertIsInstance(self.comes(41), Received)

    def test_other_database(self) -> None:
        """A server whose newest message is older than what was handled is listened to anew."""
        self.session = Session("alice", self.key, "desk", 500)
        self.session.opened(is_v1=True)
        self.frames()
        self.assertEqual(self.resumed(7, complete=False), Incomplete())
        event = self.comes(8)
        assert isinstance(event, Received)
        self.session.handled(event.message)
        self.assertEqual(self.frames(), [{"type": "ack", "id": 8}])

    def test_refused(self) -> None:
        """When the user has sent too much for the first frame, that is sent again."""
        self.session.send("bob", "hello", NOW, "m")
        self.session.opened(is_v1=True)
        self.frames()
        self.assertIsNone(self.error(120, retry_after_ms=500))
        self.assertEqual(self.session.wait(NOW), 0.5)
        self.assertEqual(self.frames(NOW + 0.4), [])
        self.assertEqual(self.frames(NOW + 0.5), [{"type": "resume", "session": "desk"}])
        self.resumed()
        self.assertEqual(self.contents(NOW + 1), ["m"])
        self.assertEqual(self.session.refused, 0)

    def test_lost_before(self) -> None:
        """What was to be said first on a connection that is gone is said on none."""
        self.session.opened(is_v1=True)
        self.session.lost()
        self.assertEqual(self.frames(), [])
        self.assertIsNone(self.session.wait(NOW))

    def test_malformed(self) -> None:
        """What cannot be read is malformed; what is not known yet as well, and breaks nothing."""
        self.open()
        for payload in (b"{", b"[]", b'{"type":"news"}', b'{"type":"stored"}'):
            self.assertRaises(wire.Malformed, self.session.receive, payload, NOW)
        self.assertIsNone(self.receive("caught_up", id=3))


class ReceiptTests(V1Tests):
    """What the server says of what was sent."""

    def say(self, *client_ids: str, to: str = "bob") -> None:
        for client_id in client_ids:
            self.session.send(to, "text", NOW, client_id)
        self.assertEqual(self.contents(), list(client_ids))

    def test_client_ids(self) -> None:
        """Each message has an id, made up unless given; one that is none is refused."""
        made = {self.session.send("bob", "text", NOW) for _ in range(100)}
        self.assertEqual(len(made), 100)
        self.assertTrue(all(map(v1.valid_client_id, made)))
        self.assertEqual(self.session.send("bob", "text", NOW, "my.id"), "my.id")
        for wrong in ("a b", "x" * 65, "\u00e4"):
            self.assertRaises(ValueError, self.session.send, "bob", "text", NOW, wrong)

    def test_same_client_id(self) -> None:
        """What is said again before it is settled is the same message, and sent once."""
        self.open()
        self.say("a")
        self.assertEqual(self.session.send("bob", "text", NOW, "a"), "a")
        self.assertEqual((self.session.waiting, self.session.unanswered), (0, 1))
        self.receive("stored", client_id="a", id=9)
        self.say("a")  # again, and the server will say that it knows it

    def test_stored(self) -> None:
        """A message is stored once, however often that is said."""
        self.open()
        self.say("a")
        self.assertEqual(self.session.unanswered, 1)
        self.assertEqual(self.receive("stored", client_id="a", id=9), Stored("a", 9))
        self.assertIsNone(self.receive("stored", client_id="a", id=9))
        self.assertIsNone(self.receive("stored", client_id="another's", id=10))
        self.assertEqual(self.session.unanswered, 0)

    def test_delivered(self) -> None:
        """A direct message is delivered once; nothing is said of what is not ours."""
        self.open()
        self.say("a")
        self.receive("stored", client_id="a", id=9)
        self.assertIsNone(self.receive("delivered", client_id="another's", id=10))
        self.assertEqual(self.receive("delivered", client_id="a", id=9), Delivered("a", 9))
        self.assertIsNone(self.receive("delivered", client_id="a", id=9))

    def test_status(self) -> None:
        """After a lost connection it is asked what became of direct messages, once."""
        self.open()
        self.say("stored", "unsure", "refused")
        self.say("news", to="broadcast")
        self.receive("stored", client_id="stored", id=1)
        self.receive("stored", client_id="news", id=2)
        self.error(110, client_id="refused")
        again, asked = self.reopen()
        self.assertEqual(again["header"]["client_id"], "unsure")
        self.assertEqual(asked, {"type": "status", "client_ids": ["stored", "unsure"]})
        self.receive("stored", client_id="unsure", id=3)
        self.assertIsNone(self.receive("stored", client_id="stored", id=1))
        self.assertEqual(
            self.receive("delivered", client_id="unsure", id=3), Delivered("unsure", 3)
        )
        self.receive("delivered", client_id="stored", id=1)
        self.assertEqual(self.reopen(), [])

    def test_status_unknown(self) -> None:
        """What the server does not know is waited for no more; what is sent again is not lost."""
        self.open()
        self.say("gone", "again")
        self.receive("stored", client_id="gone", id=1)
        for client_id in ("gone", "again", "another's"):
            self.assertIsNone(self.error(111, client_id=client_id))
        self.assertEqual((self.session.refused, self.session.unanswered), (0, 1))
        again, asked = self.reopen()
        self.assertEqual(again["header"]["client_id"], "again")
        self.assertEqual(asked["client_ids"], ["again"])

    def test_status_parts(self) -> None:
        """A server is asked about a hundred at a time; no more than 500 are waited for."""
        self.open()
        for number in range(501):
            now = NOW - 600 + number
            self.session.send("bob", "text", now, f"m{number}")
            self.session.data_to_send(now)
            self.receive("stored", client_id=f"m{number}", id=number + 1)
        asked = self.reopen()
        self.assertEqual([len(frame["client_ids"]) for frame in asked], [100] * 5)
        self.assertEqual(asked[0]["client_ids"][0], "m1")

    def test_status_full(self) -> None:
        """A full queue is no reason not to ask, nor not to connect."""
        self.open()
        self.say("a")
        self.receive("stored", client_id="a", id=1)
        for _ in range(session.QUEUE_MESSAGES):
            self.session.send("bob", "text", NOW)
        self.session.lost()
        self.session.opened(is_v1=True)
        for _ in range(2):
            self.session.lost()
            self.session.opened(is_v1=True)
            self.assertEqual(self.session.waiting, session.QUEUE_MESSAGES + 1)
        self.assertRaises(QueueFull, self.session.send, "bob", "text", NOW)

    def test_status_limited(self) -> None:
        """When there was no room for the question, it is asked again."""
        self.open()
        self.say("a")
        self.receive("stored", client_id="a", id=1)
        self.assertIsNone(self.error(120, retry_after_ms=100))
        self.assertEqual(self.frames(NOW + 0.05), [])
        self.assertEqual(self.frames(NOW + 0.1), [{"type": "status", "client_ids": ["a"]}])
        self.receive("delivered", client_id="a", id=1)
        self.assertIsNone(self.error(120, retry_after_ms=100))
        self.assertEqual(self.frames(NOW + 1), [])


class RefusalTests(V1Tests):
    """Errors."""

    def setUp(self) -> None:
        super().setUp()
        self.open()
        for client_id in "ab":
            self.session.send("bob", "text", NOW, client_id)
        self.frames()

    def test_for_now(self) -> None:
        """What may be sent again is, after the time that the server named."""
        for code in (120, 121, 123):
            told = self.error(code, client_id="a", retry_after_ms=250)
            self.assertEqual(told, session_events.Delayed("no", "a") if code == 123 else None)
            self.assertIsNone(self.error(124, client_id="b", retry_after_ms=0))
            self.assertEqual(self.session.wait(NOW), 0.25)
            self.assertEqual(self.contents(NOW + 0.25), ["a", "b"])
        self.assertEqual(self.session.refused, 0)

    def test_for_now_and_stored(self) -> None:
        """What is refused for now, and had arrived on an earlier connection, is not sent again."""
        self.reopen()
        self.error(120, client_id="a", retry_after_ms=300)
        self.error(124, client_id="b")
        self.assertEqual(self.receive("stored", client_id="a", id=1), Stored("a", 1))
        self.assertIsNone(self.receive("stored", client_id="a", id=1))
        (frame,) = self.frames(NOW + 1)
        self.assertEqual(frame["header"]["client_id"], "b")
        self.assertNotIn("follows", frame["header"])
        self.assertEqual(self.receive("stored", client_id="b", id=2), Stored("b", 2))
        self.assertEqual((self.session.waiting, self.session.unanswered), (0, 0))

    def test_unknown_for_now(self) -> None:
        """A refusal of what nobody sent is no news."""
        self.assertIsNone(self.error(123, client_id="z"))

    def test_without_time(self) -> None:
        """Without a time it is sent again at once."""
        self.error(123, client_id="b")
        self.assertEqual(self.contents(), ["b"])

    def test_for_good(self) -> None:
        """Any other error is told, with the message that it is of, and that is not sent again."""
        for code, client_id in ((110, "a"), (122, "b")):
            self.assertEqual(self.error(code, client_id=client_id), Refused("no", client_id))
        self.assertEqual(self.reopen(), [])
        self.assertEqual((self.session.refused, self.session.unanswered), (2, 0))

    def test_of_nothing(self) -> None:
        """An error without a client id is told, and settles nothing."""
        self.assertEqual(self.error(130), Refused("no", None))
        self.assertEqual(self.session.unanswered, 2)

    def test_of_a_question(self) -> None:
        """An error with a request id is the answer to a question, and no refusal."""
        event = self.error(121, request_id="q")
        assert isinstance(event, Told)
        assert isinstance(event.answer, v1.Error)
        self.assertEqual((event.request_id, event.answer.reason), ("q", "no"))
        self.assertEqual(self.session.refused, 0)
