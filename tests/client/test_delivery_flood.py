"""A client whose handlers are far slower than what comes: bounded memory, and nothing lost."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, DeferredSemaphore, gatherResults

from tests.client.test_chat import ChatTests
from wschat.client import Chat, Message
from wschat.client.delivery import MESSAGES

COUNT = 10_000

#: So that the server refuses nothing of it.
GENEROUS: dict[str, Any] = {
    "message_rate": "100000",
    "message_burst": "100000",
    "offline_limit": "100000",
}


class FloodTests(ChatTests):
    """Ten thousand messages, poured."""

    timeout = 120

    async def pour(self, chat: Chat, to: str, count: int) -> None:
        """Send numbers, each stored."""
        few = DeferredSemaphore(400)
        await gatherResults([few.run(chat.send, to, str(number)) for number in range(count)])

    def watch(self, chat: Chat) -> dict[str, int]:
        """The most that ever waits in a chat, and how often reading was held up."""
        seen = {"most": 0, "held": 0}
        deliveries: Any = chat.client._deliveries
        put = deliveries.put

        def counting(message: Any) -> None:
            put(message)
            seen["most"] = max(seen["most"], deliveries.waiting)
            seen["held"] += deliveries.many

        deliveries.put = counting
        return seen

    async def test_slow_handler(self) -> None:
        """A handler that does nothing until all are sent gets each once, in order."""
        self.start(**GENEROUS)
        alice = await self.chat("alice", encryption="disabled")
        bob = await self.chat("bob")
        seen = self.watch(bob)
        texts: list[str | None] = []
        poured: Deferred[None] = Deferred()
        finished: Deferred[None] = Deferred()

        @bob.on_message
        async def slow(message: Message) -> None:
            if not poured.called:
                waiting: Deferred[None] = Deferred()
                poured.chainDeferred(waiting)
                await waiting
            texts.append(message.text)
            if len(texts) == COUNT:
                finished.callback(None)

        await self.pour(alice, "bob", COUNT)
        self.assertEqual(texts, [])
        self.assertGreater(seen["held"], 0)
        poured.callback(None)
        await finished
        self.assertEqual(texts, [str(number) for number in range(COUNT)])
        self.assertLess(seen["most"], 2 * MESSAGES)

    async def test_answering_handler(self) -> None:
        """A handler that waits for receipts gets them, however much comes before them."""
        self.start(**GENEROUS)
        alice = await self.chat("alice", encryption="disabled")
        bob = await self.chat("bob", encryption="disabled")
        seen = self.watch(bob)
        texts: list[str | None] = []
        poured: Deferred[None] = Deferred()
        finished: Deferred[None] = Deferred()
        count = COUNT // 4

        @bob.on_message
        async def answer(message: Message) -> None:
            if not poured.called:
                waiting: Deferred[None] = Deferred()
                poured.chainDeferred(waiting)
                await waiting
            await bob.send("charlie", f"{message.text}!")
            texts.append(message.text)
            if len(texts) == count:
                finished.callback(None)

        await self.chat("charlie")
        await self.pour(alice, "bob", count)
        poured.callback(None)
        await finished
        self.assertEqual(texts, [str(number) for number in range(count)])
        self.assertLessEqual(seen["most"], 2 * MESSAGES)
