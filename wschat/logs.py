"""
The log as JSON, an object a line: `twistd --logger=wschat.logs.json_lines`.

It is for whatever collects it, and quiet: the server's own lines, and what others warn of.
"""

from __future__ import annotations

import datetime
import json
import sys
from typing import Any, Final, TextIO

from twisted.logger import ILogObserver, LogEvent, LogLevel, formatEvent
from twisted.python.failure import Failure
from zope.interface import provider

#: What Twisted itself puts into an event for observers of the old kind.
_OLD: Final = frozenset({"format", "isError", "message", "printed", "system", "time", "why"})


def json_lines() -> ILogObserver:
    """An observer that writes to standard output, as `twistd --logger` wants it."""
    return observer(sys.stdout)


def observer(file: TextIO) -> ILogObserver:
    """An observer that writes to `file`, a line at once."""

    @provider(ILogObserver)
    def write(event: LogEvent) -> None:
        if _wanted(event):
            file.write(_line(event) + "\n")
            file.flush()

    made: ILogObserver = write
    return made


def _wanted(event: LogEvent) -> bool:
    level: Any = event.get("log_level") or LogLevel.info
    ours = str(event.get("log_namespace", "")).partition(".")[0] == "wschat"
    return bool(level >= (LogLevel.info if ours else LogLevel.warn))


def _line(event: LogEvent) -> str:
    """An event as an object: when, how bad, whose, what; and the values that it was made of."""
    level = event.get("log_level") or LogLevel.info
    line: dict[str, object] = {
        "time": _time(event),
        "level": level.name,
        "logger": str(event.get("log_namespace", "")),
        "message": formatEvent(event),
    }
    failure = event.get("log_failure")
    if isinstance(failure, Failure):
        line["traceback"] = failure.getTraceback()
    for key, value in event.items():
        plain = isinstance(value, str | int | float | bool)
        if plain and not key.startswith("log_") and key not in _OLD:
            line.setdefault(key, value)
    return json.dumps(line)


def _time(event: LogEvent) -> str:
    """An event's time in UTC (RFC 3339)."""
    when = datetime.datetime.fromtimestamp(event.get("log_time", 0.0), datetime.UTC)
    return when.isoformat(timespec="milliseconds").replace("+00:00", "Z")
