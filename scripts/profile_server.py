"""
Where a server's time goes: `./just profile`, or `./just profile --seconds 20`.

A server with the profiler on, and users who send each other messages and
broadcast as fast as they are let; then the functions that took longest.  Only
the reactor's thread is measured, not the store's.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import http.client
import json
import pstats
import ssl
import tempfile
from pathlib import Path
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.task import react
from twisted.internet.threads import deferToThread
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from scripts.processes import Server
from wschat.identity import PrivateKey, decode_base64

USERS: Final = 20

#: How many messages of each user may be without a receipt.
_WINDOW: Final = 64


class _User:
    """One who sends whenever there is room, and acknowledges."""

    def __init__(self, number: int, socket: ClientConnection) -> None:
        self.number = number
        self.socket = socket
        self.sent = 0
        self.stored = 0
        self.got = 0

    def _message(self) -> str:
        broadcast = self.sent % 10 == 9
        to = "broadcast" if broadcast else f"user{self.number ^ 1}"
        header = {"to": to, "client_id": f"{self.number}.{self.sent}"}
        header["message_type"] = "broadcast" if broadcast else "direct"
        return json.dumps({"type": "message", "header": header, "body": {"content": "x" * 150}})

    async def talk(self) -> None:
        """For ever."""
        await self.socket.send(json.dumps({"type": "resume"}))
        while True:
            while self.sent - self.stored < _WINDOW:
                await self.socket.send(self._message())
                self.sent += 1
            frame = json.loads(await self.socket.recv())
            if frame["type"] == "stored":
                self.stored += 1
            elif frame["type"] == "message":
                self.got += 1
                if self.got % 16 == 0:
                    await self.socket.send(json.dumps({"type": "ack", "id": frame["id"]}))


def _tokens(server: Server, context: ssl.SSLContext) -> list[str]:
    """Register users, and log them in."""
    connection = http.client.HTTPSConnection("localhost", server.tls_port, context=context)

    def post(path: str, body: dict[str, str]) -> bytes:
        headers = {"content-type": "application/json"}
        connection.request("POST", path, json.dumps(body).encode(), headers)
        return connection.getresponse().read()

    tokens = []
    for number in range(USERS):
        key, user_id = PrivateKey.generate(), f"user{number}"
        post("/auth/register", {"user_id": user_id, "public_key": key.public_key})
        challenge = json.loads(post("/auth/login", {"user_id": user_id}))["challenge"]
        answer = {"user_id": user_id, "signature": key.sign(decode_base64(challenge))}
        tokens.append(json.loads(post("/auth/login?verify=true", answer))["token"])
    connection.close()
    return tokens


async def _talk(server: Server, context: ssl.SSLContext, tokens: list[str], seconds: float) -> int:
    """Let the users talk for so long; how many messages came."""
    async with contextlib.AsyncExitStack() as stack:
        users = []
        for number, token in enumerate(tokens):
            address = f"wss://localhost:{server.tls_port}/ws?token={token}"
            opening = connect(
                address, ssl=context, subprotocols=[Subprotocol("wschat.v1")], compression=None
            )
            users.append(_User(number, await stack.enter_async_context(opening)))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await asyncio.gather(*(user.talk() for user in users))
        for user in users:  # a close would wait for all that is still to be read
            user.socket.transport.abort()
        return sum(user.got for user in users)


def _load(server: Server, seconds: float) -> int:
    context = ssl.create_default_context(cafile=str(server.certificate))
    return asyncio.run(_talk(server, context, _tokens(server, context), seconds))


async def profile(clock: Any, options: argparse.Namespace) -> None:
    """Run it, and print."""
    with tempfile.TemporaryDirectory() as directory:
        profiled = Path(directory) / "profile"
        server = await Server.start(
            clock,
            Path(directory),
            *("--message-rate=1e6", "--message-burst=1e6", "--login-rate=1e6"),
            "--registration-rate=1e6",
            server_reactor=options.reactor,
            program=("twistd", "--profiler=cprofile", f"--profile={profiled}", "--savestats"),
        )
        try:
            came = await deferToThread(_load, server, options.seconds)
        finally:
            await server.process.end("TERM")
        print(f"{came / options.seconds:.0f} messages a second came, under the profiler")
        pstats.Stats(str(profiled)).sort_stats("tottime").print_stats(options.lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="./just profile", description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="how long (default: 5)")
    parser.add_argument("--lines", type=int, default=40, help="how many functions (default: 40)")
    parser.add_argument("--reactor", default="uvloop", help="the server's (default: uvloop)")
    options = parser.parse_args()
    react(lambda clock: Deferred.fromCoroutine(profile(clock, options)), [])


if __name__ == "__main__":
    main()
