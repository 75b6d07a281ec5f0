"""Tests of `wschat.client.jsonlines`: an object a line."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.client.support import settings
from wschat import wire
from wschat.client import console
from wschat.client.accounts import ConnectionProblem
from wschat.client.jsonlines import (
    Broadcast,
    Command,
    Direct,
    JsonNarrator,
    NotALine,
    parse,
    written,
)
from wschat.client.listener import Heard, State
from wschat.client.slash import Reply
from wschat.envelope import Authenticity

DOCUMENT = Path(__file__).parent.parent.parent / "docs" / "clients.md"


class DocumentTests(SynchronousTestCase):
    """docs/clients.md, "For scripts"."""

    def test_examples(self) -> None:
        """Each line in is read; each object out has an example with the keys that it has."""
        section = DOCUMENT.read_text("utf-8").partition("## For scripts")[2].partition("\n## ")[0]
        given, told = re.findall(r"```json\n(.*?)\n```", section, re.DOTALL)
        for line in given.splitlines():
            self.assertIsNotNone(parse(line))
        examples = {json.loads(line)["type"]: json.loads(line) for line in told.splitlines()}
        written_keys = {kind: set(one) for kind, one in everything().items()}
        self.assertEqual({kind: set(one) for kind, one in examples.items()}, written_keys)


def everything() -> dict[str, Any]:
    """One object of each type that a narrator writes."""
    lines: list[str] = []
    narrator = JsonNarrator(settings(1), lines.append)
    message = wire.Message("bob", "alice", "x", "2026-11-22T10:00:00Z")
    narrator.heard(Heard(message, "x", Authenticity.NONE))
    narrator.stored("a1", 1)
    narrator.delivered("a1", 1)
    narrator.refused("no", None)
    narrator.delayed("no", "a1")
    narrator.incomplete()
    narrator.key_changed("bob", "1", "2")
    narrator.key_rotated("bob", "1", "2")
    narrator.changed(State.CONNECTING, None)
    narrator.accepted("a1", Direct("bob", "x"))
    narrator.answered(Command("users"), Reply({}))
    narrator.failed(Command("users"), "no")
    narrator.noted("x")
    return {json.loads(line)["type"]: json.loads(line) for line in lines}


class ParseTests(SynchronousTestCase):
    """What is read."""

    def test_meanings(self) -> None:
        """Messages and commands; an empty line means nothing."""
        for line, meaning in (
            ('{"to": "bob", "text": "hi\\n"}', Direct("bob", "hi\n")),
            (
                '{"to": "bob", "text": "x", "client_id": "a1", "request_id": 7}',
                Direct("bob", "x", "a1", 7),
            ),
            (
                '{"to": "broadcast", "text": "x", "request_id": "r"}',
                Broadcast("x", request_id="r"),
            ),
            ('{"command": "users"}', Command("users")),
            (
                '{"command": "history", "arguments": " bob 5", "request_id": 1}',
                Command("history", "bob 5", 1),
            ),
            ("  ", None),
        ):
            self.assertEqual(parse(line), meaning)

    def test_not_understood(self) -> None:
        """Anything else is answered, with the request id if it can be read."""
        for line, request_id in (
            ("hello", None),
            ("[]", None),
            ("{}", None),
            ('{"to": "bob"}', None),
            ('{"text": "x", "request_id": 1}', 1),
            ('{"to": "bob", "text": "x", "command": "users"}', None),
            ('{"to": "bob", "text": "x", "arguments": "x"}', None),
            ('{"to": "a/b", "text": "x", "request_id": "r"}', "r"),
            ('{"to": "server", "text": "x"}', None),
            ('{"to": "bob", "text": "x", "client_id": "a b", "request_id": 2}', 2),
            ('{"to": "bob", "txt": "x", "request_id": 3}', 3),
            ('{"command": "users", "client_id": "a1"}', None),
            ('{"to": 5, "text": "x", "request_id": {}}', None),
        ):
            error = self.assertRaises(NotALine, parse, line)
            self.assertEqual((line, error.request_id), (line, request_id))


class NarratorTests(SynchronousTestCase):
    """What is written."""

    def setUp(self) -> None:
        self.lines: list[str] = []
        self.narrator = JsonNarrator(settings(1), self.lines.append)

    def told(self) -> Any:
        """What was written last."""
        return json.loads(self.lines[-1])

    def test_message(self) -> None:
        """A message has all that is known of it; nothing in the line controls a terminal."""
        message = wire.Message("bob", "alice", "x", "2026-11-22T10:00:00Z", encrypted_key="k")
        message.id, message.client_id = 4, "b1"
        text = "a\x1b\x7f\x9b\u202e"
        self.narrator.heard(Heard(message, text, Authenticity.INVALID))
        expected = {
            "type": "message",
            "id": 4,
            "client_id": "b1",
            "from": "bob",
            "to": "alice",
            "time": "2026-11-22T10:00:00Z",
            "text": text,
            "verified": False,
            "authenticity": "invalid",
            "encrypted": True,
        }
        self.assertEqual(self.told(), expected)
        self.assertTrue(self.lines[0].isascii() and self.lines[0].isprintable())
        self.assertEqual(written({"x": "\x7f"}), '{"x": "\\u007f"}')

    def test_events(self) -> None:
        """Each thing that happens is an object with its type."""
        narrator = self.narrator
        for tell, expected in (
            (lambda: narrator.stored("a1", 5), {"type": "stored", "client_id": "a1", "id": 5}),
            (
                lambda: narrator.delivered("a1", 5),
                {"type": "delivered", "client_id": "a1", "id": 5},
            ),
            (
                lambda: narrator.refused("no", None),
                {"type": "refused", "client_id": None, "reason": "no"},
            ),
            (
                lambda: narrator.delayed("full", "a1"),
                {"type": "delayed", "client_id": "a1", "reason": "full"},
            ),
            (narrator.incomplete, {"type": "incomplete"}),
            (
                lambda: narrator.key_changed("bob", "1", "2"),
                {"type": "key_changed", "user_id": "bob", "old": "1", "new": "2"},
            ),
            (
                lambda: narrator.key_rotated("bob", "1", "2"),
                {"type": "key_rotated", "user_id": "bob", "old": "1", "new": "2"},
            ),
            (
                lambda: narrator.changed(State.DISCONNECTED, ConnectionProblem("lost")),
                {"type": "state", "state": "disconnected", "reason": "lost"},
            ),
            (
                lambda: narrator.changed(State.CONNECTED, None),
                {"type": "state", "state": "connected", "reason": None},
            ),
            (lambda: narrator.noted("x"), {"type": "note", "text": "x"}),
        ):
            tell()
            self.assertEqual(self.told(), expected)
        self.assertTrue(narrator.has_been_connected)

    def test_answers(self) -> None:
        """What was asked is answered under its request id, with messages where there are any."""
        command = Command("history", "bob", "r")
        message = wire.Message("bob", "alice", "x", "2026-11-22T10:00:00Z")
        reply = Reply({"with": "bob"}, heard=[Heard(message, "x", Authenticity.NONE)])
        self.narrator.answered(command, reply)
        told = self.told()
        self.assertEqual(
            (told["type"], told["command"], told["request_id"]), ("answer", "history", "r")
        )
        self.assertEqual(told["result"]["messages"][0]["text"], "x")
        self.narrator.answered(Command("users"), Reply({"online": []}))
        self.assertEqual(self.told()["result"], {"online": []})
        self.narrator.accepted("a1", Direct("bob", "x", "a1", 3))
        self.assertEqual(
            self.told(), {"type": "sending", "request_id": 3, "client_id": "a1", "to": "bob"}
        )
        self.narrator.accepted("a2", console.Broadcast("said by the program itself"))
        self.assertEqual((self.told()["request_id"], self.told()["to"]), (None, "broadcast"))

    def test_faults(self) -> None:
        """What cannot be done is an error under its request id."""
        self.narrator.failed(Command("users", "", 4), "no")
        self.assertEqual(self.told(), {"type": "error", "request_id": 4, "reason": "no"})
        self.narrator.misread(NotALine("what?", 5))
        self.assertEqual(self.told(), {"type": "error", "request_id": 5, "reason": "what?"})
        self.narrator.misread(console.NotUnderstood("what?"))
        self.assertIsNone(self.told()["request_id"])

    def test_reading(self) -> None:
        """It reads objects, and keeps the client ids that they name."""
        self.assertEqual(self.narrator.parse('{"command": "ping"}'), Command("ping"))
        self.assertEqual(self.narrator.client_id(Direct("bob", "x", "a1")), "a1")
        self.assertEqual(self.narrator.client_id(Command("ping")), "")
