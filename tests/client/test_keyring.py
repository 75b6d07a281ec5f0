"""Tests of `wschat.client.keyring`: a private key on disk."""

from __future__ import annotations

import base64
import os
import stat
from pathlib import Path

from nacl.bindings import (
    crypto_pwhash_alg,
    crypto_pwhash_ALG_ARGON2ID13,
    crypto_secretbox_open,
)
from nacl.pwhash import argon2id
from twisted.trial.unittest import SynchronousTestCase

from wschat import identity
from wschat.client.keyring import KeyringError, Replacement, load_or_make
from wschat.client.settings import key_path
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

    def test_everybody(self) -> None:
        """Whatever the umask, nobody else can write a directory that was made on the way."""
        self.addCleanup(os.umask, os.umask(0))
        load_or_make(self.path)
        for path, mode in (
            (self.path, 0o600),
            (self.path.parent, 0o700),
            (self.path.parent.parent, 0o700),
        ):
            self.assertEqual(stat.S_IMODE(path.stat().st_mode), mode)

    def test_open_to_others(self) -> None:
        """A key that others could read is for its owner alone from then on."""
        self.write(PrivateKey.generate().to_text().encode())
        self.path.chmod(0o644)
        load_or_make(self.path)
        self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o600)

    def test_open_to_others_for_good(self) -> None:
        """When that cannot be changed, it is no secret, and not used as one."""
        self.write(PrivateKey.generate().to_text().encode())
        self.path.chmod(0o644)

        def refuse(path: Path, mode: int) -> None:
            raise PermissionError(1, "Operation not permitted")

        self.patch(Path, "chmod", refuse)
        self.assertIn("0600", self.refused())

    def test_on_disk(self) -> None:
        """The name of a new file is on disk before anybody is told of the key."""
        self.path.parent.mkdir(parents=True)
        synced: list[int] = []
        fsync = os.fsync

        def noted(descriptor: int) -> None:
            synced.append(os.fstat(descriptor).st_ino)
            fsync(descriptor)

        self.patch(os, "fsync", noted)
        load_or_make(self.path)
        directory = self.path.parent.stat().st_ino
        self.assertEqual(synced, [self.path.stat().st_ino, directory])
        synced.clear()
        Replacement(self.path, PrivateKey.generate()).done()
        self.assertEqual(synced, [self.path.stat().st_ino, directory, directory])

    def cheap(self) -> None:
        """Have passphrases cost next to nothing."""
        self.patch(argon2id, "OPSLIMIT_MODERATE", argon2id.OPSLIMIT_MIN)
        self.patch(argon2id, "MEMLIMIT_MODERATE", argon2id.MEMLIMIT_MIN)

    def test_passphrase(self) -> None:
        """A key under a passphrase is the same with it, and none without."""
        self.cheap()
        key, made = load_or_make(self.path, "open sesame")
        self.assertTrue(made)
        text = self.path.read_text()
        self.assertNotIn(key.to_text(), text)
        self.assertNotIn("sesame", text)
        again, made = load_or_make(self.path, "open sesame")
        self.assertEqual((again.to_text(), made), (key.to_text(), False))
        asked, _ = load_or_make(self.path, ask=lambda: "open sesame")
        self.assertEqual(asked.to_text(), key.to_text())
        self.assertEqual(self.path.read_text(), text)
        self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o600)
        self.assertIn("WS_KEY_PASSPHRASE", self.refused())
        for wrong in ("open barley", "\u00e4"):
            error = self.assertRaises(KeyringError, load_or_make, self.path, wrong)
            self.assertIn("another passphrase", str(error))
            self.assertNotIn(wrong, str(error))

    def test_passphrase_later(self) -> None:
        """A key that was under none is under it from then on; nobody is asked for what is open."""
        self.cheap()
        asked: list[str] = []
        key, _ = load_or_make(self.path, ask=asked.pop)
        load_or_make(self.path, ask=asked.pop)
        same, made = load_or_make(self.path, "open sesame")
        self.assertEqual((same.to_text(), made), (key.to_text(), False))
        self.assertNotIn(key.to_text(), self.path.read_text())
        self.assertEqual(load_or_make(self.path, "open sesame")[0].to_text(), key.to_text())
        self.assertEqual(self.files(), ["alice.key"])

    def test_passphrase_damaged(self) -> None:
        """What is no file of ours is said to be none, and left alone."""
        self.cheap()
        load_or_make(self.path, "open sesame")
        word, operations, memory, salt, box = self.path.read_text().split()
        for fields in (
            (word,),
            (word, operations, memory, salt),
            (word, operations, memory, salt[4:], box),
            (word, operations, memory, salt, ("B" if box[0] == "A" else "A") + box[1:]),
            (word, operations, memory, salt, ""),
            (word, operations, "9" * 20, salt, box),
            (word, "-1", memory, salt, box),
            (word, "x", memory, salt, box),
        ):
            text = " ".join(fields)
            self.path.write_text(text)
            error = self.assertRaises(KeyringError, load_or_make, self.path, "open sesame")
            self.assertNotIn("\n", str(error))
            self.assertEqual(self.path.read_text(), text)

    def test_passphrase_costs(self) -> None:
        """A file whose costs nobody would choose is refused, and not computed for years."""
        self.cheap()
        load_or_make(self.path, "open sesame")
        kind, operations, memory, *rest = self.path.read_text().split()
        for costs in (("4294967295", memory), (operations, "4398046510080"), ("-1", memory)):
            self.path.write_text(" ".join((kind, *costs, *rest)))
            self.assertRaises(KeyringError, load_or_make, self.path, "open sesame")

    def test_by_hand(self) -> None:
        """The file is argon2id and a secret box, with what is needed to open it."""
        self.cheap()
        key, _ = load_or_make(self.path, "open sesame")
        _, operations, memory, salt, box = self.path.read_text().split()
        costs = int(operations), int(memory), crypto_pwhash_ALG_ARGON2ID13
        derived = crypto_pwhash_alg(32, b"open sesame", base64.b64decode(salt), *costs)
        data = base64.b64decode(box)
        opened = crypto_secretbox_open(data[24:], data[:24], derived)
        self.assertEqual(opened.decode(), key.to_text() + "\n")

    def test_dangling_link(self) -> None:
        """A link to nowhere is an error, not an endless search."""
        self.path.parent.mkdir(parents=True)
        self.path.symlink_to("nowhere")
        self.assertIn("No such file", self.refused())


class ReplacementTests(SynchronousTestCase):
    """Another key for a file."""

    def setUp(self) -> None:
        self.path = Path(self.mktemp()) / "keys" / "alice.key"
        self.old, _ = load_or_make(self.path)
        self.new = PrivateKey.generate((self.old,))

    def present(self) -> str:
        return load_or_make(self.path)[0].public_key

    def files(self) -> list[str]:
        return sorted(entry.name for entry in self.path.parent.iterdir())

    def test_done(self) -> None:
        """It waits beside the file; then it is the key, and the old one is still there to open."""
        replacement = Replacement(self.path, self.new)
        self.assertEqual(self.files(), ["alice.key", "alice.key.new"])
        self.assertEqual(self.present(), self.old.public_key)
        replacement.done()
        self.assertEqual(self.files(), ["alice.key"])
        self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o600)
        found, made = load_or_make(self.path)
        self.assertEqual((found.to_text(), made), (self.new.to_text(), False))
        self.assertEqual([key.to_text() for key in found.former], [self.old.to_text()])
        sealed = identity.seal("of old", self.old.x25519_public_key)
        self.assertEqual(found.open(sealed), "of old")
        self.assertRaises(
            identity.Unsealable, self.old.open, identity.seal("x", found.x25519_public_key)
        )

    def test_void(self) -> None:
        """What the server does not take is gone."""
        Replacement(self.path, self.new).void()
        self.assertEqual(self.files(), ["alice.key"])
        self.assertEqual(self.present(), self.old.public_key)

    def test_interrupted(self) -> None:
        """A key that waits for the same is the one: the server may have it, or get it yet."""
        Replacement(self.path, self.new)
        again = Replacement(self.path, PrivateKey.generate((self.old,)))
        self.assertEqual(again.key.to_text(), self.new.to_text())
        again.void()
        self.assertEqual(self.files(), ["alice.key", "alice.key.new"])
        again.done()
        self.assertEqual((self.present(), self.files()), (self.new.public_key, ["alice.key"]))

    def test_another_waits(self) -> None:
        """One that was to replace another key is not written over, and a person has to look."""
        Replacement(self.path, self.new)
        error = self.assertRaises(KeyringError, Replacement, self.path, PrivateKey.generate())
        self.assertIn("alice.key.new", str(error))
        self.assertNotIn(self.new.to_text(), str(error))
        waiting = self.path.with_name("alice.key.new")
        self.assertEqual(load_or_make(waiting)[0].to_text(), self.new.to_text())

    def test_gone(self) -> None:
        """What the server has taken is the key, whoever has taken away what waited."""
        one, other = (Replacement(self.path, self.new) for _ in range(2))
        one.done()
        other.done()
        self.assertEqual((self.present(), self.files()), (self.new.public_key, ["alice.key"]))

    def test_passphrase(self) -> None:
        """Under a passphrase is all of it."""
        self.patch(argon2id, "OPSLIMIT_MODERATE", argon2id.OPSLIMIT_MIN)
        self.patch(argon2id, "MEMLIMIT_MODERATE", argon2id.MEMLIMIT_MIN)
        Replacement(self.path, self.new, "open sesame").done()
        text = self.path.read_text()
        for key in (self.old, self.new):
            self.assertNotIn(key.to_text(), text)
        found, _ = load_or_make(self.path, "open sesame")
        self.assertEqual([key.to_text() for key in found.former], [self.old.to_text()])

    def test_passphrase_unknown(self) -> None:
        """A file under a passphrase is not replaced by one that is under none."""
        self.patch(argon2id, "OPSLIMIT_MODERATE", argon2id.OPSLIMIT_MIN)
        self.patch(argon2id, "MEMLIMIT_MODERATE", argon2id.MEMLIMIT_MIN)
        load_or_make(self.path, "open sesame")
        error = self.assertRaises(KeyringError, Replacement, self.path, self.new)
        self.assertIn("passphrase", str(error))
        self.assertEqual(self.files(), ["alice.key"])

    def test_two_at_once(self) -> None:
        """Of two programs that replace a key at once, one does: neither loses what is taken."""
        waiting = self.path.with_name("alice.key.new")
        fsync = os.fsync

        def meanwhile(descriptor: int) -> None:
            fsync(descriptor)
            waiting.write_text(self.new.to_text())

        self.patch(os, "fsync", meanwhile)
        other = PrivateKey.generate((self.old,))
        self.assertRaises(KeyringError, Replacement, self.path, other)
        self.assertEqual(load_or_make(waiting)[0].to_text(), self.new.to_text())

    def test_trouble(self) -> None:
        """What the system does not let happen is said in a line."""
        replacement = Replacement(self.path, self.new)
        self.path.with_name("alice.key.new").unlink()
        self.assertIn("No such file", str(self.assertRaises(KeyringError, replacement.void)))
        self.path.unlink()
        self.path.mkdir()
        self.assertIn("directory", str(self.assertRaises(KeyringError, replacement.done)))
        nowhere = self.path / "nowhere" / "alice.key"
        self.assertRaises(KeyringError, Replacement, nowhere, self.new)
