"""
Runs a target over inputs: those that were kept, and as many new ones as wanted.

A target takes bytes, and raises for whatever should not happen.  atheris
makes the inputs where it is installed, guided by the branches that they take;
elsewhere they are the kept ones, mutated by chance.  Everything that depends
on what is tested is imported late, so that atheris can instrument it.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import importlib.util
import os
import random
import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, NoReturn

import msgspec
from twisted.logger import ILogObserver, LogLevel, globalLogPublisher
from zope.interface import provider

ROOT: Final = Path(__file__).resolve().parents[2]

#: The inputs that are kept: a directory for each target.
CORPUS: Final = ROOT / "tests" / "corpus"

Target = Callable[[bytes], None]

#: The longest input that is made, in bytes.
MAX_INPUT: Final = 4096

#: How often memory is measured in a run.
_SAMPLES: Final = 40

#: What Python may hold more at the end of a run than after its warm-up: a share, and some blocks.
_GROWTH: Final = 0.10
_SLACK: Final = 5000

_INSTRUMENTED: Final = ("wschat", "autobahn", "twisted")


class Fault(AssertionError):
    """Something happened that should not."""


class Outcome(msgspec.Struct):
    """What became of a run; `samples` are pairs of an input's number and Python's blocks then."""

    target: str
    engine: str
    inputs: int = 0
    seconds: float = 0.0
    samples: list[tuple[int, int]] = msgspec.field(default_factory=list)
    rss: int = 0  # at its greatest, in KiB
    fault: str = ""

    @property
    def growth(self) -> tuple[int, int]:
        """Python's memory blocks after the warm-up (a quarter), and at the end: medians."""
        blocks = [count for _, count in self.samples]
        quarter = len(blocks) // 4
        if not quarter:
            return 0, 0
        return _median(blocks[quarter : 2 * quarter]), _median(blocks[-quarter:])

    @property
    def grows(self) -> bool:
        """Whether memory grew without end."""
        before, after = self.growth
        return after - before > max(_SLACK, _GROWTH * before)


def _median(numbers: list[int]) -> int:
    return sorted(numbers)[len(numbers) // 2]


@contextlib.contextmanager
def watching() -> Iterator[Callable[[], None]]:
    """A check that raises `Fault` when a traceback or an error was logged since the last one."""
    seen: list[str] = []

    @provider(ILogObserver)
    def observe(event: Any) -> None:
        failure = event.get("log_failure")
        if failure is not None:
            seen.append(failure.getTraceback())
        elif event.get("log_level") in (LogLevel.error, LogLevel.critical):
            seen.append(str(event.get("log_format") or event.get("log_text")))

    def check() -> None:
        if seen:
            logged, seen[:] = "\n".join(seen), []
            raise Fault(f"logged: {logged}")

    globalLogPublisher.addObserver(observe)
    try:
        yield check
    finally:
        globalLogPublisher.removeObserver(observe)


def corpus(name: str) -> dict[str, bytes]:
    """The kept inputs of a target, by file name."""
    return {path.name: path.read_bytes() for path in sorted((CORPUS / name).iterdir())}


def instrumented() -> bool:
    """Whether atheris is installed."""
    return importlib.util.find_spec("atheris") is not None


def make(name: str) -> Target:
    """A target, ready to run."""
    targets = importlib.import_module("scripts.fuzz.targets")
    target: Target = targets.TARGETS[name]()
    return target


class _Run:
    """Counts inputs and measures memory, and ends when there were enough."""

    def __init__(self, outcome: Outcome, inputs: int, seconds: float, report: Path) -> None:
        self._outcome = outcome
        self._inputs = inputs
        self._limit = seconds
        self._report = report
        self._started = time.monotonic()
        self._next_sample = 0.0

    @property
    def over(self) -> bool:
        return self._progress() >= 1

    def _progress(self) -> float:
        elapsed = time.monotonic() - self._started
        return max(self._outcome.inputs / self._inputs, elapsed / self._limit)

    def one(self, target: Target, check: Callable[[], None], data: bytes) -> None:
        """Run one input; what goes wrong is reported, and raised."""
        try:
            target(data)
            check()
        except BaseException as error:
            self._outcome.fault = f"{type(error).__name__}: {error}"
            self._save()
            raise
        self._outcome.inputs += 1
        # The first sample comes when the server and the caches are warm.
        progress = self._progress()
        if progress >= self._next_sample:
            self._next_sample += 1 / _SAMPLES
            gc.collect()
            self._outcome.samples.append((self._outcome.inputs, sys.getallocatedblocks()))
            self._save()

    def _save(self) -> None:
        self._outcome.seconds = time.monotonic() - self._started
        with contextlib.suppress(FileNotFoundError):  # not on every system
            peak = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text("ascii"))
            self._outcome.rss = int(peak[1]) if peak else 0
        self._report.write_bytes(msgspec.json.encode(self._outcome))

    def finish(self) -> NoReturn:
        """End the process: libFuzzer would go on, and never return."""
        self._save()
        sys.stdout.flush()
        os._exit(0)


def run(name: str, inputs: int, seconds: float, found: Path, seed: int) -> NoReturn:
    """
    Run a target, until there were so many inputs, or so many seconds are over; ends the process.

    `found` is a directory for what comes of it: `report.json`, new inputs
    that took new ways, and the one that failed as `crash-…`.
    """
    if instrumented():
        _with_atheris(name, inputs, seconds, found, seed)
    _by_chance(name, inputs, seconds, found, seed)


def _with_atheris(name: str, inputs: int, seconds: float, found: Path, seed: int) -> NoReturn:
    import atheris  # noqa: PLC0415  # is not everywhere

    with atheris.instrument_imports(include=list(_INSTRUMENTED)):
        target = make(name)
    outcome = Outcome(name, "atheris")
    progress = _Run(outcome, inputs, seconds, found / "report.json")
    with watching() as check:

        def one(data: bytes) -> None:
            progress.one(target, check, data)
            if progress.over:
                progress.finish()

        grown = found / "grown"
        grown.mkdir()
        arguments = [
            f"-max_len={MAX_INPUT}",
            f"-seed={seed}",
            "-timeout=20",
            f"-artifact_prefix={found}/",
            str(grown),
            str(CORPUS / name),
        ]
        atheris.Setup([sys.argv[0], *arguments], one)
        atheris.Fuzz()
    raise Fault("libFuzzer came back")


def _by_chance(name: str, inputs: int, seconds: float, found: Path, seed: int) -> NoReturn:
    chance = random.Random(seed)
    seeds = list(corpus(name).values())
    target = make(name)
    progress = _Run(Outcome(name, "mutations"), inputs, seconds, found / "report.json")
    with watching() as check:
        waiting = list(seeds)
        while not progress.over:
            data = waiting.pop() if waiting else mutated(seeds, chance)
            try:
                progress.one(target, check, data)
            except BaseException:
                (found / f"crash-{seed}").write_bytes(data)
                raise
    progress.finish()


_WORD: Final = re.compile(rb"[A-Za-z0-9_$.-]+|\d+")


def mutated(seeds: list[bytes], chance: random.Random) -> bytes:
    """An input made of kept ones: cut, spliced, with words of others, with bytes changed."""
    data = bytearray(chance.choice(seeds))
    for _ in range(chance.randint(1, 6)):
        at = chance.randint(0, len(data))
        to = min(len(data), at + chance.randint(0, 16))
        other = chance.choice(seeds)
        words = _WORD.findall(other) or [b"0"]
        start = chance.randint(0, len(other))
        piece: bytes = chance.choice(
            (
                b"",
                bytes([chance.randrange(256)]),
                chance.choice(words),
                other[start : start + chance.randint(0, 64)],
                bytes(data[at:to]) * chance.randint(2, 9),
                chance.choice((b"\0", b"\xff" * 8, b"\r\n", b"-1", b"9" * 30, b"\xed\xa0\x80")),
            )
        )
        data[at:to] = piece
    return bytes(data[:MAX_INPUT])
