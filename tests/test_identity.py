"""
Keys, signatures and sealing, against WIRE's words and a second implementation.

The second implementation is `cryptography` for Ed25519, X25519 and AES-GCM,
and libsodium's own `crypto_box` where WIRE says NaCl box.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Callable

import msgspec
import nacl.bindings
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from wschat import identity
from wschat.identity import BadKey, PrivateKey, Sealed, Unsealable

# RFC 8032 section 7.1, TEST 2: the message is the one byte 0x72.
SEED = bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb")
PUBLIC = bytes.fromhex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c")
SIGNATURE = bytes.fromhex(
    "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
    "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
)

# Points of low order: x25519 of each with any private key is zero.
LOW_ORDER_X25519 = (
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
)
ORDER_8 = "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"
BAD_ED25519 = {
    "the neutral point": "01" + "00" * 31,
    "order 2": "ec" + "ff" * 30 + "7f",
    "order 4": "00" * 32,
    "order 8": ORDER_8,
    "not on the curve": "02" + "00" * 31,  # (y^2-1)/(d*y^2+1) is no square for y = 2
    "not canonical": "ee" + "ff" * 30 + "7f",  # y = p + 1
}


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def by_hand_x25519(seed: bytes) -> X25519PrivateKey:
    """WIRE, "Encryption", step 3."""
    digest = bytearray(hashlib.sha256(b"X25519-from-Ed25519:" + seed).digest())
    digest[0] &= 248
    digest[31] = digest[31] & 127 | 64
    return X25519PrivateKey.from_private_bytes(bytes(digest))


def by_hand_seal(
    data: bytes, recipient: bytes, aes_key: bytes | None = None, ephemeral: bytes | None = None
) -> Sealed:
    """WIRE, "Encryption", steps 1 and 2."""
    aes_key = aes_key or os.urandom(32)
    nonce, box_nonce = os.urandom(12), os.urandom(24)
    private = X25519PrivateKey.generate()
    public = private.public_key().public_bytes_raw()
    box = nacl.bindings.crypto_box(aes_key, box_nonce, recipient, private.private_bytes_raw())
    content = AESGCM(aes_key if len(aes_key) == 32 else bytes(32)).encrypt(nonce, data, None)
    return Sealed(b64(content), b64((ephemeral or public) + box_nonce + box), b64(nonce))


def by_hand_open(sealed: Sealed, private: bytes) -> str:
    """The same, backwards."""
    wrapped = base64.b64decode(sealed.encrypted_key)
    ephemeral, box_nonce, box = wrapped[:32], wrapped[32:56], wrapped[56:]
    aes_key = nacl.bindings.crypto_box_open(box, box_nonce, ephemeral, private)
    assert len(aes_key) == 32
    nonce = base64.b64decode(sealed.encryption_nonce)
    assert len(nonce) == 12
    return AESGCM(aes_key).decrypt(nonce, base64.b64decode(sealed.content), None).decode()


def flipped(text: str, index: int) -> str:
    """The base64 text with one bit of its bytes changed."""
    data = bytearray(base64.b64decode(text))
    data[index] ^= 1
    return b64(bytes(data))


def refusal(check: Callable[[str], None], key: bytes) -> str:
    """Why a key is refused; nothing when it is not."""
    try:
        check(b64(key))
    except BadKey as error:
        return str(error)
    return ""


class Base64Tests(SynchronousTestCase):
    """Standard alphabet, padded."""

    def test_good(self) -> None:
        """RFC 4648 section 10, and both characters that other alphabets lack."""
        texts = {"": b"", "Zg==": b"f", "Zm8=": b"fo", "Zm9v": b"foo", "+/+/": b"\xfb\xff\xbf"}
        self.assertEqual({text: identity.decode_base64(text) for text in texts}, texts)
        self.assertEqual(
            {text: identity.encode_base64(texts[text]).encode() for text in texts},
            {text: text.encode() for text in texts},
        )

    def test_bad(self) -> None:
        """Another alphabet, too little padding, and what is beside the text."""
        bad = [
            "Zg",
            "Zg=",
            "Zg===",
            "=Zg=",
            "Zg==Zg==",
            "-_-_",
            "Zm9v\n",
            " Zm9v",
            "Zm\n9v",
            "Z",
            "\u00e9\u00e9\u00e9\u00e9",
            "\ud800AAA",
            "\uff21AAA",
        ]
        self.assertEqual([text for text in bad if self._reads(text)], [])

    def test_more_padding(self) -> None:
        """Padding after a text that needs none, which Go's decoder does not read."""
        self.assertEqual(
            [text for text in ("Zm9v=", "Zm9v==", "Zm9v====") if self._reads(text)], []
        )

    def _reads(self, text: str) -> bool:
        try:
            identity.decode_base64(text)
        except ValueError:
            return False
        return True

    def test_size(self) -> None:
        """A size that is named is the only one accepted."""
        self.assertEqual(identity.decode_base64("Zm9v", 3), b"foo")
        for size in (0, 2, 4):
            self.assertRaises(ValueError, identity.decode_base64, "Zm9v", size)


class PrivateKeyTests(SynchronousTestCase):
    """One seed, two keys."""

    def setUp(self) -> None:
        self.key = PrivateKey(SEED)

    def test_public_key(self) -> None:
        """The RFC's own."""
        self.assertEqual(self.key.public_key, b64(PUBLIC))

    def test_sign(self) -> None:
        """The RFC's own, too: signatures are deterministic."""
        self.assertEqual(self.key.sign(b"\x72"), b64(SIGNATURE))

    def test_text(self) -> None:
        """`WS_PRIVATE_KEY`: the seed, then the public key."""
        self.assertEqual(self.key.to_text(), b64(SEED + PUBLIC))
        again = PrivateKey.from_text(f" {b64(SEED + PUBLIC)}\n")
        self.assertEqual(
            (again.to_text(), again.sign(b"\x72")), (b64(SEED + PUBLIC), b64(SIGNATURE))
        )

    def test_derived(self) -> None:
        """The X25519 key is the one that WIRE derives, byte for byte."""
        for seed in (SEED, bytes(32), bytes(range(32)), b"\xff" * 32):
            expected = by_hand_x25519(seed).public_key().public_bytes_raw()
            self.assertEqual(PrivateKey(seed).x25519_public_key, b64(expected))

    def test_generate(self) -> None:
        """A new key is another each time, and good."""
        keys = [PrivateKey.generate() for _ in range(3)]
        self.assertEqual(len({key.public_key for key in keys}), 3)
        for key in keys:
            self.assertEqual(PrivateKey.from_text(key.to_text()).public_key, key.public_key)

    def test_bad_text(self) -> None:
        """A wrong key is refused in one line that holds none of it."""
        texts = [
            "",
            "a key",
            b64(SEED),
            b64(SEED + PUBLIC + b"\0"),
            b64(SEED + PUBLIC)[:-2],
            (SEED + PUBLIC).hex(),
            b64(PUBLIC + SEED),
            b64(SEED + bytes(32)),
        ]
        for text in texts:
            error = self.assertRaises(BadKey, PrivateKey.from_text, text)
            self.assertNotIn("\n", str(error))
            self.assertTrue(not text or text not in repr(error), repr(error))
            self.assertTrue(error.__suppress_context__ or error.__context__ is None)

    def test_secret(self) -> None:
        """Nothing that prints a key prints what is secret in it; the public key is not."""
        sealing = by_hand_x25519(SEED).private_bytes_raw()
        for shown in (repr(self.key), str(self.key), f"{self.key}", repr([self.key])):
            self.assertIn(b64(PUBLIC), shown)
            for secret in (SEED, sealing):
                for spelling in (b64(secret)[:-2], secret.hex(), repr(secret)[2:-1]):
                    self.assertNotIn(spelling, shown)
        self.assertFalse(hasattr(self.key, "__dict__"))


class PublicKeyTests(SynchronousTestCase):
    """What registration accepts as a key."""

    def test_good(self) -> None:
        """Keys that others made."""
        ed25519 = [Ed25519PrivateKey.generate().public_key() for _ in range(10)]
        x25519 = [X25519PrivateKey.generate().public_key() for _ in range(10)]
        found = [refusal(identity.check_public_key, k.public_bytes_raw()) for k in ed25519]
        found += [refusal(identity.check_x25519_public_key, k.public_bytes_raw()) for k in x25519]
        self.assertEqual(found, [""] * 20)

    def test_not_a_key(self) -> None:
        """Another length, and what is not base64; the message names the field."""
        checks = {
            "public_key": identity.check_public_key,
            "x25519_public_key": identity.check_x25519_public_key,
        }
        for name, check in checks.items():
            for text in (
                "",
                "key",
                b64(PUBLIC[:31]),
                b64(PUBLIC + b"\0"),
                PUBLIC.hex(),
                "\u00e9" * 44,
            ):
                error = self.assertRaises(BadKey, check, text)
                self.assertEqual(str(error), f"{name} is not base64 of 32 bytes.")

    def test_bad_ed25519(self) -> None:
        """Points under which anybody can sign, and what is no point."""
        found = {
            name: refusal(identity.check_public_key, bytes.fromhex(point))
            for name, point in BAD_ED25519.items()
        }
        reason = "public_key is not an Ed25519 public key."
        self.assertEqual(found, dict.fromkeys(BAD_ED25519, reason))

    def test_mixed_order(self) -> None:
        """A good point with a bad one added to it, under which implementations disagree."""
        mixed = nacl.bindings.crypto_core_ed25519_add(PUBLIC, bytes.fromhex(ORDER_8))
        self.assertRaises(BadKey, identity.check_public_key, b64(mixed))

    def test_bad_x25519(self) -> None:
        """Points that give everybody the same secret, with the unused bit set or not."""
        points = [bytearray.fromhex(point) for point in LOW_ORDER_X25519]
        points += [point[:31] + bytes([point[31] | 128]) for point in points]
        found = {refusal(identity.check_x25519_public_key, bytes(point)) for point in points}
        self.assertEqual(found, {"x25519_public_key is not an X25519 public key."})


class SealingTests(SynchronousTestCase):
    """Encryption of a direct message, both ways across two implementations."""

    def setUp(self) -> None:
        self.key = PrivateKey(SEED)
        self.private = by_hand_x25519(SEED)
        self.public = self.private.public_key().public_bytes_raw()

    @settings(deadline=None)
    @given(st.text())
    def test_ours_by_hand(self, text: str) -> None:
        """What we seal, others open."""
        sealed = identity.seal(text, b64(self.public))
        self.assertEqual(by_hand_open(sealed, self.private.private_bytes_raw()), text)

    @settings(deadline=None)
    @given(st.text())
    def test_by_hand_ours(self, text: str) -> None:
        """What others seal, we open."""
        self.assertEqual(self.key.open(by_hand_seal(text.encode(), self.public)), text)

    def test_sizes(self) -> None:
        """WIRE's sizes: a tag of 16 bytes; 32 + 24 + (32 + 16) bytes of key; a nonce of 12."""
        sealed = identity.seal("h\u00e9llo", b64(self.public))
        fields = (sealed.content, sealed.encrypted_key, sealed.encryption_nonce)
        self.assertEqual([len(base64.b64decode(f, validate=True)) for f in fields], [22, 104, 12])

    def test_fresh(self) -> None:
        """No key and no nonce is used twice."""
        first, second = (identity.seal("same", b64(self.public)) for _ in range(2))
        parts = [
            [base64.b64decode(s.encryption_nonce), wrapped[:32], wrapped[32:56], s.content]
            for s in (first, second)
            for wrapped in [base64.b64decode(s.encrypted_key)]
        ]
        self.assertEqual([a == b for a, b in zip(*parts, strict=True)], [False] * 4)

    def test_to_no_key(self) -> None:
        """Nothing is sealed for a key that is none, nor for one that hides nothing."""
        for text in ("", "key", b64(bytes.fromhex(LOW_ORDER_X25519[2]))):
            self.assertRaises(BadKey, identity.seal, "secret", text)

    def test_altered(self) -> None:
        """A bit changed anywhere is found out."""
        sealed = by_hand_seal(b"hello", self.public)
        for field, size in (("content", 21), ("encrypted_key", 104), ("encryption_nonce", 12)):
            for index in range(size):
                if field == "encrypted_key" and index == 31:
                    continue  # holds the bit that X25519 does not look at
                changed = msgspec.structs.replace(
                    sealed, **{field: flipped(getattr(sealed, field), index)}
                )
                self.assertRaises(Unsealable, self.key.open, changed)

    def test_malformed(self) -> None:
        """A part that is cut, empty or no base64; no half-opened text and no other exception."""
        good = by_hand_seal(b"hello", self.public)
        cut = [
            b64(base64.b64decode(good.encrypted_key)[:size]) for size in (0, 31, 32, 55, 56, 103)
        ]
        changes = [("encrypted_key", text) for text in ("", "junk", "\u00e9", *cut)]
        changes += [("content", text) for text in ("", "junk!", b64(b"short"), "\u00e9")]
        changes += [
            ("encryption_nonce", text) for text in ("", "junk!", b64(bytes(11)), b64(bytes(24)))
        ]
        for field, text in changes:
            error = self.assertRaises(
                Unsealable, self.key.open, msgspec.structs.replace(good, **{field: text})
            )
            self.assertEqual(str(error), "Sealed for another key, or altered.")
            self.assertTrue(error.__suppress_context__)

    def test_another_recipient(self) -> None:
        """Only the recipient opens it."""
        self.assertRaises(Unsealable, PrivateKey(bytes(32)).open, by_hand_seal(b"hi", self.public))

    def test_bad_insides(self) -> None:
        """A sender may put anything into the box: no key, no text, and a point of low order."""
        low = bytes.fromhex(LOW_ORDER_X25519[2])
        for sealed in (
            by_hand_seal(b"hi", self.public, aes_key=b"five!"),
            by_hand_seal(b"\xff\xfe", self.public),
            by_hand_seal(b"hi", self.public, ephemeral=low),
            by_hand_seal(b"hi", self.public, ephemeral=bytes(32)),
        ):
            self.assertRaises(Unsealable, self.key.open, sealed)


# What Go's encoder makes of a character (WIRE, "Signature on a direct message").
SHORT_ESCAPES = {0x0A: r"\n", 0x0D: r"\r", 0x09: r"\t"}
NEWER_ESCAPES = {**SHORT_ESCAPES, 0x08: r"\b", 0x0C: r"\f"}
VECTORS = {
    "": b'""',
    "hello": b'"hello"',
    '"': rb'"\""',
    "\\": rb'"\\"',
    "/": b'"/"',
    "<": rb'"\u003c"',
    ">": rb'"\u003e"',
    "&": rb'"\u0026"',
    "\u2028": rb'"\u2028"',
    "\u2029": rb'"\u2029"',
    "\u2027\u202a": b'"\xe2\x80\xa7\xe2\x80\xaa"',
    "\n\r\t": rb'"\n\r\t"',
    "\b\f": rb'"\b\f"',
    "\0": rb'"\u0000"',
    "\x0b": rb'"\u000b"',
    "\x1f": rb'"\u001f"',
    "\x7f": b'"\x7f"',
    "\x85\xa0": b'"\xc2\x85\xc2\xa0"',
    "'": b'"\'"',
    "\u00e9": b'"\xc3\xa9"',
    "\ufeff\ufffd": b'"\xef\xbb\xbf\xef\xbf\xbd"',
    "\U0001f600": b'"\xf0\x9f\x98\x80"',
    r"\u003c": rb'"\\u003c"',
    '<a href="x">\n': rb'"\u003ca href=\"x\"\u003e\n"',
}


class GoJsonTests(SynchronousTestCase):
    """The bytes that a content signature covers."""

    def test_vectors(self) -> None:
        """Worked out by hand."""
        self.assertEqual({text: identity.go_json(text) for text in VECTORS}, VECTORS)

    def test_controls(self) -> None:
        """Every control character: the five short escapes, and lower-case hexadecimal."""
        for code in range(0x20):
            expected = NEWER_ESCAPES.get(code, f"\\u00{code:02x}")
            self.assertEqual(identity.go_json(f"a{chr(code)}b"), f'"a{expected}b"'.encode())

    def test_base64(self) -> None:
        """Ciphertext is only quoted."""
        self.assertEqual(identity.go_json("+/Zg=="), b'"+/Zg=="')


class SignatureTests(SynchronousTestCase):
    """Signatures, made and checked by two implementations."""

    def setUp(self) -> None:
        self.key = PrivateKey(SEED)
        self.other = Ed25519PrivateKey.from_private_bytes(SEED)

    def _signed(self, data: bytes) -> str:
        return b64(self.other.sign(data))

    def test_content(self) -> None:
        """The content's signature is over Go's encoding, for each vector."""
        public = Ed25519PublicKey.from_public_bytes(PUBLIC)
        for text, encoding in VECTORS.items():
            public.verify(base64.b64decode(identity.sign_content(self.key, text)), encoding)
            self.assertTrue(identity.verify_content(b64(PUBLIC), text, self._signed(encoding)))

    def test_older_encoder(self) -> None:
        """Older encoders wrote backspace and form feed in hexadecimal; that is good as well."""
        older = {
            "\b": rb'"\u0008"',
            "\f": rb'"\u000c"',
            "a\bb\fc": rb'"a\u0008b\u000cc"',
            '\b\b<\n\x01\u2028\\"\f': rb'"\u0008\u0008\u003c\n\u0001\u2028\\\"\u000c"',
            "\\b\b": rb'"\\b\u0008"',
            "\u00e9\f": b'"\xc3\xa9\\u000c"',
        }
        for text, encoding in older.items():
            self.assertTrue(
                identity.verify_content(b64(PUBLIC), text, self._signed(encoding)), encoding
            )

    def test_older_controls(self) -> None:
        """All control characters at once, as the older encoder wrote them."""
        text = "".join(map(chr, range(0x20)))
        encoding = "".join(SHORT_ESCAPES.get(code, f"\\u00{code:02x}") for code in range(0x20))
        signature = self._signed(f'"{encoding}"'.encode())
        self.assertTrue(identity.verify_content(b64(PUBLIC), text, signature))

    def test_another_content(self) -> None:
        """A signature is good for its own text alone, and not for the bare text."""
        signature = identity.sign_content(self.key, "pay 10")
        self.assertTrue(identity.verify_content(b64(PUBLIC), "pay 10", signature))
        for text in ("pay 100", "pay 10 ", "", '"pay 10"'):
            self.assertFalse(identity.verify_content(b64(PUBLIC), text, signature))
        self.assertFalse(identity.verify_content(b64(PUBLIC), "hi", self._signed(b"hi")))

    def test_verify(self) -> None:
        """The RFC's vector is good, and nothing that is near it."""
        good = (b64(PUBLIC), b"\x72", b64(SIGNATURE))
        self.assertTrue(identity.verify(*good))
        other = Ed25519PrivateKey.generate().public_key().public_bytes_raw()
        bad = [
            (b64(other), b"\x72", b64(SIGNATURE)),
            (b64(PUBLIC), b"\x73", b64(SIGNATURE)),
            (b64(PUBLIC), b"", b64(SIGNATURE)),
            (b64(PUBLIC), b"\x72", flipped(b64(SIGNATURE), 0)),
            (b64(PUBLIC), b"\x72", flipped(b64(SIGNATURE), 40)),
        ]
        self.assertEqual([case for case in bad if identity.verify(*case)], [])

    def test_junk(self) -> None:
        """Junk is False, and no exception."""
        junk = [
            "",
            "junk",
            "\u00e9",
            "\ud800",
            b64(b""),
            b64(SIGNATURE + b"\0"),
            b64(SIGNATURE[:63]),
        ]
        self.assertEqual([s for s in junk if identity.verify(b64(PUBLIC), b"\x72", s)], [])
        junk += [b64(PUBLIC[:31]), *(b64(bytes.fromhex(point)) for point in BAD_ED25519.values())]
        self.assertEqual([k for k in junk if identity.verify(k, b"\x72", b64(SIGNATURE))], [])

    def test_malleable(self) -> None:
        """The same signature with the group's order added to S is another, and refused."""
        order = 2**252 + 27742317777372353535851937790883648493
        number = int.from_bytes(SIGNATURE[32:], "little") + order
        twin = SIGNATURE[:32] + number.to_bytes(32, "little")
        self.assertFalse(identity.verify(b64(PUBLIC), b"\x72", b64(twin)))

    def test_weak_key(self) -> None:
        """Under a point of low order, R = the point and S = 0 would be good for many texts."""
        neutral = bytes.fromhex(BAD_ED25519["the neutral point"])
        self.assertFalse(identity.verify(b64(neutral), b"any", b64(neutral + bytes(32))))

    @settings(deadline=None)
    @given(st.text())
    def test_round_trip(self, text: str) -> None:
        """Every text that can be sent can be signed, and read by a JSON parser."""
        signature = identity.sign_content(self.key, text)
        self.assertTrue(identity.verify_content(b64(PUBLIC), text, signature))
        self.assertEqual(msgspec.json.decode(identity.go_json(text)), text)


class UserTests(SynchronousTestCase):
    """What everybody may know."""

    def test_frozen(self) -> None:
        """A user is a value: equal to another of the same fields, and not to be changed."""
        user = identity.User("alice", "Alice", b64(PUBLIC), None, 1.0)
        self.assertEqual(user, identity.User("alice", "Alice", b64(PUBLIC), None, 1.0))
        self.assertRaises(AttributeError, setattr, user, "user_id", "charlie")
