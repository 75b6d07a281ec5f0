"""Real processes, whose lines can be waited for: what the demo and the end-to-end tests run."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from twisted.internet import defer
from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

#: Where the programs of this environment are.
PROGRAMS: Final = Path(sys.executable).parent

#: How long a line may take to come, in seconds.
PATIENCE: Final = 30.0

_INHERITED: Final = ("PATH", "COVERAGE_PROCESS_CONFIG", "COVERAGE_FILE")

_LISTENING: Final = re.compile(r"listening on (https?)://\S*:(\d+)\b")


class Missing(AssertionError):
    """A line did not come; the message says which, and what came instead."""


class Process(ProcessProtocol):
    """A program that runs: its lines so far, and those to come."""

    transport: Any

    def __init__(
        self, name: str, on_line: Callable[[str, str], None] = lambda name, line: None
    ) -> None:
        self.name = name
        self.lines: list[str] = []
        self._ended: list[Deferred[int]] = []
        self._on_line = on_line
        self._rest = {1: b"", 2: b""}
        self._waiting: list[tuple[Callable[[str], bool], Deferred[str]]] = []
        self._status: int | None = None

    @classmethod
    def start(
        cls,
        reactor: Any,
        name: str,
        command: Sequence[str],
        environ: Mapping[str, str],
        on_line: Callable[[str, str], None] = lambda name, line: None,
    ) -> Process:
        """Run a program of this environment, with nothing but `environ` and the path."""
        process = cls(name, on_line)
        program = str(PROGRAMS / command[0])
        inherited = {key: os.environ[key] for key in _INHERITED if key in os.environ}
        reactor.spawnProcess(
            process, program, [program, *command[1:]], env={**inherited, **environ}
        )
        return process

    def outReceived(self, data: bytes) -> None:
        self._received(1, data)

    def errReceived(self, data: bytes) -> None:
        self._received(2, data)

    def _received(self, stream: int, data: bytes) -> None:
        *lines, self._rest[stream] = (self._rest[stream] + data).split(b"\n")
        for line in lines:
            self._line(line.decode("utf-8", "replace"))

    def _line(self, line: str) -> None:
        self.lines.append(line)
        self._on_line(self.name, line)
        for waiting in [w for w in self._waiting if w[0](line)]:
            self._waiting.remove(waiting)
            waiting[1].callback(line)

    def processEnded(self, reason: Failure) -> None:
        for rest in filter(None, self._rest.values()):  # a last line without its end
            self._line(rest.decode("utf-8", "replace"))
        value: Any = reason.value
        status: int = -value.signal if value.exitCode is None else value.exitCode
        self._status = status
        waiting, self._waiting = self._waiting, []
        for _, deferred in waiting:
            deferred.errback(Missing(f"{self.name} ended with {self._status}"))
        for ended in self._ended:
            ended.callback(status)

    async def sees(self, text: str, reactor: Any, patience: float = PATIENCE) -> str:
        """The first line, past or to come, that has `text` in it.  Raises `Missing`."""
        for line in self.lines:
            if text in line:
                return line
        return await self.will_see(text, reactor, patience)

    async def will_see(self, text: str, reactor: Any, patience: float = PATIENCE) -> str:
        """The next line that has `text` in it.  Raises `Missing`."""
        deferred: Deferred[str] = Deferred()
        if self._status is None:
            self._waiting.append((lambda line: text in line, deferred))
        else:
            deferred.errback(Missing(f"it had ended with {self._status}"))
        try:
            return await deferred.addTimeout(patience, reactor)
        except (defer.TimeoutError, Missing) as error:
            said = "\n    ".join(self.lines[-20:])
            why = str(error) if isinstance(error, Missing) else f"not within {patience:.0f} s"
            raise Missing(f"{self.name} never saw: {text}  ({why})\n    {said}") from None

    def says(self, line: str) -> None:
        """Type a line."""
        self.transport.write(line.encode() + b"\n")

    def end_of_input(self) -> None:
        self.transport.closeStdin()

    def signal(self, name: str) -> None:
        """Send a signal, unless the process is gone."""
        with contextlib.suppress(ProcessExitedAlready):
            self.transport.signalProcess(signal.Signals[f"SIG{name}"])

    async def end(self, signal: str = "TERM") -> int:
        """End the process; its exit status, negative for the signal that ended it."""
        self.signal(signal)
        return await self.wait()

    async def wait(self) -> int:
        """Wait for the end; the exit status, negative for the signal that ended it."""
        if self._status is None:
            ended: Deferred[int] = Deferred()
            self._ended.append(ended)
            return await ended
        return self._status


class Server:
    """A server that runs, in a data directory, on ports that the system chose."""

    def __init__(self, process: Process, data_dir: Path, tls_port: int, http_port: int) -> None:
        self.process = process
        self.data_dir = data_dir
        self.tls_port = tls_port
        self.http_port = http_port

    @classmethod
    async def start(
        cls,
        reactor: Any,
        data_dir: Path,
        *options: str,
        tls_port: int = 0,
        server_reactor: str = "default",
        program: Sequence[str] = ("twistd",),
        environ: Mapping[str, str] | None = None,
        on_line: Callable[[str, str], None] = lambda name, line: None,
    ) -> Server:
        """
        Start a server, and wait until it listens; one that does not is ended.

        `program` is what runs it in place of `twistd`.  Raises `Missing`.
        """
        command = [*program, "--nodaemon", "--pidfile=", f"--reactor={server_reactor}", "wschat"]
        command += [f"--data-dir={data_dir}", f"--listen=:{tls_port}", "--http=:0", *options]
        given = {"HOME": str(data_dir), "PYTHONUNBUFFERED": "1", **(environ or {})}
        process = Process.start(reactor, "server", command, given, on_line)
        ports = {}
        try:
            for scheme in ("https", "http"):
                line = await process.sees(f"listening on {scheme}://", reactor)
                match = _LISTENING.search(line)
                assert match is not None, line  # noqa: S101  # the server wrote it so
                ports[scheme] = int(match[2])
        except BaseException:
            await process.end("KILL")
            raise
        return cls(process, data_dir, ports["https"], ports["http"])

    @property
    def certificate(self) -> Path:
        return self.data_dir / "certificate.pem"

    def client_environ(self, user_id: str, username: str, home: Path) -> dict[str, str]:
        """What a client needs to be `user_id` on this server."""
        return {
            "HOME": str(home),
            "WS_SERVER_URL": f"https://localhost:{self.tls_port}",
            "WS_USER_ID": user_id,
            "WS_USERNAME": username,
            "SSL_CERT_FILE": str(self.certificate),
            "PYTHONUNBUFFERED": "1",
        }
