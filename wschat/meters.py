"""
What has happened since the start: plain numbers, and nothing else.

Pure.  They are counted where it happens, for the price of an addition, and
made into metrics when somebody asks (wschat.metrics).
"""

from __future__ import annotations

import bisect
from collections import Counter
from collections.abc import Sequence
from typing import Final

from wschat import wire
from wschat.codes import ErrorCode

#: What became of a message that was stored, or was there already; of others it is why not.
STORED: Final = "stored"
REPEATED: Final = "repeated"
ANSWERED: Final = "answered"

#: The kind of what was refused at once, whatever it was to be.
ANY: Final = "any"

#: What there may be too much of.
LIMITS: Final = ("messages", "bytes", "logins", "registrations", "connections", "sessions")


class Histogram:
    """How many values there were up to each of some bounds, and their sum."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, *bounds: float) -> None:
        """`bounds` ascend; what is more than the last is counted as well."""
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect.bisect_left(self.bounds, value)] += 1
        self.sum += value


class Meters:
    """The numbers of one server."""

    def __init__(self) -> None:
        #: By kind and outcome.
        self.messages: Counter[tuple[str, str]] = Counter()
        #: Messages handed to sessions as they came.
        self.deliveries = 0
        #: Messages handed to sessions that had missed them.
        self.replays = 0
        #: By kind: stored, delivered.
        self.receipts: Counter[str] = Counter()
        #: By outcome: success, failure.
        self.logins: Counter[str] = Counter()
        self.registrations: Counter[str] = Counter()
        #: What was refused because there was too much of it, by what that was.
        self.limited: Counter[str] = Counter()
        #: Connections that the server closed, by code.
        self.closed: Counter[int] = Counter()
        #: WebSockets that were not let in, by HTTP status.
        self.refused: Counter[int] = Counter()
        self.commit_messages = Histogram(1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000)
        self.commit_seconds = Histogram(
            *(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
        )
        self.failed_commits = 0
        self.lag_seconds = Histogram(
            *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
        )

    def committed(
        self, fresh: Sequence[wire.Message], repeated: Sequence[wire.Message], seconds: float
    ) -> None:
        """A commit took so long: it stored some messages, and found others there already."""
        self.commit_seconds.observe(seconds)
        for messages, outcome in ((fresh, STORED), (repeated, REPEATED)):
            broadcasts = sum(message.topic == wire.BROADCAST for message in messages)
            self.messages[wire.Kind.BROADCAST, outcome] += broadcasts
            self.messages[wire.Kind.DIRECT, outcome] += len(messages) - broadcasts
        if fresh or repeated:
            self.commit_messages.observe(len(fresh) + len(repeated))

    def refused_message(self, kind: str, code: ErrorCode) -> None:
        """A message, or what was to be one, was refused."""
        self.messages[kind, code.name.lower()] += 1
        if code is ErrorCode.RATE_LIMITED:
            self.limited["messages"] += 1
        elif code is ErrorCode.TOO_MANY_BYTES:
            self.limited["bytes"] += 1
