"""Tests of `wschat.client.connection`: against a whole server, and against scripted ones."""

from __future__ import annotations

import base64
import json
import random
import time
from typing import Any, cast

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater

from tests.client.support import ClientTests, Ear, Script
from wschat import identity
from wschat.client import State
from wschat.client.accounts import ConnectionProblem, RequestRefused
from wschat.client.connection import Client
from wschat.identity import PrivateKey, encode_base64


class _RealTests(ClientTests):
    """A whole server."""

    def setUp(self) -> None:
        super().setUp()
        self.patch(random, "uniform", lambda low, high: min(high, 0.01))


class ServerTests(_RealTests):
    """Two users talk over a whole server."""

    async def test_conversation(self) -> None:
        """Both are registered by themselves; what is said arrives, verified, and is counted."""
        self.start()
        alice, _ = await self.connected("alice")
        bob, ear = await self.connected("bob")
        alice.send("bob", "hello <&> \u2028 \U0001f600")
        alice.broadcast("all of you")
        await ear.hears("all of you")
        self.assertEqual(ear.texts, ["hello <&> \u2028 \U0001f600", "all of you"])
        self.assertEqual([heard.verified for heard in ear.messages], [True, True])
        self.assertEqual([heard.message.topic for heard in ear.messages], ["bob", "broadcast"])
        self.assertEqual((bob.counters.received, bob.counters.refused), (2, 0))
        self.assertEqual((alice.counters.sent, alice.counters.reconnects), (2, 0))

    async def test_states(self) -> None:
        """The listener is told of connecting, then of the connection."""
        self.start()
        client, ear = await self.connected()
        self.assertEqual(ear.changes, [(State.CONNECTING, None), (State.CONNECTED, None)])
        self.assertTrue(client.connected)

    async def test_insecure(self) -> None:
        """A client that checks nothing connects where nobody vouches for the server."""
        self.start()
        self.environ("SSL_CERT_FILE", "/dev/null")
        client, _ = await self.connected(insecure_tls=True)
        self.assertTrue((await client.command("ping")).success)

    async def test_untrusted(self) -> None:
        """Without trust there is no connection, and a line that says what to do."""
        self.start()
        self.environ("SSL_CERT_FILE", "/dev/null")
        _, ear = self.client()
        await ear.becomes(State.DISCONNECTED)
        self.assertIsInstance(ear.changes[-1][1], ConnectionProblem)
        self.assertIn("not trusted", ear.errors[0])
        self.assertIn("SSL_CERT_FILE", ear.errors[0])

    async def test_wrong_key(self) -> None:
        """Another's key does not log in: the listener is told of a refusal, not of a problem."""
        self.start()
        await self.connected("alice")
        _, ear = self.client("alice")
        await ear.becomes(State.DISCONNECTED)
        self.assertIsInstance(ear.changes[-1][1], RequestRefused)

    async def test_nobody_there(self) -> None:
        """A server that comes later is found, and what was said meanwhile goes out."""
        server = self.start()
        port = self.port
        await self.stop_server(server)
        client, ear = self.client("alice")
        client.send("alice", "early")
        await ear.becomes(State.DISCONNECTED, 2)
        self.assertIn("refused", ear.errors[0])
        self.assertEqual(client.waiting, 1)
        self.start(port)
        await ear.hears("early")
        self.assertEqual((client.waiting, client.counters.reconnects), (0, 0))

    async def test_restart(self) -> None:
        """A server that restarts is found again; nothing is lost or heard twice."""
        server = self.start()
        port = self.port
        alice, _ = await self.connected("alice")
        _, ear = await self.connected("bob")
        alice.send("bob", "before")
        await ear.hears("before")
        await self.stop_server(server)
        await ear.becomes(State.DISCONNECTED)
        self.assertIn("(4001)", ear.errors[0])
        alice.send("bob", "meanwhile")
        self.start(port)
        alice.send("bob", "after")
        await ear.hears("after")
        self.assertEqual(ear.texts, ["before", "meanwhile", "after"])
        self.assertEqual(alice.counters.reconnects, 1)
        self.assertIn((State.RECONNECTING, None), ear.changes)

    async def test_token_expired(self) -> None:
        """When the server does not take the token any more, the client logs in again."""
        server = self.start(token_lifetime="1")
        client, ear = await self.connected()
        first = client._token
        assert first is not None
        expires = json.loads(_unpadded(first[0].split(".")[1]))["exp"]
        while time.time() <= expires:  # the server's clock is the system's
            await client.command("ping")
        for connection in list(server._connections.connections):
            connection.transport.abortConnection()
        await ear.becomes(State.CONNECTED, 2)
        assert client._token is not None
        self.assertNotEqual(client._token[0], first[0])
        self.assertEqual(client.counters.reconnects, 1)

    async def test_paced(self) -> None:
        """Sixty messages at once are sent at the server's default rate; none is refused."""
        self.start()
        alice, told = await self.connected("alice")
        _, ear = await self.connected("bob")
        for number in range(60):
            alice.send("bob", str(number))
        await ear.hears("59")
        self.assertEqual(ear.texts, [str(number) for number in range(60)])
        self.assertEqual((told.refusals, alice.counters.refused), ([], 0))

    async def test_refused(self) -> None:
        """What the server does not take is told, and counted."""
        self.start()
        client, ear = await self.connected()
        client.send("nobody", "hello")
        await ear.until(lambda: bool(ear.refusals))
        self.assertEqual(client.counters.refused, 1)

    async def test_commands(self) -> None:
        """Answers come to who asked, also when the command is none."""
        self.start()
        client, _ = await self.connected()
        echo, wrong, ping = await gatherResults(
            [client.command("echo", {"a": 1}), client.command("nonsense"), client.command("ping")]
        )
        self.assertEqual(echo.result, {"echo": {"a": 1}, "sender": "alice"})
        self.assertFalse(wrong.success)
        self.assertEqual(ping.result["message"], "pong")

    async def test_stop(self) -> None:
        """A client that stops says goodbye: it is off line at the server, and comes not back."""
        server = self.start()
        alice, ear = await self.connected("alice")
        bob, _ = await self.connected("bob")
        await alice.stop()
        self.assertEqual((await bob.accounts.active_users()).offline, ["alice"])
        self.assertEqual(ear.count(State.CONNECTED), 1)
        self.assertFalse(alice.connected)
        self.assertEqual(ear.refusals, [])
        self.assertTrue(server.running)


def _unpadded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


class ScriptedTests(ClientTests):
    """A server that says what no good one would say, or when."""

    def setUp(self) -> None:
        super().setUp()
        self.patch(random, "uniform", lambda low, high: min(high, 0.01))
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
        end.deliver("good", sender="carol", header={"signature": good})
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

    async def test_token_kept(self) -> None:
        """A token that is still good is used again: a lost connection is no reason to log in."""
        _, ear, end = await self.talk()
        self.assertEqual(self.script.paths().count("/auth/login?verify=true"), 1)
        end.transport.abortConnection()
        end = await self.script.conversation(2)
        await ear.becomes(State.CONNECTED, 2)
        self.assertEqual(self.script.paths().count("/auth/login?verify=true"), 1)

    async def test_daily_login(self) -> None:
        """A token is used for 23 hours at most."""
        now = [time.time()]
        _, ear, end = await self.talk(wall=lambda: now[0])
        now[0] += 23 * 3600 + 1
        end.transport.abortConnection()
        await ear.becomes(State.CONNECTED, 2)
        self.assertEqual(self.script.paths().count("/auth/login?verify=true"), 2)

    async def test_in_flight(self) -> None:
        """A client that stops hears what came before the server's goodbye."""
        client, ear, end = await self.talk()
        end.parting = "just in time"
        end.deliver("before")
        await client.stop()
        self.assertEqual(ear.texts, ["before", "just in time"])

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
