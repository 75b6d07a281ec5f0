"""What wschat is held to, as ratios to its peers in the same run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from benchmarks.results import Results

#: The number of connections of most targets, and of the one of many.
USUAL: Final = 300
MANY: Final = 5000

WSCHAT: Final = "wschat"
#: The same, with classic clients: they ask for no receipts, and answer pings in place of acks.
CLASSIC: Final = "classic"


@dataclass(frozen=True)
class Target:
    """
    wschat's `key` in some `work` by a peer's; without a peer, the value itself.

    It is met when the ratio is at most `at_most`, or at least `at_least`.
    """

    what: str
    work: str
    key: str
    peer: str
    connections: int = USUAL
    at_most: float | None = None
    at_least: float | None = None

    @property
    def wanted(self) -> str:
        return f"≤ {self.at_most:g}" if self.at_most is not None else f"≥ {self.at_least:g}"

    def met(self, measured: float) -> bool:
        """Whether a measured ratio will do."""
        if self.at_most is not None:
            return measured <= self.at_most
        return self.at_least is not None and measured >= self.at_least


TARGETS: Final = (
    Target("CPU a delivery, 20 broadcasts/s", "paced", "cpu", "floor", at_most=1.3),
    Target("CPU a delivery, 20 broadcasts/s", "paced", "cpu", "nats", at_most=0.5),
    Target("broadcasts flat out, deliveries/s", "flood", "rate", "nats", at_least=2),
    Target("broadcasts flat out, deliveries/s", "flood", "rate", "uws", at_least=1.5),
    Target("direct messages flat out", "direct", "rate", "nats", at_least=0.9),
    Target("direct messages flat out", "direct", "rate", "ws", at_least=1.2),
    Target("memory an idle connection, KB", "memory", "memory", "", MANY, at_most=35),
    Target("CPU a connection made", "connect", "cpu", "nats-rsa", at_most=0.5),
    Target("p99 of a broadcast", "paced", "p99", "nats", MANY, at_most=1),
)


@dataclass(frozen=True)
class Verdict:
    """
    A target, and what became of it.

    `measured` is None when it could not be told; `classic` is the same with classic clients.
    `by_time` is the ratio of deliveries for each
    second of the servers' processor time: of a rate, what it would be on a machine where
    nothing else runs, of a server that waits for nothing.
    """

    target: Target
    measured: float | None
    by_time: float | None
    classic: float | None
    doubt: str

    @property
    def text(self) -> str:
        """Met, or not, or why that is not known."""
        if self.measured is None:
            return "not measured"
        said = "met" if self.target.met(self.measured) else "**not met**"
        return f"{said} ({self.doubt})" if self.doubt else said


def verdicts(results: Results) -> list[Verdict]:
    """Each target, and what was measured of it."""
    return [_verdict(results, target) for target in TARGETS]


def _verdict(results: Results, target: Target) -> Verdict:
    measured = _ratio(results, target, WSCHAT, target.key)
    by_time = None
    if target.key == "rate":
        cost = _ratio(results, target, WSCHAT, "cpu")
        by_time = 1 / cost if cost else None
    classic = _ratio(results, target, CLASSIC, target.key)
    return Verdict(target, measured, by_time, classic, _doubt(results, target))


def _ratio(results: Results, target: Target, server: str, key: str) -> float | None:
    """A server's value by the peer's, or alone; None when one of them was not measured."""
    ours = results.value(server, target.work, target.connections, key)
    if ours is None or not target.peer:
        return ours
    theirs = results.value(target.peer, target.work, target.connections, key)
    return ours / theirs if theirs else None


def _doubt(results: Results, target: Target) -> str:
    """Why a ratio may not be what it seems; processor time is told apart, whatever else runs."""
    if target.key == "cpu" or not target.peer:
        return ""
    found = [results.find(name, target.work, target.connections) for name in (WSCHAT, target.peer)]
    measured = [m for m in found if m is not None]
    if any(m.load_limited for m in measured) and target.key == "rate":
        return "the load was the limit"
    return "other programs ran" if any(m.disturbed for m in measured) else ""
