"""
A server that lies: it speaks `wschat.v1` on TLS, and relays what a test makes of it.

It checks nothing, so everybody is who they say; its users are real clients.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any, ClassVar, cast

from tests.client.support import ClientTests, Conversation, Script
from wschat import v1
from wschat.identity import PrivateKey

#: A frame, as JSON has it.
Frame = dict[str, Any]


class Victim(Conversation):
    """The server's end of a WebSocket; who is at the other says their token."""

    user_id = ""

    def onConnect(self, request: Any) -> Any:
        self.user_id = request.params["token"][0]
        return v1.SUBPROTOCOL

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        self.factory.script.said(self, json.loads(payload))

    def tell(self, kind: str, **given: Any) -> None:
        self.sendMessage(json.dumps({"type": kind, **given}).encode())


class Liar(Script):
    """A server that keeps what was said, and passes on what `twist` makes of it."""

    end = Victim
    protocols: ClassVar[tuple[str, ...]] = (v1.SUBPROTOCOL,)

    def __init__(self, test: ClientTests) -> None:
        super().__init__(test)
        #: Everybody's registration, and what others are told instead.
        self.users: dict[str, Frame] = {}
        self.lies: dict[str, Frame] = {}
        #: What was said, as an honest server would deliver it; what a history is answered.
        self.kept: list[Frame] = []
        self.past: list[Frame] = []
        #: What is delivered in place of what was said: nothing, or anything.
        self.twist: Callable[[Frame], list[Frame]] = lambda frame: [frame]
        self._last_id = 0
        self._sessions: list[Victim] = []

    # HTTP.

    def answer(self, method: str, path: str) -> tuple[int, Any]:
        plain, _, query = path.partition("?")
        body = self.requests[-1][2]
        name = plain.rpartition("/")[2]
        if plain in self.answers:
            return self.answers[plain]
        if plain == "/auth/register":
            self.users[body["user_id"]] = body
            return 201, b"Registered."
        if plain == "/auth/login":
            challenge = {"challenge": "A" * 43 + "="}
            return 200, {"token": body["user_id"], "expires_at": ""} if query else challenge
        if plain.startswith("/auth/check-userid/"):
            return 200, {"exists": name in self.users}
        user = {**self.users.get(name, {}), **self.lies.get(name, {})}
        return (200, user) if user else (404, b"Not found.")

    def swap(self, user_id: str, key: PrivateKey, **given: Any) -> None:
        """Hand out another's keys as a user's."""
        lie = {"public_key": key.public_key, "x25519_public_key": key.x25519_public_key}
        self.lies[user_id] = {**lie, **given}

    # The WebSocket.

    def said(self, end: Victim, frame: Frame) -> None:
        """A frame came from a client."""
        if frame.get("type") == "resume":
            place = {"session": frame["session"], "position": self._last_id, "complete": True}
            end.tell("resumed", **place, rate=1000.0, burst=1000.0)
            self._sessions.append(end)
        elif frame.get("type") == "history":
            page = {"with": frame["with"], "messages": self.past, "more": False, "next": 0}
            end.tell("history", **page, request_id=frame["request_id"])
        elif frame.get("type") == "message":
            self._keep(end, frame)
        self._tell()

    def sessions(self, user_id: str) -> int:
        """How often a user has been there."""
        return sum(1 for end in self._sessions if end.user_id == user_id)

    def cut_off(self, user_id: str) -> None:
        """End a user's connections without a goodbye."""
        for end in cast(list[Any], self._sessions):
            if end.user_id == user_id:
                end.transport.abortConnection()

    def _keep(self, end: Victim, frame: Frame) -> None:
        header = {**frame["header"], "from": end.user_id}
        header.pop("follows", None)
        message = {"header": header, "body": frame["body"], "status": "delivered"}
        self.kept.append(message)
        end.tell("stored", client_id=header["client_id"], id=self._last_id + 1)
        for twisted in self.twist(copy.deepcopy(message)):
            self.deliver(twisted)

    def deliver(self, message: Frame, to: str = "") -> None:
        """Have somebody hear a message under a new id: whom it names, unless given."""
        self._last_id += 1
        to = to or message["header"]["to"]
        for end in self._sessions:
            there = end.state == end.STATE_OPEN
            if there and to in (end.user_id, "broadcast"):
                end.tell("message", **message, id=self._last_id)

    def numbered(self, *messages: Frame) -> list[Frame]:
        """Messages as a page of history has them."""
        return [
            {"type": "message", **message, "id": number + 1}
            for number, message in enumerate(messages)
        ]
