"""Tests of `wschat.client.connection` against a classic server, which a test speaks for."""

from __future__ import annotations

import json
import random
from typing import Any, cast

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from tests.client.support import Ear, QuickTests, Script
from wschat import identity
from wschat.client import State
from wschat.client.accounts import ConnectionProblem
from wschat.client.connection import Client
from wschat.client.websocket import Connection
from wschat.identity import PrivateKey, encode_base64


class ScriptedTests(QuickTests):
    """A server that says what no good one would say, or when."""

    def setUp(self) -> None:
        super().setUp()
        self.script = Script(self)

    async def talk(self, **given: Any) -> tuple[Client, Ear, Any]:
        """A client of the script, and the server's end."""
        client, ear = await self.connected(port=self.script.port, **given)
        return client, ear, await self.script.conversation()

    async def test_once(self) -> None:
        """The same message with the same id is heard once, on another connection as well."""
        client, ear, end = await self.talk()
        end.deliver("hello", id=5)
        end.deliver("hello", id=5)
        await ear.hears("hello")
        end.transport.abortConnection()
        end = await self.script.conversation(2)
        end.deliver("hello", id=5)
        end.deliver("more", id=6)
        await ear.hears("more")
        self.assertEqual(ear.texts, ["hello", "more"])
        self.assertEqual(client.counters.received, 2)

    async def test_verified(self) -> None:
        """Only the sender's registered key over just this content verifies."""
        _, ear, end = await self.talk()
        other = PrivateKey.generate()
        good = self.script.bob.sign(b'"good"')
        end.deliver("good", header={"signature": good})
        end.deliver("altered", header={"signature": good})
        end.deliver("other", header={"signature": other.sign(b'"other"')})
        end.deliver("junk", header={"signature": "?"})
        end.deliver("none")
        end.deliver("good", sender="charlie", header={"signature": good})
        await ear.until(lambda: len(ear.messages) == 6)
        verdicts = [heard.verified for heard in ear.messages]
        self.assertEqual(verdicts, [True, False, False, False, False, False])

    async def test_key_asked_once(self) -> None:
        """A sender's key is asked for once; that of a name that is none, never."""
        _, ear, end = await self.talk()
        for number in range(3):
            end.deliver(str(number))
        end.deliver("strange", sender="../login")
        await ear.hears("strange")
        asked = [path for path in self.script.paths() if path.startswith("/auth/users")]
        self.assertEqual(asked, ["/auth/users/bob"])

    async def test_sealed(self) -> None:
        """What is sealed for the user is opened; what is not, or was altered, has no text."""
        key = PrivateKey.generate()
        _, ear, end = await self.talk(key=key)
        sealed = identity.seal("secret", key.x25519_public_key)
        other = identity.seal("secret", PrivateKey.generate().x25519_public_key)
        for content, envelope in (
            (sealed.content, sealed),
            (other.content, other),
            (encode_base64(b"x" * 22), sealed),
        ):
            header = {
                "encrypted_key": envelope.encrypted_key,
                "encryption_nonce": envelope.encryption_nonce,
                "signature": self.script.bob.sign(f'"{content}"'.encode()),
            }
            end.deliver(content, header=header)
        await ear.until(lambda: len(ear.messages) == 3)
        self.assertEqual(ear.texts, ["secret", None, None])
        self.assertEqual([heard.verified for heard in ear.messages], [True] * 3)
        self.assertTrue(all(heard.message.encrypted for heard in ear.messages))

    async def test_faulty_listener(self) -> None:
        """A listener that fails on one message hears the next."""
        ear = Ear()
        ear.faults = {"one"}
        client, _, end = await self.talk(ear=ear)
        end.deliver("one")
        end.deliver("two")
        await ear.hears("two")
        await client.handled()
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    async def test_malformed(self) -> None:
        """A frame that cannot be read costs nothing but itself."""
        client, ear, end = await self.talk()
        end.sendMessage(b"{")
        end.deliver("fine")
        await ear.hears("fine")
        self.assertTrue(client.connected)

    async def test_no_receipts(self) -> None:
        """It gives no receipts, and has no history, though the client asks for neither in vain."""
        client, ear, _ = await self.talk()
        self.assertFalse(client.gives_receipts)
        await self.assertFailure(Deferred.fromCoroutine(client.history("bob")), ValueError)
        early, _ = self.client("charlie", port=self.script.port)
        await self.assertFailure(Deferred.fromCoroutine(early.presence()), ValueError)
        self.assertEqual((ear.stored_ids, self.script.frames), ([], []))

    async def test_answer_lost(self) -> None:
        """A command fails when the connection is lost; the user is told how much is unknown."""
        client, ear, end = await self.talk()
        client.send("bob", "one")
        client.send("bob", "two")
        answer = client.command("ping")
        await self.script.command("ping")
        end.transport.abortConnection()
        await self.assertFailure(answer, ConnectionProblem)
        self.assertEqual(len(ear.refusals), 1)
        self.assertIn(" 2 messages", ear.refusals[0])

    async def test_asks(self) -> None:
        """When nothing else was asked, the client asks whether its messages were dealt with."""
        client, ear, end = await self.talk()
        client.send("bob", "one")
        request_id = await self.script.command("ping")
        answer = {"success": True, "request_id": request_id, "result": {}}
        end.deliver(json.dumps(answer), sender="server")
        end.deliver("then")
        await ear.hears("then")
        end.transport.abortConnection()
        await ear.becomes(State.CONNECTED, 2)
        self.assertEqual(ear.refusals, [])

    async def test_closing(self) -> None:
        """What is said while the connection closes waits for the next one, and is not tried."""
        client, ear, end = await self.talk()
        closing = self.patch(Connection, "can_send", False)
        client.send("bob", "late")
        calls = cast(Any, reactor).getDelayedCalls()
        self.assertEqual([call for call in calls if "_flush" in str(call)], [])
        self.assertEqual(client.waiting, 1)
        closing.restore()
        end.transport.abortConnection()
        await self.script.frame("late")
        self.assertEqual((ear.refusals, client.counters.sent), ([], 1))

    async def test_waiting_command(self) -> None:
        """A command that waits for its connection is sent when there is one."""
        client, _ = self.client(port=self.script.port)
        answer = client.command("ping")
        request_id = await self.script.command("ping")
        content = json.dumps({"success": False, "request_id": request_id, "error": "no"})
        self.script.conversations[0].deliver(content, sender="server")
        self.assertEqual((await answer).error, "no")

    async def test_command_queued_over_loss(self) -> None:
        """A command that fails with its connection is not sent on the next one."""
        client, ear, end = await self.talk()
        for number in range(17):
            client.send("bob", str(number))
        answer = client.command("user_count")  # over the rate: it waits
        await self.script.frame("16")
        end.transport.abortConnection()
        await self.assertFailure(answer, ConnectionProblem)
        await ear.becomes(State.CONNECTED, 2)
        client.send("bob", "last")
        await self.script.frame("last")
        sent = [frame["body"]["content"] for frame in self.script.frames]
        self.assertEqual([content for content in sent if "user_count" in content], [])

    async def test_in_flight(self) -> None:
        """A client that stops hears what came before the server's goodbye."""
        client, ear, end = await self.talk()
        end.parting = "just in time"
        end.deliver("before")
        await client.stop()
        self.assertEqual(ear.texts, ["before", "just in time"])

    async def test_late_goodbye(self) -> None:
        """A server may take more than a second for its goodbye: a slow network does."""
        client, ear, end = await self.talk()
        end.pause, end.parting = 1.1, "late"
        await client.stop()
        self.assertEqual(ear.texts, ["late"])

    async def test_backs_off(self) -> None:
        """Each failure in a row allows a longer wait, up to a limit; success starts anew."""
        allowed: list[float] = []

        def uniform(low: float, high: float) -> float:
            allowed.append(high)
            return 0.0

        self.patch(random, "uniform", uniform)
        self.script.answers["/auth/login"] = (500, b"down\nnot shown")
        _, ear = self.client(port=self.script.port)
        await ear.becomes(State.DISCONNECTED, 8)
        self.assertIn("down", ear.errors[0])
        del self.script.answers["/auth/login"]
        await ear.becomes(State.CONNECTED)
        growing = allowed[:7]
        self.assertEqual(growing, sorted(growing))
        self.assertEqual(max(allowed), 20.0)
        end: Any = await self.script.conversation()
        end.transport.abortConnection()
        await ear.becomes(State.CONNECTED, 2)
        self.assertEqual(allowed[-1], 0.5)

    async def test_stopped_while_connecting(self) -> None:
        """A client that stops before it is in ends at once, and was never in."""
        client, ear = self.client(port=self.script.port)
        await client.stop()
        self.assertEqual(ear.count(State.CONNECTED), 0)
        self.assertFalse(client.connected)
        self.assertEqual(self.retries(), 0)

    def retries(self) -> int:
        """How many waits for another attempt there still are; they are ended."""
        calls = cast(Any, reactor).getDelayedCalls()
        waits = [call for call in calls if "Deferred.callback" in str(call)]
        for call in waits:
            call.cancel()
        return len(waits)

    async def test_stopped_by_listener(self) -> None:
        """A client that is stopped by what it tells its listener does not come back."""
        self.script.answers["/auth/login"] = (401, b"no")
        ear = Ear()
        client, _ = self.client(port=self.script.port, ear=ear)
        stopped: list[Deferred[None]] = []
        told = ear.changed

        def changed(state: State, error: Exception | None) -> None:
            told(state, error)
            if state is State.DISCONNECTED and not stopped:
                stopped.append(Deferred.fromCoroutine(client.stop()))

        self.patch(ear, "changed", changed)
        await ear.becomes(State.DISCONNECTED)
        await stopped[0]
        self.assertEqual(self.retries(), 0)

    async def test_stopped_in_room(self) -> None:
        """A client that is stopped when there is room leaves no timer behind."""
        client, _, _ = await self.talk()
        for number in range(520):
            client.send("bob", str(number))
        room = client.room()
        room.addCallback(lambda _: Deferred.fromCoroutine(client.stop()))
        await room
        calls = cast(Any, reactor).getDelayedCalls()
        left = [call for call in calls if "_flush" in str(call)]
        for call in left:
            call.cancel()
        self.assertEqual(len(left), 0)

    async def test_stop_drops_waiting(self) -> None:
        """Who waits for an answer when the client stops is told that none will come."""
        client, _, _ = await self.talk()
        answer = client.command("ping")
        await self.script.command("ping")
        failed = self.assertFailure(answer, ConnectionProblem)
        await client.stop()
        await failed

    async def test_room(self) -> None:
        """`room` fires at once when there is room, else when half of the queue is gone."""
        client, _ = self.client(port=self.script.port)
        self.assertTrue(client.room().called)
        for number in range(502):
            client.send("bob", str(number))
        room = client.room()
        self.assertFalse(room.called)
        await room
        self.assertLessEqual(client.waiting, 500)
        await deferLater(cast(Any, reactor), 0)
