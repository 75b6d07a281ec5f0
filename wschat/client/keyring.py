"""A user's private key on disk, so that alice is alice again tomorrow."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from wschat.identity import BadKey, PrivateKey


class KeyringError(Exception):
    """The key file cannot be used; the message is one line, and holds no key."""


def key_path(user_id: str, environ: Mapping[str, str]) -> Path:
    """Where a user's key is kept (XDG base directory specification)."""
    base = Path(environ.get("XDG_CONFIG_HOME", ""))
    if not base.is_absolute():
        base = Path("~/.config").expanduser()
    return base / "wschat" / "keys" / f"{user_id}.key"


def load_or_make(path: Path) -> tuple[PrivateKey, bool]:
    """
    The key in a file, which is made (0600) when it is missing.

    Returns the key and whether it is new.  When two programs make it at once,
    both get the same.  Raises `KeyringError`.
    """
    try:
        made = False
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            made = _make(path)
        return PrivateKey.from_text(path.read_text("ascii")), made
    except UnicodeDecodeError:
        raise KeyringError(f"{path}: not a private key.") from None
    except BadKey as error:
        raise KeyringError(f"{path}: {error}") from None
    except OSError as error:
        raise KeyringError(f"{path}: {error.strerror}.") from None


def _make(path: Path) -> bool:
    """Write a new key, whole or not at all, unless somebody else just did."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(PrivateKey.generate().to_text() + "\n")
            file.flush()
            os.fsync(file.fileno())
        return _put(temporary, path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


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
