"""
`./just demo`: a server, alice, bob, charlie and the bot, talking.

All are real processes; their terminals are shown as one log.  On a terminal
the keyboard is alice's afterwards.  Without one it ends with 0 when every
line came that had to come, else with 1 and the line that is missing.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.stdio import StandardIO
from twisted.internet.task import react
from twisted.protocols.basic import LineOnlyReceiver
from twisted.python.failure import Failure

from scripts.processes import Missing, Process, Server

_COLOURS: Final = {"server": 90, "alice": 36, "bob": 33, "charlie": 35, "bot": 32}
_PEOPLE: Final = {"alice": "Alice", "bob": "Bob", "charlie": "Charlie", "bot": "Message Bot"}
_PROGRAMS: Final = {"charlie": "advanced-client", "bot": "message-bot"}

#: Who types what, and what everybody who is meant must see.
_SCENES: Final = (
    (
        "alice",
        "@bob Hey Bob, how are you?",
        {"bob": "alice -> bob [VERIFIED] [ENCRYPTED]: Hey Bob, how are you?"},
    ),
    (
        "bob",
        "@alice I'm good, thanks!",
        {"alice": "bob -> alice [VERIFIED] [ENCRYPTED]: I'm good, thanks!"},
    ),
    (
        "charlie",
        "!Team meeting in 5 minutes",
        dict.fromkeys(
            ("alice", "bob", "bot"), "charlie -> broadcast [VERIFIED]: Team meeting in 5 minutes"
        ),
    ),
    ("alice", "/users", {"alice": "Online: alice, bob, bot, charlie"}),
)


def show(name: str, line: str) -> None:
    """A line of somebody's terminal."""
    shown = f"{name:>8} | {line}"
    if sys.stdout.isatty() and "NO_COLOR" not in os.environ:
        shown = f"\x1b[{_COLOURS[name]}m{shown}\x1b[0m"
    print(shown, flush=True)


class Keyboard(LineOnlyReceiver):
    """Alice's keyboard."""

    delimiter = b"\n"

    def __init__(self, alice: Process) -> None:
        self._alice = alice

    def lineReceived(self, line: bytes) -> None:
        self._alice.says(line.decode("utf-8", "replace"))

    def connectionLost(self, reason: Failure | None = None) -> None:
        self._alice.says("/quit")


def show_server(name: str, line: str) -> None:
    """Of the server's log, where it listens and what went wrong."""
    if "listening on" in line or "#info]" not in line:
        show(name, line.partition("] ")[2] or line)


async def play(reactor: Any, home: Path) -> None:
    """The communication examples, once.  Raises `Missing`."""
    server = await Server.start(reactor, home / "server", on_line=show_server)
    people: dict[str, Process] = {}
    try:
        for name, username in _PEOPLE.items():
            program = _PROGRAMS.get(name, "simple-client")
            environ = server.client_environ(name, username, home / name)
            environ["BOT_INTERVAL"] = "20"
            people[name] = Process.start(reactor, name, [program], environ, show)
            await people[name].sees(f"Connected as {name}", reactor)
        for name in ("alice", "bob", "charlie"):
            line = "bot -> broadcast [VERIFIED]: Message Bot is now online"
            await people[name].sees(line, reactor)
        for speaker, line, seen in _SCENES:
            show(speaker, f"> {line}")
            people[speaker].says(line)
            for name, text in seen.items():
                await people[name].sees(text, reactor)
        if sys.stdin.isatty():
            print("You are alice now: @bob TEXT, !TEXT, /users, /help; /quit ends.", flush=True)
            StandardIO(Keyboard(people["alice"]), reactor=reactor)
        else:
            people["alice"].says("/quit")
        status = await people["alice"].wait()
        if status != 0:
            raise Missing(f"alice ended with {status}, not 0")
    finally:
        for process in (*people.values(), server.process):
            await process.end()


async def main(reactor: Any) -> None:
    """The demo, cleaned up after whatever happens."""
    done: Deferred[None] = Deferred.fromCoroutine(play_at_home(reactor))
    ended: Deferred[None] = Deferred()

    def interrupted() -> Deferred[None]:
        done.cancel()
        return ended

    reactor.addSystemEventTrigger("before", "shutdown", interrupted)
    try:
        await done
    except CancelledError:
        raise SystemExit(130) from None
    finally:
        ended.callback(None)


async def play_at_home(reactor: Any) -> None:
    """Play in a home directory of its own; 1 when something is missing."""
    home = Path(tempfile.mkdtemp(prefix="wschat-demo-"))
    try:
        await play(reactor, home)
    except Missing as error:
        print(f"demo: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    finally:
        shutil.rmtree(home)
    print("demo: everybody was heard.")


if __name__ == "__main__":
    react(lambda reactor: Deferred.fromCoroutine(main(reactor)))
