"""A user's own files: nobody else's, replaced whole, shared by programs that run at once."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
from collections.abc import Iterator
from pathlib import Path


def make_directory(path: Path) -> None:
    """
    Have a directory, for its owner alone, like all that are made on the way to it.

    Whoever else can write one of them can put another in its place.
    """
    if not path.is_dir():
        make_directory(path.parent)
        path.mkdir(mode=0o700, exist_ok=True)


def writable(path: Path) -> bool:
    """Whether a file can be replaced, or made."""
    place = next(place for place in path.absolute().parents if place.exists())
    return place.is_dir() and os.access(place, os.W_OK | os.X_OK)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep other programs from changing a file that is replaced: a lock beside it."""
    make_directory(path.parent)
    lock = os.open(path.with_name(f".{path.name}.lock"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def write_atomically(path: Path, text: str) -> None:
    """Have a file (0600) hold a text, or what it held before, whatever happens."""
    path = path.resolve()  # a link stays one
    temporary = write_beside(path, text)
    try:
        os.replace(temporary, path)
    except OSError:
        temporary.unlink()
        raise
    settle(path.parent)


def write_beside(path: Path, text: str) -> Path:
    """A file (0600) in the same directory, whole and on disk."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    return temporary


def settle(directory: Path) -> None:
    """Have the names of a directory's files on disk, as their contents are."""
    with contextlib.suppress(OSError):  # a file system that has no such thing
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
