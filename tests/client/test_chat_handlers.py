"""Tests of `wschat.client.chat`: handlers on a whole server, and what a classic server allows."""

from __future__ import annotations

import threading

from twisted.internet.defer import Deferred, gatherResults

from tests.client.support import Script
from tests.client.test_chat import ChatTests
from wschat.client import Chat, ChatClosed, Message


class HandlerTests(ChatTests):
    """Handlers, and how they end."""

    async def hears(self, chat: Chat, count: int) -> list[str | None]:
        """What a handler that is added last gets."""
        texts: list[str | None] = []
        enough: Deferred[None] = Deferred()

        @chat.on_message
        async def hear(message: Message) -> None:
            texts.append(message.text)
            if len(texts) == count:
                enough.callback(None)

        await enough
        return texts

    async def test_threads(self) -> None:
        """A plain function runs in a thread, answers from there, and holds up nobody."""
        self.start()
        alice, bob = await self.chat("alice"), await self.chat("bob")
        may_end = threading.Event()
        self.addCleanup(may_end.set)
        ids: list[int] = []

        @bob.on_message(sender="alice")
        def answer(message: Message) -> None:
            may_end.wait(10)
            ids.append(bob.blocking(message.reply, "done").id)

        await alice.send("bob", "work")
        await bob.command("ping")
        await bob.send("bob", "me too")
        may_end.set()
        self.assertEqual(await self.hears(alice, 1), ["done"])
        (answered,) = await alice.history("bob", 1)
        await bob.close()  # what the thread has begun may end
        self.assertEqual(ids, [answered.id])

    async def test_late(self) -> None:
        """What came before the first handler waits for it, and is acknowledged after that."""
        self.start()
        alice, bob = await self.chat("alice"), await self.chat("bob")
        sent = await alice.send("bob", "early")
        delivered = sent.delivered
        await bob.command("ping")  # what came before its answer is here
        self.assertFalse(delivered.called)
        self.assertEqual(await self.hears(bob, 1), ["early"])
        await delivered

    async def test_loop_and_handler(self) -> None:
        """A loop and a handler get each message, and both have to be done with it."""
        self.start()
        alice, bob = await self.chat("alice"), await self.chat("bob")
        loop, heard = self.reading(bob, 1), Deferred.fromCoroutine(self.hears(bob, 1))
        sent = await alice.send("bob", "both")
        self.assertEqual(await gatherResults([loop, heard]), [["both"], ["both"]])
        await sent.delivered

    async def test_fault(self) -> None:
        """A handler that fails costs nobody else a message, and is counted."""
        self.start()
        alice = await self.chat("alice")

        @alice.on_message
        async def fails(message: Message) -> None:
            raise ZeroDivisionError

        heard = Deferred.fromCoroutine(self.hears(alice, 2))
        sent = await gatherResults([alice.send("alice", text) for text in ("1", "2")])
        self.assertEqual(await heard, ["1", "2"])
        await gatherResults([each.delivered for each in sent])
        self.assertEqual(alice.metrics.errors, 2)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 2)

    async def test_patience(self) -> None:
        """A handler that does not end is given up, and its message comes again."""
        self.start()
        alice = await self.chat("alice", session="one")
        begun: Deferred[None] = Deferred()

        @alice.on_message
        async def hangs(message: Message) -> None:
            begun.callback(None)
            await Deferred()

        await alice.send("alice", "hello")
        await begun
        await alice.close(patience=0.01)
        again = await self.chat("alice", session="one")
        self.assertEqual(await self.reading(again, 1), ["hello"])

    async def test_receipt_at_the_end(self) -> None:
        """A handler that waits for a receipt at the end gets it."""
        self.start()
        alice = await self.chat("alice")
        begun: Deferred[None] = Deferred()
        stored: list[int] = []

        @alice.on_message(when=lambda message: message.text == "go")
        async def answer(message: Message) -> None:
            said = alice.send("alice", "answer")
            begun.callback(None)
            stored.append((await said).id)

        await alice.send("alice", "go")
        await begun
        await alice.close()
        self.assertEqual(len(stored), 1)


class ClassicTests(ChatTests):
    """A server without receipts."""

    async def test_send(self) -> None:
        """`send` fires when the server has answered what came behind; no id is known."""
        script = Script(self)
        alice = await self.chat("alice", port=script.port, encryption="disabled")
        end = await script.conversation()
        sent = alice.send("bob", "hello")
        await script.frame("hello")
        request = await script.command("ping")
        self.assertFalse(sent.called)
        end.deliver(
            f'{{"success": true, "request_id": "{request}", "result": null}}', sender="server"
        )
        receipt = await sent
        self.assertEqual(receipt.id, 0)
        delivered = receipt.delivered
        await alice.close()
        await self.assertFailure(delivered, ChatClosed)
