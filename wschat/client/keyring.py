"""
A user's private key on disk, so that alice is alice again tomorrow.

A line a key, as `WS_PRIVATE_KEY` has it: the present one, and those that it
replaced, the newest first.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from nacl.exceptions import CryptoError
from nacl.pwhash import argon2id
from nacl.secret import SecretBox

from wschat.client.files import make_directory, settle, write_atomically, write_beside
from wschat.client.settings import Settings
from wschat.identity import BadKey, PrivateKey, decode_base64, encode_base64

#: How a file that is under a passphrase begins; the rest is two costs, the salt and the box.
_SEALED: Final = "argon2id"


class KeyringError(Exception):
    """The key file cannot be used; the message is one line, and holds no key."""


def own_key(settings: Settings, ask: Callable[[], str] | None = None) -> tuple[PrivateKey, bool]:
    """
    A user's own key: the one that was given, or else that of their key file.

    Returns it, and whether it was made; `ask` as in `load_or_make`.  Raises
    `BadKey` for a given one, `KeyringError` for one in a file.
    """
    if settings.key_file is None:
        return PrivateKey.from_text(settings.private_key or ""), False
    return load_or_make(settings.key_file, settings.key_passphrase, ask)


def load_or_make(
    path: Path, passphrase: str = "", ask: Callable[[], str] | None = None
) -> tuple[PrivateKey, bool]:
    """
    The key in a file, which is made (0600) when it is missing.

    With a `passphrase` the file is under it, from now on if it was not; one
    that is asked for by `ask` is only needed for a file that is.  Returns the
    key and whether it is new.  When two programs make it at once, both get
    the same.  Raises `KeyringError`.
    """
    made = False
    with _reasons(path):
        if not path.exists():
            make_directory(path.parent)
            made = _make(path, PrivateKey.generate(), passphrase)
    return load(path, passphrase, ask), made


def load(path: Path, passphrase: str = "", ask: Callable[[], str] | None = None) -> PrivateKey:
    """The key in a file, as by `load_or_make`.  Raises `KeyringError`."""
    with _reasons(path):
        _shut(path)
        text = path.read_text("ascii")
        if text.startswith(_SEALED):
            return _parsed(_open(text, passphrase or (ask() if ask else "")))
        key = _parsed(text)
        if passphrase:
            write_atomically(path, _text(key, passphrase))
        return key


@contextlib.contextmanager
def _reasons(path: Path) -> Iterator[None]:
    """Say in a line what is wrong with a file."""
    try:
        yield
    except UnicodeDecodeError:
        raise KeyringError(f"{path}: not a private key.") from None
    except (BadKey, _Closed) as error:
        raise KeyringError(f"{path}: {error}") from None
    except OSError as error:
        raise KeyringError(f"{path}: {error.strerror}.") from None


def waiting_path(path: Path) -> Path:
    """Where the key waits that is to replace the one in a file."""
    return path.with_name(f"{path.name}.new")


def interrupted(path: Path) -> str:
    """What to do when such a key is there and nobody knows whether the server has it."""
    return (
        f"{waiting_path(path)}: a replacement was interrupted.  When the login is refused, "
        f"this is the key: rename it to {path.name}."
    )


class Replacement:
    """
    Another key for a file, which waits beside it until the server has taken it.

    So it is lost at no moment, whatever happens.  Everything raises `KeyringError`.
    """

    def __init__(self, path: Path, key: PrivateKey, passphrase: str = "") -> None:
        """
        Write the key beside the file, as `NAME.new`.

        When one waits there that was to replace the same key, the server may
        have that, or get it yet: then `key` is that one.  A file that is
        under a passphrase has to be replaced by one that is.
        """
        self._path = path
        self._waiting = waiting_path(path)
        with _reasons(self._waiting):
            if not passphrase and _is_sealed(path):
                raise KeyringError(f"{path}: it is under a passphrase, which is not known here.")
            self._again = not _make(self._waiting, key, passphrase)
        self.key = self._interrupted(key, passphrase) if self._again else key
        self._passphrase = passphrase

    def _interrupted(self, key: PrivateKey, passphrase: str) -> PrivateKey:
        found = load(self._waiting, passphrase)
        if [old.public_key for old in found.former] != [old.public_key for old in key.former]:
            raise KeyringError(interrupted(self._path))
        return found

    def done(self) -> None:
        """The server has taken it: it is the key."""
        with _reasons(self._waiting):
            try:
                os.replace(self._waiting, self._path)
            except FileNotFoundError:  # another program did that, or gave up
                write_atomically(self._path, _text(self.key, self._passphrase))
            settle(self._path.parent)

    def void(self) -> None:
        """The server has not: forget it, unless it was asked before, and may yet."""
        if not self._again:
            with _reasons(self._waiting):
                self._waiting.unlink()


def _shut(path: Path) -> None:
    """Nobody else is to read a key, whoever put it there."""
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        try:
            path.chmod(mode & 0o700)
        except OSError:
            raise KeyringError(f"{path}: others can read it; its mode has to be 0600.") from None


def _is_sealed(path: Path) -> bool:
    try:
        return path.read_bytes().startswith(_SEALED.encode())
    except FileNotFoundError:
        return False


def _text(key: PrivateKey, passphrase: str) -> str:
    """What a key's file holds."""
    return _sealed(key, passphrase) if passphrase else _lines(key)


def _lines(key: PrivateKey) -> str:
    return "".join(f"{each.to_text()}\n" for each in (key, *key.former))


def _parsed(text: str) -> PrivateKey:
    """Raises `BadKey`."""
    first, *rest = text.split() or [""]
    key = PrivateKey.from_text(first)
    key.former = tuple(map(PrivateKey.from_text, rest))
    return key


class _Closed(Exception):
    """The passphrase is missing or wrong, or the file is damaged."""


def _sealed(key: PrivateKey, passphrase: str) -> str:
    """A key file's text: a secret box, under a key that is dear to guess (argon2id)."""
    salt = secrets.token_bytes(argon2id.SALTBYTES)
    cost = argon2id.OPSLIMIT_MODERATE, argon2id.MEMLIMIT_MODERATE
    box = SecretBox(_derived(passphrase, salt, *cost)).encrypt(_lines(key).encode())
    fields = (*map(str, cost), encode_base64(salt), encode_base64(bytes(box)))
    return " ".join((_SEALED, *fields)) + "\n"


def _open(text: str, passphrase: str) -> str:
    """The keys in a file's text, a line each.  Raises `_Closed`."""
    if not passphrase:
        raise _Closed("it is under a passphrase: set WS_KEY_PASSPHRASE.")
    try:
        _, operations, memory, salt, box = text.split()
        cost = int(operations), int(memory)
        if cost[0] > argon2id.OPSLIMIT_SENSITIVE or cost[1] > argon2id.MEMLIMIT_SENSITIVE:
            raise ValueError("nobody made that")
        key = _derived(passphrase, decode_base64(salt), *cost)
        return SecretBox(key).decrypt(decode_base64(box)).decode("ascii")
    except CryptoError:
        raise _Closed("another passphrase, or the file is damaged.") from None
    except ValueError:
        raise _Closed("not a private key.") from None


def _derived(passphrase: str, salt: bytes, operations: int, memory: int) -> bytes:
    return argon2id.kdf(SecretBox.KEY_SIZE, passphrase.encode(), salt, operations, memory)


def _make(path: Path, key: PrivateKey, passphrase: str) -> bool:
    """Write a key, whole or not at all; False when there is a file already."""
    temporary = write_beside(path, _text(key, passphrase))
    try:
        return _put(temporary, path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
        settle(path.parent)


def _put(temporary: Path, path: Path) -> bool:
    """Give a finished file its name, unless there is one of that name."""
    try:
        os.link(temporary, path)  # unlike a rename, this never replaces a key
    except FileExistsError:
        return False
    except OSError:  # a file system without links
        if path.exists():
            return False
        os.rename(temporary, path)
    return True
