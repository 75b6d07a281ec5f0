"""The frames of `wschat.v1`: whatever comes, it is a frame or `Malformed`."""

from __future__ import annotations

import json

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.test_wire import ANY_TEXT, JSON, NOW, NOW_TEXT
from wschat import v1
from wschat.wire import Malformed, Message

LARGEST = 2**63 - 1

BODY = {"content": "hi"}

REQUEST_TYPES = ("resume", "message", "ack", "status", "history", "presence")
EVENT_TYPES = (
    *("resumed", "message", "caught_up", "stored", "delivered", "error"),
    *("history", "presence", "presence_changed", "key_rotated"),
)

#: The keys that a frame may have, and a few that none has.
KEYS = (
    *("session", "after", "header", "body", "id", "client_ids", "with", "before", "limit"),
    *("request_id", "watch", "users", "position", "complete", "status", "client_id", "code"),
    *("reason", "again", "messages", "more", "next", "online", "last_seen", "joined", "left", "x"),
    "user_id",
)
#: JSON with a frame's type, and anything at all in its fields.
FRAME_LIKE = st.builds(
    lambda kind, fields: {**fields, "type": kind},
    st.sampled_from(sorted({*REQUEST_TYPES, *EVENT_TYPES})) | JSON,
    st.dictionaries(st.sampled_from(KEYS), JSON, max_size=6),
)
CLIENT_IDS = st.from_regex(r"[A-Za-z0-9._:-]{1,64}", fullmatch=True)


class AnyTests(SynchronousTestCase):
    """Whatever comes is a frame or `Malformed`, and nothing else."""

    def outcome(self, payload: bytes) -> v1.Request | None:
        """The frame that it is, None when it is none; only `Malformed` is caught."""
        v1.names_of(payload)
        try:
            v1.decode_event(payload)
        except Malformed as error:
            self.assertNotEqual(error.text, "")
        try:
            request = v1.decode_request(payload)
            if isinstance(request, v1.Submission):
                v1.submitted(request, "alice", NOW)
        except Malformed as error:
            self.assertNotIn("\n", error.text)
            return None
        return request

    @settings(deadline=None, max_examples=300)
    @given(st.binary())
    def test_any_bytes(self, payload: bytes) -> None:
        """Bytes."""
        self.outcome(payload)

    @settings(deadline=None, max_examples=300)
    @given(JSON | FRAME_LIKE)
    def test_any_json(self, value: object) -> None:
        """JSON, a little or much like a frame."""
        self.outcome(json.dumps(value).encode())

    def test_words_of_a_peer(self) -> None:
        """What is said of a frame is one line, and not long, whatever was in it."""
        for word in ("\n", "\x1b[31m", "x" * 60_000):
            payload = json.dumps({"type": word}).encode()
            error = self.assertRaises(Malformed, v1.decode_request, payload)
            self.assertTrue(error.text.isprintable())
            self.assertLess(len(error.text), 300)

    @settings(deadline=None)
    @given(st.sampled_from(REQUEST_TYPES), st.integers() | st.integers(-(10**400), 10**400))
    def test_any_integer(self, kind: str, number: int) -> None:
        """An integer of any size, wherever one may be: what is read fits the store."""
        fields = ("after", "before", "id", "limit")
        for key in fields:
            frame = {"type": kind, "with": "bob", "client_ids": [], key: number}
            if kind == "message":
                frame |= {"header": {"to": "bob"}, "body": BODY}
            request = self.outcome(json.dumps(frame).encode())
            for field in fields:
                value = getattr(request, field, None)
                self.assertTrue(value is None or 0 <= value <= LARGEST)

    @settings(deadline=None)
    @given(ANY_TEXT)
    def test_any_name(self, name: str) -> None:
        """A name is good or `Malformed`, in each place."""
        for frame in (
            {"type": "resume", "session": name},
            {"type": "message", "header": {"to": "bob", "client_id": name}, "body": BODY},
            {"type": "status", "client_ids": [name]},
            {"type": "history", "with": name},
            {"type": "presence", "users": [name]},
        ):
            self.outcome(json.dumps(frame).encode())

    @settings(deadline=None)
    @given(CLIENT_IDS, CLIENT_IDS | st.none(), st.text())
    def test_there_and_back(self, client_id: str, follows: str | None, content: str) -> None:
        """A message that a client writes is read as it was, by the server and its recipient."""
        message = Message("alice", "bob", content, NOW_TEXT, client_id=client_id, follows=follows)
        request = v1.decode_request(v1.encode(v1.submission(message)))
        assert isinstance(request, v1.Submission)
        self.assertEqual(v1.submitted(request, "alice", NOW), message)
        event = v1.decode_event(v1.encode(v1.delivery(message)))
        assert isinstance(event, v1.Delivery)
        self.assertEqual(v1.delivered(event), msgspec.structs.replace(message, follows=None))

    @settings(deadline=None)
    @given(st.text(st.sampled_from("aZ0._:- /\u00e9\n"), max_size=70))
    def test_valid_client_id(self, text: str) -> None:
        """1 to 64 characters, each of which is allowed."""
        allowed = set("aZ0._:-")
        self.assertEqual(v1.valid_client_id(text), 0 < len(text) <= 64 and set(text) <= allowed)
