"""Tests of `wschat.client.terminal`: lines in, lines out, and how it ends."""

from __future__ import annotations

import io
import os
import random
import sys
from pathlib import Path
from typing import Any, cast

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock, deferLater
from twisted.internet.testing import StringTransport
from twisted.logger import globalLogBeginner
from twisted.trial.unittest import SynchronousTestCase

from tests.client.support import ClientTests, Script, settings
from wschat.client import State, terminal
from wschat.client.accounts import ConnectionProblem, RequestRefused
from wschat.client.terminal import PATIENCE, Exit, Terminal, exit_for, prepare, usage
from wschat.identity import PrivateKey


class _TerminalTests(ClientTests):
    def setUp(self) -> None:
        super().setUp()
        self.patch(random, "uniform", lambda low, high: min(high, 0.01))
        self.patch(sys, "stderr", io.StringIO())
        self.patch(sys, "stdin", io.StringIO())

    @property
    def notes(self) -> str:
        stream: Any = sys.stderr
        return str(stream.getvalue())

    def terminal(self, port: int, user_id: str = "alice", **given: Any) -> Terminal:
        """A terminal with a transport that remembers what was written."""
        key = given.pop("key", None) or PrivateKey.generate()
        made = Terminal(reactor, settings(port, user_id, **given), key)
        self.output = StringTransport()
        made.makeConnection(self.output)
        self.addCleanup(lambda: Deferred.fromCoroutine(made.close()))
        return made

    async def ends(self, lines: str, **given: Any) -> tuple[Exit, str]:
        """What a terminal says to all of its input, and how it ends."""
        made = self.terminal(self.port, **given)
        made.dataReceived(lines.encode())
        made.readConnectionLost()
        status = await made.done
        await made.close()
        return status, self.output.value().decode()


class LineTests(_TerminalTests):
    """A terminal at a whole server."""

    async def test_sends(self) -> None:
        """`@user` and `!` reach whom they are for, the last line without its end as well."""
        self.start()
        _, ear = await self.connected("bob")
        status, _ = await self.ends("@bob hello\n\n!all\n@bob the end")
        await ear.hears("the end")
        self.assertEqual((status, ear.texts), (Exit.DONE, ["hello", "all", "the end"]))
        self.assertIn("Connected as alice on localhost:", self.notes)

    async def test_commands(self) -> None:
        """/help and /users answer on standard output; what follows /quit is not read."""
        self.start()
        await self.connected("bob")
        made = self.terminal(self.port)
        made.dataReceived(b"/help\n@bob hi\n")
        await made._client.command("ping")
        made.dataReceived(b"/users\n/quit\n@nobody lost\n")
        self.assertEqual(await made.done, Exit.DONE)
        written = self.output.value().decode()
        self.assertIn("/quit", written)
        self.assertIn("Online: alice, bob\nOffline: -\n", written)

    async def test_not_accepted(self) -> None:
        """In a pipe, lines that mean nothing and messages to nobody end with 5."""
        self.start()
        key = PrivateKey.generate()
        for line in ("hello\n", "@nobody hello\n", "/nonsense\n", "@a/b x\n"):
            status, written = await self.ends(line, key=key)
            self.assertEqual((line, status), (line, Exit.NOT_ACCEPTED))
            self.assertEqual(written, "")

    async def test_person(self) -> None:
        """A person at a terminal has seen what was wrong, and ends with 0."""
        self.start()
        self.patch(sys.stdin, "isatty", lambda: True)
        status, _ = await self.ends("hello\n")
        self.assertEqual(status, Exit.DONE)

    async def test_too_long(self) -> None:
        """A line that is too long ends with 5; what comes before and after it goes out."""
        self.start()
        _, ear = await self.connected("bob")
        status, _ = await self.ends("@bob first\n@bob " + "x" * 70_000 + "\n@bob last\n")
        await ear.hears("last")
        self.assertEqual((status, ear.texts), (Exit.NOT_ACCEPTED, ["first", "last"]))
        self.assertIn("Too long", self.notes)

    async def test_far_too_long(self) -> None:
        """A line that goes on and on ends the input."""
        self.start()
        _, ear = await self.connected("bob")
        status, _ = await self.ends("@bob first\n@bob " + "x" * 2_000_000)
        await ear.hears("first")
        self.assertEqual((status, ear.texts), (Exit.NOT_ACCEPTED, ["first"]))

    async def test_shown(self) -> None:
        """What comes in is shown in the contract's form, with its control characters spelt out."""
        self.start()
        made = self.terminal(self.port, "bob")
        alice, _ = await self.connected("alice")
        alice.send("alice", "so that bob is there")
        while not made._narrator.has_been_connected:
            await alice.command("ping")
        alice.send("bob", "a\x1b[2J\u202eb\nc")
        while b"\n" not in self.output.value():
            await alice.command("ping")
        line = self.output.value().decode()
        self.assertRegex(
            line, r"\A\[\d\d:\d\d:\d\d\] alice -> bob \[VERIFIED\]: a\\x1b\[2J\\u202eb\\nc\n\Z"
        )

    async def test_refused(self) -> None:
        """A login that is refused ends with 4."""
        self.start()
        await self.connected("alice")
        status, _ = await self.ends("!x\n")
        self.assertEqual(status, Exit.REFUSED)

    async def test_unreachable(self) -> None:
        """A server that is not there ends with 3."""
        server = self.start()
        await self.stop_server(server)
        status, _ = await self.ends("!x\n")
        self.assertEqual(status, Exit.UNREACHABLE)
        self.assertIn("refused", self.notes)

    async def test_announces(self) -> None:
        """With AUTO_ANNOUNCE everybody is told, once."""
        self.start()
        _, ear = await self.connected("bob")
        await self.ends("", auto_announce=True, username="Alice L.")
        await ear.hears("Alice L. is now online")
        self.assertEqual(len(ear.texts), 1)

    async def test_auto_mode(self) -> None:
        """With AUTO_MODE there is a broadcast every 30 seconds."""
        self.start()
        bob, ear = await self.connected("bob")
        made = self.terminal(self.port, auto_mode=True)
        clock = Clock()
        made._auto.clock = clock
        while not made._narrator.has_been_connected:
            await bob.command("ping")
        clock.advance(29)
        self.assertEqual(made._client.waiting + made._client.counters.sent, 0)
        clock.advance(1)
        await ear.until(lambda: len(ear.texts) == 1)
        self.assertEqual(ear.messages[0].message.topic, "broadcast")

    async def test_output_closed(self) -> None:
        """When nobody reads, or all is closed, it ends."""
        self.start()
        for name in ("writeConnectionLost", "connectionLost"):
            made = self.terminal(self.port)
            getattr(made, name)()
            self.assertEqual(await made.done, Exit.DONE)
            await made.close()
            await made.close()


class AwayTests(_TerminalTests):
    """A server that goes away while it is needed."""

    async def test_gives_up(self) -> None:
        """At the end, a server that is away is waited for, and then given up with 3."""
        script = Script(self)
        made = self.terminal(script.port)
        clock = Clock()
        made._reactor = clock
        end: Any = await script.conversation()
        script.answers["/auth/login"] = (500, b"down")
        script.answers["/ws"] = (500, b"down")
        made._client._token = None
        made.dataReceived(b"@bob hello\n")
        await script.frame("hello")
        made.readConnectionLost()
        await script.command("ping")
        end.transport.abortConnection()
        await script.until(lambda: script.paths().count("/auth/login") >= 2)
        clock.advance(PATIENCE - 1)
        self.assertFalse(made.done.called)
        clock.advance(1)
        self.assertEqual(await made.done, Exit.UNREACHABLE)
        self.assertIn("did not come back", self.notes)

    async def test_comes_back(self) -> None:
        """When it comes back in time, what is left goes out, and that it was away is told."""
        script = Script(self)
        made = self.terminal(script.port)
        made._reactor = Clock()
        end: Any = await script.conversation()
        made.dataReceived(b"@bob one\n")
        request_id = await script.command("ping")
        content = f'{{"success": true, "request_id": "{request_id}", "result": null}}'
        end.deliver(content, sender="server")
        end.sendClose(1000)
        await end.is_closed
        while made._client.connected:
            await deferLater(cast(Any, reactor), 0)
        made.dataReceived(b"@bob hello")
        made.readConnectionLost()
        await script.frame("hello")
        request_id = await script.command("ping", 2)
        content = f'{{"success": true, "request_id": "{request_id}", "result": null}}'
        script.conversations[-1].deliver(content, sender="server")
        self.assertEqual(await made.done, Exit.DONE)
        self.assertIn("Back as alice", self.notes)

    async def test_no_list(self) -> None:
        """When /users cannot be answered, that counts as not accepted."""
        script = Script(self)
        made = self.terminal(script.port)
        end: Any = await script.conversation()
        script.answers["/active-users"] = (500, b"\x1bno")
        made.dataReceived(b"/users\n/quit\n")
        request_id = await script.command("ping")
        content = f'{{"success": true, "request_id": "{request_id}", "result": null}}'
        end.deliver(content, sender="server")
        self.assertEqual(await made.done, Exit.NOT_ACCEPTED)
        self.assertIn(r"* \x1bno", self.notes)


class PrepareTests(SynchronousTestCase):
    """The environment, and arguments."""

    def setUp(self) -> None:
        self.patch(sys, "stderr", io.StringIO())
        self.patch(sys, "stdout", io.StringIO())
        self.home = str(Path(self.mktemp()).absolute())

    def prepared(self, **environ: str) -> tuple[Any, PrivateKey]:
        return prepare({"WS_USER_ID": "alice", "XDG_CONFIG_HOME": self.home, **environ})

    def written(self, stream: Any) -> str:
        return str(stream.getvalue())

    def test_key_made(self) -> None:
        """A client without a key makes one, and says so, once."""
        _, key = self.prepared()
        self.assertIn("alice.key", self.written(sys.stderr))
        self.patch(sys, "stderr", io.StringIO())
        self.assertEqual(self.prepared()[1].public_key, key.public_key)
        self.assertEqual(self.written(sys.stderr), "")

    def test_key_given(self) -> None:
        """WS_PRIVATE_KEY is taken, and no file is made."""
        key = PrivateKey.generate()
        self.assertEqual(self.prepared(WS_PRIVATE_KEY=key.to_text())[1].public_key, key.public_key)
        self.assertFalse(os.path.exists(self.home))

    def test_insecure(self) -> None:
        """Who checks nothing is told what that means."""
        self.prepared(INSECURE_TLS="true")
        self.assertIn("* INSECURE_TLS", self.written(sys.stderr))

    def test_debug(self) -> None:
        """With DEBUG there is a log on standard error."""
        begun: list[Any] = []
        self.patch(globalLogBeginner, "beginLoggingTo", lambda *a, **k: begun.append(a))
        self.prepared(DEBUG="true")
        self.assertEqual(len(begun), 1)

    def test_wrong(self) -> None:
        """What is wrong ends with 2 and a line, which never shows a key."""
        for environ in (
            {"WS_PRIVATE_KEY": "hush"},
            {"DEBUG": "x"},
            {"XDG_CONFIG_HOME": "/dev/null"},
        ):
            error = self.assertRaises(SystemExit, lambda e=environ: self.prepared(**e))
            self.assertEqual(error.code, 2)
        self.assertNotIn("hush", self.written(sys.stderr))
        self.assertEqual(self.written(sys.stderr).count("\n"), 3)

    def test_usage(self) -> None:
        """--help prints the help and ends with 0; other arguments end with 2."""
        usage([], "HELP")
        for option in ("-h", "--help"):
            self.assertEqual(self.assertRaises(SystemExit, usage, [option], "\nHELP\n").code, 0)
        self.assertEqual(self.written(sys.stdout), "HELP\nHELP\n")
        self.assertEqual(self.assertRaises(SystemExit, usage, ["x\x1b"], "HELP").code, 2)
        self.assertIn(r"x\x1b", self.written(sys.stderr))

    def test_statuses(self) -> None:
        """The numbers are those of docs/clients.md."""
        self.assertEqual([int(status) for status in Exit], [0, 1, 2, 3, 4, 5])
        self.assertEqual(exit_for(RequestRefused("no")), 4)
        self.assertEqual(exit_for(ConnectionProblem("no")), 3)
        self.assertEqual(exit_for(None), 3)
        self.assertEqual(terminal.MAX_LINE, 1024 * 1024)
        self.assertEqual(State.CONNECTED.value, "connected")
