"""
A client on a terminal, or in a pipe: lines in, lines out.

Messages go to standard output; what the program has to say for itself goes
to standard error.
"""

from __future__ import annotations

import enum
import getpass
import os
import sys
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final, NoReturn

from twisted.internet import defer
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IHalfCloseableProtocol
from twisted.internet.stdio import StandardIO
from twisted.internet.task import LoopingCall, react
from twisted.logger import Logger, globalLogBeginner, textFileLogObserver
from twisted.protocols.basic import LineReceiver
from twisted.python.failure import Failure
from zope.interface import implementer

from wschat import wire
from wschat.client import console, keyring
from wschat.client.accounts import ConnectionProblem, RequestRefused
from wschat.client.connection import Client
from wschat.client.listener import Heard, Listener, SessionOver, State
from wschat.client.session import QueueFull
from wschat.client.settings import Settings, SettingsError
from wschat.identity import BadKey, PrivateKey

log = Logger(namespace="wschat.client")

#: The longest line that is read, in bytes.
MAX_LINE: Final = 1024 * 1024

#: How long the end waits for a server that is away, in seconds.
PATIENCE: Final = 30.0

_AUTO_INTERVAL: Final = 30.0

#: Messages of one's own whose receipts are shown; past that the oldest are shown none.
_REMEMBERED: Final = 1000

#: Why a question that was typed has no answer.
_ANSWERED_WITH: Final = (
    console.NotUnderstood,
    ConnectionProblem,
    RequestRefused,
    QueueFull,
    ValueError,
)

#: At the end: how long the server may take to answer, in seconds, and how often it is asked.
_ANSWER: Final = 5.0
_TRIES: Final = 6


class Exit(enum.IntEnum):
    """How a program ended, for scripts (docs/clients.md, "Exit status")."""

    DONE = 0
    FAULT = 1
    USAGE = 2
    UNREACHABLE = 3
    REFUSED = 4
    NOT_ACCEPTED = 5


def exit_for(error: Exception | None) -> Exit:
    """The status for a client that never got in."""
    return Exit.REFUSED if isinstance(error, RequestRefused) else Exit.UNREACHABLE


def note(text: str) -> None:
    """Say something about the program itself."""
    print(f"* {console.visible(text)}", file=sys.stderr, flush=True)


def receipt(mark: str, said: str) -> None:
    """Say what became of a message of one's own; nothing of one that is not remembered."""
    if said:
        print(f"{mark} {said}", file=sys.stderr, flush=True)


class Narrator(Listener):
    """
    A listener that writes down what happens.

    `write` takes a line for standard output.
    """

    def __init__(self, settings: Settings, write: Callable[[str], None]) -> None:
        self._settings = settings
        self._write = write
        #: Whether the client has been connected at all.
        self.has_been_connected = False
        self._delayed = ""  # why something is not stored, as long as that is so

    def heard(self, heard: Heard) -> None:
        self._write(console.received_line(heard.message, heard.text, heard.authenticity))

    def refused(self, text: str, client_id: str | None) -> None:
        note(text)

    def delayed(self, text: str, client_id: str) -> None:
        if text != self._delayed:  # … once, however often it is tried
            note(f"{text} It is sent again by itself.")
        self._delayed = text

    def stored(self, client_id: str, message_id: int) -> None:
        self._delayed = ""

    def key_changed(self, user_id: str, old: str, new: str) -> None:
        note(
            f"!!! The server names other keys for {user_id} than before. Somebody may be posing as "
            f"them. Old: {old}  New: {new}  When {user_id} says that it is so: /trust {user_id}"
        )

    def key_rotated(self, user_id: str, old: str, new: str) -> None:
        note(f"{user_id} has new keys, which the old ones vouch for. Old: {old}  New: {new}")

    def incomplete(self) -> None:
        note("You were away for long: some of what was said is not kept any more.")

    def changed(self, state: State, error: Exception | None) -> None:
        if state is State.CONNECTED:
            who = f"{self._settings.user_id} on {self._settings.authority}"
            note(f"{'Back' if self.has_been_connected else 'Connected'} as {who}.")
            self.has_been_connected = True
        elif error is not None:
            note(str(error))


@implementer(IHalfCloseableProtocol)
class Terminal(LineReceiver, Listener):
    """
    One user on standard input and output.

    `done` fires with the exit status.
    """

    delimiter = b"\n"
    MAX_LENGTH = MAX_LINE
    transport: Any

    def __init__(self, reactor: Any, settings: Settings, key: PrivateKey) -> None:
        self._reactor = reactor
        self._settings = settings
        self._narrator = Narrator(settings, self.write_line)
        self._client = Client(reactor, settings, key, self)
        self._failures = 0  # lines that were not accepted
        self._said: dict[str, str] = {}  # what has no receipt yet, by client id
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
            meaning = console.parse(line.decode("utf-8", "replace"))
        except console.NotUnderstood as error:
            self._fail(str(error))
            return
        if isinstance(meaning, console.Slash):
            self._slash(meaning)
        elif isinstance(meaning, console.Direct):
            self._send(meaning.text, meaning.to)
        elif isinstance(meaning, console.Broadcast):
            self._send(meaning.text)

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

    def heard(self, heard: Heard) -> None:
        self._narrator.heard(heard)

    def refused(self, text: str, client_id: str | None) -> None:
        said = self._said.pop(client_id or "", "")
        self._fail(f"{said}: {text}" if said else text)

    def delayed(self, text: str, client_id: str) -> None:
        self._narrator.delayed(text, client_id)

    def stored(self, client_id: str, message_id: int) -> None:
        self._narrator.stored(client_id, message_id)
        said = self._said.get(client_id, "")
        receipt("✓", said)
        if said.startswith("!"):
            del self._said[client_id]

    def delivered(self, client_id: str, message_id: int) -> None:
        receipt("✓✓", self._said.pop(client_id, ""))

    def key_changed(self, user_id: str, old: str, new: str) -> None:
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
        note(text)

    def _send(self, text: str, to: str | None = None) -> None:
        to = wire.BROADCAST if to is None else to
        try:
            self._said[self._client.send(to, text)] = console.sent_label(to, text)
            if len(self._said) > _REMEMBERED:
                del self._said[next(iter(self._said))]
        except (QueueFull, ValueError) as error:
            self._fail(str(error))
        self._work(self._await_room())

    async def _await_room(self) -> None:
        await self._client.room()

    def _slash(self, slash: console.Slash) -> None:
        if slash.name == "users":
            self._work(self._show_users())
        elif slash.name == "history":
            self._work(self._show_history(slash.rest))
        elif slash.name in ("fingerprint", "trust"):
            self._work(self._show_keys(slash))
        elif slash.name == "quit":
            self._end()
        elif slash.name == "help":
            for line in console.HELP:
                self.write_line(line)
        else:
            self._fail(f"/{slash.name} is not known. More: /help")

    async def _show_keys(self, slash: console.Slash) -> None:
        user_id = slash.rest.removeprefix("@")
        try:
            if slash.name == "trust":
                old, new = await self._client.trust(user_id)
                self.write_line(f"{console.visible(user_id)} is trusted. Old: {old}  New: {new}")
            else:
                code = await self._client.fingerprint(user_id)
                self.write_line(f"{console.visible(user_id)}: {code}")
        except (ConnectionProblem, RequestRefused) as error:
            self._fail(str(error))

    async def _show_history(self, rest: str) -> None:
        try:
            peer, count = console.parse_history(rest)
            page = await self._client.history(peer, count)
        except _ANSWERED_WITH as error:
            self._fail(str(error))
            return
        for heard in page.messages:
            self._narrator.heard(heard)
        note(f"{len(page.messages)} messages" + (", and there are more." if page.more else "."))

    async def _show_users(self) -> None:
        try:
            active = await self._client.accounts.active_users()
        except (ConnectionProblem, RequestRefused) as error:
            self._fail(str(error))
            return
        for title, users in (("Online", active.online), ("Offline", active.offline)):
            self.write_line(f"{title}: {console.visible(', '.join(users)) or '-'}")

    def _work(self, work: Coroutine[Deferred[Any], Any, None]) -> None:
        """Do what takes its time; the next line is read afterwards."""
        self.pauseProducing()
        working = Deferred.fromCoroutine(work)
        working.addErrback(lambda failure: log.failure("a line could not be handled", failure))
        working.addCallback(lambda _: self.resumeProducing())

    # What happens by itself.

    def _greet(self) -> None:
        if self._settings.auto_announce:
            self._client.broadcast(f"{self._settings.username} is now online")
        if self._settings.auto_mode:
            self._auto.start(_AUTO_INTERVAL, now=False)

    def _say_something(self) -> None:
        counters = self._client.counters
        self._send(f"{self._settings.username}: {counters.sent} sent, {counters.received} received")

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
        note("The server did not come back: what was left has not been sent.")
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


def _ask_passphrase() -> str:
    """The passphrase of the key file, from who sits at the terminal; empty without one."""
    if sys.stdin is None or not sys.stdin.isatty():
        return ""
    return getpass.getpass("Passphrase of the key: ")


def prepare(environ: Mapping[str, str]) -> tuple[Settings, PrivateKey]:
    """Who to be, and their key, from the environment; what is wrong with it ends the program."""
    try:
        settings = Settings.from_environ(environ)
        if settings.private_key is not None:
            key = PrivateKey.from_text(settings.private_key)
        else:
            path = keyring.key_path(settings.user_id, environ)
            key, made = keyring.load_or_make(path, settings.key_passphrase, _ask_passphrase)
            if made:
                note(f"Made a private key for {settings.user_id}: {path}")
    except BadKey as error:
        note(f"WS_PRIVATE_KEY: {error}")
        sys.exit(Exit.USAGE)
    except (SettingsError, keyring.KeyringError) as error:
        note(str(error))
        sys.exit(Exit.USAGE)
    if settings.debug:
        globalLogBeginner.beginLoggingTo(
            [textFileLogObserver(sys.stderr)], redirectStandardIO=False
        )
    if settings.insecure_tls:
        note("INSECURE_TLS: nobody checks who the server is, so anybody can pose as it.")
    return settings, key


def usage(arguments: list[str], text: str) -> None:
    """Answer `--help`, and end for any other argument: the environment says everything."""
    if not arguments:
        return
    if arguments[0] in ("-h", "--help"):
        print(text.strip())
        sys.exit(Exit.DONE)
    note(f"unexpected: {arguments[0]}; see --help")
    sys.exit(Exit.USAGE)


def run_terminal() -> NoReturn:
    """Be a terminal until the input ends; the exit status says how it went."""
    if sys.stdin is None:  # closed by whoever started the program: then it is at its end
        os.open(os.devnull, os.O_RDONLY)
    if sys.stdout is None:
        os.open(os.devnull, os.O_WRONLY)
    settings, key = prepare(os.environ)

    async def main(reactor: Any) -> None:
        terminal = Terminal(reactor, settings, key)
        StandardIO(terminal, reactor=reactor)
        ended: Deferred[None] = Deferred()

        def interrupted() -> Deferred[None]:
            terminal.interrupt()
            return ended

        reactor.addSystemEventTrigger("before", "shutdown", interrupted)
        status = await terminal.done
        await terminal.close()
        ended.callback(None)
        raise SystemExit(status)

    react(lambda reactor: Deferred.fromCoroutine(main(reactor)))
