"""
The screens of docs/advanced-client.md: python -m scripts.record_advanced_client.

A server, and bob, charlie and david in real processes talk with alice, whose
advanced-client runs in a pseudo-terminal of each size; what it shows in the
end is written into the document.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from pathlib import Path
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.task import react

from scripts.processes import Process, Server
from scripts.pseudo_terminal import PseudoTerminal
from wschat.client.console import visible

DOCUMENT: Final = Path(__file__).parent.parent / "docs" / "advanced-client.md"

#: Columns and rows.
SIZES: Final = ((80, 24), (200, 50))


def put(document: str, size: tuple[int, int], screen: str) -> str:
    """A document with another screen of a size in it."""
    heading = "## {}x{}\n".format(*size)
    before, found, rest = document.partition(heading)
    if not found:
        raise ValueError(f"No heading: {heading}")
    block = re.compile(r"```text\n.*?```", re.DOTALL)
    return before + found + block.sub(lambda _: f"```text\n{screen}\n```", rest, count=1)


class Scene:
    """Four people on a server."""

    def __init__(self, reactor: Any, home: Path, server: Server) -> None:
        self._reactor = reactor
        self._home = home
        self._server = server
        self._processes: list[Process | PseudoTerminal] = []

    async def person(self, name: str) -> Process:
        """Somebody with lines."""
        environ = self._server.client_environ(name, name.title(), self._home / name)
        process = Process.start(self._reactor, name, ["simple-client"], environ)
        self._processes.append(process)
        await process.sees(f"Connected as {name}", self._reactor)
        return process

    def screen(self, name: str, size: tuple[int, int]) -> PseudoTerminal:
        """Somebody with a screen."""
        environ = self._server.client_environ(name, name.title(), self._home / name)
        made = PseudoTerminal.start(self._reactor, ["advanced-client"], environ, *size)
        self._processes.append(made)
        return made

    async def says(self, process: Process, line: str, receipt: str) -> None:
        """Say something, and wait for its receipt."""
        process.says(line)
        await process.sees(f"{receipt} {visible(line)}", self._reactor)

    async def play(self, size: tuple[int, int]) -> str:
        """What alice sees at the end."""
        bob, charlie, david = [await self.person(name) for name in ("bob", "charlie", "david")]
        early = await self.person("alice")
        await self.says(bob, "@alice Hey Alice, are you coming today?", "✓✓")
        await self.says(early, "@bob Later: I have to catch a train first.", "✓✓")
        await self.says(david, "!I am leaving, see you tomorrow", "✓")
        for leaving in (early, david):
            leaving.says("/quit")
            await leaving.wait()
        alice = self.screen("alice", size)
        await alice.sees("see you tomorrow")
        promise = (
            "On my way. I bring the \u201cGr\u00fcne So\u00dfe\u201d that I promised last time,"
        )
        alice.enters(f"@bob {promise} enough for all of us")
        await alice.sees("of us ✓✓")
        alice.enters("!Team meeting in 5 minutes")
        await alice.sees("5 minutes ✓")
        alice.enters("/ping")
        await alice.sees("The server answered within")
        alice.enters("@bot Are you there?")
        await alice.sees("Unknown recipient")
        alice.types("@charlie Could you open the")
        await alice.sees("> @charlie Could you open the")
        await self.says(charlie, "@alice \x1b[31mRed\x1b[0m? No: shown.", "✓✓")
        await self.says(bob, "@alice Great!", "✓✓")
        await alice.sees("2 new")
        return alice.text

    async def end(self) -> None:
        for process in self._processes:
            await process.end()


async def record(reactor: Any, size: tuple[int, int]) -> str:
    """A screen of a size, from a session of its own."""
    home = Path(tempfile.mkdtemp(prefix="wschat-record-"))
    try:
        server = await Server.start(reactor, home / "server")
        scene = Scene(reactor, home, server)
        try:
            return await scene.play(size)
        finally:
            await scene.end()
            await server.process.end()
    finally:
        shutil.rmtree(home)


async def main(reactor: Any) -> None:
    document = DOCUMENT.read_text("utf-8")
    for size in SIZES:
        document = put(document, size, await record(reactor, size))
    DOCUMENT.write_text(document, "utf-8")
    print(f"recorded: {DOCUMENT}")


if __name__ == "__main__":
    react(lambda reactor: Deferred.fromCoroutine(main(reactor)))
