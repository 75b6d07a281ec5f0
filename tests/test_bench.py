"""The benchmark: what it works out and writes, and a run of seconds against wschat itself."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as some
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase, TestCase

from benchmarks import machine, plots, report, targets
from benchmarks.cache import Cache, InUse, Missing
from benchmarks.plan import FULL, QUICK, WORKS
from benchmarks.results import Measurement, Results, medians
from tests.endtoend import ROOT, need_compiler, run

SVG = "{http://www.w3.org/2000/svg}"


def measured(server: str, work: str, connections: int, **values: float) -> Measurement:
    return Measurement(server, work, connections, values)


def some_results(*measurements: Measurement) -> Results:
    labels = {"wschat": "wschat", "nats": "nats-server", "ws": "ws on <Node>"}
    return Results(labels=labels, measurements=list(measurements))


class MachineTests(SynchronousTestCase):
    """What is read of /proc."""

    def test_pss(self) -> None:
        """The proportional set size is in bytes; without one that is said."""
        rollup = (
            "7f00-7fff ---p 00000000 00:00 0 [rollup]\nRss:  900 kB\nPss:  700 kB\nPss_Anon: 1 kB"
        )
        self.assertEqual(machine.parse_pss(rollup), 700 * 1024)
        self.assertRaises(ValueError, machine.parse_pss, "Rss: 900 kB")

    def test_family(self) -> None:
        """A process, its children, and theirs."""
        script = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'input()'])"
        with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE) as process:
            while len(machine.family(process.pid)) < 2:
                self.assertIsNone(process.poll())
            self.assertEqual(machine.family(process.pid)[0], process.pid)
            self.assertIn(process.pid, machine.family(os.getpid()))
            process.communicate(b"\n")

    def test_pinned(self) -> None:
        """What is started in the block has one processor; afterwards all is as it was."""
        before = os.sched_getaffinity(0)
        cpu = max(before)
        with machine.pinned(cpu):
            shown = subprocess.run(
                [sys.executable, "-c", "import os; print(os.sched_getaffinity(0))"],
                capture_output=True,
                text=True,
                check=True,
            )
        self.assertEqual(shown.stdout.strip(), str({cpu}))
        self.assertEqual(os.sched_getaffinity(0), before)


class ResultsTests(SynchronousTestCase):
    """What was measured, and is looked up."""

    def test_saved(self) -> None:
        """What is saved is loaded again the same."""
        results = some_results(measured("nats", "flood", 300, rate=5.0))
        results.missing["picows"] = "no wheel"
        path = Path(self.mktemp())
        results.save(path)
        self.assertEqual(Results.load(path), results)

    def test_faulty(self) -> None:
        """A measurement with a fault has no value."""
        faulty = measured("nats", "flood", 300, rate=5.0)
        faulty.fault = "3 not delivered"
        self.assertIsNone(some_results(faulty).value("nats", "flood", 300, "rate"))

    def test_load_limited(self) -> None:
        """The load is the limit when it had hardly any time left."""
        self.assertTrue(measured("nats", "flood", 300, load=0.95).load_limited)
        self.assertFalse(measured("nats", "flood", 300, load=0.85).load_limited)


class RoundsTests(SynchronousTestCase):
    """What is measured again, and what counts then."""

    def test_median(self) -> None:
        """Of what was repeated, each value is the median; what was not, stays as it is."""
        repeated = [
            measured("nats", "paced", 300, cpu=cpu, p99=p99)
            for cpu, p99 in ((9, 2), (5, 3), (6, 1))
        ]
        alone = measured("nats", "flood", 300, rate=5)
        self.assertEqual(
            medians([repeated[0], alone, *repeated[1:]]),
            [measured("nats", "paced", 300, cpu=6, p99=2), alone],
        )

    def test_faults(self) -> None:
        """A fault in one of them is said, and keeps all of them from being a measurement."""
        sound, faulty = measured("nats", "paced", 300, cpu=1), measured("nats", "paced", 300)
        faulty.fault = "3 not delivered"
        (both,) = medians([sound, faulty])
        self.assertEqual(both.fault, "1 of 2 rounds: 3 not delivered")
        self.assertIsNone(some_results(both).find("nats", "paced", 300))

    def test_disturbed(self) -> None:
        """That other programs ran in one of them is not forgotten."""
        values = (0.01, 0.5, 0.02)
        (all_,) = medians(measured("nats", "paced", 300, kept=kept) for kept in values)
        self.assertTrue(all_.disturbed)

    def test_said(self) -> None:
        """What is repeated is said, and nothing is when nothing is."""
        self.assertIn("at 300, 5,000", str(FULL))
        self.assertIn("at 300:", str(replace(FULL, sizes=(100, 300))))
        for plan in (QUICK, replace(FULL, works=("flood",)), replace(FULL, sizes=(100,))):
            self.assertNotIn("rounds", str(plan))

    def test_cells(self) -> None:
        """All is done once; what leaves a processor idle, and has a target, thrice."""
        again = replace(FULL, works=("paced",))
        self.assertEqual(
            list(FULL.cells()),
            [(size, FULL) for size in FULL.sizes] + 2 * [(300, again), (5000, again)],
        )
        self.assertEqual(list(QUICK.cells()), [(300, QUICK)])
        flood = replace(FULL, works=("flood",))
        self.assertEqual(list(flood.cells()), [(size, flood) for size in FULL.sizes])


class TargetTests(SynchronousTestCase):
    """Whether wschat is as fast as it is to be."""

    def verdict(self, what: str, peer: str, *measurements: Measurement) -> targets.Verdict:
        (found,) = (
            verdict
            for verdict in targets.verdicts(some_results(*measurements))
            if (verdict.target.what, verdict.target.peer) == (what, peer)
        )
        return found

    def flood(self, ours: float, theirs: float, **values: float) -> targets.Verdict:
        return self.verdict(
            "broadcasts flat out, deliveries/s",
            "nats",
            measured("wschat", "flood", 300, rate=ours, cpu=2.0),
            measured("nats", "flood", 300, rate=theirs, cpu=5.0, **values),
        )

    def test_met(self) -> None:
        """A ratio that is high enough is enough, at the very number too."""
        self.assertEqual((self.flood(200, 100).measured, self.flood(200, 100).text), (2, "met"))
        self.assertEqual(self.flood(199, 100).text, "**not met**")
        self.assertEqual(self.flood(200, 100).by_time, 2.5)

    def test_low_enough(self) -> None:
        """Of processor time less is better."""
        what = "CPU a delivery, 20 broadcasts/s"
        nats = measured("nats", "paced", 300, cpu=40.0)
        for ours, said in ((20.0, "met"), (20.5, "**not met**")):
            mine = measured("wschat", "paced", 300, cpu=ours)
            self.assertEqual(self.verdict(what, "nats", mine, nats).text, said)

    def test_classic(self) -> None:
        """With classic clients it is told as well, where that was measured."""
        what = "CPU a delivery, 20 broadcasts/s"
        mine, nats = (measured(name, "paced", 300, cpu=20.0) for name in ("wschat", "nats"))
        classic = measured("classic", "paced", 300, cpu=30.0)
        found = self.verdict(what, "nats", mine, nats, classic)
        self.assertEqual((found.measured, found.classic), (1, 1.5))
        self.assertIsNone(self.verdict(what, "nats", mine, nats).classic)

    def test_doubt(self) -> None:
        """A rate that the load or other programs limited is told with that."""
        self.assertIn("the load was the limit", self.flood(300, 100, load=0.97).text)
        self.assertIn("other programs ran", self.flood(300, 100, kept=0.5).text)

    def test_not_measured(self) -> None:
        """Without the peer nothing is met."""
        verdict = self.verdict(
            "p99 of a broadcast", "nats", measured("wschat", "paced", 5000, p99=1.0)
        )
        self.assertEqual((verdict.measured, verdict.text), (None, "not measured"))

    def test_memory(self) -> None:
        """Memory is held to kilobytes, of the most connections."""
        what = "memory an idle connection, KB"
        for kilobytes, said in ((35.0, "met"), (35.1, "**not met**")):
            mine = measured("wschat", "memory", 5000, memory=kilobytes)
            self.assertEqual(self.verdict(what, "", mine).text, said)


class ReportTests(SynchronousTestCase):
    """The Markdown."""

    def setUp(self) -> None:
        self.results = some_results(
            measured("wschat", "flood", 300, rate=300_000.0, cpu=3.0, p50=1.0, p99=2.0, load=0.2),
            measured("wschat-lean", "flood", 300, rate=400_000.0, cpu=2.0, p50=1.0, p99=2.0),
            measured("nats", "flood", 300, rate=150_000.0, cpu=6.0, p50=1.0, p99=2.0, load=0.97),
        )

    def test_rows(self) -> None:
        """Each measurement has a row, with its ratios to wschat's and what is to be said of it."""
        text = report.text(self.results)
        self.assertIn("| 300 | nats-server | 150,000 | 0.50 | 6.0 | 2.00 |", text)
        self.assertIn("| 300 | wschat, no receipts, acks each second | 400,000 | 1.33 |", text)
        self.assertRegex(text, r"nats-server \| 150,000 .* the load was the limit \|\n")

    def test_missing(self) -> None:
        """What could not be measured is named, with the reason, on one line."""
        self.results.missing["uWebSockets"] = "no wheel | for\nthis machine"
        self.assertIn("| uWebSockets | no wheel \\| for this machine |", report.text(self.results))

    def test_calibration(self) -> None:
        """It is told which server had the load at its limit, and what the load can do."""
        text = report.text(self.results)
        self.assertIn("more than 90 % of its processor with: nats-server (flood, 300).", text)

    def test_tables(self) -> None:
        """All rows of a table have as many cells as its head."""
        for table in re.findall(r"(?:^\|.*\n)+", report.text(self.results), re.MULTILINE):
            widths = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
            self.assertEqual(len(widths), 1, table)

    def test_document(self) -> None:
        """The document has its plots beside it, and nothing else of its name."""
        directory = Path(self.mktemp())
        directory.mkdir()
        report.write(self.results, directory)
        text = (directory / "benchmark.md").read_text("utf-8")
        linked = set(re.findall(r"\]\((benchmark-\w+\.svg)\)", text))
        self.assertIn("benchmark-flood.svg", linked)
        self.assertLessEqual(linked, {path.name for path in directory.iterdir()})

    def test_committed(self) -> None:
        """What docs/benchmark.md links to is there, and it names all targets."""
        text = (ROOT / "docs" / "benchmark.md").read_text("utf-8")
        for target in re.findall(r"\]\(([^)]+)\)", text):
            self.assertTrue((ROOT / "docs" / target).exists(), target)
        for target in targets.TARGETS:
            self.assertIn(f"| {target.what} |", text)


class PlotTests(SynchronousTestCase):
    """The SVG."""

    plot = plots.Plot("flood", "flood", "rate", "deliveries & more")

    def test_bars(self) -> None:
        """A bar's length is in proportion; a server without a value has none."""
        results = some_results(
            measured("wschat", "flood", 300, rate=200.0), measured("ws", "flood", 300, rate=50.0)
        )
        drawing = ElementTree.fromstring(plots.svg(results, self.plot))
        widths = [float(bar.get("width", 0)) for bar in drawing.iter(f"{SVG}rect")][1:]
        self.assertEqual(len(widths), 2)
        self.assertAlmostEqual(widths[0] / widths[1], 4, delta=0.01)
        texts = [text.text for text in drawing.iter(f"{SVG}text")]
        self.assertIn("ws on <Node>", texts)
        self.assertIn("deliveries & more", texts)

    @given(some.lists(some.floats(0, 1e9), min_size=1, max_size=4))
    def test_any(self, values: list[float]) -> None:
        """Whatever the values, it is XML, and no bar leaves it."""
        sizes = range(1, len(values) + 1)
        several = [
            measured("nats", "flood", size, rate=value)
            for size, value in zip(sizes, values, strict=True)
        ]
        drawing = ElementTree.fromstring(plots.svg(some_results(*several), self.plot))
        width = float(drawing.get("width", 0))
        for bar in list(drawing.iter(f"{SVG}rect"))[1:]:
            self.assertLessEqual(float(bar.get("x", 0)) + float(bar.get("width", 0)), width)


class CacheTests(SynchronousTestCase):
    """The cache."""

    def test_alone(self) -> None:
        """While one measures, another is told that it cannot."""
        directory = Path(self.mktemp())
        with Cache(directory).alone(), self.assertRaises(InUse), Cache(directory).alone():
            pass
        with Cache(directory).alone():
            pass

    def test_missing(self) -> None:
        """Without a compiler that is the reason, in one line."""
        self.patch(shutil, "which", lambda name: None)
        with self.assertRaises(Missing) as caught:
            Cache(Path(self.mktemp())).native("floor", "floor.c")
        self.assertIn("no C compiler", str(caught.exception))


class RunTests(TestCase):
    """Real servers, and the real load."""

    timeout = 120

    async def bench(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the benchmark to its end."""
        command = [sys.executable, "-m", "benchmarks", *arguments]
        return await deferToThread(run, command, {}, ROOT, self.timeout)

    async def test_run(self) -> None:
        """Some seconds against wschat and the floor: all arrives, and the ratios are told."""
        need_compiler("openssl/ssl.h")
        cache = Path(self.mktemp()).absolute()
        little = ("--quick", "--sizes=12", "--seconds=0.3", "--peers=classic,floor")
        done = await self.bench(*little, f"--cache={cache}")
        self.assertEqual(done.returncode, 0, done.stderr)
        results = Results.load(cache / "results.json")
        self.assertEqual(results.missing, {})
        for server in ("wschat", "wschat-lean", "classic", "floor"):
            for work in WORKS:
                found = results.find(server, work, 12)
                assert found is not None, (server, work, done.stderr)
                self.assertGreater(found.values["rate"], 0)
                self.assertGreater(found.values["cpu"], 0)
                self.assertGreaterEqual(found.values["p99"], found.values["p50"])
        for work in ("storm", "idle", "memory", "connect"):
            self.assertIsNotNone(results.find("wschat", work, 12), work)
        self.assertIn("| 12 | bare C loop over OpenSSL |", done.stdout)
        self.assertEqual(list((cache / "run").iterdir()), [])

    async def test_one_at_a_time(self) -> None:
        """A second run in the same cache ends at once, and says why."""
        cache = Path(self.mktemp()).absolute()
        with Cache(cache).alone():
            done = await self.bench(f"--cache={cache}")
        self.assertEqual(done.returncode, 1)
        self.assertIn("another benchmark runs", done.stderr)

    async def test_saved_again(self) -> None:
        """A run that was saved is reported again, without measuring."""
        saved = Path(self.mktemp())
        some_results(measured("nats", "flood", 300, rate=5.0)).save(saved)
        output = Path(self.mktemp()).absolute() / "new"
        done = await self.bench(f"--results={saved.absolute()}", f"--output={output}")
        self.assertIn("| 300 | nats-server | 5 |", done.stdout)
        self.assertIn("| 300 | nats-server | 5 |", (output / "benchmark.md").read_text("utf-8"))
