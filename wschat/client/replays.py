"""
What has been heard already, so that nothing that is said again is taken for new.

Kept in a file for a user, server and session, a line a message: its sender,
the time that was signed with it (seconds since the epoch), and a digest of
what tells it from others.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections import OrderedDict, deque
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

from twisted.logger import Logger

from wschat import envelope, wire
from wschat.client.files import locked, write_atomically
from wschat.envelope import Authenticity

#: Messages that are remembered.
REMEMBERED: Final = 10_000

#: How long after it was acknowledged a message is written down, in seconds: the server knows by
#: then, and gives it to no other program of the user's that has just begun.
LATER: Final = 5.0

_DIGEST_BYTES: Final = 16

log = Logger(namespace="wschat.client")


class Replays:
    """The messages that one program of a user's has heard, and that others had before it began."""

    def __init__(self, path: Path | None = None) -> None:
        """Without a `path`, or when it cannot be read, nothing is known of what others heard."""
        self._path = path
        self._heard: dict[str, OrderedDict[str, float]] = {}  # of each sender, the oldest first
        self._count = 0
        self._forgotten: dict[str, float] = {}  # the latest times of what is remembered no more
        self._judged: dict[tuple[str, int], str] = {}  # … and not handled yet: what to write
        self._handled: list[str] = []  # … and perhaps not acknowledged
        self._acknowledged: deque[tuple[float, str]] = deque()
        self._spare = 0  # lines that the file may do without
        if path is not None:
            self._read(path)

    def judged(self, message: wire.Message, worth: Authenticity) -> Authenticity:
        """
        What a message is worth that has just come and whose signatures are worth that much.

        Invalid when it has come before.  What is older than what has been
        forgotten of its sender may have: nobody knows, so it is worth nothing.
        """
        mark = _mark(message, worth)
        if mark is None:
            return worth
        sender, signed_at = message.sender, _signed_at(message, worth)
        if mark in self._heard.get(sender, ()):
            return Authenticity.INVALID
        if signed_at <= self._forgotten.get(sender, _NEVER) != _NEVER:
            return Authenticity.NONE
        self._remember(sender, mark, signed_at)
        if self._path is not None:
            self._judged[sender, message.id] = f"{sender} {signed_at} {mark}\n"
        return worth

    def handled(self, message: wire.Message) -> None:
        """A message counts as handled; it may rightly come again, to the next program."""
        line = self._judged.pop((message.sender, message.id), None)
        if line is not None:
            self._handled.append(line)

    def sure(self, now: float) -> None:
        """The server was told of all that was handled, and gives it to nobody again."""
        self._acknowledged.extend((now, line) for line in self._handled)
        self._handled.clear()

    def unsure(self, now: float) -> None:
        """The connection is lost: what the server was told just now may not have arrived."""
        lost = []
        while self._acknowledged and now - self._acknowledged[-1][0] <= LATER:
            lost.append(self._acknowledged.pop()[1])
        self._handled[:0] = reversed(lost)

    def save(self, now: float = float("inf")) -> bool:
        """
        Write down what was acknowledged `LATER` before `now`, or all; what fails is logged.

        Returns whether something is left that was handled.
        """
        lines = []
        while self._acknowledged and not now - LATER < self._acknowledged[0][0] <= now:
            lines.append(self._acknowledged.popleft()[1])
        if self._path is not None and lines:
            with (
                _trouble(self._path),
                locked(self._path),
                open(self._path, "ab+", opener=_private) as file,
            ):
                file.writelines(line.encode("ascii") for line in [*_begin_line(file), *lines])
                self._spare += len(lines)
            self._shorten(self._path)
        return bool(self._handled or self._acknowledged)

    def _shorten(self, path: Path) -> None:
        """Have the file hold what is remembered of it, when it has grown by as much again."""
        if self._spare <= REMEMBERED:
            return
        with _trouble(path), locked(path):
            kept = Replays()  # not this one: what other programs heard, it may hear as well
            kept._take(path.read_text("ascii", "replace").splitlines())
            write_atomically(path, "".join(kept._lines()))
            self._spare = 0

    def _remember(self, sender: str, mark: str, signed_at: float) -> None:
        marks = self._heard.setdefault(sender, OrderedDict())
        self._count += mark not in marks
        marks[mark] = signed_at
        # Many at a time, as each time all senders are looked at.
        if self._count > REMEMBERED + REMEMBERED // 10:
            self._forget()

    def _forget(self) -> None:
        """Forget the oldest of whoever says most, so that nobody drives out what others said."""
        share = _share([len(marks) for marks in self._heard.values()], REMEMBERED)
        for sender, marks in list(self._heard.items()):
            while len(marks) > share and self._count > REMEMBERED:
                _, forgotten = marks.popitem(last=False)
                self._forgotten[sender] = max(forgotten, self._forgotten.get(sender, _NEVER))
                self._count -= 1
            if not marks:
                del self._heard[sender]

    def _read(self, path: Path) -> None:
        with _trouble(path), contextlib.suppress(FileNotFoundError):
            lines = path.read_text("ascii", "replace").splitlines()
            self._take(lines)
            self._spare = len(lines) - self._count - len(self._forgotten)
            self._shorten(path)

    def _take(self, lines: list[str]) -> None:
        for line in lines:
            with contextlib.suppress(ValueError):
                sender, signed_at, mark = line.split(" ")
                if mark == _OLDER:
                    self._forgotten[sender] = float(signed_at)
                else:
                    self._remember(sender, mark, float(signed_at))

    def _lines(self) -> Iterator[str]:
        for sender, signed_at in self._forgotten.items():
            yield f"{sender} {signed_at} {_OLDER}\n"
        for sender, marks in self._heard.items():
            for mark, signed_at in marks.items():
                yield f"{sender} {signed_at} {mark}\n"


#: When what says no time was signed.
_NEVER: Final = float("-inf")

#: In place of a digest: what was signed up to that time is remembered no more.
_OLDER: Final = "-"


def _share(sizes: list[int], room: int) -> int:
    """How much each may keep for all to have room that have more together; the small keep all."""
    rest = sorted(sizes, reverse=True)
    while rest[-1] * len(rest) <= room:
        room -= rest.pop()
    return room // len(rest)


def _mark(message: wire.Message, worth: Authenticity) -> str | None:
    """
    What tells a message from all others of its sender; None when nothing does.

    Whoever signs a text alone may say the same twice; sealed it is never the
    same.
    """
    if worth is Authenticity.ENVELOPE:
        name = message.client_id or message.envelope_signature or ""
    elif worth is Authenticity.CONTENT and message.encrypted:
        name = message.content
    else:
        return None
    data = f"{worth} {name}".encode()
    return hashlib.blake2b(data, digest_size=_DIGEST_BYTES).hexdigest()


def _signed_at(message: wire.Message, worth: Authenticity) -> float:
    """When a message was signed; who signs a text alone does not say."""
    if worth is not Authenticity.ENVELOPE:
        return _NEVER
    return envelope.seconds(message.timestamp)


def _begin_line(file: BinaryIO) -> list[str]:
    """What ends a line that was cut off, so that the next one is not part of it."""
    if not file.tell():
        return []
    file.seek(-1, os.SEEK_END)
    return [] if file.read(1) == b"\n" else ["\n"]


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


@contextlib.contextmanager
def _trouble(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        log.warn("{path}: {reason}.", path=str(path), reason=error.strerror)
