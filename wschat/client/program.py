"""How a client's program starts, and how it ends."""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import getpass
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import globalLogBeginner, textFileLogObserver

from wschat.client import console, keyring
from wschat.client.accounts import RequestRefused
from wschat.client.files import writable
from wschat.client.settings import Settings, SettingsError
from wschat.identity import BadKey, PrivateKey


class Exit(enum.IntEnum):
    """How a program ended, for scripts (docs/clients.md, "Exit status")."""

    DONE = 0
    FAULT = 1
    USAGE = 2
    UNREACHABLE = 3
    REFUSED = 4
    NOT_ACCEPTED = 5


def exit_for(error: Exception | None) -> Exit:
    """The status for a client that never got in."""
    return Exit.REFUSED if isinstance(error, RequestRefused) else Exit.UNREACHABLE


def note(text: str) -> None:
    """Say something about the program itself."""
    print(f"* {console.visible(text)}", file=sys.stderr, flush=True)


def _ask_passphrase() -> str:
    """The passphrase of the key file, from who sits at the terminal; empty without one."""
    if sys.stdin is None or not sys.stdin.isatty():
        return ""
    return getpass.getpass("Passphrase of the key: ")


def prepare(environ: Mapping[str, str]) -> tuple[Settings, PrivateKey]:
    """Who to be, and their key, from the environment; what is wrong with it ends the program."""
    asked: list[str] = []

    def ask() -> str:
        asked.append(_ask_passphrase())
        return asked[-1]

    try:
        settings = Settings.from_environ(environ)
        key, made = keyring.own_key(settings, ask)
    except BadKey as error:
        note(f"WS_PRIVATE_KEY: {error}")
        sys.exit(Exit.USAGE)
    except (SettingsError, keyring.KeyringError) as error:
        note(str(error))
        sys.exit(Exit.USAGE)
    if asked:  # what replaces the key comes under it as well
        settings = dataclasses.replace(settings, key_passphrase=asked[-1])
    path = settings.key_file
    if made:
        note(f"Made a private key for {settings.user_id}: {path}")
    elif path is not None and keyring.waiting_path(path).exists():
        note(keyring.interrupted(path))
    if settings.known_users is not None and not writable(settings.known_users):
        note(
            f"{settings.known_users} cannot be written: whose key is whose is forgotten at the end."
        )
    if settings.debug:
        globalLogBeginner.beginLoggingTo(
            [textFileLogObserver(sys.stderr)], redirectStandardIO=False
        )
    if settings.insecure_tls:
        note("INSECURE_TLS: nobody checks who the server is, so anybody can pose as it.")
    return settings, key


def seconds(environ: Mapping[str, str], name: str, default: float) -> float:
    """A variable that is an interval in seconds; what is wrong with it ends the program."""
    text = environ.get(name) or str(default)
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0.1 <= number < float("inf"):
        note(f"{name}: {text!r} is not a number of seconds from 0.1")
        sys.exit(Exit.USAGE)
    return number


@contextlib.contextmanager
def interruptible(reactor: Any, interrupt: Callable[[], object]) -> Iterator[None]:
    """While this lasts the end of the reactor interrupts what runs, and waits until it is left."""
    left: Deferred[None] = Deferred()

    def interrupted() -> Deferred[None]:
        interrupt()
        return left

    reactor.addSystemEventTrigger("before", "shutdown", interrupted)
    try:
        yield
    finally:
        left.callback(None)


def on_terminal() -> bool:
    """Whether there is a person: both standard input and output are a terminal."""
    return all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stdout))


def in_colour(environ: Mapping[str, str]) -> bool:
    """Whether standard output is a terminal that is meant to have colours."""
    plain = environ.get("NO_COLOR") or environ.get("TERM", "dumb") == "dumb"
    return not plain and sys.stdout is not None and sys.stdout.isatty()


def usage(arguments: list[str], text: str) -> None:
    """Answer `--help`, and end for any other argument: the environment says everything."""
    if not arguments:
        return
    if arguments[0] in ("-h", "--help"):
        print(text.strip())
        sys.exit(Exit.DONE)
    note(f"unexpected: {arguments[0]}; see --help")
    sys.exit(Exit.USAGE)


def open_streams() -> None:
    """Whoever started the program may have closed its input or output: then they are at an end."""
    if sys.stdin is None:
        os.open(os.devnull, os.O_RDONLY)
    if sys.stdout is None:
        os.open(os.devnull, os.O_WRONLY)
