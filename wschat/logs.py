"""
Logs as they are written: one JSON object a line, and the security log.

An object has `time`, `level`, `namespace` and `message`, and the event's own
values.  What is logged nowhere, as it is secret, is not here to be filtered.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, Final

import msgspec
from twisted.logger import (
    FileLogObserver,
    FilteringLogObserver,
    ILogFilterPredicate,
    ILogObserver,
    LogEvent,
    LogLevel,
    PredicateResult,
    formatEvent,
)
from twisted.python.logfile import LogFile
from zope.interface import implementer, provider

from wschat import wire

#: What an event's own values can be; anything else is in its message alone.
_PLAIN: Final = (str, int, float, bool)

_encoder: Final = msgspec.json.Encoder()


def json_line(event: LogEvent) -> str:
    """An event as a line."""
    level = event.get("log_level")
    failure = event.get("log_failure")
    line: dict[str, Any] = {
        "time": wire.format_time(event.get("log_time", 0.0)),
        "level": "info" if level is None else level.name,
        "namespace": event.get("log_namespace", ""),
        "message": formatEvent(event),
    }
    if failure is not None:
        line["traceback"] = failure.getTraceback()
    line |= {
        name: value
        for name, value in event.items()
        if isinstance(value, _PLAIN) and not name.startswith("log_") and name not in _OTHERS
    }
    return _encoder.encode(line).decode() + "\n"


#: What Twisted's older log adds to each event, and names that a line has anyway.
_OTHERS: Final = frozenset(
    {"time", "level", "namespace", "message", "system", "format", "isError", "traceback"}
)


def log_file(options: Mapping[str, Any] | None) -> IO[Any]:
    """Where twistd logs to, by its own options: `--logfile`, or the standard output."""
    name = options.get("logfile") if options is not None else None
    in_background = options is not None and not options.get("nodaemon")
    if name in (None, "", "-") and not in_background:
        return sys.stdout
    file: IO[Any] = LogFile.fromFullPath(name or "twistd.log")
    return file


@provider(ILogFilterPredicate)
def _is_worth_it(event: LogEvent) -> Any:
    ours = str(event.get("log_namespace", "")).partition(".")[0] == "wschat"
    level = event.get("log_level") or LogLevel.info
    wanted = level >= (LogLevel.info if ours else LogLevel.warn)
    return PredicateResult.yes if wanted else PredicateResult.no


def json_observer(file: IO[Any]) -> ILogObserver:
    """Writes the server's own events to a file, and what others warn of."""
    return FilteringLogObserver(FileLogObserver(file, json_line), [_is_worth_it])


@implementer(ILogObserver)
class _Appending:
    """
    Appends each event to a file, which is opened for it.

    So whoever moves the file away, to keep it from growing, need not tell.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def __call__(self, event: LogEvent) -> None:
        append(self._path, json_line(event))


def append(path: Path, text: str) -> None:
    """Append to a file; when it is missing it is made such that only its owner can read it."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


@provider(ILogFilterPredicate)
def _is_security(event: LogEvent) -> Any:
    wanted = event.get("log_namespace") == "wschat.security"
    return PredicateResult.yes if wanted else PredicateResult.no


def security_observer(path: Path) -> ILogObserver:
    """Writes what happens to accounts, and who is refused, to a file.  Raises `OSError`."""
    append(path, "")
    return FilteringLogObserver(_Appending(path), [_is_security])
