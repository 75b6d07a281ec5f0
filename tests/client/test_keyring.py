"""Tests of `wschat.client.keyring`: a private key on disk."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from wschat.client.keyring import KeyringError, key_path, load_or_make
from wschat.identity import PrivateKey


class PathTests(SynchronousTestCase):
    """Where keys are."""

    def test_configured(self) -> None:
        """Below XDG_CONFIG_HOME, one file a user."""
        path = key_path("alice", {"XDG_CONFIG_HOME": "/etc/xdg"})
        self.assertEqual(path, Path("/etc/xdg/wschat/keys/alice.key"))

    def test_default(self) -> None:
        """Without it, or when it is empty, below ~/.config."""
        self.patch(os, "environ", {"HOME": "/home/alice"})
        expected = Path("/home/alice/.config/wschat/keys/alice.key")
        self.assertEqual(key_path("alice", {}), expected)
        self.assertEqual(key_path("alice", {"XDG_CONFIG_HOME": ""}), expected)

    def test_relative(self) -> None:
        """The specification: a relative path is invalid, and ignored."""
        self.patch(os, "environ", {"HOME": "/home/alice"})
        expected = Path("/home/alice/.config/wschat/keys/alice.key")
        self.assertEqual(key_path("alice", {"XDG_CONFIG_HOME": "config"}), expected)


class KeyringTests(SynchronousTestCase):
    """Making a key, and finding it again."""

    def setUp(self) -> None:
        self.path = Path(self.mktemp()) / "wschat" / "keys" / "alice.key"

    def refused(self) -> str:
        """The one line that says what is wrong."""
        line = str(self.assertRaises(KeyringError, load_or_make, self.path))
        self.assertNotIn("\n", line)
        self.assertIn("alice.key", line)
        return line

    def write(self, data: bytes) -> None:
        self.path.parent.mkdir(parents=True)
        self.path.write_bytes(data)

    def files(self) -> list[str]:
        return [entry.name for entry in self.path.parent.iterdir()]

    def test_made_once(self) -> None:
        """A missing key is made, for its owner alone, and is the same ever after."""
        key, made = load_or_make(self.path)
        self.assertTrue(made)
        again, made = load_or_make(self.path)
        self.assertFalse(made)
        self.assertEqual(again.to_text(), key.to_text())
        self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o600)
        self.assertEqual(stat.S_IMODE(self.path.parent.stat().st_mode), 0o700)
        self.assertEqual(self.files(), ["alice.key"])

    def test_given(self) -> None:
        """A key that somebody put there is read."""
        key = PrivateKey.generate()
        self.write(key.to_text().encode())
        self.assertEqual(load_or_make(self.path)[0].public_key, key.public_key)

    def test_somebody_was_first(self) -> None:
        """When another program makes the key meanwhile, that one is it."""
        key = PrivateKey.generate()
        link = os.link

        def late(source: Path, target: Path) -> None:
            target.write_text(key.to_text())
            link(source, target)

        self.patch(os, "link", late)
        found, made = load_or_make(self.path)
        self.assertEqual((found.public_key, made), (key.public_key, False))
        self.assertEqual(self.files(), ["alice.key"])

    def test_no_links(self) -> None:
        """On a file system without links the key is kept all the same."""

        def unsupported(source: Path, target: Path) -> None:
            raise PermissionError(1, "Operation not permitted")

        self.patch(os, "link", unsupported)
        key, made = load_or_make(self.path)
        self.assertTrue(made)
        self.assertEqual(load_or_make(self.path)[0].public_key, key.public_key)
        self.assertEqual(self.files(), ["alice.key"])

    def test_not_written(self) -> None:
        """When a key cannot be written, nothing half-made is left."""

        def full(descriptor: int) -> None:
            raise OSError(28, "No space left on device")

        self.patch(os, "fsync", full)
        self.assertIn("No space left on device", self.refused())
        self.assertEqual(self.files(), [])

    def test_no_key(self) -> None:
        """A file that holds no key is not replaced; the line names it, and shows nothing of it."""
        for data in (b"", b"hush hush", b"\xff\xfe", b"A" * 88):
            with self.subTest(data=data):
                self.path = Path(self.mktemp()) / "alice.key"
                self.write(data)
                line = self.refused()
                self.assertNotIn("hush", line)
                self.assertEqual(self.path.read_bytes(), data)

    def test_unreadable(self) -> None:
        """What is no file, or in no directory, is an error with the system's reason."""
        self.path.mkdir(parents=True)
        self.assertIn("Is a directory", self.refused())
        self.path = self.path.parent / "file" / "alice.key"
        self.path.parent.write_text("")
        self.assertRegex(self.refused(), "Not a directory|File exists")

    def test_dangling_link(self) -> None:
        """A link to nowhere is an error, not an endless search."""
        self.path.parent.mkdir(parents=True)
        self.path.symlink_to("nowhere")
        self.assertIn("No such file", self.refused())
