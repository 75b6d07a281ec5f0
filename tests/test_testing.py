"""Tests of `wschat.testing`: that a world in memory is like the real one."""

from __future__ import annotations

import os
from importlib import metadata
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.client.support import next_texts
from wschat.client import (
    Chat,
    ConnectionProblem,
    Heard,
    Listener,
    Message,
    MessageRefused,
    RequestRefused,
    State,
)
from wschat.client.settings import Encryption
from wschat.identity import PrivateKey
from wschat.testing import NOW, Limits, World


class WorldTests(SynchronousTestCase):
    """A server and its clients, in memory."""

    def setUp(self) -> None:
        self.world = World()
        self.addCleanup(self.world.close)

    def read(self, chat: Chat, count: int) -> list[str | None]:
        """The texts of the next messages."""
        return self.world.run(next_texts(chat, count))

    def test_conversation(self) -> None:
        """What is said is stored, sealed, verified and delivered, as on a real server."""
        alice, bob = self.world.chat("alice"), self.world.chat("bob")
        heard: list[Message] = []

        @bob.on_message
        async def remember(message: Message) -> None:
            heard.append(message)

        sent = self.world.run(alice.send("bob", "hello"))
        self.world.run(sent.delivered)
        self.world.run(alice.broadcast("all"))
        self.world.advance()
        self.assertEqual([(m.text, m.verified) for m in heard], [("hello", True), ("all", True)])
        self.assertEqual([m.encrypted for m in heard], [True, False])
        self.assertTrue(heard[0].time.startswith("2026-11-22T10:00:0"))

    def test_questions(self) -> None:
        """History, users, presence and commands are answered; refusals are refusals."""
        alice = self.world.chat("alice", encryption=Encryption.DISABLED)
        self.world.run(alice.send("alice", "note"))
        (note,) = self.world.run(alice.history("alice"))
        self.assertEqual(note.text, "note")
        self.assertEqual(self.world.run(alice.users()).online, ["alice"])
        self.assertEqual(self.world.run(alice.presence()).online, ["alice"])
        self.assertEqual(self.world.run(alice.command("ping"))["message"], "pong")
        self.assertRaises(MessageRefused, self.world.run, alice.send("nobody", "x"))

    def test_cut(self) -> None:
        """A connection that is cut comes back, and what was said meanwhile arrives, once."""
        alice, bob = self.world.chat("alice"), self.world.chat("bob")
        states: list[State] = []
        bob.on_state(lambda state, error: states.append(state))
        self.world.cut("bob")
        self.world.advance(0)
        self.world.run(alice.send("bob", "meanwhile"))
        self.world.advance(20)
        self.world.run(alice.send("bob", "after"))
        self.assertEqual(self.read(bob, 2), ["meanwhile", "after"])
        self.assertEqual(states, [State.DISCONNECTED, State.RECONNECTING, State.CONNECTED])

    def test_unreachable(self) -> None:
        """A server that is not reachable is found when it is."""
        self.world.reachable = False
        self.assertRaises(ConnectionProblem, self.world.chat, "alice")
        bob = self.world.chat("bob", wait=False)
        said = bob.send("bob", "early")
        self.world.advance(60)
        self.assertNoResult(said)
        self.world.reachable = True
        self.world.run(said)
        self.assertEqual(self.read(bob, 1), ["early"])

    def test_keys(self) -> None:
        """A user is who has their key; without one that is given, nobody is them again."""
        key = PrivateKey.generate()
        self.world.run(self.world.chat("alice", key=key).close())
        self.world.chat("alice", key=key)
        self.assertRaises(RequestRefused, self.world.chat, "alice")

    def test_session(self) -> None:
        """A session that is named goes on where it was."""
        key = PrivateKey.generate()
        first = self.world.chat("alice", key=key, session="one")
        self.world.run(first.send("alice", "a"))
        self.assertEqual(self.read(first, 1), ["a"])
        self.world.run(first.close())
        self.world.run(self.world.chat("bob").send("alice", "b"))
        again = self.world.chat("alice", key=key, session="one")
        self.assertEqual(self.read(again, 1), ["b"])

    def test_listener(self) -> None:
        """A listener is told of everything."""
        told: list[str | None] = []

        class Ear(Listener):
            def heard(self, heard: Heard) -> Deferred[None] | None:
                told.append(heard.text)
                return None

        alice = self.world.chat("alice", listener=Ear())
        self.world.run(self.world.run(alice.send("alice", "x")).delivered)
        self.assertEqual(told, ["x"])

    def test_plain_functions(self) -> None:
        """A plain function may block, and has to go the same way to the chat as in a thread."""
        alice = self.world.chat("alice")
        replied: list[object] = []

        def handle(message: Message) -> None:
            self.assertRaises(RuntimeError, message.reply, "wrong")
            if message.text == "x":
                replied.append(alice.blocking(message.reply, "y").id)
                self.assertRaises(RuntimeError, message.reply, "wrong still")

        alice.on_message(handle)
        sent = self.world.run(alice.send("alice", "x"))
        self.world.run(sent.delivered)
        self.assertEqual((replied, alice.metrics.errors), ([sent.id + 1], 0))

    def test_flood(self) -> None:
        """A slow handler holds up reading; then it goes on where it was."""
        alice = self.world.chat("alice", encryption=Encryption.DISABLED)
        bob = self.world.chat("bob")
        gate: Deferred[None] = Deferred()
        texts: list[str | None] = []

        @bob.on_message
        async def slow(message: Message) -> None:
            if not gate.called:
                wait: Deferred[None] = Deferred()
                gate.chainDeferred(wait)
                await wait
            texts.append(message.text)

        for start in range(0, 3000, 500):
            sent = [alice.send("bob", str(start + number)) for number in range(500)]
            for each in sent:
                self.world.run(each)
        self.assertLess(bob.metrics.received, 1000)
        gate.callback(None)
        self.world.advance(30)
        self.assertEqual(texts, [str(number) for number in range(3000)])

    def test_questions_in_a_flood(self) -> None:
        """Who asks something is answered, however much they have not handled."""
        alice = self.world.chat("alice", encryption=Encryption.DISABLED)
        bob = self.world.chat("bob")

        @bob.on_message
        async def never(message: Message) -> None:
            await Deferred[None]()

        for start in range(0, 2000, 500):
            for each in [alice.send("bob", str(start + number)) for number in range(500)]:
                self.world.run(each)
        self.assertLess(bob.metrics.received, 1000)
        asked = bob.client.presence(["alice"], watch=False)
        self.assertEqual(self.world.run(asked).online, ["alice"])

    def test_unsettled(self) -> None:
        """Messages that wait are unsettled; whoever waits for an answer alone has none of them."""
        client = self.world.chat("alice", wait=False).client
        client.command("ping").addErrback(lambda failure: None)
        self.assertEqual((client.waiting, client.unsettled), (1, 0))
        client.broadcast("hello")
        self.assertEqual((client.waiting, client.unsettled), (2, 1))

    def test_installed_commands(self) -> None:
        """Commands of installed packages are a real server's, and none of a world's."""

        def found(**_: object) -> list[object]:
            self.fail("entry points were looked for")

        self.patch(metadata, "entry_points", found)
        World().close()

    def test_no_home(self) -> None:
        """It needs no home directory, and leaves nothing anywhere."""
        self.patch(os.path, "expanduser", lambda path: path)  # as where there is none
        self.assertRaises(RuntimeError, Path("~").expanduser)
        World().close()

    def test_late(self) -> None:
        """What takes longer than was given is no hang."""
        alice = self.world.chat("alice")
        self.assertRaises(TimeoutError, self.world.run, alice.ended(), 5)
        self.assertLessEqual(self.world.clock.seconds(), 6)

    def test_time(self) -> None:
        """Hours take no time, and nothing is lost in them."""
        alice = self.world.chat("alice")
        self.world.advance(3 * 3600)
        self.assertEqual((alice.state, alice.metrics.reconnects), (State.CONNECTED, 0))
        self.assertEqual(self.world.server.wall() - NOW, self.world.clock.seconds())


class SmallOutboxTests(SynchronousTestCase):
    """A server whose outboxes hold next to nothing."""

    def test_one_at_a_time(self) -> None:
        """What is larger than a share of an outbox is stored all the same, by itself."""
        world = World(Limits(outbox_bytes=4))
        self.addCleanup(world.close)
        alice = world.chat("alice")
        self.assertGreater(world.run(alice.send("broadcast", "hello")).id, 0)


class LimitsTests(SynchronousTestCase):
    """A world with the limits of a real server."""

    def test_rate(self) -> None:
        """Messages are paced as they are there."""
        world = World(Limits(message_rate=10, message_burst=20))
        alice = world.chat("alice", encryption=Encryption.DISABLED)
        before = world.clock.seconds()
        for each in [alice.send("alice", "x") for _ in range(50)]:
            world.run(each)
        self.assertGreater(world.clock.seconds() - before, 2)
        world.close()
