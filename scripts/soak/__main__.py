"""The conductor: starts a server, a crowd and a probe, measures, and judges."""

from __future__ import annotations

import argparse
import json
import resource
import signal
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater, react

from scripts.processes import Missing, Process, Server
from scripts.soak.plot import plot
from scripts.soak.verdict import growth, judge, percentile

#: How long the beginning lasts, in minutes, and at most what part of the whole: it is not judged.
_BEGINNING: Final = 5.0
_PART: Final = 1 / 6

#: Seconds between two samples.
_SAMPLE: Final = 5.0

#: How long the crowd may take to arrive for each of it, and to settle, in seconds.
_ARRIVAL: Final = 0.2
_SETTLING: Final = 200.0


def say(text: str) -> None:
    """Tell what goes on."""
    print(f"[{time.strftime('%H:%M:%S')}] {text}", flush=True)


def resident(pid: int) -> float:
    """What of a process is in memory, in MiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) / 1024


class Soak:
    """One run."""

    def __init__(self, reactor: Any, arguments: argparse.Namespace, directory: Path) -> None:
        self._reactor = reactor
        self._arguments = arguments
        self._directory = directory
        self._processes: list[Process] = []
        self._answers: list[list[float]] = []  # by sample
        self._memory: list[float] = []
        self._fresh: list[float] = []
        self._closed = 0
        #: What somebody had no business saying.
        self.faults: list[str] = []

    async def run(self) -> bool:
        """All of it; whether all was well."""
        arguments = self._arguments
        server = await Server.start(
            self._reactor,
            self._directory / "data",
            "--login-rate=1000000",
            "--registration-rate=1000000",
            f"--max-connections={arguments.clients + 500}",
            "--outbox-bytes=256KiB",
            server_reactor=arguments.reactor,
            on_line=self._heard_server,
        )
        self._processes.append(server.process)
        where = (str(server.tls_port), str(server.certificate))
        say(f"server up; {arguments.clients:,} clients arrive")
        crowd = self._start(
            "crowd", *where, str(arguments.clients), str(arguments.rate), on_line=self._heard_crowd
        )
        patience = 60 + _ARRIVAL * arguments.clients
        await crowd.sees("ready", self._reactor, patience)
        probe = self._start("probe", *where, on_line=self._heard_probe)
        await probe.sees("answers", self._reactor)
        say("everybody is there, and talks")
        pid = server.process.transport.pid
        await self._watch(pid)
        say("the time is over; waiting for what is on its way")
        probe.end_of_input()
        crowd.end_of_input()
        told = await crowd.sees("counts ", self._reactor, _SETTLING)
        counts = json.loads(told.removeprefix("counts "))
        for process in (probe, crowd, server.process):
            status = await process.end()
            if process is server.process and status not in (0, -signal.SIGTERM):
                self.faults.append(f"the server ended with {status}")
        return self._judge({**counts, "slow readers closed": self._closed})

    def _start(self, module: str, *arguments: str, on_line: Any) -> Process:
        command = ["python", "-m", f"scripts.soak.{module}", *arguments]
        process = Process.start(self._reactor, module, command, {}, on_line)
        self._processes.append(process)
        return process

    async def _watch(self, pid: int) -> None:
        for number in range(max(1, int(60 * self._arguments.minutes / _SAMPLE))):
            await deferLater(self._reactor, _SAMPLE)
            self._memory.append(resident(pid))
            self._answers.append(self._fresh)
            self._fresh = []
            if number % 12 == 11:
                times = [time for sample in self._answers[-12:] for time in sample]
                half, most = percentile(times, 0.5), percentile(times, 0.99)
                say(
                    f"server {self._memory[-1]:.0f} MiB; pings answered within "
                    f"{half:.1f} ms (half), {most:.1f} ms (99 %)"
                )

    def _heard_server(self, name: str, line: str) -> None:
        if any(sign in line for sign in ("Traceback", "#critical", "Unhandled", "#error")):
            self.faults.append(f"server: {line}")
        self._closed += "reads too slowly" in line

    def _heard_crowd(self, name: str, line: str) -> None:
        if line.startswith("fault ") or "Error" in line:
            self.faults.append(f"crowd: {line}")
        elif not line.startswith("counts "):
            say(line)

    def _heard_probe(self, name: str, line: str) -> None:
        if line.startswith("answers "):
            self._fresh += json.loads(line.removeprefix("answers "))
        else:
            self.faults.append(f"probe: {line}")

    def _judge(self, counts: dict[str, int]) -> bool:
        skipped = int(min(60 * _BEGINNING / _SAMPLE, _PART * len(self._memory)))
        memory, answers = self._memory[skipped:], self._answers[skipped:]
        verdict = judge(memory, answers, counts)
        slowest = [percentile(sample, 0.99) for sample in self._answers]
        print(plot("Memory of the server", self._memory, "MiB"))
        print(plot("99 of 100 pings were answered within", slowest, "ms"))
        for name, count in counts.items():
            print(f"{count:>12,} {name}")
        if memory:
            times = [time for sample in answers for time in sample]
            first, last = growth(memory)
            print(f"memory: {first:.1f} MiB after the beginning, {last:.1f} MiB at the end")
            print(f"pings: 99 % of {len(times):,} answered within {percentile(times, 0.99):.1f} ms")
        for fault in (*verdict.faults, *self.faults[:40]):
            print(f"FAULT {fault}")
        print("good" if verdict.good and not self.faults else "not good")
        return verdict.good and not self.faults

    def kill(self) -> None:
        """Leave nobody behind, whatever happened."""
        for process in self._processes:
            process.signal("KILL")


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="./just soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0, help="how long (5)")
    parser.add_argument("--clients", type=int, default=500, help="how many talk (500)")
    parser.add_argument("--rate", type=float, default=100.0, help="messages a second of all (100)")
    parser.add_argument("--reactor", default="uvloop", help="the server's: uvloop, default")
    arguments = parser.parse_args()
    if arguments.minutes <= 0 or arguments.clients < 2 or not 0 < arguments.rate <= 10_000:
        parser.error("--minutes above 0, --clients from 2, --rate above 0 and up to 10,000")
    return arguments


async def main(reactor: Any, arguments: argparse.Namespace) -> None:
    """A soak, cleaned up after whatever happens."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    if most < arguments.clients + 500:
        raise SystemExit(
            f"soak: {most} open files are too few: ulimit -n {arguments.clients + 500}"
        )
    with tempfile.TemporaryDirectory(prefix="wschat-soak-") as name:
        soak = Soak(reactor, arguments, Path(name))
        reactor.addSystemEventTrigger("before", "shutdown", soak.kill)
        try:
            good = await soak.run()
        except Missing as error:
            print(f"soak: {error}\n" + "\n".join(soak.faults[:40]), flush=True)
            good = False
        finally:
            soak.kill()
    raise SystemExit(0 if good else 1)


if __name__ == "__main__":
    options = parse()
    react(lambda reactor: Deferred.fromCoroutine(main(reactor, options)))
