"""
A client on a terminal, or in a pipe: lines in, lines out.

Messages go to standard output; what the program has to say for itself goes
to standard error.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final, NoReturn

from twisted.internet import defer
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IHalfCloseableProtocol
from twisted.internet.stdio import StandardIO
from twisted.internet.task import LoopingCall, react
from twisted.logger import Logger
from twisted.protocols.basic import LineReceiver
from twisted.python.failure import Failure
from zope.interface import implementer

from wschat.client import console
from wschat.client.accounts import ConnectionProblem
from wschat.client.connection import Client
from wschat.client.console import Broadcast, Direct, NotUnderstood, Slash
from wschat.client.listener import Heard, Listener, SessionOver, State
from wschat.client.narrator import Narrator, recipient
from wschat.client.program import Exit, exit_for, in_colour, interruptible, open_streams, prepare
from wschat.client.session import QueueFull
from wschat.client.settings import Settings
from wschat.client.slash import FAILURES, Commands
from wschat.identity import PrivateKey

__all__ = ["Exit", "Terminal", "run", "run_terminal"]

log = Logger(namespace="wschat.client")

#: What writes down what happens on a terminal.
Narrators = Callable[[Settings, Callable[[str], None]], Narrator]

#: The longest line that is read, in bytes.
MAX_LINE: Final = 1024 * 1024

#: How long the end waits for a server that is away, in seconds.
PATIENCE: Final = 30.0

#: How often AUTO_MODE says something, in seconds.
AUTO_INTERVAL: Final = 30.0

#: At the end: how long the server may take to answer, in seconds, and how often it is asked.
_ANSWER: Final = 5.0
_TRIES: Final = 6


@implementer(IHalfCloseableProtocol)
class Terminal(LineReceiver, Listener):
    """
    One user on standard input and output.

    `done` fires with the exit status.
    """

    delimiter = b"\n"
    MAX_LENGTH = MAX_LINE
    transport: Any

    def __init__(
        self,
        reactor: Any,
        settings: Settings,
        key: PrivateKey,
        narrator: Narrators = Narrator,
    ) -> None:
        self._reactor = reactor
        self._settings = settings
        self._narrator = narrator(settings, self.write_line)
        self._client = Client(reactor, settings, key, self)
        self._commands = Commands(self._client, time.monotonic)
        self._failures = 0  # lines that were not accepted
        self._held: list[tuple[str, str | None]] | None = None
        self._ending = False
        self._closed = False
        self._away: IDelayedCall | None = None
        self._auto = LoopingCall(self._say_something)
        self._auto.clock = reactor
        self.done: Deferred[Exit] = Deferred()

    def write_line(self, line: str) -> None:
        self.transport.write(line.encode() + b"\n")

    # What standard input and output tell.

    def connectionMade(self) -> None:
        self._client.startService()

    def lineReceived(self, line: bytes) -> None:
        if self._ending:
            return
        try:
            meaning = self._narrator.parse(line.decode("utf-8", "replace"))
        except NotUnderstood as error:
            self._failures += 1
            self._narrator.misread(error)
            return
        if isinstance(meaning, Slash) and meaning.name == "quit":
            self._end()
        elif isinstance(meaning, Slash):
            self._work(self._answer(meaning))
        elif meaning is not None:
            self._send(meaning)

    def lineLengthExceeded(self, line: bytes) -> None:
        self._fail(f"A line is longer than {MAX_LINE} bytes; it and the rest were not read.")
        self._end()

    def readConnectionLost(self) -> None:
        """The end of the input: what it left goes out."""
        rest = self.clearLineBuffer()
        if rest:
            self.lineReceived(rest)
        self._end()

    def writeConnectionLost(self) -> None:
        """Nobody reads what is written."""
        self._finish(Exit.DONE)

    def connectionLost(self, reason: Failure | None = None) -> None:
        self._finish(Exit.DONE)

    # What the client tells.

    def heard(self, heard: Heard) -> Deferred[None] | None:
        self._narrator.heard(heard)
        return None

    def refused(self, text: str, client_id: str | None) -> None:
        if self._held is not None:
            self._held.append((text, client_id))
            return
        self._failures += 1
        self._narrator.refused(text, client_id)

    def delayed(self, text: str, client_id: str) -> None:
        self._narrator.delayed(text, client_id)

    def stored(self, client_id: str, message_id: int) -> None:
        self._narrator.stored(client_id, message_id)

    def delivered(self, client_id: str, message_id: int) -> None:
        self._narrator.delivered(client_id, message_id)

    def key_changed(self, user_id: str, old: str, new: str) -> None:
        self._commands.key_changed(user_id, old, new)
        self._narrator.key_changed(user_id, old, new)

    def key_rotated(self, user_id: str, old: str, new: str) -> None:
        self._narrator.key_rotated(user_id, old, new)

    def incomplete(self) -> None:
        self._narrator.incomplete()

    def changed(self, state: State, error: Exception | None) -> None:
        first = not self._narrator.has_been_connected
        self._narrator.changed(state, error)
        if state is State.CONNECTED:
            if self._away is not None:
                self._away.cancel()
                self._away = None
            if first:
                self._greet()
        elif state is State.DISCONNECTED:
            if first or isinstance(error, SessionOver):
                self._finish(exit_for(error))
            elif self._ending:
                self._wait_for_server()

    # What lines do.

    def _fail(self, text: str) -> None:
        self._failures += 1
        self._narrator.noted(text)

    def _send(self, meaning: Direct | Broadcast) -> None:
        held: list[tuple[str, str | None]] = []
        self._held = held  # what is refused at once is told after what it is about
        try:
            asked_id = self._narrator.client_id(meaning)
            client_id = self._client.send(recipient(meaning), meaning.text, asked_id)
            self._narrator.accepted(client_id, meaning)
        except (QueueFull, ValueError) as error:
            self._failures += 1
            self._narrator.failed(meaning, str(error))
        self._held = None
        for text, refused_id in held:
            self.refused(text, refused_id)
        self._work(self._await_room())

    async def _await_room(self) -> None:
        await self._client.room()

    async def _answer(self, slash: Slash) -> None:
        try:
            self._narrator.answered(slash, await self._commands.answer(slash))
        except FAILURES as error:
            self._failures += 1
            self._narrator.failed(slash, str(error))

    def _work(self, work: Coroutine[Deferred[Any], Any, None]) -> None:
        """Do what takes its time; the next line is read afterwards."""
        self.pauseProducing()
        working = Deferred.fromCoroutine(work)
        working.addErrback(lambda failure: log.failure("a line could not be handled", failure))
        working.addCallback(lambda _: self.resumeProducing())

    # What happens by itself.

    def _greet(self) -> None:
        if self._settings.auto_announce:
            self._client.broadcast(console.announcement(self._settings.username))
        if self._settings.auto_mode:
            self._auto.start(AUTO_INTERVAL, now=False)

    def _say_something(self) -> None:
        counters = self._client.counters
        done = console.activity(self._settings.username, counters.sent, counters.received)
        self._send(Broadcast(done))

    # The end.

    def _end(self) -> None:
        """No more lines: end when the server has dealt with all that was said."""
        if self._ending:
            return
        self._ending = True
        if not self._client.connected and self._narrator.has_been_connected:
            self._wait_for_server()
        Deferred.fromCoroutine(self._settle())

    async def _settle(self) -> None:
        await self._client.room(0)
        if self._client.gives_receipts:
            await self._client.settled()  # … however often the connection is lost
        for _ in range(_TRIES):
            await self._client.room(0)
            try:
                await self._client.command("ping").addTimeout(_ANSWER, self._reactor)
                break
            except (ConnectionProblem, defer.TimeoutError):
                continue  # lost, or refused, which says no name: the next one waits its turn
        else:
            self._fail("The server does not say that it has everything.")
        await self._client.handled()
        failed = self._failures and not (sys.stdin and sys.stdin.isatty())
        self._finish(Exit.NOT_ACCEPTED if failed else Exit.DONE)

    def _wait_for_server(self) -> None:
        if self._away is None:
            self._away = self._reactor.callLater(PATIENCE, self._give_up)

    def _give_up(self) -> None:
        self._away = None
        self._narrator.noted("The server did not come back: what was left has not been sent.")
        self._finish(Exit.UNREACHABLE)

    def _finish(self, status: Exit) -> None:
        if not (self.done.called or self._closed):
            self.done.callback(status)

    def interrupt(self) -> None:
        """Somebody wants it to end at once: say so if that costs anything."""
        if self.done.called:
            return  # it is ending by itself, and has said why
        if self._client.unsettled:
            self._fail(f"Interrupted: {self._client.unsettled} messages may not have been sent.")
            self._finish(Exit.NOT_ACCEPTED)
        self._finish(Exit.DONE)

    async def close(self) -> None:
        """Leave the server, and let what was written be written; once is enough."""
        if self._closed:
            return
        self._closed = True
        if self._auto.running:
            self._auto.stop()
        if self._away is not None:
            self._away.cancel()
        await self._client.stop()
        self.transport.loseConnection()


def run(made: Callable[[Any], Terminal]) -> NoReturn:
    """Be a terminal until the input ends; the exit status says how it went."""

    async def main(reactor: Any) -> None:
        terminal = made(reactor)
        StandardIO(terminal, reactor=reactor)
        with interruptible(reactor, terminal.interrupt):
            status = await terminal.done
            await terminal.close()
        raise SystemExit(status)

    react(lambda reactor: Deferred.fromCoroutine(main(reactor)))


def run_terminal(narrator: Narrators | None = None) -> NoReturn:
    """Chat on standard input and output, in lines, or as another narrator reads and writes."""
    open_streams()
    settings, key = prepare(os.environ)
    coloured = in_colour(os.environ)

    def lines(settings: Settings, write: Callable[[str], None]) -> Narrator:
        return Narrator(settings, write, coloured=coloured)

    run(lambda reactor: Terminal(reactor, settings, key, narrator or lines))
