"""Where an operator's commands come from: modules that are named, and installed packages."""

from __future__ import annotations

import functools
import importlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from importlib import metadata
from types import ModuleType
from typing import Any, Final, cast

from wschat.commands import Command

#: The entry points of this group are modules, or single commands.
GROUP: Final = "wschat.commands"


class LoadError(Exception):
    """Commands cannot be had; the text names where they were to come from, and the cause."""


def load(modules: Iterable[str], add: Callable[[Command[..., Any]], None]) -> None:
    """
    Hand the commands of installed packages, and of these modules, to `add`.

    It may raise `ValueError`.  Modules are also looked for in the current
    directory, after all other places.  Raises `LoadError`.
    """
    found = _import("entry points", functools.partial(metadata.entry_points, group=GROUP))
    for entry in sorted(cast("metadata.EntryPoints", found), key=lambda e: (e.name, e.value)):
        source = f"entry point {entry.name} = {entry.value}"
        _add(source, _import(source, entry.load), add)
    for name in modules:
        here = os.getcwd()
        if here not in sys.path:
            sys.path.append(here)
        source = f"--commands: {name}"
        _add(source, _import(source, functools.partial(importlib.import_module, name)), add)


def _import(source: str, load: Callable[[], object]) -> object:
    try:
        return load()
    except (Exception, SystemExit) as error:  # anything can happen in there
        raise LoadError(f"{source}: {type(error).__name__}: {error}") from error


def _add(source: str, found: object, add: Callable[[Command[..., Any]], None]) -> None:
    commands = list(_commands_in(found))
    if not commands:
        raise LoadError(f"{source}: there is no function with @command")
    for command in commands:
        try:
            add(command)
        except ValueError as error:
            raise LoadError(f"{source}: {error}") from None


def _commands_in(found: object) -> Iterator[Command[..., Any]]:
    values = vars(found).values() if isinstance(found, ModuleType) else [found]
    return (value for value in values if isinstance(value, Command))
