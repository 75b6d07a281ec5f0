"""
What the text of a setting means: one function for each kind of value.

Each takes the text as it was given, and raises `ValueError` for one that is
none of its kind.  What the kinds are called in an error is said with the
settings (wschat.config).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from wschat import wire

_LONGEST: Final = 10 * 366 * 86400
_DURATION_UNITS: Final = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_SIZE_UNITS: Final = {"": 1, "KIB": 1024, "MIB": 1024**2, "GIB": 1024**3}
_ORIGIN: Final = re.compile(r"\*|null|[a-z][a-z0-9+.-]*://[^/?#\s@]+")
_ADDRESS: Final = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]*):(?P<port>\d{1,5})")

#: Only one @: SQLAlchemy takes what is between two for a part of the host, and tells it in errors.
_POSTGRESQL: Final = re.compile(
    r"postgresql\+psycopg://(?:[^@]*@)?(?:\[[0-9A-Fa-f:.]+\]|[^@/?:\[\]]*)(?::\d{1,5})?"
    r"(?:/[^@?]*)?(?:\?.*)?"
)

#: What a Twisted server endpoint's string begins with.
_ENDPOINT_KINDS: Final = frozenset(
    {"ssl", "fasttls", "tcp", "tcp4", "tcp6", "unix", "systemd", "fd"}
)


def _measure(text: str, units: Mapping[str, int]) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)", text)
    if match is None or match[2] not in units:
        raise ValueError(text)
    return float(match[1]) * units[match[2]]


def duration(text: str) -> float:
    """Seconds, from one to ten years' worth: a number, with or without one of s, m, h and d."""
    seconds = _measure(text.lower(), _DURATION_UNITS)
    if not 1 <= seconds <= _LONGEST:
        raise ValueError(text)
    return seconds


def size(text: str) -> int:
    """Bytes, from 1 KiB to 1 GiB: a number, with or without one of KiB, MiB and GiB."""
    number = _measure(text.upper(), _SIZE_UNITS)
    if not 1024 <= number <= 1024**3:
        raise ValueError(text)
    return int(number)


def size_or_none(text: str) -> int | None:
    """Bytes, as `size` has them; None for an empty text."""
    return size(text) if text else None


def rate(text: str) -> float:
    """A finite number above 0."""
    number = float(text)
    if not (math.isfinite(number) and number > 0):
        raise ValueError(text)
    return number


def at_least_one(text: str) -> float:
    """A finite number from 1."""
    number = rate(text)
    if number < 1:
        raise ValueError(text)
    return number


def count(text: str) -> int:
    """A whole number from 1."""
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def one_of(*words: str) -> Callable[[str], str]:
    """The function for a value that is one of these words."""

    def parse(text: str) -> str:
        if text not in words:
            raise ValueError(text)
        return text

    return parse


def secret(text: str) -> str | None:
    """Any text; None for an empty one."""
    return text or None


# Lists, separated by commas; an empty text is an empty one.


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def origins(text: str) -> frozenset[str]:
    """Origins as browsers send them (RFC 6454), in lower case, `null`, or `*` for all."""
    found = frozenset(origin.rstrip("/").lower() for origin in _names(text))
    if not all(_ORIGIN.fullmatch(origin) for origin in found):
        raise ValueError(text)
    return found


def modules(text: str) -> tuple[str, ...]:
    """Dotted names of Python modules, in the order given."""
    names = tuple(_names(text))
    if not all(part.isidentifier() for name in names for part in name.split(".")):
        raise ValueError(text)
    return names


def users(text: str) -> frozenset[str]:
    """User ids."""
    found = frozenset(_names(text))
    if not all(wire.valid_user_id(user) for user in found):
        raise ValueError(text)
    return found


# Where something is.


def directory(text: str) -> Path:
    """A path, with `~` made somebody's home directory."""
    if not text:
        raise ValueError(text)
    try:
        return Path(text).expanduser()
    except RuntimeError:  # of ~somebody, whom nobody knows
        raise ValueError(text) from None


def path(text: str) -> Path | None:
    """A path, as `directory` has it; None for an empty text."""
    return directory(text) if text else None


def split_address(text: str) -> tuple[str, int] | None:
    """`HOST:PORT` or `:PORT` as (host, port); None when it is something else."""
    match = _ADDRESS.fullmatch(text)
    if match is None or int(match["port"]) > 65535 or match["host"] in _ENDPOINT_KINDS:
        return None
    return match["host"].strip("[]"), int(match["port"])


def listener(text: str) -> str:
    """An address that `split_address` takes, or a Twisted server endpoint's string."""
    kind, _, rest = text.partition(":")
    if split_address(text) is None and not (rest and kind in _ENDPOINT_KINDS):
        raise ValueError(text)
    return text


def http_listener(text: str) -> str:
    """A listener, or an empty text, also for `none`."""
    return "" if text in ("", "none") else listener(text)


def database(text: str) -> str:
    """A path, or the URL of an SQLite file or of a PostgreSQL database (SQLAlchemy's psycopg)."""
    url = text.startswith("sqlite:///") or _POSTGRESQL.fullmatch(text)
    if ":memory:" in text or ("://" in text and not url):
        raise ValueError(text)
    return text
