"""`./just fuzz`: inputs that nobody would send, by the thousand."""

from __future__ import annotations

import argparse
import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

import msgspec

from scripts.fuzz.engine import CORPUS, Outcome, instrumented, run

#: How many of a run's inputs a target gets: the dear ones get fewer.
SHARES: Final = {
    "wire": 28,
    "v1": 28,
    "http": 8,
    "frames": 4,
    "client": 14,
    "handshake": 6,
    "files": 4,
    "lines": 8,
}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./just fuzz", description=__doc__)
    parser.add_argument(
        "--target", action="append", choices=SHARES, help="only this one; may be repeated"
    )
    parser.add_argument("--inputs", type=int, default=100_000, help="in all (default: %(default)s)")
    parser.add_argument(
        "--minutes", type=float, default=30.0, help="at most, in all (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="(default: by chance)")
    parser.add_argument(
        "--found", type=Path, help="where new inputs are put (default: a temporary directory)"
    )
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def _one(name: str, inputs: int, seconds: float, found: Path, seed: int) -> Outcome:
    """Run one target in a process of its own."""
    where = found / name
    shutil.rmtree(where, ignore_errors=True)
    where.mkdir(parents=True)
    command = [sys.executable, "-m", "scripts.fuzz", "--alone", "--target", name]
    command += ["--inputs", str(inputs), "--minutes", str(seconds / 60), "--seed", str(seed)]
    with (where / "log").open("wb") as log:
        ended = subprocess.run(
            [*command, "--found", str(where)], stdout=log, stderr=log, check=False
        )
    report = where / "report.json"
    outcome = Outcome(name, "none")
    if report.exists():
        outcome = msgspec.json.decode(report.read_bytes(), type=Outcome)
    if ended.returncode and not outcome.fault:
        outcome.fault = f"ended with {ended.returncode}: see {where / 'log'}"
    if outcome.grows and not outcome.fault:
        outcome.fault = "memory grew"
    return outcome


def main() -> None:
    """Run the targets, and say in a table what became of them; status 1 when one failed."""
    arguments = _arguments()
    names: list[str] = arguments.target or list(SHARES)
    seed = arguments.seed or random.randrange(1, 2**31)
    if arguments.alone:
        run(names[0], arguments.inputs, arguments.minutes * 60, arguments.found, seed)
    found = arguments.found or Path(tempfile.mkdtemp(prefix="wschat-fuzz-"))
    if not instrumented():
        print("atheris is not installed: kept inputs are mutated by chance, blindly")
    whole = sum(SHARES[name] for name in names)
    print(f"seed {seed}; what was found is in {found}\n")
    print("target     engine        inputs   seconds   blocks after, at end   RSS MiB")
    faults = []
    total = 0
    for name in names:
        share = SHARES[name] / whole
        inputs = max(len(list((CORPUS / name).iterdir())), round(arguments.inputs * share))
        outcome = _one(name, inputs, arguments.minutes * 60 * share, found, seed)
        total += outcome.inputs
        before, after = outcome.growth
        print(
            f"{name:<10} {outcome.engine:<10} {outcome.inputs:>9,} {outcome.seconds:>9.1f} "
            f"{before:>12,} {after:>9,} {outcome.rss / 1024:>9.0f}",
            flush=True,
        )
        if outcome.fault:
            faults.append(f"{name}: {outcome.fault}")
    print(f"\n{total:,} inputs, {len(faults)} faults")
    if faults:
        sys.exit("\n".join(faults))


if __name__ == "__main__":
    main()
