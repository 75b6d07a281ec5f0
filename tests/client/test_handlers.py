"""Tests of `wschat.client.handlers`."""

from __future__ import annotations

import sys
import threading
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, gatherResults, succeed
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase, TestCase

from wschat import wire
from wschat.client.handlers import (
    STOP,
    Filter,
    Handlers,
    Message,
    Threads,
    call_in_thread,
    check_thread,
)
from wschat.client.listener import Heard
from wschat.envelope import Authenticity


def make(
    text: str | None = "hello",
    sender: str = "bob",
    to: str = "alice",
    worth: Authenticity = Authenticity.NONE,
) -> Message:
    """A message that came."""
    message = wire.Message(sender, to, text or "", "2026-11-22T10:00:00Z", id=7)
    return Message(Heard(message, text, worth), lambda to, text: succeed((to, text)))


class Inline:
    """A pool that runs at once."""

    def run(self, function: Any, message: Message) -> Deferred[Any]:
        result: Deferred[Any] = Deferred()
        result.callback(call_in_thread(function, message))
        return result

    def blocking(self, function: Any) -> Any:
        raise NotImplementedError

    def stop(self) -> None:
        pass


class MessageTests(SynchronousTestCase):
    """A message as a handler sees it."""

    def test_fields(self) -> None:
        """It says who, to whom, when and what."""
        message = make("hello", worth=Authenticity.ENVELOPE)
        self.assertEqual((message.id, message.sender, message.to), (7, "bob", "alice"))
        self.assertEqual((message.text, message.time), ("hello", "2026-11-22T10:00:00Z"))
        self.assertTrue(message.direct and message.verified and not message.encrypted)
        self.assertIs(message.authenticity, Authenticity.ENVELOPE)
        self.assertNotIn("hello", repr(message))

    def test_content(self) -> None:
        """A JSON object is read; anything else is none, and has no type."""
        message = make(' {"type": "order", "count": 2}')
        self.assertEqual((message.content, message.type), ({"type": "order", "count": 2}, "order"))
        for text in (None, "", "hello", "[1]", "1", "{", '{"a": ' * 100_000):
            self.assertIsNone(make(text).content, text)
            self.assertIsNone(make(text).type)
        self.assertIsNone(make('{"type": 1}').type)

    def test_reply(self) -> None:
        """A reply goes to the sender alone."""
        self.assertEqual(self.successResultOf(make(to="broadcast").reply("hi")), ("bob", "hi"))


class FilterTests(SynchronousTestCase):
    """Which messages are for whom."""

    def test_nothing(self) -> None:
        """Without conditions it takes all."""
        self.assertTrue(Filter().accepts(make()))

    def test_conditions(self) -> None:
        """Each condition lets through what it says, and only that."""
        signed, said = make(worth=Authenticity.ENVELOPE), make(to="broadcast")
        order = make('{"type": "order"}', sender="charlie")
        for which, accepted in (
            (Filter(sender="bob"), [signed, said]),
            (Filter(sender=("bob", "charlie")), [signed, said, order]),
            (Filter(sender="bo"), []),
            (Filter(direct=True), [signed, order]),
            (Filter(direct=False), [said]),
            (Filter(verified=True), [signed]),
            (Filter(verified=False), [said, order]),
            (Filter(of_type="order"), [order]),
            (Filter(when=lambda message: message.text == "hello"), [signed, said]),
            (Filter(sender="bob", direct=True), [signed]),
        ):
            found = [message for message in (signed, said, order) if which.accepts(message)]
            self.assertEqual(found, accepted, which)


class HandlersTests(SynchronousTestCase):
    """A program's handlers, without threads."""

    def setUp(self) -> None:
        self.handlers = Handlers(Inline())
        self.told: list[Any] = []
        self.waiting: list[Deferred[None]] = []

    async def slow(self, message: Message) -> None:
        wait: Deferred[None] = Deferred()
        self.waiting.append(wait)
        await wait
        self.told.append(message.text)

    def note(self, name: str, result: Any = None) -> Any:
        def function(message: Message) -> Any:
            self.told.append((name, message.text))
            return result

        return function

    def test_chain(self) -> None:
        """Handlers have their turns in order, functions and coroutines alike; one can stop."""

        async def second(message: Message) -> None:
            self.told.append(("second", message.text))

        self.handlers.add(self.note("first"), Filter())
        self.handlers.add(second, Filter())
        self.handlers.add(self.note("third", STOP), Filter(sender="bob"))
        self.handlers.add(self.note("fourth"), Filter())
        self.assertEqual(len(self.handlers), 4)
        self.successResultOf(self.handlers.handle(make("a")))
        self.assertEqual([name for name, _ in self.told], ["first", "second", "third"])
        self.told.clear()
        self.successResultOf(self.handlers.handle(make("b", sender="charlie")))
        self.assertEqual([name for name, _ in self.told], ["first", "second", "fourth"])

    def test_objects(self) -> None:
        """An object handles what it, and the filter, accept; one may be called itself."""
        told = self.told

        class Picky:
            def accepts(self, message: Message) -> bool:
                return message.text == "a"

            async def handle(self, message: Message) -> None:
                told.append("picky")

        class Called:
            async def __call__(self, message: Message) -> None:
                told.append("called")

        self.handlers.add(Picky(), Filter(sender="bob"))
        self.handlers.add(Called(), Filter())
        for message in (make("a"), make("b"), make("a", sender="charlie")):
            self.successResultOf(self.handlers.handle(message))
        self.assertEqual(told, ["picky", "called", "called", "called"])
        self.assertRaises(TypeError, self.handlers.add, 7, Filter())

    def test_exceptions(self) -> None:
        """What fails is logged and counted, and the others have their turn: filters as well."""

        async def fails(message: Message) -> None:
            raise ZeroDivisionError

        def ends(message: Message) -> None:
            sys.exit(1)

        def forgets_async(message: Message) -> Any:
            return succeed(None)

        self.handlers.add(fails, Filter())
        self.handlers.add(ends, Filter())
        self.handlers.add(forgets_async, Filter())
        self.handlers.add(self.note("x"), Filter(when=lambda message: bool(1 / 0)))
        self.handlers.add(self.note("last"), Filter())
        for _ in range(2):
            self.successResultOf(self.handlers.handle(make()))
        self.assertEqual(self.told, [("last", "hello")] * 2)
        self.assertEqual(self.handlers.failures, 8)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 4)
        self.assertEqual(len(self.flushLoggedErrors(SystemExit, TypeError)), 4)

    def test_order(self) -> None:
        """A sender's messages come one after another; those of others do not wait for them."""
        self.handlers.add(self.slow, Filter())
        first, second = (self.handlers.handle(make(text)) for text in ("1", "2"))
        other = self.handlers.handle(make("other", sender="charlie"))
        self.assertEqual(len(self.waiting), 2)
        self.waiting[1].callback(None)
        self.successResultOf(other)
        self.assertNoResult(first)
        self.waiting[0].callback(None)
        self.successResultOf(first)
        self.assertNoResult(second)
        self.waiting[2].callback(None)
        self.successResultOf(second)
        self.assertEqual(self.told, ["other", "1", "2"])

    def test_stop(self) -> None:
        """What has begun may end; what has not is given up."""
        self.handlers.add(self.slow, Filter())
        first, second = (self.handlers.handle(make(text)) for text in ("1", "2"))
        self.handlers.stop()
        self.failureResultOf(second, CancelledError)
        self.failureResultOf(self.handlers.handle(make("3")), CancelledError)
        self.waiting[0].callback(None)
        self.successResultOf(first)
        self.assertEqual(self.told, ["1"])


class ThreadsTests(TestCase):
    """Plain functions in threads."""

    timeout = 180

    def setUp(self) -> None:
        self.threads = Threads(reactor, 2)
        self.addCleanup(self.threads.stop)

    async def test_run(self) -> None:
        """A function runs beside the reactor, and what it returns or raises comes back."""
        here = threading.get_ident()
        there = await self.threads.run(lambda message: threading.get_ident(), make())
        self.assertNotEqual(there, here)
        await self.assertFailure(self.threads.run(lambda message: 1 / 0, make()), ZeroDivisionError)

    async def test_size(self) -> None:
        """As many run at once as there are threads, and no more."""
        together = threading.Barrier(2, timeout=10)
        now, most = [0], [0]
        lock = threading.Lock()

        def function(message: Message) -> None:
            with lock:
                now[0] += 1
                most[0] = max(most[0], now[0])
            together.wait()
            with lock:
                now[0] -= 1

        await gatherResults([self.threads.run(function, make()) for _ in range(6)])
        self.assertEqual(most, [2])

    async def test_blocking(self) -> None:
        """From a thread something is called on the reactor; there, and only there, it may be."""
        here = threading.get_ident()

        def call() -> Deferred[tuple[int, str]]:
            check_thread(here)
            return succeed((threading.get_ident(), "done"))

        result = await self.threads.run(lambda message: self.threads.blocking(call), make())
        self.assertEqual(result, (here, "done"))
        wrong = self.threads.run(lambda message: check_thread(here), make())
        await self.assertFailure(wrong, RuntimeError)
        self.assertRaises(RuntimeError, self.threads.blocking, call)

    async def test_other_thread(self) -> None:
        """A thread of the program's own goes the same way to the reactor."""
        here = threading.get_ident()
        self.assertEqual(await deferToThread(self.threads.blocking, lambda: succeed(7)), 7)
        await self.assertFailure(deferToThread(check_thread, here), RuntimeError)

    async def test_hanging(self) -> None:
        """A function that hangs keeps no program from ending."""
        daemons = self.threads.run(lambda message: threading.current_thread().daemon, make())
        self.assertTrue(await daemons)
