"""scripts.audit: what is made of pip-audit's report, and that bandit sees what is there."""

from __future__ import annotations

import subprocess
import tomllib
from pathlib import Path

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from scripts.audit import Report, findings, summary
from scripts.processes import PROGRAMS

ROOT = Path(__file__).parent.parent

#: As pip-audit writes it.
REPORT = b"""{"dependencies": [
    {"name": "good", "version": "1.0", "vulns": []},
    {"name": "bad", "version": "2.0", "vulns": [
        {"id": "PYSEC-0-1", "fix_versions": ["2.1", "3.0"], "aliases": [], "description": "x"},
        {"id": "PYSEC-0-2", "fix_versions": [], "aliases": []}]},
    {"name": "unknown", "skip_reason": "Dependency not found"}], "fixes": []}"""


class PackagesTests(SynchronousTestCase):
    """What is known against packages."""

    def setUp(self) -> None:
        self.report = msgspec.json.decode(REPORT, type=Report)

    def test_findings(self) -> None:
        """Each advisory is a line with what mends it."""
        self.assertEqual(
            findings(self.report),
            [
                "bad 2.0: PYSEC-0-1, mended in 2.1, 3.0",
                "bad 2.0: PYSEC-0-2, mended in no version yet",
            ],
        )

    def test_summary(self) -> None:
        """What could not be looked up is said, and is no finding."""
        self.assertIn("2 packages looked up; 1 COULD NOT", summary(self.report))
        del self.report.dependencies[1:]
        self.assertEqual(summary(self.report), "pip-audit: 1 packages looked up")
        self.assertEqual(findings(self.report), [])


class BanditTests(SynchronousTestCase):
    """Bandit, as it is configured."""

    def _bandit(self, source: str) -> int:
        path = Path(self.mktemp())
        path.write_text(source)
        command = [str(PROGRAMS / "bandit"), "-q", "-c", str(ROOT / "pyproject.toml"), str(path)]
        return subprocess.run(command, capture_output=True, check=False).returncode

    def test_sees(self) -> None:
        """It fails for what is dangerous, and for nothing else."""
        self.assertEqual(self._bandit("import pickle\npickle.loads(b'')\n"), 1)
        self.assertEqual(self._bandit("import ssl\nssl._create_unverified_context()\n"), 1)
        self.assertEqual(self._bandit("answer = 42\n"), 0)

    def test_skips(self) -> None:
        """What it does not look for is what ruff does."""
        tools = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]
        self.assertIn("S", tools["ruff"]["lint"]["select"])
        for skipped in tools["bandit"]["skips"]:
            rule = ["rule", f"S{skipped[1:]}", "--output-format", "json"]
            told = subprocess.run([PROGRAMS / "ruff", *rule], capture_output=True, check=True)
            known = msgspec.json.decode(told.stdout)
            self.assertTrue(skipped == "B404" or not known["preview"], skipped)
