"""Tests of `wschat.envelope`: what is signed, and what a signature is worth."""

from __future__ import annotations

import base64
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from wschat import envelope
from wschat.envelope import Authenticity
from wschat.identity import PrivateKey
from wschat.wire import Message

SEED = bytes(range(32))
TIME = "2026-11-22T10:00:00.5Z"


def message(**given: Any) -> Message:
    """A message from alice to bob, with whatever is given."""
    fields = {"sender": "alice", "topic": "bob", "content": "h\u00e9", "timestamp": TIME}
    return Message(**{**fields, "client_id": "a1", **given})


class EnvelopeTests(SynchronousTestCase):
    """What is signed."""

    def test_bytes(self) -> None:
        """Seven fields, each with its length in bytes; what is absent is empty."""
        self.assertEqual(
            envelope.envelope(message()),
            b"wschat.v1 envelope,5:alice,3:bob,22:2026-11-22T10:00:00.5Z,2:a1,3:h\xc3\xa9,0:,0:,",
        )
        sealed = message(encrypted_key="QUI=", encryption_nonce="Tk8=")
        self.assertTrue(envelope.envelope(sealed).endswith(b",4:QUI=,4:Tk8=,"))

    @settings(deadline=None)
    @given(st.lists(st.text(), min_size=7, max_size=7), st.lists(st.text(), min_size=7, max_size=7))
    def test_different(self, one: list[str], other: list[str]) -> None:
        """No two messages have the same bytes."""
        made = []
        for sender, topic, time, client_id, content, key, nonce in (one, other):
            made.append(
                Message(sender, topic, content, time, None, key, nonce, client_id=client_id)
            )
        same = envelope.envelope(made[0]) == envelope.envelope(made[1])
        self.assertEqual(same, one == other)

    def test_signature(self) -> None:
        """The signature is Ed25519 over those bytes, as another library makes it."""
        signed = message()
        envelope.sign(PrivateKey(SEED), signed)
        expected = Ed25519PrivateKey.from_private_bytes(SEED).sign(envelope.envelope(message()))
        self.assertEqual(signed.envelope_signature, base64.b64encode(expected).decode())


class AuthenticityTests(SynchronousTestCase):
    """What a signature is worth."""

    def setUp(self) -> None:
        self.key = PrivateKey(SEED)
        self.signed = message()
        envelope.sign(self.key, self.signed)

    def worth(self, **changes: Any) -> Authenticity:
        changed = msgspec.structs.replace(self.signed, **changes)
        return envelope.authenticity(changed, self.key.public_key)

    def test_all_of_it(self) -> None:
        """The sender signed the whole message; what the server adds changes nothing."""
        self.assertEqual(self.worth(), Authenticity.ENVELOPE)
        self.assertEqual(self.worth(id=17, follows="a0"), Authenticity.ENVELOPE)

    def test_changed(self) -> None:
        """Whatever was changed, the signature is not on this message any more."""
        for changes in (
            {"sender": "charlie"},
            {"topic": "charlie"},
            {"topic": "broadcast"},
            {"timestamp": "2026-11-22T10:00:01Z"},
            {"client_id": "a2"},
            {"client_id": None},
            {"content": "he"},
            {"encrypted_key": "QUI="},
            {"encryption_nonce": "Tk8="},
            {"envelope_signature": "nonsense"},
        ):
            self.assertEqual(self.worth(**changes), Authenticity.INVALID, changes)

    def test_content(self) -> None:
        """Without an envelope signature, the content's is worth what it is."""
        self.assertEqual(self.worth(envelope_signature=None), Authenticity.CONTENT)
        other = {"envelope_signature": None, "content": "other"}
        self.assertEqual(self.worth(**other), Authenticity.INVALID)

    def test_nothing(self) -> None:
        """Without a signature, or without a key to check it, nothing is known."""
        unsigned = self.worth(envelope_signature=None, signature=None)
        self.assertEqual(unsigned, Authenticity.NONE)
        self.assertEqual(envelope.authenticity(self.signed, None), Authenticity.NONE)

    def test_another_key(self) -> None:
        """Another's key makes it invalid."""
        stranger = PrivateKey.generate().public_key
        worth = envelope.authenticity(self.signed, stranger)
        self.assertEqual(worth, Authenticity.INVALID)


class SecondsTests(SynchronousTestCase):
    """When something was said."""

    def test_times(self) -> None:
        """Any RFC 3339 time is one; what is none is never over."""
        for text, seconds in (
            ("1970-01-01T00:00:01.5Z", 1.5),
            ("1970-01-01T01:00:00.123456789+01:00", 0.123456),
            ("yesterday", float("inf")),
            ("", float("inf")),
        ):
            self.assertEqual(envelope.seconds(text), seconds)
