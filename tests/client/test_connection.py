"""
Tests of `wschat.client.connection`: against a whole server.

Those about sessions are in test_connection_sessions, those against a classic
server in test_connection_classic.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred, gatherResults

from tests.client.support import QuickTests
from wschat.client import State, acknowledging
from wschat.client.accounts import ConnectionProblem, RequestRefused
from wschat.identity import PrivateKey


class ServerTests(QuickTests):
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


class ReceiptTests(QuickTests):
    """What becomes of a message, and that it is stored once."""

    async def test_receipts(self) -> None:
        """A message is stored, and when its recipient has handled it delivered; both by its id."""
        self.start()
        alice, told = await self.connected("alice")
        await self.connected("bob")
        self.assertTrue(alice.gives_receipts)
        client_id = alice.send("bob", "hello")
        self.assertEqual(alice.send("bob", "mine", "my.id"), "my.id")
        await told.until(lambda: len(told.delivered_ids) == 2)
        self.assertEqual(told.stored_ids, [client_id, "my.id"])
        self.assertEqual(told.delivered_ids, [client_id, "my.id"])

    async def test_broadcasts_are_acknowledged_at_leisure(self) -> None:
        """Nobody waits for that; a direct message is acknowledged soon, and with it all before."""
        self.patch(acknowledging, "_BROADCAST_AFTER", 3600.0)
        self.start()
        alice, told = await self.connected("alice")
        bob, ear = await self.connected("bob")
        alice.broadcast("for everybody")
        await ear.hears("for everybody")
        self.assertFalse(bob._session.all_acknowledged)
        alice.send("bob", "for bob")
        await told.until(lambda: len(told.delivered_ids) == 1)
        self.assertTrue(bob._session.all_acknowledged)

    async def test_settled(self) -> None:
        """`settled` fires when the server has answered for all that was said, and not before."""
        self.start()
        alice, told = await self.connected("alice")
        self.assertTrue(alice.settled().called)
        sent = [alice.broadcast(str(number)) for number in range(3)]
        alice.send("nobody", "refused")
        settled = alice.settled()
        self.assertEqual((settled.called, alice.unsettled), (False, 4))
        await settled
        self.assertEqual((told.stored_ids, alice.unsettled), (sent, 0))

    async def test_refused(self) -> None:
        """A refusal says which message it is of."""
        self.start()
        alice, told = await self.connected("alice")
        client_id = alice.send("nobody", "hello")
        await told.until(lambda: bool(told.refusals))
        self.assertEqual(told.refused_ids, [client_id])
        self.assertEqual(alice.counters.refused, 1)

    async def test_lost_receipt(self) -> None:
        """When the receipt is lost with its connection, the message is sent again, heard once."""
        server = self.start()
        alice, told = await self.connected("alice")
        _, ear = await self.connected("bob")
        await alice.command("ping")  # so that her session is there
        self.mute(server, "alice")
        sent = [alice.send("bob", text) for text in ("one", "two")]
        await ear.hears("two")
        self.assertEqual(told.stored_ids, [])
        self.cut(server, "alice")
        await told.until(lambda: len(told.delivered_ids) == 2)  # bob acknowledged long before
        self.assertEqual((told.stored_ids, told.delivered_ids), (sent, sent))
        sent.append(alice.send("bob", "three"))
        await ear.hears("three")
        self.assertEqual(ear.texts, ["one", "two", "three"])
        self.assertEqual((alice.counters.sent, told.refusals), (6, []))

    async def test_lost_delivered(self) -> None:
        """A message that arrives while its sender is away: they are told when they are back."""
        server = self.start()
        key = PrivateKey.generate()
        bob, _ = await self.connected("bob", key=key)
        await bob.stop()
        alice, told = await self.connected("alice")
        client_id = alice.send("bob", "hello")
        await told.until(lambda: told.stored_ids == [client_id])
        self.mute(server, "alice")
        bob, ear = await self.connected("bob", key=key)
        await ear.hears("hello")
        await bob.stop()  # so that it is acknowledged
        self.cut(server, "alice")
        await told.until(lambda: told.delivered_ids == [client_id])
        self.assertEqual(told.stored_ids, [client_id])

    async def test_restart(self) -> None:
        """Over a server's restart everything is stored once, in its order, and receipted once."""
        server = self.start()
        port = self.port
        alice, told = await self.connected("alice")
        _, ear = await self.connected("bob")
        sent = [alice.send("bob", str(number)) for number in range(3)]
        await self.stop_server(server)
        await told.becomes(State.DISCONNECTED)
        sent += [alice.send("bob", str(number)) for number in range(3, 6)]
        self.start(port)
        await told.until(lambda: len(told.delivered_ids) == 6)
        self.assertEqual((told.stored_ids, told.delivered_ids), (sent, sent))
        self.assertEqual(ear.texts, [str(number) for number in range(6)])
        self.assertEqual(told.refusals, [])

    async def test_lower_limit(self) -> None:
        """A server that takes fewer messages gets all of them, in their order."""
        self.start(message_rate="20", message_burst="2")
        alice, told = await self.connected("alice")
        _, ear = await self.connected("bob")
        sent = [alice.send("bob", str(number)) for number in range(8)]
        await ear.hears("7")
        self.assertEqual(ear.texts, [str(number) for number in range(8)])
        await told.until(lambda: told.stored_ids == sent)
        self.assertEqual((told.refusals, alice.counters.refused), ([], 0))

    async def test_silence(self) -> None:
        """A server that does not answer pings any more is left, and found again."""
        server = self.start()
        alice, told = await self.connected("alice", keepalive=(0.2, 2.0))
        await alice.command("ping")
        self.mute(server, "alice")
        client_id = alice.broadcast("into the silence")
        await told.becomes(State.CONNECTED, 2)
        await told.until(lambda: told.stored_ids == [client_id])
        self.cut(server, "alice")


class AskingTests(QuickTests):
    """History, and presence."""

    async def test_history(self) -> None:
        """The newest of a conversation come in order, verified, over as many pages as it takes."""
        self.start(message_rate="100000", message_burst="100000")
        alice, told = await self.connected("alice")
        bob, _ = await self.connected("bob")
        for number in range(305):
            alice.send("bob", str(number))
        await alice.settled()
        bob.send("alice", "305")
        bob.broadcast("not of it")
        await bob.settled()
        page = await alice.history("bob", 303)  # a page has 300 at most
        self.assertEqual([heard.text for heard in page.messages], [str(n) for n in range(3, 306)])
        self.assertTrue(all(heard.verified for heard in page.messages))
        self.assertTrue(page.more)
        earlier = await alice.history("bob", 10, before=page.next)
        self.assertEqual([heard.text for heard in earlier.messages], ["0", "1", "2"])
        self.assertFalse(earlier.more)
        last = await bob.history("alice", 2)
        self.assertEqual([heard.text for heard in last.messages], ["304", "305"])
        broadcasts = await alice.history("broadcast")
        self.assertEqual([heard.text for heard in broadcasts.messages], ["not of it"])
        self.assertEqual(told.refusals, [])

    async def test_history_refused(self) -> None:
        """What cannot be asked is told at once; what is not answered, with the reason."""
        self.start()
        alice, _ = await self.connected("alice")
        await self.assertFailure(Deferred.fromCoroutine(alice.history("a b")), ValueError)
        first, second = (Deferred.fromCoroutine(alice.history("alice")) for _ in range(2))
        error = await self.assertFailure(second, RequestRefused)
        self.assertIn("at a time", str(error))
        self.assertEqual((await first).messages, [])

    async def test_early(self) -> None:
        """What is asked before there is a connection is answered when there is one."""
        self.start()
        alice, told = self.client("alice")
        alice.broadcast("hello")
        self.assertEqual((await alice.presence()).online, ["alice"])
        self.assertEqual(told.count(State.CONNECTED), 1)

    async def test_presence(self) -> None:
        """Who is there is answered, and who comes and goes told from then on."""
        self.start()
        alice, told = await self.connected("alice")
        presence = await alice.presence()
        self.assertEqual(presence.online, ["alice"])
        bob, _ = await self.connected("bob")
        await told.until(lambda: any("bob" in joined for joined, _ in told.presence))
        await bob.stop()
        await told.until(lambda: any("bob" in left for _, left in told.presence))
        joined, left = told.presence[-1]
        self.assertEqual((joined, list(left)), ([], ["bob"]))
        named = await alice.presence(["bob"], watch=False)
        self.assertEqual((named.online, named.last_seen), ([], left))

    async def test_lost(self) -> None:
        """A question whose connection is lost fails, and is not asked on the next one."""
        server = self.start()
        alice, told = await self.connected("alice")
        await alice.command("ping")
        self.mute(server, "alice")
        asked = Deferred.fromCoroutine(alice.presence())
        self.cut(server, "alice")
        await self.assertFailure(asked, ConnectionProblem)
        await told.becomes(State.CONNECTED, 2)
        self.assertEqual(alice.unsettled, 0)
