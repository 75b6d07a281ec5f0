"""Somebody in the crowd: an account, a connection that comes back, and what is said and heard."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import random
import ssl
from collections.abc import Awaitable, Callable
from typing import Any, Final

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from scripts.soak.ledger import BROADCAST, Ledger
from wschat import v1, wire
from wschat.identity import PrivateKey, decode_base64, sign_content

#: How long acknowledgements are collected, in seconds.
_ACK_AFTER: Final = 2.0

#: The longest time before a connection is tried again, in seconds.
_LATER: Final = 5.0

_TIME: Final = "2026-01-01T00:00:00Z"


class Place:
    """A server: where it is, and how to know it."""

    def __init__(self, port: int, certificate: str) -> None:
        self.port = port
        self.context = ssl.create_default_context(cafile=certificate)

    def post(self, path: str, body: object) -> bytes:
        """Ask something over HTTP, and what the answer is; a thread's work.  Raises `OSError`."""
        asking = http.client.HTTPSConnection(
            "localhost", self.port, timeout=30, context=self.context
        )
        try:
            asking.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
            answer = asking.getresponse()
            told = answer.read()
            if answer.status not in (200, 201):
                raise OSError(f"{path}: {answer.status} {told.decode(errors='replace')[:100]}")
            return told
        except http.client.HTTPException as error:
            raise OSError(f"{path}: {error!r}") from error
        finally:
            asking.close()

    def connect(self, token: str | None, **options: Any) -> connect:
        """A WebSocket connection, to be entered."""
        return connect(
            f"wss://localhost:{self.port}/ws",
            ssl=self.context,
            additional_headers={"Authorization": f"Bearer {token}"},
            compression=None,
            ping_interval=None,
            proxy=None,
            open_timeout=60,
            close_timeout=2,
            **options,
        )


class Account:
    """A user with a key and a token."""

    def __init__(self, place: Place, name: str) -> None:
        self.place = place
        self.name = name
        self.key = PrivateKey.generate()
        self.token: str | None = None

    def make(self) -> None:
        """Register and log in; a thread's work.  Raises `OSError`."""
        self.place.post(
            "/auth/register",
            {"user_id": self.name, "username": self.name, "public_key": self.key.public_key},
        )
        told = json.loads(self.place.post("/auth/login", {"user_id": self.name}))
        signature = self.key.sign(decode_base64(told["challenge"]))
        answer = {"user_id": self.name, "signature": signature}
        self.token = json.loads(self.place.post("/auth/login?verify=true", answer))["token"]

    def command(self, name: str, params: object, request_id: str) -> str:
        """A signed command's frame."""
        content = wire.encode_command(name, request_id, params)
        message = wire.Message(
            self.name, wire.SERVER, content, _TIME, self.key.sign(content.encode())
        )
        return v1.encode(v1.submission(message)).decode()


class Person:
    """A user who talks, listens, and comes back."""

    def __init__(self, account: Account, ledger: Ledger, ending: asyncio.Event) -> None:
        self.name = account.name
        self.socket: ClientConnection | None = None
        self.connected = 0
        #: What the server refused for good, or sent and had no business sending.
        self.faults: list[str] = []
        #: What has no receipt yet: to whom, and the frame, by client id.
        self.unsettled: dict[str, tuple[str, str]] = {}
        #: While it is set, nothing is read.
        self.dawdling = False
        self._account = account
        self._ledger = ledger
        self._ending = ending
        self._cursor = self._acknowledged = 0
        self._said = 0
        self._acknowledging: asyncio.TimerHandle | None = None
        self._works: set[asyncio.Task[None]] = set()

    async def live(self, until: Callable[[], Awaitable[object]]) -> None:
        """Be connected again and again; each time until `until` comes back, or for good at last."""
        while True:
            with contextlib.suppress(OSError, WebSocketException, TimeoutError):
                async with self._account.place.connect(
                    self._account.token, subprotocols=[v1.SUBPROTOCOL], max_queue=16
                ) as socket:
                    await self._be_connected(socket, until)
            self.socket = None
            await asyncio.sleep(random.uniform(0, 0.5 if self._ending.is_set() else _LATER))

    async def _be_connected(
        self, socket: ClientConnection, until: Callable[[], Awaitable[object]]
    ) -> None:
        await socket.send(v1.encode(v1.Resume("soak", self._cursor)).decode())
        self.socket = socket
        self.connected += 1
        loop = asyncio.get_running_loop()
        for number, client_id in enumerate(self.unsettled):  # within the rate limit
            loop.call_later(0.2 * number, self._say_again, client_id)
        reading = asyncio.ensure_future(self._read(socket))
        leaving = asyncio.ensure_future(until())
        try:
            await asyncio.wait((reading, leaving), return_when=asyncio.FIRST_COMPLETED)
            if leaving.done() and random.random() < 0.5:
                socket.transport.abort()
        finally:
            for work in (reading, leaving):
                work.cancel()
            await asyncio.gather(reading, leaving, return_exceptions=True)

    async def _read(self, socket: ClientConnection) -> None:
        async for frame in socket:
            assert isinstance(frame, str)  # noqa: S101  # all of the server's frames are text
            event = v1.decode_event(frame.encode())
            if isinstance(event, v1.Delivery):
                self._hear(event)
            elif isinstance(event, v1.Stored):
                settled = self.unsettled.pop(event.client_id, None)
                if settled is not None:
                    self._ledger.was_stored(event.client_id, self.name, settled[0], event.id)
            elif isinstance(event, v1.Error):
                self._refused(event)
            while self.dawdling and not self._ending.is_set():
                await asyncio.sleep(0.5)

    def _hear(self, message: v1.Delivery) -> None:
        if not message.id:
            return  # an answer to a command
        if message.id <= self._cursor:
            self._ledger.repeated += 1
            return
        self._cursor = message.id
        client_id = message.header.client_id or ""
        broadcast = message.header.to == BROADCAST
        self._ledger.was_heard(self.name, client_id, message.id, broadcast=broadcast)
        if self._acknowledging is None:
            loop = asyncio.get_running_loop()
            self._acknowledging = loop.call_later(_ACK_AFTER, self._acknowledge)

    def _acknowledge(self) -> None:
        self._acknowledging = None
        if self.socket is not None and self._cursor > self._acknowledged:
            self._acknowledged = self._cursor
            self._send(v1.encode(v1.Ack(self._cursor)).decode())

    def _refused(self, error: v1.Error) -> None:
        if error.client_id is None or error.client_id not in self.unsettled:
            return
        if not error.again:
            self.faults.append(f"{self.name}: {error.code} {error.reason}")
            return
        wait = (error.retry_after_ms or 0) / 1000 + random.random()
        asyncio.get_running_loop().call_later(wait, self._say_again, error.client_id)

    def _say_again(self, client_id: str) -> None:
        if client_id in self.unsettled:
            self._send(self.unsettled[client_id][1])

    def say(self, to: str, text: str) -> None:
        """Say something to a user, or to `BROADCAST`; it is said again until it has a receipt."""
        self._said += 1
        client_id = f"{self.name}-{self._said}"
        signature = sign_content(self._account.key, text)
        message = wire.Message(self.name, to, text, _TIME, signature, client_id=client_id)
        frame = v1.encode(v1.submission(message)).decode()
        self.unsettled[client_id] = to, frame
        self._send(frame)

    def demand(self, size: int) -> None:
        """Have the server send this person so many bytes."""
        self._send(self._account.command("echo", "x" * size, "more"))

    def _send(self, frame: str) -> None:
        if self.socket is not None:
            work = asyncio.ensure_future(self._send_to(self.socket, frame))
            self._works.add(work)
            work.add_done_callback(self._works.discard)

    @staticmethod
    async def _send_to(socket: ClientConnection, frame: str) -> None:
        with contextlib.suppress(OSError, WebSocketException):  # it is said again later
            await socket.send(frame)
