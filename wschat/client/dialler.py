"""The way to a server: log in, open the socket; and why that failed, or why it was closed."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final, Protocol
from urllib.parse import quote

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.error import ConnectingCancelledError
from twisted.internet.interfaces import IStreamClientEndpoint

from wschat.client import tls
from wschat.client.accounts import Accounts, ConnectionProblem, RequestRefused, problem
from wschat.client.listener import SessionOver
from wschat.client.settings import Settings
from wschat.client.websocket import Connection, ConnectionFactory

#: From this close code on a client does not connect again by itself (docs/protocol.md).
_TERMINAL: Final = range(4500, 5000)

_TOKEN_LIFETIME: Final = 23 * 3600.0


class Owner(Protocol):
    """Who has the connections; `lost` comes for those as well that were never opened."""

    def opened(self, connection: Connection) -> None: ...
    def received(self, payload: bytes) -> None: ...
    def lost(self, problem: ConnectionProblem | SessionOver) -> None: ...


class Dialler:
    """Opens one connection after another, with one token for as long as that is good."""

    def __init__(
        self,
        reactor: Any,
        settings: Settings,
        accounts: Accounts,
        owner: Owner,
        *,
        wall: Callable[[], float],
        keepalive: tuple[float, float],
    ) -> None:
        self._reactor = reactor
        self._settings = settings
        self._accounts = accounts
        self._wall = wall
        self._owner = owner
        self._keepalive = keepalive
        self._token: tuple[str, float] | None = None
        self._opening: Deferred[None] = Deferred()
        self._gone: Deferred[ConnectionProblem | SessionOver] = Deferred()

    async def connect(self) -> Deferred[ConnectionProblem | SessionOver]:
        """
        Log in unless that was done, and open the socket; the deferred fires with its end.

        Raises `ConnectionProblem`, `RequestRefused`.
        """
        try:
            await self._open(await self._valid_token())
        except _TokenRefused:  # it has ended, or the server has another secret now
            self._token = None
            await self._open(await self._valid_token())
        return self._gone

    async def renew(self) -> str:
        """A new token.  Raises `ConnectionProblem`, `RequestRefused`."""
        self._token = None
        return await self._valid_token()

    async def _valid_token(self) -> str:
        now = self._wall()
        if self._token is None or self._token[1] <= now:
            self._token = (await self._accounts.login(), now + _TOKEN_LIFETIME)
        return self._token[0]

    async def _open(self, token: str) -> None:
        settings = self._settings
        url = f"wss://{settings.authority}/ws?token={quote(token)}"
        factory, endpoint = self._factory(url), self._endpoint()
        self._opening, self._gone = Deferred(), Deferred()
        try:
            protocol: Any = await endpoint.connect(factory)
        except (CancelledError, ConnectingCancelledError):
            raise CancelledError from None
        except Exception as error:
            raise problem(settings.authority, error) from None
        try:
            await self._opening
        except CancelledError:
            protocol.transport.abortConnection()
            raise

    def _factory(self, url: str) -> ConnectionFactory:
        return ConnectionFactory(self, url, self._keepalive)

    def _endpoint(self) -> IStreamClientEndpoint:
        settings = self._settings
        endpoint: IStreamClientEndpoint = wrapClientTLS(
            tls.connection_creator(settings.host, settings.insecure_tls),
            HostnameEndpoint(self._reactor, settings.host.encode("idna"), settings.port),
        )
        return endpoint

    # What the protocol tells.

    def opened(self, connection: Connection) -> None:
        """The socket is open."""
        self._owner.opened(connection)
        self._opening.callback(None)

    def received(self, payload: bytes) -> None:
        """A frame has come."""
        self._owner.received(payload)

    def lost(self, code: int | None, reason: str, status: int | None) -> None:
        """The socket is closed, or was never opened; `status` is what the upgrade was answered."""
        end = _end(code, reason)
        self._owner.lost(end)
        if self._opening.called:
            self._gone.callback(end)
        else:
            self._opening.errback(_refusal(status))


class _TokenRefused(ConnectionProblem):
    """The server does not take the token; a new one may help."""


def _refusal(status: int | None) -> ConnectionProblem | RequestRefused:
    """Why a server that was reached did not open the socket."""
    if status == HTTPStatus.UNAUTHORIZED:
        return _TokenRefused("The server does not take the token.")
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return RequestRefused("Too many connections of this user, or of this address.")
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        return ConnectionProblem("The server is full, or about to end.")
    shown = "nothing" if status is None else status
    return ConnectionProblem(f"The server did not open the WebSocket: it answered {shown}.")


def _end(code: int | None, reason: str) -> ConnectionProblem | SessionOver:
    """Why a socket was closed."""
    if code is None or code == Connection.CLOSE_STATUS_CODE_ABNORMAL_CLOSE:
        return ConnectionProblem("The connection was lost.")
    text = f"The server closed the connection: {reason or 'for no reason'} ({code})."
    return SessionOver(text) if code in _TERMINAL else ConnectionProblem(text)
