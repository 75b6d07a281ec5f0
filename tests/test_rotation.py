"""Tests of `wschat.rotation`: what both keys sign, and where a chain leads."""

from __future__ import annotations

import base64
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from twisted.trial.unittest import SynchronousTestCase

from wschat import rotation
from wschat.identity import PrivateKey
from wschat.rotation import Rotation

TIME = "2026-11-22T10:00:00Z"
KEYS = [PrivateKey(bytes([number]) * 32) for number in range(4)]


def step(number: int, user_id: str = "alice", **changes: Any) -> Rotation:
    """From the key of that number to the next."""
    made = rotation.rotate(user_id, KEYS[number], KEYS[number + 1], TIME)
    return msgspec.structs.replace(made, **changes)


class StepTests(SynchronousTestCase):
    """One step."""

    def test_signed(self) -> None:
        """Both keys sign the user, the keys and the time, as another library does."""
        made = step(0)
        keys = (KEYS[0].public_key, KEYS[1].public_key, KEYS[1].x25519_public_key)
        said = "wschat.v1 rotation,5:alice," + "".join(f"44:{key}," for key in keys)
        said += "20:2026-11-22T10:00:00Z,"
        signed = [
            Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32).sign(said.encode())
            for number in range(2)
        ]
        signatures = [base64.b64encode(signature).decode() for signature in signed]
        self.assertEqual(made, Rotation(*keys, TIME, *signatures))
        self.assertTrue(rotation.valid("alice", made))

    def test_changed(self) -> None:
        """Whatever is changed, it is no step of theirs any more."""
        self.assertFalse(rotation.valid("bob", step(0)))
        for changes in (
            {"old_public_key": KEYS[2].public_key},
            {"public_key": KEYS[2].public_key},
            {"x25519_public_key": KEYS[2].x25519_public_key},
            {"time": "2026-11-22T10:00:01Z"},
            {"signature": step(0).proof},
            {"proof": step(0).signature},
            {"signature": "", "proof": "nonsense"},
        ):
            self.assertFalse(rotation.valid("alice", step(0, **changes)), changes)


class ChainTests(SynchronousTestCase):
    """Several steps."""

    def follow(self, start: int, *steps: Rotation) -> list[Rotation]:
        return rotation.follow("alice", KEYS[start].public_key, steps)

    def test_followed(self) -> None:
        """From whichever key one knows, the way leads to the last."""
        steps = [step(0), step(1), step(2)]
        self.assertEqual(
            [self.follow(at, *steps) for at in range(3)], [steps[at:] for at in range(3)]
        )
        self.assertEqual(self.follow(3, *steps), [])
        self.assertEqual(self.follow(0), [])

    def test_broken(self) -> None:
        """The way ends where a step is missing, or is not theirs."""
        self.assertEqual(self.follow(0, step(0), step(2)), [step(0)])
        bad = step(1, signature=step(0).signature)
        self.assertEqual(self.follow(0, step(0), bad, step(2)), [step(0)])
        self.assertEqual(self.follow(0, step(0, user_id="bob")), [])

    def test_behind(self) -> None:
        """From the present key the way back leads to the first, or as far as it is whole."""
        steps = [step(0), step(1), step(2)]

        def behind(end: int, *steps: Rotation) -> list[Rotation]:
            return rotation.behind("alice", KEYS[end].public_key, steps)

        self.assertEqual([behind(at, *steps) for at in range(4)], [steps[:at] for at in range(4)])
        self.assertEqual(behind(3, step(0), step(2)), [step(2)])
        bad = step(1, proof=step(0).proof)
        self.assertEqual(behind(3, step(0), bad, step(2)), [step(2)])
        self.assertEqual(behind(1, step(0, user_id="bob")), [])
        self.assertEqual(behind(1), [])

    def test_kept(self) -> None:
        """A chain is kept as JSON; who has none has no steps."""
        steps = [step(0), step(1)]
        self.assertEqual(rotation.chain(msgspec.json.encode(steps).decode()), steps)
        self.assertEqual(rotation.chain(None), [])
