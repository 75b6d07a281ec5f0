"""The command itself: its arguments, and what its end says."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from typing import NoReturn

import sqlalchemy as sa

from wschat import administration, config, database
from wschat.admin import backup, check, data, settings, tokens, users
from wschat.admin.context import Context, Failed
from wschat.blame import one_line

_EPILOG = """
A command reads the configuration as the server does: every option --some-option of
`twistd wschat`, before the command, or WSCHAT_SOME_OPTION in the environment, or
the configuration file.  It ends with 0, with 1 when it could not do it, with 2
when it was called wrongly; `check` with 0, 1 or 2 by the worst that it found.
"""


def parser() -> argparse.ArgumentParser:
    """All arguments that there are."""
    main = argparse.ArgumentParser(
        prog="wschat", description="Look after a wschat server.", epilog=_EPILOG, allow_abbrev=False
    )
    group = main.add_argument_group("the server's options")
    for setting in config.SETTINGS:
        group.add_argument(f"--{setting.name}", metavar="VALUE", help=_escaped(setting.help))
    commands = main.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for module in (check, settings, users, tokens, backup, data):
        module.add_parser(commands)
    return main


def _escaped(text: str) -> str:
    return text.replace("%", "%%")


def run(arguments: Sequence[str]) -> int:
    """Do what the arguments say; the exit status."""
    given = parser().parse_args(arguments)
    options = {setting.name: getattr(given, setting.attribute) for setting in config.SETTINGS}
    try:
        context = Context(options, os.environ, time.time())
        status: int | None = given.run(context, given)
    except (Failed, config.ConfigError, administration.NoSuchUser, administration.Refused) as error:
        return _say(str(error))
    except (database.Unusable, sa.exc.DBAPIError) as error:
        return _say(f"--database: {one_line(error)}")
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is not flushed yet
        return 1
    except OSError as error:
        return _say(str(error))
    return status or 0


def _say(line: str) -> int:
    print(f"wschat: {line}", file=sys.stderr)
    return 1


def main() -> NoReturn:
    """The console script."""
    sys.exit(run(sys.argv[1:]))
