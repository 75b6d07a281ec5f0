"""Tests of `wschat.systemd`."""

from __future__ import annotations

import socket
import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from wschat.systemd import READY, Notifier


class NotifierTests(SynchronousTestCase):
    """Told over a real socket."""

    def manager(self, address: str) -> socket.socket:
        manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(manager.close)
        manager.bind(address)
        manager.settimeout(5)
        return manager

    def path(self) -> str:
        """A path that is short enough for a socket."""
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        return str(Path(directory.name) / "notify")

    def test_path(self) -> None:
        """Whoever listens at the path hears it."""
        path = self.path()
        manager = self.manager(path)
        Notifier({"NOTIFY_SOCKET": path}).tell(READY)
        self.assertEqual(manager.recv(100), b"READY=1")

    def test_abstract(self) -> None:
        """An address with an @ is one without a file."""
        name = self.path()
        manager = self.manager("\0" + name)
        Notifier({"NOTIFY_SOCKET": "@" + name}).tell("STOPPING=1")
        self.assertEqual(manager.recv(100), b"STOPPING=1")

    def test_nobody(self) -> None:
        """Without a manager, or with one that is gone or does not read, nothing happens."""
        path = self.path()
        for environ in ({}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": path}):
            Notifier(environ).tell(READY)
        manager = self.manager(path)
        notifier = Notifier({"NOTIFY_SOCKET": path})
        for _ in range(1000):  # more than a socket holds
            notifier.tell(READY)
        self.assertEqual(manager.recv(100), b"READY=1")

    def test_watched(self) -> None:
        """It is watched when the manager says so."""
        self.assertFalse(Notifier({}).watched)
        self.assertTrue(Notifier({"WATCHDOG_USEC": "30000000"}).watched)
