"""Tests of `wschat.blame`."""

from __future__ import annotations

import io
import sys

from sqlalchemy.exc import OperationalError
from twisted.internet.error import CannotListenError
from twisted.trial.unittest import SynchronousTestCase

from wschat.blame import StartError, blaming, one_line, say_in_one_line
from wschat.database import NewerSchema, Unusable


class BlameTests(SynchronousTestCase):
    """What is said, and of which option."""

    def said(self, option: str, value: object, error: Exception) -> str:
        with self.assertRaises(StartError) as raised, blaming(option, value):
            raise error
        return str(raised.exception)

    def test_nothing_wrong(self) -> None:
        """Where nothing goes wrong nothing is said."""
        with blaming("listen", ":1"):
            pass

    def test_files_and_ports(self) -> None:
        """Errors of files and ports say themselves what is wrong."""
        line = self.said("data-dir", "/x", FileNotFoundError(2, "No such file", "/x"))
        self.assertEqual(line, "--data-dir: '/x': [Errno 2] No such file: '/x'")
        busy = CannotListenError("127.0.0.1", 1, OSError(98, "in use"))
        self.assertNotIn("it takes", self.said("listen", ":1", busy))

    def test_databases(self) -> None:
        """So do those of databases that cannot be used, whatever it is."""
        for kind in (Unusable, NewerSchema):
            line = self.said("database", "x", kind("too old"))
            self.assertEqual(line, "--database: 'x': too old")

    def test_anything_else(self) -> None:
        """With any other comes what the option takes."""
        line = self.said("listen", "x", ValueError("two\nlines."))
        self.assertRegex(line, r"\A--listen: 'x': two lines; it takes [^\n]+\Z")

    def test_of_a_driver(self) -> None:
        """Of a database's error only the driver's words are said."""
        error = OperationalError("SELECT secret", {}, ValueError("no\nroom"))
        self.assertEqual(one_line(error), "no room")

    def test_to_the_shell(self) -> None:
        """What ends the program is one line of it."""
        said = io.StringIO()
        self.patch(sys, "__stderr__", said)
        say_in_one_line(StartError, StartError("--listen: wrong"), None)
        self.assertEqual(said.getvalue(), "wschat: --listen: wrong\n")
