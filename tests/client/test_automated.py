"""Tests of `wschat.client.automated`: a client without a person."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from tests.client.support import QuickTests, StreamTests, settings
from wschat.client import automated
from wschat.client.automated import Automated
from wschat.client.console import Direct
from wschat.client.program import Exit
from wschat.identity import PrivateKey


class AutomatedTests(StreamTests, QuickTests):
    """An automated client at a whole server."""

    def automated(self, **given: Any) -> Automated:
        made = Automated(reactor, settings(self.port, "robot", **given), PrivateKey.generate())
        self.output = StringTransport()
        made._telling.clock = self.clock = Clock()
        made.makeConnection(self.output)
        self.addCleanup(lambda: Deferred.fromCoroutine(made.close()))
        return made

    async def test_stays(self) -> None:
        """It stays when its input ends, after the last line; and tells metrics at an interval."""
        self.start()
        bob, ear = await self.connected("bob")
        made = self.automated()
        made.dataReceived(b"!one\n!two")
        made.readConnectionLost()
        made.readConnectionLost()
        await ear.hears("two")
        await bob.command("ping")
        self.assertFalse(made.done.called)
        self.clock.advance(29)
        self.assertNotIn("metrics", self.notes)
        self.clock.advance(1)
        self.assertRegex(self.notes, r"\* metrics: sent \d, received 0, .*\n")

    async def test_handlers(self) -> None:
        """It answers those who ask it directly, counts what comes, and answers nothing else."""
        self.start()
        made = self.automated()
        bob, ear = await self.connected("bob")
        made.dataReceived(b"@bob here\n")
        await ear.hears("here")
        bob.broadcast('{"type": "ping", "id": 1}')
        for text in ('{"type": "ping", "id": 2}', '{"type": 5}', "hello"):
            bob.send("robot", text)
        bob.send("robot", '{"type": "metrics", "id": 3}')
        await ear.until(lambda: len(ear.texts) == 3)
        pong, report = (json.loads(text or "") for text in ear.texts[1:])
        self.assertEqual(pong, {"type": "pong", "id": 2})
        self.assertEqual((report["type"], report["id"]), ("metrics_report", 3))
        self.assertEqual(report["received"], 5)
        self.clock.advance(30)
        self.assertIn("; handled: ping 2, text 2, metrics 1\n", self.notes)

    async def test_no_answer(self) -> None:
        """What cannot be answered is said, and is no fault of its own at the end."""
        self.start()
        made = self.automated()
        bob, _ = await self.connected("bob")
        bob.send("robot", '{"type": "ping", "id": "' + "\u00e4" * 8000 + '"}')
        bob.send("robot", '{"type": "ping"}')
        await bob.command("ping")
        while made._kinds["ping"] < 2:
            await made._client.command("ping")
        self.assertIn("* No answer to bob: Too long", self.notes)
        made.dataReceived(b"/quit\n")
        self.assertEqual(await made.done, Exit.DONE)

    async def test_own(self) -> None:
        """What it said itself is no message to it."""
        self.start()
        made = self.automated()
        made.dataReceived(b'@robot {"type": "ping"}\n')
        while b"robot -> robot" not in self.output.value():
            await made._client.command("ping")
        self.assertEqual(dict(made._kinds), {})

    async def test_bounded(self) -> None:
        """However many kinds of messages there are, a few are counted by name."""
        self.start(message_rate="1000", message_burst="1000")
        made = self.automated()
        bob, _ = await self.connected("bob")
        await bob.command("ping")
        for number in range(50):
            bob.broadcast(json.dumps({"type": f"kind {number}" + "x" * 50}))
        while sum(made._kinds.values()) < 50:
            await made._client.command("ping")
        self.assertEqual(len(made._kinds), 21)
        self.assertEqual(made._kinds["others"], 30)

    async def test_interrupted(self) -> None:
        """When it is to end, what is left goes out before; without anything left it just ends."""
        self.start()
        _, ear = await self.connected("bob")
        made = self.automated()
        made.dataReceived(b"@bob one\n")
        await ear.hears("one")
        made._send(Direct("bob", "two"))
        made.interrupt()
        self.assertEqual(await made.done, Exit.DONE)
        await ear.hears("two")
        made = self.automated()
        made.interrupt()
        self.assertEqual(await made.done, Exit.DONE)

    async def test_given_up(self) -> None:
        """A server that does not take what is left is not waited for longer than that."""
        server = self.start()
        _, ear = await self.connected("bob")
        made = self.automated()
        made.dataReceived(b"@bob one\n")
        await ear.hears("one")
        self.mute(server, "robot")
        made._send(Direct("bob", "two"))
        made._reactor = clock = Clock()
        made.interrupt()
        clock.advance(automated._GRACE)
        self.assertEqual(await made.done, Exit.UNREACHABLE)
        self.cut(server, "robot")
