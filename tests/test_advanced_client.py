"""advanced-client as it is installed, without a terminal; with one: test_fullscreen.py."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.trial.unittest import TestCase

from scripts.processes import Process, Server


class ProgramTests(TestCase):
    """Real processes."""

    timeout = 180

    def run_program(self, name: str, *arguments: str, **environ: str) -> Process:
        """A program that is gone when the test is."""
        given = {"HOME": str(Path(self.mktemp()).absolute()), "WS_USER_ID": "charlie", **environ}
        process = Process.start(reactor, name, [name, *arguments], given)
        self.addCleanup(process.end, "KILL")
        return process

    async def serve(self) -> Server:
        self.home = Path(self.mktemp()).absolute()
        server = await Server.start(reactor, self.home / "server")
        self.addCleanup(server.process.end)
        return server

    async def test_help(self) -> None:
        """--help says what it does; other arguments and a wrong interval end with 2."""
        process = self.run_program("advanced-client", "--help")
        self.assertEqual(await process.wait(), 0)
        self.assertEqual(process.lines[0], "Usage: advanced-client")
        wrong: tuple[tuple[list[str], dict[str, str]], ...] = (
            (["bob"], {}),
            ([], {"WS_METRICS_INTERVAL": "soon"}),
            ([], {"WS_SERVER_URL": "http://x"}),
        )
        for arguments, environ in wrong:
            process = self.run_program("advanced-client", *arguments, **environ)
            self.assertEqual(await process.wait(), 2)
            self.assertEqual(len(process.lines), 1)

    async def test_automated(self) -> None:
        """It stays without input, tells metrics, answers programs, and SIGTERM ends it with 0."""
        server = await self.serve()
        environ = server.client_environ("charlie", "Charlie", self.home / "charlie")
        environ |= {"WS_METRICS_INTERVAL": "0.2", "AUTO_ANNOUNCE": "true"}
        bob_environ = server.client_environ("bob", "Bob", self.home / "bob")
        bob = self.run_program("simple-client", **bob_environ)
        await bob.sees("Connected as bob", reactor)
        charlie = self.run_program("advanced-client", **environ)
        charlie.end_of_input()
        await charlie.sees("Connected as charlie", reactor)
        await bob.sees("Charlie is now online", reactor)
        bob.says('@charlie {"type": "ping", "id": 7}')
        line = await bob.sees("charlie -> bob [VERIFIED] [ENCRYPTED]: ", reactor)
        self.assertEqual(json.loads(line.partition("]: ")[2]), {"type": "pong", "id": 7})
        await charlie.will_see("; handled: ping 1", reactor)
        self.assertNotIn("\x1b", "".join(charlie.lines))
        self.assertEqual(await charlie.end(), 0)

    async def test_lines(self) -> None:
        """Lines are taken as by simple-client, and /quit ends it."""
        server = await self.serve()
        environ = server.client_environ("charlie", "Charlie", self.home / "charlie")
        charlie = self.run_program("advanced-client", **environ)
        charlie.says("!Team meeting in 5 minutes")
        await charlie.sees("✓ !Team meeting in 5 minutes", reactor)
        charlie.says("/whois charlie")
        await charlie.sees("charlie (Charlie), since ", reactor)
        charlie.says("/quit")
        self.assertEqual(await charlie.wait(), 0)

    async def test_json(self) -> None:
        """simple-client --json reads and writes objects, and nothing else on either output."""
        server = await self.serve()
        bob_environ = server.client_environ("bob", "Bob", self.home / "bob")
        bob = self.run_program("simple-client", **bob_environ)
        await bob.sees("Connected as bob", reactor)
        environ = server.client_environ("charlie", "Charlie", self.home / "charlie")
        charlie = self.run_program("simple-client", "--json", **environ)
        charlie.says('{"to": "bob", "text": "hi", "client_id": "c1"}')
        await charlie.sees('"type": "delivered", "client_id": "c1"', reactor)
        bob.says("@charlie hello")
        await charlie.sees('"text": "hello", "verified": true', reactor)
        charlie.says("what?")
        await charlie.sees('"type": "error"', reactor)
        charlie.end_of_input()
        self.assertEqual(await charlie.wait(), 5)
        said: list[Any] = [line for line in charlie.lines if "Made a private key" not in line]
        self.assertTrue(all(json.loads(line)["type"] for line in said))
