"""
The server's configuration: one frozen `Config`, from options and environment.

`SETTINGS` is the only list of them: the command line, the environment, the
defaults and the help are all read from it.  A value comes from the command
line, else from `WSCHAT_NAME`, else from the classic server's variable, else
from the configuration file (wschat.sources), else from the default.  What its
text means is in wschat.values.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from wschat import values
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


_ENDPOINT: Final = ":PORT, HOST:PORT or a Twisted endpoint string"

_NETWORKS: Final = "addresses and networks such as 10.0.0.0/8, separated by commas, or unix"

SETTINGS: Final = (
    Setting(
        "data-dir",
        "",
        "a directory",
        values.directory,
        "where certificate, secret and database are kept; made when missing "
        "(default: $XDG_DATA_HOME/wschat or ~/.local/share/wschat)",
    ),
    Setting(
        "listen",
        ":8443",
        _ENDPOINT,
        values.listener,
        "the TLS listener; an ssl: or fasttls: endpoint without keys gets the server's own, "
        "and tcp: is plain, for a proxy that ends TLS",
        classic="SERVER_ADDR",
    ),
    Setting(
        "http",
        ":8080",
        f"{_ENDPOINT}, or none",
        values.http_listener,
        "the plain HTTP listener: health, and redirects to TLS",
        classic="HTTP_ADDR",
    ),
    Setting(
        "certificate",
        "",
        "a PEM file",
        values.path,
        "certificate chain (default: a self-signed one, made in the data directory)",
    ),
    Setting("private-key", "", "a PEM file", values.path, "the certificate's private key"),
    Setting(
        "database",
        "",
        "a path, sqlite:///PATH or postgresql+psycopg://USER:PASSWORD@HOST/NAME",
        values.database,
        "where messages are kept; a URL with a password is better given in the environment "
        "(default: wschat.sqlite3 in the data directory)",
        classic="DB_PATH",
        secret=True,
    ),
    Setting(
        "jwt-secret",
        "",
        "any text; 32 bytes or more to be safe",
        values.secret,
        "what tokens are signed with; better given in the environment "
        "(default: a random one, kept in the data directory)",
        classic="JWT_SECRET",
        secret=True,
    ),
    Setting(
        "token-lifetime",
        "24h",
        "a duration from 1s to ten years, such as 90m or 24h",
        values.duration,
        "how long a login lasts",
    ),
    Setting(
        "registration",
        "open",
        "open or closed",
        values.one_of("open", "closed"),
        "who may make an account",
        live=True,
    ),
    Setting(
        "registration-rate",
        "60",
        "a number above 0",
        values.rate,
        "registrations a minute and address",
        live=True,
    ),
    Setting(
        "login-rate",
        "120",
        "a number above 0",
        values.rate,
        "logins a minute and address",
        live=True,
    ),
    Setting(
        "message-rate",
        "10",
        "a number above 0",
        values.rate,
        "messages a second and user",
        classic="MESSAGE_RATE_LIMIT",
        live=True,
    ),
    Setting(
        "message-burst",
        "20",
        "a number from 1",
        values.at_least_one,
        "messages a user may send at once",
        classic="MESSAGE_BURST_LIMIT",
        live=True,
    ),
    Setting(
        "max-message-size",
        "65536",
        "a size from 1KiB to 1GiB, such as 65536 or 1MiB",
        values.size,
        "the longest message accepted, in bytes on the wire",
    ),
    Setting(
        "outbox-bytes",
        "1MiB",
        "a size from 1KiB to 1GiB, such as 65536 or 1MiB",
        values.size,
        "how far a reader may fall behind before it is closed",
    ),
    Setting(
        "max-connections",
        "10000",
        "a whole number from 1",
        values.count,
        "WebSocket connections at once",
        live=True,
    ),
    Setting(
        "max-sessions-per-user",
        "10",
        "a whole number from 1",
        values.count,
        "WebSocket connections of one user at once",
        live=True,
    ),
    Setting(
        "offline-limit",
        "1000",
        "a whole number from 1",
        values.count,
        "direct messages that may wait for a user who is away, and broadcasts that are kept "
        "for such users beyond the retention",
    ),
    Setting(
        "retention-days",
        "30",
        "a number from 1",
        values.at_least_one,
        "days after which messages go that all concerned have acknowledged",
    ),
    Setting(
        "allowed-origins",
        "",
        "origins such as https://chat.example, separated by commas, or *",
        values.origins,
        "web pages that may connect (default: none)",
        classic="ALLOWED_ORIGINS",
        live=True,
    ),
    Setting(
        "commands",
        "",
        "names of Python modules, separated by commas",
        values.modules,
        "modules whose functions with @command are added to the server's own commands",
    ),
    Setting(
        "security-log-file",
        "",
        "a file",
        values.path,
        "registrations, logins and refusals, one JSON object a line",
        classic="SECURITY_LOG_FILE",
    ),
    Setting(
        "byte-rate",
        "",
        "a size from 1KiB to 1GiB, such as 65536 or 1MiB",
        values.size_or_none,
        "bytes a second and user, of which ten seconds' may come at once "
        "(default: what the other limits come to)",
        live=True,
    ),
    Setting(
        "max-connections-per-host",
        "1000",
        "a whole number from 1",
        values.count,
        "WebSockets of one address at once, and as many other connections; this host's are free",
        live=True,
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
        values.users,
        "users whose tokens open /analytics and /metrics; nobody can register under these ids",
    ),
    Setting(
        "log-format",
        "text",
        "text or json",
        values.one_of("text", "json"),
        "how each line of the log looks",
    ),
    Setting(
        "drain-seconds",
        "10",
        "a number from 1",
        values.at_least_one,
        "how long the end may take: clients are told, and what they sent is stored",
    ),
    Setting(
        "config-file",
        "",
        "a TOML file",
        values.path,
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
    parsed: dict[str, Any] = {}
    for setting in SETTINGS:
        found = given(setting, options, environ, file or {})
        text = found.text
        if setting.name == "data-dir" and text is None:
            text = default_data_dir(environ)
        text = setting.default if text is None else text
        try:
            parsed[setting.attribute] = setting.parse(text)
        except ValueError:
            shown = "(not shown)" if setting.secret else repr(text)
            raise ConfigError(f"{found.name}: {shown} is not {setting.accepts}") from None
    if (parsed["certificate"] is None) != (parsed["private_key"] is None):
        raise ConfigError("--certificate and --private-key: give both or neither")
    return Config(**parsed)
