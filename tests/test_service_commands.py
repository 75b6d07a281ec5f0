"""Tests of `wschat.service`: when an operator's commands are begun, and who gets their answers."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.support import Client, Server, v1_submission
from wschat.commands import command


class OperatorTests(SynchronousTestCase):
    """Alice has a command that takes as long as a test likes."""

    def setUp(self) -> None:
        self.begun: list[Deferred[str]] = []
        begun = self.begun

        @command(burst=100)
        async def slow(user_id: str) -> str:
            """A command that waits."""
            begun.append(Deferred())
            return await begun[-1]

        @command
        def name(user_id: str) -> str:
            """A command that runs in a thread, which is a turn here."""
            return user_id

        self.server = Server(commands=[slow, name])
        self.server.add_users("alice", "bob")
        self.alice, self.bob = self.server.connect("alice"), self.server.connect("bob")
        self.writer = self.server.store.writer

    def sign(self, name: str) -> tuple[str, str]:
        content = json.dumps({"command": name, "request_id": name})
        return content, self.server.keys["alice"].sign(content.encode())

    def ask(self, client: Client, name: str) -> None:
        content, signature = self.sign(name)
        client.say("server", content, signature=signature)

    def answers(self, client: Client) -> list[Any]:
        """The contents of the answers that came, which look like those of the server's own."""
        contents = []
        for message in client.messages():
            head, content = message["header"], json.loads(message["body"]["content"])
            self.assertEqual((head["from"], head["to"]), ("server", "alice"))
            self.assertEqual(message["status"], "delivered" if content["success"] else "error")
            contents.append(content)
        return contents

    def test_answered_when_done(self) -> None:
        """A classic client gets the answer when there is one; others come first."""
        self.ask(self.alice, "slow")
        self.ask(self.alice, "ping")
        self.assertEqual([answer["request_id"] for answer in self.answers(self.alice)], ["ping"])
        self.begun[0].callback("at last")
        self.server.turn()
        expected = {"success": True, "request_id": "slow", "result": "at last"}
        self.assertEqual(self.answers(self.alice), [expected])
        self.assertEqual(self.bob.messages(), [])

    def test_in_thread(self) -> None:
        """A plain function's answer comes, too."""
        self.ask(self.alice, "name")
        self.server.turn()
        (answer,) = self.answers(self.alice)
        self.assertEqual(answer["result"], "alice")

    def test_in_v1(self) -> None:
        """A client of `wschat.v1` gets the same answer."""
        client = self.server.connect_v1("alice")
        content, signature = self.sign("name")
        frame = v1_submission("server", content, "c-1")
        frame["header"]["signature"] = signature
        del frame["header"]["client_id"]
        client.send_json(frame)
        self.server.turn()
        (message,) = client.frames("message")
        self.assertEqual(json.loads(message["body"]["content"])["result"], "alice")

    def test_unsigned(self) -> None:
        """One that is not signed is not begun."""
        self.alice.say("server", self.sign("slow")[0])
        self.assertEqual([answer["success"] for answer in self.answers(self.alice)], [False])
        self.assertEqual(self.begun, [])

    def test_begun_in_turn(self) -> None:
        """It begins when what its sender sent before is on disk, and not earlier."""
        self.writer.held = True
        self.alice.say("bob", "first")
        self.ask(self.alice, "slow")
        self.assertEqual(self.begun, [])
        self.writer.held = False
        self.writer.release()
        self.server.turn()
        self.assertEqual((len(self.begun), self.bob.contents()), (1, ["first"]))

    def test_session_gone(self) -> None:
        """Who has gone gets no answer, and who comes back does not, either."""
        self.ask(self.alice, "slow")
        self.alice.wire.lose()
        again = self.server.connect("alice")
        self.begun[0].callback("too late")
        self.server.turn()
        self.assertEqual((self.answers(again), self.answers(self.alice)), ([], []))

    def test_stop(self) -> None:
        """The end of the server waits for no command, and begins none that waited for its turn."""
        self.ask(self.alice, "slow")
        self.writer.held = True
        self.alice.say("bob", "stored")
        self.ask(self.alice, "slow")
        drained = Deferred.fromCoroutine(self.server.chat.drain())
        self.assertFalse(drained.called)  # there is something to be stored
        self.writer.held = False
        self.writer.release()
        self.server.turn()
        self.assertTrue(drained.called)
        self.assertEqual((len(self.begun), self.answers(self.alice)), (1, []))
        self.assertEqual(self.bob.contents(), ["stored"])
