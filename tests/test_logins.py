"""Live sessions whose token ends, and tokens that take its place."""

from __future__ import annotations

from typing import Any

from tests.support import Client, Limits, ServerTests
from wschat.codes import CloseCode, ErrorCode


class LoginsTests(ServerTests):
    """A token lasts half an hour, from 10:00 to 10:30."""

    limits = Limits(token_lifetime=1800)

    def setUp(self) -> None:
        super().setUp()
        self.server.add_users("alice", "bob")

    def wait(self, seconds: int, *clients: Client) -> None:
        """Let time pass, with clients that answer what they are pinged."""
        for _ in range(seconds // 5):
            self.server.advance(5)
            for client in clients:
                client.pong()

    def test_told_and_closed(self) -> None:
        """Five minutes before its end a session is told when, and at its end it is closed."""
        alice = self.server.connect_v1("alice")
        self.wait(1470, alice)
        self.assertEqual(alice.frames("token_ending"), [])
        self.wait(60, alice)
        expected = {"type": "token_ending", "expires_at": "2026-11-22T10:30:00.000000Z"}
        self.assertEqual(alice.frames("token_ending"), [expected])
        self.wait(300, alice)
        self.assertEqual(alice.frames("token_ending"), [])
        self.assertEqual(alice.closed_with(), CloseCode.TOKEN_ENDED)
        self.assertEqual(self.server.hub.registry.users, [])
        self.assertEqual(self.server.meters.closed, {CloseCode.TOKEN_ENDED: 1})

    def test_classic(self) -> None:
        """A classic session is told with its last message, and closed; nothing is said before."""
        bob = self.server.connect("bob")
        self.wait(1470, bob)
        self.wait(120, bob)
        self.assertEqual(bob.messages(), [])
        self.wait(240, bob)
        (message,) = bob.messages()
        self.assertEqual((message["header"]["from"], message["status"]), ("system", "error"))
        self.assertEqual(message["body"]["content"], "Your token has ended: log in again.")
        self.assertEqual(bob.closed_with(), CloseCode.TOKEN_ENDED)

    def renew(self, client: Client, token: str) -> list[dict[str, Any]]:
        client.send_json({"type": "renew", "token": token})
        return client.frames("renewed", "error")

    def test_renewed(self) -> None:
        """With another token a session stays on, without a break, until that one ends."""
        alice = self.server.connect_v1("alice")
        self.wait(1470, alice)
        self.wait(60, alice)
        (answer,) = self.renew(alice, self.server.token("alice"))
        self.assertEqual(answer["type"], "renewed")
        self.assertEqual(answer["expires_at"][:16], "2026-11-22T10:55")
        self.wait(600, alice)
        self.assertIsNone(alice.closed_with())
        self.assertEqual(self.server.hub.registry.users, ["alice"])

    def test_not_renewed(self) -> None:
        """Somebody else's token, and one that is none, change nothing, and are no end."""
        alice = self.server.connect_v1("alice")
        for token in (self.server.token("bob"), "x", ""):
            (answer,) = self.renew(alice, token)
            self.assertEqual(answer["code"], ErrorCode.BAD_TOKEN)
            self.assertFalse(answer["again"])
        self.wait(1470, alice)
        self.wait(360, alice)
        self.assertEqual(alice.closed_with(), CloseCode.TOKEN_ENDED)

    def test_before_resuming(self) -> None:
        """A session that has not said which it is cannot be renewed."""
        alice = self.server.connect_v1("alice", None)
        (answer,) = self.renew(alice, self.server.token("alice"))
        self.assertEqual(answer["code"], ErrorCode.NOT_RESUMED)

    def test_those_who_went(self) -> None:
        """Nothing is remembered of sessions that are over."""
        for client in (self.server.connect_v1("alice"), self.server.connect("bob")):
            client.goodbye()
        self.assertEqual(len(self.server.chat._logins), 0)
