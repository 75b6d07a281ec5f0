"""What the tests of `wschat.admin` share: the command, on a data directory of its own."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import sqlalchemy as sa
from twisted.trial.unittest import SynchronousTestCase

from tests.support import MemoryStore, make_user
from wschat import database
from wschat.admin import program
from wschat.administration import Administration
from wschat.datadir import DataDirectory


class Ended(NamedTuple):
    """What a command came to."""

    status: int
    lines: list[str]
    error: str


class AdminTests(SynchronousTestCase):
    """The command, in this process."""

    def setUp(self) -> None:
        self.data_dir = Path(self.mktemp()).absolute()
        self.environ: Mapping[str, str] = {"WSCHAT_DATA_DIR": str(self.data_dir)}

    def wschat(self, *arguments: str, says: str = "") -> Ended:
        """Run a command; `says` is what it can read."""
        out, err = io.StringIO(), io.StringIO()
        self.patch(sys, "stdout", out)
        self.patch(sys, "stderr", err)
        self.patch(sys, "stdin", io.StringIO(says))
        self.patch(os, "environ", dict(self.environ))
        try:
            status = program.run(list(arguments))
        except SystemExit as error:
            status = int(str(error.code))
        return Ended(status, out.getvalue().splitlines(), err.getvalue())

    def does(self, *arguments: str) -> list[str]:
        """Run a command, which succeeds; what it prints."""
        ended = self.wschat(*arguments)
        self.assertEqual((ended.status, ended.error), (0, ""))
        return ended.lines

    def fails(self, *arguments: str) -> str:
        """Run a command, which fails with one line and prints nothing else; the line."""
        ended = self.wschat(*arguments)
        self.assertEqual(ended.status, 1, ended)
        self.assertEqual(ended.lines, [])
        self.assertRegex(ended.error, r"\Awschat: [^\n]+\n\Z")
        return ended.error

    def engine(self) -> sa.Engine:
        """The database, as the server has it after its start."""
        path = DataDirectory(self.data_dir).path / "wschat.sqlite3"
        engine = database.make_engine(sa.URL.create("sqlite", database=str(path)))
        self.addCleanup(engine.dispose)
        database.migrate(engine)
        return engine

    def store(self, *user_ids: str) -> MemoryStore:
        """A store over the database, with those users in it."""
        store = MemoryStore(self.engine())
        for user_id in user_ids:
            self.successResultOf(store.users.add(make_user(user_id)))
        return store

    def administration(self) -> Administration:
        return Administration(self.engine())
