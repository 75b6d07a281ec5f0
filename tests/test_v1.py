"""The frames of `wschat.v1`, against the standard library's `json`."""

from __future__ import annotations

import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.support import TEXT, take_frame
from tests.test_wire import NOW, NOW_TEXT
from wschat import v1, wire
from wschat.codes import ErrorCode, Refused
from wschat.wire import Body, Malformed, Message, Status

LARGEST = 2**63 - 1


def read(frame: Any) -> v1.Request:
    """A request as the server reads it."""
    return v1.decode_request(json.dumps(frame).encode())


def written(frame: v1.Request | v1.Event) -> Any:
    """A frame as a peer reads it."""
    return json.loads(v1.encode(frame))


def malformed(case: SynchronousTestCase, frame: Any) -> str:
    """The server does not read this; what it says of it."""
    payload = frame if isinstance(frame, bytes) else json.dumps(frame).encode()
    error = case.assertRaises(Malformed, v1.decode_request, payload)
    case.assertEqual(error.code, ErrorCode.MALFORMED)
    return str(error)


class RequestTests(SynchronousTestCase):
    """What clients send."""

    def test_resume(self) -> None:
        """A client that names nothing has the default session, and has handled who knows what."""
        self.assertEqual(read({"type": "resume"}), v1.Resume("default", None))
        frame = {"type": "resume", "session": "phone", "after": 0}
        self.assertEqual(read(frame), v1.Resume("phone", 0))
        self.assertEqual(read(frame | {"after": LARGEST}), v1.Resume("phone", LARGEST))

    def test_message(self) -> None:
        """A message has the classic header and body, and its sender's own name for it."""
        header = {
            "to": "bob",
            "message_type": "direct",
            "timestamp": NOW_TEXT,
            "signature": "c2ln",
            "encrypted_key": "a2V5",
            "encryption_nonce": "bm8=",
            "client_id": "m-2",
            "follows": "m-1",
        }
        request = read({"type": "message", "header": header, "body": {"content": "hi"}})
        assert isinstance(request, v1.Submission)
        message = v1.submitted(request, "alice", NOW)
        expected = Message("alice", "bob", "hi", NOW_TEXT, "c2ln", "a2V5", "bm8=")
        expected.client_id, expected.follows = "m-2", "m-1"
        self.assertEqual(message, expected)

    def test_message_without_names(self) -> None:
        """The names are optional; an empty one is none, as everywhere in a header."""
        for names in ({}, {"client_id": "", "follows": ""}, {"client_id": None, "follows": None}):
            request = read({"type": "message", "header": {"to": "bob"} | names, "body": BODY})
            assert isinstance(request, v1.Submission)
            message = v1.submitted(request, "alice", NOW)
            self.assertEqual((message.client_id, message.follows), (None, None))
            self.assertEqual(message.timestamp, NOW_TEXT)

    def test_message_means_what_a_classic_one_means(self) -> None:
        """What is wrong with a classic message is wrong with this."""
        for header in ({"to": "no such id!"}, {"to": "bob", "timestamp": "noon"}, {}):
            request = read({"type": "message", "header": header, "body": BODY})
            assert isinstance(request, v1.Submission)
            self.assertRaises(Malformed, v1.submitted, request, "alice", NOW)

    def test_ack(self) -> None:
        """An id, as large as the store can hold."""
        self.assertEqual(read({"type": "ack", "id": 5}), v1.Ack(5))
        self.assertEqual(read({"type": "ack", "id": LARGEST}), v1.Ack(LARGEST))

    def test_status(self) -> None:
        """Up to 100 client ids."""
        names = [str(number) for number in range(101)]
        frame = {"type": "status", "client_ids": names[:100]}
        self.assertEqual(read(frame), v1.AskStatus(names[:100]))
        self.assertIn("100", malformed(self, frame | {"client_ids": names}))

    def test_history(self) -> None:
        """Without anything, the newest 50."""
        self.assertEqual(
            read({"type": "history", "with": "bob"}), v1.AskHistory("bob", None, None, 50, None)
        )
        frame = {"type": "history", "with": "broadcast", "before": 9, "limit": 300}
        self.assertEqual(
            read(frame | {"request_id": 7}), v1.AskHistory("broadcast", 9, None, 300, 7)
        )
        self.assertEqual(
            read({"type": "history", "with": "bob", "after": 0, "limit": 1, "request_id": "r"}),
            v1.AskHistory("bob", None, 0, 1, "r"),
        )

    def test_presence(self) -> None:
        """Who asks watches, all of them, unless they say otherwise."""
        self.assertEqual(read({"type": "presence"}), v1.AskPresence(True, None, None))
        frame = {"type": "presence", "watch": False, "users": ["bob"], "request_id": "r"}
        self.assertEqual(read(frame), v1.AskPresence(False, ["bob"], "r"))
        users = [str(number) for number in range(101)]
        self.assertEqual(read({"type": "presence", "users": []}), v1.AskPresence(True, []))
        self.assertIn("100", malformed(self, {"type": "presence", "users": users}))

    def test_unknown_keys(self) -> None:
        """Keys that the server does not know are not looked at, wherever they are."""
        frame = {"type": "ack", "id": 5, "x": {"deep": [1]}, "ID": 6}
        self.assertEqual(read(frame), v1.Ack(5))
        request = read(
            {
                "type": "message",
                "header": {"to": "bob", "x": 1},
                "body": {"content": "hi", "x": 2},
                "id": 99,
                "status": "verified",
            }
        )
        assert isinstance(request, v1.Submission)
        self.assertEqual(request.body, Body("hi"))


BODY = {"content": "hi"}


class MalformedTests(SynchronousTestCase):
    """What is not a frame of a client's."""

    def test_no_frame(self) -> None:
        """No JSON, no object, no type, an unknown type, or one that only a server sends."""
        payloads = (b"", b"hi", b"\xff", b"{", b"[]", b"null", b"17", b"{}", b"[" * 30000)
        for payload in payloads:
            self.assertNotEqual(malformed(self, payload), "")
        for kind in ("resumed", "stored", "Ack", "", 5, None):
            self.assertNotEqual(malformed(self, {"type": kind, "id": 5}), "")

    def test_what_is_missing(self) -> None:
        """A field that a frame cannot be without."""
        for frame in (
            {"type": "ack"},
            {"type": "status"},
            {"type": "history"},
            {"type": "message"},
            {"type": "message", "header": {"to": "bob"}},
            {"type": "message", "header": {"to": "bob"}, "body": {}},
        ):
            self.assertIn("missing", malformed(self, frame))

    def test_integers(self) -> None:
        """An id that no store can hold, is negative, or is no integer."""
        for number in (-1, LARGEST + 1, 2**64, 10**400, 1.5, "5", True, None):
            self.assertNotEqual(malformed(self, {"type": "ack", "id": number}), "")
        for number in (-1, LARGEST + 1, 10**400, "5", 0.5):
            for key in ("before", "after"):
                malformed(self, {"type": "history", "with": "bob", key: number})
            malformed(self, {"type": "resume", "after": number})

    def test_limit(self) -> None:
        """A page has 1 to 300 messages."""
        for limit in (0, -1, 301, 10**400, None, "5"):
            malformed(self, {"type": "history", "with": "bob", "limit": limit})

    def test_both_directions(self) -> None:
        """A page cannot be before an id and after another."""
        frame = {"type": "history", "with": "bob", "before": 9, "after": 1}
        self.assertIn("before", malformed(self, frame))

    def test_with(self) -> None:
        """A conversation is with a user, or the broadcasts."""
        for peer in ("", "server", "a b", "x" * 65, None, 5):
            malformed(self, {"type": "history", "with": peer})

    def test_names(self) -> None:
        """Client ids and session names have 1 to 64 characters of a few."""
        for name in ("x" * 65, "a b", "\u00e9", "a\n", "a/b"):
            malformed(self, {"type": "resume", "session": name})
            for key in ("client_id", "follows"):
                header = {"to": "bob", key: name}
                text = malformed(self, {"type": "message", "header": header, "body": BODY})
                self.assertIn("client_id", text)
        malformed(self, {"type": "resume", "session": ""})

    def test_names_of(self) -> None:
        """A bad frame is still known by its names, as far as they are good."""
        frame = {"type": "message", "header": {"to": 5, "client_id": "m-1"}, "body": None}
        self.assertEqual(v1.names_of(json.dumps(frame).encode()), ("m-1", None))
        for header in ({}, {"client_id": "a b"}, {"client_id": ""}, None):
            payload = json.dumps(frame | {"header": header, "request_id": 7}).encode()
            self.assertEqual(v1.names_of(payload), (None, 7))
        asked = {"type": "history", "with": [], "request_id": "h1"}
        self.assertEqual(v1.names_of(json.dumps(asked).encode()), (None, "h1"))
        for wrong in (b"", b"\xff", b"[]", b"[" * 30000, b'{"header": {"client_id": 5}}'):
            self.assertEqual(v1.names_of(wrong), (None, None))


class EventTests(SynchronousTestCase):
    """What the server sends: every frame as it is written, and read back."""

    def both_ways(self, event: v1.Event, expected: dict[str, Any]) -> None:
        self.assertEqual(written(event), expected)
        self.assertEqual(v1.decode_event(json.dumps(expected | {"unknown": 1}).encode()), event)

    def test_resumed(self) -> None:
        """Where a session goes on, whether all of it is there, and how much its user may send."""
        expected = {
            "type": "resumed",
            "session": "phone",
            "position": 5,
            "complete": True,
            "rate": 10.0,
            "burst": 20.0,
        }
        self.both_ways(v1.Resumed("phone", 5, True, 10.0, 20.0), expected)

    def test_small_ones(self) -> None:
        """The frames of one or two fields."""
        self.both_ways(v1.CaughtUp(5), {"type": "caught_up", "id": 5})
        self.both_ways(v1.Stored("m-1", 5), {"type": "stored", "client_id": "m-1", "id": 5})
        self.both_ways(v1.Delivered("m-1", 5), {"type": "delivered", "client_id": "m-1", "id": 5})

    def test_delivery(self) -> None:
        """A message has its sender's name for it, but not what it follows."""
        message = Message("alice", "bob", "hi", NOW_TEXT, "c2ln", "a2V5", "bm8=", id=17)
        message.client_id, message.follows = "m-2", "m-1"
        expected = {
            "type": "message",
            "id": 17,
            "header": {
                "from": "alice",
                "to": "bob",
                "message_type": "direct",
                "timestamp": NOW_TEXT,
                "signature": "c2ln",
                "encrypted_key": "a2V5",
                "encryption_nonce": "bm8=",
                "client_id": "m-2",
            },
            "body": {"content": "hi"},
            "status": "delivered",
        }
        frame = v1.delivery(message)
        self.both_ways(frame, expected)
        message.follows = None
        self.assertEqual(v1.delivered(frame), message)

    def test_classic_message(self) -> None:
        """A message of a classic sender has no client id, and none is invented."""
        message = Message("alice", "broadcast", "hi", NOW_TEXT, id=17)
        header = written(v1.delivery(message))["header"]
        self.assertEqual(
            header,
            {
                "from": "alice",
                "to": "broadcast",
                "message_type": "broadcast",
                "is_broadcast": True,
                "timestamp": NOW_TEXT,
            },
        )
        self.assertEqual(v1.delivered(v1.delivery(message)), message)

    def test_status_of_an_answer(self) -> None:
        """The answer to a command that failed says so."""
        answer = Message("server", "alice", "no", NOW_TEXT, status=Status.ERROR)
        self.assertEqual(written(v1.delivery(answer))["status"], "error")
        self.assertEqual(v1.delivered(v1.delivery(answer)).status, Status.ERROR)

    def test_error(self) -> None:
        """The code, a line, and whether and when to try again; what it is about, if it is known."""
        self.both_ways(
            v1.error(Refused(ErrorCode.BUSY, "One at a time."), client_id="m-1"),
            {
                "type": "error",
                "code": 121,
                "reason": "One at a time.",
                "again": True,
                "retry_after_ms": 1000,
                "client_id": "m-1",
            },
        )
        self.both_ways(
            v1.error(Refused(ErrorCode.RATE_LIMITED, wait=125), request_id=7),
            {
                "type": "error",
                "code": 120,
                "reason": "Rate limit exceeded. Please slow down.",
                "again": True,
                "retry_after_ms": 125,
                "request_id": 7,
            },
        )

    def test_error_for_good(self) -> None:
        """What never succeeds has no time to wait."""
        error = written(v1.error(Refused(ErrorCode.MALFORMED, "No.", wait=5)))
        self.assertEqual(error, {"type": "error", "code": 100, "reason": "No.", "again": False})

    def test_unknown(self) -> None:
        """A message that is not stored is named."""
        found = written(v1.unknown("m-1"))
        self.assertEqual((found["code"], found["client_id"], found["again"]), (111, "m-1", True))

    def test_history(self) -> None:
        """A page of messages, with what was asked for."""
        asked = v1.AskHistory("bob", request_id="r")
        messages = [Message("bob", "alice", "hi", NOW_TEXT, id=3, client_id="b-1")]
        self.both_ways(
            v1.history(asked, "alice", messages, True, 3),
            {
                "type": "history",
                "with": "bob",
                "messages": [
                    {
                        "type": "message",
                        "id": 3,
                        "header": {
                            "from": "bob",
                            "to": "alice",
                            "message_type": "direct",
                            "timestamp": NOW_TEXT,
                            "client_id": "b-1",
                        },
                        "body": {"content": "hi"},
                        "status": "delivered",
                    }
                ],
                "more": True,
                "next": 3,
                "request_id": "r",
            },
        )

    def test_presence(self) -> None:
        """Who is there, who came and who went."""
        seen = v1.times({"bob": NOW})
        self.both_ways(
            v1.Presence(["alice"], seen, "r"),
            {
                "type": "presence",
                "online": ["alice"],
                "last_seen": {"bob": NOW_TEXT},
                "request_id": "r",
            },
        )
        self.both_ways(
            v1.PresenceChanged(["alice"], seen),
            {"type": "presence_changed", "joined": ["alice"], "left": {"bob": NOW_TEXT}},
        )

    def test_key_rotated(self) -> None:
        """Who has new keys."""
        self.both_ways(v1.KeyRotated("bob"), {"type": "key_rotated", "user_id": "bob"})

    def test_draining(self) -> None:
        """The server is about to end."""
        self.both_ways(v1.Draining(1500), {"type": "draining", "retry_after_ms": 1500})

    def test_dialect(self) -> None:
        """A client is sent whole WebSocket text frames."""
        message = Message("alice", "bob", "hi", NOW_TEXT, id=17, client_id="m-1")
        refused = Refused(ErrorCode.BUSY)
        for framed, event in (
            (v1.DIALECT.delivery(message), v1.delivery(message)),
            (
                v1.DIALECT.refusal("bob", refused, NOW, client_id="m-1"),
                v1.error(refused, client_id="m-1"),
            ),
            (v1.frame(v1.CaughtUp(5)), v1.CaughtUp(5)),
        ):
            self.assertEqual(take_frame(framed), (TEXT, v1.encode(event), b""))


class ClassicTests(SynchronousTestCase):
    """The classic frames do not know of any of this."""

    def test_not_read(self) -> None:
        """A classic client's `client_id` is a key that is not known."""
        header = {"to": "bob", "client_id": "m-1", "follows": "m-0"}
        payload = json.dumps({"type": "message", "header": header, "body": BODY}).encode()
        message = wire.decode_submission(payload, "alice", NOW)
        self.assertEqual((message.client_id, message.follows), (None, None))

    def test_not_written(self) -> None:
        """A message that has a client id is sent to classic clients without it."""
        message = Message("alice", "bob", "hi", NOW_TEXT, id=3, client_id="m-1", follows="m-0")
        for payload in (wire.encode_delivery(message), wire.encode_submission(message)):
            self.assertNotIn(b"m-", payload)
            self.assertNotIn(b'type":"message', payload)
