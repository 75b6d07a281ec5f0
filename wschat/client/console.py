"""What people type, and what they read, a line each.  Pure."""

from __future__ import annotations

import datetime
from typing import Final

import msgspec

from wschat import wire
from wschat.envelope import Authenticity

#: Every command, what is behind it, and what it does.
COMMANDS: Final = {
    "users": ("", "who is there"),
    "history": ("USER [N]", "the last N (20) messages with USER, or with ! to everybody"),
    "whois": ("USER", "USER's account, and whether their key is the one you know"),
    "fingerprint": ("USER", "a code that USER sees as well: compare it aloud"),
    "trust": ("USER", "take USER's new key, after you have seen both fingerprints"),
    "metrics": ("", "what was sent and received, and how fast the server is"),
    "ping": ("", "ask the server whether it is there"),
    "help": ("", "this"),
    "quit": ("", "send what is left, and end"),
}

HELP: Final = (
    "@USER TEXT         say something to one user",
    "!TEXT              say something to everybody",
    *(f"{f'/{name} {rest}':<18} {text}" for name, (rest, text) in COMMANDS.items()),
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


Meaning = Direct | Broadcast | Slash


class NotUnderstood(ValueError):
    """A line that means nothing; the text says what would."""


def parse(line: str) -> Meaning | None:
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


def parse_user(slash: Slash) -> str:
    """The user behind a command that is about one.  Raises `NotUnderstood`."""
    user_id = slash.rest.removeprefix("@")
    if not wire.valid_user_id(user_id):
        raise NotUnderstood(f"Not a user id. To say whom: /{slash.name} USER")
    return user_id


def parse_trust(rest: str) -> tuple[str, str]:
    """What is behind `/trust`: whom, and the digits of a fingerprint.  Raises `NotUnderstood`."""
    user_id, _, digits = rest.removeprefix("@").partition(" ")
    digits = "".join(digits.split())
    numeric = not digits or (digits.isascii() and digits.isdecimal())
    if not numeric or not wire.valid_user_id(user_id):
        raise NotUnderstood("To take somebody's new key: /trust USER, or /trust USER FINGERPRINT")
    return user_id, digits


_BIDI: Final = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")

#: What takes no place, so that two texts that look alike are not the same.
_INVISIBLE: Final = frozenset(
    "\u00ad\u180e\u200b\u2028\u2029\u2060\u2061\u2062\u2063\u2064\ufeff\ufff9\ufffa\ufffb"
)

_HIDDEN: Final = _BIDI | _INVISIBLE


def _visible(character: str) -> str:
    code = ord(character)
    lone = 0xD800 <= code < 0xE000  # half of a character, which no terminal takes
    if code < 32 or 127 <= code < 160 or lone or character in _HIDDEN:
        return character.encode("unicode_escape").decode("ascii")
    return character


def visible(text: str) -> str:
    """`text` as it can be shown on a terminal: what would control the terminal is spelt out."""
    return "".join(map(_visible, text))


def visible_name(name: str) -> str:
    """
    A user's id as it can be shown.

    What no id has is spelt out, so that no name looks like the rest of a line,
    with its marks.
    """
    return "".join(map(_visible_in_name, name))


def _visible_in_name(character: str) -> str:
    if character.isalnum() or character in "._-":
        return character
    shown = character.encode("unicode_escape").decode("ascii")
    return f"\\x{ord(character):02x}" if shown == character else shown


def _local(timestamp: str) -> datetime.datetime | None:
    """The reader's own time of an RFC 3339 time; None of no time."""
    if not wire.valid_timestamp(timestamp):
        return None
    whole, _, rest = timestamp.partition(".")
    fraction = len(rest) - len(rest.lstrip("0123456789"))
    moment = datetime.datetime.fromisoformat(whole + rest[fraction:])
    try:
        return moment.astimezone()
    except (OverflowError, ValueError):  # the year 1 or 9999, at the wrong side of the world
        return moment


def clock(timestamp: str) -> str:
    """The local `HH:MM:SS` of an RFC 3339 time; of no time, dashes."""
    moment = _local(timestamp)
    return "--:--:--" if moment is None else moment.strftime("%H:%M:%S")


def day(timestamp: str) -> str:
    """The local day of an RFC 3339 time, `Tuesday 2026-11-24`; of no time, nothing."""
    moment = _local(timestamp)
    return "" if moment is None else f"{moment:%A} {moment.date()}"


#: What is shown of a message of one's own, in characters.
_SHOWN: Final = 40


def sent_label(to: str, text: str) -> str:
    """A message of one's own, as its receipts name it."""
    shown = visible(text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…")
    return f"!{shown}" if to == wire.BROADCAST else f"@{to} {shown}"


def announcement(username: str) -> str:
    """What a program tells everybody when it is there."""
    return f"{username} is now online"


def activity(username: str, sent: int, received: int) -> str:
    """What a program tells everybody now and then."""
    return f"{username}: {sent} sent, {received} received"


_MARKS: Final = {
    Authenticity.ENVELOPE: " [VERIFIED]",
    Authenticity.CONTENT: " [VERIFIED]",
    Authenticity.INVALID: " [!!! NOT FROM THEM, OR CHANGED, OR SAID AGAIN !!!]",
    Authenticity.NONE: "",
}


def marks(message: wire.Message, authenticity: Authenticity) -> str:
    """What is known of a message, each mark behind a space."""
    return _MARKS[authenticity] + (" [ENCRYPTED]" if message.encrypted else "")


def shown(text: str | None) -> str:
    """What a message says, as it can be shown; of what cannot be opened, that."""
    return "(cannot be opened)" if text is None else visible(text)


def received_line(message: wire.Message, text: str | None, authenticity: Authenticity) -> str:
    """A message as its receiver reads it (docs/protocol.md, "What a receiver prints")."""
    route = f"{visible_name(message.sender)} -> {visible_name(message.topic)}"
    return f"[{clock(message.timestamp)}] {route}{marks(message, authenticity)}: {shown(text)}"


#: Letters on a red ground, for a line that nobody may miss.
_ALARM: Final = "\x1b[1;97;41m{}\x1b[0m"


def alarming(line: str, authenticity: Authenticity) -> str:
    """`line` for a terminal with colours: what is not from whom it says stands out."""
    return _ALARM.format(line) if authenticity is Authenticity.INVALID else line


def key_changed_lines(user_id: str, old: str, new: str) -> tuple[str, ...]:
    """What to say when the server has other keys for somebody than those that are pinned."""
    who = visible(user_id)
    return (
        f"!!! The server has other keys for {who} than before. Somebody may be posing as {who}.",
        f"  before: {visible(old)}",
        f"  now:    {visible(new)}",
        f"Ask {who}, aloud, for the code of /fingerprint. Only if theirs is the one of now:",
        f"  /trust {who} {visible(new)}",
    )


def key_rotated_line(user_id: str, new: str) -> str:
    """What to say when somebody has replaced their keys."""
    who = visible(user_id)
    return f"{who} has new keys, which the old ones vouch for; the fingerprint is {visible(new)}"
