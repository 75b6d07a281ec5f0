"""
A private PostgreSQL for tests, from the binaries that are installed.

It is started when a test first asks for a database, once in a process, and
is gone with it.  Where there is no PostgreSQL, such tests are skipped, and
say so.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import itertools
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import psycopg
import sqlalchemy as sa

#: Where distributions put the programs that are on nobody's path.
_ELSEWHERE: Final = Path("/usr/lib/postgresql")

#: How long the server may take to start or to stop, in seconds; far more than it does.
_PATIENCE: Final = 60.0

#: Why tests are skipped.
MISSING: Final = (
    "PostgreSQL is not installed: no initdb on the PATH or in /usr/lib/postgresql/*/bin,"
    " so nothing is tested with it"
)

#: Databases' owner, who may do everything.
_OWNER: Final = "wschat"


class Cluster:
    """
    A PostgreSQL server with a directory of its own, reached by a Unix socket in it.

    Nobody is asked for a password: who can enter the directory may connect.
    It commits as a real one does, with fsync.
    """

    def __init__(self, programs: Path) -> None:
        """Make the directory; `programs` is where `initdb` and `postgres` are."""
        self._programs = programs
        self._account = _account()
        self._process: subprocess.Popen[bytes] | None = None
        self._numbers = itertools.count(1)
        self._free: list[str] = []  # the databases that nobody has
        self._directory = Path(tempfile.mkdtemp(prefix="wschat-postgresql-"))
        if self._account:
            os.chown(self._directory, self._account["user"], self._account["group"])
        self._log = self._directory / "log"
        data = self._directory / "data"
        command = [
            "initdb", f"--pgdata={data}", f"--username={_OWNER}",
            "--auth=trust", "--encoding=UTF8", "--no-locale", "--no-sync",
        ]  # fmt: skip
        made = self._start_program(command)
        if made.wait(_PATIENCE):
            raise RuntimeError(f"initdb failed:\n{self._said()}")
        self._command = ["postgres", "-D", str(data), "-k", str(self._directory), "-h", ""]

    def start(self) -> None:
        """Start the server, and wait until it answers."""
        self._process = process = self._start_program(self._command)
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                self._execute("SELECT 1")
            except psycopg.OperationalError:
                if time.monotonic() > deadline:
                    raise
            else:
                return
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.02)
                raise RuntimeError(f"PostgreSQL ended:\n{self._said()}")

    def stop(self) -> None:
        """Stop the server, whoever is connected; what was committed is kept."""
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(signal.SIGINT)  # "fast": it waits for no client
        try:
            process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def remove(self) -> None:
        """Stop the server, and remove all that there is of it."""
        self.stop()
        shutil.rmtree(self._directory, ignore_errors=True)

    def lend(self) -> sa.URL:
        """An empty database of one's own, until it is given back; its URL."""
        if self._free:
            name = self._free.pop()
        else:
            name = f"test_{next(self._numbers)}"
            self._execute(f"CREATE DATABASE {name}")
        where = {"host": str(self._directory)}
        return sa.URL.create("postgresql+psycopg", username=_OWNER, database=name, query=where)

    def give_back(self, url: sa.URL) -> None:
        """Empty a database, whoever is connected to it: that takes a tenth of making one."""
        assert url.database is not None
        self._execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            f" WHERE datname = '{url.database}'"
        )
        self._execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public", url.database)
        self._free.append(url.database)

    def _execute(self, statement: str, database: str = "postgres") -> None:
        with psycopg.connect(
            host=str(self._directory), user=_OWNER, dbname=database, autocommit=True
        ) as connection:
            connection.execute(statement.encode())

    def _start_program(self, command: Sequence[str]) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as log:
            return subprocess.Popen(
                [str(self._programs / command[0]), *command[1:]],
                cwd=self._directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                **self._account,
            )

    def _said(self) -> str:
        return self._log.read_text(errors="replace")


@functools.cache
def _programs() -> Path | None:
    """Where the newest PostgreSQL's programs are; None, and a word on stderr, without one."""
    versions = sorted(_ELSEWHERE.glob("*/bin"), key=lambda path: _number(path.parent.name))
    path = os.pathsep.join([os.environ.get("PATH", ""), *map(str, reversed(versions))])
    found = shutil.which("initdb", path=path)
    if found is None:
        print(f"\nwschat tests: {MISSING}", file=sys.__stderr__)
        return None
    return Path(found).resolve().parent  # where `postgres` is, too


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdecimal())


@functools.cache
def _started(programs: Path) -> Cluster:
    cluster = Cluster(programs)
    atexit.register(cluster.remove)
    cluster.start()
    return cluster


def cluster() -> Cluster:
    """The server of this process, started.  Raises `SkipTest` where there is no PostgreSQL."""
    programs = _programs()
    if programs is None:
        raise unittest.SkipTest(MISSING)
    return _started(programs)


def _account() -> dict[str, Any]:
    """Whom to run it as: PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
    return {}
