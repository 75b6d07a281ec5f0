"""Tests of `wschat.admin.users`."""

from __future__ import annotations

from tests.admin.support import AdminTests
from tests.support import NOW
from wschat.identity import PrivateKey


class UserTests(AdminTests):
    """`wschat user`."""

    def test_list(self) -> None:
        """A line for each user: state, when they came, when they were last there, name."""
        store = self.store("alice", "bob")
        self.successResultOf(store.users.seen({"bob": NOW + 60}))
        self.does("user", "disable", "alice")
        self.assertEqual(
            self.does("user", "list"),
            [
                "alice\tdisabled\t2026-11-22T10:00:00.000000Z\tnever\tAlice",
                "bob\tenabled\t2026-11-22T10:00:00.000000Z\t2026-11-22T10:01:00.000000Z\tBob",
            ],
        )

    def test_add(self) -> None:
        """An account is made, and the database with it, before a server ever ran."""
        key = PrivateKey.generate()
        self.assertEqual(
            self.does("user", "add", "alice", "--public-key", key.public_key, "--username", "A"), []
        )
        alice = self.administration().user("alice")
        self.assertEqual(
            (alice.username, alice.public_key, alice.x25519_public_key), ("A", key.public_key, None)
        )
        self.assertEqual(self.data_dir.stat().st_mode & 0o777, 0o700)

    def test_make_key(self) -> None:
        """A key that is made is printed once, when it is the user's."""
        (line,) = self.does("user", "add", "bot", "--make-key")
        name, _, text = line.partition("=")
        key = PrivateKey.from_text(text)
        bot = self.administration().user("bot")
        self.assertEqual(name, "WS_PRIVATE_KEY")
        self.assertEqual(
            (bot.public_key, bot.x25519_public_key), (key.public_key, key.x25519_public_key)
        )
        self.assertIn("taken", self.fails("user", "add", "bot", "--make-key"))
        self.fails("user", "add", "b2", "--make-key", "--x25519-public-key", key.public_key)

    def test_wrong(self) -> None:
        """Names and keys that are none, and users who are not there, are one line."""
        self.store("alice")
        key = PrivateKey.generate().public_key
        self.fails("user", "add", "no body", "--public-key", key)
        self.fails("user", "add", "bob", "--public-key", "junk")
        for verb in ("disable", "enable", "kick"):
            self.assertIn("'nobody'", self.fails("user", verb, "nobody"))
        for name in ("\x1b[31mbob", "b\nc", "x" * 257):
            error = self.fails("user", "add", "bob", "--public-key", key, "--username", name)
            self.assertIn("printable", error)
        self.assertIn("'nobody'", self.fails("user", "reset-key", "nobody", "--make-key"))
        self.assertEqual(self.wschat("user", "add", "bob").status, 2)
        self.assertEqual(self.wschat("user").status, 2)

    def test_enable_and_kick(self) -> None:
        """What is done is in the account."""
        self.store("alice")
        self.does("user", "disable", "alice")
        self.does("user", "enable", "alice")
        self.does("user", "kick", "alice")
        alice = self.administration().user("alice")
        self.assertIsNone(alice.disabled_at)
        self.assertIsNotNone(alice.signed_out_at)

    def test_reset_key(self) -> None:
        """Who has lost their key has another."""
        self.store("alice")
        key = PrivateKey.generate()
        self.does("user", "reset-key", "alice", "--public-key", key.public_key)
        self.assertEqual(self.administration().user("alice").public_key, key.public_key)
        (line,) = self.does("user", "reset-key", "alice", "--make-key")
        made = PrivateKey.from_text(line.partition("=")[2])
        self.assertEqual(self.administration().user("alice").public_key, made.public_key)
