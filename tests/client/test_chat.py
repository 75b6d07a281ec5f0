"""Tests of `wschat.client.chat`: against a whole server; handlers are in test_chat_handlers."""

from __future__ import annotations

from typing import Any

from twisted.internet import defer
from twisted.internet.defer import Deferred, gatherResults

from tests.client.support import QuickTests, next_texts
from wschat.client import (
    Chat,
    ChatClosed,
    CommandFailed,
    DeliveryUnknown,
    Message,
    MessageRefused,
    QueueFull,
    SessionOver,
    State,
    connect,
)
from wschat.client.receipts import UNDELIVERED


class ChatTests(QuickTests):
    """Tests with chats on a server of their own."""

    @property
    def own(self) -> dict[str, Any]:
        """The environment of everybody here."""
        return {"environ": {"XDG_CONFIG_HOME": str(self.home / "config")}}

    async def chat(self, user_id: str, **given: Any) -> Chat:
        """Somebody who is connected, until the test is over."""
        port = given.pop("port", None) or self.port
        chat = await connect(user_id, f"localhost:{port}", **self.own, **given)
        self.addCleanup(chat.close)
        return chat

    def reading(self, chat: Chat, count: int) -> Deferred[list[str | None]]:
        """The texts of the next messages, when they have come."""
        return Deferred.fromCoroutine(next_texts(chat, count))

    def becomes(self, chat: Chat, wanted: State) -> Deferred[None]:
        """Fires when a chat is in a state next."""
        reached: Deferred[None] = Deferred()

        def changed(state: State, error: Exception | None) -> None:
            if state is wanted and not reached.called:
                reached.callback(None)

        chat.on_state(changed)
        return reached


class TalkTests(ChatTests):
    """What is said, and what becomes of it."""

    async def test_send(self) -> None:
        """A message is stored when `send` fires, and delivered when its reader has handled it."""
        self.start()
        alice, bob = await self.chat("alice"), await self.chat("bob")
        sent = await alice.send("bob", "hello")
        self.assertGreater(sent.id, 0)
        delivered = sent.delivered
        self.assertFalse(delivered.called)
        async for message in bob.messages():
            self.assertEqual((message.id, message.sender, message.to), (sent.id, "alice", "bob"))
            self.assertEqual((message.text, message.direct), ("hello", True))
            self.assertTrue(message.verified and message.encrypted)
            self.assertFalse(delivered.called)
            break
        await delivered
        await sent.delivered

    async def test_broadcast(self) -> None:
        """Everybody hears a broadcast."""
        self.start()
        alice, bob = await self.chat("alice"), await self.chat("bob")
        receipt = await alice.broadcast("all of you")
        message = await bob.messages().__anext__()
        self.assertEqual((message.id, message.to), (receipt.id, "broadcast"))
        self.assertFalse(message.direct)

    async def test_refused(self) -> None:
        """What is not taken fails, with the reason, whoever did not take it."""
        self.start()
        alice = await self.chat("alice")
        await self.assertFailure(alice.send("nobody", "hello"), MessageRefused)
        await self.assertFailure(alice.send("no body", "hello"), ValueError)
        await self.assertFailure(alice.send("alice", "x" * 70_000), ValueError)
        self.assertEqual(alice.metrics.errors, 1)
        await alice.send("alice", "and on it goes")

    async def test_same_again(self) -> None:
        """Under the same client id it is the same message."""
        self.start()
        alice = await self.chat("alice")
        first, again = await gatherResults(
            [alice.send("alice", "once", client_id="mine") for _ in range(2)]
        )
        self.assertEqual((first.client_id, first.id), ("mine", again.id))
        heard = self.reading(alice, 1)
        await gatherResults([first.delivered, again.delivered])
        self.assertEqual(await heard, ["once"])

    async def test_offline(self) -> None:
        """What is said without a connection waits, goes out once after resuming, and is bounded."""
        server = self.start()
        port = self.port
        alice, bob = await self.chat("alice"), await self.chat("bob")
        heard = self.reading(bob, 3)
        gone = self.becomes(alice, State.DISCONNECTED)
        await self.stop_server(server)
        await gone
        waiting = [alice.send("bob", str(number)) for number in range(3)]
        rest = [alice.send("alice", "more") for _ in range(998)]
        await self.assertFailure(rest.pop(), QueueFull)
        for deferred in rest:
            deferred.addErrback(lambda failure: failure.trap(ChatClosed))
        self.assertFalse(any(sent.called for sent in waiting))
        self.start(port)
        await gatherResults(waiting)
        self.assertEqual(await heard, ["0", "1", "2"])
        self.assertEqual(alice.metrics.reconnects, 1)

    async def test_many_undelivered(self) -> None:
        """Deliveries are waited for as far as 500 messages back."""
        self.start(message_rate="10000", message_burst="10000")
        alice, bob = await self.chat("alice"), await self.chat("bob")
        sent = await gatherResults([alice.send("bob", "x") for _ in range(UNDELIVERED + 1)])
        await self.assertFailure(sent[0].delivered, DeliveryUnknown)
        await self.reading(bob, UNDELIVERED + 1)
        await sent[-1].delivered


class QuestionTests(ChatTests):
    """What is asked, and answered."""

    async def test_history(self) -> None:
        """What was said comes in order, opened, and page by page."""
        self.start()
        alice, bob = await self.chat("alice"), await self.chat("bob")
        for text in ("one", "two", "three"):
            await alice.send("bob", text)
        newest = await bob.history("alice", 2)
        self.assertEqual([message.text for message in newest], ["two", "three"])
        (first,) = await bob.history("alice", before=newest[0].id)
        self.assertEqual((first.text, first.verified), ("one", True))
        self.assertEqual(await bob.history("broadcast"), [])

    async def test_people(self) -> None:
        """Who is there, and who comes and goes."""
        self.start()
        alice = await self.chat("alice")
        changes: list[Any] = []
        came: Deferred[None] = Deferred()
        went: Deferred[None] = Deferred()

        def told(joined: list[str], left: dict[str, str]) -> None:
            changes.append((joined, list(left)))
            (came if len(changes) == 1 else went).callback(None)

        alice.on_presence(told)
        self.assertEqual((await alice.presence()).online, ["alice"])
        bob = await self.chat("bob")
        self.assertEqual(sorted((await alice.users()).online), ["alice", "bob"])
        await came
        await bob.close()
        await went
        self.assertIn("bob", changes[0][0])  # she may be told of herself, too
        self.assertEqual(changes[1], ([], ["bob"]))

    async def test_command(self) -> None:
        """A command's result, or the server's error."""
        self.start()
        alice = await self.chat("alice")
        self.assertEqual((await alice.command("ping"))["message"], "pong")
        self.assertEqual((await alice.command("echo", {"a": 1}))["echo"], {"a": 1})
        error = await self.assertFailure(alice.command("nonsense"), CommandFailed)
        self.assertEqual(str(error), "Unknown command.")

    async def test_command_late(self) -> None:
        """A server that is not there does not answer in time."""
        alice = await self.chat("alice", port=1, wait=False)
        await self.assertFailure(alice.command("ping", timeout=0.01), defer.TimeoutError)


class StateTests(ChatTests):
    """The connection, and its end."""

    async def test_states(self) -> None:
        """Callbacks are told each state with its reason; one that fails is counted, and no more."""
        server = self.start()
        port = self.port
        alice = await self.chat("alice")
        self.assertIs(alice.state, State.CONNECTED)
        told: list[tuple[State, str]] = []
        back: Deferred[None] = Deferred()

        @alice.on_state
        def fails(state: State, error: Exception | None) -> None:
            raise ZeroDivisionError

        @alice.on_state
        def changed(state: State, error: Exception | None) -> None:
            told.append((state, type(error).__name__))
            if state is State.CONNECTED:
                back.callback(None)

        await self.stop_server(server)
        self.start(port)
        await back
        self.assertEqual(told[0], (State.DISCONNECTED, "ConnectionProblem"))
        self.assertEqual([state for state, _ in told[-2:]], [State.RECONNECTING, State.CONNECTED])
        await alice.close()
        self.assertEqual(alice.metrics.errors, len(told))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), len(told))

    async def test_closed(self) -> None:
        """After the end nothing is said, and loops end; to close again does nothing."""
        self.start()
        alice = await self.chat("alice")
        heard = self.reading(alice, 1)
        async with alice:
            pass
        self.assertEqual(await heard, [])
        self.assertIsNone(await alice.ended())
        await self.assertFailure(alice.send("alice", "late"), ChatClosed)
        await alice.close()

    async def test_replaced(self) -> None:
        """A session that another client takes over is at its end, which says why."""
        self.start()
        first = await self.chat("alice", session="one")
        heard = self.assertFailure(self.reading(first, 1), SessionOver)
        second = await self.chat("alice", session="one")
        self.assertIsInstance(await first.ended(), SessionOver)
        await heard
        await self.assertFailure(first.send("alice", "late"), SessionOver)
        await second.send("alice", "hello")
        self.assertEqual(await self.reading(second, 1), ["hello"])

    async def test_close_in_loop(self) -> None:
        """The message in whose loop a chat is closed is done; those behind it come again."""
        self.start()
        alice = await self.chat("alice", session="one")
        for text in ("quit", "next"):
            await alice.send("alice", text)
        async for message in alice.messages():
            self.assertEqual(message.text, "quit")
            await alice.close()
        again = await self.chat("alice", session="one")
        self.assertEqual(await self.reading(again, 1), ["next"])

    async def test_close_in_handler(self) -> None:
        """And so is that in whose handler it is closed."""
        self.start()
        alice = await self.chat("alice", session="one")

        @alice.on_message
        async def close(message: Message) -> None:
            await alice.close()

        alice.send("alice", "quit").addErrback(lambda failure: failure.trap(ChatClosed))
        await alice.ended()
        again = await self.chat("alice", session="one")
        await again.send("alice", "last")
        self.assertEqual(await self.reading(again, 1), ["last"])

    async def test_metrics(self) -> None:
        """What was done is counted, in bytes as well, and how long the way takes."""
        self.start()
        alice = await self.chat("alice")
        await alice.send("alice", "hello")
        await self.reading(alice, 1)
        metrics = alice.metrics
        assert metrics.round_trip is not None
        self.assertEqual((metrics.sent, metrics.received), (1, 1))
        self.assertEqual((metrics.reconnects, metrics.errors, metrics.unopened), (0, 0, 0))
        self.assertGreater(metrics.bytes_sent, 100)
        self.assertGreater(metrics.bytes_received, 100)
        self.assertLess(metrics.round_trip, 5)
