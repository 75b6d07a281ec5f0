"""Tests of `wschat.client.fullscreen`: real programs in a pseudo-terminal, at a real server."""

from __future__ import annotations

from pathlib import Path

from twisted.internet import reactor
from twisted.internet.task import LoopingCall
from twisted.trial.unittest import TestCase

from scripts.processes import PROGRAMS, Process, Server
from scripts.pseudo_terminal import PseudoTerminal
from tests.client.support import ClientTests, Script
from wschat.identity import PrivateKey, sign_content

SMALL, LARGE = (80, 24), (200, 50)


class FullScreenTests(TestCase):
    """alice at a terminal, and bob with lines."""

    timeout = 180

    async def serve(self, **environ: str) -> None:
        """A server with bob on it."""
        self.home = Path(self.mktemp()).absolute()
        self.server = await Server.start(reactor, self.home / "server")
        self.addCleanup(self.server.process.end)
        self.bob = self.person("bob")
        await self.bob.sees("Connected as bob", reactor)

    def person(self, user_id: str) -> Process:
        environ = self.server.client_environ(user_id, user_id.title(), self.home / user_id)
        process = Process.start(reactor, user_id, ["simple-client"], environ)
        self.addCleanup(process.end)
        return process

    def terminal(self, size: tuple[int, int] = SMALL, **environ: str) -> PseudoTerminal:
        """advanced-client in a terminal of a size."""
        given = self.server.client_environ("alice", "Alice", self.home / "alice") | environ
        made = PseudoTerminal.start(reactor, ["advanced-client"], given, *size)
        self.addCleanup(made.end)
        return made

    async def test_talk(self) -> None:
        """Messages go both ways, with their marks, in both sizes; /quit ends with 0."""
        await self.serve()
        for size in (SMALL, LARGE):
            alice = self.terminal(size)
            await alice.sees("● alice on localhost")
            alice.enters("@bob Hello Bob")
            await alice.sees("Hello Bob ✓✓")
            self.bob.says("@alice Hello Alice")
            await alice.sees("Hello Alice")
            self.assertIn("bob -> alice [VERIFIED] [ENCRYPTED]", alice.text)
            self.assertEqual(alice.lines[-1], ">")
            self.assertEqual(len(alice.lines), size[1])
            alice.enters("!all of you")
            await alice.sees("all of you ✓")
            alice.enters("/quit")
            self.assertEqual(await alice.wait(), 0)
            self.assertIn(b"\x1b[?1049l", alice.written)

    async def test_stays_put(self) -> None:
        """What is being typed stays where it is while messages arrive, and so does who reads."""
        await self.serve()
        alice = self.terminal()
        await alice.sees("● alice on localhost")
        alice.types("@bob half a li")
        await alice.sees("> @bob half a li")
        for number in range(8):
            self.bob.says(f"!news {number}.")
        await alice.sees("news 7.")
        self.assertEqual(alice.lines[-1], "> @bob half a li")
        alice.enters("ne")
        await alice.sees("half a line ✓✓")
        alice.enters("/help")
        await alice.sees("/quit ")
        alice.presses("page up")
        await alice.sees("End: to the last")
        before = [line[:60] for line in alice.lines[:20]]
        self.bob.says("!something new")
        await alice.sees("1 new below")
        self.assertEqual([line[:60] for line in alice.lines[:20]], before)
        alice.presses("end")
        await alice.sees("something new")

    async def test_unread(self) -> None:
        """Who has said something that is not read yet has a mark and a number, until a key."""
        await self.serve()
        alice = self.terminal()
        await alice.sees("  bob")
        self.bob.says("@alice psst")
        await alice.sees("● bob")
        await alice.sees("── new ")
        await alice.sees("1 new")
        alice.types("x")
        await alice.sees_no("● bob")

    async def test_people(self) -> None:
        """Who comes and goes is seen at the side."""
        await self.serve()
        alice = self.terminal()
        await alice.sees("on line 2")
        charlie = self.person("charlie")
        await alice.sees("on line 3")
        charlie.says("/quit")
        await alice.sees("away")
        self.assertIn("on line 2", alice.text)

    async def test_completion(self) -> None:
        """Tab completes names and commands."""
        await self.serve()
        alice = self.terminal()
        await alice.sees("  bob")
        alice.types("@b")
        alice.presses("tab")
        await alice.sees("> @bob")
        alice.types("hi")
        alice.presses("enter")
        await alice.sees("hi ✓✓")
        alice.types("/fin")
        alice.presses("tab")
        await alice.sees("> /fingerprint")
        alice.types("b")
        alice.presses("tab")
        await alice.sees("> /fingerprint bob")
        alice.presses("enter")
        await alice.sees("bob: ")

    async def test_commands(self) -> None:
        """All commands answer, in order; what is wrong is said, and the line stays."""
        await self.serve()
        alice = self.terminal(LARGE)
        await alice.sees("● alice on localhost")
        for line, answer in (
            ("/users", "Online: alice, bob"),
            ("/whois bob", "bob (Bob), since 20"),
            ("/fingerprint bob", "bob: "),
            ("/trust bob", "bob has the key you know"),
            ("/metrics", "reconnects "),
            ("/ping", "The server answered within"),
            ("/history bob", "0 messages."),
            ("/nonsense", "/nonsense is not known"),
            ("@nobody hello", "Unknown recipient: nobody."),
        ):
            alice.enters(line)
            await alice.sees(answer)
        await alice.sees("hello ✗")
        alice.enters("no command")
        await alice.sees("Not understood.")
        self.assertEqual(alice.lines[-1], "> no command")
        alice.presses("ctrl-u")
        await alice.until(lambda: alice.lines[-1] == ">", "an empty line")

    async def test_history(self) -> None:
        """What was said before is there when it starts."""
        await self.serve()
        alice = self.terminal()
        await alice.sees("● alice on localhost")
        alice.enters("@bob first")
        await alice.sees("first ✓✓")
        self.bob.says("!to everybody")
        await alice.sees("to everybody")
        alice.presses("ctrl-c")
        self.assertEqual(await alice.wait(), 0)
        alice = self.terminal(LARGE)
        await alice.sees("to everybody")
        await alice.sees("first ✓")

    async def test_resized(self) -> None:
        """In another size it is drawn anew, with its last line at the bottom."""
        await self.serve()
        alice = self.terminal()
        await alice.sees("● alice on localhost")
        self.bob.says("!hello")
        await alice.sees("hello")
        for columns, rows in (LARGE, (40, 10), SMALL):
            alice.resize(columns, rows)
            await alice.until(
                lambda: alice.lines[-1] == ">" and "hello" in alice.text,
                f"everything in {columns}x{rows}",
            )

    async def test_hostile(self) -> None:
        """Escapes in a text are shown and not obeyed, and no other is written than its own."""
        await self.serve()
        alice = self.terminal()
        await alice.sees("● alice on localhost")
        self.bob.says("@alice a\x1b[2J\x1b]0;owned\x07b")
        await alice.sees(r"a\x1b[2J\x1b]0;owned\x07b")
        self.assertNotIn(b"owned\x07", alice.written)

    async def test_restart(self) -> None:
        """When the server is away, that is seen, and it comes back by itself."""
        await self.serve()
        alice = self.terminal()
        await alice.sees("● alice on localhost")
        await self.server.process.end()
        await alice.sees("○ alice on localhost")
        server = await Server.start(reactor, self.home / "server", tls_port=self.server.tls_port)
        self.addCleanup(server.process.end)
        await alice.sees("● alice on localhost")
        await alice.sees("1 times back")

    async def test_ended(self) -> None:
        """SIGTERM leaves the terminal as it was, and ends with 0."""
        await self.serve()
        alice = self.terminal()
        await alice.sees("● alice on localhost")
        alice.signal("TERM")
        self.assertEqual(await alice.wait(), 0)
        self.assertIn(b"\x1b[?1049l", alice.written)

    async def test_hang_up(self) -> None:
        """When the terminal is gone it ends, also when it was told not to hear of that."""
        await self.serve()
        alice = self.terminal()
        await alice.sees("● alice on localhost")
        alice.signal("HUP")
        self.assertEqual(await alice.wait(), 0)
        for program in ("advanced-client", "simple-client"):
            given = self.server.client_environ("alice", "Alice", self.home / "alice")
            deaf = f"trap '' HUP; exec {PROGRAMS / program}"
            alice = PseudoTerminal.start(reactor, ["/bin/sh", "-c", deaf], given, *SMALL)
            self.addCleanup(alice.end)
            await alice.sees("alice on localhost")
            alice.hang_up()
            self.assertEqual(await alice.wait(), 0)

    async def test_suspended(self) -> None:
        """Ctrl+Z leaves the terminal to whoever started it, until it is told to go on."""
        await self.serve()
        alice = self.terminal()
        await alice.sees("● alice on localhost")
        alice.presses("ctrl-z")
        await alice.until(lambda: b"\x1b[?1049l" in alice.written, "the terminal as it was")
        waking = LoopingCall(alice.signal, "CONT")  # it may not sleep yet
        waking.start(0.1)
        self.addCleanup(waking.stop)
        await alice.sees("● alice on localhost")
        alice.enters("!here again")
        await alice.sees("here again ✓")

    async def test_no_server(self) -> None:
        """Without a server it ends with 3, and says so on the terminal that was there before."""
        await self.serve()
        alice = self.terminal(WS_SERVER_URL="https://127.0.0.1:1")
        self.assertEqual(await alice.wait(), 3)
        self.assertIn("* 127.0.0.1:1: nobody listens there", alice.text)


class LyingServerTests(ClientTests):
    """A classic server that says what a test wants."""

    timeout = 180

    async def test_alarm(self) -> None:
        """A message that is not from whom it says is white on red, in both programs."""
        script = Script(self)
        environ = {
            "HOME": str(self.home),
            "WS_SERVER_URL": f"https://localhost:{script.port}",
            "WS_USER_ID": "alice",
            "SSL_CERT_FILE": str(self.home / "certificate.pem"),
        }
        forged = sign_content(PrivateKey.generate(), "Pay")
        for number, program in enumerate(("simple-client", "advanced-client"), 1):
            terminal = PseudoTerminal.start(reactor, [program], environ, *SMALL)
            self.addCleanup(terminal.end)
            server = await script.conversation(number)
            server.deliver("Pay", header={"signature": forged})
            await terminal.sees("Pay")
            self.assertIn("!!! NOT FROM THEM", terminal.text)
            for text in ("bob -> alice", "Pay"):
                ((letters, ground),) = terminal.styles(text)
                self.assertIn((letters, ground), {("white", "red"), ("brightwhite", "red")})
            await terminal.end()
