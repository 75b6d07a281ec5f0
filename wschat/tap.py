"""`twistd wschat`: options, and the wiring of everything."""

from __future__ import annotations

import contextlib
import datetime
import functools
import gc
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, ClassVar, Final

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IStreamServerEndpoint
from twisted.internet.task import LoopingCall
from twisted.logger import ILogObserver, Logger, globalLogPublisher
from twisted.python import usage

from wschat import (
    analytics,
    config,
    database,
    drain,
    endpoint,
    extensions,
    gate,
    http,
    logs,
    metrics,
    monitoring,
    sources,
    systemd,
    web,
    websocket,
)
from wschat.accounts import Accounts
from wschat.certificate import Certificate
from wschat.codes import CloseCode
from wschat.commands import Commands
from wschat.config import Config
from wschat.datadir import DataDirectory
from wschat.history import History
from wschat.hub import Hub
from wschat.lag import Lag
from wschat.limits import Occupancy
from wschat.meters import Meters
from wschat.reload import Reload
from wschat.runner import Runner, daemon_threads
from wschat.security import Security
from wschat.service import ChatService
from wschat.store import Store, ThreadedStore
from wschat.stream import Stream
from wschat.users import Users

#: How often files are looked at that may have changed, in seconds.
_LOOK_INTERVAL: Final = 1.0

#: How many new objects, and then how many looks at those, the garbage collector waits for before it
#: looks at more of them: a connection has many, which live long, and are looked at for nothing.
_COLLECT_AFTER: Final = (10_000, 10, 10)

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
            self.config = sources.load(self, os.environ)
        except config.ConfigError as error:
            raise usage.UsageError(str(error)) from None


def makeService(options: Options) -> Service:
    """What `twistd wschat` runs."""
    from twisted.internet import reactor  # noqa: PLC0415  # twistd installs it first

    # Twisted's own reactors keep time by the wall: set back, it would stop every timer.
    reactor.seconds = time.monotonic  # type: ignore[method-assign]
    server = Server(options.config, reactor, time.time, lambda: sources.load(options, os.environ))
    if options.config.log_format == "json":
        server.log_file = logs.log_file(options.parent)
    return server


class Server(Service):
    """Everything, wired: it starts from the inside out, and stops from the outside in."""

    def __init__(
        self,
        settings: Config,
        reactor: Any,
        wall: Callable[[], float],
        reread: Callable[[], Config] | None = None,
    ) -> None:
        """`reread` reads the configuration again, its file included."""
        self._config = settings
        self._manager = systemd.Notifier(os.environ)
        self._reread = reread or (lambda: settings)
        self._reactor = reactor
        self._wall = wall
        self._places: Sequence[Occupancy] = ()
        #: Where each line of the log is a JSON object; None for the log that twistd makes.
        self.log_file: IO[str] | None = None
        self._ports: list[IListeningPort] = []
        self._sites: list[http.ChatSite] = []
        self._cleanup: list[Callable[[], object]] = []

    def setServiceParent(self, parent: Any) -> None:
        """The application's own observer takes the place of the one that twistd would make."""
        if self.log_file is not None:
            parent.setComponent(ILogObserver, logs.json_observer(self.log_file))
        super().setServiceParent(parent)

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
        if endpoint.fast(self._reactor):  # elsewhere connections that have ended are found by it
            gc.collect()
            gc.freeze()
            gc.set_threshold(*_COLLECT_AFTER)
        self._manager.tell(systemd.READY)

    def _start(self) -> None:
        settings, reactor, wall = self._config, self._reactor, self._wall
        meters = Meters()
        with _blaming("data-dir", settings.data_dir):
            directory = DataDirectory(settings.data_dir)
            self._cleanup.append(directory.hold().close)
        if settings.security_log_file is not None:
            with _blaming("security-log-file", settings.security_log_file):
                self._open_security_log(settings.security_log_file)
        with _blaming("database", config.without_secrets(settings.database) or directory.path):
            engine = database.make_engine(database.database_url(settings.database, directory.path))
            database.migrate(engine)
        kept = ThreadedStore(engine, reactor)
        self._cleanup.append(kept.close)
        users = Users(kept)
        secret = settings.jwt_secret or directory.jwt_secret()
        self._accounts = accounts = Accounts(
            users,
            secret,
            settings.token_lifetime,
            settings.registration == "open",
            settings.administrators,
        )
        accounts.load(users.all())
        for user_id in sorted(settings.administrators - accounts.users.keys()):
            log.warn("--administrators: there is no user {user_id} yet", user_id=user_id)
        hub = Hub(accounts.users, settings.message_rate, settings.message_burst, settings.byte_rate)
        commands = Commands(lambda: len(hub.registry.users))
        extensions.load(settings.commands, commands.add)
        self._chat = ChatService(
            hub,
            accounts,
            Stream(kept, settings.offline_limit),
            reactor,
            wall,
            users=users,
            history=History(kept),
            commands=Runner(commands, reactor, wall, daemon_threads(reactor)),
            batch_bytes=settings.outbox_bytes // 8,
            retention=settings.retention_days * 86400,
            meters=meters,
        )
        places, http_places = (
            Occupancy(settings.max_connections_per_host, settings.max_connections) for _ in range(2)
        )
        self._places = places, http_places
        self._factory = websocket.ChatFactory(
            self._chat,
            reactor,
            settings.max_message_size,
            settings.outbox_bytes,
            meters=meters,
            places=places,
        )
        self._admission = admission = gate.Admission(
            accounts,
            hub.registry,
            wall,
            allowed_origins=settings.allowed_origins,
            places=places,
            max_sessions_per_user=settings.max_sessions_per_user,
        )
        certificate, key = settings.certificate, settings.private_key
        if certificate is None or key is None:
            now = datetime.datetime.fromtimestamp(wall(), datetime.UTC)
            certificate, key = directory.certificate(now)
        with _blaming("private-key", key):
            key.read_bytes()
        with _blaming("certificate", certificate):
            shown = Certificate(certificate, key)
        self._follow_files(shown)
        security = Security(wall)
        self._pages = pages = self._web(
            accounts,
            kept,
            hub,
            meters=meters,
            security=security,
            http_places=http_places,
            shown=shown,
        )
        door = gate.Gate(self._factory, admission, security)
        self._measure(Lag(reactor, meters.lag_seconds.observe))
        self._chat.startService()
        self._factory.connections.start()
        site = functools.partial(
            http.ChatSite,
            allowed_origins=settings.allowed_origins,
            trusted_proxies=settings.trusted_proxies,
            places=http_places,
            meters=meters,
        )
        with _blaming("listen", settings.listen):
            self._listen(
                endpoint.tls_endpoint(reactor, settings.listen, shown),
                site(
                    pages.secure(door),
                    lasting_tls=settings.certificate is not None,
                    begin=door.begin,
                ),
                "https",
            )
        if settings.listen.startswith(("tcp", "unix")):
            log.warn("--listen is without TLS: something before it has to end TLS")
        if settings.http:
            tls_port = getattr(self._ports[0].getHost(), "port", 443)
            with _blaming("http", settings.http):
                self._listen(
                    endpoint.plain_endpoint(reactor, settings.http),
                    site(pages.plain(lambda: tls_port)),
                    "http",
                )

    def _measure(self, lag: Lag) -> None:
        lag.start()
        self._cleanup.append(lag.stop)

    def _web(
        self,
        accounts: Accounts,
        kept: Store,
        hub: Hub,
        *,
        shown: Certificate,
        meters: Meters,
        security: Security,
        http_places: Occupancy,
    ) -> web.Web:
        """What there is by HTTP."""
        settings, wall = self._config, self._wall
        watched = metrics.Metrics(
            meters,
            hub.registry,
            self._chat,
            users=accounts.users,
            connections=self._factory.connections,
            http_connections=http_places,
            certificate_ends=lambda: shown.ends,
        )
        return web.Web(
            accounts,
            hub.registry,
            wall,
            settings.login_rate,
            settings.registration_rate,
            meters=meters,
            security=security,
            monitoring=monitoring.Monitoring(
                accounts,
                monitoring.Database(kept, self._reactor),
                wall,
                watched,
                readers=settings.metrics_from,
                draining=lambda: self._factory.connections.shutting_down,
            ),
            analytics=analytics.Analytics(kept, accounts, hub.registry, wall).resource(),
        )

    def _follow_files(self, certificate: Certificate) -> None:
        """Read certificate and limits again: when their files change, and on SIGHUP."""
        settings = self._config
        files = [
            Reload("certificate", lambda: (certificate.chain, certificate.key), certificate.load)
        ]
        if settings.config_file is not None:
            path = settings.config_file
            files.append(Reload("config-file", lambda: (path,), self._read_limits))

        def look() -> None:
            for file in files:
                file.look()
            if self._manager.watched:
                self._manager.tell(systemd.WATCHDOG)

        looking = LoopingCall(look)
        looking.clock = self._reactor
        looking.start(_LOOK_INTERVAL, now=False)

        on_terminal = os.isatty(0)

        def hang_up(number: int, frame: object) -> None:
            if on_terminal and not os.isatty(0):  # it is gone, and that is what this says
                self._reactor.callFromThread(self._reactor.stop)
                return
            for file in files:
                self._reactor.callFromThread(file.load)

        before = signal.signal(signal.SIGHUP, hang_up)
        self._cleanup += [looking.stop, lambda: signal.signal(signal.SIGHUP, before)]

    def _read_limits(self) -> None:
        """Take the settings that can be taken while the server runs."""
        now = self._reread()
        taken, not_taken = sources.live(self._config, now)
        if taken:
            self._chat.set_limits(now.message_rate, now.message_burst, now.byte_rate)
            self._pages.set_limits(now.login_rate, now.registration_rate)
            self._accounts.registration_open = now.registration == "open"
            for places in self._places:
                places.everybody = now.max_connections
                places.each = now.max_connections_per_host
            self._admission.max_sessions_per_user = now.max_sessions_per_user
            self._admission.allowed_origins = now.allowed_origins
            for site in self._sites:
                site.allowed_origins = now.allowed_origins
            self._config = sources.with_live(self._config, now)
            log.info("changed: {names}", names=", ".join(taken))
        if not_taken:
            log.warn("not before a restart: {names}", names=", ".join(not_taken))

    def _open_security_log(self, path: Path) -> None:
        observer = logs.security_observer(path)
        globalLogPublisher.addObserver(observer)
        self._cleanup.append(lambda: globalLogPublisher.removeObserver(observer))

    def _listen(self, where: IStreamServerEndpoint, site: http.ChatSite, scheme: str) -> None:
        self._sites.append(site)
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
        """
        Let nobody in, and tell everybody; answer what was received, and close what is open.

        It takes `--drain-seconds` at most: whatever hangs then is cut off.
        """
        super().stopService()
        self._manager.tell(systemd.STOPPING)
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        cut_off = threading.Timer(self._config.drain_seconds, _give_up)
        cut_off.daemon = True
        cut_off.start()
        try:
            await self._drain(self._config.drain_seconds)
        except Exception:  # whatever went wrong: what was stored is kept
            log.failure("could not stop in good order")
        finally:
            self._clean_up()
            cut_off.cancel()

    async def _drain(self, seconds: float) -> None:
        reactor, chat, connections = self._reactor, self._chat, self._factory.connections
        log.info("draining: {sessions} sessions", sessions=len(connections))
        for port in self._ports:
            await _maybe(port.stopListening())
        connections.let_nobody_in()
        if not await drain.within(reactor, 0.4 * seconds, chat.say_farewell()):
            log.warn("some sessions did not answer; they are closed all the same")
        await drain.within(reactor, 0.2 * seconds, chat.settle())
        await connections.close_all(CloseCode.SHUTDOWN, 0.2 * seconds)
        connections.stop()
        if not await drain.within(reactor, 0.1 * seconds, chat.drain()):
            log.error("the database takes too long: what has no receipt may not be stored")
        log.info("stopped")

    def _clean_up(self) -> None:
        while self._cleanup:
            self._cleanup.pop()()


@contextlib.contextmanager
def _blaming(option: str, value: object) -> Iterator[None]:
    """Whatever goes wrong inside is said of an option's value, with what it takes."""
    try:
        yield
    # They say of which file, of which port, and what is wrong.
    except (OSError, CannotListenError, database.NewerSchema) as error:
        raise StartError(f"--{option}: {str(value)!r}: {_one_line(error)}") from error
    except Exception as error:
        (accepts,) = (s.accepts for s in config.SETTINGS if s.name == option)
        text = _one_line(error).removesuffix(".")
        raise StartError(f"--{option}: {str(value)!r}: {text}; it takes {accepts}") from error


def _give_up() -> None:
    """The end took too long: nothing that it waits for is worth more time."""
    print("wschat: the end took longer than --drain-seconds: cut off", file=sys.__stderr__)
    os._exit(1)


def _say_in_one_line(kind: object, error: BaseException, trace: object) -> None:
    """What twistd does not catch ends the program: sys.stderr may be the log by then."""
    print(f"wschat: {error}", file=sys.__stderr__)


async def _maybe(result: Deferred[None] | None) -> None:
    if result is not None:
        await result


def _one_line(error: Exception) -> str:
    """An error's own words, without those that SQLAlchemy adds to its driver's."""
    return " ".join(str(getattr(error, "orig", None) or error).split())
