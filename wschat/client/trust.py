"""
Whose keys are whose: the first that are seen for a user are pinned.

Pins are kept in a file like ssh's known_hosts, a line a user: server, user
id, Ed25519 key, X25519 key or `-`, `envelopes` or `-`, and the keys before,
each with the time until which it counts (`KEY@SECONDS`).
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import msgspec
from twisted.logger import Logger

from wschat.client.accounts import RequestRefused
from wschat.client.files import locked, write_atomically

_HEADER: Final = "# Keys of users, as wschat's clients saw them first; see docs/clients.md.\n"
_NONE: Final = "-"
_ENVELOPES: Final = "envelopes"
_FINGERPRINT: Final = b"wschat.v1 fingerprint,"
_GROUPS: Final = 6
_DIGITS: Final = 5

log = Logger(namespace="wschat.client")


class TrustError(RequestRefused):
    """The file of known users cannot be read, so nobody's keys are known; one line says why."""


class Keys(msgspec.Struct, frozen=True):
    """A user's public keys, base64; who has no X25519 key cannot be sealed for."""

    public_key: str
    x25519_public_key: str | None = None


class Former(msgspec.Struct, frozen=True):
    """An Ed25519 key that its owner replaced, and when (seconds since the epoch)."""

    public_key: str
    until: float


class Pin(msgspec.Struct, frozen=True):
    """
    What is held to be a user's keys.

    `envelopes`: the user signs whole messages, so nothing less counts.
    """

    keys: Keys
    envelopes: bool = False
    former: tuple[Former, ...] = ()


class Whois(msgspec.Struct, frozen=True):
    """
    Somebody's account, and what is known of their key.

    `fingerprint` is of the keys that the server has for them now, and of
    one's own (see `fingerprint`).  `pinned` says whether their keys were
    known before this was asked, and `trusted` whether the server still has
    the keys that are pinned.  `created_at` is RFC 3339, or empty.
    """

    user_id: str
    username: str
    fingerprint: str
    trusted: bool
    pinned: bool
    created_at: str


def fingerprint(user_id: str, keys: Keys, other_id: str, other_keys: Keys) -> str:
    """
    Six groups of five digits by which two people can compare each other's keys.

    The same for both, and another when either has other keys of either.
    """
    people = sorted([(user_id, keys), (other_id, other_keys)], key=lambda person: person[0])
    data = _FINGERPRINT
    for name, held in people:
        for field in (name, held.public_key, held.x25519_public_key or ""):
            data += b"%d:%b," % (len(field.encode()), field.encode())
    number = int.from_bytes(hashlib.sha512(data).digest()) % 10 ** (_GROUPS * _DIGITS)
    digits = f"{number:0{_GROUPS * _DIGITS}}"
    return " ".join(digits[at : at + _DIGITS] for at in range(0, len(digits), _DIGITS))


class KnownUsers:
    """
    The pins of one server's users, in a file that other programs use as well.

    What cannot be written is remembered as long as the program runs, and
    logged.  What a person wrote into the file stays there.
    """

    def __init__(self, server: str, path: Path | None = None) -> None:
        """`server` is its host and port; without a `path` nothing is kept."""
        self._server = server
        self._path = path
        self._read_at: tuple[int, ...] | None = None  # which version of the file was read
        self._pins: dict[str, Pin] = {}
        self._unsaved: dict[str, Pin] = {}

    def pin(self, user_id: str) -> Pin | None:
        """What is pinned for a user.  Raises `TrustError`."""
        if self._path is not None:
            self._refresh(self._path)
        return self._unsaved.get(user_id) or self._pins.get(user_id)

    def update(self, user_id: str, change: Callable[[Pin | None], Pin]) -> Pin:
        """
        Pin for a user what `change` makes of the pin that there is; returns it.

        Nobody else writes meanwhile.  Raises `TrustError`.
        """
        pin = self.pin(user_id)
        changed = change(pin)
        if changed == pin:
            return changed
        if self._path is None:
            self._pins[user_id] = changed
            return changed
        try:
            with locked(self._path):
                self._refresh(self._path)
                changed = change(self._unsaved.get(user_id) or self._pins.get(user_id))
                self._write(self._path, {**self._unsaved, user_id: changed})
        except OSError as error:
            log.warn("{path}: {reason}.", path=str(self._path), reason=error.strerror)
            self._unsaved[user_id] = changed
        else:
            self._unsaved.clear()
            self._refresh(self._path)
        return changed

    def _refresh(self, path: Path) -> None:
        """Read the file again if it is another."""
        try:
            found = path.stat()
            version = (found.st_ino, found.st_mtime_ns, found.st_size)
            if version == self._read_at:
                return
            lines = _lines(path)
        except FileNotFoundError:
            self._pins, self._read_at = {}, None
            return
        except OSError as error:
            raise TrustError(f"{path}: {error.strerror}.") from None
        named = {_name(line): line for line in lines}
        self._pins = {
            name[1]: _pin(line)
            for name, line in named.items()
            if name is not None and name[0] == self._server
        }
        self._read_at = version

    def _write(self, path: Path, pins: dict[str, Pin]) -> None:
        """Replace the lines of some users, whole or not at all."""
        try:
            lines = _lines(path)
        except FileNotFoundError:
            lines = [_HEADER]
        ours = {(self._server, user_id) for user_id in pins}
        kept = [line for line in lines if _name(line) not in ours]
        made = [_line(self._server, user_id, pin) for user_id, pin in pins.items()]
        write_atomically(path, "".join([*kept, *made]))


def _lines(path: Path) -> list[str]:
    text = path.read_text("utf-8", "surrogateescape")
    return [f"{line}\n" for line in text.removesuffix("\n").split("\n")]


def _name(line: str) -> tuple[str, str] | None:
    """The server and the user that a line is of."""
    fields = line.split()
    if line.startswith("#") or len(fields) < 2:
        return None
    return fields[0], fields[1]


def _pin(line: str) -> Pin:
    """
    What a line pins.

    Keys that are none are kept: no user has those, so damage is noticed as a
    change, and never taken for a user who is not known yet.
    """
    key, sealing, flag, *former = [*line.split()[2:], *[_NONE] * 3]
    keys = Keys(key, None if sealing == _NONE else sealing)
    return Pin(keys, flag == _ENVELOPES, tuple(_former(former)))


def _former(fields: list[str]) -> Iterator[Former]:
    for field in fields:
        key, _, until = field.partition("@")
        with contextlib.suppress(ValueError):
            yield Former(key, float(until))


def _line(server: str, user_id: str, pin: Pin) -> str:
    sealing, flag = pin.keys.x25519_public_key or _NONE, _ENVELOPES if pin.envelopes else _NONE
    former = [f"{key.public_key}@{key.until}" for key in pin.former]
    return " ".join([server, user_id, pin.keys.public_key, sealing, flag, *former]) + "\n"
