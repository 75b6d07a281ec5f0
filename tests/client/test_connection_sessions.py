"""Tests of `wschat.client.connection`: where a session goes on, after whatever."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.defer import Deferred, gatherResults

from tests.client.support import Ear, QuickTests
from wschat.client import Client, SessionOver, State
from wschat.identity import PrivateKey


class SessionTests(QuickTests):
    """Where a session goes on."""

    def setUp(self) -> None:
        super().setUp()
        self.key = PrivateKey.generate()

    async def alice(self, **given: Any) -> tuple[Client, Ear]:
        return await self.connected("alice", key=self.key, **given)

    async def test_named(self) -> None:
        """A new process with the same session hears what came while there was none, and only it."""
        self.start()
        alice, ear = await self.alice(session="desk")
        bob, _ = await self.connected("bob")
        bob.send("alice", "one")
        await ear.hears("one")
        await alice.stop()
        bob.send("alice", "two")
        await bob.settled()
        _, ear = await self.alice(session="desk")
        bob.send("alice", "three")
        await ear.hears("three")
        self.assertEqual((ear.texts, ear.gaps), (["two", "three"], 0))

    async def test_each_its_place(self) -> None:
        """Two sessions of a user hear the same, each once."""
        self.start()
        _, desk = await self.alice(session="desk")
        phone, ear = await self.alice(session="phone")
        bob, _ = await self.connected("bob")
        bob.send("alice", "one")
        await gatherResults([desk.hears("one"), ear.hears("one")])
        await phone.stop()
        bob.send("alice", "two")
        await desk.hears("two")
        _, ear = await self.alice(session="phone")
        await ear.hears("two")
        self.assertEqual((desk.texts, ear.texts), (["one", "two"], ["two"]))

    async def test_after(self) -> None:
        """What is known to be handled is not heard again, though it was not acknowledged."""
        server = self.start()
        alice, ear = await self.alice(session="desk")
        self.patch(alice._session, "handled", lambda message: None)  # as if it crashed before
        bob, _ = await self.connected("bob")
        bob.send("alice", "one")
        bob.send("alice", "two")
        await ear.hears("two")
        self.cut(server, "alice")
        await alice.stop()
        after = ear.messages[0].message.id
        _, ear = await self.alice(session="desk", after=after)
        await ear.hears("two")
        self.assertEqual(ear.texts, ["two"])

    async def test_crash(self) -> None:
        """What was heard and not acknowledged is heard again by the next process."""
        server = self.start()
        alice, ear = await self.alice(session="desk")
        self.patch(alice._session, "handled", lambda message: None)
        bob, _ = await self.connected("bob")
        bob.send("alice", "one")
        await ear.hears("one")
        self.cut(server, "alice")
        await alice.stop()
        _, ear = await self.alice(session="desk")
        await ear.hears("one")

    async def test_reconnected(self) -> None:
        """After a lost connection, what is being handled does not come twice, nor is it lost."""
        server = self.start()
        alice, ear = await self.alice()
        bob, _ = await self.connected("bob")
        slow: Deferred[str | None] = Deferred()
        self.patch(alice.accounts, "user", lambda user_id: slow)
        for text in ("one", "two"):
            bob.send("alice", text)
        await ear.until(lambda: True)
        while alice.counters.received < 2:
            await bob.command("ping")
        self.cut(server, "alice")
        bob.send("alice", "three")
        await ear.becomes(State.CONNECTED, 2)
        while alice.counters.received < 3:
            await bob.command("ping")
        self.assertEqual(ear.texts, [])
        slow.callback(None)
        await ear.hears("three")
        await alice.handled()
        self.assertEqual((ear.texts, ear.refusals), (["one", "two", "three"], []))

    async def test_stop(self) -> None:
        """A client that stops acknowledges what it has handled, and what comes then comes later."""
        self.start()
        alice, ear = await self.alice(session="desk")
        bob, told = await self.connected("bob")
        first = bob.send("alice", "one")
        await ear.hears("one")
        stopping = Deferred.fromCoroutine(alice.stop())
        late = {
            "type": "message",
            "id": ear.messages[0].message.id + 1,
            "header": {"from": "bob", "to": "alice"},
            "body": {"content": "late"},
            "status": "delivered",
        }
        alice.received(json.dumps(late).encode())
        await stopping
        self.assertEqual(ear.texts, ["one"])
        await told.until(lambda: told.delivered_ids == [first])
        bob.send("alice", "late")
        _, ear = await self.alice(session="desk")
        await ear.hears("late")
        self.assertEqual(ear.texts, ["late"])

    async def test_stop_waits(self) -> None:
        """A client that stops handles what has come before it says goodbye."""
        self.start()
        alice, ear = await self.alice(session="desk")
        bob, told = await self.connected("bob")
        slow: Deferred[str | None] = Deferred()
        self.patch(alice.accounts, "user", lambda user_id: slow)
        sent = bob.send("alice", "one")
        while alice.counters.received < 1:
            await bob.command("ping")
        stopping = Deferred.fromCoroutine(alice.stop())
        await bob.command("ping")
        self.assertTrue(alice.connected)
        slow.callback(None)
        await stopping
        self.assertEqual(ear.texts, ["one"])
        await told.until(lambda: told.delivered_ids == [sent])

    async def test_replaced(self) -> None:
        """A client whose session another one takes over ends for good, and says why."""
        self.start()
        alice, ear = await self.alice(session="desk")
        other, told = await self.alice(session="desk")
        await ear.becomes(State.DISCONNECTED)
        error = ear.changes[-1][1]
        self.assertIsInstance(error, SessionOver)
        self.assertIn("(4500)", str(error))
        await other.command("ping")
        self.assertEqual((alice.running, alice.connected), (0, False))
        self.assertEqual((ear.count(State.RECONNECTING), told.count(State.DISCONNECTED)), (0, 0))
        await alice.stop()
