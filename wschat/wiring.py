"""What a server is made of, each part given what it needs of the others; nothing runs yet."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.logger import Logger
from twisted.web.resource import IResource

from wschat import analytics, gate, http, metrics, monitoring, web, websocket
from wschat.accounts import Accounts
from wschat.commands import Commands
from wschat.config import Config
from wschat.history import History
from wschat.hub import Hub
from wschat.lag import Lag
from wschat.limits import Occupancy
from wschat.meters import Meters
from wschat.runner import InThread, Runner, daemon_threads
from wschat.security import Security
from wschat.service import ChatService
from wschat.store import Store
from wschat.stream import Stream
from wschat.users import Users

log = Logger(namespace="wschat")


class Parts:
    """The parts of one server, by its settings; sites are made to listen with."""

    def __init__(
        self,
        settings: Config,
        reactor: Any,
        wall: Callable[[], float],
        kept: Store,
        *,
        secret: str,
        certificate_ends: Callable[[], float],
        in_thread: InThread | None = None,
    ) -> None:
        """
        `kept` is where everything is, and tokens are signed with `secret`.

        Commands run as `in_thread` has them run, by default in threads.
        """
        self._settings = settings
        self.meters = meters = Meters()
        self._sites: list[http.ChatSite] = []
        users = Users(kept)
        self.accounts = accounts = Accounts(
            users,
            secret,
            settings.token_lifetime,
            settings.registration == "open",
            settings.administrators,
        )
        accounts.load(users.all())
        for user_id in sorted(settings.administrators - accounts.users.keys()):
            log.warn("--administrators: there is no user {user_id} yet", user_id=user_id)
        self.hub = hub = Hub(
            accounts.users, settings.message_rate, settings.message_burst, settings.byte_rate
        )
        #: More of them can be added before it starts.
        self.commands = commands = Commands(lambda: len(hub.registry.users))
        self.chat = ChatService(
            hub,
            accounts,
            Stream(kept, settings.offline_limit),
            reactor,
            wall,
            users=users,
            history=History(kept),
            commands=Runner(commands, reactor, wall, in_thread or daemon_threads(reactor)),
            batch_bytes=max(1, settings.outbox_bytes // 8),
            retention=settings.retention_days * 86400,
            meters=meters,
        )
        self._places, self.http_places = (
            Occupancy(settings.max_connections_per_host, settings.max_connections) for _ in range(2)
        )
        self.factory = factory = websocket.ChatFactory(
            self.chat,
            reactor,
            settings.max_message_size,
            settings.outbox_bytes,
            meters=meters,
            places=self._places,
        )
        self.connections = connections = factory.connections
        self._admission = gate.Admission(
            accounts,
            hub.registry,
            wall,
            allowed_origins=settings.allowed_origins,
            places=self._places,
            max_sessions_per_user=settings.max_sessions_per_user,
        )
        security = Security(wall)
        administrators = monitoring.Administrators(accounts, wall, security)
        self._door = gate.Gate(factory, self._admission, security)
        watched = metrics.Metrics(
            meters,
            hub.registry,
            self.chat,
            users=accounts.users,
            connections=connections,
            http_connections=self.http_places,
            certificate_ends=certificate_ends,
        )
        self._pages = web.Web(
            accounts,
            hub.registry,
            wall,
            settings.login_rate,
            settings.registration_rate,
            meters=meters,
            security=security,
            monitoring=monitoring.Monitoring(
                administrators,
                monitoring.Database(kept, reactor),
                watched,
                readers=settings.metrics_from,
                draining=lambda: connections.shutting_down,
            ),
            analytics=analytics.Analytics(
                kept, accounts, hub.registry, wall, administrators
            ).resource(),
        )
        self.lag = Lag(reactor, meters.lag_seconds.observe)

    def start(self) -> None:
        """Begin to do what the clock says."""
        self.lag.start()
        self.chat.startService()
        self.connections.start()

    def secure(self) -> http.ChatSite:
        """What the TLS listener has: everything."""
        return self._site(
            self._pages.secure(self._door),
            lasting_tls=self._settings.certificate is not None,
            begin=self._door.begin,
        )

    def plain(self, tls_port: int) -> http.ChatSite:
        """What the plain listener has; for the rest it leads to `tls_port`."""
        return self._site(self._pages.plain(lambda: tls_port))

    def _site(self, root: IResource, **options: Any) -> http.ChatSite:
        site = http.ChatSite(
            root,
            allowed_origins=self._settings.allowed_origins,
            trusted_proxies=self._settings.trusted_proxies,
            places=self.http_places,
            meters=self.meters,
            **options,
        )
        self._sites.append(site)
        return site

    def set_limits(self, now: Config) -> None:
        """Take those settings that can be taken while a server runs."""
        self.chat.set_limits(now.message_rate, now.message_burst, now.byte_rate)
        self._pages.set_limits(now.login_rate, now.registration_rate)
        self.accounts.registration_open = now.registration == "open"
        for places in (self._places, self.http_places):
            places.everybody = now.max_connections
            places.each = now.max_connections_per_host
        self._admission.max_sessions_per_user = now.max_sessions_per_user
        self._admission.allowed_origins = now.allowed_origins
        for site in self._sites:
            site.allowed_origins = now.allowed_origins
