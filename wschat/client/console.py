"""What people type, and what they read, a line each.  Pure."""

from __future__ import annotations

import datetime
from typing import Final

import msgspec

from wschat import wire
from wschat.envelope import Authenticity

HELP: Final = (
    "@USER TEXT   say something to one user",
    "!TEXT        say something to everybody",
    "/users       who is there",
    "/history USER [N]  the last N messages to and from USER (20), or with ! those to everybody",
    "/fingerprint USER  a code to compare with USER, aloud: it is the same for both",
    "/trust USER  believe in the new keys that the server has for USER",
    "/help        this",
    "/quit        send what is left, and end",
)


class Direct(msgspec.Struct, frozen=True):
    """Say something to one user."""

    to: str
    text: str


class Broadcast(msgspec.Struct, frozen=True):
    """Say something to everybody."""

    text: str


class Slash(msgspec.Struct, frozen=True):
    """A command to the program itself: `/name`, and what is behind it."""

    name: str
    rest: str = ""


class NotUnderstood(ValueError):
    """A line that means nothing; the text says what would."""


def parse(line: str) -> Direct | Broadcast | Slash | None:
    """What a typed line means; None for an empty one.  Raises `NotUnderstood`."""
    line = line.strip()
    if not line:
        return None
    if line.startswith("@"):
        to = "" if line[1:2].isspace() else "".join(line[1:].split(None, 1)[:1])
        text = line[1 + len(to) :]
        if not wire.valid_user_id(to):
            raise NotUnderstood("Not a user id. To say something to one user: @USER TEXT")
        if not text.strip():
            raise NotUnderstood(f"Nothing to say. To say something to one user: @{to} TEXT")
        return Direct(to, text.strip())
    if line.startswith("!"):
        if not line[1:].strip():
            raise NotUnderstood("Nothing to say. To say something to everybody: !TEXT")
        return Broadcast(line[1:].strip())
    if line.startswith("/"):
        name, _, rest = line[1:].partition(" ")
        return Slash(name, rest.strip())
    raise NotUnderstood("Not understood. To say something: @USER TEXT, or !TEXT. More: /help")


#: How many messages `/history` shows when nobody says, and at most.
HISTORY: Final = 20
MAX_HISTORY: Final = 1000


def parse_history(rest: str) -> tuple[str, int]:
    """What is behind `/history`: whose, and how many.  Raises `NotUnderstood`."""
    peer, _, count = rest.removeprefix("@").partition(" ")
    number = count.strip() or str(HISTORY)
    peer = wire.BROADCAST if peer == "!" else peer
    fits = number.isascii() and number.isdecimal() and 1 <= int(number[:9]) <= MAX_HISTORY
    if not fits or not (peer == wire.BROADCAST or wire.valid_user_id(peer)):
        raise NotUnderstood(f"To see what was said: /history USER [1 to {MAX_HISTORY}]")
    return peer, int(number)


_BIDI: Final = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def _visible(character: str) -> str:
    code = ord(character)
    if code < 32 or 127 <= code < 160 or character in _BIDI or character in "\u2028\u2029":
        return character.encode("unicode_escape").decode("ascii")
    return character


def visible(text: str) -> str:
    """`text` as it can be shown on a terminal: what would control the terminal is spelt out."""
    return "".join(map(_visible, text))


def clock(timestamp: str) -> str:
    """The local `HH:MM:SS` of an RFC 3339 time; of no time, dashes."""
    if not wire.valid_timestamp(timestamp):
        return "--:--:--"
    whole, _, rest = timestamp.partition(".")
    fraction = len(rest) - len(rest.lstrip("0123456789"))
    moment = datetime.datetime.fromisoformat(whole + rest[fraction:])
    try:
        return moment.astimezone().strftime("%H:%M:%S")
    except (OverflowError, ValueError):  # the year 1 or 9999, at the wrong side of the world
        return moment.strftime("%H:%M:%S")


#: What is shown of a message of one's own, in characters.
_SHOWN: Final = 40


def sent_label(to: str, text: str) -> str:
    """A message of one's own, as its receipts name it."""
    shown = visible(text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…")
    return f"!{shown}" if to == wire.BROADCAST else f"@{to} {shown}"


_MARKS: Final = {
    Authenticity.ENVELOPE: " [VERIFIED]",
    Authenticity.CONTENT: " [VERIFIED]",
    Authenticity.INVALID: " [!!! NOT FROM THEM, OR CHANGED, OR SAID AGAIN !!!]",
    Authenticity.NONE: "",
}


def received_line(message: wire.Message, text: str | None, authenticity: Authenticity) -> str:
    """A message as its receiver reads it (docs/protocol.md, "What a receiver prints")."""
    marks = _MARKS[authenticity]
    marks += " [ENCRYPTED]" if message.encrypted else ""
    shown = "(cannot be opened)" if text is None else visible(text)
    route = f"{visible(message.sender)} -> {visible(message.topic)}"
    return f"[{clock(message.timestamp)}] {route}{marks}: {shown}"
