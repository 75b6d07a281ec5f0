"""Tests of `wschat.service`: where messages go, and what senders are told."""

from __future__ import annotations

import json
from typing import Any

from tests.support import (
    NOW,
    TEXT,
    Client,
    Limits,
    ServerTests,
    submission,
)
from wschat.identity import PrivateKey, Sealed, seal, sign_content, verify_content


class RoutingTests(ServerTests):
    """Who gets what (WIRE, "WebSocket")."""

    def setUp(self) -> None:
        super().setUp()
        self.alice, self.bob, self.charlie = self.connect("alice", "bob", "charlie")

    def test_direct(self) -> None:
        """A direct message goes to the user named and nobody else, with an integer id."""
        self.alice.say("bob", "hello")
        (message,) = self.bob.messages()
        self.assertEqual(
            message,
            {
                "id": 1,
                "header": {
                    "from": "alice",
                    "to": "bob",
                    "message_type": "direct",
                    "timestamp": "2026-11-22T10:00:00.5Z",
                },
                "body": {"content": "hello"},
                "status": "delivered",
            },
        )
        self.assertIs(type(message["id"]), int)
        self.assertEqual((self.alice.messages(), self.charlie.messages()), ([], []))

    def test_broadcast(self) -> None:
        """A broadcast goes to everybody but its sender, and says so in both spellings."""
        self.alice.say("broadcast", "hello, all")
        for client in (self.bob, self.charlie):
            (message,) = client.messages()
            header = message["header"]
            self.assertEqual((header["from"], header["to"]), ("alice", "broadcast"))
            self.assertEqual((header["message_type"], header["is_broadcast"]), ("broadcast", True))
        self.assertEqual(self.alice.messages(), [])

    def test_older_spelling(self) -> None:
        """`is_broadcast`, or the message type, without a recipient is a broadcast."""
        self.alice.say("", "1", is_broadcast=True)
        self.alice.say("", "2", message_type="broadcast")
        self.assertEqual(self.bob.contents(), ["1", "2"])

    def test_from_is_the_authenticated_user(self) -> None:
        """Whoever the frame says it is from, it is from who logged in."""
        for to in ("bob", "broadcast"):
            self.alice.say(to, "I am charlie", sender="charlie")
            (message,) = self.bob.messages()
            self.assertEqual(message["header"]["from"], "alice")

    def test_id_and_status_are_the_servers(self) -> None:
        """A client's own id and status are not looked at."""
        frame = json.loads(submission("bob", "hi")) | {"id": 99, "status": "verified"}
        self.alice.send(TEXT, json.dumps(frame).encode())
        (message,) = self.bob.messages()
        self.assertEqual((message["id"], message["status"]), (1, "delivered"))

    def test_relayed_as_it_came(self) -> None:
        """The time, the signature and the encryption fields reach the recipient unchanged."""
        fields = {
            "timestamp": "2026-11-22T15:30:00.123456789+05:30",
            "signature": "c2lnbmVk",
            "encrypted_key": "a2V5",
            "encryption_nonce": "bm9uY2U=",
        }
        self.alice.say("bob", "Y2lwaGVydGV4dA==", **fields)
        (message,) = self.bob.messages()
        self.assertEqual({name: message["header"][name] for name in fields}, fields)

    def test_time_is_given(self) -> None:
        """A message without a time gets the server's."""
        self.alice.say("bob", "when?", timestamp="")
        (message,) = self.bob.messages()
        self.assertEqual(message["header"]["timestamp"], "2026-11-22T10:00:00.000000Z")

    def test_to_oneself(self) -> None:
        """A message to oneself comes back."""
        self.alice.say("alice", "note")
        self.assertEqual(self.alice.contents(), ["note"])

    def test_several_sessions(self) -> None:
        """Every session of a user gets their messages; a broadcast none of the sender's."""
        second = self.server.connect("bob")
        self.alice.say("bob", "both")
        self.assertEqual((self.bob.contents(), second.contents()), (["both"], ["both"]))
        self.bob.say("broadcast", "from bob")
        self.assertEqual((self.bob.contents(), second.contents()), ([], []))
        second.goodbye()
        self.alice.say("bob", "one")
        self.assertEqual(self.bob.contents(), ["one"])

    def test_ids_ascend(self) -> None:
        """Ids ascend over all messages, whoever they are for."""
        for to in ("bob", "charlie", "broadcast", "bob"):
            self.alice.say(to, "hi")
        self.assertEqual([message["id"] for message in self.bob.messages()], [1, 3, 4])

    def error(self, client: Client) -> str:
        """The one message that a client has is an error of the system's; its text."""
        (message,) = client.messages()
        header = message["header"]
        self.assertEqual((header["from"], message["status"]), ("system", "error"))
        return str(message["body"]["content"])

    def test_unknown_recipient(self) -> None:
        """The sender is told that there is no such user, and the message is not kept."""
        self.alice.say("nobody", "hello?")
        self.assertIn("nobody", self.error(self.alice))
        self.server.add_user("nobody")
        self.assertEqual(self.server.connect("nobody").messages(), [])

    def test_contradiction(self) -> None:
        """A broadcast to one user goes nowhere."""
        self.alice.say("bob", "secret", message_type="broadcast")
        self.error(self.alice)
        self.assertEqual((self.bob.messages(), self.charlie.messages()), ([], []))

    def test_encrypted_broadcast(self) -> None:
        """Broadcasts are never encrypted."""
        self.alice.say("broadcast", "x", encrypted_key="a2V5")
        self.error(self.alice)
        self.assertEqual(self.bob.messages(), [])


class SignatureTests(ServerTests):
    """Signed and sealed messages pass through and stay readable."""

    def test_signed_and_sealed_for_one_who_is_off_line(self) -> None:
        """An offline recipient can open a sealed message later, and check who signed it."""
        self.server.add_users("alice", "bob")
        alice_key, bob_key = self.server.keys["alice"], self.server.keys["bob"]
        sealed = seal("top secret <\u2028>", bob_key.x25519_public_key)
        signature = sign_content(alice_key, sealed.content)
        self.server.connect("alice").say(
            "bob",
            sealed.content,
            signature=signature,
            encrypted_key=sealed.encrypted_key,
            encryption_nonce=sealed.encryption_nonce,
        )
        (message,) = self.server.connect("bob").messages()
        header, content = message["header"], message["body"]["content"]
        came = Sealed(content, header["encrypted_key"], header["encryption_nonce"])
        self.assertEqual(bob_key.open(came), "top secret <\u2028>")
        self.assertTrue(verify_content(alice_key.public_key, content, header["signature"]))


class RateTests(ServerTests):
    """The rate limit: by user, with the classic text."""

    limits = Limits(message_rate=10, message_burst=20)

    def test_limit(self) -> None:
        """After the burst, the sender is told in the classic words, and nothing is routed."""
        alice, bob = self.connect("alice", "bob")
        for n in range(21):
            alice.say("bob", str(n))
        self.assertEqual(bob.contents(), [str(n) for n in range(20)])
        (error,) = alice.messages()
        self.assertEqual(error["header"]["from"], "system")
        self.assertEqual(error["status"], "error")
        self.assertEqual(error["body"]["content"], "Rate limit exceeded. Please slow down.")

    def test_ten_a_second(self) -> None:
        """A second later, ten more may come."""
        alice, bob = self.connect("alice", "bob")
        for _ in range(20):
            alice.say("bob", "burst")
        self.server.advance(1)
        bob.texts()
        for n in range(11):
            alice.say("bob", str(n))
        self.assertEqual(bob.contents(), [str(n) for n in range(10)])

    def test_by_user(self) -> None:
        """A user's sessions share one limit, and others are not concerned."""
        alice, bob = self.connect("alice", "bob")
        second = self.server.connect("alice")
        for client in (alice, second):
            for _ in range(11):
                client.say("bob", "x")
        self.assertEqual(len(bob.messages()), 20)
        bob.say("alice", "fine")
        self.assertIn("fine", alice.contents())


class CommandTests(ServerTests):
    """Server commands (WIRE, "Server commands")."""

    def setUp(self) -> None:
        super().setUp()
        self.alice, self.bob = self.connect("alice", "bob")

    def command(self, content: str | dict[str, Any], **header: Any) -> dict[str, Any]:
        """Send a command, signed by alice unless told; the answer's content."""
        text = content if isinstance(content, str) else json.dumps(content)
        header.setdefault("signature", self.server.keys["alice"].sign(text.encode()))
        self.alice.say("server", text, **header)
        (answer,) = self.alice.messages()
        head, body = answer["header"], json.loads(answer["body"]["content"])
        self.assertEqual(
            (head["from"], head["to"], head["message_type"]), ("server", "alice", "direct")
        )
        self.assertEqual(answer["status"], "delivered" if body["success"] else "error")
        self.assertIs(type(answer["id"]), int)
        assert isinstance(body, dict)
        return body

    def result(self, command: str, **fields: Any) -> Any:
        answer = self.command({"command": command, **fields})
        self.assertEqual(answer.keys(), {"success", "result", *(fields.keys() & {"request_id"})})
        self.assertIs(answer["success"], True)
        return answer["result"]

    def failure(self, content: str | dict[str, Any], **header: Any) -> str:
        answer = self.command(content, **header)
        self.assertIs(answer["success"], False)
        self.assertNotIn("result", answer)
        return str(answer["error"])

    def test_ping(self) -> None:
        """`ping` gives pong and the time in whole seconds."""
        self.assertEqual(self.result("ping"), {"message": "pong", "timestamp": int(NOW)})

    def test_echo(self) -> None:
        """`echo` gives the parameters back, whatever they are, and who asked."""
        cases: tuple[Any, ...] = ({"a": [1, 2.5, "\u00e9<"]}, "text", None, [], 2**60)
        for params in cases:
            result = self.result("echo", params=params)
            self.assertEqual(result, {"echo": params, "sender": "alice"})
        self.assertEqual(self.result("echo"), {"echo": None, "sender": "alice"})

    def test_server_info(self) -> None:
        """`server_info` gives version, connected users and time."""
        result = self.result("server_info")
        self.assertEqual(result.keys(), {"version", "connected_users", "timestamp"})
        self.assertIsInstance(result["version"], str)
        self.assertEqual((result["connected_users"], result["timestamp"]), (2, int(NOW)))

    def test_user_count(self) -> None:
        """`user_count` counts users, not sessions."""
        self.server.connect("bob")
        self.assertEqual(self.result("user_count"), {"count": 2, "timestamp": int(NOW)})

    def test_list_commands(self) -> None:
        """`list_commands` names all five."""
        result = self.result("list_commands")
        names = {"ping", "echo", "server_info", "user_count", "list_commands"}
        self.assertEqual((set(result["commands"]), result["count"]), (names, 5))

    def test_request_id(self) -> None:
        """The request id comes back as it was, with success and with failure."""
        for request_id in ("r-1", 17):
            answer = self.command({"command": "ping", "request_id": request_id})
            self.assertEqual(answer["request_id"], request_id)
            answer = self.command({"command": "none", "request_id": request_id})
            self.assertEqual((answer["success"], answer["request_id"]), (False, request_id))

    def test_unknown(self) -> None:
        """A command that the server does not know is an error."""
        self.assertIn("command", self.failure({"command": "reboot"}).lower())

    def test_malformed(self) -> None:
        """Content that is no command is an error, when it is signed."""
        for content in ("", "ping", "[]", "{}", '{"command": 1}', "[" * 5000):
            self.failure(content)

    def test_unsigned(self) -> None:
        """A command without a signature is refused."""
        self.failure({"command": "ping"}, signature="")

    def test_wrong_signature(self) -> None:
        """So is one signed by another, or over another content, or as a message is signed."""
        text = json.dumps({"command": "ping"})
        key = self.server.keys["alice"]
        for signature in (
            "junk",
            PrivateKey.generate().sign(text.encode()),
            self.server.keys["bob"].sign(text.encode()),
            key.sign(b"{}"),
            sign_content(key, text),
        ):
            self.failure(text, signature=signature)

    def test_claiming_to_be_another(self) -> None:
        """The signature is checked against who is logged in, not against `from`."""
        text = json.dumps({"command": "ping"})
        signature = self.server.keys["bob"].sign(text.encode())
        self.failure(text, signature=signature, sender="bob")

    def test_by_message_type(self) -> None:
        """A message of type server without a recipient is a command."""
        text = json.dumps({"command": "ping"})
        signature = self.server.keys["alice"].sign(text.encode())
        self.alice.say("", text, message_type="server", signature=signature)
        (answer,) = self.alice.messages()
        self.assertEqual(answer["header"]["from"], "server")

    def test_only_to_who_asked(self) -> None:
        """The answer goes to the session that asked, is not stored and does not come again."""
        second = self.server.connect("alice")
        self.result("ping")
        self.assertEqual((second.messages(), self.bob.messages()), ([], []))
        self.alice.wire.lose()
        self.assertEqual(self.server.connect("alice").messages(), [])
