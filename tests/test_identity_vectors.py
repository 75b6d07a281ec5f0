"""
Tests of `wschat.identity` against bytes worked out from WIRE.md by hand.

The NaCl box is written out here from its specification (HSalsa20, XSalsa20,
Poly1305), so that what seals and opens shares nothing with the library that
the product uses; X25519, AES and Ed25519 are those of `cryptography`.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from struct import pack, unpack

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.poly1305 import Poly1305
from twisted.trial.unittest import SynchronousTestCase

from wschat import identity
from wschat.identity import PrivateKey, Sealed

SIGMA = unpack("<4I", b"expand 32-byte k")
TEXT = "h\u00e9llo <&> \U0001f600"


def rotated(word: int, by: int) -> int:
    word &= 0xFFFFFFFF
    return (word << by | word >> (32 - by)) & 0xFFFFFFFF


def salsa20_rounds(state: list[int]) -> list[int]:
    """Twenty rounds of Salsa20 (Bernstein, "The Salsa20 family of stream ciphers")."""
    x = list(state)
    columns = ((0, 4, 8, 12), (5, 9, 13, 1), (10, 14, 2, 6), (15, 3, 7, 11))
    rows = ((0, 1, 2, 3), (5, 6, 7, 4), (10, 11, 8, 9), (15, 12, 13, 14))
    for _ in range(10):
        for a, b, c, d in columns + rows:
            x[b] ^= rotated(x[a] + x[d], 7)
            x[c] ^= rotated(x[b] + x[a], 9)
            x[d] ^= rotated(x[c] + x[b], 13)
            x[a] ^= rotated(x[d] + x[c], 18)
    return x


def salsa20_state(key: bytes, block: bytes) -> list[int]:
    k, n = unpack("<8I", key), unpack("<4I", block)
    return [SIGMA[0], *k[:4], SIGMA[1], *n, SIGMA[2], *k[4:], SIGMA[3]]


def hsalsa20(key: bytes, block: bytes) -> bytes:
    x = salsa20_rounds(salsa20_state(key, block))
    return pack("<8I", *(x[i] for i in (0, 5, 10, 15, 6, 7, 8, 9)))


def xsalsa20(key: bytes, nonce: bytes, size: int) -> bytes:
    """The key stream."""
    subkey, stream = hsalsa20(key, nonce[:16]), b""
    for counter in range(size // 64 + 1):
        state = salsa20_state(subkey, nonce[16:] + pack("<Q", counter))
        words = zip(state, salsa20_rounds(state), strict=True)
        stream += pack("<16I", *((one + other) & 0xFFFFFFFF for one, other in words))
    return stream[:size]


def box(text: bytes, nonce: bytes, private: bytes, public: bytes) -> bytes:
    """crypto_box: the tag, then the ciphertext."""
    shared = X25519PrivateKey.from_private_bytes(private).exchange(
        X25519PublicKey.from_public_bytes(public)
    )
    stream = xsalsa20(hsalsa20(shared, bytes(16)), nonce, 32 + len(text))
    ciphertext = bytes(one ^ other for one, other in zip(text, stream[32:], strict=True))
    return Poly1305.generate_tag(stream[:32], ciphertext) + ciphertext


def box_open(boxed: bytes, nonce: bytes, private: bytes, public: bytes) -> bytes:
    text = box(boxed[16:], nonce, private, public)[16:]
    assert hmac.compare_digest(box(text, nonce, private, public), boxed)
    return text


def by_hand_private(seed: bytes) -> bytes:
    """WIRE.md, "Encryption", step 3."""
    digest = bytearray(hashlib.sha256(b"X25519-from-Ed25519:" + seed).digest())
    digest[0] &= 248
    digest[31] = digest[31] & 127 | 64
    return bytes(digest)


def public_of(private: bytes) -> bytes:
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


class BoxTests(SynchronousTestCase):
    """The box above is NaCl's."""

    def test_nacl(self) -> None:
        """The second key and the stream of Bernstein, "Cryptography in NaCl", sections 8 and 9."""
        shared = bytes.fromhex("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742")
        first = hsalsa20(shared, bytes(16))
        expected = "1b27556473e985d462cd51197a9a46c76009549eac6474f206c4ee0844f68389"
        self.assertEqual(first.hex(), expected)
        nonce = bytes.fromhex("69696ee955b62b73cd62bda875fc73d68219e0036b7a0b37")
        second = hsalsa20(first, nonce[:16])
        expected = "dc908dda0b9344a953629b733820778880f3ceb421bb61b91cbd4c3e66256ce4"
        self.assertEqual(second.hex(), expected)
        stream = xsalsa20(first, nonce, 32)
        expected = "eea6a7251c1e72916d11c2cb214d3c252539121d8e234e652d651fa4c8cff880"
        self.assertEqual(stream.hex(), expected)


SEED = bytes(range(32))


class VectorTests(SynchronousTestCase):
    """Sealed and signed messages."""

    def setUp(self) -> None:
        self.key = PrivateKey(SEED)
        self.private = by_hand_private(SEED)
        self.public = public_of(self.private)

    def by_hand(self) -> Sealed:
        """A sealed message with every random byte given."""
        aes_key, nonce, box_nonce = bytes(range(32, 64)), bytes(range(12)), bytes(range(24))
        ephemeral = bytes(range(64, 96))
        content = AESGCM(aes_key).encrypt(nonce, TEXT.encode(), None)
        wrapped = public_of(ephemeral) + box_nonce
        wrapped += box(aes_key, box_nonce, ephemeral, self.public)
        return Sealed(*(base64.b64encode(part).decode() for part in (content, wrapped, nonce)))

    def test_bytes(self) -> None:
        """The bytes of one message, and the text that comes out of them."""
        self.assertEqual(base64.b64encode(self.public).decode(), self.key.x25519_public_key)
        sealed = self.by_hand()
        self.assertEqual(
            sealed,
            Sealed(
                "NJH0yyZay9Cax+k2uevergKxafPytElnOcHqZFO5Gg==",
                "eaYx7t4b+cmPEgMs3q3Q56B5OY/HhriMyEbsia+FpRoAAQIDBAUGBwgJCgsMDQ4PEBESExQVFheklExXt2JzwOVa7/jmKVd3i/Zv3OFo1QM3xCzzHlIhgXG775ngKfqBrLgIwASx4Y0=",
                "AAECAwQFBgcICQoL",
            ),
        )
        self.assertEqual(self.key.open(sealed), TEXT)

    def test_ours(self) -> None:
        """What the product seals is opened by hand, for both who may."""
        sender = by_hand_private(bytes(32))
        sealed = identity.seal(
            TEXT, self.key.x25519_public_key, base64.b64encode(public_of(sender)).decode()
        )
        for private, text in ((self.private, sealed.encrypted_key), (sender, sealed.sender_key)):
            wrapped = base64.b64decode(text or "")
            ephemeral, nonce, boxed = wrapped[:32], wrapped[32:56], wrapped[56:]
            aes_key = box_open(boxed, nonce, private, ephemeral)
            content = base64.b64decode(sealed.content)
            iv = base64.b64decode(sealed.encryption_nonce)
            self.assertEqual(AESGCM(aes_key).decrypt(iv, content, None).decode(), TEXT)

    def test_signed(self) -> None:
        """A sealed message is signed over its ciphertext in quotes; a text over Go's JSON of it."""
        other = Ed25519PrivateKey.from_private_bytes(SEED)
        content = self.by_hand().content
        for text, encoded in (
            (content, f'"{content}"'),
            (TEXT, '"h\u00e9llo \\u003c\\u0026\\u003e \U0001f600"'),
            ('a"\\\n\x01\u2028', '"a\\"\\\\\\n\\u0001\\u2028"'),
        ):
            expected = base64.b64encode(other.sign(encoded.encode())).decode()
            self.assertEqual(identity.sign_content(self.key, text), expected)
