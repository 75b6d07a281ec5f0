"""A client that fills a terminal: what happens and what is typed, on a `Screen`."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import signal
import sys
import time
from collections.abc import Mapping
from typing import Any, Final, NoReturn

from prompt_toolkit.buffer import Buffer
from twisted.internet import asyncioreactor, defer
from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.task import LoopingCall, deferLater, react
from twisted.logger import (
    ILogObserver,
    LogEvent,
    Logger,
    LogLevel,
    formatEvent,
    globalLogBeginner,
)
from zope.interface import implementer

from wschat import wire
from wschat.client import console
from wschat.client.accounts import ConnectionProblem, RequestRefused
from wschat.client.connection import Client
from wschat.client.console import Broadcast, Direct, NotUnderstood, Slash
from wschat.client.entries import Fragments, Kind
from wschat.client.layout import application
from wschat.client.listener import Heard, Listener, SessionOver, State
from wschat.client.narrator import recipient
from wschat.client.program import Exit, exit_for, interruptible, note, prepare
from wschat.client.screen import Screen
from wschat.client.session import QueueFull
from wschat.client.settings import Settings
from wschat.client.slash import FAILURES, Commands
from wschat.client.terminal import AUTO_INTERVAL
from wschat.identity import PrivateKey

log = Logger(namespace="wschat.client")

#: How long the end waits for what has not been stored, in seconds.
PATIENCE: Final = 5.0

#: How often the status line is drawn again, though nothing happens, in seconds.
_TICK: Final = 1.0

#: Of how many conversations something is shown at the start, and how much of each.
_CONVERSATIONS: Final = 8
_RECALLED: Final = 20


class FullScreen(Listener):
    """One user at a terminal."""

    def __init__(
        self, reactor: Any, settings: Settings, key: PrivateKey, environ: Mapping[str, str]
    ) -> None:
        self._reactor = reactor
        self._settings = settings
        self._screen = Screen(settings.user_id, settings.authority)
        self._client = Client(reactor, settings, key, self)
        self._commands = Commands(self._client, time.monotonic)
        self._asking = DeferredLock()  # one question at a time, in the order in which they came
        self._connected_once = False
        self._status = Exit.DONE
        self._ending = False
        self._ticking = LoopingCall(self._draw)
        self._auto = LoopingCall(self._say_something)
        self._ticking.clock = self._auto.clock = reactor
        self._application = application(
            self._screen,
            typed=self._typed,
            too_long=self._too_long,
            status=self._status_line,
            end=self.end,
            coloured=not environ.get("NO_COLOR"),
        )
        #: What there is to say of how it ended, once the terminal is as it was before.
        self.why = ""

    # The screen.

    def _status_line(self, width: int) -> Fragments:
        return self._screen.status(width, self._client.counters, self._client.waiting)

    def _draw(self) -> None:
        self._application.invalidate()

    def say(self, text: str, kind: Kind = Kind.NOTE) -> None:
        """The program itself has something to say."""
        self._screen.say(text, self._now(), kind)
        self._draw()

    @staticmethod
    def _now() -> str:
        return wire.format_time(time.time())

    # The beginning and the end.

    async def run(self) -> Exit:
        """Be on the terminal until the user or the server has enough; on a running loop."""
        self._ticking.start(_TICK, now=False)
        running = self._application.run_async(
            self._client.startService, handle_sigint=False, set_exception_handler=False
        )
        try:
            await Deferred.fromFuture(asyncio.ensure_future(running))
        except (OSError, EOFError):  # the terminal is gone: nobody is there to be told
            self._status = Exit.NOT_ACCEPTED if self._client.unsettled else self._status
        finally:
            self._ticking.stop()
            if self._auto.running:
                self._auto.stop()
            await self._client.stop()
        return self._status

    def interrupt(self) -> None:
        """Somebody wants it to end at once: say so if that costs anything."""
        self._leave(Exit.NOT_ACCEPTED if self._client.unsettled else Exit.DONE)

    def end(self) -> None:
        """Send what is left, and end; the second time, at once."""
        if self._ending:
            self.interrupt()
            return
        self._ending = True
        self._work(Deferred.fromCoroutine(self._settle()))

    async def _settle(self) -> None:
        if self._client.unsettled:
            self.say("Sending what is left; Ctrl+C once more ends at once.")
        with contextlib.suppress(defer.TimeoutError, ConnectionProblem):
            if self._client.gives_receipts or not self._client.connected:
                await self._client.settled().addTimeout(PATIENCE, self._reactor)
            else:  # a classic server says with its answer that it has everything
                await self._client.room(0).addTimeout(PATIENCE, self._reactor)
                await self._client.command("ping").addTimeout(PATIENCE, self._reactor)
        self.interrupt()

    def _leave(self, status: Exit, why: str = "") -> None:
        if not self._application.is_running or self._application.is_done:
            return
        if status is Exit.NOT_ACCEPTED:
            why = f"{self._client.unsettled} messages may not have been sent."
        self._status, self.why = status, why
        self._application.exit()

    # What the client tells.

    def heard(self, heard: Heard) -> None:
        self._screen.heard(heard)
        self._draw()

    def refused(self, text: str, client_id: str | None) -> None:
        self._screen.refused(text, client_id, self._now())
        self._draw()

    def stored(self, client_id: str, message_id: int) -> None:
        self._screen.stored(client_id, message_id)
        self._draw()

    def delivered(self, client_id: str, message_id: int) -> None:
        self._screen.delivered(client_id)
        self._draw()

    def delayed(self, text: str, client_id: str) -> None:
        self._screen.delayed(text, self._now())
        self._draw()

    def incomplete(self) -> None:
        self.say("You were away for long: some of what was said is not kept any more.")

    def key_changed(self, user_id: str, old: str, new: str) -> None:
        self._commands.key_changed(user_id, old, new)
        for line in console.key_changed_lines(user_id, old, new):
            self.say(line, Kind.ALARM)

    def key_rotated(self, user_id: str, old: str, new: str) -> None:
        self.say(console.key_rotated_line(user_id, new), Kind.WARNING)

    def presence_changed(self, joined: list[str], left: dict[str, str]) -> None:
        self._screen.presence_changed(joined, left)
        self._draw()

    def changed(self, state: State, error: Exception | None) -> None:
        first, self._screen.state = not self._connected_once, state
        if state is State.CONNECTED:
            self._connected_once = True
            self._work(Deferred.fromCoroutine(self._look_around(first=first)))
        elif state is State.DISCONNECTED and (first or isinstance(error, SessionOver)):
            self._leave(exit_for(error), str(error or ""))
        elif error is not None:
            self.say(str(error), Kind.WARNING)
        self._draw()

    async def _look_around(self, *, first: bool) -> None:
        """Who is there; and at the start, what was said."""
        if first:
            self._greet()
        try:
            active = await self._client.accounts.active_users()
            self._screen.people(active.online, [*active.online, *active.offline])
            presence = await self._client.presence()
            self._screen.people(presence.online)
            if first:
                await self._asking.run(Deferred.fromCoroutine, self._recall())
        except ValueError:  # a classic server tells neither
            self.say("This server keeps no history, and does not tell who comes and goes.")
        except (ConnectionProblem, RequestRefused, QueueFull) as error:
            self.say(str(error), Kind.WARNING)
        self._draw()

    def _greet(self) -> None:
        if self._settings.auto_announce:
            self._send(Broadcast(console.announcement(self._settings.username)))
        if self._settings.auto_mode:
            self._auto.start(AUTO_INTERVAL, now=False)

    def _say_something(self) -> None:
        counters = self._client.counters
        done = console.activity(self._settings.username, counters.sent, counters.received)
        self._send(Broadcast(done))

    async def _recall(self) -> None:
        said: list[Heard] = []
        for peer in (wire.BROADCAST, *self._screen.names[:_CONVERSATIONS]):
            said += (await self._client.history(peer, _RECALLED)).messages
        self._screen.recall(said)

    # What is typed.

    def _typed(self, buffer: Buffer) -> bool:
        """A line; whether it stays where it was typed, as something is wrong with it."""
        try:
            meaning = console.parse(buffer.text)
        except NotUnderstood as error:
            self.say(str(error), Kind.WARNING)
            return True
        if isinstance(meaning, Slash) and meaning.name == "quit":
            self.end()
        elif isinstance(meaning, Slash):
            self._screen.to_the_end()
            self._work(self._asking.run(Deferred.fromCoroutine, self._answer(meaning)))
        elif meaning is not None:
            return self._ending or not self._send(meaning)
        return False

    def _too_long(self, length: int) -> None:
        text = f"Not pasted: {length} characters are more than a message can have."
        self.say(text, Kind.WARNING)

    def _send(self, meaning: Direct | Broadcast) -> bool:
        """Whether it is on its way."""
        to = recipient(meaning)
        client_id = secrets.token_hex(12)
        try:
            self._screen.sent(client_id, to, meaning.text, self._now())
            self._client.send(to, meaning.text, client_id)
        except (QueueFull, ValueError) as error:
            self._screen.refused(str(error), client_id, self._now())
            return False
        return True

    @staticmethod
    def _work(work: Deferred[None]) -> None:
        work.addErrback(lambda failure: log.failure("a line could not be handled", failure))

    async def _answer(self, slash: Slash) -> None:
        self.say(f"> /{slash.name} {slash.rest}")
        try:
            reply = await self._commands.answer(slash)
        except FAILURES as error:
            self.say(str(error), Kind.WARNING)
            return
        for line in reply.lines:
            self.say(line, Kind.ANSWER)
        self._screen.show(reply.heard or ())
        for text in reply.notes:
            self.say(text)


@implementer(ILogObserver)
class _Shown:
    """Shows what goes wrong: the terminal has no other place for it."""

    def __init__(self, screen: FullScreen) -> None:
        self._screen = screen

    def __call__(self, event: LogEvent) -> None:
        if event.get("log_level", LogLevel.info) >= LogLevel.error:
            self._screen.say(f"A fault: {formatEvent(event)}", Kind.WARNING)


def run_full_screen(environ: Mapping[str, str]) -> NoReturn:
    """Chat on a terminal until its user has enough; the exit status says how it went."""
    if sys.stderr is None or sys.stderr.isatty():
        environ = {**environ, "DEBUG": ""}  # the log would be all over the screen
    settings, key = prepare(environ)
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    asyncioreactor.install(loop)

    async def main(reactor: Any) -> None:
        await deferLater(reactor, 0)  # … so that the loop runs
        screen = FullScreen(reactor, settings, key, environ)
        if not settings.debug:
            globalLogBeginner.beginLoggingTo([_Shown(screen)], redirectStandardIO=False)
        if settings.insecure_tls:
            screen.say("INSECURE_TLS: nobody checks who the server is.", Kind.WARNING)
        with interruptible(reactor, screen.interrupt):
            loop.add_signal_handler(signal.SIGHUP, screen.interrupt)
            status = await screen.run()
        if screen.why:
            note(screen.why)
        raise SystemExit(status)

    react(lambda reactor: Deferred.fromCoroutine(main(reactor)))
