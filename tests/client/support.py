"""What tests of the client share: real servers on this host, and a listener that remembers."""

from __future__ import annotations

import contextlib
import datetime
import io
import json
import os
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Final, cast

from autobahn.twisted.resource import WebSocketResource
from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from twisted._threads import AlreadyQuit
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IListeningPort
from twisted.internet.ssl import DefaultOpenSSLContextFactory
from twisted.internet.task import deferLater
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase, TestCase
from twisted.web.resource import Resource
from twisted.web.server import Request, Site

from wschat import config
from wschat.client import Chat, Client, Heard, Listener, Settings, State
from wschat.datadir import DataDirectory, self_signed
from wschat.identity import PrivateKey
from wschat.server import Server

#: How long a test may take, in seconds.
TIMEOUT: Final = 20


class Ear(Listener):
    """A listener that remembers, and that can be waited for."""

    def __init__(self) -> None:
        self.messages: list[Heard] = []
        self.delays: list[tuple[str, str]] = []
        self.refusals: list[str] = []
        #: The client ids of those of them that had one, and of the receipts.
        self.refused_ids: list[str] = []
        self.stored_ids: list[str] = []
        self.delivered_ids: list[str] = []
        #: Who came and who went, and how often something was said to be missing.
        self.presence: list[tuple[list[str], dict[str, str]]] = []
        self.gaps = 0
        #: Whose keys are others, with both fingerprints; and whose their owners replaced.
        self.key_changes: list[tuple[str, str, str]] = []
        self.rotations: list[tuple[str, str, str]] = []
        self.changes: list[tuple[State, Exception | None]] = []
        #: Texts that the listener fails on.
        self.faults: set[str | None] = set()
        self._waiting: list[tuple[Callable[[], bool], Deferred[None]]] = []

    @property
    def texts(self) -> list[str | None]:
        return [heard.text for heard in self.messages]

    @property
    def errors(self) -> list[str]:
        """Why the connection was lost, each time."""
        return [str(error) for _, error in self.changes if error is not None]

    def count(self, state: State) -> int:
        """How often the client has been in a state."""
        return sum(1 for changed, _ in self.changes if changed is state)

    def heard(self, heard: Heard) -> None:
        self.messages.append(heard)
        self._tell()
        if heard.text in self.faults:
            raise RuntimeError("a listener's fault")

    def refused(self, text: str, client_id: str | None) -> None:
        self.refusals.append(text)
        self.refused_ids += [] if client_id is None else [client_id]
        self._tell()

    def stored(self, client_id: str, message_id: int) -> None:
        self.stored_ids.append(client_id)
        self._tell()

    def delivered(self, client_id: str, message_id: int) -> None:
        self.delivered_ids.append(client_id)
        self._tell()

    def incomplete(self) -> None:
        self.gaps += 1
        self._tell()

    def presence_changed(self, joined: list[str], left: dict[str, str]) -> None:
        self.presence.append((joined, left))
        self._tell()

    def key_changed(self, user_id: str, old: str, new: str) -> None:
        self.key_changes.append((user_id, old, new))
        self._tell()

    def key_rotated(self, user_id: str, old: str, new: str) -> None:
        self.rotations.append((user_id, old, new))
        self._tell()

    def delayed(self, text: str, client_id: str) -> None:
        self.delays.append((text, client_id))
        self._tell()

    def changed(self, state: State, error: Exception | None) -> None:
        self.changes.append((state, error))
        self._tell()

    def until(self, condition: Callable[[], bool]) -> Deferred[None]:
        """Fires when what was heard fulfils a condition."""
        deferred: Deferred[None] = Deferred()
        self._waiting.append((condition, deferred))
        self._tell()
        return deferred

    def hears(self, text: str | None) -> Deferred[None]:
        return self.until(lambda: text in self.texts)

    def becomes(self, state: State, times: int = 1) -> Deferred[None]:
        return self.until(lambda: self.count(state) >= times)

    def _tell(self) -> None:
        ready = [waiting for waiting in self._waiting if waiting[0]()]
        self._waiting = [waiting for waiting in self._waiting if waiting not in ready]
        for _, deferred in ready:  # later, so that no test goes on inside of what it tests
            cast(Any, reactor).callLater(0, deferred.callback, None)


def settings(port: int, user_id: str = "alice", **given: Any) -> Settings:
    """A client's settings for a server on this host."""
    values: dict[str, Any] = {
        "host": "localhost",
        "port": port,
        "user_id": user_id,
        "username": user_id.title(),
        "private_key": None,
        "insecure_tls": False,
        "debug": False,
        "auto_announce": False,
        "auto_mode": False,
    }
    return Settings(**values | given)


async def next_texts(chat: Chat, count: int) -> list[str | None]:
    """The texts of the next messages that come to a chat."""
    texts: list[str | None] = []
    async for message in chat.messages():
        texts.append(message.text)
        if len(texts) == count:
            break
    return texts


class StreamTests(SynchronousTestCase):
    """Tests of what is written to standard error; nobody is at standard input."""

    def setUp(self) -> None:
        super().setUp()
        self.patch(sys, "stderr", io.StringIO())
        self.patch(sys, "stdin", io.StringIO())

    @property
    def notes(self) -> str:
        """What has been written."""
        stream: Any = sys.stderr
        return str(stream.getvalue())


class ClientTests(TestCase):
    """Tests that have a directory with a certificate, trusted unless said otherwise."""

    timeout = TIMEOUT

    def setUp(self) -> None:
        self.events: list[LogEvent] = []
        observer = cast(ILogObserver, self.events.append)
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        self.home = Path(self.mktemp()).absolute()
        self.environ("SSL_CERT_FILE", str(self.home / "certificate.pem"))
        self.addCleanup(_ring_out)

    def environ(self, name: str, value: str | None) -> None:
        """Set a variable, in the process itself, where OpenSSL reads it, until the test ends."""
        self.addCleanup(_set, name, os.environ.get(name))
        _set(name, value)

    def start(self, port: int = 0, **options: str) -> Server:
        """A server that runs until the test is over."""
        given = {
            "data-dir": str(self.home),
            "listen": f"127.0.0.1:{port}",
            "http": "none",
            **{name.replace("_", "-"): value for name, value in options.items()},
        }
        server = Server(config.load(given, {}), reactor, time.time)
        server.startService()
        self.addCleanup(_let_go, server)
        self.addCleanup(self.stop_server, server)
        return server

    async def stop_server(self, server: Server) -> None:
        if server.running:
            await server.stopService()

    @staticmethod
    def cut(server: Server, user_id: str) -> None:
        """End a user's connections without a goodbye."""
        for connection in list(server._parts.connections):
            if connection.user_id == user_id:
                connection.transport.abortConnection()

    def mute(self, server: Server, user_id: str) -> None:
        """Have nothing reach a user any more, on the connections that they have now."""
        for connection in server._parts.connections:
            if connection.user_id == user_id:
                self.patch(connection.transport, "write", lambda data: None)
                self.patch(connection._outbox, "_write", lambda data: None)

    @property
    def port(self) -> int:
        """Where the server that was started last listens."""
        return [int(e["port"]) for e in self.events if e.get("scheme") == "https"][-1]

    def client(
        self, user_id: str = "alice", ear: Ear | None = None, **given: Any
    ) -> tuple[Client, Ear]:
        """A client of the server that was started last, running until the test is over."""
        ear = ear or Ear()
        key = given.pop("key", None) or PrivateKey.generate()
        wall = given.pop("wall", time.time)
        port = given.pop("port", None) or self.port
        options = {name: given.pop(name) for name in ("after", "keepalive") if name in given}
        client = Client(reactor, settings(port, user_id, **given), key, ear, wall, **options)
        client.startService()
        self.addCleanup(self.stop_client, client)
        return client, ear

    async def stop_client(self, client: Client) -> None:
        if client.running:
            await client.stop()

    async def connected(self, user_id: str = "alice", **given: Any) -> tuple[Client, Ear]:
        """A client that is connected."""
        client, ear = self.client(user_id, **given)
        await ear.becomes(State.CONNECTED)
        return client, ear


class QuickTests(ClientTests):
    """Tests whose clients come back at once."""

    def setUp(self) -> None:
        super().setUp()
        self.patch(random, "uniform", lambda low, high: min(high, 0.01))


def _set(name: str, value: str | None) -> None:
    if value is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = value


async def _ring_out() -> None:
    """Autobahn's timer keeps its calls, cancelled ones as well, until their second is over."""
    clock = cast(Any, reactor)
    for call in clock.getDelayedCalls():
        if "_notify_bucket" in str(call):
            call.reset(0)
    await deferLater(clock, 0)


def _let_go(server: Server) -> None:
    """So that a server that could not be stopped keeps no thread."""
    with contextlib.suppress(AlreadyQuit):
        cast(Any, server)._clean_up()


class _Page(Resource):
    """Answers every request as the script says."""

    isLeaf = True

    def __init__(self, script: Script) -> None:
        super().__init__()
        self._script = script

    def render(self, request: Request) -> bytes:
        method, path = (request.method or b"").decode(), request.uri.decode()
        body = request.content.read() if request.content is not None else b""
        self._script.requests.append((method, path, json.loads(body) if body else None))
        self._script._tell()
        status, answer = self._script.answer(method, path)
        request.setResponseCode(status)
        return answer if isinstance(answer, bytes) else json.dumps(answer).encode()


class Conversation(WebSocketServerProtocol):
    """The server's end of a WebSocket whose frames a test writes and reads."""

    #: What is said after the client's goodbye, before the server's own.
    parting = ""

    #: How long the client's goodbye is left without an answer, in seconds.
    pause = 0.0

    def onOpen(self) -> None:
        self.factory.script.opened(self)

    def onCloseFrame(self, code: int, reasonRaw: bytes) -> Any:
        if self.pause:
            cast(Any, reactor).callLater(self.pause, self.onCloseFrame, code, reasonRaw)
            self.pause = 0.0
            return False
        if self.parting:
            self.deliver(self.parting)
        return super().onCloseFrame(code, reasonRaw)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        self.factory.script.came(json.loads(payload))

    def deliver(self, content: str, **given: Any) -> None:
        """A frame as a classic server writes it."""
        header = {
            "from": given.pop("sender", "bob"),
            "to": "alice",
            "message_type": "direct",
            "timestamp": "2026-11-22T10:00:00Z",
            **given.pop("header", {}),
        }
        frame = {"header": header, "body": {"content": content}, "status": "delivered", **given}
        self.sendMessage(json.dumps(frame).encode())


class Script(Ear):
    """A classic server on TLS that says what a test wants, with one user: bob."""

    #: What a WebSocket's end is, and the subprotocols that it takes.
    end: ClassVar[type[Conversation]] = Conversation
    protocols: ClassVar[tuple[str, ...]] = ()

    def __init__(self, test: ClientTests) -> None:
        super().__init__()
        DataDirectory(test.home)
        names = ("localhost",)
        certificate, key = self_signed(names, datetime.datetime.now(datetime.UTC))
        for name, data in (("certificate.pem", certificate), ("private-key.pem", key)):
            (test.home / name).write_bytes(data)
        self.requests: list[tuple[str, str, Any]] = []
        self.frames: list[dict[str, Any]] = []
        self.conversations: list[Conversation] = []
        self.bob = PrivateKey.generate()
        #: What paths (without the query) are answered; others as a good server would.
        self.answers: dict[str, tuple[int, Any]] = {}
        factory: Any = WebSocketServerFactory(protocols=list(self.protocols))
        factory.protocol = self.end
        factory.script = self
        factory.setProtocolOptions(failByDrop=False)
        root = self._root = _Root(_Page(self))
        root.putChild(b"ws", WebSocketResource(factory))
        context = DefaultOpenSSLContextFactory(
            str(test.home / "private-key.pem"), str(test.home / "certificate.pem")
        )
        where = cast(Any, reactor).listenSSL(0, Site(root), context, interface="127.0.0.1")
        self.listening: IListeningPort = where
        self.port = int(where.getHost().port)
        test.addCleanup(where.stopListening)
        test.addCleanup(self.hang_up)

    def refuse(self, status: int) -> None:
        """From now on answer whoever wants a WebSocket with a status."""
        self._root.children.pop(b"ws", None)
        self.answers["/ws"] = (status, b"no")

    async def hang_up(self) -> None:
        for conversation in cast(Any, self.conversations):
            if conversation.state != conversation.STATE_CLOSED:
                conversation.transport.abortConnection()
            await conversation.is_closed

    def answer(self, method: str, path: str) -> tuple[int, Any]:
        plain, _, query = path.partition("?")
        if plain in self.answers:
            return self.answers[plain]
        key = {"public_key": self.bob.public_key, "user_id": "bob", "username": "Bob"}
        if plain == "/auth/login":
            challenge = {"challenge": "A" * 43 + "="}
            return 200, {"token": "t.o.k", "expires_at": ""} if query else challenge
        if plain.startswith("/auth/check-userid/"):
            return 200, {"exists": True}
        return (200, key) if plain == "/auth/users/bob" else (404, b"Not found.\n")

    def opened(self, conversation: Conversation) -> None:
        self.conversations.append(conversation)
        self._tell()

    def came(self, frame: dict[str, Any]) -> None:
        self.frames.append(frame)
        self._tell()

    async def conversation(self, number: int = 1) -> Conversation:
        """The WebSocket of that number, once it is open."""
        await self.until(lambda: len(self.conversations) >= number)
        return self.conversations[number - 1]

    async def frame(self, content: str) -> dict[str, Any]:
        """A frame that the client sent."""

        def found() -> list[dict[str, Any]]:
            return [frame for frame in self.frames if frame["body"]["content"] == content]

        await self.until(lambda: bool(found()))
        return found()[0]

    async def command(self, name: str, number: int = 1) -> str:
        """The request id of the command of that name and number that the client sent."""

        def found() -> list[str]:
            contents = [f["body"]["content"] for f in self.frames if f["header"]["to"] == "server"]
            commands = [json.loads(content) for content in contents]
            return [str(c["request_id"]) for c in commands if c["command"] == name]

        await self.until(lambda: len(found()) >= number)
        return found()[number - 1]

    def paths(self) -> list[str]:
        return [path for _, path, _ in self.requests]


class _Root(Resource):
    """Leads everything but its children to one page."""

    def __init__(self, page: Resource) -> None:
        super().__init__()
        self._page = page

    def getChild(self, path: bytes, request: Request) -> Resource:
        return self._page
