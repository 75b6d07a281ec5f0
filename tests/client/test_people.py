"""Tests of `wschat.client.people`: a server that lies is noticed, whatever it lies about."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred

from tests.client.liar import Frame, Liar
from tests.client.support import Ear, QuickTests
from wschat import envelope, identity, rotation, wire
from wschat.client import Client, replays
from wschat.client.accounts import ConnectionProblem, RequestRefused
from wschat.client.settings import Encryption
from wschat.envelope import Authenticity
from wschat.identity import PrivateKey

ENVELOPE, CONTENT = Authenticity.ENVELOPE, Authenticity.CONTENT
INVALID, NONE = Authenticity.INVALID, Authenticity.NONE


class LiarTests(QuickTests):
    """Alice and bob, and a server between them that charlie runs."""

    policy = Encryption.PREFERRED

    def setUp(self) -> None:
        super().setUp()
        self.liar = Liar(self)
        self.keys = {name: PrivateKey.generate() for name in ("alice", "bob", "charlie")}
        self.file = Path(self.mktemp()).absolute()

    async def meet(self) -> None:
        """Both are there, and each has heard the other."""
        self.alice, self.ear = await self.person("alice", known_users=self.file)
        self.bob, self.told = await self.person("bob")
        await self.says(self.bob, "alice", "hello")
        await self.says(self.alice, "bob", "hello to you")
        await self.ear.hears("hello")
        await self.told.hears("hello to you")

    async def person(self, name: str, **given: Any) -> tuple[Client, Ear]:
        """Somebody who is there, for the server as well."""
        given = {"encryption": self.policy, **given}
        count = self.liar.sessions(name)
        port, key = self.liar.port, self.keys[name]
        client, ear = await self.connected(name, port=port, key=key, **given)
        await self.liar.until(lambda: self.liar.sessions(name) > count)
        return client, ear

    async def says(self, client: Client, to: str, text: str) -> None:
        """Somebody says something, and it has come to the server."""
        client.send(to, text)
        await client.settled()

    async def again(self) -> None:
        """Alice's connection is another, with which she asks who is who again."""
        count = self.liar.sessions("alice")
        self.liar.cut_off("alice")
        await self.liar.until(lambda: self.liar.sessions("alice") > count)

    async def verdict(self, message: Frame, to: str = "") -> Authenticity:
        """What alice makes of a message that is delivered to her."""
        count = len(self.ear.messages)
        self.liar.deliver(message, to or "alice")
        await self.ear.until(lambda: len(self.ear.messages) > count)
        return self.ear.messages[-1].authenticity

    def by(self, key: PrivateKey, text: str, sender: str = "bob", **given: Any) -> Frame:
        """A message as somebody with a key would have said it."""
        message = wire.Message(sender, "alice", text, "2026-11-22T10:00:00Z", client_id=text)
        envelope.sign(key, message)
        header = {
            "from": sender,
            "to": "alice",
            "timestamp": message.timestamp,
            "client_id": text,
            "signature": message.signature,
            "envelope_signature": message.envelope_signature,
        }
        return {"header": {**header, **given}, "body": {"content": text}, "status": "delivered"}

    def bobs(self) -> Frame:
        """What bob said last, as he said it."""
        said = [frame for frame in self.liar.kept if frame["header"]["from"] == "bob"]
        return copy.deepcopy(said[-1])

    async def fails(self, asking: Any, error: type[Exception]) -> str:
        return str(await self.assertFailure(Deferred.fromCoroutine(asking), error))


class MessageTests(LiarTests):
    """Lies about messages."""

    async def test_honest(self) -> None:
        """What is passed on as it is, is sealed and verified."""
        await self.meet()
        for ear in (self.ear, self.told):
            (heard,) = ear.messages
            self.assertIs(heard.authenticity, ENVELOPE)
            self.assertTrue(heard.message.encrypted)
            self.assertNotEqual(heard.message.content, heard.text)
        await self.says(self.bob, "broadcast", "to all")
        await self.ear.hears("to all")
        self.assertIs(self.ear.messages[-1].authenticity, ENVELOPE)
        self.assertEqual(self.ear.key_changes, [])

    async def test_replayed(self) -> None:
        """What is said again, under another id or on another connection, is not said by bob."""
        await self.meet()
        self.assertIs(await self.verdict(self.bobs()), INVALID)
        await self.again()
        self.assertIs(await self.verdict(self.bobs()), INVALID)

    async def test_replayed_later(self) -> None:
        """… nor to the next program of alice's, whatever its session."""
        await self.meet()
        frame = self.bobs()
        await self.alice.stop()
        for session in ("", "desk"):
            self.alice, self.ear = await self.person(
                "alice", known_users=self.file, session=session
            )
            verdict = await self.verdict(frame)
            self.assertIs(verdict, ENVELOPE if session else INVALID)
            await self.alice.stop()
        self.alice, self.ear = await self.person("alice", known_users=self.file, session="desk")
        self.assertIs(await self.verdict(frame), INVALID)

    async def test_replayed_sealed(self) -> None:
        """What was sealed is never the same twice, even if only that is signed."""
        self.alice, self.ear = await self.person("alice")
        self.liar.users["bob"] = {"user_id": "bob", "public_key": self.keys["bob"].public_key}
        sealed = identity.seal("pay him", self.keys["alice"].x25519_public_key)
        signature = identity.sign_content(self.keys["bob"], sealed.content)
        given = {"encrypted_key": sealed.encrypted_key, "encryption_nonce": sealed.encryption_nonce}
        frame = self.by(self.keys["bob"], "", envelope_signature=None, signature=signature, **given)
        frame["body"]["content"] = sealed.content
        self.assertIs(await self.verdict(frame), CONTENT)
        frame["header"].update(timestamp="2026-11-23T10:00:00Z", client_id="another")
        self.assertIs(await self.verdict(frame), INVALID)

    async def test_reflected(self) -> None:
        """What alice said to bob she did not say to herself, and never heard as news."""
        await self.meet()
        mine = copy.deepcopy(self.liar.kept[1])
        self.assertIs(await self.verdict(copy.deepcopy(mine)), INVALID)
        mine["header"]["to"] = "alice"
        self.assertIs(await self.verdict(mine), INVALID)

    async def test_own_stripped(self) -> None:
        """Alice signs whole messages, and so has never said what is signed as less."""
        await self.meet()
        self.liar.past = self.liar.numbered(self.liar.kept[1])
        await self.alice.history("bob")
        redirected = copy.deepcopy(self.liar.kept[1])
        redirected["header"].update(to="charlie")
        del redirected["header"]["envelope_signature"]
        self.liar.past = self.liar.numbered(redirected)
        (heard,) = (await self.alice.history("charlie")).messages
        self.assertIs(heard.authenticity, INVALID)

    async def test_altered(self) -> None:
        """Whatever is changed in it, it is not bob's any more."""
        await self.meet()
        other = identity.seal("other", self.keys["alice"].x25519_public_key)
        for changes in (
            {"timestamp": "2026-11-22T11:00:00Z"},
            {"client_id": "another"},
            {"encrypted_key": other.encrypted_key},
            {"encryption_nonce": other.encryption_nonce},
            {"envelope_signature": "A" * 86 + "=="},
        ):
            frame = self.bobs()
            frame["header"].update(changes)
            self.assertIs(await self.verdict(frame), INVALID, changes)
        frame = self.bobs()
        frame["body"]["content"] = other.content
        self.assertIs(await self.verdict(frame), INVALID)
        self.assertIsNone(self.ear.texts[-1])

    async def test_redirected(self) -> None:
        """What bob said to somebody else, he did not say to alice."""
        await self.meet()
        await self.person("charlie")
        self.liar.twist = lambda frame: []
        await self.says(self.bob, "charlie", "I love you")
        await self.says(self.bob, "broadcast", "sold")
        to_mallory, to_all = (copy.deepcopy(frame) for frame in self.liar.kept[-2:])
        self.assertIs(await self.verdict(to_mallory), INVALID)  # as it is
        for frame in (to_mallory, to_all):
            frame["header"].update(to="alice", message_type="direct", is_broadcast=False)
            self.assertIs(await self.verdict(frame), INVALID)

    async def test_forged(self) -> None:
        """What bob has not said is not his, whoever signs it; nor does it change his key."""
        await self.meet()
        charlie = self.keys["charlie"]
        self.assertIs(await self.verdict(self.by(charlie, "forged")), INVALID)
        as_mallory = self.by(charlie, "hers", "charlie")
        as_mallory["header"]["from"] = "bob"
        self.assertIs(await self.verdict(as_mallory), INVALID)
        self.assertIs(await self.verdict(self.by(self.keys["bob"], "his")), ENVELOPE)
        self.assertEqual(self.ear.key_changes, [])

    async def test_stripped(self) -> None:
        """Who signs whole messages does not sign less, nor nothing."""
        await self.meet()
        for name in ("envelope_signature", "signature"):
            await self.says(self.bob, "alice", f"without {name}")
            await self.ear.hears(f"without {name}")
            frame = self.bobs()
            del frame["header"][name]
            if name == "signature":
                del frame["header"]["envelope_signature"]
            self.assertIs(await self.verdict(frame), INVALID)

    async def test_stripped_later(self) -> None:
        """… which another process, later, knows as well."""
        await self.meet()
        await self.alice.stop()
        self.alice, self.ear = await self.person("alice", known_users=self.file)
        frame = self.by(self.keys["bob"], "less", envelope_signature=None)
        self.assertIs(await self.verdict(frame), INVALID)

    async def test_classic(self) -> None:
        """Who never signed a whole message is believed with less: more is not to be had."""
        self.alice, self.ear = await self.person("alice")
        self.liar.users["bob"] = {"user_id": "bob", "public_key": self.keys["bob"].public_key}
        frame = self.by(self.keys["bob"], "less", envelope_signature=None)
        self.assertIs(await self.verdict(frame), CONTENT)
        frame = self.by(self.keys["bob"], "nothing", envelope_signature=None, signature=None)
        self.assertIs(await self.verdict(frame), NONE)

    async def test_history(self) -> None:
        """A past that is made up is noticed like a present one; what is true in it counts."""
        await self.meet()
        await self.says(self.bob, "alice", "more")
        first, _, last = self.liar.kept
        altered = copy.deepcopy(last)
        altered["header"]["timestamp"] = "2020-01-01T00:00:00Z"
        stripped = copy.deepcopy(last)
        del stripped["header"]["envelope_signature"]
        forged = self.by(self.keys["charlie"], "forged")
        mine = copy.deepcopy(self.liar.kept[1])
        told = [first, mine, altered, stripped, forged, last, first]
        self.liar.past = self.liar.numbered(*told)
        page = await self.alice.history("bob")
        verdicts = [heard.authenticity for heard in page.messages]
        expected = [ENVELOPE, ENVELOPE, INVALID, INVALID, INVALID, ENVELOPE, INVALID]
        self.assertEqual(verdicts, expected)
        self.assertEqual(page.messages[1].text, "hello to you")

    async def test_other_history(self) -> None:
        """What alice and bob said is no part of a conversation with somebody else, nor public."""
        await self.meet()
        self.liar.past = self.liar.numbered(*self.liar.kept)
        for peer in ("charlie", "broadcast"):
            page = await self.alice.history(peer)
            self.assertEqual([heard.authenticity for heard in page.messages], [INVALID] * 2)

    async def test_many(self) -> None:
        """Bad messages by the dozen do not make the client ask by the dozen."""
        await self.meet()
        asked = self.liar.paths().count("/auth/users/bob")
        for number in range(10):
            frame = self.by(self.keys["charlie"], f"forged {number}")
            self.assertIs(await self.verdict(frame), INVALID)
        self.assertLessEqual(self.liar.paths().count("/auth/users/bob"), asked + 1)

    async def test_silent(self) -> None:
        """A server that says nothing of bob's keys does not make a bad message better."""
        await self.meet()
        self.liar.answers["/auth/users/bob"] = (500, b"")
        self.assertIs(await self.verdict(self.by(self.keys["charlie"], "forged")), INVALID)
        self.assertIs(await self.verdict(self.by(self.keys["bob"], "his")), ENVELOPE)


class KeyTests(LiarTests):
    """Lies about keys."""

    async def swap(self) -> None:
        """They have met; then the server hands out charlie's keys as bob's."""
        await self.meet()
        self.liar.swap("bob", self.keys["charlie"])
        await self.again()

    async def test_not_sealed_for(self) -> None:
        """Nothing is sent to a key that is not bob's, and alice is told, once."""
        await self.swap()
        for text in ("one", "two"):
            await self.says(self.alice, "bob", text)
        self.assertEqual(len(self.ear.refusals), 2)
        for word in ("other keys for bob", "fingerprint"):
            self.assertIn(word, self.ear.refusals[0])
        self.assertEqual([user_id for user_id, *_ in self.ear.key_changes], ["bob"])
        self.assertEqual(len(self.liar.kept), 2)

    async def test_signed_by_it(self) -> None:
        """What the new key signs is not bob's; what his own does still is."""
        await self.swap()
        self.assertIs(await self.verdict(self.by(self.keys["charlie"], "forged")), INVALID)
        self.assertEqual(len(self.ear.key_changes), 1)
        self.assertIs(await self.verdict(self.by(self.keys["bob"], "his")), ENVELOPE)

    async def test_in_the_middle(self) -> None:
        """Who opens and seals anew on the way is noticed on both sides."""
        await self.meet()
        charlie = self.keys["charlie"]

        def twist(frame: Frame) -> list[Frame]:
            sender, to = frame["header"]["from"], frame["header"]["to"]
            sealed = identity.seal("a lie", self.keys[to].x25519_public_key)
            message = wire.Message(sender, to, sealed.content, frame["header"]["timestamp"])
            message.client_id = frame["header"]["client_id"]
            message.encrypted_key = sealed.encrypted_key
            message.encryption_nonce = sealed.encryption_nonce
            envelope.sign(charlie, message)
            frame["header"].update(
                encrypted_key=message.encrypted_key,
                encryption_nonce=message.encryption_nonce,
                signature=message.signature,
                envelope_signature=message.envelope_signature,
            )
            return [{**frame, "body": {"content": sealed.content}}]

        self.liar.twist = twist
        await self.says(self.alice, "bob", "the truth")
        await self.says(self.bob, "alice", "the truth")
        for ear in (self.ear, self.told):
            await ear.hears("a lie")
            self.assertIs(ear.messages[-1].authenticity, INVALID)

    async def test_another_process(self) -> None:
        """Bob's keys are known to alice's next process as well."""
        await self.meet()
        await self.alice.stop()
        self.liar.swap("bob", self.keys["charlie"])
        self.alice, self.ear = await self.person("alice", known_users=self.file)
        self.assertIs(await self.verdict(self.by(self.keys["charlie"], "forged")), INVALID)
        await self.says(self.alice, "bob", "secret")
        self.assertEqual((len(self.ear.refusals), len(self.ear.key_changes)), (1, 1))

    async def test_hidden(self) -> None:
        """Who had a key to seal for is not suddenly without, so that all could read."""
        await self.meet()
        self.liar.lies["bob"] = {"x25519_public_key": None}
        await self.again()
        await self.says(self.alice, "bob", "secret")
        self.assertEqual((len(self.ear.refusals), len(self.ear.key_changes)), (1, 1))
        self.assertEqual(len(self.liar.kept), 2)

    async def test_only_sealing_key(self) -> None:
        """The key to seal with is pinned like the one that signs."""
        await self.meet()
        self.liar.lies["bob"] = {"x25519_public_key": self.keys["charlie"].x25519_public_key}
        await self.again()
        await self.says(self.alice, "bob", "secret")
        self.assertEqual((len(self.ear.refusals), len(self.ear.key_changes)), (1, 1))

    async def test_from_the_start(self) -> None:
        """Who is lied to from the first moment finds out by comparing fingerprints."""
        self.alice, _ = await self.person("alice")
        self.bob, _ = await self.person("bob")
        honest = await self.bob.fingerprint("alice")
        self.liar.swap("bob", self.keys["charlie"])
        self.assertNotEqual(await self.alice.fingerprint("bob"), honest)

    async def test_nonsense(self) -> None:
        """Keys that are none are not sealed for; what waits goes out when there are some."""
        await self.meet()
        self.liar.lies["bob"] = {"x25519_public_key": "A" * 43 + "="}
        await self.again()
        asked = self.liar.paths().count("/auth/users/bob")
        name = self.alice.send("bob", "waits")
        await self.liar.until(lambda: self.liar.paths().count("/auth/users/bob") > asked + 2)
        self.assertEqual((self.alice.unsettled, len(self.liar.kept)), (1, 2))
        ((text, delayed),) = self.ear.delays  # told once
        self.assertEqual(delayed, name)
        self.assertIn("which keys bob has", text)
        del self.liar.lies["bob"]
        await self.told.hears("waits")

    async def test_stopped(self) -> None:
        """A client that is stopped while it asks for a key leaves nothing behind."""
        await self.meet()
        self.liar.answers["/auth/users/bob"] = (500, b"")
        await self.again()
        self.alice.send("bob", "waits")
        await self.liar.until(lambda: self.liar.paths()[-1] == "/auth/users/bob")
        await self.alice.stop()  # … for which trial looks
        self.assertEqual((len(self.liar.kept), self.ear.refusals), (2, []))

    async def test_listener(self) -> None:
        """A listener that fails when it is told costs nobody a message."""
        await self.meet()

        def fails(user_id: str, old: str, new: str) -> None:
            raise RuntimeError("a listener's fault")

        self.patch(self.ear, "key_changed", fails)
        self.liar.swap("bob", self.keys["charlie"])
        self.assertIs(await self.verdict(self.by(self.keys["charlie"], "forged")), INVALID)
        self.assertIs(await self.verdict(self.by(self.keys["bob"], "his")), ENVELOPE)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)


class RequiredTests(KeyTests):
    """The same when nothing may be sent unsealed."""

    policy = Encryption.REQUIRED


class TrustTests(LiarTests):
    """What alice may ask, and decide."""

    async def test_fingerprint(self) -> None:
        """Both read the same code, which is their own even before they have met."""
        self.alice, _ = await self.person("alice")
        self.bob, _ = await self.person("bob")
        code = await self.alice.fingerprint("bob")
        self.assertEqual(await self.bob.fingerprint("alice"), code)
        self.assertRegex(code, r"\A\d{5}( \d{5}){5}\Z")
        self.assertNotEqual(await self.alice.fingerprint("alice"), code)

    async def test_whois(self) -> None:
        """The account, its fingerprint, and what is known of it."""
        self.alice, self.ear = await self.person("alice")
        self.bob, _ = await self.person("bob")
        self.liar.lies["bob"] = {"created_at": "2026-11-22T10:00:00Z"}
        found = await self.alice.whois("bob")
        self.assertEqual((found.user_id, found.username), ("bob", "Bob"))
        self.assertEqual(found.created_at, "2026-11-22T10:00:00Z")
        self.assertEqual(found.fingerprint, await self.bob.fingerprint("alice"))
        self.assertEqual((found.trusted, found.pinned), (True, False))
        found = await self.alice.whois("bob")
        self.assertEqual((found.trusted, found.pinned), (True, True))
        self.liar.swap("bob", self.keys["charlie"])
        changed = await self.alice.whois("bob")
        self.assertEqual((changed.trusted, changed.pinned), (False, True))
        told = [("bob", found.fingerprint, changed.fingerprint)]
        self.assertEqual(self.ear.key_changes, told)
        self.assertEqual(await self.alice.fingerprint("bob"), changed.fingerprint)

    async def test_whois_self(self) -> None:
        """A user's own keys are those that they have, whatever the server says."""
        self.alice, self.ear = await self.person("alice")
        before = await self.alice.fingerprint("alice")
        self.liar.swap("alice", self.keys["charlie"])
        found = await self.alice.whois("alice")
        self.assertEqual((found.trusted, found.pinned), (True, True))
        self.assertEqual((found.fingerprint, self.ear.key_changes), (before, []))
        self.assertEqual(await self.alice.trust("alice"), (before, before))
        self.alice.send("alice", "note")
        await self.ear.hears("note")
        self.assertIs(self.ear.messages[-1].authenticity, ENVELOPE)

    async def test_unknown(self) -> None:
        """Nobody is nobody; a server that does not answer has not said so."""
        self.alice, _ = await self.person("alice")
        for ask in (self.alice.whois, self.alice.fingerprint, self.alice.trust):
            self.assertIn("nobody", await self.fails(ask("nobody"), RequestRefused))
            self.assertIn("a b", await self.fails(ask("a b"), RequestRefused))
            self.liar.answers["/auth/users/bob"] = (200, b"{")
            await self.fails(ask("bob"), ConnectionProblem)

    async def test_trusted(self) -> None:
        """When alice accepts a key, it is bob's: it verifies, and is sealed for."""
        await self.meet()
        self.keys["bob"] = PrivateKey.generate()
        self.liar.swap("bob", self.keys["bob"])
        await self.bob.stop()
        await self.again()
        await self.says(self.alice, "bob", "lost")
        ((_, old, new),) = self.ear.key_changes
        self.assertEqual(await self.alice.trust("bob"), (old, new))
        self.bob, self.told = await self.person("bob")
        await self.says(self.alice, "bob", "found")
        await self.told.hears("found")
        self.assertIs(await self.verdict(self.by(self.keys["bob"], "his")), ENVELOPE)
        self.assertEqual(await self.alice.trust("bob"), (new, new))
        self.assertEqual(len(self.ear.key_changes), 1)

    async def test_not_unseen(self) -> None:
        """A key that nobody has been told of is not accepted: it is told of first."""
        await self.meet()
        self.liar.swap("bob", self.keys["charlie"])
        self.assertIn("changed", await self.fails(self.alice.trust("bob"), RequestRefused))
        ((_, old, new),) = self.ear.key_changes
        self.liar.swap("bob", PrivateKey.generate())  # what was shown is what is accepted
        self.assertEqual(await self.alice.trust("bob"), (old, new))

    async def test_less_again(self) -> None:
        """Who goes back to a client that signs contents alone is believed when alice says so."""
        await self.meet()
        frame = self.by(self.keys["bob"], "less", envelope_signature=None)
        self.assertIs(await self.verdict(frame), INVALID)
        await self.alice.trust("bob")
        self.assertIs(await self.verdict(frame), CONTENT)

    async def test_unreadable(self) -> None:
        """When nobody can say what was pinned, nobody is believed, and nothing sealed."""
        await self.meet()
        self.file.unlink()
        self.file.mkdir()
        self.assertIs(await self.verdict(self.by(self.keys["bob"], "his")), NONE)
        await self.again()
        await self.says(self.alice, "bob", "secret")
        self.assertIn(str(self.file), self.ear.refusals[-1])
        self.assertIn(str(self.file), await self.fails(self.alice.whois("bob"), RequestRefused))


class RotationTests(LiarTests):
    """Keys that their owners replace."""

    def rotates(self, new: PrivateKey, **given: Any) -> Callable[[], None]:
        step = rotation.rotate("bob", self.keys["bob"], new, "2026-11-22T12:00:00Z")
        steps = [{name: getattr(step, name) for name in step.__struct_fields__} | given]
        return lambda: self.liar.swap("bob", new, rotations=steps)

    async def test_followed(self) -> None:
        """New keys that the old one vouches for are bob's, without a warning."""
        await self.meet()
        new = PrivateKey.generate()
        self.rotates(new)()
        self.assertIs(await self.verdict(self.by(new, "new")), ENVELOPE)
        ((user_id, old, code),) = self.ear.rotations
        self.assertEqual((user_id, self.ear.key_changes), ("bob", []))
        self.assertEqual(await self.alice.fingerprint("bob"), code)
        self.assertNotEqual(old, code)

    async def test_old_key(self) -> None:
        """What the old key signed in its time counts, and nothing that it signs later."""
        await self.meet()
        self.rotates(PrivateKey.generate())()
        await self.alice.whois("bob")
        self.assertIs(await self.verdict(self.by(self.keys["bob"], "in time")), ENVELOPE)
        late = wire.Message("bob", "alice", "late", "2026-11-22T12:00:01Z", client_id="late")
        envelope.sign(self.keys["bob"], late)
        signed: Frame = {"envelope_signature": late.envelope_signature, "signature": late.signature}
        frame = self.by(self.keys["bob"], "late", timestamp=late.timestamp, **signed)
        self.assertIs(await self.verdict(frame), INVALID)
        less = self.by(self.keys["bob"], "less", envelope_signature=None)
        self.assertIs(await self.verdict(less), INVALID)

    async def test_met_afterwards(self) -> None:
        """Who sees bob first with new keys believes what the old one signed in its time as well."""
        self.alice, self.ear = await self.person("alice", known_users=self.file)
        await self.person("bob")
        new = PrivateKey.generate()
        self.rotates(new)()
        self.assertIs(await self.verdict(self.by(self.keys["bob"], "in time")), ENVELOPE)
        self.assertIs(await self.verdict(self.by(new, "new")), ENVELOPE)
        self.assertEqual((self.ear.rotations, self.ear.key_changes), ([], []))
        late = wire.Message("bob", "alice", "late", "2026-11-22T12:00:01Z", client_id="late")
        envelope.sign(self.keys["bob"], late)
        signed: Frame = {"envelope_signature": late.envelope_signature, "signature": late.signature}
        frame = self.by(self.keys["bob"], "late", timestamp=late.timestamp, **signed)
        self.assertIs(await self.verdict(frame), INVALID)

    async def test_met_with_others(self) -> None:
        """Keys that those who are seen first do not vouch for sign nothing."""
        await self.person("bob")
        for given in ({"proof": self.keys["charlie"].sign(b"")}, {"time": "2026-11-22T12:00:01Z"}):
            self.rotates(PrivateKey.generate(), **given)()
            self.alice, self.ear = await self.person("alice")
            self.assertIs(await self.verdict(self.by(self.keys["bob"], "in time")), INVALID)
            await self.alice.stop()

    async def test_made_up(self) -> None:
        """Steps that the old key did not sign, or to other keys, lead nowhere."""
        await self.meet()
        charlie = self.keys["charlie"]
        for given in (
            {"signature": charlie.sign(b"")},
            {"proof": charlie.sign(b"")},
            {"time": "2026-11-22T12:00:01Z"},
            {"x25519_public_key": self.keys["alice"].x25519_public_key},
            {"old_public_key": charlie.public_key},
        ):
            self.ear.key_changes.clear()
            self.rotates(PrivateKey.generate(), **given)()
            self.assertFalse((await self.alice.whois("bob")).trusted)
            self.assertEqual((len(self.ear.key_changes), self.ear.rotations), (1, []))

    async def test_endless(self) -> None:
        """More steps than a user can take are no answer."""
        await self.meet()
        self.rotates(PrivateKey.generate())()
        self.liar.lies["bob"]["rotations"] *= rotation.MOST + 1
        await self.fails(self.alice.whois("bob"), ConnectionProblem)

    async def test_another_end(self) -> None:
        """A true step to keys that the server then does not hand out is no excuse for others."""
        await self.meet()
        self.rotates(PrivateKey.generate())()
        self.liar.lies["bob"]["public_key"] = self.keys["charlie"].public_key
        self.assertFalse((await self.alice.whois("bob")).trusted)
        self.assertEqual(self.ear.rotations, [])


class BoundTests(LiarTests):
    """What is remembered is bounded."""

    async def test_replay(self) -> None:
        """Of what is older than what is remembered, nobody says that it is new."""
        self.patch(replays, "REMEMBERED", 2)
        await self.meet()
        for text in ("two", "three"):
            await self.says(self.bob, "alice", text)
        second = self.bobs()
        await self.ear.hears("three")
        self.assertIs(await self.verdict(second), INVALID)
        self.assertIs(await self.verdict(copy.deepcopy(self.liar.kept[0])), NONE)
        await self.says(self.bob, "alice", "four")
        await self.ear.hears("four")
        self.assertIs(self.ear.messages[-1].authenticity, ENVELOPE)
