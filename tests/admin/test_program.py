"""Tests of `wschat.admin.program`."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from twisted.internet import reactor
from twisted.trial.unittest import TestCase

from scripts.processes import Process
from tests.admin.support import AdminTests
from wschat import config
from wschat.identity import PrivateKey


class ArgumentTests(AdminTests):
    """What it understands."""

    def test_help(self) -> None:
        """Every option of the server's, and every command, is named."""
        ended = self.wschat("--help")
        self.assertEqual(ended.status, 0)
        text = " ".join(" ".join(ended.lines).split())
        for setting in config.SETTINGS:
            self.assertIn(f"--{setting.name} ", text)
        for command in ("check", "config", "user", "token", "backup", "restore", "forget"):
            self.assertIn(f" {command} ", text)

    def test_wrong(self) -> None:
        """What it does not understand ends with 2: shortened options as well."""
        for arguments in ((), ("nothing",), ("--list=:1", "check"), ("check", "more")):
            self.assertEqual(self.wschat(*arguments).status, 2, arguments)

    def test_bad_configuration(self) -> None:
        """A wrong option is the line that the server says."""
        self.assertIn("--listen: 'x' is not", self.fails("--listen=x", "config"))

    def test_unreachable_database(self) -> None:
        """A database that does not answer is one line without its password."""
        url = "postgresql+psycopg://wschat:quokka@127.0.0.1:1/chat"
        self.assertNotIn("quokka", self.fails(f"--database={url}", "user", "list"))

    def test_old_sqlite(self) -> None:
        """So is a SQLite that is too old, and no file is made."""
        self.patch(sqlite3, "sqlite_version_info", (3, 34, 1))
        added = ("user", "add", "alice", "--public-key", PrivateKey.generate().public_key)
        self.assertIn("--database: this Python has SQLite", self.fails(*added))
        self.assertEqual([path.name for path in self.data_dir.glob("*.sqlite3")], [])

    def test_no_database(self) -> None:
        """In a directory that is not a server's nothing is made."""
        for arguments in (("user", "list"), ("user", "disable", "alice"), ("export", "alice")):
            self.assertIn("no database", self.fails(*arguments))
        self.assertFalse(self.data_dir.exists())


class ProcessTests(TestCase):
    """As it is installed."""

    timeout = 180

    async def test_runs(self) -> None:
        """The console script is there, and its status is the command's."""
        home = str(Path(self.mktemp()).absolute())
        for arguments, status in ((["config"], 0), (["user", "list"], 1), (["user"], 2)):
            process = Process.start(reactor, "wschat", ["wschat", *arguments], {"HOME": home})
            self.assertEqual(await process.wait(), status)
