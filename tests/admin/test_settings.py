"""Tests of `wschat.admin.settings`."""

from __future__ import annotations

import tomllib
from pathlib import Path

from tests.admin.support import AdminTests
from wschat import config, sources

SECRET = "do-not-print-this-0123456789abcdef"


class ConfigTests(AdminTests):
    """`wschat config`."""

    def test_sources(self) -> None:
        """Every option is there once, with its value and where that is from."""
        file = Path(self.mktemp()).absolute()
        file.write_text("message-rate = 5\n")
        self.environ = {**self.environ, "ALLOWED_ORIGINS": "https://a"}
        lines = self.does("--listen=:1", "--config-file", str(file), "config")
        for line in (
            'listen = ":1"  # --listen',
            'allowed-origins = "https://a"  # ALLOWED_ORIGINS',
            'message-rate = "5"  # the configuration file',
            'message-burst = "20"  # the default',
            "# certificate is not set",
            f"# config-file = {file}  # --config-file",
        ):
            self.assertIn(line, lines)
        names = [line.removeprefix("# ").split()[0] for line in lines]
        self.assertEqual(names, [setting.name for setting in config.SETTINGS])

    def test_is_a_file(self) -> None:
        """What is printed is a configuration file that says the same."""
        lines = self.does("--listen=:1", "--allowed-origins=https://a,https://b", "config")
        file = Path(self.mktemp())
        file.write_text("\n".join(lines))
        again = config.load({}, {}, sources.read(file))
        self.assertEqual(again.listen, ":1")
        self.assertEqual(again.allowed_origins, frozenset({"https://a", "https://b"}))
        self.assertEqual(tomllib.loads("\n".join(lines))["data-dir"], str(self.data_dir))

    def test_secrets(self) -> None:
        """Secrets are not shown, and of a database as much as is none."""
        url = f"postgresql+psycopg://chat:{SECRET}@db/chat"
        lines = self.does(f"--jwt-secret={SECRET}", f"--database={url}", "config")
        self.assertIn("# jwt-secret = (not shown)  # --jwt-secret", lines)
        self.assertIn("# database = postgresql+psycopg://db/chat  # --database", lines)
        self.assertNotIn(SECRET, "\n".join(lines))
