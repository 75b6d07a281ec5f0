"""What programs type and read: a JSON object a line (docs/clients.md, "For scripts")."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec

from wschat import v1, wire
from wschat.client import console
from wschat.client.console import Meaning, NotUnderstood, Slash
from wschat.client.listener import Heard, State
from wschat.client.narrator import Narrator, recipient
from wschat.client.settings import Settings
from wschat.client.slash import Reply

RequestId = str | int | None


class Direct(console.Direct, frozen=True):
    """Say something to one user."""

    client_id: str = ""
    request_id: RequestId = None


class Broadcast(console.Broadcast, frozen=True):
    """Say something to everybody."""

    client_id: str = ""
    request_id: RequestId = None


class Command(console.Slash, frozen=True):
    """A command to the program itself."""

    request_id: RequestId = None


class NotALine(NotUnderstood):
    """A line that means nothing; with its request id, as far as that can be read."""

    def __init__(self, text: str, request_id: RequestId = None) -> None:
        super().__init__(text)
        self.request_id = request_id


class _Line(msgspec.Struct, forbid_unknown_fields=True):
    to: str | None = None
    text: str | None = None
    client_id: str = ""
    command: str | None = None
    arguments: str = ""
    request_id: RequestId = None


class _Numbered(msgspec.Struct):
    request_id: RequestId = None


_lines = msgspec.json.Decoder(_Line)
_numbered = msgspec.json.Decoder(_Numbered)


def parse(line: str) -> Meaning | None:
    """What a line means; None for an empty one.  Raises `NotALine`."""
    if not line.strip():
        return None
    try:
        read = wire.decode(_lines, line.encode())
    except wire.Malformed as error:
        raise NotALine(str(error), _request_id(line)) from None
    if read.command is not None and read.to is None and read.text is None and not read.client_id:
        return Command(read.command, read.arguments.strip(), read.request_id)
    if read.to is None or read.text is None or read.command is not None or read.arguments:
        hint = 'A line is {"to": …, "text": …} or {"command": …, "arguments": …}'
        raise NotALine(hint, read.request_id)
    if read.client_id and not v1.valid_client_id(read.client_id):
        raise NotALine("A client_id is 1 to 64 characters of A-Z a-z 0-9 . _ : -", read.request_id)
    if read.to == wire.BROADCAST:
        return Broadcast(read.text, read.client_id, read.request_id)
    if not wire.valid_user_id(read.to):
        raise NotALine("'to' is a user id or broadcast.", read.request_id)
    return Direct(read.to, read.text, read.client_id, read.request_id)


def _request_id(line: str) -> RequestId:
    try:
        return wire.decode(_numbered, line.encode()).request_id
    except wire.Malformed:
        return None


def message(heard: Heard) -> dict[str, Any]:
    """A message as an object."""
    return {
        "id": heard.message.id,
        "client_id": heard.message.client_id,
        "from": heard.message.sender,
        "to": heard.message.topic,
        "time": heard.message.timestamp,
        "text": heard.text,
        "verified": heard.verified,
        "authenticity": heard.authenticity.value,
        "encrypted": heard.message.encrypted,
    }


def written(data: dict[str, Any]) -> str:
    """An object as a line: ASCII alone, and nothing in it that would control a terminal."""
    return json.dumps(data).replace("\x7f", "\\u007f")


class JsonNarrator(Narrator):
    """
    Writes objects, each with its `type`, and nothing else.

    `write` takes a line for standard output.
    """

    def __init__(self, settings: Settings, write: Callable[[str], None]) -> None:
        super().__init__(settings, write)

    def _tell(self, kind: str, **data: Any) -> None:
        self._write(written({"type": kind, **data}))

    def heard(self, heard: Heard) -> None:
        self._tell("message", **message(heard))

    def refused(self, text: str, client_id: str | None) -> None:
        self._tell("refused", client_id=client_id, reason=text)

    def delayed(self, text: str, client_id: str) -> None:
        self._tell("delayed", client_id=client_id, reason=text)

    def stored(self, client_id: str, message_id: int) -> None:
        self._tell("stored", client_id=client_id, id=message_id)

    def delivered(self, client_id: str, message_id: int) -> None:
        self._tell("delivered", client_id=client_id, id=message_id)

    def incomplete(self) -> None:
        self._tell("incomplete")

    def key_changed(self, user_id: str, old: str, new: str) -> None:
        self._tell("key_changed", user_id=user_id, old=old, new=new)

    def key_rotated(self, user_id: str, old: str, new: str) -> None:
        self._tell("key_rotated", user_id=user_id, old=old, new=new)

    def changed(self, state: State, error: Exception | None) -> None:
        self._tell("state", state=state.value, reason=None if error is None else str(error))
        if state is State.CONNECTED:
            self.has_been_connected = True

    def parse(self, line: str) -> Meaning | None:
        return parse(line)

    def client_id(self, meaning: Meaning) -> str:
        return meaning.client_id if isinstance(meaning, Direct | Broadcast) else ""

    def accepted(self, client_id: str, meaning: console.Direct | console.Broadcast) -> None:
        to = recipient(meaning)
        self._tell("sending", request_id=_asked(meaning), client_id=client_id, to=to)

    def answered(self, slash: Slash, reply: Reply) -> None:
        data = dict(reply.data)
        if reply.heard is not None:
            data["messages"] = [message(heard) for heard in reply.heard]
        self._tell("answer", request_id=_asked(slash), command=slash.name, result=data)

    def failed(self, meaning: Meaning, text: str) -> None:
        self._tell("error", request_id=_asked(meaning), reason=text)

    def misread(self, error: NotUnderstood) -> None:
        request_id = error.request_id if isinstance(error, NotALine) else None
        self._tell("error", request_id=request_id, reason=str(error))

    def noted(self, text: str) -> None:
        self._tell("note", text=text)


def _asked(meaning: Meaning) -> RequestId:
    return meaning.request_id if isinstance(meaning, Direct | Broadcast | Command) else None
