"""Messages and frames, against WIRE's words and the standard library's `json`."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.support import TEXT, take_frame
from wschat import wire
from wschat.codes import ErrorCode, Refused
from wschat.wire import Kind, Message, Status

NOW = 1_000_000_000.5
NOW_TEXT = "2001-09-09T01:46:40.500000Z"  # the billennium, and half a second

DEEP = "[" * 30000 + "]" * 30000

#: What can be a user's id; names of dots alone and those that look reserved cannot.
USER_IDS = st.from_regex(r"[A-Za-z0-9._-]{1,64}", fullmatch=True).filter(
    lambda name: name.strip(".") and name.lower() not in {"broadcast", "server", "system"}
)
#: Anything that is in a Python string, halves of surrogate pairs too.
ANY_TEXT = st.text(st.characters(exclude_categories=()))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)
HEADER_KEYS = ("from", "to", "message_type", "is_broadcast", "timestamp", "signature")
#: JSON that has a frame's outline, and anything at all in its fields.
FRAME_LIKE = st.fixed_dictionaries(
    {
        "header": st.dictionaries(st.sampled_from((*HEADER_KEYS, "encrypted_key")), JSON) | JSON,
        "body": st.fixed_dictionaries({"content": st.text() | JSON}) | JSON,
    },
    optional={"id": JSON, "status": JSON, "success": JSON, "command": JSON, "request_id": JSON},
)


def unframed(framed: bytes) -> bytes:
    """The payload of what is exactly one text frame."""
    frame = take_frame(framed)
    assert frame is not None and (frame[0], frame[2]) == (TEXT, b"")
    return frame[1]


def read_submission(data: bytes) -> Message:
    """What the server reads when alice sends this."""
    return wire.decode_submission(data, "alice", NOW)


Input = TypeVar("Input", bytes, str)

DECODERS: dict[str, Callable[[bytes], object]] = {
    "submission": read_submission,
    "delivery": wire.decode_delivery,
    "command": lambda data: wire.decode_command(data.decode("utf-8", "surrogatepass")),
    "answer": lambda data: wire.decode_answer(data.decode("utf-8", "surrogatepass")),
}


def frame(header: object, content: object = "hello", **more: object) -> bytes:
    """A frame as a client might write it."""
    return json.dumps({**more, "header": header, "body": {"content": content}}).encode()


def submit(header: object, content: object = "hello", **more: object) -> Message:
    """What the server reads when alice sends such a frame."""
    return read_submission(frame(header, content, **more))


def outcome(decoder: Callable[[Input], object], data: Input) -> str:
    """'read', or 'malformed'; nothing else may come of a decoder."""
    try:
        decoder(data)
    except wire.Malformed as error:
        return "malformed" if str(error) and "\n" not in str(error) else f"unfit: {error}"
    return "read"


class NameTests(SynchronousTestCase):
    """User ids."""

    def test_good(self) -> None:
        """1 to 64 ASCII letters, digits, dots, underscores and hyphens."""
        good = ["a", "alice", "Alice_B-2.x", "0", "a" * 64, "broadcasts"]
        self.assertEqual([name for name in good if not wire.valid_user_id(name)], [])

    def test_bad(self) -> None:
        """No other length, no other character, no line end, nor a name that means something."""
        bad = ["", "a" * 65, "a b", "a/b", "ali\u0301ce", "\u0661", "a\n", "a:b"]
        bad += ["broadcast", "server", "system"]
        self.assertEqual([name for name in bad if wire.valid_user_id(name)], [])


class TimeTests(SynchronousTestCase):
    """RFC 3339, in and out."""

    def test_good(self) -> None:
        """Up to nine fractional digits and any offset."""
        good = [
            "2026-11-22T10:00:00.5Z",
            "2026-11-22T10:00:00Z",
            "2026-11-22T10:00:00.123456789Z",
            "2026-11-22T10:00:00+05:30",
            "2026-11-22T10:00:00.1-23:59",
            "2024-02-29T23:59:59Z",
            "0001-01-01T00:00:00Z",
            "9999-12-31T23:59:59.999999999+00:00",
        ]
        self.assertEqual([text for text in good if not wire.valid_timestamp(text)], [])

    def test_bad(self) -> None:
        """A field out of its range or its place, another separator, another script."""
        bad = [
            "",
            "now",
            "2026-11-22",
            "2026-11-22T10:00:00",
            "2026-11-22 10:00:00Z",
            "2026-11-22t10:00:00z",
            "2026-11-22T10:00:00.Z",
            "2026-11-22T10:00:00,5Z",
            "2026-11-22T10:00:00.1234567890Z",
            "2026-11-22T10:00:00Z\n",
            " 2026-11-22T10:00:00Z",
            "2026-11-22T10:00:00+0530",
            "2026-11-22T10:00:00+24:00",
            "2026-11-22T10:00:00+00:60",
            "2026-11-22T24:00:00Z",
            "2026-11-22T10:60:00Z",
            "2026-11-22T10:00:61Z",
            "2026-13-01T10:00:00Z",
            "2026-02-29T10:00:00Z",
            "2026-00-10T10:00:00Z",
            "0000-01-01T00:00:00Z",
            "\u0662\u0660\u0662\u0666-11-22T10:00:00Z",
        ]
        self.assertEqual([text for text in bad if wire.valid_timestamp(text)], [])

    def test_format(self) -> None:
        """Seconds since the epoch are written in UTC, always with six digits."""
        texts = {
            0: "1970-01-01T00:00:00.000000Z",
            NOW: NOW_TEXT,
            951_782_400: "2000-02-29T00:00:00.000000Z",
        }
        self.assertEqual({seconds: wire.format_time(seconds) for seconds in texts}, texts)

    @settings(deadline=None)
    @given(st.floats(0, 2**35))
    def test_own_is_good(self, seconds: float) -> None:
        """What is written is what is accepted."""
        self.assertTrue(wire.valid_timestamp(wire.format_time(seconds)))


class SubmissionTests(SynchronousTestCase):
    """From a client to the server."""

    def test_all_fields(self) -> None:
        """Every field of a direct message is kept as it came."""
        message = submit(
            {
                "from": "alice",
                "to": "bob",
                "message_type": "direct",
                "timestamp": "2026-11-22T10:00:00.5+01:00",
                "signature": "c2ln",
                "encrypted_key": "a2V5",
                "encryption_nonce": "bm9uY2U=",
            },
            "Zm9v",
        )
        self.assertEqual(
            message,
            Message(
                sender="alice",
                topic="bob",
                content="Zm9v",
                timestamp="2026-11-22T10:00:00.5+01:00",
                signature="c2ln",
                encrypted_key="a2V5",
                encryption_nonce="bm9uY2U=",
                status=Status.DELIVERED,
                id=0,
            ),
        )
        self.assertTrue(message.encrypted)

    def test_least(self) -> None:
        """What is absent is absent, but for the time: that is the server's."""
        self.assertEqual(submit({"to": "bob"}), Message("alice", "bob", "hello", NOW_TEXT))

    def test_empty_is_absent(self) -> None:
        """Clients that write empty strings mean nothing by them."""
        keys = ("timestamp", "signature", "encrypted_key", "encryption_nonce", "message_type")
        message = submit({"to": "bob", **dict.fromkeys(keys, "")})
        self.assertEqual(message, Message("alice", "bob", "hello", NOW_TEXT))
        self.assertFalse(message.encrypted)

    def test_null_is_absent(self) -> None:
        """So do those that write null."""
        header = dict.fromkeys((*HEADER_KEYS, "encrypted_key", "encryption_nonce"))
        self.assertEqual(
            submit({**header, "to": "bob"}), Message("alice", "bob", "hello", NOW_TEXT)
        )

    def test_spoofed(self) -> None:
        """Nobody speaks as another, and nobody sets what is the server's to set."""
        message = submit({"from": "bot", "to": "bob"}, id=99, status="verified")
        self.assertEqual(
            (message.sender, message.id, message.status), ("alice", 0, Status.DELIVERED)
        )

    def test_unknown_keys(self) -> None:
        """A newer client's keys are no error."""
        data = json.dumps(
            {
                "header": {"to": "bob", "colour": [1, {"a": None}]},
                "body": {"content": "hello", "html": "<b>"},
                "extra": {"deep": [[[1.5]]]},
            }
        ).encode()
        self.assertEqual(read_submission(data).topic, "bob")

    def test_topic(self) -> None:
        """The recipient decides; without one, the kind does, in either spelling."""
        topics = {
            ("bob", None, None): "bob",
            ("bob", "direct", None): "bob",
            ("bob", "direct", False): "bob",
            ("broadcast", None, None): "broadcast",
            ("broadcast", "broadcast", True): "broadcast",
            ("", "broadcast", None): "broadcast",
            (None, "broadcast", None): "broadcast",
            (None, None, True): "broadcast",
            ("server", None, None): "server",
            ("server", "server", None): "server",
            (None, "server", None): "server",
        }
        keys = ("to", "message_type", "is_broadcast")
        found = {values: submit(dict(zip(keys, values, strict=True))).topic for values in topics}
        self.assertEqual(found, topics)

    def test_bad_header(self) -> None:
        """A recipient that is none, a contradiction, or a kind nobody knows."""
        headers: list[dict[str, object]] = [
            {},
            {"to": ""},
            {"to": "system"},
            {"to": "bob smith"},
            {"to": "b" * 65},
            {"to": 5},
            {"to": ["bob"]},
            {"message_type": "direct"},
            {"to": "bob", "message_type": "broadcast"},
            {"to": "bob", "message_type": "server"},
            {"to": "bob", "is_broadcast": True},
            {"to": "bob", "is_broadcast": True, "message_type": "direct"},
            {"to": "bob", "is_broadcast": "yes"},
            {"to": "bob", "message_type": "multicast"},
            {"to": "bob", "timestamp": "yesterday"},
            {"to": "bob", "timestamp": 1700000000},
            {"to": "bob", "signature": 5},
            {"to": "broadcast", "encrypted_key": "a2V5"},
            {"to": "server", "encrypted_key": "a2V5"},
            {"to": "bob", "signature": "A" * (wire.MAX_SIGNATURE + 1)},
            {"to": "bob", "encrypted_key": "A" * (wire.MAX_WRAPPED_KEY + 1)},
            {"to": "bob", "encryption_nonce": "A" * (wire.MAX_NONCE + 1)},
        ]
        for header in headers:
            error = self.assertRaises(wire.Malformed, submit, header)
            self.assertNotIn("\n", str(error), str(header))

    def test_longest(self) -> None:
        """A signature, wrapped key and nonce of the greatest length are still taken."""
        longest = {
            "signature": "A" * wire.MAX_SIGNATURE,
            "encrypted_key": "A" * wire.MAX_WRAPPED_KEY,
            "encryption_nonce": "A" * wire.MAX_NONCE,
        }
        message = submit({"to": "bob", **longest})
        self.assertEqual({name: getattr(message, name) for name in longest}, longest)

    def test_bad_shape(self) -> None:
        """JSON of another shape, and what is no JSON at all."""
        frames = [
            b"",
            b"{",
            b"[]",
            b"null",
            b"17",
            b'"hello"',
            b"{}",
            b'{"header": {"to": "bob"}}',
            b'{"header": {"to": "bob"}, "body": {}}',
            b'{"header": {"to": "bob"}, "body": {"content": null}}',
            b'{"header": {"to": "bob"}, "body": {"content": 1}}',
            b'{"header": {"to": "bob"}, "body": "hello"}',
            b'{"header": [], "body": {"content": "hello"}}',
            b'{"body": {"content": "hello"}}',
            frame({"to": "bob"}) + b"x",
            b"\xef\xbb\xbf" + frame({"to": "bob"}),
            frame({"to": "bob"}).decode().encode("utf-16"),
            b'{"header": {"to": "bob"}, "body": {"content": "\xff"}}',
            b'{"header": {"to": "bob"}, "body": {"content": "\xed\xa0\x80"}}',
            b'{"header": {"to": "bob"}, "body": {"content": "\\ud800"}}',
            b'{"header": {"to": "bob"}, "body": {"content": "\\udc00"}}',
            b'{"header": {"to": "bob"}, "body": {"content": NaN}}',
            b'{"header": {"to": "bob", "x": Infinity}, "body": {"content": "hello"}}',
        ]
        read = [data for data in frames if outcome(read_submission, data) != "malformed"]
        self.assertEqual(read, [])

    @settings(deadline=None)
    @given(st.text(), USER_IDS | st.sampled_from(["broadcast", "server"]), USER_IDS)
    def test_round_trip(self, content: str, topic: str, sender: str) -> None:
        """What our client writes is what our server reads."""
        message = Message(sender, topic, content, "2026-11-22T10:00:00Z", "c2ln")
        self.assertEqual(
            wire.decode_submission(wire.encode_submission(message), sender, NOW), message
        )

    def test_encoded(self) -> None:
        """Our client writes the classic frame, without what is the server's to set."""
        message = Message("alice", "bob", "hi", NOW_TEXT, "c2ln", "a2V5", "bm9u", id=5)
        self.assertEqual(
            json.loads(wire.encode_submission(message)),
            {
                "header": {
                    "from": "alice",
                    "to": "bob",
                    "message_type": "direct",
                    "timestamp": NOW_TEXT,
                    "signature": "c2ln",
                    "encrypted_key": "a2V5",
                    "encryption_nonce": "bm9u",
                },
                "body": {"content": "hi"},
            },
        )


class DeliveryTests(SynchronousTestCase):
    """From the server to a client."""

    def test_direct(self) -> None:
        """The classic frame: `id` is an integer, and absent fields are not there."""
        message = Message(
            "alice", "bob", "hi \u2028 <\u00e9>", NOW_TEXT, status=Status.PENDING, id=17
        )
        payload = wire.encode_delivery(message)
        self.assertEqual(
            json.loads(payload),
            {
                "id": 17,
                "header": {
                    "from": "alice",
                    "to": "bob",
                    "message_type": "direct",
                    "timestamp": NOW_TEXT,
                },
                "body": {"content": "hi \u2028 <\u00e9>"},
                "status": "pending",
            },
        )
        self.assertIn(b'"id":17,', payload)

    def test_broadcast(self) -> None:
        """A broadcast says so in both spellings."""
        payload = wire.encode_delivery(Message("alice", "broadcast", "hi", NOW_TEXT))
        header = json.loads(payload)["header"]
        self.assertEqual(
            (header["to"], header["message_type"], header["is_broadcast"]),
            ("broadcast", "broadcast", True),
        )

    def test_unstored(self) -> None:
        """What has no number has the number 0, for clients that want an integer."""
        framed = wire.CLASSIC.refusal("bob", Refused(ErrorCode.INTERNAL, "no"), NOW)
        self.assertEqual(
            json.loads(unframed(framed)),
            {
                "id": 0,
                "header": {
                    "from": "system",
                    "to": "bob",
                    "message_type": "direct",
                    "timestamp": NOW_TEXT,
                },
                "body": {"content": "no"},
                "status": "error",
            },
        )

    def test_rate_limited(self) -> None:
        """Classic clients know this text by heart; a client id is none of their business."""
        refused = Refused(ErrorCode.RATE_LIMITED, wait=100)
        framed = wire.CLASSIC.refusal("bob", refused, NOW, client_id="m-1")
        told = json.loads(unframed(framed))
        self.assertEqual(told["body"], {"content": "Rate limit exceeded. Please slow down."})
        self.assertNotIn(b"m-1", framed)

    def test_dialect(self) -> None:
        """A classic client is sent a message as one WebSocket text frame."""
        message = Message("alice", "bob", "hi", NOW_TEXT, client_id="m-1", follows="m-0")
        framed = wire.CLASSIC.delivery(message)
        self.assertEqual(unframed(framed), wire.encode_delivery(message))
        self.assertNotIn(b"m-", framed)

    def test_classic(self) -> None:
        """A classic server's frame is read, with what it leaves out."""
        delivery = wire.decode_delivery(frame({"from": "bob", "to": "alice"}, "x", id=3))
        self.assertEqual(delivery, Message("bob", "alice", "x", "", id=3))

    def test_nothing_known(self) -> None:
        """A client shows what it can of a frame that says next to nothing."""
        self.assertEqual(wire.decode_delivery(frame({}, "x")), Message("", "", "x", ""))

    def test_broadcast_spellings(self) -> None:
        """Each of the three spellings of a broadcast is one, with or without the others."""
        headers: list[dict[str, object]] = [
            {"to": "broadcast"},
            {"message_type": "broadcast"},
            {"is_broadcast": True},
            {"to": "", "message_type": "broadcast", "is_broadcast": True},
        ]
        kinds = [wire.decode_delivery(frame(header)).kind for header in headers]
        self.assertEqual(kinds, [Kind.BROADCAST] * 4)

    def test_status(self) -> None:
        """Known ones are kept; none, or one that we do not know, counts as delivered."""
        found = {
            status: wire.decode_delivery(frame({}, status=status)).status.value
            for status in ("pending", "delivered", "verified", "error", "", None, "teleported")
        }
        known = {name: name for name in ("pending", "delivered", "verified", "error")}
        rest = dict.fromkeys(("", None, "teleported"), "delivered")
        self.assertEqual(found, {**known, **rest})

    def test_bad(self) -> None:
        """An `id` is a JSON integer, and the rest has its shape."""
        frames = [
            frame({}, id="17"),
            frame({}, id=None),
            frame({}, id=True),
            frame({}, id=1.5),
            frame({}, status=1),
            frame({"from": 1}),
            frame({}, content=None),
            b'{"header": {}, "body": {"content": ""}, "id": 1e400}',
            b"not JSON",
        ]
        reads = [data for data in frames if outcome(wire.decode_delivery, data) == "read"]
        self.assertEqual(reads, [])

    @settings(deadline=None)
    @given(
        st.builds(
            Message,
            sender=USER_IDS,
            topic=USER_IDS | st.just("broadcast"),
            content=st.text(),
            timestamp=st.text(),
            signature=st.none() | st.text(min_size=1),
            encrypted_key=st.none() | st.text(min_size=1),
            encryption_nonce=st.none() | st.text(min_size=1),
            status=st.sampled_from(Status),
            id=st.integers(0, 2**63 - 1),
        )
    )
    def test_round_trip(self, message: Message) -> None:
        """What our server writes is what our client reads."""
        self.assertEqual(wire.decode_delivery(wire.encode_delivery(message)), message)


class KindTests(SynchronousTestCase):
    """Where a message goes says what kind it is."""

    def test_kind(self) -> None:
        """Two names are special, and all others are inboxes."""
        kinds = {"broadcast": "broadcast", "server": "server", "bob": "direct"}
        found = {topic: str(Message("alice", topic, "", "").kind) for topic in kinds}
        self.assertEqual(found, kinds)


class CommandTests(SynchronousTestCase):
    """Commands and answers, which are JSON inside a message's content."""

    def test_all_fields(self) -> None:
        """Parameters are kept as the text they were."""
        command = wire.decode_command(
            '{"command": "echo", "params": {"a": 1.0}, "request_id": "r1", "more": 0}'
        )
        self.assertEqual(
            (command.command, bytes(command.params), command.request_id),
            ("echo", b'{"a": 1.0}', "r1"),
        )

    def test_least(self) -> None:
        """Parameters and request id may be absent."""
        command = wire.decode_command('{"command": "ping"}')
        self.assertEqual((bytes(command.params), command.request_id), (b"null", None))

    def test_request_id(self) -> None:
        """A text or a whole number, of any size."""
        ids: list[str | int] = ["", "r", 0, -1, 2**53 + 1, 10**30]
        texts = [json.dumps({"command": "ping", "request_id": value}) for value in ids]
        self.assertEqual([wire.decode_command(text).request_id for text in texts], ids)

    def test_bad(self) -> None:
        """Everything else."""
        texts = [
            "",
            "ping",
            "{}",
            "[]",
            '{"command": null}',
            '{"command": 1}',
            '{"command": "ping", "request_id": 1.5}',
            '{"command": "ping", "request_id": []}',
            '{"command": "echo", "params": NaN}',
            '{"command": "echo", "params": "\\ud800"}',
            '{"command": "echo", "params": }',
            '{"command": "echo", "params": "\ud800"}',
        ]
        reads = [text for text in texts if outcome(wire.decode_command, text) == "read"]
        self.assertEqual(reads, [])

    def test_encoded(self) -> None:
        """What our client asks, and signs."""
        self.assertEqual(
            json.loads(wire.encode_command("echo", "r1", {"a": ["\u00e9"]})),
            {"command": "echo", "params": {"a": ["\u00e9"]}, "request_id": "r1"},
        )

    @settings(deadline=None)
    @given(st.text(), st.text(), st.none() | st.text() | st.lists(st.integers(-(2**63), 2**63)))
    def test_round_trip(self, name: str, request_id: str, params: object) -> None:
        """What our client asks is what our server reads."""
        command = wire.decode_command(wire.encode_command(name, request_id, params))
        self.assertEqual((command.command, command.request_id), (name, request_id))
        self.assertEqual(json.loads(bytes(command.params)), params)

    def test_answers_encoded(self) -> None:
        """A success has a result, be it null, and a failure an error; never both."""
        answers: list[tuple[wire.CommandAnswer, dict[str, Any]]] = [
            (wire.CommandAnswer(True), {"success": True, "result": None}),
            (
                wire.CommandAnswer(True, 0, {"a": "\u00e9"}, "unused"),
                {"success": True, "request_id": 0, "result": {"a": "\u00e9"}},
            ),
            (
                wire.CommandAnswer(False, "", {"un": "used"}, "no"),
                {"success": False, "request_id": "", "error": "no"},
            ),
            (
                wire.CommandAnswer(True, 10**30, msgspec.Raw(b"[1.0]")),
                {"success": True, "request_id": 10**30, "result": [1.0]},
            ),
        ]
        found = [json.loads(wire.encode_answer(answer)) for answer, _ in answers]
        self.assertEqual(found, [expected for _, expected in answers])

    def test_answers_decoded(self) -> None:
        """A client reads an answer with any result, and a failure's reason."""
        for result in (None, "pong", 1.5, [1], {"n": [1]}):
            text = json.dumps({"success": True, "request_id": "r", "result": result})
            self.assertEqual(wire.decode_answer(text), wire.CommandAnswer(True, "r", result))
        bad = wire.decode_answer('{"success": false, "error": "no"}')
        self.assertEqual(bad, wire.CommandAnswer(False, None, None, "no"))

    def test_bad_answers(self) -> None:
        """An answer must say whether it is a success."""
        for text in ("", "{}", '{"success": 1}', '{"success": "true"}'):
            self.assertRaises(wire.Malformed, wire.decode_answer, text)


class HostileTests(SynchronousTestCase):
    """Peers write what they like; a decoder reads it or raises `Malformed`."""

    def _outcomes(self, data: bytes) -> set[str]:
        return {outcome(decoder, data) for decoder in DECODERS.values()}

    def test_deep(self) -> None:
        """30000 levels cost neither the stack nor the server, wherever they are."""
        for data in (DEEP, DEEP[:30000], '{"a":' * 30000, f'{{"header": {DEEP}}}'):
            self.assertEqual(self._outcomes(data.encode()), {"malformed"})

    def test_deep_in_unknown(self) -> None:
        """Nor in a key that is skipped."""
        text = frame({"to": "bob"}, command="echo", success=True).decode()
        data = f'{{"unknown": {DEEP}, {text[1:]}'.encode()
        self.assertEqual(self._outcomes(data), {"malformed"})

    def test_huge_numbers(self) -> None:
        """Numbers beyond what Python will convert."""
        for number in ("9" * 5000, "-" + "9" * 5000, "1e999999", "0." + "1" * 5000):
            data = f'{{"header":{{"to":{number}}},"command":{number},"success":{number}}}'
            self.assertEqual(self._outcomes(data.encode()), {"malformed"}, number[:9])
            delivery = frame({})[:-1] + f', "id": {number}}}'.encode()
            self.assertEqual(outcome(wire.decode_delivery, delivery), "malformed", number[:9])

    @settings(deadline=None)
    @given(st.binary())
    def test_any_bytes(self, data: bytes) -> None:
        """Arbitrary bytes."""
        for decoder in (DECODERS["submission"], DECODERS["delivery"]):
            self.assertEqual(outcome(decoder, data), "malformed")

    @settings(deadline=None)
    @given(ANY_TEXT)
    def test_any_text(self, text: str) -> None:
        """Arbitrary text, where the JSON is inside a string already."""
        self.assertEqual(outcome(wire.decode_command, text), "malformed")
        self.assertEqual(outcome(wire.decode_answer, text), "malformed")

    @settings(deadline=None)
    @given(JSON | FRAME_LIKE)
    def test_any_json(self, value: object) -> None:
        """Arbitrary JSON (and Python's NaN and Infinity), with a frame's outline or none."""
        self.assertLessEqual(self._outcomes(json.dumps(value).encode()), {"read", "malformed"})

    @settings(deadline=None)
    @given(FRAME_LIKE)
    def test_what_is_read_is_good(self, value: object) -> None:
        """Whatever is read has a topic that can be routed and a time that can be read."""
        try:
            message = read_submission(json.dumps(value).encode())
        except wire.Malformed:
            return
        self.assertTrue(
            message.topic in ("broadcast", "server") or wire.valid_user_id(message.topic)
        )
        self.assertTrue(wire.valid_timestamp(message.timestamp))
        self.assertEqual(
            wire.decode_delivery(wire.encode_delivery(message)).content, message.content
        )

    def test_other_decoders(self) -> None:
        """`decode` serves any typed decoder."""
        decoder = msgspec.json.Decoder(list[int])
        self.assertEqual(wire.decode(decoder, "[1, 2]"), [1, 2])
        self.assertRaises(wire.Malformed, wire.decode, decoder, b'["1"]')


class WebSocketTests(SynchronousTestCase):
    """RFC 6455."""

    def test_text_frame(self) -> None:
        """FIN and text (0x81), then the length in the shortest of three forms, unmasked."""
        heads = {
            0: "8100",
            125: "817d",
            126: "817e007e",
            65535: "817effff",
            65536: "817f0000000000010000",
        }
        for size, head in heads.items():
            payload = b"x" * size
            self.assertEqual(wire.text_frame(payload), bytes.fromhex(head) + payload, str(size))
