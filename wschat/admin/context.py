"""What every part of the command works on: a configuration, and the database that it names."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from wschat import database, sources
from wschat.administration import Administration
from wschat.config import Config, Given
from wschat.datadir import SECRET_FILE, DataDirectory


class Failed(Exception):
    """The command cannot do what it was told; `str()` is one line."""


class Context:
    """A configuration, read as the server reads it, and where the command writes to."""

    def __init__(
        self,
        options: Mapping[str, str | None],
        environ: Mapping[str, str],
        now: float,
        output: Any = None,
    ) -> None:
        """`now` is in seconds since the epoch.  Raises `ConfigError`."""
        self.config: Config = sources.load(options, environ)
        self.given: list[Given] = sources.given(options, environ)
        self.now = now
        self._output = output or sys.stdout

    def say(self, line: str) -> None:
        """Write a line of what was asked for."""
        print(line, file=self._output, flush=True)

    @property
    def url(self) -> sa.URL:
        """The database's."""
        return database.database_url(self.config.database, self.config.data_dir)

    @property
    def database_file(self) -> Path | None:
        """SQLite's file; None for another database."""
        name = self.url.database
        return Path(name) if name and self.url.get_backend_name() == "sqlite" else None

    def administration(self, *, make: bool = False) -> Administration:
        """
        The database, for changes; one that is missing is made, if it may be.

        Raises `Failed` when there is none of this version.
        """
        file = self.database_file
        if file is not None and not file.exists():
            if not make:
                raise Failed(f"There is no database {str(file)!r}: is --data-dir the server's?")
            DataDirectory(self.config.data_dir)
            database.migrate(database.make_engine(self.url))
        engine = database.make_engine(self.url)
        found, ours = database.revisions(engine)
        if found != ours:
            raise Failed(
                f"The database's schema is {found or 'none'}, and this wschat's is {ours}: "
                "use the server's own version, which brings it up to date when it starts."
            )
        return Administration(engine)

    def secret(self) -> str:
        """What tokens are signed with.  Raises `Failed` when there is nothing yet."""
        if self.config.jwt_secret is not None:
            return self.config.jwt_secret
        if not (self.config.data_dir / SECRET_FILE).exists():
            raise Failed("There is no secret yet: the server makes one when it starts.")
        return DataDirectory(self.config.data_dir).jwt_secret()

    def runs(self) -> bool:
        """Whether a server may run: one uses the data directory, or the database is elsewhere."""
        if self.database_file is None:
            return True
        try:
            DataDirectory(self.config.data_dir).hold(alone=True).close()
        except BlockingIOError:
            return True
        return False
