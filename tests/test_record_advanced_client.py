"""The screens in docs/advanced-client.md, and how they get there."""

from __future__ import annotations

import re

from twisted.trial.unittest import SynchronousTestCase

from scripts.record_advanced_client import DOCUMENT, SIZES, put
from wschat.client.cells import width


class ScreenTests(SynchronousTestCase):
    """What was recorded has all parts of the screen."""

    def test_screens(self) -> None:
        """Each screen has its size, and shows messages, marks, people, status and input."""
        document = DOCUMENT.read_text("utf-8")
        for columns, rows in SIZES:
            section = document.partition(f"## {columns}x{rows}\n")[2]
            block = re.search(r"```text\n(.*?)\n```", section, re.DOTALL)
            assert block is not None
            lines = block[1].split("\n")
            self.assertEqual(len(lines), rows)
            self.assertLessEqual(max(map(width, lines)), columns)
            for part in (
                r"^bob -> alice \[VERIFIED\] \[ENCRYPTED\]",
                r"^ [\d: ]{8} .* ✓✓ +│",
                r"^ \d\d:\d\d:\d\d .* ✓ +│",
                r" ✗ +│",
                r"^── \w+ \d{4}-\d\d-\d\d ─+│",
                r"^── new ─+│",
                r"│on line 3$",
                r"│  alice \(you\)$",
                r"│● bob +1$",
                r"│away$",
                r"\\x1b\[31m",
            ):
                self.assertRegex(block[1], re.compile(part, re.MULTILINE))
            status, typed = lines[-2:]
            self.assertRegex(status, r"^ ● alice on localhost:\d+ │ connected .* 2 new$")
            self.assertEqual(typed, "> @charlie Could you open the")

    def test_put(self) -> None:
        """A screen takes the place of the one before, and nothing else is changed."""
        before = "a\n## 80x24\n\n```text\nold\n```\n\n## 200x50\n\n```text\nold\n```\nb\n"
        after = put(before, (80, 24), r"new \1")
        self.assertEqual(after, before.replace("old", r"new \1", 1))
        self.assertRaises(ValueError, put, "", (80, 24), "x")
