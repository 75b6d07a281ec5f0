"""The conductor: starts everybody, lets things fail, and judges."""

from __future__ import annotations

import argparse
import contextlib
import mmap
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import LoopingCall, deferLater, react

from scripts.chaos.journal import Reader
from scripts.chaos.proxy import Proxy
from scripts.chaos.server import OFFSET
from scripts.chaos.verdict import Verdict, judge
from scripts.processes import Missing, Process, Server

#: How long everything that was said may take to arrive when nothing fails any more, in seconds.
SETTLING: Final = 120.0

#: Seconds between two kills of the server, and between two other faults: from, to.
KILLS: Final = (6.0, 16.0)
FAULTS: Final = (0.5, 3.0)

#: How far the clock is set, in seconds.
CLOCKS: Final = (-7200.0, -60.0, 0.0, 600.0)

#: The size of the disk, in bytes, and by how much it is larger for each minute.
DISK: Final = (64 << 20, 96 << 20)

_INSIDE: Final = "CHAOS_INSIDE"

_MEGABYTE: Final = b"\0" * (1 << 20)


def say(text: str) -> None:
    """Tell what goes on."""
    print(f"[{time.strftime('%H:%M:%S')}] {text}", flush=True)


class Disk:
    """Where the database is: a small file system of its own, which can be full."""

    def __init__(self, path: Path, size: int) -> None:
        self.path = path
        self._filler = path / "filler"
        command = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "tmpfs", str(path)]
        self.small = (
            bool(os.environ.get(_INSIDE)) and subprocess.run(command, check=False).returncode == 0
        )
        if not self.small:
            say("NO FULL DISK IN THIS RUN: a file system of its own could not be mounted")

    def fill(self) -> None:
        """Leave no room at all."""
        with contextlib.suppress(OSError), self._filler.open("ab", buffering=0) as file:
            for block in (_MEGABYTE, _MEGABYTE[:4096]):
                with contextlib.suppress(OSError):
                    while True:
                        file.write(block)

    def free(self) -> None:
        """There is room again."""
        self._filler.unlink(missing_ok=True)

    def close(self) -> None:
        """Let go of it."""
        if self.small:
            self.small = False
            subprocess.run(["umount", "--lazy", str(self.path)], check=False)


class Conductor:
    """Runs the server and the clients, and what happens to them."""

    def __init__(self, reactor: Any, arguments: argparse.Namespace, directory: Path) -> None:
        self._reactor = reactor
        self._arguments = arguments
        self._directory = directory
        self._disk = Disk(directory / "disk", int(DISK[0] + DISK[1] * arguments.minutes))
        self._clock_file = directory / "clock"
        self._clock_file.write_bytes(OFFSET.pack(0.0))
        with self._clock_file.open("r+b") as file:
            self._clock = mmap.mmap(file.fileno(), OFFSET.size)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port: int = probe.getsockname()[1]
        self._proxy = Proxy(reactor, self._port)
        self._server: Server | None = None
        senders = [f"sender{number:02}" for number in range(arguments.clients)]
        receivers = [f"receiver{number:02}" for number in range(arguments.clients)]
        self._receivers = receivers
        self._people = dict.fromkeys(senders, arguments.rate) | dict.fromkeys(receivers, 0)
        self._clients: dict[str, Process] = {}
        self._readers = {n: Reader(directory / f"{n}.journal") for n in self._people}
        self._stopped: set[str] = set()  # who is held by SIGSTOP
        self._killing: set[str] = set()  # who is about to be started again
        self._faulting = True
        self._works: list[Deferred[None]] = []
        self.counts: Counter[str] = Counter()
        #: What a server or a client had no business saying.
        self.faults: list[str] = []

    # Starting.

    async def run(self) -> Verdict:
        """All of it."""
        self._listening = self._reactor.listenTCP(0, self._proxy, interface="127.0.0.1")
        await self._start_server()
        say(f"server up; starting {len(self._people)} clients")
        for name in self._people:
            self._start_client(name)
        await self._until(lambda: all(r.read().record.connected for r in self._readers.values()))
        (self._directory / "talk").touch()
        say("everybody is connected and talks; faults from now on")
        progress = LoopingCall(self._report)
        progress.clock = self._reactor
        progress.start(10, now=False)
        works = (self._kill_server_again_and_again(), self._fail_again_and_again())
        working = [Deferred.fromCoroutine(work) for work in works]
        await self._pause(60 * self._arguments.minutes)
        self._faulting = False
        await gatherResults(working)
        await gatherResults(self._works)
        await self._settle()
        progress.stop()
        verdict = self._judge()
        await self._stop()
        return verdict

    async def _start_server(self) -> None:
        arguments = self._arguments
        data_dir = self._disk.path / "data"
        while True:
            try:
                self._server = await Server.start(
                    self._reactor,
                    data_dir,
                    "--message-rate=12",
                    "--message-burst=30",
                    "--outbox-bytes=16KiB",
                    "--login-rate=1000000",
                    "--registration-rate=1000000",
                    "--max-sessions-per-user=100",
                    tls_port=self._port,
                    server_reactor=arguments.reactor,
                    program=("python", "-m", "scripts.chaos.server"),
                    environ={"CHAOS_CLOCK": str(self._clock_file)},
                    on_line=self._heard_server,
                )
            except Missing:
                self.counts["starts without room on the disk"] += 1
                self._disk.free()
            else:
                return

    def _heard_server(self, name: str, line: str) -> None:
        if any(sign in line for sign in ("Traceback", "#critical", "Unhandled")):
            self.faults.append(f"server: {line}")
        self.counts["slow readers closed"] += "reads too slowly" in line

    def _start_client(self, name: str) -> None:
        assert self._server is not None  # noqa: S101  # it is started first
        environ = self._server.client_environ(name, name, self._directory / "home")
        environ |= {
            "WS_SERVER_URL": f"https://localhost:{self._listening.getHost().port}",
            "WS_SESSION": "chaos",
            "CHAOS_DIRECTORY": str(self._directory),
            "CHAOS_RECIPIENTS": " ".join(self._receivers),
            "CHAOS_RATE": str(self._people[name]),
        }
        command = ["python", "-m", "scripts.chaos.client"]
        client = self._clients[name] = Process.start(self._reactor, name, command, environ)
        Deferred.fromCoroutine(self._watch(client))

    async def _watch(self, client: Process) -> None:
        """A client that ends although nobody killed it is a fault, and starts again."""
        status = await client.wait()
        if status != -signal.SIGKILL:
            self.faults += [f"{client.name} ended with {status}", *client.lines[-12:]]
            self._start_client(client.name)

    # Failing.

    async def _kill_server_again_and_again(self) -> None:
        while self._faulting:
            await self._pause(random.uniform(*KILLS))
            if self._faulting and self._server is not None:
                self.counts["server kills"] += 1
                await self._server.process.end("KILL")
                await self._start_server()

    async def _fail_again_and_again(self) -> None:
        faults: list[Callable[[], Awaitable[None]]] = [
            self._kill_client,
            self._kill_client,
            self._cut,
            self._cut,
            self._silence,
            self._stall,
            self._stop_reading,
            self._set_clock,
        ]
        if self._disk.small:
            faults.append(self._fill_disk)
        while self._faulting:
            await self._pause(random.uniform(*FAULTS))
            if self._faulting:
                fault = random.choice(faults)
                work = Deferred.fromCoroutine(_awaited(fault()))
                self._works.append(work)

    async def _kill_client(self) -> None:
        name = random.choice(list(self._people))
        if name in self._killing:
            return
        self.counts["client kills"] += 1
        self._killing.add(name)
        await self._clients[name].end("KILL")
        self._start_client(name)
        self._killing.discard(name)

    async def _cut(self) -> None:
        pair = self._proxy.any()
        if pair is not None:
            self.counts["connections cut"] += 1
            pair.cut()

    async def _silence(self) -> None:
        """The network drops everything, both ways or one way, and says nothing."""
        pair = self._proxy.any()
        if pair is not None:
            up, down = random.choice([(True, True), (True, False), (False, True)])
            self.counts[f"connections silent {'both ways' if up and down else 'one way'}"] += 1
            pair.lose(up=up, down=down)

    async def _stall(self) -> None:
        """The network holds back what is for a client."""
        pair = self._proxy.any()
        if pair is not None:
            self.counts["connections stalled"] += 1
            pair.stall()
            await self._pause(random.uniform(2, 10))
            pair.flow()

    async def _stop_reading(self) -> None:
        """A client reads nothing for a while."""
        name = random.choice(self._receivers)
        client = self._clients[name]
        if name in self._stopped:
            return
        self.counts["readers stopped"] += 1
        self._stopped.add(name)
        client.signal("STOP")
        await self._pause(random.uniform(1, 20))
        client.signal("CONT")
        self._stopped.discard(name)

    async def _fill_disk(self) -> None:
        self.counts["full disks"] += 1
        self._disk.fill()
        await self._pause(random.uniform(1, 5))
        self._disk.free()

    async def _set_clock(self) -> None:
        self.counts["clocks set"] += 1
        OFFSET.pack_into(self._clock, 0, random.choice(CLOCKS))

    # The end.

    async def _settle(self) -> None:
        """Nothing fails any more: wait until everything has arrived, or too long."""
        (self._directory / "talk").unlink()
        OFFSET.pack_into(self._clock, 0, 0.0)
        self._disk.free()
        for pair in list(self._proxy.pairs):
            pair.cut()  # so that nobody waits for a network that is silent
        say("faults are over; waiting for what is on its way")
        with contextlib.suppress(Missing):
            await self._until(lambda: self._judge().complete, SETTLING)
        for name, reader in self._readers.items():
            if any(reader.record.unsettled):
                lines = self._clients[name].lines[-4:]
                say(f"{name} has messages without an answer; its last lines: {lines}")

    def _judge(self) -> Verdict:
        return judge({name: reader.read().record for name, reader in self._readers.items()})

    def _report(self) -> None:
        verdict, kills = self._judge(), self.counts["server kills"]
        say(
            f"{kills} server kills, {sum(self.counts.values()) - kills} other faults: "
            f"{verdict.sent:,} sent, {verdict.stored:,} stored, {verdict.delivered:,} delivered, "
            f"{verdict.duplicates} duplicates, {verdict.out_of_order} out of order"
        )

    async def _stop(self) -> None:
        for name, client in self._clients.items():
            if name in self._stopped:
                client.signal("CONT")
        await gatherResults(
            [Deferred.fromCoroutine(client.end("KILL")) for client in self._clients.values()]
        )
        if self._server is not None:
            await self._server.process.end("TERM")
        self._listening.stopListening()
        for pair in list(self._proxy.pairs):
            pair.cut()

    def kill(self) -> None:
        """Leave nobody behind, whatever happened."""
        servers = [] if self._server is None else [self._server.process]
        for process in (*self._clients.values(), *servers):
            process.signal("CONT")
            process.signal("KILL")
        self._disk.close()

    # Time.

    def _pause(self, seconds: float) -> Deferred[None]:
        return deferLater(self._reactor, seconds)

    async def _until(self, condition: Callable[[], bool], patience: float = 120.0) -> None:
        """Look again and again, for so many seconds.  Raises `Missing`."""
        end = self._reactor.seconds() + patience
        while not condition():
            if self._reactor.seconds() > end:
                raise Missing("it took too long")
            await self._pause(0.25)


async def _awaited(work: Awaitable[None]) -> None:
    await work


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./just chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=2.0, help="how long things fail (2)")
    parser.add_argument("--clients", type=int, default=20, help="senders, and receivers (20)")
    parser.add_argument("--rate", type=float, default=10.0, help="messages a second each (10)")
    parser.add_argument("--reactor", default="uvloop", help="the server's: uvloop, default")
    parser.add_argument("--seed", type=int, default=None, help="which faults, and when")
    arguments = parser.parse_args()
    if arguments.minutes <= 0 or arguments.clients < 1 or not 0 < arguments.rate <= 10:
        parser.error("--minutes above 0, --clients from 1, --rate above 0 and up to 10")
    return arguments


def go_inside() -> None:
    """Start over in a mount namespace of our own, where a small disk can be mounted, if we may."""
    unshare = shutil.which("unshare")
    if os.environ.get(_INSIDE) is not None or unshare is None:
        return
    inside = [unshare, "--mount"] if os.geteuid() == 0 else [unshare, "--mount", "--map-root-user"]
    if subprocess.run([*inside, "true"], check=False).returncode == 0:
        os.environ[_INSIDE] = "1"
        os.execv(unshare, [*inside, sys.executable, "-m", "scripts.chaos", *sys.argv[1:]])


async def main(reactor: Any, arguments: argparse.Namespace) -> None:
    seed = random.randrange(1 << 32) if arguments.seed is None else arguments.seed
    random.seed(seed)
    say(f"seed {seed}; {arguments.minutes:g} minutes")
    with tempfile.TemporaryDirectory(prefix="wschat-chaos-") as name:
        directory = Path(name)
        for part in ("disk", "home"):
            (directory / part).mkdir()
        conductor = Conductor(reactor, arguments, directory)
        reactor.addSystemEventTrigger("before", "shutdown", conductor.kill)
        try:
            verdict = await conductor.run()
        finally:
            conductor.kill()
    for fault, count in sorted(conductor.counts.items()):
        print(f"{count:>6} {fault}")
    print(verdict)
    for line in conductor.faults[:40]:
        print(line)
    raise SystemExit(0 if verdict.good and not conductor.faults else 1)


if __name__ == "__main__":
    options = parse()
    go_inside()
    react(lambda reactor: Deferred.fromCoroutine(main(reactor, options)))
