"""docs/sdk.md: its examples run, and do what it says."""

from __future__ import annotations

import builtins
import os
import re
import sys
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.trial.unittest import SynchronousTestCase, TestCase

from scripts.processes import Process, Server
from wschat import client
from wschat.client import Chat, Metrics
from wschat.client import chat as sdk
from wschat.client.delivery import MESSAGES
from wschat.client.handlers import THREADS
from wschat.client.receipts import UNDELIVERED
from wschat.client.session import QUEUE_MESSAGES
from wschat.testing import World

TEXT = (Path(__file__).parent.parent / "docs" / "sdk.md").read_text("utf-8")


def example(title: str) -> str:
    """The Python of a section."""
    section = TEXT.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    (block,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    return str(block)


class ExampleTests(SynchronousTestCase):
    """The functions of the examples, in memory."""

    def setUp(self) -> None:
        self.world = World()
        self.addCleanup(self.world.close)
        self.alice, self.bob = self.world.chat("alice"), self.world.chat("bob")
        self.printed: list[str] = []

    def functions(self, title: str) -> dict[str, Any]:
        """What an example defines; what it prints is remembered."""

        def show(*values: object, file: Any = None) -> None:
            line = " ".join(map(str, values))
            if file is None:
                self.printed.append(line)
            else:
                file.write(f"{line}\n")

        names: dict[str, Any] = {"print": show}
        exec(example(title), names)  # it is our own
        return names

    def say(self, chat: Chat, *texts: str) -> None:
        """Tell bob's chat, or alice's, something from the other."""
        sender, to = (self.alice, "bob") if chat is self.bob else (self.bob, "alice")
        for text in texts:
            self.world.run(sender.send(to, text))
        self.world.advance(1)

    def test_sending(self) -> None:
        """A message is stored, then handled."""
        self.bob.on_message(_nothing)
        self.world.run(self.functions("Sending")["say"](self.alice))
        self.assertRegex(self.printed[0], r"^on the server's disk, as message \d+$")
        self.assertEqual(self.printed[1:], ["bob's client has handled it"])

    def test_asking(self) -> None:
        """The server answers everything."""
        self.say(self.bob, "Hello Bob!")
        self.world.run(self.functions("Asking")["ask"](self.alice))
        self.assertTrue(self.printed[0].endswith("alice Hello Bob!"))
        self.assertIn("alice", self.printed[1])
        self.assertEqual(self.printed[2], "{}")
        self.assertIn("pong", self.printed[3])

    def test_handlers(self) -> None:
        """Each gets what it is for."""
        os.chdir(self.in_directory())
        self.functions("Handlers")["listen"](self.bob)
        self.alice.on_message(lambda message: self.printed.append(str(message.text)))
        bot = self.world.chat("bot")
        self.world.run(bot.send("bob", '{"type": "order", "count": 7}'))
        self.say(self.bob, '{"type": "order", "count": 2}')
        self.assertEqual(self.printed, ["2 it is.", "Written."])
        self.assertEqual(Path("log.txt").read_text(), '{"type": "order", "count": 2}\n')

    def in_directory(self) -> str:
        """An empty directory to be in until the test is over."""
        self.addCleanup(os.chdir, Path.cwd())
        path = Path(self.mktemp())
        path.mkdir()
        return str(path)

    def test_loops(self) -> None:
        """A loop goes on until it is left."""
        self.say(self.bob, "hello", "quit", "more")
        self.world.run(self.functions("Loops")["follow"](self.bob))
        self.assertEqual(self.printed, ["alice: hello", "alice: quit"])

    def test_connection(self) -> None:
        """States are told."""
        self.functions("The connection")["watch"](self.bob)
        self.assertTrue(self.printed[0].startswith("connected Metrics("))
        self.world.cut("bob")
        self.world.advance(20)
        states = [line.split()[0] for line in self.printed[1:]]
        self.assertEqual(states, ["disconnected", "reconnecting", "connected"])

    def test_testing(self) -> None:
        """The test passes."""
        self.functions("Testing a bot")["test_greeting"]()


class TextTests(SynchronousTestCase):
    """What it says of the code."""

    def test_names(self) -> None:
        """The exceptions and metrics exist, and the numbers are those of the code."""
        rows = re.findall(r"^\| `(\w+)` \|", TEXT, re.MULTILINE)
        self.assertEqual([name for name in rows if not _exists(name)], [])
        for name in Metrics.__struct_fields__:
            self.assertIn(f"`{name}`", TEXT)
        self.assertIn(f"{QUEUE_MESSAGES} messages wait already", TEXT)
        self.assertIn(f"more than {UNDELIVERED} others", TEXT)
        self.assertIn(f"When {MESSAGES} messages", TEXT)
        self.assertEqual((THREADS, sdk.PATIENCE), (4, 10))

    def test_ten_lines(self) -> None:
        """The bot has ten lines, blank ones aside."""
        lines = [line for line in example("A bot in ten lines").splitlines() if line]
        self.assertEqual(len(lines), 10)


class BotTests(TestCase):
    """The bot of the first example, as a program."""

    timeout = 180

    async def test_asyncio(self) -> None:
        """The example on asyncio says what it has to say, and ends."""
        directory = Path(self.mktemp()).absolute()
        server = await Server.start(reactor, directory)
        self.addCleanup(server.process.end)
        alice = self.start(
            ["simple-client"], server.client_environ("alice", "Alice", directory / "alice")
        )
        await alice.sees("Connected as alice", reactor)
        program = directory / "hello.py"
        program.write_text(example("On asyncio"))
        environ = server.client_environ("bot", "Bot", directory / "bot")
        hello = self.start([sys.executable, str(program)], environ)
        await alice.sees("bot -> broadcast [VERIFIED]: Hello everyone!", reactor)
        self.assertEqual(await hello.wait(), 0)

    async def test_bot(self) -> None:
        """It answers."""
        directory = Path(self.mktemp()).absolute()
        server = await Server.start(reactor, directory)
        self.addCleanup(server.process.end)
        program = directory / "echo.py"
        program.write_text(example("A bot in ten lines"))
        echo = server.client_environ("echo", "Echo", directory / "echo")
        registered = self.start(["simple-client"], echo)
        registered.end_of_input()
        self.assertEqual(await registered.wait(), 0)
        self.start([sys.executable, str(program)], echo)
        environ = server.client_environ("alice", "Alice", directory / "alice")
        alice = self.start(["simple-client"], environ)
        alice.says("@echo hello")
        await alice.sees("echo -> alice [VERIFIED] [ENCRYPTED]: You said: hello", reactor)

    def start(self, command: list[str], environ: dict[str, str]) -> Process:
        """A program that is gone when the test is."""
        process = Process.start(reactor, command[0], command, environ)
        self.addCleanup(process.end, "KILL")
        return process


def _exists(name: str) -> bool:
    return hasattr(client, name) or hasattr(builtins, name)


async def _nothing(message: object) -> None:
    pass
