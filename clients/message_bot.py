"""message-bot: says something to everybody, again and again."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall, react

from wschat.client import Client, SessionOver, Settings, State
from wschat.client.terminal import Exit, Narrator, note, prepare, usage

HELP = """
Usage: message-bot

Announces itself, then broadcasts a text at an interval, and prints what comes in.

  BOT_INTERVAL     seconds between two broadcasts (60)
  BOT_MESSAGE      what to say (System check)

and what simple-client reads: WS_SERVER_URL, WS_USER_ID, WS_PRIVATE_KEY, ...
"""


#: The longest `BOT_MESSAGE`, in bytes: well within what a server takes, however it is spelt.
MAX_TEXT = 8192


def interval(text: str) -> float:
    """`BOT_INTERVAL` in seconds; what is wrong with it ends the program."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0.1 <= seconds < float("inf"):
        note(f"BOT_INTERVAL: {text!r} is not a number of seconds from 0.1")
        sys.exit(Exit.USAGE)
    return seconds


def write(line: str) -> None:
    """A line to standard output, at once."""
    print(line, flush=True)


class Announcer(Narrator):
    """Writes down what happens; `over` fires when the server does not want the bot back."""

    def __init__(
        self, settings: Settings, write: Callable[[str], None], over: Deferred[None]
    ) -> None:
        super().__init__(settings, write)
        self._over = over

    def changed(self, state: State, error: Exception | None) -> None:
        super().changed(state, error)
        if isinstance(error, SessionOver):
            self._over.callback(None)


def main() -> NoReturn:
    usage(sys.argv[1:], HELP)
    every = interval(os.environ.get("BOT_INTERVAL") or "60")
    text = os.environ.get("BOT_MESSAGE") or "System check"
    if len(text.encode("utf-8", "replace")) > MAX_TEXT:
        note(f"BOT_MESSAGE: longer than {MAX_TEXT} bytes")
        sys.exit(Exit.USAGE)
    settings, key = prepare(os.environ)

    async def talk(reactor: Any) -> None:
        over: Deferred[None] = Deferred()
        client = Client(reactor, settings, key, Announcer(settings, write, over))
        client.startService()
        reactor.addSystemEventTrigger("before", "shutdown", client.stopService)
        client.broadcast(f"{settings.username} is now online")

        def speak() -> None:
            if client.connected and not client.waiting:  # old news is no news
                client.broadcast(text)

        speaking = LoopingCall(speak)
        speaking.clock = reactor
        speaking.start(every)
        await over
        raise SystemExit(Exit.REFUSED)

    react(lambda reactor: Deferred.fromCoroutine(talk(reactor)))


if __name__ == "__main__":
    main()
