"""The README: short, and every command in it is run by CI or here."""

from __future__ import annotations

import re
import socket
from pathlib import Path

from twisted.internet import reactor
from twisted.trial.unittest import SynchronousTestCase, TestCase

from scripts.processes import Process
from wschat import config

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")

#: Every command of the README, and who runs it.
RUN_BY = {
    "./just demo": "CI",
    "./just serve": "RecipeTests",
    "./just chat alice": "RecipeTests",
    "./just chat bob advanced-client": "RecipeTests",
    "echo '!System check' | ./just chat alice": "RecipeTests",
    "./just test": "CI, as a part of ./just check",
    "./just check": "CI",
    "./just --list": "RecipeTests",
    "./just chaos --minutes 1": "tests/test_chaos.py, for less long",
    "./just soak --minutes 5 --clients 500": "tests/test_soak.py, for less long, with fewer",
    "./just bench --quick": "tests/test_bench_load.py, for less long, with fewer peers",
}


#: Options whose default the README says in words.
_IN_WORDS = ("config-file", "trusted-proxies", "metrics-from")


def commands() -> list[str]:
    """The lines of the README's shell blocks."""
    blocks = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    return [line for block in blocks for line in block.splitlines()]


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket(socket.AF_INET6) as probe:
        probe.bind(("::", 0))
        port: int = probe.getsockname()[1]
        return port


class TextTests(SynchronousTestCase):
    """What can be read off."""

    def test_length(self) -> None:
        """It has 70 to 120 lines."""
        self.assertIn(len(README.splitlines()), range(70, 121))

    def test_commands_are_run(self) -> None:
        """No command is in it that nobody runs, and none is run that is not in it."""
        self.assertEqual(sorted(commands()), sorted(RUN_BY))

    def test_options(self) -> None:
        """The options in its table exist, and have the defaults that it says."""
        settings = {setting.name: setting for setting in config.SETTINGS}
        rows = re.findall(r"^\| `--([a-z-]+)` \| `?([^`|]*?)`? \|", README, re.MULTILINE)
        self.assertGreater(len(rows), 5)
        for name, default in rows:
            if name not in ("data-dir", "database", "commands", "allowed-origins", *_IN_WORDS):
                self.assertEqual(settings[name].default, default, name)

    def test_links(self) -> None:
        """What it links to is there."""
        for target in re.findall(r"\]\(([^)]+)\)", README):
            self.assertTrue((ROOT / target).is_file(), target)


class RecipeTests(TestCase):
    """`./just`, in this checkout."""

    timeout = 180

    def run_just(self, *arguments: str, **environ: str) -> Process:
        process = Process.start(reactor, "just", [str(ROOT / "just"), *arguments], environ)
        self.addCleanup(process.end)
        return process

    async def test_list(self) -> None:
        """`./just --list` names the recipes."""
        process = self.run_just("--list", HOME=str(Path(self.mktemp()).absolute()))
        await process.sees("What CI runs", reactor)
        self.assertEqual(await process.wait(), 0)

    async def test_serve_and_chat(self) -> None:
        """`./just serve` serves, and `./just chat` finds it and its certificate."""
        home = Path(self.mktemp()).absolute()
        port = free_port()
        environ = {
            "HOME": str(home),
            "WSCHAT_LISTEN": f":{port}",
            "WSCHAT_HTTP": "none",
            "WS_SERVER_URL": f"https://localhost:{port}",
        }
        server = self.run_just("serve", **environ)
        await server.sees("listening on https://", reactor)
        bob = self.run_just("chat", "bob", "advanced-client", **environ)
        await bob.sees("Connected as bob", reactor)
        alice = self.run_just("chat", "alice", **environ)
        alice.says("!System check")
        alice.end_of_input()
        self.assertEqual(await alice.wait(), 0)
        await bob.sees("alice -> broadcast [VERIFIED]: System check", reactor)
        bob.says("/quit")
        self.assertEqual(await bob.wait(), 0)
