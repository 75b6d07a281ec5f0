"""
A user's new keys, vouched for by their old one (docs/protocol.md, "Key rotation").

Whoever knows an earlier key can follow the chain to the present one without
trusting the server.  Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from wschat import identity

#: The steps that a user can take, so that everybody can follow them.
MOST: Final = 100

_PREFIX: Final = b"wschat.v1 rotation,"


class Rotation(msgspec.Struct, frozen=True):
    """
    One step from an old key to new ones; keys and signatures are base64, the time RFC 3339.

    `signature` is the old key's, `proof` the new one's: so nobody can pass
    off somebody else's key as their next.
    """

    old_public_key: str
    public_key: str
    x25519_public_key: str
    time: str
    signature: str
    proof: str


def statement(user_id: str, step: Rotation) -> bytes:
    """The bytes that both keys sign: netstrings behind a prefix."""
    fields = (user_id, step.old_public_key, step.public_key, step.x25519_public_key, step.time)
    encoded = [field.encode() for field in fields]
    return _PREFIX + b"".join(b"%d:%b," % (len(field), field) for field in encoded)


class Request(msgspec.Struct):
    """What a client sends to have new keys (docs/protocol.md, "Key rotation")."""

    user_id: str
    step: Rotation


_steps: Final = msgspec.json.Decoder(list[Rotation])


def chain(text: str | None) -> list[Rotation]:
    """The steps that a user's record has."""
    return _steps.decode(text) if text else []


def rotate(user_id: str, old: identity.PrivateKey, new: identity.PrivateKey, time: str) -> Rotation:
    """The step from one private key to another, signed."""
    keys = (old.public_key, new.public_key, new.x25519_public_key)
    said = statement(user_id, Rotation(*keys, time, "", ""))
    return Rotation(*keys, time, old.sign(said), new.sign(said))


def valid(user_id: str, step: Rotation) -> bool:
    """Whether the owner of the old key wants the new ones, and has them."""
    said = statement(user_id, step)
    return identity.verify(step.old_public_key, said, step.signature) and identity.verify(
        step.public_key, said, step.proof
    )


def follow(user_id: str, public_key: str, steps: Iterable[Rotation]) -> list[Rotation]:
    """
    The valid steps that lead on from a key, in their order; none when there are none.

    A step that does not go on from the one before ends the way.
    """
    way: list[Rotation] = []
    for step in steps:
        if step.old_public_key == public_key and valid(user_id, step):
            way.append(step)
            public_key = step.public_key
        elif way:
            break
    return way


def behind(user_id: str, public_key: str, steps: Iterable[Rotation]) -> list[Rotation]:
    """
    The valid steps that have led to a key, in their order; none when there are none.

    The owner of the key has signed the last of them, the owner of the key
    before that the one before, and so on.
    """
    way: list[Rotation] = []
    for step in reversed(list(steps)):
        if step.public_key == public_key and valid(user_id, step):
            way.insert(0, step)
            public_key = step.old_public_key
        elif way:
            break
    return way
