"""`./just bench`: the same work on wschat and its peers, side by side; a table, and plots."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from benchmarks import machine, report
from benchmarks.cache import CACHE, Cache, InUse, Missing
from benchmarks.load import LoadFailed
from benchmarks.plan import FULL, QUICK, WORKS, Cell, Plan
from benchmarks.results import Measurement, Results, medians
from benchmarks.servers import (
    Autobahn,
    Floor,
    Nats,
    NatsRsa,
    NodeWs,
    Picows,
    Server,
    SocketIo,
    StartFailed,
    StoringFloor,
    Uws,
)
from benchmarks.targets import CLASSIC, WSCHAT
from benchmarks.wschat_server import Wschat

ROOT: Final = Path(__file__).resolve().parent.parent
PEERS: Final = (Floor, StoringFloor, Nats, NatsRsa, Uws, Picows, NodeWs, SocketIo, Autobahn)
#: What is measured beside wschat, by name: wschat itself with classic clients, and the peers.
_NAMES: Final = (CLASSIC, *(peer.name for peer in PEERS))
#: Descriptors that are needed beside those of the connections.
_SPARE_FILES: Final = 200


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./just bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="300 connections only, and shorter")
    parser.add_argument("--works", help=f"only these, of {', '.join(WORKS)}; or none")
    parser.add_argument("--sizes", help="numbers of connections, such as 100,1000")
    parser.add_argument("--seconds", type=float, help="how long each measurement takes")
    parser.add_argument(
        "--rounds", type=int, help="how often what varies most is measured; the median counts"
    )
    names = ", ".join(_NAMES)
    parser.add_argument("--peers", help=f"only these, with commas between: {names}; or none")
    parser.add_argument(
        "--wschat",
        action="append",
        metavar="CHECKOUT",
        help="measure another checkout, with a .venv, than this; several are compared",
    )
    parser.add_argument("--cache", type=Path, default=CACHE, help="in place of .bench")
    parser.add_argument("--output", type=Path, help="write benchmark.md and the plots there")
    parser.add_argument("--results", type=Path, help="report what an earlier run saved, instead")
    return parser.parse_args(arguments)


def _plan(arguments: argparse.Namespace) -> Plan:
    plan = QUICK if arguments.quick else FULL
    return replace(
        plan,
        sizes=tuple(sorted({int(size) for size in _parts(arguments.sizes)})) or plan.sizes,
        works=tuple(_parts(arguments.works)) or plan.works,
        seconds=arguments.seconds or plan.seconds,
        rounds=arguments.rounds or plan.rounds,
    )


def _parts(text: str | None) -> list[str]:
    return [part.strip() for part in text.split(",")] if text else []


def _servers(arguments: argparse.Namespace, cache: Cache) -> list[Server]:
    checkouts = [Path(checkout).resolve() for checkout in arguments.wschat or [ROOT]]
    servers: list[Server] = []
    for number, checkout in enumerate(checkouts):
        name = f"{WSCHAT}{number + 1}" if number else WSCHAT  # ratios are to the first
        label = f"wschat of {checkout.name}" if len(checkouts) > 1 else "wschat"
        servers.append(Wschat(cache, checkout, name, label))
    wanted = _parts(arguments.peers) or _NAMES
    if CLASSIC in wanted:
        label = f"{servers[0].label}, classic clients"
        servers.append(Wschat(cache, checkouts[0], CLASSIC, label, protocol="classic"))
    return servers + [peer(cache) for peer in PEERS if peer.name in wanted]


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _run(plan: Plan, servers: Sequence[Server], cache: Cache) -> Results:
    processors = machine.Processors()
    results = Results(conditions=machine.conditions(processors, cache.directory))
    results.conditions["measured"] = str(plan)
    results.conditions["date"] = time.strftime("%Y-%m-%d")
    limit = machine.raise_file_limit() - _SPARE_FILES
    present = []
    for server in servers:
        results.labels[server.name] = server.label
        try:
            results.versions[server.name] = server.prepare(plan.users)
            present.append(server)
        except (Missing, StartFailed) as error:
            results.missing[server.label] = str(error)
            _say(f"{server.label}: not measured: {error}")
    for size, part in plan.cells():
        if size + plan.extra > limit:
            results.missing[f"{size} connections"] = f"at most {limit + _SPARE_FILES} open files"
            continue
        for server in present:
            cell = Cell(server, size, part, cache, processors)
            try:
                for measurement in cell.measure():
                    results.measurements.append(measurement)
                    _say(_line(results, measurement))
            except (Missing, StartFailed, LoadFailed) as error:
                what = f"{server.label}, {size} connections" + (", again" if part != plan else "")
                results.missing[what] = str(error)
                _say(f"{what}: not measured: {error}")
    results.measurements = medians(results.measurements)
    return results


def _line(results: Results, measurement: Measurement) -> str:
    label = f"{measurement.server} {measurement.connections} {measurement.work}"
    values = " ".join(f"{key}={value:.4g}" for key, value in measurement.values.items())
    return f"  {label:32} {values} {measurement.fault}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run; the exit status."""
    options = _arguments(arguments)
    cache = Cache(options.cache.resolve())
    if options.results:
        results = Results.load(options.results)
    else:
        try:
            with cache.alone():
                results = _run(_plan(options), _servers(options, cache), cache)
        except InUse as error:
            _say(str(error))
            return 1
        results.save(cache.directory / "results.json")
    print(report.text(results))
    if options.output:
        options.output.mkdir(parents=True, exist_ok=True)
        report.write(results, options.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
