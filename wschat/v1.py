"""
The frames of the `wschat.v1` subprotocol (docs/protocol.md, "wschat.v1").

Every frame is a JSON object whose `type` says which it is.  Pure, as `wire`;
parse failures are `wire.Malformed`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Final

import msgspec

from wschat import wire
from wschat.codes import ErrorCode, Refused

SUBPROTOCOL: Final = "wschat.v1"

#: The session of a client that names none.
DEFAULT_SESSION: Final = "default"

#: How many client ids one `status` frame can ask about, and users one `presence` frame.
MAX_NAMES: Final = 100

#: How many messages a history page has when nobody says, and at most.
HISTORY_LIMIT: Final = 50
MAX_HISTORY_LIMIT: Final = 300

#: An id of a message, or a place among them, as every store can hold it.
Id = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]

_CLIENT_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")


class _Frame(msgspec.Struct, tag_field="type", omit_defaults=True):
    """One frame; `type` is its tag."""


class _Header(wire.Header, omit_defaults=True):
    client_id: str | None = None
    follows: str | None = None
    envelope_signature: str | None = None
    sender_key: str | None = None


# Client to server.


class Resume(_Frame, tag="resume"):
    """The first frame of a connection: which session it is, and what it has handled."""

    session: str = DEFAULT_SESSION
    after: Id | None = None


class Submission(_Frame, tag="message"):
    """A message to be stored and routed."""

    header: _Header
    body: wire.Body


class Ack(_Frame, tag="ack"):
    """Every message up to `id` has been handled."""

    id: Id


class AskStatus(_Frame, tag="status"):
    """What became of messages that were sent earlier."""

    client_ids: list[str]


class AskHistory(_Frame, tag="history", rename={"peer": "with"}):
    """A page of the conversation with a user, or of the broadcasts."""

    peer: str
    before: Id | None = None
    after: Id | None = None
    limit: int = HISTORY_LIMIT
    request_id: str | int | None = None


class AskPresence(_Frame, tag="presence"):
    """Who is there, now and from now on; `users` narrows it to those."""

    watch: bool = True
    users: list[str] | None = None
    request_id: str | int | None = None


class Renew(_Frame, tag="renew"):
    """Another token of the same user, so that the connection may stay longer."""

    token: str


#: What is answered, in its turn.
Question = AskStatus | AskHistory | AskPresence

Request = Resume | Submission | Ack | AskStatus | AskHistory | AskPresence | Renew


# Server to client.


class Resumed(_Frame, tag="resumed"):
    """
    The answer to `resume`: messages after `position` follow.

    Not `complete`: some of them are not kept any more.  The user may send
    `rate` frames a second, and `burst` at once.
    """

    session: str
    position: int
    complete: bool
    rate: float
    burst: float


class Delivery(_Frame, tag="message"):
    """A message."""

    id: int
    header: _Header
    body: wire.Body
    status: str


class CaughtUp(_Frame, tag="caught_up"):
    """What had been missed has been sent; every message up to `id` was, if it is this user's."""

    id: int


class Stored(_Frame, tag="stored"):
    """A message is on disk, under this id."""

    client_id: str
    id: int


class Delivered(_Frame, tag="delivered"):
    """A direct message's recipient has acknowledged it."""

    client_id: str
    id: int


class Error(_Frame, tag="error"):
    """Something was not done (docs/protocol.md, "Error codes")."""

    code: int
    reason: str
    again: bool
    retry_after_ms: int | None = None
    client_id: str | None = None
    request_id: str | int | None = None


class History(_Frame, tag="history", rename={"peer": "with"}):
    """
    The answer to `history`: messages in order.

    When there is `more` in the direction asked for, `next` is the id to ask
    `before` or `after` of.
    """

    peer: str
    messages: list[Delivery]
    more: bool
    next: int
    request_id: str | int | None = None


class Presence(_Frame, tag="presence"):
    """The answer to `presence`; `last_seen` of those asked for by name who are away."""

    online: list[str]
    last_seen: dict[str, str]
    request_id: str | int | None = None


class PresenceChanged(_Frame, tag="presence_changed"):
    """Who came, and who went, with the time when they were last there."""

    joined: list[str]
    left: dict[str, str]


class KeyRotated(_Frame, tag="key_rotated"):
    """A user has new keys: `GET /auth/users/{id}` has the step to them."""

    user_id: str


class TokenEnding(_Frame, tag="token_ending"):
    """The connection will be closed then, unless it gets another token."""

    expires_at: str


class Renewed(_Frame, tag="renewed"):
    """The answer to `renew`: the connection may stay until then."""

    expires_at: str


class Draining(_Frame, tag="draining"):
    """The server is about to end: send nothing more, and connect again after so long."""

    retry_after_ms: int


Event = (
    Resumed
    | Delivery
    | CaughtUp
    | Stored
    | Delivered
    | Error
    | History
    | Presence
    | PresenceChanged
    | KeyRotated
    | TokenEnding
    | Renewed
    | Draining
)


class _NamedHeader(msgspec.Struct):
    client_id: str | None = None


class _Named(msgspec.Struct):
    """As much of a bad frame as says which it was."""

    header: _NamedHeader | None = None
    request_id: str | int | None = None


_encoder = msgspec.json.Encoder()
_requests: msgspec.json.Decoder[Request] = msgspec.json.Decoder(Request)
_events: msgspec.json.Decoder[Event] = msgspec.json.Decoder(Event)
_named = msgspec.json.Decoder(_Named)


def valid_client_id(text: str) -> bool:
    """Whether `text` can name a message or a session: 1 to 64 of `A-Za-z0-9._:-`."""
    return _CLIENT_ID.fullmatch(text) is not None


def decode_request(payload: bytes) -> Request:
    """Read what a client sent.  Raises `wire.Malformed`."""
    request = wire.decode(_requests, payload)
    _check(request)
    return request


def _check(request: Request) -> None:
    """Raise `wire.Malformed` unless all is as it has to be in a frame whose types are right."""
    if isinstance(request, Submission):
        for name in (request.header.client_id, request.header.follows):
            if name:
                well_named = valid_client_id(name)
                _require(well_named, "A client_id is 1 to 64 characters of A-Z a-z 0-9 . _ : -")
    elif isinstance(request, Resume):
        well_named = valid_client_id(request.session)
        _require(well_named, "A session is 1 to 64 characters of A-Z a-z 0-9 . _ : -")
    elif isinstance(request, AskStatus):
        few = len(request.client_ids) <= MAX_NAMES
        _require(few, f"At most {MAX_NAMES} client ids can be asked about at once.")
    elif isinstance(request, AskHistory):
        one_way = None in (request.before, request.after)
        _require(one_way, "A page is before an id or after one.")
        fits = 1 <= request.limit <= MAX_HISTORY_LIMIT
        _require(fits, f"A page has 1 to {MAX_HISTORY_LIMIT} messages.")
        peer = request.peer == wire.BROADCAST or wire.valid_user_id(request.peer)
        _require(peer, "'with' is a user id or broadcast.")
    elif isinstance(request, AskPresence):
        few = len(request.users or ()) <= MAX_NAMES
        _require(few, f"At most {MAX_NAMES} users can be named.")


def _require(right: bool, otherwise: str) -> None:
    if not right:
        raise wire.Malformed(otherwise)


def names_of(payload: bytes) -> tuple[str | None, str | int | None]:
    """The client id and the request id of a frame that was refused, as far as they can be read."""
    try:
        named = wire.decode(_named, payload)
    except wire.Malformed:
        return None, None
    client_id = None if named.header is None else named.header.client_id
    if client_id is not None and not valid_client_id(client_id):
        client_id = None
    return client_id, named.request_id


def submitted(submission: Submission, sender: str, now: float) -> wire.Message:
    """The message that a frame means; see `wire.submitted`.  Raises `wire.Malformed`."""
    message = wire.submitted(submission.header, submission.body, sender, now)
    message.client_id = submission.header.client_id or None
    message.follows = submission.header.follows or None
    message.envelope_signature = submission.header.envelope_signature or None
    message.sender_key = submission.header.sender_key or None
    wire.check_length(message.envelope_signature, wire.MAX_SIGNATURE)
    wire.check_length(message.sender_key, wire.MAX_WRAPPED_KEY)
    return message


def _header(message: wire.Message, follows: str | None, sender_key: str | None) -> _Header:
    ours = message.client_id, follows, message.envelope_signature, sender_key
    return _Header(*wire.header_fields(message), *ours)


def delivery(message: wire.Message, reader: str = "") -> Delivery:
    """
    A message as a frame to `reader`.

    `follows` is between its sender and the server, and `sender_key` the
    sender's alone.
    """
    header = _header(message, None, message.sender_key if reader == message.sender else None)
    return Delivery(message.id, header, wire.Body(message.content), message.status)


def delivered(frame: Delivery) -> wire.Message:
    """The message in a frame from the server."""
    message = wire.delivered(frame.header, frame.body, frame.id, frame.status)
    message.client_id = frame.header.client_id
    message.envelope_signature = frame.header.envelope_signature
    message.sender_key = frame.header.sender_key
    return message


def submission(message: wire.Message) -> Submission:
    """A message as a client sends it."""
    header = _header(message, message.follows, message.sender_key)
    return Submission(header, wire.Body(message.content))


def encode(frame: Request | Event) -> bytes:
    """A frame: JSON, UTF-8."""
    return _encoder.encode(frame)


def decode_event(payload: bytes) -> Event:
    """Read what a server sent.  Raises `wire.Malformed`."""
    return wire.decode(_events, payload)


def error(
    refused: Refused, *, client_id: str | None = None, request_id: str | int | None = None
) -> Error:
    """A refusal as a frame."""
    again = refused.code.advice.again
    wait = refused.wait if again else None
    return Error(int(refused.code), refused.text, again, wait, client_id, request_id)


def times(seen: Mapping[str, float]) -> dict[str, str]:
    """Seconds since the epoch as they are written: RFC 3339."""
    return {user_id: wire.format_time(seconds) for user_id, seconds in seen.items()}


class V1:
    """The dialect of those who negotiated `wschat.v1`."""

    def delivery(self, message: wire.Message) -> bytes:
        """A message, to whoever it is for."""
        return frame(delivery(message))

    def refusal(
        self,
        to: str,
        refused: Refused,
        now: float,
        *,
        client_id: str | None = None,
        request_id: str | int | None = None,
    ) -> bytes:
        """An `error` frame."""
        return frame(error(refused, client_id=client_id, request_id=request_id))


def frame(event: Event) -> bytes:
    """A server's frame as a whole WebSocket text frame."""
    return wire.text_frame(_encoder.encode(event))


DIALECT: Final = V1()


def history(
    asked: AskHistory, reader: str, messages: Sequence[wire.Message], more: bool, next_id: int
) -> History:
    """A page as a frame to `reader`."""
    frames = [delivery(message, reader) for message in messages]
    return History(asked.peer, frames, more, next_id, asked.request_id)


def unknown(client_id: str) -> Error:
    """That no message of this client id is stored."""
    return error(Refused(ErrorCode.UNKNOWN_CLIENT_ID), client_id=client_id)
