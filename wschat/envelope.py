"""
What a whole message is signed as, and what a signature on one is worth.

An envelope signature covers who says something to whom, when, under which
client id, and what: so a signed text can be neither altered nor said again,
nor redirected (docs/protocol.md, "Envelope signatures").  Pure.
"""

from __future__ import annotations

import enum
from datetime import datetime
from typing import Final

from wschat import identity, wire

_PREFIX: Final = b"wschat.v1 envelope,"


class Authenticity(enum.StrEnum):
    """What is known of who wrote a message."""

    #: The sender's key signed all of it.
    ENVELOPE = "envelope"
    #: The sender's key signed the content, to whomever and whenever.
    CONTENT = "content"
    #: There is a signature, and it is not the sender's on this message.
    INVALID = "invalid"
    #: There is no signature, or nobody knows the sender's key.
    NONE = "none"


def envelope(message: wire.Message) -> bytes:
    """The bytes that an envelope signature covers: netstrings behind a prefix."""
    fields = (
        message.sender,
        message.topic,
        message.timestamp,
        message.client_id,
        message.content,
        message.encrypted_key,
        message.encryption_nonce,
    )
    encoded = [(field or "").encode() for field in fields]
    return _PREFIX + b"".join(b"%d:%b," % (len(field), field) for field in encoded)


def seconds(timestamp: str) -> float:
    """A message's time in seconds since the epoch; the end of days for what is none."""
    try:
        return datetime.fromisoformat(timestamp).timestamp()
    except (ValueError, OverflowError):
        return float("inf")


def sign(key: identity.PrivateKey, message: wire.Message) -> None:
    """Sign a message for readers of both kinds: its content, and all of it."""
    message.signature = identity.sign_content(key, message.content)
    message.envelope_signature = key.sign(envelope(message))


def authenticity(message: wire.Message, public_key: str | None) -> Authenticity:
    """What a message's signatures are worth, by the sender's Ed25519 key (base64)."""
    if public_key is None or not (message.envelope_signature or message.signature):
        return Authenticity.NONE
    if message.envelope_signature is not None:
        whole = identity.verify(public_key, envelope(message), message.envelope_signature)
        return Authenticity.ENVELOPE if whole else Authenticity.INVALID
    signed = identity.verify_content(public_key, message.content, message.signature or "")
    return Authenticity.CONTENT if signed else Authenticity.INVALID
