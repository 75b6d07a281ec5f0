"""
`wschat check`: whether a configuration is a good one, and what is to be done about it.

Nothing is changed, and nothing made.  Each check is a generator of findings;
the worst of all is the command's exit status.
"""

from __future__ import annotations

import ctypes
import datetime
import enum
import ipaddress
import os
import resource
import shutil
import stat
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

import sqlalchemy as sa
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from wschat import certificate, database
from wschat.admin.context import Context
from wschat.blame import one_line
from wschat.datadir import SECRET_FILE, certificate_files

#: A certificate that ends sooner is weak, in days: renewals are due a month before.
_RENEWAL_DAYS: Final = 21

_SECRET_BYTES: Final = 32

#: Different characters that a secret has at least, if nobody made it up by hand.
_DIFFERENT: Final = 12

#: File descriptors that a server needs beside its connections.
_DESCRIPTORS: Final = 64

_LEAST_ROOM: Final = 200 * 1024 * 1024

#: adjtimex(2): the clock is not synchronised.
_TIME_ERROR: Final = 5

_WEEK: Final = 7 * 86400


class Grade(enum.IntEnum):
    """How good something is; the exit status of a command that found nothing worse."""

    GOOD = 0
    WEAK = 1
    BAD = 2


class Finding(NamedTuple):
    """What was looked at, how good it is, and a line that says why."""

    about: str
    grade: Grade
    text: str


Check = Callable[[Context, list[str]], Iterator[Finding]]


def add_parser(commands: Any) -> None:
    """The command's own."""
    parser = commands.add_parser("check", help="grade the configuration: good, weak, bad")
    parser.add_argument(
        "--name",
        action="append",
        default=[],
        metavar="HOST",
        help="a name by which clients know the server; may be given again",
    )
    parser.set_defaults(run=run)


def run(context: Context, arguments: Namespace) -> int:
    """Print what was found; the worst of it."""
    found = findings(context, arguments.name)
    for finding in found:
        context.say(f"{finding.grade.name.lower():4}  {finding.about}: {finding.text}")
    return max(finding.grade for finding in found)


def findings(context: Context, names: list[str]) -> list[Finding]:
    """All there is to say; `names` are those by which clients know the server."""
    return [finding for check in CHECKS for finding in check(context, names)]


def _origins(context: Context, names: list[str]) -> Iterator[Finding]:
    about = "--allowed-origins"
    origins = context.config.allowed_origins
    if "*" in origins:
        yield Finding(about, Grade.BAD, "* lets every web page act for whoever has a token in it")
    if "null" in origins:
        yield Finding(about, Grade.BAD, "null is what any page in a sandbox calls itself")
    for origin in sorted(origins - {"*", "null"}):
        parts = urlsplit(origin)
        if parts.scheme == "http" and not _loopback(parts.hostname or ""):
            yield Finding(about, Grade.WEAK, f"{origin} comes over the network unprotected")
    if not origins:
        yield Finding(about, Grade.GOOD, "no web page may connect")
    elif not origins & {"*", "null"}:
        yield Finding(about, Grade.GOOD, f"{len(origins)} listed")


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _certificate(context: Context, names: list[str]) -> Iterator[Finding]:
    about, settings = "--certificate", context.config
    if settings.listen.startswith(("tcp:", "tcp4:", "tcp6:", "unix:")):
        yield Finding("--listen", Grade.GOOD, "without TLS: something before it has to end TLS")
        return
    chain, key = settings.certificate, settings.private_key
    if chain is None or key is None:
        chain, key = certificate_files(settings.data_dir)
        if not chain.exists():
            yield Finding(about, Grade.WEAK, "the server will make one that no client knows")
            return
    try:
        certificate.check(chain, key)
        first = x509.load_pem_x509_certificates(chain.read_bytes())[0]
    except (OSError, ValueError) as error:
        yield Finding(about, Grade.BAD, one_line(error))
        return
    yield _age(first, context.now)
    if first.issuer == first.subject:
        text = "it vouches for itself: clients need the file (SSL_CERT_FILE)"
        yield Finding(about, Grade.WEAK, text)
    public = first.public_key()
    if isinstance(public, rsa.RSAPublicKey) and public.key_size < 2048:
        yield Finding(about, Grade.BAD, f"an RSA key of {public.key_size} bits is too short")
    algorithm = first.signature_hash_algorithm
    if algorithm is not None and algorithm.name in ("md5", "sha1"):
        yield Finding(about, Grade.BAD, f"it is signed with {algorithm.name.upper()}")
    yield from _names(first, names)
    yield _private(key, "--private-key")


def _age(first: x509.Certificate, now: float) -> Finding:
    time_now = datetime.datetime.fromtimestamp(now, datetime.UTC)
    begins, ends = first.not_valid_before_utc, first.not_valid_after_utc
    days = (ends - time_now).days
    if ends <= time_now:
        return Finding("--certificate", Grade.BAD, f"it ended on {ends:%Y-%m-%d}")
    if begins > time_now:
        return Finding("--certificate", Grade.BAD, f"it begins on {begins:%Y-%m-%d}")
    grade = Grade.WEAK if days < _RENEWAL_DAYS else Grade.GOOD
    return Finding("--certificate", grade, f"it ends on {ends:%Y-%m-%d}, in {days} days")


def _names(first: x509.Certificate, names: list[str]) -> Iterator[Finding]:
    """Whether clients that know the server by a name take the certificate (RFC 6125)."""
    try:
        extension = first.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        yield Finding("--certificate", Grade.BAD, "it has no names: no client takes it")
        return
    hosts = [name.lower() for name in extension.value.get_values_for_type(x509.DNSName)]
    hosts += [str(ip) for ip in extension.value.get_values_for_type(x509.IPAddress)]
    yield Finding("--certificate", Grade.GOOD, f"its names are {', '.join(hosts)}")
    for name in names:
        parent = name.lower().partition(".")[2]
        if not ({name.lower(), f"*.{parent}"} & set(hosts)):
            yield Finding("--certificate", Grade.BAD, f"it is not for {name}")


def _secret(context: Context, names: list[str]) -> Iterator[Finding]:
    about, secret = "--jwt-secret", context.config.jwt_secret
    if secret is None:
        path = context.config.data_dir / SECRET_FILE
        yield (
            _private(path, about)
            if path.exists()
            else Finding(about, Grade.GOOD, "the server will make one")
        )
        return
    (given,) = (g for g in context.given if g.setting.name == "jwt-secret")
    if given.source == about:
        text = "on the command line everybody on this machine can read it"
        yield Finding(about, Grade.BAD, text)
    size, different = len(secret.encode()), len(set(secret))
    if size < _SECRET_BYTES:
        yield Finding(about, Grade.BAD, f"{size} bytes can be guessed; {_SECRET_BYTES} cannot")
    elif different < _DIFFERENT:
        yield Finding(about, Grade.BAD, f"{different} different characters can be guessed")
    else:
        yield Finding(about, Grade.GOOD, f"{size} bytes")


def _private(path: Path, about: str) -> Finding:
    """Whether a secret file is one."""
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except OSError as error:
        return Finding(about, Grade.BAD, str(error))
    if mode & 0o007:
        return Finding(about, Grade.BAD, f"{path} is open to everybody (mode {mode:04o})")
    if mode & 0o070:
        return Finding(about, Grade.WEAK, f"{path} is open to a group (mode {mode:04o})")
    return Finding(about, Grade.GOOD, f"{path} is its owner's alone")


def _files(context: Context, names: list[str]) -> Iterator[Finding]:
    settings = context.config
    if not settings.data_dir.exists():
        yield Finding("--data-dir", Grade.GOOD, f"the server will make {settings.data_dir}")
    else:
        yield _private(settings.data_dir, "--data-dir")
        free = shutil.disk_usage(settings.data_dir).free
        if free < _LEAST_ROOM:
            text = f"only {free // 2**20} MiB are free where {settings.data_dir} is"
            yield Finding("--data-dir", Grade.WEAK, text)
    for path, about in (
        (context.database_file, "--database"),
        (settings.security_log_file, "--security-log-file"),
    ):
        if path is not None and path.exists():
            yield _private(path, about)
    path = settings.config_file
    if path is not None:
        mode = path.stat().st_mode
        if mode & 0o022:
            text = f"others than its owner can write {path} (mode {mode & 0o7777:04o})"
            yield Finding("--config-file", Grade.BAD, text)
        secrets = [g.setting.name for g in context.given if g.setting.secret]
        here = [g for g in context.given if g.setting.name in secrets and g.text]
        if mode & 0o004 and any(g.source == "the configuration file" for g in here):
            yield Finding("--config-file", Grade.BAD, f"{path} has a secret, and all can read it")


def _limits(context: Context, names: list[str]) -> Iterator[Finding]:
    settings = context.config
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < settings.max_connections + _DESCRIPTORS:
        text = f"{settings.max_connections} need more file descriptors than {soft} (ulimit -n)"
        yield Finding("--max-connections", Grade.WEAK, text)
    if settings.outbox_bytes < settings.max_message_size:
        text = "a reader may fall behind by less than one message (--max-message-size)"
        yield Finding("--outbox-bytes", Grade.BAD, text)
    if settings.message_rate > 1000:
        text = f"{settings.message_rate:g} a second: one user can keep the server busy"
        yield Finding("--message-rate", Grade.WEAK, text)
    if settings.login_rate > 6000 or settings.registration_rate > 6000:
        text = "over a hundred a second of one address is no limit"
        yield Finding("--login-rate, --registration-rate", Grade.WEAK, text)
    if settings.token_lifetime > _WEEK:
        text = f"a token that is stolen is good for {settings.token_lifetime / 86400:.0f} days"
        yield Finding("--token-lifetime", Grade.WEAK, text)
    if settings.trusted_proxies.everybody:
        text = "whoever says so has another address: no limit by address holds"
        yield Finding("--trusted-proxies", Grade.BAD, text)
    if settings.metrics_from.everybody:
        yield Finding("--metrics-from", Grade.WEAK, "everybody can read how the server does")
    who = "anybody may" if settings.registration == "open" else "nobody can"
    yield Finding("--registration", Grade.GOOD, f"{who} make an account")
    worst = settings.max_connections * settings.outbox_bytes / 2**30
    text = f"slow readers cost at most {worst:.1f} GiB, if all are slow at once"
    yield Finding("limits", Grade.GOOD, text)


def _database(context: Context, names: list[str]) -> Iterator[Finding]:
    url, file = context.url, context.database_file
    if file is not None and not file.exists():
        yield Finding("--database", Grade.GOOD, f"the server will make {file}")
        return
    if file is None:
        safe = url.query.get("sslmode") in ("require", "verify-ca", "verify-full")
        if url.host and not url.host.startswith("/") and not _loopback(url.host) and not safe:
            text = f"what goes to {url.host} may be read on its way: sslmode=verify-full"
            yield Finding("--database", Grade.WEAK, text)
        given = next(g for g in context.given if g.setting.name == "database")
        if given.source == "--database" and url.password:
            text = "a password on the command line can be read by everybody on this machine"
            yield Finding("--database", Grade.BAD, text)
    try:
        engine = database.make_engine(url)
        found, ours = database.revisions(engine)
        with engine.connect() as connection:
            newest = connection.execute(
                sa.select(sa.func.max(database.messages.c.stored_at))
            ).scalar()
    except (sa.exc.SQLAlchemyError, database.Unusable) as error:
        yield Finding("--database", Grade.BAD, one_line(error))
        return
    if found != ours:
        text = f"its schema is {found}; the server brings it to {ours} when it starts"
        yield Finding("--database", Grade.GOOD, text)
    else:
        yield Finding("--database", Grade.GOOD, "it answers")
    if newest is not None and newest > context.now + 60:
        late = datetime.timedelta(seconds=round(newest - context.now))
        yield Finding("clock", Grade.BAD, f"the newest message is {late} ahead of it")


def _clock(context: Context, names: list[str]) -> Iterator[Finding]:
    try:
        state = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(1024))
    except (OSError, AttributeError):  # another system than Linux
        return
    if state == _TIME_ERROR:
        text = "nothing keeps it right, as the system knows: is NTP on?"
        yield Finding("clock", Grade.WEAK, text)
    elif state >= 0:
        zone = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(context.now))
        yield Finding("clock", Grade.GOOD, f"it is kept right; {zone}")


def _user(context: Context, names: list[str]) -> Iterator[Finding]:
    """A server that has no rights cannot lose them."""
    if os.geteuid() == 0:
        return  # the operator may be root; what the server is shows in its files
    here = context.config.data_dir
    if here.exists() and here.stat().st_uid != os.geteuid():
        yield Finding("--data-dir", Grade.WEAK, f"{here} is another user's: run this as them")


CHECKS: Final[tuple[Check, ...]] = (
    _origins,
    _certificate,
    _secret,
    _files,
    _limits,
    _database,
    _clock,
    _user,
)
