"""
The data directory: made on first start, and the same ever after.

It holds the server's certificate, the secret that signs tokens, and the
database.  Errors are `OSError`s that name the file.
"""

from __future__ import annotations

import datetime
import errno
import fcntl
import ipaddress
import os
import secrets
import socket
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_LIFETIME: Final = datetime.timedelta(days=825)
_FILES: Final = frozenset({"certificate.pem", "jwt-secret", "private-key.pem", "wschat.sqlite3"})
_LOCK_FILE: Final = "lock"
_SECRET_BYTES: Final = 32
SECRET_FILE: Final = "jwt-secret"  # noqa: S105  # a name
_NAMES: Final = ("localhost", "websocket-server", "ws-server")
_ADDRESSES: Final = ("127.0.0.1", "::1")


def write_private(path: Path, data: bytes) -> None:
    """Make a file that only its owner can read, whole or not at all."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def self_signed(names: Iterable[str], now: datetime.datetime) -> tuple[bytes, bytes]:
    """
    A P-256 certificate that vouches for itself, and its private key; both PEM.

    `names` are its host names; the loopback addresses are always in it.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "wschat")])
    alternatives: list[x509.GeneralName] = [x509.DNSName(name) for name in names]
    alternatives += [x509.IPAddress(ipaddress.ip_address(address)) for address in _ADDRESSES]
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    usage = dict.fromkeys(
        (
            "content_commitment",
            "key_encipherment",
            "data_encipherment",
            "key_agreement",
            "crl_sign",
            "encipher_only",
            "decipher_only",
        ),
        False,
    )
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))  # for clocks that are behind
        .not_valid_after(now + _LIFETIME)
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        # A client that trusts it trusts its own issuer, so it says that it is one.
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(
            x509.KeyUsage(digital_signature=True, key_cert_sign=True, **usage), critical=True
        )
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(identifier, critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    return (
        certificate.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    )


class DataDirectory:
    """The files of one server; made when they are missing, mode 0600 but for the certificate."""

    def __init__(self, path: Path) -> None:
        """Make the directory (0700) when it is missing, and close it to others when it is not."""
        self.path = path
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            present = {entry.name for entry in path.iterdir()} - {"lost+found"}
            if present and present.isdisjoint(_FILES):
                raise FileExistsError(
                    errno.EEXIST, "Open to others, and has files that are not wschat's", str(path)
                )
            path.chmod(0o700)

    def jwt_secret(self) -> str:
        """The secret that tokens are signed with."""
        path = self.path / SECRET_FILE
        if not path.exists():
            write_private(path, secrets.token_hex(_SECRET_BYTES).encode() + b"\n")
        secret = path.read_text("ascii").strip()
        if len(secret) < _SECRET_BYTES:
            text = f"Holds no secret of {_SECRET_BYTES} characters; remove it, and one is made"
            raise OSError(errno.EINVAL, text, str(path))
        return secret

    def hold(self, *, alone: bool = False) -> IO[bytes]:
        """
        Say that the directory is in use, until the file that this gives is closed.

        Many may use it, or one `alone`; a process that ends uses it no more.
        Raises `BlockingIOError` when somebody is in the way.
        """
        descriptor = os.open(self.path / _LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        file = os.fdopen(descriptor, "r+b")
        try:
            fcntl.flock(file, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            text = "Used by a server, or being restored"
            raise BlockingIOError(errno.EAGAIN, text, str(self.path)) from None
        return file

    def certificate(self, now: datetime.datetime) -> tuple[Path, Path]:
        """The files of the certificate and its private key; one that has ended is made anew."""
        certificate, key = certificate_files(self.path)
        if certificate.exists() and key.exists() and _valid(certificate, now):
            return certificate, key
        return make_certificate(self.path, now)


def certificate_files(directory: Path) -> tuple[Path, Path]:
    """Where a certificate and its private key are in a directory."""
    return directory / "certificate.pem", directory / "private-key.pem"


def make_certificate(directory: Path, now: datetime.datetime) -> tuple[Path, Path]:
    """Make a self-signed certificate for this host, and its private key (0600), in a directory."""
    certificate, key = certificate_files(directory)
    certificate_pem, key_pem = self_signed(dict.fromkeys((*_NAMES, *_this_host())), now)
    write_private(key, key_pem)
    write_private(certificate, certificate_pem)
    certificate.chmod(0o644)
    return certificate, key


def _valid(certificate: Path, now: datetime.datetime) -> bool:
    try:
        read = x509.load_pem_x509_certificate(certificate.read_bytes())
    except ValueError:
        text = "Is no certificate; remove it, and one is made"
        raise OSError(errno.EINVAL, text, str(certificate)) from None
    return read.not_valid_after_utc > now


def _this_host() -> list[str]:
    """This host's name, if a certificate can have it."""
    name = socket.gethostname().lower()
    return [name] if name.isascii() and 0 < len(name) <= 253 else []
