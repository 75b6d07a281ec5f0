"""Why a server cannot start, in one line: the option, its value, and what is wrong with it."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

from twisted.internet.error import CannotListenError

from wschat import config, database


class StartError(Exception):
    """The server cannot start; one line: the option, its value, and what is wrong with it."""


@contextlib.contextmanager
def blaming(option: str, value: object) -> Iterator[None]:
    """Whatever goes wrong inside is said of an option's value, with what it takes."""
    try:
        yield
    # They say of which file, of which port, and what is wrong.
    except (OSError, CannotListenError, database.Unusable) as error:
        raise StartError(f"--{option}: {str(value)!r}: {one_line(error)}") from error
    except Exception as error:
        (accepts,) = (s.accepts for s in config.SETTINGS if s.name == option)
        text = one_line(error).removesuffix(".")
        raise StartError(f"--{option}: {str(value)!r}: {text}; it takes {accepts}") from error


def one_line(error: Exception) -> str:
    """An error's own words, without those that SQLAlchemy adds to its driver's."""
    return " ".join(str(getattr(error, "orig", None) or error).split())


def say_in_one_line(kind: object, error: BaseException, trace: object) -> None:
    """What twistd does not catch ends the program: sys.stderr may be the log by then."""
    print(f"wschat: {error}", file=sys.__stderr__)
