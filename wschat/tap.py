"""`twistd wschat`: options, and the wiring of everything."""

from __future__ import annotations

import contextlib
import datetime
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IStreamServerEndpoint
from twisted.logger import (
    FilteringLogObserver,
    ILogFilterPredicate,
    Logger,
    PredicateResult,
    globalLogPublisher,
    jsonFileLogObserver,
)
from twisted.python import usage
from zope.interface import provider

from wschat import config, database, endpoint, extensions, gate, store, web, websocket
from wschat.accounts import Accounts
from wschat.codes import CloseCode
from wschat.commands import Commands
from wschat.config import Config
from wschat.datadir import DataDirectory
from wschat.hub import Hub
from wschat.runner import Runner, daemon_threads
from wschat.service import ChatService

log = Logger(namespace="wschat")


class StartError(Exception):
    """The server cannot start; one line: the option, its value, and what is wrong with it."""


class Options(usage.Options):
    """The options of `twistd wschat`; each can also be given in the environment."""

    synopsis = "[options]"
    longdesc = (
        "A messaging server: durable, signed, over WebSocket.  Every option "
        "--some-option can also be given as WSCHAT_SOME_OPTION in the environment."
    )
    optParameters: ClassVar[Sequence[Sequence[Any]]] = [
        [setting.name, None, None, f"{setting.help} ({setting.accepts}){_default}"]
        for setting in config.SETTINGS
        for _default in ([f" [default: {setting.default}]"] if setting.default else [""])
    ]

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """Read the options; a wrong one ends the program with one line and status 1."""
        try:
            super().parseOptions(options)
        except usage.UsageError as error:
            sys.exit(f"wschat: {error}")

    def parseArgs(self, *arguments: str) -> None:
        if arguments:
            raise usage.UsageError(f"unexpected: {' '.join(arguments)}")

    def postOptions(self) -> None:
        try:
            self.config = config.load(self, os.environ)
        except config.ConfigError as error:
            raise usage.UsageError(str(error)) from None


def makeService(options: Options) -> Service:
    """What `twistd wschat` runs."""
    from twisted.internet import reactor  # noqa: PLC0415  # twistd installs it first

    # Twisted's own reactors keep time by the wall: set back, it would stop every timer.
    reactor.seconds = time.monotonic  # type: ignore[method-assign]
    return Server(options.config, reactor, time.time)


class Server(Service):
    """Everything, wired: it starts from the inside out, and stops from the outside in."""

    def __init__(self, settings: Config, reactor: Any, wall: Callable[[], float]) -> None:
        self._config = settings
        self._reactor = reactor
        self._wall = wall
        self._ports: list[IListeningPort] = []
        self._cleanup: list[Callable[[], object]] = []

    def startService(self) -> None:
        """
        Start; what is wrong with files or ports ends the program with one line and status 1.

        Raises `StartError`, which twistd takes to the shell whether it has
        gone to the background or not.
        """
        super().startService()
        try:
            self._start()
        except Exception as error:  # files, ports, databases and keys have each a family of theirs
            self._clean_up()  # the store's threads would keep the process
            line = _one_line(error)
            log.critical("cannot start: {line}", line=line)  # for who has only the log
            sys.excepthook = _say_in_one_line
            raise StartError(line) from None

    def _start(self) -> None:
        settings, reactor, wall = self._config, self._reactor, self._wall
        with _blaming("data-dir", settings.data_dir):
            directory = DataDirectory(settings.data_dir)
        if settings.security_log_file is not None:
            with _blaming("security-log-file", settings.security_log_file):
                self._open_security_log(settings.security_log_file)
        with _blaming("database", _public(settings.database) or directory.path):
            engine = database.make_engine(database.database_url(settings.database, directory.path))
            database.migrate(engine)
        kept = store.ThreadedStore(engine, reactor, offline_limit=settings.offline_limit)
        self._cleanup.append(kept.close)
        secret = settings.jwt_secret or directory.jwt_secret()
        accounts = Accounts(kept, secret, settings.token_lifetime, settings.registration == "open")
        accounts.load(kept.all_users())
        hub = Hub(accounts.users, settings.message_rate, settings.message_burst)
        commands = Commands(lambda: len(hub.registry.users))
        extensions.load(settings.commands, commands.add)
        self._chat = ChatService(
            hub,
            accounts,
            kept,
            reactor,
            wall,
            commands=Runner(commands, reactor, wall, daemon_threads(reactor)),
            batch_bytes=settings.outbox_bytes // 8,
            retention=settings.retention_days * 86400,
        )
        self._connections = websocket.ChatFactory(
            self._chat, reactor, settings.max_message_size, settings.outbox_bytes
        )
        admission = gate.Admission(
            accounts,
            hub.registry,
            wall,
            allowed_origins=settings.allowed_origins,
            max_connections=settings.max_connections,
            max_sessions_per_user=settings.max_sessions_per_user,
        )
        pages = web.Web(
            accounts, hub.registry, wall, settings.login_rate, settings.registration_rate
        )
        door = gate.Gate(self._connections, admission)
        certificate, key = settings.certificate, settings.private_key
        if certificate is None or key is None:
            now = datetime.datetime.fromtimestamp(wall(), datetime.UTC)
            certificate, key = directory.certificate(now)
        self._chat.startService()
        self._connections.start()
        if settings.certificate is not None:
            with _blaming("private-key", key):
                key.read_bytes()
            with _blaming("certificate", certificate):
                certificate.read_bytes()
                endpoint.check_certificate(certificate, key)
        with _blaming("listen", settings.listen):
            self._listen(
                endpoint.tls_endpoint(reactor, settings.listen, certificate, key),
                web.ChatSite(pages.secure(door), settings.allowed_origins),
                "https",
            )
        if settings.listen.startswith(("tcp", "unix")):
            log.warn("--listen is without TLS: something before it has to end TLS")
        if settings.http:
            tls_port = getattr(self._ports[0].getHost(), "port", 443)
            with _blaming("http", settings.http):
                self._listen(
                    endpoint.plain_endpoint(reactor, settings.http),
                    web.ChatSite(pages.plain(lambda: tls_port), settings.allowed_origins),
                    "http",
                )

    def _open_security_log(self, path: Path) -> None:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        file = os.fdopen(descriptor, "a", encoding="utf-8")
        observer = FilteringLogObserver(
            jsonFileLogObserver(file, recordSeparator=""), [_is_security]
        )
        globalLogPublisher.addObserver(observer)
        self._cleanup += [file.close, lambda: globalLogPublisher.removeObserver(observer)]

    def _listen(self, where: IStreamServerEndpoint, site: web.ChatSite, scheme: str) -> None:
        failures: list[Any] = []
        where.listen(site).addCallbacks(self._ports.append, failures.append)
        if failures:
            failures[0].raiseException()
        host = self._ports[-1].getHost()
        name, port = getattr(host, "host", ""), getattr(host, "port", "")
        log.info(
            "listening on {scheme}://{name}:{port}",
            scheme=scheme,
            name=f"[{name}]" if ":" in name else name,
            port=port,
        )

    def stopService(self) -> Deferred[None]:
        """Let nobody in, close what is open, store what was received; takes seconds at most."""
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        try:
            for port in self._ports:
                await _maybe(port.stopListening())
            await self._connections.close_all(CloseCode.SHUTDOWN)
            self._connections.stop()
            await self._chat.drain()
        except Exception:  # whatever went wrong: what was stored is kept
            log.failure("could not stop in good order")
        finally:
            self._clean_up()

    def _clean_up(self) -> None:
        while self._cleanup:
            self._cleanup.pop()()


@contextlib.contextmanager
def _blaming(option: str, value: object) -> Iterator[None]:
    """Whatever goes wrong inside is said of an option's value, with what it takes."""
    try:
        yield
    except (OSError, CannotListenError) as error:  # it says of which file, or of which port
        raise StartError(f"--{option}: {str(value)!r}: {_one_line(error)}") from error
    except Exception as error:
        (accepts,) = (s.accepts for s in config.SETTINGS if s.name == option)
        text = _one_line(error).removesuffix(".")
        raise StartError(f"--{option}: {str(value)!r}: {text}; it takes {accepts}") from error


def _public(value: str) -> str:
    """A `--database` value without what only its owner may see: user, password, parameters."""
    scheme, mark, rest = value.partition("://")
    return f"{scheme}{mark}{rest.rpartition('@')[2].partition('?')[0]}" if mark else value


def _say_in_one_line(kind: object, error: BaseException, trace: object) -> None:
    """What twistd does not catch ends the program: sys.stderr may be the log by then."""
    print(f"wschat: {error}", file=sys.__stderr__)


@provider(ILogFilterPredicate)
def _is_security(event: Any) -> Any:
    wanted = event.get("log_namespace") == "wschat.security"
    return PredicateResult.yes if wanted else PredicateResult.no


async def _maybe(result: Deferred[None] | None) -> None:
    if result is not None:
        await result


def _one_line(error: Exception) -> str:
    """An error's own words, without those that SQLAlchemy adds to its driver's."""
    return " ".join(str(getattr(error, "orig", None) or error).split())
