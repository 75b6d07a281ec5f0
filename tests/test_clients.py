"""Tests of the programs in `clients`: real processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.trial.unittest import TestCase

from scripts.processes import Process, Server


class ProgramTests(TestCase):
    """The programs as they are installed."""

    timeout = 180

    def run_program(self, name: str, *arguments: str, **environ: str) -> Process:
        """A program that is gone when the test is."""
        given = {"HOME": str(Path(self.mktemp()).absolute()), "WS_USER_ID": "alice", **environ}
        process = Process.start(reactor, name, [name, *arguments], given)
        self.addCleanup(process.end, "KILL")
        return process

    async def test_help(self) -> None:
        """--help says what a program reads, and ends with 0."""
        for name, variable in (("simple-client", "WS_SERVER_URL"), ("message-bot", "BOT_INTERVAL")):
            process = self.run_program(name, "--help")
            self.assertEqual(await process.wait(), 0)
            self.assertTrue(process.lines[0].startswith(f"Usage: {name}"))
            self.assertTrue(any(variable in line for line in process.lines))

    async def test_wrong_arguments(self) -> None:
        """Arguments, and a wrong environment, end with 2 and one line."""
        for name in ("simple-client", "message-bot"):
            for arguments, environ in ((["bob"], {}), ([], {"WS_SERVER_URL": "http://x"})):
                process = self.run_program(name, *arguments, **environ)
                self.assertEqual(await process.wait(), 2)
                self.assertEqual(len(process.lines), 1)

    async def test_wrong_interval(self) -> None:
        """A wrong BOT_INTERVAL ends the bot with 2 before it does anything."""
        process = self.run_program("message-bot", BOT_INTERVAL="soon")
        self.assertEqual(await process.wait(), 2)
        self.assertEqual(
            process.lines, ["* BOT_INTERVAL: 'soon' is not a number of seconds from 0.1"]
        )

    async def test_long_message(self) -> None:
        """So does a BOT_MESSAGE that no server would take."""
        process = self.run_program("message-bot", BOT_MESSAGE="x" * 10_000)
        self.assertEqual(await process.wait(), 2)
        self.assertEqual(process.lines, ["* BOT_MESSAGE: longer than 8192 bytes"])

    async def test_unreachable(self) -> None:
        """simple-client ends with 3 when nobody listens, and says so in one line."""
        process = self.run_program("simple-client", WS_SERVER_URL="https://127.0.0.1:1")
        process.says("!hello")
        process.end_of_input()
        self.assertEqual(await process.wait(), 3)
        said = [line for line in process.lines if "Made a private key" not in line]
        self.assertEqual(said, ["* 127.0.0.1:1: nobody listens there: the connection was refused."])

    async def test_bot(self) -> None:
        """The bot announces itself, says its text again and again, and ends when it is told to."""
        directory = Path(self.mktemp()).absolute()
        server = await Server.start(reactor, directory)
        self.addCleanup(server.process.end)
        environ = server.client_environ("bob", "Bob", directory / "bob")
        bob = self.run_program("simple-client", **environ)
        await bob.sees("Connected as bob", reactor)
        environ = server.client_environ("bot", "Robot", directory / "bot")
        environ |= {"BOT_INTERVAL": "0.2", "BOT_MESSAGE": "tick"}
        bot = self.run_program("message-bot", **environ)
        await bob.sees("bot -> broadcast [VERIFIED]: Robot is now online", reactor)
        await bob.sees("bot -> broadcast [VERIFIED]: tick", reactor)
        await bob.will_see("bot -> broadcast [VERIFIED]: tick", reactor)
        bob.says("@bot hello")
        await bot.sees("bob -> bot [VERIFIED] [ENCRYPTED]: hello", reactor)
        await bot.end()
        bob.end_of_input()
        self.assertEqual(await bob.wait(), 0)
        said: Any = [line.partition("]: ")[2] for line in bob.lines if "bot -> " in line]
        self.assertEqual(set(said), {"Robot is now online", "tick"})
        self.assertEqual(said[0], "Robot is now online")
