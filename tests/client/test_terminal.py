"""Tests of `wschat.client.terminal`: lines in, lines out, and how it ends."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any, cast

from twisted.internet import reactor
from twisted.internet.defer import Deferred, fail
from twisted.internet.task import Clock, deferLater
from twisted.internet.testing import StringTransport

from tests.client.support import QuickTests, Script, StreamTests, settings
from wschat import codes
from wschat.client import narrator
from wschat.client.console import Direct
from wschat.client.jsonlines import JsonNarrator
from wschat.client.terminal import PATIENCE, Exit, Terminal
from wschat.identity import PrivateKey
from wschat.store import DiskFull


class _TerminalTests(StreamTests, QuickTests):
    def terminal(self, port: int, user_id: str = "alice", **given: Any) -> Terminal:
        """A terminal with a transport that remembers what was written."""
        key = given.pop("key", None) or PrivateKey.generate()
        narrated = given.pop("narrator", narrator.Narrator)
        made = Terminal(reactor, settings(port, user_id, **given), key, narrated)
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

    async def test_more_commands(self) -> None:
        """/whois, /fingerprint, /trust, /metrics and /ping answer on standard output, in order."""
        self.start()
        bob, _ = await self.connected("bob")
        key = PrivateKey.generate()
        made = self.terminal(self.port, key=key)
        made.dataReceived(b"/whois bob\n/fingerprint bob\n/trust bob\n/metrics\n/ping\n/quit\n")
        self.assertEqual(await made.done, Exit.DONE, self.notes)
        written = self.output.value().decode()
        code = await bob.fingerprint("alice")
        who, known, own, trusted, *metrics, ping = written.splitlines()
        self.assertRegex(who, r"\Abob \(Bob\), since 20")
        self.assertTrue(known.startswith(f"fingerprint {code}, "), known)
        self.assertEqual(own, f"bob: {code}")
        self.assertEqual(trusted, f"bob has the key you know: {code}")
        self.assertTrue(metrics[0].startswith("sent "), metrics)
        self.assertRegex(ping, r"\AThe server answered within [0-9.]+ ms\.\Z")

    async def test_commands_refused(self) -> None:
        """Commands about nobody, or about what is none, cost the status."""
        self.start()
        key = PrivateKey.generate()
        for line in ("/whois nobody\n", "/fingerprint\n", "/trust nobody\n", "/trust bob yes\n"):
            status, written = await self.ends(line, key=key)
            self.assertEqual((line, status, written), (line, Exit.NOT_ACCEPTED, ""))

    async def test_json(self) -> None:
        """With --json everything is an object a line, on standard output alone."""
        self.start()
        _, ear = await self.connected("bob")
        made = self.terminal(self.port, narrator=JsonNarrator)
        lines = (
            {"to": "bob", "text": "hi\x1b", "client_id": "a1", "request_id": 1},
            {"command": "users", "request_id": "u"},
            {"to": "nobody", "text": "x", "client_id": "a2"},
            {"command": "quit"},
        )
        made.dataReceived("".join(json.dumps(line) + "\n" for line in lines).encode())
        self.assertEqual(await made.done, Exit.NOT_ACCEPTED)
        self.assertEqual(self.notes, "")
        self.assertNotIn(b"\x1b", self.output.value())
        told = [json.loads(line) for line in self.output.value().splitlines()]
        self.assertEqual([t["state"] for t in told if t["type"] == "state"][-1], "connected")
        self.assertIn({"type": "sending", "request_id": 1, "client_id": "a1", "to": "bob"}, told)
        (answer,) = [t for t in told if t["type"] == "answer"]
        self.assertEqual((answer["request_id"], answer["command"]), ("u", "users"))
        self.assertIn("bob", answer["result"]["online"])
        (refused,) = [t for t in told if t["type"] == "refused"]
        self.assertEqual(refused["client_id"], "a2")
        (stored,) = [t for t in told if t["type"] == "stored"]
        self.assertEqual(stored["client_id"], "a1")
        await ear.hears("hi\x1b")

    async def test_refused_at_once(self) -> None:
        """What is refused before it is sent is told behind what says that it is on its way."""
        self.start()
        made = self.terminal(self.port, narrator=JsonNarrator)
        send = made._client.send

        def refusing(to: str, text: str, client_id: str) -> str:
            made.refused("no", client_id)
            return send(to, text, client_id)

        self.patch(made._client, "send", refusing)
        made.dataReceived(b'{"to": "bob", "text": "x", "client_id": "a1"}\n')
        told = [json.loads(line) for line in self.output.value().splitlines()]
        kinds = [t["type"] for t in told if t["type"] != "state"]
        self.assertEqual(kinds, ["sending", "refused"])
        made.interrupt()

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
        said = r"alice -> bob \[VERIFIED\] \[ENCRYPTED\]: a\\x1b\[2J\\u202eb\\nc"
        self.assertRegex(line, rf"\A\[\d\d:\d\d:\d\d\] {said}\n\Z")

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


class ReceiptTests(_TerminalTests):
    """What becomes of what was typed: quietly, on standard error."""

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something is so, as nobody tells what a terminal writes."""
        while not condition():
            await deferLater(cast(Any, reactor), 0.001)

    async def sees(self, text: str) -> None:
        """Wait for a line on standard error."""
        await self.until(lambda: f"{text}\n" in self.notes)

    async def test_receipts(self) -> None:
        """A direct message has ✓ and then ✓✓, a broadcast ✓; standard output has neither."""
        self.start()
        await self.connected("bob")
        made = self.terminal(self.port)
        made.dataReceived("!all \u202e of you\n@bob hello\n".encode())
        await self.sees("✓✓ @bob hello")
        marks = [line for line in self.notes.splitlines() if line.startswith("✓")]
        shown = r"✓ !all \u202e of you"
        self.assertEqual(marks, [shown, "✓ @bob hello", "✓✓ @bob hello"])
        self.assertEqual(self.output.value(), b"")
        self.assertEqual(made._narrator._said, {})

    async def test_forgotten(self) -> None:
        """Of too many that are on their way the oldest are shown no receipt."""
        self.patch(narrator, "_REMEMBERED", 1)
        self.start()
        await self.connected("bob")
        made = self.terminal(self.port)
        await self.until(lambda: made._narrator.has_been_connected)
        for text in ("one", "two"):
            made._send(Direct("bob", text))
        await self.sees("✓✓ @bob two")
        self.assertNotIn("one", self.notes)

    async def test_refused(self) -> None:
        """What is refused is named by what was typed, and costs the status."""
        self.start()
        status, written = await self.ends("@nobody hello\n!all\n")
        self.assertIn("* @nobody hello: Unknown recipient: nobody.\n", self.notes)
        self.assertIn("✓ !all\n", self.notes)
        self.assertEqual((status, written), (Exit.NOT_ACCEPTED, ""))

    async def test_disk_full(self) -> None:
        """A server that cannot store says why, once; the message is sent until it can."""
        server = cast(Any, self.start())
        await self.connected("bob")
        stream, tries = server._parts.chat._commits._stream, []
        append = stream.append

        def full(batch: Any, *rest: Any) -> Any:
            tries.extend(batch)
            return fail(DiskFull()) if batch and len(tries) < 3 else append(batch, *rest)

        stream.append = full
        self.patch(codes.ErrorCode, "advice", property(self._at_once))
        self.terminal(self.port).dataReceived(b"@bob hello\n")
        await self.sees("✓✓ @bob hello")
        self.assertEqual(self.notes.count("The server's disk is full"), 1)

    @staticmethod
    def _at_once(code: codes.ErrorCode) -> codes.Advice:
        """As the table has it, without a wait."""
        return codes._ERRORS[code]._replace(wait=0)

    async def test_history(self) -> None:
        """/history shows the last of a conversation as it shows what comes, and how much it was."""
        self.start()
        bob, _ = await self.connected("bob")
        key = PrivateKey.generate()
        alice, told = await self.connected("alice", key=key)
        for text in ("one", "two\x1b"):
            alice.send("bob", text)
        await alice.settled()
        bob.send("alice", "three")
        await told.hears("three")
        await told.until(lambda: len(told.delivered_ids) == 2)
        await alice.stop()
        made = self.terminal(self.port, key=key)
        made.dataReceived(b"/history bob 2\n/history !\n")  # before there is a connection
        await self.sees("* 0 messages.")
        made.readConnectionLost()
        status, written = await made.done, self.output.value().decode()
        first, second = (line.partition("] ")[2] for line in written.splitlines())
        self.assertEqual(first, r"alice -> bob [VERIFIED] [ENCRYPTED]: two\x1b")
        self.assertEqual(second, "bob -> alice [VERIFIED] [ENCRYPTED]: three")
        self.assertIn("* 2 messages, and there are more.\n* 0 messages.\n", self.notes)
        self.assertEqual(status, Exit.DONE)

    async def test_no_history(self) -> None:
        """What cannot be a conversation is answered with what can, and costs the status."""
        self.start()
        status, written = await self.ends("/history\n")
        self.assertIn("* To see what was said: /history USER", self.notes)
        self.assertEqual((status, written), (Exit.NOT_ACCEPTED, ""))

    async def test_lost_receipt(self) -> None:
        """At the end all has to be stored, though the server is lost and restarted in between."""
        server = self.start()
        port = self.port
        _, ear = await self.connected("bob")
        made = self.terminal(port)
        made.dataReceived(b"!first\n")
        await self.sees("✓ !first")
        self.mute(server, "alice")
        made.dataReceived(b"@bob one\n@bob two\n")
        made.readConnectionLost()
        await ear.hears("two")
        self.assertEqual((self.notes.count("✓"), made.done.called), (1, False))
        stopping = Deferred.fromCoroutine(self.stop_server(server))
        self.cut(server, "alice")
        await stopping
        self.start(port)
        self.assertEqual(await made.done, Exit.DONE)
        for text in ("one", "two"):
            self.assertIn(f"✓ @bob {text}\n", self.notes)
        self.assertEqual(ear.texts, ["first", "one", "two"])

    async def test_replaced(self) -> None:
        """A terminal whose session is taken over ends with 4, and says why."""
        self.start()
        key = PrivateKey.generate()
        made = self.terminal(self.port, key=key, session="desk")
        await self.until(lambda: made._narrator.has_been_connected)
        await self.connected("alice", key=key, session="desk")
        self.assertEqual(await made.done, Exit.REFUSED)
        self.assertIn("another connection took over this session", self.notes)

    async def test_incomplete(self) -> None:
        """When something is missing, that is said."""
        self.start()
        self.terminal(self.port).incomplete()
        self.assertIn("* You were away for long", self.notes)

    async def test_interrupted(self) -> None:
        """An interrupt ends at once: with 5 when that costs a message, else with 0."""
        self.start()
        made = self.terminal(self.port)
        made.interrupt()
        self.assertEqual(await made.done, Exit.DONE)
        made.interrupt()
        made = self.terminal(self.port)
        made.dataReceived(b"@bob hello\n")
        made.interrupt()
        self.assertEqual(await made.done, Exit.NOT_ACCEPTED)
        self.assertIn("* Interrupted: 1 messages may not have been sent.", self.notes)


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
        made._client._dialler._token = None
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

    async def test_trust(self) -> None:
        """A new key is taken when its fingerprint is said, and with nothing less; in a pipe too."""
        script = Script(self)
        made = self.terminal(script.port)
        await script.conversation()

        async def answers(line: str, text: str) -> list[str]:
            """What is written to a line, once it has that text."""
            made.dataReceived(line.encode() + b"\n")
            while text not in self.output.value().decode() + self.notes:
                await deferLater(cast(Any, reactor), 0.001)
            written: str = self.output.value().decode()
            return written.splitlines()

        _, known = await answers("/whois bob", "seen for the first time")
        other = {"public_key": PrivateKey.generate().public_key, "user_id": "bob"}
        script.answers["/auth/users/bob"] = (200, other)
        *_, before, now, _, how = await answers("/trust bob", "  /trust bob ")
        self.assertIn(before.split(": ")[1].strip(), known)
        self.assertEqual(how.split()[2:], now.split()[1:])
        self.assertIn("* !!! The server has other keys for bob than before", self.notes)
        await answers("/trust bob 12345", "Not taken")
        *_, last = await answers(how.strip(), "bob is trusted")
        self.assertIn(f"New: {' '.join(now.split()[1:])}", last)
        made.interrupt()

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
