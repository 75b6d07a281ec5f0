"""
The server's configuration: one frozen `Config`, from options and environment.

`SETTINGS` is the only list of them: the command line, the environment, the
defaults and the help are all read from it.  A value comes from the command
line, else from `WSCHAT_NAME`, else from the classic server's variable, else
from the configuration file (wschat.sources), else from the default.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from wschat import wire
from wschat.addresses import Networks


class ConfigError(ValueError):
    """A wrong value; the message is one line: the option, the value, what is accepted."""


@dataclasses.dataclass(frozen=True)
class Config:
    """What the server is told; times are in seconds and sizes in bytes."""

    data_dir: Path
    listen: str
    http: str
    certificate: Path | None
    private_key: Path | None
    database: str = dataclasses.field(repr=False)
    jwt_secret: str | None = dataclasses.field(repr=False)
    token_lifetime: float
    registration: str
    registration_rate: float
    login_rate: float
    message_rate: float
    message_burst: float
    max_message_size: int
    outbox_bytes: int
    max_connections: int
    max_sessions_per_user: int
    offline_limit: int
    retention_days: float
    allowed_origins: frozenset[str]
    commands: tuple[str, ...]
    security_log_file: Path | None
    byte_rate: int | None
    max_connections_per_host: int
    trusted_proxies: Networks
    metrics_from: Networks
    administrators: frozenset[str]
    log_format: str
    drain_seconds: float
    config_file: Path | None


@dataclasses.dataclass(frozen=True)
class Setting:
    """
    One option: `--name`, `WSCHAT_NAME`, and perhaps the classic server's variable.

    A server that runs takes a `live` one anew from the configuration file.
    """

    name: str
    default: str
    accepts: str
    parse: Callable[[str], Any]
    help: str
    classic: str | None = None
    secret: bool = False
    live: bool = False

    @property
    def attribute(self) -> str:
        return self.name.replace("-", "_")

    @property
    def variable(self) -> str:
        return "WSCHAT_" + self.attribute.upper()


_LONGEST: Final = 10 * 366 * 86400
_DURATION_UNITS: Final = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_SIZE_UNITS: Final = {"": 1, "KIB": 1024, "MIB": 1024**2, "GIB": 1024**3}
_ORIGIN: Final = re.compile(r"\*|null|[a-z][a-z0-9+.-]*://[^/?#\s@]+")
_ADDRESS: Final = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]*):(?P<port>\d{1,5})")


def _measure(text: str, units: Mapping[str, int]) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)", text)
    if match is None:
        raise ValueError(text)
    return float(match[1]) * units[match[2]]


def _duration(text: str) -> float:
    seconds = _measure(text.lower(), _DURATION_UNITS)
    if not 1 <= seconds <= _LONGEST:
        raise ValueError(text)
    return seconds


def _size(text: str) -> int:
    size = _measure(text.upper(), _SIZE_UNITS)
    if not 1024 <= size <= 1024**3:
        raise ValueError(text)
    return int(size)


def _size_or_none(text: str) -> int | None:
    return _size(text) if text else None


def _rate(text: str) -> float:
    rate = float(text)
    if not (math.isfinite(rate) and rate > 0):
        raise ValueError(text)
    return rate


def _at_least_one(text: str) -> float:
    number = _rate(text)
    if number < 1:
        raise ValueError(text)
    return number


def _count(text: str) -> int:
    count = int(text)
    if count < 1:
        raise ValueError(text)
    return count


def _registration(text: str) -> str:
    if text not in ("open", "closed"):
        raise ValueError(text)
    return text


def _origins(text: str) -> frozenset[str]:
    origins = frozenset(o.strip().rstrip("/").lower() for o in text.split(",") if o.strip())
    if not all(_ORIGIN.fullmatch(origin) for origin in origins):
        raise ValueError(text)
    return origins


def _modules(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if not all(part.isidentifier() for name in names for part in name.split(".")):
        raise ValueError(text)
    return names


def _users(text: str) -> frozenset[str]:
    users = frozenset(name.strip() for name in text.split(",") if name.strip())
    if not all(wire.valid_user_id(user) for user in users):
        raise ValueError(text)
    return users


def _log_format(text: str) -> str:
    if text not in ("text", "json"):
        raise ValueError(text)
    return text


def _path(text: str) -> Path | None:
    return _directory(text) if text else None


def _directory(text: str) -> Path:
    if not text:
        raise ValueError(text)
    try:
        return Path(text).expanduser()
    except RuntimeError:  # of ~somebody, whom nobody knows
        raise ValueError(text) from None


def split_address(text: str) -> tuple[str, int] | None:
    """`HOST:PORT` or `:PORT` as (host, port); None when it is something else."""
    match = _ADDRESS.fullmatch(text)
    if match is None or int(match["port"]) > 65535 or match["host"] in _ENDPOINT_KINDS:
        return None
    return match["host"].strip("[]"), int(match["port"])


def _listener(text: str) -> str:
    kind, _, rest = text.partition(":")
    if split_address(text) is None and not (rest and kind in _ENDPOINT_KINDS):
        raise ValueError(text)
    return text


def _http_listener(text: str) -> str:
    return "" if text in ("", "none") else _listener(text)


def _database(text: str) -> str:
    url = text.startswith(("sqlite:///", "postgresql+psycopg://"))
    if ":memory:" in text or ("://" in text and not url):
        raise ValueError(text)
    return text


def _secret(text: str) -> str | None:
    return text or None


#: What a Twisted server endpoint's string begins with.
_ENDPOINT_KINDS: Final = frozenset(
    {"ssl", "fasttls", "tcp", "tcp4", "tcp6", "unix", "systemd", "fd"}
)

_ENDPOINT: Final = ":PORT, HOST:PORT or a Twisted endpoint string"

_NETWORKS: Final = "addresses and networks such as 10.0.0.0/8, separated by commas, or unix"

SETTINGS: Final = (
    Setting(
        "data-dir",
        "",
        "a directory",
        _directory,
        "where certificate, secret and database are kept; made when missing "
        "(default: $XDG_DATA_HOME/wschat or ~/.local/share/wschat)",
    ),
    Setting(
        "listen",
        ":8443",
        _ENDPOINT,
        _listener,
        "the TLS listener; an ssl: or fasttls: endpoint without keys gets the server's own, "
        "and tcp: is plain, for a proxy that ends TLS",
        classic="SERVER_ADDR",
    ),
    Setting(
        "http",
        ":8080",
        f"{_ENDPOINT}, or none",
        _http_listener,
        "the plain HTTP listener: health, and redirects to TLS",
        classic="HTTP_ADDR",
    ),
    Setting(
        "certificate",
        "",
        "a PEM file",
        _path,
        "certificate chain (default: a self-signed one, made in the data directory)",
    ),
    Setting("private-key", "", "a PEM file", _path, "the certificate's private key"),
    Setting(
        "database",
        "",
        "a path, sqlite:///PATH or postgresql+psycopg://USER:PASSWORD@HOST/NAME",
        _database,
        "where messages are kept; a URL with a password is better given in the environment "
        "(default: wschat.sqlite3 in the data directory)",
        classic="DB_PATH",
        secret=True,
    ),
    Setting(
        "jwt-secret",
        "",
        "any text; 32 bytes or more to be safe",
        _secret,
        "what tokens are signed with; better given in the environment "
        "(default: a random one, kept in the data directory)",
        classic="JWT_SECRET",
        secret=True,
    ),
    Setting(
        "token-lifetime",
        "24h",
        "a duration from 1s to ten years, such as 90m or 24h",
        _duration,
        "how long a login lasts",
    ),
    Setting(
        "registration",
        "open",
        "open or closed",
        _registration,
        "who may make an account",
        live=True,
    ),
    Setting(
        "registration-rate",
        "60",
        "a number above 0",
        _rate,
        "registrations a minute and address",
        live=True,
    ),
    Setting(
        "login-rate", "120", "a number above 0", _rate, "logins a minute and address", live=True
    ),
    Setting(
        "message-rate",
        "10",
        "a number above 0",
        _rate,
        "messages a second and user",
        classic="MESSAGE_RATE_LIMIT",
        live=True,
    ),
    Setting(
        "message-burst",
        "20",
        "a number from 1",
        _at_least_one,
        "messages a user may send at once",
        classic="MESSAGE_BURST_LIMIT",
        live=True,
    ),
    Setting(
        "max-message-size",
        "65536",
        "a size from 1KiB to 1GiB, such as 65536 or 1MiB",
        _size,
        "the longest message accepted, in bytes on the wire",
    ),
    Setting(
        "outbox-bytes",
        "1MiB",
        "a size from 1KiB to 1GiB, such as 65536 or 1MiB",
        _size,
        "how far a reader may fall behind before it is closed",
    ),
    Setting(
        "max-connections",
        "10000",
        "a whole number from 1",
        _count,
        "WebSocket connections at once",
        live=True,
    ),
    Setting(
        "max-sessions-per-user",
        "10",
        "a whole number from 1",
        _count,
        "WebSocket connections of one user at once",
        live=True,
    ),
    Setting(
        "offline-limit",
        "1000",
        "a whole number from 1",
        _count,
        "direct messages that may wait for a user who is away, and broadcasts that are kept "
        "for such users beyond the retention",
    ),
    Setting(
        "retention-days",
        "30",
        "a number from 1",
        _at_least_one,
        "days after which messages go that all concerned have acknowledged",
    ),
    Setting(
        "allowed-origins",
        "",
        "origins such as https://chat.example, separated by commas, or *",
        _origins,
        "web pages that may connect (default: none)",
        classic="ALLOWED_ORIGINS",
        live=True,
    ),
    Setting(
        "commands",
        "",
        "names of Python modules, separated by commas",
        _modules,
        "modules whose functions with @command are added to the server's own commands",
    ),
    Setting(
        "security-log-file",
        "",
        "a file",
        _path,
        "registrations, logins and refusals, one JSON object a line",
        classic="SECURITY_LOG_FILE",
    ),
    Setting(
        "byte-rate",
        "",
        "a size from 1KiB to 1GiB, such as 65536 or 1MiB",
        _size_or_none,
        "bytes a second and user, of which ten seconds' may come at once "
        "(default: what the other limits come to)",
    ),
    Setting(
        "max-connections-per-host",
        "1000",
        "a whole number from 1",
        _count,
        "WebSockets of one address at once, and as many other connections; this host's are free",
    ),
    Setting(
        "trusted-proxies",
        "",
        _NETWORKS,
        Networks.parse,
        "proxies whose X-Forwarded-For is believed (default: none)",
    ),
    Setting(
        "metrics-from",
        "127.0.0.0/8,::1",
        _NETWORKS,
        Networks.parse,
        "who may read /metrics without an administrator's token",
    ),
    Setting(
        "administrators",
        "",
        "user ids, separated by commas",
        _users,
        "users whose tokens open /analytics and /metrics; nobody can register under these ids",
    ),
    Setting("log-format", "text", "text or json", _log_format, "how each line of the log looks"),
    Setting(
        "drain-seconds",
        "10",
        "a number from 1",
        _at_least_one,
        "how long the end may take: clients are told, and what they sent is stored",
    ),
    Setting(
        "config-file",
        "",
        "a TOML file",
        _path,
        "options by name, for what is given neither here nor in the environment; "
        "limits in it are read again when it changes, and on SIGHUP",
    ),
)


@dataclasses.dataclass(frozen=True)
class Given:
    """What a setting was given: its text, None when it was not; and where, None when it was not."""

    setting: Setting
    text: str | None
    source: str | None

    @property
    def name(self) -> str:
        """The option, as it is called in an error of its value."""
        option = f"--{self.setting.name}"
        return option if self.source in (None, option) else f"{option} (from {self.source})"


def given(
    setting: Setting,
    options: Mapping[str, str | None],
    environ: Mapping[str, str],
    file: Mapping[str, str],
) -> Given:
    """A setting's text and where it is from: an option, a variable, the configuration file."""
    option = options.get(setting.name)
    if option is not None:
        return Given(setting, option, f"--{setting.name}")
    for variable in (setting.variable, setting.classic):
        if variable is not None and environ.get(variable):
            return Given(setting, environ[variable], variable)
    if setting.name in file:
        return Given(setting, file[setting.name], "the configuration file")
    return Given(setting, None, None)


def without_secrets(value: str) -> str:
    """A `--database` value without what only its owner may see: user, password, parameters."""
    scheme, mark, rest = value.partition("://")
    return f"{scheme}{mark}{rest.rpartition('@')[2].partition('?')[0]}" if mark else value


def default_data_dir(environ: Mapping[str, str]) -> str:
    """Where the data directory is when nobody says (XDG base directory specification)."""
    base = Path(environ.get("XDG_DATA_HOME", ""))
    if not base.is_absolute():
        base = Path("~/.local/share").expanduser()
    return str(base / "wschat")


def load(
    options: Mapping[str, str | None],
    environ: Mapping[str, str],
    file: Mapping[str, str] | None = None,
) -> Config:
    """
    The configuration that options (by name, None when not given), environment and file make.

    Raises `ConfigError`.
    """
    values: dict[str, Any] = {}
    for setting in SETTINGS:
        found = given(setting, options, environ, file or {})
        text = found.text
        if setting.name == "data-dir" and text is None:
            text = default_data_dir(environ)
        text = setting.default if text is None else text
        try:
            values[setting.attribute] = setting.parse(text)
        except (ValueError, KeyError):
            shown = "(not shown)" if setting.secret else repr(text)
            raise ConfigError(f"{found.name}: {shown} is not {setting.accepts}") from None
    if (values["certificate"] is None) != (values["private_key"] is None):
        raise ConfigError("--certificate and --private-key: give both or neither")
    return Config(**values)
