"""`/ready` and `/metrics`: whether the server can work, and how it does (docs/monitoring.md)."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import Final, Protocol

from prometheus_client.exposition import CONTENT_TYPE_LATEST
from twisted.internet import defer
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.server import Request

from wschat.accounts import AccountError, Accounts
from wschat.addresses import Networks
from wschat.http import Answer, address, bearer, within
from wschat.security import Security
from wschat.store import Store

#: How long the database may take to answer, in seconds.
PATIENCE: Final = 5.0

log = Logger(namespace="wschat.monitoring")


class Administrators:
    """Who may ask how the server does, and how much it is used."""

    def __init__(self, accounts: Accounts, wall: Callable[[], float], security: Security) -> None:
        """`wall` gives seconds since the epoch; `security` writes down who is refused."""
        self._accounts = accounts
        self._wall = wall
        self._security = security

    def check(self, request: Request) -> None:
        """Raise `Answer` unless a request has an administrator's token, in its `Authorization`."""
        try:
            self._accounts.administrator(bearer(request), self._wall())
        except AccountError as error:
            self._security.refused("administrator", error.text, address(request))
            raise Answer(error.text, error.status, www_authenticate="Bearer") from None


class Text(Protocol):
    """Makes the text of `/metrics`; `database_bytes` is None when the database does not answer."""

    def __call__(self, database_bytes: int | None) -> bytes: ...


class Database:
    """Whether the database answers; however many ask, it is asked once at a time."""

    def __init__(self, store: Store, clock: IReactorTime) -> None:
        self._store = store
        self._clock = clock
        self._waiting: list[Deferred[int | None]] = []
        self._asking = False

    def size(self) -> Deferred[int | None]:
        """How large it is, in bytes; None when it does not answer in time."""
        answer: Deferred[int | None] = Deferred()
        self._waiting.append(answer)
        if not self._asking:
            self._asking = True
            self._store.size().addBoth(self._answered)
        return answer.addTimeout(PATIENCE, self._clock).addErrback(self._late, answer)

    def _answered(self, size: int | Failure) -> None:
        self._asking = False
        waiting, self._waiting = self._waiting, []
        if isinstance(size, Failure):
            log.failure("the database does not answer", size)
        for answer in waiting:
            answer.callback(None if isinstance(size, Failure) else size)

    def _late(self, failure: Failure, answer: Deferred[int | None]) -> None:
        failure.trap(defer.TimeoutError)
        self._waiting.remove(answer)


class Monitoring:
    """What monitoring asks a server."""

    def __init__(
        self,
        administrators: Administrators,
        database: Database,
        text: Text,
        *,
        readers: Networks,
        draining: Callable[[], bool],
    ) -> None:
        """
        `text` makes the metrics, which `readers` may read, and `administrators`.

        `draining` says whether the server is about to end.
        """
        self._administrators = administrators
        self._database = database
        self._text = text
        self.readers = readers
        self._draining = draining

    async def ready(self, request: Request) -> Answer:
        """Whether the server takes clients: for load balancers, and whoever starts it."""
        if self._draining():
            reason = "draining"
        elif await self._database.size() is None:
            reason = "the database does not answer"
        else:
            return Answer({"status": "ready"})
        body = {"status": "not ready", "reason": reason}
        return Answer(body, HTTPStatus.SERVICE_UNAVAILABLE, retry_after="5")

    async def metrics(self, request: Request) -> Answer:
        """The metrics, in Prometheus' text format."""
        if not within(request, self.readers):
            self._administrators.check(request)
        body = self._text(await self._database.size())
        return Answer(body, content_type=CONTENT_TYPE_LATEST)
