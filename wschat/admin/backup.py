"""
`wschat backup` and `wschat restore`: a server, as files.

A backup is a directory like the server's own data directory: a server can be
started on it.
"""

from __future__ import annotations

import os
import secrets
import shutil
import sqlite3
from argparse import Namespace
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa

from wschat import database, statements, wire
from wschat.admin.context import Context, Failed
from wschat.datadir import SECRET_FILE, DataDirectory, certificate_files

_DATABASE: Final = "wschat.sqlite3"

#: Ids that are left out after a restore: more than were given since the backup was made.
_GAP: Final = 1_000_000_000

_SQLITE_FILES: Final = ("", "-wal", "-shm", "-journal")


def add_parser(commands: Any) -> None:
    """The command's own."""
    parser = commands.add_parser("backup", help="copy a server, which may run, to a new directory")
    parser.add_argument("directory", type=Path, metavar="DIRECTORY")
    parser.set_defaults(run=back_up)
    parser = commands.add_parser("restore", help="put a backup in the data directory's place")
    parser.add_argument("directory", type=Path, metavar="DIRECTORY")
    parser.add_argument(
        "--replace", action="store_true", help="even if there is a database; that is kept beside it"
    )
    parser.set_defaults(run=restore)


def _file(context: Context) -> Path:
    """The SQLite file.  Raises `Failed` for another database."""
    file = context.database_file
    if file is None:
        name = context.url.database
        raise Failed(
            "The database is PostgreSQL, which has tools for it: "
            f"pg_dump --format=custom --file={name}.dump {name}, and later "
            f"pg_restore --clean --if-exists --dbname={name} {name}.dump; keep "
            f"{context.config.data_dir / SECRET_FILE} and the certificate with it."
        )
    return file


def _small_files(directory: Path) -> list[Path]:
    return [directory / SECRET_FILE, *certificate_files(directory)]


def back_up(context: Context, arguments: Namespace) -> None:
    """The database as it is at one moment, whoever writes meanwhile; checked before it is named."""
    file, target = _file(context), arguments.directory
    if not file.exists():
        raise Failed(f"There is no database {str(file)!r}.")
    if target.exists():
        raise Failed(f"{str(target)!r} is there already.")
    new = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    new.mkdir(mode=0o700)
    try:
        _copy_database(file, new / _DATABASE)
        for path in _small_files(context.config.data_dir):
            if path.exists():
                _copy_file(path, new / path.name)
        _sync(new)
        new.rename(target)
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise
    _sync(target.parent)
    context.say(f"{target}: {(target / _DATABASE).stat().st_size} bytes of database")
    if context.config.certificate is not None:
        context.say(f"{context.config.certificate} is not in it, nor is its key")


def _copy_database(source: Path, target: Path) -> None:
    os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    try:
        with (
            closing(sqlite3.connect(f"{source.absolute().as_uri()}?mode=ro", uri=True)) as old,
            closing(sqlite3.connect(target)) as new,
        ):
            # In one step: a writer does not wait for it, and would have it begin anew.
            old.backup(new)
            (found,) = new.execute("PRAGMA quick_check").fetchone()
    except sqlite3.Error as error:
        raise Failed(f"The database {str(source)!r} cannot be copied: {error}") from None
    if found != "ok":
        raise Failed(f"The database {str(source)!r} is damaged: {found}")
    _sync(target)


def _copy_file(source: Path, target: Path) -> None:
    shutil.copyfile(source, target)
    target.chmod(source.stat().st_mode & 0o777)
    _sync(target)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def restore(context: Context, arguments: Namespace) -> None:
    """The server must not run; ids that it gave since the backup are not given again."""
    file, source = _file(context), arguments.directory
    if not (source / _DATABASE).is_file():
        raise Failed(f"{str(source)!r} is no backup: it has no {_DATABASE}.")
    if source.resolve() == context.config.data_dir.resolve():
        raise Failed(f"{str(source)!r} is the data directory itself.")
    directory = DataDirectory(context.config.data_dir)
    try:
        held = directory.hold(alone=True)
    except BlockingIOError:
        raise Failed("A server uses the data directory: stop it first.") from None
    with held:
        if file.exists() and not arguments.replace:
            raise Failed(f"There is a database {str(file)!r} already; --replace replaces it.")
        new = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
        try:
            _copy_database(source / _DATABASE, new)
            _bring_up_to_date(new)
            _skip_ids(new)
            kept = _put_aside(file, context) if file.exists() else None
            new.rename(file)
        finally:
            for suffix in _SQLITE_FILES:
                new.with_name(new.name + suffix).unlink(missing_ok=True)
        for path in _small_files(source):
            if path.exists():
                _copy_file(path, directory.path / path.name)
        _sync(directory.path)
    context.say(f"{file}: as in {source}")
    if kept is not None:
        context.say(f"{kept}: what was there before")


def _bring_up_to_date(path: Path) -> None:
    """The schema of an older version becomes this one's.  Raises `Failed` for any other."""
    engine = database.make_engine(sa.URL.create("sqlite", database=str(path)))
    found, ours = database.revisions(engine)
    if found is None:
        raise Failed("The backup's database has no messages of wschat in it.")
    try:
        database.migrate(engine)
    except database.NewerSchema:
        raise Failed(f"The backup's schema is {found}, newer than this wschat's {ours}.") from None
    finally:
        engine.dispose()


def _skip_ids(path: Path) -> None:
    """
    Go on with ids that were never given.

    Clients remember how far they are; messages that got the same ids as those
    that are lost would be taken for them.
    """
    engine = database.make_engine(sa.URL.create("sqlite", database=str(path)))
    with engine.execution_options(writes=True).begin() as connection:
        through = statements.head(connection) + _GAP
        row = {"topic": wire.SERVER, "through": through}  # a topic that nobody reads
        connection.execute(statements.UPSERT_EXPIRED, row)
    with engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").all()
    engine.dispose()


def _put_aside(file: Path, context: Context) -> Path:
    """Give the old database another name, with all that is in its log."""
    aside = file.with_name(f"{file.name}.replaced-{int(context.now)}")
    try:
        with closing(sqlite3.connect(file)) as old:
            old.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    except sqlite3.Error:
        pass  # it may be damaged, which is why it is replaced: its log goes with it
    for suffix in _SQLITE_FILES:
        path = file.with_name(file.name + suffix)
        if path.exists():
            path.rename(aside.with_name(aside.name + suffix))
    return aside
