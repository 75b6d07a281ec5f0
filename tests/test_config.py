"""Options and environment, to one `Config`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from wschat import config
from wschat.addresses import LOOPBACK, Networks
from wschat.config import Config, ConfigError

XDG = {"XDG_DATA_HOME": "/xdg"}

#: Option, its variable, the classic server's, and the default; the whole set.
OPTIONS: tuple[tuple[str, str, str | None, Any], ...] = (
    ("data-dir", "WSCHAT_DATA_DIR", None, Path("/xdg/wschat")),
    ("listen", "WSCHAT_LISTEN", "SERVER_ADDR", ":8443"),
    ("http", "WSCHAT_HTTP", "HTTP_ADDR", ":8080"),
    ("certificate", "WSCHAT_CERTIFICATE", None, None),
    ("private-key", "WSCHAT_PRIVATE_KEY", None, None),
    ("database", "WSCHAT_DATABASE", "DB_PATH", ""),
    ("jwt-secret", "WSCHAT_JWT_SECRET", "JWT_SECRET", None),
    ("token-lifetime", "WSCHAT_TOKEN_LIFETIME", None, 86400.0),
    ("registration", "WSCHAT_REGISTRATION", None, "open"),
    ("registration-rate", "WSCHAT_REGISTRATION_RATE", None, 60.0),
    ("login-rate", "WSCHAT_LOGIN_RATE", None, 120.0),
    ("message-rate", "WSCHAT_MESSAGE_RATE", "MESSAGE_RATE_LIMIT", 10.0),
    ("message-burst", "WSCHAT_MESSAGE_BURST", "MESSAGE_BURST_LIMIT", 20.0),
    ("max-message-size", "WSCHAT_MAX_MESSAGE_SIZE", None, 65536),
    ("outbox-bytes", "WSCHAT_OUTBOX_BYTES", None, 1048576),
    ("max-connections", "WSCHAT_MAX_CONNECTIONS", None, 10000),
    ("max-sessions-per-user", "WSCHAT_MAX_SESSIONS_PER_USER", None, 10),
    ("offline-limit", "WSCHAT_OFFLINE_LIMIT", None, 1000),
    ("retention-days", "WSCHAT_RETENTION_DAYS", None, 30.0),
    ("allowed-origins", "WSCHAT_ALLOWED_ORIGINS", "ALLOWED_ORIGINS", frozenset()),
    ("commands", "WSCHAT_COMMANDS", None, ()),
    ("security-log-file", "WSCHAT_SECURITY_LOG_FILE", "SECURITY_LOG_FILE", None),
    ("byte-rate", "WSCHAT_BYTE_RATE", None, None),
    ("max-connections-per-host", "WSCHAT_MAX_CONNECTIONS_PER_HOST", None, 1000),
    ("trusted-proxies", "WSCHAT_TRUSTED_PROXIES", None, Networks()),
    ("metrics-from", "WSCHAT_METRICS_FROM", None, LOOPBACK),
    ("administrators", "WSCHAT_ADMINISTRATORS", None, frozenset()),
    ("log-format", "WSCHAT_LOG_FORMAT", None, "text"),
    ("drain-seconds", "WSCHAT_DRAIN_SECONDS", None, 10.0),
    ("config-file", "WSCHAT_CONFIG_FILE", None, None),
)

ADDRESS = ":PORT, HOST:PORT or a Twisted endpoint string"
DURATION = "a duration from 1s to ten years, such as 90m or 24h"
SIZE = "a size from 1KiB to 1GiB, such as 65536 or 1MiB"
RATE = "a number above 0"
WHOLE = "a whole number from 1"
NETWORKS = "addresses and networks such as 10.0.0.0/8, separated by commas, or unix"
ORIGINS = "origins such as https://chat.example, separated by commas, or *"

#: A path in the home of somebody who does not exist.
NOWHERE = "~no-such-user-here/x"

#: What each option accepts, in the words of its error, and a text that is none of that.
WRONG = {
    "data-dir": ("a directory", ""),
    "listen": (ADDRESS, "8443"),
    "http": (f"{ADDRESS}, or none", "off"),
    "certificate": ("a PEM file", NOWHERE),
    "private-key": ("a PEM file", NOWHERE),
    "database": (
        "a path, sqlite:///PATH or postgresql+psycopg://USER:PASSWORD@HOST/NAME",
        "postgresql://host/db",
    ),
    "token-lifetime": (DURATION, "1w"),
    "registration": ("open or closed", "yes"),
    "registration-rate": (RATE, "0"),
    "login-rate": (RATE, "inf"),
    "message-rate": (RATE, "-10"),
    "message-burst": ("a number from 1", "0.99"),
    "max-message-size": (SIZE, "64K"),
    "outbox-bytes": (SIZE, "1MB"),
    "max-connections": (WHOLE, "many"),
    "max-sessions-per-user": (WHOLE, "0"),
    "offline-limit": (WHOLE, "10.0"),
    "retention-days": ("a number from 1", "30d"),
    "allowed-origins": (ORIGINS, "chat.example"),
    "commands": ("names of Python modules, separated by commas", "a-b"),
    "security-log-file": ("a file", NOWHERE),
    "byte-rate": (SIZE, "none"),
    "max-connections-per-host": (WHOLE, "x"),
    "trusted-proxies": (NETWORKS, "localhost"),
    "metrics-from": (NETWORKS, "::1/129"),
    "administrators": ("user ids, separated by commas", "broadcast"),
    "log-format": ("text or json", "xml"),
    "drain-seconds": ("a number from 1", "10s"),
    "config-file": ("a TOML file", NOWHERE),
}

#: For each option a text that is not its default, and what it means.
SAMPLES: dict[str, tuple[str, Any]] = {
    "data-dir": ("/data", Path("/data")),
    "listen": (":1", ":1"),
    "http": (":2", ":2"),
    "certificate": ("/c.pem", Path("/c.pem")),
    "private-key": ("/k.pem", Path("/k.pem")),
    "database": ("/x.db", "/x.db"),
    "jwt-secret": ("secret", "secret"),
    "token-lifetime": ("3h", 10800.0),
    "registration": ("closed", "closed"),
    "registration-rate": ("4", 4.0),
    "login-rate": ("5", 5.0),
    "message-rate": ("6", 6.0),
    "message-burst": ("7", 7.0),
    "max-message-size": ("8KiB", 8192),
    "outbox-bytes": ("9KiB", 9216),
    "max-connections": ("11", 11),
    "max-sessions-per-user": ("12", 12),
    "offline-limit": ("13", 13),
    "retention-days": ("14", 14.0),
    "allowed-origins": ("https://x", frozenset({"https://x"})),
    "commands": ("chat_commands", ("chat_commands",)),
    "security-log-file": ("/log", Path("/log")),
    "byte-rate": ("15KiB", 15360),
    "max-connections-per-host": ("16", 16),
    "trusted-proxies": ("10.0.0.1", Networks.parse("10.0.0.1")),
    "metrics-from": ("10.0.0.2", Networks.parse("10.0.0.2")),
    "administrators": ("alice", frozenset({"alice"})),
    "log-format": ("json", "json"),
    "drain-seconds": ("15", 15.0),
    "config-file": ("/c.toml", Path("/c.toml")),
}

#: The options that nobody is shown: a key, and a URL that may have a password in it.
SECRETS = ["database", "jwt-secret"]

SECRET = "do-not-print-this-0123456789abcdef"


def load(options: dict[str, str | None] | None = None, **environ: str) -> Config:
    """The configuration of these options, with a data directory that is known."""
    return config.load(options or {}, {**XDG, **environ})


def complaint(option: str, text: str) -> str:
    """What is said of an option's value; nothing when it is accepted."""
    try:
        load({option: text})
    except ConfigError as error:
        return str(error)
    except Exception as error:  # a fault; shown beside the others
        return repr(error)
    return ""


def value(option: str, loaded: Config) -> Any:
    """What an option became."""
    return getattr(loaded, option.replace("-", "_"))


class DefaultTests(SynchronousTestCase):
    """What a server is that nobody told anything."""

    def test_everything(self) -> None:
        """The whole set of options, their variables, and their defaults."""
        loaded = load()
        found = tuple(
            (setting.name, setting.variable, setting.classic, value(setting.name, loaded))
            for setting in config.SETTINGS
        )
        self.assertEqual(found, OPTIONS)

    def test_every_field(self) -> None:
        """Each field of `Config` has an option, and each option a field, a help and no surprise."""
        fields = [field.name for field in dataclasses.fields(Config)]
        self.assertEqual(fields, [name.replace("-", "_") for name, *_ in OPTIONS])
        self.assertEqual([s.name for s in config.SETTINGS if not s.help or "\n" in s.help], [])

    def test_not_given(self) -> None:
        """An option that is None, and a variable that is empty, say nothing."""
        empty = {name: "" for _, *names, _ in OPTIONS for name in names if name is not None}
        self.assertEqual(load(dict.fromkeys(name for name, *_ in OPTIONS), **empty), load())

    def test_data_dir(self) -> None:
        """The XDG base directory specification's place, else its default."""
        self.assertEqual(config.default_data_dir({"XDG_DATA_HOME": "/x"}), "/x/wschat")
        expected = str(Path.home() / ".local" / "share" / "wschat")
        for environ in ({}, {"XDG_DATA_HOME": ""}):
            self.assertEqual(config.default_data_dir(environ), expected)

    def test_frozen(self) -> None:
        """Nobody changes the configuration of a running server."""
        self.assertRaises(AttributeError, setattr, load(), "registration", "closed")


class ErrorTests(SynchronousTestCase):
    """What is said of wrong values."""

    def test_wrong(self) -> None:
        """One line: the option, the value, and what is accepted instead; not a secret's value."""
        found = {option: complaint(option, text) for option, (_, text) in WRONG.items()}
        shown = {
            option: "(not shown)" if option in SECRETS else repr(text)
            for option, (_, text) in WRONG.items()
        }
        expected = {
            option: f"--{option}: {shown[option]} is not {accepts}"
            for option, (accepts, _) in WRONG.items()
        }
        self.assertEqual(found, expected)

    def test_all(self) -> None:
        """Every option is tried, but for the one that takes any text."""
        self.assertEqual({name for name, *_ in OPTIONS} - set(WRONG), {"jwt-secret"})

    def test_wrong_variable(self) -> None:
        """When it came from the environment, the line says from which variable."""
        for name in ("WSCHAT_MESSAGE_RATE", "MESSAGE_RATE_LIMIT"):
            error = self.assertRaises(ConfigError, load, **{name: "fast"})
            self.assertEqual(
                str(error), f"--message-rate (from {name}): 'fast' is not a number above 0"
            )

    def test_key_pair(self) -> None:
        """A certificate and its key come together, from wherever each comes."""
        loaded = load({"certificate": "c.pem"}, WSCHAT_PRIVATE_KEY="k.pem")
        self.assertEqual((loaded.certificate, loaded.private_key), (Path("c.pem"), Path("k.pem")))
        for option in ("certificate", "private-key"):
            error = self.assertRaises(ConfigError, load, {option: "x.pem"})
            self.assertEqual(str(error), "--certificate and --private-key: give both or neither")


class PrecedenceTests(SynchronousTestCase):
    """Whoever is nearer to the command line wins."""

    def test_order(self) -> None:
        """Option, `WSCHAT_NAME`, the classic variable, the file, the default."""
        options: dict[str, str | None] = {"message-rate": "1"}
        own = {"WSCHAT_MESSAGE_RATE": "2"}
        classic = {"MESSAGE_RATE_LIMIT": "3"}
        found = [
            load(options, **own, **classic).message_rate,
            load(None, **own, **classic).message_rate,
            load(None, **classic).message_rate,
            config.load({}, XDG, {"message-rate": "4"}).message_rate,
            load().message_rate,
        ]
        self.assertEqual(found, [1, 2, 3, 4, 10])

    def test_said(self) -> None:
        """Where a wrong value is from is said with it."""
        error = self.assertRaises(ConfigError, config.load, {}, XDG, {"listen": "x"})
        expected = f"--listen (from the configuration file): 'x' is not {ADDRESS}"
        self.assertEqual(str(error), expected)

    def test_each(self) -> None:
        """Every option is read from each of its names."""
        expected = {option: wanted for option, (_, wanted) in SAMPLES.items()}
        by_option = load({option: text for option, (text, _) in SAMPLES.items()})
        by_variable = load(None, **{own: SAMPLES[option][0] for option, own, *_ in OPTIONS})
        for loaded in (by_option, by_variable):
            self.assertEqual({option: value(option, loaded) for option in SAMPLES}, expected)

    def test_classic(self) -> None:
        """The classic server's variables are read by their old names, and no others are."""
        names = {classic: option for option, _, classic, _ in OPTIONS if classic is not None}
        loaded = load(None, **{classic: SAMPLES[names[classic]][0] for classic in names})
        expected = {
            option: SAMPLES[option][1] if classic is not None else default
            for option, _, classic, default in OPTIONS
        }
        self.assertEqual({option: value(option, loaded) for option in expected}, expected)

    def test_empty_option(self) -> None:
        """An option that is given empty is given: it undoes the environment."""
        loaded = load({"http": "", "database": ""}, WSCHAT_HTTP=":1", DB_PATH="x")
        self.assertEqual((loaded.http, loaded.database), ("", ""))

    def test_wrong_but_covered(self) -> None:
        """What is overruled is not looked at."""
        self.assertEqual(load({"message-rate": "5"}, MESSAGE_RATE_LIMIT="x").message_rate, 5)


class SecretTests(SynchronousTestCase):
    """The key that tokens are signed with is never shown, nor a database's password."""

    def test_repr(self) -> None:
        """Not where a configuration is printed."""
        loaded = load({"jwt-secret": SECRET})
        self.assertEqual(loaded.jwt_secret, SECRET)
        for shown in (repr(loaded), str(loaded), f"{[loaded]}"):
            self.assertNotIn(SECRET, shown)
            self.assertNotIn("jwt_secret", shown)

    def test_database_password(self) -> None:
        """Not where a configuration is printed, and not in an error of its URL."""
        url = f"postgresql+psycopg://chat:{SECRET}@db/chat"
        loaded = load({"database": url})
        self.assertEqual(loaded.database, url)
        self.assertNotIn(SECRET, repr(loaded))
        wrong = f"postgresql://chat:{SECRET}@db/chat"
        for options, environ in (({"database": wrong}, {}), ({}, {"DB_PATH": wrong})):
            error = self.assertRaises(ConfigError, load, options, **environ)
            self.assertNotIn(SECRET, str(error))

    def test_other_errors(self) -> None:
        """Not in another option's error."""
        for options in ({"listen": "x"}, {"certificate": "x"}):
            error = self.assertRaises(ConfigError, load, {"jwt-secret": SECRET, **options})
            self.assertNotIn(SECRET, repr(error))

    def test_own_error(self) -> None:
        """Not in its own, should it ever be refused."""

        def refuse(text: str) -> None:
            raise ValueError(text)

        strict = [
            dataclasses.replace(s, parse=refuse) if s.name == "jwt-secret" else s
            for s in config.SETTINGS
        ]
        self.patch(config, "SETTINGS", tuple(strict))
        for options, environ, name in (
            ({"jwt-secret": SECRET}, {}, ""),
            ({}, {"JWT_SECRET": SECRET}, " (from JWT_SECRET)"),
        ):
            error = self.assertRaises(ConfigError, load, options, **environ)
            accepted = "any text; 32 bytes or more to be safe"
            self.assertEqual(str(error), f"--jwt-secret{name}: (not shown) is not {accepted}")
            self.assertTrue(error.__suppress_context__)

    def test_only_secret(self) -> None:
        """The table says which options are secret."""
        self.assertEqual([s.name for s in config.SETTINGS if s.secret], SECRETS)
