"""Threads for what blocks: a queue of functions to run, and their results in the reactor's turn."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Any, Final, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads
from twisted.python.failure import Failure

Result = TypeVar("Result")

_Job = tuple[Deferred[Any], Callable[..., Any], tuple[Any, ...]]

#: What ends a thread.
_END: Final = None


class Threads:
    """
    Threads of one name that take functions from one queue, in the order of the calls.

    As `twisted.internet.threads`, with less to do for each function, since every
    commit is one: with a single thread they run one after the other.
    """

    def __init__(self, reactor: IReactorFromThreads, name: str, count: int = 1) -> None:
        self._reactor = reactor
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=self._run, name=f"{name}-{number}", daemon=True)
            for number in range(count)
        ]
        for thread in self._threads:
            thread.start()

    def __call__(self, function: Callable[..., Result], *args: Any) -> Deferred[Result]:
        """Run a function in one of the threads; the Deferred fires with its result, or fails."""
        deferred: Deferred[Result] = Deferred()
        self._jobs.put((deferred, function, args))
        return deferred

    def stop(self) -> None:
        """Finish what was asked for.  Blocks for that long."""
        for _ in self._threads:
            self._jobs.put(_END)
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while (job := self._jobs.get()) is not _END:
            deferred, function, args = job
            try:
                result = function(*args)
            except BaseException:
                result = Failure()
            self._reactor.callFromThread(deferred.callback, result)
            del (
                job,
                deferred,
                function,
                args,
                result,
            )  # nothing is kept while there is nothing to do
