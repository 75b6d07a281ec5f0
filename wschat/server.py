"""The server, from its start to its end."""

from __future__ import annotations

import datetime
import gc
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, Final

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IListeningPort, IStreamServerEndpoint
from twisted.logger import ILogObserver, Logger, globalLogPublisher

from wschat import config, database, drain, endpoint, extensions, logs, reload, sources, systemd
from wschat.blame import StartError, blaming, one_line, say_in_one_line
from wschat.certificate import Certificate
from wschat.codes import CloseCode
from wschat.config import Config
from wschat.datadir import DataDirectory
from wschat.http import ChatSite
from wschat.reload import Reload
from wschat.store import ThreadedStore
from wschat.wiring import Parts

#: How many new objects, and then how many looks at those, the garbage collector waits for before it
#: looks at more of them: a connection has many, which live long, and are looked at for nothing.
_COLLECT_AFTER: Final = (10_000, 10, 10)

log = Logger(namespace="wschat")


class Server(Service):
    """It starts from the inside out, and stops from the outside in."""

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
        #: Where each line of the log is a JSON object; None for the log that twistd makes.
        self.log_file: IO[str] | None = None
        self._ports: list[IListeningPort] = []
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
            line = one_line(error)
            log.critical("cannot start: {line}", line=line)  # for who has only the log
            sys.excepthook = say_in_one_line
            raise StartError(line) from None
        if endpoint.fast(self._reactor):  # elsewhere connections that have ended are found by it
            gc.collect()
            gc.freeze()
            gc.set_threshold(*_COLLECT_AFTER)
        self._manager.tell(systemd.READY)

    def _start(self) -> None:
        settings, reactor, wall = self._config, self._reactor, self._wall
        with blaming("data-dir", settings.data_dir):
            directory = DataDirectory(settings.data_dir)
            self._cleanup.append(directory.hold().close)
        if settings.security_log_file is not None:
            with blaming("security-log-file", settings.security_log_file):
                self._open_security_log(settings.security_log_file)
        with blaming("database", config.without_secrets(settings.database) or directory.path):
            engine = database.make_engine(database.database_url(settings.database, directory.path))
            database.migrate(engine)
        kept = ThreadedStore(engine, reactor)
        self._cleanup.append(kept.close)
        secret = settings.jwt_secret or directory.jwt_secret()
        certificate, key = settings.certificate, settings.private_key
        if certificate is None or key is None:
            now = datetime.datetime.fromtimestamp(wall(), datetime.UTC)
            certificate, key = directory.certificate(now)
        with blaming("private-key", key):
            key.read_bytes()
        with blaming("certificate", certificate):
            shown = Certificate(certificate, key)
        self._parts = parts = Parts(
            settings, reactor, wall, kept, secret=secret, certificate_ends=lambda: shown.ends
        )
        extensions.load(settings.commands, parts.commands.add)
        self._follow_files(shown)
        self._cleanup.append(parts.lag.stop)
        parts.start()
        with blaming("listen", settings.listen):
            where = endpoint.tls_endpoint(reactor, settings.listen, shown)
            self._listen(where, parts.secure(), "https")
        if settings.listen.startswith(("tcp", "unix")):
            log.warn("--listen is without TLS: something before it has to end TLS")
        if settings.http:
            tls_port = getattr(self._ports[0].getHost(), "port", 443)
            with blaming("http", settings.http):
                where = endpoint.plain_endpoint(reactor, settings.http)
                self._listen(where, parts.plain(tls_port), "http")

    def _follow_files(self, certificate: Certificate) -> None:
        """Read certificate and limits again when their files change."""
        settings = self._config
        files = [
            Reload("certificate", lambda: (certificate.chain, certificate.key), certificate.load)
        ]
        if settings.config_file is not None:
            path = settings.config_file
            files.append(Reload("config-file", lambda: (path,), self._read_limits))
        self._cleanup.append(reload.follow(self._reactor, files, self._watched))

    def _watched(self) -> None:
        """Tell the service manager that the server still does what it does each second."""
        if self._manager.watched:
            self._manager.tell(systemd.WATCHDOG)

    def _read_limits(self) -> None:
        """Take the settings that can be taken while the server runs."""
        now = self._reread()
        taken, not_taken = sources.live(self._config, now)
        if taken:
            self._parts.set_limits(now)
            self._config = sources.with_live(self._config, now)
            log.info("changed: {names}", names=", ".join(taken))
        if not_taken:
            log.warn("not before a restart: {names}", names=", ".join(not_taken))

    def _open_security_log(self, path: Path) -> None:
        observer = logs.security_observer(path)
        globalLogPublisher.addObserver(observer)
        self._cleanup.append(lambda: globalLogPublisher.removeObserver(observer))

    def _listen(self, where: IStreamServerEndpoint, site: ChatSite, scheme: str) -> None:
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
        reactor, chat, connections = self._reactor, self._parts.chat, self._parts.connections
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


def _give_up() -> None:
    """The end took too long: nothing that it waits for is worth more time."""
    print("wschat: the end took longer than --drain-seconds: cut off", file=sys.__stderr__)
    os._exit(1)


async def _maybe(result: Deferred[None] | None) -> None:
    if result is not None:
        await result
