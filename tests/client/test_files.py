"""Tests of `wschat.client.files`: a user's own files."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from wschat.client.files import locked, make_directory, writable, write_atomically


class FilesTests(SynchronousTestCase):
    """Files that are replaced."""

    def setUp(self) -> None:
        self.path = Path(self.mktemp()).absolute() / "one" / "two" / "file"

    def write(self, text: str) -> None:
        write_atomically(self.path, text)

    def names(self) -> list[str]:
        return sorted(path.name for path in self.path.parent.iterdir())

    def test_directory(self) -> None:
        """Each directory on the way is for its owner alone; one that is there stays as it is."""
        first = self.path.parent.parent
        first.parent.mkdir(mode=0o755)
        self.addCleanup(os.umask, os.umask(0))
        for _ in range(2):
            make_directory(self.path.parent)
        modes = [stat.S_IMODE(path.stat().st_mode) for path in (self.path.parent, first)]
        self.assertEqual(modes, [0o700, 0o700])
        self.assertEqual(stat.S_IMODE(first.parent.stat().st_mode) & 0o700, 0o700)

    def test_replaced(self) -> None:
        """The text is another, nobody else reads it, and nothing is left beside it."""
        make_directory(self.path.parent)
        for text in ("one", "another"):
            self.write(text)
            self.assertEqual(self.path.read_text(), text)
        self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o600)
        self.assertEqual(self.names(), ["file"])

    def test_link(self) -> None:
        """A file that is a link stays one."""
        make_directory(self.path.parent)
        elsewhere = self.path.parent.parent / "elsewhere"
        self.path.symlink_to(elsewhere)
        self.write("text")
        self.assertTrue(self.path.is_symlink())
        self.assertEqual((elsewhere.read_text(), self.names()), ("text", ["file"]))

    def test_not_replaced(self) -> None:
        """What cannot take the place of another leaves nothing."""
        self.path.mkdir(parents=True)
        self.assertRaises(OSError, self.write, "text")
        self.assertEqual(self.names(), ["file"])

    def test_writable(self) -> None:
        """A file can be made where its directory can be; not below what is none."""
        self.assertTrue(writable(self.path))
        make_directory(self.path.parent)
        self.write("text")
        self.assertTrue(writable(self.path))
        self.assertFalse(writable(self.path / "below"))

    def test_locked(self) -> None:
        """One program at a time: the lock is beside the file, which may be another meanwhile."""
        with locked(self.path):
            self.write("text")
        with locked(self.path):
            self.assertEqual(self.names(), [".file.lock", "file"])
