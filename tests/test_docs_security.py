"""docs/security.md: every attack in its table has an answer, and a test that exists."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from twisted.trial.unittest import SynchronousTestCase

from scripts.fuzz.targets import TARGETS

TEXT: Final = (Path(__file__).parent.parent / "docs" / "security.md").read_text("utf-8")

_ROW: Final = re.compile(r"^\| (.+?) \| (.+?) \| `([\w.]+)` \|$", re.MULTILINE)


def rows() -> list[tuple[str, str, str]]:
    """Attack, answer and test of each row."""
    _, _, rest = TEXT.partition("\n## Attacks and answers\n")
    section = rest.partition("\n## ")[0]
    return _ROW.findall(section)


class SecurityTests(SynchronousTestCase):
    """The threat model."""

    def test_rows(self) -> None:
        """There are thirty at the very least, and none is cut short or there twice."""
        _, _, rest = TEXT.partition("\n## Attacks and answers\n")
        lines = [line for line in rest.partition("\n## ")[0].splitlines() if line.startswith("| ")]
        self.assertEqual(len(lines), len(rows()) + 1)  # its head
        self.assertGreaterEqual(len(rows()), 30)
        self.assertEqual(len({attack for attack, _, _ in rows()}), len(rows()))

    def test_tests(self) -> None:
        """Each names a test: a module of tests, a class of it that trial runs, a method of that."""
        for attack, _, named in rows():
            module, _, rest = named.partition("Tests.")
            path, _, name = f"{module}Tests".rpartition(".")
            found: Any = getattr(import_module(f"tests.{path}"), name, None)
            self.assertTrue(isinstance(found, type), attack)
            self.assertTrue(issubclass(found, SynchronousTestCase), attack)
            self.assertTrue(
                rest.startswith("test_") and callable(getattr(found, rest, None)), attack
            )

    def test_fuzzing(self) -> None:
        """Its results are of the targets that there are."""
        _, _, section = TEXT.partition("\n## Fuzzing\n")
        told = re.findall(r"^\| `(\w+)` \| ([\d,]+) \|", section, re.MULTILINE)
        self.assertEqual({name for name, _ in told}, set(TARGETS))
        inputs = sum(int(count.replace(",", "")) for _, count in told)
        self.assertGreaterEqual(inputs, 1_000_000)
