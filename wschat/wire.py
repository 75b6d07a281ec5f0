"""
Messages, and the classic frames that carry them (docs/protocol.md, "Messages").

Everything here is pure: bytes in, structs out, and back.  Parse failures of
every sort end as one exception, `Malformed`, whose text is fit for a peer.
The frames of the `wschat.v1` subprotocol are in `wschat.v1`.
"""

from __future__ import annotations

import datetime
import enum
import functools
import re
import struct
from typing import Any, Final, Protocol, TypeVar

import msgspec

from wschat.codes import ErrorCode, Refused

BROADCAST: Final = "broadcast"
SERVER: Final = "server"
SYSTEM: Final = "system"

#: Topics that are no user's inbox.
SHARED: Final = frozenset({BROADCAST, SERVER})

#: Names that no user can have, because they mean something in a frame.
RESERVED_NAMES: Final = frozenset({BROADCAST, SERVER, SYSTEM})

#: The longest signature, wrapped key and nonce, in characters: well above what base64 of them has.
MAX_SIGNATURE: Final = 256
MAX_WRAPPED_KEY: Final = 512
MAX_NONCE: Final = 64

_LONGEST_USER_ID: Final = 64
_USER_ID = re.compile(r"[A-Za-z0-9._-]+")
_TIMESTAMP = re.compile(
    r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.\d{1,9})?(?:Z|[+-](\d\d):(\d\d))",
    re.ASCII,
)

Decoded = TypeVar("Decoded")


class Malformed(Refused):
    """What a peer sent is not what the protocol says; the text says how, to the peer."""

    def __init__(self, text: str) -> None:
        super().__init__(ErrorCode.MALFORMED, text)


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


class Message(msgspec.Struct):
    """
    A message on its way: what the hub routes and the store keeps.

    `topic` is where it goes: a user id for that user's inbox, or `BROADCAST`,
    or `SERVER` for a command.  `id` is 0 until the message is stored, and
    stays 0 for what is never stored (errors and answers to commands).
    `timestamp` is the sender's own text, relayed as it came.  `client_id` is
    the sender's own name for the message, and `follows` that of the one they
    sent before it, which has to be stored first.  `envelope_signature` covers
    all of it (wschat.envelope), and `sender_key` lets the sender open what
    they sealed.  These four are of `wschat.v1`.
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
    client_id: str | None = None
    follows: str | None = None
    envelope_signature: str | None = None
    sender_key: str | None = None

    @property
    def kind(self) -> Kind:
        if self.topic == BROADCAST:
            return Kind.BROADCAST
        return Kind.SERVER if self.topic == SERVER else Kind.DIRECT

    @property
    def encrypted(self) -> bool:
        """Whether the content is sealed; the presence of `encrypted_key` says so."""
        return bool(self.encrypted_key)


class Header(msgspec.Struct, rename={"sender": "from"}, omit_defaults=True):
    """A frame's `header`, as it was written: `message` says what it means."""

    sender: str | None = None
    to: str | None = None
    message_type: str | None = None
    is_broadcast: bool | None = None
    timestamp: str | None = None
    signature: str | None = None
    encrypted_key: str | None = None
    encryption_nonce: str | None = None


#: The fields of a `Header` that is written, in order.
HeaderFields = tuple[str, str, str, bool | None, str, str | None, str | None, str | None]


class Body(msgspec.Struct):
    """A frame's `body`."""

    content: str


class _Submission(msgspec.Struct):
    """Client to server."""

    header: Header
    body: Body


class _Delivery(msgspec.Struct):
    """Server to client."""

    header: Header
    body: Body
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


_MEDIUM: Final = struct.Struct("!BBH").pack

#: Of what is said about JSON that is not as it should be, in characters.
_LONGEST_FAULT: Final = 200

#: The kinds as they are written; a look into this costs less than into the enumeration.
_KINDS: Final = frozenset(kind.value for kind in Kind)

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
        # It may have the peer's own words in it: they are to be one line, and not long.
        text = "".join(c if c.isprintable() else "?" for c in str(error)[:_LONGEST_FAULT])
        raise Malformed(f"Unexpected JSON: {text}.") from None
    except RecursionError:
        raise Malformed("Unreadable JSON: nested too deeply.") from None
    except ValueError:  # includes msgspec.DecodeError and bytes that are not UTF-8
        raise Malformed("Unreadable JSON.") from None


def valid_user_id(name: str) -> bool:
    """
    Whether `name` can be a user's id: 1 to 64 of `A-Za-z0-9._-`, and not reserved.

    Nor is it like a reserved name, nor `.` or `..`, which no URL can hold.
    """
    return len(name) <= _LONGEST_USER_ID and _is_user_id(name)


@functools.lru_cache(maxsize=4096)  # the same names come again and again
def _is_user_id(name: str) -> bool:
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
    moment, hours, minutes = match.groups()
    return _is_moment(moment) and (hours is None or (int(hours) < 24 and int(minutes) < 60))


@functools.lru_cache(maxsize=64)  # most that is said at a time has the same second
def _is_moment(text: str) -> bool:
    try:
        datetime.datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


def format_time(seconds: float) -> str:
    """Seconds since the epoch as RFC 3339 in UTC, to the microsecond."""
    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def _topic(header: Header) -> str:
    """Where a submission goes; its `message_type` may be absent or in the older spelling."""
    to = header.to or ""
    named = header.message_type or (Kind.BROADCAST if header.is_broadcast else Kind.DIRECT)
    if named not in _KINDS:
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


def check_length(value: str | None, longest: int) -> None:
    """Raise `Malformed` when a field of a header is longer than anything that it can mean."""
    if value is not None and len(value) > longest:
        raise Malformed(f"A signature, key or nonce is longer than {longest} characters.")


def submitted(header: Header, body: Body, sender: str, now: float) -> Message:
    """
    The message that a client's frame means (docs/protocol.md, "Messages").

    `sender` is the authenticated user: the frame's own `from` does not count.
    A missing timestamp becomes `now`, in seconds since the epoch.  Raises
    `Malformed`.
    """
    topic = _topic(header)
    timestamp = header.timestamp or format_time(now)
    if header.timestamp and not valid_timestamp(timestamp):
        raise Malformed("The timestamp is not RFC 3339.")
    if header.encrypted_key and topic in RESERVED_NAMES:
        raise Malformed("Only direct messages can be encrypted.")
    check_length(header.signature, MAX_SIGNATURE)
    check_length(header.encrypted_key, MAX_WRAPPED_KEY)
    check_length(header.encryption_nonce, MAX_NONCE)
    return Message(
        sender,
        topic,
        body.content,
        timestamp,
        header.signature or None,
        header.encrypted_key or None,
        header.encryption_nonce or None,
    )


def decode_submission(payload: bytes, sender: str, now: float) -> Message:
    """
    Read what a classic client sent; `sender` and `now` as for `submitted`.

    The frame's own `id` and `status` do not count.  Raises `Malformed`.
    """
    submission = decode(_submissions, payload)
    return submitted(submission.header, submission.body, sender, now)


def header_fields(message: Message) -> HeaderFields:
    """A message's header as it is written, to clients and to servers."""
    kind = message.kind
    return (
        message.sender,
        message.topic,
        kind,
        True if kind is Kind.BROADCAST else None,
        message.timestamp,
        message.signature,
        message.encrypted_key,
        message.encryption_nonce,
    )


def _header(message: Message) -> Header:
    return Header(*header_fields(message))


def encode_delivery(message: Message) -> bytes:
    """A message as the server sends it to a classic client: JSON, UTF-8."""
    return _encoder.encode(
        _Delivery(_header(message), Body(message.content), message.id, message.status)
    )


def encode_submission(message: Message) -> bytes:
    """A message as a classic client sends it: JSON, UTF-8, without `id` and `status`."""
    return _encoder.encode(_Submission(_header(message), Body(message.content)))


def delivered(header: Header, body: Body, message_id: int, status: str) -> Message:
    """
    The message that a server's frame means.

    A client shows what it can: an unknown status counts as delivered.
    """
    broadcast = header.message_type == Kind.BROADCAST or bool(header.is_broadcast)
    return Message(
        header.sender or "",
        BROADCAST if broadcast else header.to or "",
        body.content,
        header.timestamp or "",
        header.signature or None,
        header.encrypted_key or None,
        header.encryption_nonce or None,
        Status(status) if status in set(Status) else Status.DELIVERED,
        message_id,
    )


def decode_delivery(payload: bytes) -> Message:
    """Read what a server sent to a classic client, ours or a classic one.  Raises `Malformed`."""
    delivery = decode(_deliveries, payload)
    return delivered(delivery.header, delivery.body, delivery.id, delivery.status or "")


class Dialect(Protocol):
    """How one kind of client is written to; frames are whole WebSocket text frames."""

    def delivery(self, message: Message) -> bytes:
        """A message, to whoever it is for."""

    def refusal(
        self,
        to: str,
        refused: Refused,
        now: float,
        *,
        client_id: str | None = None,
        request_id: str | int | None = None,
    ) -> bytes:
        """What the server tells `to` of something that they sent, under these names."""


class Classic:
    """The dialect of the clients in the field."""

    def delivery(self, message: Message) -> bytes:
        """A message, to whoever it is for."""
        return text_frame(encode_delivery(message))

    def refusal(
        self,
        to: str,
        refused: Refused,
        now: float,
        *,
        client_id: str | None = None,
        request_id: str | int | None = None,
    ) -> bytes:
        """An error is a message from `system` (docs/protocol.md, "Messages"), without names."""
        told = Message(SYSTEM, to, refused.text, format_time(now), status=Status.ERROR)
        return self.delivery(told)


CLASSIC: Final = Classic()


def decode_command(content: str) -> Command:
    """Read the content of a message to the server.  Raises `Malformed`."""
    return decode(_commands, content)


def request_id_of(content: str) -> str | int | None:
    """The request id in a command that is not done, so that its sender knows which; or None."""
    try:
        return decode(_commands, content).request_id
    except Malformed:
        return None


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
        return _MEDIUM(0x81, 126, size) + payload
    return struct.pack("!BBQ", 0x81, 127, size) + payload
