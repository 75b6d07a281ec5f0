"""Tests of `wschat.threads`."""

from __future__ import annotations

import gc
import threading
import weakref
from typing import Any, cast

from twisted.internet import reactor
from twisted.internet.defer import gatherResults
from twisted.trial.unittest import TestCase

from wschat.threads import Threads


class ThreadsTests(TestCase):
    """Functions in other threads, against the real reactor."""

    def threads(self, count: int = 1) -> Threads:
        made = Threads(cast(Any, reactor), "test", count)
        self.addCleanup(made.stop)
        return made

    async def test_result(self) -> None:
        """It runs in a thread of that name; its result comes in the reactor's."""
        here = threading.current_thread()
        running = self.threads()(lambda a, b: (a + b, threading.current_thread().name), 1, 2)
        where = running.addCallback(lambda result: (*result, threading.current_thread()))
        self.assertEqual(await where, (3, "test-0", here))

    async def test_failure(self) -> None:
        """What it raises fails the Deferred, and the thread goes on."""
        threads = self.threads()
        await self.assertFailure(threads(int, "x"), ValueError)
        await self.assertFailure(threads(exec, "raise SystemExit"), SystemExit)
        self.assertEqual(await threads(int, "7"), 7)

    async def test_order(self) -> None:
        """One thread runs one after the other, in the order of the calls."""
        ran: list[int] = []
        threads = self.threads()
        await gatherResults([threads(ran.append, number) for number in range(100)])
        self.assertEqual(ran, list(range(100)))

    async def test_several(self) -> None:
        """Several threads run several at once: each of these waits for the other."""
        barrier = threading.Barrier(2, timeout=10)
        threads = self.threads(2)
        arrived = await gatherResults([threads(barrier.wait) for _ in range(2)])
        self.assertEqual(sorted(arrived), [0, 1])

    async def test_stop(self) -> None:
        """Stopping finishes what was asked for, and ends the threads."""
        before = threading.active_count()
        threads = Threads(cast(Any, reactor), "test", 2)
        results = gatherResults([threads(str, number) for number in range(20)])
        threads.stop()
        self.assertEqual(threading.active_count(), before)
        self.assertEqual(await results, [str(number) for number in range(20)])

    async def test_nothing_is_kept(self) -> None:
        """A result that nobody has any more is gone, though nothing else was asked for."""

        class Result:
            pass

        threads = self.threads()
        result = await threads(Result)
        gone = weakref.ref(result)
        del result
        await threads(int)
        gc.collect()
        self.assertIsNone(gone())
