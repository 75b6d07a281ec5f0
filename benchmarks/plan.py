"""What is done with each server, and for how long."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from benchmarks.cache import Cache
from benchmarks.load import LOAD_SOURCES, Load
from benchmarks.machine import Processors, family, memory, waited
from benchmarks.results import Measurement
from benchmarks.servers import Running, Server
from benchmarks.targets import MANY, USUAL

#: Deliveries a second in paced broadcasts, about: 20 broadcasts a second to 300.
_PACED_DELIVERIES: Final = 6000
_MOST_BROADCASTS: Final = 20.0
#: So many are measured at least: a percentile of two would be chance.
_PACED_BROADCASTS: Final = 10
#: Senders, and broadcasts and deliveries on their way at once, when it goes flat out.
_SENDERS: Final = 8
_WINDOW: Final = 256
_WINDOW_DELIVERIES: Final = 76_800
#: Who writes direct messages; and how many each has on their way at once, when it is more than one.
_WRITERS: Final = 50
_MANY: Final = 16
#: What is mixed: direct messages and connections made, a second, beside half the paced broadcasts.
_MIXED_DIRECT: Final = 1000.0
_MIXED_CONNECTIONS: Final = 10.0


#: The kinds of sending, in their order: what fills the store comes last.
WORKS: Final = ("paced", "mixed", "direct", "paired", "single", "flood")


#: … and those of direct messages alone.
FLAT_OUT_DIRECT: Final = ("direct", "paired", "single")


@dataclass(frozen=True)
class Plan:
    """How much is done: connections, seconds, connections made on top of those that are there."""

    sizes: tuple[int, ...]
    seconds: float
    warm: float
    settle: float
    extra: int
    #: Which of the kinds of sending; connecting is always measured.
    works: tuple[str, ...] = WORKS
    #: How often paced broadcasts, and connecting before them, are measured at those of the sizes
    #: that have targets: what leaves a processor idle differs by half from minute to minute.
    rounds: int = 1

    @property
    def users(self) -> int:
        return max(self.sizes) + self.extra

    def cells(self) -> Iterator[tuple[int, Plan]]:
        """A size, and what is done with each server at it; again, as often as there are rounds."""
        for size in self.sizes:
            yield size, self
        again = replace(self, works=("paced",))
        for _ in range(1, self.rounds):
            yield from ((size, again) for size in self._repeated())

    def _repeated(self) -> list[int]:
        wanted = self.rounds > 1 and "paced" in self.works
        return [size for size in self.sizes if wanted and size in (USUAL, MANY)]

    def __str__(self) -> str:
        """How long everything is measured, and how often."""
        said = f"{self.seconds:g} s each, after {self.warm:g} s of warm-up"
        if self._repeated():
            sizes = ", ".join(f"{size:,}" for size in self._repeated())
            said += f"; connecting, memory and paced broadcasts at {sizes}: medians of "
            said += f"{self.rounds} rounds"
        return said


FULL: Final = Plan(sizes=(100, USUAL, 1000, MANY), seconds=4, warm=1, settle=2, extra=500, rounds=3)
QUICK: Final = Plan(sizes=(USUAL,), seconds=1.5, warm=0.5, settle=1, extra=200)

#: After so many seconds a load ends, whatever it is doing.
_LIFETIME: Final = 300

#: The shares of a processor in each measurement (results.py).
_SHARES: Final = ("server", "load", "kept")

#: wschat's clients may ask for receipts, and acknowledge as its SDK does; or not, and at leisure.
VARIANTS: Final[dict[str, dict[str, float]]] = {
    "": {"client_ids": 1, "ack_direct_after": 0.05},
    "-lean": {"client_ids": 0, "ack_direct_after": 1},
}


class Cell:
    """One server with one number of connections: started, measured in all ways, and ended."""

    def __init__(
        self, server: Server, connections: int, plan: Plan, cache: Cache, processors: Processors
    ) -> None:
        self._server = server
        self._connections = connections
        self._plan = plan
        self._cache = cache
        self._processors = processors

    def measure(self) -> Iterator[Measurement]:
        """Each measurement, when it is done.  Raises `StartFailed`, `LoadFailed`, `Missing`."""
        directory = self._cache.directory / "run" / self._server.name
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        program = self._cache.native("load", *LOAD_SOURCES)
        identities = self._identities(self._cache.directory / "identities")
        with self._server.start(self._processors.server, directory) as running:
            load = Load(
                program,
                self._processors.load,
                protocol=self._server.protocol,
                port=running.port,
                identities=identities,
                seconds=_LIFETIME,
                pids=family(running.process.pid),
            )
            with load:
                yield from self._connecting(load, running)
                for work, numbers in self._works():  # the last leaves much to be caught up on
                    for suffix, options in self._variants():
                        counts = self._command(load, "work", **numbers, **options)
                        yield self._measurement(work, counts, suffix)
        shutil.rmtree(directory, ignore_errors=True)

    def _identities(self, path: Path) -> Path:
        count = self._connections + self._plan.extra
        lines = [" ".join(self._server.identity(number)) for number in range(count)]
        path.write_text("\n".join(lines) + "\n")
        return path

    def _variants(self) -> list[tuple[str, dict[str, float]]]:
        return list(VARIANTS.items()) if self._server.protocol == "wschat" else [("", {})]

    def _connecting(self, load: Load, running: Running) -> Iterator[Measurement]:
        def resident() -> int:
            return sum(memory(pid) for pid in family(running.process.pid))

        connections, extra = self._connections, self._plan.extra
        before = resident()
        yield self._made("storm", self._command(load, "connect", count=connections, at_once=64))
        idle = self._command(load, "idle", seconds=self._plan.settle)
        each = (resident() - before) / connections / 1000
        shares = {key: idle[key] for key in _SHARES}
        yield self._with_faults(Measurement(self._server.name, "idle", connections), idle, shares)
        yield Measurement(self._server.name, "memory", connections, {"memory": each})
        made = self._command(
            load, "connect", **{"from": connections}, count=extra, at_once=16, counted=0
        )
        yield self._made("connect", made)
        self._command(load, "close", **{"from": connections}, count=extra)
        self._command(load, "idle", seconds=0.5)

    def _works(self) -> Iterator[tuple[str, dict[str, float]]]:
        """The kinds of sending, and what the load is told of each."""
        if self._server.connecting_only:
            return
        members, plan = self._connections, self._plan
        writers = min(_WRITERS, members // 2)
        rate = min(_MOST_BROADCASTS, _PACED_DELIVERIES / members)
        window = min(_WINDOW, _WINDOW_DELIVERIES // members)
        mixed = {"direct_rate": _MIXED_DIRECT, "churn_rate": _MIXED_CONNECTIONS}
        numbers: dict[str, dict[str, float]] = {
            "paced": {"rate": rate, "seconds": max(plan.seconds, _PACED_BROADCASTS / rate)},
            "mixed": {"rate": rate / 2, "writers": writers, **mixed},
            "direct": {"writers": writers, "writer_window": _MANY, "paired": 0},
            "paired": {"writers": writers, "writer_window": _MANY},
            "single": {"writers": writers, "writer_window": 1},
            "flood": {"senders": min(_SENDERS, members), "window": window},
        }
        common = {"members": members, "warm": self._plan.warm, "seconds": self._plan.seconds}
        for work in WORKS:
            if work in self._plan.works:
                yield work, {**common, **numbers[work]}

    def _command(self, load: Load, name: str, **arguments: float) -> dict[str, Any]:
        """The counts of a command, with the shares of a processor that it took."""
        start, before = time.monotonic(), waited(load.pid)
        counts = load.command(name, **arguments)
        wall, kept = time.monotonic() - start, waited(load.pid) - before
        seconds = counts.get("seconds") or wall
        counts["server"] = counts.get("server_cpu", 0) / seconds
        counts["load"] = counts.get("load_cpu", 0) / seconds
        counts["kept"] = kept / wall
        return counts

    def _made(self, work: str, counts: dict[str, Any]) -> Measurement:
        made = Measurement(self._server.name, work, self._connections)
        number = counts["made"]
        values = {
            "rate": number / counts["seconds"],
            "cpu": counts["server_cpu"] / max(1, number) * 1e6,
            **_percentiles(counts["connecting"]),
        }
        return self._with_faults(made, counts, values)

    def _measurement(self, work: str, counts: dict[str, Any], suffix: str) -> Measurement:
        done = Measurement(self._server.name + suffix, work, self._connections)
        if "seconds" not in counts:
            done.fault = counts["fault"]
            return done
        deliveries = counts["broadcasts"] + counts["directs"]
        seconds = counts["seconds"]
        kind = "direct" if work in FLAT_OUT_DIRECT else "broadcast"
        values = {
            "rate": deliveries / seconds,
            "cpu": counts["server_cpu"] / max(1, deliveries) * 1e6,
            **_percentiles(counts[kind]),
        }
        if work == "mixed":
            values["direct_p99"] = counts["direct"]["p99"] / 1000
        undelivered = counts["undelivered"]
        if undelivered > 0:
            done.fault = f"{undelivered} not delivered"
        return self._with_faults(done, counts, values)

    def _with_faults(
        self, done: Measurement, counts: dict[str, Any], values: dict[str, float]
    ) -> Measurement:
        done.values |= values
        done.values |= {key: counts[key] for key in _SHARES}
        if counts["lost"] or counts["errors"]:
            faults = f"{counts['lost']} lost, {counts['errors']} errors: {counts['fault']}"
            done.fault = f"{done.fault}; {faults}".removeprefix("; ")
        return done


def _percentiles(latency: dict[str, int]) -> dict[str, float]:
    """In milliseconds, of the load's in microseconds."""
    return {"p50": latency["p50"] / 1000, "p99": latency["p99"] / 1000}
