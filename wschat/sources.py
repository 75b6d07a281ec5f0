"""
The configuration file, and where each setting comes from.

The file is TOML: an option's name without the dashes before it, and its value.

    listen = ":443"
    message-rate = 20
    allowed-origins = ["https://chat.example"]
"""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from wschat import config
from wschat.config import Config, ConfigError, Given

_SETTINGS: Final = {setting.name: setting for setting in config.SETTINGS}

_FILE: Final = _SETTINGS["config-file"]


def read(path: Path) -> dict[str, str]:
    """A configuration file's settings.  Raises `ConfigError`, one line that names the file."""
    try:
        content = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"--{_FILE.name}: {error}") from None
    except ValueError as error:
        raise ConfigError(f"--{_FILE.name}: {str(path)!r}: not TOML: {error}") from None
    settings = {}
    for name, value in content.items():
        if name not in _SETTINGS or name == _FILE.name:
            raise ConfigError(f"--{_FILE.name}: {str(path)!r}: no option {name!r} goes into it")
        text = _text(value)
        if text is None:
            raise ConfigError(
                f"--{_FILE.name}: {str(path)!r}: {name} is not a text, a number or a list of texts"
            )
        settings[name] = text
    return settings


def _text(value: Any) -> str | None:
    """A value as an option has it; None for what no option has."""
    if isinstance(value, str):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return ",".join(value)
    return None


def _file(options: Mapping[str, str | None], environ: Mapping[str, str]) -> dict[str, str]:
    text = config.given(_FILE, options, environ, {}).text
    path = _FILE.parse(text) if text else None
    return {} if path is None else read(path)


def load(options: Mapping[str, str | None], environ: Mapping[str, str]) -> Config:
    """The configuration that options, environment and their file make.  Raises `ConfigError`."""
    return config.load(options, environ, _file(options, environ))


def given(options: Mapping[str, str | None], environ: Mapping[str, str]) -> list[Given]:
    """Every setting, with what it was given and where.  Raises `ConfigError`."""
    file = _file(options, environ)
    return [config.given(setting, options, environ, file) for setting in config.SETTINGS]


def live(before: Config, now: Config) -> tuple[list[str], list[str]]:
    """The settings that differ: those that a server that runs takes, and those it does not."""
    differ = [
        setting
        for setting in config.SETTINGS
        if getattr(before, setting.attribute) != getattr(now, setting.attribute)
    ]
    return [s.name for s in differ if s.live], [s.name for s in differ if not s.live]


def with_live(before: Config, now: Config) -> Config:
    """`before`, with those settings of `now` that a server that runs takes."""
    taken = {s.attribute: getattr(now, s.attribute) for s in config.SETTINGS if s.live}
    return dataclasses.replace(before, **taken)
