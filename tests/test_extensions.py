"""Tests of `wschat.extensions`: modules and installed packages, as they lie on a disk."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from wschat.commands import Command, Commands
from wschat.extensions import LoadError, load

GOOD = """
from wschat.commands import command

@command
def {name}(user_id: str) -> str:
    return user_id
"""

WRONG = """
from wschat.commands import command

@command
def wrong(name: str) -> str:
    return name
"""


class ExtensionTests(SynchronousTestCase):
    """Modules in a directory of the test's own."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir()
        self.patch(sys, "path", [*sys.path, str(self.directory)])
        self.addCleanup(self.forget, set(sys.modules))
        self.added: dict[str, Command[..., Any]] = {}
        self.commands = Commands(lambda: 0)

    def forget(self, before: set[str]) -> None:
        """Let other tests import modules of the same names."""
        for name in set(sys.modules) - before:
            if str(Path.cwd()) in str(getattr(sys.modules[name], "__file__", "")):
                del sys.modules[name]

    def add(self, command: Command[..., Any]) -> None:
        self.commands.add(command)
        self.added[command.name] = command

    def module(self, name: str, source: str, directory: Path | None = None) -> None:
        (directory or self.directory).joinpath(f"{name}.py").write_text(source)
        importlib.invalidate_caches()

    def install(self, entry: str, group: str = "wschat.commands") -> None:
        """An installed package, as `pip` leaves it."""
        info = self.directory / "chat_things-1.0.dist-info"
        info.mkdir()
        info.joinpath("METADATA").write_text(
            "Metadata-Version: 2.1\nName: chat-things\nVersion: 1\n"
        )
        info.joinpath("entry_points.txt").write_text(f"[{group}]\n{entry}\n")
        importlib.invalidate_caches()

    def load(self, *modules: str) -> list[str]:
        load(modules, self.add)
        return sorted(self.added)

    def refused(self, *modules: str) -> str:
        """The one line that says what is wrong."""
        line = str(self.assertRaises(LoadError, load, modules, self.add))
        self.assertNotIn("\n", line)
        return line

    def test_nothing(self) -> None:
        """Without any there is nothing to be added, and nowhere else to look for modules."""
        path = list(sys.path)
        self.assertEqual((self.load(), sys.path), ([], path))

    def test_modules(self) -> None:
        """All commands of all modules are added; other functions are not."""
        self.module("one", GOOD.format(name="first") + "\n\ndef other(): pass\n")
        self.module("two", GOOD.format(name="second") + GOOD.format(name="third"))
        self.assertEqual(self.load("one", "two"), ["first", "second", "third"])
        self.assertEqual(self.added["first"]("alice"), "alice")

    def test_module_in_package(self) -> None:
        """A module can be within a package."""
        package = self.directory / "things"
        package.mkdir()
        self.module("__init__", "", package)
        self.module("inner", GOOD.format(name="first"), package)
        self.assertEqual(self.load("things.inner"), ["first"])

    def test_current_directory(self) -> None:
        """A module in the current directory is found, after all other places."""
        here = Path(self.mktemp()).absolute()
        here.mkdir()
        self.module("one", GOOD.format(name="first"))
        self.module("one", GOOD.format(name="another"), here)
        self.module("mine", GOOD.format(name="second"), here)
        self.addCleanup(os.chdir, Path.cwd())
        os.chdir(here)
        self.assertEqual(self.load("one", "mine"), ["first", "second"])

    def test_entry_point(self) -> None:
        """An installed package's module is found without being named, once if it is named, too."""
        self.install("things = one")
        self.module("one", GOOD.format(name="first") + GOOD.format(name="second"))
        self.assertEqual(self.load(), ["first", "second"])
        self.assertEqual(self.load("one"), ["first", "second"])

    def test_entry_point_of_a_function(self) -> None:
        """An entry point can be a single command."""
        self.install("things = one:first")
        self.module("one", GOOD.format(name="first") + GOOD.format(name="second"))
        self.assertEqual(self.load(), ["first"])

    def test_other_groups(self) -> None:
        """Entry points of others are none of its business."""
        self.install("things = nowhere", group="console_scripts")
        self.assertEqual(self.load(), [])

    def test_not_importable(self) -> None:
        """What cannot be imported is named, with the cause, whatever it is."""
        cases = {
            "nowhere": ("ModuleNotFoundError", None),
            "typo": ("SyntaxError", "def"),
            "broken": ("ZeroDivisionError", "1 / 0"),
            "leaving": ("SystemExit", "raise SystemExit(1)"),
        }
        for name, (cause, source) in cases.items():
            if source is not None:
                self.module(name, source)
            line = self.refused(name)
            self.assertTrue(line.startswith(f"--commands: {name}: {cause}"), line)

    def test_entry_point_not_importable(self) -> None:
        """Of an entry point it is said which one it was."""
        self.install("things = nowhere")
        self.assertTrue(self.refused().startswith("entry point things = nowhere: "))

    def test_entry_points_unreadable(self) -> None:
        """A package with a damaged list of entry points is one line, too."""
        self.install("things")
        self.assertTrue(self.refused().startswith("entry points: "), self.refused())

    def test_misdeclared(self) -> None:
        """A wrong signature is one line with the module, the function, and what is wrong."""
        self.module("one", WRONG)
        line = self.refused("one")
        for part in ("--commands: one: ", "wrong", "user_id: str"):
            self.assertIn(part, line)

    def test_no_commands(self) -> None:
        """A module without commands is a mistake, and so is an entry point that is none."""
        self.module("one", "COMMANDS = {}")
        self.assertIn("--commands: one: ", self.refused("one"))
        self.install("things = one:COMMANDS")
        self.assertIn("things = one:COMMANDS", self.refused())

    def test_taken(self) -> None:
        """No name of the server's own, nor of another module's, can be taken."""
        self.module("one", GOOD.format(name="ping"))
        line = self.refused("one")
        self.assertTrue("one" in line and "ping" in line, line)
        self.module("two", GOOD.format(name="same"))
        self.module("three", GOOD.format(name="same"))
        line = self.refused("two", "three")
        self.assertTrue("three" in line and "same" in line, line)
