"""
Who a user is: keys, signatures, and sealing (docs/protocol.md, "Signatures" and "Encryption").

Pure: no I/O and no clock.  Private keys never show in a `repr` or an exception.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import json
import re
import secrets
from typing import Final, Self

import msgspec
import nacl.bindings
import nacl.exceptions
import nacl.public
import nacl.signing
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES: Final = 32
SIGNATURE_BYTES: Final = 64

_USERNAME_LENGTH: Final = 256
_X25519_PREFIX: Final = b"X25519-from-Ed25519:"
_AES_NONCE_BYTES: Final = 12
_BOX_NONCE_BYTES: Final = 24


class BadName(ValueError):
    """A text cannot be the name that a user shows; the message says what can be one."""


class BadKey(ValueError):
    """A text that should be a key is none; the message says why and holds no key."""


class Unsealable(ValueError):
    """A sealed message cannot be opened with this key, or was altered."""


class User(msgspec.Struct, frozen=True):
    """
    A registered user, as everybody may know them.

    Keys are base64 of 32 bytes; times are in seconds since the epoch.
    `rotations` are the steps from the first key to this one, JSON as
    wschat.rotation has it.  An operator disabled the account at `disabled_at`,
    and ended all its logins of before `signed_out_at`.
    """

    user_id: str
    username: str
    public_key: str
    x25519_public_key: str | None
    created_at: float
    rotations: str | None = None
    disabled_at: float | None = None
    signed_out_at: float | None = None


class Sealed(msgspec.Struct, frozen=True):
    """
    A text that only its recipient can read; all are base64.

    `sender_key` is as `encrypted_key`, for the sender.
    """

    content: str
    encrypted_key: str
    encryption_nonce: str
    sender_key: str | None = None


def decode_base64(text: str, size: int | None = None) -> bytes:
    """
    Standard alphabet, padded, as an encoder writes it; `size` is the number of bytes expected.

    Raises `ValueError` for anything else.
    """
    data = base64.b64decode(text.encode("ascii", "replace"), validate=True)
    if encode_base64(data) != text:
        raise binascii.Error("surplus bits or padding")
    if size is not None and len(data) != size:
        raise binascii.Error(f"expected {size} bytes, found {len(data)}")
    return data


def encode_base64(data: bytes) -> str:
    """Standard alphabet, padded."""
    return base64.b64encode(data).decode("ascii")


def _key_bytes(text: str, size: int, name: str) -> bytes:
    try:
        return decode_base64(text, size)
    except ValueError:
        raise BadKey(f"{name} is not base64 of {size} bytes.") from None


def check_username(text: str) -> None:
    """Raise `BadName` unless `text` can be shown, in a line, as a user's name."""
    if len(text) > _USERNAME_LENGTH or not text.isprintable():
        raise BadName(f"username must be at most {_USERNAME_LENGTH} printable characters.")


def check_public_key(text: str) -> None:
    """Raise `BadKey` unless `text` is base64 of a usable Ed25519 public key."""
    key = _key_bytes(text, KEY_BYTES, "public_key")
    if not nacl.bindings.crypto_core_ed25519_is_valid_point(key):
        raise BadKey("public_key is not an Ed25519 public key.")


def check_x25519_public_key(text: str) -> None:
    """Raise `BadKey` unless `text` is base64 of a usable X25519 public key."""
    key = _key_bytes(text, KEY_BYTES, "x25519_public_key")
    try:  # a point of low order gives everybody the same shared secret
        nacl.bindings.crypto_scalarmult(hashlib.sha256(key).digest(), key)
    except nacl.exceptions.RuntimeError:
        raise BadKey("x25519_public_key is not an X25519 public key.") from None


class PrivateKey:
    """
    A user's Ed25519 private key, and the X25519 key that is derived from it.

    `former` are keys that it replaced: they open what was sealed for them,
    and sign nothing.
    """

    __slots__ = ("_sealing", "_signing", "former")

    def __init__(self, seed: bytes, former: tuple[PrivateKey, ...] = ()) -> None:
        self.former = former
        self._signing = nacl.signing.SigningKey(seed)
        digest = bytearray(hashlib.sha256(_X25519_PREFIX + seed).digest())
        digest[0] &= 248
        digest[31] &= 127
        digest[31] |= 64
        self._sealing = nacl.public.PrivateKey(bytes(digest))

    @classmethod
    def generate(cls, former: tuple[PrivateKey, ...] = ()) -> Self:
        return cls(secrets.token_bytes(KEY_BYTES), former)

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Read `WS_PRIVATE_KEY`: base64 of the seed, then the public key.  Raises `BadKey`."""
        data = _key_bytes(text.strip(), 2 * KEY_BYTES, "The private key")
        key = cls(data[:KEY_BYTES])
        if not secrets.compare_digest(bytes(key._signing.verify_key), data[KEY_BYTES:]):
            raise BadKey("The private key's two halves do not belong together.")
        return key

    def to_text(self) -> str:
        """The key as `from_text` reads it.  A secret: for the key file alone."""
        return encode_base64(bytes(self._signing) + bytes(self._signing.verify_key))

    @property
    def public_key(self) -> str:
        return encode_base64(bytes(self._signing.verify_key))

    @property
    def x25519_public_key(self) -> str:
        return encode_base64(bytes(self._sealing.public_key))

    def sign(self, data: bytes) -> str:
        """The base64 Ed25519 signature over `data` (RFC 8032)."""
        return encode_base64(self._signing.sign(data).signature)

    def open(self, sealed: Sealed) -> str:
        """The text that somebody sealed for this key's owner.  Raises `Unsealable`."""
        for key in (self, *self.former):
            with contextlib.suppress(ValueError, InvalidTag, nacl.exceptions.CryptoError):
                return key._open(sealed)
        raise Unsealable("Sealed for another key, or altered.") from None

    def _open(self, sealed: Sealed) -> str:
        wrapped = decode_base64(sealed.encrypted_key)
        ephemeral, box = wrapped[:KEY_BYTES], wrapped[KEY_BYTES:]
        public = nacl.public.PublicKey(ephemeral)
        aes_key = nacl.public.Box(self._sealing, public).decrypt(box)
        if len(aes_key) != KEY_BYTES:
            raise ValueError("not a key of AES-256")
        nonce = decode_base64(sealed.encryption_nonce, _AES_NONCE_BYTES)
        return AESGCM(aes_key).decrypt(nonce, decode_base64(sealed.content), None).decode()

    def __repr__(self) -> str:
        return f"<PrivateKey of {self.public_key}>"


def seal(text: str, x25519_public_key: str, own_public_key: str | None = None) -> Sealed:
    """
    Seal `text` for the owner of an X25519 key, under a fresh key of its own.

    With `own_public_key` its owner can open it as well.  Raises `BadKey` when
    a key is none.
    """
    aes_key = AESGCM.generate_key(256)
    nonce = secrets.token_bytes(_AES_NONCE_BYTES)
    return Sealed(
        encode_base64(AESGCM(aes_key).encrypt(nonce, text.encode(), None)),
        _box(aes_key, x25519_public_key),
        encode_base64(nonce),
        None if own_public_key is None else _box(aes_key, own_public_key),
    )


def _box(aes_key: bytes, x25519_public_key: str) -> str:
    """A key that only the owner of another can open: ephemeral key, nonce and box, base64."""
    check_x25519_public_key(x25519_public_key)
    recipient = nacl.public.PublicKey(decode_base64(x25519_public_key))
    ephemeral = nacl.public.PrivateKey.generate()
    nonce = secrets.token_bytes(_BOX_NONCE_BYTES)
    box = nacl.public.Box(ephemeral, recipient).encrypt(aes_key, nonce)
    return encode_base64(bytes(ephemeral.public_key) + bytes(box))


def verify(public_key: str, data: bytes, signature: str) -> bool:
    """Whether `signature` (base64) is `public_key`'s (base64) over `data`; junk is False."""
    try:
        key = nacl.signing.VerifyKey(decode_base64(public_key, KEY_BYTES))
        key.verify(data, decode_base64(signature, SIGNATURE_BYTES))
    except (ValueError, nacl.exceptions.CryptoError):
        return False
    return True


_GO_ESCAPES = str.maketrans(
    {"<": r"\u003c", ">": r"\u003e", "&": r"\u0026", "\u2028": r"\u2028", "\u2029": r"\u2029"}
)


def go_json(text: str) -> bytes:
    """
    The JSON encoding of a string as Go's encoder writes it.

    That is what a direct message's signature covers.  Python's own encoder
    agrees but for the characters that Go escapes for the sake of HTML and
    JavaScript.
    """
    return json.dumps(text, ensure_ascii=False).translate(_GO_ESCAPES).encode()


_OLDER_ESCAPES = {"\b": r"\u0008", "\f": r"\u000c"}


def _older_go_json(text: str) -> bytes:
    """As `go_json`, by encoders that had no short escapes for backspace and form feed."""
    pieces = (
        _OLDER_ESCAPES.get(piece) or json.dumps(piece, ensure_ascii=False)[1:-1]
        for piece in re.split("([\b\f])", text)
    )
    return f'"{"".join(pieces)}"'.translate(_GO_ESCAPES).encode()


def sign_content(key: PrivateKey, content: str) -> str:
    """The signature on a message's content (for a sealed one, on its ciphertext), base64."""
    return key.sign(go_json(content))


def verify_content(public_key: str, content: str, signature: str) -> bool:
    """Whether a message's content was signed by the owner of `public_key`; junk is False."""
    encodings = {go_json(content), _older_go_json(content)}
    return any(verify(public_key, encoding, signature) for encoding in encodings)
