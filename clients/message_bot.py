"""message-bot: says something to everybody, again and again."""

from __future__ import annotations

import os
import sys
from typing import Any, NoReturn

from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall, react

from wschat.client import Chat, ChatClosed, RequestRefused, State, connect
from wschat.client.console import announcement
from wschat.client.narrator import Narrator
from wschat.client.program import Exit, note, prepare, seconds, usage

HELP = """
Usage: message-bot

Announces itself, then broadcasts a text at an interval, and prints what comes in.

  BOT_INTERVAL     seconds between two broadcasts (60)
  BOT_MESSAGE      what to say (System check)

and what simple-client reads: WS_SERVER_URL, WS_USER_ID, WS_PRIVATE_KEY, ...
"""

#: The longest `BOT_MESSAGE`, in bytes: well within what a server takes, however it is spelt.
MAX_TEXT = 8192


def write(line: str) -> None:
    """A line to standard output, at once."""
    print(line, flush=True)


def say(chat: Chat, text: str) -> None:
    """Say something to everybody; why that was refused is written down by itself."""
    chat.broadcast(text).addErrback(lambda failure: failure.trap(RequestRefused, ChatClosed))


def main() -> NoReturn:
    usage(sys.argv[1:], HELP)
    every = seconds(os.environ, "BOT_INTERVAL", 60.0)
    text = os.environ.get("BOT_MESSAGE") or "System check"
    if len(text.encode("utf-8", "replace")) > MAX_TEXT:
        note(f"BOT_MESSAGE: longer than {MAX_TEXT} bytes")
        sys.exit(Exit.USAGE)
    settings, key = prepare(os.environ)

    async def talk(reactor: Any) -> None:
        narrator = Narrator(settings, write)
        chat = await connect(key=key, listener=narrator, wait=False, reactor=reactor)
        say(chat, announcement(settings.username))

        def speak() -> None:
            if chat.state is State.CONNECTED and not chat.client.waiting:  # old news is no news
                say(chat, text)

        speaking = LoopingCall(speak)
        speaking.clock = reactor
        speaking.start(every)
        if await chat.ended() is not None:  # the server does not want the bot back
            raise SystemExit(Exit.REFUSED)

    react(lambda reactor: Deferred.fromCoroutine(talk(reactor)))


if __name__ == "__main__":
    main()
