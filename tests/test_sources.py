"""Tests of `wschat.sources`."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from wschat import config, sources
from wschat.config import ConfigError

SECRET = "do-not-print-this-0123456789abcdef"


class _FileTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.path = Path(self.mktemp())

    def write(self, text: str) -> dict[str, str | None]:
        """Write the file; the options that name it."""
        self.path.write_text(text, "utf-8")
        return {"config-file": str(self.path)}


class LoadTests(_FileTests):
    """Options, environment and file, to one configuration."""

    def test_values(self) -> None:
        """Texts, numbers and lists of texts are what they are as options."""
        loaded = sources.load(
            self.write(
                'listen = ":443"\nmessage-rate = 2.5\nmax-connections = 7\n'
                'allowed-origins = ["https://a", "https://b"]\n'
            ),
            {},
        )
        self.assertEqual(
            (loaded.listen, loaded.message_rate, loaded.max_connections, loaded.allowed_origins),
            (":443", 2.5, 7, frozenset({"https://a", "https://b"})),
        )

    def test_overruled(self) -> None:
        """Options and environment win over the file, which an option or the environment names."""
        options = self.write("message-rate = 1\nlogin-rate = 2\noffline-limit = 3\n")
        environ = {"WSCHAT_CONFIG_FILE": str(self.path), "MESSAGE_RATE_LIMIT": "4"}
        loaded = sources.load({"login-rate": "5"}, environ)
        self.assertEqual((loaded.message_rate, loaded.login_rate, loaded.offline_limit), (4, 5, 3))
        self.assertEqual(sources.load(options, {}).message_rate, 1)

    def test_none(self) -> None:
        """There need not be one."""
        self.assertEqual(sources.load({}, {}), config.load({}, {}))

    def test_refused(self) -> None:
        """What is no file, no TOML, no option or no value of one is one line that names it."""
        missing: dict[str, str | None] = {"config-file": "/nowhere/wschat.toml"}
        cases = [(missing, "/nowhere/wschat.toml")]
        for text, said in (
            ("listen", "not TOML"),
            ("port = 1", "'port'"),
            ("config-file = 'x'", "'config-file'"),
            ("http = true", "http is not"),
            ("commands = [1]", "commands is not"),
            ("[listen]\nport = 1", "listen is not"),
        ):
            path = Path(self.mktemp())
            path.write_text(text)
            cases.append(({"config-file": str(path)}, said))
        for options, said in cases:
            error = self.assertRaises(ConfigError, sources.load, options, {})
            self.assertRegex(str(error), r"\A--config-file: [^\n]+\Z")
            self.assertIn(said, str(error))

    def test_wrong_value(self) -> None:
        """A wrong value is said with where it is from, a secret one without itself."""
        options = self.write("message-rate = 0")
        error = self.assertRaises(ConfigError, sources.load, options, {})
        self.assertIn("--message-rate (from the configuration file): '0'", str(error))
        options = self.write(f'database = "mysql://me:{SECRET}@db/chat"')
        error = self.assertRaises(ConfigError, sources.load, options, {})
        self.assertNotIn(SECRET, str(error))


class GivenTests(_FileTests):
    """Where each setting comes from."""

    def test_sources(self) -> None:
        """Option, variable, file or nothing, for every setting there is."""
        options = {**self.write("http = 'none'"), "listen": ":1"}
        found = {
            given.setting.name: (given.text, given.source)
            for given in sources.given(options, {"DB_PATH": "/db"})
        }
        expected: dict[str, tuple[str | None, str | None]] = {
            **dict.fromkeys((s.name for s in config.SETTINGS), (None, None)),
            "config-file": (str(self.path), "--config-file"),
            "listen": (":1", "--listen"),
            "http": ("none", "the configuration file"),
            "database": ("/db", "DB_PATH"),
        }
        self.assertEqual(found, expected)


class LiveTests(SynchronousTestCase):
    """What a server that runs takes."""

    def test_differences(self) -> None:
        """Limits are taken; what is built in at the start is not."""
        before = config.load({}, {})
        now = config.load({"listen": ":1", "message-rate": "1", "data-dir": "/x"}, {})
        self.assertEqual(sources.live(before, now), (["message-rate"], ["data-dir", "listen"]))
        self.assertEqual(sources.live(before, before), ([], []))

    def test_taken(self) -> None:
        """What is taken is the new limits, and the rest as it was."""
        before = config.load({"login-rate": "3"}, {})
        now = config.load({"listen": ":1", "message-rate": "1"}, {})
        expected = config.load({"message-rate": "1"}, {})
        self.assertEqual(sources.with_live(before, now), expected)

    def test_which(self) -> None:
        """The whole set of those that are taken."""
        live = {setting.name for setting in config.SETTINGS if setting.live}
        self.assertEqual(
            live,
            {
                *("registration", "registration-rate", "login-rate", "message-rate"),
                *("message-burst", "byte-rate", "max-connections", "max-connections-per-host"),
                *("max-sessions-per-user", "allowed-origins"),
            },
        )
