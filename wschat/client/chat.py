"""
The library for programs that talk: what a `Chat` can do, once `connect` has made one.

Everything that takes time returns a Deferred, which a Twisted coroutine can
await.  docs/sdk.md has examples.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Collection, Coroutine
from types import TracebackType
from typing import Any, Final, TypeVar, overload

import msgspec
from twisted.internet.defer import CancelledError, Deferred, FirstError, fail, gatherResults
from twisted.logger import Logger
from twisted.python.failure import Failure

from wschat import v1, wire
from wschat.client.accounts import ActiveUsers, RequestRefused
from wschat.client.connection import Client
from wschat.client.events import Events
from wschat.client.handlers import (
    Filter,
    Handlers,
    Message,
    Pool,
    Threads,
    being_handled,
    check_thread,
)
from wschat.client.inbox import Inbox, Messages
from wschat.client.listener import Heard, Listener, SessionOver, State
from wschat.client.receipts import ChatClosed, Once, Receipt, Receipts, Sent
from wschat.client.settings import Settings
from wschat.identity import PrivateKey

Result = TypeVar("Result")
Handling = TypeVar("Handling")
Callback = TypeVar("Callback", bound=Callable[..., object])

#: How long the server may take to answer a command, in seconds.
COMMAND_TIMEOUT: Final = 30.0

#: How long `close` waits for handlers, in seconds.
PATIENCE: Final = 10.0

log = Logger(namespace="wschat.client")


class CommandFailed(RequestRefused):
    """The server did not do what a command asked for; the text is its own."""


class Metrics(msgspec.Struct, frozen=True):
    """What a chat has done so far."""

    sent: int
    received: int
    reconnects: int
    #: What was refused, and exceptions in handlers and callbacks.
    errors: int
    #: On the WebSocket, under TLS.
    bytes_sent: int
    bytes_received: int
    #: How long the last ping took, in seconds; None before the first answer.
    round_trip: float | None
    #: Messages that were sealed and could not be opened.
    unopened: int


class Chat:
    """
    A user who is connected, and stays so until `close`.

    Every method that returns a Deferred fails with `ChatClosed` after that.
    """

    def __init__(
        self,
        reactor: Any,
        settings: Settings,
        key: PrivateKey,
        *,
        listener: Listener | None = None,
        pool: Pool | None = None,
        wall: Callable[[], float] = time.time,
        **options: Any,
    ) -> None:
        """`listener` is told of everything, too; `options` are those of `Client`."""
        self._reactor = reactor
        self._thread = threading.get_ident()
        self._listener = listener
        self._pool = pool or Threads(reactor)
        self._handlers = Handlers(self._pool)
        self._inbox = Inbox(reactor, self._pass_on)
        self._receipts = Receipts()
        self._events = Events(self._receipts, listener, self._heard, self._changed)
        self._first: Once[Chat] = Once()  # connected, or why not
        self._ended: Once[SessionOver | None] = Once()
        self._over: SessionOver | None = None
        self._why: Exception | None = None
        self._closing = self._settling = False
        self.user_id = settings.user_id
        #: The service underneath: `whois`, `fingerprint`, `trust`, `rotate`.
        self.client = Client(reactor, settings, key, self._events, wall, **options)

    def open(self, *, wait: bool = True) -> Deferred[Chat]:
        """
        Connect; fires when that is done, or at once when it is not waited for.

        When it is, it fails with a `ConnectionProblem` or `RequestRefused`
        and the chat is closed, as it is when the Deferred is cancelled;
        otherwise it goes on trying.
        """
        if not wait:
            self._first.happen(self)
        self.client.startService()
        return self._first.wait().addErrback(self._not_opened)

    def _not_opened(self, failure: Failure) -> Failure:
        if failure.check(CancelledError):
            self.close()  # nobody waits any more: nobody would close it
        return failure

    async def __aenter__(self) -> Chat:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    # What a program says.

    def send(self, to: str, text: str, *, client_id: str = "") -> Deferred[Sent]:
        """
        Say something to a user, sealed and signed; fires when the server has stored it.

        Without a connection it waits; what is sent again after a lost
        connection, or under the same `client_id`, arrives once.  Fails with
        `MessageRefused`, with `QueueFull` when 1000 messages wait, and with
        `ValueError` for what is no user id and for a text that is too long,
        `TypeError` for what is no text.
        """

        async def say() -> Sent:
            name, message_id = await self._say(to, text, client_id)
            delivery = self._receipts.delivery(name)

            def delivered() -> Deferred[None]:
                waiting = delivery.wait()
                self.client.regulate()  # it is to be heard, whatever comes before it
                return waiting

            return Sent(name, message_id, delivered)

        return self._start(say())

    def broadcast(self, text: str, *, client_id: str = "") -> Deferred[Receipt]:
        """Say something to everybody, signed; as `send`, but nobody says that it arrived."""

        async def say() -> Receipt:
            return Receipt(*await self._say(wire.BROADCAST, text, client_id))

        return self._start(say())

    async def _say(self, to: str, text: str, client_id: str) -> tuple[str, int]:
        name = client_id or secrets.token_hex(12)
        known = self._receipts.expects(name)
        stored = self._receipts.expect(name)  # before it is sent: it may be refused at once
        try:
            self.client.send(to, text, name)
        except Exception:
            if not known:
                self._receipts.forget(name)
            raise
        self._settle()
        return name, await stored.wait()

    # What a program asks.

    def history(
        self, peer: str, limit: int = v1.HISTORY_LIMIT, *, before: int | None = None
    ) -> Deferred[list[Message]]:
        """
        The newest messages to and from a user, in order; with "broadcast" those to everybody.

        Of those before the message `before`, if that is given.  Fails with
        `ValueError` when the server keeps no history, `RequestRefused`,
        `ConnectionProblem`, `QueueFull`.
        """

        async def ask() -> list[Message]:
            page = await self.client.history(peer, limit, before=before)
            return [Message(heard, self.send) for heard in page.messages]

        return self._start(ask())

    def users(self) -> Deferred[ActiveUsers]:
        """Who is `online`, and who `offline`.  Fails with `ConnectionProblem`."""
        return self._start(self.client.accounts.active_users())

    def presence(
        self, users: list[str] | None = None, *, watch: bool = True
    ) -> Deferred[v1.Presence]:
        """
        Who is there, of `users` or of all; changes come to `on_presence` if they are watched.

        Fails as `history` does.
        """
        return self._start(self.client.presence(users, watch=watch))

    def command(
        self, name: str, params: object = None, *, timeout: float = COMMAND_TIMEOUT
    ) -> Deferred[Any]:
        """
        Have the server do something, signed; the result.

        Fails with `CommandFailed`, `ConnectionProblem`, `QueueFull`, and
        `twisted.internet.defer.TimeoutError`.
        """

        async def ask() -> Any:
            asked = self.client.command(name, params)
            answer = await asked.addTimeout(timeout, self._reactor)
            if not answer.success:
                raise CommandFailed(answer.error or "The command failed.")
            return answer.result

        return self._start(ask())

    def blocking(
        self, function: Callable[..., Deferred[Result]], *args: Any, **named: Any
    ) -> Result:
        """
        From a handler that is a plain function, or a thread: call a method, and wait for what
        it comes to.

        `chat.blocking(chat.send, "bob", "hello")`.  Raises `RuntimeError` on
        the reactor, which would wait for itself.
        """
        result: Result = self._pool.blocking(lambda: function(*args, **named))
        return result

    def _start(self, work: Coroutine[Deferred[Any], Any, Result]) -> Deferred[Result]:
        try:
            check_thread(self._thread)
        except RuntimeError:
            work.close()
            raise
        if self._closing:
            work.close()
            return fail(self._over or ChatClosed("The chat is closed."))
        return Deferred.fromCoroutine(work)

    # What a program hears.

    @overload
    def on_message(
        self,
        handler: Handling,
        /,
        *,
        sender: str | Collection[str] | None = None,
        direct: bool | None = None,
        verified: bool | None = None,
        of_type: str | None = None,
        when: Callable[[Message], bool] | None = None,
    ) -> Handling: ...
    @overload
    def on_message(
        self,
        handler: None = None,
        /,
        *,
        sender: str | Collection[str] | None = None,
        direct: bool | None = None,
        verified: bool | None = None,
        of_type: str | None = None,
        when: Callable[[Message], bool] | None = None,
    ) -> Callable[[Handling], Handling]: ...

    def on_message(self, handler: Any = None, /, **which: Any) -> Any:
        """
        Add a handler (see wschat.client.handlers), with or without a filter (see `Filter`).

        `chat.on_message(handler)`, or as a decorator with or without
        arguments.  Messages that came before the first handler wait for it.
        """

        def add(handler: Any) -> Any:
            self._handlers.add(handler, Filter(**which))
            if self._inbox:
                self._reactor.callLater(0, self._pass_on)  # … when others are added, too
            return handler

        return add if handler is None else add(handler)

    def messages(self) -> Messages:
        """
        What comes, for `async for`; it ends when the chat is closed, or with a `SessionOver`.

        Handlers, if there are any, get each message as well; several loops
        share.  A loop that is slow holds up what the server sends, and costs
        no memory.
        """
        return self._inbox.reader()

    def on_state(self, callback: Callback) -> Callback:
        """Call a function with each state of the connection, and the reason when it was lost."""
        self._events.state_callbacks.append(callback)
        return callback

    def on_presence(self, callback: Callback) -> Callback:
        """Call a function with a list of who came, and a dict of who went and when."""
        self._events.presence_callbacks.append(callback)
        return callback

    @property
    def state(self) -> State:
        """What it is doing about its connection."""
        return self._events.state

    @property
    def metrics(self) -> Metrics:
        counted = self.client.counters
        return Metrics(
            counted.sent,
            counted.received,
            counted.reconnects,
            counted.refused + self._handlers.failures + self._events.failures,
            counted.bytes_sent,
            counted.bytes_received,
            counted.round_trip,
            counted.unopened,
        )

    # The end.

    def ended(self) -> Deferred[SessionOver | None]:
        """Fires when the chat is closed: with None, or why the server does not want it back."""
        return self._ended.wait()

    def close(self, patience: float = PATIENCE) -> Deferred[None]:
        """
        Say goodbye.

        Handlers that run may end, for so many seconds; what they have not
        begun with comes again next time.  The message in whose handler or
        loop this is called counts as handled.  What was not sent yet is not.
        """
        check_thread(self._thread)
        hand = being_handled.get()
        if hand is not None and not hand.called:
            hand.callback(None)
        if not self._closing:
            self._closing = True
            Deferred.fromCoroutine(self._close(patience))
        return self._ended.wait().addCallback(lambda _: None)

    async def _close(self, patience: float) -> None:
        self._handlers.stop()
        self._inbox.close(self._over)
        closed = self._why or ChatClosed("The chat was closed.")
        if not self.client.connected:
            self._receipts.close(closed)  # a handler may wait for one
        giving_up = self._reactor.callLater(patience, self.client.give_up)
        try:
            await self.client.stop()
        except Exception:
            log.failure("a chat could not be closed in good order")
        if giving_up.active():
            giving_up.cancel()
        self._receipts.close(closed)
        self._pool.stop()
        if self.state is not State.DISCONNECTED:
            self._events.changed(State.DISCONNECTED, None)
        self._ended.happen(self._over)
        self._first.fail(closed)

    # What the client tells.

    def _heard(self, heard: Heard) -> Deferred[None] | None:
        message = Message(heard, self.send)
        told = None if self._listener is None else self._events.call(self._listener.heard, heard)
        doing: list[Deferred[None]] = [told] if isinstance(told, Deferred) else []
        shared = bool(self._handlers or self._listener)
        if not self._inbox.readers and (self._inbox or not shared):
            doing.append(self._inbox.put(message))  # behind those that wait for somebody
        else:
            if self._handlers:
                doing.append(self._handlers.handle(message))
            if self._inbox.readers:
                doing.append(self._inbox.put(message, shared=shared))
        if len(doing) < 2:
            return doing[0] if doing else None
        return gatherResults(doing, consumeErrors=True).addCallbacks(lambda _: None, _first_failure)

    def _pass_on(self) -> None:
        """What waits goes to the handlers, if there is no loop to take it."""
        if self._handlers and not self._inbox.readers:
            for message, done in self._inbox.drain():
                self._handlers.handle(message).chainDeferred(done)

    def _changed(self, state: State, error: Exception | None) -> None:
        if state is State.CONNECTED:
            self._first.happen(self)
            self._settle()
        elif isinstance(error, SessionOver):
            self._over = error
        if error is not None and (self._over or not self._first.happened):
            self._why = error
            self._reactor.callLater(0, self.close)  # … when the client is done with this

    def _settle(self) -> None:
        """A classic server gives no receipts, but says when it has dealt with everything."""
        client = self.client
        if client.connected and not client.gives_receipts and self._receipts and not self._settling:
            self._settling = True
            client.settled().addCallback(self._settled)

    def _settled(self, result: None) -> None:
        self._settling = False
        self._receipts.settled()


def _first_failure(failure: Failure) -> Failure:
    """Of several that were waited for, what the first one failed with."""
    error = failure.value
    return error.subFailure if isinstance(error, FirstError) else failure
