"""
For tests of programs that talk: a whole server and its clients, in memory.

Nothing here opens a socket, starts a thread or waits.  Time is a
`task.Clock`, so whatever takes an hour takes no time, and the same happens
each time.  docs/sdk.md has an example; no program that runs imports this.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Coroutine, Iterable
from pathlib import Path
from typing import Any, Final, TypeVar

from twisted.internet.defer import Deferred, execute
from twisted.internet.interfaces import (
    IDelayedCall,
    IStreamClientEndpoint,
)
from twisted.internet.task import Clock, Cooperator
from twisted.python.failure import Failure
from twisted.web.client import Agent, FileBodyProducer
from twisted.web.iweb import IAgentEndpointFactory
from zope.interface import implementer

from wschat import config, database
from wschat.addresses import LOOPBACK, Networks
from wschat.client.accounts import Accounts as ClientAccounts
from wschat.client.chat import Chat
from wschat.client.dialler import Dialler
from wschat.client.handlers import Message, call_in_thread, check_may_block, out_of_thread
from wschat.client.listener import Listener
from wschat.client.settings import Encryption, Settings
from wschat.client.websocket import ConnectionFactory
from wschat.codes import CloseCode
from wschat.commands import Command
from wschat.config import Config
from wschat.identity import PrivateKey
from wschat.memory import Endpoint
from wschat.runner import Outcome
from wschat.store import Store
from wschat.wiring import Parts

Result = TypeVar("Result")

#: When it begins, in seconds since the epoch: 2026-11-22T10:00:00Z.
NOW: Final = 1795341600.0

SECRET: Final = "a secret of thirty-two bytes, or more"  # noqa: S105  # nobody is kept out by it


@dataclasses.dataclass
class Limits:
    """What a server in memory allows; generous unless a test is about it."""

    message_rate: float = 1e6
    message_burst: float = 1e6
    max_message_size: int = 65536
    outbox_bytes: int = 1024 * 1024
    max_connections: int = 1000
    max_sessions_per_user: int = 10
    login_rate: float = 1e6
    registration_rate: float = 1e6
    allowed_origins: frozenset[str] = frozenset()
    registration_open: bool = True
    tls_port: int = 8443
    offline_limit: int = 1000
    retention: float = 30 * 86400
    token_lifetime: float = 86400.0
    byte_rate: float | None = None
    max_connections_per_host: int = 1000
    trusted_proxies: Networks = dataclasses.field(default_factory=Networks)
    metrics_from: Networks = LOOPBACK
    administrators: frozenset[str] = frozenset()
    lasting_tls: bool = False


def _settings(limits: Limits) -> Config:
    """A server's settings with other limits than the defaults."""
    given = {field.name for field in dataclasses.fields(Config)}
    same = {name: value for name, value in vars(limits).items() if name in given}
    return dataclasses.replace(
        config.load({"data-dir": "."}, {}),
        registration="open" if limits.registration_open else "closed",
        retention_days=limits.retention / 86400,
        certificate=Path("certificate.pem") if limits.lasting_tls else None,
        **same,
    )


class MemoryServer:
    """A whole server but for its listeners; `secure` and `plain` are its sites."""

    def __init__(
        self,
        limits: Limits | None = None,
        kept: Store | None = None,
        commands: Iterable[Command[..., Any]] = (),
    ) -> None:
        """`kept` is its store, one in memory unless given; `commands` are the operator's."""
        self.limits = limits = limits or Limits()
        self.clock = MemoryClock()
        if kept is None:
            engine = database.make_engine("sqlite://")
            database.metadata.create_all(engine)
            kept = Store(engine, _at_once, _at_once)
        parts = Parts(
            _settings(limits),
            self.clock,
            self.wall,
            kept,
            secret=SECRET,
            certificate_ends=lambda: NOW + 86400,
            in_thread=self._in_thread,
        )
        for command in commands:
            parts.commands.add(command)
        self.meters = parts.meters
        self.accounts = parts.accounts
        self.hub = parts.hub
        self.chat = parts.chat
        self.factory = parts.factory
        self.http_places = parts.http_places
        self.secure, self.plain = parts.secure(), parts.plain(limits.tls_port)
        for site in (self.secure, self.plain):
            site.reactor = self.clock
        parts.chat.startService()
        parts.connections.start()

    def wall(self) -> float:
        """Seconds since the epoch."""
        return NOW + self.clock.seconds()

    def _in_thread(self, name: str, call: Callable[[], Outcome]) -> Deferred[Outcome]:
        """Commands run in a turn of their own."""
        done: Deferred[Outcome] = Deferred()
        self.clock.callLater(0, lambda: done.callback(call()))
        return done


def _at_once(function: Callable[..., Result], *args: Any) -> Deferred[Result]:
    """A `store.Executor`."""
    return execute(function, *args)


class MemoryClock(Clock):
    """A clock, and what else a client wants of a reactor."""

    def callFromThread(self, function: Callable[..., object], *args: Any) -> None:
        self.callLater(0, function, *args)


class World:
    """A server, and programs that talk over it."""

    def __init__(
        self, limits: Limits | None = None, commands: Iterable[Command[..., Any]] = ()
    ) -> None:
        """`commands` are the operator's; plain functions run at once, whatever time they take."""
        self.server = MemoryServer(limits, None, commands)
        self.clock = self.server.clock
        #: Whether the server can be reached; connections that are open stay so.
        self.reachable = True
        self._chats: list[Chat] = []

    def chat(
        self,
        user_id: str,
        *,
        session: str = "",
        key: PrivateKey | None = None,
        encryption: Encryption = Encryption.PREFERRED,
        listener: Listener | None = None,
        wait: bool = True,
    ) -> Chat:
        """Somebody's chat, connected unless that is not waited for."""
        settings = Settings(
            host="memory",
            port=443,
            user_id=user_id,
            username=user_id,
            private_key=None,
            insecure_tls=False,
            debug=False,
            auto_announce=False,
            auto_mode=False,
            session=session,
            encryption=encryption,
        )
        key = key or PrivateKey.generate()
        chat = Chat(
            self.clock,
            settings,
            key,
            listener=listener,
            pool=_Inline(self),
            wall=self.server.wall,
            accounts=_Accounts(self, settings, key),
            dial=lambda *args, **options: _Dialler(self, *args, **options),
        )
        self._chats.append(chat)
        return self.run(chat.open(wait=wait))

    def run(
        self, work: Deferred[Result] | Coroutine[Deferred[Any], Any, Result], seconds: float = 60.0
    ) -> Result:
        """
        What something comes to, or raises, with as much time as that takes.

        Raises `TimeoutError` when it takes longer than `seconds`.
        """
        deferred = work if isinstance(work, Deferred) else Deferred.fromCoroutine(work)
        results: list[Any] = []
        deferred.addBoth(results.append)
        end = self.clock.seconds() + seconds
        while not results:
            if not self._step(end):
                raise TimeoutError(f"It takes longer than {seconds} s.")
        if isinstance(results[0], Failure):
            results[0].raiseException()
        result: Result = results[0]
        return result

    def advance(self, seconds: float = 1.0) -> None:
        """Let time pass, and everything happen that happens in it."""
        end = self.clock.seconds() + seconds
        while self._step(end):
            pass
        self.clock.advance(max(0.0, end - self.clock.seconds()))

    def _step(self, end: float) -> bool:
        """Go to the next moment at which something happens; false when that is after the end."""
        now = self.clock.seconds()
        moment = min((call.getTime() for call in self.clock.getDelayedCalls()), default=end + 1)
        if moment > end:
            return False
        self.clock.advance(max(0.0, moment - now))
        return True

    def cut(self, user_id: str) -> None:
        """End a user's connections without a goodbye; they come back within 20 seconds."""
        for connection in list(self.server.factory.connections):
            if connection.user_id == user_id:
                connection.abort()

    def close(self) -> None:
        """Close every chat, then the server."""
        for chat in self._chats:
            self.run(chat.close())
        self.run(self.server.factory.connections.close_all(CloseCode.SHUTDOWN))
        self.server.factory.connections.stop()
        self.run(self.server.chat.drain())

    def endpoint(self) -> IStreamClientEndpoint:
        """The way to the server, for whatever speaks HTTP or WebSocket."""
        return Endpoint(self.clock, self.server.secure, lambda: self.reachable)


class _Inline:
    """A `Pool` without threads: plain functions run in a turn of their own."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._home = threading.get_ident()

    def run(self, function: Callable[[Message], Any], message: Message) -> Deferred[Any]:
        result: Deferred[Any] = Deferred()
        self._world.clock.callLater(0, lambda: result.callback(call_in_thread(function, message)))
        return result

    def blocking(self, function: Callable[[], Deferred[Any]]) -> Any:
        check_may_block(self._home)
        with out_of_thread():
            return self._world.run(function())

    def stop(self) -> None:
        pass


class _Accounts(ClientAccounts):
    """A client's HTTP, to the server in memory."""

    def __init__(self, world: World, settings: Settings, key: PrivateKey) -> None:
        super().__init__(world.clock, settings, key)
        self._agent = agent = _Agent.usingEndpointFactory(world.clock, _Endpoints(world))
        agent.clock = world.clock


@implementer(IAgentEndpointFactory)
class _Endpoints:
    """Wherever an agent is to go, it goes to the server in memory."""

    def __init__(self, world: World) -> None:
        self._world = world

    def endpointForURI(self, uri: object) -> IStreamClientEndpoint:
        return self._world.endpoint()


class _Agent(Agent):
    """An agent whose bodies are sent by the clock in memory, not by the real reactor."""

    clock: Clock

    def request(self, method: bytes, uri: bytes, headers: Any = None, body: Any = None) -> Any:
        if body is not None:
            cooperator = Cooperator(scheduler=lambda work: self.clock.callLater(0, work))
            body = FileBodyProducer(body._inputFile, cooperator)
        return super().request(method, uri, headers, body)


class _Dialler(Dialler):
    """A client's WebSocket, to the server in memory."""

    def __init__(self, world: World, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._world = world

    def _endpoint(self) -> IStreamClientEndpoint:
        return self._world.endpoint()

    def _factory(self, url: str) -> ConnectionFactory:
        factory = super()._factory(url)
        factory.seconds = self._world.clock.seconds
        factory._batched_timer = _Timer(self._world.clock)  # Autobahn's is of the real reactor …
        factory.setProtocolOptions(serverConnectionDropTimeout=0)  # … as is this
        return factory


class _Timer:
    """Autobahn's timer, by the clock in memory."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def call_later(
        self, delay: float, function: Callable[..., object], *args: Any, **named: Any
    ) -> IDelayedCall:
        return self._clock.callLater(delay, function, *args, **named)
