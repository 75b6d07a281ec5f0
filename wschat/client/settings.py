"""What a client is told by its environment (docs/protocol.md, "Client environment")."""

from __future__ import annotations

import dataclasses
import enum
import getpass
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Self
from urllib.parse import urlsplit

from wschat import v1, wire

_TRUE: Final = frozenset({"1", "true", "yes", "on"})
_FALSE: Final = frozenset({"", "0", "false", "no", "off"})


class SettingsError(ValueError):
    """A wrong value; the message is one line: the variable, the value, what is accepted."""


class Encryption(enum.StrEnum):
    """Whether direct messages are sealed for their recipients."""

    #: What cannot be sealed is not sent.
    REQUIRED = "required"
    #: What cannot be sealed, because its recipient has no key for it, is sent as it is.
    PREFERRED = "preferred"
    DISABLED = "disabled"


@dataclasses.dataclass(frozen=True)
class Settings:
    """Who to be, and where to connect."""

    host: str
    port: int
    user_id: str
    username: str
    private_key: str | None = dataclasses.field(repr=False)
    insecure_tls: bool
    debug: bool
    auto_announce: bool
    auto_mode: bool
    session: str = ""
    encryption: Encryption = Encryption.PREFERRED
    #: The file of other users' keys; None: they are remembered no longer than the program runs.
    known_users: Path | None = None
    #: The file of one's own key; None: it is given, and in no file.
    key_file: Path | None = None
    #: What that is under, if anything.
    key_passphrase: str = dataclasses.field(default="", repr=False)

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Self:
        """Read the variables; raises `SettingsError`."""
        host, port = _server(environ.get("WS_SERVER_URL") or "https://localhost:443")
        user_id = environ.get("WS_USER_ID") or _login_name()
        if not wire.valid_user_id(user_id):
            raise SettingsError(
                f"WS_USER_ID: {user_id!r} is not 1 to 64 characters of A-Z a-z 0-9 . _ -, "
                "or is a reserved name"
            )
        username = environ.get("WS_USERNAME") or user_id
        if len(username) > 256 or not username.isprintable():
            raise SettingsError("WS_USERNAME: not at most 256 printable characters")
        session = environ.get("WS_SESSION", "")
        if session and not v1.valid_client_id(session):
            raise SettingsError(
                f"WS_SESSION: {session!r} is not 1 to 64 characters of A-Z a-z 0-9 . _ : -"
            )
        encryption = environ.get("WS_ENCRYPTION") or Encryption.PREFERRED
        if encryption not in set(Encryption):
            raise SettingsError(
                f"WS_ENCRYPTION: {encryption!r} is not required, preferred or disabled"
            )
        return cls(
            host=host,
            port=port,
            user_id=user_id,
            username=username,
            private_key=environ.get("WS_PRIVATE_KEY") or None,
            insecure_tls=flag(environ, "INSECURE_TLS"),
            debug=flag(environ, "DEBUG"),
            auto_announce=flag(environ, "AUTO_ANNOUNCE"),
            auto_mode=flag(environ, "AUTO_MODE"),
            session=session,
            encryption=Encryption(encryption),
            known_users=config_home(environ) / "known_users",
            key_file=None if environ.get("WS_PRIVATE_KEY") else key_path(user_id, environ),
            key_passphrase=environ.get("WS_KEY_PASSPHRASE", ""),
        )

    @property
    def authority(self) -> str:
        """The server's host and port, as in a URL."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def heard(self) -> Path | None:
        """The file of what was heard; one for each session, as each gets everything."""
        if self.known_users is None:
            return None
        name = f"{self.user_id}@{self.authority}"
        return (
            self.known_users.parent / "heard" / (f"{name}+{self.session}" if self.session else name)
        )


def _server(url: str) -> tuple[str, int]:
    try:
        parts = urlsplit(url)
        port = 443 if parts.port is None else parts.port
    except ValueError:
        parts, port = urlsplit(""), 0
    surplus = parts.path.strip("/") or parts.query or parts.fragment or parts.username is not None
    if parts.scheme != "https" or not parts.hostname or surplus or not port:
        raise SettingsError(f"WS_SERVER_URL: {url!r} is not https://HOST or https://HOST:PORT")
    try:
        host = parts.hostname.encode("ascii" if parts.hostname.isascii() else "idna").decode()
    except UnicodeError:
        raise SettingsError(f"WS_SERVER_URL: {url!r} has no host name that can be") from None
    return host, port


def config_home(environ: Mapping[str, str]) -> Path:
    """Where a user's own files are kept (XDG base directory specification)."""
    base = Path(environ.get("XDG_CONFIG_HOME", ""))
    if not base.is_absolute():
        base = Path("~/.config").expanduser()
    return base / "wschat"


def key_path(user_id: str, environ: Mapping[str, str]) -> Path:
    """Where a user's key is kept."""
    return config_home(environ) / "keys" / f"{user_id}.key"


def _login_name() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        raise SettingsError("WS_USER_ID: not set; it says who to be") from None


def flag(environ: Mapping[str, str], name: str) -> bool:
    """A variable that is true or false; raises `SettingsError` for anything else."""
    text = environ.get(name, "").lower()
    if text not in _TRUE | _FALSE:
        raise SettingsError(f"{name}: {text!r} is not true or false")
    return text in _TRUE
