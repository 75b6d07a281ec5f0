"""Tests of `wschat.datadir`."""

from __future__ import annotations

import datetime
import os
import socket
import stat
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID
from twisted.trial.unittest import SynchronousTestCase

from wschat.datadir import DataDirectory, self_signed, write_private

NOW = datetime.datetime(2026, 11, 22, 10, tzinfo=datetime.UTC)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


class _DataTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.path = Path(self.mktemp())
        self.addCleanup(os.umask, os.umask(0o022))


class WriteTests(_DataTests):
    """Private files."""

    def test_mode(self) -> None:
        """Only the owner can read it, whatever the umask."""
        os.umask(0)
        write_private(self.path, b"secret")
        self.assertEqual((mode(self.path), self.path.read_bytes()), (0o600, b"secret"))

    def test_replaces(self) -> None:
        """A file that is there, and open to others, is replaced by one that is not."""
        self.path.write_bytes(b"old, and longer")
        self.path.chmod(0o644)
        write_private(self.path, b"new")
        self.assertEqual((mode(self.path), self.path.read_bytes()), (0o600, b"new"))

    def test_whole_or_not_at_all(self) -> None:
        """When it cannot be written, the old file stays and nothing is left behind."""
        self.path.mkdir()
        (self.path / "target").mkdir()  # cannot be replaced by a file
        self.assertRaises(OSError, write_private, self.path / "target", b"secret")
        self.assertEqual([entry.name for entry in self.path.iterdir()], ["target"])


class HoldTests(_DataTests):
    """Who uses a directory."""

    def test_shared(self) -> None:
        """Many may use it at once; only then may nobody have it alone."""
        directory = DataDirectory(self.path)
        first, second = directory.hold(), directory.hold()
        first.close()
        self.assertRaises(BlockingIOError, directory.hold, alone=True)
        second.close()
        with directory.hold(alone=True):
            self.assertRaises(BlockingIOError, directory.hold)
            self.assertRaises(BlockingIOError, directory.hold, alone=True)
        directory.hold().close()
        self.assertEqual(mode(self.path / "lock"), 0o600)


class DirectoryTests(_DataTests):
    """The directory itself."""

    def test_made(self) -> None:
        """It is made when it is missing, with those above it, for its owner alone."""
        DataDirectory(self.path / "a" / "b")
        self.assertEqual(mode(self.path / "a" / "b"), 0o700)

    def test_empty(self) -> None:
        """An empty directory that is open to others is closed to them."""
        self.path.mkdir(mode=0o755)
        DataDirectory(self.path)
        self.assertEqual(mode(self.path), 0o700)

    def test_ours(self) -> None:
        """So is one of ours that somebody opened."""
        DataDirectory(self.path).jwt_secret()
        self.path.chmod(0o755)
        DataDirectory(self.path)
        self.assertEqual(mode(self.path), 0o700)

    def test_foreign(self) -> None:
        """One that is open to others and has files of others is refused, and left as it is."""
        self.path.mkdir(mode=0o755)
        (self.path / "theirs").touch()
        error = self.assertRaises(OSError, DataDirectory, self.path)
        self.assertIn(str(self.path), str(error))
        self.assertEqual(mode(self.path), 0o755)

    def test_private_with_files(self) -> None:
        """One that is closed to others may have other files."""
        self.path.mkdir(mode=0o700)
        (self.path / "notes").touch()
        DataDirectory(self.path)

    def test_not_a_directory(self) -> None:
        """A file in its place is an error that names it."""
        self.path.touch()
        error = self.assertRaises(OSError, DataDirectory, self.path)
        self.assertIn(str(self.path), str(error))


class SecretTests(_DataTests):
    """The secret that tokens are signed with."""

    def test_made_once(self) -> None:
        """It is made at the first start, and the same ever after."""
        secret = DataDirectory(self.path).jwt_secret()
        self.assertEqual(DataDirectory(self.path).jwt_secret(), secret)

    def test_random(self) -> None:
        """It is at least 32 bytes, other for every server, and readable by nobody else."""
        first = DataDirectory(self.path / "a").jwt_secret()
        second = DataDirectory(self.path / "b").jwt_secret()
        self.assertNotEqual(first, second)
        self.assertGreaterEqual(len(bytes.fromhex(first)), 32)
        self.assertEqual(mode(self.path / "a" / "jwt-secret"), 0o600)


class CertificateTests(_DataTests):
    """The server's own certificate."""

    def setUp(self) -> None:
        super().setUp()
        self.directory = DataDirectory(self.path)

    def load(self, now: datetime.datetime = NOW) -> x509.Certificate:
        certificate, _ = self.directory.certificate(now)
        return x509.load_pem_x509_certificate(certificate.read_bytes())

    def test_modes(self) -> None:
        """The key is for its owner alone; the certificate can be given to clients."""
        certificate, key = self.directory.certificate(NOW)
        self.assertEqual((mode(certificate), mode(key)), (0o644, 0o600))

    def test_made_once(self) -> None:
        """It is the same ever after, until it ends."""
        files = [path.read_bytes() for path in self.directory.certificate(NOW)]
        soon = NOW + datetime.timedelta(days=800)
        again = [path.read_bytes() for path in DataDirectory(self.path).certificate(soon)]
        self.assertEqual(again, files)

    def test_ended(self) -> None:
        """One that has ended is made anew, key and all, and is valid then."""
        first = self.load()
        later = first.not_valid_after_utc
        second = self.load(later)
        self.assertGreater(second.not_valid_after_utc, later)
        self.assertLess(second.not_valid_before_utc, later)
        self.assertNotEqual(second.public_key(), first.public_key())

    def test_missing_half(self) -> None:
        """When certificate or key is missing, both are made anew and fit each other."""
        for name in ("certificate.pem", "private-key.pem"):
            self.directory.certificate(NOW)
            (self.path / name).unlink()
            certificate, key = self.directory.certificate(NOW)
            public = x509.load_pem_x509_certificate(certificate.read_bytes()).public_key()
            private = serialization.load_pem_private_key(key.read_bytes(), None)
            self.assertEqual(private.public_key(), public)

    def test_junk(self) -> None:
        """One that cannot be read is not replaced; the error says which file it is."""
        certificate, _ = self.directory.certificate(NOW)
        certificate.write_bytes(b"junk")
        error = self.assertRaises(OSError, self.directory.certificate, NOW)
        self.assertIn(str(certificate), str(error))
        self.assertEqual(certificate.read_bytes(), b"junk")

    def names(self) -> tuple[list[str], list[str]]:
        extension = self.load().extensions.get_extension_for_class(x509.SubjectAlternativeName)
        dns = extension.value.get_values_for_type(x509.DNSName)
        addresses = extension.value.get_values_for_type(x509.IPAddress)
        return dns, [str(address) for address in addresses]

    def test_names(self) -> None:
        """It is for this host, the names of the compose file, and the loopback addresses."""
        names, addresses = self.names()
        expected = {"localhost", "websocket-server", "ws-server", socket.gethostname().lower()}
        self.assertEqual(set(names), expected)
        self.assertEqual(set(addresses), {"127.0.0.1", "::1"})

    def test_host_names_that_do_not_fit(self) -> None:
        """A host name that a certificate cannot have is left away, and none is there twice."""
        for name in ("h\u00f6st", "", "x" * 254, "LOCALHOST"):
            self.patch(socket, "gethostname", lambda name=name: name)
            self.directory = DataDirectory(self.path / f"{len(name)}")
            self.assertEqual(
                sorted(self.names()[0]), ["localhost", "websocket-server", "ws-server"]
            )

    def test_key(self) -> None:
        """Its key is on P-256, and its signature its own."""
        certificate = self.load()
        public = certificate.public_key()
        assert isinstance(public, ec.EllipticCurvePublicKey)
        self.assertIsInstance(public.curve, ec.SECP256R1)
        certificate.verify_directly_issued_by(certificate)

    def test_for_servers(self) -> None:
        """It says that it is for a server, and valid now even where clocks are behind."""
        certificate = self.load()
        usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        self.assertIn(ExtendedKeyUsageOID.SERVER_AUTH, usage)
        self.assertLess(certificate.not_valid_before_utc, NOW)
        self.assertGreater(certificate.not_valid_after_utc, NOW)

    def test_two_are_different(self) -> None:
        """Every certificate has its own key and number."""
        first, second = (
            x509.load_pem_x509_certificate(self_signed(["localhost"], NOW)[0]) for _ in range(2)
        )
        self.assertNotEqual(first.serial_number, second.serial_number)
        self.assertNotEqual(first.public_key(), second.public_key())
