"""wschat as one of the servers: a checkout of it, with accounts and tokens for the load."""

from __future__ import annotations

import base64
import functools
import hashlib
import http.client
import json
import os
import secrets
import shutil
import ssl
import time
from pathlib import Path
from typing import Final

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from benchmarks.cache import Cache, Missing
from benchmarks.servers import Running, Server, _said

#: Nothing here is to be held up by what protects a server from its users.
_OPTIONS: Final = (
    "--http=none",
    "--listen=127.0.0.1:0",
    "--registration-rate=1000000000",
    "--message-rate=1000000000",
    "--message-burst=1000000000",
    "--max-connections=20000",
)


class Wschat(Server):
    """A checkout of wschat, run by its own .venv."""

    def __init__(
        self,
        cache: Cache,
        checkout: Path,
        name: str = "wschat",
        label: str = "wschat",
        *,
        protocol: str = "wschat",
        profile: Path | None = None,
    ) -> None:
        """
        Its clients speak `protocol`: `wschat`, which is `wschat.v1`, or `classic`.

        With `profile` it runs under cProfile, which writes what it saw there at the end.
        """
        super().__init__(cache)
        self.name = name
        self.label = label
        self.protocol = protocol
        self._profile = profile
        self._twistd = checkout.resolve() / ".venv" / "bin" / "twistd"
        self._secret = secrets.token_hex(32)
        self._template = cache.directory / f"accounts-{name}"

    def prepare(self, users: int) -> str:
        """Register so many users, once, in a data directory that each start begins with."""
        if not self._twistd.exists():
            raise Missing(f"no {self._twistd}: run ./just setup there")
        text = "import wschat; print(wschat.__version__)"
        version = _said([self._twistd.with_name("python"), "-c", text])
        shutil.rmtree(self._template, ignore_errors=True)
        self._template.mkdir(mode=0o700)
        with self._run(min(os.sched_getaffinity(0)), self._template) as running:
            _register(running.port, users)
        return version

    def start(self, cpu: int, directory: Path) -> Running:
        shutil.rmtree(directory)
        shutil.copytree(self._template, directory)
        options = [f"--profile={self._profile}", "--savestats"] if self._profile else []
        return self._run(cpu, directory, *options)

    def _run(self, cpu: int, directory: Path, *twistd_options: str) -> Running:
        keys = self.cache.certificate("p256")
        command: list[str | Path] = [self._twistd, "--nodaemon", "--pidfile=", "--reactor=uvloop"]
        command += [*twistd_options, "wschat", f"--data-dir={directory}", *_OPTIONS]
        command += [f"--certificate={keys.certificate}", f"--private-key={keys.key}"]
        running = Running(command, cpu, directory / "log", {"WSCHAT_JWT_SECRET": self._secret})
        running.port = int(running.wait_for(r"listening on https://\S*:(\d+)$"))
        return running

    def identity(self, number: int) -> tuple[str, str]:
        now = int(time.time())
        claims = {
            "user_id": f"u{number}",
            "key": _public_key(number),
            "iat": now,
            "exp": now + 86400,
        }
        return f"u{number}", f"/ws?token={jwt.encode(claims, self._secret, algorithm='HS256')}"


@functools.cache
def _public_key(number: int) -> str:
    """A user's key, the same in every run, so that tokens can be made here."""
    private = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"u%d" % number).digest())
    return base64.b64encode(private.public_key().public_bytes_raw()).decode()


def _register(port: int, users: int) -> None:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # a certificate of our own, on loopback
    connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=60, context=context)
    for number in range(users):
        wanted = {"user_id": f"u{number}", "public_key": _public_key(number)}
        connection.request("POST", "/auth/register", json.dumps(wanted))
        answer = connection.getresponse()
        said = answer.read().decode()
        if answer.status != http.client.CREATED:
            raise Missing(f"no account: {answer.status} {said.strip()[:100]}")
    connection.close()
