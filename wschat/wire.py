"""
Messages and frames, as they are on the wire (docs/protocol.md, "Frames").

Everything here is pure: bytes in, structs out, and back.  Parse failures of
every sort end as one exception, `Malformed`, whose text is fit for a peer.
"""

from __future__ import annotations

import datetime
import enum
import re
import struct
from typing import Any, Final, TypeVar

import msgspec

BROADCAST: Final = "broadcast"
SERVER: Final = "server"
SYSTEM: Final = "system"

#: Names that no user can have, because they mean something in a frame.
RESERVED_NAMES: Final = frozenset({BROADCAST, SERVER, SYSTEM})

#: The sender reads exactly this when they are over their rate (docs/protocol.md, "Rate limit").
RATE_LIMITED: Final = "Rate limit exceeded. Please slow down."

_USER_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_TIMESTAMP = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.\d{1,9})?(?:Z|[+-](\d\d):(\d\d))",
    re.ASCII,
)

Decoded = TypeVar("Decoded")


class Malformed(ValueError):
    """What a peer sent is not what the protocol says; the text says how, to the peer."""


class Kind(enum.StrEnum):
    """A message's kind: the `message_type` of its header."""

    DIRECT = "direct"
    BROADCAST = "broadcast"
    SERVER = "server"


class Status(enum.StrEnum):
    """What the server says of a message; clients never set it."""

    PENDING = "pending"
    DELIVERED = "delivered"
    VERIFIED = "verified"
    ERROR = "error"


class CloseCode(enum.IntEnum):
    """
    Why the server closed a WebSocket (docs/protocol.md, "Close codes").

    From 4000 to 4499 a client may connect again; from 4500 it should not
    without its user changing something.
    """

    UNSUPPORTED_DATA = 1003
    SHUTDOWN = 4001
    INTERNAL = 4004
    SLOW = 4008
    NO_PONG = 4012

    @property
    def reason(self) -> str:
        """One line for the peer, short enough for a close frame (RFC 6455 section 5.5)."""
        return _CLOSE_REASONS[self]


_CLOSE_REASONS: Final = {
    CloseCode.UNSUPPORTED_DATA: "text frames only",
    CloseCode.SHUTDOWN: "the server is shutting down; connect again",
    CloseCode.INTERNAL: "the server had a fault; connect again",
    CloseCode.SLOW: "reading too slowly; connect again for the rest",
    CloseCode.NO_PONG: "silent for too long; connect again",
}


class Message(msgspec.Struct):
    """
    A message on its way: what the hub routes and the store keeps.

    `topic` is where it goes: a user id for that user's inbox, or `BROADCAST`,
    or `SERVER` for a command.  `id` is 0 until the message is stored, and
    stays 0 for what is never stored (errors and answers to commands).
    `timestamp` is the sender's own text, relayed as it came.
    """

    sender: str
    topic: str
    content: str
    timestamp: str
    signature: str | None = None
    encrypted_key: str | None = None
    encryption_nonce: str | None = None
    status: Status = Status.DELIVERED
    id: int = 0

    @property
    def kind(self) -> Kind:
        if self.topic == BROADCAST:
            return Kind.BROADCAST
        return Kind.SERVER if self.topic == SERVER else Kind.DIRECT

    @property
    def encrypted(self) -> bool:
        """Whether the content is sealed; the presence of `encrypted_key` says so."""
        return bool(self.encrypted_key)


class _Header(msgspec.Struct, rename={"sender": "from"}, omit_defaults=True):
    sender: str | None = None
    to: str | None = None
    message_type: str | None = None
    is_broadcast: bool | None = None
    timestamp: str | None = None
    signature: str | None = None
    encrypted_key: str | None = None
    encryption_nonce: str | None = None


class _Body(msgspec.Struct):
    content: str


class _Submission(msgspec.Struct):
    """Client to server."""

    header: _Header
    body: _Body


class _Delivery(msgspec.Struct):
    """Server to client."""

    header: _Header
    body: _Body
    id: int = 0
    status: str | None = None


class Command(msgspec.Struct):
    """The content of a message to the server (docs/protocol.md, "Server commands")."""

    command: str
    params: msgspec.Raw = msgspec.Raw(b"null")
    request_id: str | int | None = None


class CommandAnswer(msgspec.Struct):
    """The content of the server's answer to a command: a result, or an error that says why not."""

    success: bool
    request_id: str | int | None = None
    result: Any = None
    error: str | None = None


_encoder = msgspec.json.Encoder()
_submissions = msgspec.json.Decoder(_Submission)
_deliveries = msgspec.json.Decoder(_Delivery)
_commands = msgspec.json.Decoder(Command)
_answers = msgspec.json.Decoder(CommandAnswer)


def decode(decoder: msgspec.json.Decoder[Decoded], data: bytes | str) -> Decoded:
    """Decode JSON that a peer wrote.  Raises `Malformed`, whatever is wrong with it."""
    try:
        return decoder.decode(data)
    except msgspec.ValidationError as error:
        raise Malformed(f"Unexpected JSON: {error}.") from None
    except RecursionError:
        raise Malformed("Unreadable JSON: nested too deeply.") from None
    except ValueError:  # includes msgspec.DecodeError and bytes that are not UTF-8
        raise Malformed("Unreadable JSON.") from None


def valid_user_id(name: str) -> bool:
    """
    Whether `name` can be a user's id: 1 to 64 of `A-Za-z0-9._-`, and not reserved.

    Nor is it like a reserved name, nor `.` or `..`, which no URL can hold.
    """
    fits = _USER_ID.fullmatch(name) is not None and name.strip(".") != ""
    return fits and name.lower() not in RESERVED_NAMES


def valid_timestamp(text: str) -> bool:
    """
    Whether `text` is an RFC 3339 time that every client can read.

    Receivers parse the sender's text, so one that is wrong in any field
    would cost them the message.
    """
    match = _TIMESTAMP.fullmatch(text)
    if match is None:
        return False
    numbers = [int(group or 0) for group in match.groups()]
    year, month, day, hour, minute, second, offset_hour, offset_minute = numbers
    try:
        datetime.datetime(year, month, day, hour, minute, second)
    except ValueError:
        return False
    return offset_hour < 24 and offset_minute < 60


def format_time(seconds: float) -> str:
    """Seconds since the epoch as RFC 3339 in UTC, to the microsecond."""
    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def _topic(header: _Header) -> str:
    """Where a submission goes; its `message_type` may be absent or in the older spelling."""
    to = header.to or ""
    named = header.message_type or (Kind.BROADCAST if header.is_broadcast else Kind.DIRECT)
    if named not in set(Kind):
        raise Malformed("Unknown message_type: direct, broadcast and server are known.")
    shared = BROADCAST if header.is_broadcast or named == Kind.BROADCAST else ""
    special = SERVER if named == Kind.SERVER else shared
    if special and to not in ("", special):
        raise Malformed(f"Contradiction: a {special} message cannot be addressed to another.")
    if special or to in (BROADCAST, SERVER):
        return special or to
    if not valid_user_id(to):
        raise Malformed("The recipient in 'to' is not a user id.")
    return to


def decode_submission(payload: bytes, sender: str, now: float) -> Message:
    """
    Read what a client sent (docs/protocol.md, "Messages").

    `sender` is the authenticated user: the frame's own `from`, `id` and
    `status` do not count.  A missing timestamp becomes `now`, in
    seconds since the epoch.  Raises `Malformed`.
    """
    submission = decode(_submissions, payload)
    header = submission.header
    topic = _topic(header)
    timestamp = header.timestamp or format_time(now)
    if header.timestamp and not valid_timestamp(timestamp):
        raise Malformed("The timestamp is not RFC 3339.")
    if header.encrypted_key and topic in RESERVED_NAMES:
        raise Malformed("Only direct messages can be encrypted.")
    return Message(
        sender,
        topic,
        submission.body.content,
        timestamp,
        header.signature or None,
        header.encrypted_key or None,
        header.encryption_nonce or None,
    )


def _header(message: Message) -> _Header:
    kind = message.kind
    return _Header(
        message.sender,
        message.topic,
        kind.value,
        True if kind is Kind.BROADCAST else None,
        message.timestamp,
        message.signature,
        message.encrypted_key,
        message.encryption_nonce,
    )


def encode_delivery(message: Message) -> bytes:
    """A message as the server sends it to a client: JSON, UTF-8."""
    return _encoder.encode(
        _Delivery(_header(message), _Body(message.content), message.id, message.status.value)
    )


def encode_submission(message: Message) -> bytes:
    """A message as a client sends it: JSON, UTF-8, without `id` and `status`."""
    return _encoder.encode(_Submission(_header(message), _Body(message.content)))


def decode_delivery(payload: bytes) -> Message:
    """
    Read what a server sent, ours or a classic one.  Raises `Malformed`.

    A client shows what it can: a missing or unknown status counts as delivered.
    """
    delivery = decode(_deliveries, payload)
    header = delivery.header
    broadcast = header.message_type == Kind.BROADCAST or bool(header.is_broadcast)
    status = delivery.status or ""
    return Message(
        header.sender or "",
        BROADCAST if broadcast else header.to or "",
        delivery.body.content,
        header.timestamp or "",
        header.signature or None,
        header.encrypted_key or None,
        header.encryption_nonce or None,
        Status(status) if status in set(Status) else Status.DELIVERED,
        delivery.id,
    )


def error_message(to: str, text: str, now: float) -> Message:
    """What the server tells one client when it cannot do what the client asked."""
    return Message(SYSTEM, to, text, format_time(now), status=Status.ERROR)


def decode_command(content: str) -> Command:
    """Read the content of a message to the server.  Raises `Malformed`."""
    return decode(_commands, content)


def encode_command(command: str, request_id: str, params: object = None) -> str:
    """The content of a message to the server; this text is what its sender signs."""
    content = {"command": command, "params": params, "request_id": request_id}
    return _encoder.encode(content).decode()


def decode_answer(content: str) -> CommandAnswer:
    """Read the content of the server's answer to a command.  Raises `Malformed`."""
    return decode(_answers, content)


def encode_answer(answer: CommandAnswer) -> str:
    """The content of the server's answer to a command."""
    content: dict[str, Any] = {"success": answer.success}
    if answer.request_id is not None:
        content["request_id"] = answer.request_id
    if answer.success:
        content["result"] = answer.result
    else:
        content["error"] = answer.error
    return _encoder.encode(content).decode()


def text_frame(payload: bytes) -> bytes:
    """`payload` as one unmasked WebSocket text frame (RFC 6455 section 5.2)."""
    size = len(payload)
    if size < 126:
        return b"\x81%c%b" % (size, payload)
    if size < 65536:
        return struct.pack("!BBH", 0x81, 126, size) + payload
    return struct.pack("!BBQ", 0x81, 127, size) + payload
