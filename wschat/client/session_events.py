"""What a session learns from the frames of a server."""

from __future__ import annotations

import msgspec

from wschat import v1, wire


class Received(msgspec.Struct, frozen=True):
    """A message came from somebody."""

    message: wire.Message


class Stored(msgspec.Struct, frozen=True):
    """What was sent under this client id is on the server's disk, as this message."""

    client_id: str
    id: int


class Delivered(msgspec.Struct, frozen=True):
    """What was sent under this client id has reached its recipient."""

    client_id: str
    id: int


class Refused(msgspec.Struct, frozen=True):
    """
    The server did not take something.

    `client_id` says what, if it is known; a classic server does not say.
    """

    text: str
    client_id: str | None = None


class Delayed(msgspec.Struct, frozen=True):
    """The server could not store a message now; it is sent again by itself."""

    text: str
    client_id: str


class Answered(msgspec.Struct, frozen=True):
    """The server answered a command."""

    request_id: str
    answer: wire.CommandAnswer


class Told(msgspec.Struct, frozen=True):
    """The server answered a question: with a page, or who is there, or an error."""

    request_id: str
    answer: v1.History | v1.Presence | v1.Error


class Incomplete(msgspec.Struct, frozen=True):
    """Some of what came while the session was away is not kept any more."""


class PresenceChanged(msgspec.Struct, frozen=True):
    """Users came, or went (with the time when they were last there, RFC 3339)."""

    joined: list[str]
    left: dict[str, str]


class KeyRotated(msgspec.Struct, frozen=True):
    """A user has new keys, it is said."""

    user_id: str


class TokenEnding(msgspec.Struct, frozen=True):
    """The token of the connection ends soon: it wants another one."""


class Leaving(msgspec.Struct, frozen=True):
    """The server is about to end; a connection is to be had again after so many seconds."""

    wait: float


Event = (
    Received
    | Stored
    | Delivered
    | Refused
    | Delayed
    | Answered
    | Told
    | Incomplete
    | PresenceChanged
    | KeyRotated
    | TokenEnding
    | Leaving
)
