"""The load program, with servers that are not as they should be."""

from __future__ import annotations

import math
import os
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from hypothesis import given, settings
from hypothesis import strategies as some
from twisted.trial.unittest import SynchronousTestCase

from benchmarks.cache import HERE, Cache
from benchmarks.load import LOAD_SOURCES, Load, LoadFailed
from tests.endtoend import need_compiler

NATIVE: Final = HERE / "native"

#: Reads values up to a 0, then percents, and writes their percentiles.
_PERCENTILES: Final = """
#include "histogram.h"
#include <stdio.h>
int main(void) {
    static struct histogram h;
    unsigned long long value;
    double percent;
    while (scanf("%llu", &value) == 1 && value)
        histogram_add(&h, value);
    while (scanf("%lf", &percent) == 1)
        printf("%llu\\n", (unsigned long long)histogram_percentile(&h, percent));
}
"""


class HistogramTests(SynchronousTestCase):
    """Percentiles, as the load works them out."""

    def setUp(self) -> None:
        need_compiler("openssl/ssl.h")
        cache = Cache(Path(self.mktemp()).absolute())
        source = cache.directory / "percentiles.c"
        source.write_text(_PERCENTILES.replace("histogram.h", str(NATIVE / "histogram.h")))
        self.program = cache.native("percentiles", str(source), "histogram.c")

    def percentiles(self, values: Sequence[int], *percents: float) -> list[int]:
        text = " ".join(str(number) for number in (*values, 0, *percents))
        done = subprocess.run(
            [self.program], input=text, capture_output=True, text=True, check=True
        )
        return [int(line) for line in done.stdout.split()]

    def test_small(self) -> None:
        """Of few microseconds they are exact."""
        self.assertEqual(self.percentiles(range(1, 51), 2, 50, 90, 99, 100), [1, 25, 45, 50, 50])

    def test_one(self) -> None:
        """Of one value all are that value."""
        self.assertEqual(self.percentiles([123_456_789], 1, 50, 99), [123_456_789] * 3)

    def test_none(self) -> None:
        """Of nothing they are 0."""
        self.assertEqual(self.percentiles([], 50, 99), [0, 0])

    @settings(deadline=None, max_examples=25)
    @given(some.lists(some.integers(1, 10**10), min_size=1, max_size=300))
    def test_any(self, values: list[int]) -> None:
        """Whatever the values, none is more than 1/32 above the one that it should be."""
        ordered = sorted(values)
        percents = (1, 50, 90, 99, 100)
        for percent, found in zip(percents, self.percentiles(values, *percents), strict=True):
            exact = ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]
            self.assertGreaterEqual(found, exact)
            self.assertLessEqual(found, exact + exact / 32)


class LoadTests(SynchronousTestCase):
    """The program, compiled."""

    def setUp(self) -> None:
        need_compiler("openssl/ssl.h")
        self.cache = Cache(Path(self.mktemp()).absolute())
        self.program = self.cache.native("load", *LOAD_SOURCES)
        self.identities = self.cache.directory / "identities"
        self.identities.write_text("".join(f"u{n} /?id=u{n}\n" for n in range(4)))

    def load(self, port: int, seconds: int = 20) -> Load:
        return Load(
            self.program,
            min(os.sched_getaffinity(0)),
            protocol="json",
            port=port,
            identities=self.identities,
            seconds=seconds,
            pids=[],
        )

    def silent(self) -> int:
        """The port of a server that says nothing."""
        listener = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(listener.close)
        port: int = listener.getsockname()[1]
        return port

    def test_nobody_listens(self) -> None:
        """A connection that is refused is counted, and said, and nothing waits for it."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            with self.load(probe.getsockname()[1]) as load:
                counts = load.command("connect", count=2, limit=5)
        self.assertEqual(counts["made"], 0)
        self.assertGreater(counts["lost"], 0)
        self.assertIn("refused", counts["fault"])

    def test_silence(self) -> None:
        """A server that says nothing is waited for no longer than was said."""
        silent = self.silent()
        with self.load(silent) as load:
            counts = load.command("connect", count=2, limit=0.2)
        self.assertEqual((counts["made"], counts["lost"]), (0, 0))
        self.assertGreaterEqual(counts["seconds"], 0.2)

    def test_ends_by_itself(self) -> None:
        """After its time it ends, in the middle of whatever it does."""
        with self.load(self.silent(), seconds=1) as load:
            self.assertRaises(LoadFailed, load.command, "connect", count=2, limit=60)

    def test_nonsense(self) -> None:
        """What cannot be done is an error, not a wait."""
        with self.load(1) as load:
            self.assertEqual(load.command("dance", beat=3)["fault"], "no such command")
            self.assertEqual(load.command("work", members=99)["fault"], "bad numbers")
