"""What was measured: kept, and found again."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

#: The share of a processor above which the load is taken for the limit.
LOAD_LIMIT: Final = 0.9

#: The share of the time that others may keep the load from running, before it is doubtful.
KEPT_LIMIT: Final = 0.15


@dataclass
class Measurement:
    """
    One kind of work on one server with so many connections.

    `values`, each where it applies: `rate` (deliveries or connections a second), `cpu` (the
    server's processor time for each, in µs), `p50` and `p99` (ms; in mixed work of the broadcasts,
    and `direct_p99` of the others), `server` and `load` (shares of a processor that they
    took), `kept` (share of the time that the load was kept from running), `memory` (KB a
    connection).
    """

    server: str
    work: str
    connections: int
    values: dict[str, float] = field(default_factory=dict)
    #: What is wrong with it: lost connections, undelivered messages, errors.
    fault: str = ""

    @property
    def load_limited(self) -> bool:
        """Whether the load had hardly any time left: the server could do more than this."""
        return self.values.get("load", 0) > LOAD_LIMIT

    @property
    def disturbed(self) -> bool:
        """Whether other programs took processor time that was needed here."""
        return self.values.get("kept", 0) > KEPT_LIMIT


def medians(measurements: Iterable[Measurement]) -> list[Measurement]:
    """
    One measurement for each server, work and number of connections, where it was repeated.

    Each of its values is the median, but for `kept`, which is the worst.  A fault in
    any of them is its fault.
    """
    repeated: dict[tuple[str, str, int], list[Measurement]] = {}
    for measured in measurements:
        key = (measured.server, measured.work, measured.connections)
        repeated.setdefault(key, []).append(measured)
    return [_median(group) for group in repeated.values()]


def _median(group: list[Measurement]) -> Measurement:
    if len(group) == 1:
        return group[0]
    faults = [measured.fault for measured in group if measured.fault]
    values = {
        key: (max if key == "kept" else statistics.median)(
            measured.values[key] for measured in group if key in measured.values
        )
        for key in {key: None for measured in group for key in measured.values}
    }
    fault = f"{len(faults)} of {len(group)} rounds: {faults[0]}" if faults else ""
    return replace(group[0], values=values, fault=fault)


@dataclass
class Results:
    """One run of the benchmark."""

    conditions: dict[str, str] = field(default_factory=dict)
    #: Labels, and versions, of the servers by name; in the order in which they are shown.
    labels: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    #: Why a server, or a size, is not in it.
    missing: dict[str, str] = field(default_factory=dict)
    measurements: list[Measurement] = field(default_factory=list)

    def find(self, server: str, work: str, connections: int | None) -> Measurement | None:
        """A measurement without a fault; `connections` None is the most there are."""
        found = [
            m
            for m in self.measurements
            if (m.server, m.work) == (server, work)
            and connections in (None, m.connections)
            and not m.fault
        ]
        return max(found, key=lambda m: m.connections, default=None)

    def value(self, server: str, work: str, connections: int | None, key: str) -> float | None:
        """One value of `find`; None when there is none."""
        found = self.find(server, work, connections)
        return None if found is None else found.values.get(key)

    def sizes(self, work: str) -> list[int]:
        """The numbers of connections that a kind of work was measured with."""
        return sorted({m.connections for m in self.measurements if m.work == work})

    def save(self, path: Path) -> None:
        """Write it as JSON."""
        path.write_text(json.dumps(asdict(self), indent=1) + "\n", "utf-8")

    @classmethod
    def load(cls, path: Path) -> Results:
        """What `save` wrote.  Raises `OSError`, `ValueError`, or `TypeError` for other files."""
        read: dict[str, Any] = json.loads(path.read_text("utf-8"))
        read["measurements"] = [Measurement(**m) for m in read["measurements"]]
        return cls(**read)
