"""
What tests share: a whole server in memory, and clients to talk to it.

Nothing here opens a socket, starts a thread or waits: time is a
`task.Clock`, the database is in memory, and a connection is a `Wire`.
The frames and the HTTP of the clients are made and read by hand, so that
the server's own encoding is never tested against itself.
"""

from __future__ import annotations

import dataclasses
import gc
import json
import struct
from collections.abc import Callable, Iterable
from typing import Any, Final, TypeVar

import sqlalchemy as sa
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred, execute
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IAddress, IProtocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from wschat import database, http
from wschat.codes import CloseCode
from wschat.commands import Command
from wschat.history import History
from wschat.identity import PrivateKey, User
from wschat.store import Store
from wschat.stream import Stream
from wschat.testing import NOW, SECRET, Limits, MemoryServer
from wschat.users import Users
from wschat.wire import Message

__all__ = ["NOW", "SECRET", "Limits"]

Result = TypeVar("Result")

ADDRESS: Final = "203.0.113.5"

TEXT, BINARY, CLOSE, PING, PONG = 0x1, 0x2, 0x8, 0x9, 0xA


class Executor:
    """
    A `store.Executor` that runs at once, unless it is `held`.

    `run` does what was held, as a thread would; `report` then tells who
    waits; `release` is both, for what is held at that moment.
    """

    def __init__(self) -> None:
        self.held = False
        self.calls = 0
        self._waiting: list[tuple[Deferred[Any], Callable[[], Any]]] = []
        self._done: list[tuple[Deferred[Any], Deferred[Any]]] = []

    def __call__(self, function: Callable[..., Result], *args: Any) -> Deferred[Result]:
        self.calls += 1
        if not self.held:
            return execute(function, *args)
        deferred: Deferred[Result] = Deferred()
        self._waiting.append((deferred, lambda: function(*args)))
        return deferred

    def __len__(self) -> int:
        """How many calls wait to be run."""
        return len(self._waiting)

    def run(self) -> None:
        """Run what is held, and tell nobody yet."""
        waiting, self._waiting = self._waiting, []
        for deferred, function in waiting:
            self._done.append((deferred, execute(function)))

    def report(self) -> None:
        """Tell the results of what was run."""
        done, self._done = self._done, []
        for deferred, result in done:
            result.chainDeferred(deferred)

    def release(self) -> None:
        """Run what is held, and tell."""
        self.run()
        self.report()

    def fail(self, error: Exception) -> None:
        """Fail what is held, without having run it."""
        waiting, self._waiting = self._waiting, []
        for deferred, _ in waiting:
            deferred.errback(error)


class MemoryStore(Store):
    """A store in memory, with an executor each for writing and reading, and what is kept in it."""

    def __init__(self, engine: sa.Engine | None = None, *, offline_limit: int = 1000) -> None:
        if engine is None:
            engine = database.make_engine("sqlite://")
            database.metadata.create_all(engine)
        self.engine = engine
        self.writer = Executor()
        self.reader = Executor()
        super().__init__(engine, self.writer, self.reader)
        self.stream = Stream(self, offline_limit)
        self.history = History(self)
        self.users = Users(self)


class Taken:
    """The frames that a session was given, each with the id of its message."""

    def __init__(self) -> None:
        self.frames: list[tuple[bytes, int]] = []
        self.through = 0  # how many of them were to be written through

    def write(self, frame: bytes, message_id: int) -> None:
        self.frames.append((frame, message_id))

    def write_through(self, frame: bytes, message_id: int) -> None:
        self.through += 1
        self.write(frame, message_id)


def make_user(user_id: str, key: PrivateKey | None = None, created_at: float = NOW) -> User:
    """A user with a key."""
    key = key or PrivateKey.generate()
    return User(user_id, user_id.title(), key.public_key, key.x25519_public_key, created_at)


def make_message(sender: str, topic: str, content: str) -> Message:
    """A message as the hub hands it to the store."""
    return Message(sender, topic, content, "2026-11-22T10:00:00Z")


def client_frame(
    opcode: int, payload: bytes, *, fin: bool = True, mask: bytes | None = b"\x01\x02\x03\x04"
) -> bytes:
    """A WebSocket frame as a client sends it (RFC 6455 section 5.2)."""
    size = len(payload)
    first, masked = (0x80 if fin else 0) | opcode, 0x80 if mask else 0
    if size < 126:
        head = struct.pack("!BB", first, masked | size)
    elif size < 65536:
        head = struct.pack("!BBH", first, masked | 126, size)
    else:
        head = struct.pack("!BBQ", first, masked | 127, size)
    if mask is None:
        return head + payload
    key = (mask * (size // 4 + 1))[:size]
    return head + mask + bytes(a ^ b for a, b in zip(payload, key, strict=True))


def take_frame(data: bytes) -> tuple[int, bytes, bytes] | None:
    """Opcode and payload of the first of a server's frames, and the rest; None when incomplete."""
    if len(data) < 2:
        return None
    size, start = data[1], 2
    if size == 126:
        size, start = int.from_bytes(data[2:4], "big"), 4
    elif size == 127:
        size, start = int.from_bytes(data[2:10], "big"), 10
    if len(data) < start + size:
        return None
    return data[0] & 0x0F, data[start : start + size], data[start + size :]


def _peer(address: str) -> IAddress:
    """An address as a transport gives it; "" is the peer of a Unix socket."""
    if not address:
        return UNIXAddress(None)
    return (IPv6Address if ":" in address else IPv4Address)("TCP", address, 50000)


class Wire(StringTransport):
    """The server's end of a connection: `feed` is what the peer sends, `writes` what it gets."""

    protocol: IProtocol

    def __init__(self, clock: Clock, address: str) -> None:
        super().__init__(peerAddress=_peer(address), lenient=True)
        self.writes: list[bytes] = []
        self.aborted = False
        self.held = False
        self._stalled = False
        self._clock = clock

    def write(self, data: bytes) -> None:
        if self.connected and not self.disconnecting:
            self.writes.append(data)

    def writeSequence(self, data: Iterable[bytes]) -> None:
        self.write(b"".join(data))

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """One that comes when the peer reads nothing has to wait at once."""
        super().registerProducer(producer, streaming)
        if self._stalled:
            producer.pauseProducing()

    def unregisterProducer(self) -> None:
        """Without a producer it is no error, as for a real transport."""
        self.producer = None

    def loseConnection(self) -> None:
        if not self.held:  # or the peer keeps its end open, and only an abort ends it
            self._end(ConnectionDone())

    def abortConnection(self) -> None:
        self.aborted = True
        self._end(ConnectionAborted())

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Nothing waits here."""

    def feed(self, data: bytes) -> None:
        """The peer sends."""
        if self.connected:
            self.protocol.dataReceived(data)

    def stall(self) -> None:
        """The peer stops reading: the transport has enough."""
        self._stalled = True
        if self.producer is not None:
            self.producer.pauseProducing()

    def flow(self) -> None:
        """The peer reads again."""
        assert self.producer is not None
        self._stalled = False
        self.producer.resumeProducing()

    def lose(self) -> None:
        """The connection breaks."""
        self._lost(ConnectionLost())

    def _end(self, reason: Exception) -> None:
        if not self.disconnecting:
            self.disconnecting = True
            self._clock.callLater(0, self._lost, reason)

    def _lost(self, reason: Exception) -> None:
        if self.connected:
            self.connected = False
            producer, self.producer = self.producer, None
            if producer is not None:
                producer.stopProducing()
            protocol = self.protocol
            del self.protocol
            protocol.connectionLost(Failure(reason))


def left_to_collect() -> set[str]:
    """The kinds of objects of ours, and of TLS's, that only the garbage collector could free."""
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        gc.collect()
        kinds = {f"{type(left).__module__}.{type(left).__name__}" for left in gc.garbage}
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.collect()  # … which has freed nothing until now
    return {kind for kind in kinds if kind.startswith(("wschat.", "aiofastnet.", "autobahn."))}


@dataclasses.dataclass(frozen=True)
class Response:
    """An HTTP answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def text(self) -> str:
        return self.body.decode()


def parse_response(data: bytes) -> Response:
    """An HTTP answer's parts; the body is all that follows the headers."""
    head, _, body = data.partition(b"\r\n\r\n")
    status, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    return Response(int(status.split(" ")[1]), headers, body)


class Client:
    """A WebSocket client at the other end of a `Wire`, made of hand-made frames."""

    def __init__(self, wire: Wire, clock: Clock) -> None:
        self.wire = wire
        #: Payloads of the pings that came, and what the close frame said, once it came.
        self.pings: list[bytes] = []
        self.close_code: int | None = None
        self.close_reason = ""
        self._clock = clock
        self._data = b""
        self._read = 0
        self._texts: list[bytes] = []  # that came, and nobody looked at yet

    def send_raw(self, data: bytes) -> None:
        """Send bytes, and let the reactor turn end."""
        self.wire.feed(data)
        self._clock.advance(0)

    def send(self, opcode: int, payload: bytes) -> None:
        self.send_raw(client_frame(opcode, payload))

    def say(self, to: str, content: str, **header: Any) -> None:
        """Send a message as a classic client does."""
        self.send(TEXT, submission(to, content, **header))

    def send_json(self, frame: dict[str, Any]) -> None:
        """Send a frame of `wschat.v1`."""
        self.send(TEXT, encode(frame))

    def submit(
        self, to: str, content: str, client_id: str, follows: str | None = None, **header: str
    ) -> None:
        """Send a message as a client of `wschat.v1` does, with more in its header."""
        frame = v1_submission(to, content, client_id, follows)
        frame["header"] |= header
        self.send_json(frame)

    def ack(self, message_id: int) -> None:
        """Say that every message up to this one was handled."""
        self.send_json({"type": "ack", "id": message_id})

    def frames(self, *types: str) -> list[dict[str, Any]]:
        """The frames that came since the last time; of some types, when any is given."""
        came = [json.loads(text) for text in self.texts()]
        return [frame for frame in came if not types or frame["type"] in types]

    def messages(self) -> list[dict[str, Any]]:
        """The messages that came since the last time this was asked."""
        return [json.loads(text) for text in self.texts()]

    def contents(self) -> list[str]:
        """The contents of the messages that came since the last time."""
        return [message["body"]["content"] for message in self.messages()]

    def texts(self) -> list[bytes]:
        """The text frames that came since the last time."""
        self._data += b"".join(self.wire.writes[self._read :])
        self._read = len(self.wire.writes)
        texts, self._texts = self._texts, []
        while (frame := take_frame(self._data)) is not None:
            opcode, payload, self._data = frame
            if opcode == TEXT:
                texts.append(payload)
            elif opcode == PING:
                self.pings.append(payload)
            elif opcode == CLOSE:
                self.close_code = int.from_bytes(payload[:2], "big") if payload else 1005
                self.close_reason = payload[2:].decode()
        return texts

    def pong(self) -> None:
        """Answer every ping, as any WebSocket library does; what came is to be read yet."""
        self._texts = self.texts()
        pings, self.pings = self.pings, []
        for payload in pings:
            self.send(PONG, payload)

    def goodbye(self, code: int = 1000) -> None:
        """Close properly."""
        self.send(CLOSE, code.to_bytes(2, "big"))

    def closed_with(self) -> int | None:
        """The code of the server's close frame; None when there was none."""
        self.texts()
        return self.close_code


def submission(to: str, content: str, **header: Any) -> bytes:
    """A message as a classic client writes it; `sender` is its `from`."""
    head = {"to": to, "timestamp": "2026-11-22T10:00:00.5Z", **header}
    if "sender" in head:
        head["from"] = head.pop("sender")
    return json.dumps({"header": head, "body": {"content": content}}).encode()


def v1_submission(
    to: str, content: str, client_id: str, follows: str | None = None
) -> dict[str, Any]:
    """A message as a client of `wschat.v1` writes it."""
    header = {"to": to, "timestamp": "2026-11-22T10:00:00.5Z", "client_id": client_id}
    if follows is not None:
        header["follows"] = follows
    return {"type": "message", "header": header, "body": {"content": content}}


class Server(MemoryServer):
    """A server in memory whose database can be held up, with clients made of hand-made frames."""

    #: Whether peers keep their ends of connections open, whatever the server does.
    peers_hold = False

    def __init__(
        self,
        limits: Limits | None = None,
        engine: sa.Engine | None = None,
        commands: Iterable[Command[..., Any]] = (),
    ) -> None:
        limits = limits or Limits()
        self.keys: dict[str, PrivateKey] = {}
        self.store = MemoryStore(engine, offline_limit=limits.offline_limit)
        super().__init__(limits, self.store, commands)

    def add_user(self, user_id: str) -> PrivateKey:
        """Register a user; their private key."""
        key = self.keys[user_id] = PrivateKey.generate()
        user = make_user(user_id, key, self.wall())
        self.store.users._add(user)
        self.accounts.load([user])
        return key

    def add_users(self, *user_ids: str) -> None:
        for user_id in user_ids:
            self.add_user(user_id)

    def token(self, user_id: str) -> str:
        """A token, got as a client gets it."""
        challenge = self.accounts.challenge(user_id, self.wall())
        signature = self.keys[user_id].sign(challenge)
        return self.accounts.login(user_id, signature, self.wall()).token

    def advance(self, seconds: int) -> None:
        """Let time pass, second by second."""
        self.clock.pump([1.0] * seconds)

    def turn(self) -> None:
        """Let the reactor turn end."""
        self.clock.advance(0)

    def cursor(self, user_id: str) -> int:
        """The place in the stream that is saved for a user."""
        return self.store.stream._start((user_id, None), None).position

    def session_place(self, user_id: str, session: str = "default") -> int:
        """The place that is saved for one of a user's sessions."""
        return self.store.stream._start((user_id, session), None).position

    def after_crash(self, limits: Limits | None = None) -> Server:
        """Another server with the same database, as if this one had been killed."""
        again = Server(limits or self.limits, self.store.engine)
        again.keys = self.keys
        return again

    def open_wire(self, site: http.ChatSite | None = None, address: str = ADDRESS) -> Wire:
        """A fresh connection to a listener: the TLS one unless told."""
        wire = Wire(self.clock, address)
        protocol = (site or self.secure).buildProtocol(wire.getPeer())
        assert protocol is not None
        wire.protocol = protocol
        protocol.makeConnection(wire)
        return wire

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        site: http.ChatSite | None = None,
        address: str = ADDRESS,
        **headers: str,
    ) -> Response:
        """One HTTP request on a connection of its own; `body` is JSON unless it is bytes."""
        wire = self.open_wire(site, address)
        data = body if isinstance(body, bytes) else b"" if body is None else encode(body)
        wire.feed(request_head(method, path, len(data), headers) + data)
        self.turn()
        response = parse_response(b"".join(wire.writes))
        wire.lose()
        return response

    def upgrade(
        self, path: str, *, address: str = ADDRESS, **headers: str
    ) -> tuple[Wire, Response]:
        """Ask for a WebSocket; the connection, and the answer."""
        wire = self.open_wire(address=address)
        wire.held = self.peers_hold
        wire.feed(request_head("GET", path, 0, UPGRADE | headers))
        response = parse_response(b"".join(wire.writes))
        return wire, response

    def connect(self, user_id: str, *, reading: bool = True) -> Client:
        """A WebSocket of a user, whose server side is open; they may not be reading yet."""
        return self._connect(user_id, reading)

    def connect_v1(
        self,
        user_id: str,
        session: str | None = "default",
        after: int | None = None,
        *,
        reading: bool = True,
    ) -> Client:
        """
        A WebSocket with `wschat.v1`.

        It has resumed `session`, unless that is None; `after` is what its
        client says that it has handled.
        """
        client = self._connect(user_id, reading, sec_websocket_protocol="wschat.v1")
        if session is not None:
            resume = {"type": "resume", "session": session}
            client.send_json(resume if after is None else resume | {"after": after})
            client.pong()
        return client

    def _connect(self, user_id: str, reading: bool, **headers: str) -> Client:
        wire, response = self.upgrade(f"/ws?token={self.token(user_id)}", **headers)
        assert response.status == 101, response
        protocol = headers.get("sec_websocket_protocol")
        assert response.headers.get("sec-websocket-protocol") == protocol, response
        client = Client(wire, self.clock)
        client._data, client._read = response.body, len(wire.writes)
        if not reading:
            wire.stall()
        self.turn()
        return client

    def stop(self) -> None:
        """As `wschat.server` stops it, when every peer answers the close."""
        closing = self.factory.connections.close_all(CloseCode.SHUTDOWN)
        for protocol in list(self.factory.connections):
            wire: Wire = protocol.transport
            wire.feed(client_frame(CLOSE, b"\x0f\xa1"))
        self.turn()
        assert closing.called
        self.factory.connections.stop()
        drained = Deferred.fromCoroutine(self.chat.drain())
        assert drained.called
        self.chat.running = False

    def restart(self) -> Server:
        """Stop in good order, and start again with the same database."""
        self.stop()
        return self.after_crash()


UPGRADE: Final = {
    "upgrade": "websocket",
    "connection": "Upgrade",
    "sec-websocket-version": "13",
    "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
}


def encode(body: Any) -> bytes:
    return json.dumps(body).encode()


def request_head(method: str, path: str, length: int, headers: dict[str, str]) -> bytes:
    """An HTTP request up to its body; `_` in a header's name is `-`, and "" leaves it away."""
    given = {"host": "chat.example"} | {k.replace("_", "-"): v for k, v in headers.items()}
    if length:
        given.setdefault("content-length", str(length))
    lines = [f"{method} {path} HTTP/1.1", *(f"{k}: {v}" for k, v in given.items() if v)]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


class ServerTests(SynchronousTestCase):
    """Tests of a server in memory, where nobody is registered yet."""

    limits = Limits()

    def setUp(self) -> None:
        self.server = Server(self.limits)

    def connect(self, *user_ids: str) -> list[Client]:
        """Register those who are not, and connect each."""
        self.server.add_users(*(dict.fromkeys(user_ids).keys() - self.server.keys.keys()))
        return [self.server.connect(user_id) for user_id in user_ids]
