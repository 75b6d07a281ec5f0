"""
What end-to-end tests share: real processes, and a client made from WIRE.md alone.

Everything that anybody says in these tests has `WORD` in it, and every token
begins with `TOKEN`: neither may be in a server's log.
"""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import functools
import http.client
import json
import os
import shutil
import signal
import ssl
import subprocess
import threading
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, ParamSpec, TypeVar

from nacl.exceptions import BadSignatureError
from nacl.public import PrivateKey as X25519Key
from nacl.signing import SigningKey, VerifyKey
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SkipTest, TestCase
from websockets.asyncio.client import ClientConnection, connect

from scripts.processes import PROGRAMS, Process, Server
from wschat.client import Listener

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

#: In all that is said.
WORD: Final = "quokka"

#: How a JWT with a JSON header begins: the base64 of `{"`.
TOKEN: Final = "eyJ"

#: How long one thing may take, in seconds; far more than it does.
PATIENCE: Final = 60.0

ROOT: Final = Path(__file__).parent.parent

ROUTED: Final = {"id", "header", "body", "status"}


def run(
    command: Sequence[str],
    environ: Mapping[str, str],
    cwd: Path | None = None,
    patience: float = 2 * PATIENCE,
) -> subprocess.CompletedProcess[str]:
    """Run a program of this environment to its end, with its children; it blocks."""
    process = subprocess.Popen(
        [str(PROGRAMS / command[0]), *command[1:]],
        env={"PATH": os.environ["PATH"], **environ},
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        out, err = process.communicate(timeout=patience)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
        raise AssertionError(f"{command} did not end:\n{out}\n{err}") from None
    return subprocess.CompletedProcess(command, process.returncode, out, err)


def need_compiler(*headers: str) -> None:
    """Skip the test, where no C can be compiled that includes these."""
    missing = [header for header in headers if not (Path("/usr/include") / header).exists()]
    if missing or not shutil.which("cc"):
        raise SkipTest(f"no C compiler with {' and '.join(headers)} here")


async def together(*work: Awaitable[Result]) -> list[Result]:
    """Do all of it at once; the results, in the order given."""

    async def one(awaitable: Awaitable[Result]) -> Result:
        return await awaitable

    return await gatherResults([Deferred.fromCoroutine(one(w)) for w in work], consumeErrors=True)


class Patient(Listener):
    """Listens to a client, and waits for what is so after something was heard."""

    def __init__(self, patience: float = PATIENCE) -> None:
        """`patience` is how long one thing may take, in seconds."""
        self._patience = patience
        self._waiting: list[tuple[Callable[[], bool], Deferred[None]]] = []

    def look(self) -> None:
        """Something was heard: tell who waits for what is so now."""
        for waiting in [w for w in self._waiting if w[0]()]:
            self._waiting.remove(waiting)
            waiting[1].callback(None)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something is so, which may be after any event."""
        if not condition():
            deferred: Deferred[None] = Deferred()
            self._waiting.append((condition, deferred))
            await deferred.addTimeout(self._patience, reactor)


class EndToEnd(TestCase):
    """Tests with a real server; those on another reactor are a subclass that names it."""

    timeout = 240
    server_reactor = "default"

    def directory(self) -> Path:
        """The path of a directory that does not exist yet."""
        return Path(self.mktemp()).absolute()

    async def serve(self, *options: str, data_dir: Path | None = None, tls_port: int = 0) -> Server:
        """Start a server.  In the end it is stopped, and its log must hold no secrets."""
        server = await Server.start(
            reactor,
            data_dir or self.directory(),
            *options,
            tls_port=tls_port,
            server_reactor=self.server_reactor,
        )
        self.addCleanup(self._stop, server)
        return server

    async def _stop(self, server: Server) -> None:
        await self.end(server.process)
        said = "\n".join(server.process.lines)
        self.assertIn("listening on", said)
        for secret in (WORD, TOKEN, "token="):
            self.assertNotIn(secret, said, "in the server's log")
        for fault in ("Traceback", "#critical", "Unhandled"):
            self.assertNotIn(fault, said, "in the server's log")

    async def end(self, process: Process) -> None:
        """End a process: politely, and if that does not help with force."""
        killing = reactor.callLater(PATIENCE / 2, process.signal, "KILL")
        await process.end()
        if killing.active():
            killing.cancel()

    def start(self, name: str, command: Sequence[str], environ: Mapping[str, str]) -> Process:
        """Start a program, which is ended when the test is."""
        process = Process.start(reactor, name, command, environ)
        self.addCleanup(self._finish, process)
        return process

    async def _finish(self, process: Process) -> None:
        await process.end("KILL")
        self.assertNotIn("Traceback", "\n".join(process.lines), f"of {process.name}")

    def chat(
        self,
        server: Server,
        user_id: str,
        home: Path | None = None,
        program: str = "simple-client",
        **environ: str,
    ) -> Process:
        """Start somebody's client; the same `home` makes them the same person."""
        name = user_id.capitalize()
        given = server.client_environ(user_id, name, home or self.directory())
        return self.start(user_id, [program], {**given, **environ})

    async def connected(
        self, server: Server, *user_ids: str, homes: Mapping[str, Path] | None = None
    ) -> list[Process]:
        """Start clients, and wait until all are connected."""
        people = [self.chat(server, user, (homes or {}).get(user)) for user in user_ids]
        await together(*(self.sees(person, f"Connected as {person.name}") for person in people))
        return people

    async def sees(self, process: Process, text: str) -> str:
        """Wait for a line, past or to come."""
        return await process.sees(text, reactor, PATIENCE)

    async def will_see(self, process: Process, text: str) -> str:
        """Wait for the next line with a text."""
        return await process.will_see(text, reactor, PATIENCE)

    async def status(self, process: Process) -> int:
        """Wait for the end of a process; its exit status."""
        return await Deferred.fromCoroutine(process.wait()).addTimeout(PATIENCE, reactor)

    def in_thread(
        self,
        function: Callable[Arguments, Result],
        *args: Arguments.args,
        **kwargs: Arguments.kwargs,
    ) -> Deferred[Result]:
        """Call what blocks, beside the reactor."""
        return deferToThread(function, *args, **kwargs)


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def quoted(text: str) -> str:
    """A text's JSON as Go's encoder writes it (WIRE.md, "Signature on a direct message")."""
    out = json.dumps(text, ensure_ascii=False)
    for character in "<>&\u2028\u2029":
        out = out.replace(character, f"\\u{ord(character):04x}")
    return out


@dataclasses.dataclass(frozen=True)
class Answer:
    """An HTTP answer."""

    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)


def request(
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    body: Any = None,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """One request on a connection of its own; `body` is sent as JSON unless it is bytes."""
    data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
    try:
        connection.request(method, path, data, dict(headers or {}))
        response = connection.getresponse()
        return Answer(response.status, dict(response.getheaders()), response.read().decode())
    finally:
        connection.close()


class Classic:
    """
    A user of a client that the project did not write: WIRE.md, http.client and `websockets`.

    Its calls block, so they belong into a thread.
    """

    def __init__(self, server: Server, user_id: str) -> None:
        self.user_id = user_id
        self.key = SigningKey.generate()
        self.x25519_key = X25519Key.generate()
        self.port = server.tls_port
        self.context = ssl.create_default_context(cafile=str(server.certificate))

    @classmethod
    def entered(cls, server: Server, user_id: str) -> Classic:
        """One who is registered."""
        user = cls(server, user_id)
        answer = user.register()
        assert answer.status == 201, answer
        return user

    @property
    def public_key(self) -> str:
        return b64(bytes(self.key.verify_key))

    def request(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """One request to the TLS port."""
        connection = http.client.HTTPSConnection(
            "localhost", self.port, timeout=PATIENCE, context=self.context
        )
        return request(connection, method, path, body, headers)

    def registration(self) -> dict[str, str]:
        return {
            "user_id": self.user_id,
            "username": self.user_id.capitalize(),
            "public_key": self.public_key,
            "x25519_public_key": b64(bytes(self.x25519_key.public_key)),
        }

    def register(self) -> Answer:
        return self.request("POST", "/auth/register", self.registration())

    def challenge(self) -> bytes:
        answer = self.request("POST", "/auth/login", {"user_id": self.user_id})
        assert answer.status == 200, answer
        return base64.b64decode(answer.json["challenge"], validate=True)

    def verify(self, challenge: bytes) -> Answer:
        """Answer a challenge."""
        signature = b64(self.key.sign(challenge).signature)
        body = {"user_id": self.user_id, "signature": signature}
        return self.request("POST", "/auth/login?verify=true", body)

    def login(self) -> str:
        """A token."""
        answer = self.verify(self.challenge())
        assert answer.status == 200, answer
        token: str = answer.json["token"]
        return token

    def open(self, token: str | None = None, **headers: str) -> Socket:
        """A socket; with `headers` in place of `?token=`.  Raises `InvalidStatus`."""
        query = "" if headers else f"?token={self.login() if token is None else token}"
        return Socket(self, wait(self._connect(query, headers)))

    async def _connect(self, query: str, headers: Mapping[str, str]) -> ClientConnection:
        return await connect(
            f"wss://localhost:{self.port}/ws{query}",
            ssl=self.context,
            additional_headers=headers,
            proxy=None,
            max_queue=None,
            open_timeout=PATIENCE,
            close_timeout=PATIENCE,
        )


@functools.cache
def _loop() -> asyncio.AbstractEventLoop:
    """
    The event loop of `websockets`, in a thread of its own.

    The library's blocking client reads and writes in two threads: now and
    then its handshake times out, whatever the server (2 of 600 against the
    library's own), and hardly ever with its asyncio client.
    """
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()
    return loop


_making_loop = threading.Lock()


def wait(work: Coroutine[Any, Any, Result]) -> Result:
    """Block until something of `websockets` is done."""
    with _making_loop:  # several threads may be the first
        loop = _loop()
    return asyncio.run_coroutine_threadsafe(work, loop).result(2 * PATIENCE)


class Socket:
    """A WebSocket of a `Classic` user; it blocks, and ends with its `with`."""

    def __init__(self, user: Classic, connection: ClientConnection) -> None:
        self._connection = connection
        self._user = user

    def __enter__(self) -> Socket:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        wait(self._connection.close())

    def say(self, recipient: str, content: str, **header: Any) -> None:
        """Send a message, signed as WIRE.md says."""
        signature = b64(self._user.key.sign(quoted(content).encode()).signature)
        head = {
            "from": self._user.user_id,
            "to": recipient,
            "timestamp": "2026-11-22T10:00:00.123456789+02:00",
            "signature": signature,
        }
        self.send({"header": {**head, **header}, "body": {"content": content}})

    def send(self, message: Any) -> None:
        self.send_text(json.dumps(message))

    def send_text(self, text: str) -> None:
        wait(self._connection.send(text))

    def hear(self) -> Any:
        """The next message, whatever it is."""
        text = wait(asyncio.wait_for(self._connection.recv(), PATIENCE))
        assert isinstance(text, str), text
        message = json.loads(text)
        assert message.keys() == ROUTED, message
        assert type(message["id"]) is int, message
        return message

    def hear_content(self) -> str:
        content: str = self.hear()["body"]["content"]
        return content

    def ask(self, content: str, signer: Classic | None = None) -> Any:
        """Send a command's content, signed by its sender; the content of the next message."""
        signature = b64((signer or self._user).key.sign(content.encode()).signature)
        self.say("server", content, signature=signature)
        return json.loads(self.hear_content())

    def ping(self) -> list[str]:
        """Wait until the server has dealt with what was said; the contents that came before."""
        content = '{"command": "ping"}'
        self.say("server", content, signature=b64(self._user.key.sign(content.encode()).signature))
        before = []
        while (message := self.hear())["header"]["from"] != "server":
            before.append(message["body"]["content"])
        return before


def signed_by(message: Any, public_key: str) -> bool:
    """Whether a delivered message's signature is of its content, by that key."""
    signature = base64.b64decode(message["header"]["signature"], validate=True)
    text = quoted(message["body"]["content"]).encode()
    try:
        VerifyKey(base64.b64decode(public_key)).verify(text, signature)
    except BadSignatureError:
        return False
    return True
