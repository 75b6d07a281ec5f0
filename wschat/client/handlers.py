"""
What a program does with messages: handlers, filtered and chained, on the reactor or in threads.

A handler is a coroutine function, which runs on the reactor; or a plain
function, which runs in a thread of its own and may block; or an object with a
method `handle` that is one of the two, and perhaps a method `accepts`.
"""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
import functools
import inspect
import json
import queue
import threading
from collections import deque
from collections.abc import Callable, Collection, Iterator
from enum import Enum
from typing import Any, Final, Protocol

from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.threads import blockingCallFromThread
from twisted.logger import Logger
from twisted.python.failure import Failure

from wschat.client.listener import Heard
from wschat.envelope import Authenticity
from wschat.wire import Kind

#: Threads for plain functions.
THREADS: Final = 4

log = Logger(namespace="wschat.client")

#: What says that the message which is being handled has been; see `Chat.close`.
being_handled: contextvars.ContextVar[Deferred[None] | None] = contextvars.ContextVar(
    "being_handled", default=None
)


class Chain(Enum):
    """What a handler may return."""

    #: No later handler gets the message.
    STOP = "stop"


STOP: Final = Chain.STOP


class Message:
    """
    A message that came.

    `text` is None when it was sealed and cannot be opened.  `verified` says
    whether its sender's key signed it; `authenticity` says more.
    """

    def __init__(self, heard: Heard, send: Callable[[str, str], Deferred[Any]]) -> None:
        self.heard = heard
        self._send = send

    def __repr__(self) -> str:
        return f"<message {self.id} from {self.sender} to {self.to}>"

    @property
    def id(self) -> int:
        return self.heard.message.id

    @property
    def sender(self) -> str:
        return self.heard.message.sender

    @property
    def to(self) -> str:
        """A user id, or `broadcast`."""
        return self.heard.message.topic

    @property
    def text(self) -> str | None:
        return self.heard.text

    @property
    def time(self) -> str:
        """When it was sent, as its sender says (RFC 3339)."""
        return self.heard.message.timestamp

    @property
    def direct(self) -> bool:
        """Whether it is to one user; else it is to everybody."""
        return self.heard.message.kind is Kind.DIRECT

    @property
    def encrypted(self) -> bool:
        return self.heard.message.encrypted

    @property
    def verified(self) -> bool:
        return self.heard.verified

    @property
    def authenticity(self) -> Authenticity:
        return self.heard.authenticity

    @functools.cached_property
    def content(self) -> dict[str, Any] | None:
        """The JSON object that the text is; None when it is none."""
        if not (self.text or "").lstrip().startswith("{"):
            return None
        try:
            content: dict[str, Any] = json.loads(self.text or "")
        except (ValueError, RecursionError):
            return None
        return content

    @property
    def type(self) -> str | None:
        """The field `type` of its JSON object."""
        kind = (self.content or {}).get("type")
        return kind if isinstance(kind, str) else None

    def reply(self, text: str) -> Deferred[Any]:
        """Say something to its sender, as `Chat.send` does."""
        return self._send(self.sender, text)


#: What a handler may be; see the top of this module.
Handler = Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class Filter:
    """Which messages a handler gets: those that all of it is true of."""

    #: One user, or any of several.
    sender: str | Collection[str] | None = None
    #: True: to one user; False: to everybody.
    direct: bool | None = None
    verified: bool | None = None
    #: The `type` of the message's JSON object.
    of_type: str | None = None
    #: Whatever else; it runs on the reactor.
    when: Callable[[Message], bool] | None = None

    def accepts(self, message: Message) -> bool:
        if self.sender is not None:
            senders = (self.sender,) if isinstance(self.sender, str) else self.sender
            if message.sender not in senders:
                return False
        if self.direct is not None and message.direct is not self.direct:
            return False
        if self.verified is not None and message.verified is not self.verified:
            return False
        if self.of_type is not None and message.type != self.of_type:
            return False
        return self.when is None or bool(self.when(message))


class Pool(Protocol):
    """Where plain functions run."""

    def run(self, function: Callable[[Message], Any], message: Message) -> Deferred[Any]:
        """What a function returns, or raises."""

    def blocking(self, function: Callable[[], Deferred[Any]]) -> Any:
        """Call something on the reactor, from a plain function; wait for what it comes to."""

    def stop(self) -> None: ...


_thread: Final = threading.local()


def check_thread(home: int) -> None:
    """
    Raises `RuntimeError` where nothing may touch the reactor, which is in the thread `home`.

    That is in any other thread, and in a plain function, wherever that runs.
    """
    if getattr(_thread, "handles", False) or threading.get_ident() != home:
        raise RuntimeError("This is another thread's: use chat.blocking(chat.send, …).")


def call_in_thread(function: Callable[[Message], Any], message: Message) -> Any:
    """What a plain function returns, or a `Failure`; to be called where it is to run."""
    _thread.handles = True
    try:
        result = function(message)
        if isinstance(result, Deferred) or inspect.iscoroutine(result):
            raise TypeError(f"{function!r} has to be a coroutine function to return what it did.")
        return result
    except BaseException:  # sys.exit() is a fault as well: it would end nothing
        return Failure()
    finally:
        _thread.handles = False


def check_may_block(home: int) -> None:
    """Raises `RuntimeError` where nothing may wait: on the reactor, which would stand still."""
    if not getattr(_thread, "handles", False) and threading.get_ident() == home:
        raise RuntimeError("chat.blocking is for plain functions and threads: await it here.")


@contextlib.contextmanager
def out_of_thread() -> Iterator[None]:
    """Inside of this it is the reactor's thread again, for pools that have no threads."""
    _thread.handles = False
    try:
        yield
    finally:
        _thread.handles = True


class Threads:
    """
    A bounded number of threads, which are made when they are needed.

    They keep no program from ending (those of `concurrent.futures` do): one
    that hangs then costs a message, which comes again.
    """

    def __init__(self, reactor: Any, size: int = THREADS) -> None:
        self._reactor = reactor
        self._home = threading.get_ident()
        self._size = size
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._threads = 0

    def run(self, function: Callable[[Message], Any], message: Message) -> Deferred[Any]:
        result: Deferred[Any] = Deferred()
        context = contextvars.copy_context()

        def work() -> None:
            value = context.run(call_in_thread, function, message)
            self._reactor.callFromThread(result.callback, value)

        self._work.put(work)
        if self._threads < self._size:
            self._threads += 1
            threading.Thread(target=self._run, name="wschat-handler", daemon=True).start()
        return result

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            work()

    def blocking(self, function: Callable[[], Deferred[Any]]) -> Any:
        check_may_block(self._home)
        context = contextvars.copy_context()

        def call() -> Deferred[Any]:
            return context.run(maybeDeferred, function)

        return blockingCallFromThread(self._reactor, call)

    def stop(self) -> None:
        """What runs is left to end by itself."""
        for _ in range(self._threads):
            self._work.put(None)


class Handlers:
    """
    The handlers of a program, in the order in which they were added.

    The messages of one sender are handled one after another, those of several
    at the same time: as many as there are threads by plain functions, and
    all of them by coroutines.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._handlers: list[tuple[Filter, Callable[[Message], Any]]] = []
        self._queues: dict[str, deque[tuple[Message, Deferred[None]]]] = {}
        self._stopped = False
        #: Exceptions in handlers and filters.
        self.failures = 0

    def __len__(self) -> int:
        return len(self._handlers)

    def add(self, handler: Handler, which: Filter) -> None:
        """Add a handler, for the messages that the filter and it itself accept."""
        function = getattr(handler, "handle", handler)
        if not callable(function):
            raise TypeError(f"{handler!r} is no handler: neither it nor its .handle can be called.")
        own = getattr(handler, "accepts", None) if function is not handler else None
        if own is not None:
            before, accepts = which, own
            which = Filter(when=lambda message: before.accepts(message) and accepts(message))
        self._handlers.append((which, function))

    def handle(self, message: Message) -> Deferred[None]:
        """
        Give a message to the handlers; the Deferred fires when they are done.

        It fails with `CancelledError` when they were stopped before that began.
        """
        done: Deferred[None] = Deferred()
        if self._stopped:
            done.errback(CancelledError())
            return done
        queue = self._queues.setdefault(message.sender, deque())
        queue.append((message, done))
        if len(queue) == 1:
            Deferred.fromCoroutine(self._work(message.sender, queue))
        return done

    def stop(self) -> None:
        """Begin with no other message: those that wait are given up."""
        self._stopped = True
        for entries in list(self._queues.values()):
            waiting = list(entries)[1:]
            while len(entries) > 1:
                entries.pop()
            for _, done in waiting:
                done.errback(CancelledError())

    async def _work(self, sender: str, queue: deque[tuple[Message, Deferred[None]]]) -> None:
        while queue:
            message, done = queue[0]
            being_handled.set(done)
            await self._chain(message)
            queue.popleft()
            if not queue:
                del self._queues[sender]  # … before anybody is told, who may bring another
            if not done.called:
                done.callback(None)

    async def _chain(self, message: Message) -> None:
        for which, function in list(self._handlers):
            try:
                if not which.accepts(message):
                    continue
                if _is_coroutine_function(function):
                    result = await function(message)
                else:
                    result = await self._pool.run(function, message)
            except GeneratorExit:  # nobody is there any more
                raise
            except BaseException:  # the next handler's and the next message's turn
                self.failures += 1
                log.failure("a handler failed")
                continue
            if result is STOP:
                return


def _is_coroutine_function(function: Any) -> bool:
    called = getattr(type(function), "__call__", None)  # noqa: B004  # to see what it is
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(called)
