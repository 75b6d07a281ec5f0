"""Tests of `wschat.server`: a whole one, on real sockets."""

from __future__ import annotations

import contextlib
import gc
import io
import json
import os
import signal
import stat
import sys
import threading
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from twisted._threads import AlreadyQuit
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import SSL4ClientEndpoint, TCP4ClientEndpoint, connectProtocol
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.ssl import Certificate, optionsForClientTLS, trustRootFromCertificates
from twisted.internet.task import deferLater
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from tests.support import (
    CLOSE,
    TEXT,
    UPGRADE,
    Response,
    client_frame,
    encode,
    parse_response,
    request_head,
    submission,
    take_frame,
)
from wschat import config, endpoint, sources
from wschat.blame import StartError
from wschat.commands import command
from wschat.identity import PrivateKey, decode_base64
from wschat.server import Server


class Conversation(Protocol):
    """A connection that can be waited for."""

    def __init__(self) -> None:
        self.data = b""
        self.closed: Deferred[None] = Deferred()
        self._waiting: list[tuple[Deferred[None], Callable[[], bool]]] = []

    def dataReceived(self, data: bytes) -> None:
        self.data += data
        ready = [waiting for waiting in self._waiting if waiting[1]()]
        self._waiting = [waiting for waiting in self._waiting if waiting not in ready]
        for deferred, _ in ready:
            deferred.callback(None)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.closed.callback(None)

    def until(self, condition: Callable[[], bool]) -> Deferred[None]:
        """Fires when the data that came fulfils the condition."""
        deferred: Deferred[None] = Deferred()
        self._waiting.append((deferred, condition))
        self.dataReceived(b"")
        return deferred

    async def response(self) -> Response:
        """The one HTTP answer that comes next."""
        await self.until(lambda: _complete(self.data))
        data, self.data = self.data, b""
        return parse_response(data)

    async def frame(self) -> tuple[int, bytes]:
        """The next WebSocket frame."""
        await self.until(lambda: take_frame(self.data) is not None)
        frame = take_frame(self.data)
        assert frame is not None
        opcode, payload, self.data = frame
        return opcode, payload


def _complete(data: bytes) -> bool:
    if b"\r\n\r\n" not in data:
        return False
    response = parse_response(data)
    return len(response.body) == int(response.headers.get("content-length", "0"))


class _ServerTests(TestCase):
    """A server on this host, on ports that the system chose."""

    def setUp(self) -> None:
        self.events: list[LogEvent] = []
        observer = cast(ILogObserver, self.events.append)
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        self.home = Path(self.mktemp())
        self.patch(sys, "path", list(sys.path))  # --commands adds to it

    def configuration(self, **options: str) -> config.Config:
        given = {
            "data-dir": str(self.home),
            "listen": "127.0.0.1:0",
            "http": "127.0.0.1:0",
            **{name.replace("_", "-"): value for name, value in options.items()},
        }
        return config.load(given, {})

    def server(self, **options: str) -> Server:
        return Server(self.configuration(**options), reactor, time.time)

    def start(self, **options: str) -> Server:
        """A server that runs until the test is over."""
        server = self.server(**options)
        server.startService()
        self.addCleanup(self.let_go, server)
        self.addCleanup(self.stop, server)
        return server

    def let_go(self, server: Server) -> None:
        """So that a server that could not be stopped fails its test, and does not hang them all."""
        if self.store_threads():
            with contextlib.suppress(AlreadyQuit):
                cast(Any, server)._clean_up()

    async def stop(self, server: Server) -> None:
        if server.running:
            await server.stopService()

    def port(self, scheme: str) -> int:
        """Where the server that was started last listens."""
        ports = [event["port"] for event in self.events if event.get("scheme") == scheme]
        return int(ports[-1])

    async def connect(self, scheme: str) -> Conversation:
        """A connection, over TLS one that trusts the server's certificate and checks its name."""
        port, conversation = self.port(scheme), Conversation()
        if scheme == "https":
            certificate = Certificate.loadPEM((self.home / "certificate.pem").read_bytes())
            trust = trustRootFromCertificates([certificate])
            context = optionsForClientTLS("localhost", trust)
            endpoint: Any = SSL4ClientEndpoint(reactor, "127.0.0.1", port, context)
        else:
            endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", port)
        await connectProtocol(endpoint, conversation)
        self.addCleanup(self.disconnect, conversation)
        return conversation

    def disconnect(self, conversation: Conversation) -> Deferred[None]:
        if not conversation.closed.called:
            cast(Any, conversation.transport).abortConnection()
        return conversation.closed

    async def request(
        self, conversation: Conversation, method: str, path: str, body: Any = None
    ) -> Response:
        data = b"" if body is None else encode(body)
        assert conversation.transport is not None
        conversation.transport.write(request_head(method, path, len(data), {}) + data)
        return await conversation.response()

    async def token(self, user_id: str, key: PrivateKey | None = None) -> str:
        """Register a user, with a new key unless it is given, and log them in."""
        web = await self.connect("https")
        key = key or PrivateKey.generate()
        body = {"user_id": user_id, "username": user_id, "public_key": key.public_key}
        self.assertEqual((await self.request(web, "POST", "/auth/register", body)).status, 201)
        answer = await self.request(web, "POST", "/auth/login", {"user_id": user_id})
        signature = key.sign(decode_base64(answer.json["challenge"]))
        body = {"user_id": user_id, "signature": signature}
        answer = await self.request(web, "POST", "/auth/login?verify=true", body)
        await self.disconnect(web)
        return str(answer.json["token"])

    async def websocket(self, token: str, scheme: str = "https") -> Conversation:
        conversation = await self.connect(scheme)
        assert conversation.transport is not None
        conversation.transport.write(request_head("GET", f"/ws?token={token}", 0, UPGRADE))
        await conversation.until(lambda: b"\r\n\r\n" in conversation.data)
        self.assertTrue(conversation.data.startswith(b"HTTP/1.1 101 "), conversation.data)
        conversation.data = conversation.data.partition(b"\r\n\r\n")[2]
        return conversation

    def store_threads(self) -> list[str]:
        return [thread.name for thread in threading.enumerate() if "wschat" in thread.name]


class ServerTests(_ServerTests):
    """Starting, working, stopping."""

    async def test_all_of_it(self) -> None:
        """Register, log in, connect over TLS, send, be told 4001, and be let go of."""
        server = self.start()
        alice = await self.websocket(await self.token("alice"))
        assert alice.transport is not None
        alice.transport.write(client_frame(TEXT, submission("alice", "to myself")))
        opcode, payload = await alice.frame()
        self.assertEqual((opcode, json.loads(payload)["body"]["content"]), (TEXT, "to myself"))
        await alice.frame()  # the ping
        stopping = server.stopService()
        opcode, payload = await alice.frame()
        self.assertEqual((opcode, payload[:2]), (CLOSE, (4001).to_bytes(2, "big")))
        alice.transport.write(client_frame(CLOSE, payload[:2]))
        await alice.closed
        await stopping
        self.assertEqual(self.store_threads(), [])

    async def test_the_collector(self) -> None:
        """It looks at what lives long less often where connections that end leave it nothing."""
        self.addCleanup(gc.unfreeze)
        self.addCleanup(gc.set_threshold, *gc.get_threshold())
        before = gc.get_threshold()
        for fast in (False, True):
            self.patch(endpoint, "fast", lambda _, fast=fast: fast)
            await self.start(listen="tcp:0:interface=127.0.0.1").stopService()
            self.assertEqual(gc.get_threshold() != before, fast)
            self.assertEqual(gc.get_freeze_count() > 0, fast)

    async def test_starts_again(self) -> None:
        """With the same directory, users, tokens and messages are as before; nothing twice."""
        first = self.start()
        token = await self.token("alice")
        alice = await self.websocket(token)
        assert alice.transport is not None
        alice.transport.write(client_frame(TEXT, submission("alice", "kept")))
        await alice.frame()
        await self.disconnect(alice)
        await self.stop(first)
        self.start()
        alice = await self.websocket(token)
        _, payload = await alice.frame()
        self.assertEqual(json.loads(payload)["body"]["content"], "kept")

    async def test_plain_listener(self) -> None:
        """The plain listener has health, active users for this host, and leads to TLS."""
        self.start()
        plain = await self.connect("http")
        self.assertEqual((await self.request(plain, "GET", "/health")).status, 200)
        answer = await self.request(plain, "GET", "/active-users")
        self.assertEqual(answer.json, {"online": [], "offline": []})
        answer = await self.request(plain, "GET", "/auth/users/alice")
        self.assertEqual(answer.status, 308)
        location = f"https://chat.example:{self.port('https')}/auth/users/alice"
        self.assertEqual(answer.headers["location"], location)

    async def test_no_plain_listener(self) -> None:
        """There is none when none is wanted."""
        self.start(http="none")
        schemes = [event["scheme"] for event in self.events if "scheme" in event]
        self.assertEqual(schemes, ["https"])

    async def test_settings_arrive(self) -> None:
        """Options reach what they are about."""
        self.start(registration="closed", login_rate="1", max_sessions_per_user="1")
        web = await self.connect("https")
        body = {"user_id": "alice", "username": "", "public_key": PrivateKey.generate().public_key}
        self.assertEqual((await self.request(web, "POST", "/auth/register", body)).status, 403)
        await self.request(web, "POST", "/auth/login", {"user_id": "alice"})
        answer = await self.request(web, "POST", "/auth/login", {"user_id": "alice"})
        self.assertEqual(answer.status, 429)

    async def test_own_certificate(self) -> None:
        """A certificate of the operator's is used, and none is made."""
        self.start(http="none")
        elsewhere = Path(self.mktemp())
        files = {name: self.home / name for name in ("certificate.pem", "private-key.pem")}
        options = {
            "data_dir": str(elsewhere),
            "certificate": str(files["certificate.pem"]),
            "private_key": str(files["private-key.pem"]),
        }
        self.start(http="none", **options)
        web = await self.connect("https")  # trusts the first one's
        self.assertEqual((await self.request(web, "GET", "/health")).status, 200)
        self.assertFalse((elsewhere / "certificate.pem").exists())

    async def test_behind_something_that_ends_tls(self) -> None:
        """A tcp: endpoint serves everything without TLS, secrets from the environment included."""
        secret = "a secret of thirty-two bytes, or more"
        self.start(listen="tcp:0:interface=127.0.0.1", http="none", jwt_secret=secret)
        port = self.port("https")
        conversation = Conversation()
        endpoint: Any = TCP4ClientEndpoint(reactor, "127.0.0.1", port)
        await connectProtocol(endpoint, conversation)
        self.addCleanup(self.disconnect, conversation)
        self.assertEqual((await self.request(conversation, "GET", "/health")).status, 200)
        self.assertFalse((self.home / "jwt-secret").exists())

    async def test_security_log(self) -> None:
        """Registrations and logins are one JSON object a line each, and nothing else is there."""
        path = Path(self.mktemp())
        server = self.start(security_log_file=str(path))
        token = await self.token("alice")
        await self.stop(server)
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        self.assertEqual([line["user_id"] for line in lines], ["alice", "alice"])
        self.assertNotIn(token, path.read_text())

    async def test_commands(self) -> None:
        """An operator's commands are answered; one that hangs does not hold up the end."""
        end = threading.Event()
        self.addCleanup(end.set)
        module = types.ModuleType("chat_hanging")

        @command
        def hang(user_id: str) -> None:
            end.wait(20)

        @command
        def name(user_id: str) -> str:
            return user_id

        vars(module).update(hang=hang, name=name)
        sys.modules["chat_hanging"] = module
        self.addCleanup(sys.modules.pop, "chat_hanging")
        server = self.start(commands="chat_hanging")
        key = PrivateKey.generate()
        alice = await self.websocket(await self.token("alice", key))
        assert alice.transport is not None
        for asked in ("hang", "name"):
            content = json.dumps({"command": asked})
            signature = key.sign(content.encode())
            frame = submission("server", content, signature=signature)
            alice.transport.write(client_frame(TEXT, frame))
        _, payload = await alice.frame()
        answer = json.loads(json.loads(payload)["body"]["content"])
        self.assertEqual(answer, {"success": True, "result": "alice"})
        alice.transport.write(client_frame(CLOSE, b"\x03\xe8"))
        await self.stop(server)
        self.assertFalse(end.is_set())
        self.assertEqual(self.store_threads(), [])

    async def test_database_is_private(self) -> None:
        """Nobody else on the host can read what people write."""
        self.start()
        await self.token("alice")
        self.assertEqual(stat.S_IMODE(self.home.stat().st_mode), 0o700)


class ReloadTests(_ServerTests):
    """What a server takes while it runs."""

    def setUp(self) -> None:
        super().setUp()
        self.file = Path(self.mktemp())
        self.addCleanup(signal.signal, signal.SIGHUP, signal.getsignal(signal.SIGHUP))

    async def reloaded(self, text: str) -> None:
        """Write the configuration file, and tell the server with SIGHUP."""
        self.file.write_text(text)
        seen = len(self.events)
        os.kill(os.getpid(), signal.SIGHUP)
        while not any(
            event.get("option") == "config-file" for event in self.events[seen:]
        ):  # its turn comes
            await deferLater(reactor, 0)

    async def test_limits(self) -> None:
        """Rates, registration, sessions and origins are the file's; nobody is disconnected."""
        self.file.write_text("")
        given: dict[str, str | None] = {
            "data-dir": str(self.home),
            "listen": "127.0.0.1:0",
            "http": "none",
            "config-file": str(self.file),
        }
        settings = sources.load(given, {})
        server = Server(settings, reactor, time.time, lambda: sources.load(given, {}))
        server.startService()
        self.addCleanup(self.stop, server)
        token = await self.token("alice")
        alice = await self.websocket(token)
        await self.reloaded(
            'registration = "closed"\nlogin-rate = 1\nmax-sessions-per-user = 1\n'
            'allowed-origins = ["https://chat.example"]\nretention-days = 9\n'
        )
        web = await self.connect("https")
        key = PrivateKey.generate().public_key
        body = {"user_id": "bob", "username": "", "public_key": key}
        self.assertEqual((await self.request(web, "POST", "/auth/register", body)).status, 403)
        answers = [
            (await self.request(web, "POST", "/auth/login", {"user_id": "alice"})).status
            for _ in range(2)
        ]
        self.assertEqual(answers, [200, 429])
        assert web.transport is not None
        web.transport.write(request_head("GET", f"/ws?token={token}", 0, UPGRADE))
        self.assertEqual((await web.response()).status, 429)
        origin = {"origin": "https://chat.example"}
        web.transport.write(request_head("GET", "/health", 0, origin))
        allowed = (await web.response()).headers["access-control-allow-origin"]
        self.assertEqual(allowed, "https://chat.example")
        said = [e["names"] for e in self.events if "names" in e]
        self.assertEqual(len(said), 2)
        self.assertEqual(said[1], "retention-days")
        await self.reloaded("registration = 'maybe'\n")
        assert alice.transport is not None
        alice.transport.write(client_frame(TEXT, submission("alice", "still here")))
        _, payload = await alice.frame()
        self.assertEqual(json.loads(payload)["body"]["content"], "still here")


class BusyReactor(MemoryReactorClock):
    """A reactor in memory, on which some ports are in use."""

    busy: frozenset[int] = frozenset()

    def listenTCP(self, port: int, *args: Any, **kwargs: Any) -> Any:
        return self._free(port) and super().listenTCP(port, *args, **kwargs)

    def listenSSL(self, port: int, *args: Any, **kwargs: Any) -> Any:
        return self._free(port) and super().listenSSL(port, *args, **kwargs)

    def callFromThread(self, *args: Any, **kwargs: Any) -> None:
        """A server that could not start has ended before a thread of it is heard."""

    def _free(self, port: int) -> bool:
        if port in self.busy:
            raise CannotListenError("127.0.0.1", port, OSError(98, "Address already in use"))
        return True


class FailureTests(_ServerTests):
    """Servers that cannot start say why in one line, and nothing keeps the process."""

    def refused(self, **options: str) -> str:
        memory = BusyReactor()
        memory.busy = frozenset({8443, 8080})
        server = Server(self.configuration(**options), memory, time.time)
        said = io.StringIO()
        self.patch(sys, "__stderr__", said)
        self.patch(sys, "excepthook", sys.excepthook)
        error = self.assertRaises(StartError, server.startService)
        self.assertEqual(self.store_threads(), [])
        sys.excepthook(StartError, error, None)  # as the interpreter does
        self.assertRegex(said.getvalue(), r"\Awschat: --[a-z-]+: [^\n]+\n\Z")
        return said.getvalue()

    async def test_port_in_use(self) -> None:
        """A port in use is one line that names it."""
        self.assertIn("8443", self.refused(listen="127.0.0.1:8443", http="none"))

    async def test_plain_port_in_use(self) -> None:
        """So is the plain listener's, when the other has been opened already."""
        self.assertIn("8080", self.refused(http="127.0.0.1:8080"))

    async def test_bad_files(self) -> None:
        """Directories, databases, keys and log files that cannot be used are one line each."""
        file = Path(self.mktemp())
        file.write_text("not a database, nor a certificate, nor a directory\n" * 50)
        for options in (
            {"data_dir": str(file)},
            {"database": str(file)},
            {"database": str(file.parent)},
            {"database": "postgresql+psycopg://user:secret@127.0.0.1:1/none?connect_timeout=2"},
            {"listen": "tcp:abc"},
            {"commands": "no_such_module"},
            {"security_log_file": str(file.parent)},
            {"certificate": str(file), "private_key": str(file)},
            {"certificate": "/nowhere/c", "private_key": "/nowhere/k"},
        ):
            self.assertNotIn("secret", self.refused(**options))

    async def test_bad_endpoint(self) -> None:
        """An endpoint string that Twisted does not know is one line."""
        self.refused(listen="tcp:nonsense")
