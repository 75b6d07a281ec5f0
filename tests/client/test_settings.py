"""Tests of `wschat.client.settings`: the environment of a client."""

from __future__ import annotations

import dataclasses
import getpass
import os
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from wschat.client.settings import Encryption, Settings, SettingsError, flag


class SettingsTests(SynchronousTestCase):
    """What the environment says, and what is wrong with it."""

    def refused(self, **environ: str) -> str:
        """The one line that says what is wrong."""
        given = {"WS_USER_ID": "alice", **environ}
        line = str(self.assertRaises(SettingsError, Settings.from_environ, given))
        self.assertNotIn("\n", line)
        return line

    def test_names_of_other_scripts(self) -> None:
        """A host's name may be in any script; one that cannot be a name is refused."""
        given = {"WS_USER_ID": "alice", "WS_SERVER_URL": "https://b\u00fccher.example"}
        self.assertEqual(Settings.from_environ(given).authority, "xn--bcher-kva.example:443")
        self.assertIn("WS_SERVER_URL", self.refused(WS_SERVER_URL="https://\u00fc" + "x" * 70))

    def test_session(self) -> None:
        """A session has a name that the server takes, or none."""
        given = {"WS_USER_ID": "alice", "WS_SESSION": "desk:1._-"}
        self.assertEqual(Settings.from_environ(given).session, "desk:1._-")
        self.assertEqual(Settings.from_environ({**given, "WS_SESSION": ""}).session, "")
        for wrong in ("a b", "x" * 65, "a/b"):
            self.assertIn(repr(wrong), self.refused(WS_SESSION=wrong))

    def test_defaults(self) -> None:
        """Without variables: localhost:443, the login name, no key, and every flag off."""
        self.patch(getpass, "getuser", lambda: "somebody")
        expected = Settings(
            host="localhost",
            port=443,
            user_id="somebody",
            username="somebody",
            private_key=None,
            insecure_tls=False,
            debug=False,
            auto_announce=False,
            auto_mode=False,
            encryption=Encryption.PREFERRED,
            known_users=Path("/home/alice/.config/wschat/known_users"),
            key_file=Path("/home/alice/.config/wschat/keys/somebody.key"),
        )
        self.patch(os, "environ", {"HOME": "/home/alice"})
        self.assertEqual(Settings.from_environ({}), expected)

    def test_empty(self) -> None:
        """An empty variable is as good as none."""
        names = ("WS_SERVER_URL", "WS_USERNAME", "WS_PRIVATE_KEY", "INSECURE_TLS", "DEBUG")
        given = {"WS_USER_ID": "alice", **dict.fromkeys(names, "")}
        self.assertEqual(
            Settings.from_environ(given), Settings.from_environ({"WS_USER_ID": "alice"})
        )

    def test_all_given(self) -> None:
        """Every variable is read."""
        settings = Settings.from_environ(
            {
                "WS_SERVER_URL": "https://Chat.Example:8443/",
                "WS_USER_ID": "alice",
                "WS_USERNAME": "Alice Liddell",
                "WS_PRIVATE_KEY": "secret",
                "INSECURE_TLS": "true",
                "DEBUG": "1",
                "AUTO_ANNOUNCE": "YES",
                "AUTO_MODE": "on",
                "WS_SESSION": "desk",
                "WS_ENCRYPTION": "required",
                "XDG_CONFIG_HOME": "/xdg",
            }
        )
        expected = Settings(
            "chat.example",
            8443,
            "alice",
            "Alice Liddell",
            "secret",
            True,
            True,
            True,
            True,
            session="desk",
            encryption=Encryption.REQUIRED,
            known_users=Path("/xdg/wschat/known_users"),
        )
        self.assertEqual(settings, expected)

    def test_encryption(self) -> None:
        """There are three policies; anything else is refused, with what would be accepted."""
        for policy in Encryption:
            given = {"WS_USER_ID": "alice", "WS_ENCRYPTION": str(policy)}
            self.assertIs(Settings.from_environ(given).encryption, policy)
        line = self.refused(WS_ENCRYPTION="Never")
        for part in ("WS_ENCRYPTION", "'Never'", "required, preferred or disabled"):
            self.assertIn(part, line)

    def test_key_is_hidden(self) -> None:
        """The private key does not show, nor what it is under."""
        secret = {"WS_PRIVATE_KEY": "hush", "WS_KEY_PASSPHRASE": "hush hush"}
        settings = Settings.from_environ({"WS_USER_ID": "alice", **secret})
        self.assertNotIn("hush", repr(settings))
        self.assertEqual(settings.key_passphrase, "hush hush")

    def test_heard(self) -> None:
        """What was heard is kept for each user, server and named session; or not at all."""
        environ = {"WS_USER_ID": "alice", "XDG_CONFIG_HOME": "/xdg"}
        place = Path("/xdg/wschat/heard")
        found = Settings.from_environ(environ)
        self.assertEqual(found.heard, place / "alice@localhost:443")
        desk = Settings.from_environ({**environ, "WS_SESSION": "desk"})
        self.assertEqual(desk.heard, place / "alice@localhost:443+desk")
        self.assertIsNone(dataclasses.replace(found, known_users=None).heard)

    def test_authority(self) -> None:
        """Host and port as in a URL, with brackets for an IPv6 address."""
        for url, authority in (
            ("https://chat.example", "chat.example:443"),
            ("https://127.0.0.1:8443", "127.0.0.1:8443"),
            ("https://[::1]:8443", "[::1]:8443"),
        ):
            settings = Settings.from_environ({"WS_USER_ID": "alice", "WS_SERVER_URL": url})
            self.assertEqual(settings.authority, authority)

    def test_wrong_server(self) -> None:
        """Another scheme, no host, a path, a port that is none: the line shows what it was."""
        for url in (
            "http://chat.example",
            "wss://chat.example",
            "chat.example:443",
            "https://",
            "https://chat.example/chat",
            "https://chat.example:99999",
            "https://chat.example:port",
            "https://[::1",
        ):
            line = self.refused(WS_SERVER_URL=url)
            self.assertTrue(line.startswith("WS_SERVER_URL: "), line)
            self.assertIn(url, line)

    def test_surplus_parts(self) -> None:
        """A query, a fragment or a password is not quietly dropped."""
        for url in (
            "https://chat.example?a=b",
            "https://chat.example#a",
            "https://user:word@chat.example",
        ):
            self.assertIn("WS_SERVER_URL", self.refused(WS_SERVER_URL=url))

    def test_port_zero(self) -> None:
        """Port 0, to which nobody can connect, is refused and not made 443."""
        self.assertIn("WS_SERVER_URL", self.refused(WS_SERVER_URL="https://chat.example:0"))

    def test_wrong_user(self) -> None:
        """A name that no user can have is refused, with what would be accepted."""
        for name in ("broadcast", "SERVER", "a b", "..", "\u00e4", "x" * 65):
            line = self.refused(WS_USER_ID=name)
            self.assertIn("WS_USER_ID", line)
            self.assertIn("64", line)

    def test_no_login_name(self) -> None:
        """Who has no login name must say who to be."""

        def unknown() -> str:
            raise KeyError("getpwuid(): uid not found: 4711")

        self.patch(getpass, "getuser", unknown)
        error = self.assertRaises(SettingsError, Settings.from_environ, {})
        self.assertIn("WS_USER_ID", str(error))

    def test_flags(self) -> None:
        """A flag is true or false, in any case; anything else is refused by name and value."""
        for text in ("1", "true", "TRUE", "yes", "on"):
            self.assertTrue(flag({"DEBUG": text}, "DEBUG"))
        for text in ("", "0", "false", "No", "off"):
            self.assertFalse(flag({"DEBUG": text}, "DEBUG"))
        self.assertFalse(flag({}, "DEBUG"))
        for name in ("INSECURE_TLS", "DEBUG", "AUTO_ANNOUNCE", "AUTO_MODE"):
            line = self.refused(**{name: "perhaps"})
            self.assertIn(name, line)
            self.assertIn("perhaps", line)
