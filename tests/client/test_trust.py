"""Tests of `wschat.client.trust`: what is pinned, and where it is kept."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path
from unittest import skipIf

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from wschat.client import trust
from wschat.client.trust import Former, Keys, KnownUsers, Pin, TrustError, fingerprint
from wschat.identity import PrivateKey


def keys(key: PrivateKey | None = None) -> Keys:
    key = key or PrivateKey.generate()
    return Keys(key.public_key, key.x25519_public_key)


ALICE, BOB = keys(PrivateKey(bytes(32))), keys(PrivateKey(bytes(range(32))))


class FingerprintTests(SynchronousTestCase):
    """The code that two people compare."""

    def test_vector(self) -> None:
        """Thirty digits in six groups, of the SHA-512 over both names and all four keys."""
        code = fingerprint("alice", ALICE, "bob", BOB)
        self.assertRegex(code, r"\A\d{5}( \d{5}){5}\Z")
        self.assertEqual(code, "94302 89838 66424 67264 75156 83956")

    def test_both_sides(self) -> None:
        """Both read the same."""
        one = fingerprint("alice", ALICE, "bob", BOB)
        self.assertEqual(one, fingerprint("bob", BOB, "alice", ALICE))

    def test_different(self) -> None:
        """Another key of either, another name, or no second key: it is another code."""
        codes = {
            fingerprint("alice", ALICE, "bob", BOB),
            fingerprint("alice", BOB, "bob", ALICE),
            fingerprint("alice", ALICE, "bobby", BOB),
            fingerprint("alice", ALICE, "bob", keys()),
            fingerprint("alice", keys(), "bob", BOB),
            fingerprint("alice", ALICE, "bob", Keys(BOB.public_key)),
            fingerprint("alice", ALICE, "bob", Keys(BOB.public_key, ALICE.x25519_public_key)),
        }
        self.assertEqual(len(codes), 7)


class KnownUsersTests(SynchronousTestCase):
    """A file of pins."""

    def setUp(self) -> None:
        self.path = Path(self.mktemp()).absolute() / "wschat" / "known_users"
        self.known = KnownUsers("chat.example:443", self.path)

    def pin(self, user_id: str = "bob", pin: Pin | None = None) -> Pin:
        """Pin a user's keys, unless some are."""
        return self.known.update(user_id, lambda found: found or pin or Pin(BOB))

    def test_first(self) -> None:
        """Nobody is pinned at first; then the first keys stay, in another program as well."""
        self.assertIsNone(self.known.pin("bob"))
        self.assertEqual(self.pin(), Pin(BOB))
        self.assertEqual(self.pin(pin=Pin(ALICE)), Pin(BOB))
        other = KnownUsers("chat.example:443", self.path)
        self.assertEqual((other.pin("bob"), other.pin("alice")), (Pin(BOB), None))

    def test_all_of_it(self) -> None:
        """Everything of a pin is kept."""
        former = (Former(ALICE.public_key, 1.5), Former(BOB.public_key, 1785000000.25))
        for number, pin in enumerate(
            (Pin(BOB), Pin(Keys("k")), Pin(BOB, True), Pin(ALICE, True, former))
        ):
            self.pin(f"u{number}", pin)
            other = KnownUsers("chat.example:443", self.path)
            self.assertEqual(other.pin(f"u{number}"), pin)

    def test_servers(self) -> None:
        """The same name on another server is somebody else."""
        self.pin()
        other = KnownUsers("chat.example:8443", self.path)
        self.assertIsNone(other.pin("bob"))
        other.update("bob", lambda _: Pin(ALICE))
        self.assertEqual(self.known.pin("bob"), Pin(BOB))

    def test_format(self) -> None:
        """A line a user, as docs/clients.md says."""
        self.pin(pin=Pin(BOB, True, (Former(ALICE.public_key, 1.5),)))
        self.pin("charlie", Pin(Keys(ALICE.public_key)))
        comment, bob, charlie = self.path.read_text().splitlines()
        self.assertTrue(comment.startswith("# "))
        held = f"{BOB.public_key} {BOB.x25519_public_key} envelopes {ALICE.public_key}@1.5"
        self.assertEqual(bob, f"chat.example:443 bob {held}")
        self.assertEqual(charlie, f"chat.example:443 charlie {ALICE.public_key} - -")

    def test_modes(self) -> None:
        """Nobody else reads whom somebody knows."""
        self.pin()
        self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o600)
        self.assertEqual(stat.S_IMODE(self.path.parent.stat().st_mode), 0o700)
        self.assertEqual(
            sorted(path.name for path in self.path.parent.iterdir()),
            [".known_users.lock", "known_users"],
        )

    def test_edited(self) -> None:
        """What a person wrote into the file stays there, and counts at once."""
        self.pin()
        text = self.path.read_text() + f"\n# mine\nother lines\n{'x' * 10}\n"
        self.path.write_text(text + f"chat.example:443 charlie {ALICE.public_key} - -\n")
        self.assertEqual(self.known.pin("charlie"), Pin(Keys(ALICE.public_key)))
        self.pin("david")
        self.assertTrue(self.path.read_text().startswith(text))
        self.path.write_text("")
        self.assertIsNone(self.known.pin("bob"))

    def test_damaged(self) -> None:
        """A damaged line pins no keys that anybody has: it is not as if there were none."""
        for line in ("bob", "bob ?", "bob \udcff\udcfe -", "bob k x y z", f"bob {'A' * 9} - -"):
            text = f"chat.example:443 {line}\n".encode("utf-8", "surrogateescape")
            self.path.parent.mkdir(exist_ok=True, parents=True)
            self.path.write_bytes(text)
            pin = KnownUsers("chat.example:443", self.path).pin("bob")
            assert pin is not None
            self.assertNotIn(pin.keys.public_key, (ALICE.public_key, BOB.public_key))
            self.pin("charlie")
            self.assertTrue(self.path.read_bytes().startswith(text))

    def test_two_programs(self) -> None:
        """Two that pin at once lose nothing, and agree on who was first."""
        programs = [KnownUsers("chat.example:443", self.path) for _ in range(4)]
        made: list[list[Pin]] = [[] for _ in programs]

        def work(number: int) -> None:
            mine = Pin(Keys(f"{number}"))
            for step in range(20):
                made[number].append(programs[number].update(f"u{step}", lambda p: p or mine))

        threads = [threading.Thread(target=work, args=(n,)) for n in range(len(programs))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(made, [made[0]] * len(programs))
        self.assertEqual([self.known.pin(f"u{step}") for step in range(20)], made[0])

    def test_memory(self) -> None:
        """Without a file they are remembered as long as the program runs."""
        known = KnownUsers("chat.example:443")
        known.update("bob", lambda _: Pin(BOB))
        self.assertEqual(known.pin("bob"), Pin(BOB))
        self.assertIsNone(KnownUsers("chat.example:443").pin("bob"))

    def test_not_written(self) -> None:
        """What cannot be written now is remembered, and written with what can be."""
        self.pin("charlie")

        def refuse(path: Path, text: str) -> None:
            raise OSError(28, "No space left on device")

        full = self.patch(trust, "write_atomically", refuse)
        self.pin()
        self.assertEqual((self.known.pin("bob"), self.known.pin("charlie")), (Pin(BOB),) * 2)
        self.assertIsNone(KnownUsers("chat.example:443", self.path).pin("bob"))
        full.restore()
        self.pin("david")
        for user_id in ("bob", "charlie", "david"):
            pin = KnownUsers("chat.example:443", self.path).pin(user_id)
            self.assertEqual(pin, Pin(BOB))

    def test_killed(self) -> None:
        """A write that fails half-way leaves the file as it was, and nothing beside it."""
        self.pin()
        before = self.path.read_text()

        def fail(descriptor: int) -> None:
            raise OSError(5, "Input/output error")

        failing = self.patch(os, "fsync", fail)
        self.pin("charlie")
        failing.restore()
        self.assertEqual(self.path.read_text(), before)
        self.assertEqual(len(list(self.path.parent.iterdir())), 2)

    @skipIf(os.geteuid() == 0, "root reads everything")
    def test_forbidden(self) -> None:
        """A file that must not be read is no reason to trust everybody anew."""
        self.pin()
        self.path.chmod(0)
        known = KnownUsers("chat.example:443", self.path)
        error = self.assertRaises(TrustError, known.pin, "bob")
        self.assertIn(str(self.path), str(error))

    def test_directory(self) -> None:
        """The same where there is something else than a file."""
        self.path.mkdir(parents=True)
        self.assertRaises(TrustError, self.known.pin, "bob")
        self.assertRaises(TrustError, self.pin)


class LineTests(SynchronousTestCase):
    """Whatever is in a file."""

    @given(st.binary())
    def test_anything(self, content: bytes) -> None:
        """Any file can be read, and what is pinned after it is."""
        path = Path(self.mktemp())
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        known = KnownUsers("s", path)
        known.pin("bob")
        known.update("bob", lambda _: Pin(BOB))
        self.assertEqual(KnownUsers("s", path).pin("bob"), Pin(BOB))
