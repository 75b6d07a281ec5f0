"""What the benchmark needs beside wschat, in `.bench/`: compiled, generated and installed there."""

from __future__ import annotations

import datetime
import fcntl
import ipaddress
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

HERE: Final = Path(__file__).resolve().parent
CACHE: Final = HERE.parent / ".bench"

_PATIENCE: Final = 300
_FLAGS: Final = ("-O2", "-Wall", "-Wextra")
_LIBRARIES: Final = ("ssl", "crypto")


class Missing(Exception):
    """Something is not to be had here; the text says why, in one line."""


class InUse(Exception):
    """Another run uses the cache."""


@dataclass(frozen=True)
class Certificate:
    """A certificate and its private key, both PEM files."""

    certificate: Path
    key: Path


@dataclass
class Cache:
    """The cache, and why what is not in it is not."""

    directory: Path
    _missing: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Nobody else measures in this block: two would disturb each other.  Raises `InUse`."""
        with (self.directory / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise InUse(f"another benchmark runs in {self.directory}") from None
            yield

    def native(self, name: str, *sources: str, libraries: Sequence[str] = ()) -> Path:
        """
        A program of native/, compiled anew when a source has changed.

        `libraries` are those that it needs beside OpenSSL's.  Raises `Missing`.
        """
        compiler = shutil.which("cc") or shutil.which("gcc")
        if compiler is None:
            raise Missing("no C compiler (cc)")
        program = self.directory / name
        files = [HERE / "native" / source for source in sources]
        newest = max(path.stat().st_mtime for path in (HERE / "native").iterdir())
        if not program.exists() or program.stat().st_mtime < newest:
            command: list[str | Path] = [compiler, *_FLAGS, "-o", program, *files]
            _run([*command, *(f"-l{library}" for library in (*_LIBRARIES, *libraries))])
        return program

    def certificate(self, kind: str) -> Certificate:
        """A self-signed certificate for loopback; `kind` is `p256` or `rsa2048`."""
        made = Certificate(self.directory / f"{kind}.pem", self.directory / f"{kind}-key.pem")
        if not (made.certificate.exists() and made.key.exists()):
            _make_certificate(kind, made)
        return made

    def python_package(self, name: str, *needs: str) -> Path:
        """The `bin` of an environment that has packages of PyPI.  Raises `Missing`."""
        environment = self.directory / "python"
        ready = environment / f"{name}.ready"
        if not ready.exists():
            if not (environment / "bin" / "python").exists():
                _run([sys.executable, "-m", "venv", environment])
            pip: list[str | Path] = [environment / "bin" / "python", "-m", "pip", "install"]
            self._once(name, [*pip, "--quiet", "--disable-pip-version-check", name, *needs])
            ready.touch()
        return environment / "bin"

    def node_package(self, name: str) -> tuple[Path, Path]:
        """`node`, and the node_modules that have a package of npm.  Raises `Missing`."""
        node, npm = shutil.which("node"), shutil.which("npm")
        if node is None or npm is None:
            raise Missing("no Node (node and npm)")
        directory = self.directory / "node"
        if not (directory / "node_modules" / name / "package.json").exists():
            directory.mkdir(exist_ok=True)
            quiet = ["--silent", "--no-audit", "--no-fund"]
            self._once(name, [npm, "install", *quiet, "--prefix", directory, name])
        return Path(node), directory / "node_modules"

    def _once(self, name: str, command: Sequence[str | Path]) -> None:
        """Install something; what failed once in a run is not tried again."""
        if name in self._missing:
            raise Missing(self._missing[name])
        print(f"installing {name} ...", file=sys.stderr)
        try:
            _run(command)
        except Missing as error:
            self._missing[name] = str(error)
            raise


def _run(command: Sequence[str | Path]) -> None:
    try:
        done = subprocess.run(
            [str(part) for part in command],
            capture_output=True,
            text=True,
            timeout=_PATIENCE,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Missing(f"{Path(command[0]).name}: {error}") from None
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if "error" in line.lower()]
        last = (lines or done.stderr.splitlines() or ["failed"])[-1].strip()
        raise Missing(f"{Path(command[0]).name}: {last[:200]}")


def _make_certificate(kind: str, paths: Certificate) -> None:
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
    if kind == "p256":
        key = ec.generate_private_key(ec.SECP256R1())
    else:
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=3650))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
    )
    paths.key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    paths.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
