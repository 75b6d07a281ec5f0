"""Tests of `wschat.client.connection`: a user's own new keys, over a whole server."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred

from tests.client.support import Ear, QuickTests
from wschat.client import Client
from wschat.client.accounts import ConnectionProblem, RequestRefused
from wschat.client.keyring import load_or_make
from wschat.envelope import Authenticity
from wschat.identity import PrivateKey


class RotationTests(QuickTests):
    """Bob has new keys; alice knows the old ones."""

    async def meet(self) -> None:
        self.start()
        self.path = Path(self.mktemp()).absolute() / "bob.key"
        self.old, _ = load_or_make(self.path)
        self.alice, self.ear = await self.connected("alice")
        self.bob, self.told = await self.as_bob()
        self.bob.send("alice", "before")
        await self.ear.hears("before")
        self.alice.send("bob", "to the old key")
        await self.told.hears("to the old key")

    async def as_bob(self, **given: Any) -> tuple[Client, Ear]:
        key, _ = load_or_make(self.path)
        return await self.connected("bob", key=key, key_file=self.path, **given)

    async def fails(self, error: type[Exception]) -> str:
        rotating: Deferred[Any] = Deferred.fromCoroutine(self.bob.rotate())
        return str(await self.assertFailure(rotating, error))

    def key(self) -> str:
        return load_or_make(self.path)[0].public_key

    def files(self) -> list[str]:
        return sorted(path.name for path in self.path.parent.iterdir())

    async def test_followed(self) -> None:
        """What is said with the new keys is sealed, verified, and no warning: only a notice."""
        await self.meet()
        code = await self.alice.fingerprint("bob")
        await self.bob.rotate()
        self.assertNotEqual(self.key(), self.old.public_key)
        self.bob.send("alice", "after")
        await self.ear.hears("after")
        self.alice.send("bob", "to the new key")
        await self.told.hears("to the new key")
        for ear in (self.ear, self.told):
            verdicts = [heard.authenticity for heard in ear.messages]
            self.assertEqual(verdicts, [Authenticity.ENVELOPE] * 2)
            self.assertTrue(all(heard.message.encrypted for heard in ear.messages))
        new = await self.bob.fingerprint("alice")
        self.assertEqual((self.ear.rotations, self.ear.key_changes), ([("bob", code, new)], []))
        self.assertEqual(await self.alice.fingerprint("bob"), new)

    async def test_meanwhile(self) -> None:
        """What is said while the server is asked is signed with the key that there is then."""
        await self.meet()
        request = self.bob.accounts._request

        async def says(method: str, path: str, json: object = None) -> tuple[int, bytes]:
            if path == "/auth/rotate":
                self.bob.send("alice", "meanwhile")
            return await request(method, path, json)

        self.patch(self.bob.accounts, "_request", says)
        await self.bob.rotate()
        await self.ear.hears("meanwhile")
        await self.alice.whois("bob")
        heard = (await self.alice.history("bob")).messages[-1]
        self.assertEqual((heard.text, heard.authenticity), ("meanwhile", Authenticity.ENVELOPE))

    async def test_later(self) -> None:
        """Another process has the new keys, and reads what was sealed for the old ones."""
        await self.meet()
        await self.bob.rotate()
        await self.bob.rotate()
        await self.bob.stop()
        self.bob, _ = await self.as_bob()
        for client, peer in ((self.bob, "alice"), (self.alice, "bob")):
            page = await client.history(peer)
            self.assertEqual([heard.text for heard in page.messages], ["before", "to the old key"])
            self.assertTrue(all(heard.verified for heard in page.messages))
        self.assertEqual(self.files(), ["bob.key"])

    async def test_refused(self) -> None:
        """When the server does not take them, everything is as it was."""
        await self.meet()
        self.bob.accounts._key = PrivateKey.generate()
        await self.fails(RequestRefused)
        self.assertEqual((self.key(), self.files()), (self.old.public_key, ["bob.key"]))
        self.bob.send("alice", "still me")
        await self.ear.hears("still me")
        self.assertTrue(self.ear.messages[-1].verified)

    async def test_answer_lost(self) -> None:
        """When the answer is lost, the server is asked which keys it has."""
        await self.meet()
        accounts = self.bob.accounts
        request = accounts._request

        async def loses(method: str, path: str, json: object = None) -> tuple[int, bytes]:
            answer = await request(method, path, json)
            if path == "/auth/rotate":
                raise ConnectionProblem("lost")
            return answer

        self.patch(accounts, "_request", loses)
        await self.bob.rotate()
        self.assertNotEqual(self.key(), self.old.public_key)
        self.bob.send("alice", "after")
        await self.ear.hears("after")
        self.assertTrue(self.ear.messages[-1].verified)

    def loses(self, *paths: str) -> Callable[[], object]:
        """From now on these questions do not come to the server; until what is returned."""
        accounts = self.bob.accounts
        request = accounts._request

        async def loses(method: str, path: str, json: object = None) -> tuple[int, bytes]:
            if path in paths:
                self.lost.append((path, json))
                raise ConnectionProblem("lost")
            return await request(method, path, json)

        self.lost: list[Any] = []
        restore: Callable[[], object] = self.patch(accounts, "_request", loses).restore
        return restore

    async def test_late(self) -> None:
        """The server may take a key long after nobody waits for that any more: it is kept."""
        await self.meet()
        restore = self.loses("/auth/rotate")
        await self.fails(ConnectionProblem)
        restore()
        self.assertEqual(self.key(), self.old.public_key)
        self.assertEqual(self.files(), ["bob.key", "bob.key.new"])
        ((path, step),) = self.lost
        self.assertEqual((await self.bob.accounts._request("POST", path, step))[0], 200)
        await self.bob.rotate()  # … goes on where that ended
        self.assertEqual((self.key(), self.files()), (step.step.public_key, ["bob.key"]))
        self.bob.send("alice", "after")
        await self.ear.hears("after")
        self.assertTrue(self.ear.messages[-1].verified)

    async def test_unknown(self) -> None:
        """When nothing can be known, both keys are kept, and no third one is made."""
        await self.meet()
        restore = self.loses("/auth/rotate", "/auth/users/bob")
        await self.fails(ConnectionProblem)
        waiting = self.path.with_name("bob.key.new").read_text()
        await self.fails(ConnectionProblem)
        restore()
        self.assertEqual(self.files(), ["bob.key", "bob.key.new"])
        self.patch(self.bob.accounts, "_key", PrivateKey.generate())  # … and refused now
        await self.fails(RequestRefused)
        self.assertEqual(self.path.with_name("bob.key.new").read_text(), waiting)

    async def test_no_file(self) -> None:
        """A key that is in no file would be lost with the process."""
        self.start()
        self.bob, _ = await self.connected("bob")
        await self.fails(ValueError)
