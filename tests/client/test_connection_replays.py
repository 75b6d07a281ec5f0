"""Tests of `wschat.client.connection`: what the next program takes for said again."""

from __future__ import annotations

import random
import time
from pathlib import Path

from twisted.internet.defer import Deferred

from tests.client.support import Ear, QuickTests
from tests.client.test_people import LiarTests
from wschat.client import State, acknowledging
from wschat.client.acknowledging import Acknowledging
from wschat.client.listener import Heard
from wschat.client.replays import LATER
from wschat.codes import CloseCode
from wschat.envelope import Authenticity
from wschat.identity import PrivateKey

ENVELOPE, INVALID = Authenticity.ENVELOPE, Authenticity.INVALID


class Slow(Ear):
    """A listener that takes its time over each message."""

    def __init__(self) -> None:
        super().__init__()
        self.done: Deferred[None] = Deferred()

    def heard(self, heard: Heard) -> Deferred[None]:  # type: ignore[override]  # it always waits
        super().heard(heard)
        return self.done


class NextTests(LiarTests):
    """Alice's program ends, and the next one hears the same message, or hears it again."""

    async def begin(self, ear: Ear | None = None, **given: object) -> None:
        """Alice's program, to which bob says something."""
        known = self.file
        self.alice, self.ear = await self.person("alice", ear=ear, known_users=known, **given)
        self.bob, _ = await self.person("bob")
        await self.says(self.bob, "alice", "hello")
        await self.ear.until(lambda: bool(self.ear.messages))
        self.assertIs(self.ear.messages[0].authenticity, ENVELOPE)

    async def next(self) -> Authenticity:
        """What the next program makes of the same message."""
        self.alice, self.ear = await self.person("alice", known_users=self.file)
        return await self.verdict(self.bobs())

    async def lose(self) -> None:
        """Alice's connection is lost, and does not come back soon."""
        self.patch(random, "uniform", lambda low, high: 10.0)
        self.liar.cut_off("alice")
        await self.ear.becomes(State.DISCONNECTED)
        self.patch(random, "uniform", lambda low, high: 0.01)

    async def test_clean(self) -> None:
        """After a goodbye the server has no reason to say anything again."""
        await self.begin()
        await self.alice.stop()
        self.assertIs(await self.next(), INVALID)

    async def test_lost(self) -> None:
        """What was acknowledged on a connection that was lost may not have been."""
        await self.begin()
        while not self.alice._session.all_acknowledged:
            await self.says(self.bob, "charlie", "are you there?")
        await self.lose()
        await self.alice.stop()
        self.assertIs(await self.next(), ENVELOPE)
        await self.alice.stop()
        self.assertIs(await self.next(), INVALID)

    async def test_found_again(self) -> None:
        """… and is, once there is another that goes on behind it."""
        await self.begin()
        await self.again()
        await self.alice.stop()
        self.assertIs(await self.next(), INVALID)

    async def test_handled_after(self) -> None:
        """What is handled when the connection is lost cannot have been acknowledged."""
        slow = Slow()
        await self.begin(slow)
        await self.lose()
        slow.done.callback(None)
        await self.alice.stop()
        self.assertIs(await self.next(), ENVELOPE)

    async def test_not_offered(self) -> None:
        """What came on an earlier connection alone cannot be acknowledged on this one."""
        slow = Slow()
        await self.begin(slow)
        await self.again()
        await self.ear.becomes(State.CONNECTED, 2)
        slow.done.callback(None)
        await self.alice.stop()
        self.assertIs(await self.next(), ENVELOPE)

    async def test_no_answer(self) -> None:
        """A goodbye that nobody answers says nothing of what came before."""
        await self.begin()
        stopping = Deferred.fromCoroutine(self.alice.stop())
        self.liar.cut_off("alice")
        await stopping
        self.assertIs(await self.next(), ENVELOPE)

    async def test_other_goodbye(self) -> None:
        """A server that says goodbye at the same time has not read all that was said to it."""
        slow = Slow()
        await self.begin(slow)
        slow.done.callback(None)
        (end,) = (end for end in self.liar._sessions if end.user_id == "alice")
        end.sendClose(int(CloseCode.REPLACED), "replaced")
        await self.alice.stop()
        self.assertIs(await self.next(), ENVELOPE)

    async def test_killed_later(self) -> None:
        """A program that says nothing more has written down its last message all the same."""
        wall = [time.time()]
        self.patch(acknowledging, "LATER", 0.01)
        self.patch(acknowledging, "_AFTER", 0.0)
        first: Deferred[None] = Deferred()
        save = Acknowledging._save

        def saved(ours: Acknowledging) -> None:
            save(ours)
            if ours is self.alice._acknowledging and not first.called:
                first.callback(None)

        self.patch(Acknowledging, "_save", saved)
        await self.begin(wall=lambda: wall[0])
        await first
        heard = self.file.parent / "heard" / f"alice@localhost:{self.liar.port}"
        self.assertFalse(heard.exists())
        wall[0] += 2 * LATER
        while not heard.exists():
            await self.says(self.bob, "charlie", "are you there?")
        self.assertEqual(len(heard.read_text().splitlines()), 1)


class CrashTests(QuickTests):
    """The same with a real server."""

    async def test_redelivered(self) -> None:
        """What the server delivers again, because no program acknowledged it, is no replay."""
        server, known, key = self.start(), Path(self.mktemp()).absolute(), PrivateKey.generate()
        given = {"session": "desk", "known_users": known, "key": key}
        self.patch(acknowledging, "_AFTER", 60.0)
        alice, ear = await self.connected("alice", **given)
        bob, _ = await self.connected("bob")
        bob.send("alice", "one")
        await ear.hears("one")
        self.patch(random, "uniform", lambda low, high: 10.0)
        self.cut(server, "alice")
        await ear.becomes(State.DISCONNECTED)
        await alice.stop()
        _, ear = await self.connected("alice", **given)
        await ear.hears("one")
        self.assertIs(ear.messages[0].authenticity, ENVELOPE)
