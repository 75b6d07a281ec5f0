"""A program in a pseudo-terminal, and what a person would see in it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import signal
import struct
import termios
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import pyte
from twisted.internet import defer
from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from scripts.processes import PATIENCE, PROGRAMS, Missing

_INHERITED: Final = ("PATH", "COVERAGE_PROCESS_CONFIG", "COVERAGE_FILE")

KEYS: Final = {
    "enter": b"\r",
    "tab": b"\t",
    "page up": b"\x1b[5~",
    "page down": b"\x1b[6~",
    "end": b"\x1b[F",
    "ctrl-c": b"\x03",
    "ctrl-u": b"\x15",
    "ctrl-z": b"\x1a",
}


class PseudoTerminal(ProcessProtocol):
    """A terminal of any size, with a program in it."""

    transport: Any

    def __init__(self, reactor: Any, columns: int, rows: int) -> None:
        self._reactor = reactor
        self._screen = pyte.Screen(columns, rows)
        self._stream = pyte.ByteStream(self._screen)
        self._waiting: list[tuple[Callable[[], bool], Deferred[None]]] = []
        self._master = -1
        self.status: int | None = None
        #: All that was written, escapes included.
        self.written = bytearray()

    @classmethod
    def start(
        cls,
        reactor: Any,
        command: Sequence[str],
        environ: Mapping[str, str],
        columns: int,
        rows: int,
    ) -> PseudoTerminal:
        """Run a program of this environment, with nothing but `environ` and the path."""
        terminal = cls(reactor, columns, rows)
        master, slave = pty.openpty()
        terminal._master = master
        terminal._set_size(columns, rows)
        program = str(PROGRAMS / command[0])
        inherited = {key: os.environ[key] for key in _INHERITED if key in os.environ}
        reactor.spawnProcess(
            terminal,
            program,
            [program, *command[1:]],
            env={**inherited, "TERM": "xterm-256color", **environ},
            usePTY=(master, slave, os.ttyname(slave)),
        )
        return terminal

    def _set_size(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def resize(self, columns: int, rows: int) -> None:
        """Make the window another size; the program is told by the system."""
        self._screen.resize(rows, columns)
        self._set_size(columns, rows)

    # What is seen.

    @property
    def lines(self) -> list[str]:
        """The rows, without the space at their ends."""
        return [line.rstrip() for line in self._screen.display]

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    def styles(self, text: str) -> set[tuple[str, str]]:
        """Foreground and background of the characters of a text that is seen."""
        for row, line in enumerate(self._screen.display):
            column = line.find(text)
            if column >= 0:
                cells = [self._screen.buffer[row][column + at] for at in range(len(text))]
                return {(cell.fg, cell.bg) for cell in cells}
        raise Missing(f"not seen: {text}")

    async def until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait until what is seen is so.  Raises `Missing`, with what was seen instead."""
        deferred: Deferred[None] = Deferred()
        self._waiting.append((condition, deferred))
        self._tell()
        try:
            await deferred.addTimeout(PATIENCE, self._reactor)
        except (defer.TimeoutError, Missing) as error:
            raise Missing(f"never seen: {what} ({error})\n{self.text}") from None

    async def sees(self, text: str) -> None:
        """Wait for a text."""
        await self.until(lambda: text in self.text, text)

    async def sees_no(self, text: str) -> None:
        """Wait until a text is gone."""
        await self.until(lambda: text not in self.text, f"anything but {text}")

    def _tell(self) -> None:
        for waiting in [waiting for waiting in self._waiting if waiting[0]()]:
            self._waiting.remove(waiting)
            waiting[1].callback(None)

    # What is typed.

    def types(self, text: str) -> None:
        self.transport.write(text.encode())

    def enters(self, line: str) -> None:
        """Type a line, and the end of it."""
        self.types(line + "\r")

    def presses(self, key: str) -> None:
        self.transport.write(KEYS[key])

    def signal(self, name: str) -> None:
        """Send a signal, unless the process is gone."""
        if self.status is None:
            with contextlib.suppress(ProcessExitedAlready):
                self.transport.signalProcess(signal.Signals[f"SIG{name}"])

    def hang_up(self) -> None:
        """Take the terminal away."""
        self.transport.loseConnection()

    async def wait(self) -> int:
        """Wait for the end; the exit status, negative for the signal that ended it."""
        if self.status is None:
            await self.until(lambda: self.status is not None, "the end")
        assert self.status is not None  # noqa: S101  # that was waited for
        return self.status

    async def end(self) -> None:
        """End it, whatever it does."""
        self.signal("KILL")
        await self.wait()

    # What the process tells.

    def outReceived(self, data: bytes) -> None:
        self.written += data
        self._stream.feed(data)
        self._tell()

    def processEnded(self, reason: Failure) -> None:
        value: Any = reason.value
        self.status = -value.signal if value.exitCode is None else value.exitCode
        self._tell()
        waiting, self._waiting = self._waiting, []
        for _, deferred in waiting:
            deferred.errback(Missing(f"it ended with {self.status}"))
