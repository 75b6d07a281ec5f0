"""Tests of `wschat.client.session`: what is sealed, what is signed, and what is not sent."""

from __future__ import annotations

import json
from typing import Any

from nacl.signing import VerifyKey
from twisted.trial.unittest import SynchronousTestCase

from tests.support import NOW
from wschat import envelope, identity, v1, wire
from wschat.client.session import SealingKey, Session
from wschat.client.session_events import Refused
from wschat.client.settings import Encryption
from wschat.envelope import Authenticity

ALICE = identity.PrivateKey(bytes(range(32)))
BOB = identity.PrivateKey(bytes(range(1, 33)))


class SealingTests(SynchronousTestCase):
    """A session that seals what it can."""

    policy = Encryption.PREFERRED

    def setUp(self) -> None:
        self.session = Session("alice", ALICE, "desk", encryption=self.policy)

    def open(self, *, is_v1: bool = True) -> None:
        self.session.opened(is_v1=is_v1)
        self.frames()
        if is_v1:
            place = {"session": "desk", "position": 0, "complete": True}
            self.receive("resumed", **place, rate=1000.0, burst=1000.0)

    def receive(self, kind: str, **given: Any) -> object:
        return self.session.receive(json.dumps({"type": kind, **given}).encode(), NOW)

    def frames(self) -> list[Any]:
        return [json.loads(frame) for frame in self.session.data_to_send(NOW)]

    def messages(self) -> list[wire.Message]:
        """What is sent now, as the server reads it on its connection."""
        decoded = []
        for frame in self.session.data_to_send(NOW):
            request = v1.decode_request(frame)
            assert isinstance(request, v1.Submission)
            decoded.append(v1.submitted(request, "alice", NOW))
        return decoded

    def know(self, user_id: str = "bob", key: str | None = BOB.x25519_public_key) -> None:
        self.session.know(user_id, SealingKey(key))

    def opened_by(self, key: identity.PrivateKey, header: Any, content: str, name: str) -> str:
        sealed = identity.Sealed(content, header[name], header["encryption_nonce"])
        return key.open(sealed)


class PreferredTests(SealingTests):
    """By default what can be sealed is."""

    def test_sealed(self) -> None:
        """A direct message is sealed for both, and signed as it is sent."""
        self.open()
        self.session.send("bob", "h\u00e9llo", NOW)
        self.know()
        (frame,) = self.frames()
        header, content = frame["header"], frame["body"]["content"]
        self.assertNotIn("llo", json.dumps(frame))
        self.assertEqual(self.opened_by(BOB, header, content, "encrypted_key"), "h\u00e9llo")
        self.assertEqual(self.opened_by(ALICE, header, content, "sender_key"), "h\u00e9llo")
        key = VerifyKey(identity.decode_base64(ALICE.public_key))
        key.verify(f'"{content}"'.encode(), identity.decode_base64(header["signature"]))
        names = ("timestamp", "client_id", "encrypted_key", "encryption_nonce")
        time, client_id, *sealing = [header[name] for name in names]
        parts = ["alice", "bob", time, client_id, content, *sealing]
        whole = "wschat.v1 envelope," + "".join(f"{len(part)}:{part}," for part in parts)
        key.verify(whole.encode(), identity.decode_base64(header["envelope_signature"]))

    def test_classic(self) -> None:
        """A classic server gets no more than the contract's fields."""
        self.open(is_v1=False)
        self.session.send("bob", "hello", NOW)
        self.know()
        (frame,) = self.frames()
        header = frame["header"]
        names = {"from", "to", "message_type", "timestamp", "signature"}
        self.assertEqual(header.keys(), names | {"encrypted_key", "encryption_nonce"})
        opened = self.opened_by(BOB, header, frame["body"]["content"], "encrypted_key")
        self.assertEqual(opened, "hello")

    def test_no_key(self) -> None:
        """For who has no key for it a message goes as it is, signed."""
        self.open()
        self.session.send("bob", "hello", NOW)
        self.know(key=None)
        (message,) = self.messages()
        self.assertEqual((message.content, message.encrypted), ("hello", False))
        worth = envelope.authenticity(message, ALICE.public_key)
        self.assertIs(worth, Authenticity.ENVELOPE)

    def test_broadcast(self) -> None:
        """What is for everybody is signed and not sealed, and waits for no key."""
        self.open()
        self.session.send("broadcast", "hello", NOW)
        (message,) = self.messages()
        self.assertEqual((message.content, message.encrypted), ("hello", False))
        worth = envelope.authenticity(message, ALICE.public_key)
        self.assertIs(worth, Authenticity.ENVELOPE)

    def test_order(self) -> None:
        """While a key is asked for, what was said later waits as well, whoever it is for."""
        self.open()
        self.know("charlie", ALICE.x25519_public_key)
        sent = [
            self.session.send("charlie", "one", NOW),
            self.session.send("bob", "two", NOW),
            self.session.send("charlie", "three", NOW),
            self.session.send("broadcast", "four", NOW),
        ]
        self.assertEqual(self.session.wanted, set())
        self.assertEqual([message.client_id for message in self.messages()], sent[:1])
        self.assertEqual(self.session.wanted, {"bob"})
        self.assertEqual((self.messages(), self.session.wait(NOW)), ([], None))
        self.know("bob")
        self.assertEqual(self.session.wanted, set())
        self.assertEqual([message.client_id for message in self.messages()], sent[1:])

    def test_asked_once(self) -> None:
        """A key that is known is not asked for again, until it is to be forgotten."""
        self.open()
        for _ in range(2):
            self.session.send("bob", "hello", NOW)
        self.messages()
        self.know()
        self.assertEqual(len(self.messages()), 2)
        self.session.forget_key("bob")
        self.session.forget_key("nobody")
        self.session.send("bob", "hello", NOW)
        self.assertEqual((self.messages(), self.session.wanted), ([], {"bob"}))

    def test_sent_again(self) -> None:
        """What is sent again is the same, whatever is known of the key meanwhile."""
        self.open()
        self.session.send("bob", "hello", NOW)
        self.know()
        first = self.messages()
        self.session.lost()
        self.open()
        again = [m for m in self.frames() if m["type"] == "message"]
        self.assertEqual([m["body"]["content"] for m in again], [m.content for m in first])
        self.assertEqual(again[0]["header"]["envelope_signature"], first[0].envelope_signature)

    def test_anew(self) -> None:
        """On another connection keys are asked for anew: they may be others."""
        self.open()
        self.know()
        self.session.lost()
        self.open()
        self.session.send("bob", "hello", NOW)
        self.assertEqual((self.messages(), self.session.wanted), ([], {"bob"}))

    def test_refused(self) -> None:
        """What must not be sent is refused here, is told once, and holds nothing back."""
        self.open()
        name = self.session.send("bob", "hello", NOW)
        other = self.session.send("broadcast", "then", NOW)
        self.messages()
        self.session.know("bob", SealingKey(refusal="not to bob"))
        self.assertEqual([message.client_id for message in self.messages()], [other])
        self.assertEqual(self.session.refusals(), [Refused("not to bob", name)])
        self.assertEqual((self.session.refusals(), self.session.refused), ([], 1))
        self.assertEqual((self.session.waiting, self.session.unanswered), (0, 1))

    def test_refused_once(self) -> None:
        """A refusal is of one message: who was nobody may be somebody by the next."""
        self.open()
        for _ in range(2):
            self.session.send("bob", "hello", NOW)
        self.messages()
        self.session.know("bob", SealingKey(refusal="no"))
        self.assertEqual((self.messages(), self.session.wanted), ([], {"bob"}))
        self.know()
        self.assertEqual(len(self.messages()), 1)

    def test_too_long(self) -> None:
        """What would be too long when it is sealed is refused at once; the longest fits."""
        self.open()
        self.know()
        self.assertRaises(ValueError, self.session.send, "bob", "x" * 48_400, NOW, "c" * 64)
        for text in ("x" * 48_100, "\u00e9" * 24_050):
            self.session.send("bob", text, NOW, "c" * 64)
            (frame,) = self.session.data_to_send(NOW)
            self.assertLess(len(frame), 65_536)
            self.receive("stored", client_id="c" * 64, id=1)


class RequiredTests(SealingTests):
    """The policy that sends nothing that others can read."""

    policy = Encryption.REQUIRED

    def test_no_key(self) -> None:
        """What cannot be sealed is not sent, and the user is told why."""
        self.open()
        name = self.session.send("bob", "hello", NOW)
        self.messages()
        self.know(key=None)
        self.assertEqual(self.messages(), [])
        text = "bob has no key to encrypt for: not sent."
        self.assertEqual(self.session.refusals(), [Refused(text, name)])

    def test_sealed(self) -> None:
        """What can be sealed is."""
        self.open()
        self.session.send("bob", "hello", NOW)
        self.know()
        self.assertTrue(all(message.encrypted for message in self.messages()))

    def test_broadcast(self) -> None:
        """What is for everybody goes as it is."""
        self.open()
        self.session.send("broadcast", "hello", NOW)
        self.assertEqual([message.content for message in self.messages()], ["hello"])


class DisabledTests(SealingTests):
    """The policy that seals nothing."""

    policy = Encryption.DISABLED

    def test_as_it_is(self) -> None:
        """A direct message goes as it is, signed, and nobody's key is asked for."""
        self.open()
        self.session.send("bob", "hello", NOW)
        (message,) = self.messages()
        self.assertEqual((message.content, message.encrypted), ("hello", False))
        worth = envelope.authenticity(message, ALICE.public_key)
        self.assertIs(worth, Authenticity.ENVELOPE)
        self.assertEqual(self.session.wanted, set())
