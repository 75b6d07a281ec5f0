"""Commands to the server, signed by `cryptography` and answered in the classic shape."""

from __future__ import annotations

import base64
import json
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from twisted.trial.unittest import SynchronousTestCase

import wschat
from wschat.commands import Commands
from wschat.identity import User
from wschat.wire import Kind, Message, Status

NOW = 1_000_000_000.75


def shout(params: Any, sender: str) -> Any:
    """An operator's command."""
    return {"shouted": params["text"].upper(), "by": sender}


def unspeakable(params: Any, sender: str) -> Any:
    """An operator's command whose result cannot be JSON."""
    return object()


ADDED = {"shout": shout, "unspeakable": unspeakable, "ping": shout}


class CommandsTests(SynchronousTestCase):
    """Alice asks."""

    def setUp(self) -> None:
        self.connected = 3
        self.failures: list[str] = []
        self.commands = Commands(lambda: self.connected, ADDED, self.failures.append)
        self.key = Ed25519PrivateKey.generate()
        public = base64.b64encode(self.key.public_key().public_bytes_raw()).decode()
        self.alice = User("alice", "Alice", public, None, 0.0)

    def signed(self, data: bytes) -> str:
        return base64.b64encode(self.key.sign(data)).decode()

    def answer(self, content: str, signature: str | None) -> Message:
        """The server's answer, the envelope of which is always the same."""
        asked = Message("alice", "server", content, "2026-11-22T10:00:00Z", signature)
        answer = self.commands.answer(asked, self.alice, NOW)
        self.assertEqual(
            (answer.sender, answer.topic, answer.kind, answer.id, answer.timestamp),
            ("server", "alice", Kind.DIRECT, 0, "2001-09-09T01:46:40.750000Z"),
        )
        success = json.loads(answer.content)["success"]
        self.assertIs(answer.status, Status.DELIVERED if success else Status.ERROR)
        return answer

    def run_text(self, content: str) -> Any:
        """What the answer to a signed content holds."""
        return json.loads(self.answer(content, self.signed(content.encode())).content)

    def run_command(self, name: str, **more: Any) -> Any:
        return self.run_text(json.dumps({"command": name, **more}))

    def assertRefused(self, answer: Message, request_id: bool = False) -> None:
        """An answer that says why not, in a line, and has no result."""
        content = json.loads(answer.content)
        keys = {"success", "error", "request_id"} if request_id else {"success", "error"}
        self.assertEqual((content["success"], set(content)), (False, keys))
        self.assertTrue(content["error"] and "\n" not in content["error"])

    def test_added(self) -> None:
        """An operator's command gets its parameters and who asks; it is listed."""
        answer = self.run_command("shout", params={"text": "hi"}, request_id="r")
        self.assertEqual(answer["result"], {"shouted": "HI", "by": "alice"})
        self.assertIn("shout", self.run_command("list_commands")["result"]["commands"])

    def test_added_replaces_nothing(self) -> None:
        """An operator's command cannot take the name of one of the server's."""
        self.assertEqual(self.run_command("ping")["result"]["message"], "pong")

    def test_added_fails(self) -> None:
        """What an operator's command raises is for the operator; its user gets one line."""
        for name in ("shout", "unspeakable"):
            answer = self.run_command(name, params=5, request_id="r")
            expected = {"success": False, "request_id": "r", "error": "The command failed."}
            self.assertEqual(answer, expected)
        self.assertEqual(self.failures, ["shout", "unspeakable"])

    def test_ping(self) -> None:
        """The time is in whole seconds."""
        self.assertEqual(
            self.run_command("ping", request_id="r1"),
            {
                "success": True,
                "request_id": "r1",
                "result": {"message": "pong", "timestamp": 1_000_000_000},
            },
        )

    def test_request_id(self) -> None:
        """It comes back as it was, an integer as an integer; and not at all when there was none."""
        for value in ("", "r", 0, 7, -1, 10**25):
            found = self.run_command("ping", request_id=value)["request_id"]
            self.assertEqual((type(found), found), (type(value), value))
        self.assertNotIn("request_id", self.run_command("ping"))
        self.assertNotIn("request_id", self.run_command("ping", request_id=None))

    def test_echo(self) -> None:
        """Parameters of every sort come back, and who asked."""
        values: list[Any] = [None, True, 1.5, "h\u00e9 \u2028", [1, {"a": [None]}], {"<b>": {}}, {}]
        for params in values:
            self.assertEqual(
                self.run_command("echo", params=params)["result"],
                {"echo": params, "sender": "alice"},
            )

    def test_echo_nothing(self) -> None:
        """Without parameters the echo is null."""
        self.assertEqual(self.run_command("echo")["result"], {"echo": None, "sender": "alice"})

    def test_echo_exactly(self) -> None:
        """Numbers keep their digits, even those that a float would lose."""
        number = "1.00000000000000000000000001"
        content = f'{{"command": "echo", "params": [{number}]}}'
        answer = self.answer(content, self.signed(content.encode()))
        self.assertIn(f'"echo":[{number}]', answer.content)

    def test_server_info(self) -> None:
        """Version, users who are connected, and the time."""
        self.assertEqual(
            self.run_command("server_info")["result"],
            {
                "version": wschat.__version__,
                "connected_users": 3,
                "timestamp": 1_000_000_000,
            },
        )

    def test_user_count(self) -> None:
        """Counted when asked, not before."""
        for self.connected in (0, 5):
            result = self.run_command("user_count")["result"]
            self.assertEqual(result, {"count": self.connected, "timestamp": 1_000_000_000})

    def test_list_commands(self) -> None:
        """The five of the classic server, and each of them is answered."""
        self.commands = Commands(lambda: self.connected, {}, self.failures.append)
        result = self.run_command("list_commands")["result"]
        names = ["echo", "list_commands", "ping", "server_info", "user_count"]
        self.assertEqual(result, {"commands": names, "count": 5})
        self.assertEqual([self.run_command(name)["success"] for name in names], [True] * 5)

    def test_unknown(self) -> None:
        """An unknown command is an error that says which request it answers."""
        for name in ("reboot", "", "Ping", "_ping", "answer"):
            content = json.dumps({"command": name, "request_id": "r"})
            self.assertRefused(self.answer(content, self.signed(content.encode())), True)

    def test_unreadable(self) -> None:
        """Signed nonsense is nonsense."""
        deep = '{"command": "echo", "params": ' + "[" * 30000 + "]" * 30000 + "}"
        for content in ("", "ping", "[]", '{"command": 1}', deep, '{"command": "ping"} x'):
            self.assertRefused(self.answer(content, self.signed(content.encode())))

    def test_unsigned(self) -> None:
        """A command must be signed; otherwise it is not done, and its id is all that is read."""
        self.assertRefused(
            self.answer('{"command": "ping", "request_id": "r"}', None), request_id=True
        )
        self.assertRefused(self.answer("nonsense", None))

    def test_badly_signed(self) -> None:
        """Another key's, another text's, the message encoding's, and what is no signature."""
        content = '{"command": "ping", "request_id": "r"}'
        stranger = Ed25519PrivateKey.generate().sign(content.encode())
        signatures = [
            base64.b64encode(stranger).decode(),
            self.signed(content.encode() + b" "),
            self.signed(json.dumps(content).encode()),
            self.signed(content.encode())[:-4],
            "",
            "\u00e9",
        ]
        for signature in signatures:
            self.assertRefused(self.answer(content, signature), request_id=True)

    def test_utf8(self) -> None:
        """The signature is over the UTF-8 of the content."""
        content = '{"command": "echo", "params": "\u00e9\U0001f600"}'
        self.assertEqual(self.run_text(content)["result"]["echo"], "\u00e9\U0001f600")
