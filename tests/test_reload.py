"""Tests of `wschat.reload`."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import cast

from twisted.internet.task import Clock
from twisted.logger import ILogObserver, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from wschat.reload import Reload, follow


class ReloadTests(SynchronousTestCase):
    """When files are read, and what is said."""

    def setUp(self) -> None:
        self.one, self.two = Path(self.mktemp()), Path(self.mktemp())
        self.put(self.one, "1")
        self.put(self.two, "2")
        self.loads = 0
        self.error: Exception | None = None
        self.said: list[str] = []
        observer = cast(ILogObserver, self.hear)
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        self.reload = Reload("certificate", lambda: (self.one, self.two), self.load)

    def hear(self, event: dict[str, object]) -> None:
        if event.get("log_namespace") == "wschat.reload":
            self.said.append(str(event["log_format"]).format(**event))

    def load(self) -> None:
        self.loads += 1
        if self.error is not None:
            raise self.error

    def put(self, path: Path, text: str) -> None:
        """Replace a file, as those do who replace certificates."""
        new = path.with_suffix(".new")
        new.write_text(text)
        os.replace(new, path)

    def look(self, times: int = 2) -> None:
        for _ in range(times):
            self.reload.look()

    def test_unchanged(self) -> None:
        """Files that are as they were are not read."""
        self.look(5)
        self.assertEqual((self.loads, self.said), (0, []))

    def test_changed(self) -> None:
        """A file that was replaced is read, once; of the same length and time as well."""
        times = self.one.stat()
        self.put(self.one, "3")
        os.utime(self.one, ns=(times.st_atime_ns, times.st_mtime_ns))
        self.look(5)
        self.assertEqual((self.loads, self.said), (1, ["--certificate: read again"]))

    def test_written_over(self) -> None:
        """So is one that was written over."""
        self.two.write_text("longer")
        self.look()
        self.assertEqual(self.loads, 1)

    def test_settled(self) -> None:
        """While files still change nothing is read: the second may have to fit the first."""
        self.put(self.one, "3")
        self.look(1)
        self.put(self.two, "4")
        self.look(1)
        self.assertEqual(self.loads, 0)
        self.look(1)
        self.assertEqual(self.loads, 1)

    def test_broken(self) -> None:
        """What cannot be read is one line, once, and is tried again when it changes."""
        self.error = ValueError("not a\n  PEM file")
        self.put(self.one, "junk")
        self.look(5)
        self.assertEqual(self.said, ["--certificate is as it was: not a PEM file"])
        self.error = None
        self.put(self.one, "good again")
        self.look(5)
        self.assertEqual((self.loads, self.said[1:]), (2, ["--certificate: read again"]))

    def test_gone(self) -> None:
        """A file that is gone is a change; that it is gone is for whoever reads it to say."""
        self.error = FileNotFoundError(2, "No such file", "chain.pem")
        self.one.unlink()
        self.look(5)
        self.assertEqual(self.loads, 1)
        self.assertIn("chain.pem", self.said[0])

    def test_at_once(self) -> None:
        """Whoever asks for it has the files read now, changed or not, and not again for it."""
        self.reload.load()
        self.put(self.one, "3")
        self.reload.load()
        self.look(5)
        self.assertEqual(self.loads, 2)


class _Reactor(Clock):
    """Time in memory, and one thread."""

    def __init__(self) -> None:
        super().__init__()
        self.stopped = False

    def callFromThread(self, call: Callable[[], object]) -> None:
        call()

    def stop(self) -> None:
        self.stopped = True


class FollowTests(SynchronousTestCase):
    """When files are looked at, and when they are loaded without a look."""

    def setUp(self) -> None:
        self.addCleanup(signal.signal, signal.SIGHUP, signal.getsignal(signal.SIGHUP))
        self.file = Path(self.mktemp())
        self.file.write_text("1")
        self.terminal = False
        self.patch(os, "isatty", lambda number: self.terminal)
        self.loads = self.looks = 0
        self.reactor = _Reactor()

    def follow(self) -> Callable[[], None]:
        return follow(self.reactor, [Reload("file", lambda: (self.file,), self.load)], self.looked)

    def load(self) -> None:
        self.loads += 1

    def looked(self) -> None:
        self.looks += 1

    def test_looks(self) -> None:
        """It looks each second until its end, and says so each time."""
        end = self.follow()
        self.file.write_text("another")
        self.reactor.pump([1.0] * 5)
        self.assertEqual((self.loads, self.looks), (1, 5))
        end()
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_hang_up(self) -> None:
        """SIGHUP loads the files as they are; after the end it is whose it was."""
        before = signal.getsignal(signal.SIGHUP)
        end = self.follow()
        os.kill(os.getpid(), signal.SIGHUP)
        self.assertEqual((self.loads, self.looks), (1, 0))
        end()
        self.assertEqual(signal.getsignal(signal.SIGHUP), before)

    def test_terminal_gone(self) -> None:
        """SIGHUP of a terminal that is gone ends the server."""
        self.terminal = True
        self.addCleanup(self.follow())
        self.terminal = False
        os.kill(os.getpid(), signal.SIGHUP)
        self.assertEqual((self.loads, self.reactor.stopped), (0, True))
