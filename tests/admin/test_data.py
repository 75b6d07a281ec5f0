"""Tests of `wschat.admin.data`."""

from __future__ import annotations

import json
import time

import sqlalchemy as sa

from tests.admin.support import AdminTests
from tests.stores import named
from tests.support import NOW
from wschat import database
from wschat.datadir import DataDirectory


class DataTests(AdminTests):
    """`wschat export` and `wschat forget`."""

    def setUp(self) -> None:
        super().setUp()
        self.kept = self.store("alice", "bob")
        batch = [named("a1", "hé"), named("b1", "kept", "bob", "bob")]
        self.successResultOf(self.kept.stream.append(batch, {}, (), NOW))
        self.slept: list[float] = []
        self.patch(time, "sleep", self.sleep)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)

    def test_export(self) -> None:
        """A JSON object a line: the account, places, messages."""
        found = [json.loads(line) for line in self.does("export", "alice")]
        self.assertEqual([item["type"] for item in found], ["user", "place", "message"])
        self.assertEqual(found[-1]["content"], "hé")
        self.fails("export", "nobody")

    def test_forget_is_meant(self) -> None:
        """Without --yes nothing is removed; nor for somebody who is not there."""
        self.assertIn("--yes", self.fails("forget", "alice"))
        self.assertIn("'nobody'", self.fails("forget", "nobody", "--yes"))
        self.assertEqual(len(self.does("export", "alice")), 3)
        self.assertIsNone(self.administration().user("alice").disabled_at)

    def test_forget(self) -> None:
        """The account and its messages are gone, and nobody else's; nobody is waited for."""
        (line,) = self.does("forget", "alice", "--yes")
        self.assertTrue(line.startswith("alice and 1 messages are gone"))
        self.fails("export", "alice")
        self.assertEqual(len(self.does("export", "bob")), 3)
        self.assertEqual(self.slept, [0, 0])

    def test_forget_while_a_server_runs(self) -> None:
        """Servers see first that the user is disabled; what came after all goes as well."""

        def sleep(seconds: float) -> None:
            self.slept.append(seconds)
            if len(self.slept) == 1:
                self.assertIsNotNone(self.administration().user("alice").disabled_at)
            late = [named(f"b{len(self.slept)}9", "late", "bob", "alice")]
            self.successResultOf(self.kept.stream.append(late, {}, (), NOW))

        self.patch(time, "sleep", sleep)
        with DataDirectory(self.data_dir).hold():
            (line,) = self.does("forget", "alice", "--yes")
        self.assertTrue(line.startswith("alice and 3 messages are gone"), line)
        self.assertEqual(self.slept, [2.5, 2.5])

    def test_forgotten_by_the_files(self) -> None:
        """A server that runs has the database open: what is removed is not even in its log."""
        batch = [named("a2", "quokka " * 20)]
        self.successResultOf(self.kept.stream.append(batch, {}, (), NOW))
        with DataDirectory(self.data_dir).hold():
            self.does("forget", "alice", "--yes")
            for file in self.data_dir.glob("wschat.sqlite3*"):
                self.assertNotIn(b"quokka", file.read_bytes(), file)

    def test_somebody_reads(self) -> None:
        """While somebody reads, the log stays as it is, which is said."""
        self.patch(database, "_BUSY", 1)
        with self.kept.engine.connect() as reader:
            reader.execute(sa.select(database.messages)).all()
            _, line = self.does("forget", "alice", "--yes")
        self.assertIn("log", line)
