"""Tests of `wschat.admin.check`."""

from __future__ import annotations

import datetime
import resource
import time
from pathlib import Path

import sqlalchemy as sa
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from tests.admin.support import AdminTests
from tests.stores import named
from wschat import database
from wschat.admin import check
from wschat.admin.check import Finding, Grade, findings
from wschat.admin.context import Context
from wschat.datadir import DataDirectory

DAY = datetime.timedelta(days=1)

GOOD_SECRET = "c2f1e0b49d7a86531fedcba987654321"


class CheckTests(AdminTests):
    """What is found in a configuration."""

    def setUp(self) -> None:
        super().setUp()
        self.now = datetime.datetime.now(datetime.UTC)
        self.patch(check, "CHECKS", tuple(c for c in check.CHECKS if c is not check._clock))
        self.patch(resource, "getrlimit", lambda which: (100_000, 100_000))

    def findings(self, *names: str, **options: str) -> list[Finding]:
        return self.found({}, *names, **options)

    def found(self, environ: dict[str, str], *names: str, **options: str) -> list[Finding]:
        given: dict[str, str | None] = {"data-dir": str(self.data_dir)}
        given |= {name.replace("_", "-"): value for name, value in options.items()}
        return findings(Context(given, environ, self.now.timestamp()), list(names))

    def grades(self, about: str, *names: str, **options: str) -> list[Grade]:
        """The grades of what was found about something, but for good ones beside others."""
        found = [f.grade for f in self.findings(*names, **options) if f.about == about]
        return [grade for grade in found if grade is not Grade.GOOD] or found[:1]

    def certificate(
        self, begins: datetime.datetime, ends: datetime.datetime, bits: int = 2048
    ) -> dict[str, str]:
        """A certificate for chat.example and all of *.chat.example; the options that name it."""
        key = rsa.generate_private_key(65537, bits)
        names = [x509.DNSName("chat.example"), x509.DNSName("*.chat.example")]
        made = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "an authority")]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(begins)
            .not_valid_after(ends)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .sign(key, hashes.SHA256())
        )
        pem = serialization.Encoding.PEM
        chain, private = Path(self.mktemp()), Path(self.mktemp())
        chain.write_bytes(made.public_bytes(pem))
        private.touch(0o600)
        private.write_bytes(
            key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        )
        return {"certificate": str(chain), "private_key": str(private)}

    def test_origins(self) -> None:
        """Everybody's pages are bad, unprotected ones weak, and none or listed ones good."""
        for origins, grade in (
            ("", Grade.GOOD),
            ("https://chat.example", Grade.GOOD),
            ("http://localhost:3000,http://127.0.0.1", Grade.GOOD),
            ("http://chat.example", Grade.WEAK),
            ("*", Grade.BAD),
            ("null", Grade.BAD),
        ):
            found = self.grades("--allowed-origins", allowed_origins=origins)
            self.assertEqual(found, [grade], origins)

    def test_certificate_age(self) -> None:
        """One that is over or not yet is bad, one that is soon over weak."""
        for begins, ends, grade in (
            (-DAY, 60 * DAY, Grade.GOOD),
            (-DAY, 20 * DAY, Grade.WEAK),
            (-2 * DAY, -DAY, Grade.BAD),
            (DAY, 60 * DAY, Grade.BAD),
        ):
            options = self.certificate(self.now + begins, self.now + ends)
            self.assertEqual(self.grades("--certificate", **options), [grade])

    def test_certificate_names(self) -> None:
        """Each name that clients know has to be in it; a star is for one label."""
        options = self.certificate(self.now - DAY, self.now + 60 * DAY)
        for name, grade in (
            ("chat.example", Grade.GOOD),
            ("CHAT.example", Grade.GOOD),
            ("eu.chat.example", Grade.GOOD),
            ("a.eu.chat.example", Grade.BAD),
            ("example", Grade.BAD),
        ):
            self.assertEqual(self.grades("--certificate", name, **options), [grade], name)

    def test_certificate_keys(self) -> None:
        """Short keys, keys of another certificate and files that are none are bad."""
        short = self.certificate(self.now - DAY, self.now + 60 * DAY, bits=1024)
        self.assertIn(Grade.BAD, self.grades("--certificate", **short))
        one, other = (self.certificate(self.now - DAY, self.now + 60 * DAY) for _ in range(2))
        mixed = {**one, "private_key": other["private_key"]}
        self.assertEqual(self.grades("--certificate", **mixed), [Grade.BAD])
        gone = {**one, "private_key": "/nowhere/key.pem"}
        self.assertEqual(self.grades("--certificate", **gone), [Grade.BAD])

    def test_own_certificate(self) -> None:
        """One that vouches for itself is weak; before the first start there is none to see."""
        self.assertEqual(self.grades("--certificate"), [Grade.WEAK])
        DataDirectory(self.data_dir).certificate(self.now)
        self.assertEqual(self.grades("--certificate", "localhost"), [Grade.WEAK])
        self.assertEqual(self.grades("--certificate", listen="tcp:1"), [])

    def test_secret(self) -> None:
        """What can be guessed, and what everybody can see, is bad."""
        for secret, grade in (
            (GOOD_SECRET, Grade.GOOD),
            ("change-me", Grade.BAD),
            ("secret" * 10, Grade.BAD),
            ("a" * 64, Grade.BAD),
        ):
            found = self.found({"JWT_SECRET": secret})
            grades = {f.grade for f in found if f.about == "--jwt-secret"}
            self.assertEqual(max(grades), grade, secret)
            self.assertNotIn(secret, str(found))
        self.assertEqual(self.grades("--jwt-secret", jwt_secret=GOOD_SECRET), [Grade.BAD])
        self.assertEqual(self.grades("--jwt-secret"), [Grade.GOOD])

    def test_modes(self) -> None:
        """Secrets that all can read are bad, those that a group can weak."""
        self.store("alice")
        directory = DataDirectory(self.data_dir)
        directory.jwt_secret()
        directory.certificate(self.now)
        log = Path(self.mktemp())
        log.touch()
        for path, about in (
            (self.data_dir, "--data-dir"),
            (self.data_dir / "wschat.sqlite3", "--database"),
            (self.data_dir / "jwt-secret", "--jwt-secret"),
            (self.data_dir / "private-key.pem", "--private-key"),
            (log, "--security-log-file"),
        ):
            for mode, grade in ((0o700, Grade.GOOD), (0o740, Grade.WEAK), (0o704, Grade.BAD)):
                path.chmod(mode)
                self.assertEqual(self.grades(about, security_log_file=str(log)), [grade], path)
            path.chmod(0o700)

    def test_configuration_file(self) -> None:
        """One that others can write is bad, and one with a secret that others can read."""
        file = Path(self.mktemp()).absolute()
        file.write_text("message-rate = 5\n")
        file.chmod(0o644)
        self.assertEqual(self.grades("--config-file", config_file=str(file)), [])
        file.chmod(0o664)
        self.assertEqual(self.grades("--config-file", config_file=str(file)), [Grade.BAD])
        file.write_text(f'jwt-secret = "{GOOD_SECRET}"\n')
        file.chmod(0o644)
        self.assertEqual(self.grades("--config-file", config_file=str(file)), [Grade.BAD])
        file.chmod(0o600)
        self.assertEqual(self.grades("--config-file", config_file=str(file)), [])

    def test_limits(self) -> None:
        """Limits that are none, or that cannot be kept, are said."""
        for about, options, grades in (
            ("--max-connections", {"max_connections": "200000"}, [Grade.WEAK]),
            ("--max-connections", {"max_connections": "9000"}, []),
            ("--outbox-bytes", {"outbox_bytes": "1KiB"}, [Grade.BAD]),
            ("--message-rate", {"message_rate": "1e6"}, [Grade.WEAK]),
            ("--login-rate, --registration-rate", {"login_rate": "1e6"}, [Grade.WEAK]),
            ("--token-lifetime", {"token_lifetime": "30d"}, [Grade.WEAK]),
            ("--token-lifetime", {"token_lifetime": "7d"}, []),
            ("--trusted-proxies", {"trusted_proxies": "127.0.0.1,0.0.0.0/0"}, [Grade.BAD]),
            ("--trusted-proxies", {"trusted_proxies": "::/0"}, [Grade.BAD]),
            ("--trusted-proxies", {"trusted_proxies": "10.0.0.0/8,unix"}, []),
            ("--metrics-from", {"metrics_from": "0.0.0.0/0"}, [Grade.WEAK]),
            ("--metrics-from", {}, []),
        ):
            self.assertEqual(self.grades(about, **options), grades, options)

    def test_database(self) -> None:
        """One that does not answer is bad, and so is a password that everybody can see."""
        file = Path(self.mktemp()).absolute()
        file.write_bytes(b"junk" * 1000)
        file.chmod(0o600)
        self.assertEqual(self.grades("--database", database=str(file)), [Grade.BAD])
        self.store("alice")
        self.assertEqual(self.grades("--database"), [Grade.GOOD])
        url = "postgresql+psycopg://me:quokka@192.0.2.1:1/chat?connect_timeout=1"
        self.patch(database, "make_engine", self.unreachable)
        found = [f for f in self.findings(database=url) if f.about == "--database"]
        self.assertEqual([f.grade for f in found], [Grade.WEAK, Grade.BAD, Grade.BAD])
        self.assertNotIn("quokka", str(found))

    def unreachable(self, url: object) -> None:
        raise sa.exc.OperationalError("", {}, OSError("no answer"))

    def test_clock(self) -> None:
        """A clock that is behind what was stored is bad."""
        kept = self.store("alice", "bob")
        later = self.now.timestamp() + 3600
        self.successResultOf(kept.stream.append([named("a1")], {}, (), later))
        self.assertEqual(self.grades("clock"), [Grade.BAD])
        self.now += 2 * DAY
        self.assertEqual(self.grades("clock"), [])

    def test_nothing_is_made(self) -> None:
        """Looking makes no file and no directory."""
        self.findings()
        self.assertFalse(self.data_dir.exists())


class CommandTests(AdminTests):
    """`wschat check`."""

    def test_status(self) -> None:
        """It ends with 0, 1 or 2 by the worst finding, a line for each."""
        for grade in Grade:
            found = [Finding("--listen", Grade.GOOD, "x"), Finding("--http", grade, "y")]
            self.patch(check, "CHECKS", (lambda context, names, found=found: iter(found),))
            ended = self.wschat("check")
            self.assertEqual((ended.status, ended.error), (int(grade), ""))
            self.assertEqual(ended.lines[0], "good  --listen: x")
            self.assertTrue(ended.lines[1].startswith(grade.name.lower()))

    def test_names(self) -> None:
        """The names that are given are looked for."""
        DataDirectory(self.data_dir).certificate(datetime.datetime.now(datetime.UTC))
        ended = self.wschat("check", "--name=localhost", "--name=chat.example")
        self.assertEqual(ended.status, 2)
        about = [line for line in ended.lines if " it is not for " in line]
        self.assertEqual(about, ["bad   --certificate: it is not for chat.example"])

    def test_clock_is_looked_at(self) -> None:
        """Whether the clock is kept right is the system's to say."""
        context = Context({"data-dir": str(self.data_dir)}, {}, time.time())
        for finding in check._clock(context, []):
            self.assertEqual(finding.about, "clock")
            self.assertIn(finding.grade, (Grade.GOOD, Grade.WEAK))
