"""docs/commands.md: its example runs on a real server, named and installed."""

from __future__ import annotations

import os
import re
import sys
import tomllib
from pathlib import Path

from twisted.internet import reactor
from twisted.trial.unittest import SynchronousTestCase, TestCase

from scripts.processes import PROGRAMS, Process, Server
from wschat import extensions, runner
from wschat.commands import command

TEXT = (Path(__file__).parent.parent / "docs" / "commands.md").read_text("utf-8")

EXAMPLE, TEST = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


#: A program that asks for the example's command, and prints what it is told.
ASK = """
from twisted.internet.defer import ensureDeferred
from twisted.internet.task import react
from wschat.client import CommandFailed, connect


async def main(reactor):
    chat = await connect()
    wrong = {"hours_east": 99}, {"hours_east": "x"}, {"hour": 1}
    for params in {"hours_east": 5.5}, None, *wrong, {}:
        try:
            print((await chat.command("get_time", params))["time"])
        except CommandFailed as error:
            print("CommandFailed", error)
    await chat.close()


react(lambda reactor: ensureDeferred(main(reactor)))
"""


def _plain(user_id: str) -> None:
    """A function that is no command yet."""


class TextTests(SynchronousTestCase):
    """What it says of the code."""

    def test_defaults(self) -> None:
        """The defaults and bounds are those of the code."""
        bare = command(_plain)
        self.assertIn(f"| `rate`, `burst` | {bare.rate}, {bare.burst} |", TEXT)
        self.assertIn(f"| `timeout` | {bare.timeout} |", TEXT)
        numbers = (runner.AT_ONCE, runner.AT_ONCE_OF_COMMAND, runner.AT_ONCE_OF_USER)
        self.assertIn(
            "{} commands run at once, {} calls of one, {} of one user".format(*numbers), TEXT
        )
        self.assertIn(f"of {runner.RESULT_BYTES // 1024} KiB at most", TEXT)
        self.assertIn(f"`{runner.FAILED}`", TEXT)

    def test_test(self) -> None:
        """The test of the example passes, in memory; so does the call that it speaks of."""
        directory = Path(self.mktemp()).absolute()
        directory.mkdir()
        directory.joinpath("chat_commands.py").write_text(EXAMPLE)
        self.patch(sys, "path", [str(directory), *sys.path])
        self.addCleanup(sys.modules.pop, "chat_commands", None)
        names: dict[str, object] = {}
        exec(TEST, names)  # it is our own
        names["test_get_time"]()  # type: ignore[operator]
        self.assertIn('get_time("alice", hours_east=5.5)', TEXT)
        time = names["get_time"]("alice", hours_east=5.5)["time"]  # type: ignore[operator]
        self.assertTrue(time.endswith("+05:30"))


class ServerTests(TestCase):
    """The example, on a server."""

    timeout = 180

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir()
        self.directory.joinpath("chat_commands.py").write_text(EXAMPLE)

    async def works(self, server: Server) -> None:
        """The example does what it says, for a program with the SDK."""
        self.addCleanup(server.process.end)
        program = self.directory / "ask.py"
        program.write_text(ASK)
        environ = server.client_environ("alice", "Alice", self.directory / "alice")
        asking = Process.start(reactor, "ask.py", [sys.executable, str(program)], environ)
        self.addCleanup(asking.end, "KILL")
        self.assertEqual(await asking.wait(), 0, asking.lines)
        east, greenwich, *errors = (line for line in asking.lines if not line.startswith("*"))
        self.assertRegex(east, r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+05:30$")
        self.assertTrue(greenwich.endswith("+00:00"))
        self.assertEqual(errors[0], "CommandFailed hours_east is between -24 and 24.")
        for error, part in zip(errors[1:], ("$.hours_east", "hour", "Too often"), strict=True):
            self.assertTrue(error.startswith("CommandFailed ") and part in error, error)

    async def test_named(self) -> None:
        """It is found in the current directory."""
        program = ("/bin/sh", "-c", 'cd "$0" && exec "$@"', str(self.directory))
        server = await Server.start(
            reactor,
            self.directory / "data",
            "--commands=chat_commands",
            program=(*program, str(PROGRAMS / "twistd")),
        )
        await self.works(server)

    async def test_installed(self) -> None:
        """It is found by the entry point of a package, as it lies where packages are installed."""
        (toml,) = re.findall(r"```toml\n(.*?)```", TEXT, re.DOTALL)
        project = tomllib.loads(toml)["project"]
        entries = project["entry-points"][extensions.GROUP]
        info = self.directory / f"chat_commands-{project['version']}.dist-info"
        info.mkdir()
        info.joinpath("METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
        )
        lines = [f"[{extensions.GROUP}]", *(f"{name} = {value}" for name, value in entries.items())]
        info.joinpath("entry_points.txt").write_text("\n".join(lines))
        path = os.pathsep.join([str(self.directory), os.environ.get("PYTHONPATH", "")])
        server = await Server.start(
            reactor, self.directory / "data", environ={"PYTHONPATH": path.rstrip(os.pathsep)}
        )
        await self.works(server)
