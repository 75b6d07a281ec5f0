"""
The metrics, as Prometheus reads them: made of plain numbers when they are asked for.

Each server has a registry of its own; nothing here runs while nobody asks.
docs/monitoring.md says what they are for, docs/grafana.json shows them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sized
from typing import Final, Protocol

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

import wschat
from wschat.codes import CloseCode
from wschat.hub import Registry
from wschat.meters import ANSWERED, LIMITS, REPEATED, STORED, Histogram, Meters
from wschat.wire import Kind

#: Outcomes of messages that are there from the start, so that a rate can be made of their first.
_MESSAGES: Final = (
    (Kind.DIRECT, STORED),
    (Kind.BROADCAST, STORED),
    (Kind.DIRECT, REPEATED),
    (Kind.BROADCAST, REPEATED),
    (Kind.SERVER, ANSWERED),
)


class Pressure(Protocol):
    """What waits in a server, in bytes."""

    @property
    def outbox_bytes(self) -> int:
        """For readers to take it."""

    @property
    def queued_bytes(self) -> int:
        """To be stored."""


class Metrics:
    """The metrics of one server; call it for their text."""

    def __init__(
        self,
        meters: Meters,
        registry: Registry,
        pressure: Pressure,
        *,
        users: Sized,
        connections: Sized,
        http_connections: Sized,
        certificate_ends: Callable[[], float | None],
    ) -> None:
        """`certificate_ends` is when the certificate does, in seconds since the epoch, if known."""
        self._meters = meters
        self._sessions = registry
        self._pressure = pressure
        self._users = users
        self._connections = connections
        self._http_connections = http_connections
        self._certificate_ends = certificate_ends
        self._database_bytes: int | None = None
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(_Collected(self._collect))
        ProcessCollector(registry=self._registry)

    def __call__(self, database_bytes: int | None) -> bytes:
        """The text, with the size of the database; None when it does not answer."""
        self._database_bytes = database_bytes
        return generate_latest(self._registry)

    def _collect(self) -> Iterator[Metric]:
        yield from self._gauges()
        yield from self._messages()
        yield from self._counters()
        meters = self._meters
        yield _histogram(
            "wschat_commit_messages", "Messages in one commit.", meters.commit_messages
        )
        yield _histogram(
            "wschat_commit_seconds", "How long commits take to be on disk.", meters.commit_seconds
        )
        yield _histogram(
            "wschat_reactor_lag_seconds", "How late the reactor is.", meters.lag_seconds
        )

    def _gauges(self) -> Iterator[Metric]:
        yield GaugeMetricFamily("wschat_connections", "Open WebSockets.", len(self._connections))
        yield GaugeMetricFamily(
            "wschat_http_connections",
            "Open connections that are none.",
            len(self._http_connections),
        )
        yield GaugeMetricFamily("wschat_sessions", "Sessions of users.", len(self._sessions))
        yield GaugeMetricFamily(
            "wschat_users_online", "Users with a session.", len(self._sessions.users)
        )
        yield GaugeMetricFamily("wschat_users", "Registered users.", len(self._users))
        yield GaugeMetricFamily(
            "wschat_outbox_bytes", "Bytes that wait for readers.", self._pressure.outbox_bytes
        )
        yield GaugeMetricFamily(
            "wschat_queue_bytes", "Bytes that wait to be stored.", self._pressure.queued_bytes
        )
        size = self._database_bytes
        yield GaugeMetricFamily(
            "wschat_database_up", "Whether the database answers.", int(size is not None)
        )
        if size is not None:
            yield GaugeMetricFamily("wschat_database_bytes", "The size of the database.", size)
        ends = self._certificate_ends()
        if ends is not None:
            yield GaugeMetricFamily(
                "wschat_certificate_expiry_timestamp_seconds", "When the certificate ends.", ends
            )
        version = GaugeMetricFamily("wschat_info", "The version.", labels=["version"])
        version.add_metric([wschat.__version__], 1)
        yield version

    def _messages(self) -> Iterator[Metric]:
        counts: dict[tuple[str, str], int] = dict.fromkeys(_MESSAGES, 0)
        counts |= self._meters.messages
        yield _counter(
            "wschat_messages",
            "Messages that came, and what became of them.",
            ("kind", "outcome"),
            counts.items(),
        )

    def _counters(self) -> Iterator[Metric]:
        meters = self._meters
        yield CounterMetricFamily(
            "wschat_deliveries", "Messages handed to sessions as they came.", meters.deliveries
        )
        yield CounterMetricFamily(
            "wschat_replays", "Messages handed to sessions that had missed them.", meters.replays
        )
        yield CounterMetricFamily(
            "wschat_commits_failed", "Commits that failed.", meters.failed_commits
        )
        for name, text, label, known, counts in (
            ("receipts", "Receipts.", "kind", ("stored", "delivered"), meters.receipts),
            ("logins", "Logins.", "outcome", ("success", "failure"), meters.logins),
            (
                *("registrations", "Registrations.", "outcome"),
                *(("success", "failure"), meters.registrations),
            ),
            ("limited", "What was refused as too much.", "limit", LIMITS, meters.limited),
        ):
            by_label = {(key,): n for key, n in (dict.fromkeys(known, 0) | counts).items()}
            yield _counter(f"wschat_{name}", text, (label,), by_label.items())
        closed = {(code.name.lower(),): meters.closed[code] for code in CloseCode}
        yield _counter(
            "wschat_closed", "Connections the server closed.", ("reason",), closed.items()
        )
        refused = {(str(int(status)),): n for status, n in meters.refused.items()}
        yield _counter(
            "wschat_refused", "WebSockets that were not let in.", ("status",), refused.items()
        )


class _Collected(Collector):
    """What a function makes, each time."""

    def __init__(self, collect: Callable[[], Iterable[Metric]]) -> None:
        self._collect = collect

    def collect(self) -> Iterable[Metric]:
        return self._collect()


def _counter(
    name: str, text: str, labels: tuple[str, ...], counts: Iterable[tuple[tuple[str, ...], int]]
) -> Metric:
    family = CounterMetricFamily(name, text, labels=labels)
    for values, count in counts:
        family.add_metric(values, count)
    return family


def _histogram(name: str, text: str, histogram: Histogram) -> Metric:
    buckets, total = [], 0
    for bound, count in zip((*histogram.bounds, "+Inf"), histogram.counts, strict=True):
        total += count
        buckets.append((str(bound), total))
    return HistogramMetricFamily(name, text, buckets, histogram.sum)
