"""Tests of `wschat.client.chat`: what goes wrong in programs, on a server in memory."""

from __future__ import annotations

import asyncio
from typing import Any

from twisted.internet import defer
from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from wschat.client import Chat, Message
from wschat.client.delivery import MESSAGES
from wschat.client.listener import State
from wschat.client.settings import Encryption
from wschat.testing import Limits, World


class MemoryTests(SynchronousTestCase):
    """alice and bob, in memory."""

    def setUp(self) -> None:
        self.world = World(Limits(offline_limit=10_000))
        self.addCleanup(self.world.close)
        self.alice = self.world.chat("alice", encryption=Encryption.DISABLED)
        self.bob = self.world.chat("bob", encryption=Encryption.DISABLED)
        self.told: list[Any] = []

    async def tell(self, message: Message) -> None:
        self.told.append(message.text)

    def say(self, *texts: str) -> list[Deferred[None]]:
        """Alice tells bob something; fires when it is delivered."""
        sent = [self.world.run(self.alice.send("bob", text)) for text in texts]
        self.world.advance(1)
        return [each.delivered for each in sent]


class SharedTests(MemoryTests):
    """Loops and handlers, that come and go."""

    def test_loop_left(self) -> None:
        """What handlers have done does not wait for a loop that is left."""
        self.bob.on_message(self.tell)
        messages = self.bob.messages()
        delivered = self.say("1", "2", "3")
        self.world.run(messages.__anext__())
        self.assertEqual(self.told, ["1", "2", "3"])
        self.assertNoResult(delivered[1])
        del messages
        self.world.advance(1)
        for each in delivered:
            self.successResultOf(each)

    def test_loop_left_to_handlers(self) -> None:
        """What waited for a loop that is left goes to handlers that are there by now."""
        messages = self.bob.messages()
        self.say("1", "2")
        self.bob.on_message(self.tell)
        delivered = self.say("3")
        del messages
        self.world.advance(1)
        self.assertEqual(sorted(self.told), ["1", "2", "3"])
        self.successResultOf(delivered[0])

    def test_late_handlers(self) -> None:
        """What came early goes to all handlers that are added together, and in order."""
        self.say('{"type": "order"}', "2")
        self.bob.on_message(self.tell, of_type="order")
        self.bob.on_message(self.tell)
        self.say("3")
        self.assertEqual(self.told, ['{"type": "order"}'] * 2 + ["2", "3"])


class WaitTests(MemoryTests):
    """Handlers that wait for something."""

    def test_delivery(self) -> None:
        """A handler that waits for a delivery is told of it, however much came before that."""
        self.alice.on_message(self.tell)

        @self.bob.on_message
        async def answer(message: Message) -> None:
            sent = await message.reply(f"{message.text}!")
            pause: Deferred[None] = Deferred()
            self.world.clock.callLater(1, pause.callback, None)
            await pause
            await sent.delivered

        for start in range(0, 3 * MESSAGES, MESSAGES):
            for number in range(start, start + MESSAGES):
                self.alice.send("bob", str(number))
            self.world.advance(5)
        self.world.advance(3 * MESSAGES * 2)
        self.assertEqual(self.told, [f"{number}!" for number in range(3 * MESSAGES)])

    def test_held(self) -> None:
        """A connection that is not read is not taken for a dead one, on either side."""
        gate: Deferred[None] = Deferred()

        @self.bob.on_message
        async def slow(message: Message) -> None:
            if not gate.called:
                wait: Deferred[None] = Deferred()
                gate.chainDeferred(wait)
                await wait
            self.told.append(message.text)

        texts = [str(number) for number in range(2 * MESSAGES)]
        for start in (0, MESSAGES):
            for text in texts[start : start + MESSAGES]:
                self.alice.send("bob", text)
            self.world.advance(5)
        self.world.advance(600)
        self.assertLess(self.bob.metrics.received, len(texts))
        gate.callback(None)
        self.world.advance(30)
        self.assertEqual((self.told, self.bob.metrics.reconnects), (texts, 0))

    def test_cancelled(self) -> None:
        """A handler that was cancelled is one that failed, and no more than that."""

        @self.bob.on_message
        async def cancelled(message: Message) -> None:
            self.told.append(message.text)
            raise asyncio.CancelledError

        self.say("1", "2")
        self.assertEqual((self.told, self.bob.metrics.errors), (["1", "2"], 2))
        self.assertEqual(len(self.flushLoggedErrors(asyncio.CancelledError)), 2)

    def test_blocking(self) -> None:
        """A coroutine that would block the reactor is told so, as it would hang elsewhere."""

        @self.bob.on_message
        async def blocks(message: Message) -> None:
            self.bob.blocking(message.reply, "x")

        self.say("1")
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        self.say("2")
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_two_close(self) -> None:
        """Two handlers that close a chat wait for each other no longer than for the server."""
        charlie = self.world.chat("charlie")
        gate: Deferred[None] = Deferred()

        @self.bob.on_message
        async def close(message: Message) -> None:
            wait: Deferred[None] = Deferred()
            gate.chainDeferred(wait)
            await wait
            await self.bob.close()
            self.told.append(self.world.clock.seconds())

        self.say("quit")
        self.world.run(charlie.send("bob", "quit"))
        self.world.advance(1)
        before = self.world.clock.seconds()
        gate.callback(None)
        self.world.advance(20)
        self.assertEqual(len(self.told), 2)
        self.assertLess(max(self.told) - before, 5)


class CallbackTests(MemoryTests):
    """What a program is told of the connection."""

    def test_coroutine(self) -> None:
        """A callback may be a coroutine function; what it raises is logged and counted."""

        @self.bob.on_state
        async def changed(state: State, error: Exception | None) -> None:
            if self.alice.state is State.CONNECTED:
                await self.alice.send("alice", state.value)
            self.told.append(state)
            raise ZeroDivisionError

        self.world.cut("bob")
        self.world.advance(30)
        self.assertEqual(self.told, [State.DISCONNECTED, State.RECONNECTING, State.CONNECTED])
        self.assertEqual(self.bob.metrics.errors, 3)
        self.world.run(self.bob.close())
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 4)

    def test_close(self) -> None:
        """A chat can be closed in each of its states, and stays closed."""
        for wanted in (State.DISCONNECTED, State.RECONNECTING, State.CONNECTED):
            chat = self.world.chat(f"charlie-{wanted}")
            chat.on_state(_closing(chat, wanted))
            self.world.cut(chat.user_id)
            self.world.advance(60)
            self.assertIs(chat.state, State.DISCONNECTED, wanted)
            self.successResultOf(chat.ended())
            users = {connection.user_id for connection in self.world.server.factory.connections}
            self.assertNotIn(chat.user_id, users)


def _closing(chat: Chat, wanted: State) -> Any:
    def changed(state: State, error: Exception | None) -> None:
        if state is wanted:
            chat.close()

    return changed


class SendTests(MemoryTests):
    """What is no message, and what is not waited for."""

    def test_no_text(self) -> None:
        """What is no text is refused at once, and costs no other message anything."""
        for to, text in (("bob", None), ("bob", 7), (None, "x"), (["bob"], "x")):
            self.failureResultOf(self.alice.send(to, text), TypeError)  # type: ignore[arg-type]  # no text
        error = self.failureResultOf(self.alice.send("bob", "\ud800"), ValueError).value
        self.assertIn("no character", str(error))
        self.failureResultOf(self.alice.broadcast(b"x"), TypeError)  # type: ignore[arg-type]  # no text
        self.world.run(self.alice.send("bob", "x"))

    def test_same_name(self) -> None:
        """What cannot be sent under a name that is used does not disturb what was."""
        self.world.reachable = False
        self.world.cut("alice")
        self.world.advance(1)
        first = self.alice.send("bob", "x", client_id="one")
        self.failureResultOf(self.alice.send("bob", "x" * 70_000, client_id="two"), ValueError)
        second = self.alice.send("bob", "x" * 70_000, client_id="one")
        self.world.reachable = True
        self.assertEqual(self.world.run(first).id, self.world.run(second).id)

    def test_command_cancelled(self) -> None:
        """A command that nobody waits for any more is not sent later."""
        self.world.reachable = False
        self.world.cut("bob")
        self.world.advance(1)
        asked = [self.bob.command("ping", timeout=5), self.bob.command("ping")]
        asked[1].cancel()
        self.assertRaises(defer.TimeoutError, self.world.run, asked[0])
        self.failureResultOf(asked[1], CancelledError)
        self.assertEqual(self.bob.client.waiting, 0)


class RoomTests(MemoryTests):
    """Programs that read as fast as a file can be read."""

    def test_room(self) -> None:
        """Who waits for room before each message finds it, however fast the server is."""

        async def pour() -> None:
            for number in range(3000):
                await self.alice.client.room()
                self.alice.client.send("bob", str(number))

        self.bob.on_message(self.tell)
        self.world.run(pour())
        self.world.advance(30)
        self.assertEqual(self.told, [str(number) for number in range(3000)])
