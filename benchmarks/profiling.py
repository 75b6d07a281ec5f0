"""`./just profile`: where the time of wschat's own code goes, under the load of the benchmark."""

from __future__ import annotations

import argparse
import pstats
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks import machine
from benchmarks.__main__ import ROOT
from benchmarks.cache import CACHE, Cache, InUse, Missing
from benchmarks.load import LoadFailed
from benchmarks.plan import WORKS, Cell, Plan
from benchmarks.servers import StartFailed
from benchmarks.wschat_server import Wschat


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./just profile", description=__doc__)
    parser.add_argument("work", nargs="?", default="direct", choices=[*WORKS, "connect"])
    parser.add_argument("--connections", type=int, default=300)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--lines", type=int, default=30, help="how many functions are shown")
    parser.add_argument("--wschat", type=Path, default=ROOT, metavar="CHECKOUT")
    parser.add_argument("--cache", type=Path, default=CACHE, help="in place of .bench")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run; the exit status.  What was seen stays in `.bench/profile`, for pstats or a viewer."""
    options = _arguments(arguments)
    cache = Cache(options.cache.resolve())
    found = cache.directory / "profile"
    found.unlink(missing_ok=True)
    connecting = options.work == "connect"
    plan = Plan(
        sizes=(options.connections,),
        seconds=options.seconds,
        warm=0,
        settle=0,
        extra=500 if connecting else 0,
        works=() if connecting else (options.work,),
    )
    machine.raise_file_limit()
    try:
        with cache.alone():
            server = Wschat(cache, options.wschat, profile=found)
            server.prepare(plan.users)
            cell = Cell(server, options.connections, plan, cache, machine.Processors())
            for measurement in cell.measure():
                values = " ".join(f"{k}={v:.4g}" for k, v in measurement.values.items())
                print(f"{measurement.work}: {values} {measurement.fault}")
    except (InUse, Missing, StartFailed, LoadFailed) as error:
        print(error, file=sys.stderr)
        return 1
    statistics = pstats.Stats(str(found))
    statistics.sort_stats("tottime").print_stats(options.lines)
    return 0


if __name__ == "__main__":
    sys.exit(main())
