"""Files that are read again when they change, and what is said of those that are broken."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from twisted.internet.task import LoopingCall
from twisted.logger import Logger

#: How often files are looked at that may have changed, in seconds.
_LOOK_INTERVAL: Final = 1.0

#: What tells one state of a file from another: when, how large, and which file it is.
_Signature = tuple[tuple[int, int, int] | None, ...]

log = Logger(namespace="wschat.reload")


class Reload:
    """
    Some files that belong together, read anew when any of them has changed.

    Whoever replaces two files replaces one first, so a change is acted on when
    it has been the same for two looks.
    """

    def __init__(
        self, option: str, paths: Callable[[], Sequence[Path]], load: Callable[[], object]
    ) -> None:
        """`load` reads them, and leaves all as it was when it raises."""
        self._option = option
        self._paths = paths
        self._load = load
        self._loaded = self._seen = self._signature()

    def look(self) -> None:
        """Load the files if they have changed, and change no more."""
        signature = self._signature()
        settled, self._seen = signature == self._seen, signature
        if settled and signature != self._loaded:
            self.load()

    def load(self) -> None:
        """Load the files now; what is wrong with them is one line in the log."""
        self._loaded = self._seen = self._signature()
        try:
            self._load()
        except Exception as error:  # of files, keys and texts: each a family of theirs
            text = " ".join(str(error).split()) or type(error).__name__
            log.error("--{option} is as it was: {text}", option=self._option, text=text)
        else:
            log.info("--{option}: read again", option=self._option)

    def _signature(self) -> _Signature:
        return tuple(_state(path) for path in self._paths())


def _state(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def follow(reactor: Any, files: Sequence[Reload], looked: Callable[[], None]) -> Callable[[], None]:
    """
    Look at files every second, and load them all on SIGHUP, until the answer is called.

    `looked` is called after each look.
    """

    def look() -> None:
        for file in files:
            file.look()
        looked()

    looking = LoopingCall(look)
    looking.clock = reactor
    looking.start(_LOOK_INTERVAL, now=False)

    on_terminal = os.isatty(0)

    def hang_up(number: int, frame: object) -> None:
        if on_terminal and not os.isatty(0):  # it is gone, and that is what this says
            reactor.callFromThread(reactor.stop)
            return
        for file in files:
            reactor.callFromThread(file.load)

    before = signal.signal(signal.SIGHUP, hang_up)

    def end() -> None:
        signal.signal(signal.SIGHUP, before)
        looking.stop()

    return end
